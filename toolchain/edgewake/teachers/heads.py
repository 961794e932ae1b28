"""A head maps embeddings along time to logits of the phrase; it is the part of a teacher that is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.config import TeacherConfig
from edgewake.errors import ConfigError

# Time over which probabilities are averaged before their maximum is taken, as the board averages steps.
SMOOTHING_S = 0.12


class Head(nn.Module):
    """(batch, frames, size) -> logits (batch, classes), and logits along time (batch, frames, classes) or None.

    Embeddings are standardized first, so that one learning rate suits networks of any scale.

    Attributes:
        options: what `head_from_options` builds an equal head from.
        mean, scale: (size,) subtracted and divided by; 0 and 1 until `standardize` was called.
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
