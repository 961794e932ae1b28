"""Training clips of recordings, noise and rooms: each is a function of recording, settings and its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edgewake.config import WakewordConfig
from edgewake.config.frontend import FrontendConfig
from edgewake.data.augment import Augmenter, RirPool
from edgewake.data.manifest import CorpusManifest, Entry, Split
from edgewake.data.mixing import NoisePool, active_region
from edgewake.data.reading import SAMPLE_RATE, Samples
from edgewake.errors import MissingDependencyError
from edgewake.runtime.frontend import features

Features = npt.NDArray[np.uint16]
# The phrase, speech that nearly holds it, a part of it, and anything else.
ClipKind = Literal["positive", "near", "fragment", "negative"]
KINDS: tuple[ClipKind, ...] = get_args(ClipKind)
Span = tuple[int, int]  # first sample of the phrase in a recording, and the one after its last
SURROUNDINGS = (1600, 8000)
# The phrase is where the level is within 25 dB of its loudest 10 ms.
PHRASE_BLOCK, PHRASE_BELOW_DB = SAMPLE_RATE // 100, 25.0
# A stretch of a negative begins at random this near to its place, in samples.
JITTER = 4000
SPLICE_S = (0.3, 1.0)
FEATURES, AUDIO = "features.npy", "audio.npy"


# ---- one clip ------------------------------------------------------------------------------------


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


def span_of(entry: Entry, samples: Samples) -> Span:
    """Where the phrase lies in a recording: as its manifest has it, or else where it is loud."""
    if entry.phrase_start is None or entry.phrase_end is None:
        return active_region(samples, PHRASE_BLOCK, PHRASE_BELOW_DB)
    first = min(round(entry.phrase_start * SAMPLE_RATE), len(samples) - 1)
    return first, max(first + 1, min(round(entry.phrase_end * SAMPLE_RATE), len(samples)))


def fragment(samples: Samples, span: Span, rng: np.random.Generator) -> tuple[Samples, Span]:
    """The recording without more than a part of the phrase, or backwards, and where the phrase's rest lies in it."""
    (start, end), draw = span, rng.random()
    if draw < 0.4:
        cut = start + max(1, int((end - start) * rng.uniform(0.25, 0.45)))
        return samples[:cut], (start, cut)
    if draw < 0.8:
        cut = start + int((end - start) * rng.uniform(0.55, 0.75))
        return samples[cut:], (0, end - cut)
    return samples[::-1], (len(samples) - end, len(samples) - start)


def splice(recordings: Sequence[Samples], length: int, rng: np.random.Generator) -> Samples:
    """Segments of 0.3 to 1 s of several recordings, joined to `length` samples that nobody spoke in this order.

    Each has the level of the first one that is not silent; ramps of 5 ms leave no clicks.
    """
    parts: list[Samples] = []
    lacking, level = length, 0.0
    while lacking > 0:
        samples = recordings[int(rng.integers(len(recordings)))]
        part = excerpt(samples, min(len(samples), int(rng.uniform(*SPLICE_S) * SAMPLE_RATE)), rng)
        own = float(np.sqrt(np.mean(np.square(part, dtype=np.float64))))
        level = level or own
        louder = np.clip(part * (level / own if own else 1.0), -32768, 32767)
        parts.append(_faded(louder, SAMPLE_RATE // 200))
        lacking -= len(part)
    return np.concatenate(parts)[:length]


def place(
    phrase: Samples, span: Span, length: int, end: int, context: Samples | None, rng: np.random.Generator
) -> Samples:
    """A stretch of `length` samples in which `span` of the recording `phrase` ends at sample `end`.

    The recording keeps its own surroundings, since a student would learn the cuts of a phrase that is cut out.
    `context`, where it is given, comes before the phrase and, half the time, after it, with a pause between.
    """
    first, last = span
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


def _faded(samples: npt.NDArray[Any], fade: int = 320) -> Samples:
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
    span: Span,
    context: Samples | None,
    plan: RenderPlan,
    augmenter: Augmenter,
    seed: Sequence[int],
    *,
    clean: bool = False,
) -> tuple[Features, Samples]:
    """One clip: features, uint16 (plan.frames, channels), and audio, int16 (plan.clip_samples,); `seed` decides all.

    `source` is a recording with the phrase, or what is near to it, at `span`; a "fragment" is a part of it that is not
    the phrase. For "negative", it is `plan.samples` samples of anything else. `context` is speech to put around.
    With `clean`, the audio is what the features were varied from; `augmenter` then changes no times.
    """
    rng = np.random.default_rng(seed)
    if kind == "negative":
        samples = excerpt(source, plan.samples, rng)
    else:
        if kind == "fragment":
            source, span = fragment(source, span, rng)
        spoken = augmenter.speed(source, rng)
        first, last = (round(at * len(spoken) / len(source)) for at in span)
        tail = int(rng.integers(*plan.tail_frames, endpoint=True)) * plan.frontend.step_samples
        use = context is not None and rng.random() < plan.context
        around = excerpt(context, plan.samples, rng) if context is not None and use else None
        samples = place(spoken, (first, last), plan.samples, plan.samples - tail, around, rng)
    computed, audio = clip_features(augmenter(samples, rng, speed=kind == "negative"), plan, rng)
    return computed, samples[-plan.clip_samples :] if clean else audio


# ---- many clips ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RenderJob:
    """Clips that are rendered from one recording in one pass."""

    entry: int  # index in the manifest
    content: str  # names the recording's samples
    kind: ClipKind
    frames: int  # of features in a clip
    number: int  # of the pass
    starts: tuple[int, ...]  # first sample of each clip's excerpt (negatives), or 0
    weight: float = 1.0  # of each clip in sampling

    @property
    def key(self) -> tuple[Any, ...]:
        """What decides the clips, beside the place of the phrase."""
        return self.content, self.kind, self.frames, self.number, self.starts


@dataclass(frozen=True)
class Chunk:
    """Jobs of one kind, length and pass that are rendered together; `speech`: entries of talkers and of context."""

    jobs: tuple[RenderJob, ...]
    speech: tuple[int, ...]

    @property
    def clips(self) -> int:
        """How many there are."""
        return sum(len(job.starts) for job in self.jobs)


def check_packages(config: WakewordConfig) -> None:
    """An error names the extra that a setting needs and that is not installed."""
    settings = config.augmentation
    for key, package in (
        ("voice_prob", "parselmouth"),
        ("negative_voice_prob", "parselmouth"),
        ("simulated_rooms", "pyroomacoustics"),
    ):
        if getattr(settings, key) > 0 and find_spec(package) is None:
            raise MissingDependencyError(
                f"augmentation.{key} takes {package}, not installed: pip install 'edgewake[synthesis]', or set it to 0"
            )


class Renderer:
    """What a process that renders chunks of a split holds: where recordings are, backgrounds, rooms.

    `rooms` is a file of simulated responses, or None.
    """

    def __init__(self, manifest: CorpusManifest, split: Split, config: WakewordConfig, rooms: Path | None) -> None:
        self.manifest, self.config, self.plan = manifest, config, RenderPlan.of(config)
        self.noise = NoisePool.from_manifest(manifest, split)
        simulated = () if rooms is None else np.load(rooms, mmap_mode="r")
        # Measured responses are few: those of the train split serve every split.
        self.rooms = RirPool.from_manifest(manifest, "train", simulated)

    def __call__(self, chunk: Chunk, folder: Path, audio: bool | Literal["clean"]) -> None:
        """Write the clips of a chunk: features (clips, frames, channels) and, with `audio`, audio (clips, samples)."""
        settings, kind = self.config.augmentation, chunk.jobs[0].kind
        if kind == "negative":
            settings = settings.model_copy(update={"voice_prob": settings.negative_voice_prob})
        plan = replace(self.plan, frames=chunk.jobs[0].frames)
        speech = [self.manifest.read(self.manifest.entries[entry]) for entry in chunk.speech]
        # Some of the backgrounds are people talking.
        noise = NoisePool([*self.noise.recordings, *speech[:1]]) if len(self.noise) else self.noise
        augmenter = Augmenter(settings, noise, self.rooms, NoisePool(speech))
        entries = [self.manifest.entries[job.entry] for job in chunk.jobs]
        recordings = [self.manifest.read(entry) for entry in entries]
        shapes = {FEATURES: ("uint16", (plan.frames, plan.frontend.channels)), AUDIO: ("int16", (plan.clip_samples,))}
        files = [
            np.lib.format.open_memmap(folder / name, "w+", dtype, (chunk.clips, *shape))
            for name, (dtype, shape) in shapes.items()
            if audio or name == FEATURES
        ]
        done = 0
        for job, entry, samples in zip(chunk.jobs, entries, recordings, strict=True):
            seed = (self.config.data.seed, int(job.content, 16), KINDS.index(kind), job.number)
            span = span_of(entry, samples) if kind != "negative" else (0, len(samples))
            for clip, start in enumerate(job.starts):
                rng = np.random.default_rng((*seed, clip, 1))
                context, source = speech[int(rng.integers(len(speech)))] if speech else None, samples
                if kind == "negative" and rng.random() < self.config.data.splice_share:
                    source = splice([samples, *recordings, *speech], plan.samples, rng)
                elif kind == "negative":
                    begin = max(0, min(start + int(rng.integers(-JITTER, JITTER)), len(samples) - plan.samples))
                    source = samples[begin : begin + plan.samples]
                rendered = render(
                    kind, source, span, context, plan, augmenter, (*seed, clip, 0), clean=audio == "clean"
                )
                for file, part in zip(files, rendered, strict=False):  # without audio, the first alone
                    file[done] = part
                done += 1
        for file in files:
            file.flush()
