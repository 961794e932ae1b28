"""Students by name: `create_model` builds any of them; importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgewake.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES = ("tiny_conv",)


def create_model(architecture: str, num_classes: int = 2, input_size: int = 40, **options: Any) -> nn.Module:
    """Build a student.

    Args:
        architecture: one of `ARCHITECTURES`.
        num_classes: classes to tell apart; the wake phrase is class 1.
        input_size: mel channels.
        options: the architecture's own keyword arguments.

    Raises:
        ConfigError: the architecture is unknown.
    """
    if architecture == "tiny_conv":
        from edgewake.models.tiny_conv import TinyConv

        return TinyConv(input_size=input_size, num_classes=num_classes, **options)
    raise ConfigError(f"model.architecture = {architecture!r}: must be one of {', '.join(ARCHITECTURES)}")
