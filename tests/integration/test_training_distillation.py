"""`edgewake train` with a teacher: any student learns from its outputs, computed once, for the run's own clips."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.teachers.registry import load_teacher, save_teacher
from edgewake.training import students
from edgewake.training.run import prepare, train_command
from edgewake.training.teacher_fit import make_teacher
from edgewake.training.teacher_outputs import LiveOutputs, StoredOutputs

pytestmark = pytest.mark.slow

FOUR = {"student_loss", "distillation_loss", "total_loss", "loss_ratio"}
OTHERS = ("mobilenetv3", "resnet18", "lstm", "gru", "tcn")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """Rising tones are the phrase, falling ones are not; four voices a class to train on, and some more."""
    root = tmp_path_factory.mktemp("corpus")
    tones(root, ("train",) * 4 + ("val", "test"), seconds=0.8, active=(0.2, 0.6))
    return root


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def teacher(corpus: Path, caches: Path) -> Path:
    """A small random wav2vec2 without a fitted head, in a file of ours."""
    config = make_config(corpus, caches)
    config.teacher.from_scratch = True
    path = caches / "random.pt"
    made = make_teacher(config)
    made.source = "random numbers"
    save_teacher(made, path)
    return path


def make_config(corpus: Path, caches: Path, teacher: Path | None = None) -> WakewordConfig:
    config = get_preset("smoke")
    config.data.manifest = str(corpus / "manifest.json")
    config.data.phrase = "hey"
    config.data.audio_duration = 0.6
    config.data.positive_renders = 4
    config.cache.folder = str(caches)
    config.training.threads = 1
    config.augmentation.rir_prob = 0.0
    config.distillation.enabled = True
    config.distillation.teacher_model_path = "" if teacher is None else str(teacher)
    for name, value in {"layers": 1, "width": 16, "hidden": 8, "epochs": 1, "batch_size": 8}.items():
        setattr(config.teacher, name, value)
    return config


def figures_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def distilled(corpus: Path, caches: Path, teacher: Path) -> tuple[WakewordConfig, Path, dict[str, Any]]:
    """A finished run with every kind of loss."""
    config = make_config(corpus, caches, teacher)
    config.distillation.hint_weight = 0.5
    config.distillation.frame_weight = 0.5
    out = caches / "run"
    return config, out, train_command(config, out, resume=False)


def test_every_epoch_and_step_has_the_guides_four_losses(
    distilled: tuple[WakewordConfig, Path, dict[str, Any]],
) -> None:
    config, out, result = distilled
    lines = figures_of(out)
    epochs = [line for line in lines if "val_f1" in line]
    assert [line["phase"] for line in epochs] == ["float", "qat"]
    assert all({*FOUR, "hint_loss", "frame_loss"} <= set(line) for line in lines)
    first = lines[0]
    alpha = config.distillation.alpha
    expected = (1 - alpha) * first["student_loss"] + alpha * first["distillation_loss"]
    expected += 0.5 * first["hint_loss"] + 0.5 * first["frame_loss"]
    assert first["total_loss"] == pytest.approx(expected, rel=1e-4)
    assert result["best_f1"] >= 0
    assert Path(result["best_checkpoint"]).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_model_path": "nowhere.pt"}, r"nowhere\.pt' does not exist"),
        ({"teacher_architecture": "whisper"}, "edgewake assets get whisper-base"),
        ({"teacher_architecture": "whisper", "teacher_name": "whisper-tiny.en"}, "get whisper-tiny.en"),
        (
            {"teacher_architecture": "ensemble", "teachers": ["hubert:no.pt", "wavlm"]},
            r"no\.pt' does not exist",
        ),
        ({"teacher_architecture": "hubert"}, "hubert-base-ls960' are neither in the local cache"),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_a_teacher_that_is_not_there_is_named_before_anything_is_rendered(
    change: dict[str, Any], message: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEWAKE_ASSETS", raising=False)
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "no_assets"))
    config = make_config(corpus, tmp_path)
    for name, value in change.items():
        setattr(config.distillation, name, value)
    with pytest.raises(EdgewakeError, match=message):
        train_command(config, tmp_path / "run", resume=False)
    assert not (tmp_path / "clips").exists()


def test_a_run_records_its_teacher(distilled: tuple[WakewordConfig, Path, dict[str, Any]]) -> None:
    _, out, result = distilled
    kept = json.loads((out / "result.json").read_text())
    about = kept["teacher"]
    assert about["architecture"] == "wav2vec2"
    assert about["source"] == "random numbers"
    assert set(about["figures"]["val"]) == {"accuracy", "precision", "recall", "f1"}
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["data"] == kept["data"] == result["data"] != ""
    assert run["figures"]["teacher"] == about
    loaded = load_teacher(out / "teacher" / "teacher.pt")
    assert loaded.fingerprint() == about["fingerprint"]
    assert loaded.head_fingerprint() == about["head_fingerprint"]
    assert loaded.head_trained


def test_the_students_targets_are_the_fitted_teachers_outputs(
    distilled: tuple[WakewordConfig, Path, dict[str, Any]],
) -> None:
    config, out, _ = distilled
    ready = prepare(config.freeze(), out)
    assert ready.source is not None
    assert ready.train.audio is not None
    chosen = torch.tensor([0, len(ready.train) - 1, 5])
    kept = ready.source.of(chosen)
    audio = torch.from_numpy(ready.train.audio[chosen.numpy()] / np.float32(32768))
    with torch.no_grad():
        live = load_teacher(out / "teacher" / "teacher.pt").freeze().outputs(audio)
    # Embeddings are kept in half precision.
    torch.testing.assert_close(kept.logits, live.logits, rtol=0.01, atol=0.02)
    assert kept.frames is not None
    assert live.frames is not None
    torch.testing.assert_close(kept.frames, live.frames, rtol=0.01, atol=0.01)


def test_a_second_run_asks_the_teacher_nothing(
    distilled: tuple[WakewordConfig, Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgewake.teachers.huggingface import HuggingFaceTeacher

    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the teacher was asked again")

    config, out, result = distilled
    monkeypatch.setattr(HuggingFaceTeacher, "embed", fail)
    monkeypatch.setattr("edgewake.training.teacher_fit.fit_teacher", fail)
    other = config.model_copy(deep=True)
    again = train_command(other, tmp_path / "run", resume=False)
    assert again["best_score"] == result["best_score"]
    same = (tmp_path / "run" / "model" / "weights.safetensors").read_bytes()
    assert same == (out / "model" / "weights.safetensors").read_bytes()
    other.training.seed = 5
    train_command(other, tmp_path / "other seed", resume=False)


def test_without_a_cache_the_teacher_is_asked_each_time(
    distilled: tuple[WakewordConfig, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, out, result = distilled
    live = config.model_copy(deep=True)
    live.distillation.store_outputs = False
    live.cache.folder = str(tmp_path)
    live.distillation.teacher_model_path = str(out / "teacher" / "teacher.pt")
    ready = prepare(live.freeze(), tmp_path / "live")
    assert isinstance(ready.source, LiveOutputs)
    kept = prepare(config.freeze(), tmp_path / "kept").source
    assert isinstance(kept, StoredOutputs)
    chosen = torch.arange(6)
    torch.testing.assert_close(ready.source.of(chosen).logits, kept.of(chosen).logits, rtol=0.01, atol=0.02)
    again = train_command(live, tmp_path / "run", resume=False)
    assert set(again) == set(result)
    assert not (tmp_path / "embeddings").exists()


def test_a_resumed_run_keeps_the_teacher_that_it_began_with(
    corpus: Path, caches: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "teacher.pt"
    mine.write_bytes(teacher.read_bytes())
    config = make_config(corpus, caches, mine)
    out = tmp_path / "run"
    whole = train_command(config, out, resume=False)
    mine.write_bytes(b"another teacher by now")
    again = train_command(config, out, resume=True)
    assert again["teacher"] == whole["teacher"]
    assert again["best_score"] == whole["best_score"]
    kept = load_teacher(out / "teacher" / "teacher.pt")
    with torch.no_grad():
        next(kept.head.parameters()).add_(1.0)
    save_teacher(kept, out / "teacher" / "teacher.pt")
    with pytest.raises(EdgewakeError, match=r"head_fingerprint .* but the run began with"):
        train_command(config, out, resume=True)
    assert json.loads((out / "run.json").read_text())["status"] == "failed"


def test_a_teacher_is_fitted_to_the_share_of_the_phrase_that_its_student_sees(
    corpus: Path, caches: Path, teacher: Path, tmp_path: Path
) -> None:
    config = make_config(corpus, caches, teacher)
    heads = {}
    for fraction, seed in ((1.0, 0), (1.0, 1), (0.25, 0), (0.25, 3)):
        config.data.positive_fraction = fraction
        config.training.seed = seed
        ready = prepare(config.freeze(), tmp_path / f"{fraction}-{seed}")
        assert ready.teacher is not None
        assert len(ready.source.logits) == len(ready.train)  # type: ignore[union-attr]
        assert int(ready.train.labels.sum()) == 16 * fraction
        heads[fraction, seed] = ready.teacher["head_fingerprint"]
    # A seed decides the teacher only where it draws the recordings.
    assert heads[1.0, 0] == heads[1.0, 1]
    assert len(set(heads.values())) == 3


def test_members_of_an_ensemble_share_fits_with_single_teachers(
    distilled: tuple[WakewordConfig, Path, dict[str, Any]], caches: Path, teacher: Path, tmp_path: Path
) -> None:
    config, _, result = distilled
    second = caches / "second.pt"
    other = load_teacher(teacher)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    save_teacher(other, second)
    both = config.model_copy(deep=True)
    both.distillation.hint_weight = 0.0
    both.distillation.teacher_architecture = "ensemble"
    both.distillation.teacher_model_path = ""
    both.distillation.teachers = (f"wav2vec2:{teacher}", f"wav2vec2:{second}")
    found = train_command(both, tmp_path / "run", resume=False)["teacher"]
    members = found["members"]
    assert members[0]["head_fingerprint"] == result["teacher"]["head_fingerprint"]
    assert members[1]["head_fingerprint"] != members[0]["head_fingerprint"]
    assert list(found["figures"]["members"]) == ["1 wav2vec2", "2 wav2vec2"]
    assert load_teacher(tmp_path / "run" / "teacher" / "teacher.pt").fingerprint() == found["fingerprint"]


def test_a_student_that_teaches_itself_needs_no_audio(corpus: Path, tmp_path: Path) -> None:
    config = make_config(corpus, tmp_path)
    config.distillation.teacher_architecture = "self"
    result = train_command(config, tmp_path / "run", resume=False)
    assert result["teacher"] == {
        "architecture": "self",
        "source": "the student's own running average",
    }
    assert not list((tmp_path / "clips").glob("*/audio.npy"))
    assert not (tmp_path / "embeddings").exists()
    assert set(figures_of(tmp_path / "run")[0]) >= FOUR


def test_a_network_from_scratch_is_trained_once_for_all_runs(corpus: Path, caches: Path, tmp_path: Path) -> None:
    config = make_config(corpus, caches)
    config.teacher.from_scratch = True
    first = prepare(config.freeze(), tmp_path / "a").teacher
    torch.manual_seed(123)  # what other code drew before decides nothing
    second = prepare(config.freeze(), tmp_path / "b").teacher
    assert first is not None
    assert second is not None
    assert first == second
    assert first["source"] == "trained from scratch"


@pytest.mark.parametrize("architecture", OTHERS)
def test_every_student_is_distilled_on_raw_audio(
    corpus: Path,
    caches: Path,
    teacher: Path,
    tmp_path: Path,
    architecture: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported = []

    def note(student: torch.nn.Module, config: WakewordConfig, folder: Path) -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        exported.append((student, config, folder))
        return {}

    # What the files hold is tested with the students; converting all of them would take minutes.
    monkeypatch.setattr(students, "export_clip_student", note)
    config = make_config(corpus, caches, teacher)
    config.model.architecture = architecture  # type: ignore[assignment]
    config.qat.enabled = False
    config.data.n_mels = 24
    config.training.epochs = 1
    out = tmp_path / "run"
    result = train_command(config, out, resume=False)
    epoch = next(line for line in figures_of(out) if "val_f1" in line)
    assert {*FOUR, "recall_clean", "recall_noisy", "score", "hard_negatives"} <= set(epoch)
    student, _, folder = exported[0]
    assert folder == out / "model" == Path(result["model"])
    best = torch.load(out / "checkpoints" / "best.pt", weights_only=True)["model"]
    for name, value in student.state_dict().items():
        assert torch.equal(value, best[name])
    with pytest.raises(EdgewakeError, match="--resume"):
        train_command(config, out, resume=False)
    assert train_command(config, out, resume=True)["best_score"] == result["best_score"]


def test_a_student_of_whole_clips_leaves_files_that_others_can_run(
    corpus: Path, caches: Path, teacher: Path, tmp_path: Path
) -> None:
    config = make_config(corpus, caches, teacher)
    config.model.architecture = "gru"
    config.model.hidden = 8
    config.model.layers = 1
    config.qat.enabled = False
    config.training.epochs = 1
    folder = Path(train_command(config, tmp_path / "run", resume=False)["model"])
    assert {"model.onnx", "model_float.tflite", "weights.safetensors", "model.json", "config.yaml"} <= {
        path.name for path in folder.iterdir()
    }


def test_what_cannot_be_exported_is_reported_before_any_work(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(corpus, tmp_path)
    config.model.architecture = "gru"
    config.qat.enabled = False
    monkeypatch.setattr("edgewake.training.students.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"onnx2tf.*pip install 'edgewake\[convert\]'"):
        train_command(config, tmp_path / "run", resume=False)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_is_recorded_as_such(
    corpus: Path, caches: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgewake.training.trainer import Trainer

    def interrupt(self: Trainer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_command(make_config(corpus, caches, teacher), tmp_path / "run", resume=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
