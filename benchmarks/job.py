"""The standard job: its rows, its model, and the files both contenders start from.

20 features, lags of 0, 1, 5 and 15 bars (80 columns) out of 16-row windows, 500 symbols on 4 partitions, JSON rows, a
linear model. The same seed makes the same rows and the same model, bit for bit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from models.build_spec import build_spec
from models.handle import ModelHandle
from models.native_sklearn import linear_predict
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec, decode_spec, encode_spec
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MODEL: Final = "bench"
VERSION: Final = "1"
FEATURE_SET: Final = "bars"
INTERCEPT: Final = 0.01
START_US: Final = 1_600_000_000_000_000
BAR_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What is run. A tick is one row of every symbol; rows of the throughput part come first, then the paced ones."""

    symbols: int = 500
    partitions: int = 4
    features: int = 20
    lags_bars: tuple[int, ...] = (0, 1, 5, 15)
    window_rows: int = 16
    batch_rows: int = 1_000
    warm_up_rows: int = 50_000
    rows: int = 300_000
    paced_rows: int = 10_000
    paced_rows_per_s: int = 2_000
    fetch_max_wait_ms: int = 5
    seed: int = 7

    @property
    def ticks(self) -> int:
        """Rows of each symbol, all parts together."""
        return -(-(self.warm_up_rows + self.rows + self.paced_rows) // self.symbols)

    def described(self) -> dict[str, Any]:
        """The job as results.json tells it."""
        return {**asdict(self), "columns": self.features * len(self.lags_bars), "wire": "JSON rows", "model": "linear"}


class Feed:
    """The job's rows, encoded before anything is timed.

    Row k of a partition is of tick k // n and of the partition's symbol k % n, where n = len(symbols_of[partition]); as
    the producer keeps the order, k is the row's offset too.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.names = [f"f{i:02d}" for i in range(job.features)]
        symbols = [f"SYM{i:04d}" for i in range(job.symbols)]
        home = [partition_of(s.encode(), job.partitions) for s in symbols]
        self.symbols_of = [[s for s, at in zip(symbols, home, strict=True) if at == p] for p in range(job.partitions)]
        self._index = {s: i for i, s in enumerate(symbols)}
        rng = np.random.default_rng(job.seed)
        self.values: NDArray[np.float64] = rng.standard_normal((job.ticks, job.symbols, job.features))

    @cached_property
    def messages(self) -> list[list[dict[str, bytes]]]:
        """By partition, every row as the {"key", "value"} that a producer takes."""
        return [
            [
                {"key": symbol.encode(), "value": self._encode(symbol, tick)}
                for tick in range(self.job.ticks)
                for symbol in self.symbols_of[p]
            ]
            for p in range(self.job.partitions)
        ]

    def place(self, partition: int, offset: int) -> tuple[str, int]:
        """(symbol, tick) of the row at this offset."""
        tick, at = divmod(offset, len(self.symbols_of[partition]))
        return self.symbols_of[partition][at], tick

    def features_at(self, symbol: str, tick: int) -> NDArray[np.float64]:
        """What was sent for a symbol at a tick, float64 (features,); NaN before the first."""
        if tick < 0:
            return np.full(self.job.features, np.nan)
        found: NDArray[np.float64] = self.values[tick, self._index[symbol]]
        return found

    def _encode(self, symbol: str, tick: int) -> bytes:
        values = dict(zip(self.names, self.features_at(symbol, tick).tolist(), strict=True))
        return msgspec.json.encode(
            {"symbol": symbol, "feature_set": FEATURE_SET, "ts_event_us": START_US + tick * BAR_US, "values": values}
        )


def model_weights(job: Job) -> NDArray[np.float64]:
    """Weights of the linear model, float64 (columns,)."""
    weights: NDArray[np.float64] = np.random.default_rng(job.seed + 1).normal(scale=0.1, size=job.features * len(job.lags_bars))
    return weights


def _spec_parts(job: Job) -> dict[str, Any]:
    """What `build_spec` and `publish` both take; columns stand lag by lag, each with all features."""
    names = tuple(f"f{i:02d}" for i in range(job.features))
    columns = [
        ColumnSpec(name=f"{f}.lag{lag}", feature_set=FEATURE_SET, feature=f, lag=0 if lag == 0 else Lag(bars=lag))
        for lag in job.lags_bars
        for f in names
    ]
    rng = np.random.default_rng(job.seed + 2)
    return {
        "name": MODEL,
        "columns": columns,
        "feature_sets": {FEATURE_SET: FeatureSetSpec(features=names, bar_us=BAR_US, depth_rows=job.window_rows)},
        "trigger": FEATURE_SET,
        "horizon_us": BAR_US,
        "x": rng.standard_normal((2_000, len(columns))),
        "residuals": rng.normal(scale=0.5, size=500).tolist(),
    }


def make_handle(job: Job) -> ModelHandle:
    """The model in memory, as a worker has it after loading."""
    predict = linear_predict(model_weights(job), INTERCEPT, width=job.features * len(job.lags_bars))
    return _handle(build_spec(predict, **_spec_parts(job)), model_weights(job))


def write_model(job: Job, folder: Path) -> None:
    """Leave spec and weights where the tuned loop reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = make_handle(job)
    (folder / "serving_spec.json").write_bytes(encode_spec(handle.spec))
    (folder / "weights.json").write_bytes(msgspec.json.encode(model_weights(job).tolist()))


def read_model(folder: Path) -> ModelHandle:
    """The model `write_model` left."""
    weights = np.array(msgspec.json.decode((folder / "weights.json").read_bytes(), type=list[float]))
    return _handle(decode_spec((folder / "serving_spec.json").read_bytes()), weights)


def publish_model(job: Job, *, tracking_uri: str, artifact_root: Path) -> None:
    """Put the model in a registry for our worker: the same weights and the same spec."""
    from sklearn.linear_model import LinearRegression

    from models.publish import publish

    parts = _spec_parts(job)
    model = LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = model_weights(job), INTERCEPT, len(parts["columns"])
    published = publish(model, tracking_uri=tracking_uri, artifact_root=artifact_root, **parts)
    if (published.version, published.spec.digest()) != (VERSION, make_handle(job).spec.digest()):
        found = f"{published.name}:{published.version}"
        raise RuntimeError(f"published {found} is not the job's model; publish into an empty registry")


def _handle(spec: ServingSpec, weights: NDArray[np.float64]) -> ModelHandle:
    predict = linear_predict(weights, INTERCEPT, width=len(spec.columns))
    return ModelHandle(name=MODEL, version=VERSION, digest="", spec=spec, predict=predict)
