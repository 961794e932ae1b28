"""Training resumes to the bit, stops at a loss that is not finite, and keeps the last good state."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from edgewake.config import WakewordConfig
from edgewake.data.clips import BalancedBatchSampler
from edgewake.errors import EdgewakeError
from edgewake.models import create_model
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.trainer import Trainer, clone

torch.set_num_threads(1)


def make_config(epochs: int = 4, **training: Any) -> WakewordConfig:
    config = WakewordConfig()
    config.qat.enabled = True
    config.qat.fraction = 0.5
    config.qat.observe_batches = 2
    config.training.epochs = epochs
    config.training.learning_rate = 0.003
    config.training.seed = 11
    config.training.early_stopping_patience = 0
    config.training.ema_decay = 0.6
    for name, value in training.items():
        setattr(config.training, name, value)
    return config


def clips(count: int = 32, seed: int = 0) -> TensorDataset:
    """Clips whose class is a burst in the upper channels, easy to learn."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(count, 45, 40, generator=generator) * 8
    labels = torch.arange(count) % 2
    features[labels == 1, 20:35, 25:] += 12
    return TensorDataset(features, labels, torch.zeros(count, dtype=torch.bool))


class Interrupting(Trainer):
    """In the middle of step `at`, once: Ctrl-C, or the end of the process."""

    at = -1
    dies = False

    def compute_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.progress.step == self.at:
            self.at = -1
            if self.dies:
                raise SystemExit(9)
            os.kill(os.getpid(), signal.SIGINT)
        return super().compute_loss(*args, **kwargs)


def make_trainer(
    folder: Path, config: WakewordConfig | None = None, *, shuffled: bool = False, workers: int = 0
) -> Interrupting:
    config = config or make_config()
    torch.manual_seed(config.training.seed)
    model = create_model("tiny_conv", width=16, kernel_sizes=(3, 3), dropout=0.3)
    data = clips()
    if shuffled:
        loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=workers)
    else:
        labels = data.tensors[1].numpy()
        sampler = BalancedBatchSampler(labels != 1, labels * 0 + 1.0, 8, [0.5], 4, seed=config.training.seed)
        loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)
    val = DataLoader(clips(16, seed=1), batch_size=8)
    return Interrupting(model, loader, val, config, CheckpointManager(folder), "cpu")


def test_the_hardest_of_the_candidates_fill_their_share_of_a_batch(tmp_path: Path) -> None:
    config = make_config()
    config.set("training.batch_size", 8)
    config.set("training.hard_share", 0.25)
    config.set("training.hard_candidates", 10)
    trainer = make_trainer(tmp_path, config)
    inputs = torch.rand(16, *trainer.train_loader.dataset.tensors[0].shape[1:]) * 20
    processed = trainer.process_inputs(inputs, train=False)
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(processed)[:, 1]
    chosen = trainer._with_hardest(processed)
    assert chosen.tolist()[:6] == list(range(6))
    assert set(chosen.tolist()[6:]) == {6 + int(each) for each in logits[6:].argsort(descending=True)[:2]}
    seen = []
    trainer.compute_loss = lambda outputs, targets, **_: seen.append((outputs, targets)) or outputs.sum()  # type: ignore
    targets = torch.cat([torch.ones(4), torch.zeros(12)]).long()
    trainer.train_step((inputs, targets, targets == 9, torch.arange(16)))
    assert len(seen[0][0]) == len(seen[0][1]) == 8
    assert trainer.clips.tolist()[:6] == list(range(6))
    assert trainer.model.training
    assert len(set(trainer.clips.tolist())) == 8


def final_weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[bool, tuple[dict[str, Tensor], dict[str, Any]]]:
    """Final weights and results of runs that nothing interrupted, by whether the loader shuffles."""
    runs = {}
    for shuffled in (False, True):
        trainer = make_trainer(tmp_path_factory.mktemp("whole"), shuffled=shuffled)
        result = trainer.train()
        runs[shuffled] = (final_weights(trainer), result)
    return runs


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)

    def impatient(_: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second Ctrl-C was ignored")

    trainer.evaluator = impatient
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


# 16 steps in all: 0..7 in float, 8..15 in QAT; steps at an epoch's start, middle, phase change and end.
@pytest.mark.parametrize("shuffled", [False, True], ids=["sampler", "shuffled"])
@pytest.mark.parametrize("at", [1, 4, 6, 8, 11, 15])
def test_a_run_interrupted_by_ctrl_c_ends_in_the_same_weights(
    tmp_path: Path, undisturbed: dict[bool, Any], at: int, shuffled: bool
) -> None:
    trainer = make_trainer(tmp_path, shuffled=shuffled)
    trainer.at = at
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    resumed = make_trainer(tmp_path, shuffled=shuffled)
    resumed.resume()
    assert resumed.progress.step == at + 1
    result = resumed.train()
    expected, expected_result = undisturbed[shuffled]
    for name, value in final_weights(resumed).items():
        assert torch.equal(value, expected[name]), name
    assert result["history"] == expected_result["history"]


def test_a_run_that_died_without_a_word_ends_in_the_same_weights(tmp_path: Path, undisturbed: dict[bool, Any]) -> None:
    trainer = make_trainer(tmp_path)
    trainer.at, trainer.dies = 10, True
    with pytest.raises(SystemExit):
        trainer.train()
    resumed = make_trainer(tmp_path)
    resumed.resume()
    assert resumed.progress.step == 8
    resumed.train()
    for name, value in final_weights(resumed).items():
        assert torch.equal(value, undisturbed[False][0][name]), name


def test_checkpoints_within_an_epoch_lose_few_steps_and_change_nothing(
    tmp_path: Path, undisturbed: dict[bool, Any]
) -> None:
    config = make_config(checkpoint_steps=3)
    trainer = make_trainer(tmp_path, config)
    trainer.at, trainer.dies = 10, True
    with pytest.raises(SystemExit):
        trainer.train()
    resumed = make_trainer(tmp_path, config)
    resumed.resume()
    assert (resumed.progress.step, resumed.progress.batch) == (9, 1)
    resumed.train()
    for name, value in final_weights(resumed).items():
        assert torch.equal(value, undisturbed[False][0][name]), name


@pytest.mark.parametrize("shuffled", [False, True], ids=["sampler", "shuffled"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_the_number_of_workers_changes_no_batch(
    tmp_path: Path, undisturbed: dict[bool, Any], shuffled: bool, workers: int
) -> None:
    trainer = make_trainer(tmp_path, shuffled=shuffled, workers=workers)
    trainer.at = 5
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    resumed = make_trainer(tmp_path, shuffled=shuffled, workers=3 - workers)
    resumed.resume()
    resumed.train()
    for name, value in final_weights(resumed).items():
        assert torch.equal(value, undisturbed[shuffled][0][name]), name


def test_training_learns_and_reports_the_best(undisturbed: dict[bool, Any], tmp_path: Path) -> None:
    _, result = undisturbed[False]
    assert result["epochs"] == 4
    assert result["steps"] == 16
    first, last = result["history"][0], result["history"][-1]
    assert last["train_loss"] < first["train_loss"]
    trainer = make_trainer(tmp_path, make_config(epochs=24))
    assert trainer.train()["best_f1"] > 0.95


def test_the_best_checkpoint_is_of_the_quantized_phase(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    result = trainer.train()
    state = CheckpointManager(tmp_path).load(Path(result["best_checkpoint"]))
    assert state["phase"] == "qat"
    assert not any("norm" in name for name in state["model"])


def test_a_loss_that_is_not_finite_stops_with_the_batch_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    features = trainer.train_loader.dataset.tensors[0]

    def poison(_: Any) -> dict[str, float]:
        features[:] = float("nan")
        return {}

    trainer.evaluator = poison
    with pytest.raises(EdgewakeError, match="loss is nan in epoch 2, batch 0"):
        trainer.train()
    state = CheckpointManager(tmp_path).load()
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_resuming_another_architecture_names_the_remedy(tmp_path: Path) -> None:
    make_trainer(tmp_path, make_config(epochs=2)).train()
    other = make_trainer(tmp_path)
    other.model = create_model("tiny_conv", width=32, kernel_sizes=(3, 3))
    with pytest.raises(EdgewakeError, match="another architecture"):
        other.resume()


def test_resuming_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match="start without --resume"):
        make_trainer(tmp_path).resume()


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    make_trainer(tmp_path, make_config(epochs=2)).train()
    last = tmp_path / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(EdgewakeError, match=r"last\.pt cannot be read"):
        make_trainer(tmp_path).resume()


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = CheckpointManager(tmp_path)
    good = {"model": {}, "step": 1, "epoch": 0, "best_score": 0.0}
    manager.save(good)

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(EdgewakeError, match="No space left"):
        manager.save(good | {"step": 2})
    monkeypatch.undo()
    assert manager.load()["step"] == 1
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_what_a_process_killed_in_a_checkpoint_left_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = CheckpointManager(tmp_path)
    child = os.fork()
    if not child:
        monkeypatch.setattr(torch, "save", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        manager.save({"model": {}, "step": 1, "epoch": 0, "best_score": 0.0})
    os.waitpid(child, 0)
    assert [path.name.startswith(".last.pt.") for path in tmp_path.iterdir()] == [True]
    manager.save({"model": {}, "step": 1, "epoch": 0, "best_score": 0.0})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt"]


def test_qat_observes_each_batch_under_augmentation_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same clips in every batch: only augmentation can tell two observed batches apart."""
    observed: list[list[Tensor]] = []
    for run in range(2):
        trainer = make_trainer(tmp_path / str(run))
        trainer.train_loader.dataset.tensors[0][:] = 3.0 + torch.arange(40)
        trainer.progress.step = 7
        seen: list[Tensor] = []
        hook = trainer.model.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].clone()))
        trainer._enter_qat()
        hook.remove()
        observed.append(seen)
    first, second = observed[0]
    assert not torch.equal(first, second)
    assert all(torch.equal(*pair) for pair in zip(*observed, strict=True))


def test_without_augmentation_the_student_sees_the_clips_as_they_are(tmp_path: Path) -> None:
    config = make_config()
    features = torch.rand(2, 45, 40)
    assert not torch.equal(make_trainer(tmp_path, config).process_inputs(features, train=True), features)
    config.augmentation.enabled = False
    assert torch.equal(make_trainer(tmp_path, config).process_inputs(features, train=True), features)


def test_early_stopping_ends_a_phase_after_its_patience(tmp_path: Path) -> None:
    config = make_config(epochs=40, early_stopping_patience=2)
    trainer = make_trainer(tmp_path, config)
    trainer.evaluator = lambda model: {"score": -float(trainer.progress.epoch)}
    result = trainer.train()
    assert result["epochs"] == 6  # one that was best and two that were not, in each of two phases


@pytest.mark.parametrize("patience", [0, 1])
def test_where_nothing_is_measured_the_latest_epoch_is_the_best(
    tmp_path: Path, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, enter, taken = (
        make_trainer(tmp_path, make_config(early_stopping_patience=patience)),
        Trainer._enter_qat,
        [],
    )
    trainer.val_loader = None

    def spy(self: Trainer) -> None:
        taken.append(self.checkpoint_manager.load(self.checkpoint_manager.best)["epoch"])
        enter(self)

    monkeypatch.setattr(Trainer, "_enter_qat", spy)
    result = trainer.train()
    assert (result["epochs"], result["best_score"], result["best_f1"]) == (4, 0.0, 0.0)
    assert taken == [2]  # the second phase goes on from the last epoch of the first one
    assert trainer.checkpoint_manager.load(Path(result["best_checkpoint"]))["epoch"] == 4


class Watching(Interrupting):
    """Keeps where its runs begin and end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun: list[dict[str, Tensor]] = []
        self.ended: list[dict[str, Tensor]] = []

    def train_step(self, batch: Any) -> float:
        if self.progress.phase == "float" and (self.progress.phase_epoch % 2, self.progress.batch) == (0, 0):
            self.begun.append(clone(self.model.state_dict()))
        return super().train_step(batch)

    def _end_run(self, *, last: bool) -> None:
        self.ended.append(clone(self.trained.state_dict()))
        super()._end_run(last=last)


def watching(folder: Path, *, quantized: bool = True) -> Watching:
    """Two runs of two epochs, and as many of QAT."""
    config = make_config(8 if quantized else 4, averaged_runs=2)
    config.qat.enabled = quantized
    trainer = make_trainer(folder, config)
    parts = (trainer.model, trainer.train_loader, trainer.val_loader, trainer.config, trainer.checkpoint_manager)
    return Watching(*parts, "cpu")


def test_runs_from_the_same_start_end_in_their_mean(tmp_path: Path) -> None:
    trainer = watching(tmp_path, quantized=False)
    start = clone(trainer.model.state_dict())
    result = trainer.train()
    assert result["epochs"] == 4
    assert len(trainer.begun) == len(trainer.ended) == 2
    mean = trainer.checkpoint_manager.load(trainer.checkpoint_manager.best)
    for name, value in start.items():
        for begun in trainer.begun:
            assert torch.equal(begun[name], value), name
        first, second = (ended[name] for ended in trainer.ended)
        if value.is_floating_point():
            assert torch.allclose(mean["model"][name], (first + second) / 2, atol=1e-6), name
    assert not torch.equal(*(ended["head.weight"] for ended in trainer.ended))
    rates = []
    for epoch in range(4):
        trainer.progress.phase, trainer.progress.phase_epoch, trainer.progress.batch = "float", epoch, 1
        rates.append(trainer.learning_rate())
    assert rates[0] == rates[2] > rates[1] == rates[3]


@pytest.mark.parametrize("at", [3, 7, 8, 14, 20])
def test_an_interrupted_run_of_several_ends_in_the_same_weights(tmp_path: Path, at: int) -> None:
    whole = watching(tmp_path / "whole")
    whole.train()
    trainer = watching(tmp_path / "parts")
    trainer.at = at
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    resumed = watching(tmp_path / "parts")
    resumed.resume()
    resumed.train()
    for name, value in final_weights(resumed).items():
        assert torch.equal(value, final_weights(whole)[name]), name


def test_learning_rate_warms_up_and_falls_to_a_hundredth(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_config(epochs=20))
    rates = []
    for step in range(40):
        trainer.progress.phase_epoch, trainer.progress.batch = divmod(step, 4)
        rates.append(trainer.learning_rate())
    assert max(rates) == pytest.approx(0.003)
    assert rates[0] < rates[1] < rates[3]
    assert rates[-1] == pytest.approx(0.00003, rel=0.6)
    trainer.progress.phase, trainer.progress.phase_epoch = "qat", 1
    assert trainer.learning_rate() <= 0.003 * trainer.config.qat.learning_rate_factor


def test_metrics_of_a_resumed_run_read_as_one_run(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, tensorboard=False)
    for step in (0, 1):
        log.log(step, {"loss": 1.0})
    log.log(2, {"epoch": 1, "train_loss": 1.0})
    for step in (2, 3):
        log.log(step, {"loss": 1.0})
    log.log(4, {"epoch": 2, "train_loss": 1.0})
    log.close()
    # Steps count from 0: of two steps, number 2 is the next.
    resumed = MetricsLog(tmp_path, resume_step=2, tensorboard=False)
    resumed.log(2, {"loss": 9.0})
    resumed.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line.get("loss")) for line in lines] == [(0, 1.0), (1, 1.0), (2, None), (2, 9.0)]


def test_metrics_go_to_tensorboard_too(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log(1, {"loss": 0.5, "phase": "float"})
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == [0.5]


def test_the_loss_takes_the_full_signature_of_the_guide(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    outputs, targets = torch.zeros(2, 2), torch.tensor([0, 1])
    loss = trainer.compute_loss(
        outputs,
        targets,
        inputs=torch.zeros(2, 16000),
        processed_inputs=torch.zeros(2, 45, 40),
        is_hard_negative=torch.tensor([True, False]),
    )
    assert loss.item() == pytest.approx(0.6931472)
