"""How large a cluster must be. `python -m benchmarks.sizing` says it for three inputs, docs/sizing.md explains it."""
