"""What a teacher is: raw audio to embeddings along time and, by a head that is fitted, to logits; then frozen."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.config import TeacherConfig
from edgewake.errors import ConfigError, EdgewakeError

SAMPLE_RATE = 16_000


class TeacherOutputs(NamedTuple):
    """Logits of a batch, (batch, classes); embeddings, (batch, frames, size), and logits along time, or None."""

    logits: Tensor
    frames: Tensor | None = None
    frame_logits: Tensor | None = None


class Teacher(nn.Module):
    """Raw audio (batch, samples), float, 16 kHz, full scale 1.0, to logits (batch, classes).

    A subclass implements `embed`, and may have `layers`; `head` maps embeddings to logits and is what is fitted to a
    phrase, the class 1. After `freeze()` no parameter takes gradients and the module stays in eval mode.

    Attributes:
        architecture: its name in `distillation.teacher_architecture`.
        embedding_size, frame_rate: channels of an embedding (0 for an ensemble), and embeddings a second.
        source: origin of the weights, for records: a path, a hub name, an asset, or "random".
        head_trained: whether the head was fitted.
        name, folder: of the pretrained weights; "" where there is only one set, or none.
        backbone_trained: the network under the head was trained by the user, so a saved teacher holds its weights.
        outside_parameters: number of weights in a network that torch does not run.
    """

    architecture: str
    num_classes: int
    embedding_size: int
    frame_rate: float
    source: str
    head: Head
    head_trained: bool = False
    name: str = ""
    folder: str = ""
    backbone_trained: bool = False
    outside_parameters: int = 0
    frozen: bool = False

    @abstractmethod
    def embed(self, audio: Tensor) -> Tensor:
        """Embeddings along time: (batch, samples) -> (batch, frames, embedding_size)."""

    def layers(self) -> list[nn.Module]:
        """The network's layers, first to last, that can be trained on from their pretrained weights."""
        return []

    def recompute_activations(self) -> None:
        """Where layers are trained: less memory, more time, and the same gradients."""

    def network_config(self) -> dict[str, Any] | None:
        """Plain values from which the network can be built without pretrained files; None where that is impossible."""
        return None

    def backbone(self) -> dict[str, Tensor]:
        """All tensors but the head's, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("head.")}

    def weights_fingerprint(self) -> str:
        """16 hex digits of the network's weights."""
        return tensors_fingerprint(self.backbone())

    def fingerprint(self) -> str:
        """16 hex digits of the network, its weights and its shape; keys of stored results add the code."""
        return digest(self.weights_fingerprint(), self.network_config())

    def head_fingerprint(self) -> str:
        """16 hex digits of what decides logits given embeddings."""
        return tensors_fingerprint(self.head.state_dict())

    def new_head(self, settings: TeacherConfig | None = None) -> Self:
        """Replace the head by an untrained one."""
        self.head = make_head(settings or TeacherConfig(), self.embedding_size, self.frame_rate, self.num_classes)
        self.head_trained = False
        return self

    def outputs(self, audio: Tensor) -> TeacherOutputs:
        """Logits, and the embeddings and logits along time that they come from."""
        frames = self.embed(audio)
        logits, frame_logits = self.head(frames)
        return TeacherOutputs(logits, frames, frame_logits)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, samples) -> (batch, classes)."""
        return self.outputs(audio).logits

    def freeze(self) -> Self:
        """No gradients and eval mode, until `frozen` is set to False."""
        self.requires_grad_(False)
        self.eval()
        self.frozen = True
        return self

    def train(self, mode: bool = True) -> Self:
        """As in torch, but a frozen teacher stays in eval mode."""
        return super().train(mode and not self.frozen)


def check_length(audio: Tensor, least: int, most: int, name: str) -> None:
    """Raises EdgewakeError unless audio is (batch, samples) of `least` to `most` samples."""
    if audio.dim() != 2:
        raise EdgewakeError(f"{name} takes audio (batch, samples), not {tuple(audio.shape)}: reshape it")
    if not least <= audio.shape[1] <= most:
        raise EdgewakeError(
            f"{name} takes clips of {least / SAMPLE_RATE:g} to {most / SAMPLE_RATE:g} s, not of "
            f"{audio.shape[1] / SAMPLE_RATE:g} s ({audio.shape[1]:,} samples): cut or pad them"
        )


def device_of(teacher: nn.Module) -> torch.device:
    """Where a teacher's input must be; the CPU where it has no parameters in torch."""
    parameter = next(teacher.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def members_of(teacher: nn.Module) -> list[Teacher]:
    """The members of an ensemble; none of any other teacher."""
    return list(getattr(teacher, "members", ()))


def parameters_of(model: nn.Module) -> int:
    """Number of weights of a model, also of those that torch does not hold."""
    outside = sum(getattr(module, "outside_parameters", 0) for module in model.modules())
    return sum(value.numel() for value in model.parameters()) + outside


def tensors_fingerprint(state: dict[str, Tensor]) -> str:
    """First 16 hex digits of SHA-256 over names, shapes and bytes of tensors."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.view(torch.uint8).numpy().tobytes() if value.dim() else str(value.item()).encode())
    return found.hexdigest()[:16]


def digest(*parts: Any) -> str:
    """First 16 hex digits of SHA-256 over JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class OutputSource(Protocol):
    """A teacher's outputs for clips that a trainer names by number; `frame_rate` is frames a second."""

    frame_rate: float

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs, on the CPU, for clips: (batch,) int64 numbers of the training loader's clips."""
        ...


# Time over which probabilities are averaged before their maximum is taken, as the board averages steps.
SMOOTHING_S = 0.12


class Head(nn.Module):
    """(batch, frames, size) -> logits (batch, classes), and logits along time (batch, frames, classes) or None.

    Embeddings are standardized first by `mean` and `scale`, (size,), so that one learning rate suits networks of any
    scale. `head_from_options` builds an equal head from `options`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, kind: str, size: int, num_classes: int, **options: Any) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"model.num_classes = {num_classes}: a head has at least 2 classes")
        self.options, self.size = {"head": kind, "size": size, "num_classes": num_classes, **options}, size
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def standardize(self, frames: Tensor) -> None:
        """Take each channel's mean and deviation from examples, (..., size)."""
        flat = frames.reshape(-1, self.size).float()
        self.mean.copy_(flat.mean(dim=0))
        # Dividing by the rounding errors of a constant channel would amplify them.
        deviation = flat.std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 1e-4 * (1 + self.mean.abs()), deviation, torch.inf))


class LinearHead(Head):
    """A linear map of the mean of the frames, without logits along time."""

    def __init__(self, size: int, num_classes: int = 2, dropout: float = 0.1) -> None:
        super().__init__("linear", size, num_classes, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, num_classes)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, size) -> (batch, classes), None."""
        standard = (frames.float().mean(dim=1) - self.mean) / self.scale
        logits: Tensor = self.linear(self.dropout(standard))
        return logits, None


class ConvHead(Head):
    """A logit z at every frame from its surroundings; a clip's logit is the smoothed maximum, as in TinyConv.

    Logits along time are [0, z], so that their softmax is sigmoid(z); a clip's are [0, z'], where sigmoid(z')
    is the largest mean of sigmoid(z) over `smoothing` frames. With more than two classes, each but the first
    has such a z of its own. A clip that is shorter than a context is surrounded by mean embeddings.

    `kernel` frames, an odd number, decide one logit, over `hidden` channels.
    """

    def __init__(
        self, size: int, num_classes: int, hidden: int = 64, kernel: int = 21, smoothing: int = 6, dropout: float = 0.1
    ) -> None:
        super().__init__("conv", size, num_classes, hidden=hidden, kernel=kernel, smoothing=smoothing, dropout=dropout)
        self.smoothing = smoothing
        self.drop = nn.Dropout1d(dropout)
        self.project = nn.Conv1d(size, hidden, 1)
        self.time = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.mix = nn.Conv1d(hidden, hidden, 1)
        self.logit = nn.Conv1d(hidden, num_classes - 1, 1)
        # The largest of many frames starts above its mean; a clip should start near undecided.
        nn.init.constant_(self.logit.bias, -1.0)  # type: ignore[arg-type]

    def frame_logits(self, frames: Tensor) -> Tensor:
        """(batch, frames, size) -> (batch, frames, classes)."""
        value = F.gelu(self._projected(frames.float()).transpose(1, 2))
        value = F.gelu(self.time(value)) + value
        logits = self.logit(self.drop(F.gelu(self.mix(value))))
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).transpose(1, 2)

    def _projected(self, frames: Tensor) -> Tensor:
        """`project` of standardized embeddings with dropped channels: (batch, frames, hidden).

        Embeddings are far wider than all that follows: standardizing the few weights and not the many values
        makes a head several times as fast.
        """
        weight = self.project.weight.squeeze(2) / self.scale
        offset = self.mean.unsqueeze(0)
        if self.training and self.drop.p > 0:
            kept = self.drop(torch.ones(len(frames), self.size, 1, device=frames.device)).squeeze(2)
            frames, offset = frames * kept.unsqueeze(1), offset * kept
        assert self.project.bias is not None
        constant = self.project.bias - F.linear(offset, weight)
        return F.linear(frames, weight) + constant.unsqueeze(1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, size) -> (batch, classes), (batch, frames, classes)."""
        along = self.frame_logits(frames)
        return top_logits(along, self.smoothing), along


def top_logits(frame_logits: Tensor, smoothing: int) -> Tensor:
    """Clips' logits from logits [0, z...] along time: of the largest probability averaged over `smoothing` frames.

    (batch, frames, classes) -> (batch, classes), the first of them 0; of fewer frames all are averaged.
    """
    z = (frame_logits[:, :, 1:] - frame_logits[:, :, :1]).float().transpose(1, 2)
    smoothing = min(smoothing, z.shape[2])
    if smoothing > 1:
        z = torch.logit(F.avg_pool1d(torch.sigmoid(z), smoothing, 1), eps=1e-6)
    top = z.amax(dim=2)
    return torch.cat([torch.zeros_like(top[:, :1]), top], dim=1)


def make_head(config: TeacherConfig, embedding_size: int, frame_rate: float, num_classes: int = 2) -> Head:
    """The head that `config` describes, untrained."""
    if config.head == "linear":
        return LinearHead(embedding_size, num_classes, config.dropout)
    # Odd, so that a logit's frame is the middle of its context.
    kernel = 2 * (round(config.context_ms * frame_rate / 1000) // 2) + 1
    smoothing = max(1, round(SMOOTHING_S * frame_rate))
    return ConvHead(embedding_size, num_classes, config.hidden, kernel, smoothing, config.dropout)


def head_from_options(options: Mapping[str, Any]) -> Head:
    """An untrained head of the shape that `Head.options` describes; a KeyError or TypeError if they are no such."""
    kinds: dict[str, type[LinearHead | ConvHead]] = {"linear": LinearHead, "conv": ConvHead}
    return kinds[options["head"]](**{name: value for name, value in options.items() if name != "head"})
