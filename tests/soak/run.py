"""`python -m tests.soak.run`: a real Kafka, one inference worker, one monitor, rows at a steady pace for half an hour.

Does anything grow that should not, and is the last minute as quick as the first? Every few seconds memory, open files,
threads and sizes on disk are looked at; every row is accounted for. Takes about 4 kB of disk a row while it runs: 15 GB.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.job import Job
from streams.topics import PANES_TABLE, changelog
from tests.chaos.feeding import Feed, Flow
from tests.chaos.names import Names
from tests.chaos.workers import Crew
from tests.kafka.artifacts import VERSION, Unavailable
from tests.kafka.provide import new_cluster
from tests.soak.figures import by_minute, by_third, leaks
from tests.soak.report import RESULTS, figures, write_page
from tests.soak.rows import Book
from tests.soak.sampling import INFERENCE, MONITOR, Watch
from tests.soak.watching import Reader, folder_mb, size_mb
from tests.soak.world import COMPACTION, LABEL_TIMEOUT, compact_soon, newest, settings, stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.kafka.cluster import KafkaCluster

EVERY_S = 5.0
BYTES_PER_ROW = 4_500
SETTLE_S = 120.0
PACE = 0.99
"""So much of the rows asked for must have been sent."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 when a row was lost, or something leaks."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30.0, help="default: 30")
    parser.add_argument("--rate", type=float, default=2_000.0, help="rows a second; default: 2000")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--write", action="store_true", help="write results.json and docs/reliability.md")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="trading-ml-soak-"))
    need = chosen.minutes * 60 * chosen.rate * BYTES_PER_ROW
    if shutil.disk_usage(folder).free < need:
        say(f"{folder} has less than the {need / 1e9:.0f} GB free that this takes: set TMPDIR to a larger disk, or --minutes")
        return 2
    try:
        with new_cluster(folder / "kafka") as cluster:
            found = soak(folder, cluster, minutes=chosen.minutes, rate=chosen.rate, seed=chosen.seed)
    except Unavailable as e:
        say(f"skipped: {e}")
        return 0
    bad = faults(found)
    say(figures(found))
    say(f"bad: {'; '.join(bad) or 'nothing'}")
    if chosen.write:
        write_page(found)
        say(f"wrote {RESULTS}")
    if bad or chosen.keep:
        say(f"data and logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


def soak(folder: Path, cluster: KafkaCluster, *, minutes: float, rate: float, seed: int) -> dict[str, Any]:
    """One run; everything that results.json holds."""
    job = Job(seed=seed)
    names = Names(cluster.bootstrap_servers, "soak", session_s=10)
    names.create()
    tables = {"windows": names.windows, "panes": changelog(names.kafka.monitor_group, PANES_TABLE)}
    compact_soon(names.servers, list(tables.values()))
    book = Book(job, most=int(rate * minutes * 60) + job.symbols)
    with (
        Crew(folder, names, **settings(folder, job)) as crew,
        Watch(folder, cluster.nodes[0], names, crew, tables, book) as watch,
    ):
        for group in (INFERENCE, MONITOR):
            crew.start(group, group)
        crew.wait(
            "ready",
            lambda: watch.alive() and all(w.get("/readyz")[0] == 200 for w in crew.workers.values()),
            SETTLE_S,
            tend=False,
        )
        with Reader(names.servers, names.topics.predictions, book, partitions=job.partitions) as reader:
            started, start_ms = time.monotonic(), time.time_ns() // 1_000_000
            rows = Flow(Feed(names.servers, names.topics.features), book.rows(), rate)
            outcomes_feed = Feed(names.servers, names.topics.outcomes)
            outcomes = Flow(outcomes_feed, book.outcomes(), rate)
            rows.start()
            time.sleep(job.symbols / rate)  # an outcome is known a bar after its row
            outcomes.start()
            while time.monotonic() < started + minutes * 60:
                watch.look(time.monotonic() - started)
                reader.check()
                time.sleep(max(0.0, min(started + len(watch) * EVERY_S, started + minutes * 60) - time.monotonic()))
            rows.stop()
            outcomes.stop()
            end_ms = time.time_ns() // 1_000_000
            crew.wait("all committed", lambda: watch.alive() and watch.behind() == 0, SETTLE_S, tend=False)
            crew.wait("all predictions read", lambda: book.answered >= book.sent, SETTLE_S, tend=False)
            reader.check()
        at_rest = watch.at_rest()
        written = {table: sum(watch.ends(topic).values()) for table, topic in tables.items()}
        features, rejected = (sum(watch.ends(t).values()) for t in (names.topics.features, names.topics.features_rejected))
        exits = {group: crew.stop(group) for group in (INFERENCE, MONITOR)}
    sent_ms, latency_ms = book.latencies()
    duckdb_mb = size_mb([folder / f"{MONITOR}.duckdb"]) + folder_mb(folder / f"{MONITOR}.duckdb.segments")
    return {
        "command": f"python -m tests.soak.run --minutes {minutes:g} --rate {rate:g} --seed {seed} --write",
        "minutes": minutes,
        "rate": rate,
        "warm_up_minutes": min(5.0, minutes / 6),
        "kafka": VERSION,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "job": job.described(),
        "compaction": COMPACTION,
        "label_timeout": LABEL_TIMEOUT,
        "exits": exits,
        "rows": {**book.counts(), "in_features": features, "rejected": rejected, "outcomes": outcomes_feed.acknowledged},
        "latency_ms": {
            "thirds": by_third(sent_ms, latency_ms, start_ms=start_ms, end_ms=end_ms),
            "minutes": by_minute(sent_ms, latency_ms, start_ms=start_ms, end_ms=end_ms),
        },
        "changelogs": {table: {"records": written[table], **newest(folder, table), **at_rest[table]} for table in tables},
        "duckdb": {"closed_mb": round(duckdb_mb, 1), **stored(folder / f"{MONITOR}.duckdb")},
        "samples": watch.samples,
    }


def faults(found: Mapping[str, Any]) -> list[str]:
    """What must not be, empty when all is well."""
    rows = found["rows"]
    bad = [f"{rows[k]} rows {k}" for k in ("lost", "repeated", "unknown", "rejected") if rows[k]]
    if not rows["sent"] == rows["answered"] == rows["in_features"] == found["duckdb"]["predictions"]:
        bad.append(f"rows sent, in the topic, predicted and stored differ: {rows}, {found['duckdb']}")
    if rows["sent"] < PACE * found["rate"] * 60 * found["minutes"]:
        bad.append(f"only {rows['sent']} rows were sent: the pace was not kept")
    bad += [f"{group} left with {code}" for group, code in found["exits"].items() if code]
    return bad + [f"{column} grows" for column in leaks(found)]


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
