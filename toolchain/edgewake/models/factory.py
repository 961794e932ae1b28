"""`create_model` builds any student by its name; an option that an architecture does not take is an error."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from edgewake.errors import ConfigError
from edgewake.models.clip import TCN, MobileNetV3, Recurrent, ResNet18
from edgewake.models.tiny_conv import TinyConv

_STUDENTS: dict[str, Callable[..., nn.Module]] = {
    "tiny_conv": TinyConv,
    "mobilenetv3": MobileNetV3,
    "resnet18": ResNet18,
    "lstm": partial(Recurrent, "lstm"),
    "gru": partial(Recurrent, "gru"),
    "tcn": TCN,
}
ARCHITECTURES = tuple(_STUDENTS)
_SIZES = ("input_size", "num_classes")


def options_of(architecture: str) -> list[str]:
    """Keyword arguments that an architecture takes beside num_classes and input_size."""
    return [name for name in inspect.signature(_STUDENTS[architecture]).parameters if name not in _SIZES]


def create_model(architecture: str, num_classes: int = 2, input_size: int = 40, **options: Any) -> nn.Module:
    """Build a student: features (batch, frames, mel) or (batch, 1, mel, frames) to logits (batch, classes).

    Every student also has `features(x)`, the input of its last layer: (batch, size), or (batch, size, steps)
    where it keeps time. `input_size` is the number of mel channels, class 1 is the wake phrase, and `options` are
    the architecture's own keyword arguments, see `options_of`.

    Raises:
        ConfigError: the architecture is unknown, or does not take an option; names what it takes.
        EdgewakeError: `pretrained` weights are not available, or torchvision is not installed.
    """
    if architecture not in _STUDENTS:
        near = difflib.get_close_matches(architecture, ARCHITECTURES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"model.architecture = {architecture!r}: {hint}must be one of {', '.join(ARCHITECTURES)}")
    taken = options_of(architecture)
    for name in options.keys() - taken:
        raise ConfigError(
            f"model.{name} = {options[name]!r}: {architecture} has no such option; it takes {', '.join(taken)}"
        )
    return _STUDENTS[architecture](input_size=input_size, num_classes=num_classes, **options)
