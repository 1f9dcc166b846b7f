"""What is said about a settings file that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from config import ConfigError, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., list[str]]:
    """What is said about a tree, each line without the file's name, which every line must begin with."""

    def said(tree: dict[str, Any], env: dict[str, str] | None = None) -> list[str]:
        file = tmp_path / "own.yaml"
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
        with pytest.raises(ConfigError) as e:
            load_settings(file, env=env or {})
        assert str(e.value) == "\n".join(e.value.problems)
        assert all("\n" not in problem for problem in e.value.problems)
        return [problem.replace(f"{file}: ", "", 1).replace(str(file), "FILE") for problem in e.value.problems]

    return said
