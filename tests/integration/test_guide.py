"""Each section, method, example and troubleshooting entry of the distillation guide holds as it is printed.

Code is the guide's own, with the package's name, smaller sizes, "cpu" for "cuda", and a small random Wav2Vec2
in a local Hugging Face folder in the place of the one of 95 million parameters.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edgewake.cli import main
from edgewake.config.defaults import DistillationConfig, WakewordConfig
from edgewake.config.presets import get_esp32_no_psram_preset, get_preset
from edgewake.data.dataset import WakewordDataset
from edgewake.data.manifest import CorpusManifest
from edgewake.errors import EdgewakeError
from edgewake.evaluation import evaluate_model
from edgewake.models.factory import create_model
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distillation_trainer import SKIP_MESSAGE, DistillationTrainer
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.run import train_command
from edgewake.training.trainer import Trainer

torch.set_num_threads(1)
pytestmark = pytest.mark.slow
FOUR_FIGURES = {"student_loss", "distillation_loss", "total_loss", "loss_ratio"}

GUIDE_YAML = (Path(__file__).parents[1] / "data" / "guide_method_1.yaml").read_text()


# ---- what the guide takes for granted: recordings, loaders, a pretrained Wav2Vec2 ------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """A folder with data/splits/{train,val}.json: rising tones are the phrase, falling ones are not."""
    root = tmp_path_factory.mktemp("guide")
    tones(root / "audio", ("train", "train", "train", "val", "val"))
    manifest = CorpusManifest.load(root / "audio" / "manifest.json")
    for split in ("train", "val"):
        part = manifest.with_entries(entry for entry in manifest.entries if entry.split == split)
        (root / "data" / "splits").mkdir(parents=True, exist_ok=True)
        part.save(root / "data" / "splits" / f"{split}.json")
    (root / "models").mkdir()
    return root


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's paths are relative."""
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def wav2vec2(place: Path) -> str:
    """A Hugging Face folder with a small random Wav2Vec2."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = Wav2Vec2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            conv_dim=(16, 16, 16), conv_kernel=(10, 8, 4), conv_stride=(8, 8, 5), num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2, num_feat_extract_layers=3,
        )  # fmt: skip
        Wav2Vec2Model(shape).save_pretrained(place / "wav2vec2")
    return str(place / "wav2vec2")


def small(config: WakewordConfig, wav2vec2: str) -> WakewordConfig:
    """The guide's configuration at a size for tests."""
    config.data.audio_duration = 1.0
    config.training.epochs = 1
    config.training.batch_size = 4
    config.training.early_stopping_patience = 0
    config.teacher.epochs = 2
    config.qat.observe_batches = 1
    config.distillation.teacher_model_path = config.distillation.teacher_model_path or wav2vec2
    return config


def make_loader(split: str, *, raw: bool = True) -> DataLoader[Any]:
    dataset = WakewordDataset(
        manifest_path=Path(f"data/splits/{split}.json"),
        sample_rate=16000,
        audio_duration=1.0,
        augment=False,
        return_raw_audio=raw,
        device="cpu",
    )
    return DataLoader(dataset, batch_size=4, shuffle=split == "train")


@pytest.fixture
def train_loader() -> DataLoader[Any]:
    return make_loader("train")


@pytest.fixture
def val_loader() -> DataLoader[Any]:
    return make_loader("val")


@pytest.fixture
def checkpoint_manager(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "checkpoints")


def tiny_student() -> nn.Module:
    return create_model("tiny_conv", 2, 40, width=16, kernel_sizes=(3, 3))


def distilling(wav2vec2: str, **values: Any) -> WakewordConfig:
    config = WakewordConfig()
    config.distillation = DistillationConfig(enabled=True, **values)
    return small(config, wav2vec2)


class FixedTeacher(nn.Module):
    """A teacher with the same logits for every clip."""

    def __init__(self, *logits: float, clips: int | None = None) -> None:
        super().__init__()
        self.logits, self.clips = torch.tensor(logits), clips

    def forward(self, audio: Tensor) -> Tensor:
        return self.logits.expand(self.clips or len(audio), -1)


def make_trainer(
    config: WakewordConfig, folder: Path, kind: type[Trainer] = DistillationTrainer, **options: Any
) -> Any:
    loaders = options.pop("loaders", None) or (make_loader("train"), make_loader("val"))
    return kind(tiny_student(), *loaders, config, CheckpointManager(folder), "cpu", **options)


# ---- What is Knowledge Distillation? (ELI5) --------------------------------------------------------


class TestWhatIsKnowledgeDistillation:
    def test_the_simple_explanation_the_student_learns_by_watching_the_teacher(
        self, wav2vec2: str, tmp_path: Path
    ) -> None:
        """With alpha 1 no label is looked at; the student ends where the teacher is."""
        config = distilling(wav2vec2, alpha=1.0)
        config.training.epochs, config.training.learning_rate = 25, 0.02
        trainer = make_trainer(config, tmp_path, teacher=FixedTeacher(0.0, 1.5))
        history = trainer.train()["history"]
        assert history[-1]["distillation_loss"] < 0.2 * history[0]["distillation_loss"]

    def test_why_use_it_the_student_is_deployed_without_the_teacher(self, wav2vec2: str, tmp_path: Path) -> None:
        trainer = make_trainer(distilling(wav2vec2), tmp_path)
        trainer.train()
        kept = torch.load(trainer.checkpoint_manager.best, weights_only=True)["model"]
        assert set(kept) == set(tiny_student().state_dict())

    def test_the_technical_explanation_is_the_formula(self, wav2vec2: str, tmp_path: Path) -> None:
        """Total Loss = (1 - alpha) Student_Loss + alpha KL_Divergence."""
        trainer = make_trainer(distilling(wav2vec2, alpha=0.3), tmp_path, teacher=FixedTeacher(1.0, -1.0))
        trainer.compute_loss(torch.tensor([[0.2, 0.4]]), torch.tensor([1]), torch.zeros(1, 16000))
        figures = trainer.loss_figures
        expected = 0.7 * figures["student_loss"] + 0.3 * figures["distillation_loss"]
        assert figures["total_loss"] == pytest.approx(expected, rel=1e-6)


# ---- How It Works in This Project ------------------------------------------------------------------


class TestHowItWorksInThisProject:
    def test_architecture_overview_backpropagation_only_updates_the_student(
        self, wav2vec2: str, tmp_path: Path
    ) -> None:
        trainer = make_trainer(distilling(wav2vec2), tmp_path)
        teacher = {name: value.clone() for name, value in trainer.teacher.state_dict().items()}
        student = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        assert all(torch.equal(value, teacher[name]) for name, value in trainer.teacher.state_dict().items())
        assert not torch.equal(trainer.model.state_dict()["layers.0.weight"], student["layers.0.weight"])

    def test_key_component_1_the_teacher_takes_raw_audio_and_gives_logits(self, wav2vec2: str) -> None:
        from edgewake.models.huggingface import Wav2VecWakeword

        teacher = Wav2VecWakeword(num_classes=2, model_name=wav2vec2)
        assert isinstance(teacher, nn.Module)
        assert teacher(torch.randn(3, 16000)).shape == (3, 2)

    @pytest.mark.parametrize("architecture", ["mobilenetv3", "resnet18", "tiny_conv", "lstm", "gru", "tcn"])
    def test_key_component_2_any_student_gives_logits(self, architecture: str) -> None:
        student = create_model(architecture=architecture, num_classes=2, input_size=40).eval()
        assert student(torch.rand(2, 101, 40)).shape == (2, 2)
        assert student(torch.rand(2, 1, 40, 101)).shape == (2, 2)

    def test_key_component_3_the_trainer_extends_trainer_and_overrides_compute_loss(self) -> None:
        assert issubclass(DistillationTrainer, Trainer)
        assert "compute_loss" in vars(DistillationTrainer)
        assert "_init_teacher" in vars(DistillationTrainer)


# ---- Configuration Guide ---------------------------------------------------------------------------


class TestConfigurationGuide:
    def test_configuration_parameters_have_the_guides_names_and_defaults(self) -> None:
        config = DistillationConfig()
        assert config.enabled is False
        assert config.teacher_model_path == ""
        assert config.teacher_architecture == "wav2vec2"
        assert config.temperature == 2.0
        assert config.alpha == 0.5

    @pytest.mark.parametrize(
        ("name", "low", "high", "outside"),
        [("temperature", 1.0, 10.0, 0.5), ("alpha", 0.0, 1.0, 1.5)],
    )
    def test_parameter_tuning_guide_ranges_are_accepted_and_others_named(
        self, name: str, low: float, high: float, outside: float
    ) -> None:
        config = DistillationConfig()
        for value in (low, high):
            setattr(config, name, value)
        with pytest.raises(EdgewakeError, match=rf"distillation\.{name}"):
            setattr(config, name, outside)


# ---- Step-by-Step Usage ----------------------------------------------------------------------------


class TestStepByStepUsage:
    def test_method_1_using_configuration_file_yaml(
        self,
        wav2vec2: str,
        train_loader: DataLoader[Any],
        val_loader: DataLoader[Any],
        checkpoint_manager: CheckpointManager,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        Path("config").mkdir(exist_ok=True)
        Path("config/distillation_config.yaml").write_text(GUIDE_YAML)

        # Load configuration
        config = WakewordConfig.load("config/distillation_config.yaml")

        # Verify distillation is enabled
        print(f"Distillation enabled: {config.distillation.enabled}")
        print(f"Teacher: {config.distillation.teacher_architecture}")
        print(f"Alpha: {config.distillation.alpha}")
        shown = capsys.readouterr().out
        assert shown == "Distillation enabled: True\nTeacher: wav2vec2\nAlpha: 0.6\n"
        assert (config.model.dropout, config.data.n_mels, config.training.epochs) == (0.25, 64, 80)

        student_model = create_model("mobilenetv3", num_classes=2, input_size=64)
        small(config, wav2vec2)

        # Create trainer (automatically uses DistillationTrainer)
        trainer = DistillationTrainer(
            model=student_model,
            train_loader=train_loader,
            val_loader=val_loader,
            config=config,
            checkpoint_manager=checkpoint_manager,
            device="cpu",
        )

        # Train
        results = trainer.train()
        assert set(results["history"][0]) >= FOUR_FIGURES

    def test_method_2_using_python_api_directly(
        self,
        wav2vec2: str,
        train_loader: DataLoader[Any],
        val_loader: DataLoader[Any],
        checkpoint_manager: CheckpointManager,
    ) -> None:
        # Create configuration
        config = WakewordConfig()

        # Configure distillation
        config.distillation = DistillationConfig(
            enabled=True,
            teacher_architecture="wav2vec2",
            teacher_model_path="",  # Use pretrained
            temperature=3.0,
            alpha=0.6,
        )

        # Configure student model
        config.model.architecture = "mobilenetv3"
        config.model.num_classes = 2
        config.model.dropout = 0.25

        # CRITICAL: Ensure raw audio usage
        config.data.use_precomputed_features_for_training = False
        config.data.fallback_to_audio = True

        student_model = create_model("mobilenetv3", input_size=config.data.n_mels)
        small(config, wav2vec2)

        # Create and train
        trainer = DistillationTrainer(
            model=student_model,
            train_loader=train_loader,
            val_loader=val_loader,
            config=config,
            checkpoint_manager=checkpoint_manager,
            device="cpu",
        )

        results = trainer.train()
        assert Path(results["best_checkpoint"]).exists()

    def test_method_3_what_a_panel_sets_selects_the_distillation_trainer(
        self, wav2vec2: str, place: Path, tmp_path: Path
    ) -> None:
        """Enable Distillation, Teacher Arch, Distillation Temp, Distillation Alpha; then start training."""
        config = smoke(place, wav2vec2)
        for key, value in (
            ("distillation.enabled", True),
            ("distillation.teacher_architecture", "wav2vec2"),
            ("distillation.temperature", 3.0),
            ("distillation.alpha", 0.6),
        ):
            config.set(key, value)
        config.save(tmp_path / "panel.yaml")
        result = CliRunner().invoke(main, ["train", str(tmp_path / "panel.yaml"), "--out", str(tmp_path / "run")])
        assert result.exit_code == 0, result.output
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "learning_rate" in line]
        assert steps
        for line in steps:
            total = 0.4 * line["student_loss"] + 0.6 * line["distillation_loss"]
            assert line["total_loss"] == pytest.approx(total, rel=1e-5)
        record = json.loads((tmp_path / "run" / "result.json").read_text())
        assert {"best_f1", "best_checkpoint"} <= set(record)
        assert record["teacher"]["architecture"] == "wav2vec2"


def smoke(place: Path, wav2vec2: str) -> WakewordConfig:
    """Seconds of `edgewake train`, without a teacher unless one is enabled."""
    config = get_preset("smoke")
    config.data.manifest = str(place / "audio" / "manifest.json")
    config.data.phrase = "hey"
    config.data.audio_duration = 0.9
    config.data.positive_renders = 4
    config.cache.folder = str(place)
    config.training.threads = 1
    config.teacher.epochs = 2
    config.distillation.teacher_model_path = wav2vec2
    return config


# ---- Examples --------------------------------------------------------------------------------------


class TestExamples:
    def test_example_1_training_mobilenetv3_with_distillation(
        self, wav2vec2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # Step 1: Configuration
        config = WakewordConfig()

        # Enable knowledge distillation
        config.distillation = DistillationConfig(
            enabled=True,
            teacher_architecture="wav2vec2",
            temperature=3.0,
            alpha=0.6,
            teacher_model_path=wav2vec2,
        )

        # Student model: Small and efficient for mobile
        config.model.architecture = "mobilenetv3"
        config.model.num_classes = 2
        config.model.dropout = 0.25

        # Data processing: MUST use raw audio for teacher
        config.data.sample_rate = 16000
        config.data.audio_duration = 1.0
        config.data.n_mels = 64
        config.data.use_precomputed_features_for_training = False
        config.data.fallback_to_audio = True

        # Training parameters
        config.training.batch_size = 4
        config.training.epochs = 1
        config.training.learning_rate = 0.001
        config.teacher.epochs = 2

        # Step 2: Create Student Model
        time_steps = int(config.data.sample_rate * config.data.audio_duration) // config.data.hop_length + 1
        input_size = config.data.n_mels  # For MobileNetV3

        student_model = create_model(architecture="mobilenetv3", num_classes=2, input_size=input_size)

        # Step 3: Load Data with Raw Audio
        train_dataset = WakewordDataset(
            manifest_path=Path("data/splits/train.json"),
            sample_rate=16000,
            audio_duration=1.0,
            augment=True,
            return_raw_audio=True,
            device="cpu",
        )

        val_dataset = WakewordDataset(
            manifest_path=Path("data/splits/val.json"),
            sample_rate=16000,
            audio_duration=1.0,
            augment=False,
            return_raw_audio=True,
            device="cpu",
        )

        train_loader = DataLoader(train_dataset, batch_size=4, shuffle=True)
        val_loader = DataLoader(val_dataset, batch_size=4, shuffle=False)

        # Step 4: Initialize Distillation Trainer
        checkpoint_manager = CheckpointManager(Path("checkpoints"))

        trainer = DistillationTrainer(
            model=student_model,
            train_loader=train_loader,
            val_loader=val_loader,
            config=config,
            checkpoint_manager=checkpoint_manager,
            device="cpu",
        )

        # The teacher is automatically initialized here: loaded, frozen, moved.
        assert trainer.teacher is not None
        assert trainer.teacher.source == wav2vec2
        assert trainer.teacher.head_trained
        assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())

        # Step 5: Train
        print(f"Temperature: {config.distillation.temperature}")
        results = trainer.train()

        print(f"Best F1 Score: {results['best_f1']:.4f}")
        print(f"Best Model: {results['best_checkpoint']}")
        assert "Best Model: checkpoints/best.pt" in capsys.readouterr().out

        # Step 6: Export Student Model
        student_model.eval()
        dummy_input = torch.randn(1, 1, 64, time_steps)  # Spectrogram input

        torch.onnx.export(
            student_model,
            dummy_input,
            "models/mobilenet_distilled.onnx",
            input_names=["audio_features"],
            output_names=["logits"],
            dynamic_axes={"audio_features": {0: "batch"}},
        )
        import onnxruntime

        session = onnxruntime.InferenceSession("models/mobilenet_distilled.onnx")
        spectrograms = torch.randn(3, 1, 64, time_steps)
        (logits,) = session.run(["logits"], {"audio_features": spectrograms.numpy()})
        with torch.no_grad():
            assert np.allclose(logits, student_model(spectrograms).numpy(), atol=1e-4)

    def test_example_2_training_tinyconv_for_esp32(self, wav2vec2: str, tmp_path: Path) -> None:
        # Load ESP32 preset (already optimized)
        config = get_esp32_no_psram_preset()

        # Enable distillation to boost tiny model accuracy
        config.distillation = DistillationConfig(
            enabled=True,
            teacher_architecture="wav2vec2",
            temperature=4.0,  # Higher temp for tiny student
            alpha=0.7,  # Rely heavily on teacher (70%)
        )

        # Student model: TinyConv
        config.model.architecture = "tiny_conv"
        config.model.num_classes = 2
        config.model.dropout = 0.2

        # Data: Reduced features for memory
        config.data.n_mels = 40  # Reduced from 64
        config.data.audio_duration = 1.0  # Shorter audio

        # Training: More epochs for tiny model
        config.training.epochs = 150
        config.training.batch_size = 32

        # QAT enabled for INT8 deployment
        config.qat.enabled = True
        config.qat.backend = "qnnpack"  # ARM-friendly
        config.check()

        # ~60KB parameters (INT8 quantized), at full size.
        full = create_model("tiny_conv", 2, 40, **config.model.options())
        assert 20_000 < sum(parameter.numel() for parameter in full.parameters()) < 64 * 1024

        small(config, wav2vec2).training.epochs = 2

        # Create and train
        trainer = make_trainer(config, tmp_path)
        results = trainer.train()

        assert trainer.progress.phase == "qat"
        assert set(results["history"][-1]) >= FOUR_FIGURES
        assert trainer.trained.deployed().input_width == 120

    @pytest.mark.parametrize("form", ["state_dict", "CheckpointManager", "whole", "teacher.pt"])
    def test_example_3_using_custom_teacher_checkpoint(self, form: str, wav2vec2: str, tmp_path: Path) -> None:
        from edgewake.models.huggingface import Wav2VecWakeword
        from edgewake.teachers.registry import save_teacher

        mine = Wav2VecWakeword(num_classes=2, model_name=wav2vec2)
        with torch.no_grad():
            for parameter in mine.parameters():
                parameter.add_(0.02)
        # A small network: its config.json lies beside the checkpoint. Without one it has the shape of wav2vec2-base.
        mine.wav2vec2.config.save_pretrained("checkpoints")
        path = Path("checkpoints/custom_teacher_best.pt")
        if form == "state_dict":
            torch.save(mine.state_dict(), path)
        elif form == "CheckpointManager":
            state = {"model": mine.state_dict(), "step": 1, "epoch": 1, "best_score": 0.5}
            CheckpointManager(tmp_path).save(state, best=True).rename(path)
        elif form == "whole":
            torch.save({"model_state_dict": mine.state_dict(), "optimizer_state_dict": {}, "epoch": 7}, path)
        else:
            mine.head_trained = mine.backbone_trained = True
            save_teacher(mine, path)

        config = WakewordConfig()

        # Point to your custom teacher checkpoint
        config.distillation = DistillationConfig(
            enabled=True,
            teacher_architecture="wav2vec2",
            teacher_model_path="checkpoints/custom_teacher_best.pt",  # Your checkpoint
            temperature=2.5,
            alpha=0.5,
        )
        small(config, wav2vec2)

        # The trainer will load YOUR weights instead of HuggingFace pretrained
        trainer = make_trainer(config, tmp_path)
        audio = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
        with torch.no_grad():
            assert torch.allclose(trainer.teacher(audio), mine.eval()(audio), atol=1e-6)
        # 3. Freeze all parameters
        assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())
        assert set(trainer.train()["history"][0]) >= FOUR_FIGURES

    def test_example_3_of_a_network_of_the_usual_size(self, tmp_path: Path) -> None:
        """As printed, with the state_dict of `Wav2VecWakeword`: 95 million parameters, and nothing beside the file."""
        from edgewake.models.huggingface import Wav2VecWakeword
        from edgewake.teachers.registry import teacher_from_config

        mine = Wav2VecWakeword(pretrained=False).eval()
        torch.save(mine.state_dict(), tmp_path / "custom_teacher_best.pt")
        config = WakewordConfig()
        config.distillation = DistillationConfig(
            enabled=True,
            teacher_architecture="wav2vec2",
            teacher_model_path=tmp_path / "custom_teacher_best.pt",
            temperature=2.5,
            alpha=0.5,
        )
        audio = torch.randn(1, 8000)
        with torch.no_grad():
            assert torch.equal(teacher_from_config(config)(audio), mine(audio))


# ---- Troubleshooting -------------------------------------------------------------------------------


class TestTroubleshooting:
    def test_issue_1_teacher_was_not_called_with_raw_audio(
        self, wav2vec2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = distilling(wav2vec2)
        config.training.epochs = 2
        loaders = (make_loader("train", raw=False), make_loader("val", raw=False))
        results = make_trainer(config, tmp_path / "features", loaders=loaders).train()
        shown = capsys.readouterr().out
        message = "Distillation skip verified: Teacher NOT called with spectrogram inputs."
        assert message == SKIP_MESSAGE
        assert shown.count(message) == 1  # once a run, not once a batch
        assert results["skipped_batches"] == 4
        assert "return_raw_audio=True" in shown

        # The guide's solution.
        config.data.use_precomputed_features_for_training = False
        config.data.fallback_to_audio = True
        results = make_trainer(config, tmp_path / "audio").train()
        assert results["skipped_batches"] == 0
        assert message not in capsys.readouterr().out

    def test_issue_2_cuda_out_of_memory_is_met_by_settings(self, wav2vec2: str, tmp_path: Path) -> None:
        # 1. Reduce batch size
        config = distilling(wav2vec2)
        config.training.batch_size = 16

        # 2. Use gradient checkpointing, by the guide's call and as a setting
        from edgewake.models.huggingface import Wav2VecWakeword

        teacher = Wav2VecWakeword(model_name=wav2vec2)
        assert not teacher.wav2vec2.is_gradient_checkpointing
        teacher.wav2vec2.gradient_checkpointing_enable()
        assert teacher.wav2vec2.is_gradient_checkpointing
        config.distillation.gradient_checkpointing = True
        assert make_trainer(config, tmp_path).teacher.wav2vec2.is_gradient_checkpointing

        # 3. Mixed precision training (already enabled by default)
        assert WakewordConfig().optimizer.mixed_precision is True
        config.optimizer.mixed_precision = True

    def test_issue_3_distillation_loss_is_nan(self, wav2vec2: str, tmp_path: Path) -> None:
        # 1. Lower temperature: even the highest gives a finite loss of logits that are far apart.
        config = distilling(wav2vec2, temperature=10.0)
        trainer = make_trainer(config, tmp_path, teacher=FixedTeacher(400.0, -400.0))
        assert math.isfinite(float(trainer.compute_loss(
            torch.tensor([[-300.0, 300.0]]), torch.tensor([0]), torch.zeros(1, 16000)
        )))  # fmt: skip

        # 2. Logits of teacher and student are checked, and named
        with pytest.raises(EdgewakeError, match="logits of the teacher are not finite"):
            make_trainer(config, tmp_path, teacher=FixedTeacher(math.nan, 0.0)).train()
        with pytest.raises(EdgewakeError, match="logits of the student are not finite"):
            trainer.compute_loss(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), torch.zeros(1, 16000))

        # 3. Use gradient clipping
        assert WakewordConfig().optimizer.gradient_clip == 1.0

    def test_issue_4_student_not_improving_with_distillation(
        self,
        wav2vec2: str,
        val_loader: DataLoader[Any],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from edgewake.models.huggingface import Wav2VecWakeword

        # 1. Alpha too high
        config = distilling(wav2vec2)
        config.distillation.alpha = 0.3  # Lower alpha (30% teacher)

        # 2. Verify teacher accuracy first
        teacher = Wav2VecWakeword(model_name=wav2vec2)
        nn.init.constant_(teacher.head.logit.bias, 9.0)  # type: ignore[union-attr, arg-type]
        teacher_acc = evaluate_model(teacher, val_loader)
        print(f"Teacher accuracy: {teacher_acc:.2%}")
        shown = capsys.readouterr()
        assert shown.out == "Teacher accuracy: 50.00%\n"
        # If < 80%, teacher may not be helpful
        assert "Teacher accuracy: 50.00% < 80%: teacher may not be helpful" in shown.err

        # 3. Try larger student model
        config.model.architecture = "resnet18"  # Instead of tiny_conv
        student = create_model("resnet18", input_size=config.data.n_mels)
        trainer = DistillationTrainer(
            student,
            make_loader("train"),
            val_loader,
            config,
            CheckpointManager(tmp_path),
            teacher=FixedTeacher(0.0, 1.0),
        )
        assert trainer.train()["epochs"] == 1

    def test_issue_5_transformers_library_is_required(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from edgewake.models.huggingface import Wav2VecWakeword

        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(
            ImportError,
            match=r"transformers library is required for Wav2VecWakeword.*pip install transformers",
        ):
            Wav2VecWakeword(num_classes=2)

    def test_issue_6_teacher_and_student_batch_size_mismatch(self, wav2vec2: str, tmp_path: Path) -> None:
        trainer = make_trainer(distilling(wav2vec2), tmp_path, teacher=FixedTeacher(0.0, 1.0, clips=16))
        outputs, targets = torch.zeros(32, 2), torch.zeros(32, dtype=torch.int64)
        with pytest.raises(EdgewakeError, match=r"teacher gives logits of shape \(16, 2\), student \(32, 2\)"):
            trainer.compute_loss(outputs, targets, torch.zeros(32, 16000))
        # Skip distillation for spectrograms
        loss = trainer.compute_loss(outputs, targets, torch.zeros(32, 101, 40))
        assert float(loss) == pytest.approx(math.log(2))

    def test_issue_7_compute_loss_takes_is_hard_negative(self, wav2vec2: str, tmp_path: Path) -> None:
        names = list(inspect.signature(DistillationTrainer.compute_loss).parameters)
        wanted = ["self", "outputs", "targets", "inputs", "processed_inputs", "is_hard_negative"]
        assert names == wanted

        class Older(DistillationTrainer):
            """As the guide's own fix has it."""

            def compute_loss(
                self,
                outputs: torch.Tensor,
                targets: torch.Tensor,
                inputs: torch.Tensor | None = None,
                processed_inputs: torch.Tensor | None = None,
                is_hard_negative: torch.Tensor | None = None,
            ) -> torch.Tensor:
                # Pass is_hard_negative to parent
                return super().compute_loss(outputs, targets, inputs, processed_inputs, is_hard_negative)

        train = WakewordDataset(
            Path("data/splits/train.json"),
            audio_duration=1.0,
            return_raw_audio=True,
            with_hard_negatives=True,
        )
        train.mark_hard_negatives([int(np.flatnonzero(train.labels == 0)[0])])
        loaders = (DataLoader(train, batch_size=4), make_loader("val"))
        trainer = make_trainer(distilling(wav2vec2), tmp_path, Older, loaders=loaders, teacher=FixedTeacher(0.0, 1.0))
        assert trainer.train()["epochs"] == 1


# ---- Advanced Topics -------------------------------------------------------------------------------


class TestAdvancedTopics:
    def test_understanding_the_loss_function_line_by_line(self, wav2vec2: str, tmp_path: Path) -> None:
        trainer = make_trainer(distilling(wav2vec2, temperature=2.0, alpha=0.6), tmp_path)
        inputs = torch.randn(3, 16000, generator=torch.Generator().manual_seed(2)) * 0.1
        outputs, targets = torch.tensor([[0.7, 0.3], [1.0, -2.0], [0.0, 0.5]]), torch.tensor([0, 1, 1])

        student_loss = nn.CrossEntropyLoss()(outputs, targets)
        with torch.no_grad():  # Don't update teacher
            teacher_logits = trainer.teacher(inputs)  # Raw audio -> teacher
        T = trainer.config.distillation.temperature
        soft_targets = F.log_softmax(teacher_logits / T, dim=1)
        soft_student = F.log_softmax(outputs / T, dim=1)
        distillation_loss = F.kl_div(
            soft_student,  # Student's soft predictions
            soft_targets,  # Teacher's soft targets
            reduction="batchmean",
            log_target=True,
        ) * (T**2)  # Scale by T^2 to compensate for temperature
        alpha = trainer.config.distillation.alpha
        total_loss = (1 - alpha) * student_loss + alpha * distillation_loss

        assert torch.allclose(trainer.compute_loss(outputs, targets, inputs), total_loss, rtol=1e-5)

    def test_why_temperature_scaling_the_guides_numbers(self) -> None:
        logits = torch.tensor([0.95, 0.05]).log()
        assert (logits / 3.0).softmax(0).tolist() == pytest.approx([0.72, 0.28], abs=0.01)
        assert (torch.tensor([2.5, 0.1]) / 2.0).softmax(0).tolist() == pytest.approx([0.78, 0.22], abs=0.02)

    @pytest.mark.parametrize(("alpha", "student", "teacher"), [(0.0, 1.0, 0.0), (0.7, 0.3, 0.7), (1.0, 0.0, 1.0)])
    def test_choosing_the_right_alpha_value_weighs_ground_truth_and_teacher(
        self, wav2vec2: str, tmp_path: Path, alpha: float, student: float, teacher: float
    ) -> None:
        trainer = make_trainer(distilling(wav2vec2, alpha=alpha), tmp_path, teacher=FixedTeacher(2.0, 0.0))
        trainer.compute_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), torch.zeros(1, 16000))
        figures = trainer.loss_figures
        expected = student * figures["student_loss"] + teacher * figures["distillation_loss"]
        assert figures["total_loss"] == pytest.approx(expected, rel=1e-6)

    def test_choosing_the_right_alpha_value_experiment_strategy(self, wav2vec2: str, tmp_path: Path) -> None:
        config = distilling(wav2vec2)
        scores = {}

        def train_and_evaluate(config: WakewordConfig) -> None:
            trainer = make_trainer(config, tmp_path / str(config.distillation.alpha), teacher=FixedTeacher(0.0, 1.0))
            scores[config.distillation.alpha] = trainer.train()["best_f1"]

        # Try multiple alpha values
        for alpha in [0.3, 0.5, 0.7]:
            config.distillation.alpha = alpha
            train_and_evaluate(config)
            # Compare validation F1 scores
        assert list(scores) == [0.3, 0.5, 0.7]

    def test_ablation_study_does_distillation_help(
        self, wav2vec2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def train(config: WakewordConfig) -> dict[str, Any]:
            return make_trainer(small(config, wav2vec2), tmp_path / str(config.distillation.enabled)).train()

        # Baseline (no distillation)
        config_baseline = WakewordConfig()
        config_baseline.distillation.enabled = False
        results_baseline = train(config_baseline)

        # With distillation
        config_distill = WakewordConfig()
        config_distill.distillation.enabled = True
        config_distill.distillation.alpha = 0.6
        results_distill = train(config_distill)

        # Compare
        print("Baseline F1:", results_baseline["f1"])
        print("Distillation F1:", results_distill["f1"])
        print("Improvement:", results_distill["f1"] - results_baseline["f1"])
        assert "Improvement:" in capsys.readouterr().out
        assert not FOUR_FIGURES & set(results_baseline["history"][0])
        assert set(results_distill["history"][0]) >= FOUR_FIGURES

    def test_monitoring_distillation_during_training(self, wav2vec2: str, tmp_path: Path) -> None:
        # As the guide's class, which has a name of its own here.
        class MyDistillationTrainer(Trainer):
            def compute_loss(self, outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:  # type: ignore[override]
                student_loss = F.cross_entropy(outputs, targets)
                distillation_loss = F.mse_loss(outputs, outputs.detach() + 1)
                total_loss = 0.5 * student_loss + 0.5 * distillation_loss

                # Log individual loss components
                self.log_metrics(
                    {
                        "student_loss": student_loss.item(),
                        "distillation_loss": distillation_loss.item(),
                        "total_loss": total_loss.item(),
                        "loss_ratio": distillation_loss.item() / student_loss.item(),
                    }
                )

                return total_loss

        for kind, options in (
            (MyDistillationTrainer, {}),
            (DistillationTrainer, {"teacher": FixedTeacher(0.0, 1.0)}),
        ):
            trainer = make_trainer(distilling(wav2vec2), tmp_path / kind.__name__, kind, **options)
            trainer.metrics = MetricsLog(tmp_path / kind.__name__, tensorboard=False)
            trainer.train()
            trainer.metrics.close()
            lines = [json.loads(line) for line in trainer.metrics.path.read_text().splitlines()]
            steps = [line for line in lines if "learning_rate" in line]
            assert len(steps) == 2  # every step
            assert all(set(line) >= FOUR_FIGURES for line in steps)

    @pytest.mark.parametrize(
        ("student", "advice"),
        [(3.0, "reduce alpha"), (-3.0, "increase alpha")],
        ids=["above 10", "below 0.1"],
    )
    def test_monitoring_distillation_what_to_watch(
        self, wav2vec2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], student: float, advice: str
    ) -> None:
        trainer = make_trainer(distilling(wav2vec2), tmp_path, teacher=FixedTeacher(-3.0, 0.0))
        trainer.compute_loss(
            torch.tensor([[student, 0.0]] * 4), torch.zeros(4, dtype=torch.int64), torch.zeros(4, 16000)
        )
        trainer.report_epoch(trainer.loss_figures, 0.0, best=False)
        assert capsys.readouterr().out.count(advice) == 1

    def test_comparing_teacher_and_student_predictions(
        self, wav2vec2: str, val_loader: DataLoader[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trainer = make_trainer(distilling(wav2vec2), tmp_path)
        teacher, student = trainer.teacher, trainer.model

        # Evaluate both models
        teacher_results = evaluate_model(teacher, val_loader)
        student_results = evaluate_model(student, val_loader)

        print(f"Teacher - F1: {teacher_results['f1']:.3f}, Acc: {teacher_results['acc']:.3f}")
        print(f"Student - F1: {student_results['f1']:.3f}, Acc: {student_results['acc']:.3f}")
        assert "Student - F1: " in capsys.readouterr().out
        assert teacher_results["clips"] == student_results["clips"] == 4


# ---- Summary Checklist -----------------------------------------------------------------------------


class TestSummaryChecklist:
    POINTS = (
        "distillation.enabled = True",
        "temperature in range 2.0-4.0",
        "alpha in range 0.3-0.7",
        "use_precomputed_features_for_training = False",
        "fallback_to_audio = True",
        "return_raw_audio = True in dataset",
        "Teacher model loaded correctly",
        "Teacher parameters frozen",
        "Student model smaller than teacher",
        "GPU available",
        "Sufficient VRAM (8 GB or more)",
        "Mixed precision enabled",
        "Logs show student and distillation loss",
        "Loss values are not NaN",
        "Accuracy improves (on one batch, before validation can tell)",
    )

    @staticmethod
    def check(tmp_path: Path, config: WakewordConfig, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(config.model_dump(mode="json")))  # JSON is YAML; saving would check it
        command = ["train", str(path), "--check", "--json", "--out", str(tmp_path / "run"), *options]
        result = CliRunner().invoke(main, command)
        assert result.exit_code in (0, 1), result.output
        record = json.loads((tmp_path / "run" / "check.json").read_text())
        assert json.loads(result.stdout.splitlines()[-1]) == record
        assert record["ok"] == (result.exit_code == 0)
        assert not (tmp_path / "run" / "checkpoints").exists()
        return result.exit_code, {point["point"]: point for point in record["points"]}

    def test_every_point_of_the_list_is_looked_at_before_the_first_batch(
        self, wav2vec2: str, place: Path, tmp_path: Path
    ) -> None:
        config = smoke(place, wav2vec2)
        config.distillation.enabled = True
        code, points = self.check(tmp_path, config)
        assert code == 0
        assert set(self.POINTS) <= set(points)
        assert {point["verdict"] for name, point in points.items() if name in self.POINTS[:9]} == {"ok"}
        assert points["GPU available"]["verdict"] == "warn"
        assert "outputs stay in" in points["GPU available"]["remedy"]
        assert ", 0 trainable, eval mode" in points["Teacher parameters frozen"]["value"]
        assert all(name in points[self.POINTS[12]]["value"] for name in FOUR_FIGURES)

    @pytest.mark.parametrize(
        ("key", "value", "point", "verdict"),
        [
            ("distillation.temperature", 9.0, "temperature in range 2.0-4.0", "warn"),
            ("distillation.alpha", 0.9, "alpha in range 0.3-0.7", "warn"),
            (
                "data.use_precomputed_features_for_training", True,
                "use_precomputed_features_for_training = False", "fail",
            ),
            ("data.fallback_to_audio", False, "fallback_to_audio = True", "fail"),
            ("data.manifest", "nowhere.json", "return_raw_audio = True in dataset", "fail"),
            ("distillation.teacher_model_path", "nowhere.pt", "Teacher model loaded correctly", "fail"),
            ("model.width", 256, "Student model smaller than teacher", "warn"),
            ("qat.enabled", False, "Student can be built and shipped", "fail"),
            ("optimizer.mixed_precision", False, "Mixed precision enabled", "ok"),
        ],
    )  # fmt: skip
    def test_a_point_that_does_not_hold_is_named_with_its_remedy(
        self, wav2vec2: str, place: Path, tmp_path: Path, *, key: str, value: Any, point: str, verdict: str
    ) -> None:
        config = smoke(place, wav2vec2)
        config.distillation.enabled = True
        config.set(key, value)
        code, points = self.check(tmp_path, config)
        assert points[point]["verdict"] == verdict
        assert code == (verdict == "fail")
        assert bool(points[point]["remedy"]) == (verdict != "ok")

    def test_a_configuration_without_distillation_is_named(self, wav2vec2: str, place: Path, tmp_path: Path) -> None:
        code, points = self.check(tmp_path, smoke(place, wav2vec2))
        assert code == 0
        assert points["distillation.enabled = True"]["value"].startswith("False: a baseline")
        assert "Teacher model loaded correctly" not in points

    def test_a_student_that_teaches_itself_needs_no_teacher(self, wav2vec2: str, place: Path, tmp_path: Path) -> None:
        config = smoke(place, wav2vec2)
        config.distillation.enabled = True
        config.distillation.teacher_architecture, config.distillation.teacher_model_path = "self", ""
        code, points = self.check(tmp_path, config)
        assert code == 0
        assert "running average" in points["Teacher model loaded correctly"]["value"]
        config.training.ema_decay = 0.0
        code, points = self.check(tmp_path, config)
        assert code == 1
        assert points["Teacher model loaded correctly"]["remedy"] == "set training.ema_decay: 0.99"

    def test_the_list_is_shown_as_a_table(self, wav2vec2: str, place: Path, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        smoke(place, wav2vec2).save(path)
        result = CliRunner().invoke(main, ["train", str(path), "--check", "--out", str(tmp_path / "run")])
        assert result.exit_code == 0
        for word in ("point", "value", "verdict", "remedy", "Configuration", "Hardware"):
            assert word in result.output


# ---- References ------------------------------------------------------------------------------------


def test_references_project_files_are_where_the_guide_looks_for_them(repository: Path) -> None:
    from edgewake.config import defaults
    from edgewake.models import huggingface
    from edgewake.training import distillation_trainer

    assert hasattr(distillation_trainer, "DistillationTrainer")
    assert hasattr(huggingface, "Wav2VecWakeword")
    assert hasattr(defaults, "DistillationConfig")
    assert (repository / "tests" / "integration" / "test_distillation_trainer.py").exists()


# ---- Frequently Asked Questions --------------------------------------------------------------------


class TestFrequentlyAskedQuestions:
    def test_can_i_use_a_different_teacher_model(self, wav2vec2: str, tmp_path: Path) -> None:
        """By the registry, or by replacing `_init_teacher`, as the guide says."""
        from edgewake.teachers.registry import ARCHITECTURES

        assert {"wav2vec2", "hubert", "wavlm", "whisper", "ensemble"} <= set(ARCHITECTURES)

        class Mine(DistillationTrainer):
            def _init_teacher(self, teacher: nn.Module | None) -> nn.Module | None:
                return FixedTeacher(0.0, 2.0)

        trainer = make_trainer(distilling(wav2vec2), tmp_path, Mine)
        assert trainer.teacher_outputs(torch.zeros(1, 16000), None).logits.tolist() == [[0.0, 2.0]]

    def test_does_distillation_work_with_quantized_models(self, wav2vec2: str, place: Path, tmp_path: Path) -> None:
        config = smoke(place, wav2vec2)
        config.qat.enabled = True
        config.distillation.enabled = True
        result = train_command(config, tmp_path / "run", resume=False)
        assert [set(epoch) >= FOUR_FIGURES for epoch in result["history"]] == [True, True]
        assert (Path(result["model"]) / "weights.safetensors").exists()

    def test_can_i_distill_from_multiple_teachers(self, wav2vec2: str, tmp_path: Path) -> None:
        config = distilling(
            wav2vec2, teacher_architecture="ensemble",
            teachers=(f"wav2vec2:{wav2vec2}", f"wav2vec2:{wav2vec2}"), teacher_weights=(0.7, 0.3),
        )  # fmt: skip
        config.distillation.teacher_model_path = ""
        trainer = make_trainer(config, tmp_path)
        assert len(trainer.teacher.members) == 2
        assert set(trainer.train()["history"][0]) >= FOUR_FIGURES

    def test_what_if_my_dataset_is_small(self, wav2vec2: str, tmp_path: Path) -> None:
        """Use higher alpha (0.7-0.8)."""
        for alpha in (0.7, 0.8):
            distilling(wav2vec2, alpha=alpha).check()


@pytest.fixture(scope="module", autouse=True)
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)
