"""The layers of pyproject.toml hold: imports point from later stages to earlier ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_imports_point_from_later_stages_to_earlier_ones() -> None:
    # In a process of its own: import-linter takes over logging and the console of the one that it runs in.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
