"""The parameters of a pipeline are within the ranges that the C core accepts, or creating them raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.config.frontend import FrontendConfig
from edgewake.errors import ConfigError
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.events import refractory_steps
from edgewake.runtime.pipeline.quantizer import derive_quantizer

Infer = Callable[[npt.NDArray[np.int8]], int]
"""The model: int8 features of one step, (frames_per_step * channels,), oldest frame first -> int8 output."""

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
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"pipeline {name} = {value!r}: the core takes a whole number, {low} to {high}")

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


def pipeline_params(
    quantization: Quantization,
    settings: Mapping[str, Any],
    frontend: FrontendConfig,
    frames_per_step: int,
    *,
    cutoff: float | None = None,
) -> PipelineParams:
    """The C pipeline's parameters of a model. The one place where they are made.

    Args:
        quantization: of the model's input.
        settings: `window`, `cutoff_sum`, and `refractory_steps` or `refractory_s`, as model.json's info and
            manifest.json hold them; stored steps count as they are, seconds are rounded by `refractory_steps`.
        frontend: gives the channels and the length of a step.
        frames_per_step: frames that one inference consumes.
        cutoff: another probability cutoff than that of `settings`.

    Raises:
        ConfigError: a setting is missing or out of the core's range, or the cutoff is not in (0, 255/256].
    """
    for name in ("window", "cutoff_sum"):
        if name not in settings:
            raise ConfigError(f"the model's description lacks {name}: export the model again")
    steps = settings.get("refractory_steps")
    if steps is None:
        seconds = settings.get("refractory_s")
        if not isinstance(seconds, int | float):
            raise ConfigError(f"refractory_s = {seconds!r}: it must be a number of seconds, such as 1.0")
        steps = refractory_steps(seconds, frames_per_step * frontend.step_ms / 1000)
    multiplier, shift = derive_quantizer(quantization.scale, quantization.zero_point)
    params = PipelineParams(
        multiplier=multiplier,
        shift=shift,
        zero_point=quantization.zero_point,
        window=settings["window"],
        cutoff_sum=settings["cutoff_sum"],
        refractory_steps=steps,
        frames_per_step=frames_per_step,
        channels=frontend.channels,
    )
    if cutoff is None:
        return params
    if not 0 < cutoff <= 255 / 256:
        raise ConfigError(f"cutoff {cutoff} is out of range: it must be above 0 and at most 255/256 = 0.99609")
    # The slack lets a cutoff that was printed or rounded to float32 find its own sum again.
    return replace(params, cutoff_sum=max(1, math.ceil(cutoff * 256 * params.window - 1e-4)))
