"""Watches what the models answer: drift, quality, alerts, and where all of it is stored."""
