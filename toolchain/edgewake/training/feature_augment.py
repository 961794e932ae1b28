"""Variation that is cheap on log-mel features, drawn anew for every batch from a given generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewake.config import AugmentationConfig

TIME_PARTS = 8
MEL_PARTS = 4
# Which of several equal slices of a batch is given, and of how many: numbers are drawn for all of them.
Place = tuple[int, int]


def augment(features: Tensor, generator: torch.Generator, config: AugmentationConfig, place: Place = (0, 1)) -> Tensor:
    """Warp and mask as configured: (batch, frames, mel) -> the same."""
    features = warp(features, generator, config, place)
    return spec_augment(features, generator, config, place) if config.spec_augment else features


def spec_augment(
    features: Tensor, generator: torch.Generator, config: AugmentationConfig, place: Place = (0, 1)
) -> Tensor:
    """Mask bands of time and of mel with the clip's mean (SpecAugment, Park et al. 2019, arXiv:1904.08779).

    `features` are (batch, frames, mel); `spec_augment_prob` is the chance that a clip is masked at all.
    """
    batch, frames, mel = features.shape
    total, rows = batch * place[1], slice(batch * place[0], batch * (place[0] + 1))
    mask = torch.zeros(batch, frames, mel, dtype=torch.bool)
    # Bands, their largest width, the size of their axis, and the axis along which they are the same.
    over_time = (config.time_masks, config.time_mask_frames, frames, 2)
    over_mel = (config.mel_masks, config.mel_mask_channels, mel, 1)
    for count, width, size, other in (over_time, over_mel):
        for _ in range(count):
            length = torch.randint(0, width + 1, (total, 1), generator=generator)[rows]
            start = (torch.rand(total, 1, generator=generator)[rows] * (size - length + 1)).long()
            index = torch.arange(size).unsqueeze(0)
            mask |= ((index >= start) & (index < start + length)).unsqueeze(other)
    mask &= (torch.rand(total, 1, 1, generator=generator)[rows] < config.spec_augment_prob).expand_as(mask)
    return torch.where(mask.to(features.device), features.mean(dim=(1, 2), keepdim=True), features)


def warp(features: Tensor, generator: torch.Generator, config: AugmentationConfig, place: Place = (0, 1)) -> Tensor:
    """Resample clips, (batch, frames, mel), along mel and time, unevenly: another vocal tract, another pronunciation.

    Warping the mel axis stands for vocal tract length perturbation (Jaitly and Hinton 2013). Along each axis
    a rate is drawn for the whole clip and others for its parts; positions are the rates' running sum. Mel's
    foot and time's end stay in place, the latter so that the end of the phrase does. At an even rate, the top of the
    mel axis moves by up to `mel_warp_channels`; rates of time lie in [1 / (1 + t), 1 + t] with t = `tempo_warp`,
    twice: for the clip and for its parts.
    """
    batch, frames, mel = features.shape
    total, rows = batch * place[1], slice(batch * place[0], batch * (place[0] + 1))
    # Time runs back from its end: 1 - (0 .. growing), reversed.
    time = 1 - _positions(total, frames, config.tempo_warp, TIME_PARTS, generator)[rows].flip(1)
    spread = config.mel_warp_channels / max(1, mel - 1)
    channel = _positions(total, mel, spread, MEL_PARTS, generator)[rows] - 1
    grid = torch.stack([channel.unsqueeze(1).expand(-1, frames, -1), time.unsqueeze(2).expand(-1, -1, mel)], dim=3)
    warped = F.grid_sample(features.unsqueeze(1), grid.to(features.device), padding_mode="border", align_corners=True)
    return warped.squeeze(1)


def _positions(batch: int, size: int, spread: float, parts: int, generator: torch.Generator) -> Tensor:
    """Positions along an axis of length 2 (as grid_sample counts), from 0: (batch, size)."""
    draw = torch.rand(batch, parts + 1, generator=generator) * 2 - 1
    rates = (1 + spread) ** (draw[:, :1] + draw[:, 1:])
    each = F.interpolate(rates.unsqueeze(1), size=max(1, size - 1), mode="linear", align_corners=True).squeeze(1)
    return F.pad(each.cumsum(dim=1), (1, 0))[:, :size] * (2 / max(1, size - 1))
