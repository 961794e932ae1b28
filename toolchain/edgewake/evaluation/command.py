"""`edgewake evaluate`: figures on disk and in tables, and the chosen cutoff in the model where asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgewake.console import console, table
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.errors import EdgewakeError
from edgewake.evaluation.cutoff import Cutoff
from edgewake.evaluation.det import DetCurve, plot_det
from edgewake.evaluation.evaluate import evaluate
from edgewake.evaluation.rates import EventRate, Recall, condition_name, named_rates
from edgewake.evaluation.scorers import Engine
from edgewake.io import read_json, sha256_file, write_json
from edgewake.runtime.model_manifest import Counted, find_manifest, load_manifest


def run_evaluation(
    model: Path,
    corpus: CorpusManifest,
    *,
    split: Split,
    engine: Engine,
    target_fa_per_hour: float,
    cutoff: Literal["val", "shipped"] | float,
    seed: int,
    out: Path | None,
    apply: bool,
    plot: bool = True,
    quiet: bool,
) -> dict[str, Any]:
    """Evaluate, write metrics.json, det.json and det.png, and print tables unless `quiet`.

    Args:
        out: output folder; None takes build/evaluation/<name of the model's folder>.
        plot: draw det.png, for which matplotlib must be there.
        apply: write the cutoff into model.json and manifest.json of the model, and the figures beside them.

    Raises:
        EdgewakeError: what `evaluate` raises; or `apply` to a folder without model.json.
    """
    home = find_manifest(model).parent
    if apply and not (home / "model.json").is_file():
        raise EdgewakeError(f"{home} has no model.json to apply a cutoff to: give the model folder, not a build")
    found = evaluate(model, corpus, split, engine, target_fa_per_hour=target_fa_per_hour, cutoff=cutoff, seed=seed)
    metrics = found.metrics
    folder = out or Path("build/evaluation") / home.resolve().name
    curve = found.curve if plot else None
    _write(folder, metrics, curve)
    if apply:
        apply_cutoff(home, metrics["cutoff"]["value"])
        manifest = load_manifest(home)
        metrics = {**metrics, "model": {**metrics["model"], "shipped_cutoff": manifest.cutoff}}
        _write(home, metrics, curve)
        measured = measured_part(metrics)
        manifest.model_copy(update={"measured": measured}).save(home)
    if not quiet:
        print_metrics(metrics)
        console.print(f"written to {folder}" + (f" and {home}" if apply else ""))
    return metrics


def _write(folder: Path, metrics: dict[str, Any], curve: DetCurve | None) -> None:
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "det.json", metrics["det"])
    if curve is None:
        return
    phrase, split = metrics["model"]["phrase"], metrics["split"]
    chosen = metrics["cutoff"]["value"]
    plot_det(curve, folder / "det.png", title=f"“{phrase}”, {split} split", chosen=chosen)


def apply_cutoff(folder: Path, cutoff: float) -> None:
    """Make a cutoff the model's own, in model.json and manifest.json."""
    manifest = load_manifest(folder)
    cutoff_sum = max(1, round(cutoff * 256 * manifest.window))
    record = read_json(folder / "model.json", "model description")
    record["info"]["cutoff_sum"] = cutoff_sum
    write_json(folder / "model.json", record)
    value = float(np.float32(cutoff_sum / (256 * manifest.window)))
    manifest.model_copy(update={"cutoff": value, "cutoff_sum": cutoff_sum}).save(folder)


def measured_part(metrics: Mapping[str, Any]) -> dict[str, Counted]:
    """The manifest's `measured`: recall by condition, false accepts by kind, and on what."""
    data = f"{metrics['split']} split of {metrics['data']['corpus']}"
    figures = metrics["summary"]
    measured = {f"recall_{name}": Counted(**part["all"], data=data) for name, part in figures["recall"].items()}
    for name, rate in figures["fa_per_hour"].items():
        if name != "families":
            key = "fa_per_hour" if name == "total" else f"fa_per_hour_{name}"
            measured[key] = Counted(**rate, data=data)
    return measured


def stored_metrics(folder: Path, model: Path) -> dict[str, Any] | None:
    """metrics.json of a model folder if it was measured on exactly this .tflite, else None."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    metrics = read_json(path, "metrics")
    if not isinstance(metrics, dict) or metrics.get("version") != 1:
        raise EdgewakeError(f"metrics {path} are of another version: run edgewake evaluate --apply")
    return metrics if metrics["model"]["sha256"] == sha256_file(model) else None


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Tables of recall and of false accepts, and where the cutoff came from."""
    figures = metrics["summary"]
    cutoff = metrics["cutoff"]
    choice = cutoff["choice"]
    console.print(
        "cutoff " + (str(Cutoff(**choice)) if choice else f"{cutoff['value']:.4f} ({cutoff['from']})"), soft_wrap=True
    )
    rows = [
        (condition_name(name), part.replace("_", " "), Recall(**rate))
        for name, parts in figures["recall"].items()
        for part, rate in parts.items()
        if rate["value"] is not None
    ]
    table(f"recall, {metrics['split']} split", ("condition", "recordings", "recall [95 %]"), rows)
    rates = [(name, EventRate(**rate)) for name, rate in named_rates(figures["fa_per_hour"])]
    table("false accepts an hour", ("audio", "rate [95 %]"), rates)
    checked = metrics["detector_check"]
    console.print(
        f"{checked['recordings']} recordings ({checked['steps']:,} steps) went through the detector as well: "
        f"{checked['differences']} differences",
        soft_wrap=True,
    )
