"""Examples a second of training by phase, workers and processes; recordings a second of files and shards."""

from __future__ import annotations

import argparse
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from edgewake.config.presets import get_preset
from edgewake.console import console as edgewake_console
from edgewake.data import CorpusManifest, Entry, pack, read_audio, write_audio
from edgewake.data.clips import BalancedBatchSampler
from edgewake.data.rendering import RenderJob
from edgewake.data.store import FeatureStore
from edgewake.io import read_json, write_json
from edgewake.models import create_model
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distributed import launched_processes
from edgewake.training.trainer import Trainer

CLIPS, FRAMES, CHANNELS = 2048, 147, 40
BATCHES = 20
RECORDINGS, SECONDS = 400, 2.0


class Timed(Trainer):
    """Records when each epoch ends; evaluates nothing."""

    def validate(self) -> dict[str, float]:
        """The time, in place of figures."""
        self.ends = [*getattr(self, "ends", []), time.perf_counter()]
        return {"val_f1": 0.0, "score": float(len(self.ends))}


def make_store(folder: Path) -> None:
    """Random features, as a rendered split holds them."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    np.save(folder / "features.npy", random.integers(0, 670, (CLIPS, FRAMES, CHANNELS)).astype(np.uint16))


def train(folder: Path, workers: int, rounds: int) -> dict[str, float]:
    """Examples a second of each phase: the best of `rounds` epochs, after one that warms up."""
    torch.set_num_threads(1)
    edgewake_console.quiet = True
    config = get_preset("esp32_no_psram")
    config.training.epochs, config.qat.fraction = 2 * (rounds + 1), 0.5
    config.training.early_stopping_patience = 0
    jobs = [RenderJob(clip, "", "negative" if clip % 4 else "positive", FRAMES, 0, (0,)) for clip in range(CLIPS)]
    store = FeatureStore([folder / "store"], jobs, audio=False)
    size = config.training.batch_size
    sampler = BalancedBatchSampler(store.labels != 1, store.weights, size, [0.25], BATCHES, seed=0)
    loader = store.loader(sampler, num_workers=workers)
    model: nn.Module = create_model("tiny_conv", **config.model.options())
    with tempfile.TemporaryDirectory() as checkpoints:
        manager = CheckpointManager(Path(checkpoints))
        trainer = Timed(model, loader, loader, config, manager)
        trainer.train()
    if not launched_processes().main:
        return {}
    epochs = np.diff(trainer.ends).reshape(-1)
    # Differences between ends: epochs 2.. of the float phase, then those of the other one without its first.
    float_s, qat_s = epochs[:rounds].min(), epochs[rounds + 1 :].min()
    return {"float": size * BATCHES / float_s, "qat": size * BATCHES / qat_s}


def train_by_two(folder: Path, rounds: int) -> dict[str, float]:
    """The same global batches by two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port), __file__, "--part", str(folder), "--rounds", str(rounds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, float] = read_json(folder / "two.json", "figures of two processes")
    return found


def make_corpus(folder: Path) -> CorpusManifest:
    """Short recordings of noise, as FLAC files of their own."""
    random = np.random.default_rng(0)
    entries = []
    for number in range(RECORDINGS):
        path = f"{number % 20}/{number}.flac"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_audio(folder / path, random.integers(-9000, 9000, int(SECONDS * 16000)).astype(np.int16))
        entries.append(Entry(path=path, kind="negative", label=0, split="train", seconds=SECONDS))
    return CorpusManifest.build("benchmark", entries, folder=folder)


def read(folder: Path, rounds: int) -> dict[str, float]:
    """Recordings a second in random order from files and from shards, decoded."""
    files = make_corpus(folder / "corpus")
    shards = pack(files, folder / "shards", 10)
    order = np.random.default_rng(1).permutation(RECORDINGS).tolist()

    def decode(manifest: CorpusManifest) -> None:
        for number in order:
            read_audio(manifest.path_of(manifest.entries[number]))

    paths: dict[str, Callable[[], None]] = {
        "files, decoded": lambda: decode(files),
        "shards, decoded": lambda: decode(shards),
    }
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            path()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: RECORDINGS / value for name, value in best.items()}


def measure(rounds: int) -> dict[str, object]:
    """All figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_store(folder / "store")
        trained = {f"1 process, {n} workers": train(folder, n, rounds) for n in (0, 1, 2)}
        trained["2 processes, 0 workers"] = train_by_two(folder, rounds)
        recordings = read(folder, rounds)
    return {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
        "load": round(os.getloadavg()[0], 1),
        "batch": get_preset("esp32_no_psram").training.batch_size,
        "examples_per_second": {
            name: {phase: round(value) for phase, value in figures.items()} for name, figures in trained.items()
        },
        "recordings_per_second": {name: round(value) for name, value in recordings.items()},
    }


def show(result: dict[str, object], target: Path) -> None:
    """Print the figures as tables and write them as JSON to `target`."""
    console = Console()
    title = f"tiny_conv, batches of {result['batch']}, one thread a process; {result['machine']}"
    table = Table(title=f"{title}; load {result['load']}")
    for name in ("training", "float, examples/s", "QAT, examples/s"):
        table.add_column(name, justify="left" if name == "training" else "right")
    trained, recordings = result["examples_per_second"], result["recordings_per_second"]
    assert isinstance(trained, dict)
    assert isinstance(recordings, dict)
    for name, figures in trained.items():
        table.add_row(name, f"{figures['float']:,}", f"{figures['qat']:,}")
    console.print(table)
    table = Table(title=f"{RECORDINGS} FLAC recordings of {SECONDS:g} s")
    table.add_column("reading")
    table.add_column("recordings/s", justify="right")
    for name, value in recordings.items():
        table.add_row(name, f"{value:,}")
    console.print(table)
    write_json(target, result)
    console.print(f"written to {target}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the best counts")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/training.json"))
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        figures = train(options.part, 0, options.rounds)
        if launched_processes().main:
            write_json(options.part / "two.json", figures)
        return
    show(measure(options.rounds), options.json)


if __name__ == "__main__":
    main()
