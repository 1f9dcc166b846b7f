"""A model's records of the log and rejected records, a minute at a time, for operational alerts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from monitoring.joined import Scorer
from monitoring.rules import AlertRules
from streams.logrows import LogRows
from streams.operations import REASON, Operations
from streams.wire import PartitionRecords
from tests.record import Record

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
NOW_US = 1_800_000_000_000_000 // MINUTE_US * MINUTE_US
RULES = AlertRules()
LOG, REJECTED = "trading.inference-log", "trading.features.rejected"


class World:
    """Records of the log and of the rejected topic, a minute at a time; every chunk is closed, kept and read back."""

    def __init__(self, rules: AlertRules = RULES) -> None:
        self.rules = rules
        self.operations = Operations(rules)
        self.operations.expect("m", bar_us=MINUTE_US, usual_lag_us=2_000_000)
        self.now_us = NOW_US
        self.offset = 0

    def log(
        self, *, rows: int = 30, latency_us: int = 50_000, lag_us: int = 2_000_000, role: str = "champion", model: str = "m"
    ) -> LogRows:
        self.offset += 1
        decision_us = np.full(rows, self.now_us - latency_us)
        return LogRows(
            Scorer(model, "1", role),
            (),
            LOG,
            0,
            self.offset,
            self.now_us,
            MINUTE_US,
            decision_us - lag_us,
            np.zeros(rows),
            np.zeros((rows, 0)),
            np.zeros(rows, np.bool_),
            pa.table({"ts_decision_us": decision_us}),
            "trading.features-0",
            np.arange(rows),
            np.full(rows, -1),
        )

    def rejected(self, number: int, reason: bytes = b"late") -> PartitionRecords:
        first = self.offset + 1
        self.offset += number
        return PartitionRecords(
            REJECTED,
            0,
            [Record(first + n, self.now_us // 1000, None, b"\xff", ((REASON, reason),)) for n in range(number)],
        )

    def minutes(self, number: int, *, rejected: int = 0, **log: Any) -> list[str]:
        """Alert events as `alertname state severity` of so many minutes with a record each."""
        for _ in range(number):
            if log.get("rows", 1):
                self.operations.take_log(self.log(**log))
            self.operations.take_rejected(self.rejected(rejected))
            self.operations.close()
            self.now_us += MINUTE_US
        return self.said()

    def silent(self, minutes: float, *, caught_up: bool = True) -> list[str]:
        self.now_us += round(minutes * MINUTE_US)
        self.operations.silence(self.now_us, caught_up=caught_up)
        return self.said()

    def said(self) -> list[str]:
        events, self.operations.unsaid = self.operations.unsaid, []
        packed = self.operations.pack()
        self.operations = Operations.unpack(self.rules, packed)
        assert self.operations.pack() == packed
        self.operations.expect("m", bar_us=MINUTE_US, usual_lag_us=2_000_000)
        return [f"{e['labels']['alertname']} {e['state']} {e['severity']}" for e in events]
