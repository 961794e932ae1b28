"""The parts of report.json, each from what a build made, and the table that the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.builder.user_files import FIRMWARE
from edgewake.console import console, table
from edgewake.evaluation.report import quantity
from edgewake.io import sha256_file
from edgewake.parity.scales import learned_scales, stored_scales
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig
from edgewake.targets.budget import BudgetRow
from edgewake.targets.esp32s3 import OperatorCost, frontend_cycles


def width_of(deployed: DeployedModel) -> int | None:
    """The model's channels, as model.width says them."""
    first = deployed.layers[0]
    return None if first.weight is None else int(first.weight.shape[0])


def budget_json(row: BudgetRow) -> dict[str, Any]:
    return {"name": row.name, "value": row.value, "limit": row.limit, "unit": row.unit}


def operator_json(cost: OperatorCost) -> dict[str, Any]:
    return {
        "operator": cost.op,
        "layer": cost.name,
        "path": cost.path,
        "macs": cost.macs,
        "scratch_bytes": cost.scratch_bytes,
        "cycles": cost.cycles,
        "note": cost.note,
    }


def frontend_json(config: FrontendConfig, frames: int) -> dict[str, Any]:
    return {
        "operator": "frontend",
        "layer": f"{frames} frames",
        "path": "portable C core",
        "macs": 0,
        "scratch_bytes": 0,
        "cycles": frames * frontend_cycles(config),
        "note": "",
    }


def slow_text(slow: Sequence[OperatorCost]) -> str:
    if not slow:
        return "ESP-NN accelerates every operator that computes."
    return "not accelerated by ESP-NN: " + ", ".join(f"{cost.op} ({cost.name})" for cost in slow) + "."


def scale_rows(deployed: DeployedModel, model: bytes) -> list[dict[str, Any]]:
    """Learned and read-back scales of every activation and weight; a bias has none of its own."""
    stored = stored_scales(model)
    rows = []
    for name, learned in learned_scales(deployed).items():
        if name.endswith("/bias"):
            continue
        found = stored.get(name)
        same = found is not None and bool((found.zero_point == learned.zero_point).all())
        rows.append(
            {
                "name": name,
                "learned": [float(scale) for scale in learned.scale],
                "read": [float(scale) for scale in found.scale] if found is not None and same else [],
                "zero_point": str(int(learned.zero_point[0])),
            }
        )
    return rows


def measured_json(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metrics is None:
        return None
    data, cutoff = metrics["data"], metrics["cutoff"]
    return {
        "split": metrics["split"],
        "text": f"{data['distinct_recordings_with_phrase']:g} distinct recordings with the phrase and "
        f"{data['hours_without_phrase']:.2f} h without it, streamed whole, at the cutoff "
        f"{cutoff['value']:.4f} from {cutoff['from']}. Copies of a recording count once; intervals are 95 %.",
        "summary": metrics["summary"],
        "det": metrics["det"],
    }


def why_not_measured(folder: Path) -> str:
    command = f"edgewake evaluate --model {folder} --apply"
    if (folder / "metrics.json").is_file():
        return f"metrics.json of the model folder was measured on another .tflite. Run: {command}"
    return f"Nobody has measured this model yet. Run: {command}"


def next_command(out: Path) -> str:
    """What to type next."""
    return f"cd {out / FIRMWARE} && idf.py set-target esp32s3 build flash monitor"


def listed(work: Path, firmware: Sequence[Path]) -> list[Path]:
    """The files that this model made: its own, and the generated ones of the firmware."""
    generated = [work / FIRMWARE / path for path in firmware if "generated" in Path(path).parts]
    own = [path for path in sorted(work.iterdir()) if path.is_file()]
    return [*own, *generated]


def file_json(work: Path, path: Path) -> dict[str, Any]:
    return {
        "path": path.relative_to(work).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
    }


def print_summary(report: Mapping[str, Any], out: Path) -> None:
    """One table and the next command."""
    rows = [
        (
            item["name"],
            quantity(item["value"], item["unit"]),
            quantity(item["limit"], item["unit"]),
            f"{100 * item['value'] / item['limit']:.0f} %",
        )
        for item in report["budget"]
    ]
    equal = sum(rung["verdict"] == "equal" for rung in report["parity"])
    differ = sum(rung["verdict"] == "differs" for rung in report["parity"])
    rows.append(("parity ladder", f"{equal} equal", f"{differ} differ", ""))
    measured = report["measured"]
    if measured:
        for condition, parts in measured["summary"]["recall"].items():
            rate = parts["all"]
            rows.append(
                (
                    f"recall {condition}",
                    f"{rate['value']:.1%}",
                    f"[{rate['low']:.1%}, {rate['high']:.1%}]",
                    "",
                )
            )
        rate = measured["summary"]["fa_per_hour"]["total"]
        rows.append(
            (
                "false accepts/h",
                f"{rate['value']:.2f}",
                f"[{rate['low']:.2f}, {rate['high']:.2f}]",
                f"{rate['hours']:.1f} h",
            )
        )
    table(f"“{report['phrase']}” on {report['target']['name']}", ("what", ">value", ">limit [95 %]", ">"), rows)
    if report["kept"]:
        console.print(f"kept as you changed them: {', '.join(report['kept'])}", soft_wrap=True)
    console.print(f"report: {out / 'report.html'}")
    console.print(f"next:   {report['next']}", soft_wrap=True)
