"""Epochs of distillation with a teacher that runs in every epoch, and with one whose outputs are kept.

Times are of the processor, on one thread: what else runs on the machine hardly changes them.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from edgewake.assets import MissingAssetError, asset_path
from edgewake.cache import Cache
from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.console import console as edgewake_console
from edgewake.console import error_console
from edgewake.data.clips import BalancedBatchSampler
from edgewake.data.rendering import RenderJob
from edgewake.data.store import FeatureStore
from edgewake.errors import MissingDependencyError
from edgewake.io import write_json
from edgewake.models import create_model
from edgewake.teachers.base import OutputSource, Teacher
from edgewake.teachers.registry import create_teacher
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distillation_trainer import DistillationTrainer
from edgewake.training.teacher_outputs import LiveOutputs, TeacherCache

FRAMES, CHANNELS = 207, 40
SAMPLES = 480 + 160 * (FRAMES - 1)
EPOCHS = (1, 10, 100)


class Timed(DistillationTrainer):
    """Records when each epoch ends; evaluates nothing."""

    def validate(self) -> dict[str, float]:
        """The time of the processor, in place of figures."""
        self.ends = [*getattr(self, "ends", []), time.process_time()]
        return {"val_f1": 0.0, "score": float(len(self.ends))}


def make_store(folder: Path, clips: int) -> FeatureStore:
    """A rendered split of noise with audio, as distillation reads it."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    np.save(folder / "features.npy", random.integers(0, 670, (clips, FRAMES, CHANNELS)).astype(np.uint16))
    np.save(folder / "audio.npy", random.integers(-9000, 9000, (clips, SAMPLES)).astype(np.int16))
    jobs = [RenderJob(clip, "", "negative" if clip % 4 else "positive", FRAMES, 0, (0,)) for clip in range(clips)]
    return FeatureStore([folder], jobs, audio=True)


def teachers() -> dict[str, Callable[[], Teacher]]:
    """Those that are here: a small random wav2vec2 always, pretrained ones where their assets are."""
    config = WakewordConfig().teacher
    config.from_scratch = True
    found: dict[str, Callable[[], Teacher]] = {
        "wav2vec2, 4 x 128, random": lambda: create_teacher("wav2vec2", teacher=config)
    }
    for architecture, asset in (
        ("speech_embedding", "speech_embedding"),
        ("word_embedding", "word_embedding"),
        ("whisper", "whisper-base"),
    ):
        try:
            asset_path(asset)
        except MissingAssetError:
            continue
        found[asset] = lambda architecture=architecture: create_teacher(architecture)  # type: ignore[misc]
    return found


def epoch_seconds(store: FeatureStore, source: OutputSource, rounds: int) -> float:
    """The least time of an epoch that shows every clip about once, after one that warms up."""
    config = get_preset("esp32_no_psram")
    config.qat.enabled = config.training.hard_negative_mining = False
    config.distillation.enabled = True
    config.training.epochs, config.training.early_stopping_patience = rounds + 1, 0
    size = config.training.batch_size
    sampler = BalancedBatchSampler(store.labels != 1, store.weights, size, [0.25], -(-len(store) // size), seed=0)
    loader = store.loader(sampler)
    torch.manual_seed(0)
    model = create_model("tiny_conv", **config.model.options())
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(model, loader, loader, config, CheckpointManager(Path(folder)), source=source)
        trainer.train()
    return float(np.diff(trainer.ends).min())


def measure_teacher(teacher: Teacher, store: FeatureStore, folder: Path, rounds: int) -> dict[str, float]:
    """Times of one teacher, in seconds, and what its embeddings take on disk."""
    assert store.audio is not None
    start = time.process_time()
    kept = TeacherCache(teacher, Cache(folder)).outputs(store.audio)
    fill = time.process_time() - start
    start = time.process_time()
    TeacherCache(teacher, Cache(folder)).outputs(store.audio)
    reopen = time.process_time() - start
    live = epoch_seconds(store, LiveOutputs(teacher, store.audio), rounds)
    cached = epoch_seconds(store, kept, rounds)
    size = sum(path.stat().st_size for path in folder.rglob("*.npy"))
    return {
        "fill_s": fill,
        "reopen_s": reopen,
        "epoch_without_s": live,
        "epoch_with_s": cached,
        "kilobytes_per_clip": size / len(store) / 1000,
        **{f"times_faster_in_{epochs}_epochs": epochs * live / (fill + epochs * cached) for epochs in EPOCHS},
    }


def measure(clips: int, rounds: int) -> dict[str, object]:
    """All figures."""
    edgewake_console.quiet = error_console.quiet = True
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        store = make_store(Path(temporary) / "store", clips)
        for number, (name, make) in enumerate(teachers().items()):
            torch.manual_seed(0)
            try:
                teacher = make().freeze()
            except MissingDependencyError:
                continue
            found[name] = measure_teacher(teacher, store, Path(temporary) / f"cache{number}", rounds)
    return {
        "machine": f"{platform.machine()}, one thread, {platform.system()}",
        "clips": clips,
        "seconds_per_clip": SAMPLES / 16000,
        "student": "tiny_conv",
        "teachers": found,
    }


def show(result: dict[str, object], target: Path) -> None:
    """Print the figures as a table and write them as JSON to `target`."""
    console = Console()
    table = Table(
        title=f"distillation of tiny_conv, epochs of {result['clips']} clips of "
        f"{result['seconds_per_clip']:.2f} s, processor time; {result['machine']}",
        caption="x in N: how many times faster N epochs are, computed from these, first pass included",
    )
    table.add_column("teacher")
    names = ("epoch without, s", "epoch with, s", "first pass, s", "next run, s", "kB a clip")
    for name in (*names, *(f"x in {epochs}" for epochs in EPOCHS)):
        table.add_column(name, justify="right")
    teachers = result["teachers"]
    assert isinstance(teachers, dict)
    for name, value in teachers.items():
        times = [value[key] for key in ("epoch_without_s", "epoch_with_s", "fill_s", "reopen_s")]
        table.add_row(
            name,
            *(f"{time:.2f}" for time in times),
            f"{value['kilobytes_per_clip']:.0f}",
            *(f"{value[f'times_faster_in_{epochs}_epochs']:.1f}" for epochs in EPOCHS),
        )
    console.print(table)
    write_json(target, result)
    console.print(f"written to {target}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2, help="epochs of which the best counts")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/teacher_cache.json"))
    options = parser.parse_args()
    show(measure(options.clips, options.rounds), options.json)


if __name__ == "__main__":
    main()
