"""Processes that work for another one end with it, and long work is told in logs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from edgewake import console
from edgewake.processes import process_pool
from pieces import adding, touching

CODE = ["edgewake.io"]
SCRIPT = """
import os, sys, time
from edgewake.processes import process_pool
def start():
    return work
def work(number):
    time.sleep(0.1)
    return os.getpid()
if __name__ == "__main__":
    with process_pool(2, start, code=[]) as (run, many):
        print(*set(many(run, range(20))), flush=True)
        time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_map_in_order(workers: int) -> None:
    with process_pool(workers, adding, 10, code=CODE) as (run, many):
        assert list(many(run, [5, 0, 3, 1])) == [15, 10, 13, 11]


@pytest.mark.slow
def test_an_error_cancels_what_has_not_begun(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), process_pool(1, touching, code=CODE) as (run, many):
        many(run, [tmp_path / str(number) for number in range(50)])
        raise ZeroDivisionError
    assert len(list(tmp_path.iterdir())) < 10


@pytest.mark.slow
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(number) for number in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while time.monotonic() < until and any(map(_alive, workers)):
        time.sleep(0.05)
    assert not any(map(_alive, workers))


def _alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_long_work_prints_a_line_for_every_tenth_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.bar("short", 20) as advance:
        for _ in range(20):
            advance(1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "LINE_S", 0.0)
    with console.bar("rendering", 40) as advance:
        for _ in range(40):
            advance(1)
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in shown] == [f"rendering: {tenth}0%" for tenth in range(1, 11)]
    assert shown[0].endswith("0 min left")
