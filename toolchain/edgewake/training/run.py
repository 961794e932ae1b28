"""`edgewake train`: from a configuration to a folder with the deployable model and all that led to it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

import edgewake
from edgewake.config import WakewordConfig
from edgewake.console import console, error_console
from edgewake.corpus.importing import import_corpora
from edgewake.corpus.manifest import Manifest
from edgewake.corpus.scanning import scan
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.fileio import read_json, write_json
from edgewake.models import create_model
from edgewake.models.tiny_conv import TinyConv
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.metrics import MetricsLog
from edgewake.training.mining import HardNegativeMiner
from edgewake.training.sampling import BalancedBatchSampler
from edgewake.training.store import FeatureStore, build_store
from edgewake.training.streams import StreamEvaluator
from edgewake.training.trainer import Trainer

SPEED_ONLY = {"training.workers", "training.threads", "training.cache", "training.log_every"}


def find_manifest(config: WakewordConfig) -> Manifest:
    """The corpus that a configuration names: `data.manifest`, or the shared corpora when it is empty.

    Raises:
        ConfigError: neither is there.
    """
    if config.data.manifest:
        return Manifest.load(config.data.manifest)
    root = os.environ.get("EDGEWAKE_CORPORA", "")
    if not root:
        raise ConfigError(
            "data.manifest is empty and EDGEWAKE_CORPORA is not set: name a manifest "
            "(edgewake corpus import FOLDER makes one)"
        )
    return import_corpora(Path(root), config.data.phrase)


def usable(manifest: Manifest, config: WakewordConfig, out: Path) -> Manifest:
    """The recordings that can be used; others are named with their count, or stop the run (`data.strict`).

    Writes scan.json; a scan of the very same files (path, size, time) is not repeated.
    """
    stats = [(entry.path, manifest.path_of(entry)) for entry in manifest.entries]
    files = [(name, s.st_size, s.st_mtime_ns) for name, p in stats if p.exists() for s in (p.stat(),)]
    key = hashlib.sha256(json.dumps([files, len(stats), config.data.max_file_seconds]).encode()).hexdigest()[
        :16
    ]
    record = Path(config.training.cache) / f"scan-{key}.json"
    if not record.exists() or config.data.strict:
        report = scan(
            manifest, config.data.strict, max_seconds=config.data.max_file_seconds, console=error_console
        )
        write_json(record, report.to_json() | {"kept_paths": [entry.path for entry in report.kept]})
        for shown in report.tables()[1:] if report.findings else ():
            console.print(shown)
    result = read_json(record, "scan")
    kept = set(result["kept_paths"])
    if len(kept) < len(manifest.entries):
        console.print(
            f"{len(manifest.entries) - len(kept)} of {len(manifest.entries)} recordings left out ({record})"
        )
    write_json(out / "scan.json", result)
    return manifest.with_entries(entry for entry in manifest.entries if entry.path in kept)


def steps_per_epoch(train: FeatureStore, config: WakewordConfig) -> int:
    """`training.batches_per_epoch`, or as many as show every positive clip once."""
    training = config.training
    each = max(1, round(training.batch_size * training.positive_share))
    return training.batches_per_epoch or max(1, -(-int(train.labels.sum()) // each))


def build_student(config: WakewordConfig) -> TinyConv:
    """The student of `config.model`.

    Raises:
        ConfigError: `edgewake train` cannot train this architecture, or could not ship what it trained.
    """
    model = config.model
    if model.architecture != "tiny_conv":
        raise ConfigError(
            f"model.architecture = {model.architecture!r}: edgewake train takes tiny_conv, the student that "
            "streams on the board"
        )
    if not config.qat.enabled:
        raise ConfigError("qat.enabled is false: nothing would be left to ship; set it to true")
    torch.manual_seed(config.training.seed)
    options = model.options() | {"smoothing": config.evaluation.window}
    student = create_model(model.architecture, model.num_classes, config.frontend.channels, **options)
    assert isinstance(student, TinyConv)
    return student


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
    train_loader = DataLoader(train, batch_sampler=sampler)
    val_loader = DataLoader(val, batch_sampler=BatchSampler(SequentialSampler(val), 256, drop_last=False))
    return train_loader, val_loader, sampler


def train_command(config: WakewordConfig, out: Path, resume: bool) -> dict[str, Any]:
    """Train what `config` describes into `out`.

    Writes config.yaml, checkpoints/, metrics.jsonl, tensorboard/, result.json and model/ (the deploy form).

    Args:
        resume: continue from the last checkpoint in `out`.

    Returns:
        best_f1, best_checkpoint, best_score, model (folder), epochs, steps.

    Raises:
        EdgewakeError: `out` holds another run, or anything that training names.
    """
    config = config.freeze()
    out = Path(out)
    checkpoints = CheckpointManager(out / "checkpoints")
    student = build_student(config)
    if resume:
        check_resumable(config, checkpoints, out)
    elif checkpoints.last.exists():
        raise EdgewakeError(
            f"{out} holds a run already: add --resume to continue it, or choose another --out"
        )
    config.save(out / "config.yaml")
    manifest = usable(find_manifest(config), config, out)
    cache = Path(config.training.cache)
    train = build_store(manifest, "train", config, cache)
    val = build_store(manifest, "val", config, cache)
    console.print(
        f"train: {len(train)} clips ({int(train.labels.sum())} of the phrase)   "
        f"val: {len(val)} clips ({int(val.labels.sum())})"
    )
    train_loader, val_loader, sampler = make_loaders(train, val, config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = config.training
    if device == "cpu" and training.threads:
        torch.set_num_threads(training.threads)
    miner = None
    if training.hard_negative_mining:
        miner = HardNegativeMiner(
            train,
            sampler,
            every=training.mining_interval,
            boost=training.mining_boost,
            threshold=training.mining_threshold,
            device=device,
        )
    trainer = Trainer(
        student,
        train_loader,
        val_loader,
        config,
        checkpoints,
        device,
        evaluator=StreamEvaluator(manifest, config),
        miner=miner,
        loader_state=train,
    )
    if resume:
        trainer.resume()
        sampler.weights = train.weights
    trainer.metrics = MetricsLog(out, resume_step=trainer.progress.step if resume else None)
    try:
        result = trainer.train()
    finally:
        trainer.metrics.close()
    best = checkpoints.load(checkpoints.best)
    student.load_state_dict(best["model"])
    result["model"] = str(export(student, config, out, best))
    write_json(out / "result.json", result)
    return result


def export(student: TinyConv, config: WakewordConfig, out: Path, state: dict[str, Any]) -> Path:
    """Write the deploy form of a student that went through QAT to `out`/model; returns that folder."""
    evaluation = config.evaluation
    step_s = config.model.frames_per_step * config.frontend.step_ms / 1000
    history = state["history"][-1] if state["history"] else {}
    cutoff = float(np.clip(history.get("cutoff", 0.5), 1 / 256, 1.0))
    info = {
        "phrase": config.data.phrase,
        "window": evaluation.window,
        # Events were counted above the cutoff; the board counts from it on.
        "cutoff_sum": min(255 * evaluation.window, math.floor(cutoff * evaluation.window * 256) + 1),
        "refractory_s": evaluation.refractory_s,
        "refractory_steps": max(1, math.ceil(evaluation.refractory_s / step_s)),
        "architecture": student.architecture(),
        "training": {
            "edgewake": edgewake.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": config.training.seed,
            "epoch": state["epoch"],
            "step": state["step"],
            "validation": history,
        },
    }
    folder = out / "model"
    student.deployed(info).save(folder)
    config.save(folder / "config.yaml")
    return folder
