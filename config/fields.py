"""The types of single settings: text that must have a form, each with the words for what is right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from config.keys import ENV_PREFIX, Right

_TRACKING_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
_LOCATION_TEXT = "a local folder or gs://bucket/path"
_ARTIFACTS_TEXT = "a local folder, gs://bucket/path or mlflow-artifacts:/path (through the tracking server)"
_TRACKING_TEXT = "sqlite:///path, http(s)://host:port or a database URI without credentials"
_HTTPS_TEXT = "https://host/path, without credentials"
_API_TEXT = "https://host, or http:// to a loopback address"
_URL_TEXT = "https://host/path, or http:// with allow_private, without user and password"
_SERVERS_TEXT = "host:port, or several separated by commas"
_LAST_PORT = 65535
_SECRET_PARAMETER = re.compile(r"pass|pwd|token|secret|credential", re.IGNORECASE)


def _not_a_flag(value: object) -> object:
    """Refuse true and false where a number belongs; Python would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")  # noqa: TRY004 - pydantic reports only a ValueError
    return value


def _location(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if separator and (scheme != "gs" or re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.*)?", rest) is None):
        raise ValueError(f"should be {_LOCATION_TEXT}")
    return value


def _artifacts(value: str) -> str:
    if value.startswith("mlflow-artifacts:/"):
        return value
    try:
        return _location(value)
    except ValueError:
        raise ValueError(f"should be {_ARTIFACTS_TEXT}") from None


def _tracking_uri(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator or scheme.partition("+")[0] not in _TRACKING_SCHEMES or not rest.strip("/"):
        raise ValueError(f"should be {_TRACKING_TEXT}; MLflow 3 refuses a plain folder")
    if (scheme != "sqlite" and "@" in value) or _SECRET_PARAMETER.search(urlsplit(value).query) is not None:
        raise ValueError("must not hold credentials; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead")
    return value


def _token_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme != "https" or not url.hostname or url.fragment:
        raise ValueError(f"should be {_HTTPS_TEXT}")
    if "@" in value or url.query:
        raise ValueError("must not hold credentials or a query; set oauth_client_id, oauth_client_secret and oauth_scope instead")
    return value


def _api_url(value: str) -> str:
    url = urlsplit(value)
    loopback = url.hostname in {"localhost", "127.0.0.1", "::1"}
    if (url.scheme != "https" and not (url.scheme == "http" and loopback)) or not url.hostname or url.query or url.fragment:
        raise ValueError(f"should be {_API_TEXT}")
    if "@" in value:
        raise ValueError("must not hold credentials; set vertex.credentials_file instead")
    return value


def url_fault(value: str) -> None:
    """Raise ValueError where this is no address that a notification can be sent to."""
    try:
        url = urlsplit(value)
        right = url.scheme.lower() in {"http", "https"} and bool(url.hostname) and not url.fragment and url.port != 0
        names_user = url.username is not None or url.password is not None
    except ValueError:  # its own words may repeat the address
        right = names_user = False
    if not right or value != value.strip() or not value.isprintable():
        raise ValueError(f"should be {_URL_TEXT}")
    if names_user:
        raise ValueError("must not hold user or password")


def _secret_url(value: SecretStr) -> SecretStr:
    url_fault(value.get_secret_value())
    return value


def _variable(value: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) is None:
        raise ValueError("should be the name of an environment variable: letters, digits and underscores")
    if value.upper().startswith(ENV_PREFIX):
        raise ValueError(f"should not begin with {ENV_PREFIX}: such variables are settings themselves")
    return value


def _servers(value: str) -> str:
    for server in value.split(","):
        host, separator, port = server.strip().rpartition(":")
        if not separator or not host or "/" in host or "@" in host or not port.isdecimal() or not 0 < int(port) <= _LAST_PORT:
            raise ValueError(f"should be {_SERVERS_TEXT}")
    return value


def _topic(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) is None or value in {".", ".."}:
        raise ValueError("should be 1 to 249 letters, digits, dots, dashes or underscores")
    return value


def _name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) is None:
        raise ValueError("should be letters, digits, dots, dashes and underscores, beginning with a letter or digit")
    return value


def _alias(value: str) -> str:
    if value.lower() == "latest" or re.fullmatch(r"v\d+", value, re.IGNORECASE) is not None:
        raise ValueError("is reserved by MLflow; use a name such as champion")
    return _name(value)


def _folder(value: Path) -> Path:
    if value.parts[:1] == ("gs:",):
        raise ValueError("should be a local path; this one cannot live in a bucket")
    return value


Text = Annotated[str, Field(min_length=1), Right("text that is not empty")]
Secret = Annotated[SecretStr, Field(min_length=1), Right("text that is not empty, best given by its environment variable")]
Whole = Annotated[int, BeforeValidator(_not_a_flag)]
Number = Annotated[float, BeforeValidator(_not_a_flag)]
Location = Annotated[str, Field(min_length=1), AfterValidator(_location), Right(_LOCATION_TEXT)]
Artifacts = Annotated[str, Field(min_length=1), AfterValidator(_artifacts), Right(_ARTIFACTS_TEXT)]
LocalPath = Annotated[Path, AfterValidator(_folder), Right("a local path")]
TrackingUri = Annotated[str, AfterValidator(_tracking_uri), Right(_TRACKING_TEXT)]
TokenUrl = Annotated[str, AfterValidator(_token_url), Right(_HTTPS_TEXT)]
ApiUrl = Annotated[str, AfterValidator(_api_url), Right(_API_TEXT)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url), Right(_URL_TEXT)]
Variable = Annotated[str, AfterValidator(_variable), Right("the name of an environment variable")]
Servers = Annotated[str, AfterValidator(_servers), Right(_SERVERS_TEXT)]
TopicName = Annotated[str, AfterValidator(_topic), Right("a Kafka topic name")]
Name = Annotated[str, AfterValidator(_name), Right("a name of letters, digits, dots, dashes and underscores")]
Dataset = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,1024}$"), Right("a name of letters, digits and underscores")]
Alias = Annotated[str, AfterValidator(_alias), Right("an MLflow alias")]
