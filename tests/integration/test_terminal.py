"""The command line is right in any terminal, pipe and locale: nothing is cut off, coloured unasked, or a traceback."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import soundfile

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LISTS = (["--help"], ["config", "presets"], ["corpus", "get"], ["train", "--help"])
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?[349][0-7][0-9;]*m")


def environment(**more: str) -> dict[str, str]:
    usual = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "PYTHONIOENCODING")
    }
    return {**usual, "TERM": "xterm-256color", **more}


def call(*arguments: str, stdout: int = subprocess.PIPE, **more: str) -> subprocess.CompletedProcess[bytes]:
    """A command without a terminal."""
    command, nothing = [sys.executable, "-m", "edgewake", *arguments], subprocess.DEVNULL
    return subprocess.run(
        command, stdin=nothing, stdout=stdout, stderr=subprocess.PIPE, env=environment(**more), check=False
    )


def in_terminal(*arguments: str, columns: int = 80, **more: str) -> tuple[int, str]:
    """Exit code and all that a command writes to a terminal."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-m", "edgewake", *arguments], environment(**more))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written = b""
    try:
        while block := os.read(terminal, 65536):
            written += block
    except OSError:  # of Linux, when the other side has ended
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), written.decode()


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, ASCII, {"PYTHONIOENCODING": "latin-1"}])
@pytest.mark.parametrize("command", LISTS[1:3])
def test_other_locales_print_what_they_can(command: list[str], locale: dict[str, str]) -> None:
    done = call(*command, **locale)
    assert (done.returncode, done.stderr) == (0, b"")
    encoding = "ascii" if locale == ASCII else "latin-1" if "PYTHONIOENCODING" in locale else "utf-8"
    assert len(done.stdout.decode(encoding)) > 100


def test_the_sign_of_work_is_ascii_where_the_terminal_is() -> None:
    code, text = in_terminal("assets", "list", **ASCII)
    assert code == 0
    assert "loading edgewake assets" in text
    assert "\\u" not in text


@pytest.mark.parametrize("command", LISTS)
def test_a_narrow_terminal_shows_everything_in_its_width(command: list[str]) -> None:
    code, text = in_terminal(*command, columns=40)
    assert code == 0
    # What was drawn before, and erased, is no line of the output.
    lines = [ESCAPE.sub("", line.rpartition("\r")[2]) for line in text.replace("\r\n", "\n").split("\n")]
    assert len(lines) > 20
    assert max(map(len, lines)) <= 40


def test_no_word_of_a_table_is_broken_in_a_narrow_terminal() -> None:
    done = call("corpus", "get", COLUMNS="40")
    for word in ("librispeech", "non-commercial", "licence"):
        assert word in done.stdout.decode()


def test_a_pipe_gets_each_row_of_a_table_in_one_line() -> None:
    done = call("config", "presets")
    (row,) = [line for line in done.stdout.decode().splitlines() if line.strip().startswith("esp32_no_psram ")]
    assert row.rstrip().endswith("ESP32-S3 without PSRAM") or len(row) > 80


@pytest.mark.parametrize("command", [["config", "presets"], ["detect", "gone.wav"], ["doctor"]])
def test_without_a_terminal_nothing_is_coloured_or_drawn(command: list[str]) -> None:
    done = call(*command)
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["detect", "gone.wav"], ["doctor"]])
def test_no_color_is_kept_to(command: list[str]) -> None:
    assert COLOUR.search(in_terminal(*command)[1])
    assert not COLOUR.search(in_terminal(*command, NO_COLOR="1")[1])


@pytest.mark.parametrize(
    "command", [["config", "show"], ["config", "presets"], ["corpus", "get", "--json"], ["--help"]]
)
def test_a_closed_pipe_is_no_traceback(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = call(*command, stdout=writing)
    os.close(writing)
    assert done.stderr == b""


def test_the_first_line_can_be_taken_alone() -> None:
    line = f"{sys.executable} -m edgewake config show | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), check=False)
    assert (done.stdout, done.stderr) == ("config_name: default\n", "")


@pytest.mark.parametrize(
    ("locale", "found"), [({"LC_ALL": "C.UTF-8"}, "utf-8"), (ASCII, "us-ascii|ascii|ansi_x3.4-1968")]
)
def test_doctor_tells_the_encoding(locale: dict[str, str], found: str) -> None:
    assert re.search(f"terminal: (?:{found})\\r", in_terminal("doctor", **locale)[1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["config", "show"], ["config", "presets"]])
def test_a_full_disk_behind_stdout_is_one_line(command: list[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = call(*command, stdout=full)
    os.close(full)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr


def test_a_file_with_brackets_in_its_name_is_shown_as_it_is(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "take [red] [" / "b].wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros(16_000, np.int16), 16_000)
    code, text = in_terminal("detect", str(path), "--model", str(repository / "models" / "computer"), columns=300)
    assert code == 0, text
    assert f"reading {path}" in text
    assert f"{path}: no detection in 1.00 s" in text


@pytest.mark.slow
def test_a_command_that_takes_seconds_shows_that_it_works(tmp_path: Path) -> None:
    code, text = in_terminal("new", "hey atlas", "--out", str(tmp_path / "word"))
    assert code == 0
    assert "assessing the phrase" in text
