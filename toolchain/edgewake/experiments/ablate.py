"""`edgewake ablate`: does a teacher help? Baseline against distillation over seeds, everything else equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.errors import ConfigError
from edgewake.evaluation.checkpoints import RATES
from edgewake.experiments.conditions import BASELINE, Condition, baseline, configured, distinct, parse_teacher
from edgewake.experiments.markdown import write_ablation
from edgewake.experiments.plots import draw_ablation
from edgewake.experiments.statistics import CONFIDENCE, METHOD, paired_difference, spread
from edgewake.experiments.trials import Trial, made_by, make_trials, run_trials
from edgewake.io import write_json
from edgewake.training.run_teacher import has_teacher, make_teacher
from edgewake.training.runs import Status, load_run, record_run

# Settings by which conditions may differ without leaving the question.
_TEACHING = ("distillation.", "teacher.")


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
    results = summarize(trials, conditions, fractions, splits) | made_by(config)
    write_json(out / "results.json", results)
    failed = len(results["failed"])
    pictures = draw_ablation(results, out) if plot and failed < len(trials) else []
    write_ablation(results, out / "results.md", pictures)
    status: Status = "failed" if failed else "finished"
    record_run(out, config, None, status, command="ablate", trials=len(trials), failed_trials=failed)
    return results


def make_conditions(config: WakewordConfig, teachers: Sequence[str], distilled: Sequence[str]) -> list[Condition]:
    """The baseline, and a condition for each teacher with the settings of `distilled`."""
    chosen = [parse_teacher(text) for text in teachers] or [configured(config)]
    extra: dict[str, Any] = {}
    for assignment in distilled:
        changed: Any = config.override([assignment])
        key = assignment.partition("=")[0].strip()
        for name in key.split("."):
            changed = getattr(changed, name)
        extra[key] = changed
    return distinct([baseline(), *(Condition(c.name, c.settings | extra) for c in chosen)])


def figures_of(trial: Trial, splits: Sequence[str]) -> dict[str, float]:
    """A finished trial's figures, in the order of tables: f1, val.recall_mean, val.recall_clean_at_0.5, ..."""
    each = ["recall_mean", *(f"recall_{kind}_at_{rate:g}" for rate in RATES for kind in ("clean", "noisy"))]
    flat = {"f1": float(trial.figures["f1"])}
    for split in splits:
        found = trial.figures["splits"].get(split, {})
        flat |= {f"{split}.{name}": float(found[name]) for name in each if name in found}
    return flat


def summarize(
    trials: Sequence[Trial], conditions: Sequence[Condition], fractions: Sequence[float], splits: Sequence[str]
) -> dict[str, Any]:
    """Means, spreads and paired differences of every condition, share and figure, and what to beware of."""
    finished = [trial for trial in trials if trial.status == "finished"]
    values: dict[tuple[str, float], dict[int, dict[str, float]]] = {}
    for trial in finished:
        place = trial.about["condition"], trial.about["fraction"]
        values.setdefault(place, {})[trial.about["seed"]] = figures_of(trial, splits)
    rows = []
    for fraction in fractions:
        reference = values.get((BASELINE, fraction), {})
        for condition in conditions:
            found = values.get((condition.name, fraction), {})
            names = dict.fromkeys(name for figures in found.values() for name in figures)
            figures = {name: _cell(name, found, reference, condition.name != BASELINE) for name in names}
            rows.append({"condition": condition.name, "fraction": fraction, "figures": figures})
    return {
        "kind": "ablation",
        "seeds": sorted({trial.about["seed"] for trial in trials}),
        "fractions": list(fractions),
        "splits": list(splits),
        "conditions": [asdict(condition) for condition in conditions],
        "measured_on": _measured_on(finished, splits),
        "teachers": _teachers(finished),
        "confidence": CONFIDENCE,
        "method": METHOD,
        "summary": rows,
        "warnings": _warnings(finished, conditions),
        "failed": [trial.json() for trial in trials if trial.status != "finished"],
        "trials": [trial.json() for trial in trials],
    }


def _cell(
    name: str, found: Mapping[int, Mapping[str, float]], reference: Mapping[int, Mapping[str, float]], paired: bool
) -> dict[str, Any]:
    """One figure of one condition: its spread over seeds, and its differences to the baseline."""
    ours, theirs = ({s: figures[name] for s, figures in of.items() if name in figures} for of in (found, reference))
    cell = spread(list(ours.values())) | {"values": {str(seed): value for seed, value in ours.items()}}
    difference = paired_difference(theirs, ours) if paired else None
    return cell | ({"difference": difference} if difference else {})


def _measured_on(finished: Sequence[Trial], splits: Sequence[str]) -> dict[str, Any]:
    """Of each split: recordings of the phrase, hours of everything else, and accepted events by rate."""
    found = {}
    for split in splits:
        on = next((trial.figures["splits"][split] for trial in finished if split in trial.figures["splits"]), None)
        if on is not None:
            accepts = {f"{rate:g}": int(rate * on["hours"]) for rate in RATES}
            found[split] = {"recordings": on["recordings"], "hours": on["hours"], "accepts": accepts}
    return found


def _teachers(finished: Sequence[Trial]) -> list[dict[str, Any]]:
    """Teachers by condition and share: source, how many fits, and their own F1 where a run fitted them."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for trial in finished:
        teacher = trial.figures.get("teacher")
        if teacher is not None:
            groups.setdefault((trial.about["condition"], trial.about["fraction"]), []).append(teacher)
    rows = []
    for (condition, fraction), found in groups.items():
        fits = {teacher.get("head_fingerprint", teacher["source"]): teacher for teacher in found}
        scores = [each["figures"]["val"]["f1"] for each in fits.values() if each.get("figures", {}).get("val")]
        row = {"condition": condition, "fraction": fraction, "source": found[0]["source"], "fits": len(fits)}
        rows.append(row | {"val_f1": spread(scores) if scores else None})
    return sorted(rows, key=lambda row: -float(row["fraction"]))


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
