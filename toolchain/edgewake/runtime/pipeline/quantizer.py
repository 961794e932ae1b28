"""Multiplier and shift that quantize each of the 65,536 features exactly as the rational number would."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import Quantization

FEATURE_SCALE = Fraction(10, 256)
"""Real value of one unit of a uint16 feature (0.0390625)."""

FEATURES = 1 << 16


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

    Args:
        scale: float32 scale of the input; positive and finite, subnormal numbers included.
        zero_point: -128 to 127.

    Returns:
        (multiplier, shift): uint32, and 1 to 62.

    Raises:
        EdgewakeError: scale or zero point is not a quantization.
    """
    ratio = FEATURE_SCALE / Fraction(float(Quantization(np.float32(scale), zero_point).scale))
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
