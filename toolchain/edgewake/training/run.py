"""`edgewake train`: from a configuration to a folder with the deployable model and all that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.data.clips import BalancedBatchSampler
from edgewake.data.manifest import CorpusManifest
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator
from edgewake.io import check_output_folder, write_json
from edgewake.models.featurizer import make_featurizer
from edgewake.training.checkpoint_manager import LAST, CheckpointManager
from edgewake.training.distillation_trainer import DistillationTrainer
from edgewake.training.distributed import Processes, launched_processes
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.mining import HardNegativeMiner
from edgewake.training.run_teacher import RunTeacher, has_teacher, keeps_teacher, make_teacher, prepare_teacher
from edgewake.training.runs import RUN_FILES, flatten, recorded_run
from edgewake.training.students import build_student, export, takes_audio
from edgewake.training.trainer import Trainer

# What may change while a run goes on: what decides only its speed, and its name.
FREE = {f"training.{name}" for name in ("workers", "threads", "log_every", "checkpoint_steps")}
FREE |= {"config_name", "description", "distillation.store_outputs", "cache.folder", "cache.limit_gb"}
VAL_BATCH = 256


@dataclass(frozen=True)
class Prepared:
    """Made before the first step: usable recordings, rendered clips, and the teacher, with its outputs for `train`."""

    manifest: CorpusManifest
    train: FeatureStore
    val: FeatureStore
    teacher: RunTeacher | None


def prepare(config: WakewordConfig, out: Path, *, resume: bool = False, group: Processes | None = None) -> Prepared:
    """Scan the recordings, render their clips, fit the teacher and compute its outputs.

    All of it lies in the cache afterwards, so that it costs next to nothing to call this again, from any
    number of processes.

    Args:
        out: the run's folder: gets scan.json, and teacher/ where there is one.
        resume: go on with the teacher that `out` holds.
        group: the processes that train together; the main one goes first.
    """
    group, made = group or launched_processes(), None
    if has_teacher(config) and not (resume and keeps_teacher(out)):
        # Before recordings are rendered for it: weights that cannot be had end the run here.
        made = make_teacher(config)
    manifest = usable_corpus(config, out if group.main else None)
    audio = has_teacher(config) or takes_audio(config)
    train, val = (build_store(manifest, split, config, audio=audio) for split in ("train", "val"))
    train.gives_audio = val.gives_audio = takes_audio(config)
    console.print(
        f"train: {len(train)} clips ({int(train.labels.sum())} of the phrase)   "
        f"val: {len(val)} clips ({int(val.labels.sum())})"
    )
    teacher = None
    if has_teacher(config):
        device = str(device_of(group))
        teacher = prepare_teacher(config, train, val, out, teacher=made, device=device, write=group.main)
    return Prepared(manifest, train, val, teacher)


def device_of(group: Processes) -> torch.device:
    """Where this process trains: the launcher's choice, else a GPU where there is one."""
    return group.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def steps_per_epoch(train: FeatureStore, config: WakewordConfig) -> int:
    """`training.batches_per_epoch`, or as many as show every positive clip once."""
    training = config.training
    each = max(1, round(training.batch_size * training.positive_share))
    return training.batches_per_epoch or max(1, -(-int(train.labels.sum()) // each))


def check_resumable(config: WakewordConfig, out: Path) -> None:
    """Raise an error where a run cannot go on: no checkpoint, or a setting differs that decides more than speed."""
    last = out / "checkpoints" / LAST
    if not last.exists():
        raise EdgewakeError(f"no checkpoint at {last}; start without --resume")
    check_unchanged(config, out / "config.yaml")


def check_unchanged(config: WakewordConfig, file: Path) -> None:
    """All settings but those of `FREE` are those of the file, which a run began with.

    Raises:
        ConfigError: one differs; the message names it.
    """
    began = flatten(WakewordConfig.load(file).model_dump())
    for key, value in flatten(config.model_dump()).items():
        if value != began[key] and key not in FREE:
            raise ConfigError(
                f"{key} = {value!r}, but the run in {file.parent} began with {began[key]!r}: restore it, or choose "
                "another --out"
            )


def make_trainer(config: WakewordConfig, ready: Prepared, checkpoints: CheckpointManager, group: Processes) -> Trainer:
    """The trainer that `config` asks for, with the student, on what `prepare` made."""
    train, val, training, device = ready.train, ready.val, config.training, device_of(group)
    workers = training.workers
    steps, share = steps_per_epoch(train, config), training.positive_share
    sampler = BalancedBatchSampler(train.labels, train.weights, training.batch_size, share, steps, training.seed)
    miner = HardNegativeMiner(train, training, device, make_featurizer(config, device) if takes_audio(config) else None)
    arguments: Any = (
        build_student(config),
        # Forked, so that the memory maps are shared; batches are the same whatever the number.
        train.loader(sampler, num_workers=workers, multiprocessing_context="fork" if workers else None),
        val.loader(batch_size=VAL_BATCH),
        config,
        checkpoints,
        str(device),
    )
    options: dict[str, Any] = {
        # The main process evaluates for all.
        "evaluator": CheckpointEvaluator(ready.manifest, config) if group.main else None,
        "miner": miner if training.hard_negative_mining else None,
        "loader_state": train,
    }
    if not config.distillation.enabled:
        return Trainer(*arguments, **options)
    source = None if ready.teacher is None else ready.teacher.outputs
    return DistillationTrainer(*arguments, source=source, **options)


def train_command(config: WakewordConfig, out: Path, resume: bool) -> dict[str, Any]:
    """Train what `config` describes into `out`.

    Writes config.yaml, run.json, scan.json, teacher/ (where there is one), checkpoints/, metrics.jsonl,
    tensorboard/, result.json and model/ (the deploy form).

    Args:
        resume: continue from the last checkpoint in `out`.

    Returns:
        What `Trainer.train` returns, with model (folder), data (hash of the recordings), and teacher (see
        `RunTeacher.record`, or None).
    """
    config, out, group = config.freeze(), Path(out), launched_processes()
    folder = out / "checkpoints"

    def begin() -> None:
        check_output_folder(out, RUN_FILES, "training run")
        if resume:
            check_resumable(config, out)
        elif (folder / LAST).exists():
            raise EdgewakeError(f"{out} holds a run already: add --resume to continue it, or choose another --out")
        config.save(out / "config.yaml")

    with group.one_message():
        build_student(config)  # what cannot be built ends the run here
        group.main_only(begin)
        with recorded_run(out, config, write=group.main) as record:
            if device_of(group).type == "cpu" and config.training.threads:
                torch.set_num_threads(config.training.threads)
            ready = group.main_first(lambda: prepare(config, out, resume=resume, group=group))
            record.update("running", ready.manifest)
            trainer = make_trainer(config, ready, CheckpointManager(folder), group)
            if resume:
                trainer.resume()
            if group.main:
                trainer.metrics = MetricsLog(out, resume_step=trainer.progress.step if resume else None)
            try:
                result = trainer.train()
            finally:
                if trainer.metrics is not None:
                    trainer.metrics.close()
            record.figures = result | {"data": record.data, "teacher": _teacher_record(config, ready)}

            def finish() -> str:
                best = trainer.checkpoint_manager.load(trainer.checkpoint_manager.best)
                trainer.model.load_state_dict(best["model"])
                return str(export(trainer.model, trainer.config, ready.manifest, out, best))

            record.figures["model"] = group.main_only(finish)
            group.main_only(lambda: write_json(out / "result.json", record.figures))
    return record.figures


def _teacher_record(config: WakewordConfig, ready: Prepared) -> dict[str, Any] | None:
    if ready.teacher is not None:
        return ready.teacher.record
    if not config.distillation.enabled:
        return None
    path = config.distillation.teacher_model_path
    return {"architecture": "self", "source": path or "the student's own running average"}
