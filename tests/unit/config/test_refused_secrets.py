"""Addresses and secrets that are refused are not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config import KEYS, Settings
from tests.unit.config.trees import CANARY, put, shipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.keys import Key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlflow.tracking_uri", f"http://me:{CANARY}@host:1"),
        ("mlflow.tracking_uri", f"postgresql://me:{CANARY}@host/db"),
        ("mlflow.tracking_uri", f"postgresql://me:a/{CANARY}/b@host/db"),
        ("mlflow.tracking_uri", f"postgresql://me:a,'{CANARY} b@host/db"),
        ("mlflow.tracking_uri", f"postgresql://host/db?sslmode=require&password={CANARY}"),
        ("mlflow.tracking_uri", f"https://host:1/?access_token={CANARY}"),
        ("mlflow.tracking_uri", f"ftp://me:{CANARY}@host"),
        ("mlflow.model_registry", f"s3://me:{CANARY}@bucket/path"),
        ("storage.cache_dir", f"s3://me:{CANARY}@bucket/path"),
        ("kafka.bootstrap_servers", f"me:{CANARY}@host:1"),
        ("kafka.bootstrap_servers", f"host:1,me:{CANARY},{CANARY}@host:2"),
        ("kafka.security.oauth_token_url", f"https://me:{CANARY}@host/token"),
        ("kafka.security.oauth_token_url", f"https://host/token?client_secret={CANARY}"),
        ("vertex.api_endpoint", f"https://me:{CANARY}@host"),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(key: str, value: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, tuple(key.split(".")), value)
    (line,) = refused(tree)
    assert line.startswith(f"{key} = ")
    assert CANARY not in line
    assert "********" in line


@pytest.mark.parametrize("uri", ["sqlite:///home/a@b/mlflow.db", "postgresql://host/db?sslmode=require", "https://host:1/mlflow"])
def test_an_address_without_credentials_is_taken(uri: str) -> None:
    tree = shipped("local")
    put(tree, ("mlflow", "tracking_uri"), uri)
    assert Settings(**tree).mlflow.tracking_uri == uri


@pytest.mark.parametrize("url", ["http://host/token", "https://", "host/token", "https://host/token#part"])
def test_tokens_are_only_fetched_over_tls(url: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, ("kafka", "security", "oauth_token_url"), url)
    (line,) = refused(tree)
    assert line.startswith(f"kafka.security.oauth_token_url = {url!r}: should be https://host/path")


@pytest.mark.parametrize("key", [key for key in KEYS if key.secret], ids=lambda key: key.dotted)
@pytest.mark.parametrize("value", [[CANARY], {CANARY: CANARY}, 7])
def test_a_wrong_secret_is_not_repeated(key: Key, value: object, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, key.path, value)
    (line,) = refused(tree)
    assert line.startswith(f"{key.dotted} = ********: should be text")
