"""`trading-ml models` on a real registry (SQLite) and the embedded broker: what it shows, what it moves, what it refuses."""

from __future__ import annotations

import json
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pytest
from confluent_kafka import Producer
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from models.catalog import move_alias, version_of_alias
from models.mlflow_client import connect
from models.spec import ColumnSpec, FeatureSetSpec, Lag
from models.timeline import FROM_THE_START_US
from streams import schemas
from streams.broker_process import BOOTSTRAP_VARIABLE
from streams.clients import producer_config
from streams.commands.models import app
from streams.partitioner import partition_of
from streams.switches import SWITCH, Order, switch_bytes
from streams.timeline_topic import TimelineTopic
from tests.broker import inference_world as world
from tests.broker.inference_judge import read_all

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient
    from typer.testing import Result

    from config.sections import Kafka
    from streams.switches import Role

pytestmark = pytest.mark.broker

MINUTE_US = 60_000_000
SERVED = [{"name": "mine", "challenger_alias": "challenger", "canary": {"alias": "canary", "share": 0.25}}]
FROM_US = 1_167_782_410_000_000


class Published(NamedTuple):
    """A registry with versions of `mine` to copy, the cache its artifacts were tried in, and their digests by version."""

    root: Path
    digests: dict[str, str]


@pytest.fixture(scope="module", name="published")
def fixture_published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """1 is champion; 2 has another column and deeper windows; 3 another publication lag; 4 the digest of other files."""
    from sklearn.linear_model import Ridge

    from models.publish import publish

    root = tmp_path_factory.mktemp("registry")
    shutil.copy(world.registry().removeprefix("sqlite:///"), root / "mlflow.db")  # its tables take seconds to make
    uri = f"sqlite:///{root}/mlflow.db"
    rng = np.random.default_rng(3)
    a, b = (ColumnSpec(name=n, feature_set="bars", feature=n) for n in "ab")
    back = ColumnSpec(name="a", feature_set="bars", feature="a", lag=Lag(bars=2))
    plans: list[tuple[tuple[ColumnSpec, ...], dict[str, Any], float]] = [
        ((a,), {"depth_rows": 4}, 1.0),
        ((back, b), {"depth_rows": 9}, 2.0),
        ((a,), {"depth_rows": 4, "publication_lag_us": 5}, 1.0),
    ]
    digests: dict[str, str] = {}
    for columns, window, scale in plans:
        x = rng.normal(scale=scale, size=(200, len(columns)))
        made = publish(
            Ridge().fit(x[:100], x[:100].sum(axis=1)),
            name="mine",
            columns=columns,
            feature_sets={"bars": FeatureSetSpec(features=("a", "b"), bar_us=MINUTE_US, **window)},
            trigger="bars",
            horizon_us=5 * MINUTE_US,
            x=x[:100],
            x_calibration=x[100:],
            y_calibration=x[100:].sum(axis=1),
            tracking_uri=uri,
            artifact_root=root / "artifacts",
            alias=None if digests else "champion",
            metrics={"rmse": 0.5 / (len(digests) + 1)},
        )
        digests[made.version] = made.digest
    client = connect(uri)
    client.create_model_version("mine", client.get_model_version_download_uri("mine", "1"), tags={"artifact_digest": "0" * 64})
    return Published(root, digests)


@pytest.fixture(name="client")
def fixture_client(published: Published, kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A registry of this test, and the settings that lead to it."""
    shutil.copy(published.root / "mlflow.db", tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for name, value in {
        BOOTSTRAP_VARIABLE: kafka.bootstrap_servers,
        "TRADING_ML__KAFKA__PARTITIONS": "4",
        "TRADING_ML__MLFLOW__TRACKING_URI": uri,
        "TRADING_ML__STORAGE__CACHE_DIR": str(published.root / "cache"),
        "TRADING_ML__STORAGE__STATE_DIR": str(tmp_path / "state"),
        "TRADING_ML__MODELS": json.dumps(SERVED),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("models.registry.Trials", lambda *_, **__: None)  # processes of seconds, tested elsewhere
    return connect(uri)


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done


def shown(*words: str) -> Any:
    """What it says as JSON: the last line, for log lines may stand before it."""
    return json.loads(run(*words, "--json").stdout.splitlines()[-1])


def order(kafka: Kafka, seq: int, version: str, *, role: Role = "champion", digest: str = "", share: float = 0.0) -> Order:
    from_us = FROM_THE_START_US if (seq, role) == (1, "champion") else FROM_US + seq
    more: dict[str, Any] = {"digest": digest, "share": share, "why": "a test"}
    given = Order(model="mine", role=role, seq=seq, version=version, effective_from_us=from_us, **more)
    producer = Producer(producer_config(kafka, linger_ms=0))
    producer.produce(kafka.topics.model_timeline, msgspec.json.encode(given), partition=partition_of(b"mine", kafka.partitions))
    assert producer.flush(10) == 0
    return given


def test_list_shows_aliases_versions_and_what_was_ordered(client: MlflowClient, kafka: Kafka, published: Published) -> None:
    move_alias(client, "mine", "canary", "2")
    order(kafka, 1, "1", digest=published.digests["1"])
    order(kafka, 1, "2", role="canary", share=0.25)
    said = shown("list")
    champion = {"alias": "champion", "names": "1", "ordered": "1", "effective_from_us": FROM_THE_START_US, "share": 0.0}
    assert said["roles"]["champion"] == champion
    assert said["roles"]["canary"]["ordered"] == "2"
    nothing = dict.fromkeys(("names", "ordered", "effective_from_us", "share"))
    assert said["roles"]["challenger"] == {"alias": "challenger"} | nothing
    assert [(v["version"], v["aliases"]) for v in said["versions"]] == [
        ("4", []),
        ("3", []),
        ("2", ["canary"]),
        ("1", ["champion"]),
    ]
    assert said["versions"][-1]["digest"] == published.digests["1"]
    text = run("list").stdout
    assert "champion   alias champion names 1; 1 in force from the start\n" in text
    assert "canary     alias canary names 2; 2 in force from 2007-01-03T00:00:10.000001Z, 0.25 of the symbols\n" in text
    assert "challenger alias challenger names nothing; nothing was ordered yet\n" in text


@pytest.mark.usefixtures("client")
def test_show_tells_what_a_version_needs_and_whether_it_is_kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ML__STORAGE__CACHE_DIR", str(tmp_path / "empty"))
    first = shown("show", "mine", "--version", "2")
    assert (first["cached"], shown("show", "mine", "--version", "2")["cached"]) == (False, True)  # looking at it fetched it
    assert first["metrics"] == {"rmse": 0.25}
    assert first["spec"]["columns"][0]["lag"] == {"bars": 2}
    assert first["spec"]["residuals"] == 100
    text = run("show", "mine").stdout
    assert text.startswith("mine version 1 (champion)\n")
    assert "trigger     bars, horizon 5m" in text
    assert "column      a: bars.a\n" in text
    assert "RegistryError" in run("show", "mine", "--version", "9", code=1).output


@pytest.mark.usefixtures("client")
def test_diff_names_columns_windows_distributions_and_metrics() -> None:
    said = shown("diff", "mine", "1", "2")
    assert said["spec"]["columns_added"] == ["b"]
    assert list(said["spec"]["columns_changed"]) == ["a"]
    assert said["spec"]["feature_sets"] == {"bars": {"depth_rows": [4, 9]}}
    assert list(said["psi"]) == ["a", "(prediction)"]
    assert all(psi > 0.1 for psi in said["psi"].values())
    assert said["metrics"] == {"rmse": [0.5, 0.25]}
    text = run("diff", "mine", "1", "2").stdout
    assert "  + column    b: bars.b\n" in text
    assert "  ~ column    a: bars.a -> bars.a, 2 bars back\n" in text
    assert "rmse 0.5 -> 0.25" in text
    assert "the same files\n  the specs ask for the same\n  psi         a 0.0000" in run("diff", "mine", "1", "1").stdout


@pytest.mark.usefixtures("client")
def test_timeline_prints_the_orders_that_count_and_they_fit_their_schema(kafka: Kafka, published: Published) -> None:
    order(kafka, 1, "1", digest=published.digests["1"])
    topic = TimelineTopic(kafka)
    topic.append(Order(model="mine", role="champion", seq=2, version="2", effective_from_us=FROM_US + 2))
    topic.close()
    order(kafka, 2, "4")  # of two with one number the first counts
    order(kafka, 1, "", role="canary")
    lines = [json.loads(line) for line in run("timeline", "mine", "--role", "champion", "--json").stdout.splitlines()]
    found = [(o["seq"], o["version"], o["effective_from"]) for o in lines]
    assert found == [(1, "1", "the start"), (2, "2", "2007-01-03T00:00:10.000002Z")]
    assert run("timeline").stdout.count("\n") == 3
    key = schemas.load("asyncapi")["components"]["messages"]["order"]["bindings"]["kafka"]["key"]
    for record in read_all(kafka.bootstrap_servers, kafka.topics.model_timeline):
        Draft202012Validator(schemas.load("model_timeline")).validate(json.loads(record.value or b""))
        if record.key is not None:  # those the tests write themselves have none
            Draft202012Validator(key).validate(record.key.decode())


def test_promote_moves_the_alias_once_the_version_passes(client: MlflowClient, kafka: Kafka) -> None:
    order(kafka, 1, "1")
    said = run("promote", "mine", "2").stdout
    assert said.startswith(
        "mine: alias champion names 2, was 1\nworkers ask within 1m (at once with the registry's webhook); in force 10s"
    )
    assert version_of_alias(client, "mine", "champion") == "2"
    assert "names 2, as it did" in run("promote", "mine", "2").stdout
    assert shown("promote", "mine", "2", "--role", "canary")["was"] is None
    assert version_of_alias(client, "mine", "canary") == "2"
    assert "in force already, by order 1" in run("promote", "mine", "1").stdout


def test_promote_refuses_what_a_worker_would_refuse_and_moves_nothing(
    client: MlflowClient, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(kafka, 1, "1")
    assert "UntrustedModel: model 'mine' version 4" in run("promote", "mine", "4", code=1).output
    assert "LayoutError: model 'mine' wants a publication lag of 5 us" in run("promote", "mine", "3", code=1).output
    assert "RegistryError" in run("promote", "mine", "77", code=1).output
    assert "not served" in run("promote", "another", "1", code=2).output
    monkeypatch.setenv("TRADING_ML__MODELS", json.dumps([{"name": "mine"}]))
    assert "has no canary" in run("promote", "mine", "2", "--role", "canary", code=2).output
    assert (version_of_alias(client, "mine", "champion"), version_of_alias(client, "mine", "canary")) == ("1", None)


def test_promote_waits_for_the_order_and_the_switch_of_every_partition(client: MlflowClient, kafka: Kafka) -> None:
    order(kafka, 1, "1")

    def worker() -> None:
        end = time.monotonic() + 30
        while version_of_alias(client, "mine", "champion") != "2" and time.monotonic() < end:
            time.sleep(0.05)
        given = order(kafka, 2, "2")
        producer = Producer(producer_config(kafka))
        for p in range(kafka.partitions):
            for what in (b'{"model":"mine","role":"champion","seq":1}', switch_bytes(given)):
                producer.produce(kafka.topics.features, what, partition=p, headers=[("content-type", SWITCH)])
        assert producer.flush(10) == 0

    thread = threading.Thread(target=worker)
    thread.start()
    said = shown("promote", "mine", "2", "--wait")
    thread.join()
    assert said["order"] == {"seq": 2, "effective_from_us": FROM_US + 2, "effective_from": "2007-01-03T00:00:10.000002Z"}
    assert said["switched"] == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_waiting_for_an_order_that_does_not_come_ends_in_one_line(client: MlflowClient, kafka: Kafka) -> None:
    order(kafka, 1, "1")
    said = run("promote", "mine", "2", "--wait", "--timeout", "1", code=1)
    assert "RolloutError: the alias is set, but no order for it came within 1 s" in said.output
    assert version_of_alias(client, "mine", "champion") == "2"


def test_rollback_goes_to_the_version_before_and_stays_there_until_it_is_in_force(client: MlflowClient, kafka: Kafka) -> None:
    order(kafka, 1, "1")
    assert "version 1 is the only one ever in force" in run("rollback", "mine", code=1).output
    order(kafka, 2, "2")
    move_alias(client, "mine", "champion", "2")
    assert shown("rollback", "mine") == {"model": "mine", "role": "champion", "alias": "champion", "version": "1", "was": "2"}
    assert shown("rollback", "mine")["version"] == "1"  # a second call before workers have heard
    assert version_of_alias(client, "mine", "champion") == "1"
    order(kafka, 3, "1")
    assert shown("rollback", "mine")["version"] == "2"


def test_rollback_asks_what_is_meant_where_the_alias_names_neither(client: MlflowClient, kafka: Kafka) -> None:
    order(kafka, 1, "1")
    order(kafka, 2, "2")
    move_alias(client, "mine", "champion", "4")
    refused = run("rollback", "mine", code=1).output
    assert "names 4, in force is 2" in refused
    assert "trading-ml models promote mine 2 --role champion" in refused
    assert version_of_alias(client, "mine", "champion") == "4"


def test_rollback_refuses_files_that_are_not_those_that_served(client: MlflowClient, kafka: Kafka) -> None:
    order(kafka, 1, "1", digest="f" * 64)
    order(kafka, 2, "2")
    move_alias(client, "mine", "champion", "2")
    assert "UntrustedModel: model 'mine' version 1 had the digest ffff" in run("rollback", "mine", code=1).output
    assert version_of_alias(client, "mine", "champion") == "2"


def test_rolling_back_the_first_canary_takes_it_away(client: MlflowClient, kafka: Kafka) -> None:
    assert "no order was ever given" in run("rollback", "mine", "--role", "canary", code=1).output
    move_alias(client, "mine", "canary", "2")
    order(kafka, 1, "2", role="canary", share=0.25)
    assert "alias canary names nothing, was 2" in run("rollback", "mine", "--role", "canary").stdout
    assert version_of_alias(client, "mine", "canary") is None
