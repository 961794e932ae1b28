"""`edgewake ablate`: does a teacher help? Baseline against distillation over seeds, everything else equal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.errors import ConfigError
from edgewake.evaluation.checkpoints import RATES
from edgewake.experiments.conditions import BASELINE, Condition, make_conditions
from edgewake.experiments.plots import draw_ablation
from edgewake.experiments.statistics import CONFIDENCE, METHOD, paired_difference, spread
from edgewake.experiments.tables import write_tables
from edgewake.experiments.trials import Trial, make_trials, run_trials, write_results
from edgewake.training.runs import flatten, load_run
from edgewake.training.teacher_fit import has_teacher, make_teacher

# Settings by which conditions may differ without leaving the question.
_TEACHING = ("distillation.", "teacher.")
# Of each split: the mean, then "recall_clean_at_0.5" and so on.
_RECALLS = ("recall_mean", *(f"recall_{kind}_at_{rate:g}" for rate in RATES for kind in ("clean", "noisy")))


def ablate(
    config: WakewordConfig,
    out: Path,
    *,
    teachers: Sequence[str] = (),
    seeds: int = 5,
    fractions: Sequence[float] = (1.0,),
    distilled: Sequence[str] = (),
    splits: Sequence[str] = ("val",),
    jobs: int = 1,
    plot: bool = True,
) -> dict[str, Any]:
    """Train every condition with every seed on every share of the phrase's recordings, and compare.

    Trials that are finished already in `out` are kept, so the same call continues after an interruption, and
    more seeds, shares or teachers can be added.

    Args:
        config: of the baseline and, but for the teacher, of every condition.
        out: folder for trials, results.json, results.md and plots.
        teachers: see `parse_teacher`; none: one condition, the configuration's own distillation.
        seeds: how many, from `training.seed` on.
        fractions: values of `data.positive_fraction`.
        distilled: key=value for the distilled conditions only.
        splits: whose whole recordings every run is evaluated on.
        jobs: trainings at a time.
        plot: draw PNG pictures (needs matplotlib).

    Returns:
        What results.json holds. "failed" names trials that failed.

    Raises:
        ConfigError: a teacher, key or value is wrong; nothing was trained.
    """
    conditions = make_conditions(config, teachers, distilled)
    fractions = sorted(set(fractions), reverse=True)
    trials = make_trials(config, conditions, out, seeds, fractions)
    for trial in trials[: len(conditions)]:
        if trial.error:
            raise ConfigError(trial.error)
        if has_teacher(trial.config):
            # Without it nothing can be compared, and all baselines would be trained in vain.
            make_teacher(trial.config)
    if seeds < 2:
        error_console.print("one seed gives no interval: differences may be chance; use --seeds 5 or more")
    run_trials(trials, out, config, command="ablate", jobs=jobs, splits=splits)
    results = write_results(trials, summarize(trials, conditions, fractions, splits), out, config, command="ablate")
    drawn = plot and len(results["failed"]) < len(trials)
    write_tables(results, out / "results.md", draw_ablation(results, out) if drawn else {})
    return results


def summarize(
    trials: Sequence[Trial], conditions: Sequence[Condition], fractions: Sequence[float], splits: Sequence[str]
) -> dict[str, Any]:
    """Means, spreads and paired differences of every condition, share and figure, and what to beware of.

    Figures are named f1, val.recall_mean, val.recall_clean_at_0.5, ..., and are in the order of tables.
    """
    finished = [trial for trial in trials if trial.status == "finished"]
    names = ["f1", *(f"{split}.{name}" for split in splits for name in _RECALLS)]
    # Condition and share to seed to figures.
    found: dict[tuple[str, float], dict[int, dict[str, Any]]] = {}
    for trial in finished:
        place = trial.about["condition"], trial.about["fraction"]
        found.setdefault(place, {})[trial.about["seed"]] = trial.figures | flatten(trial.figures["splits"])
    rows, teachers = [], []
    for fraction, condition in itertools.product(fractions, conditions):
        about = {"condition": condition.name, "fraction": fraction}
        ours, theirs = (found.get((name, fraction), {}) for name in (condition.name, BASELINE))
        figures: dict[str, dict[str, Any]] = {}
        for name in names if ours else ():
            values = {seed: float(each[name]) for seed, each in ours.items()}
            figures[name] = spread(list(values.values())) | {"values": {str(seed): v for seed, v in values.items()}}
            difference = paired_difference({seed: float(each[name]) for seed, each in theirs.items()}, values)
            if difference and condition.name != BASELINE:
                figures[name]["difference"] = difference
        rows.append(about | {"figures": figures})
        if had := [each["teacher"] for each in ours.values() if each.get("teacher")]:
            teachers.append(about | _teacher(had))
    return {
        "kind": "ablation",
        "seeds": sorted({trial.about["seed"] for trial in trials}),
        "fractions": list(fractions),
        "splits": list(splits),
        "conditions": [asdict(condition) for condition in conditions],
        "measured_on": {split: _measured_on(finished[0].figures["splits"][split]) for split in splits if finished},
        "teachers": teachers,
        "confidence": CONFIDENCE,
        "method": METHOD,
        "summary": rows,
        "warnings": _warnings(finished, conditions),
    }


def _teacher(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The teachers of a condition: source, how many fits, and their own F1 where a run fitted them."""
    fits = {teacher.get("head_fingerprint", teacher["source"]): teacher for teacher in found}
    scores = [each["figures"]["val"]["f1"] for each in fits.values() if each.get("figures", {}).get("val")]
    return {"source": found[0]["source"], "fits": len(fits), "val_f1": spread(scores) if scores else None}


def _measured_on(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Recordings of the phrase, hours of everything else, and accepted events by rate, of a split."""
    accepts = {f"{rate:g}": int(rate * figures["hours"]) for rate in RATES}
    return {"recordings": figures["recordings"], "hours": figures["hours"], "accepts": accepts}


def _warnings(finished: Sequence[Trial], conditions: Sequence[Condition]) -> list[str]:
    """What would make conditions differ by more than the teacher."""
    texts = []
    for condition in conditions[1:]:
        others = [key for key in condition.settings if not key.startswith(_TEACHING)]
        if others:
            texts.append(f"{condition.name} differs from the baseline in {', '.join(others)} too")
    runs = [load_run(trial.folder) for trial in finished if (trial.folder / "run.json").exists()]
    for what, found in (
        ("versions of edgewake's code", {run.versions.get("code") for run in runs}),
        ("states of the recordings", {run.data for run in runs if run.data}),
    ):
        if len(found) > 1:
            texts.append(f"trials were trained on {len(found)} {what}: differences may come from that")
    return texts
