"""How weights follow gradients: the optimizer, the average of the weights, and the schedule of the rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgewake.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """AdamW, or as configured; none decays whose size has a meaning: biases, norms, ranges."""
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=config.momentum)


def make_average(model: nn.Module, limit: float) -> AveragedModel | None:
    """An exponential average of the weights, which is validated and exported (arXiv:1703.01780); 0: none."""

    def follow(average: Tensor, value: Tensor, seen: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return value
        # A short memory at first, so that the random start is soon forgotten.
        decay = min(limit, (1 + float(seen)) / (10 + float(seen)))
        return torch.lerp(average, value.to(average.device), 1 - decay)

    return AveragedModel(model, avg_fn=follow, use_buffers=True) if limit else None


def scheduled_rate(config: OptimizerConfig, peak: float, done: int, steps: int) -> float:
    """Rate of step `done` of `steps`: linear warm-up, then a cosine to 1 % (arXiv:1608.03983)."""
    if config.scheduler == "constant":
        return peak
    warmup = min(config.warmup_steps, max(1, steps // 10))
    if done < warmup:
        return peak * (done + 1) / warmup
    share = min(1.0, (done - warmup) / max(1, steps - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
