"""The base of students of whole clips: one layout of features, normalized a mel channel at a time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
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
        options: further keyword arguments of `create_model` that build the same network again.

    Raises:
        ConfigError: a number is out of range.
    """

    dropout: nn.Dropout
    head: nn.Linear

    def __init__(self, architecture: str, input_size: int, num_classes: int, **options: Any) -> None:
        super().__init__()
        if input_size < 8:
            raise ConfigError(f"data.n_mels = {input_size}: {architecture} takes 8 mel channels or more")
        if num_classes < 2:
            raise ConfigError(f"model.num_classes = {num_classes}: there are at least 2 classes")
        for name, least in (("hidden", 1), ("layers", 1), ("kernel_size", 2)):
            if options.get(name, least) < least:
                raise ConfigError(f"model.{name} = {options[name]}: {architecture} takes {least} or more")
        if not 0 <= options["dropout"] < 1:
            raise ConfigError(f"model.dropout = {options['dropout']}: must be at least 0 and below 1")
        self.name, self.input_size, self.num_classes, self.options = architecture, input_size, num_classes, options
        self.norm = nn.BatchNorm1d(input_size, affine=False)

    def architecture(self) -> dict[str, Any]:
        """Keyword arguments of `create_model` that build this network again, without fetching weights."""
        return {"input_size": self.input_size, "num_classes": self.num_classes, **self.options}

    def to_channels(self, features: Tensor) -> Tensor:
        """(batch, frames, mel) or (batch, 1, mel, frames) -> normalized (batch, mel, frames).

        Raises:
            EdgewakeError: another shape, or another number of mel channels.
        """
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
