"""Students take features of any size in either layout, and their exported files compute what torch does."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgewake.config import WakewordConfig
from edgewake.conversion import clip_export
from edgewake.conversion.clip_export import (
    check_clips,
    export_clip_student,
    load_clip_student,
    run_onnx,
    run_tflite,
)
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.models import ARCHITECTURES, create_model, make_featurizer
from edgewake.models.factory import options_of
from edgewake.models.featurizer import FLOOR, BoardFeatures, LogMel, frame_count
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, features
from edgewake.teachers.base import parameters_of

OTHERS = tuple(name for name in ARCHITECTURES if name != "tiny_conv")
SEQUENCES = ("lstm", "gru", "tcn")
SMALL = {"lstm": {"hidden": 6}, "gru": {"hidden": 6}, "tcn": {"hidden": 6, "layers": 2}}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def config_of(architecture, n_mels=40, seconds=1.5, **model):
    config = WakewordConfig()
    config.model.architecture = architecture
    config.data.audio_duration = seconds
    config.data.n_mels = n_mels
    for name, value in model.items():
        setattr(config.model, name, value)
    config.check()
    return config


def student_of(config):
    """A student whose BatchNorms and head are not at their start, so that no layer is trivial."""
    torch.manual_seed(3)
    model = config.model
    student = create_model(model.architecture, model.num_classes, config.data.n_mels, **model.options())
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain mean of its input
    student.train()
    with torch.no_grad():
        for _ in range(3):
            student(torch.rand(4, frame_count(config), config.data.n_mels) * 22)
    # A tiny_conv that is nearly certain gives the logit of a number next to 1, which has few digits left.
    nn.init.normal_(student.head.weight, std=0.1 if config.model.architecture == "tiny_conv" else 0.5)
    return student.eval()


# ---- shapes and options --------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=4)
@given(mel=st.integers(8, 128), frames=st.integers(40, 200))
def test_any_number_of_mel_channels_and_frames_in_either_layout(architecture, mel, frames):
    torch.manual_seed(0)
    student = create_model(architecture, input_size=mel, **SMALL.get(architecture, {})).eval()
    clips = torch.rand(2, frames, mel) * 20
    with torch.no_grad():
        logits = student(clips)
        assert logits.shape == (2, 2)
        assert torch.equal(logits, student(clips.transpose(1, 2).unsqueeze(1)))
    assert student.input_size == mel


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_shapes_are_named(architecture):
    student = create_model(architecture, input_size=40, **SMALL.get(architecture, {})).eval()
    with pytest.raises(EdgewakeError, match=r"2, 151, 64\): this \w+ takes 40 mel channels"):
        student(torch.rand(2, 151, 64))
    with pytest.raises(EdgewakeError, match="raw audio goes through"):
        student(torch.rand(2, 24000))


@pytest.mark.parametrize("architecture", OTHERS)
def test_more_classes_than_two(architecture):
    assert create_model(architecture, 5, 40).eval()(torch.rand(3, 99, 40)).shape == (3, 5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_configuration_builds_each_student_with_its_dropout(architecture):
    config = WakewordConfig()
    config.model.architecture = architecture
    config.model.dropout = 0.375
    assert set(config.model.options()) <= set(options_of(architecture))
    student = create_model(architecture, 2, 40, **config.model.options())
    dropouts = (nn.Dropout, nn.Dropout1d)
    assert 0.375 in [module.p for module in student.modules() if isinstance(module, dropouts)]


def test_sizes_in_the_configuration_reach_the_student():
    config = config_of("gru", hidden=24, layers=3, bidirectional=True)
    layers = create_model("gru", 2, 40, **config.model.options()).layers
    assert (layers.hidden_size, layers.num_layers, layers.bidirectional) == (24, 3, True)
    config = config_of("tcn", hidden=24, layers=3, kernel_size=4)
    student = create_model("tcn", 2, 40, **config.model.options())
    assert [(block.first.history, block.first.conv.out_channels) for block in student.blocks] == [
        (3, 24),
        (6, 24),
        (12, 24),
    ]


def test_what_an_architecture_does_not_take_is_an_error():
    with pytest.raises(ConfigError, match=r"model.width = 16: mobilenetv3 has no such option; it takes"):
        create_model("mobilenetv3", width=16)
    with pytest.raises(ConfigError, match=r"'mobilnetv3': did you mean 'mobilenetv3'\?"):
        create_model("mobilnetv3")
    with pytest.raises(ConfigError, match=r"data.n_mels = 4: gru takes 8"):
        create_model("gru", input_size=4)
    with pytest.raises(ConfigError, match=r"model.num_classes = 1"):
        create_model("lstm", num_classes=1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_are_the_last_layers_input(architecture):
    student = create_model(architecture, **SMALL.get(architecture, {})).eval()
    clips = torch.rand(3, 151, 40) * 20
    with torch.no_grad():
        embedding = student.features(clips)
        if architecture == "tiny_conv":
            assert torch.equal(student.head(embedding, False, False).squeeze(1), student.step_logits(clips))
            return
        pooled = embedding.amax(dim=2) if embedding.dim() == 3 else embedding
        assert torch.equal(student.head(pooled), student(clips))
    assert (embedding.dim() == 3) == (architecture in SEQUENCES)
    assert len(embedding) == 3


@pytest.mark.parametrize("architecture", SEQUENCES)
def test_sequence_students_do_not_depend_on_the_future(architecture):
    student = create_model(architecture, **SMALL[architecture]).eval()
    clips = torch.rand(1, 80, 40) * 20
    changed = clips.clone()
    changed[:, 50:] = 0
    with torch.no_grad():
        before, after = student.features(clips), student.features(changed)
    assert torch.equal(before[:, :, :50], after[:, :, :50])
    assert not torch.equal(before, after)


def test_a_bidirectional_student_does():
    student = create_model("gru", hidden=6, bidirectional=True).eval()
    clips = torch.rand(1, 80, 40)
    changed = clips.clone()
    changed[:, 50:] = 0
    with torch.no_grad():
        assert not torch.equal(student.features(clips)[:, :, :50], student.features(changed)[:, :, :50])


def test_tcn_depends_on_exactly_its_receptive_field():
    student = create_model("tcn", hidden=8, layers=3, dropout=0.0).eval()
    # With positive weights no path is cut off, as one behind a ReLU could be by chance.
    for value in student.parameters():
        value.data.abs_()
    clip = torch.rand(1, 120, 40, requires_grad=True)
    student.features(clip)[0, :, -1].sum().backward()
    seen = torch.nonzero(clip.grad[0].abs().sum(dim=1)).squeeze(1)
    assert 120 - int(seen[0]) == 1 + 2 * 2 * (1 + 2 + 4)


def test_parameter_counts_are_those_of_the_documentation(repository):
    text = (repository / "docs" / "students.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    assert [row[0] for row in rows] == list(ARCHITECTURES)
    for name, *counts in rows:
        assert [parameters_of(create_model(name, 2, mel)) for mel in (40, 64)] == [
            int(count.replace(",", "")) for count in counts
        ]


# ---- weights trained on images -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "function", "file"),
    [
        ("mobilenetv3", "mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"),
        ("resnet18", "resnet18", "resnet18-f37072fd.pth"),
    ],
)
def test_pretrained_weights_take_a_spectrogram_as_a_grey_image(architecture, function, file, tmp_path, monkeypatch):
    from torchvision import models

    torch.manual_seed(1)
    original = getattr(models, function)().eval()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(original.state_dict(), tmp_path / "hub" / "checkpoints" / file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    student = create_model(architecture, input_size=64, pretrained=True).eval()
    student.norm.running_var.fill_(1 - student.norm.eps)
    picture = torch.randn(2, 1, 64, 99)
    embeddings = []
    last = original.classifier[3] if architecture == "mobilenetv3" else original.fc
    last.register_forward_pre_hook(lambda module, given: embeddings.append(given[0]))
    with torch.no_grad():
        original(picture.expand(2, 3, 64, 99))
        torch.testing.assert_close(student.features(picture), embeddings[0], rtol=1e-4, atol=1e-5)


def test_weights_that_cannot_be_had_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    with pytest.raises(EdgewakeError) as raised:
        create_model("resnet18", pretrained=True)
    message = str(raised.value)
    assert message.startswith("model.pretrained = True: ImageNet weights of resnet18 are not available from ")
    assert message.endswith(
        f"put resnet18-f37072fd.pth into {tmp_path}/hub/checkpoints, or set model.pretrained: false"
    )
    assert "\n" not in message


# ---- features on the way -------------------------------------------------------------------------


def test_tiny_conv_takes_the_boards_own_features():
    rng = np.random.default_rng(0)
    samples = rng.integers(-32768, 32768, (3, 16000)).astype(np.int16)
    featurizer = make_featurizer(config_of("tiny_conv", seconds=1.0))
    found = featurizer(torch.from_numpy(samples.astype(np.float32) / 32768))
    expected = np.stack([features(row, FrontendConfig()) for row in samples]).astype(np.float32)
    assert np.array_equal(found.numpy(), expected * np.float32(FEATURE_SCALE))
    assert found.shape[1] == frame_count(config_of("tiny_conv", seconds=1.0))
    assert isinstance(featurizer, BoardFeatures)


@settings(max_examples=12)
@given(mels=st.integers(8, 128), hop=st.sampled_from([80, 160, 240]), seconds=st.sampled_from([0.5, 1.5]))
def test_log_mel_has_as_many_frames_as_the_guide_counts_and_no_empty_band(mels, hop, seconds):
    config = config_of("gru", n_mels=mels, seconds=seconds)
    config.data.hop_length = hop
    found = make_featurizer(config)(torch.randn(2, round(16000 * seconds)) * 0.1)
    frames = int(config.data.sample_rate * config.data.audio_duration) // config.data.hop_length + 1
    assert found.shape == (2, frames, mels)
    assert frame_count(config) == frames
    assert (found[:, 3:-3].mean(dim=1) > 1).all()


def test_log_mel_is_torchaudios_mel_spectrogram():
    from torchaudio.transforms import MelSpectrogram

    audio = torch.randn(2, 16000) * 0.05
    mel = MelSpectrogram(
        16000, n_fft=512, win_length=480, hop_length=160, f_min=125.0, f_max=7500.0, n_mels=40,
        pad_mode="constant",
    )  # fmt: skip
    expected = torch.log1p(mel(audio).transpose(1, 2) / FLOOR)
    torch.testing.assert_close(LogMel(40)(audio), expected, rtol=1e-5, atol=1e-5)


def test_silence_is_zero_and_a_longer_transform_keeps_the_scale():
    assert LogMel(64)(torch.zeros(1, 8000)).abs().max() == 0
    tone = torch.sin(torch.arange(16000) * 2 * np.pi * 1000 / 16000).unsqueeze(0)
    levels = [LogMel(mels)(tone).max() for mels in (40, 64, 128)]
    assert max(levels) - min(levels) < 0.7
    assert LogMel(128).n_fft > LogMel(40).n_fft == 512


def test_features_stay_in_float32_under_mixed_precision():
    audio = torch.randn(1, 8000) * 0.1
    featurizer = LogMel(40)
    with torch.autocast("cpu", torch.bfloat16):
        found = featurizer(audio)
    assert found.dtype == torch.float32
    assert torch.equal(found, featurizer(audio))


@pytest.mark.parametrize("architecture", ["tiny_conv", "gru"])
def test_features_are_refused_as_audio(architecture):
    with pytest.raises(EdgewakeError, match=r"raw audio is \(batch, samples\)"):
        make_featurizer(config_of(architecture))(torch.rand(2, 151, 40))


# ---- exported files ------------------------------------------------------------------------------

EXPORTED = {
    "tiny_conv": {"architecture": "tiny_conv", "seconds": 2.0, "pool": 4},
    "mobilenetv3": {"architecture": "mobilenetv3", "n_mels": 64},
    "resnet18": {"architecture": "resnet18", "seconds": 0.5},
    "tcn": {"architecture": "tcn", "n_mels": 64},
    "lstm": {"architecture": "lstm", "n_mels": 64},
    "gru": {"architecture": "gru", "n_mels": 64},
    "small lstm": {"architecture": "lstm", "n_mels": 8, "seconds": 0.3, "hidden": 5, "layers": 1},
    "small gru": {"architecture": "gru", "n_mels": 8, "seconds": 0.3, "hidden": 5, "layers": 3},
    "both ways lstm": {"architecture": "lstm", "seconds": 0.4, "hidden": 7, "bidirectional": True},
    "both ways gru": {"architecture": "gru", "seconds": 0.4, "hidden": 7, "layers": 1, "bidirectional": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EXPORTED)
def test_onnx_and_tflite_equal_torch(case, tmp_path):
    config = config_of(**EXPORTED[case])
    student = student_of(config)
    record = export_clip_student(student, config, tmp_path)
    clips = check_clips(config)
    with torch.no_grad():
        expected = student(clips).numpy()
    assert np.ptp(expected[:, 1]) > 1e-3  # not one number for all clips
    for found in (
        run_onnx(tmp_path / "model.onnx", clips),
        run_tflite(tmp_path / "model_float.tflite", clips, record["tflite"]["order"]),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    again = load_clip_student(tmp_path)
    with torch.no_grad():
        assert np.array_equal(again(clips).numpy(), expected)
    assert record["parameters"] == parameters_of(again)
    assert record["input"]["frames"] == frame_count(config)
    assert WakewordConfig.load(tmp_path / "config.yaml") == config


def test_a_loop_starts_from_zero_for_every_clip(tmp_path):
    config = config_of("lstm", n_mels=8, seconds=0.3, hidden=5)
    record = export_clip_student(student_of(config), config, tmp_path)
    clip = check_clips(config)[:1]
    twice = run_tflite(tmp_path / "model_float.tflite", clip.expand(2, -1, -1), record["tflite"]["order"])
    assert np.array_equal(twice[0], twice[1])


def test_a_file_that_differs_from_torch_is_not_left_behind(tmp_path, monkeypatch):
    config = config_of("gru", n_mels=8, seconds=0.3, hidden=5)
    run = clip_export.run_tflite
    monkeypatch.setattr(clip_export, "run_tflite", lambda *arguments: run(*arguments) + np.float32(0.01))
    with pytest.raises(EdgewakeError, match=r"the tflite of gru differs from torch by 1.00e-02 in a logit"):
        export_clip_student(student_of(config), config, tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_other_commands_say_what_a_folder_of_a_clip_student_is(tmp_path):
    config = config_of("gru", n_mels=8, seconds=0.3, hidden=5)
    export_clip_student(student_of(config), config, tmp_path)
    with pytest.raises(EdgewakeError, match=r"holds a gru that takes whole clips .* only tiny_conv streams"):
        DeployedModel.load(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(EdgewakeError, match="cannot be read"):
        load_clip_student(tmp_path)
    with pytest.raises(EdgewakeError, match="is not that of a student of whole clips"):
        load_clip_student(Path(__file__).parent)


@pytest.mark.slow
def test_export_of_the_guides_first_example_works_as_printed(tmp_path):
    config = WakewordConfig()
    time_steps = int(config.data.sample_rate * config.data.audio_duration) // config.data.hop_length + 1
    student_model = create_model(architecture="mobilenetv3", num_classes=2, input_size=64)
    student_model.eval()
    dummy_input = torch.randn(1, 1, 64, time_steps)
    path = tmp_path / "mobilenet_distilled.onnx"
    torch.onnx.export(
        student_model,
        dummy_input,
        str(path),
        input_names=["audio_features"],
        output_names=["logits"],
        dynamic_axes={"audio_features": {0: "batch"}},
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        given = torch.randn(batch, 1, 64, time_steps)
        found = session.run(None, {"audio_features": given.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(found, student_model(given).numpy(), rtol=1e-4, atol=1e-5)
