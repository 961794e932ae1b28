"""The integer arithmetic of TensorFlow Lite Micro's int8 kernels, bit for bit, on numpy arrays.

The formulas are those of gemmlowp's fixed-point library (github.com/google/gemmlowp, fixedpoint.h and
doc/quantization.md) as TFLM uses them with double rounding (TFLITE_SINGLE_ROUNDING = 0). Values that are
int32 in C are held in int64 here and stay inside the int32 range; callers guarantee that products do.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


def quantize_multiplier(real: float) -> tuple[int, int]:
    """The multiplier in [2^30, 2^31) and the shift for which real ~ multiplier * 2^(shift - 31).

    A positive shift goes left. Multipliers below about 2^-32 become (0, 0), as in TFLM's QuantizeMultiplier.
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    fixed = math.floor(fraction * 2**31 + 0.5)
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, shift)


def rounding_divide_by_pot(value: Int64Array, exponent: int | Int64Array) -> Int64Array:
    """value / 2^exponent, rounded to nearest with halves away from zero."""
    half = (np.int64(1) << np.asarray(exponent, np.int64)) >> 1
    return np.asarray((value + half - ((value < 0) & (half > 0))) >> exponent, np.int64)


def doubling_high_mul(left: Int64Array, right: int | Int64Array) -> Int64Array:
    """left * right / 2^31, rounded to nearest with halves up (gemmlowp's SaturatingRoundingDoublingHighMul).

    The one saturating case, both operands -2^31, cannot occur with a non-negative multiplier.
    """
    return np.asarray((left * right + (1 << 30)) >> 31, np.int64)


def multiply_by_quantized_multiplier(
    value: Int64Array, multiplier: int | Int64Array, shift: int | Int64Array
) -> Int64Array:
    """value * multiplier * 2^(shift - 31) with TFLM's two roundings; numbers of one channel or of each."""
    left, right = np.maximum(shift, 0), np.maximum(np.negative(shift), 0)
    return rounding_divide_by_pot(doubling_high_mul(value << left, multiplier), right)
