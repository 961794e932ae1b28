"""The names of edgewake.conversion that need torch, for `lazy_loader` and for type checkers."""

from .clip_export import calibration_clips as calibration_clips
from .clip_export import tflite_input as tflite_input

__all__ = ["calibration_clips", "tflite_input"]
