"""`edgewake ablate`: does a teacher help? Baseline against distillation over seeds, everything else equal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from edgewake.config import WakewordConfig, yaml_text
from edgewake.config.defaults import TeacherArchitecture
from edgewake.console import error_console
from edgewake.errors import ConfigError
from edgewake.evaluation.checkpoints import RATES
from edgewake.experiments.plots import draw_ablation
from edgewake.experiments.tables import CONFIDENCE, METHOD, paired_difference, spread
from edgewake.experiments.trials import Condition, Trial, make_trials, run_trials, write_results
from edgewake.teachers.registry import load_teacher
from edgewake.training.runs import flatten, load_run
from edgewake.training.teacher_fit import has_teacher, make_teacher

BASELINE, SCRATCH, ENSEMBLE = "baseline", "scratch", "ensemble"
ARCHITECTURES = [name for name in get_args(TeacherArchitecture) if name != ENSEMBLE]
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
    more seeds, shares or teachers can be added. A mistake in an argument is an error before any training.

    Args:
        teachers: see `parse_teacher`; none: one condition, the configuration's own distillation.
        seeds: how many, from `training.seed` on.
        fractions: values of `data.positive_fraction`.
        distilled: key=value for the distilled conditions only.
        splits: whose whole recordings every run is evaluated on.

    Returns what results.json in `out` holds; "failed" names trials that failed.
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
    summary = summarize(trials, conditions, fractions, splits)
    return write_results(trials, summary, out, config, command="ablate", draw=draw_ablation if plot else None)


def make_conditions(config: WakewordConfig, teachers: Sequence[str], distilled: Sequence[str]) -> list[Condition]:
    """The baseline, and one with the settings of `distilled` for each teacher (none: the configuration's own)."""
    config.override(list(distilled))  # checks keys and values
    assigned = (assignment.partition("=") for assignment in distilled)
    extra = {key.strip(): yaml_text.parse_scalar(text.strip()) for key, _, text in assigned}
    conditions = [Condition(BASELINE, {"distillation.enabled": False})]
    for condition in [parse_teacher(text) for text in teachers] or [configured(config)]:
        if condition.name in [known.name for known in conditions]:
            raise ConfigError(f"two conditions are called {condition.name!r}: name the teacher, as in other=whisper")
        conditions.append(Condition(condition.name, condition.settings | extra))
    return conditions


def configured(config: WakewordConfig) -> Condition:
    """Distillation as the configuration has it."""
    distillation = config.distillation
    members = distillation.teachers if distillation.teacher_architecture == ENSEMBLE else ()
    return Condition(_usual_name(distillation.teacher_architecture, members), {"distillation.enabled": True})


def parse_teacher(text: str) -> Condition:
    """A condition from the text of `--teacher`; whether files and members are there is found when it is loaded.

    - `whisper`: an architecture, with its usual weights;
    - `wav2vec2:runs/teacher/teacher.pt`: an architecture and its checkpoint;
    - `wav2vec2:scratch`: a small network of the architecture, trained on the run's own recordings;
    - `mine=runs/teacher/teacher.pt`: a checkpoint, whose architecture is stored in it, and a name for it;
    - `ensemble:whisper,word_embedding:other.pt`: members of either of the first two forms;
    - a name and `=` before any of them names the condition.
    """
    name, rest = text.split("=", 1) if "=" in text else ("", text)
    architecture, _, path = rest.partition(":")
    members: list[str] = []
    if architecture == ENSEMBLE:
        members, path = [member.strip() for member in path.split(",")], ""
        if len(members) < 2:
            raise ConfigError(f"--teacher {text}: an ensemble has two members or more, as in ensemble:whisper,wavlm")
    elif architecture not in ARCHITECTURES:
        if not Path(rest).is_file():
            raise ConfigError(
                f"--teacher {text}: {architecture!r} is neither a teacher's checkpoint nor an architecture "
                f"({', '.join(ARCHITECTURES)}); give ARCHITECTURE, ARCHITECTURE:PATH, ARCHITECTURE:scratch, NAME=PATH "
                "or ensemble:MEMBER,MEMBER"
            )
        architecture, path = load_teacher(Path(rest)).architecture, rest
    settings: dict[str, Any] = {
        "distillation.enabled": True,
        "distillation.teacher_model_path": "" if path == SCRATCH else path,
        "distillation.teacher_name": "",
        "distillation.teachers": members,
        "distillation.teacher_architecture": architecture,
    }
    if path == SCRATCH:
        settings["teacher.from_scratch"] = True
    return Condition(name or _usual_name(architecture, members), settings)


def _usual_name(architecture: str, members: Sequence[str]) -> str:
    return "+".join(member.partition(":")[0] for member in members) or architecture


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
            values, base = ({seed: float(each[name]) for seed, each in runs.items()} for runs in (ours, theirs))
            figures[name] = spread(list(values.values())) | {"values": {str(seed): v for seed, v in values.items()}}
            difference = paired_difference(base, values) if condition.name != BASELINE else None
            if difference:
                figures[name]["difference"] = difference
        rows.append(about | {"figures": figures})
        if had := [each["teacher"] for each in ours.values() if each.get("teacher")]:
            # Runs of several seeds may share a fit; F1 is known of those that a run fitted.
            fits = {teacher.get("head_fingerprint", teacher["source"]): teacher for teacher in had}
            scores = [each["figures"]["val"]["f1"] for each in fits.values() if each.get("figures", {}).get("val")]
            record = {"source": had[0]["source"], "fits": len(fits), "val_f1": spread(scores) if scores else None}
            teachers.append(about | record)
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
    versions, data = {run.versions.get("code") for run in runs}, {run.data for run in runs if run.data}
    for what, found in (("versions of edgewake's code", versions), ("states of the recordings", data)):
        if len(found) > 1:
            texts.append(f"trials were trained on {len(found)} {what}: differences may come from that")
    return texts
