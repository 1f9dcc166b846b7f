"""Models that MLflow pickles and that do harm when asked, for the trial to survive."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
from mlflow.pyfunc.model import PythonModel


class Misbehaving(PythonModel):
    """The first column; what it does besides depends on `how`, once `armed` exists and it is in its trial."""

    def __init__(self, how: str, armed: Path, report: Path) -> None:
        self.how = how
        self.armed = armed
        self.report = report

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG002 - no hints: MLflow acts on them
        if self.armed.exists() and Path.cwd().name.startswith("trading-ml-trial"):
            self.misbehave()
        return model_input.to_numpy()[:, 0]

    def misbehave(self) -> None:
        if self.how == "hang":
            while True:
                time.sleep(60)
        if self.how == "abort":
            limits = {
                n: resource.getrlimit(getattr(resource, f"RLIMIT_{n}"))[0] for n in ("CORE", "AS", "CPU", "FSIZE", "NOFILE")
            }
            self.report.write_text(json.dumps({"environment": dict(os.environ), "limits": limits, "group": os.getpgid(0)}))
            if os.fork() == 0:
                time.sleep(60)
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "memory":
            np.ones(1 << 37)
