"""A dataset of labelled clips that training draws by weight, and whose hard negatives mining marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class ClipDataset(Dataset[tuple[Tensor, int, bool, int]]):
    """Items are (inputs float32, label, is_hard_negative, number); batches are read at once.

    Attributes:
        labels: int64, (clips,); 1 for the phrase.
        base_weights: float64, (clips,): weight of sampling within a class.
        weights, hard: the same as mining changes it, and its flags of hard negatives.
    """

    def __init__(self, labels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> None:
        self.labels, self.base_weights = labels, weights
        self.weights = weights.copy()
        self.hard = np.zeros(len(labels), bool)

    def inputs_of(self, clips: Any) -> Tensor:
        """Inputs of one clip, by its number, or of several: float32, (..., samples) or (..., frames, size)."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, bool, int]:
        return self.inputs_of(index), int(self.labels[index]), bool(self.hard[index]), index

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = np.asarray(indices)
        labels, hard = torch.from_numpy(self.labels[chosen]), torch.from_numpy(self.hard[chosen])
        return self.inputs_of(chosen), labels, hard, torch.from_numpy(chosen)

    def loader(self, batches: Any, **options: Any) -> DataLoader[Any]:
        """A loader of batches (inputs, labels, is_hard_negative, numbers).

        Args:
            batches: a batch sampler.
            options: of `DataLoader`.
        """
        return DataLoader(self, batch_sampler=batches, collate_fn=_whole, **options)

    def batches(self, indices: npt.NDArray[np.int64], size: int = 512) -> Iterator[Tensor]:
        """Inputs of `indices` in order, `size` at once."""
        for begin in range(0, len(indices), size):
            yield self.inputs_of(indices[begin : begin + size])

    def state_dict(self) -> dict[str, Any]:
        """Mining's state, for checkpoints."""
        return {"weights": torch.from_numpy(self.weights.copy()), "hard": torch.from_numpy(self.hard.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.weights[:] = state["weights"].numpy()
        self.hard[:] = state["hard"].numpy()


def _whole(batch: Any) -> Any:
    return batch
