"""Rendered clips as training takes them: rows of arrays in files, a dataset with weights, and balanced batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class ClipArray:
    """Chosen rows of arrays that are alike but for their length: (clips, ...); clip i is `blocks[block[i]][row[i]]`.

    Takes numpy's indices along clips (an integer, a slice, integers, a mask) and gives arrays; `numpy.asarray`
    reads all of it.
    """

    def __init__(
        self, blocks: Sequence[npt.NDArray[Any]], block: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> None:
        self._blocks, self._block, self._row = blocks, block, row
        self.dtype: np.dtype[Any] = blocks[0].dtype
        self.shape: tuple[int, ...] = (len(block), *blocks[0].shape[1:])
        self.ndim = len(self.shape)

    @classmethod
    def rows(cls, array: npt.NDArray[Any], chosen: npt.NDArray[np.int64]) -> ClipArray:
        """Chosen rows of one array."""
        return cls([array], np.zeros(len(chosen), np.int64), chosen)

    def __len__(self) -> int:
        return len(self._block)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        block, row = self._block[index], self._row[index]
        if np.ndim(block) == 0:
            return np.array(self._blocks[int(block)][int(row)])
        out = np.empty((len(block), *self.shape[1:]), self.dtype)
        for number in np.unique(block):
            here = np.flatnonzero(block == number)
            out[here] = self._blocks[int(number)][row[here]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def origin(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The array that the clips are rows of, and which; of several arrays, a copy of the clips."""
        if len(self._blocks) == 1:
            return self._blocks[0], self._row
        return self[:], np.arange(len(self))


Clips = npt.NDArray[Any] | ClipArray


class ClipDataset(Dataset[tuple[Tensor, int, bool, int]]):
    """Items are (inputs float32, label, is_hard_negative, number); batches are read at once.

    `labels` are int64 (clips,), 1 for the phrase; `base_weights` float64 (clips,), of sampling within a class;
    `weights` and `hard` the same as mining changes it, and its flags of hard negatives.
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

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen = np.asarray(indices)
        labels, hard = torch.from_numpy(self.labels[chosen]), torch.from_numpy(self.hard[chosen])
        return self.inputs_of(chosen), labels, hard, torch.from_numpy(chosen)

    def loader(self, batches: Any = None, **options: Any) -> DataLoader[Any]:
        """A loader of batches (inputs, labels, is_hard_negative, numbers) from a batch sampler, or else in order."""
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
        self.weights[:], self.hard[:] = state["weights"].numpy(), state["hard"].numpy()


def _whole(batch: Any) -> Any:
    return batch


class BalancedBatchSampler(Sampler[list[int]]):
    """Batches with a fixed share of positives; negatives are drawn by weight, hard ones more often.

    The batches of an epoch are a function of (seed, epoch, weights) alone, so that training can resume anywhere;
    mining changes `weights`, (clips,), between epochs.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        batch_size: int,
        positive_share: float,
        batches: int,
        seed: int,
    ) -> None:
        self.positives, self.negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
        self.weights, self.batch_size, self.batches, self.seed = weights, batch_size, batches, seed
        self.positive_count = min(batch_size - 1, max(1, round(batch_size * positive_share)))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of `epoch` next."""
        self.epoch = epoch

    def _draw(self, rng: np.random.Generator, pool: npt.NDArray[np.int64], each: int) -> npt.NDArray[np.int64]:
        """Clips of an epoch, (batches, each); (batches, 0) from an empty pool."""
        count = self.batches * each
        if not len(pool) or not count:
            return np.zeros((self.batches, 0), np.int64)
        weight = self.weights[pool]
        # Systematic resampling: every clip comes up within one draw of its share of the epoch.
        edges = np.cumsum(weight / weight.sum())
        points = (np.arange(count) + rng.random()) / count
        chosen = pool[np.minimum(np.searchsorted(edges, points), len(pool) - 1)]
        return rng.permutation(chosen).reshape(self.batches, each)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        positive_count = self.positive_count if len(self.positives) else 0
        positives = self._draw(rng, self.positives, positive_count)
        negatives = self._draw(rng, self.negatives, self.batch_size - positive_count)
        yield from np.concatenate([positives, negatives], axis=1).tolist()

    def __len__(self) -> int:
        return self.batches
