"""What may be committed: files of a readable size, free of the machine they were written on."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {".py", ".sh", ".js", ".css", ".html"}
LONGEST = 300
TEXTLESS = {".png", ".svg", ".gif", ".ico", ".parquet", ".npz", ".arrow"}


@cache
def committed() -> tuple[Path, ...]:
    """Every file git holds, or would hold if all were added."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def test_git_lists_the_project() -> None:
    assert ROOT / "pyproject.toml" in committed()
    assert ROOT / "config" / "settings.py" in committed()


def test_no_source_file_is_longer_than_can_be_read_at_once() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in committed()
        if path.suffix in SOURCES and "vendor" not in path.parts
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    homes = re.compile(r"/Users/\w+/|/home/(?!app/|nonroot/)\w+/|[A-Z]:\\Users\\")
    # Where this checkout lies; a path of one part, such as /app, is too common a word to search for.
    here = [f"{place}{end}" for place in (ROOT, Path.home()) if len(place.parts) > len(("/", "one")) for end in ("/", "\n", '"')]
    found = {}
    for path in committed():
        if path.suffix in TEXTLESS or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if homes.search(text) or any(place in text for place in here):
            found[str(path.relative_to(ROOT))] = "holds an absolute path of a machine"
    assert found == {}


def test_every_locked_package_comes_from_one_index_with_a_hash() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    packages = [package for package in lock["package"] if "editable" not in package["source"]]
    assert len({package["source"].get("registry") for package in packages} - {None}) == 1
    assert [package["name"] for package in packages if "registry" not in package["source"]] == []
    files = [
        file for package in packages for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    ]
    assert files
    assert len({file["url"].split("/")[2] for file in files}) == 1
    assert [file["url"] for file in files if not file.get("hash", "").startswith("sha256:")] == []
