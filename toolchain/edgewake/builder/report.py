"""The report of a build: report.json holds every figure, report.html shows them on one page that fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from edgewake.builder.user_files import FIRMWARE
from edgewake.console import console, table
from edgewake.evaluation.rates import condition_name, count_text, named_rates
from edgewake.io import sha256_file
from edgewake.parity.checks import learned_scales, stored_scales
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig
from edgewake.targets.budget import BudgetRow, quantity
from edgewake.targets.esp32s3 import OperatorCost, frontend_cycles

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
# A family with less audio than this does not set the scale of the false accepts' pictures.
LEAST_HOURS = 0.5


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


def measured_json(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the report shows of metrics.json."""
    if metrics is None:
        return None
    data, cutoff = metrics["data"], metrics["cutoff"]
    return {
        "split": metrics["split"],
        "text": f"{data['distinct_recordings_with_phrase']:g} distinct recordings with the phrase and "
        f"{data['hours_without_phrase']:.2f} h without it, streamed whole, at the cutoff "
        f"{cutoff['value']:.5f} from {cutoff['from']}. Copies of a recording count once; intervals are 95 %.",
        "summary": metrics["summary"],
        "det": metrics["det"],
    }


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


def render(report: Mapping[str, Any]) -> str:
    """report.html of a report.json."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"recordings": count_text, "condition": condition_name, "scales": _scales_text}
    environment.globals |= {"quantity": quantity, "det_axes": det_axes, "named_rates": _known_rates, "notes": _notes}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(r=report)


def det_axes(det: Mapping[str, Any], cutoff: float) -> dict[str, Any]:
    """A DET curve (see `det_curve`) for drawing, with a cutoff to mark.

    Adds `curve`, `mark` (None where no point has the cutoff) and `decades`: places in a box of height and width 1,
    from its upper left corner, false accepts an hour logarithmic; and `worst`, the misses at its foot.
    """
    points = det["points"]
    at = next((point for point in points if point["cutoff"] >= cutoff - 1e-7), None)
    floor = 0.5 / det["hours"]
    highest = max([floor * 10, *(p["fa_per_hour"] for p in points if p["miss_rate"] > 0)])
    raised = [p["miss_rate"] for p in points if p["fa_per_hour"] > 0 or p is at]
    # Five even grid lines divide these into round percents.
    worst = next((s for s in (0.025, 0.05, 0.1, 0.25, 0.5) if s >= 1.2 * max([0.02, *raised])), 1.0)

    def across(rate: float) -> float:
        return min(math.log10(max(rate, floor) / floor) / math.log10(highest / floor), 1.0)

    def place(point: Mapping[str, float]) -> tuple[float, float]:
        return across(point["fa_per_hour"]), 1 - min(point["miss_rate"] / worst, 1.0)

    decades = [10.0**power for power in range(math.ceil(math.log10(floor)), math.floor(math.log10(highest)) + 1)]
    return {
        **det,
        "cutoff": cutoff,
        "worst": worst,
        "curve": [place(point) for point in points if point["miss_rate"] <= worst],
        "mark": at and place(at),
        "decades": [(across(rate), f"{rate:g}") for rate in decades],
    }


def _scales_text(scales: Sequence[float]) -> str:
    """One scale in full, or the span of per-channel ones."""
    if len(scales) == 1:
        return f"{scales[0]:.9g}"
    return f"{min(scales):.5g} … {max(scales):.5g} ({len(scales)})" if scales else "none"


def _notes(operators: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each remark once, with the operators that it is about."""
    about: dict[str, dict[str, None]] = {}
    for operator in operators:
        if operator["note"]:
            about.setdefault(operator["note"], {})[operator["operator"]] = None
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]


def _known_rates(rates: Mapping[str, Any]) -> list[dict[str, Any]]:
    """False accepts by kind and family, each with the common top of the scale of its picture."""
    known = [(name, rate) for name, rate in named_rates(rates) if rate["value"] is not None]
    top = max([1.0, *(rate["high"] for _, rate in known if rate["hours"] >= LEAST_HOURS)])
    return [{**rate, "name": name, "total": rate is rates["total"], "top": top} for name, rate in known]


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
    if report["kept"]:
        console.print(f"kept as you changed them: {', '.join(report['kept'])}", soft_wrap=True)
    console.print(f"report: {out / 'report.html'}")
    console.print(f"next:   {report['next']}", soft_wrap=True)
