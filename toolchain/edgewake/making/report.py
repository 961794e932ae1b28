"""report.html of any folder that holds figures, made from the JSON that a make, a build or an evaluation left there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from edgewake.builder.page import render
from edgewake.builder.report import REPORT_VERSION, stored_peers
from edgewake.builder.user_files import PAGE, REPORT
from edgewake.conversion.convert import MODEL as TFLITE
from edgewake.errors import EdgewakeError
from edgewake.evaluation.evaluate import stored_metrics
from edgewake.evaluation.rates import condition_name, figure_text
from edgewake.io import read_json, write_text
from edgewake.making.stages import RECORD

# Parts of a wake word's folder.
MODEL, BUILD = "model", "build"
METRICS = "metrics.json"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a folder to `out`, by default its report.html; returns where.

    Args:
        folder: what `edgewake make` made (model/, build/ and make.json), a build (report.json), or a model folder or
            the result of an evaluation (metrics.json).

    Raises:
        EdgewakeError: it is none of these, or not finished.
    """
    if (folder / RECORD).is_file() or (folder / "wakeword.yaml").is_file():
        read = _of_make
    elif (folder / REPORT).is_file():
        read = _of_build
    elif (folder / METRICS).is_file():
        read = _of_metrics
    else:
        raise EdgewakeError(
            f"{folder} has no {RECORD}, {REPORT} or {METRICS}: give a folder of edgewake make, build or evaluate"
        )
    try:
        text = render(read(folder))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        what = f"a JSON file of {folder} is damaged, or of another version of edgewake"
        raise EdgewakeError(f"{what} ({type(error).__name__}: {error}): make, build or evaluate it again") from error
    page = out or folder / PAGE
    write_text(page, text)
    return page


def _of_make(folder: Path) -> dict[str, Any]:
    """The build's report, with what was measured since, and how it was made."""
    for part in (f"{MODEL}/{METRICS}", f"{BUILD}/{REPORT}", RECORD):
        if not (folder / part).is_file():
            raise EdgewakeError(f"{folder} has no {part}: finish it with edgewake make {folder}")
    report, tflite = _of_build(folder / BUILD), folder / BUILD / TFLITE
    for key, stored in (("measured", stored_metrics), ("peers", stored_peers)):
        report[key] = stored(folder / MODEL, tflite) or report[key]
    record = read_json(folder / RECORD, "record of make")
    clips, left_out = [], []
    for path in sorted(folder.glob("*/synthesis.json")):
        found, place = read_json(path, "report of the synthesis"), path.parent.name
        for name, cell in found["by_kind_and_split"].items():
            clips.append({"folder": place, "name": name, "clips": cell["clips"], "hours": cell["seconds"] / 3600})
        left = ", ".join(f"{count} {fault}" for fault, count in found["left_out"].items()) or "none"
        left_out.append(f"{place}: {found['voices']} voices; left out: {left}.")
    seconds = {name: stage["seconds"] for name, stage in record["stages"].items() if "seconds" in stage}
    # The report's own time would make each page another one.
    seconds.pop("report", None)
    return report | {"made": {"effort": record["effort"], "clips": clips, "left_out": left_out, "seconds": seconds}}


def _of_build(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = read_json(folder / REPORT, "report")
    if not isinstance(report, dict) or report.get("feasible") is False:
        raise EdgewakeError(f"{folder / REPORT} is of a build that was refused: build another model for a page")
    if report.get("version") != REPORT_VERSION:
        raise EdgewakeError(f"{folder / REPORT} is of another version of edgewake: run edgewake build again")
    return report


def _of_metrics(folder: Path) -> dict[str, Any]:
    metrics, tflite = read_json(folder / METRICS, "metrics"), folder / TFLITE
    if not isinstance(metrics, dict) or "near" not in metrics.get("summary", {}):
        raise EdgewakeError(f"{folder / METRICS} is of another version of edgewake: run edgewake evaluate again")
    peers = stored_peers(folder, tflite) if tflite.is_file() else None
    return {"phrase": metrics["model"]["phrase"], "measured": metrics, "peers": peers}


def short(metrics: Mapping[str, Any]) -> list[str]:
    """The figures in a few lines, for the terminal."""
    summary = metrics["summary"]
    lines = [f"recall {condition_name(name)}: {figure_text(part['all'])}" for name, part in summary["recall"].items()]
    near = summary["near"]["total"]
    lines.append(f"false accepts: {figure_text(summary['fa_per_hour']['total'])}")
    return [*lines, f"accepted of what sounds like it: {figure_text(near)}"] if near["total"] else lines
