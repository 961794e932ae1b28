"""Runs all fuzzing programs in turn until they have run a number of executions in all; goes on where it was ended.

`python tests/fuzz/many.py --executions 1e8 --json fuzz.json`, after `make fuzz`, which builds the programs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

CORPORA = Path(__file__).resolve().parent / "corpus"
# Of freed memory less is kept aside than usual, and nothing is noted at each allocation: three times as fast.
OPTIONS = "quarantine_size_mb=1:malloc_context_size=0"


def run(program: Path, seconds: int) -> tuple[int, int, str]:
    """Executions, edges that are covered, and the output of a run that failed, or ""."""
    found = program.parent / "found" / program.name
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-max_len=256", "-print_final_stats=1", f"-artifact_prefix={found}-"]
    done = subprocess.run(
        [program, *limits, found, CORPORA / program.name],
        env=os.environ | {"ASAN_OPTIONS": OPTIONS},
        capture_output=True,
        check=False,
    )
    text = done.stderr.decode(errors="replace")
    executions = re.search(r"number_of_executed_units: (\d+)", text)
    edges = re.findall(r"cov: (\d+)", text)
    if done.returncode or not executions:
        return 0, 0, text[-4000:] or f"exit code {done.returncode}"
    return int(executions[1]), int(edges[-1]), ""


def main(folder: Path, executions: float, seconds: int, file: Path) -> int:
    """Add to `file` what each program ran; 1 where one failed."""
    record: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    programs = sorted(path for path in folder.glob("fuzz_*") if path.is_file() and os.access(path, os.X_OK))
    if not programs:
        sys.exit(f"{folder} holds no fuzzing program: make fuzz builds them")
    while True:
        for program in programs:
            if sum(known["executions"] for known in record.values()) >= executions:
                print(json.dumps(record, indent=2))
                return 0
            count, edges, failure = run(program, seconds)
            if failure:
                print(failure, file=sys.stderr)
                return 1
            known = record.setdefault(program.name, {"executions": 0, "seconds": 0, "edges": 0})
            known["executions"] += count
            known["seconds"] += seconds
            known["edges"] = max(known["edges"], edges)
            file.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, default=Path("build/fuzz/tests/fuzz"))
    parser.add_argument("--executions", type=float, default=1e8)
    parser.add_argument("--seconds", type=int, default=20, help="of each program before the next one's turn")
    parser.add_argument("--json", type=Path, required=True, help="result, added to what is there")
    options = parser.parse_args()
    sys.exit(main(options.programs, options.executions, options.seconds, options.json))
