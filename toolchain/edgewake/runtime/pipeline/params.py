"""The parameters of a pipeline are within the ranges that the C core accepts, or creating them raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewake.errors import ConfigError

Infer = Callable[[npt.NDArray[np.int8]], int]
"""The model: int8 features of one step, (frames_per_step * channels,), oldest frame first -> int8 output."""

# The limits of ew_pipeline.h, ew_quantizer.h and ew_smoother.h.
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
    """Everything between the frontend and an event, apart from the model.

    Attributes:
        multiplier: of the quantizer; see `derive_quantizer`.
        shift: of the quantizer.
        zero_point: of the model's input.
        window: smoothing window W in steps.
        cutoff_sum: smallest sum of the last W outputs + 128 that is an event; cutoff = cutoff_sum / (256 W).
        refractory_steps: distance to the next event at least, in steps; 0 and 1 allow an event at every step.
        frames_per_step: frames that one inference consumes.
        channels: features of one frame.

    Raises:
        ConfigError: a value is out of the core's range; names it, and the range.
    """

    multiplier: int
    shift: int
    zero_point: int
    window: int
    cutoff_sum: int
    refractory_steps: int
    frames_per_step: int = 3
    channels: int = 40

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"pipeline {name} = {value}: the core takes {low} to {high}")

    @property
    def cutoff(self) -> float:
        """Smallest smoothed probability that is an event."""
        return self.cutoff_sum / (256 * self.window)


@dataclass(frozen=True)
class Step:
    """One completed step.

    Attributes:
        sum: of the last W outputs + 128, zeros before the start: 0..255 W.
        detected: an event starts here.
        sample_index: samples taken since reset, up to the one that completed the step.
        output: the model's own int8 output.
    """

    sum: int
    detected: bool
    sample_index: int
    output: int
