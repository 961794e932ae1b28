"""`edgewake teacher`: fit a teacher to the phrase, and measure it on clips and on whole recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.config import WakewordConfig
from edgewake.config.presets import load_config
from edgewake.console import error_console, table
from edgewake.data.manifest import Split
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.errors import EdgewakeError
from edgewake.evaluation.checkpoints import RATES, CheckpointEvaluator
from edgewake.evaluation.clips import WORTHWHILE, advise, clip_probabilities, f1_score
from edgewake.evaluation.trained_scorers import ClipModel, ClipScorer
from edgewake.io import check_output_folder, read_json, write_json
from edgewake.teachers.base import Teacher, device_of, parameters_of
from edgewake.teachers.registry import load_teacher, save_teacher, teacher_from_config
from edgewake.training.distributed import device_for
from edgewake.training.runs import RUN_FILES, record_run, recorded_run
from edgewake.training.teacher_fit import TEACHER, describe, fitted, make_teacher
from edgewake.training.teacher_outputs import TeacherCache

RESULT = "result.json"


def default_folder(name: str) -> Path:
    """Where the teacher of a configuration goes; `runs/<name>` is the student's."""
    return Path("runs") / f"{name}-teacher"


def train_teacher(config: WakewordConfig, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Fit the teacher of `config` to the phrase, into `out`; with `resume` return the result where it is finished.

    Writes config.yaml, run.json, scan.json, teacher.pt and result.json, which is returned. Embeddings and the state of
    the fit lie in the cache, from which the same command continues after an interruption.
    """
    config = config.freeze()
    if (out / TEACHER).exists() and not resume:
        raise EdgewakeError(f"{out} holds a teacher already: add --resume for its result, or choose another --out")
    if (out / TEACHER).exists() and (out / RESULT).exists():
        done: dict[str, Any] = read_json(out / RESULT, "result")
        return done
    check_output_folder(out, RUN_FILES, "teacher's training")
    config.save(out / "config.yaml")
    with recorded_run(out, config, command="teacher") as figures:
        teacher = make_teacher(config).to(device_for(config))
        manifest = usable_corpus(config, out)
        record_run(out, config, manifest, "running", command="teacher")
        train, val = (build_store(manifest, split, config, audio=True) for split in ("train", "val"))
        assert val.audio is not None
        clips = {"train": len(train), "val": len(val)}
        error_console.print(
            f"teacher {teacher.architecture} ({teacher.source})   train: {len(train)} clips "
            f"({int(train.labels.sum())} of the phrase)   val: {len(val)} clips ({int(val.labels.sum())})",
            soft_wrap=True,
        )
        fit: dict[str, Any] = {}
        try:
            if not teacher.head_trained:
                teacher, fit = fitted(teacher, config, train, val)
            found = f1_score(clip_score(teacher, config)(np.asarray(val.audio[:])), val.labels)
        except KeyboardInterrupt:
            error_console.print("interrupted: the same command continues from what the cache keeps")
            raise
        save_teacher(teacher, out / TEACHER)
        result = describe(teacher) | {"parameters": parameters_of(teacher), "teacher": str(out / TEACHER)}
        result |= {"clips": clips, "figures": fit | {"val": found}}
        write_json(out / RESULT, result)
        figures |= {"best_f1": found["f1"], "accuracy": found["accuracy"]}
    advise(found["accuracy"])
    return result


def open_teacher(source: str, assignments: tuple[str, ...] = ()) -> tuple[Teacher, WakewordConfig | None, Path]:
    """A fitted teacher, the configuration that names it, with `assignments` (None for a file or run), and its folder.

    `source` is a teacher.pt, a folder of `teacher train`, a run with a teacher, or a configuration: its
    `distillation.teacher_model_path`, or what `teacher train` left in its usual folder.
    """
    place = Path(source)
    for file in [place] if place.suffix == ".pt" else [place / TEACHER, place / "teacher" / TEACHER]:
        if file.is_file():
            return load_teacher(file), None, file.parent
    if place.suffix == ".pt" or place.is_dir():
        raise EdgewakeError(
            f"no teacher at {place}: give a teacher.pt, the folder of edgewake teacher train, a run with a teacher, "
            "or a configuration"
        )
    config, name = load_config(source, assignments)
    folder = default_folder(name)
    if not config.distillation.teacher_model_path and (folder / TEACHER).is_file():
        return load_teacher(folder / TEACHER), config, folder
    teacher = teacher_from_config(config)
    if not teacher.head_trained:
        raise EdgewakeError(
            f"the head of teacher {teacher.architecture} is not fitted to a phrase yet: run edgewake teacher "
            f"train first (into {folder}), or set distillation.teacher_model_path"
        )
    return teacher, config, folder


def settings_of(folder: Path) -> WakewordConfig:
    """The settings that the teacher.pt of a folder was fitted with: there, or in the run that keeps the folder."""
    for place in (folder, folder.resolve().parent):
        if (place / "config.yaml").is_file():
            return WakewordConfig.load(place / "config.yaml")
    raise EdgewakeError(
        f"no config.yaml beside {folder / TEACHER}, to say which recordings to evaluate it on: copy the one of its "
        "training there, or name a configuration whose distillation.teacher_model_path is this file"
    )


def evaluate_teacher(teacher: Teacher, config: WakewordConfig, out: Path, split: Split) -> dict[str, Any]:
    """Measure a teacher on clips at probability 0.5, and on the whole recordings on which students are measured.

    Returns what `out`/evaluation-<split>.json holds; for "recordings" see `recording_figures`.
    """
    config = config.freeze()
    teacher = teacher.freeze().to(device_for(config))
    manifest = usable_corpus(config, out)
    store = build_store(manifest, split, config, audio=True)
    _, figures = teacher_figures(teacher, config, store, CheckpointEvaluator(manifest, config, split))
    accuracy = figures["clips"]["accuracy"]
    known = {"parameters": parameters_of(teacher), "split": split, "worthwhile": accuracy >= WORTHWHILE}
    result = describe(teacher) | known | figures
    write_json(out / f"evaluation-{split}.json", result)
    advise(accuracy)
    return result


def teacher_figures(
    teacher: Teacher, config: WakewordConfig, store: FeatureStore, evaluator: CheckpointEvaluator
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """A teacher's probability of every clip of a store, (clips,), and its figures on "clips" and "recordings"."""
    assert store.audio is not None
    score = clip_score(teacher, config)
    found = score(np.asarray(store.audio[:]))
    recordings = evaluator.figures(ClipScorer(score, config))
    return found, {"clips": f1_score(found, store.labels), "recordings": recordings}


def clip_score(teacher: Teacher, config: WakewordConfig) -> ClipModel:
    """What gives a teacher's probabilities of clips, through the cache of embeddings where there is one."""
    if not config.distillation.store_outputs:
        return lambda audio: clip_probabilities(teacher.eval(), audio, device_of(teacher))
    cache = TeacherCache(teacher, config.cache.open())
    return lambda audio: cache.outputs(audio).logits.softmax(dim=1)[:, 1].numpy()


def print_training(result: dict[str, Any]) -> None:
    """Show what `train_teacher` returned."""
    val = result["figures"]["val"]
    rows = [(name, result[name]) for name in ("teacher", "architecture", "source", "parameters")]
    rows += [(f"val {name}", f"{val[name]:.4f}") for name in ("accuracy", "precision", "recall", "f1")]
    table("teacher", ("what", "value"), rows)


def figure_rows(*results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of a table: names, and figures on clips and recordings of each result."""
    rows = [
        (f"clips: {name}", *(f"{one['clips'][name]:.3f}" for one in results))
        for name in ("f1", "accuracy", "precision", "recall")
    ]
    keys = {f"{kind} recall at {rate:g} FA/h": f"{kind}_at_{rate:g}" for rate in RATES for kind in ("clean", "noisy")}
    for name, key in {**keys, "mean recall": "mean"}.items():
        rows.append((f"recordings: {name}", *(f"{one['recordings'][f'recall_{key}']:.1%}" for one in results)))
    return rows


def print_evaluation(result: dict[str, Any]) -> None:
    """Show what `evaluate_teacher` returned."""
    recordings = result["recordings"]
    rows = [*((name, result[name]) for name in ("architecture", "source")), *figure_rows(result)]
    rows.append(("counted on", f"{recordings['recordings']:g} recordings, {recordings['hours']:.2f} h"))
    rows.append(("accuracy is at least 80 %", "yes" if result["worthwhile"] else "no: it may not help a student"))
    table(f"teacher on {result['split']}", ("what", "value"), rows)
