"""The drift detector's promises, measured: false alarms where nothing drifts, delay where something does. `docs/drift.md`."""
