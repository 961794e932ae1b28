"""The script of the calibration set remakes it to the bit, and finds one changed sample."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile


@pytest.mark.slow
def test_remaking_the_set_changes_no_bit(repository: Path) -> None:
    script = repository / "calibration" / "make.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "unchanged\n"


@pytest.mark.slow
def test_check_finds_one_changed_sample(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "calibration"
    shutil.copytree(repository / "calibration", folder)
    audio, rate = soundfile.read(folder / "audio.flac", dtype="int16")
    audio[12345] ^= 1
    soundfile.write(folder / "audio.flac", audio, rate, subtype="PCM_16")
    done = subprocess.run([sys.executable, folder / "make.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "audio.flac: other samples" in done.stderr
