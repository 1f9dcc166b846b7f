"""An ONNX Runtime session as models need it: one thread, one order of every sum, and no word to anyone. Shell.

From 1.29 on, ONNX Runtime's official builds for Linux send events to their maker over HTTPS and keep an id on disk, unless
``ORT_DISABLE_TELEMETRY=1`` is set before it is first imported: it is, here, where the operator has not set it.
"""

from __future__ import annotations

import os
from typing import Any


def session(model: bytes, *, as_written: bool = False) -> Any:
    """A session on the processor; `as_written`: without optimizations. Raises `ImportError`, and ONNX Runtime's own errors."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would add in another order
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
