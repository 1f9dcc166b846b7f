"""Dockerfile and .dockerignore: what is copied exists, images are pinned, and our command runs with few rights."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch

from tests.unit.deploy.house import ROOT, settings


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments): comments dropped, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(head, rest.strip()) for head, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def of(name: str) -> list[str]:
    return [rest for head, rest in instructions() if head == name]


def runtime(name: str) -> list[str]:
    """The same, of the last stage only."""
    steps = instructions()
    last = max(i for i, (head, _) in enumerate(steps) if head == "FROM")
    return [rest for head, rest in steps[last:] if head == name]


def copied() -> list[str]:
    """Sources copied from the build's context, not from another stage."""
    return [source for rest in of("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is ignored but what is named"
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for source in copied():
        assert list(ROOT.glob(source)), f"{source} does not exist"
        assert any(source == a or source.startswith(a + "/") for a in allowed), f"{source} is ignored"
    assert {source.partition("/")[0] for source in copied()} == set(allowed), "nothing is let in that is not copied"


def test_stages_are_known_and_images_pinned() -> None:
    stages: list[str] = []
    for rest in of("FROM"):
        image, _, stage = rest.partition(" AS ")
        assert re.search(r":\d+\.\d+\.\d+", image), f"{image} should name a full version"
        stages.append(stage)
    sources = [source for rest in of("COPY") for source in re.findall(r"--from=(\S+)", rest)]
    assert set(sources) <= set(stages)
    pythons = {rest.partition(" AS ")[0] for rest in of("FROM") if rest.startswith("python:")}
    assert len(pythons) == 1, "the environment is built for the Python it runs on"


def test_dependencies_come_from_the_lock_file() -> None:
    (sync,) = [rest for rest in of("RUN") if "uv sync" in rest]
    assert "--locked" in sync
    assert "--no-dev" in sync
    assert "--extra gcp" in sync
    assert "--extra vertex" in sync
    assert any("uv build --wheel" in rest for rest in of("RUN"))


def test_app_holds_yaml_only() -> None:
    into_app = [rest for rest in runtime("COPY") if rest.split()[-1].startswith("/app")]
    assert into_app == ["config/*.yaml /app/config/"]
    assert runtime("WORKDIR") == ["/app"]
    assert not any(fnmatch("Kustomization", source.rpartition("/")[2]) for source in into_app[0].split()[:-1])


def test_it_runs_our_command_as_nobody_special() -> None:
    assert [json.loads(rest) for rest in runtime("ENTRYPOINT")] == [["trading-ml"]]
    (user,) = runtime("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "numeric, so that runAsNonRoot can check it"
    assert any("libgomp1" in rest for rest in runtime("RUN")), "LightGBM's wheel needs it"


def test_its_settings_exist_and_its_health_is_asked_where_it_listens() -> None:
    env = dict(pair.split("=", 1) for rest in runtime("ENV") for pair in rest.split())
    effective = settings(env["CONFIG_PATH"], env)
    assert effective.web.host == "0.0.0.0"  # noqa: S104 - in a container
    assert runtime("EXPOSE") == [str(effective.web.port)]
    (check,) = runtime("HEALTHCHECK")
    assert f"http://127.0.0.1:{effective.web.port}/healthz" in check
