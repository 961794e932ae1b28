"""Variation of audio that is a function of samples, settings and generator alone.

Order: voice, speed and shift, a second talker, the recording's line (bandwidth, response, bit depth, codec), room,
background, level, clipping, noise floor. What a source did to its recordings is thus done to positives and
negatives alike at random, so that a model cannot tell them by bandwidth, codec or digital silence.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft
import scipy.signal
import soundfile as sf
import soxr

from edgewake.config import AugmentationConfig
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.data.mixing import Audio, NoisePool, active_power, active_region, find_peak, mix_at_snr, stretch
from edgewake.data.reading import SAMPLE_RATE, Samples, to_float, to_int16
from edgewake.synthesis.speakers import changed, draw_change
from edgewake.synthesis.speech import Speech

Range = tuple[float, float]

_BANK_SECONDS = 30
# A tail this far down is below the noise of the rooms it is used in; cutting it halves the convolution.
_RIR_FLOOR_DB = -45.0
_RIR_SECONDS = 1.0
_DIRECT_SAMPLES = SAMPLE_RATE // 400
# Praat looks for a pitch in windows of this length, 3 / 60 Hz.
_LEAST_VOICE = SAMPLE_RATE // 10
# A change of line after the background stands for the microphone's own; before it, for the recording's.
_LATE_LINE_SHARE = 0.3
_FLOOR_BELOW_PEAK_DB = 40.0
# libsndfile's compression levels that land near the bit rates of the corpora (16 to 48 kbit/s).
_CODECS: dict[str, tuple[str, str, Range]] = {
    "vorbis": ("OGG", "VORBIS", (0.5, 1.0)),
    "mp3": ("MP3", "MPEG_LAYER_III", (0.4, 0.95)),
    "opus": ("OGG", "OPUS", (0.86, 0.97)),
}


class RirPool:
    """Rooms: measured responses, aligned to their direct path, and generated ones."""

    def __init__(self, responses: Sequence[Audio], simulated: Sequence[Audio] = ()) -> None:
        self.responses = [align_response(response) for response in responses]
        self.simulated = simulated

    @classmethod
    def from_manifest(
        cls, manifest: CorpusManifest, split: Split = "train", simulated: Sequence[Audio] = ()
    ) -> RirPool:
        """The responses of one split; errors as in `CorpusManifest.read`."""
        return cls([to_float(manifest.read(entry)) for entry in manifest.select(split=split, kind="rir")], simulated)

    def draw(self, rng: np.random.Generator, synthetic_share: float, rt60_s: Range = (0.1, 0.9)) -> Audio:
        """A response; generated (simulated, if there are such) with chance `synthetic_share`, or if none is measured.

        A measured one gets its direct path raised by up to 12 dB, as from nearby: few rooms become many.
        """
        if not self.responses or rng.random() < synthetic_share:
            if len(self.simulated):
                return align_response(self.simulated[int(rng.integers(len(self.simulated)))])
            return synthetic_response(rng, rt60_s)
        response = self.responses[int(rng.integers(len(self.responses)))].copy()
        response[:_DIRECT_SAMPLES] *= np.float32(10 ** (rng.uniform(0, 12) / 20))
        return _unit_energy(response)


def align_response(response: Audio) -> Audio:
    """Start a measured response at its direct path (its peak), cut its inaudible tail, give it energy 1."""
    if find_peak(response) == 0:
        raise ValueError("a room's response is all zeros")
    response = response[int(np.argmax(np.abs(response))) :]
    # Schroeder 1965: energy still to come, as a share of all.
    remaining = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    audible = int(np.count_nonzero(remaining > remaining[0] * 10 ** (_RIR_FLOOR_DB / 10)))
    response = response[: max(1, min(audible, int(_RIR_SECONDS * SAMPLE_RATE)))].astype(np.float32)
    if fade := min(len(response) // 4, SAMPLE_RATE // 50):
        response[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return _unit_energy(response)


def synthetic_response(rng: np.random.Generator, rt60_s: Range = (0.1, 0.9)) -> Audio:
    """A generated room: direct path, a pause, and noise that decays by 60 dB in a random RT60, treble faster.

    Direct-to-reverberant ratio from -3 to 15 dB; energy 1.
    """
    rt60 = rng.uniform(*rt60_s)
    length = max(_DIRECT_SAMPLES * 4, int(min(rt60 * -_RIR_FLOOR_DB / 60, _RIR_SECONDS) * SAMPLE_RATE))
    time = np.arange(length, dtype=np.float32)
    decay = np.float32(3 * math.log(10) / (rt60 * SAMPLE_RATE))
    treble = rng.standard_normal(length, dtype=np.float32) * np.exp(-1.6 * decay * time)
    bass = stretch(_noise_bank()["pink"], length, rng) * np.exp(-decay * time)
    tail = treble / np.float32(_rms(treble)) + bass / np.float32(_rms(bass))
    tail[: int(rng.uniform(0.001, 0.012) * SAMPLE_RATE)] = 0
    ratio = 10 ** (rng.uniform(-3, 15) / 20)
    tail[0] = ratio * math.sqrt(float(np.square(tail).sum()))
    return _unit_energy(tail)


def _unit_energy(response: Audio) -> Audio:
    return response / np.float32(math.sqrt(float(np.square(response, dtype=np.float64).sum())))


def _rms(audio: Audio) -> float:
    return math.sqrt(float(np.mean(np.square(audio)))) or 1.0


@cache
def _noise_bank() -> dict[str, Audio]:
    """White, pink and brown noise of RMS 1, made once: drawing a stretch is cheaper than drawing samples."""
    rng = np.random.default_rng(0x5EED)
    length = _BANK_SECONDS * SAMPLE_RATE
    spectrum = scipy.fft.rfft(rng.standard_normal(length, dtype=np.float32))
    frequency = np.maximum(np.arange(len(spectrum), dtype=np.float32) / _BANK_SECONDS, 20)
    bank = {}
    for name, exponent in (("white", 0.0), ("pink", 0.5), ("brown", 1.0)):
        noise = scipy.fft.irfft(spectrum / frequency**exponent, length).astype(np.float32)
        bank[name] = noise / np.float32(_rms(noise))
    return bank


def synthetic_noise(length: int, rng: np.random.Generator) -> Audio:
    """White, pink or brown noise, at times with mains hum: float32, (length,), RMS 1."""
    bank = _noise_bank()
    noise = stretch(bank[list(bank)[int(rng.integers(3))]], length, rng)
    if rng.random() < 0.3:
        level, base = np.float32(rng.uniform(0.3, 2.0)), 50.0 if rng.random() < 0.5 else 60.0
        phase = np.arange(length, dtype=np.float32) * np.float32(2 * math.pi * base / SAMPLE_RATE)
        hum = sum(np.float32(rng.uniform(0, 1) / harmonic) * np.sin(harmonic * phase) for harmonic in (1, 2, 3, 5))
        noise = noise + level * hum
    return noise / np.float32(_rms(noise))


def impulsive_noise(length: int, rng: np.random.Generator) -> Audio:
    """Trains of short decaying sounds, such as keys, knocks, hooves and rain: float32, (length,), RMS 1.

    One to three sounds, each a resonance mixed with noise, at 1.5 to 100 a second, evenly or at random.
    """
    out = np.zeros(length, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        rate, resonance, decay = (
            math.exp(rng.uniform(math.log(low), math.log(high)))
            for low, high in ((1.5, 100.0), (150.0, 6000.0), (0.001, 0.03))
        )
        time = np.arange(int(5 * decay * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
        tone = np.sin(np.float32(2 * math.pi * resonance) * time)
        noisy = np.float32(rng.random())
        sound = (tone + noisy * rng.standard_normal(len(time), dtype=np.float32)) * np.exp(-time / np.float32(decay))
        count = int(2 * rate * length / SAMPLE_RATE) + 2
        gaps = rng.exponential(1, count) if rng.random() < 0.5 else rng.uniform(0.8, 1.2, count)
        # One within the stretch at least.
        gaps[0] = rng.random() * min(1.0, rate * (length - 1) / SAMPLE_RATE)
        at = (np.cumsum(gaps / rate) * SAMPLE_RATE).astype(np.int64)
        at = at[at < length]
        strikes = np.zeros(length, np.float32)
        strikes[at] = rng.lognormal(0, 0.5, len(at)) * rng.lognormal(0, 0.5)
        out += scipy.signal.oaconvolve(strikes, sound)[:length].astype(np.float32)
    return out / np.float32(_rms(out))


def change_speed(audio: Audio, factor: float) -> Audio:
    """Play `factor` times as fast, pitch with it: (samples,) -> (about samples / factor,)."""
    if len(audio) == 0 or factor == 1:
        return audio
    # soxr sees the same samples as if they had been taken at another rate.
    return np.asarray(soxr.resample(audio, SAMPLE_RATE * factor, SAMPLE_RATE, "MQ"), np.float32)


def fit(audio: Audio, length: int, rng: np.random.Generator) -> Audio:
    """Exactly `length` samples: a shorter clip goes to a random place, a longer one keeps its active part."""
    excess = len(audio) - length
    if excess == 0:
        return audio
    if excess < 0:
        start = int(rng.integers(-excess + 1))
        return np.pad(audio, (start, -excess - start))
    first, last = active_region(audio)
    # Every start in [low, high] keeps all of the active part; when it does not fit, keep its middle.
    low, high = max(0, last - length), min(first, excess)
    start = min(excess, max(0, (first + last - length) // 2)) if low > high else int(rng.integers(low, high + 1))
    return audio[start : start + length]


def shift(audio: Audio, samples: int) -> Audio:
    """Later by `samples` (earlier if negative); what enters is silence."""
    padding = np.zeros(min(abs(samples), len(audio)), audio.dtype)
    kept = len(audio) - len(padding)
    return np.concatenate([padding, audio[:kept]] if samples >= 0 else [audio[len(padding) :], padding])


def reverberate(audio: Audio, response: Audio) -> Audio:
    """Convolve with a response whose direct path is at 0: same length, nothing delayed."""
    return np.asarray(scipy.signal.oaconvolve(audio, response), np.float32)[: len(audio)]


def shape_spectrum(audio: Audio, cutoff_hz: float | None, gains_db: Sequence[float]) -> Audio:
    """Zero-phase filter: a low-pass with a steep edge at `cutoff_hz`, and gains, if any, at octaves from 62.5 Hz on."""
    size = scipy.fft.next_fast_len(len(audio), real=True)
    spectrum = scipy.fft.rfft(audio, size)
    frequency = np.arange(len(spectrum), dtype=np.float32) * np.float32(SAMPLE_RATE / size)
    if len(gains_db):
        octave = np.log2(np.maximum(frequency, 62.5) / np.float32(62.5))
        spectrum *= (10 ** (np.interp(octave, range(len(gains_db)), gains_db) / 20)).astype(np.float32)
    if cutoff_hz is not None:
        # A raised cosine over 6 % of the edge: the rolloff of resamplers and MP3 encoders, without ringing.
        width = 0.06 * cutoff_hz
        edge = np.clip((frequency - np.float32(cutoff_hz - width)) / np.float32(width), 0, 1)
        spectrum *= 0.5 * (1 + np.cos(np.float32(math.pi) * edge))
    return np.asarray(scipy.fft.irfft(spectrum, size), np.float32)[: len(audio)]


def requantize(audio: Audio, law: str) -> Audio:
    """Round to 256 levels of the clip's own peak: `linear` as old games, `mulaw` as telephones (G.711)."""
    peak = np.float32(find_peak(audio))
    if peak == 0:
        return audio
    value, levels, scale = audio / peak, np.float32(127), np.float32(math.log(256))
    if law == "mulaw":
        value = np.sign(value) * np.log1p(np.float32(255) * np.abs(value)) / scale
    value = np.rint(value * levels) / levels
    if law == "mulaw":
        value = np.sign(value) * np.expm1(np.abs(value) * scale) / np.float32(255)
    return np.asarray(value * peak, np.float32)


def recode(audio: Audio, codec: str, level: float) -> Audio:
    """Encode and decode: same length, no delay; `level` is libsndfile's compression level, 0 to 1."""
    container, subtype, _ = _CODECS[codec]
    # Encoders clip at 1.0; a little room keeps the codec's own overshoot out of it.
    peak = np.float32(max(find_peak(audio), 1e-6) * 1.1)
    memory = io.BytesIO()
    with sf.SoundFile(memory, "w", SAMPLE_RATE, 1, subtype=subtype, format=container, compression_level=level) as file:
        file.write(audio / peak)
    memory.seek(0)
    decoded = sf.read(memory, dtype="float32")[0][: len(audio)]
    return np.pad(decoded, (0, len(audio) - len(decoded))).astype(np.float32) * peak


@cache
def available_codecs() -> frozenset[str]:
    """Codecs that the installed libsndfile can write."""
    # A container that libsndfile lacks has no subtypes.
    return frozenset(name for name, (container, kind, _) in _CODECS.items() if kind in sf.available_subtypes(container))


@dataclass(frozen=True)
class Augmenter:
    """Draws and applies the variation that an `AugmentationConfig` describes; without backgrounds, generates them.

    Without `talkers`, recordings of speech, there is no second one.
    """

    config: AugmentationConfig
    noise_pool: NoisePool
    rir_pool: RirPool
    talkers: NoisePool | None = None

    @classmethod
    def from_manifest(cls, config: AugmentationConfig, manifest: CorpusManifest, split: Split = "train") -> Augmenter:
        """With the noise, music and rooms of one split."""
        return cls(config, NoisePool.from_manifest(manifest, split), RirPool.from_manifest(manifest, split))

    def speed(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Only the change of voice and speed, for callers that place the result themselves: its length changes."""
        return to_int16(self._speech(to_float(samples), rng))

    def __call__(
        self, samples: Samples, rng: np.random.Generator, *, length: int | None = None, speed: bool = True
    ) -> Samples:
        """One variation of a clip: int16, (samples,) at 16 kHz, to int16, (length,); `rng` decides everything.

        A shorter clip is filled before room and background are added, so that no digital silence marks it. `speed`
        is False when the caller has changed the speed and placed the phrase, which then stays there.
        """
        config = self.config
        length = len(samples) if length is None else length
        audio = to_float(samples)
        if not config.enabled:
            return to_int16(fit(audio, length, rng))
        if speed:
            audio = self._speech(audio, rng)
        audio = fit(audio, length, rng)
        if speed and config.time_shift_ms > 0:
            limit = int(config.time_shift_ms * SAMPLE_RATE / 1000)
            audio = shift(audio, int(rng.integers(-limit, limit + 1)))
        heavy = rng.random() < config.heavy_share
        if self.talkers and rng.random() < config.talker_prob:
            audio = mix_at_snr(audio, self.talkers.draw(length, rng), rng.uniform(*config.talker_db))
        late = rng.random() < _LATE_LINE_SHARE
        if not late:
            audio = self._line(audio, rng)
        if rng.random() < (config.heavy_rir_prob if heavy else config.rir_prob):
            audio = reverberate(audio, self.rir_pool.draw(rng, config.synthetic_rir_share, config.rt60_s))
        if rng.random() < (config.heavy_background_prob if heavy else config.background_noise_prob):
            audio = self._background(audio, rng, config.heavy_snr_db if heavy else config.snr_db)
        if late:
            audio = self._line(audio, rng)
        return to_int16(self._level(audio, rng))

    def _speech(self, audio: Audio, rng: np.random.Generator) -> Audio:
        """By another speaker and at another speed, where either is drawn."""
        config = self.config
        if not config.enabled:
            return audio
        if rng.random() < config.voice_prob and len(audio) >= _LEAST_VOICE:
            change, seed = draw_change(rng), int(rng.integers(2**31))
            audio = changed(Speech(audio, SAMPLE_RATE), change, seed).audio
        if rng.random() < config.speed_prob:
            # Even in the logarithm: 0.85 and 1 / 0.85 are equally far from 1.
            low, high = config.speed
            audio = change_speed(audio, math.exp(rng.uniform(math.log(low), math.log(high))))
        return audio

    def _line(self, audio: Audio, rng: np.random.Generator) -> Audio:
        config = self.config
        cutoff = rng.uniform(*config.lowpass_hz) if rng.random() < config.lowpass_prob else None
        boost = config.equalizer_db
        gains = rng.uniform(-boost, boost, 8).tolist() if rng.random() < config.equalizer_prob else []
        if cutoff is not None or gains:
            audio = shape_spectrum(audio, cutoff, gains)
        if rng.random() < config.requantize_prob:
            audio = requantize(audio, "mulaw" if rng.random() < 0.5 else "linear")
        if rng.random() < config.codec_prob and (codecs := [c for c in config.codecs if c in available_codecs()]):
            codec = codecs[int(rng.integers(len(codecs)))]
            audio = recode(audio, codec, rng.uniform(*_CODECS[codec][2]))
        return audio

    def _background(self, audio: Audio, rng: np.random.Generator, snr_db: Range) -> Audio:
        if len(self.noise_pool) and rng.random() >= self.config.synthetic_noise_share:
            noise = self.noise_pool.draw(len(audio), rng)
        else:
            generate = impulsive_noise if rng.random() < self.config.impulse_share else synthetic_noise
            noise = generate(len(audio), rng)
        ratio = rng.uniform(*snr_db)
        # Without a level to measure the ratio against: the background alone, at whatever level comes next.
        return mix_at_snr(audio, noise, ratio) if active_power(audio) > 0 else noise

    def _level(self, audio: Audio, rng: np.random.Generator) -> Audio:
        config = self.config
        peak = find_peak(audio)
        if peak > 0 and rng.random() < config.gain_prob:
            target = 10 ** (rng.uniform(*config.peak_dbfs) / 20)
            audio, peak = audio * np.float32(target / peak), target
        if peak > 0 and rng.random() < config.clip_prob:
            drive = 10 ** (rng.uniform(*config.clip_db) / 20)
            audio = np.clip(audio * np.float32(drive / peak), -1, 1) * np.float32(min(peak, 1.0))
            peak = min(peak, 1.0)
        elif peak > 1:
            # Only `clip_prob` clips: a loud mixture is turned down instead.
            audio, peak = audio / np.float32(peak), 1.0
        if rng.random() < config.noise_floor_prob:
            level = rng.uniform(*config.noise_floor_dbfs)
            if peak > 0:
                level = min(level, 20 * math.log10(peak) - _FLOOR_BELOW_PEAK_DB)
            audio = audio + np.float32(10 ** (level / 20)) * synthetic_noise(len(audio), rng)
        return audio
