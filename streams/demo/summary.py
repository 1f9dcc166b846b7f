"""What a run comes to, in words and figures a person understands. Core: figures in, text out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitoring.labels import QualityRows
from monitoring.quality import instants_of, quality_report
from streams.demo.progress import when

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from monitoring.quality import QualityReport
    from streams.demo.ledger import Ledger
    from streams.demo.rows import Outcomes
    from streams.demo.signals import Signals, Truth
    from streams.demo.verify import Verified

_MOST_TIMES = 20


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is told at the end. `problems`: why the run failed, empty if it did not; `notes`: one line each."""

    title: str
    seconds: float
    outcomes: int
    ledger: Ledger
    signals: Signals
    quality: QualityReport
    level: float
    verified: Verified
    truth: Truth | None
    folder: Path
    notes: Sequence[str]
    next_steps: Sequence[str]
    problems: Sequence[str]

    def text(self) -> str:
        """Return the summary as lines ready to print."""
        rows = [
            *self._counts(),
            *self._quality(),
            *self._drift(),
            *(("note", note) for note in self.notes),
            ("data", str(self.folder)),
            *(("next" if i == 0 else "", step) for i, step in enumerate(self.next_steps)),
            *(("FAILED", problem) for problem in self.problems),
        ]
        return "\n".join([f"{self.title}: {self.seconds:.0f} s", *(f"  {name:<17}{value}" for name, value in rows)])

    def _counts(self) -> list[tuple[str, str]]:
        books = self.ledger
        out = f"{books.settled - books.rejected:,} for {books.triggers:,} trigger rows"
        extra = [f"{n:,} {what}" for n, what in ((books.abstained, "abstained"), (books.repeated, "repeated identically")) if n]
        p50, p99 = percentiles(books.latency_ms)
        v = self.verified
        return [
            ("rows in", f"{books.rows:,} features, {self.outcomes:,} outcomes"),
            ("predictions", ", ".join([out, *extra])),
            ("rejected", f"{books.rejected:,}{': ' if books.reasons else ''}{'; '.join(books.reasons[:3])}"),
            ("latency", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms (Kafka timestamp of the feature row to that of its prediction)"),
            ("vectors", f"{v.equal:,} of {v.checked:,} recomputed by brute force are equal bit for bit"),
        ]

    def _quality(self) -> list[tuple[str, str]]:
        q = self.quality
        over = "not to be told" if q.rank_ic_over is None else f"{q.rank_ic:+.3f} over {q.rank_ic_over}"
        sample = f"{q.rows:,} matured predictions, worth about {q.effective_rows:,.0f} independent ones"
        if q.rank_ic_over == "time" and q.effective_rows > 2:  # noqa: PLR2004 - the standard error of a correlation needs three
            over += f" (± {2 / np.sqrt(q.effective_rows - 1):.2f} is what chance alone gives)"
        return [
            ("quality", sample),
            ("", f"rank IC {over}; hit rate {q.hit_rate:.1%}"),
            ("", f"the {self.level:.0%} interval held {q.coverage:.1%} of outcomes, width {q.width:.3f}"),
            ("", f"error {q.rmse:.4f} against {q.rmse_zero:.4f} of always saying zero"),
        ]

    def _drift(self) -> list[tuple[str, str]]:
        worst = [f"{w.column} (PSI {w.psi:.2f}, window to {when(w.end_us)[:10]})" for w in self.signals.most_drifted()]
        first, days = self.signals.first, self.signals.fired_by_time()
        shown = [f"{when(at_us)}  {', '.join(columns)}" for at_us, columns in days[:_MOST_TIMES]]
        over_time = [
            f"{when(w.end_us)}  {w.drifted} of {w.judged} columns judged, most {w.column} (PSI {w.psi:.2f})"
            for w in self.signals.over_time()
        ]
        more = [f"and at {len(days) - _MOST_TIMES} later times"] if len(days) > _MOST_TIMES else []
        return [
            ("most drifted", worst[0] if worst else f"none in {self.signals.windows} windows"),
            *(("", w) for w in worst[1:]),
            *(("" if i else "drift over time", line) for i, line in enumerate(over_time)),
            ("first alert", "none" if first is None else f"{when(first.at_us)} UTC in market time: {first.what} {first.column}"),
            *(("" if i else "alerts fired", line) for i, line in enumerate([*shown, *more])),
            *([] if self.truth is None else [("known truth", self.signals.against(self.truth))]),
        ]


def percentiles(latency_ms: Sequence[int]) -> tuple[float, float]:
    """Return the 50th and 99th percentile; NaN of nothing.

    >>> percentiles([1, 2, 3])
    (2.0, 2.98)
    """
    if not latency_ms:
        return float("nan"), float("nan")
    p50, p99 = np.percentile(np.asarray(latency_ms, dtype=np.float64), [50.0, 99.0])
    return round(float(p50), 3), round(float(p99), 3)


def judge(ledger: Ledger, outcomes: Sequence[Outcomes], *, bar_us: int) -> QualityReport:
    """Join the predictions read from the topic with the outcomes that were published, and judge them."""
    known = {
        (symbol, event): value
        for block in outcomes
        for symbol, event, value in zip(block.symbols, block.ts_event_us.tolist(), block.value.tolist(), strict=True)
    }
    made = [p for p in ledger.predictions if p.value is not None]
    table = np.array(
        [
            [p.value, p.lower, p.upper, p.p_up, known.get((p.symbol, p.ts_event_us), np.nan)]
            for p in sorted(made, key=lambda p: (p.ts_event_us, p.symbol))
        ],
        dtype=np.float64,
    ).reshape(len(made), 5)
    symbols = tuple(sorted({p.symbol for p in made}))
    codes = {symbol: i for i, symbol in enumerate(symbols)}
    in_order = sorted((p.ts_event_us, codes[p.symbol]) for p in made)
    value, lower, upper, p_up, outcome = table.T
    rows = QualityRows(
        value=value,
        lower=lower,
        upper=upper,
        p_up=p_up,
        completeness=np.full(len(made), np.nan),
        outcome=outcome,
        symbol_codes=np.array([code for _, code in in_order], dtype=np.int64),
        symbols=symbols,
        ts_event_us=np.array([ts for ts, _ in in_order], dtype=np.int64),
    )
    horizon_us = outcomes[0].horizon_us if outcomes else 1
    return quality_report(instants_of(rows, horizon_us=horizon_us), horizon_us=horizon_us, bar_us=bar_us)
