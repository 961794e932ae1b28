"""Fake quantization: forward passes compute what int8 computes, up to the rounding of sums."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgewake.runtime.deployed import Quantization


def round_ste(value: Tensor) -> Tensor:
    """Round to nearest; the gradient passes straight through (Bengio et al. 2013, arXiv:1308.3432)."""
    return value + (value.round() - value).detach()


def fake_quantize_weight(weight: Tensor, axis: int) -> Tensor:
    """Symmetric int8 per channel: scale = absmax / 127 over `axis`, q in +-127 (TFLite's int8 specification).

    Weights are (out, in) with axis 1, or (k, channels) with axis 0.
    """
    absmax = weight.detach().abs().amax(dim=axis, keepdim=True)
    scale = (absmax / 127).clamp_min(torch.finfo(weight.dtype).tiny)
    return round_ste(weight / scale).clamp(-127, 127) * scale


class ActivationRange(nn.Module):
    """The int8 range of one activation tensor, learned by gradient or observed.

    The step size is learned as in LSQ (Esser et al. 2020, arXiv:1902.08153): the gradient of the fake
    quantizer with respect to its scale, divided by sqrt(elements per batch item * 127). A learned range is
    that of a ReLU output, from 0 up (zero point -128); one that is `fixed` (of features and logit) never moves.
    """

    scale: Tensor
    zero_point: Tensor
    peak: Tensor

    def __init__(self, *, fixed: Quantization | None = None) -> None:
        super().__init__()
        self.fixed = fixed is not None
        given = fixed or Quantization(np.float32(1), -128)
        self.register_buffer("zero_point", torch.tensor(float(given.zero_point)))
        self.register_buffer("peak", torch.tensor(0.0))
        start = torch.tensor(float(given.scale))
        if fixed:
            self.register_buffer("scale", start)
        else:
            self.scale = nn.Parameter(start)

    @torch.no_grad()
    def observe(self, value: Tensor, momentum: float = 0.9, quantile: float = 0.9995) -> None:
        """Follow a high quantile of |value| by exponential average and set the scale from it."""
        if self.fixed:
            return
        flat = value.detach().abs().flatten().float()
        level = flat.kthvalue(max(1, int(flat.numel() * quantile))).values
        self.peak.copy_(level if self.peak == 0 else momentum * self.peak + (1 - momentum) * level)
        self.scale.copy_((self.peak / 255).clamp_min(1e-6))

    def forward(self, value: Tensor) -> Tensor:
        """Quantize and dequantize `value`, any shape."""
        scale = self.scale
        if not self.fixed and self.training:
            grad_scale = (value[0].numel() * 127) ** -0.5
            scale = (scale - scale * grad_scale).detach() + scale * grad_scale
        level = round_ste(value / scale) + self.zero_point
        return (level.clamp(-128, 127) - self.zero_point) * scale

    @torch.no_grad()
    def set(self, given: Quantization) -> None:
        """Take over an exported range; `quantization` undone."""
        self.scale.fill_(float(given.scale))
        self.zero_point.fill_(given.zero_point)

    def quantization(self) -> Quantization:
        """The range as it is exported."""
        return Quantization(np.float32(self.scale.item()), int(self.zero_point.item()))
