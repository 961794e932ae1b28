"""Students of whole clips: their common base, which normalizes each mel channel, and those that work along time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.errors import ConfigError, EdgewakeError


class ClipStudent(nn.Module):
    """Features of a clip to logits (batch, classes).

    Features are (batch, frames, mel) or, as image models take them, (batch, 1, mel, frames), of any scale:
    the first layer is a BatchNorm over mel channels without parameters, which learns their mean and variance
    (the same for both kinds of features, and what weights trained on images expect).

    Args:
        architecture: its name, for records and messages.
        input_size: mel channels, at least 8.
        num_classes: at least 2; the phrase is class 1.
        dropout: chance of dropping an input of the last layer, and others where a student says so, in training.
        options: further keyword arguments of `create_model` that build the same network again.

    Raises:
        ConfigError: a size is out of range.
    """

    head: nn.Linear

    def __init__(self, architecture: str, input_size: int, num_classes: int, dropout: float, **options: Any) -> None:
        super().__init__()
        if input_size < 8:
            raise ConfigError(f"data.n_mels = {input_size}: {architecture} takes 8 mel channels or more")
        if num_classes < 2:
            raise ConfigError(f"model.num_classes = {num_classes}: there are at least 2 classes")
        self.name, self.input_size, self.num_classes = architecture, input_size, num_classes
        self.options = {"dropout": dropout, **options}
        self.norm = nn.BatchNorm1d(input_size, affine=False)
        self.dropout = nn.Dropout(dropout)

    def architecture(self) -> dict[str, Any]:
        """Keyword arguments of `create_model` that build this network again, without fetching weights."""
        return {"input_size": self.input_size, "num_classes": self.num_classes, **self.options}

    def to_channels(self, features: Tensor) -> Tensor:
        """(batch, frames, mel) or (batch, 1, mel, frames) -> normalized (batch, mel, frames); others are refused."""
        if features.dim() not in (3, 4):
            raise EdgewakeError(
                f"features of shape {tuple(features.shape)}: {self.name} takes (batch, frames, mel) or "
                "(batch, 1, mel, frames); raw audio goes through models.featurizer first"
            )
        value = features.squeeze(1) if features.dim() == 4 else features.transpose(1, 2)
        # A comparison of sizes would become part of a traced graph.
        if not torch.onnx.is_in_onnx_export() and value.shape[1] != self.input_size:
            raise EdgewakeError(
                f"features of shape {tuple(features.shape)} have {value.shape[1]} mel channels; this "
                f"{self.name} takes {self.input_size}: set data.n_mels: {self.input_size}"
            )
        normalized: Tensor = self.norm(value)
        return normalized

    def forward(self, features: Tensor) -> Tensor:
        """Logits of clips, (batch, classes); of features along time, the maximum of each is used."""
        value = self.features(features)
        logits: Tensor = self.head(self.dropout(value.amax(dim=2) if value.dim() == 3 else value))
        return logits

    @abstractmethod
    def features(self, features: Tensor) -> Tensor:
        """The last layer's input: (batch, size), or (batch, size, frames) before pooling over time."""


class Recurrent(ClipStudent):
    """Recurrent layers over frames, the maximum over time of each unit, and a linear layer.

    The maximum finds a phrase wherever in the clip it ends, where the last state would have to remember it
    (max-pooling for keyword spotting: Sun et al. 2016, arXiv:1705.02411).

    Args:
        kind: lstm (Hochreiter and Schmidhuber 1997) or gru (Cho et al. 2014, arXiv:1406.1078).
        dropout: also between layers.
        hidden: units of each layer and direction.
        bidirectional: a second set of units runs over the clip backwards.
    """

    def __init__(
        self,
        kind: Literal["lstm", "gru"],
        input_size: int = 40,
        num_classes: int = 2,
        dropout: float = 0.2,
        hidden: int = 128,
        layers: int = 2,
        bidirectional: bool = False,
    ) -> None:
        options = {"hidden": hidden, "layers": layers, "bidirectional": bidirectional}
        super().__init__(kind, input_size, num_classes, dropout, **options)
        network: type[nn.LSTM | nn.GRU] = nn.LSTM if kind == "lstm" else nn.GRU
        between = dropout if layers > 1 else 0.0
        self.layers: nn.LSTM | nn.GRU = network(
            input_size, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional
        )
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, units, frames): the last layer's outputs along time."""
        outputs: Tensor = self.layers(self.to_channels(features).transpose(1, 2))[0]
        return outputs.transpose(1, 2)


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
        normalized: Tensor = self.norm(self.conv(F.pad(value, (self.history, 0))))
        return normalized


class Block(nn.Module):
    """ReLU(value + two convolutions of it), of (batch, channels, frames); a 1x1 one where the channels change."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = CausalConv(channels, out, kernel, dilation)
        self.second = CausalConv(out, out, kernel, dilation)
        self.dropout = nn.Dropout1d(dropout)
        self.shortcut: nn.Module = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, value: Tensor) -> Tensor:
        inner = self.dropout(F.relu(self.first(value)))
        inner = self.dropout(F.relu(self.second(inner)))
        return F.relu(self.shortcut(value) + inner)


class TCN(ClipStudent):
    """Temporal convolutional network (Bai et al. 2018, arXiv:1803.01271), with a maximum over time.

    BatchNorm takes the place of the paper's weight normalization, since it is folded into the weights when
    the model is exported. Each channel's maximum over time goes into the last layer.

    Args:
        dropout: also of a block's channels.
        hidden: channels of every block.
        layers: blocks; block i has dilation 2^i.
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
        options = {"hidden": hidden, "layers": layers, "kernel_size": kernel_size}
        super().__init__("tcn", input_size, num_classes, dropout, **options)
        widths = [input_size] + [hidden] * layers
        self.blocks = nn.Sequential(
            *(Block(widths[index], widths[index + 1], kernel_size, 2**index, dropout) for index in range(layers))
        )
        self.head = nn.Linear(hidden, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, hidden, frames): the last block's outputs along time."""
        outputs: Tensor = self.blocks(self.to_channels(features))
        return outputs
