"""Students of whole clips: a common base that normalizes mel channels; recurrent, convolutional, of torchvision."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.errors import ConfigError, EdgewakeError, MissingDependencyError

WEIGHTS = {
    "mobilenet_v3_small": "MobileNet_V3_Small_Weights.IMAGENET1K_V1",
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
}


class ClipStudent(nn.Module):
    """Features of a clip to logits (batch, classes).

    Features are (batch, frames, mel) or, as image models take them, (batch, 1, mel, frames), of any scale:
    the first layer is a BatchNorm over mel channels without parameters, which learns their mean and variance
    (the same for both kinds of features, and what weights trained on images expect).

    `dropout` is the chance of dropping an input of the last layer, and others where a student says so, in training;
    `options` are further keyword arguments of `create_model` that build the same network again. An error where
    there are fewer than 8 mel channels (`input_size`) or 2 classes, of which the phrase is class 1.
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
        channels = features.shape[2 if features.dim() == 4 else -1]
        # A comparison of sizes would become part of a traced graph.
        if features.dim() not in (3, 4) or (not torch.onnx.is_in_onnx_export() and channels != self.input_size):
            raise EdgewakeError(
                f"features of shape {tuple(features.shape)}: this {self.name} takes {self.input_size} mel channels "
                "(data.n_mels) as (batch, frames, mel) or (batch, 1, mel, frames); raw audio goes through a featurizer"
            )
        value = features.squeeze(1) if features.dim() == 4 else features.transpose(1, 2)
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
    (max-pooling for keyword spotting: Sun et al. 2016, arXiv:1705.02411). `kind` is lstm (Hochreiter and Schmidhuber
    1997) or gru (Cho et al. 2014, arXiv:1406.1078), with `hidden` units in each layer and direction; dropout is also
    between layers; with `bidirectional` a second set of units runs over the clip backwards.
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
        more: Any = {"dropout": dropout if layers > 1 else 0.0, "bidirectional": bidirectional}
        self.layers: nn.LSTM | nn.GRU = network(input_size, hidden, layers, batch_first=True, **more)
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
    the model is exported. Each channel's maximum over time goes into the last layer. Of `layers` blocks with `hidden`
    channels, block i has dilation 2^i; dropout is also of a block's channels.
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
        widths = [input_size] + [hidden] * (layers - 1)
        blocks = (Block(width, hidden, kernel_size, 2**index, dropout) for index, width in enumerate(widths))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(hidden, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, hidden, frames): the last block's outputs along time."""
        outputs: Tensor = self.blocks(self.to_channels(features))
        return outputs


def torchvision_network(name: str, pretrained: bool, **options: Any) -> Any:
    """A network of torchvision by its function in torchvision.models."""
    try:
        from torchvision import models
    except ImportError as error:
        missing = f"mobilenetv3 and resnet18 need {error.name}: pip install 'edgewake[train]'"
        raise MissingDependencyError(missing) from error
    weights = models.get_weight(WEIGHTS[name]) if pretrained else None
    try:
        return getattr(models, name)(weights=weights, **options)
    except (URLError, OSError, RuntimeError) as error:
        if weights is None:
            raise
        reason, file = " ".join(str(error).split())[:200], weights.url.rsplit("/", 1)[-1]
        raise EdgewakeError(
            f"model.pretrained = True: ImageNet weights of {name} are not available from {weights.url} ({reason}); "
            f"put {file} into {torch.hub.get_dir()}/checkpoints, or set model.pretrained: false"
        ) from error


@torch.no_grad()
def one_channel(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution, without bias, over one channel: weights (out, 3, h, w) summed over their channels.

    A spectrogram takes the place of a grey image, whose three channels are equal: the sum gives the same output.
    """
    shape: Any = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
    made = nn.Conv2d(1, conv.out_channels, **shape, bias=False)
    made.weight.copy_(conv.weight.sum(dim=1, keepdim=True))
    return made


class MobileNetV3(ClipStudent):
    """MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244) of log-mel as a picture, about 1.5 million parameters.

    `pretrained` starts from torchvision's ImageNet weights, the first layer's summed over colours.
    """

    def __init__(
        self, input_size: int = 64, num_classes: int = 2, dropout: float = 0.2, pretrained: bool = False
    ) -> None:
        super().__init__("mobilenetv3", input_size, num_classes, dropout)
        network = torchvision_network("mobilenet_v3_small", pretrained, dropout=dropout)
        network.features[0][0] = one_channel(network.features[0][0])
        self.convolutions: nn.Module = network.features
        for module in self.convolutions.modules():
            if isinstance(module, nn.BatchNorm2d):
                # torchvision's 0.01 is for millions of steps: here, statistics would lag behind the weights.
                module.momentum = 0.1
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.projection = nn.Sequential(network.classifier[0], network.classifier[1])
        self.head = nn.Linear(network.classifier[3].in_features, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, 1024): the input of the last layer, before dropout."""
        value = self.convolutions(self.to_channels(features).unsqueeze(1))
        projected: Tensor = self.projection(torch.flatten(self.pool(value), 1))
        return projected


class ResNet18(ClipStudent):
    """ResNet-18 (He et al. 2015, arXiv:1512.03385), about 11 million parameters; arguments as of `MobileNetV3`."""

    def __init__(
        self, input_size: int = 64, num_classes: int = 2, dropout: float = 0.2, pretrained: bool = False
    ) -> None:
        super().__init__("resnet18", input_size, num_classes, dropout)
        network = torchvision_network("resnet18", pretrained)
        self.stem = nn.Sequential(one_channel(network.conv1), network.bn1, network.relu, network.maxpool)
        self.blocks = nn.Sequential(network.layer1, network.layer2, network.layer3, network.layer4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(network.fc.in_features, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, 512): the input of the last layer, before dropout."""
        value = self.blocks(self.stem(self.to_channels(features).unsqueeze(1)))
        return torch.flatten(self.pool(value), 1)
