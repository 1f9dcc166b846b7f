"""The words of docs/sizing.md; `docs.sizing_page` puts the figures in."""

from __future__ import annotations

QUICK = """
> **These figures are of a quick run: they show that it works, not how fast.** Run `python -m benchmarks.workers --write`
> on a machine that does nothing else, then `make docs`.
"""

PAGE = """# Sizing

How many workers, partitions, bytes and seconds: first what was measured on one small machine, then a model that turns
three inputs into the size of a cluster, then the model against the measurements. This page is made by `make docs` from
[benchmarks/workers.json](../benchmarks/workers.json) and the formulas in `benchmarks/sizing/model.py`.
{quick}
The short way, for your own three inputs:

    python -m benchmarks.sizing --symbols 100000 --rows-per-s 1000000 --wire frames

## What was measured

`python -m benchmarks.workers --write` ({minutes} minutes): Apache Kafka {kafka}, one node, one copy of each topic,
and one, two and four inference workers, all on **one machine of {cores} cores** ({cpu}, Python {python}). Standard
job: rows of 20 features, 80 columns out of 16-row windows, a linear model, 4 partitions, a commit each {commit}. Each
figure is a median, with least and greatest.

**What {cores} cores limit.** Broker and workers share them. Two workers and a broker want three cores, so rows/s stop
growing there and four workers show only that nothing gets worse. What carries over to a cluster is **CPU time of a
row**: if it stays the same from one worker to four, throughput grows with cores. Nothing here was measured over a
real network, with replication, or with more than one broker.

### Throughput

The workers are held still while the topic is filled, then let go together. "Broker, rows in": CPU for taking the
features from the producer; "the rest": handing them out, taking predictions, log and changelog.

{drains}

With four workers each has one partition, and the one with most symbols ends last.

### Recovery

The worker that drained all partitions is stopped and started again. Load: interpreter, imports (alone {imports} s),
model. Join: until the group has given out partitions. Recover: until the state is there and it says it is ready.

{recovery}

The changelog is longer than the state: it holds every version of a window for {kept} (`min.compaction.lag.ms`; the
reason is in [ADR 0013](adr/0013-what-a-paused-worker-sends-late-is-undone.md)). That, not the number of symbols,
decides how long a rebuild takes; a kept folder reads only what it has not seen. A worker that rebuilds takes no rows
meanwhile, of none of its partitions: Faust resumes them together. In Kubernetes, a volume that outlives the pod
(StatefulSet) is worth it where the worked table says minutes.

### Rebalance

{rebalance_rows} rows/s over 4 partitions, two workers that stay and a third that comes, goes and is killed. The gap
is the longest time between two predictions of a partition, by their Kafka timestamps. `session_timeout` was
{session}: a killed worker's partitions wait so long before anything is done about it.

{rebalance}

Nothing is lost meanwhile: rows wait in the topic. {repeated} predictions were published twice, with the same ids,
after the kills.

### The monitor

One monitor, reading the log that one worker had written, with DuckDB as its warehouse: {monitor_us} µs of CPU a row,
{monitor_rate} rows/s. No outcomes came, so joining them is not in it. Each prediction waits for its outcome, up to
`monitoring.label_timeout`: {monitor_bytes} of memory (DuckDB's included) and {journal_bytes} of journal a row.

**The monitor does not scale out** ([ADR 0010](adr/0010-the-monitor-runs-as-one-worker-for-now.md)): it is one worker,
and holds that rate and no more. The last line of the worked table says how many of it would be needed. Where that is
above about 0.7, split the symbols into several deployments, each with topics and groups of its own (`kafka.topics`,
`kafka.inference_group`, `kafka.monitor_group`), so that each has its own monitor, which then reports on its own
symbols only; or leave the monitor out and read the log with something that scales. At 1,000,000 rows a second,
monitoring of every row is not offered today.

## The model

Inputs: symbols S, rows a second R, wire format. Everything else is a constant from above or a choice with a default.

| what | formula |
|---|---|
| windows written a second | min(S, R × commit interval) ÷ commit interval |
| cores kept busy | R × CPU of a row + windows/s × CPU of a window |
| workers: one Python process, about a core each | the larger of cores ÷ 0.6 and cores ÷ 0.8 + 1, rounded up: one may be gone |
| partitions | 4 a worker: they cannot be added later, so take the largest size you foresee |
| memory of a worker, one gone | few symbols + {rocksdb} MB a partition (RocksDB at most) + symbols × bytes of a symbol |
| changelog | windows/s × bytes of a window |
| network of a worker | in: its rows; out: their predictions and log lines, its changelog |
| brokers' network, in | features, predictions, log, changelog |
| brokers' network, out | features, predictions, log to one reader each; all that came in to each further copy |
| disk | (features + predictions + log) × time kept × copies, and {kept} of changelog |
| rebuild after a loss | share of partitions that one worker takes over × (changelog of {kept} + all windows) ÷ bytes/s |
| predictions again | session timeout + gap of a rebalance + rebuild |
| no lag any more | that ÷ (1 − share of their cores that the others are busy with) |

A symbol's window in memory: (depth + `inference.slack_rows`) rows × (24 + 8 × features) bytes, half as much again
because arrays double. In the changelog: 16 rows × (24 + 8 × features) bytes and its column names.

{constants}

To size for other rows: bytes and CPU grow about in proportion to features and columns; a tree model costs what
[performance.md](performance.md#the-models-share-runtimes-for-trees) says on top of a row; a second model on the same
columns about {second_model} of a row. Nothing is compressed: producers send as is. `compression.type` on a topic
saves disk and network of copies for CPU of the brokers.

## Three sizes worked out

Defaults: commit each second, three copies, topics kept for a day, session timeout 10 s.

{sizes}

Read it with care where it is far from what was measured: 100,000 symbols is ten times, 1,000,000 rows/s {times} times
the most this machine has done.

- **Frames or rows decides the bill.** Frames want a fraction of the workers and of the brokers' time; each producer
  has to send many rows at once for it ([frames.md](frames.md)).
- **Disk follows rows a second, not symbols.** The log carries the whole vector, 8 bytes a column. Keep it for hours
  in Kafka, and for long in the warehouse.
- **A symbol has one partition.** A single symbol can have at most what one worker does.

### The commit interval

The largest size in frames. Rarer checkpoints write each window less often, so the changelog is shorter, and so is a
rebuild; after a crash more rows are read again, whose predictions have the same ids and bodies.

{commits}

## The model against what was measured

An error above 0: the model says more than was measured.

{checks}

- One worker is foretold from the benchmark on the embedded broker, where it has a core to itself; two and four from
  one here.
- Windows for a row: a drain takes seconds, and has a checkpoint or two more than the model's one a second.
- Rates are foretold as a core a worker, and never more than all cores shared by workers and broker; the broker's own
  background work, the reader that counts predictions, and partitions of unequal size are left out, so it is an upper
  bound.
- Without Kafka, windows of 10,000 symbols miss the processor's cache, which the model does not know; add what it
  falls short by.
- Rebuild times, disk and network of the largest size are products of measured constants. Nobody has measured them
  here.
"""
