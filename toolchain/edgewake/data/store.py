"""Training clips, rendered of recordings, noise and rooms by a seed: made once for a split, then read by memory map."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from edgewake.config import WakewordConfig
from edgewake.config.frontend import FrontendConfig
from edgewake.console import error_console, track
from edgewake.data.augment import Augmenter, RirPool
from edgewake.data.clips import ClipArray, ClipDataset, Clips
from edgewake.data.manifest import SPLITS, CorpusManifest, Split, recording_weights
from edgewake.data.mixing import NoisePool, active_region
from edgewake.data.reading import SAMPLE_RATE, Samples, file_of, to_float
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend import FEATURE_SCALE, features

Features = npt.NDArray[np.uint16]
ClipKind = Literal["positive", "negative", "fragment"]
SURROUNDINGS = (1600, 8000)
# The phrase is where the level is within 25 dB of its loudest 10 ms.
PHRASE_BLOCK, PHRASE_BELOW_DB = SAMPLE_RATE // 100, 25.0
CONTEXT_RECORDINGS = 40
# Announced before it is written.
MUCH_BYTES = 2e9
JobClips = tuple[npt.NDArray[np.uint16], Samples]
# Settings that begin so are applied to features in every batch, not when clips are rendered.
PER_BATCH = ("spec_augment", "time_mask", "mel_", "tempo_warp")


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


# ---- a split -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RenderJob:
    """All clips that are rendered from one recording."""

    entry: int  # index in the manifest
    kind: ClipKind
    starts: tuple[int, ...]  # first sample of each clip's excerpt (negatives), or 0
    weight: float  # of each clip in sampling


class FeatureStore(ClipDataset):
    """Clips of one split: inputs are features, float32 (frames, channels).

    With `gives_audio` set they are a clip's audio, float32 (samples,) with full scale 1.0: for students whose
    features are computed on the way. `audio` is a teacher's input of the same clips, int16 (clips, samples), or
    None where it was not asked for; `entries` is the index of each clip's recording in the manifest.
    """

    features: Clips
    audio: Clips | None

    def __init__(self, folder: Path, jobs: Sequence[RenderJob], *, audio: bool) -> None:
        counts = [len(job.starts) for job in jobs]
        self.folder = folder
        self.features = np.load(folder / "features.npy", mmap_mode="r")
        self.audio = np.load(folder / "audio.npy", mmap_mode="r") if audio else None
        self.entries = np.repeat(np.array([job.entry for job in jobs], np.int64), counts)
        super().__init__(
            np.repeat(np.array([job.kind == "positive" for job in jobs], np.int64), counts),
            np.repeat(np.array([job.weight for job in jobs], np.float64), counts),
        )
        self.gives_audio = False

    def inputs_of(self, clips: Any) -> torch.Tensor:
        """Features, or audio with `gives_audio`, of one clip or several."""
        if self.gives_audio:
            assert self.audio is not None
            return torch.from_numpy(to_float(self.audio[clips]))
        return torch.from_numpy(self.features[clips].astype(np.float32) * np.float32(FEATURE_SCALE))

    def keep(self, clips: npt.NDArray[np.int64]) -> None:
        """Hold these clips only, numbered anew; what lies on disk stays as it is."""
        self.features = ClipArray.rows(np.asarray(self.features), clips)
        self.audio = None if self.audio is None else ClipArray.rows(np.asarray(self.audio), clips)
        for name in ("labels", "entries", "base_weights", "weights", "hard"):
            setattr(self, name, getattr(self, name)[clips])


def plan_jobs(manifest: CorpusManifest, split: Split, config: WakewordConfig) -> list[RenderJob]:
    """What is rendered of a split: the phrase many times, its fragments, every stretch of everything else.

    Copies of one recording (`duplicate_group`) share one recording's weight.
    """
    data, plan = config.data, RenderPlan.of(config)
    step = int(plan.frames * plan.frontend.step_samples * data.negative_hop)
    renders = data.positive_renders if split == "train" else data.validation_renders
    passes = data.negative_renders if split == "train" else 1
    chosen = [(i, e) for i, e in enumerate(manifest.entries) if e.split == split and e.kind != "rir"]
    shares = recording_weights([entry for _, entry in chosen])
    jobs = []
    for (index, entry), share in zip(chosen, shares.tolist(), strict=True):
        if entry.label == 1:
            jobs.append(RenderJob(index, "positive", (0,) * renders, share))
            if split == "train":
                jobs.append(RenderJob(index, "fragment", (0,) * max(1, renders // 8), share))
            continue
        samples = int(entry.seconds * data.sample_rate)
        starts = range(0, max(1, samples - plan.samples // 2), step)
        repeats = passes * (data.short_negative_renders if samples < plan.samples else 1)
        jobs.append(RenderJob(index, "negative", tuple(starts) * repeats, share))
    return jobs


class _Worker:
    """What a process that renders holds: backgrounds, rooms, and where recordings are."""

    def __init__(self, manifest: CorpusManifest, split: Split, config: WakewordConfig, seed: int) -> None:
        self.manifest, self.plan, self.seed = manifest, RenderPlan.of(config), seed
        speech = [e for e in manifest.select(split=split, kind="negative") if e.seconds > 20]
        self.context = [manifest.read(entry) for entry in speech[:: max(1, len(speech) // CONTEXT_RECORDINGS)]]
        noise = NoisePool.from_manifest(manifest, split)
        # Some of the backgrounds are people talking.
        talk = self.context[::8] if len(noise) else []
        # Responses are few: those of the train split serve every split.
        rooms = RirPool.from_manifest(manifest, "train")
        self.augmenter = Augmenter(config.augmentation, NoisePool([*noise.recordings, *talk]), rooms)

    def __call__(self, number: int, job: RenderJob) -> JobClips:
        """All clips of a job: features (clips, frames, channels) and audio (clips, samples)."""
        samples = self.manifest.read(self.manifest.entries[job.entry])
        clips = []
        for clip, start in enumerate(job.starts):
            rng = np.random.default_rng((self.seed, number, clip, 1))
            context = self.context[int(rng.integers(len(self.context)))] if self.context else None
            source = samples
            if job.kind == "negative":
                begin = max(0, min(start + int(rng.integers(-4000, 4000)), len(samples) - self.plan.samples))
                source = samples[begin : begin + self.plan.samples]
            clips.append(render(job.kind, source, context, self.plan, self.augmenter, (self.seed, number, clip, 0)))
        features, audio = zip(*clips, strict=True)
        return np.stack(features), np.stack(audio)


_workers: list[_Worker] = []  # one in each process


def _start_worker(*arguments: Any) -> None:
    _workers[:] = [_Worker(*arguments)]


def _run_job(number: int, job: RenderJob) -> JobClips:
    return _workers[0](number, job)


@contextmanager
def _rendering(workers: int, *arguments: Any) -> Iterator[Callable[..., Iterator[JobClips]]]:
    """A `map` over `workers` processes, or in this one when that is 0; `arguments` make a `_Worker`."""
    if workers == 0:
        _start_worker(*arguments)
        yield map
        return
    # Spawned, not forked: the parent may run torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, arguments) as pool:
        yield partial(pool.map, chunksize=4)


def build_store(manifest: CorpusManifest, split: Split, config: WakewordConfig, *, audio: bool = False) -> FeatureStore:
    """Render a split, or open what an earlier run rendered from the same content; both lie in the cache.

    With `audio`, the clips' audio is kept too, which a teacher needs: 32 kB for each second of a clip. Of the train
    split, clips of `data.positive_fraction` of the recordings of the phrase are used; all share one rendering.
    """
    plan, jobs = RenderPlan.of(config), plan_jobs(manifest, split, config)
    for kind, what in (("positive", "a recording of the phrase"), ("negative", "one without the phrase")):
        if not any(job.kind == kind for job in jobs):
            raise EdgewakeError(f"split {split!r} of the manifest lacks {what}; add one and train again")
    # Rooms of the train split serve every split.
    used = [e for e in manifest.entries if e.split == split or (e.kind, e.split) == ("rir", "train")]
    seed = config.data.seed * 1000 + SPLITS.index(split)
    parameters = {
        "seed": seed,
        "plan": {**vars(plan), "frontend": config.frontend.hash()},
        "jobs": [asdict(job) for job in jobs],
        "entries": [(entry.path, entry.kind, entry.split, entry.seconds) for entry in used],
        "augmentation": {k: v for k, v in config.augmentation.model_dump().items() if not k.startswith(PER_BATCH)},
    }
    cache, code = config.cache.open(), ["edgewake.data.store"]
    inputs = list(dict.fromkeys(file_of(manifest.path_of(entry)) for entry in used))

    def make(folder: Path) -> None:
        clips = sum(len(job.starts) for job in jobs)
        made: list[tuple[str, str, tuple[int, ...]]]
        made = [("features.npy", "uint16", (clips, plan.frames, plan.frontend.channels))]
        made += [("audio.npy", "int16", (clips, plan.clip_samples))] if audio else []
        needed = 2 * sum(math.prod(shape) for _, _, shape in made)
        cache.check_room(f"{clips} clips of {split}", needed, "lower data.positive_renders")
        if needed > MUCH_BYTES:
            error_console.print(f"rendering {clips} clips of {split}: {needed / 1e9:.1f} GB in {cache.folder}")
        files = [np.lib.format.open_memmap(folder / name, "w+", dtype, shape) for name, dtype, shape in made]
        done = 0
        with _rendering(config.training.workers, manifest, split, config, seed) as run:
            for rendered in track(run(_run_job, range(len(jobs)), jobs), f"rendering {split}", len(jobs)):
                for file, part in zip(files, rendered, strict=False):  # without audio, the first alone
                    file[done : done + len(part)] = part
                done += len(rendered[0])
        for file in files:
            file.flush()

    # Features are the same with audio and without.
    found = None if audio else cache.find("clips", {**parameters, "audio": True}, code=code, inputs=inputs)
    found = found or cache.get("clips", {**parameters, "audio": audio}, make, code=code, inputs=inputs)
    store = FeatureStore(found.folder, jobs, audio=audio)
    unused = unused_positives(manifest, config) if split == "train" else set()
    if unused:
        store.keep(np.flatnonzero(~np.isin(store.entries, list(unused))))
    return store


def unused_positives(manifest: CorpusManifest, config: WakewordConfig) -> set[int]:
    """Training recordings of the phrase, by index, that `data.positive_fraction` leaves out.

    Copies of one recording stay together and count once; at least one recording is used. With one
    `training.seed` a smaller fraction's recordings are among a larger one's.
    """
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(manifest.entries):
        if entry.split == "train" and entry.label == 1:
            groups.setdefault(entry.duplicate_group or f"\0{entry.path}", []).append(index)
    used = max(1, round(config.data.positive_fraction * len(groups)))
    order = np.random.default_rng([config.training.seed, 1]).permutation(len(groups))
    members = list(groups.values())
    return {index for group in order[used:] for index in members[int(group)]}
