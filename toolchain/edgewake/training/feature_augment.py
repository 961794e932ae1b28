"""Variation that is cheap on log-mel features, drawn anew for every batch from a given generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def spec_augment(
    features: Tensor,
    generator: torch.Generator,
    *,
    time_masks: int = 1,
    time_width: int = 15,
    mel_masks: int = 1,
    mel_width: int = 6,
    probability: float = 0.5,
) -> Tensor:
    """Mask bands of time and of mel with the clip's mean (SpecAugment, Park et al. 2019, arXiv:1904.08779).

    Args:
        features: (batch, frames, mel).
        probability: chance that a clip is masked at all.
    """
    batch, frames, mel = features.shape
    mask = torch.zeros(batch, frames, mel, dtype=torch.bool)
    for count, width, axis, size in ((time_masks, time_width, 1, frames), (mel_masks, mel_width, 2, mel)):
        for _ in range(count):
            length = torch.randint(0, width + 1, (batch, 1), generator=generator)
            start = (torch.rand(batch, 1, generator=generator) * (size - length + 1)).long()
            index = torch.arange(size).unsqueeze(0)
            band = (index >= start) & (index < start + length)
            mask |= band.unsqueeze(2) if axis == 1 else band.unsqueeze(1)
    mask &= (torch.rand(batch, 1, 1, generator=generator) < probability).expand_as(mask)
    return torch.where(mask.to(features.device), features.mean(dim=(1, 2), keepdim=True), features)


def warp(
    features: Tensor, generator: torch.Generator, *, mel_shift: float = 0.0, tempo: float = 0.0
) -> Tensor:
    """Resample each clip along mel and time: another vocal tract, another tempo.

    A shift along the mel axis stands for vocal tract length perturbation (Jaitly and Hinton 2013); the
    time axis is stretched around its end, so that the end of the phrase stays where it is.

    Args:
        features: (batch, frames, mel).
        mel_shift: the mel axis moves by up to this many channels at its top, and by none at its foot.
        tempo: frames are stretched by a factor in [1 / (1 + tempo), 1 + tempo].
    """
    batch = features.shape[0]
    draw = torch.rand(batch, 2, generator=generator) * 2 - 1
    size = features.shape[2] - 1
    mel_factor = 1 + draw[:, 0] * (mel_shift / size)
    time_factor = (1 + tempo) ** draw[:, 1]
    theta = torch.zeros(batch, 2, 3)
    # affine_grid works on [-1, 1]: keep mel's foot (-1) and time's end (+1) in place
    theta[:, 0, 0], theta[:, 0, 2] = mel_factor, mel_factor - 1
    theta[:, 1, 1], theta[:, 1, 2] = time_factor, 1 - time_factor
    shape = [batch, 1, features.shape[1], features.shape[2]]
    grid = F.affine_grid(theta, shape, align_corners=True).to(features.device)
    warped = F.grid_sample(features.unsqueeze(1), grid, padding_mode="border", align_corners=True)
    return warped.squeeze(1)
