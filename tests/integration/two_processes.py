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
from torch.utils.data import DataLoader, Dataset

from edgewake.config import WakewordConfig
from edgewake.data.sampling import BalancedBatchSampler
from edgewake.errors import EdgewakeError, ReportedError
from edgewake.evaluation.clip_metrics import MetricsLog
from edgewake.models import create_model
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distributed import Part, processes
from edgewake.training.synced import SharedDropout, SyncedBatchNorm
from edgewake.training.trainer import Trainer

RUNS = {"sampler": {}, "shuffled": {"shuffled": True}, "single": {"single": True}}
SHAPES = {"flat": (8, 6), "steps": (8, 6, 7), "images": (8, 6, 5, 3)}


class Store(Dataset[tuple[Tensor, int, bool, int]]):
    """Clips with sampling weights and flags of hard negatives, as a feature store has them."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(4)
        self.labels = np.arange(count) % 3 == 0
        self.features = torch.rand(count, 45, 40, generator=generator) * 8
        self.features[torch.from_numpy(self.labels), 20:35, 25:] += 9
        self.weights = np.ones(count)
        self.hard = np.arange(count) % 7 == 1

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, bool, int]:
        return self.features[index], int(self.labels[index]), bool(self.hard[index]), index

    def state_dict(self) -> dict[str, Any]:
        return {"weights": torch.from_numpy(self.weights.copy()), "hard": torch.from_numpy(self.hard.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights[:], self.hard[:] = state["weights"].numpy(), state["hard"].numpy()


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
    """Everything on that draws numbers, weighs clips or carries state, and batches that two cannot share."""
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
    training.log_every = 1
    config.augmentation.spec_augment_prob = 0.7
    config.augmentation.tempo_warp = 0.1
    return config


def make_trainer(folder: Path, *, shuffled: bool = False, single: bool = False) -> Watched:
    """The same trainer in every process.

    In float64, where what differs is the arithmetic and not its rounding: AdamW divides each gradient by its
    own size, so that one of pure rounding (a bias before BatchNorm has it) moves a weight by a whole step.
    `single` is float32 with SGD, which does not.
    """
    config = settings()
    if single:
        config.optimizer.optimizer, config.training.learning_rate = "sgd", 0.02
    torch.manual_seed(config.training.seed)
    model = create_model("tiny_conv", width=16, kernel_sizes=(3, 3), dropout=0.3)
    dtype = torch.float32 if single else torch.float64
    model.to(dtype)
    store = Store(33)
    if shuffled:
        loader = DataLoader(store, batch_size=8, shuffle=True)
    else:
        sampler = BalancedBatchSampler(store.labels.astype(np.int64), store.weights, 9, 1 / 3, 6, seed=5)
        loader = DataLoader(store, batch_sampler=sampler)

    def mine(student: nn.Module, epoch: int) -> dict[str, float]:
        student.eval()
        with torch.no_grad():
            probability = student(store.features.to(dtype)).softmax(dim=1)[:, 1].numpy()
        store.weights[:] = 1 + 3 * probability
        store.hard[:] = (probability > np.median(probability)) & ~store.labels
        if not shuffled:
            sampler.weights = store.weights
        return {"hard_negatives": float(store.hard.sum())}

    trainer = Watched(
        model,
        loader,
        DataLoader(Store(16), batch_size=8),
        config,
        CheckpointManager(folder),
        "cpu",
        evaluator=lambda student: {"score": float(student(Store(4).features.to(dtype)).abs().sum())},
        miner=mine,
        loader_state=store,
    )
    trainer.dtype = dtype
    if processes().main:
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


def _layers(folder: Path) -> None:
    group = processes()
    rows = slice(0, 5) if group.main else slice(5, 8)
    found: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(1)
        whole = torch.randn(shape, generator=generator) * 3 + 20
        slope = torch.randn(shape, generator=generator)
        like = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](6)
        nn.init.uniform_(like.weight, generator=generator)
        norm = SyncedBatchNorm.like(like)
        for _ in range(2):
            value = whole[rows].clone().requires_grad_()
            output = norm(value)
            (output * slope[rows]).sum().backward()
        group.sum_gradients(norm.parameters())
        assert value.grad is not None
        parts = group.collect((output.detach(), value.grad))
        found[name] = {
            "output": torch.cat([part[0] for part in parts]),
            "gradient": torch.cat([part[1] for part in parts]),
            "weight": norm.weight.grad,
            "bias": norm.bias.grad,
            **norm.state_dict(prefix="state."),
        }
    torch.manual_seed(3)
    group.part = Part(rows.start, rows.stop - rows.start, 8, 0.5)
    dropped = SharedDropout(nn.Dropout1d(0.4), group)(torch.ones(8, 6, 7)[rows])
    folded = SharedDropout(nn.Dropout(0.4), group)(torch.ones(16, 6)[2 * rows.start : 2 * rows.stop])
    group.part = None
    found["dropout"] = torch.cat(group.collect(dropped))
    found["dropout of steps"] = torch.cat(group.collect(folded))
    found["next number"] = torch.stack(group.collect(torch.rand(1)))
    if group.main:
        torch.save(found, folder / "layers.pt")


def _failure(folder: Path, kind: type[Exception], where: int) -> None:
    """What every process raises when one cannot go on."""
    group = processes()
    trainer = make_trainer(folder)

    def fail() -> None:
        raise kind("the disk has gone")

    if group.index == where:
        trainer.at, trainer.act = 3, fail  # type: ignore[method-assign]
    try:
        trainer.train()
    except Exception as error:
        shown = isinstance(error, EdgewakeError) and not isinstance(error, ReportedError)
        lines = group.collect((type(error).__name__, str(error), shown))
        if group.main:
            torch.save(lines, folder / "failure.pt")
        return
    raise AssertionError("the failure was not seen")


def _not_finite(folder: Path) -> None:
    group = processes()
    trainer = make_trainer(folder)
    if not group.main:
        trainer.loader_state.features[:] = float("nan")
    try:
        trainer.train()
    except EdgewakeError as error:
        lines = group.collect((type(error).__name__, str(error)))
        if group.main:
            torch.save(lines, folder / "failure.pt")


def main(folder: Path) -> None:
    """All that is asked of two processes, in one start of them."""
    torch.set_num_threads(1)
    group = processes()
    assert group.count == 2
    _layers(folder)
    for name, options in RUNS.items():
        trainer = make_trainer(folder / name, **options)
        trainer.train()
        states = group.collect(trainer.state())
        if group.main:
            torch.save(states, folder / name / "states.pt")
    trainer = make_trainer(folder / "from_one")
    trainer.resume()
    trainer.train()
    # A signal that only the second process gets stops both, and the first one saves.
    trainer = make_trainer(folder / "from_two")
    if group.main:
        trainer.at = -1
        try:
            trainer.train()
        except KeyboardInterrupt:
            (folder / "from_two" / "interrupted").touch()
    else:
        interrupt(trainer)
    _failure(folder / "first", EdgewakeError, 0)
    _failure(folder / "second", EdgewakeError, 1)
    _failure(folder / "bug", ZeroDivisionError, 1)
    _not_finite(folder / "nan")
    once = group.main_only(lambda: [str(Path(folder / "once.txt").write_text("main")), os.getpid()])
    order = group.main_first(lambda: (folder / "rendered").exists() or (folder / "rendered").mkdir())
    everyone = group.collect((once, order))
    if group.main:
        torch.save(everyone, folder / "work.pt")
    print(f"shown by {group.index}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
