"""Runs the shell blocks of docs/tutorial.md as they stand, in a copy of the source; not those for board and microphone.

python docs/follow_tutorial.py FOLDER           # up to the training
python docs/follow_tutorial.py FOLDER --all     # with it: half an hour or more
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^(?:<!-- (\w+) -->\n)?```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """The commands of one block; `takes`: "minutes", "microphone", "board", or "" where they take neither."""

    takes: str
    commands: str


def blocks(page: Path = PAGE) -> list[Block]:
    """All shell blocks of a page, in order."""
    return [Block(*match.groups("")) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def follow(folder: Path, takes: set[str], page: Path = PAGE, environment: dict[str, str] | None = None) -> int:
    """Run the blocks whose `takes` is listed in one shell, in a copy of the source in `folder`; the exit status."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
    commands = "\n".join(block.commands for block in blocks(page) if block.takes in takes)
    values = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    shell = ["bash", "-euxo", "pipefail", "-c", commands]
    return subprocess.run(shell, cwd=folder, env=values | (environment or {}), check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="is made")
    parser.add_argument("--all", action="store_true", help="with what takes minutes")
    arguments = parser.parse_args()
    raise SystemExit(follow(arguments.folder, {"", "minutes"} if arguments.all else {""}))
