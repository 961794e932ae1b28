"""ResNet-18 by torchvision over log-mel as a picture: the student with room, where small ones fall short."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgewake.models.clip import ClipStudent
from edgewake.models.images import build, one_channel, torchvision_models


class ResNet18(ClipStudent):
    """ResNet-18 (He et al. 2015, arXiv:1512.03385), about 11 million parameters.

    Args:
        input_size: mel channels.
        num_classes: classes.
        dropout: before the last layer, in training.
        pretrained: start from torchvision's ImageNet weights, the first layer's summed over colours.
    """

    def __init__(
        self, input_size: int = 64, num_classes: int = 2, dropout: float = 0.2, pretrained: bool = False
    ) -> None:
        super().__init__("resnet18", input_size, num_classes, {"dropout": dropout})
        weights = torchvision_models().ResNet18_Weights.IMAGENET1K_V1 if pretrained else None
        network: Any = build("resnet18", weights)
        self.stem = nn.Sequential(one_channel(network.conv1), network.bn1, network.relu, network.maxpool)
        self.blocks = nn.Sequential(network.layer1, network.layer2, network.layer3, network.layer4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(network.fc.in_features, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, 512): what the last layer sees, before dropout."""
        value = self.blocks(self.stem(self.to_channels(features).unsqueeze(1)))
        return torch.flatten(self.pool(value), 1)
