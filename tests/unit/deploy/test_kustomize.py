"""The renderer says what kustomize says, and refuses what it does not understand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.deploy.house import ENVIRONMENTS, ROOT
from tests.unit.deploy.kustomize import Manifest, render

SAMPLE = Path(__file__).parent / "sample"
PROGRAM = shutil.which("kustomize")
OVERLAYS = [ROOT / "k8s" / name for name in sorted(ENVIRONMENTS)]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {ports: [], template: {spec: {containers: [{name: a, image: i, env: []}]}}}
"""


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(m["kind"], m["metadata"]["name"]): m for m in manifests}


# The sample uses every field and kind of patch that the renderer knows, and what kustomize printed for it is recorded. Where a
# kustomize is installed, it is asked itself, about the real overlays too.
@pytest.mark.parametrize("path", [SAMPLE / "overlay", *(OVERLAYS if PROGRAM else [])], ids=lambda p: p.name)
def test_agrees_with_kustomize(path: Path) -> None:
    if PROGRAM is None:
        printed = (SAMPLE / "expected.yaml").read_text()
    else:
        printed = subprocess.run([PROGRAM, "build", str(path)], check=True, capture_output=True, text=True).stdout
    assert by_name(render(path)) == by_name(list(yaml.safe_load_all(printed)))


def folder(tmp_path: Path, kustomization: str) -> Path:
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    return tmp_path


@pytest.mark.parametrize(
    ("kustomization", "words"),
    [
        ("namePrefix: x-", "does not know"),
        ("resources: [../pod.yaml]", "outside"),
        ("configMapGenerator: [{name: c, files: [pod.yaml]}]", "hash"),
        ("resources: [pod.yaml]\npatches: [{patch: '[{op: add, path: /x, value: 1}]'}]", "needs a target"),
        ("resources: [pod.yaml]\npatches: [{target: {kind: Job}, patch: '[{op: add, path: /x, value: 1}]'}]", "no manifest"),
        ("resources: [pod.yaml]\npatches: [{target: {kind: Pod}, patch: '[{op: remove, path: /x}]'}]", "nothing at that path"),
        (
            "resources: [pod.yaml]\npatches: [{target: {kind: Pod}, patch: '[{op: replace, path: /kind, value: Job}]'}]",
            "allowKind",
        ),
        ("resources: [pod.yaml]\npatches: [{patch: '{kind: Pod, metadata: {name: p}, spec: {ports: [{port: 1}]}}'}]", "ports"),
    ],
)
def test_refuses(tmp_path: Path, kustomization: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render(folder(tmp_path, kustomization))


def test_a_strategic_merge_tells_list_items_apart_by_their_key(tmp_path: Path) -> None:
    patch = (
        "{kind: Pod, metadata: {name: p}, spec: {template: {spec: "
        "{containers: [{name: a, image: j, env: null}, {name: b, image: i}]}}}}"
    )
    (manifest,) = render(folder(tmp_path, f"resources: [pod.yaml]\npatches: [{{patch: '{patch}'}}]"))
    assert manifest["spec"]["template"]["spec"]["containers"] == [{"name": "a", "image": "j"}, {"name": "b", "image": "i"}]
