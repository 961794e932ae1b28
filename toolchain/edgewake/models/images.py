"""torchvision's networks for images as students: one input channel, and weights from ImageNet if asked."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from edgewake.errors import EdgewakeError, MissingDependencyError


def build(name: str, weights: Any, **options: Any) -> nn.Module:
    """A network of torchvision.

    Args:
        name: of the function in torchvision.models.
        weights: a member of torchvision's weights enumeration, or None for random weights.
        options: of the function.

    Raises:
        MissingDependencyError: torchvision is not installed.
        EdgewakeError: the weights are neither in torch's cache nor can they be fetched.
    """
    models = torchvision_models()
    try:
        network: nn.Module = getattr(models, name)(weights=weights, **options)
    except (URLError, OSError, RuntimeError) as error:
        if weights is None:
            raise
        file = weights.url.rsplit("/", 1)[-1]
        folder = f"{torch.hub.get_dir()}/checkpoints"
        reason = " ".join(str(error).split())[:200]
        raise EdgewakeError(
            f"model.pretrained = True: ImageNet weights of {name} cannot be had from {weights.url} "
            f"({reason}); put {file} into {folder}, or set model.pretrained: false"
        ) from error
    return network


def torchvision_models() -> Any:
    """torchvision.models.

    Raises:
        MissingDependencyError: torchvision is not installed.
    """
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingDependencyError(
            f"mobilenetv3 and resnet18 need {error.name}: pip install 'edgewake[train]'"
        ) from error
    return models


def one_channel(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution over one channel: weights (out, 3, h, w) summed over their channels.

    A spectrogram takes the place of a grey image, whose three channels are equal, so that the sum answers
    to it exactly as the three did.
    """
    kernel: Any = conv.kernel_size
    stride: Any = conv.stride
    padding: Any = conv.padding
    made = nn.Conv2d(1, conv.out_channels, kernel, stride, padding, bias=conv.bias is not None)
    with torch.no_grad():
        made.weight.copy_(conv.weight.sum(dim=1, keepdim=True))
        if conv.bias is not None and made.bias is not None:
            made.bias.copy_(conv.bias)
    return made
