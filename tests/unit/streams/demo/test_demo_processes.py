"""Whatever ends the demo ends its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from streams.demo.errors import DemoFailed
from streams.demo.processes import Processes, answers, free_port

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


@pytest.fixture
def any_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make `python -m streams.cli CODE` run CODE: a stand-in found through the name the module starts."""
    stand_in = _stand_in(tmp_path)
    monkeypatch.setattr(sys, "executable", str(stand_in))


def _stand_in(folder: Path) -> Path:
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$3"\n')
    program.chmod(0o755)
    return program


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.usefixtures("any_program")
@pytest.mark.parametrize("code", [SLEEPER, STUBBORN])
def test_leaving_ends_them_even_those_deaf_to_sigterm(tmp_path: Path, code: str) -> None:
    with Processes(tmp_path / "logs", grace_s=0.3) as running:
        child = running.start("child", [code], dict(os.environ))
        running.wait("it", lambda: "up" in child.last_lines(), timeout_s=10.0)
    assert child.process.poll() is not None
    assert gone(child.process.pid)


@pytest.mark.usefixtures("any_program")
def test_a_process_that_ended_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as running:
        running.start("worker", ["import sys; print('no such alias'); sys.exit(3)"], dict(os.environ))
        with pytest.raises(DemoFailed, match=r"(?s)worker ended with code 3.*no such alias"):
            running.wait("it", lambda: False, timeout_s=10.0)


@pytest.mark.usefixtures("any_program")
def test_waiting_ends(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as running, pytest.raises(DemoFailed, match="waited 0 s for tea"):
        running.wait("tea", lambda: False, timeout_s=0.1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_killing_the_demo_kills_them(tmp_path: Path) -> None:
    stand_in = _stand_in(tmp_path)
    parent = textwrap.dedent(f"""
        import os, pathlib, time
        from streams.demo import processes
        processes.sys.executable = {str(stand_in)!r}
        with processes.Processes(pathlib.Path({str(tmp_path)!r}) / "logs") as running:
            child = running.start("child", [{SLEEPER!r}], dict(os.environ))
            print(child.process.pid, flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        child = int(demo.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        demo.send_signal(signal.SIGKILL)
        assert gone(child)


def test_a_free_port_answers_nobody() -> None:
    assert not answers(f"http://127.0.0.1:{free_port()}/readyz")
