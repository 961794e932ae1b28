"""Rendered clips as training takes them: rows of arrays in files, a dataset with weights, and balanced batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from edgewake.data.ragged import RaggedFeatures

Block = npt.NDArray[Any] | RaggedFeatures


class ClipArray:
    """Chosen rows of several arrays: (clips, length, ...); clip i is in `blocks[block[i]][row[i]]`.

    Takes numpy's indices along clips (an integer, a slice, integers, a mask) and gives arrays; `numpy.asarray`
    reads all of it. The rows of a block may be longer than the clips, which have the length of the shortest block's:
    a clip is the stretch that begins at `first`, (clips,), 0 at first. Each row of `RaggedFeatures` has its own length.
    """

    def __init__(self, blocks: Sequence[Block], block: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> None:
        self.blocks, self.block, self.row, self.first = blocks, block, row, np.zeros(len(block), np.int64)
        self.dtype: np.dtype[Any] = blocks[0].dtype
        self.shape: tuple[int, ...] = (len(block), *min(each.shape[1:] for each in blocks))
        self.ndim = len(self.shape)

    @classmethod
    def whole(cls, blocks: Sequence[Block]) -> ClipArray:
        """All rows of the arrays, one array after the other."""
        lengths = [len(each) for each in blocks]
        block = np.repeat(np.arange(len(blocks)), lengths)
        return cls(blocks, block, np.concatenate([np.arange(length) for length in lengths]))

    def chosen(self, clips: npt.NDArray[np.int64]) -> ClipArray:
        """Some of the clips, numbered anew; nothing is copied."""
        return ClipArray(self.blocks, self.block[clips], self.row[clips])

    def spare(self) -> npt.NDArray[np.int64]:
        """By how much each clip's row is longer than the clip, (clips,): the largest `first`."""
        lengths = np.array([each.shape[1] for each in self.blocks])[self.block]
        for number, rows in enumerate(self.blocks):
            if isinstance(rows, RaggedFeatures):
                here = self.block == number
                lengths[here] = np.maximum(rows.lengths[self.row[here]], self.shape[1])
        return lengths - self.shape[1]

    def __len__(self) -> int:
        return len(self.block)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        if np.ndim(self.block[index]) == 0:
            found: npt.NDArray[Any] = self[np.array([index])][0]
            return found
        block, row, first = self.block[index], self.row[index], self.first[index]
        out = np.empty((len(block), *self.shape[1:]), self.dtype)
        for number in np.unique(block):
            here, rows = np.flatnonzero(block == number), self.blocks[int(number)]
            if isinstance(rows, np.ndarray) and rows.shape[1] == self.shape[1]:
                out[here] = rows[row[here]]
            else:
                for clip in here:
                    out[clip] = rows[row[clip], first[clip] : first[clip] + self.shape[1]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


Clips = npt.NDArray[Any] | ClipArray


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array of an .npy file of 2-byte numbers, by a memory map that keeps no file open: there may be thousands."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        begin = file.tell() // 2
    whole = torch.from_file(str(path), size=path.stat().st_size // 2, dtype=torch.int16).numpy()
    return np.asarray(whole[begin:].view(dtype).reshape(shape))


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
    """Batches with a fixed share of each group of clips; within a group, clips are drawn by weight.

    The batches of an epoch are a function of (seed, epoch, weights) alone, so that training can resume anywhere;
    mining changes `weights`, (clips,), between epochs.

    Args:
        groups: of each clip, (clips,): group g makes `shares[g]` of a batch, the first at least one clip of it; a
            group without clips none. Those of group `len(shares)` fill up.
        more: clips of the last group that a batch has beyond `batch_size`, at its end.
    """

    def __init__(
        self,
        groups: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
        weights: npt.NDArray[np.float64],
        batch_size: int,
        shares: Sequence[float],
        batches: int,
        seed: int,
        more: int = 0,
    ) -> None:
        self.pools = [np.flatnonzero(groups == group) for group in range(len(shares) + 1)]
        self.weights, self.batch_size, self.batches, self.seed = weights, batch_size, batches, seed
        self.counts: list[int] = []
        for share, pool in zip(shares, self.pools, strict=False):
            wanted = max(round(batch_size * share), 0 if self.counts else 1)
            self.counts.append(min(wanted, batch_size - 1 - sum(self.counts)) if len(pool) else 0)
        self.counts.append(batch_size - sum(self.counts) + more)
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
        drawn = [self._draw(rng, pool, count) for pool, count in zip(self.pools, self.counts, strict=True)]
        yield from np.concatenate(drawn, axis=1).tolist()

    def __len__(self) -> int:
        return self.batches
