"""Parameters of the C pipeline within the ranges that it accepts, and the integers that quantize features exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.config.frontend import FrontendConfig
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.events import (
    HIGHEST_PROBABILITY,
    PROBABILITY_ONE,
    as_probability,
    probability_table,
    refractory_steps,
)
from edgewake.runtime.frontend import FEATURE_SCALE

Infer = Callable[[npt.NDArray[np.int8]], int]
"""The model: int8 features of one step, (frames_per_step * channels,), oldest frame first -> int8 logit."""

FEATURES = 1 << 16
HIGHEST_CUTOFF = HIGHEST_PROBABILITY / PROBABILITY_ONE
# The limits of ew_pipeline.h.
LIMITS = {
    "frames_per_step": (1, 16),
    "channels": (1, 128),
    "multiplier": (0, 2**32 - 1),
    "shift": (1, 62),
    "zero_point": (-128, 127),
    "window": (1, 64),
    "cutoff_sum": (0, 2**32 - 1),
    "refractory_steps": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class PipelineParams:
    """Everything between the frontend and an event, apart from the model; values out of `LIMITS` are a ConfigError.

    Attributes:
        multiplier, shift: of the quantizer; see `derive_quantizer`.
        zero_point: of the model's input.
        window: smoothing window W in steps.
        cutoff_sum: smallest sum of the last W probabilities that is an event; cutoff = cutoff_sum / (65536 W).
        refractory_steps: distance to the next event at least, in steps; 0 and 1 allow an event at every step.
        output: quantization of the model's logit.
        frames_per_step: frames that one inference consumes.
        channels: features of one frame.
    """

    multiplier: int
    shift: int
    zero_point: int
    window: int
    cutoff_sum: int
    refractory_steps: int
    output: Quantization
    frames_per_step: int = 3
    channels: int = 40

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"pipeline {name} = {value!r}: the core takes a whole number, {low} to {high}")

    def check_channels(self, frontend: FrontendConfig) -> None:
        """Raise EdgewakeError where the model takes other features than the frontend gives."""
        if self.channels != frontend.channels:
            raise EdgewakeError(
                f"the model takes {self.channels} features a frame, the frontend gives {frontend.channels}; "
                "train with this frontend"
            )

    @property
    def cutoff(self) -> float:
        """Smallest smoothed probability that is an event."""
        return self.cutoff_sum / (PROBABILITY_ONE * self.window)

    @property
    def probabilities(self) -> npt.NDArray[np.uint16]:
        """The table of the C core, (256,); see `probability_table`."""
        return probability_table(self.output)


@dataclass(frozen=True)
class Step:
    """One completed step.

    Attributes:
        sum: of the last W probabilities, in units of 1/65536, zeros before the start: 0..65535 W.
        detected: an event starts here.
        sample_index: samples taken since reset, up to the one that completed the step.
        output: the model's own int8 output, the logit.
    """

    sum: int
    detected: bool
    sample_index: int
    output: int


def pipeline_params(
    given: Quantization,
    output: Quantization,
    settings: Mapping[str, Any],
    frontend: FrontendConfig,
    frames_per_step: int,
    *,
    cutoff: float | None = None,
) -> PipelineParams:
    """The C pipeline's parameters of a model, with another probability cutoff where one is given.

    Args:
        given, output: quantization of the model's input and output.
        settings: `window`, `cutoff_sum`, and `refractory_steps` or `refractory_s`, as model.json's info and
            manifest.json hold them; stored steps count as they are, seconds are rounded by `refractory_steps`.

    Raises:
        ConfigError: a setting is missing or out of the core's range, or the cutoff is not in (0, 65535/65536].
    """
    steps = settings.get("refractory_steps")
    if steps is None:
        seconds = settings.get("refractory_s")
        if not isinstance(seconds, int | float):
            raise ConfigError(f"refractory_s = {seconds!r}: it must be a number of seconds, such as 1.0")
        steps = refractory_steps(seconds, frames_per_step * frontend.step_ms / 1000)
    quantizer = (*derive_quantizer(given.scale, given.zero_point), given.zero_point)
    window, cutoff_sum = settings.get("window", -1), settings.get("cutoff_sum", -1)
    params = PipelineParams(*quantizer, window, cutoff_sum, steps, output, frames_per_step, frontend.channels)
    return params if cutoff is None else replace(params, cutoff_sum=sum_of_cutoff(cutoff, window))


def sum_of_cutoff(cutoff: float, window: int) -> int:
    """The smallest sum of `window` probabilities that, as float32, reaches a cutoff: what was rounded comes back.

    Raises ConfigError for a cutoff that is not in (0, 65535/65536].
    """
    if not 0 < cutoff <= HIGHEST_CUTOFF:
        raise ConfigError(
            f"cutoff {cutoff} is out of range: it must be above 0 and at most 65535/65536 = {HIGHEST_CUTOFF:.6f}"
        )
    total = math.ceil(cutoff * PROBABILITY_ONE * window)
    return max(1, total - bool(as_probability(total - 1, window) >= np.float32(cutoff)))


def quantize(features: npt.NDArray[np.uint16], multiplier: int, shift: int, zero_point: int) -> npt.NDArray[np.int8]:
    """What the C core computes: clamp(((f * multiplier + 2^(shift-1)) >> shift) + zero_point), any shape."""
    product = features.astype(np.uint64) * np.uint64(multiplier) + np.uint64(1 << (shift - 1))
    rounded = np.minimum(product >> np.uint64(shift), np.uint64(127 - zero_point))
    return np.asarray(rounded.astype(np.int64) + zero_point, np.int8)


def derive_quantizer(scale: np.float32 | float, zero_point: int) -> tuple[int, int]:
    """Multiplier and shift of the model's input quantization, with the smallest shift that is exact.

    For each feature f, the step v = round(f * r), r = 0.0390625 / scale, holds exactly when
    (2v - 1) / 2f <= multiplier / 2^shift < (2v + 1) / 2f (no upper bound once v saturates). The bounds of all
    features leave an interval around r. Its ends differ by at least 1 / (4 f g) for the two features f and g
    that set them, and those that matter are at most 256 / r, so that a multiplier of 32 bits always exists.

    `scale` is any positive float32, subnormal numbers included; the multiplier is a uint32, the shift 1 to 62.
    """
    ratio = Fraction(FEATURE_SCALE) / Fraction(float(Quantization(np.float32(scale), zero_point).scale))
    low, high = _bounds(ratio, 127 - zero_point)
    for shift in range(1, 63):
        multiplier = math.ceil(low * (1 << shift))
        if Fraction(multiplier, 1 << shift) < high:
            return multiplier, shift
    raise EdgewakeError(f"input scale {scale}, zero point {zero_point}: no multiplier is exact: report this")


def _bounds(ratio: Fraction, top: int) -> tuple[Fraction, Fraction | float]:
    """The interval [low, high) of ratios that give min(round(f * ratio), top), ties upwards, for every feature f.

    float64 finds the features that set the ends: fractions of such small numbers differ by far more than it rounds.
    """
    half, denominator = ratio.denominator, 2 * ratio.denominator
    steps = [min((2 * f * ratio.numerator + half) // denominator, top) for f in range(1, FEATURES)]
    value, twice = np.array(steps), 2 * np.arange(1, FEATURES)
    lowest = int(np.argmax((2 * value - 1) / twice))
    highest = int(np.argmin(np.where(value < top, (2 * value + 1) / twice, np.inf)))
    low = Fraction(max(2 * steps[lowest] - 1, 0), int(twice[lowest]))
    unbounded = steps[highest] == top
    return low, math.inf if unbounded else Fraction(2 * steps[highest] + 1, int(twice[highest]))
