"""Hard-negative mining: negatives that the model takes for the phrase come up more often from then on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from edgewake.config import TrainingConfig
from edgewake.data.clips import ClipDataset


class HardNegativeMiner:
    """Scores all negative clips every `mining_interval` epochs and raises the sampling weight of those near the phrase.

    A clip with probability p gets weight 1 + mining_boost * p; above `mining_cutoff` it counts as hard, which the
    loss may weigh more (`training.hard_negative_weight`).

    Args:
        store: whose `weights`, by which clips are drawn, and `hard` are changed.
        training: the settings `mining_*`.
        process: from the store's inputs, on the device, to what the model takes; None: the very inputs.
    """

    def __init__(
        self,
        store: ClipDataset,
        training: TrainingConfig,
        device: torch.device,
        process: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.store, self.training, self.device = store, training, device
        self.process = process or (lambda inputs: inputs)
        self.negatives = np.flatnonzero(store.labels != 1)

    @torch.no_grad()
    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Mine after `epoch`; returns the number of hard negatives found."""
        if (epoch + 1) % self.training.mining_interval:
            return {}
        model.eval()
        found = [
            model(self.process(batch.to(self.device))).softmax(dim=1)[:, 1].cpu().numpy()
            for batch in self.store.batches(self.negatives)
        ]
        probability, store, negatives = np.concatenate(found), self.store, self.negatives
        store.weights[negatives] = store.base_weights[negatives] * (1 + self.training.mining_boost * probability)
        store.hard[negatives] = probability > self.training.mining_cutoff
        return {"hard_negatives": float(store.hard[negatives].sum())}
