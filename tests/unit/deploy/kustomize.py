"""Renders the part of kustomize that `k8s/` uses, so that its manifests can be tested where no kustomize is installed.

    folder with a kustomization -> list of manifests, as `kustomize build FOLDER` prints them (in another order)

Known fields: `resources`, `configMapGenerator`, `patches` (strategic merge and JSON 6902), `namespace`, `labels`, `images`.
Any other field is refused rather than ignored: a manifest that this renderer does not understand must fail its test.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
FIELDS = {"apiVersion", "kind", "resources", "configMapGenerator", "patches", "namespace", "labels", "images"}
# By what the items of a list are told apart in a strategic merge.
MERGE_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


def render(folder: Path) -> list[Manifest]:
    """Every manifest of a kustomization. Raises `ValueError` for a field it does not know."""
    spec = yaml.safe_load(_kustomization(folder).read_text())
    _only(spec, FIELDS, folder)
    manifests: list[Manifest] = []
    for name in spec.get("resources", []):
        path = folder / name
        manifests += render(path.resolve()) if path.is_dir() else _documents(_inside(folder, name).read_text())
    manifests += [_config_map(folder, entry) for entry in spec.get("configMapGenerator", [])]
    for entry in spec.get("patches", []):
        _patch(folder, entry, manifests)
    for manifest in manifests:
        if "namespace" in spec:
            manifest["metadata"]["namespace"] = spec["namespace"]
        for entry in spec.get("labels", []):
            _label(manifest, entry)
        for entry in spec.get("images", []):
            _image(manifest, entry)
    return manifests


def _kustomization(folder: Path) -> Path:
    found = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    if len(found) != 1:
        raise ValueError(f"{folder} must hold exactly one of {', '.join(FILE_NAMES)}, it holds {len(found)}")
    return found[0]


def _inside(folder: Path, name: str) -> Path:
    """The file, refused if it lies outside the folder: kustomize's load restriction."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} lies outside {folder}, where kustomize reads no file")
    return path


def _only(mapping: Manifest, known: set[str], where: object) -> None:
    if unknown := set(mapping) - known:
        raise ValueError(f"{where}: this renderer does not know {sorted(unknown)}")


def _documents(text: str) -> list[Any]:
    return [d for d in yaml.safe_load_all(text) if d is not None]


def _config_map(folder: Path, entry: Manifest) -> Manifest:
    _only(entry, {"name", "files", "options"}, folder)
    if entry.get("options") != {"disableNameSuffixHash": True}:
        raise ValueError(f"{folder}: ConfigMap {entry['name']} must switch its name's hash off, the pods mount it by this name")
    data = {Path(name).name: _inside(folder, name).read_text() for name in entry["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": entry["name"]}, "data": data}


def _patch(folder: Path, entry: Manifest, manifests: list[Manifest]) -> None:
    _only(entry, {"target", "patch", "path", "options"}, folder)
    text = entry["patch"] if "patch" in entry else _inside(folder, entry["path"]).read_text()
    patches = _documents(text)
    kind_may_change = entry.get("options", {}).get("allowKindChange", False)
    # A list is one JSON 6902 patch; maps are strategic merges, and say themselves what they are for where no target does.
    operations: list[Manifest] = patches[0] if isinstance(patches[0], list) else []
    for patch in [None] if operations else patches:
        target = _target(folder, entry, patch)
        chosen = [m for m in manifests if m["kind"] == target["kind"] and target["name"] in (None, m["metadata"]["name"])]
        if not chosen:
            raise ValueError(f"{folder}: no manifest matches the patch's target {target}")
        for manifest in chosen:
            kind = manifest["kind"]
            for operation in operations:
                _operate(manifest, operation)
            if patch is not None:
                _merge(manifest, deepcopy(patch))
            if manifest["kind"] != kind and not kind_may_change:
                raise ValueError(f"{folder}: a patch changes a {kind} to a {manifest['kind']} without allowKindChange")


def _target(folder: Path, entry: Manifest, patch: Manifest | None) -> Manifest:
    if "target" in entry:
        _only(entry["target"], {"kind", "name"}, folder)
        return {"kind": entry["target"]["kind"], "name": entry["target"].get("name")}
    if patch is None:
        raise ValueError(f"{folder}: a JSON 6902 patch needs a target")
    return {"kind": patch["kind"], "name": patch["metadata"]["name"]}


def _operate(manifest: Manifest, operation: Manifest) -> None:
    """One JSON 6902 operation, in place: `add`, `replace` or `remove`."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    node: Any = manifest
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    value = deepcopy(operation.get("value"))
    if isinstance(node, list):
        if operation["op"] != "add":
            raise ValueError(f"{operation['op']} within a list is not known to this renderer: {operation['path']}")
        node.insert(len(node) if last == "-" else int(last), value)
    elif operation["op"] == "add" or (operation["op"] == "replace" and last in node):
        node[last] = value
    elif operation["op"] == "remove" and last in node:
        del node[last]
    else:
        raise ValueError(f"{operation['op']} {operation['path']}: there is nothing at that path")


def _merge(base: Manifest, patch: Manifest) -> None:
    """A strategic merge, in place."""
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        elif isinstance(value, list) and key in MERGE_KEYS and isinstance(base.get(key), list):
            _merge_list(base[key], value, MERGE_KEYS[key])
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value) and key in base:
            raise ValueError(f"a strategic merge of {key!r} is not known to this renderer; use a JSON 6902 patch")
        else:
            base[key] = value


def _merge_list(base: list[Manifest], patch: list[Manifest], key: str) -> None:
    """Merge items with the same key; what the patch names comes first, as kustomize has it."""
    first = []
    for item in patch:
        same = [b for b in base if b[key] == item[key]]
        base[:] = [b for b in base if b[key] != item[key]]
        if item.pop("$patch", None) == "delete":
            continue
        merged = same[0] if same else {}
        _merge(merged, item)
        first.append(merged)
    base[:] = first + base


def _label(manifest: Manifest, entry: Manifest) -> None:
    _only(entry, {"pairs", "includeTemplates"}, "labels")
    manifest["metadata"].setdefault("labels", {}).update(entry["pairs"])
    template = manifest.get("spec", {}).get("template")
    if entry.get("includeTemplates") and template is not None:
        template["metadata"].setdefault("labels", {}).update(entry["pairs"])


def _image(manifest: Manifest, entry: Manifest) -> None:
    _only(entry, {"name", "newName", "newTag"}, "images")
    for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        if container["image"] == entry["name"]:
            container["image"] = f"{entry['newName']}:{entry['newTag']}"
