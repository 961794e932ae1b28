"""`edgewake sweep`: every combination of listed settings is trained, and one table says which did best."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig, yaml_text
from edgewake.errors import ConfigError
from edgewake.experiments.markdown import write_sweep
from edgewake.experiments.points import Outcome, Point, file_name, run_points
from edgewake.experiments.statistics import spread
from edgewake.io import write_json
from edgewake.training.runs import Status, code_version, record_run

_CLOSING = {"[": "]", "{": "}", "(": ")"}


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes, as they were written."""

    key: str
    values: tuple[str, ...]


def split_values(text: str) -> list[str]:
    """The values of a list: commas separate them, except within brackets or quotes.

    Raises:
        ConfigError: a value is empty, or a bracket or quote is not closed.
    """
    values, begin = [], 0
    open_brackets: list[str] = []
    quote = ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and (open_brackets or not text[begin:index].strip()):
            quote = char
        elif char in _CLOSING:
            open_brackets.append(_CLOSING[char])
        elif open_brackets and char == open_brackets[-1]:
            open_brackets.pop()
        elif char == "," and not open_brackets:
            values.append(text[begin:index])
            begin = index + 1
    values.append(text[begin:])
    values = [value.strip() for value in values]
    if quote or open_brackets:
        raise ConfigError(f"{text!r}: {(quote or open_brackets[-1])!r} is missing at the end")
    if not all(values):
        raise ConfigError(f"{text!r}: a value is empty; write values as in 0.3,0.5 or [3,3],[5,5]")
    return values


def parse_axes(config: WakewordConfig, assignments: Sequence[str]) -> list[Axis]:
    """The axes of a sweep; each value is tried on `config`, so that a mistake is told before any training.

    Raises:
        ConfigError: not KEY=VALUE, an unknown key, a key twice, or a value that the key cannot have.
    """
    axes: list[Axis] = []
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ConfigError(f"{assignment!r} is not KEY=VALUE,VALUE, e.g. distillation.alpha=0.3,0.5")
        if any(axis.key == key for axis in axes):
            raise ConfigError(f"{key} is given twice; put all its values into one list")
        values = split_values(text)
        for value in values:
            config.model_copy(deep=True).set(key, yaml_text.parse_scalar(value))
        axes.append(Axis(key, tuple(dict.fromkeys(values))))
    if not any(len(axis.values) > 1 for axis in axes):
        raise ConfigError("nothing varies: give a key several values, e.g. --set distillation.alpha=0.3,0.5,0.7")
    return axes


def combinations(axes: Sequence[Axis]) -> list[dict[str, str]]:
    """Every combination, the last axis changing fastest: key to value as written."""
    return [
        dict(zip((axis.key for axis in axes), values, strict=True))
        for values in itertools.product(*(axis.values for axis in axes))
    ]


def make_points(config: WakewordConfig, axes: Sequence[Axis], seeds: int) -> tuple[list[Point], list[dict[str, Any]]]:
    """All points, and those whose settings do not fit together, which no training can answer."""
    points, refused = [], []
    for number in range(seeds):
        for combination in combinations(axes):
            changed = config.model_copy(deep=True)
            for key, value in combination.items():
                changed.set(key, yaml_text.parse_scalar(value))
            changed.training.seed = changed.training.seed + number
            about = {"settings": combination, "seed": changed.training.seed}
            name = point_name(axes, combination, changed.training.seed)
            try:
                changed.check()
            except ConfigError as error:
                refused.append(
                    {"name": name, **about, "status": "failed", "figures": {}, "log": "", "error": str(error)}
                )
                continue
            points.append(Point(name, changed, about))
    return points, refused


def point_name(axes: Sequence[Axis], combination: dict[str, str], seed: int) -> str:
    """A folder's name that people can read, and that a longer list of values does not change."""
    parts = [f"{axis.key.rpartition('.')[2]}={combination[axis.key]}" for axis in axes if len(axis.values) > 1]
    key = hashlib.sha256(json.dumps([combination, seed], sort_keys=True).encode()).hexdigest()[:8]
    return file_name(f"{'-'.join(parts)[:80]}-seed{seed}-{key}")


def sweep(
    config: WakewordConfig,
    out: Path,
    assignments: Sequence[str],
    *,
    seeds: int = 1,
    jobs: int = 1,
    splits: Sequence[str] = ("val",),
) -> dict[str, Any]:
    """Train every combination of the listed values, with every seed.

    Finished points are kept, so the same call goes on after an interruption, and lists can be made longer.
    A point that fails is named in the result and ends nothing.

    Args:
        assignments: KEY=VALUE,VALUE; a single value is the same for all points.
        seeds: how many, from `training.seed` on.
        splits: whose whole recordings every run is judged on.

    Returns:
        What results.json holds: "rows" by score, best first; "failed".

    Raises:
        ConfigError: a key or value is wrong; nothing was trained.
    """
    out = Path(out)
    axes = parse_axes(config, assignments)
    points, refused = make_points(config, axes, seeds)
    outcomes = run_points(points, out, config, command="sweep", jobs=jobs, splits=splits, tell=tell)
    results = summarize(outcomes, refused, axes, splits)
    results |= {"name": config.config_name, "config": config.hash()}
    write_json(out / "results.json", results)

    write_sweep(results, out / "results.md")
    failed = len(results["failed"])
    status: Status = "failed" if failed else "finished"
    best = results["rows"][0]["score"]["mean"] if results["rows"] else None
    record_run(out, config, None, status, command="sweep", failed_points=failed, best_score=best)
    return results


def tell(outcome: Outcome) -> str:
    """A finished point in a few words."""
    return f"score {outcome.figures['score']:.4f}  F1 {outcome.figures['f1']:.1%}"


def summarize(
    outcomes: Sequence[Outcome],
    refused: Sequence[dict[str, Any]],
    axes: Sequence[Axis],
    splits: Sequence[str],
) -> dict[str, Any]:
    """One row a combination, best mean score first; those without a finished point come last."""
    rows = []
    for combination in combinations(axes):
        ours = [o for o in outcomes if o.point.about["settings"] == combination and o.status == "finished"]
        row: dict[str, Any] = {"settings": combination, "seeds": [o.point.about["seed"] for o in ours]}
        if ours:
            row["score"] = spread([o.figures["score"] for o in ours]).json()
            row["f1"] = spread([o.figures["f1"] for o in ours]).json()
            for split in splits:
                recalls = [o.figures["splits"][split]["recall_mean"] for o in ours]
                row[f"{split}.recall_mean"] = spread(recalls).json()
        rows.append(row)
    rows.sort(key=lambda row: -row["score"]["mean"] if "score" in row else float("inf"))
    points = [*(outcome.json() for outcome in outcomes), *refused]
    return {
        "kind": "sweep",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(code_version()),
        "axes": [{"key": axis.key, "values": list(axis.values)} for axis in axes],
        "splits": list(splits),
        "rows": [row for row in rows if "score" in row],
        "failed": [point for point in points if point["status"] != "finished"],
        "points": points,
    }
