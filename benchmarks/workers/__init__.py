"""One, two and four workers on a real Kafka: throughput, recovery, rebalances. `python -m benchmarks.workers` measures it."""
