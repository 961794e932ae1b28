"""A student learns from a teacher by the formula; the teacher stays; a resumed run ends in the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from edgewake.config import WakewordConfig
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.clips import ClipScores, evaluate_model
from edgewake.models import create_model
from edgewake.teachers.base import ConvHead, LinearHead, Teacher, TeacherOutputs
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distillation_trainer import SKIP_MESSAGE, DistillationTrainer, gives_raw_audio
from edgewake.training.losses import distillation_loss
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.trainer import Trainer

torch.set_num_threads(1)
FOUR = {"student_loss", "distillation_loss", "total_loss", "loss_ratio"}
SAMPLES = 7520  # 45 frames of the board's frontend


class Ear(Teacher):
    """Loudness and roughness of 20 ms of audio, under a head: a teacher without a file of weights."""

    architecture, num_classes, embedding_size, frame_rate = "ear", 2, 3, 50.0
    source, head_trained = "random", True

    def __init__(self, *, along_time: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.head = ConvHead(3, 2, 8, 5, 3) if along_time else LinearHead(3)
        self.calls = 0

    def embed(self, audio: Tensor) -> Tensor:
        self.calls += 1
        blocks = audio[:, : audio.shape[1] // 320 * 320].reshape(len(audio), -1, 320)
        loud = blocks.square().mean(dim=2).sqrt()
        rough = (blocks[:, :, 1:] - blocks[:, :, :-1]).abs().mean(dim=2)
        return torch.stack([loud, rough, loud - rough], dim=2) * 30

    def fingerprint(self) -> str:
        return "0" * 16


class FixedTeacher(nn.Module):
    """A teacher with the same logits for every clip."""

    def __init__(self, *logits: float, clips: int | None = None) -> None:
        super().__init__()
        self.logits, self.clips = torch.tensor(logits), clips

    def forward(self, audio: Tensor) -> Tensor:
        return self.logits.expand(self.clips or len(audio), -1)


class Stored:
    """Outputs for an `Ear` by clip."""

    frame_rate = 50.0

    def __init__(self, audio: Tensor, *, frames: bool = True) -> None:
        with torch.no_grad():
            logits, embeddings, along = Ear().freeze().outputs(audio)  # type: ignore[operator]
        self.signals = TeacherOutputs(logits, embeddings if frames else None, along)

    def of(self, clips: Tensor) -> TeacherOutputs:
        return TeacherOutputs(*(None if part is None else part[clips] for part in self.signals))


def audio_clips(count: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise; in clips of class 1 with a tone in it."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(count, SAMPLES, generator=generator) * 0.02
    labels = torch.arange(count) % 2
    tone = torch.sin(torch.arange(2400) * (2 * torch.pi * 1500 / 16000)) * 0.3
    audio[labels == 1, 3000:5400] += tone
    return audio, labels


def raw_loader(count: int = 32, seed: int = 0, batch: int = 8) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*audio_clips(count, seed)), batch_size=batch, shuffle=count == 32)


def make_config(epochs: int = 4, **distillation: Any) -> WakewordConfig:
    config = WakewordConfig()
    config.distillation.enabled = True
    for name, value in distillation.items():
        setattr(config.distillation, name, value)
    config.data.audio_duration = SAMPLES / 16000
    config.training.epochs = epochs
    config.training.learning_rate = 0.003
    config.training.seed = 3
    config.training.early_stopping_patience = 0
    config.training.ema_decay = 0.6
    config.model.dropout = 0.3
    config.qat.fraction, config.qat.observe_batches = 0.5, 2
    return config


def make_student(config: WakewordConfig, width: int = 16) -> nn.Module:
    torch.manual_seed(config.training.seed)
    return create_model("tiny_conv", width=width, kernel_sizes=(3, 3), dropout=config.model.dropout)


def make_trainer(
    folder: Path,
    config: WakewordConfig | None = None,
    kind: type[DistillationTrainer] = DistillationTrainer,
    **options: Any,
) -> Any:
    config = config or make_config()
    if "source" not in options and config.distillation.teacher_architecture != "self":
        options.setdefault("teacher", Ear())
    train, val = options.pop("loaders", (raw_loader(), raw_loader(16, 1)))
    student = options.pop("student", None) or make_student(config)
    return kind(student, train, val, config, CheckpointManager(folder), "cpu", **options)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    both = {**trainer.model.state_dict(), **trainer.extras.state_dict()}
    return {name: value.clone() for name, value in both.items()}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[MetricsLog]:
    """A log whose lines `logged` gives."""
    metrics = MetricsLog(tmp_path / "log", tensorboard=False)
    yield metrics
    metrics.close()


def logged(log: MetricsLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


# ---- the formula -----------------------------------------------------------------------------------


def test_the_loss_of_a_batch_is_the_formula_over_teacher_and_student(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_config(alpha=0.6, temperature=3.0), teacher=FixedTeacher(2.5, 0.1))
    outputs, targets = torch.tensor([[0.7, 0.3], [-1.0, 2.0]]), torch.tensor([0, 1])
    loss = trainer.compute_loss(outputs, targets, torch.zeros(2, 100))
    expected, _ = distillation_loss(
        F.cross_entropy(outputs, targets), outputs, torch.tensor([[2.5, 0.1]] * 2), alpha=0.6, temperature=3.0
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert trainer.loss_figures["loss_ratio"] == pytest.approx(
        trainer.loss_figures["distillation_loss"] / trainer.loss_figures["student_loss"]
    )


def test_hard_negatives_reach_the_students_part_of_the_loss(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_config(alpha=0.5), teacher=FixedTeacher(0.0, 0.0))
    outputs, targets, inputs = torch.tensor([[0.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0]), torch.zeros(2, 9)
    plain = trainer.compute_loss(outputs, targets, inputs)
    hard = trainer.compute_loss(outputs, targets, inputs, is_hard_negative=torch.tensor([False, True]))
    assert float(hard) > float(plain)


def test_with_alpha_0_or_switched_off_training_is_the_baseline_to_the_bit(tmp_path: Path) -> None:
    runs = []
    off = make_config(epochs=2)
    off.distillation.enabled = False
    baseline = Trainer(
        make_student(off), raw_loader(), raw_loader(16, 1), off, CheckpointManager(tmp_path / "plain"), "cpu"
    )
    for trainer in (
        baseline,
        make_trainer(tmp_path / "off", off),
        make_trainer(tmp_path / "zero", make_config(epochs=2, alpha=0.0)),
    ):
        trainer.train()
        runs.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    for other in runs[1:]:
        assert all(torch.equal(value, other[name]) for name, value in runs[0].items())


@pytest.mark.slow
def test_a_student_learns_labels_that_only_the_teacher_has(tmp_path: Path) -> None:
    config = make_config(epochs=30, alpha=1.0)
    config.training.learning_rate, config.augmentation.enabled = 0.01, False
    audio, _ = audio_clips()

    class ByLabel(nn.Module):
        def forward(self, sound: Tensor) -> Tensor:
            loud = sound.square().mean(dim=1).sqrt() > 0.05
            return torch.stack([torch.zeros(len(sound)), torch.where(loud, 4.0, -4.0)], dim=1)

    noise = torch.randint(0, 2, (32,), generator=torch.Generator().manual_seed(1))
    train = DataLoader(TensorDataset(audio, noise), batch_size=8, shuffle=True)
    trainer = make_trainer(tmp_path, config, teacher=ByLabel(), loaders=(train, raw_loader(16, 1)))
    assert trainer.train()["best_f1"] > 0.9


def test_alpha_and_temperature_go_from_start_to_end_over_all_epochs(tmp_path: Path, log: MetricsLog) -> None:
    config = make_config(
        epochs=4, alpha=0.8, alpha_end=0.2, alpha_schedule="linear",
        temperature=4.0, temperature_end=2.0, temperature_schedule="cosine",
    )  # fmt: skip
    config.qat.enabled = True
    trainer = make_trainer(tmp_path / "run", config)
    trainer.metrics = log
    trainer.train()
    steps = [line for line in logged(log) if "learning_rate" in line]
    assert len(steps) == 16
    assert (steps[0]["alpha"], steps[0]["temperature"]) == (0.8, 4.0)
    assert (steps[-1]["alpha"], steps[-1]["temperature"]) == pytest.approx((0.2, 2.0))
    assert [line["alpha"] for line in steps] == sorted((line["alpha"] for line in steps), reverse=True)


# ---- the teacher -----------------------------------------------------------------------------------


def test_the_teacher_is_frozen_stays_in_eval_mode_and_is_in_no_checkpoint(tmp_path: Path) -> None:
    teacher = Ear()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer = make_trainer(tmp_path, make_config(epochs=1), teacher=teacher)
    trainer.train()
    trainer.teacher.train()
    assert not trainer.teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(parameter) for parameter in teacher.parameters()}
    state = trainer.checkpoint_manager.load()
    assert set(state["model"]) == set(trainer.model.state_dict())
    assert state["extras"] == {}


def test_spectrograms_skip_the_teacher_with_one_message_and_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = torch.rand(16, 45, 40) * 8
    loader = DataLoader(TensorDataset(features, torch.arange(16) % 2), batch_size=4)
    teacher = Ear()
    trainer = make_trainer(tmp_path, make_config(epochs=2), teacher=teacher, loaders=(loader, loader))
    result = trainer.train()
    assert teacher.calls == 0
    assert capsys.readouterr().out.count(SKIP_MESSAGE) == 1
    assert result["skipped_batches"] == 8
    resumed = make_trainer(tmp_path, make_config(epochs=2), teacher=Ear(), loaders=(loader, loader))
    resumed.resume()
    assert resumed.train()["skipped_batches"] == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_stop_the_run_and_are_named(tmp_path: Path, value: float) -> None:
    trainer = make_trainer(tmp_path, teacher=FixedTeacher(value, 0.0))
    with pytest.raises(EdgewakeError, match="logits of the teacher are not finite in epoch 1, batch 0"):
        trainer.train()
    trainer = make_trainer(tmp_path)
    with pytest.raises(EdgewakeError, match=r"logits of the student are not finite.*gradient_clip"):
        trainer.compute_loss(torch.tensor([[value, 0.0]]), torch.tensor([0]), torch.zeros(1, SAMPLES))


def test_a_teacher_of_other_clips_or_classes_is_named_with_both_shapes(tmp_path: Path) -> None:
    for teacher, shape in ((FixedTeacher(0.0, 0.0, clips=4), r"\(4, 2\)"), (FixedTeacher(0.0, 0.0, 0.0), r"\(8, 3\)")):
        with pytest.raises(EdgewakeError, match=rf"teacher gives logits of shape {shape}, student \(8, 2\)"):
            make_trainer(tmp_path, teacher=teacher).train()


def test_stored_outputs_are_those_of_the_clips_of_the_batch(tmp_path: Path) -> None:
    audio, labels = audio_clips()
    numbers = torch.arange(32)
    hard = torch.zeros(32, dtype=torch.bool)
    loader = DataLoader(TensorDataset(audio, labels, hard, numbers), batch_size=8, shuffle=True)
    histories = []
    for name, options in (("asked", {"teacher": Ear()}), ("stored", {"source": Stored(audio)})):
        trainer = make_trainer(
            tmp_path / name,
            make_config(epochs=2, hint_weight=0.3, frame_weight=0.3),
            loaders=(loader, raw_loader(16, 1)),
            **options,
        )
        histories.append(trainer.train()["history"])
    for asked, stored in zip(*histories, strict=True):
        assert stored == pytest.approx(asked, rel=1e-3)


def test_stored_outputs_need_the_numbers_of_clips(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, source=Stored(audio_clips()[0]))
    with pytest.raises(EdgewakeError, match="no numbers of clips"):
        trainer.train()


def test_raw_audio_is_recognized_from_any_loader_without_moving_its_random_numbers() -> None:
    class Endless(IterableDataset[tuple[Tensor, int]]):
        def __iter__(self) -> Iterator[tuple[Tensor, int]]:
            while True:
                yield torch.randn(100), 1

    features = DataLoader(TensorDataset(torch.rand(4, 45, 40), torch.zeros(4)), batch_size=2, shuffle=True)
    before = torch.get_rng_state()
    assert gives_raw_audio(raw_loader())
    assert gives_raw_audio(DataLoader(Endless(), batch_size=2))
    assert gives_raw_audio([(torch.zeros(2, 100), torch.zeros(2))])  # type: ignore[arg-type]
    assert not gives_raw_audio(features)
    assert torch.equal(torch.get_rng_state(), before)


# ---- what is logged --------------------------------------------------------------------------------


def test_every_step_logs_the_four_figures_and_every_epoch_their_means(tmp_path: Path, log: MetricsLog) -> None:
    trainer = make_trainer(tmp_path / "run", make_config(epochs=2))
    trainer.metrics = log
    result = trainer.train()
    steps = [line for line in logged(log) if "learning_rate" in line]
    assert [line["step"] for line in steps] == list(range(8))
    for line in steps:
        assert line["total_loss"] == pytest.approx(
            0.5 * line["student_loss"] + 0.5 * line["distillation_loss"], rel=1e-5
        )
        assert line["loss"] == pytest.approx(line["total_loss"], rel=1e-6)
        assert line["loss_ratio"] == pytest.approx(line["distillation_loss"] / line["student_loss"], rel=1e-5)
    for epoch, figures in enumerate(result["history"]):
        own = steps[4 * epoch : 4 * epoch + 4]
        for name in ("student_loss", "distillation_loss", "total_loss"):
            assert figures[name] == pytest.approx(sum(line[name] for line in own) / 4)
        assert figures["loss_ratio"] == pytest.approx(figures["distillation_loss"] / figures["student_loss"])


@pytest.mark.parametrize(
    ("student", "advice"),
    [
        # Right against the teacher; wrong with it.
        (3.0, "> 10: Student and teacher too different (reduce alpha)"),
        (-3.0, "< 0.1: Teacher not contributing (increase alpha)"),
    ],
)
def test_advice_is_given_once_when_the_ratio_leaves_its_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], student: float, advice: str
) -> None:
    trainer = make_trainer(tmp_path, teacher=FixedTeacher(-3.0, 0.0))
    outputs, targets = torch.tensor([[student, 0.0]] * 4), torch.zeros(4, dtype=torch.int64)
    for _ in range(3):
        trainer.compute_loss(outputs, targets, torch.zeros(4, 9))
        trainer.progress.history.append(trainer.loss_figures)
        trainer.report_epoch(trainer.loss_figures, 0.0, best=False)
    assert capsys.readouterr().out.count(advice) == 1


def test_no_advice_is_given_while_the_ratio_is_in_its_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(tmp_path, teacher=FixedTeacher(1.5, -1.5))
    trainer.compute_loss(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), torch.zeros(4, 9))
    trainer.report_epoch(trainer.loss_figures, 0.0, best=False)
    assert 0.1 < trainer.loss_figures["loss_ratio"] < 10
    assert "alpha" not in capsys.readouterr().out


def test_a_users_own_compute_loss_may_take_fewer_arguments(tmp_path: Path, log: MetricsLog) -> None:
    class Mine(DistillationTrainer):
        def compute_loss(self, outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:  # type: ignore[override]
            loss = super().compute_loss(outputs, targets, inputs)
            self.log_metrics({"mine": loss.item()})
            return loss

    trainer = make_trainer(tmp_path / "run", make_config(epochs=1), Mine)
    trainer.metrics = log
    assert "mine" in trainer.train()["history"][0]
    assert sum("mine" in line for line in logged(log)) == 5


# ---- hints and frames ------------------------------------------------------------------------------


def quantized(**distillation: Any) -> WakewordConfig:
    config = make_config(epochs=4, **distillation)
    config.qat.enabled = True
    return config


class Interrupting(DistillationTrainer):
    at = -1

    def compute_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.progress.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().compute_loss(*args, **kwargs)


ALL = {"hint_weight": 0.5, "frame_weight": 0.5, "alpha_schedule": "linear", "alpha_end": 0.2}


@pytest.mark.parametrize("teacher", ["wav2vec2", "self"])
@pytest.mark.slow
def test_a_run_with_hints_frames_and_quantization_resumes_to_the_bit(tmp_path: Path, teacher: str) -> None:
    config = quantized(teacher_architecture=teacher, **ALL)
    whole = make_trainer(tmp_path / "whole", config)
    expected = whole.train()
    assert [bool(name) for name in whole.extras] == [True]
    for at in (2, 9):
        broken = make_trainer(tmp_path / str(at), config, Interrupting)
        broken.at = at
        with pytest.raises(KeyboardInterrupt):
            broken.train()
        resumed = make_trainer(tmp_path / str(at), config)
        resumed.resume()
        assert resumed.train()["history"] == expected["history"]
        for name, value in weights(resumed).items():
            assert torch.equal(value, weights(whole)[name]), name


class Precise(DistillationTrainer):
    def process_inputs(self, inputs: Tensor, *, train: bool) -> Tensor:
        return super().process_inputs(inputs, train=train).double()


def precise(folder: Path, teacher: str) -> DistillationTrainer:
    """In float64: in phase qat a rounding that tips makes a step of what differed by 1e-7."""
    config = quantized(teacher_architecture=teacher, **ALL)
    config.model.dropout = 0.0  # each process draws its own masks
    return make_trainer(folder, config, Precise, student=make_student(config).double())  # type: ignore[no-any-return]


@pytest.mark.slow
def test_two_processes_that_learn_from_a_teacher_have_the_losses_of_one(tmp_path: Path) -> None:
    script = Path(__file__).with_name("two_distilling.py")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", str(script), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for teacher in ("wav2vec2", "self"):
        expected = precise(tmp_path / "alone" / teacher, teacher).train()["history"]
        processes, found = json.loads((tmp_path / f"{teacher}.json").read_text())
        assert processes == 2
        # The teacher computes in float32: in phase qat, the last two epochs, a rounding may tip all the same.
        for ours, theirs, rel in zip(found, expected, (1e-4, 1e-4, 1e-2, 1e-2), strict=True):
            names = FOUR | {"hint_loss", "frame_loss", "alpha"}
            wanted = {name: theirs[name] for name in names}
            assert {name: ours[name] for name in names} == pytest.approx(wanted, rel=rel, abs=1e-6), teacher


def test_the_projection_is_trained_and_not_part_of_the_student(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, quantized(hint_weight=1.0))
    assert trainer.extras["hint"].weight.shape == (3, 16)
    before = weights(trainer)["hint.weight"]
    trainer.train()
    assert trainer.progress.phase == "qat"
    assert not torch.equal(weights(trainer)["hint.weight"], before)
    assert not any("hint" in name for name in trainer.trained.state_dict())
    state = trainer.checkpoint_manager.load()
    assert torch.equal(state["extras"]["hint.weight"], weights(trainer)["hint.weight"])
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in trainer.extras.parameters()} <= in_optimizer


def test_the_student_is_run_once_a_step_though_losses_need_its_features(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_config(epochs=1, hint_weight=1.0, frame_weight=1.0))
    stem, calls = trainer.model.layers[0], []
    stem.register_forward_hook(lambda *_: calls.append(trainer.model.training))
    trainer.train()
    assert sum(calls) == 4


def test_hint_and_frame_losses_add_to_the_total_by_their_weights(tmp_path: Path, log: MetricsLog) -> None:
    trainer = make_trainer(tmp_path / "run", make_config(epochs=1, hint_weight=0.25, frame_weight=2.0))
    trainer.metrics = log
    trainer.train()
    for line in logged(log):
        parts = 0.5 * line["student_loss"] + 0.5 * line["distillation_loss"]
        parts += 0.25 * line["hint_loss"] + 2.0 * line["frame_loss"]
        assert line["total_loss"] == pytest.approx(parts, rel=1e-5)


def test_a_step_of_the_student_learns_the_teachers_frame_before_the_delay(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_config(frame_weight=1.0, frame_delay_ms=100.0))
    # 45 frames: 15 steps, of which the receptive field of 5 leaves 11. Step 4 ends with frame 14, whose
    # window of 30 ms ends 0.17 s after the clip's start; the last ends with the clip, at 0.47 s.
    times = trainer.step_times(11, 45)
    assert times[0] == pytest.approx(0.17)
    assert times[-1] == pytest.approx(0.47)
    # The teacher of this test gives the time: frame j stands for (j + 0.5) / 50 s.
    clock = ((torch.arange(23) + 0.5) / 50)[None, :, None]
    steps = torch.zeros(1, 1, 11)
    aligned = trainer._aligned(clock, steps, torch.zeros(1, 45, 40))
    assert torch.allclose(aligned[0, :, 0], times.float() - 0.1, atol=1e-6)


def test_the_last_sample_of_a_step_is_the_one_that_step_times_gives(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    student, audio = trainer.model.eval(), audio_clips(2)[0][:1]
    end = round(float(trainer.step_times(11, 45)[3]) * 16000)
    with torch.no_grad():
        seen = student.step_logits(trainer.process_inputs(audio, train=False))
        after, before = audio.clone(), audio.clone()
        after[:, end:] += 0.2
        before[:, end - 100 : end] += torch.randn(100) * 0.3
        unchanged = student.step_logits(trainer.process_inputs(after, train=False))
        changed = student.step_logits(trainer.process_inputs(before, train=False))
    assert torch.equal(unchanged[:, :4], seen[:, :4])
    assert not torch.equal(changed[:, 3], seen[:, 3])


def test_what_a_student_or_teacher_cannot_give_is_reported_before_training(tmp_path: Path) -> None:
    config = make_config(frame_weight=1.0)
    config.model.architecture = "gru"
    with pytest.raises(ConfigError, match=r"frame_weight = 1\.0.*only tiny_conv"):
        make_trainer(tmp_path, config, student=create_model("gru", hidden=8, layers=1))
    with pytest.raises(ConfigError, match=r"hint_weight = 1\.0: the teacher gives no embeddings"):
        make_trainer(tmp_path, make_config(hint_weight=1.0), teacher=FixedTeacher(0.0, 0.0))
    stored = Stored(audio_clips()[0], frames=False)
    with pytest.raises(ConfigError, match="no embeddings"):
        make_trainer(tmp_path, make_config(hint_weight=1.0), source=stored)
    with pytest.raises(ConfigError, match=r"no logits along time; set teacher\.head: conv"):
        make_trainer(tmp_path, make_config(frame_weight=1.0), teacher=Ear(along_time=False)).train()


@pytest.mark.parametrize("architecture", ["gru", "mobilenetv3"])
@pytest.mark.slow
def test_students_with_and_without_features_along_time_learn_from_hints(tmp_path: Path, architecture: str) -> None:
    config = make_config(epochs=1, hint_weight=1.0, hint_loss="cosine")
    config.model.architecture = architecture
    student = create_model(architecture, input_size=40)
    result = make_trainer(tmp_path, config, student=student).train()
    assert 0 < result["history"][0]["hint_loss"] < 2


# ---- the student as its own teacher ----------------------------------------------------------------


def test_the_running_average_teaches_and_needs_no_raw_audio(tmp_path: Path) -> None:
    features = torch.rand(16, 45, 40) * 8
    loader = DataLoader(TensorDataset(features, torch.arange(16) % 2), batch_size=4)
    trainer = make_trainer(tmp_path, quantized(teacher_architecture="self"), loaders=(loader, loader))
    result = trainer.train()
    assert result["skipped_batches"] == 0
    # In the first step, average and student are the same network but for dropout.
    assert result["history"][0]["distillation_loss"] > 0
    assert trainer.teacher is None


def test_without_a_running_average_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    config = make_config(teacher_architecture="self")
    config.training.ema_decay = 0.0
    with pytest.raises(ConfigError, match=r"training\.ema_decay = 0"):
        make_trainer(tmp_path, config)


def test_an_earlier_student_is_the_teacher(tmp_path: Path) -> None:
    """Quantized and larger, from its run's folder; or of the same size, from a bare checkpoint."""
    first_config = quantized(teacher_architecture="self")
    first_config.model.width, first_config.model.kernel_sizes = 32, (3, 5)
    first_config.evaluation.window = 3
    torch.manual_seed(0)
    first = make_trainer(
        tmp_path / "first" / "checkpoints",
        first_config,
        student=create_model("tiny_conv", width=32, kernel_sizes=(3, 5), dropout=0.3),
    )
    first.train()
    first_config.save(tmp_path / "first" / "config.yaml")
    features = torch.rand(4, 45, 40) * 8
    best = first.checkpoint_manager.load(first.checkpoint_manager.best)
    first.model.load_state_dict(best["model"])
    with torch.no_grad():
        expected = first.model.eval()(features)
    for path in (tmp_path / "first", tmp_path / "first" / "checkpoints" / "best.pt"):
        config = make_config(
            epochs=1,
            teacher_architecture="self",
            teacher_model_path=str(path),
            frame_weight=0.5,
            hint_weight=0.5,
        )
        again = make_trainer(tmp_path / path.name / "again", config)
        assert torch.equal(again.teacher_outputs(None, features).logits, expected)
        assert not any(parameter.requires_grad for parameter in again.teacher.parameters())
        again.train()
    bare = tmp_path / "bare.pt"
    torch.save({"model": make_student(make_config()).state_dict(), "phase": "float"}, bare)
    same = make_config(epochs=1, teacher_architecture="self", teacher_model_path=str(bare))
    make_trainer(tmp_path / "same", same).train()


def test_a_checkpoint_of_another_student_or_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": make_student(make_config(), 32).state_dict(), "phase": "float"}, path)
    config = make_config(teacher_architecture="self", teacher_model_path=str(path))
    with pytest.raises(ConfigError, match=r"other\.pt' is of another architecture than model\.\*"):
        make_trainer(tmp_path, config)
    config.distillation.teacher_model_path = str(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"none\.pt' does not exist"):
        make_trainer(tmp_path, config)


# ---- evaluate_model --------------------------------------------------------------------------------


def test_teacher_and_student_are_evaluated_on_the_same_clips(capsys: pytest.CaptureFixture[str]) -> None:
    loader = raw_loader(16, 1)
    always = Ear()
    nn.init.zeros_(always.head.logit.weight)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(always.head.logit.bias, 5.0)  # type: ignore[union-attr, arg-type]
    scores = evaluate_model(always, loader)
    assert f"{scores:.2%}" == "50.00%"
    assert (scores["acc"], scores["recall"], scores["precision"], scores["clips"]) == (0.5, 1.0, 0.5, 16)
    assert f"{scores['f1']:.3f}" == "0.667"
    shown = capsys.readouterr()
    assert "Teacher accuracy: 50.00% < 80%: teacher may not be helpful" in shown.err
    student = make_student(make_config()).train()
    scores = evaluate_model(student, loader)
    assert student.training
    assert set(dict(scores)) == {"acc", "accuracy", "precision", "recall", "f1", "loss", "clips"}
    assert "helpful" not in capsys.readouterr().err


def test_a_student_is_evaluated_alike_on_audio_and_on_the_features_of_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    loader = raw_loader(16, 1)
    processed = [(trainer.process_inputs(audio, train=False), labels) for audio, labels in loader]
    assert dict(evaluate_model(trainer.model, loader)) == dict(evaluate_model(trainer.model, processed))
    gru = create_model("gru", input_size=24, hidden=8, layers=1)
    assert isinstance(evaluate_model(gru, loader), ClipScores)


def test_a_teacher_cannot_be_evaluated_on_spectrograms_or_on_nothing() -> None:
    with pytest.raises(EdgewakeError, match="return_raw_audio=True"):
        evaluate_model(Ear(), [(torch.zeros(2, 45, 40), torch.zeros(2, dtype=torch.int64))])
    with pytest.raises(EdgewakeError, match="gives no batch"):
        evaluate_model(Ear(), [])
