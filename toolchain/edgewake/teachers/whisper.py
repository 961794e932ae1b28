"""Whisper's encoder as a teacher: the pretrained network's own numbers, for clips of up to 30 s."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from edgewake.assets.catalogue import find_asset
from edgewake.assets.store import asset_path
from edgewake.config import TeacherConfig
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.stages import code_hash
from edgewake.teachers.base import SAMPLE_RATE, Head, Teacher, tensors_fingerprint
from edgewake.teachers.ctranslate2 import read_model
from edgewake.teachers.heads import make_head

# Channels and layers; a head of attention has 64 channels in all of Whisper's sizes.
SIZES = {"whisper-base": (512, 6), "whisper-tiny.en": (384, 4)}
HEAD_CHANNELS = 64
MELS, WINDOW, HOP = 80, 400, 160
MAX_SAMPLES = 30 * SAMPLE_RATE
_CODE = ("teachers/whisper.py", "teachers/ctranslate2.py")


def mel_filters(mels: int = MELS, window: int = WINDOW, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Triangles of equal area on Slaney's mel scale, 0 Hz to half the rate: (window / 2 + 1, mels).

    That scale (Auditory Toolbox, 1998) is linear up to 1 kHz, at 200/3 Hz a mel, and logarithmic above, with
    27 mels for a factor of 6.4; librosa and Whisper use it.
    """
    step, corner = 200 / 3, 15.0
    growth = np.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return hertz / step if hertz < 1000 else corner + float(np.log(hertz / 1000)) / growth

    points = np.linspace(0, to_mel(rate / 2), mels + 2)
    edges = np.where(points < corner, points * step, 1000 * np.exp((points - corner) * growth))
    bins = np.linspace(0, rate / 2, window // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: NDArray[np.float32] = (triangles * 2 / (edges[2:] - edges[:-2])).astype(np.float32)
    return filters


class LogMel(nn.Module):
    """Whisper's input: log10 of a mel power spectrum, at most 8 below the clip's loudest point.

    Shapes: (batch, samples) -> (batch, 80, samples // 160). After its end a clip is silent, as one is that
    Whisper pads to 30 s, so that both give the same frames.
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters().T.copy()), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio of full scale 1.0 to features."""
        half = WINDOW // 2
        audio = F.pad(F.pad(audio.float(), (half, 0), mode="reflect"), (0, half))
        spectrum = torch.stft(audio, WINDOW, HOP, window=self.window, center=False, return_complex=True)
        power = spectrum[..., :-1].abs().square()
        logs = (self.filters @ power).clamp(min=1e-10).log10()
        floor = logs.amax(dim=(1, 2), keepdim=True) - 8
        return (torch.maximum(logs, floor) + 4) / 4


class EncoderLayer(nn.Module):
    """A transformer layer with its norms before attention and before the two linear maps."""

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
        """(batch, frames, size) to the same shape."""
        batch, frames, size = value.shape
        stacked = self.query_key_value(self.attention_norm(value))
        parts = stacked.view(batch, frames, 3, self.heads, HEAD_CHANNELS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        value = value + self.attention_out(mixed.transpose(1, 2).reshape(batch, frames, size))
        return value + self.narrow(F.gelu(self.widen(self.norm(value))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Whisper's encoder: (batch, 80, mel frames) -> (batch, ceil(mel frames / 2), size), at most 1500 frames.

    Positions are absolute, so a clip is as the first frames of 30 s, without the padding that would follow.
    """

    def __init__(self, size: int, layers: int, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.conv1 = nn.Conv1d(MELS, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(MAX_SAMPLES // (2 * HOP), size))
        self.blocks = nn.ModuleList(EncoderLayer(size) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, features: Tensor) -> Tensor:
        """Log-mel features to embeddings."""
        value = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2)
        value = value + self.positions[: value.shape[1]]
        again = self.checkpointing and self.training and torch.is_grad_enabled()
        for layer in self.blocks:
            value = checkpoint(layer, value, use_reentrant=False) if again else layer(value)
        return self.norm(value)  # type: ignore[no-any-return]

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Take the weights of a CTranslate2 model, as float32.

        Raises:
            EdgewakeError: it is not a Whisper model of this size.
        """
        found = read_model(path, "encoder/")
        places: dict[str, nn.Module] = {"conv1": self.conv1, "conv2": self.conv2, "layer_norm": self.norm}
        for index, layer in enumerate(self.blocks):
            assert isinstance(layer, EncoderLayer)
            places |= {
                f"layer_{index}/self_attention/layer_norm": layer.attention_norm,
                f"layer_{index}/self_attention/linear_0": layer.query_key_value,
                f"layer_{index}/self_attention/linear_1": layer.attention_out,
                f"layer_{index}/ffn/layer_norm": layer.norm,
                f"layer_{index}/ffn/linear_0": layer.widen,
                f"layer_{index}/ffn/linear_1": layer.narrow,
            }
        _take(self.positions, found, "position_encodings/encodings", path)
        for name, module in places.items():
            norm = isinstance(module, nn.LayerNorm)
            assert isinstance(module.weight, Tensor)
            assert isinstance(module.bias, Tensor)
            _take(module.weight, found, f"{name}/{'gamma' if norm else 'weight'}", path)
            _take(module.bias, found, f"{name}/{'beta' if norm else 'bias'}", path)


def _take(target: Tensor, found: Mapping[str, NDArray[np.generic]], name: str, path: Path) -> None:
    if name not in found or found[name].shape != tuple(target.shape):
        shape = found[name].shape if name in found else "missing"
        raise EdgewakeError(
            f"{path}: encoder/{name} is {shape}, not {tuple(target.shape)}: it is another model than expected"
        )
    target.copy_(torch.from_numpy(found[name].astype(np.float32)))


class WhisperTeacher(Teacher):
    """The encoder of a pretrained Whisper, 50 embeddings a second, under a head.

    Args:
        num_classes: classes of the head.
        name: "whisper-base" or "whisper-tiny.en"; "" is the first.
        head: turns embeddings into logits; None is an untrained one with the defaults of `teacher`.
        pretrained: take the asset's weights; False leaves random ones, for tests and saved networks.
        gradient_checkpointing: recompute activations where layers are trained.

    Raises:
        ConfigError: there is no such Whisper.
        MissingAssetError: its weights are not on this machine.
    """

    architecture = "whisper"
    frame_rate = SAMPLE_RATE / (2 * HOP)

    def __init__(
        self,
        num_classes: int = 2,
        name: str = "whisper-base",
        *,
        head: Head | None = None,
        pretrained: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.name = name.removeprefix("openai/") or "whisper-base"
        if self.name not in SIZES:
            raise ConfigError(f"there is no whisper teacher {name!r}: there are {', '.join(SIZES)}")
        self.num_classes = num_classes
        self.embedding_size, layers = SIZES[self.name]
        self.features = LogMel()
        self.encoder = Encoder(self.embedding_size, layers, checkpointing=gradient_checkpointing)
        self.source = f"asset {self.name}" if pretrained else "random"
        if pretrained:
            self.encoder.load(asset_path(self.name) / "model.bin")
        self.head = head if head is not None else default_head(self)
        self.head_trained = False

    def embed(self, audio: Tensor) -> Tensor:
        """(batch, samples), 0.025 to 30 s -> (batch, frames, size), 50 frames a second.

        Raises:
            EdgewakeError: the audio is shorter or longer.
        """
        check_length(audio, WINDOW, MAX_SAMPLES, self.name)
        return self.encoder(self.features(audio))  # type: ignore[no-any-return]

    def layers(self) -> list[nn.Module]:
        """The transformer's layers; the last norm goes with the last of them."""
        *first, last = self.encoder.blocks
        return [*first, nn.ModuleList([last, self.encoder.norm])]

    def fingerprint(self) -> str:
        """Of the asset and the code; of all tensors where they are not the asset's."""
        if self.backbone_trained or self.source == "random":
            return tensors_fingerprint(self.encoder.state_dict())
        return asset_fingerprint(self.name, _CODE, ("torch",))


def asset_fingerprint(name: str, code: tuple[str, ...], distributions: tuple[str, ...]) -> str:
    """16 hex digits of what an asset's embeddings depend on: its files, our code and what runs it."""
    sums = " ".join(file.sha256 for file in find_asset(name).files)
    return hashlib.sha256(f"{sums} {code_hash(code, distributions)}".encode()).hexdigest()[:16]


def default_head(teacher: Teacher) -> Head:
    """The untrained head that a configuration's defaults describe."""

    return make_head(TeacherConfig(), teacher.embedding_size, teacher.frame_rate, teacher.num_classes)


def check_length(audio: Tensor, least: int, most: int, name: str) -> None:
    """Check that audio is (batch, samples) with a number of samples that a teacher can take.

    Raises:
        EdgewakeError: it has another shape or length.
    """
    if audio.dim() != 2:
        raise EdgewakeError(f"{name} takes audio (batch, samples), not {tuple(audio.shape)}: reshape it")
    if not least <= audio.shape[1] <= most:
        wanted = f"{least / SAMPLE_RATE:g} to {most / SAMPLE_RATE:g} s"
        raise EdgewakeError(
            f"{name} takes clips of {wanted}, not of {audio.shape[1] / SAMPLE_RATE:g} s "
            f"({audio.shape[1]:,} samples): cut or pad them"
        )
