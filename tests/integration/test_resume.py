"""`edgewake train` after kill -9, Ctrl-C or with other processes goes on and ends as if undisturbed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.training.checkpoint_manager import CheckpointManager

pytestmark = pytest.mark.slow

BATCHES = 30
# In the middle of the second of four epochs.
DEADLY_STEP = BATCHES + 15


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """Rising tones are the phrase, falling ones are not."""
    root = tmp_path_factory.mktemp("corpus")
    tones(root)
    return root


def settings(corpus: Path, kind: str) -> Path:
    """A configuration with every kind of state: an average, mining, two phases, perhaps a teacher."""
    config = get_preset("smoke")
    config.data.manifest, config.data.phrase = str(corpus / "manifest.json"), "hey"
    config.data.audio_duration, config.data.positive_renders = 0.9, 4
    training = config.training
    config.cache.folder, training.threads, training.log_every = str(corpus / "cache"), 1, 1
    training.epochs, training.batches_per_epoch, training.checkpoint_steps = 4, BATCHES, 7
    if kind == "plain":
        config.model.dropout = 0.0  # the masks of two processes are not those of one
    else:
        config.distillation.enabled = True
        config.distillation.hint_weight = 0.1
        config.teacher.from_scratch = True
        config.teacher.layers, config.teacher.width, config.teacher.epochs = 1, 16, 1
    path = corpus / f"{kind}.yaml"
    config.save(path)
    return path


def command(config: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "edgewake", "train", str(config), "--out", str(out), *options]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)


def disturb(line: list[str], out: Path, number: int) -> tuple[int, str]:
    """Send a signal to a training in the middle of an epoch; its exit code and what it showed."""
    log = out.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(line, stdout=file, stderr=subprocess.STDOUT, env=environment())
        metrics = out / "metrics.jsonl"
        while process.poll() is None:
            if metrics.exists() and any(json.loads(step)["step"] >= DEADLY_STEP for step in whole_lines(metrics)[-1:]):
                process.send_signal(number)
                break
            time.sleep(0.01)
        return process.wait(), log.read_text()


def whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def final(out: Path) -> tuple[bytes, dict[str, Any]]:
    result = json.loads((out / "result.json").read_text())
    return (out / "model" / "weights.safetensors").read_bytes(), result


def step_losses(out: Path) -> dict[int, float]:
    """Loss of every step; a step that was logged twice is an error."""
    lines = [json.loads(line) for line in whole_lines(out / "metrics.jsonl")]
    steps = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert len(dict(steps)) == len(steps)
    return dict(steps)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts, without a teacher."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = run(command(settings(corpus, "plain"), out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("kind", ["plain", "distillation"])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_in_the_same_bytes(
    corpus: Path, undisturbed: Path, tmp_path: Path, kind: str
) -> None:
    config = settings(corpus, kind)
    if kind == "plain":
        whole = undisturbed
    else:
        whole = tmp_path / "whole"
        done = run(command(config, whole))
        assert done.returncode == 0, done.stderr
    out = tmp_path / "killed"
    code, shown = disturb(command(config, out), out, signal.SIGKILL)
    assert code == -signal.SIGKILL, shown
    state = CheckpointManager(out / "checkpoints").load()
    assert state["batch"] > 0  # the last checkpoint lies within the epoch
    assert state["step"] <= DEADLY_STEP + BATCHES
    done = run(command(config, out, "--resume"))
    assert done.returncode == 0, done.stderr
    (weights, result), (expected, expected_result) = final(out), final(whole)
    assert weights == expected
    assert result["history"] == expected_result["history"]
    assert step_losses(out) == step_losses(whole)
    best = (CheckpointManager(folder / "checkpoints").load()["raw_model"] for folder in (out, whole))
    first, second = best
    assert all(torch.equal(first[name], second[name]) for name in second)


def launched(config: Path, out: Path, *options: str) -> list[str]:
    """The same training by two processes, as docs/scaling.md starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*launcher, "--main_process_port", port, "-m", *command(config, out, *options)[2:]]


def float_phase(losses: dict[int, float]) -> list[float]:
    return [losses[step] for step in range(2 * BATCHES)]


def test_two_processes_are_interrupted_together_and_one_goes_on(
    corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config, out = settings(corpus, "plain"), tmp_path / "two"
    code, shown = disturb(launched(config, out), out, signal.SIGINT)
    assert code != 0
    assert shown.count("--resume continues") == 1
    assert sum(line.startswith("float epoch 1 ") for line in shown.splitlines()) == 1
    state = CheckpointManager(out / "checkpoints").load()
    assert BATCHES < state["step"] < 4 * BATCHES
    done = run(command(config, out, "--resume"))
    assert done.returncode == 0, done.stderr
    # AdamW makes whole steps of gradients that are rounding alone, so that losses agree to that.
    np.testing.assert_allclose(float_phase(step_losses(out)), float_phase(step_losses(undisturbed)), rtol=2e-3)
    assert WakewordConfig.load(out / "config.yaml") == WakewordConfig.load(undisturbed / "config.yaml")


def test_an_error_of_a_run_by_two_processes_is_one_line(corpus: Path, tmp_path: Path) -> None:
    config = WakewordConfig.load(settings(corpus, "plain"))
    config.data.manifest = str(tmp_path / "none.json")
    config.save(tmp_path / "wrong.yaml")
    done = run(launched(tmp_path / "wrong.yaml", tmp_path / "out"))
    assert done.returncode != 0
    assert done.stderr.count("error: corpus manifest") == 1
    assert 'Traceback (most recent call last):\n  File "/work' not in done.stderr
