"""`make check` fails on a dependency known to be vulnerable, and only on that; what is accepted has its reason."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import tomllib
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ADVISORY = "PYSEC-2026-9999"
VICTIM = "numpy"


@cache
def why_no_uv() -> str | None:
    """None where set-up has left a uv, or the machine has one; the audit is run by it."""
    found = subprocess.run([ROOT / ".ci" / "uv", "--version"], env=environment(), check=False, capture_output=True, text=True)
    return None if found.returncode == 0 else found.stderr.strip()


def environment(**more: str) -> dict[str, str]:
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    own = {name: value for name, value in os.environ.items() if name not in proxies and not name.startswith("UV_")}
    return own | {"PIP_NO_INDEX": "1", "NO_PROXY": "127.0.0.1"} | more


class Database(ThreadingHTTPServer):
    """Speaks OSV's protocol and knows one advisory, about `VICTIM`."""

    url: str
    asked: set[str]


@pytest.fixture
def database() -> Iterator[Database]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            server.asked |= {query["package"]["name"] for query in queries}
            self._say({"results": [{"vulns": [ABOUT]} if query["package"]["name"] == VICTIM else {} for query in queries]})

        def do_GET(self) -> None:
            self._say(ABOUT)

        def _say(self, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Not into the test's output."""

    with Database(("127.0.0.1", 0), Handler) as server:
        server.url, server.asked = f"http://127.0.0.1:{server.server_address[1]}/", set()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


ABOUT = {"id": ADVISORY, "summary": "planted", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z"}


def audit(url: str, **more: str) -> tuple[int, str]:
    reason = why_no_uv()
    if reason is not None:
        pytest.skip(reason)
    done = subprocess.run(
        [ROOT / ".ci" / "audit", "--service-url", url],
        env=environment(**more),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def accepted(folder: Path, text: str) -> str:
    file = folder / "advisories"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_known_vulnerability_fails_and_every_locked_package_is_asked_about(database: Database, tmp_path: Path) -> None:
    code, said = audit(database.url, ADVISORIES=accepted(tmp_path, ""))
    assert code == 1
    assert ADVISORY in said
    assert VICTIM in said
    assert said.splitlines()[-1].startswith("audit: lock a fixed version")
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    direct = {d["name"] for p in lock["package"] if "editable" in p["source"] for d in p["dependencies"] if "marker" not in d}
    assert direct - database.asked == set()


def test_one_that_is_accepted_with_a_reason_passes(database: Database, tmp_path: Path) -> None:
    file = accepted(tmp_path, f"# comment\n\n{ADVISORY} not reachable: planted by a test")
    code, said = audit(database.url, ADVISORIES=file)
    assert (code, said.count("\n")) == (0, 1)
    assert said.startswith("audit: ")


def test_one_without_a_reason_is_not_accepted(tmp_path: Path) -> None:
    file = accepted(tmp_path, f"{ADVISORY}  \n")
    code, said = audit("http://127.0.0.1:1/", ADVISORIES=file)
    assert (code, said) == (1, f"audit: {file} lists {ADVISORY} without a reason; write it behind the id\n")


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_a_machine_that_cannot_ask_is_told_and_passes_unless_it_must(tmp_path: Path, required: str, code: int) -> None:
    found, said = audit("http://127.0.0.1:1/", ADVISORIES=accepted(tmp_path, ""), AUDIT_REQUIRED=required)
    assert found == code
    assert said.startswith("audit: nothing was checked, the database of advisories could not be asked: ")
    assert said.count("\n") == 1


def test_what_is_accepted_now_has_reasons() -> None:
    lines = (ROOT / ".ci" / "advisories").read_text(encoding="utf-8").splitlines()
    entries = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    assert [entry for entry in entries if len(entry) == 1] == []


def test_the_bill_of_materials_holds_what_is_shipped_with_its_versions(tmp_path: Path) -> None:
    reason = why_no_uv()
    if reason is not None:
        pytest.skip(reason)
    file = tmp_path / "sbom.json"
    subprocess.run(
        ["make", "-s", "sbom", f"SBOM={file}"], cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=60
    )
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "trading-ml-inference")
    held = {part["name"]: part["version"] for part in bill["components"]}
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    locked = {(package["name"], package["version"]) for package in lock["package"]}
    assert set(held.items()) - locked == set()
    assert {"faust-streaming", "confluent-kafka", "numpy", "google-cloud-bigquery"} <= set(held)
    assert "pytest" not in held
