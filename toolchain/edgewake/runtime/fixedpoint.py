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

INT32_MAX = 2**31 - 1
LOGISTIC_INTEGER_BITS = 4
LOGISTIC_SHIFT_RANGE = range(63)


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


def _shift_left_saturating(value: Int64Array, exponent: int) -> Int64Array:
    return np.asarray(np.clip(value << exponent, -(2**31), INT32_MAX), np.int64)


def _exp_on_quarter(value: Int64Array) -> Int64Array:
    """exp(value) for value in [-1/4, 0), both Q0.31: a Taylor polynomial of degree 4 around -1/8."""
    exp_minus_eighth, third = 1895147668, 715827883
    x = value + (1 << 28)
    x2 = doubling_high_mul(x, x)
    x3 = doubling_high_mul(x2, x)
    x4 = doubling_high_mul(x2, x2)
    tail = doubling_high_mul(rounding_divide_by_pot(x4, 2) + x3, third) + x2
    return exp_minus_eighth + doubling_high_mul(x + rounding_divide_by_pot(tail, 1), exp_minus_eighth)


def exp_on_negative_values(value: Int64Array) -> Int64Array:
    """exp(value) in Q0.31 for value <= 0 in Q4.27."""
    fraction_bits = 31 - LOGISTIC_INTEGER_BITS
    quarter = 1 << (fraction_bits - 2)
    fraction = (value & (quarter - 1)) - quarter
    result = _exp_on_quarter(_shift_left_saturating(fraction, LOGISTIC_INTEGER_BITS))
    remainder = fraction - value
    # exp(-2^e) in Q0.31 for e = -2 .. 3: one factor for each bit of what is left below the last quarter.
    for exponent, factor in enumerate((1672461947, 1302514674, 790015084, 290630308, 39332535, 720401), -2):
        bit = np.int64(1) << (fraction_bits + exponent)
        result = np.where(remainder & bit, doubling_high_mul(result, factor), result)
    return np.where(value == 0, INT32_MAX, result)


def one_over_one_plus(value: Int64Array) -> Int64Array:
    """1 / (1 + value) in Q0.31 for value in [0, 1] in Q0.31: three Newton-Raphson steps on the reciprocal."""
    half_denominator = (value + INT32_MAX + 1) // 2
    x = 1515870810 + doubling_high_mul(half_denominator, -1010580540)
    for _ in range(3):
        error = (1 << 29) - doubling_high_mul(half_denominator, x)
        x = x + _shift_left_saturating(doubling_high_mul(x, error), 2)
    return _shift_left_saturating(x, 1)


def logistic(value: Int64Array) -> Int64Array:
    """1 / (1 + exp(-value)) in Q0.31 for value in Q4.27."""
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(value)))
    return np.where(value == 0, 1 << 30, np.where(value > 0, positive, INT32_MAX - positive))


def logistic_table(scale: np.float32, zero_point: int) -> npt.NDArray[np.int8]:
    """What TFLM's int8 LOGISTIC gives for each of the 256 inputs: (256,), indexed by input + 128.

    The binary exponent of the input's scale must lie in `LOGISTIC_SHIFT_RANGE` - 27.
    """
    fraction, shift = math.frexp(float(scale) * 2.0 ** (31 - LOGISTIC_INTEGER_BITS))
    multiplier = math.floor(fraction * 2**31 + 0.5)
    radius = math.floor((2**LOGISTIC_INTEGER_BITS - 1) * 2.0 ** (31 - LOGISTIC_INTEGER_BITS) / 2.0**shift)
    centred = np.arange(-128, 128, dtype=np.int64) - zero_point
    inside = np.abs(centred) < radius
    q4 = multiply_by_quantized_multiplier(np.where(inside, centred, 0), multiplier, shift)
    level = rounding_divide_by_pot(logistic(q4), 31 - 8) - 128
    level = np.where(inside, np.clip(level, -128, 127), np.where(centred <= -radius, -128, 127))
    return level.astype(np.int8)
