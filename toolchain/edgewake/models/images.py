"""torchvision's networks for images as students: log-mel as a picture with one channel, ImageNet weights if asked."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.models.clip import ClipStudent

WEIGHTS = {
    "mobilenet_v3_small": "MobileNet_V3_Small_Weights.IMAGENET1K_V1",
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
}


def torchvision_network(name: str, pretrained: bool, **options: Any) -> Any:
    """A network of torchvision by its function in torchvision.models."""
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingDependencyError(
            f"mobilenetv3 and resnet18 need {error.name}: pip install 'edgewake[train]'"
        ) from error
    weights = models.get_weight(WEIGHTS[name]) if pretrained else None
    try:
        return getattr(models, name)(weights=weights, **options)
    except (URLError, OSError, RuntimeError) as error:
        if weights is None:
            raise
        reason = " ".join(str(error).split())[:200]
        raise EdgewakeError(
            f"model.pretrained = True: ImageNet weights of {name} are not available from {weights.url} ({reason}); "
            f"put {weights.url.rsplit('/', 1)[-1]} into {torch.hub.get_dir()}/checkpoints, or set "
            "model.pretrained: false"
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
    """MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244), about 1.5 million parameters.

    Args:
        pretrained: start from torchvision's ImageNet weights, the first layer's summed over colours.
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
