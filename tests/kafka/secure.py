"""A node with doors of every kind: passwords and tokens over TLS, own certificates, and certificates that are not right.

Users have only the rights that docs/security.md says they need; the plain doors of `cluster` are the superuser's.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.kafka.certificates import Authority, Pair
from tests.kafka.cluster import CLUSTER_ID, START_S, Node, _command, _free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

USER = "trader"
PASSWORD = "planted-7c1e"  # noqa: S105 - what the tests look for where it must not be
KEY_PASSWORD = "planted-9d04"  # noqa: S105 - the same
RIGHTS = {"Topic": ("Create", "Read", "Write"), "Group": ("Read",)}
DOORS = ("login", "mutual", "expired", "stranger")
_JAAS = "org.apache.kafka.common.security"
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Papers:
    """The authority all believe, one nobody knows, and certificates of both."""

    authority: Authority
    unknown: Authority
    server: Pair
    own: Pair
    own_of_unknown: Pair

    @classmethod
    def make(cls, folder: Path) -> Papers:
        """Make them in a folder."""
        authority, unknown = Authority(folder, "authority"), Authority(folder, "unknown")
        return cls(
            authority,
            unknown,
            authority.issue("server"),
            authority.issue(USER, password=KEY_PASSWORD),
            unknown.issue(USER, password=KEY_PASSWORD),
        )


class SecureNode(Node):
    """`login`: SASL over TLS; `mutual`: our certificate is asked for; `expired`, `stranger`: the broker's is not right."""

    def __init__(self, number: int, folder: Path, *, ports: Mapping[str, int], papers: Papers) -> None:
        super().__init__(number, folder, ports={**ports, **dict(zip(DOORS, _free_ports(len(DOORS)), strict=True))})
        self.papers = papers

    def door(self, name: str) -> str:
        """The address of one."""
        return f"127.0.0.1:{self.ports[name]}"

    def format(self) -> None:
        """Lay out the data folder, with the passwords of users."""
        said = dict(line.split("=", 1) for line in self.properties.read_text().splitlines())
        for name in ("listeners", "advertised.listeners"):
            said[name] = ",".join([said[name], *(f"{door.upper()}://{self.door(door)}" for door in DOORS)])
        said["listener.security.protocol.map"] += ",LOGIN:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL,STRANGER:SSL"
        authority = self.papers.authority
        shown = {
            "login": self.papers.server,
            "mutual": self.papers.server,
            "expired": authority.issue("expired", age=timedelta(days=3)),
            "stranger": authority.issue("stranger", hosts=("kafka.example.com",)),
        }
        for door, pair in shown.items():
            said |= {
                f"listener.name.{door}.ssl.keystore.type": "PEM",
                f"listener.name.{door}.ssl.keystore.location": str(pair.both),
                f"listener.name.{door}.ssl.truststore.type": "PEM",
                f"listener.name.{door}.ssl.truststore.location": str(authority.file),
            }
        said |= {
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "listener.name.login.sasl.enabled.mechanisms": ",".join(("PLAIN", *_SCRAM, "OAUTHBEARER")),
            "listener.name.login.plain.sasl.jaas.config": f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
            "listener.name.login.oauthbearer.sasl.jaas.config": f"{_JAAS}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        for mechanism in _SCRAM:
            said[f"listener.name.login.{mechanism.lower()}.sasl.jaas.config"] = f"{_JAAS}.scram.ScramLoginModule required;"
        self.properties.write_text("".join(f"{k}={v}\n" for k, v in said.items()), encoding="utf-8")
        users = [part for m in _SCRAM for part in ("--add-scram", f"{m}=[name={USER},password={PASSWORD}]")]
        command = [*_command("kafka.tools.StorageTool"), "format", "-t", CLUSTER_ID, "-c", str(self.properties), *users]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_S)
        assert done.returncode == 0, done.stdout + done.stderr
