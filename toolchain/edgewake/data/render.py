"""Clips as a device would hear them (context, noise, a frontend that has been running), from a seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgewake.config.frontend import FrontendConfig
from edgewake.data.augment import Augmenter
from edgewake.runtime.frontend import features

Samples = npt.NDArray[np.int16]
Features = npt.NDArray[np.uint16]
Kind = Literal["positive", "negative", "fragment"]
SURROUNDINGS = (1600, 8000)


@dataclass(frozen=True)
class RenderPlan:
    """Lengths of a clip and how the phrase lies in it.

    Attributes:
        frames: frames of features a clip has.
        lead_in: samples that the frontend hears before the clip, so that its noise estimates have settled.
        tail_frames: the phrase ends this many frames before the clip's end, (least, most).
        from_reset: chance that the frontend starts inside the clip, after silence, as after a reset.
        context: chance that other speech comes before (and at times after) the phrase.
    """

    frames: int
    lead_in: int = 24_000
    tail_frames: tuple[int, int] = (8, 45)
    from_reset: float = 0.15
    context: float = 0.4


def active_region(samples: Samples, rate: int = 16_000, below_peak_db: float = 25.0) -> tuple[int, int]:
    """First sample, and the one after the last, of what is near the loudest 10 ms; (0, len) if none is."""
    block = rate // 100
    count = len(samples) // block
    if count == 0:
        return 0, len(samples)
    level = np.square(samples[: count * block].astype(np.float64)).reshape(count, block).mean(axis=1)
    if level.max() == 0:
        return 0, len(samples)
    loud = np.flatnonzero(level > level.max() * 10 ** (-below_peak_db / 10))
    return int(loud[0]) * block, int(loud[-1] + 1) * block


def excerpt(samples: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of `length` samples; shorter recordings are surrounded by silence."""
    if len(samples) >= length:
        start = int(rng.integers(0, len(samples) - length + 1))
        return samples[start : start + length]
    out = np.zeros(length, np.int16)
    start = int(rng.integers(0, length - len(samples) + 1))
    out[start : start + len(samples)] = samples
    return out


def fragment(samples: Samples, rng: np.random.Generator) -> Samples:
    """A part of the phrase, or the phrase backwards: near to it, and not it."""
    start, end = active_region(samples)
    draw = rng.random()
    if draw < 0.4:
        return samples[: start + int((end - start) * rng.uniform(0.25, 0.45))]
    if draw < 0.8:
        return samples[start + int((end - start) * rng.uniform(0.55, 0.75)) :]
    return samples[::-1]


def place(phrase: Samples, length: int, end: int, context: Samples | None, rng: np.random.Generator) -> Samples:
    """A stretch of `length` samples in which the active part of `phrase` ends at sample `end`.

    The recording keeps its own surroundings, decay and room included: a phrase cut out at its edges teaches a
    student to listen for the cuts. Where `context` is given it is heard before the phrase and, half the time,
    after it; the surroundings then fade into a pause.
    """
    first, last = active_region(phrase)
    before, after = len(phrase), len(phrase)
    if context is not None:
        before, after = (int(rng.integers(*SURROUNDINGS)) for _ in range(2))
    begin, stop = max(0, first - before), min(len(phrase), last + after)
    word = _faded(phrase[begin:stop])
    start = end - (last - begin)
    out = np.zeros(length, np.int32)
    if context is not None:
        until = max(0, start - int(rng.integers(0, 6400)))
        out[:until] = _faded(context[:until])
        again = start + len(word) + int(rng.integers(0, 6400))
        if rng.random() < 0.5 and again < length:
            out[again:] = _faded(context[again:length])
    source = word[max(0, -start) : max(0, length - start)]
    out[max(0, start) : max(0, start) + len(source)] += source
    return np.clip(out, -32768, 32767).astype(np.int16)


def _faded(samples: Samples, fade: int = 320) -> Samples:
    """Without a step at either end: 20 ms ramps."""
    ramp = min(fade, len(samples) // 2)
    if ramp == 0:
        return samples
    gain = np.ones(len(samples), np.float32)
    gain[:ramp] = np.linspace(0, 1, ramp, dtype=np.float32)
    gain[-ramp:] = np.linspace(1, 0, ramp, dtype=np.float32)
    return (samples * gain).astype(np.int16)


def clip_features(
    samples: Samples, plan: RenderPlan, config: FrontendConfig, rng: np.random.Generator
) -> tuple[Features, Samples]:
    """Features of the last `plan.frames` frames of `samples`; at times from a frontend that was just reset.

    Returns:
        uint16, (plan.frames, channels), and the samples that these frames span: int16, (clip_samples(plan),).
    """
    out = np.zeros((plan.frames, config.channels), np.uint16)
    if rng.random() < plan.from_reset:
        # As after a reset: all-zero features stand for what was before.
        silent = int(rng.integers(0, plan.frames // 2))
        samples = samples[-((plan.frames - silent - 1) * config.step_samples + config.window_samples) :]
    heard = features(samples, config)[-plan.frames :]
    out[len(out) - len(heard) :] = heard
    audio = np.zeros(clip_samples(plan, config), np.int16)
    spanned = samples[-len(audio) :]
    audio[len(audio) - len(spanned) :] = spanned
    return out, audio


def render(
    kind: Kind,
    source: Samples,
    context: Samples | None,
    plan: RenderPlan,
    config: FrontendConfig,
    augmenter: Augmenter,
    seed: tuple[int, ...],
) -> tuple[Features, Samples]:
    """One clip: its features, and the audio that a teacher hears.

    Args:
        kind: "positive": `source` is a recording of the phrase; "fragment": a part of it is used, and is not
            the phrase; "negative": `source` is `sample_count(plan)` samples of anything else.
        context: speech to put around the phrase, or None.
        seed: decides everything.

    Returns:
        uint16, (plan.frames, channels), and int16, (clip_samples(plan),).
    """
    rng = np.random.default_rng(seed)
    length = sample_count(plan, config)
    if kind == "negative":
        samples = excerpt(source, length, rng)
    else:
        source = fragment(source, rng) if kind == "fragment" else source
        source = augmenter.speed(source, rng)
        end = length - int(rng.integers(plan.tail_frames[0], plan.tail_frames[1] + 1)) * config.step_samples
        use = context if context is not None and rng.random() < plan.context else None
        samples = place(source, length, end, None if use is None else excerpt(use, length, rng), rng)
    samples = augmenter(samples, rng, speed=kind == "negative")
    if len(samples) != length:
        samples = excerpt(samples, length, rng)
    return clip_features(samples, plan, config, rng)


def sample_count(plan: RenderPlan, config: FrontendConfig) -> int:
    """Samples that a clip with its lead-in takes."""
    return plan.lead_in + config.window_samples + (plan.frames - 1) * config.step_samples


def clip_samples(plan: RenderPlan, config: FrontendConfig) -> int:
    """Samples that the frames of a clip span, without the lead-in."""
    return config.window_samples + (plan.frames - 1) * config.step_samples
