"""The batches of an epoch are a function of (seed, epoch, weights) alone, so that training can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


class BalancedBatchSampler(Sampler[list[int]]):
    """Batches with a fixed share of positives; negatives are drawn by weight, hard ones more often.

    Args:
        labels: (clips,), 1 for the phrase.
        weights: float64, (clips,): of sampling within the class; mining changes the array between epochs.
        batch_size: clips a batch.
        positive_share: share of positives in a batch.
        batches: batches an epoch.
        seed: of the whole run.
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
        self.positives = np.flatnonzero(labels == 1)
        self.negatives = np.flatnonzero(labels != 1)
        self.weights = weights
        self.batch_size, self.batches, self.seed = batch_size, batches, seed
        self.positive_count = min(batch_size - 1, max(1, round(batch_size * positive_share)))
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Draw the batches of `epoch` next, leaving out its first `skip` (already trained on)."""
        self.epoch, self.skip = epoch, skip

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
        yield from np.concatenate([positives, negatives], axis=1)[self.skip :].tolist()

    def __len__(self) -> int:
        return self.batches - self.skip
