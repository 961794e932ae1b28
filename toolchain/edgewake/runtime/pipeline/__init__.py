"""From samples to events: one integer algorithm, specified in Python and run by the C core of every board."""

from __future__ import annotations

from edgewake.runtime.pipeline.params import PipelineParams, Step, derive_quantizer, pipeline_params

__all__ = ["PipelineParams", "Step", "derive_quantizer", "pipeline_params"]
