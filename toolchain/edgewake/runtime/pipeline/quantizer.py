"""Multiplier and shift that quantize each of the 65,536 features exactly as the rational number would."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError

FEATURE_SCALE = Fraction(10, 256)
"""Real value of one unit of a uint16 feature (0.0390625)."""

FEATURES = 1 << 16
MAX_SHIFT = 62
MAX_MULTIPLIER = 2**32 - 1


def exact_steps(scale: np.float32, zero_point: int) -> npt.NDArray[np.int64]:
    """min(round(f * 0.0390625 / scale), 127 - zero_point) for every feature f, ties away from zero: (65536,).

    Exact rational arithmetic: a float32 is a rational number, and so is the ratio.
    """
    ratio = FEATURE_SCALE / Fraction(float(np.float32(scale)))
    top = 127 - zero_point
    numerator, denominator = 2 * ratio.numerator, 2 * ratio.denominator
    half = ratio.denominator
    steps = np.full(FEATURES, top, np.int64)
    for feature in range(FEATURES):
        value = (feature * numerator + half) // denominator
        if value >= top:
            break
        steps[feature] = value
    return steps


def quantize(features: npt.NDArray[np.uint16], multiplier: int, shift: int, zero_point: int) -> npt.NDArray[np.int8]:
    """What the C core computes: clamp(((f * multiplier + 2^(shift-1)) >> shift) + zero_point), any shape."""
    product = features.astype(np.uint64) * np.uint64(multiplier) + np.uint64(1 << (shift - 1))
    rounded = np.minimum(product >> np.uint64(shift), np.uint64(127 - zero_point))
    result: npt.NDArray[np.int8] = (rounded.astype(np.int64) + zero_point).astype(np.int8)
    return result


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
    scale = np.float32(scale)
    if not (np.isfinite(scale) and scale > 0):
        raise EdgewakeError(f"input scale {scale} is not a positive number; train with QAT again")
    if not -128 <= zero_point <= 127:
        raise EdgewakeError(f"input zero point {zero_point} is outside -128..127; train with QAT again")
    steps = exact_steps(scale, zero_point)
    low, high = _bounds(steps, 127 - zero_point)
    for shift in range(1, MAX_SHIFT + 1):
        multiplier = -((-low.numerator << shift) // low.denominator)
        if multiplier > MAX_MULTIPLIER:
            break
        if high is None or Fraction(multiplier, 1 << shift) < high:
            _verify(steps, multiplier, shift, zero_point)
            return multiplier, shift
    raise EdgewakeError(f"input scale {scale}, zero point {zero_point}: no 32-bit multiplier is exact: report this")


def _bounds(steps: npt.NDArray[np.int64], top: int) -> tuple[Fraction, Fraction | None]:
    """The interval [low, high) of ratios that give `steps`; high None means unbounded."""
    low, high = (0, 1), None
    for feature in range(1, FEATURES):
        value = int(steps[feature])
        if value > 0 and (2 * value - 1) * low[1] > low[0] * 2 * feature:
            low = (2 * value - 1, 2 * feature)
        if value >= top:
            break
        if high is None or (2 * value + 1) * high[1] < high[0] * 2 * feature:
            high = (2 * value + 1, 2 * feature)
    return Fraction(*low), None if high is None else Fraction(*high)


def _verify(steps: npt.NDArray[np.int64], multiplier: int, shift: int, zero_point: int) -> None:
    """Compare every feature with the exact steps; a difference would be a bug of the derivation."""
    every = np.arange(FEATURES, dtype=np.uint16)
    got = quantize(every, multiplier, shift, zero_point).astype(np.int64) - zero_point
    wrong = np.flatnonzero(got != steps)
    if len(wrong):
        first = int(wrong[0])
        raise EdgewakeError(
            f"feature {first} quantizes to {got[first]} instead of {steps[first]} steps "
            f"with multiplier {multiplier}, shift {shift}; report this"
        )
