"""A few kills of each command at random moments; tests/killing.py, which this runs, does many."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import killing

pytestmark = pytest.mark.slow


# test_make.py kills make, which takes longest.
@pytest.mark.parametrize("name", [name for name in killing.CASES if name != "make"])
def test_what_is_killed_leaves_nothing_half_written_and_goes_on_to_the_same_end(name: str, tmp_path: Path) -> None:
    if name == "synth" and not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    command = [sys.executable, killing.__file__, "--kills", "3", "--only", name, "--json", str(tmp_path / "kills.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    record = json.loads((tmp_path / "kills.json").read_text())[name] if done.returncode in (0, 1) else done.stderr
    assert done.returncode == 0, record
    assert record["kills"] == 3
    assert record["files"] > 5


def test_half_written_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "download.part").write_text("x")
    assert not killing.half_written(tmp_path, {})
    (tmp_path / "half.json").write_text("{")
    (tmp_path / "half.flac").write_bytes(b"fLaC")
    (tmp_path / "half.csv").write_text("path,kind\na.wav")
    (tmp_path / "half.tflite").write_bytes(b"TFL")
    found = killing.half_written(tmp_path, {"half.tflite": "of the whole"})
    assert sorted(line.partition(":")[0] for line in found) == ["half.csv", "half.flac", "half.json", "half.tflite"]
