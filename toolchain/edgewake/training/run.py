"""`edgewake train`: from a configuration to a folder with the deployable model and all that led to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.data.clips import BalancedBatchSampler
from edgewake.data.manifest import CorpusManifest
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator
from edgewake.io import check_output_folder, write_json
from edgewake.teachers.base import OutputSource
from edgewake.training.checkpoint_manager import LAST, CheckpointManager
from edgewake.training.distillation_trainer import DistillationTrainer
from edgewake.training.distributed import device_for, launched_processes
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.runs import RUN_FILES, flatten, record_run, recorded_run
from edgewake.training.students import build_student, export, takes_audio
from edgewake.training.teacher_fit import RECORD, has_teacher, make_teacher, prepare_teacher
from edgewake.training.trainer import Trainer

# What may change while a run goes on: what decides only its speed, its name, and whether it is exported.
FREE = {f"training.{name}" for name in ("workers", "threads", "log_every", "checkpoint_steps")}
FREE |= {"config_name", "description", "distillation.store_outputs", "cache.folder", "cache.limit_gb"}
FREE |= {"evaluation.lowest_recall"}
VAL_BATCH = 256


class Prepared(NamedTuple):
    """Made before the first step: recordings, rendered clips, a teacher's outputs for `train`, and its record."""

    manifest: CorpusManifest
    train: FeatureStore
    val: FeatureStore
    source: OutputSource | None
    teacher: dict[str, Any] | None


def prepare(config: WakewordConfig, out: Path, *, resume: bool = False) -> Prepared:
    """Scan the recordings, render their clips, fit the teacher and compute its outputs.

    All of it lies in the cache afterwards, so that it costs next to nothing to call this again, from any
    number of processes; the main one goes first. `out`, the run's folder, gets scan.json, and teacher/ where there
    is one; with `resume` the teacher there is used.
    """
    main, made, kept = launched_processes().main, None, out / "teacher"
    if has_teacher(config) and not (resume and (kept / RECORD).exists()):
        # Before recordings are rendered for it: weights that cannot be had end the run here.
        made = make_teacher(config)
    manifest = usable_corpus(config, out if main else None)
    audio = has_teacher(config) or takes_audio(config)
    train, val = (build_store(manifest, split, config, audio=audio) for split in ("train", "val"))
    train.gives_audio = val.gives_audio = takes_audio(config)
    console.print(
        f"train: {len(train)} clips ({int(train.labels.sum())} of the phrase)   "
        f"val: {len(val)} clips ({int(val.labels.sum())})"
    )
    if has_teacher(config):
        return Prepared(manifest, train, val, *prepare_teacher(made, config, train, val, kept, write=main))
    students = config.distillation.teachers or (config.distillation.teacher_model_path,)
    source = ", ".join(filter(None, students)) or "the student's own running average"
    own = {"architecture": "self", "source": source} if config.distillation.enabled else None
    return Prepared(manifest, train, val, None, own)


def check_unchanged(config: WakewordConfig, file: Path) -> None:
    """An error names a setting, but of those of `FREE`, that differs from the file's, which a run began with."""
    began = flatten(WakewordConfig.load(file).model_dump())
    for key, value in flatten(config.model_dump()).items():
        if value != began[key] and key not in FREE:
            raise ConfigError(
                f"{key} = {value!r}, but the run in {file.parent} began with {began[key]!r}: restore it, or choose "
                "another --out"
            )


def make_trainer(config: WakewordConfig, ready: Prepared, checkpoints: Path) -> Trainer:
    """The trainer that `config` asks for, with the student, on what `prepare` made."""
    train, val, training = ready.train, ready.val, config.training
    size, shares, workers = training.batch_size, training.shares, training.workers
    # As many as show every positive clip once.
    steps = training.batches_per_epoch or max(1, -(-int(train.labels.sum()) // max(1, round(size * shares[0]))))
    more = training.hard_candidates - training.hardest if training.hardest else 0
    sampler = BalancedBatchSampler(train.kinds, train.weights, size, shares, steps, training.seed, more)
    arguments: Any = (
        build_student(config),
        # Forked, so that the memory maps are shared; batches are the same whatever the number.
        train.loader(sampler, num_workers=workers, multiprocessing_context="fork" if workers else None),
        val.loader(batch_size=VAL_BATCH),
        config,
        CheckpointManager(checkpoints),
        str(device_for(config)),
    )
    # The main process evaluates for all.
    evaluator = CheckpointEvaluator(ready.manifest, config) if launched_processes().main else None
    if config.distillation.enabled:
        return DistillationTrainer(*arguments, evaluator=evaluator, source=ready.source)
    return Trainer(*arguments, evaluator=evaluator)


def train_command(config: WakewordConfig, out: Path, resume: bool) -> dict[str, Any]:
    """Train what `config` describes into `out`.

    Writes config.yaml, run.json, scan.json, teacher/ (where there is one), checkpoints/, metrics.jsonl,
    tensorboard/, result.json and model/ (the deploy form). `resume` continues from the last checkpoint in `out`.

    Returns:
        What `Trainer.train` returns, with model (folder), data (hash of the recordings), and teacher (see
        `prepare_teacher`, or None).

    Raises:
        EdgewakeError: `out` holds a run, or none to continue, or one with settings that decide more than speed.
    """
    config, out, group = config.freeze(), Path(out), launched_processes()
    folder = out / "checkpoints"

    def begin() -> None:
        check_output_folder(out, RUN_FILES, "training run")
        begun = (folder / LAST).exists()
        if resume and not begun:
            raise EdgewakeError(f"no checkpoint at {folder / LAST}; start without --resume")
        if begun and not resume:
            raise EdgewakeError(f"{out} holds a run already: add --resume to continue it, or choose another --out")
        if resume:
            check_unchanged(config, out / "config.yaml")
        config.save(out / "config.yaml")

    with group.one_message():
        build_student(config)  # what cannot be built ends the run here
        group.main_only(begin)
        with recorded_run(out, config, write=group.main) as figures:
            ready = group.main_first(lambda: prepare(config, out, resume=resume))
            data = group.main_only(lambda: record_run(out, config, ready.manifest, "running").data)
            trainer = make_trainer(config, ready, folder)
            if resume:
                trainer.resume()
            if group.main:
                trainer.metrics = MetricsLog(out, resume_step=trainer.progress.step if resume else None)
            try:
                figures.update(trainer.train(), data=data, teacher=ready.teacher)
            finally:
                if trainer.metrics is not None:
                    trainer.metrics.close()

            def finish() -> str:
                best = trainer.checkpoint_manager.load(trainer.checkpoint_manager.best)
                trainer.model.load_state_dict(best["model"])
                return str(export(trainer.model, trainer.config, ready.manifest, out, best))

            figures["model"] = group.main_only(finish)
            group.main_only(lambda: write_json(out / "result.json", figures))
    return figures
