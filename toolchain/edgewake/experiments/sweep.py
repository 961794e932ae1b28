"""`edgewake sweep`: every combination of listed settings is trained, and one table ranks them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig, yaml_text
from edgewake.errors import ConfigError
from edgewake.experiments.tables import spread
from edgewake.experiments.trials import Condition, Trial, file_name, make_trials, run_trials, write_results

Axes = Mapping[str, Sequence[Any]]


def sweep(
    config: WakewordConfig, out: Path, assignments: Sequence[str], *, seeds: int, jobs: int, splits: Sequence[str]
) -> dict[str, Any]:
    """Train every combination of the listed values, with every seed.

    Finished trials are kept, so the same call continues after an interruption, and lists can be made longer.
    A trial that fails ends nothing. `assignments` are KEY=VALUE,VALUE, where a single value is the same for all trials.
    Returns what results.json holds: "rows" by score, best first; "failed".
    """
    axes = parse_axes(config, assignments)
    conditions = combinations(axes)
    trials = make_trials(config, conditions, out, seeds)
    run_trials(trials, out, config, command="sweep", jobs=jobs, splits=splits)
    summary = summarize(trials, conditions, axes, splits)
    best = summary["rows"][0]["score"]["mean"] if summary["rows"] else None
    return write_results(trials, summary, out, config, command="sweep", best_score=best)


def parse_axes(config: WakewordConfig, assignments: Sequence[str]) -> dict[str, list[Any]]:
    """Each key with its values; every value is tried on `config`, so that a mistake is found before any training."""
    axes: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ConfigError(f"{assignment!r} is not KEY=VALUE,VALUE, e.g. distillation.alpha=0.3,0.5")
        if key in axes:
            raise ConfigError(f"{key} is given twice; put all its values into one list")
        try:
            values = yaml_text.parse_scalar(f"[{text}]")
        except ConfigError as error:
            raise ConfigError(f"{assignment}: {error}; write values as in 0.3,0.5 or [3,3],[5,5]") from None
        for value in values:
            config.model_copy(deep=True).set(key, value)
        axes[key] = [value for index, value in enumerate(values) if value not in values[:index]]
    if not any(len(values) > 1 for values in axes.values()):
        raise ConfigError("nothing varies: give a key several values, e.g. --set distillation.alpha=0.3,0.5,0.7")
    return axes


def combinations(axes: Axes) -> list[Condition]:
    """Every combination, the last key changing fastest; a longer list of values changes no name."""
    found = []
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        parts = [f"{key.rpartition('.')[2]}={settings[key]}" for key in axes if len(axes[key]) > 1]
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        found.append(Condition(file_name(f"{'-'.join(parts)[:80]}-{key}"), settings))
    return found


def summarize(
    trials: Sequence[Trial], conditions: Sequence[Condition], axes: Axes, splits: Sequence[str]
) -> dict[str, Any]:
    """One row a combination with a finished trial, best mean score first."""
    rows = []
    for condition in conditions:
        ours = [t for t in trials if t.about["condition"] == condition.name and t.status == "finished"]
        if ours:
            row: dict[str, Any] = {"settings": condition.settings, "seeds": [t.about["seed"] for t in ours]}
            row |= {name: spread([t.figures[name] for t in ours]) for name in ("score", "f1")}
            for split in splits:
                row[f"{split}.recall_mean"] = spread([t.figures["splits"][split]["recall_mean"] for t in ours])
            rows.append(row)
    rows.sort(key=lambda row: -row["score"]["mean"])
    listed = [{"key": key, "values": list(values)} for key, values in axes.items()]
    return {"kind": "sweep", "axes": listed, "splits": list(splits), "rows": rows}
