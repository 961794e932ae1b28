"""What test_distributed.py has two processes do: `two_processes.py FOLDER` under a launcher."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgewake.config import WakewordConfig
from edgewake.data.clips import BalancedBatchSampler, ClipDataset
from edgewake.errors import EdgewakeError
from edgewake.models import create_model
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distributed import launched_processes, sync_batch_norm
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.trainer import Trainer

RUNS = {"precise": {}, "single": {"single": True}}
SHAPES = {"flat": (8, 6), "steps": (8, 6, 7), "images": (8, 6, 5, 3)}


class Store(ClipDataset):
    """Clips with sampling weights and flags of hard negatives, as a feature store has them."""

    def __init__(self, count: int) -> None:
        super().__init__((np.arange(count) % 3 == 0).astype(np.int64), np.ones(count))
        generator = torch.Generator().manual_seed(4)
        self.features = torch.rand(count, 45, 40, generator=generator) * 8
        self.features[torch.from_numpy(self.labels == 1), 20:35, 25:] += 9
        self.hard = np.arange(count) % 7 == 1

    def inputs_of(self, clips: Any) -> Tensor:
        return self.features[clips]


class Watched(Trainer):
    """Does something in the loss of step `at`, once."""

    at = -1
    dtype = torch.float64

    def process_inputs(self, inputs: Tensor, *, train: bool) -> Tensor:
        return super().process_inputs(inputs, train=train).to(self.dtype)

    def act(self) -> None:
        """What it does."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.progress.step == self.at:
            self.at = -1
            self.act()
        loss = super().compute_loss(*args, **kwargs)
        self.log_metrics({"student_loss": float(loss.detach())})
        return loss


def settings() -> WakewordConfig:
    """Everything on that weighs clips or carries state, and random numbers but for dropout's."""
    config = WakewordConfig()
    config.qat.enabled = True
    config.qat.fraction = 0.5
    config.qat.observe_batches = 2
    training = config.training
    training.epochs, training.seed, training.ema_decay = 4, 5, 0.6
    training.learning_rate = 0.002
    training.early_stopping_patience = 0
    training.class_weights = (1.0, 1.7)
    training.hard_negative_weight = 2.5
    training.label_smoothing = 0.05
    training.log_every = training.mining_interval = 1
    training.mining_boost, training.mining_cutoff = 3.0, 0.45
    config.augmentation.spec_augment_prob = 0.7
    config.augmentation.tempo_warp = 0.1
    return config


def make_trainer(folder: Path, *, single: bool = False) -> Watched:
    """The same trainer in every process.

    In float64, where what differs is the arithmetic and not its rounding: AdamW divides each gradient by its
    own size, so that one of pure rounding (a bias before BatchNorm has it) moves a weight by a whole step.
    `single` is float32 with SGD, which does not.
    """
    config = settings()
    if single:
        config.optimizer.optimizer, config.training.learning_rate = "sgd", 0.02
    torch.manual_seed(config.training.seed)
    model = create_model("tiny_conv", width=16, kernel_sizes=(3, 3), dropout=0.0)
    dtype = torch.float32 if single else torch.float64
    model.to(dtype)
    store = Store(33)
    sampler = BalancedBatchSampler(store.labels != 1, store.weights, 10, [1 / 3], 6, seed=5)
    trainer = Watched(
        model,
        store.loader(sampler),
        Store(16).loader(batch_size=8),
        config,
        CheckpointManager(folder),
        "cpu",
        evaluator=lambda student: {"score": float(student(Store(4).features.to(dtype)).abs().sum())},
    )
    trainer.dtype = dtype
    if launched_processes().main:
        trainer.metrics = MetricsLog(folder, tensorboard=False)
    return trainer


def interrupt(trainer: Watched) -> None:
    """Stop in the fifth step, of the first epoch."""
    trainer.at = 4
    trainer.act = lambda: os.kill(os.getpid(), signal.SIGINT)  # type: ignore[method-assign]
    try:
        trainer.train()
    except KeyboardInterrupt:
        return
    raise AssertionError("the interrupt was not seen")


def collect(folder: Path, name: str, value: Any) -> None:
    """Keep a value of each process."""
    torch.save(value, folder / f"{name}-{launched_processes().index}.pt")


def batch_norm(folder: Path) -> None:
    """BatchNorm of this process's half of a batch, trained twice."""
    group = launched_processes()
    for name, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(1)
        rows = slice(4 * group.index, 4 * group.index + 4)
        whole = torch.randn(shape, generator=generator) * 3 + 20
        slope = torch.randn(shape, generator=generator)
        norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](6)
        nn.init.uniform_(norm.weight, generator=generator)
        sync_batch_norm(norm)
        for _ in range(2):
            value = whole[rows].clone().requires_grad_()
            output = norm(value)
            (output * slope[rows]).sum().backward()
        group.average_gradients(norm.parameters())
        gradients = {"weight": norm.weight.grad * 2, "bias": norm.bias.grad * 2}
        collect(folder, name, (output.detach(), value.grad, gradients | norm.state_dict(prefix="state.")))


def fail(folder: Path) -> None:
    """The second process cannot go on; the main one waits for it at the end of the step."""
    trainer = make_trainer(folder)
    group = launched_processes()

    def act() -> None:
        raise EdgewakeError("the disk is full")

    if not group.main:
        trainer.at, trainer.act = 3, act  # type: ignore[method-assign]
    try:
        trainer.train()
    except EdgewakeError as error:
        collect(folder, "failure", (type(error).__name__, str(error)))
        raise SystemExit(1) from error


def main(folder: Path) -> None:
    """All that is asked of two processes that go on, in one start of them."""
    group = launched_processes()
    assert group.count == 2
    batch_norm(folder)
    for name, options in RUNS.items():
        trainer = make_trainer(folder / name, **options)
        trainer.train()
        collect(folder / name, "state", trainer.state())
    trainer = make_trainer(folder / "from_one")
    trainer.resume()
    trainer.train()
    # A signal that only the second process gets stops both, and the first one saves.
    trainer = make_trainer(folder / "from_two")
    if group.main:
        try:
            trainer.train()
        except KeyboardInterrupt:
            (folder / "from_two" / "interrupted").touch()
    else:
        interrupt(trainer)
    once = group.main_only(lambda: [str(Path(folder / "once.txt").write_text("main")), os.getpid()])
    found = group.main_first(lambda: (folder / "rendered").exists() or (folder / "rendered").mkdir())
    collect(folder, "work", (once, found))
    # Only the second process has inputs that are no numbers.
    trainer = make_trainer(folder / "nan")
    if not group.main:
        trainer.store.features[:] = float("nan")
    try:
        trainer.train()
    except EdgewakeError as error:
        collect(folder, "nan", (type(error).__name__, str(error)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"main": main, "fail": fail}[sys.argv[2]](Path(sys.argv[1]))
