"""Constant tables of the frontend from a `FrontendConfig`, equal on every machine, and the check of its input.

The oracle computes its tables in float32 with libm. Each float32 operation is repeated here one by one, and
no CPU's vector library has a part in it. Cosine and power are evaluated in float64 and rounded, as libm does
in effect. The logarithm, where libm's last bit is not the rounded one and decides weights, is `log1p32`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewake.config.frontend import FrontendConfig
from edgewake.errors import AudioError, ConfigError

Int16 = NDArray[np.int16]
UInt16 = NDArray[np.uint16]

WINDOW_BITS = 12
FILTER_BITS = 12
NOISE_BITS = 14
NOISE_FACTORS = ("even_smoothing", "odd_smoothing", "min_signal_remaining")
SNR_BITS = 12
_F = np.float32


@dataclass(frozen=True)
class FrontendTables:
    """Tables and derived constants; shapes and formats as in `ew_frontend.h`."""

    config: FrontendConfig
    window: Int16
    fft_order: UInt16
    fft_twiddles: Int16
    real_twiddles: Int16
    bands: UInt16
    weights: UInt16
    unweights: UInt16
    even_smoothing: int
    odd_smoothing: int
    min_signal_remaining: int
    snr_shift: int
    gain_lut: Int16
    log_lut: UInt16


def build_tables(config: FrontendConfig) -> FrontendTables:
    """All tables of `config`, with a copy of it that a later change does not reach."""
    bands, weights, unweights = filterbank(config)
    half = config.fft_size // 2
    return FrontendTables(
        config=config.model_copy(deep=True),
        window=hann_window(config.window_samples),
        fft_order=fft_order(half),
        fft_twiddles=fft_twiddles(half),
        real_twiddles=real_twiddles(half),
        bands=bands,
        weights=weights,
        unweights=unweights,
        **{name: int(_F(getattr(config, name)) * _F(1 << NOISE_BITS)) for name in NOISE_FACTORS},
        snr_shift=config.pcan_gain_bits - config.correction_bits - SNR_BITS,
        gain_lut=gain_lut(config),
        log_lut=log_lut(),
    )


def check_samples(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """`samples` as contiguous int16; an AudioError where they are not one-dimensional int16."""
    samples = np.asarray(samples)
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise AudioError(
            f"samples are {samples.dtype} of shape {samples.shape}; the frontend takes int16 of shape (n,): "
            "convert to mono and scale floats by 32767"
        )
    return np.ascontiguousarray(samples)


def hann_window(size: int) -> Int16:
    """Hann window at half-sample offset, Q12, shape (size,)."""
    arg = _F(_F(math.pi) * _F(2.0)) / _F(size)
    cosine = np.array([math.cos(arg * (_F(i) + _F(0.5))) for i in range(size)]).astype(_F)
    value = _F(0.5) - _F(0.5) * cosine
    window: Int16 = np.floor(value * _F(1 << WINDOW_BITS) + _F(0.5)).astype(np.int16)
    return window


def q15(phase: float) -> tuple[int, int]:
    """cos and sin of `phase` (radians) in Q15: floor(0.5 + 32767 x)."""
    return math.floor(0.5 + 32767 * math.cos(phase)), math.floor(0.5 + 32767 * math.sin(phase))


def fft_stages(size: int) -> list[tuple[int, int]]:
    """Stages (radix, m) of the complex transform in running order; m is the number of frequencies so far."""
    stages = [(2, 1)] if size.bit_length() % 2 == 0 else [(4, 1)]
    m = stages[0][0]
    while m < size:
        stages.append((4, m))
        m *= 4
    return stages


def fft_order(size: int) -> UInt16:
    """Frequency of each block when 16 values of time are left per block, shape (size / 16,)."""
    order = np.zeros(1, np.int64)
    for radix, m in fft_stages(size)[:-2]:
        order = (order[:, None] + m * np.arange(radix)).reshape(-1)
    return order.astype(np.uint16)


def fft_twiddles(size: int) -> Int16:
    """Twiddles exp(-2 pi i q k / 4m) of the radix-4 stages but the first, Q15, in the order of use.

    A stage along time has (q = 1..3, re/im, repeated) for each of its blocks, a block having one frequency k;
    the last two stages, along frequency, have (q = 1..3, re/im, k < m) for all their blocks.
    """
    order = fft_order(size).astype(np.int64)
    parts = []
    for _, m in fft_stages(size)[1:]:
        values = [[q15(-2 * math.pi * (q * k * (size // (4 * m))) / size) for k in range(m)] for q in (1, 2, 3)]
        stage = np.array(values, np.int16).transpose(0, 2, 1)
        if 16 * m < size:
            blocks = stage[:, :, order[:: len(order) // m]].transpose(2, 0, 1)
            stage = np.repeat(blocks[..., None], size // (4 * m), axis=-1)
        parts.append(stage.reshape(-1))
    return np.concatenate(parts)


def real_twiddles(size: int) -> Int16:
    """Twiddles of the recombination, Q15, shape (2, size / 2): re and im for the bins 1 .. size / 2."""
    values = [q15(-math.pi * ((k + 1) / size + 0.5)) for k in range(size // 2)]
    return np.ascontiguousarray(np.array(values, np.int16).T)


_LOG1P_TERMS = tuple(_F(c) for c in (0.14798199, 0.15313838, 0.18183573, 0.22222199, 0.2857143, 0.4, 0.6666667))
_LN2_HIGH = _F(0.6931381225585938)
_LN2_LOW = _F(9.05800061445916e-06)


def log1p32(x: np.float32) -> np.float32:
    """ln(1 + x) for x >= 0, to the last bit of FDLIBM's float32 `log1pf` (glibc before 2.41, newlib, musl).

    1 + x = 2^k (1 + f), sqrt(1/2) < 1 + f < sqrt(2), s = f / (2 + f):
    ln(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)).
    """
    one = _F(1.0)
    k, f, carry = 0, x, _F(0.0)
    if x >= _F(0.41421356):
        u = one + x
        carry = (one - (u - x) if u >= 2 else x - (u - one)) / u
        mantissa, k = math.frexp(float(u))
        if mantissa < math.sqrt(0.5):
            mantissa, k = 2 * mantissa, k - 1
        f = _F(mantissa) - one
    half_square = _F(0.5) * f * f
    s = f / (_F(2.0) + f)
    z = s * s
    series = _F(0.0)
    for term in _LOG1P_TERMS:
        series = z * (term + series)
    if k == 0:
        return f - (half_square - s * (half_square + series))
    scale = _F(k)
    return scale * _LN2_HIGH - ((half_square - (s * (half_square + series) + (scale * _LN2_LOW + carry))) - f)


def _mel(hz: np.float32) -> np.float32:
    """1127 ln(1 + f/700)."""
    return _F(1127.0) * log1p32(hz / _F(700.0))


def filterbank(config: FrontendConfig) -> tuple[UInt16, UInt16, UInt16]:
    """Band edges in bins (channels + 2,), weights and unweights of the bins in the bands, Q12."""
    edges = config.channels + 1
    hz_per_bin = _F(_F(0.5) * _F(config.sample_rate)) / _F(config.fft_size // 2)
    low = _mel(_F(config.lower_hz))
    spacing = (_mel(_F(config.upper_hz)) - low) / _F(edges)
    centers = [low + spacing * _F(i + 1) for i in range(edges)]
    bands = [int(_F(1.5) + _F(config.lower_hz) / hz_per_bin)]
    weights: list[int] = []
    unweights: list[int] = []
    for below, center in zip([low, *centers], centers, strict=False):
        bin_index = bands[-1]
        while (mel := _mel(_F(bin_index) * hz_per_bin)) <= center:
            share = (center - mel) / (center - below)
            weights.append(math.floor(share * _F(1 << FILTER_BITS) + _F(0.5)))
            unweights.append(math.floor((_F(1.0) - share) * _F(1 << FILTER_BITS) + _F(0.5)))
            bin_index += 1
        bands.append(bin_index)
    if not weights or bands[-1] > config.fft_size // 2:
        raise ConfigError(
            f"lower_hz {config.lower_hz:g} to upper_hz {config.upper_hz:g} gives the bins {bands[0]} to "
            f"{bands[-1] - 1}; 1 or more below {config.fft_size // 2} are needed: widen band or window"
        )
    return np.array(bands, np.uint16), np.array(weights, np.uint16), np.array(unweights, np.uint16)


def _gain(config: FrontendConfig, x: int) -> int:
    """2^gain_bits * (x / 2^input_bits + offset)^-strength, rounded and saturated to int16."""
    input_bits = config.smoothing_bits - config.correction_bits
    base = _F(x) / _F(1 << input_bits) + _F(config.pcan_offset)
    power = _F(math.pow(float(base), -float(_F(config.pcan_strength))))
    gain = _F(1 << config.pcan_gain_bits) * power
    return 32767 if gain > 32767 else int(gain + _F(0.5))


def gain_lut(config: FrontendConfig) -> Int16:
    """PCAN's gain over the noise estimate: f(0), f(1), then {y0, a1, a2, 0} for the octaves 2 to 32."""
    lut = np.zeros(126, np.int64)
    lut[0], lut[1] = _gain(config, 0), _gain(config, 1)
    for octave in range(2, 33):
        x0 = 1 << (octave - 1)
        x2 = 2 * x0 if octave < 32 else 2 * x0 - 1
        y0, y1, y2 = (_gain(config, x) for x in (x0, x0 + x0 // 2, x2))
        a1 = 4 * (y1 - y0) - (y2 - y0)
        lut[4 * octave - 6 : 4 * octave - 3] = y0, a1, (y2 - y0) - a1
    return lut[:125].astype(np.int16)


def log_lut() -> UInt16:
    """Q16 of log2(1 + i/128) - i/128, i = 0..128."""
    values = [math.log2(1 + i / 128) - i / 128 for i in range(129)]
    return np.array([math.floor(65536 * v + 0.5) for v in values], np.uint16)
