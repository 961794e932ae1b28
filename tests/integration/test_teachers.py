"""Teachers take audio, stay frozen, are restored from disk, and are fitted to a phrase by their head or as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgewake.cache import Cache
from edgewake.cli import main
from edgewake.config import TeacherConfig, WakewordConfig
from edgewake.data.importing import import_folder
from edgewake.data.reading import write_audio
from edgewake.errors import ConfigError, EdgewakeError, MissingDependencyError
from edgewake.models.huggingface import Wav2VecWakeword
from edgewake.models.tiny_conv import TinyConv
from edgewake.teachers import huggingface, registry
from edgewake.teachers.base import (
    ConvHead,
    LinearHead,
    Teacher,
    TeacherOutputs,
    head_from_options,
    make_head,
    tensors_fingerprint,
    top_logits,
)
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.huggingface import (
    USUAL_NAMES,
    HuggingFaceTeacher,
    WeightsNotFoundError,
    mel_filters,
    small_config,
    teacher_from_scratch,
)
from edgewake.teachers.registry import ARCHITECTURES, create_teacher, load_teacher, save_teacher, teacher_from_config
from edgewake.training import teacher_fit
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.teacher_fit import LabelledClips, fit_on_loader, fit_stage, fit_teacher
from edgewake.training.teacher_outputs import TeacherCache

transformers = pytest.importorskip("transformers")
FAMILY = sorted(USUAL_NAMES)
TINY = TeacherConfig(layers=2, width=16, hidden=8, epochs=2, batch_size=8)
SECOND = 16000


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(architecture: str, seed: int = 0) -> HuggingFaceTeacher:
    torch.manual_seed(seed)
    return teacher_from_scratch(architecture, 2, TINY)


def noise(clips: int = 3, samples: int = 12000, seed: int = 1) -> Tensor:
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


class Table(Teacher):
    """Embeddings that are the audio itself, 4 channels a frame: what heads and ensembles are tested on."""

    architecture, embedding_size, frame_rate, source, num_classes = "table", 4, 10.0, "here", 2

    def __init__(self, rate: float = 10.0, head: str = "linear") -> None:
        super().__init__()
        self.frame_rate, self.head_trained = rate, False
        self.head = make_head(TeacherConfig(head=head, hidden=8, context_ms=300), 4, rate, 2)

    def embed(self, audio: Tensor) -> Tensor:
        return audio.reshape(len(audio), -1, 4)

    def fingerprint(self) -> str:
        return "0" * 16


# ---- heads ---------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_a_clip_is_its_smoothed_top_as_tiny_conv_has_it(frames: int, smoothing: int, seed: int) -> None:
    z = torch.randn(3, frames, generator=torch.Generator().manual_seed(seed)) * 4
    along = torch.stack([torch.zeros_like(z), z], dim=2)
    student = TinyConv(smoothing=min(smoothing, frames))
    student.step_logits = lambda features: z  # type: ignore[method-assign, assignment]
    torch.testing.assert_close(top_logits(along, smoothing), student(torch.zeros(3, 1, 40)))


def test_the_smoothed_top_equals_numbers_computed_by_hand() -> None:
    along = torch.tensor([[[0.0, -2.0], [0.0, 1.0], [0.0, 3.0], [0.0, -1.0]]])
    # Means of two: (0.1192, 0.7311), (0.7311, 0.9526), (0.9526, 0.2689); the second is the largest, 0.8418.
    p = (1 / (1 + np.exp(-1)) + 1 / (1 + np.exp(-3))) / 2
    expected = torch.tensor([[0.0, float(np.log(p / (1 - p)))]])
    torch.testing.assert_close(top_logits(along, 2), expected)
    # What both logits share changes no probability.
    torch.testing.assert_close(top_logits(along + 5, 2), expected)


@given(st.integers(1, 30), st.integers(2, 4), st.sampled_from([4.0, 12.5, 50.0]))
@settings(max_examples=25)
def test_a_conv_head_takes_clips_of_any_length_and_half_precision(frames: int, classes: int, rate: float) -> None:
    head = make_head(TeacherConfig(hidden=8), 6, rate, classes).eval()
    value = torch.randn(2, frames, 6, generator=torch.Generator().manual_seed(frames)).half()
    logits, along = head(value)
    assert along is not None
    assert logits.shape == (2, classes)
    assert along.shape == (2, frames, classes)
    assert logits.dtype == torch.float32
    assert (along[:, :, 0] == 0).all()
    # A mean of probabilities cannot pass the largest of them.
    assert (logits[:, 1:] <= along[:, :, 1:].amax(dim=1) + 1e-4).all()


def test_a_conv_head_sees_its_context_and_no_more() -> None:
    head = make_head(TeacherConfig(hidden=8, context_ms=400), 6, 50.0, 2).eval()
    assert isinstance(head, ConvHead)
    base = torch.zeros(1, 60, 6)
    moved = base.clone()
    moved[0, 30] = 5
    changed = (head.frame_logits(base) - head.frame_logits(moved)).abs().sum(dim=2)[0] > 0
    # 400 ms are 20 frames: ten on either side of the middle one.
    assert torch.nonzero(changed).flatten().tolist() == list(range(20, 41))
    assert head.smoothing == 6


def test_a_linear_head_maps_the_mean_of_the_frames() -> None:
    head = make_head(TeacherConfig(head="linear"), 6, 50.0, 3).eval()
    value = noise(2, 60).reshape(2, 10, 6)
    logits, along = head(value)
    assert along is None
    torch.testing.assert_close(logits, head.linear(value.mean(dim=1)))


@given(st.floats(0.01, 100), st.floats(-50, 50))
@settings(max_examples=25)
def test_a_standardized_head_does_not_see_scale_and_offset(scale: float, offset: float) -> None:
    torch.manual_seed(0)
    head = make_head(TeacherConfig(hidden=8), 6, 50.0, 2).eval()
    value = noise(4, 120).reshape(4, 20, 6) * 10
    head.standardize(value)
    expected = head(value)[0]
    head.standardize(value * scale + offset)
    torch.testing.assert_close(head(value * scale + offset)[0], expected, atol=2e-3, rtol=2e-3)


def test_a_channel_that_never_moves_gives_nothing() -> None:
    head = LinearHead(2)
    value = torch.stack([torch.full((5, 7), 300.0), torch.randn(5, 7)], dim=2)
    head.standardize(value)
    assert torch.equal(head.eval()(value + torch.tensor([1e-3, 0.0]))[0], head(value)[0])
    assert ((value - head.mean) / head.scale)[:, :, 1].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_head_is_built_again_from_its_options(kind: str) -> None:
    head = make_head(TeacherConfig(head=kind, hidden=8, dropout=0.3), 6, 12.5, 3).eval()
    again = head_from_options(head.options).eval()
    again.load_state_dict(head.state_dict())
    value = noise(2, 60).reshape(2, 10, 6)
    assert torch.equal(again(value)[0], head(value)[0])
    with pytest.raises(ConfigError, match=r"model\.num_classes = 1"):
        make_head(TeacherConfig(head=kind), 6, 50.0, 1)


# ---- networks of transformers --------------------------------------------------------------------


@pytest.mark.parametrize("architecture", FAMILY)
def test_each_of_the_family_takes_audio_and_stays_frozen(architecture: str) -> None:
    teacher = tiny(architecture).freeze()
    teacher.train()
    assert not teacher.training
    assert not any(module.training for module in teacher.modules())
    assert not any(value.requires_grad for value in teacher.parameters())
    audio = noise()
    signals = teacher.outputs(audio)
    assert not signals.logits.requires_grad
    assert signals.logits.shape == (3, 2)
    assert signals.frames is not None
    assert signals.frame_logits is not None
    frames = (audio.shape[1] - teacher.least_samples) // 640 + 1
    assert signals.frames.shape == (3, frames, teacher.embedding_size)
    assert teacher.frame_rate == 25
    assert torch.equal(teacher(audio), signals.logits)
    # A clip's answer depends neither on its neighbours nor on its level.
    torch.testing.assert_close(teacher(audio[:1]), signals.logits[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(teacher(audio * 0.25 + 0.01), signals.logits, atol=1e-3, rtol=1e-3)
    assert torch.isfinite(teacher(torch.zeros(1, 100))).all()


@pytest.mark.parametrize("architecture", FAMILY)
def test_each_of_the_family_comes_back_from_a_folder_and_from_our_own_file(architecture: str, tmp_path: Path) -> None:
    teacher = tiny(architecture).freeze()
    teacher.network.save_pretrained(tmp_path / "folder")
    teacher.head_trained = True
    save_teacher(teacher, tmp_path / "teacher.pt")
    folder = create_teacher(architecture, path=tmp_path / "folder").freeze()
    ours = load_teacher(tmp_path / "teacher.pt").freeze()
    assert torch.equal(folder.embed(noise()), teacher.embed(noise()))
    assert torch.equal(ours(noise()), teacher(noise()))
    for again, source in ((folder, str(tmp_path / "folder")), (ours, "random")):
        assert again.source == source
        assert again.fingerprint() == teacher.fingerprint() != tiny(architecture, seed=1).fingerprint()
    assert ours.head_fingerprint() == teacher.head_fingerprint()
    assert (folder.head_trained, ours.head_trained) == (False, True)


def test_embeddings_are_the_weighted_sum_of_normalized_hidden_states() -> None:
    teacher = tiny("wav2vec2").eval()
    with torch.no_grad():
        teacher.layer_weights.copy_(torch.tensor([0.0, 1.0, -1.0]))
        audio = noise()
        clip = (audio - audio.mean(dim=1, keepdim=True)) / audio.std(dim=1, keepdim=True, correction=0)
        states = teacher.network(clip, output_hidden_states=True).hidden_states
        weights = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
        expected = torch.zeros_like(states[0])
        for weight, state in zip(weights, states, strict=True):
            centred = state - state.mean(dim=2, keepdim=True)
            deviation = torch.sqrt(centred.square().mean(dim=2, keepdim=True) + 1e-5)
            expected += float(weight) * centred / deviation
        torch.testing.assert_close(teacher.embed(audio), expected, atol=1e-4, rtol=1e-4)
    assert len(states) == 3


def test_gradient_checkpointing_changes_memory_and_not_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        teacher = teacher_from_scratch("wav2vec2", 2, TINY)
        if checkpointing:
            teacher.recompute_activations()
        layers = [module for module in teacher.modules() if hasattr(module, "gradient_checkpointing")]
        assert any(module.gradient_checkpointing for module in layers) == checkpointing
        teacher.train()
        for module in teacher.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout1d):
                module.p = 0.0
        teacher(noise()).sum().backward()
        gradients.append([value.grad for value in teacher.network.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_the_guides_wav2vec_wakeword_is_built_as_printed() -> None:
    teacher = Wav2VecWakeword(num_classes=3, pretrained=False, config=small_config("wav2vec2", TINY), freeze=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the guide's call has a new name in transformers
        teacher.wav2vec2.gradient_checkpointing_enable()
    assert teacher(noise()).shape == (3, 3)
    assert teacher.frozen


def test_filters_of_a_network_from_scratch_pass_bands_on_the_mel_scale() -> None:
    filters = mel_filters(16, 128).squeeze(1)
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(16))
    spectrum = torch.fft.rfft(filters, 4096).abs()
    peak = spectrum.argmax(dim=1) * 16000 / 4096
    assert (peak[2::2] > peak[:-2:2]).all()
    # A pair is one band in two phases.
    torch.testing.assert_close(peak[4::2], peak[5::2], atol=40.0, rtol=0.0)
    assert peak[-1] == pytest.approx(7600, abs=60)


def test_a_folder_of_another_architecture_is_named(tmp_path: Path) -> None:
    tiny("hubert").network.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"type 'hubert', not 'wavlm'.*teacher_architecture: hubert"):
        create_teacher("wavlm", path=tmp_path)


def test_a_folder_whose_weights_are_damaged_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    tiny("wav2vec2").network.save_pretrained(tmp_path)
    weights, shape = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, config = weights.read_bytes(), json.loads(shape.read_text())

    def refused(message: str) -> None:
        with pytest.raises(EdgewakeError, match=message):
            create_teacher("wav2vec2", path=tmp_path)

    weights.write_bytes(whole[: len(whole) // 2])
    refused("cannot be read")
    weights.write_bytes(whole)
    shape.write_text(json.dumps(config | {"num_hidden_layers": 3}))
    refused(r"do not fit the network: \d+ tensors are missing")
    shape.write_text(json.dumps(config | {"hidden_size": 32}))
    refused("cannot be read|do not fit the network")
    shape.write_text("{")
    refused(r"config\.json in .* cannot be read")
    shape.unlink()
    refused(r"config\.json in .* cannot be read")


# ---- what is not there ---------------------------------------------------------------------------


@pytest.mark.usefixtures("no_hub")
def test_weights_that_cannot_be_had_give_one_line() -> None:
    with pytest.raises(WeightsNotFoundError, match="'facebook/wav2vec2-base' are neither in the local cache") as caught:
        Wav2VecWakeword()
    assert "\n" not in str(caught.value)
    assert "edgewake assets get whisper-base" in str(caught.value)


def test_a_hub_that_does_not_answer_is_asked_once_and_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def no_answer(url: str, timeout: float) -> None:
        asked.append(timeout)
        raise TimeoutError("timed out\nafter all")

    monkeypatch.setattr("huggingface_hub.file_download.get_hf_file_metadata", no_answer)
    with pytest.raises(WeightsNotFoundError, match=r"nor available from the hub \(timed out after all\)"):
        create_teacher("hubert", name="nobody/has-this")
    assert asked == [huggingface.HUB_TIMEOUT_S]


@pytest.mark.usefixtures("no_hub")
def test_weights_in_the_hubs_local_cache_need_no_hub(tmp_path: Path) -> None:
    teacher = tiny("wavlm").freeze()
    place = tmp_path / "hub" / "models--some--wavlm"
    teacher.network.save_pretrained(place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    again = create_teacher("wavlm", name="some/wavlm").freeze()
    assert again.source == again.name == "some/wavlm"
    assert torch.equal(again.embed(noise()), teacher.embed(noise()))
    # Such a teacher's file holds a head and a name, not the network.
    again.head_trained = True
    save_teacher(again, tmp_path / "teacher.pt")
    assert torch.load(tmp_path / "teacher.pt", weights_only=True)["backbone"] is None
    assert torch.equal(load_teacher(tmp_path / "teacher.pt")(noise()), again(noise()))
    with pytest.raises(ConfigError, match="type 'wavlm', not 'hubert'"):
        create_teacher("hubert", name="some/wavlm")


def test_without_transformers_the_guides_import_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="transformers library is required for Wav2VecWakeword") as caught:
        Wav2VecWakeword()
    assert isinstance(caught.value, MissingDependencyError)
    assert "pip install transformers" in str(caught.value)


@pytest.mark.slow
def test_without_transformers_everything_imports() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import edgewake.teachers.huggingface, edgewake.teachers.registry\n"
        "from edgewake.models.huggingface import Wav2VecWakeword\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("no_hub")
def test_whisper_takes_the_place_of_a_default_that_is_not_available(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "WhisperTeacher", partial(registry.WhisperTeacher, pretrained=False))
    config = WakewordConfig()
    config.distillation.enabled = True
    config.save(tmp_path / "config.yaml")
    for each in (config, config.freeze(), WakewordConfig.load(tmp_path / "config.yaml")):
        teacher = teacher_from_config(each)
        assert teacher.architecture == "whisper"
        assert teacher.frozen
        assert "in place of facebook/wav2vec2-base" in teacher.source
        assert capsys.readouterr().err.count("facebook/wav2vec2-base is not available") == 1


@pytest.mark.usefixtures("no_hub")
def test_a_teacher_that_is_named_is_never_replaced(tmp_path: Path) -> None:
    config = WakewordConfig(distillation={"enabled": True, "teacher_architecture": "wav2vec2"})
    config.save(tmp_path / "config.yaml")
    overridden = WakewordConfig().override(["distillation.teacher_architecture=wav2vec2"])
    for each in (config, config.freeze(), WakewordConfig.load(tmp_path / "config.yaml"), overridden):
        with pytest.raises(
            WeightsNotFoundError, match="'facebook/wav2vec2-base' are neither in the local cache"
        ) as caught:
            teacher_from_config(each)
        for remedy in ("teacher_model_path", "teacher_architecture: whisper", "edgewake assets get whisper-base"):
            assert remedy in str(caught.value)
    config = WakewordConfig()
    config.distillation.teacher_name = "facebook/wav2vec2-large"
    with pytest.raises(WeightsNotFoundError, match="wav2vec2-large"):
        teacher_from_config(config)
    config = WakewordConfig()
    config.distillation.teacher_architecture, config.distillation.teachers = "ensemble", ["wav2vec2", "hubert"]
    with pytest.raises(WeightsNotFoundError, match="wav2vec2-base"):
        teacher_from_config(config)


def checkpoint(form: str, state: dict[str, Tensor], path: Path) -> Path:
    """A state_dict as people save it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "manager":
        progress = {"step": 3, "epoch": 1, "best_score": 0.5, "optimizer": {"lr": 0.1}}
        CheckpointManager(path.parent).save({"model": state, **progress}, best=True).rename(path)
    elif form == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif form == "guide":  # its network is `wav2vec2`
        torch.save({name.replace("network.", "wav2vec2.", 1): value for name, value in state.items()}, path)
    else:
        torch.save(state if form == "plain" else {form: state, "epoch": 3}, path)
    return path


FORMS = ("plain", "manager", "model", "state_dict", "model_state_dict", "parallel", "guide")


@pytest.mark.parametrize(("architecture", "form"), [*(("wav2vec2", form) for form in FORMS), ("wavlm", "plain")])
def test_a_checkpoint_of_the_family_is_a_teacher(form: str, architecture: str, tmp_path: Path) -> None:
    mine = tiny(architecture, 3).eval()
    path = checkpoint(form, mine.state_dict(), tmp_path / "mine.pt")
    found = create_teacher(architecture, path=path, teacher=TINY.model_copy(update={"from_scratch": True}))
    assert torch.equal(found(noise()), mine(noise()))
    assert found.head_trained
    assert found.source == str(path)
    save_teacher(found, tmp_path / "teacher.pt")
    path.unlink()
    assert torch.equal(load_teacher(tmp_path / "teacher.pt")(noise()), mine(noise()))


def test_the_shape_of_a_checkpoint_comes_from_a_name_or_a_config_beside_it(tmp_path: Path) -> None:
    mine = tiny("wav2vec2").eval()
    mine.network.config.save_pretrained(tmp_path / "shape")
    path = checkpoint("plain", mine.state_dict(), tmp_path / "mine.pt")
    named = create_teacher("wav2vec2", path=path, name=str(tmp_path / "shape"), teacher=TINY)
    assert torch.equal(named(noise()), mine(noise()))
    mine.network.config.save_pretrained(tmp_path)
    config = WakewordConfig(distillation={"teacher_model_path": path, "gradient_checkpointing": True}, teacher=TINY)
    beside = teacher_from_config(config)
    assert torch.equal(beside(noise()), mine(noise()))
    assert beside.network.is_gradient_checkpointing
    # Without a head in it, one is fitted.
    checkpoint("plain", mine.backbone(), path)
    headless = create_teacher("wav2vec2", path=path, teacher=TINY)
    assert torch.equal(headless.embed(noise()), mine.embed(noise()))
    assert not headless.head_trained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, r"size mismatch for layer_weights: .*config\.json beside the file"),
        ({"width": 32}, "size mismatch for .*teacher_name"),
        ({"hidden": 16}, r"size mismatch for head\.project\.weight: .*\[8, 16, 1\].*\[16, 16, 1\]"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(change: dict[str, int], message: str, tmp_path: Path) -> None:
    path = checkpoint("plain", tiny("wav2vec2").state_dict(), tmp_path / "mine.pt")
    other = TINY.model_copy(update={"from_scratch": True, **change})
    with pytest.raises(ConfigError, match=message) as caught:
        create_teacher("wav2vec2", path=path, teacher=other)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [{"model": {}}, {}, {"model": {"x": 1}}, [1], {"epoch": 3}])
def test_a_file_without_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "mine.pt")
    with pytest.raises(ConfigError, match="holds no state_dict of a teacher"):
        create_teacher("wav2vec2", path=tmp_path / "mine.pt")
    torch.save({"model": Limited(np.zeros(1, np.int16), 1)}, tmp_path / "mine.pt")
    with pytest.raises(EdgewakeError, match="something else than tensors and plain values") as caught:
        create_teacher("wav2vec2", path=tmp_path / "mine.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_architecture": "self"}, "teaches itself"),
        ({"teacher_model_path": "nowhere.pt"}, r"teacher_model_path = 'nowhere\.pt' does not exist"),
        ({"teacher_architecture": "ensemble", "teachers": ("wav2vec", "whisper")}, "teachers has 'wav2vec'"),
        ({"teacher_architecture": "speech_embedding", "teacher_name": "x"}, "one set of weights"),
    ],
)
def test_a_configuration_that_names_no_teacher_is_refused(change: dict[str, Any], message: str) -> None:
    config = WakewordConfig()
    for name, value in change.items():
        setattr(config.distillation, name, value)
    with pytest.raises(ConfigError, match=message):
        teacher_from_config(config)


def test_an_unknown_architecture_and_one_without_small_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'wav2vec3'.*must be one of"):
        create_teacher("wav2vec3")
    with pytest.raises(ConfigError, match="from_scratch = True with whisper"):
        create_teacher("whisper", teacher=TeacherConfig(from_scratch=True))
    assert set(FAMILY) < set(ARCHITECTURES)


def test_files_that_are_no_teacher_give_one_line(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"

    def refused(message: str) -> None:
        with pytest.raises(EdgewakeError, match=message) as caught:
            load_teacher(path)
        assert "\n" not in str(caught.value)

    refused("no teacher at")
    path.write_bytes(b"nothing that torch wrote")
    refused("cannot be read")
    torch.save({"model": {}}, path)
    refused("no teacher of this edgewake")
    save_teacher(tiny("wav2vec2"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2000])
    refused("cannot be read")
    path.write_bytes(whole)
    for change in ({"head": {}}, {"backbone": {"network.x": torch.zeros(1)}}, {"head_options": {"head": "x"}}):
        torch.save(torch.load(path, weights_only=True) | change, tmp_path / "changed.pt")
        with pytest.raises(EdgewakeError, match=r"changed\.pt"):
            load_teacher(tmp_path / "changed.pt")
    config = WakewordConfig()
    config.distillation.teacher_architecture = "hubert"
    config.distillation.teacher_model_path = str(path)
    with pytest.raises(ConfigError, match="holds a teacher wav2vec2, not hubert"):
        teacher_from_config(config)
    config.distillation.teacher_architecture = "wav2vec2"
    config.model.num_classes = 3
    with pytest.raises(ConfigError, match="for 2 classes"):
        teacher_from_config(config)


def test_a_head_is_not_put_on_weights_that_changed(tmp_path: Path) -> None:
    tiny("wav2vec2").network.save_pretrained(tmp_path / "folder")
    teacher = create_teacher("wav2vec2", path=tmp_path / "folder")
    save_teacher(teacher, tmp_path / "teacher.pt")
    assert torch.equal(load_teacher(tmp_path / "teacher.pt").embed(noise()), teacher.eval().embed(noise()))
    tiny("wav2vec2", seed=5).network.save_pretrained(tmp_path / "folder")
    with pytest.raises(EdgewakeError, match=r"teacher\.pt: the weights of .* are not those"):
        load_teacher(tmp_path / "teacher.pt")


# ---- ensembles -----------------------------------------------------------------------------------


def test_an_ensembles_means_equal_numbers_computed_by_hand() -> None:
    members = [Table(), Table()]
    parts = [
        TeacherOutputs(torch.tensor([[0.0, 2.0]]), None, torch.tensor([[[0.0, 2.0]]])),
        TeacherOutputs(torch.tensor([[1.0, 0.0]]), None, torch.tensor([[[1.0, 0.0]]])),
    ]
    p = [np.exp(2) / (1 + np.exp(2)), 1 / (1 + np.e)]
    mixed = EnsembleTeacher(members, (3.0, 1.0)).combine(parts)
    expected = 0.75 * p[0] + 0.25 * p[1]
    assert mixed.logits.softmax(dim=1)[0, 1].item() == pytest.approx(expected, abs=1e-6)
    assert mixed.frame_logits is not None
    torch.testing.assert_close(mixed.frame_logits[:, 0], mixed.logits)
    assert mixed.frames is None
    logits = EnsembleTeacher(members, (3.0, 1.0), "logits").combine(parts).logits
    torch.testing.assert_close(logits, torch.tensor([[0.25, 1.5]]))
    even = EnsembleTeacher(members).combine(parts).logits.softmax(dim=1)[0, 1]
    assert even.item() == pytest.approx(sum(p) / 2, abs=1e-6)


def test_an_ensembles_frames_are_those_of_its_most_frequent_member() -> None:
    ensemble = EnsembleTeacher([Table(5.0), Table(10.0), Table(2.0)], (1.0, 1.0, 2.0), "logits")
    slow = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
    fast = torch.zeros(1, 4, 2)
    parts = [TeacherOutputs(torch.zeros(1, 2), None, value) for value in (slow, fast, None)]
    along = ensemble.combine(parts).frame_logits
    # Two frames over four, linearly between their middles: 0, 1, 3, 4; the member without frames is left out.
    assert along is not None
    torch.testing.assert_close(along[0, :, 1], torch.tensor([0.0, 1.0, 3.0, 4.0]) / 2)
    assert ensemble.combine([TeacherOutputs(torch.zeros(1, 2))] * 3).frame_logits is None
    assert ensemble.frame_rate == 10.0


@given(st.lists(st.floats(0, 5), min_size=2, max_size=4), st.sampled_from(["probabilities", "logits"]))
def test_an_ensemble_of_equal_teachers_gives_what_each_gives(weights: list[float], mean: Any) -> None:
    if sum(weights) < 1e-3:
        weights = [1.0, *weights]
    logits = torch.tensor([[0.0, 1.5], [2.0, -30.0]])
    ensemble = EnsembleTeacher([Table()] * len(weights), weights, mean)
    found = ensemble.combine([TeacherOutputs(logits)] * len(weights)).logits
    torch.testing.assert_close(found.log_softmax(dim=1), logits.log_softmax(dim=1), atol=1e-5, rtol=1e-5)


def test_an_ensemble_is_built_from_a_configuration_and_kept_in_one_file(tmp_path: Path) -> None:
    members = [tiny("wav2vec2"), tiny("hubert", 1)]
    for member, name in zip(members, ("a.pt", "b.pt"), strict=True):
        member.head_trained = True
        save_teacher(member, tmp_path / name)
    config = WakewordConfig()
    config.distillation.teacher_architecture = "ensemble"
    config.distillation.teachers = (f"wav2vec2:{tmp_path / 'a.pt'}", f"hubert:{tmp_path / 'b.pt'}")
    config.distillation.teacher_weights = (1.0, 3.0)
    ensemble = teacher_from_config(config)
    assert isinstance(ensemble, EnsembleTeacher)
    assert ensemble.weights == [0.25, 0.75]
    assert ensemble.head_trained
    assert not any(value.requires_grad for value in ensemble.parameters())
    audio = noise()
    parts = [member.eval()(audio).softmax(dim=1) for member in members]
    expected = 0.25 * parts[0] + 0.75 * parts[1]
    torch.testing.assert_close(ensemble(audio).softmax(dim=1), expected)
    save_teacher(ensemble, tmp_path / "both.pt")
    config.distillation.teacher_model_path = str(tmp_path / "both.pt")
    again = teacher_from_config(config)
    assert torch.equal(again(audio), ensemble(audio))
    assert again.fingerprint() == ensemble.fingerprint()
    assert again.head_fingerprint() == ensemble.head_fingerprint()
    with pytest.raises(ConfigError, match="no embeddings of its own"):
        ensemble.embed(audio)


def test_an_ensembles_stored_outputs_are_those_of_running_it(tmp_path: Path) -> None:
    ensemble = EnsembleTeacher([tiny("wav2vec2"), tiny("wavlm", 1)]).freeze()
    audio = (noise() * 32768).to(torch.int16)
    stored = TeacherCache(ensemble, Cache(tmp_path)).outputs(audio.numpy()).of(torch.arange(3))
    live = ensemble.outputs(audio.float() / 32768)
    torch.testing.assert_close(stored.logits, live.logits, atol=2e-3, rtol=2e-3)
    assert stored.frame_logits is not None
    torch.testing.assert_close(stored.frame_logits, live.frame_logits, atol=1e-2, rtol=1e-2)


def test_ensembles_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="two teachers or more"):
        EnsembleTeacher([Table()])
    for weights in ((1.0,), (0.0, 0.0), (-1.0, 2.0)):
        with pytest.raises(ConfigError, match="teacher_weights"):
            EnsembleTeacher([Table(), Table()], weights)
    three = Table()
    three.num_classes = 3
    with pytest.raises(ConfigError, match=r"\[2, 3\] classes"):
        EnsembleTeacher([Table(), three])


# ---- fitting -------------------------------------------------------------------------------------


def toy(clips: int, seed: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]:
    """Embeddings: a positive has, somewhere, three frames in which channel 2 is high and channel 0 low."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(clips, 30, 4)) * [1, 1, 1, 50]
    labels = (rng.random(clips) < 0.2).astype(np.int64)
    for index in np.flatnonzero(labels):
        at = int(rng.integers(0, 27))
        frames[index, at : at + 3, 2] += 4
        frames[index, at : at + 3, 0] -= 4
    return frames.astype(np.float16), labels


def toy_config(**changes: Any) -> WakewordConfig:
    config = WakewordConfig()
    values = {"hidden": 8, "context_ms": 300, "batch_size": 32, "epochs": 10, "learning_rate": 0.02} | changes
    for name, value in values.items():
        setattr(config.teacher, name, value)
    return config


def fit_head(teacher: Teacher, clips: LabelledClips, config: WakewordConfig, **options: Any) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return fit_stage(teacher, clips, config, **options, network=False, folder=Path(folder))


def test_a_head_learns_what_can_be_told_apart_and_stays_frozen() -> None:
    teacher = Table(head="conv").freeze()
    train, val = toy(400, 0), toy(200, 1)
    figures = fit_head(teacher, LabelledClips(*train), toy_config(), val=LabelledClips(*val))
    assert teacher.head_trained
    assert figures["val"]["f1"] > 0.9
    assert figures["train"]["accuracy"] > 0.95
    assert not any(value.requires_grad for value in teacher.parameters())
    assert not teacher.head.training
    frames = torch.from_numpy(val[0].astype(np.float32))
    predicted = teacher.head(frames)[0].argmax(dim=1).numpy()
    assert (predicted == val[1]).mean() == pytest.approx(figures["val"]["accuracy"])


def test_fitting_a_head_depends_on_the_seed_of_the_data_alone() -> None:
    prints = []
    for seed in (3, 3, 4):
        config = toy_config(epochs=2)
        config.data.seed, config.training.seed = seed, len(prints)
        torch.manual_seed(len(prints))
        teacher = Table(head="conv")
        before = torch.get_rng_state()
        fit_head(teacher, LabelledClips(*toy(60, 0)), config)
        assert torch.equal(torch.get_rng_state(), before)
        prints.append(teacher.head_fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_a_clip_of_no_weight_is_never_learned_from() -> None:
    frames, labels = toy(60, 0)
    prints = []
    for spoiled in (False, True):
        weights = np.ones(60)
        weights[labels == 0] = np.where(np.arange((labels == 0).sum()) < 10, 0.0, 1.0)
        value = frames.copy()
        value[np.flatnonzero(labels == 0)[:10], :, 1] = 7.0 if spoiled else 0.0
        teacher = Table(head="linear")
        config = toy_config(epochs=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(teacher_fit, "STANDARDIZED_FROM", 1)
            patch.setattr("numpy.linspace", lambda *_: np.array([int(np.flatnonzero(labels)[0])]))
            fit_head(teacher, LabelledClips(value, labels, weights), config)
        prints.append(teacher.head_fingerprint())
    assert prints[0] == prints[1]


def test_what_cannot_be_fitted_is_named() -> None:
    frames, labels = toy(40, 0)
    with pytest.raises(EdgewakeError, match="no clip of the phrase among 40"):
        fit_head(Table(), LabelledClips(frames, np.zeros(40)), toy_config())
    with pytest.raises(EdgewakeError, match="no clip without the phrase"):
        fit_head(Table(), LabelledClips(frames, np.ones(40)), toy_config())
    frames[:, 3, 1] = np.nan
    with pytest.raises(EdgewakeError, match="loss is nan"):
        fit_head(Table(), LabelledClips(frames, labels), toy_config())


def tones(clips: int, seed: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Audio of half a second: rising tones are the phrase, falling ones are not."""
    rng = np.random.default_rng(seed)
    time = np.arange(8000) / SECOND
    labels = np.arange(clips) % 2
    slope = np.where(labels, 2500.0, -2500.0)[:, None]
    start = np.where(labels, 500.0, 1700.0)[:, None] + rng.uniform(-100, 100, (clips, 1))
    wave = np.sin(2 * np.pi * (start * time + slope * time**2 / 2) + rng.uniform(0, 6, (clips, 1)))
    return (6000 * wave + 300 * rng.normal(size=wave.shape)).astype(np.int16), labels.astype(np.int64)


def scratch_config(**changes: Any) -> WakewordConfig:
    config = toy_config(from_scratch=True, layers=2, width=16, batch_size=16, **changes)
    config.training.negatives_per_positive = 1.0
    return config


@pytest.mark.slow
def test_a_network_from_scratch_learns_to_tell_tones_apart() -> None:
    config = scratch_config(epochs=12, backbone_learning_rate=0.005, learning_rate=0.005)
    torch.manual_seed(0)
    teacher = teacher_from_scratch("wav2vec2", 2, config.teacher).freeze()
    before = teacher.fingerprint()
    audio, labels = tones(64, 0)
    figures = fit_teacher(teacher, LabelledClips(audio, labels), config, val=LabelledClips(*tones(32, 1)))
    assert figures["val"]["accuracy"] > 0.9
    assert figures["history"][-1] < 0.7 * figures["history"][0]
    assert teacher.fingerprint() != before
    assert teacher.frozen
    assert not any(value.requires_grad for value in teacher.parameters())
    assert teacher.source == "trained from scratch"


class Interrupted(KeyboardInterrupt):
    pass


class Limited:
    """Clips that can be read only so many times, as when somebody presses Ctrl-C."""

    def __init__(self, audio: npt.NDArray[np.int16], reads: int) -> None:
        self.audio, self.reads = audio, reads

    def __len__(self) -> int:
        return len(self.audio)

    def __getitem__(self, index: Any) -> Any:
        self.reads -= 1
        if self.reads < 0:
            raise Interrupted
        return self.audio[index]


@pytest.mark.slow
@pytest.mark.parametrize("reads", [9, 17])
def test_an_interrupted_fit_goes_on_and_ends_as_one_that_was_not(tmp_path: Path, reads: int) -> None:
    """In its second or third epoch of eight batches."""
    config = scratch_config(epochs=4)
    audio, labels = tones(128, 0)

    def train(clips: Any, folder: Path) -> HuggingFaceTeacher:
        torch.manual_seed(0)
        teacher = teacher_from_scratch("hubert", 2, config.teacher)
        fit_stage(teacher, LabelledClips(clips, labels), config, network=True, folder=folder)
        return teacher

    whole = train(audio, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(Limited(audio, reads), tmp_path / "broken")
    resumed = train(Limited(audio, 32 - 8 * (reads // 8)), tmp_path / "broken")
    assert tensors_fingerprint(resumed.state_dict()) == tensors_fingerprint(whole.state_dict())


def test_only_the_last_layers_are_unfrozen(tmp_path: Path) -> None:
    tiny("wav2vec2").network.save_pretrained(tmp_path)
    teacher = create_teacher("wav2vec2", path=tmp_path, teacher=TINY).freeze()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    config = toy_config(unfreeze_layers=1, epochs=2, batch_size=16)
    audio, labels = tones(32, 0)
    figures = fit_teacher(teacher, LabelledClips(audio, labels), config)
    assert "head_alone" in figures
    changed = {name for name, value in teacher.state_dict().items() if not torch.equal(value, before[name])}
    network = {name for name in changed if not name.startswith("head.")}
    assert "layer_weights" in network
    assert network - {"layer_weights"}
    assert all(name.startswith("network.encoder.layers.1.") for name in network - {"layer_weights"})
    assert teacher.backbone_trained
    assert teacher.frozen
    # What was trained here is kept here, whatever becomes of the folder.
    save_teacher(teacher, tmp_path / "teacher.pt")
    (tmp_path / "model.safetensors").unlink()
    clip = noise()
    assert torch.equal(load_teacher(tmp_path / "teacher.pt")(clip), teacher(clip))


def test_a_network_without_layers_is_not_unfrozen(capsys: pytest.CaptureFixture[str]) -> None:
    frames, labels = toy(40, 0)
    config = toy_config(unfreeze_layers=2, epochs=1)
    clips = frames.reshape(40, -1)
    with pytest.raises(ConfigError, match=r"unfreeze_layers = 2 with table"), TemporaryDirectory() as folder:
        fit_stage(Table(), LabelledClips(clips, labels), config, network=True, folder=Path(folder))
    teacher = Table()
    fit_teacher(teacher, LabelledClips(frames.reshape(40, -1).astype(np.int16), labels), config)
    assert teacher.head_trained
    assert "its layers cannot be trained" in capsys.readouterr().err


def test_every_member_of_an_ensemble_is_fitted_once() -> None:
    config = toy_config(epochs=1, batch_size=16)
    ensemble = EnsembleTeacher([tiny("wav2vec2"), tiny("hubert", 1)]).freeze()
    ensemble.members[0].head_trained = True
    kept = ensemble.members[0].head_fingerprint()
    audio, labels = tones(32, 0)
    fit_on_loader(ensemble, [(torch.from_numpy(audio / np.float32(32768)), torch.from_numpy(labels))], config)
    assert ensemble.head_trained
    assert ensemble.members[0].head_fingerprint() == kept


def test_a_teacher_is_fitted_on_a_loaders_raw_audio() -> None:
    audio, labels = tones(24, 0)
    clip = torch.from_numpy(audio.astype(np.float32) / 32768)

    def loader(inputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(inputs.split(10), torch.from_numpy(labels).split(10), strict=True)

    config = toy_config(epochs=2)
    teacher, same = tiny("wav2vec2"), tiny("wav2vec2")
    fit_on_loader(teacher, loader(clip), config)
    fit_teacher(same, LabelledClips(audio, labels), config)
    assert teacher.head_trained
    assert teacher.head_fingerprint() == same.head_fingerprint()
    with pytest.raises(EdgewakeError, match="return_raw_audio=True"):
        fit_on_loader(teacher, loader(torch.zeros(24, 49, 40)), config)
    with pytest.raises(EdgewakeError, match="gives no batch"):
        fit_on_loader(teacher, [], config)


# ---- commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of rising tones (the phrase) and falling ones, and the configuration of a small teacher."""
    root = tmp_path_factory.mktemp("project")
    for label, (audio, labels) in {"hey": tones(8, 0), "other": tones(8, 2)}.items():
        chosen = audio[labels == (label == "hey")]
        for index, split in enumerate(("train", "train", "val", "test")):
            path = root / "corpus" / label / split / f"v{label}{index}_a.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, np.pad(chosen[index], 4000))
    manifest = import_folder(root / "corpus", "hey", speaker_pattern=r"(?P<speaker>v\w+\d)_")
    manifest.save(root / "corpus" / "manifest.json")
    config = WakewordConfig()
    config.data.manifest = str(root / "corpus" / "manifest.json")
    config.data.phrase = "hey"
    config.data.audio_duration = 0.9
    config.data.positive_renders = 8
    config.data.negative_renders = 4
    config.cache.folder = str(root / "cache")
    config.training.threads = 1
    config.augmentation.enabled = False
    config.distillation.enabled = True
    for name, value in scratch_config(epochs=2).teacher.model_dump().items():
        setattr(config.teacher, name, value)
    config.save(root / "small.yaml")
    return root


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(main, ["teacher", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def fitted(project: Path) -> Path:
    out = project / "runs" / "small-teacher"
    result = run("train", str(project / "small.yaml"), "--out", str(out))
    assert result.exit_code == 0, result.output
    return out


def test_teacher_train_leaves_a_teacher_and_its_figures(fitted: Path) -> None:
    result = json.loads((fitted / "result.json").read_text())
    teacher = load_teacher(fitted / "teacher.pt")
    assert result["architecture"] == "wav2vec2"
    assert result["source"] == "trained from scratch"
    assert result["fingerprint"] == teacher.fingerprint()
    assert result["head_fingerprint"] == teacher.head_fingerprint()
    assert len(result["figures"]["history"]) == 2
    assert 0 <= result["figures"]["val"]["f1"] <= 1
    assert WakewordConfig.load(fitted / "config.yaml").teacher.from_scratch
    assert sorted(path.name for path in fitted.iterdir()) == [
        "config.yaml", "result.json", "run.json", "scan.json", "teacher.pt"
    ]  # fmt: skip
    kept = json.loads((fitted / "run.json").read_text())
    assert (kept["command"], kept["status"]) == ("teacher", "finished")
    assert kept["data"]


def test_teacher_train_does_not_overwrite_and_resumes_what_is_done(project: Path, fitted: Path) -> None:
    before = (fitted / "teacher.pt").read_bytes()
    refused = run("train", str(project / "small.yaml"), "--out", str(fitted))
    assert refused.exit_code == 1
    assert "add --resume" in refused.output
    again = run("train", str(project / "small.yaml"), "--out", str(fitted), "--resume", "--json")
    assert json.loads(again.stdout)["teacher"] == str(fitted / "teacher.pt")
    assert (fitted / "teacher.pt").read_bytes() == before


def test_the_same_command_gives_the_same_teacher(project: Path, fitted: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)
    result = run("train", str(project / "small.yaml"), "--out", str(tmp_path / "again"), "--json")
    first = json.loads((fitted / "result.json").read_text())
    again = json.loads(result.stdout)
    for name in ("fingerprint", "head_fingerprint"):
        assert again[name] == first[name]


def test_the_teacher_that_a_run_keeps_is_evaluated_with_the_runs_settings(fitted: Path, tmp_path: Path) -> None:
    kept = tmp_path / "run" / "teacher" / "teacher.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes((fitted / "teacher.pt").read_bytes())
    alone = run("evaluate", str(kept))
    assert alone.exit_code == 1
    assert "no config.yaml beside" in alone.output
    settings = WakewordConfig.load(fitted / "config.yaml")
    settings.save(tmp_path / "run" / "config.yaml")
    result = run("evaluate", str(kept), "--json")
    assert result.exit_code == 0, result.output
    assert (kept.parent / "evaluation-val.json").exists()
    missing = run("evaluate", str(tmp_path / "nowhere.pt"))
    assert missing.exit_code == 1
    assert "no teacher at" in missing.output


def test_teacher_evaluate_reports_clips_and_whole_recordings(project: Path, fitted: Path) -> None:
    result = run("evaluate", str(fitted / "teacher.pt"), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((fitted / "evaluation-val.json").read_text())
    assert {"accuracy", "f1"} <= set(report["clips"])
    assert {f"recall_{kind}_at_{rate}" for kind in ("clean", "noisy") for rate in ("0.5", "2", "8")} <= set(
        report["recordings"]
    )
    assert report["worthwhile"] == (report["clips"]["accuracy"] >= 0.8)
    command = ["evaluate", str(project / "small.yaml"), "--out", str(project / "again"), "--split", "test"]
    shown = run(*command)
    # There is no teacher in the default folder: the one that the configuration describes is not fitted yet.
    assert shown.exit_code == 1
    assert "edgewake teacher train first" in shown.output.replace("\n", " ")
    shown = run(*command, "--set", f"distillation.teacher_model_path={fitted / 'teacher.pt'}")
    assert shown.exit_code == 0, shown.output
    assert "accuracy is at least 80 %" in shown.output
    assert (project / "again" / "evaluation-test.json").exists()


def test_a_weak_teacher_is_named(project: Path, tmp_path: Path) -> None:
    config = WakewordConfig.load(project / "small.yaml")
    config.teacher.epochs = 1
    config.teacher.backbone_learning_rate = 1e-9
    config.teacher.learning_rate = 1e-9
    config.save(tmp_path / "weak.yaml")
    result = run("train", str(tmp_path / "weak.yaml"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "teacher may not be helpful" in result.stderr.replace("\n", " ")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["figures"]["val"]["accuracy"] < 0.8
