"""The monitor beside the inference worker whose log it reads, in one run. `python -m benchmarks.monitor` measures it."""
