"""MobileNetV3 small by torchvision over log-mel as a picture: the student for a phone or a Linux board."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgewake.models.clip import ClipStudent
from edgewake.models.images import build, one_channel, torchvision_models


class MobileNetV3(ClipStudent):
    """MobileNetV3 small (Howard et al. 2019, arXiv:1905.02244), about 1.5 million parameters.

    Args:
        input_size: mel channels.
        num_classes: classes.
        dropout: before the last layer, in training.
        pretrained: start from torchvision's ImageNet weights, the first layer's summed over colours.
    """

    def __init__(
        self, input_size: int = 64, num_classes: int = 2, dropout: float = 0.2, pretrained: bool = False
    ) -> None:
        super().__init__("mobilenetv3", input_size, num_classes, {"dropout": dropout})
        weights = torchvision_models().MobileNet_V3_Small_Weights.IMAGENET1K_V1 if pretrained else None
        network: Any = build("mobilenet_v3_small", weights, dropout=dropout)
        network.features[0][0] = one_channel(network.features[0][0])
        self.convolutions: nn.Module = network.features
        for module in self.convolutions.modules():
            if isinstance(module, nn.BatchNorm2d):
                # torchvision's 0.01 is for millions of steps: here, statistics would lag behind the weights.
                module.momentum = 0.1
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.projection = nn.Sequential(network.classifier[0], network.classifier[1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(network.classifier[3].in_features, num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, 1024): what the last layer sees, before dropout."""
        value = self.convolutions(self.to_channels(features).unsqueeze(1))
        projected: Tensor = self.projection(torch.flatten(self.pool(value), 1))
        return projected
