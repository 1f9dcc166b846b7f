"""The AsyncAPI document describes exactly the topics there are, and every reference in it leads somewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from config import load_settings
from config.sections import Topics
from streams import schemas
from streams.topics import all_topics

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(schemas.__file__).parent
DOCS = Path(__file__).parents[3] / "docs"
KAFKA = load_settings(env={}).kafka


@pytest.fixture(name="document")
def fixture_document() -> dict[str, Any]:
    return schemas.load("asyncapi")


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def resolve(file: Path, reference: str) -> Any:
    name, _, pointer = reference.partition("#")
    text = (file.parent / name if name else file).read_text(encoding="utf-8")
    found = yaml.safe_load(text) if not name and file.suffix == ".yaml" else json.loads(text)
    for key in pointer.split("/")[1:]:
        found = found[key]
    return found


@pytest.mark.parametrize("file", sorted(HERE.glob("*.[jy]*")), ids=lambda file: file.name)
def test_references_resolve(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for reference in references(yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)):
        assert resolve(file, reference)


def test_it_is_asyncapi_three(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert document["info"].keys() >= {"title", "version"}
    assert document["servers"]["local"]["host"] == KAFKA.bootstrap_servers
    assert document["servers"]["local"]["protocol"] == "kafka"


def test_channels_are_the_topics_with_their_default_names(document: dict[str, Any]) -> None:
    defaults = {role: field.default for role, field in Topics.model_fields.items()}
    assert {role: channel["address"] for role, channel in document["channels"].items()} == defaults


def test_channels_are_kept_as_the_topics_are(document: dict[str, Any]) -> None:
    plans = {plan.name: plan for plan in all_topics(KAFKA)}
    for channel in document["channels"].values():
        plan, kafka = plans[channel["address"]], channel["bindings"]["kafka"]
        said = kafka.get("topicConfiguration", {})
        assert {k: ",".join(v) if isinstance(v, list) else str(v) for k, v in said.items()} == dict(plan.config)
        assert kafka["partitions"] == plan.partitions
        assert channel["x-partitioner"] in {"murmur2_random", "source", "model"}
        # A row, a frame, a switch; a window, a request.
        kinds = {"trading.features": 3, "trading.predictions": 2, "trading.predictions.shadow": 2, "trading.performance": 2}
        assert len(channel["messages"]) == kinds.get(channel["address"], 1)


def test_every_message_names_content_type_payload_and_key(document: dict[str, Any]) -> None:
    messages = document["components"]["messages"]
    used = {r for channel in document["channels"].values() for r in references(channel["messages"])}
    assert used == {f"#/components/messages/{name}" for name in messages}
    for name, message in messages.items():
        assert message.keys() >= {"title", "summary", "contentType", "payload"}
        # Any or none; none; the original's, whatever it was.
        keyless = {"featureFrame", "predictionFrame", "inferenceLog", "switch", "rejected"}
        assert ("bindings" in message) == (name not in keyless)


def test_every_schema_file_is_pointed_at(document: dict[str, Any]) -> None:
    pointed = {r.removeprefix("./").partition("#")[0] for r in references(document) if not r.startswith("#")}
    assert pointed == {f.name for f in HERE.glob("*.json")} - {"serving_spec.json"}  # an artifact, on no topic


def test_operations_are_those_of_the_groups(document: dict[str, Any]) -> None:
    groups = {name: b["kafka"]["groupId"]["const"] for name, b in document["components"]["operationBindings"].items()}
    monitor = KAFKA.monitor_group
    assert groups == {"inferenceGroup": KAFKA.inference_group, "monitorGroup": monitor, "registryGroup": f"{monitor}-registry"}
    ways = [o for o in document["operations"].values() if o["action"] == "receive"]
    received = {o["channel"]["$ref"]: o["bindings"]["$ref"] for o in ways if "bindings" in o}
    assert [o["channel"]["$ref"] for o in ways if "bindings" not in o] == ["#/channels/model_timeline"]
    assert received == {
        "#/channels/features": "#/components/operationBindings/inferenceGroup",
        "#/channels/inference_log": "#/components/operationBindings/monitorGroup",
        "#/channels/outcomes": "#/components/operationBindings/monitorGroup",
        "#/channels/performance": "#/components/operationBindings/registryGroup",
    }
    sent = {o["channel"]["$ref"].rpartition("/")[2] for o in document["operations"].values() if o["action"] == "send"}
    assert sent | {"outcomes"} == set(Topics.model_fields)


def test_the_page_of_topics_mentions_every_file() -> None:
    text = (DOCS / "topics.md").read_text(encoding="utf-8")
    assert [f.name for f in HERE.glob("*.[jy]*") if f"](../streams/schemas/{f.name})" not in text] == []
