"""LSTM and GRU students: torch's own layers along time, and the maximum over time of each unit."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from edgewake.models.clip import ClipStudent


class Recurrent(ClipStudent):
    """Recurrent layers over frames, the maximum over time of each unit, and a linear layer.

    The maximum finds a phrase wherever in the clip it ends, where the last state would have to remember it
    (max-pooling for keyword spotting: Sun et al. 2016, arXiv:1705.02411).

    Args:
        kind: lstm (Hochreiter and Schmidhuber 1997) or gru (Cho et al. 2014, arXiv:1406.1078).
        input_size: mel channels.
        num_classes: classes.
        dropout: between layers and before the last one, in training.
        hidden: units of each layer and direction.
        layers: stacked layers.
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
        super().__init__(
            kind, input_size, num_classes, dropout=dropout, hidden=hidden, layers=layers, bidirectional=bidirectional
        )
        self.layers: nn.LSTM | nn.GRU = (nn.LSTM if kind == "lstm" else nn.GRU)(
            input_size,
            hidden,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), num_classes)

    def features(self, features: Tensor) -> Tensor:
        """(batch, units, frames): the last layer's outputs along time."""
        outputs: Tensor = self.layers(self.to_channels(features).transpose(1, 2))[0]
        return outputs.transpose(1, 2)
