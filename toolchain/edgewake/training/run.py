"""`edgewake train`: from a configuration to a folder with the deployable model and all that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.data.manifest import CorpusManifest
from edgewake.data.sampling import BalancedBatchSampler
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator
from edgewake.evaluation.clip_metrics import MetricsLog
from edgewake.io import check_output_folder, write_json
from edgewake.models.featurizer import make_featurizer
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distillation_trainer import DistillationTrainer
from edgewake.training.distributed import Processes, launched_processes
from edgewake.training.mining import HardNegativeMiner
from edgewake.training.runs import RUN_FILES, Status, record_run
from edgewake.training.signals import Taught, has_teacher, keeps_teacher, make_teacher, teach
from edgewake.training.students import build_student, check_exportable, export, hears_audio
from edgewake.training.trainer import Trainer

SPEED_ONLY = {
    "training.workers",
    "training.threads",
    "training.log_every",
    "training.checkpoint_steps",
    "distillation.store_outputs",
    "cache.folder",
    "cache.limit_gb",
}
VAL_BATCH = 256


@dataclass(frozen=True)
class Prepared:
    """All that is made before the first step, and found again by the next run that needs the same.

    Attributes:
        manifest: the recordings that can be used.
        train, val: rendered clips.
        taught: the teacher's signals of `train`; None without a teacher.
    """

    manifest: CorpusManifest
    train: FeatureStore
    val: FeatureStore
    taught: Taught | None


def prepare(config: WakewordConfig, out: Path, *, resume: bool = False, group: Processes | None = None) -> Prepared:
    """Scan the recordings, render their clips, and ask the teacher about them.

    All of it lies in `cache.folder` afterwards, so that it costs next to nothing
    to call this again, from any number of processes.

    Args:
        out: the run's folder: gets scan.json, and teacher/ where there is one.
        resume: go on with the teacher that `out` holds.
        group: the processes that train together.

    Raises:
        EdgewakeError: what any of these names.
    """
    group = group or launched_processes()
    made = None
    if has_teacher(config) and not (resume and keeps_teacher(out)):
        # Before recordings are rendered for it: weights that cannot be had end the run here.
        made = group.main_first(lambda: make_teacher(config))
    manifest = group.main_first(lambda: usable_corpus(config, out))
    audio = has_teacher(config) or hears_audio(config)

    def stores() -> tuple[FeatureStore, FeatureStore]:
        found = tuple(build_store(manifest, split, config, audio=audio) for split in ("train", "val"))
        return found[0], found[1]

    train, val = group.main_first(stores)
    train.gives_audio = val.gives_audio = hears_audio(config)
    console.print(
        f"train: {len(train)} clips ({int(train.labels.sum())} of the phrase)   "
        f"val: {len(val)} clips ({int(val.labels.sum())})"
    )
    taught = None
    if has_teacher(config):
        taught = group.main_first(
            lambda: teach(config, train, val, out, teacher=made, device=str(device_of(group)), write=group.main)
        )
    return Prepared(manifest, train, val, taught)


def device_of(group: Processes) -> torch.device:
    """Where this process trains: the launcher's choice, else a GPU where there is one."""
    return group.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def steps_per_epoch(train: FeatureStore, config: WakewordConfig) -> int:
    """`training.batches_per_epoch`, or as many as show every positive clip once."""
    training = config.training
    each = max(1, round(training.batch_size * training.positive_share))
    return training.batches_per_epoch or max(1, -(-int(train.labels.sum()) // each))


def check_resumable(config: WakewordConfig, checkpoints: CheckpointManager, out: Path) -> None:
    """A run goes on with the settings that it began with, but for those that decide only its speed.

    Raises:
        EdgewakeError: there is no checkpoint.
        ConfigError: a setting differs; the message names it.
    """
    if not checkpoints.last.exists():
        raise EdgewakeError(f"no checkpoint at {checkpoints.last}; start without --resume")
    began = WakewordConfig.load(out / "config.yaml").to_mapping()
    for section, values in config.to_mapping().items():
        for name, value in values.items() if isinstance(values, dict) else ():
            key, before = f"{section}.{name}", began[section][name]
            if value != before and key not in SPEED_ONLY:
                raise ConfigError(
                    f"{key} = {value!r}, but the run in {out} began with {before!r}: "
                    "restore it, or start another run with another --out"
                )


def make_loaders(
    train: FeatureStore, val: FeatureStore, config: WakewordConfig
) -> tuple[DataLoader[Any], DataLoader[Any], BalancedBatchSampler]:
    """Loaders over rendered clips, and the sampler whose weights mining changes."""
    training = config.training
    sampler = BalancedBatchSampler(
        train.labels,
        train.weights,
        training.batch_size,
        training.positive_share,
        steps_per_epoch(train, config),
        training.seed,
    )
    # Forked, so that the memory maps are shared; batches are the same whatever the number.
    context = "fork" if training.workers else None
    train_loader = DataLoader(
        train, batch_sampler=sampler, num_workers=training.workers, multiprocessing_context=context
    )
    val_loader = DataLoader(val, batch_sampler=BatchSampler(SequentialSampler(val), VAL_BATCH, drop_last=False))
    return train_loader, val_loader, sampler


def train_command(config: WakewordConfig, out: Path, resume: bool) -> dict[str, Any]:
    """Train what `config` describes into `out`.

    Writes config.yaml, run.json, scan.json, teacher/ (where there is one), checkpoints/, metrics.jsonl,
    tensorboard/, result.json and model/ (the deploy form).

    Args:
        resume: continue from the last checkpoint in `out`.

    Returns:
        best_f1, best_checkpoint, best_score, model (folder), epochs, steps, data (hash of the recordings),
        teacher (see `signals.Taught.record`, or None).

    Raises:
        EdgewakeError: `out` holds another run, or anything that training names.
    """
    config = config.freeze()
    group = launched_processes()
    with group.one_message():
        return _train_into(config, Path(out), resume, group)


def _train_into(config: WakewordConfig, out: Path, resume: bool, group: Processes) -> dict[str, Any]:
    check_exportable(config)
    group.main_only(lambda: check_output_folder(out, RUN_FILES, "training run"))
    student = build_student(config)
    checkpoints = CheckpointManager(out / "checkpoints")

    def begin() -> None:
        if resume:
            check_resumable(config, checkpoints, out)
        elif checkpoints.last.exists():
            raise EdgewakeError(f"{out} holds a run already: add --resume to continue it, or choose another --out")
        config.save(out / "config.yaml")

    group.main_only(begin)
    record = _Recorder(config, out, group)
    record("running")
    try:
        result = _train(student, config, out, checkpoints, resume, group, record)
    except KeyboardInterrupt:
        record("interrupted")
        raise
    except BaseException:
        record("failed")
        raise
    record("finished", result)
    return result


class _Recorder:
    """Keeps run.json up to date, from the main process alone."""

    def __init__(self, config: WakewordConfig, out: Path, group: Processes) -> None:
        self.config, self.out, self.group = config, out, group
        self.manifest: CorpusManifest | None = None
        self.data = ""

    def __call__(self, status: Status, result: dict[str, Any] | None = None) -> None:
        if not self.group.main:
            return
        figures = {key: value for key, value in (result or {}).items() if not isinstance(value, list)}
        self.data = record_run(self.out, self.config, self.manifest, status, **figures).data


def _train(
    student: nn.Module,
    config: WakewordConfig,
    out: Path,
    checkpoints: CheckpointManager,
    resume: bool,
    group: Processes,
    record: _Recorder,
) -> dict[str, Any]:
    device = device_of(group)
    if device.type == "cpu" and config.training.threads:
        torch.set_num_threads(config.training.threads)
    ready = prepare(config, out, resume=resume, group=group)
    record.manifest = ready.manifest
    record("running")
    train_loader, val_loader, sampler = make_loaders(ready.train, ready.val, config)
    trainer = _make_trainer(student, config, ready, (train_loader, val_loader, sampler), checkpoints, device)
    if resume:
        trainer.resume()
        sampler.weights = ready.train.weights
    if group.main:
        trainer.metrics = MetricsLog(out, resume_step=trainer.progress.step if resume else None)
    try:
        result = trainer.train()
    finally:
        if trainer.metrics is not None:
            trainer.metrics.close()
    result |= {"data": record.data, "teacher": _teacher_record(config, ready)}

    def finish() -> str:
        best = checkpoints.load(checkpoints.best)
        student.load_state_dict(best["model"])
        return str(export(student, config, out, best))

    result["model"] = group.main_only(finish)
    group.main_only(lambda: write_json(out / "result.json", result))
    return result


def _make_trainer(
    student: nn.Module,
    config: WakewordConfig,
    ready: Prepared,
    loaders: tuple[DataLoader[Any], DataLoader[Any], BalancedBatchSampler],
    checkpoints: CheckpointManager,
    device: torch.device,
) -> Trainer:
    train_loader, val_loader, sampler = loaders
    arguments: Any = (student, train_loader, val_loader, config, checkpoints, str(device))
    shared: dict[str, Any] = {
        # The main process evaluates for all.
        "evaluator": CheckpointEvaluator(ready.manifest, config) if launched_processes().main else None,
        "miner": _make_miner(ready.train, sampler, config, device),
        "loader_state": ready.train,
    }
    if not config.distillation.enabled:
        return Trainer(*arguments, **shared)

    source = None if ready.taught is None else ready.taught.source
    return DistillationTrainer(*arguments, source=source, **shared)


def _make_miner(
    train: FeatureStore, sampler: BalancedBatchSampler, config: WakewordConfig, device: torch.device
) -> HardNegativeMiner | None:
    training = config.training
    if not training.hard_negative_mining:
        return None
    process = None
    if hears_audio(config):
        process = make_featurizer(config, device)
    return HardNegativeMiner(
        train,
        sampler,
        every=training.mining_interval,
        boost=training.mining_boost,
        threshold=training.mining_threshold,
        device=str(device),
        process=process,
    )


def _teacher_record(config: WakewordConfig, ready: Prepared) -> dict[str, Any] | None:
    if ready.taught is not None:
        return ready.taught.record
    if not config.distillation.enabled:
        return None
    path = config.distillation.teacher_model_path
    return {"architecture": "self", "source": path or "the student's own running average"}
