"""Whisper's encoder as a teacher: gives the pretrained network's embeddings of clips of up to 30 s."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from edgewake.assets.store import asset_path
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.base import SAMPLE_RATE, Teacher, check_length

# Channels and layers; a head of attention has 64 channels in all of Whisper's sizes.
SIZES = {"whisper-base": (512, 6), "whisper-tiny.en": (384, 4)}
HEAD_CHANNELS = 64
MELS, WINDOW, HOP = 80, 400, 160
# CTranslate2's types in the order of its DataType; bfloat16 (5) has no type in numpy and no asset uses it.
TYPES = tuple(np.dtype(name) for name in ("<f4", "i1", "<i2", "<i4", "<f2"))
BINARY_VERSION = 6
MAX_SAMPLES = 30 * SAMPLE_RATE
# Parts of a layer in a CTranslate2 file, and here.
LAYER = {
    "self_attention/layer_norm": "attention_norm",
    "self_attention/linear_0": "query_key_value",
    "self_attention/linear_1": "attention_out",
    "ffn/layer_norm": "norm",
    "ffn/linear_0": "widen",
    "ffn/linear_1": "narrow",
}


class WhisperLogMel(nn.Module):
    """Whisper's input: log10 of a mel power spectrum, at most 8 below the clip's loudest point.

    Audio of full scale 1.0, (batch, samples) -> (batch, 80, samples // 160). Silence is assumed after a clip's end, so
    that frames equal those of a clip that Whisper pads to 30 s.
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        options = {"norm": "slaney", "mel_scale": "slaney"}
        filters = melscale_fbanks(WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, MELS, SAMPLE_RATE, **options)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        half = WINDOW // 2
        audio = F.pad(F.pad(audio.float(), (half, 0), mode="reflect"), (0, half))
        spectrum = torch.stft(audio, WINDOW, HOP, window=self.window, center=False, return_complex=True)
        power = spectrum[..., :-1].abs().square()
        logs = (self.filters @ power).clamp(min=1e-10).log10()
        floor = logs.amax(dim=(1, 2), keepdim=True) - 8
        return (torch.maximum(logs, floor) + 4) / 4


class EncoderLayer(nn.Module):
    """A transformer layer, (batch, frames, size), with norms before attention and before the two linear maps."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.heads = size // HEAD_CHANNELS
        self.attention_norm = nn.LayerNorm(size)
        self.query_key_value = nn.Linear(size, 3 * size)
        self.attention_out = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.widen = nn.Linear(size, 4 * size)
        self.narrow = nn.Linear(4 * size, size)

    def forward(self, value: Tensor) -> Tensor:
        batch, frames, size = value.shape
        stacked = self.query_key_value(self.attention_norm(value))
        parts = stacked.view(batch, frames, 3, self.heads, HEAD_CHANNELS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        value = value + self.attention_out(mixed.transpose(1, 2).reshape(batch, frames, size))
        return value + self.narrow(F.gelu(self.widen(self.norm(value))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Whisper's encoder: (batch, 80, mel frames) -> (batch, ceil(mel frames / 2), size), at most 1500 frames.

    Positions are absolute: a clip is treated as the first frames of 30 s, without the padding after it.
    """

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.checkpointing = False
        self.conv1 = nn.Conv1d(MELS, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(MAX_SAMPLES // (2 * HOP), size))
        self.blocks = nn.ModuleList(EncoderLayer(size) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, features: Tensor) -> Tensor:
        value = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2)
        value = value + self.positions[: value.shape[1]]
        again = self.checkpointing and self.training and torch.is_grad_enabled()
        for layer in self.blocks:
            value = checkpoint(layer, value, use_reentrant=False) if again else layer(value)
        return self.norm(value)  # type: ignore[no-any-return]

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Take the weights of a CTranslate2 model, as float32; EdgewakeError where it is not a Whisper of this size."""
        found = read_model(path, "encoder/")
        places = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "norm"}
        for n in range(len(self.blocks)):
            places |= {f"layer_{n}/{theirs}": f"blocks.{n}.{ours}" for theirs, ours in LAYER.items()}
        targets = {"position_encodings/encodings": "positions"}
        for theirs, ours in places.items():
            weight, bias = ("gamma", "beta") if "norm" in ours else ("weight", "bias")
            targets |= {f"{theirs}/{weight}": f"{ours}.weight", f"{theirs}/{bias}": f"{ours}.bias"}
        own = self.state_dict()
        for theirs, ours in targets.items():
            shape = found[theirs].shape if theirs in found else "missing"
            if shape != tuple(own[ours].shape):
                expected = f"not {tuple(own[ours].shape)}: it is another model than expected"
                raise EdgewakeError(f"{path}: encoder/{theirs} is {shape}, {expected}")
            own[ours].copy_(torch.from_numpy(found[theirs].astype(np.float32)))


class WhisperTeacher(Teacher):
    """The encoder of a Whisper ("": whisper-base) under a head; without `pretrained` its weights are random."""

    architecture = "whisper"
    frame_rate = SAMPLE_RATE / (2 * HOP)

    def __init__(self, num_classes: int = 2, name: str = "whisper-base", *, pretrained: bool = True) -> None:
        super().__init__()
        self.name = name.removeprefix("openai/") or "whisper-base"
        if self.name not in SIZES:
            raise ConfigError(f"there is no whisper teacher {name!r}: there are {', '.join(SIZES)}")
        self.num_classes = num_classes
        self.embedding_size, layers = SIZES[self.name]
        self.features = WhisperLogMel()
        self.encoder = Encoder(self.embedding_size, layers)
        self.source = f"asset {self.name}" if pretrained else "random"
        if pretrained:
            self.encoder.load(asset_path(self.name, "model.bin") / "model.bin")
        self.new_head()

    def embed(self, audio: Tensor) -> Tensor:
        """(batch, samples), 0.025 to 30 s -> (batch, frames, size), 50 frames a second."""
        check_length(audio, WINDOW, MAX_SAMPLES, self.name)
        return self.encoder(self.features(audio))  # type: ignore[no-any-return]

    def layers(self) -> list[nn.Module]:
        """The transformer's layers; the last norm goes with the last of them."""
        *first, last = self.encoder.blocks
        return [*first, nn.ModuleList([last, self.encoder.norm])]

    def recompute_activations(self) -> None:
        self.encoder.checkpointing = True


def read_model(path: Path, prefix: str = "") -> dict[str, NDArray[np.generic]]:
    """Variables of a CTranslate2 model.bin of binary version 6 by name, each a read-only view of the mapped file.

    Only those whose names start with `prefix`, and without it.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r").data
    except (OSError, ValueError) as error:
        raise EdgewakeError(f"{path} cannot be read: {error}; check the path") from error
    place = 0

    def number(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return int(value)

    def raw(size: int) -> memoryview:
        nonlocal place
        place += size
        if place > len(data):
            raise ValueError(f"it ends at byte {len(data):,}, within a value")
        return data[place - size : place]

    def text() -> str:
        return bytes(raw(number("H"))).decode().removesuffix("\0")

    found: dict[str, NDArray[np.generic]] = {}
    try:
        if (version := number("I")) != BINARY_VERSION:
            raise ValueError(f"binary version {version} is not {BINARY_VERSION}")
        text(), number("I")  # the model's class and its revision
        for _ in range(number("I")):
            name, shape = text(), [number("I") for _ in range(number("B"))]
            kind, values = TYPES[number("B")], raw(number("I"))
            found[name] = np.frombuffer(values, kind).reshape(shape)
        aliases = {text(): text() for _ in range(number("I"))}
        if place != len(data):
            raise ValueError(f"{len(data) - place:,} B follow the end")
    except (struct.error, ValueError, IndexError) as error:
        raise EdgewakeError(
            f"{path} is not a CTranslate2 model that edgewake reads: {error}, near byte {place:,}; fetch it again"
        ) from error
    found |= {alias: found[name] for alias, name in aliases.items() if name in found}
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
