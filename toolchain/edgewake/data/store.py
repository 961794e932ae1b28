"""Rendered clips of a split: made once for a corpus, a configuration and a seed, then read by memory map."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgewake.config import WakewordConfig
from edgewake.console import error_console, track
from edgewake.data.augment import Augmenter, RirPool
from edgewake.data.clips import ClipArray, ClipDataset, Clips
from edgewake.data.manifest import SPLITS, CorpusManifest, Split, recording_weights
from edgewake.data.mixing import NoisePool
from edgewake.data.reading import file_of, to_float
from edgewake.data.render import ClipKind, RenderPlan, render
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend import FEATURE_SCALE

CONTEXT_RECORDINGS = 40
# Announced before it is written.
MUCH_BYTES = 2e9
JobClips = tuple[npt.NDArray[np.uint16], npt.NDArray[np.int16]]
# Settings that begin so are applied to features in every batch, not when clips are rendered.
PER_BATCH = ("spec_augment", "time_mask", "mel_", "tempo_warp")


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
