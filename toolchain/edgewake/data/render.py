"""A training clip and its features, from recordings, noise and a room, are a function of these and a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgewake.config import WakewordConfig
from edgewake.config.frontend import FrontendConfig
from edgewake.data.augment import Augmenter
from edgewake.data.mixing import active_region
from edgewake.data.reading import SAMPLE_RATE, Samples
from edgewake.runtime.frontend import features

Features = npt.NDArray[np.uint16]
ClipKind = Literal["positive", "negative", "fragment"]
SURROUNDINGS = (1600, 8000)
# The phrase is where the level is within 25 dB of its loudest 10 ms.
PHRASE_BLOCK, PHRASE_BELOW_DB = SAMPLE_RATE // 100, 25.0


@dataclass(frozen=True)
class RenderPlan:
    """Lengths of a clip and how the phrase lies in it."""

    frontend: FrontendConfig
    frames: int  # of features in a clip
    lead_in: int = 24_000  # samples that the frontend gets before the clip, so that its noise estimates settle
    tail_frames: tuple[int, int] = (8, 45)  # the phrase ends this many frames before the clip's end, least and most
    from_reset: float = 0.15  # chance that the frontend starts inside the clip, after silence, as after a reset
    context: float = 0.4  # chance that other speech comes before (and at times after) the phrase

    @classmethod
    def of(cls, config: WakewordConfig) -> RenderPlan:
        """Clips of `data.audio_duration`, rounded down to whole inference steps."""
        frames = int(config.data.audio_duration * 1000 / config.frontend.step_ms)
        return cls(config.frontend, frames - frames % config.model.frames_per_step)

    @property
    def clip_samples(self) -> int:
        """Samples that the frames of a clip span."""
        return self.frontend.window_samples + (self.frames - 1) * self.frontend.step_samples

    @property
    def samples(self) -> int:
        """Samples of a clip with its lead-in."""
        return self.lead_in + self.clip_samples


def excerpt(samples: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of `length` samples; shorter recordings are surrounded by silence."""
    missing = length - len(samples)
    start = int(rng.integers(abs(missing) + 1))
    return np.pad(samples, (start, missing - start)) if missing > 0 else samples[start : start + length]


def fragment(samples: Samples, rng: np.random.Generator) -> Samples:
    """A part of the phrase, or the phrase backwards: a negative that is close to the phrase."""
    start, end = active_region(samples, PHRASE_BLOCK, PHRASE_BELOW_DB)
    draw = rng.random()
    if draw < 0.4:
        return samples[: start + int((end - start) * rng.uniform(0.25, 0.45))]
    if draw < 0.8:
        return samples[start + int((end - start) * rng.uniform(0.55, 0.75)) :]
    return samples[::-1]


def place(phrase: Samples, length: int, end: int, context: Samples | None, rng: np.random.Generator) -> Samples:
    """A stretch of `length` samples in which the active part of `phrase` ends at sample `end`.

    The recording keeps its own surroundings, since a student would learn the cuts of a phrase that is cut out.
    `context`, where it is given, comes before the phrase and, half the time, after it, with a pause between.
    """
    first, last = active_region(phrase, PHRASE_BLOCK, PHRASE_BELOW_DB)
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
    ramp = np.linspace(0, 1, min(fade, len(samples) // 2), dtype=np.float32)
    flat = np.ones(len(samples) - 2 * len(ramp), np.float32)
    gain = np.concatenate([ramp, flat, np.linspace(1, 0, len(ramp), dtype=np.float32)])
    return np.asarray(samples * gain, np.int16)


def clip_features(samples: Samples, plan: RenderPlan, rng: np.random.Generator) -> tuple[Features, Samples]:
    """Features of the last `plan.frames` frames of `samples`, and the samples that they span, as `render` gives them.

    At times of a frontend that was just reset: all-zero features stand for what was before.
    """
    config = plan.frontend
    if rng.random() < plan.from_reset:
        silent = int(rng.integers(0, plan.frames // 2))
        samples = samples[-((plan.frames - silent - 1) * config.step_samples + config.window_samples) :]
    computed = features(samples, config)[-plan.frames :]
    audio = samples[-plan.clip_samples :]
    out = np.pad(computed, ((plan.frames - len(computed), 0), (0, 0)))
    return out, np.pad(audio, (plan.clip_samples - len(audio), 0))


def render(
    kind: ClipKind,
    source: Samples,
    context: Samples | None,
    plan: RenderPlan,
    augmenter: Augmenter,
    seed: Sequence[int],
) -> tuple[Features, Samples]:
    """One clip: features, uint16 (plan.frames, channels), and audio, int16 (plan.clip_samples,); `seed` decides all.

    `source` is a recording of the phrase, of which a "fragment" is a part that is not the phrase; for "negative",
    `plan.samples` samples of anything else. `context` is speech to put around the phrase.
    """
    rng = np.random.default_rng(seed)
    if kind == "negative":
        samples = excerpt(source, plan.samples, rng)
    else:
        source = augmenter.speed(fragment(source, rng) if kind == "fragment" else source, rng)
        tail = int(rng.integers(*plan.tail_frames, endpoint=True)) * plan.frontend.step_samples
        use = context is not None and rng.random() < plan.context
        around = excerpt(context, plan.samples, rng) if context is not None and use else None
        samples = place(source, plan.samples, plan.samples - tail, around, rng)
    return clip_features(augmenter(samples, rng, speed=kind == "negative"), plan, rng)
