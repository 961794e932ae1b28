"""The report of a build: report.json holds every figure, of which `page` makes report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.builder.user_files import FIRMWARE
from edgewake.console import console, table
from edgewake.io import read_json, sha256_file
from edgewake.parity.checks import learned_scales, stored_scales
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig
from edgewake.targets.budget import BudgetRow, quantity
from edgewake.targets.esp32s3 import OperatorCost
from edgewake.targets.frontend import (
    CYCLES_PER_INSTRUCTION,
    MEASURED,
    frontend_cycles,
    frontend_flash_bytes,
    frontend_instructions,
)

# Of report.json: the second holds metrics.json whole.
REPORT_VERSION = 2
# Beside metrics.json in a model folder, by benchmarks/peers.py.
PEERS = "peers.json"


def budget_json(row: BudgetRow) -> dict[str, Any]:
    return {"name": row.name, "value": row.value, "limit": row.limit, "unit": row.unit}


def operators_json(costs: Sequence[OperatorCost]) -> list[dict[str, Any]]:
    """What the main graph's operators cost at each inference step."""
    main = [cost for cost in costs if cost.layer.subgraph == 0]
    named = [{"operator": c.layer.op, "layer": c.layer.name, "path": c.path, "macs": c.layer.macs} for c in main]
    spent = [{"scratch_bytes": c.scratch_bytes, "cycles": c.cycles, "note": c.note} for c in main]
    return [name | cost for name, cost in zip(named, spent, strict=True)]


def frontend_json(config: FrontendConfig, frames: int) -> dict[str, Any]:
    """The frontend as a row of the operators' table."""
    row = {"operator": "frontend", "layer": f"{frames} frames", "path": "portable C core", "macs": 0}
    return row | {"scratch_bytes": 0, "cycles": frames * frontend_cycles(config), "note": ""}


def instructions_json(config: FrontendConfig) -> dict[str, Any]:
    """What the model of a frame's cycles is made of: S3 instructions by part, of counts on an emulated Xtensa."""
    measured = {name: MEASURED[name] for name in ("date", "compiler", "emulator")}
    parts = [{"part": part, "s3": count, "lx106": MEASURED["frame"][part]["lx106"]}
             for part, count in frontend_instructions(config).items()]  # fmt: skip
    model = {"cycles": frontend_cycles(config), "cycles_per_instruction": CYCLES_PER_INSTRUCTION,
             "flash_bytes": frontend_flash_bytes(config)}  # fmt: skip
    return {"measured": measured, "frame": parts, **model}


def scales_json(deployed: DeployedModel, model: bytes) -> list[dict[str, Any]]:
    """Scales as learned and as a .tflite holds them, of activations and weights; a bias has none of its own."""
    stored, rows = stored_scales(model), []
    for name, learned in learned_scales(deployed).items():
        if not name.endswith("/bias"):
            found = stored.get(name)
            same = found is not None and np.array_equal(found.zero_point, learned.zero_point)
            read = found.scale.tolist() if found is not None and same else []
            zero_point = str(int(learned.zero_point[0]))
            rows.append({"name": name, "learned": learned.scale.tolist(), "read": read, "zero_point": zero_point})
    return rows


def why_not_measured(folder: Path) -> str:
    other = (folder / "metrics.json").is_file()
    reason = "metrics.json is of another .tflite" if other else "This model has not been measured yet"
    return f"{reason}. Run: edgewake evaluate --model {folder} --apply"


def files_json(work: Path, generated: Sequence[Path]) -> list[dict[str, Any]]:
    """The files that this model made: those in the build folder itself, and the generated ones of the firmware."""
    own = [path for path in sorted(work.iterdir()) if path.is_file()]
    return [
        {"path": path.relative_to(work).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in [*own, *(work / FIRMWARE / path for path in generated)]
    ]


def stored_peers(folder: Path, model: Path) -> dict[str, Any] | None:
    """What the page shows of a model folder's peers.json, if it compares exactly this .tflite on recordings, else None.

    "recordings" says on which, "peers" has by name "package", "det" (curves by condition) and "shipped".
    """
    path = folder / PEERS
    if not path.is_file():
        return None
    found = read_json(path, "comparison with other wake words")
    if not isinstance(found, dict) or found.get("model_sha256") != sha256_file(model) or not found["recordings"]:
        return None
    shown = {
        name: {"package": peer["package"], **{key: peer["figures"][key] for key in ("det", "shipped")}}
        for name, peer in found["peers"].items()
    }
    return {"recordings": found["recordings"], "peers": shown}


def print_summary(report: Mapping[str, Any], out: Path) -> None:
    """One table and the next command."""
    rows = []
    for item in report["budget"]:
        needed, allowed = (quantity(item[key], item["unit"]) for key in ("value", "limit"))
        rows.append((item["name"], needed, allowed, f"{100 * item['value'] / item['limit']:.0f} %"))
    differ = [check["verdict"] for check in report["parity"]].count("differs")
    rows.append(("parity checks", f"{len(report['parity']) - differ} pass", f"{differ} fail", ""))
    if report["measured"]:
        summary = report["measured"]["summary"]
        for condition, parts in summary["recall"].items():
            rate = parts["all"]
            interval = f"[{rate['low']:.1%}, {rate['high']:.1%}]"
            rows.append((f"recall {condition}", f"{rate['value']:.1%}", interval, ""))
        rate = summary["fa_per_hour"]["total"]
        interval = f"[{rate['low']:.2f}, {rate['high']:.2f}]"
        rows.append(("false accepts/h", f"{rate['value']:.2f}", interval, f"{rate['hours']:.1f} h"))
    table(f"“{report['phrase']}” on {report['target']['name']}", ("what", ">value", ">limit [95 %]", ">"), rows)
    if "idf" in report:
        figures = report["idf"]
        linked = [(row["name"], f"{row['computed']:,} B", f"{row['built']:,} B") for row in figures["compared"]]
        linked.append(("image in flash", "", f"{figures['image_bytes']:,} B"))
        table("as ESP-IDF linked it", ("what", ">computed", ">in the map file"), linked)
    if report["kept"]:
        console.print(f"kept as you changed them: {', '.join(report['kept'])}", soft_wrap=True)
    console.print(f"report: {out / 'report.html'}")
    following = report["next"].replace("\n", f"\n{'':8}")
    console.print(f"next:   {following}", soft_wrap=True)
