"""Shells complete commands, options, presets and files, by click's own scripts, in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where `edgewake` is this interpreter's, and a file lies in the working folder."""
    tool = tmp_path / "bin" / "edgewake"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgewake "$@"\n')
    tool.chmod(0o755)
    (tmp_path / "word.yaml").touch()
    return {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}


# Each script completes the words of $LINE and prints what it would offer.
BASH = """
eval "$(_EDGEWAKE_COMPLETE=bash_source edgewake)"
read -ra COMP_WORDS <<< "$LINE"
[[ $LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { [ "$2" = default ] && compgen -f -- "${COMP_WORDS[COMP_CWORD]}"; }
_edgewake_completion edgewake
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
_EDGEWAKE_COMPLETE=fish_source edgewake | source
complete --do-complete "$LINE"
"""
# zsh completes only where somebody types.
ZSH = """
PROMPT=; autoload -U compinit; compinit -u -D; LISTMAX=1000
eval "$(_EDGEWAKE_COMPLETE=zsh_source edgewake)"; echo rea""dy
"""
SHELLS = {"bash": ("bash", "-c", BASH), "fish": ("fish", "-c", FISH), "zsh": ("zsh", "-f", "-i")}
LONGEST_S = 60
CASES = [
    ("edgewake tr", ["train", "trunk"], ["synth"]),
    ("edgewake corpus ", ["get", "import", "scan", "pack"], ["train"]),
    ("edgewake synth --effort ", ["quick", "best"], []),
    ("edgewake assets get whi", ["whisper-base", "whisper-tiny.en"], ["kokoro"]),
    ("edgewake config show esp32", ["esp32_no_psram"], ["smoke"]),
    ("edgewake detect wor", ["word.yaml"], []),
    ("edgewake detect --", ["--model", "--cutoff"], []),
]


def typed(line: str, offered: list[str], environment: dict[str, str], folder: Path) -> str:
    """What zsh shows after a line and two tabs."""
    ours, its = pty.openpty()
    with subprocess.Popen(SHELLS["zsh"], stdin=its, stdout=its, stderr=its, env=environment, cwd=folder) as process:
        os.close(its)
        shown, deadline = "", time.monotonic() + LONGEST_S

        def read_until(*words: str) -> None:
            nonlocal shown
            while not all(word in shown for word in words) and time.monotonic() < deadline:
                if select.select([ours], [], [], 0.2)[0]:
                    shown += os.read(ours, 65536).decode(errors="replace")

        os.write(ours, ZSH.lstrip().encode())
        read_until("ready")
        shown = ""
        os.write(ours, f"{line}\t\t".encode())
        read_until(*offered)
        process.kill()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.parametrize("shell", ["bash", "fish", pytest.param("zsh", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("line", "offered", "others"), CASES)
def test_shells_complete(
    shell: str, line: str, offered: list[str], others: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    if shell == "zsh":
        text = typed(line, offered, environment, tmp_path)
    else:
        own = {**environment, "LINE": line}
        done = subprocess.run(SHELLS[shell], env=own, cwd=tmp_path, capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
    found = text.split()
    assert not [word for word in offered if not any(word in each for each in found)], text
    assert not set(others) & set(found)


def test_names_of_commands_are_completed_without_loading_anything() -> None:
    code = (
        "import sys\n"
        "from edgewake.cli import main\n"
        "try: main(prog_name='edgewake')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('rich', 'numpy', 'torch', 'pydantic') if name in sys.modules])\n"
    )
    asked = {"_EDGEWAKE_COMPLETE": "bash_complete", "COMP_WORDS": "edgewake tr", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,train", "plain,trunk", "[]"]
