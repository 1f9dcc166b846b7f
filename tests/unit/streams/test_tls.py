"""Certificates and keys that are not right are named before anything connects, and nobody is asked for a password."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from config.sections import Kafka
from config.security import Security
from streams.clients import kafka_client_config
from streams.credentials import faust_credentials
from streams.errors import AccessError
from streams.tls import believed, client_context, distrust, listens
from tests.kafka.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path


KEY_PASSWORD = "k3y"  # noqa: S105 - of files that live as long as the test


class Drawer:
    """Right and wrong files of all kinds."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "ca")
        self.own = self.authority.issue("own")
        self.other = self.authority.issue("other")
        self.locked = self.authority.issue("locked", password=KEY_PASSWORD)
        self.text = folder / "text.pem"
        self.text.write_text("not PEM")
        self.absent = folder / "absent.pem"


@pytest.fixture
def drawer(tmp_path: Path) -> Drawer:
    return Drawer(tmp_path)


def security(**changes: Any) -> Security:
    return Security(**{"protocol": "SSL", **changes})


def own(drawer: Drawer, certificate: str, key: str, **more: Any) -> Security:
    files = {"absent": drawer.absent, "text": drawer.text}
    return security(
        certificate_file=files.get(certificate) or getattr(drawer, certificate).certificate,
        key_file=files.get(key) or getattr(drawer, key).key,
        **more,
    )


@pytest.mark.parametrize(("file", "said"), [("absent", "cannot be read: No such file"), ("text", "holds no certificate in PEM")])
def test_an_authority_that_is_not_one_is_named(drawer: Drawer, file: str, said: str) -> None:
    wrong = security(ca_file=getattr(drawer, file))
    for use in (client_context, faust_credentials, lambda s: kafka_client_config(Kafka(bootstrap_servers="k:1", security=s))):
        with pytest.raises(AccessError, match=rf"kafka\.security\.ca_file .*{file}\.pem {said}"):
            use(wrong)


@pytest.mark.parametrize(
    ("certificate", "key", "password", "said"),
    [
        ("absent", "own", None, "certificate_file .* cannot be read: No such file"),
        ("own", "absent", None, "key_file .* cannot be read: No such file"),
        ("text", "own", None, "certificate_file .* or key_file .* is not what it should be"),
        ("own", "text", None, "certificate_file .* or key_file .* is not what it should be"),
        ("own", "other", None, "key_file .* is not the key of certificate_file"),
        ("locked", "locked", None, "key_file .* is encrypted; set key_password"),
        ("locked", "locked", "planted", "key_password does not open key_file"),
        ("locked", "locked", "p" * 2000, "key_password does not open key_file"),
    ],
)
def test_what_is_wrong_with_our_own_is_named(drawer: Drawer, certificate: str, key: str, password: str | None, said: str) -> None:
    with pytest.raises(AccessError, match=rf"^kafka\.security\.{said}") as e:
        client_context(own(drawer, certificate, key, key_password=password))
    assert "planted" not in str(e.value)


def test_what_is_right_is_taken_and_checks_brokers_and_their_names(drawer: Drawer) -> None:
    context = client_context(own(drawer, "locked", "locked", key_password=KEY_PASSWORD, ca_file=drawer.authority.file))
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "ca"),),)]


def test_both_clients_believe_the_same_authorities(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert believed(security(ca_file=drawer.authority.file)) == str(drawer.authority.file)
    monkeypatch.setenv("SSL_CERT_FILE", str(drawer.authority.file))
    config = kafka_client_config(Kafka(bootstrap_servers="k:1", security=security()))
    assert config["ssl.ca.location"] == str(drawer.authority.file)
    assert config["ssl.endpoint.identification.algorithm"] == "https"
    assert ((("commonName", "ca"),),) in [ca["subject"] for ca in client_context(security()).get_ca_certs()]


def test_a_place_where_nobody_is_says_nothing_about_certificates() -> None:
    assert not listens("127.0.0.1:1")
    assert not listens("[::1]:1")
    assert distrust("127.0.0.1:1", client_context(security())) is None
