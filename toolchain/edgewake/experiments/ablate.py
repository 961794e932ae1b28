"""`edgewake ablate`: does a teacher help? Baseline against distillation over seeds, everything else equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.errors import ConfigError
from edgewake.evaluation.checkpoints import RATES
from edgewake.experiments.conditions import BASELINE, Condition, baseline, configured, distinct, parse_teacher
from edgewake.experiments.markdown import write_ablation
from edgewake.experiments.plots import draw_ablation
from edgewake.experiments.points import Outcome, Point, file_name, run_points
from edgewake.experiments.statistics import CONFIDENCE, METHOD, paired_difference, spread
from edgewake.io import write_json
from edgewake.training.runs import code_version, load_run, record_run
from edgewake.training.signals import has_teacher, make_teacher

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

    Points that are finished already in `out` are kept, so the same call goes on after an interruption, and
    more seeds, shares or teachers can be added.

    Args:
        config: of the baseline and, but for the teacher, of every condition.
        out: folder for points, results.json, results.md and plots.
        teachers: see `parse_teacher`; none: one condition, as the configuration's distillation says.
        seeds: how many, from `training.seed` on.
        fractions: values of `data.positive_fraction`.
        distilled: key=value for the distilled conditions only.
        splits: whose whole recordings every run is judged on.
        jobs: trainings at a time.
        plot: draw PNG pictures (needs matplotlib).

    Returns:
        What results.json holds. "failed" names points that failed.

    Raises:
        ConfigError: a teacher, key or value is wrong; nothing was trained.
    """
    out = Path(out)
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least one")
    conditions = _conditions(config, teachers, distilled)
    fractions = sorted(set(fractions), reverse=True)
    points = make_points(config, conditions, seeds, fractions)
    for point in points[: len(conditions)]:
        if has_teacher(point.config):
            # Without it nothing can be compared, and all baselines would be trained in vain.
            make_teacher(point.config)
    if seeds < 2:
        error_console.print("one seed gives no interval: differences may be chance; --seeds 5 or more tells")
    outcomes = run_points(points, out, config, command="ablate", jobs=jobs, splits=splits, tell=tell)
    results = summarize(outcomes, conditions, fractions, splits)
    results["name"] = config.config_name
    results["config"] = config.hash()
    write_json(out / "results.json", results)
    pictures = []
    if plot and any(outcome.status == "finished" for outcome in outcomes):
        pictures = draw_ablation(results, out)

    write_ablation(results, out / "results.md", pictures)
    failed = len(results["failed"])
    record_run(
        out,
        config,
        None,
        "failed" if failed else "finished",
        command="ablate",
        points=len(points),
        failed_points=failed,
    )
    return results


def _conditions(config: WakewordConfig, teachers: Sequence[str], distilled: Sequence[str]) -> list[Condition]:
    chosen = [parse_teacher(text) for text in teachers] or [configured(config)]
    extra: dict[str, Any] = {}
    for assignment in distilled:
        key = assignment.partition("=")[0].strip()
        changed = config.override([assignment])
        section, _, name = key.rpartition(".")
        extra[key] = getattr(getattr(changed, section) if section else changed, name)
    return distinct([baseline(), *(Condition(c.name, c.settings | extra) for c in chosen)])


def make_points(
    config: WakewordConfig, conditions: Sequence[Condition], seeds: int, fractions: Sequence[float]
) -> list[Point]:
    """All points, seed by seed, so that an ablation that is cut short has whole pairs.

    Raises:
        ConfigError: settings do not fit together.
    """
    points = []
    for seed in range(config.training.seed, config.training.seed + seeds):
        for fraction in fractions:
            for condition in conditions:
                changed = condition.apply(config)
                changed.training.seed = seed
                changed.data.positive_fraction = fraction
                changed.check()
                about = {"condition": condition.name, "fraction": fraction, "seed": seed}
                points.append(Point(file_name(f"{condition.name}-{fraction:g}-seed{seed}"), changed, about))
    return points


# ---- what came out -------------------------------------------------------------------------------


def figures_of(outcome: Outcome) -> dict[str, float]:
    """A finished point's figures by one name each: f1, val.recall_mean, val.recall_clean_at_0.5, ..."""
    flat = {"f1": float(outcome.figures["f1"]), "score": float(outcome.figures["score"])}
    for split, values in outcome.figures["splits"].items():
        flat |= {f"{split}.{name}": float(value) for name, value in values.items()}
    return flat


def figure_names(splits: Sequence[str]) -> list[str]:
    """Figures that are compared, in the order of tables."""
    each = ["recall_mean"]
    each += [f"recall_{kind}_at_{rate:g}" for rate in RATES for kind in ("clean", "noisy")]
    return ["f1", *(f"{split}.{name}" for split in splits for name in each)]


def tell(outcome: Outcome) -> str:
    """A finished point in a few words."""
    words = [f"F1 {outcome.figures['f1']:.1%}"]
    words += [f"{split} recall {values['recall_mean']:.1%}" for split, values in outcome.figures["splits"].items()]
    return "  ".join(words)


def summarize(
    outcomes: Sequence[Outcome],
    conditions: Sequence[Condition],
    fractions: Sequence[float],
    splits: Sequence[str],
) -> dict[str, Any]:
    """Means, spreads and paired differences of every condition, share and figure, and what to beware of."""
    values: dict[tuple[str, float], dict[int, dict[str, float]]] = {}
    for outcome in outcomes:
        about = outcome.point.about
        if outcome.status == "finished":
            place = values.setdefault((about["condition"], about["fraction"]), {})
            place[about["seed"]] = figures_of(outcome)
    rows = []
    for fraction in fractions:
        reference = values.get((BASELINE, fraction), {})
        for condition in conditions:
            found = values.get((condition.name, fraction), {})
            figures = {}
            for name in figure_names(splits):
                ours = {seed: each[name] for seed, each in found.items() if name in each}
                theirs = {seed: each[name] for seed, each in reference.items() if name in each}
                if ours:
                    figures[name] = _cell(ours, theirs if condition.name != BASELINE else None)
            rows.append({"condition": condition.name, "fraction": fraction, "figures": figures})
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    return {
        "kind": "ablation",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(code_version()),
        "seeds": sorted({outcome.point.about["seed"] for outcome in outcomes}),
        "fractions": list(fractions),
        "splits": list(splits),
        "conditions": [asdict(condition) for condition in conditions],
        "measured_on": _measured_on(finished, splits),
        "teachers": _teachers(finished),
        "confidence": CONFIDENCE,
        "method": METHOD,
        "summary": rows,
        "warnings": _warnings(finished, conditions),
        "failed": [outcome.json() for outcome in outcomes if outcome.status != "finished"],
        "points": [outcome.json() for outcome in outcomes],
    }


def _cell(ours: Mapping[int, float], theirs: Mapping[int, float] | None) -> dict[str, Any]:
    cell: dict[str, Any] = spread(list(ours.values())).json()
    cell["values"] = {str(seed): value for seed, value in ours.items()}
    difference = paired_difference(theirs, ours) if theirs is not None else None
    if difference is not None and theirs is not None:
        cell["difference"] = difference.json()
        cell["difference"]["values"] = {str(seed): ours[seed] - theirs[seed] for seed in theirs if seed in ours}
    return cell


def _measured_on(finished: Sequence[Outcome], splits: Sequence[str]) -> dict[str, Any]:
    """Of each split: recordings of the phrase, hours of everything else, and accepted events by rate."""
    found = {}
    for split in splits:
        judged = [o.figures["splits"][split] for o in finished if split in o.figures["splits"]]
        if judged:
            hours = judged[0]["hours"]
            found[split] = {
                "recordings": judged[0]["recordings"],
                "hours": hours,
                "accepts": {f"{rate:g}": int(rate * hours) for rate in RATES},
            }
    return found


def _teachers(finished: Sequence[Outcome]) -> list[dict[str, Any]]:
    """What teachers were, by condition and share: where from, how many fits, and their own F1."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for outcome in finished:
        about, teacher = outcome.point.about, outcome.figures.get("teacher")
        if teacher is not None:
            groups.setdefault((about["condition"], about["fraction"]), []).append(teacher)
    rows = []
    for (condition, fraction), found in groups.items():
        fits = {teacher.get("head_fingerprint", teacher["source"]): teacher for teacher in found}
        scores = [f1 for teacher in fits.values() if (f1 := _own_f1(teacher)) is not None]
        rows.append(
            {
                "condition": condition,
                "fraction": fraction,
                "source": found[0]["source"],
                "fits": len(fits),
                "val_f1": spread(scores).json() if scores else None,
            }
        )
    return sorted(rows, key=lambda row: -row["fraction"])


def _own_f1(teacher: Mapping[str, Any]) -> float | None:
    """A fitted teacher's F1 over validation clips; None where the run did not fit it."""
    value = teacher.get("figures", {}).get("val", {}).get("f1")
    return None if value is None else float(value)


def _warnings(finished: Sequence[Outcome], conditions: Sequence[Condition]) -> list[str]:
    """What would make conditions differ by more than the teacher."""
    said = []
    for condition in conditions[1:]:
        others = [key for key in condition.settings if not key.startswith(_TEACHING)]
        if others:
            said.append(f"{condition.name} differs from the baseline in {', '.join(others)} too")
    runs = [load_run(outcome.folder) for outcome in finished if (outcome.folder / "run.json").exists()]
    for what, found in (
        ("versions of edgewake's code", {run.versions.get("code") for run in runs}),
        ("states of the recordings", {run.data for run in runs if run.data}),
    ):
        if len(found) > 1:
            said.append(f"points were trained on {len(found)} {what}: differences may come from that")
    return said
