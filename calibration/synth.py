"""Speech-like sound and noise whose every sample is the same on every machine that has IEEE-754 doubles.

Only additions, multiplications, divisions and square roots in a fixed order are used: library sines,
exponentials, reductions and random generators may differ in the last bit between processors and releases, and
one bit flips a rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16000
FRAME = 80  # 5 ms: how often the vocal tract moves
Signal = NDArray[np.float64]

TAU = 6.283185307179586


class Draws:
    """Random numbers defined by their seed alone (SplitMix64, Steele et al. 2014, as a hash of a counter)."""

    def __init__(self, seed: int) -> None:
        self._next = seed << 32

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Signal:
        """`count` float64 in [low, high)."""
        counter = np.arange(self._next, self._next + count, dtype=np.uint64)
        self._next += count
        z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        return (z >> np.uint64(11)).astype(np.float64) * (high - low) / 2.0**53 + low

    def number(self, low: float, high: float) -> float:
        """One float in [low, high)."""
        return float(self.uniform(1, low, high)[0])

    def choice(self, items: str) -> str:
        """One word of a space-separated list."""
        words = items.split()
        return words[int(self.number(0, len(words)))]

    def noise(self, count: int) -> Signal:
        """White, near Gaussian (four uniforms), unit variance."""
        total = self.uniform(count, -1, 1)
        for _ in range(3):
            total = total + self.uniform(count, -1, 1)
        return total * 0.8660254037844386


def sine(turns: Signal) -> Signal:
    """sin(2 pi turns), by its Taylor series to x^15 on a quarter turn: error below 1e-11."""
    r = turns - np.rint(turns)
    r = np.where(np.abs(r) > 0.25, np.copysign(0.5, r) - r, r)
    x = r * TAU
    square = x * x
    total = np.ones_like(x)
    for k in (14, 12, 10, 8, 6, 4, 2):
        total = 1.0 - total * square / (k * (k + 1))
    return x * total


def exp(x: Signal) -> Signal:
    """e^x for |x| < 64, by its series at x / 64 and six squarings."""
    small = x / 64.0
    total = np.ones_like(small)
    for k in range(12, 0, -1):
        total = 1.0 + total * small / k
    for _ in range(6):
        total = total * total
    return total


def gain(decibels: float) -> float:
    """The amplitude ratio of a level in dB."""
    return float(exp(np.array([decibels * 0.11512925464970229]))[0])


def peak_at(signal: Signal, dbfs: float) -> Signal:
    """`signal` scaled so that its largest sample has the level `dbfs` (0 is full scale)."""
    return signal * (gain(dbfs) / np.max(np.abs(signal)))


def power(signal: Signal) -> float:
    """Mean square, summed in integers so that the order of summation cannot matter."""
    steps = np.rint(signal * 2.0**20).astype(np.int64)
    return float(int(np.sum(steps * steps >> 8)) / signal.size / 2.0**32)


def mix(signal: Signal, noise: Signal, snr_db: float) -> Signal:
    """`signal` with `noise` under it at a ratio of mean powers in dB."""
    ratio = float(np.sqrt(power(signal) / power(noise)))
    return signal + noise[: signal.size] * ratio * gain(-snr_db)


def to_int16(signal: Signal) -> NDArray[np.int16]:
    """Round to int16, full scale 32768, saturating."""
    return np.clip(np.rint(signal * 32768.0), -32768, 32767).astype(np.int16)


@dataclass(frozen=True)
class Voice:
    """How speakers differ: pitch (Hz), scale of formants, speed, breath, glottal tilt."""

    pitch: float
    tract: float
    speed: float
    breath: float
    tilt: float


VOICES = (
    Voice(pitch=95, tract=0.90, speed=0.95, breath=0.02, tilt=0.30),
    Voice(pitch=118, tract=0.96, speed=1.10, breath=0.04, tilt=0.22),
    Voice(pitch=135, tract=1.00, speed=1.30, breath=0.03, tilt=0.30),
    Voice(pitch=82, tract=0.86, speed=0.80, breath=0.06, tilt=0.40),
    Voice(pitch=190, tract=1.08, speed=1.00, breath=0.05, tilt=0.40),
    Voice(pitch=215, tract=1.14, speed=1.20, breath=0.08, tilt=0.25),
    Voice(pitch=235, tract=1.10, speed=0.85, breath=0.12, tilt=0.28),
    Voice(pitch=175, tract=1.04, speed=1.40, breath=0.03, tilt=0.15),
    Voice(pitch=285, tract=1.26, speed=1.05, breath=0.06, tilt=0.35),
    Voice(pitch=320, tract=1.32, speed=0.90, breath=0.05, tilt=0.20),
    Voice(pitch=150, tract=0.98, speed=1.15, breath=0.45, tilt=0.25),
    Voice(pitch=105, tract=0.93, speed=1.00, breath=0.15, tilt=0.35),
)


@dataclass(frozen=True)
class Phone:
    """A target of the vocal tract: ms, levels of voice, breath and hiss, formants and hiss bands (Hz)."""

    ms: float
    voice: float
    breath: float = 0.0
    hiss: float = 0.0
    formants: tuple[float, float, float] = (500, 1500, 2500)
    bands: tuple[float, float] = (3000, 5000)
    width: float = 600


# Formants of vowels: Peterson & Barney (1952), men; consonants: the usual loci of textbooks.
PHONES = {
    "i": Phone(120, 1.0, formants=(270, 2290, 3010)),
    "I": Phone(90, 1.0, formants=(390, 1990, 2550)),
    "e": Phone(110, 1.0, formants=(530, 1840, 2480)),
    "a": Phone(140, 1.0, formants=(660, 1720, 2410)),
    "A": Phone(150, 1.0, formants=(730, 1090, 2440)),
    "o": Phone(140, 1.0, formants=(570, 840, 2410)),
    "U": Phone(90, 1.0, formants=(440, 1020, 2240)),
    "u": Phone(130, 1.0, formants=(300, 870, 2240)),
    "V": Phone(100, 1.0, formants=(640, 1190, 2390)),
    "R": Phone(130, 0.9, formants=(490, 1350, 1690)),
    "@": Phone(60, 0.8, formants=(500, 1500, 2500)),
    "m": Phone(70, 0.35, formants=(250, 1000, 2200)),
    "n": Phone(65, 0.35, formants=(250, 1500, 2500)),
    "N": Phone(80, 0.35, formants=(250, 2000, 2700)),
    "l": Phone(65, 0.55, formants=(360, 1200, 2700)),
    "r": Phone(65, 0.55, formants=(350, 1100, 1600)),
    "w": Phone(65, 0.50, formants=(300, 700, 2200)),
    "j": Phone(55, 0.55, formants=(270, 2200, 3000)),
    "s": Phone(110, 0.0, hiss=0.30, bands=(5200, 6900), width=900),
    "S": Phone(110, 0.0, hiss=0.32, bands=(2700, 4300), width=700),
    "f": Phone(90, 0.0, hiss=0.07, bands=(1800, 6500), width=3000),
    "T": Phone(85, 0.0, hiss=0.06, bands=(4500, 7000), width=3000),
    "h": Phone(70, 0.0, breath=0.9),
    "v": Phone(60, 0.45, hiss=0.04, formants=(300, 1100, 2300), bands=(1800, 6500), width=3000),
    "z": Phone(80, 0.35, hiss=0.16, formants=(300, 1700, 2600), bands=(5200, 6900), width=900),
    "_": Phone(55, 0.0),
    "=": Phone(50, 0.12, formants=(220, 1100, 2300)),
    "p!": Phone(12, 0.0, hiss=0.20, bands=(700, 1500), width=800),
    "t!": Phone(14, 0.0, hiss=0.35, bands=(3600, 5200), width=1200),
    "k!": Phone(20, 0.0, hiss=0.35, bands=(1700, 3200), width=600),
    "p~": Phone(35, 0.0, breath=0.7, formants=(450, 1000, 2200)),
    "t~": Phone(40, 0.0, breath=0.8, formants=(400, 1700, 2600)),
    "k~": Phone(45, 0.0, breath=0.8, formants=(400, 1800, 2300)),
}
STOPS = {
    "p": "_ p! p~",
    "t": "_ t! t~",
    "k": "_ k! k~",
    "b": "= p!",
    "d": "= t!",
    "g": "= k!",
}
ONSETS = "p t k b d g m n l r w j s S f T h v z"
NUCLEI = "i I e a A o U u V R @"
CODAS = "- - - n m N s t k d l r z f"
COMPUTER = "k @ m p j u t @ r"


def phones(sounds: str) -> list[Phone]:
    """The targets of space-separated sounds; a stop becomes its closure, burst and breath."""
    return [PHONES[part] for sound in sounds.split() for part in STOPS.get(sound, sound).split()]


def _word(draws: Draws) -> str:
    """One to three random syllables."""
    syllables = [
        f"{draws.choice(ONSETS)} {draws.choice(NUCLEI)} {draws.choice(CODAS)}"
        for _ in range(1 + int(draws.number(0, 3)))
    ]
    return " ".join(syllables).replace("-", "")


def _smooth(track: Signal, frames: int) -> Signal:
    """Moving average over time (axis 0): the inertia of tongue and jaw."""
    padded = np.concatenate([np.repeat(track[:1], frames // 2, 0), track, np.repeat(track[-1:], frames // 2, 0)])
    total = padded[: track.shape[0]].copy()
    for delay in range(1, frames):
        total += padded[delay : delay + track.shape[0]]
    return total / frames


COLUMNS = 8  # glottal tilt and five formants in a row, then two hiss bands side by side


@dataclass(frozen=True)
class _Track:
    """One utterance, frame by frame: pitch (Hz), levels of voice, breath and hiss, resonators (Hz)."""

    pitch: Signal  # (frames,)
    levels: Signal  # (frames, 3)
    centres: Signal  # (frames, COLUMNS - 1)
    widths: Signal  # (frames, COLUMNS - 1)


def _track(voice: Voice, sentence: list[Phone], frames: int, draws: Draws) -> _Track:
    lengths = [max(2, round(phone.ms / 5.0 / voice.speed * draws.number(0.8, 1.25))) for phone in sentence]
    pieces = [phone for phone, length in zip(sentence, lengths, strict=True) for _ in range(length)]
    pieces = (pieces + [PHONES["_"]] * frames)[:frames]
    scale = voice.tract
    formants = [[f * scale for f in p.formants] + [3500 * scale, 4400 * scale] for p in pieces]
    centres = np.concatenate([_smooth(np.array(formants), 9), np.array([p.bands for p in pieces])], axis=1)
    widths = np.array([[70.0, 90.0, 140.0, 250.0, 350.0, p.width, p.width] for p in pieces])
    levels = np.array([[p.voice, p.breath + voice.breath * p.voice, p.hiss] for p in pieces])
    knots = draws.uniform(frames // 40 + 2, 0.85, 1.2)
    contour = np.repeat(knots, 40)[:frames] * np.linspace(1.08, 0.92, frames)
    flutter = draws.uniform(frames, 0.985, 1.015)
    return _Track(voice.pitch * _smooth(contour, 31) * flutter, _smooth(levels, 3), np.minimum(centres, 7600), widths)


def _resonators(tracks: list[_Track], voices: tuple[Voice, ...]) -> tuple[Signal, Signal, Signal]:
    """Coefficients of y = a x + b y' + c y'' (Klatt 1980), each (frames, COLUMNS, streams)."""
    centres = np.stack([t.centres for t in tracks], axis=-1)
    widths = np.stack([t.widths for t in tracks], axis=-1)
    radius = exp(-widths * (TAU / 2 / RATE))
    b = 2.0 * radius * sine(centres / RATE + 0.25)
    c = -radius * radius
    a = 1.0 - b - c
    a[:, 5:] = 1.0 - radius[:, 5:]  # hiss bands: unit gain at the centre, not at 0 Hz
    tilt = np.broadcast_to(np.array([v.tilt for v in voices]), (a.shape[0], 1, len(voices)))
    return (
        np.concatenate([1.0 - tilt, a], axis=1),
        np.concatenate([tilt, b], axis=1),
        np.concatenate([np.zeros_like(tilt), c], axis=1),
    )


def _glottis(pitch: Signal) -> Signal:
    """Derivative of the flow through the vocal folds: Rosenberg's pulse, open for 0.6 of each period."""
    phase = np.cumsum(np.repeat(pitch, FRAME) / RATE)
    position = (phase - np.floor(phase)) / 0.6
    return np.where(position < 1.0, position * (2.0 - 3.0 * position), 0.0)


def speak(sentences: list[list[Phone]], voices: tuple[Voice, ...], seconds: float, seed: int) -> Signal:
    """A sentence by each voice: (streams, samples), unscaled.

    All voices step together, and each resonator of the cascade takes what the one before it gave a sample
    earlier, so that one small array operation moves every resonator of every voice; the delay of five samples
    does not matter.
    """
    frames = round(seconds * RATE / FRAME)
    draws = Draws(seed)
    tracks = [_track(v, s, frames, draws) for v, s in zip(voices, sentences, strict=True)]
    a, b, c = _resonators(tracks, voices)
    levels = np.repeat(np.stack([t.levels for t in tracks], axis=-1), FRAME, axis=0)
    samples = frames * FRAME
    pulses = np.stack([_glottis(t.pitch) for t in tracks], axis=-1)
    noise = np.stack([draws.noise(samples) for _ in tracks], axis=-1)
    source = pulses * levels[:, 0] + noise * levels[:, 1] * 0.12
    hiss = noise * levels[:, 2] * 0.4

    now = np.zeros((COLUMNS, len(voices)))
    before, inputs = now.copy(), now.copy()
    out = np.empty((samples, len(voices)))
    for frame in range(frames):
        fa, fb, fc = a[frame], b[frame], c[frame]
        for n in range(frame * FRAME, (frame + 1) * FRAME):
            inputs[0] = source[n]
            inputs[1:6] = now[0:5]
            inputs[6:8] = hiss[n]
            before *= fc
            before += fb * now
            before += fa * inputs
            now, before = before, now
            out[n] = now[5] + now[6] + now[7]
    return np.ascontiguousarray(out.T)


def sentences(count: int, seed: int, words: int) -> list[list[Phone]]:
    """`count` sentences of `words` random words; every other one has the word "computer" second."""
    draws = Draws(seed)
    result = []
    for index in range(count):
        spoken = [_word(draws) for _ in range(words)]
        if index % 2 == 0:
            spoken[1] = COMPUTER
        pauses = ["_ " * (1 + int(draws.number(0, 6))) for _ in range(words)]
        result.append(phones(" ".join(p + w for p, w in zip(pauses, spoken, strict=True))))
    return result


def pink(count: int, seed: int) -> Signal:
    """Noise that falls 3 dB an octave: white noises, each held twice as long as the one before (Voss)."""
    draws = Draws(seed)
    total = draws.uniform(count, -1, 1)
    for octave in range(1, 13):
        held = draws.uniform((count >> octave) + 1, -1, 1)
        total = total + np.repeat(held, 1 << octave)[:count]
    return total


def hum(count: int, base_hz: float) -> Signal:
    """Mains and its harmonics, the odd ones strong, as from a transformer."""
    turns = np.arange(count, dtype=np.float64) * (base_hz / RATE)
    total = np.zeros(count)
    for harmonic in range(1, 24):
        total = total + sine(turns * harmonic) * ((1.0 if harmonic % 2 else 0.3) / harmonic)
    return total


def clicks(count: int, seed: int) -> Signal:
    """Knocks and keys: short decaying bursts at random times and strengths."""
    draws = Draws(seed)
    total = np.zeros(count + RATE)
    at = 0
    while (at := at + int(draws.number(600, 4500))) < count:
        length = int(draws.number(40, 900))
        decay = np.cumprod(np.full(length, 1.0 - 6.0 / length))
        ring = sine(np.arange(length) * (draws.number(300, 5000) / RATE) + 0.25)
        strength = draws.number(0.1, 1.0)
        total[at : at + length] += (draws.noise(length) * 0.4 + ring) * decay * strength
    return total[:count]


def chords(count: int, seed: int) -> Signal:
    """Music-like: plucked four-note chords with harmonics over a bass note and a noise beat."""
    draws = Draws(seed)
    total = np.zeros(count)
    beat = RATE * 3 // 8
    semitone = 1.0594630943592953
    for start in range(0, count, beat):
        length = min(beat, count - start)
        time = np.arange(length, dtype=np.float64)
        decay = np.cumprod(np.full(length, 1.0 - 3.0 / beat))
        root = 110.0
        for _ in range(int(draws.number(0, 12))):
            root *= semitone
        for ratio in (0.5, 1.0, 1.25, 1.5, 2.0):
            for harmonic in range(1, 9):
                if root * ratio * harmonic < RATE / 2:
                    tone = sine(time * (root * ratio * harmonic / RATE))
                    total[start : start + length] += tone * decay / (harmonic * harmonic)
        strike = np.cumprod(np.full(length, 1.0 - 40.0 / beat))
        total[start : start + length] += draws.noise(length) * strike * 0.5
    return total


def babble(voices: Signal) -> Signal:
    """All voices at once, turned so that no words start together: (streams, samples) -> (samples,)."""
    total = np.zeros(voices.shape[1])
    for index, stream in enumerate(voices):
        total = total + peak_at(np.roll(stream, index * 5531), -6.0)
    return total


def room(signal: Signal, seed: int) -> Signal:
    """`signal` in a small room: the direct sound and forty echoes that fade over 0.25 s."""
    draws = Draws(seed)
    total = signal.copy()
    for _ in range(40):
        delay = int(draws.number(30, RATE // 4))
        strength = draws.number(-0.5, 0.5) * (1.0 - delay / (RATE / 4))
        total[delay:] += signal[:-delay] * strength
    return total
