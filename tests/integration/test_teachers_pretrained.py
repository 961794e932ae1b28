"""Pretrained teachers compute what their networks compute elsewhere, from the weights that were published."""

from __future__ import annotations

import copy
import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from edgewake.assets import MissingAssetError
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.base import Teacher
from edgewake.teachers.small import SpeechEmbeddingTeacher, WordEmbeddingTeacher, bin_filters
from edgewake.teachers.whisper import Encoder, WhisperLogMel, WhisperTeacher, read_model

pytestmark = pytest.mark.slow
STORED = Path(__file__).with_name("teacher_vectors.json")
MAKERS: dict[str, Callable[[], Teacher]] = {
    "whisper-base": WhisperTeacher,
    "whisper-tiny.en": lambda: WhisperTeacher(name="whisper-tiny.en"),
    "speech_embedding": SpeechEmbeddingTeacher,
    "word_embedding": WordEmbeddingTeacher,
}
NAMES = list(MAKERS)
NDArray32 = np.ndarray[Any, np.dtype[np.float32]]
GetAsset = Callable[[str], Path]


def signal(seconds: float = 2.1, seed: int = 0) -> NDArray32:
    """A voice of sorts: harmonics of a gliding pitch under formants, in syllables, with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 1.3 * time)) / 16000
    voice = np.zeros_like(time)
    for harmonic in range(1, 25):
        formant = 500 + 900 * np.sin(2 * np.pi * 0.9 * time + seed) ** 2
        voice += np.sin(harmonic * phase) * np.exp(-(((harmonic * 120 - formant) / 300) ** 2))
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 3 * time)
    return (0.2 * voice * syllables + rng.normal(0, 0.003, time.size)).astype(np.float32)


@pytest.fixture(scope="session")
def teacher(asset: GetAsset) -> Callable[[str], Teacher]:
    made: dict[str, Teacher] = {}

    def get(name: str) -> Teacher:
        if name not in made:
            asset(name)
            made[name] = MAKERS[name]().freeze()
        return made[name]

    return get


def embed(teacher: Teacher, *clips: NDArray32) -> Tensor:
    with torch.inference_mode():
        return teacher.embed(torch.from_numpy(np.stack(clips)))


# What all of them keep


def summary(frames: Tensor) -> dict[str, Any]:
    """A few numbers that any change of weights, features or order would move."""
    first = frames[0].double()
    return {
        "frames": len(first),
        "mean": first.mean().item(),
        "deviation": first.std().item(),
        "start": first[0, :4].tolist(),
        "middle": first[len(first) // 2, -4:].tolist(),
        "end": first[-1, :4].tolist(),
    }


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_those_computed_once(teacher: Callable[[str], Teacher], name: str) -> None:
    stored = json.loads(STORED.read_text())[name]
    found = summary(embed(teacher(name), signal()))
    scale = stored["deviation"]
    for key, value in stored.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=2e-3 * scale), key


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_s_embeddings_do_not_depend_on_its_batch(teacher: Callable[[str], Teacher], name: str) -> None:
    quiet, loud = signal(1.6) * np.float32(1e-4), signal(1.6, seed=1) * np.float32(4)
    alone = embed(teacher(name), quiet)
    together = embed(teacher(name), loud, quiet, np.zeros_like(quiet))
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_as_announced(teacher: Callable[[str], Teacher], name: str) -> None:
    it = teacher(name)
    frames = embed(it, signal(), signal(seed=1))
    assert frames.shape[0] == 2
    assert frames.shape[2] == it.embedding_size
    assert frames.dtype == torch.float32
    seconds = 2.1 - {"speech_embedding": 0.782, "word_embedding": 1.5}.get(name, 0)
    assert abs(frames.shape[1] - 1 - seconds * it.frame_rate) <= 1
    with torch.inference_mode():
        found = it.outputs(torch.from_numpy(signal(1.0)[None]))
    assert found.logits.shape == (1, 2)
    assert torch.isfinite(found.logits).all()
    assert it.architecture == name.partition("-")[0]
    assert it.source == f"asset {name}"
    assert not it.head_trained


@pytest.mark.parametrize("name", NAMES)
def test_a_fingerprint_is_of_the_weights(teacher: Callable[[str], Teacher], name: str) -> None:
    it = teacher(name)
    assert it.fingerprint() == MAKERS[name]().fingerprint()
    assert len(bytes.fromhex(it.fingerprint())) == 8
    assert it.fingerprint() != teacher(NAMES[NAMES.index(name) - 1]).fingerprint()
    if isinstance(changed := copy.deepcopy(it), WhisperTeacher):
        with torch.no_grad():
            changed.encoder.norm.bias[0] += 1e-3
        assert changed.fingerprint() != it.fingerprint()


@pytest.mark.parametrize("name", NAMES)
def test_lengths_and_shapes_that_cannot_be_are_named(teacher: Callable[[str], Teacher], name: str) -> None:
    it = teacher(name)
    with pytest.raises(EdgewakeError, match=r"takes clips of 0\.025 to \d+ s, not of 0\.01 s"):
        it.embed(torch.zeros(1, 160))
    with pytest.raises(EdgewakeError, match=r"takes audio \(batch, samples\), not \(16000,\)"):
        it.embed(torch.zeros(16000))
    longest = 30 if name.startswith("whisper") else 60
    with pytest.raises(EdgewakeError, match=rf"0\.025 to {longest} s, not of {longest}\.0001 s"):
        it.embed(torch.zeros(1, longest * 16_000 + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_teacher_is_named_with_the_command_that_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGEWAKE_ASSETS", raising=False)
    with pytest.raises(MissingAssetError, match=f"teacher {name} is not here .* edgewake assets get {name}"):
        MAKERS[name]()


def test_damaged_weights_are_never_loaded(asset: GetAsset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = tmp_path / "assets" / "speech_embedding"
    shutil.copytree(asset("speech_embedding"), copied)
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGEWAKE_ASSETS", raising=False)
    SpeechEmbeddingTeacher()
    path = copied / "embedding_model.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingAssetError, match=r"embedding_model\.tflite is not the file"):
        SpeechEmbeddingTeacher()


# Whisper


def transformers_encoder(folder: Path, size: int, layers: int) -> nn.Module:
    """transformers' encoder with the weights of a CTranslate2 file, by the names that it has for them."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    shape = {"encoder_layers": layers, "encoder_attention_heads": size // 64, "encoder_ffn_dim": 4 * size}
    config = transformers.WhisperConfig(d_model=size, **shape, attn_implementation="eager")
    encoder: nn.Module = WhisperEncoder(config).eval()
    given = read_model(folder / "model.bin", "encoder/")
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in given.items()}
    state = {"embed_positions.weight": tensors["position_encodings/encodings"]}
    for ours in ("conv1", "conv2"):
        state |= {f"{ours}.{kind}": tensors[f"{ours}/{kind}"] for kind in ("weight", "bias")}
    norms = {"layer_norm": "layer_norm"}
    for n in range(layers):
        norms[f"layers.{n}.self_attn_layer_norm"] = f"layer_{n}/self_attention/layer_norm"
        norms[f"layers.{n}.final_layer_norm"] = f"layer_{n}/ffn/layer_norm"
        for kind in ("weight", "bias"):
            stacked = tensors[f"layer_{n}/self_attention/linear_0/{kind}"].chunk(3)
            for part, value in zip("qkv", stacked, strict=True):
                state[f"layers.{n}.self_attn.{part}_proj.{kind}"] = value
            state[f"layers.{n}.self_attn.out_proj.{kind}"] = tensors[f"layer_{n}/self_attention/linear_1/{kind}"]
            state[f"layers.{n}.fc1.{kind}"] = tensors[f"layer_{n}/ffn/linear_0/{kind}"]
            state[f"layers.{n}.fc2.{kind}"] = tensors[f"layer_{n}/ffn/linear_1/{kind}"]
    for theirs, ours in norms.items():
        state |= {f"{theirs}.weight": tensors[f"{ours}/gamma"], f"{theirs}.bias": tensors[f"{ours}/beta"]}
    # Whisper's keys have no bias; the file has zeros there, since it stacks them with queries and values.
    for n in range(layers):
        assert not state.pop(f"layers.{n}.self_attn.k_proj.bias").any()
    encoder.load_state_dict(state, strict=True)
    return encoder


@pytest.mark.parametrize(("name", "size", "layers"), [("whisper-base", 512, 6), ("whisper-tiny.en", 384, 4)])
def test_whisper_equals_transformers(
    teacher: Callable[[str], Teacher], asset: GetAsset, name: str, size: int, layers: int
) -> None:
    ours, theirs = teacher(name), transformers_encoder(asset(name), size, layers)
    assert isinstance(ours, WhisperTeacher)
    with torch.inference_mode():
        if name == "whisper-tiny.en":  # its own encoder takes 30 s and nothing else; once will do
            thirty = ours.features(torch.from_numpy(signal(30.0)[None]))
            whole = theirs(thirty).last_hidden_state
            torch.testing.assert_close(ours.encoder(thirty), whole, rtol=1e-3, atol=1e-3)
        # Of a shorter clip, its layers one after the other.
        short = ours.features(torch.from_numpy(signal(2.1)[None]))
        value = nn.functional.gelu(theirs.conv2(nn.functional.gelu(theirs.conv1(short)))).transpose(1, 2)
        value = value + theirs.embed_positions.weight[: value.shape[1]]
        for layer in theirs.layers:
            value = layer(value, None)
            value = value[0] if isinstance(value, tuple) else value
        torch.testing.assert_close(ours.encoder(short), theirs.layer_norm(value), rtol=1e-3, atol=1e-3)


@settings(max_examples=15)
@given(st.integers(400, 80_000), st.integers(0, 3), st.floats(1e-4, 1.0))
def test_log_mel_equals_transformers(samples: int, seed: int, gain: float) -> None:
    transformers = pytest.importorskip("transformers")
    audio = signal(5.0, seed)[:samples] * np.float32(gain)
    # A louder middle, so that the loudest point is not in the one frame behind the end, which we leave out.
    audio[samples // 4 : samples // 2] *= 2
    padded = transformers.WhisperFeatureExtractor()(audio, sampling_rate=16000, return_tensors="pt")
    found = WhisperLogMel()(torch.from_numpy(audio[None]))
    assert found.shape == (1, 80, samples // 160)
    wanted = padded.input_features[:, :, : samples // 160]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-4)


@given(st.integers(400, 60_000))
@settings(max_examples=15)
def test_whisper_takes_clips_of_any_length(samples: int) -> None:
    encoder = Encoder(64, 1).eval()
    with torch.inference_mode():
        frames = encoder(WhisperLogMel()(torch.zeros(1, samples)))
    assert frames.shape == (1, math.ceil(samples // 160 / 2), 64)
    assert torch.isfinite(frames).all()


def test_an_unknown_whisper_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no whisper teacher 'whisper-huge': .* whisper-base, whisper-tiny\.en"):
        WhisperTeacher(name="whisper-huge")


def test_whisper_s_layers_learn_alike_with_and_without_checkpointing() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        it = WhisperTeacher(name="whisper-tiny.en", pretrained=False).train()
        if checkpointing:
            it.recompute_activations()
        it.requires_grad_(False)
        it.layers()[-1].requires_grad_(True)
        it.embed(torch.from_numpy(signal(0.3)[None])).square().mean().backward()
        learnt = {name: value.grad for name, value in it.named_parameters() if value.grad is not None}
        assert {name.split(".")[1] for name in learnt} == {"blocks", "norm"}
        assert {name.split(".")[2] for name in learnt if "blocks" in name} == {"3"}
        gradients.append(learnt)
    for name, value in gradients[0].items():
        assert value is not None
        torch.testing.assert_close(value, gradients[1][name])


def test_weights_of_another_size_are_refused(asset: GetAsset) -> None:
    path = asset("whisper-tiny.en") / "model.bin"
    with pytest.raises(EdgewakeError, match=r"encoder/\S+ is .*, not .*: it is another model"):
        Encoder(512, 6).load(path)


# CTranslate2's format


def text(value: str) -> bytes:
    raw = value.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def model_bytes(variables: dict[str, Any], aliases: dict[str, str]) -> bytes:
    """A model.bin as CTranslate2's converters write it."""
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        raw = value.tobytes()
        parts += [text(name), struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)]
        parts += [struct.pack("<BI", kinds[value.dtype.name], len(raw)), raw]
    parts.append(struct.pack("<I", len(aliases)))
    return b"".join([*parts, *(text(alias) + text(name) for alias, name in aliases.items())])


VARIABLES = st.dictionaries(
    st.text("abc/_0", min_size=1, max_size=12),
    st.sampled_from(["float32", "int8", "int16", "int32", "float16"]).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    ),
    min_size=1,
    max_size=5,
)


@given(VARIABLES, st.data())
@settings(max_examples=40)
def test_every_variable_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, Any], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("model") / "model.bin"
    aliased = data.draw(st.sampled_from(sorted(variables)))
    whole = model_bytes(variables, {"x-alias": aliased})
    path.write_bytes(whole)
    found = read_model(path)
    assert set(found) == {*variables, "x-alias"}
    for name, value in [*variables.items(), ("x-alias", variables[aliased])]:
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(EdgewakeError, match=r"is not a CTranslate2 model .* fetch it again"):
        read_model(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(EdgewakeError, match="1 B follow the end"):
        read_model(path)


def test_a_prefix_chooses_variables_and_shortens_names(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    ones = np.ones(2, np.float16)
    path.write_bytes(model_bytes({"encoder/a": ones, "decoder/a": 2 * ones}, {"encoder/b": "encoder/a"}))
    found = read_model(path, "encoder/")
    assert set(found) == {"a", "b"}
    assert found["b"].tolist() == [1, 1]


@pytest.mark.parametrize("content", [b"", b"\x05\0\0\0", b"\x06\0\0\0\x02\0ab"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(EdgewakeError, match=str(path)):
        read_model(path)
    with pytest.raises(EdgewakeError, match="check the path"):
        read_model(tmp_path / "missing.bin")


# The speech embedding


def test_speech_embedding_equals_openwakeword_s_stream(teacher: Callable[[str], Teacher], asset: GetAsset) -> None:
    """Mel of 1760 samples every 1280, and a window of 76 mel frames every 8, one at a time."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    folder = asset("speech_embedding")

    def run(name: str, value: NDArray32) -> NDArray32:
        network = litert.Interpreter(str(folder / name))
        network.resize_tensor_input(network.get_input_details()[0]["index"], value.shape)
        network.allocate_tensors()
        network.set_tensor(network.get_input_details()[0]["index"], value)
        network.invoke()
        result: NDArray32 = network.get_tensor(network.get_output_details()[0]["index"])
        return result

    audio = np.round(signal(2.1) * 32768)  # as a microphone gives it
    chunks = [audio[None, start : start + 1760] for start in range(0, len(audio) - 1760 + 1, 1280)]
    mel = np.concatenate([run("melspectrogram.tflite", chunk)[0, 0] for chunk in chunks]) / 10 + 2
    windows = [mel[None, start : start + 76, :, None] for start in range(0, len(mel) - 76 + 1, 8)]
    wanted = np.concatenate([run("embedding_model.tflite", window)[0, 0] for window in windows])
    found = embed(teacher("speech_embedding"), (audio / 32768).astype(np.float32))[0].numpy()
    assert len(wanted) > 10
    np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=1e-3, atol=1e-2)


def test_a_short_clip_has_silence_before_it(teacher: Callable[[str], Teacher]) -> None:
    clip = signal(0.4)
    padded = np.concatenate([np.zeros(512 + 75 * 160 - len(clip), np.float32), clip])
    assert torch.equal(embed(teacher("speech_embedding"), clip), embed(teacher("speech_embedding"), padded))
    padded = np.concatenate([np.zeros(24_000 - len(clip), np.float32), clip])
    assert torch.equal(embed(teacher("word_embedding"), clip), embed(teacher("word_embedding"), padded))


@pytest.mark.parametrize("name", ["speech_embedding", "word_embedding"])
def test_networks_outside_torch_are_counted_and_copied(teacher: Callable[[str], Teacher], name: str) -> None:
    it = teacher(name)
    assert it.outside_parameters == pytest.approx({"speech_embedding": 0.6e6, "word_embedding": 22e6}[name], rel=0.02)
    assert not [key for key in it.state_dict() if not key.startswith("head.")]
    clip = signal(1.6)
    assert torch.equal(embed(copy.deepcopy(it), clip), embed(it, clip))


# The word embedding


def test_filterbank_is_that_of_python_speech_features(teacher: Callable[[str], Teacher]) -> None:
    """Written out as sums over frames, bins and triangles."""
    it = teacher("word_embedding")
    assert isinstance(it, WordEmbeddingTeacher)
    audio = signal(1.5)
    found = it.filterbank(audio[None])[0]
    assert found.shape == (149, 64)
    mel = [2595 * math.log10(1 + 8000 / 700) * step / 65 for step in range(66)]
    corner = [math.floor(513 * 700 * (10 ** (value / 2595) - 1) / 16000) for value in mel]
    padded = np.concatenate([audio, np.zeros(80, np.float32)]).astype(np.float64)
    for frame in (0, 70, 148):
        samples = padded[160 * frame : 160 * frame + 400]
        angles = -2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512
        power = np.abs(np.exp(angles) @ samples) ** 2 / 512
        for band in (0, 1, 20, 63):
            left, middle, right = corner[band : band + 3]
            energy = sum(power[k] * (k - left) / (middle - left) for k in range(left, middle))
            energy += sum(power[k] * (right - k) / (right - middle) for k in range(middle, right))
            assert found[frame, band] == pytest.approx(math.log(energy), abs=1e-4)
    filters = bin_filters(64, 512)
    assert filters.max() <= 1
    assert (filters.sum(axis=1) > 0).all()


def test_embeddings_of_words_do_not_depend_on_the_level(teacher: Callable[[str], Teacher]) -> None:
    it = teacher("word_embedding")
    frames = embed(it, signal(), signal() * np.float32(0.05))
    torch.testing.assert_close(frames[0], frames[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(frames.norm(dim=2), torch.ones(2, 3))
    assert not embed(it, np.zeros(24_000, np.float32)).any()


def test_windows_of_words_reach_from_start_to_end(teacher: Callable[[str], Teacher]) -> None:
    it, clip = teacher("word_embedding"), signal(1.9)
    frames = embed(it, clip)
    assert frames.shape[1] == 3
    assert torch.equal(frames[:, :1], embed(it, clip[:24_000]))
    assert torch.equal(frames[:, 1:2], embed(it, clip[3_200:27_200]))
    assert torch.equal(frames[:, 2:], embed(it, clip[-24_000:]))
