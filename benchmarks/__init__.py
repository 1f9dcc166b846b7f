"""Our worker measured beside a hand-written Kafka loop that does the same job; `python -m benchmarks.run`."""
