"""Instructions of a frame of the frontend by part, counted on an emulated Xtensa; `--keep` makes them the target's."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgewake.calibration import load_golden
from edgewake.io import write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from xtensa.counts import PARTS, frame_counts  # noqa: E402
from xtensa.emulator import COMPILER, EMULATOR, missing, version  # noqa: E402

KEPT = ROOT / "toolchain" / "edgewake" / "targets" / "xtensa.json"


def measure() -> tuple[dict[str, Any], dict[str, Any]]:
    """What is kept, means of the golden audio's frames; and what is only shown: most of a frame, every frame."""
    with tempfile.TemporaryDirectory() as folder:
        counts = frame_counts(load_golden()[0], Path(folder))
    means = {
        part: {"lx106": round(counts.lx106[:, i].mean()), "s3": round(counts.s3[:, i].mean())}
        for i, part in enumerate(PARTS)
    }
    kept = {"date": datetime.date.today().isoformat(), "compiler": version(COMPILER), "emulator": version(EMULATOR),
            "frame": means}  # fmt: skip
    most = {
        part: {"lx106": int(counts.lx106[:, i].max()), "s3": int(counts.s3[:, i].max())} for i, part in enumerate(PARTS)
    }
    each = {"lx106": counts.lx106.sum(axis=1).tolist(), "s3": counts.s3.sum(axis=1).tolist()}
    return kept, {"most": most, "frames": each}


def show(kept: dict[str, Any], more: dict[str, Any]) -> None:
    """One table."""
    table = Table(title="instructions of a frame of 10 ms")
    for name in ("part", "lx106", "most", "S3 at most", "most"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part, counts in kept["frame"].items():
        most = more["most"][part]
        table.add_row(part, *(f"{value:,}" for value in (counts["lx106"], most["lx106"], counts["s3"], most["s3"])))
    sums = [round(sum(counts[core] for counts in kept["frame"].values())) for core in ("lx106", "s3")]
    most = [max(more["frames"][core]) for core in ("lx106", "s3")]
    table.add_row("all", *(f"{value:,}" for value in (sums[0], most[0], sums[1], most[1])), end_section=True)
    Console().print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/xtensa.json"))
    parser.add_argument("--keep", action="store_true", help=f"also write {KEPT.relative_to(ROOT)}")
    options = parser.parse_args()
    if lacking := missing():
        raise SystemExit(lacking)
    kept, more = measure()
    show(kept, more)
    write_json(options.json, kept | more)
    Console().print(f"written to {options.json}")
    if options.keep:
        write_json(KEPT, kept)


if __name__ == "__main__":
    main()
