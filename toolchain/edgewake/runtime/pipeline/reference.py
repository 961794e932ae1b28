"""The specification of the pipeline: quantizer, steps, probability, smoothing, cutoff, refractory time, in Python."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from edgewake.config.frontend import FrontendConfig
from edgewake.runtime.frontend.reference import ReferenceFrontend
from edgewake.runtime.pipeline.params import Infer, PipelineParams, Step, quantize


class Smoother:
    """Sum of the last W values with zeros before the start, and events at least `refractory_steps` apart."""

    def __init__(self, window: int, cutoff_sum: int, refractory_steps: int) -> None:
        self.window, self.cutoff_sum, self.refractory_steps = window, cutoff_sum, refractory_steps
        self.reset()

    def reset(self) -> None:
        """Forget all steps and events."""
        self.values: deque[int] = deque([0] * self.window, maxlen=self.window)
        self.steps = 0
        self.last_event: int | None = None

    def push(self, value: int) -> tuple[int, bool]:
        """Take the probability (0..65535) of one step; returns the sum and whether an event starts at this step."""
        self.values.append(value)
        total = sum(self.values)
        rested = self.last_event is None or self.steps - self.last_event >= self.refractory_steps
        detected = rested and total >= self.cutoff_sum
        if detected:
            self.last_event = self.steps
        self.steps += 1
        return total, detected


class ReferencePipeline:
    """Samples -> steps, slowly and clearly. The C pipeline computes the same for every input and chunking.

    Whoever resets the pipeline resets the model too.
    """

    def __init__(self, config: FrontendConfig, params: PipelineParams, infer: Infer) -> None:
        params.check_channels(config)
        self.config, self.params, self.infer = config, params, infer
        self.frontend = ReferenceFrontend(config)
        self.smoother = Smoother(params.window, params.cutoff_sum, params.refractory_steps)
        self.reset()

    def reset(self) -> None:
        """Restore the state before the first sample (not the model's)."""
        self.frontend.reset()
        self.smoother.reset()
        self.frames: list[npt.NDArray[np.int8]] = []
        self.steps = 0

    def process(self, samples: npt.NDArray[np.int16]) -> list[Step]:
        """Take (n,) int16 samples; returns the steps that they complete.

        Step s completes at sample window + step * (frames_per_step * (s + 1) - 1) since reset.
        """
        params = self.params
        steps = []
        for frame in self.frontend.process(samples):
            self.frames.append(quantize(frame, params.multiplier, params.shift, params.zero_point))
            if len(self.frames) < params.frames_per_step:
                continue
            output = int(self.infer(np.concatenate(self.frames)))
            self.frames.clear()
            total, detected = self.smoother.push(int(params.probabilities[output + 128]))
            last_frame = params.frames_per_step * (self.steps + 1) - 1
            index = self.config.window_samples + self.config.step_samples * last_frame
            steps.append(Step(total, detected, index, output))
            self.steps += 1
        return steps
