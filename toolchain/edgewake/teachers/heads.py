"""A head turns embeddings along time into logits of the phrase: all of a teacher that must be fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.config import TeacherConfig
from edgewake.errors import ConfigError
from edgewake.teachers.base import Head

# Time over which probabilities are averaged before their maximum counts, as the board averages steps.
SMOOTHING_S = 0.12


class StandardHead(Head):
    """Standardizes embeddings, so that one learning rate suits networks of any scale.

    Attributes:
        mean, scale: (size,) subtracted and divided by; 0 and 1 until `standardize` was called.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"model.num_classes = {num_classes}: a head tells at least 2 classes apart")
        self.size, self.num_classes = size, num_classes
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def options(self) -> dict[str, float | int | str]:
        """What `head_from_options` builds an equal head from."""
        raise NotImplementedError

    @torch.no_grad()
    def standardize(self, frames: Tensor) -> None:
        """Take each channel's mean and deviation from examples, (..., size)."""
        flat = frames.reshape(-1, self.size).float()
        self.mean.copy_(flat.mean(dim=0))
        # A channel that never moves says nothing; dividing by its rounding errors would make it shout.
        deviation = flat.std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 1e-4 * (1 + self.mean.abs()), deviation, torch.inf))

    def standard(self, frames: Tensor) -> Tensor:
        """Standardized embeddings as float32: (..., size)."""
        return (frames.float() - self.mean) / self.scale


class LinearHead(StandardHead):
    """A linear map of the mean of the frames; it has no logits along time.

    Args:
        size: channels of an embedding.
        num_classes: classes.
        dropout: of channels, in training.
    """

    def __init__(self, size: int, num_classes: int = 2, dropout: float = 0.1) -> None:
        super().__init__(size, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, num_classes)

    def options(self) -> dict[str, float | int | str]:
        """See `StandardHead.options`."""
        return {
            "head": "linear",
            "size": self.size,
            "num_classes": self.num_classes,
            "dropout": self.dropout.p,
        }

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, size) -> (batch, classes), None."""
        logits: Tensor = self.linear(self.dropout(self.standard(frames.float().mean(dim=1))))
        return logits, None


class ConvHead(StandardHead):
    """A logit z at every frame from its surroundings; a clip is judged by its smoothed top, as TinyConv does.

    Logits along time are [0, z], so that their softmax is sigmoid(z); a clip's are [0, z'], where sigmoid(z')
    is the largest mean of sigmoid(z) over `smoothing` frames. Of more than two classes, each but the first
    has such a z of its own. A clip that is shorter than a context is surrounded by mean embeddings.

    Args:
        size: channels of an embedding.
        num_classes: classes; class 0 is everything else.
        hidden: channels between embeddings and logits.
        kernel: frames that one logit sees; odd.
        smoothing: frames whose probabilities are averaged.
        dropout: of embeddings' and hidden channels, in training.
    """

    def __init__(
        self,
        size: int,
        num_classes: int = 2,
        hidden: int = 64,
        kernel: int = 21,
        smoothing: int = 6,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(size, num_classes)
        self.smoothing = smoothing
        self.drop = nn.Dropout1d(dropout)
        self.project = nn.Conv1d(size, hidden, 1)
        self.time = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.mix = nn.Conv1d(hidden, hidden, 1)
        self.logit = nn.Conv1d(hidden, num_classes - 1, 1)
        # The largest of many frames starts above its mean; a clip should start near undecided.
        nn.init.constant_(self.logit.bias, -1.0)  # type: ignore[arg-type]

    def options(self) -> dict[str, float | int | str]:
        """See `StandardHead.options`."""
        return {
            "head": "conv",
            "size": self.size,
            "num_classes": self.num_classes,
            "hidden": self.project.out_channels,
            "kernel": self.time.kernel_size[0],
            "smoothing": self.smoothing,
            "dropout": self.drop.p,
        }

    def frame_logits(self, frames: Tensor) -> Tensor:
        """(batch, frames, size) -> (batch, frames, classes)."""
        value = F.gelu(self._projected(frames.float()).transpose(1, 2))
        value = F.gelu(self.time(value)) + value
        value = self.drop(F.gelu(self.mix(value)))
        logits = self.logit(value)
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
    """Logits of clips from logits [0, z...] along time: the logit of the largest smoothed probability.

    Args:
        frame_logits: (batch, frames, classes).
        smoothing: frames that are averaged; all of them where there are fewer.

    Returns:
        (batch, classes), the first of them 0.
    """
    z = (frame_logits[:, :, 1:] - frame_logits[:, :, :1]).float().transpose(1, 2)
    smoothing = min(smoothing, z.shape[2])
    if smoothing > 1:
        z = torch.logit(F.avg_pool1d(torch.sigmoid(z), smoothing, 1), eps=1e-6)
    top = z.amax(dim=2)
    return torch.cat([torch.zeros_like(top[:, :1]), top], dim=1)


def make_head(config: TeacherConfig, embedding_size: int, frame_rate: float, num_classes: int = 2) -> StandardHead:
    """The head that `config` describes, untrained.

    Args:
        embedding_size: channels of an embedding.
        frame_rate: embeddings a second.
    """
    if config.head == "linear":
        return LinearHead(embedding_size, num_classes, config.dropout)
    # Odd, so that a logit's frame is the middle of what it sees.
    kernel = 2 * (round(config.context_ms * frame_rate / 1000) // 2) + 1
    smoothing = max(1, round(SMOOTHING_S * frame_rate))
    return ConvHead(embedding_size, num_classes, config.hidden, kernel, smoothing, config.dropout)


def head_from_options(options: Mapping[str, Any]) -> StandardHead:
    """An untrained head of the shape that `StandardHead.options` described.

    Raises:
        KeyError, TypeError: it is no such description.
    """
    kinds: dict[str, type[StandardHead]] = {"linear": LinearHead, "conv": ConvHead}
    values = dict(options)
    return kinds[values.pop("head")](**values)
