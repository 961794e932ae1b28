"""Classification loss of the student: weighted cross-entropy over clips, hard negatives counted more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(
    outputs: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    is_hard_negative: Tensor | None = None,
    hard_negative_weight: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Mean weighted cross-entropy of a batch; a scalar.

    Each clip's loss is multiplied by its class's weight and, where `is_hard_negative`, by
    `hard_negative_weight`; the sum is divided by the sum of the weights, so that the loss keeps its scale.

    Args:
        outputs: logits, (batch, classes).
        targets: class indices, (batch,).
        class_weights: (classes,), or None for equal weights.
        is_hard_negative: bool, (batch,), or None.
        hard_negative_weight: factor on hard negatives, at least 1 in practice.
        label_smoothing: mass moved from the label to all classes alike: the target is
            (1 - s) onehot + s / classes (Szegedy et al. 2016, arXiv:1512.00567).
        focal_gamma: a clip's loss is multiplied by (1 - p)^gamma, where p is the probability of its label, so
            that what is already right weighs less (Lin et al. 2017, arXiv:1708.02002); 0 is plain.
    """
    loss = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)
    if focal_gamma:
        loss = loss * (1 - outputs.softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)) ** focal_gamma
    weight = torch.ones_like(loss) if class_weights is None else class_weights.to(loss)[targets]
    if is_hard_negative is not None:
        weight = weight * torch.where(is_hard_negative.bool(), hard_negative_weight, 1.0)
    return (loss * weight).sum() / weight.sum().clamp_min(1e-12)
