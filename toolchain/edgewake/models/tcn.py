"""TCN student: residual blocks of causal convolutions whose dilation doubles from block to block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.models.clip import ClipStudent


class CausalConv(nn.Module):
    """Convolution over the present frame and the `(kernel - 1) * dilation` frames before it, with BatchNorm.

    Shapes: (batch, channels, frames) -> (batch, out, frames). The clip is padded with zeros before its start.
    """

    def __init__(self, channels: int, out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.history = (kernel - 1) * dilation
        self.conv = nn.Conv1d(channels, out, kernel, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, value: Tensor) -> Tensor:
        """Convolve and normalize."""
        normalized: Tensor = self.norm(self.conv(F.pad(value, (self.history, 0))))
        return normalized


class Block(nn.Module):
    """ReLU(value + two convolutions of it); a 1x1 convolution where the channels change."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = CausalConv(channels, out, kernel, dilation)
        self.second = CausalConv(out, out, kernel, dilation)
        self.dropout = nn.Dropout1d(dropout)
        self.shortcut: nn.Module = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, value: Tensor) -> Tensor:
        """(batch, channels, frames) -> (batch, out, frames)."""
        inner = self.dropout(F.relu(self.first(value)))
        inner = self.dropout(F.relu(self.second(inner)))
        return F.relu(self.shortcut(value) + inner)


class TCN(ClipStudent):
    """Temporal convolutional network (Bai et al. 2018, arXiv:1803.01271), with a maximum over time.

    BatchNorm takes the place of the paper's weight normalization, since it is folded into the weights when
    the model is exported. Each channel's maximum over time goes into the last layer.

    Args:
        input_size: mel channels.
        num_classes: classes.
        dropout: chance of dropping a channel, in training.
        hidden: channels of every block.
        layers: blocks; block i has dilation 2^i.
        kernel_size: taps of each convolution.
    """

    def __init__(
        self,
        input_size: int = 40,
        num_classes: int = 2,
        dropout: float = 0.2,
        hidden: int = 64,
        layers: int = 5,
        kernel_size: int = 3,
    ) -> None:
        super().__init__(
            "tcn", input_size, num_classes, dropout=dropout, hidden=hidden, layers=layers, kernel_size=kernel_size
        )
        widths = [input_size] + [hidden] * layers
        self.blocks = nn.Sequential(
            *(Block(widths[index], widths[index + 1], kernel_size, 2**index, dropout) for index in range(layers))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, hidden, frames): the last block's outputs along time."""
        outputs: Tensor = self.blocks(self.to_channels(features))
        return outputs
