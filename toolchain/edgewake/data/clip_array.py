"""Rows of arrays in files, read when they are indexed, so that a choice of clips costs no copy of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class ClipArray:
    """Chosen rows of one or more arrays that are alike but for their length: (clips, ...).

    Takes numpy's indices along clips (an integer, a slice, integers, a mask), alone or first of several,
    and gives arrays; `numpy.asarray` reads all of it.

    Args:
        blocks: arrays, for example mapped into memory.
        block: (clips,) which array each clip is in.
        row: (clips,) and where there.
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
        """Rows of one array."""
        return cls([array], np.zeros(len(chosen), np.int64), chosen)

    def __len__(self) -> int:
        return len(self._block)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        if isinstance(index, tuple):
            found = self[index[0]]
            return found[(slice(None), *index[1:])] if found.ndim == self.ndim else found[index[1:]]
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


class Rows(Protocol):
    """An array of clips, in memory or not: numpy's, a memory map, or `ClipArray`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...
