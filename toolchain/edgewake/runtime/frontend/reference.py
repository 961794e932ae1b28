"""The specification of the mel frontend in integer numpy: a function a step, bit for bit what C does.

Arrays are int64; where a step works in fewer bits, it wraps explicitly. The steps before the noise estimate
have no state, so they take many frames at once.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgewake.config.frontend import FrontendConfig
from edgewake.runtime.frontend.tables import (
    NOISE_BITS,
    SNR_BITS,
    WINDOW_BITS,
    FrontendTables,
    build_tables,
    check_samples,
    q15,
)

Ints = NDArray[np.int64]

_LN2_Q16 = 45_426
_LOG_BITS = 16
_SEGMENT_BITS = 7
_GAIN_FRACTION_BITS = 10
_SHRINK_BITS = 6
_FRAMES_AT_ONCE = 500


def wrap16(x: Ints) -> Ints:
    """The value that an int16 holds after storing `x`."""
    return ((x + (1 << 15)) & 0xFFFF) - (1 << 15)


def wrap32(x: Ints) -> Ints:
    """The value that a uint32 holds after storing `x`."""
    return x & 0xFFFFFFFF


def msb(x: Ints) -> Ints:
    """Position of the highest set bit, counted from 1; 0 for 0. Values below 2^32."""
    return np.asarray((x[..., None] >> np.arange(32) != 0).sum(axis=-1), np.int64)


def round_q15(x: Ints) -> Ints:
    """A Q30 product (or sum of products) in Q15, rounded half up, stored in an int16."""
    return wrap16((x + (1 << 14)) >> 15)


def window(frames: Ints, table: Ints) -> tuple[Ints, Ints]:
    """Step 1. Windowed frames (frames, n) and their largest magnitude (frames,).

    The magnitude is taken in 16 bits, where that of -32768 is -32768 and never the largest.
    """
    y = (frames * table) >> WINDOW_BITS
    magnitude = wrap16(np.abs(y)).max(axis=-1, initial=0)
    return y, magnitude


def scale(windowed: Ints, largest: Ints, fft_size: int) -> tuple[Ints, Ints]:
    """Step 2. Frames shifted left to fill 16 bits, zero-padded (frames, fft_size), and shifts (frames,)."""
    shift = 15 - msb(largest)
    shifted = wrap16(windowed << shift[:, None])
    return np.pad(shifted, ((0, 0), (0, fft_size - shifted.shape[-1]))), shift


@lru_cache(maxsize=64)
def _twiddles(radix: int, m: int) -> tuple[Ints, Ints]:
    """exp(-2 pi i q k / (radix m)) in Q15 for q = 1 .. radix - 1, k < m: real and imaginary parts."""
    values = [[q15(-2 * math.pi * (q * k) / (radix * m)) for k in range(m)] for q in range(1, radix)]
    real, imaginary = np.moveaxis(np.array(values, np.int64), -1, 0)
    return real, imaginary


def complex_fft(re: Ints, im: Ints) -> tuple[Ints, Ints]:
    """Step 3, first half. Complex FFT along the last axis (a power of 2), scaled by 1/n, decimation in time.

    Radix 4 outside, radix 2 innermost when a factor of 2 is left. Before a butterfly each value is
    multiplied by floor(32767 / radix) in Q15.
    """
    n = re.shape[-1]
    if n == 1:
        return re, im
    radix = 4 if n % 4 == 0 else 2
    m = n // radix
    re, im = complex_fft(*(v.reshape(*v.shape[:-1], m, radix).swapaxes(-1, -2) for v in (re, im)))
    re, im = (round_q15(v * (32767 // radix)) for v in (re, im))
    wr, wi = _twiddles(radix, m)
    ar, ai, xr, xi = re[..., 0, :], im[..., 0, :], re[..., 1:, :], im[..., 1:, :]
    tr, ti = round_q15(xr * wr - xi * wi), round_q15(xr * wi + xi * wr)
    if radix == 2:
        outputs = [(ar + tr[..., 0, :], ai + ti[..., 0, :]), (ar - tr[..., 0, :], ai - ti[..., 0, :])]
    else:
        (br, cr, dr), (bi, ci, di) = np.moveaxis(tr, -2, 0), np.moveaxis(ti, -2, 0)
        outputs = [
            (ar + cr + br + dr, ai + ci + bi + di),
            (ar - cr + bi - di, ai - ci - br + dr),
            (ar + cr - br - dr, ai + ci - bi - di),
            (ar - cr - bi + di, ai - ci + br - dr),
        ]
    real, imaginary = (wrap16(np.concatenate(parts, axis=-1)) for parts in zip(*outputs, strict=True))
    return real, imaginary


def real_fft(samples: Ints, twiddles: Ints) -> tuple[Ints, Ints]:
    """Step 3, second half. Real and imaginary parts of the bins 0 .. n/2 - 1 of (frames, n); bin 0 is left 0.

    Even and odd samples are transformed as real and imaginary parts; each bin k and its mirror n/2 - k follow
    from the two values there. The middle bin is computed twice, and its mirror's value stays.
    """
    half = samples.shape[-1] // 2
    re, im = complex_fft(samples[:, 0::2], samples[:, 1::2])
    k = np.arange(1, half // 2 + 1)
    wr, wi = twiddles.reshape(2, -1)
    pr, pi = round_q15(re[:, k] * 16383), round_q15(im[:, k] * 16383)
    qr, qi = round_q15(re[:, half - k] * 16383), round_q15(wrap16(-im[:, half - k]) * 16383)
    sum_r, sum_i, dif_r, dif_i = pr + qr, pi + qi, pr - qr, pi - qi
    tr, ti = round_q15(dif_r * wr - dif_i * wi), round_q15(dif_r * wi + dif_i * wr)
    out_r, out_i = np.zeros_like(re), np.zeros_like(im)
    out_r[:, k], out_i[:, k] = (sum_r + tr) >> 1, (sum_i + ti) >> 1
    out_r[:, half - k], out_i[:, half - k] = (sum_r - tr) >> 1, (ti - sum_i) >> 1
    return out_r, out_i


def energy(re: Ints, im: Ints) -> Ints:
    """Step 4. Squared magnitude of each bin, below 2^31."""
    return re * re + im * im


def filterbank(energies: Ints, tables: FrontendTables) -> Ints:
    """Step 5. Power of each channel (frames, channels) from the bins (frames, bins).

    A bin of the band b gives its weighted energy to the channel b - 1, its unweighted one to the channel b.
    """
    first = int(tables.bands[0])
    power = np.zeros((len(energies), tables.config.channels + 2), np.int64)
    for band, (start, end) in enumerate(zip(tables.bands[:-1], tables.bands[1:], strict=True)):
        bins, shares = slice(int(start), int(end)), slice(int(start) - first, int(end) - first)
        power[:, band] += (energies[:, bins] * tables.weights[shares]).sum(axis=-1)
        power[:, band + 1] += (energies[:, bins] * tables.unweights[shares]).sum(axis=-1)
    return power[:, 1:-1]


def square_root(power: Ints, shift: Ints) -> Ints:
    """Step 6. Amplitude of each channel, rounded to nearest, with the shift of step 2 taken back.

    The root of a power below 2^32 saturates at 65535.
    """
    roots = np.array([math.isqrt(int(x)) for x in power.ravel()], np.int64).reshape(power.shape)
    limit = np.where(power < 1 << 32, 0xFFFF, 0xFFFFFFFF)
    roots += (power - roots * roots > roots) & (roots != limit)
    return np.asarray(roots >> shift[:, None], np.int64)


def noise_reduction(signal: Ints, estimate: Ints, tables: FrontendTables) -> tuple[Ints, Ints]:
    """Step 7. Signal less noise, and the new noise estimate, both (channels,)."""
    config = tables.config
    factor = np.where(np.arange(len(signal)) % 2 == 0, tables.even_smoothing, tables.odd_smoothing)
    up = wrap32(signal << config.smoothing_bits)
    estimate = wrap32((up * factor + estimate * ((1 << NOISE_BITS) - factor)) >> NOISE_BITS)
    if not config.noise_reduction:
        return signal, estimate
    floor = wrap32((signal * tables.min_signal_remaining) >> NOISE_BITS)
    return np.maximum((up - np.minimum(estimate, up)) >> config.smoothing_bits, floor), estimate


def gain(estimate: Ints, lut: Ints) -> Ints:
    """Step 8, first half. PCAN's gain by noise level, quadratic in an octave: an int16 read as uint32."""
    octave = msb(estimate)
    entry = np.where(estimate <= 2, 0, 4 * octave - 6)
    fraction_mask = (1 << _GAIN_FRACTION_BITS) - 1
    up, down = np.maximum(11 - octave, 0), np.maximum(octave - 11, 0)
    t = ((estimate << up) >> down) & fraction_mask
    rise = (((lut[entry + 2] * t) >> 5) + (lut[entry + 1] << 5)) * t
    stored = wrap32(rise + (1 << 14) + (1 << 31)) - (1 << 31)  # in an int32
    curve = (stored >> 15) + lut[entry]
    return wrap32(wrap16(np.where(estimate <= 2, lut[np.minimum(estimate, 2)], curve)))


def pcan(signal: Ints, estimate: Ints, tables: FrontendTables) -> Ints:
    """Step 8, second half. Signal x gain as an SNR in Q12, squared below 2 and linear above, in Q6."""
    snr = wrap32((signal * gain(estimate, tables.gain_lut.astype(np.int64))) >> tables.snr_shift)
    low = (snr * snr) >> (2 + 2 * SNR_BITS - _SHRINK_BITS)
    high = (snr >> (SNR_BITS - _SHRINK_BITS)) - (1 << _SHRINK_BITS)
    return np.where(snr < 2 << SNR_BITS, low, high)


def log(signal: Ints, tables: FrontendTables) -> Ints:
    """Step 9. Natural logarithm times 2^log_scale_shift, 0 for values of at most 1, saturated to uint16."""
    value = wrap32(signal << tables.config.correction_bits)
    x = np.maximum(value, 2)
    integer = msb(x) - 1
    rest = x - (np.int64(1) << integer)
    mantissa = (rest << np.maximum(_LOG_BITS - integer, 0)) >> np.maximum(integer - _LOG_BITS, 0)
    segment = mantissa >> (_LOG_BITS - _SEGMENT_BITS)
    within = mantissa - (segment << (_LOG_BITS - _SEGMENT_BITS))
    lut = tables.log_lut.astype(np.int64)
    correction = lut[segment] + (((lut[segment + 1] - lut[segment]) * within) >> _LOG_BITS)
    log2 = (integer << _LOG_BITS) + mantissa + correction
    half = 1 << (_LOG_BITS - 1)
    natural = (_LN2_Q16 * log2 + half) >> _LOG_BITS
    result = ((natural << tables.config.log_scale_shift) + half) >> _LOG_BITS
    return np.where(value > 1, np.minimum(result, 0xFFFF), 0)


class ReferenceFrontend:
    """The reference as a stream: features depend on the samples since `reset`, never on how they are cut."""

    def __init__(self, config: FrontendConfig | None = None) -> None:
        self._tables = build_tables(config or FrontendConfig())
        self.config = self._tables.config
        self.reset()

    def reset(self) -> None:
        """Restore the state of a new frontend."""
        self._pending = np.zeros(0, np.int16)
        self._estimate = np.zeros(self.config.channels, np.int64)

    def process(self, samples: NDArray[np.int16]) -> NDArray[np.uint16]:
        """Take int16 samples (n,); return the frames that they complete, uint16 (frames, channels)."""
        samples = np.concatenate([self._pending, check_samples(samples)])
        config, tables, step = self.config, self._tables, self.config.step_samples
        count = config.frames(len(samples))
        self._pending = samples[count * step :]
        features = np.zeros((count, config.channels), np.uint16)
        if count == 0:
            return features
        frames = np.lib.stride_tricks.sliding_window_view(samples, config.window_samples)[::step]
        for start in range(0, count, _FRAMES_AT_ONCE):
            block = frames[start : min(start + _FRAMES_AT_ONCE, count)].astype(np.int64)
            windowed, largest = window(block, tables.window.astype(np.int64))
            padded, shift = scale(windowed, largest, config.fft_size)
            power = filterbank(energy(*real_fft(padded, tables.real_twiddles.astype(np.int64))), tables)
            for index, amplitude in enumerate(square_root(power, shift), start):
                signal, self._estimate = noise_reduction(amplitude, self._estimate, tables)
                signal = pcan(signal, self._estimate, tables) if config.pcan else signal
                features[index] = log(signal, tables)
        return features
