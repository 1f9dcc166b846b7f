"""The section `kafka.security`: one set of keys for both Kafka clients; `docs/security.md` says what it protects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from config.fields import LocalPath, Secret, Text, TokenUrl
from config.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterable

_PASSWORD = ("username", "password")
_TOKEN = ("oauth_token_url", "oauth_client_id", "oauth_client_secret")
_MAY = ("oauth_scope",)
_TLS = ("ca_file", "certificate_file", "key_file", "key_password")


class Security(Section):
    """How to reach Kafka safely. Secrets are best given by their environment variables, never written in a file."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Encryption (SSL) and login (SASL) towards the brokers."
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        default=None, description="How SASL logs in: by username and password, or (OAUTHBEARER) by a token of an OpenID provider."
    )
    username: Text | None = Field(default=None, description="SASL user, for all mechanisms but OAUTHBEARER.")
    password: Secret | None = Field(default=None, description="SASL password of that user.")
    oauth_token_url: TokenUrl | None = Field(
        default=None, description="For OAUTHBEARER: the provider's token endpoint, asked with client credentials."
    )
    oauth_client_id: Text | None = Field(default=None, description="For OAUTHBEARER: our client id at the provider.")
    oauth_client_secret: Secret | None = Field(default=None, description="For OAUTHBEARER: the secret of that client.")
    oauth_scope: Text | None = Field(default=None, description="For OAUTHBEARER: the scope to ask for; some providers want one.")
    ca_file: LocalPath | None = Field(
        default=None, description="Certificates (PEM) that sign the brokers'; default the system's."
    )
    certificate_file: LocalPath | None = Field(default=None, description="Our own certificate (PEM), where brokers ask for one.")
    key_file: LocalPath | None = Field(default=None, description="The private key (PEM) of our certificate.")
    key_password: Secret | None = Field(default=None, description="The password of the private key.")

    @property
    def encrypts(self) -> bool:
        """Whether brokers are spoken to by TLS."""
        return self.protocol.endswith("SSL")

    @property
    def logs_in(self) -> bool:
        """Whether brokers ask who we are by SASL."""
        return self.protocol.startswith("SASL_")

    @model_validator(mode="after")
    def _login_belongs_together(self) -> Self:
        if not self.logs_in:
            for name in self._given("mechanism", *_PASSWORD, *_TOKEN, *_MAY):
                raise ValueError(f"{name} is set but protocol {self.protocol} does not log in; use SASL_SSL, or remove it")
            return self
        if self.mechanism is None:
            raise ValueError(f"protocol {self.protocol} needs mechanism; set it")
        token = self.mechanism == "OAUTHBEARER"
        needed, foreign = (_TOKEN, _PASSWORD) if token else (_PASSWORD, (*_TOKEN, *_MAY))
        given = set(self._given(*needed))
        for name in needed:
            if name not in given:
                raise ValueError(f"mechanism {self.mechanism} needs {name}; set it")
        for name in self._given(*foreign):
            raise ValueError(f"{name} is set but mechanism {self.mechanism} does not use it; remove it, or change mechanism")
        return self

    @model_validator(mode="after")
    def _files_belong_together(self) -> Self:
        if not self.encrypts:
            for name in self._given(*_TLS):
                raise ValueError(
                    f"{name} is set but protocol {self.protocol} does not encrypt; use SSL or SASL_SSL, or remove it"
                )
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; set both or neither")
        if self.key_password is not None and self.key_file is None:
            raise ValueError("key_password is set without key_file; set both or neither")
        return self

    def _given(self, *names: str) -> Iterable[str]:
        return [name for name in names if getattr(self, name) is not None]
