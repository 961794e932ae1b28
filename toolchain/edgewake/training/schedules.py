"""Settings that move while training goes on: a start, an end, and a way between them."""

from __future__ import annotations

import math
from typing import Literal

from edgewake.config import DistillationConfig

Shape = Literal["constant", "linear", "cosine"]


def scheduled(start: float, end: float | None, shape: Shape, share: float) -> float:
    """The value after `share` (0 to 1) of training.

    linear: start + (end - start) share. cosine: the same with (1 - cos(pi share)) / 2 in place of share,
    level at both ends (Loshchilov and Hutter 2017, arXiv:1608.03983). constant: start.
    """
    if shape == "constant" or end is None:
        return start
    share = min(1.0, max(0.0, share))
    if shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return start + (end - start) * share


def alpha_and_temperature(config: DistillationConfig, share: float) -> tuple[float, float]:
    """alpha and T after `share` of all epochs, both phases together.

    Annealing T and alpha lets the teacher lead at first and the labels at the end, or the other way round
    (Jafari et al. 2021, arXiv:2104.07163; Clark et al. 2019 for alpha, arXiv:1907.04829).
    """
    alpha = scheduled(config.alpha, config.alpha_end, config.alpha_schedule, share)
    temperature = scheduled(config.temperature, config.temperature_end, config.temperature_schedule, share)
    return alpha, temperature
