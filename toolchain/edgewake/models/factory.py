"""`create_model` builds any student by its name; what an architecture does not take is an error."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from edgewake.errors import ConfigError
from edgewake.models.mobilenetv3 import MobileNetV3
from edgewake.models.recurrent import Recurrent
from edgewake.models.resnet18 import ResNet18
from edgewake.models.tcn import TCN
from edgewake.models.tiny_conv import TinyConv

if TYPE_CHECKING:
    from torch import nn

# Options of each architecture beside num_classes and input_size.
OPTIONS: dict[str, tuple[str, ...]] = {
    "tiny_conv": ("width", "kernel_sizes", "frames_per_step", "dropout", "smoothing", "pool"),
    "mobilenetv3": ("dropout", "pretrained"),
    "resnet18": ("dropout", "pretrained"),
    "lstm": ("dropout", "hidden", "layers", "bidirectional"),
    "gru": ("dropout", "hidden", "layers", "bidirectional"),
    "tcn": ("dropout", "hidden", "layers", "kernel_size"),
}
ARCHITECTURES = tuple(OPTIONS)


def create_model(architecture: str, num_classes: int = 2, input_size: int = 40, **options: Any) -> nn.Module:
    """Build a student: features (batch, frames, mel) or (batch, 1, mel, frames) to logits (batch, classes).

    Every student also has `features(x)`, what its last layer sees: (batch, size), or (batch, size, steps)
    where it keeps time.

    Args:
        architecture: one of `ARCHITECTURES`.
        num_classes: classes to tell apart; the wake phrase is class 1.
        input_size: mel channels.
        options: the architecture's own keyword arguments, see `OPTIONS`.

    Raises:
        ConfigError: the architecture is unknown, or does not take an option; names what it takes.
        EdgewakeError: `pretrained` weights cannot be had.
        MissingDependencyError: torchvision is needed and not installed.
    """
    if architecture not in OPTIONS:
        near = difflib.get_close_matches(architecture, ARCHITECTURES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"model.architecture = {architecture!r}: {hint}must be one of {', '.join(ARCHITECTURES)}")
    for name, value in options.items():
        if name not in OPTIONS[architecture]:
            raise ConfigError(
                f"model.{name} = {value!r}: {architecture} has no such option; it takes "
                f"{', '.join(OPTIONS[architecture])}"
            )
    sizes: dict[str, Any] = {"input_size": input_size, "num_classes": num_classes}
    if architecture == "tiny_conv":
        return TinyConv(**sizes, **options)
    if architecture == "mobilenetv3":
        return MobileNetV3(**sizes, **options)
    if architecture == "resnet18":
        return ResNet18(**sizes, **options)
    if architecture == "tcn":
        return TCN(**sizes, **options)

    return Recurrent("lstm" if architecture == "lstm" else "gru", **sizes, **options)


def parameter_count(model: nn.Module) -> int:
    """Numbers that training learns; running statistics of BatchNorm are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())
