"""Encryption and login against a real Kafka: who is let in works from end to end, who is not is told why in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.client import AIOKafkaClient
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from config.security import Security
from streams.credentials import faust_credentials
from streams.errors import AccessError, BrokerError
from streams.topics import existing_topics
from tests.broker.inference_world import LIGHT
from tests.chaos.feeding import Feed, numbered
from tests.chaos.ledger import audit
from tests.chaos.names import Names
from tests.chaos.reading import Following
from tests.chaos.workers import ChaosWorker, Crew, environment
from tests.kafka.artifacts import Unavailable, java, library
from tests.kafka.cluster import KafkaCluster
from tests.kafka.secure import KEY_PASSWORD, PASSWORD, RIGHTS, USER, Papers, SecureNode
from tests.kafka.tokens import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

SECRET = "planted-51ab"  # noqa: S105 - what the tests look for where it must not be
PREFIX = "secured"


class House:
    """The node, the papers, the provider of tokens, and settings that lead through each door."""

    def __init__(self, node: SecureNode, provider: Provider) -> None:
        self.node = node
        self.provider = provider
        papers = node.papers
        self._ca = {"ca_file": papers.authority.file}
        own, unknown = papers.own, papers.own_of_unknown
        self.ways: dict[str, dict[str, Any]] = {
            "password": {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": USER, "password": PASSWORD},
            "token": {
                "protocol": "SASL_SSL",
                "mechanism": "OAUTHBEARER",
                "oauth_token_url": provider.url,
                "oauth_client_id": "worker",
                "oauth_client_secret": SECRET,
            },
            "certificate": {
                "protocol": "SSL",
                "certificate_file": own.certificate,
                "key_file": own.key,
                "key_password": KEY_PASSWORD,
            },
            "bare": {"protocol": "SSL"},
            "foreign": {
                "protocol": "SSL",
                "certificate_file": unknown.certificate,
                "key_file": unknown.key,
                "key_password": KEY_PASSWORD,
            },
        }

    def security(self, way: str, **changes: Any) -> Security:
        return Security(**(self._ca | self.ways[way] | changes))

    def names(self, door: str, security: Security) -> Names:
        """Names on the cluster, for a client that goes through this door."""
        names = Names(self.node.door(door), PREFIX)
        names.kafka = names.kafka.model_copy(update={"security": security})
        return names


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    try:
        java()
        library()
    except Unavailable as e:
        pytest.skip(f"no Kafka with certificates of our own: {e}")
    papers = Papers.make(tmp_path_factory.mktemp("papers"))
    provider = Provider(papers.server, subject=USER, client="worker", secret=SECRET)
    with KafkaCluster(tmp_path_factory.mktemp("secure"), make=partial(SecureNode, papers=papers)) as cluster, provider:
        grant(cluster)
        node = cluster.nodes[0]
        assert isinstance(node, SecureNode)
        yield House(node, provider)


def grant(cluster: KafkaCluster) -> None:
    """Give the user the rights of docs/security.md, on names that begin with ours, and no others."""
    bindings = [
        AclBinding(kind, PREFIX, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
        for kind, operations in ((ResourceType.TOPIC, RIGHTS["Topic"]), (ResourceType.GROUP, RIGHTS["Group"]))
        for operation in (AclOperation[name.upper()] for name in operations)
    ]
    client = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})  # kept until the answers are in: they die with it
    for answer in client.create_acls(bindings).values():
        answer.result(20)


def as_settings(security: Security) -> dict[str, Any]:
    """The variables that say so, as `TRADING_ML__<key>`."""
    said = {name: getattr(security, name) for name in security.model_fields_set}
    return {
        f"KAFKA__SECURITY__{name.upper()}": value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        for name, value in said.items()
    }


def command(folder: Path, settings: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "streams.cli", *words]
    return subprocess.run(program, cwd=folder, env=environment(settings), check=False, capture_output=True, text=True, timeout=60)


def test_workers_of_one_group_come_in_by_password_token_and_certificate(house: House, tmp_path: Path) -> None:
    doors = {"password": "login", "token": "login", "certificate": "mutual"}
    ways = {way: as_settings(house.security(way)) | {"KAFKA__BOOTSTRAP_SERVERS": house.node.door(d)} for way, d in doors.items()}
    names = Names(house.node.address, PREFIX)  # the plain door: those who feed and judge are not what is tested
    made = command(tmp_path, {**names.settings(), **ways["password"]}, "topics", "create")
    assert (made.returncode, made.stderr) == (0, "")
    assert {line.split()[0] for line in made.stdout.splitlines()} == {"created"}
    with Crew(tmp_path, names) as crew:
        for way, settings in ways.items():
            crew.workers[way] = ChaosWorker(tmp_path, names, way, command=LIGHT, **settings)
        workers = dict(crew.workers)
        crew.wait("a share each", lambda: all(w.partitions() for w in workers.values()), tend=False)
        feed = Feed(names.servers, names.topics.features)
        rows = numbered(21, 800)
        feed.send(rows)
        feed.flush()
        crew.wait(
            "all committed", Following(names.servers, names.kafka.inference_group, names.topics.features).past(), tend=False
        )
        assert {way: worker.rows() for way, worker in workers.items() if not worker.rows()} == {}
        for worker in workers.values():
            worker.process.send_signal(signal.SIGTERM)  # all at once: nobody takes over what the others leave
        assert {way: crew.workers.pop(way).process.wait(20) for way in workers} == dict.fromkeys(workers, 0)
    ledger = audit(names, sent=len(rows))
    assert ledger.faults == {}
    assert ledger.fates["predicted"] > 0
    said = {way: worker.log for way, worker in workers.items()}
    assert {way: text for way, text in said.items() if "Traceback" in text} == {}
    assert {way: text for way, text in said.items() if "planted" in text} == {}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_both_clients_log_in_by_the_other_mechanisms(house: House, mechanism: str) -> None:
    security = house.security("password", mechanism=mechanism)
    kafka = house.names("login", security).kafka
    assert existing_topics(kafka) is not None
    client = AIOKafkaClient(
        bootstrap_servers=kafka.bootstrap_servers, **credentials_to_aiokafka_auth(faust_credentials(security))
    )
    await client.bootstrap()
    assert client.cluster.brokers()
    await client.close()


@pytest.mark.parametrize(
    ("way", "door", "changes", "said"),
    [
        ("password", "login", {"password": "x"}, "login by SCRAM-SHA-512 .* invalid credentials .* username and password$"),
        ("password", "login", {"mechanism": "PLAIN", "password": "x"}, "login by PLAIN .*Invalid username or password"),
        ("password", "login", {"username": "who"}, "refuses our login by SCRAM-SHA-512"),
        ("token", "login", {"oauth_client_secret": "x"}, "token gives no token: 401 invalid_client; check .*oauth_client_"),
        ("password", "login", {"ca_file": None}, "not accepted: unable to get local issuer certificate; kafka.security.ca_file"),
        ("bare", "expired", {}, "the certificate of 127.0.0.1:.* is not accepted: certificate has expired; renew the broker's"),
        ("bare", "stranger", {}, "not accepted: IP address mismatch, .* '127.0.0.1'; name the broker in kafka.bootstrap_servers"),
        ("bare", "mutual", {}, "does not accept our certificate .*; check kafka.security.certificate_file and key_file$"),
        ("foreign", "mutual", {}, "does not accept our certificate .*; check kafka.security.certificate_file and key_file$"),
    ],
    ids=[
        "wrong password", "wrong password in the clear", "no such user", "wrong secret of the client", "unknown authority",
        "expired", "another name", "no certificate", "certificate of another authority",
    ],
)  # fmt: skip
def test_who_is_not_let_in_is_told_why(house: House, way: str, door: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AccessError, match=said) as e:
        existing_topics(house.names(door, house.security(way, **changes)).kafka)
    assert "\n" not in str(e.value)
    assert "planted" not in str(e.value)


def test_a_broker_spoken_to_by_the_wrong_protocol_is_no_hang(house: House) -> None:
    wrong = {"login": Security(), "client": house.security("bare")}
    said = {"login": "is kafka.security.protocol PLAINTEXT right", "client": "is kafka.security.protocol SSL right"}
    for door, security in wrong.items():
        with pytest.raises(BrokerError, match=said[door]):
            existing_topics(house.names(door, security).kafka, timeout_s=0.7)


def test_a_worker_that_is_refused_ends_with_one_line(house: House, tmp_path: Path) -> None:
    security = house.security("password", password="planted-wrong")  # noqa: S106 - the wrong one
    names = house.names("login", security)
    done = command(tmp_path, {**names.settings(), **as_settings(security)}, "worker", "inference")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"AccessError: Kafka at {names.servers} refuses our login by SCRAM-SHA-512")
    assert "planted" not in line


def test_the_rights_a_worker_has_here_are_those_that_are_documented(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "security.md").read_text(encoding="utf-8")
    for kind, operations in RIGHTS.items():
        assert f"| {kind} | {', '.join(operations)} |" in page
