"""The clips of a split, rendered in chunks that are kept by content, and read by memory map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from edgewake.cache import content_key
from edgewake.config import WakewordConfig
from edgewake.console import bar, console, error_console
from edgewake.data.clips import ClipArray, ClipDataset, mapped
from edgewake.data.manifest import CorpusManifest, Split, recording_weights
from edgewake.data.ragged import KEY as FEATURE_NEGATIVES
from edgewake.data.ragged import RaggedFeatures, feature_negatives
from edgewake.data.reading import to_float
from edgewake.data.rendering import (
    AUDIO,
    FEATURES,
    KINDS,
    Chunk,
    ClipKind,
    Renderer,
    RenderJob,
    RenderPlan,
    check_packages,
)
from edgewake.data.rooms import simulated_rooms
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.processes import process_pool
from edgewake.runtime.frontend import FEATURE_SCALE

# Clips of the phrase from one recording that make a pass: more renderings are more passes, and those before stay.
PASS_CLIPS = 8
# About so many clips make a chunk, some seconds of work. It ends at a recording that its content picks out, so that
# a new recording changes one chunk and not those after it.
CHUNK_CLIPS = 1024
# Each chunk takes talkers and context from so many recordings of at least this length, picked by content too.
SPEECH_RECORDINGS, SPEECH_S = 8, 5.0
# What decides clips, beside their settings.
RENDERING = ("edgewake.data.rendering",)
# Announced before it is written.
MUCH_BYTES = 2e9
# Settings that begin so are applied to features in every batch, not when clips are rendered.
PER_BATCH = ("spec_augment", "time_mask", "mel_", "tempo_warp")


class FeatureStore(ClipDataset):
    """Clips of one split: inputs are features, float32 (frames, channels).

    With `gives_audio` set they are a clip's audio, float32 (samples,) with full scale 1.0: for students whose
    features are computed on the way. `audio` is a teacher's input of the same clips, int16 (clips, samples), or
    None where it was not asked for; `entries` is the index of each clip's recording in the manifest, `kinds` that of
    its kind in `KINDS`; `key` names the whole by content. Of longer rows on disk each epoch takes a random stretch.
    Clips of `negatives`, features without a recording (entry -1), come last, with `weight` each.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        jobs: Sequence[RenderJob],
        *,
        audio: bool,
        key: str = "",
        seed: int = 0,
        negatives: Sequence[RaggedFeatures] = (),
        weight: float = 1.0,
    ) -> None:
        counts = [len(job.starts) for job in jobs]
        self.key, self.seed = key, seed
        self.features = ClipArray.whole([*(mapped(folder / FEATURES) for folder in folders), *negatives])
        self.audio = ClipArray.whole([mapped(folder / AUDIO) for folder in folders]) if audio else None
        self.entries = np.repeat(np.array([job.entry for job in jobs], np.int64), counts)
        self.kinds = np.repeat(np.array([KINDS.index(job.kind) for job in jobs], np.int64), counts)
        weights, more = np.repeat([job.weight for job in jobs], counts), sum(map(len, negatives))
        if more:
            self.entries = np.concatenate([self.entries, np.full(more, -1)])
            self.kinds = np.concatenate([self.kinds, np.full(more, KINDS.index("negative"))])
            weights = np.concatenate([weights, np.full(more, weight)])
        super().__init__((self.kinds == 0).astype(np.int64), weights)
        self.gives_audio = False

    def set_epoch(self, epoch: int) -> None:
        """Take the stretches of `epoch` from longer rows."""
        rng = np.random.default_rng([self.seed, epoch, 2])
        self.features.first = rng.integers(self.features.spare(), endpoint=True)

    def inputs_of(self, clips: Any) -> torch.Tensor:
        """Features, or audio with `gives_audio`, of one clip or several."""
        if self.gives_audio:
            assert self.audio is not None
            return torch.from_numpy(to_float(self.audio[clips]))
        return torch.from_numpy(self.features[clips].astype(np.float32) * np.float32(FEATURE_SCALE))

    def keep(self, clips: npt.NDArray[np.int64]) -> None:
        """Hold these clips only, numbered anew; what lies on disk stays as it is."""
        self.features = self.features.chosen(clips)
        self.audio = None if self.audio is None else self.audio.chosen(clips)
        for name in ("labels", "kinds", "entries", "base_weights", "weights", "hard"):
            setattr(self, name, getattr(self, name)[clips])


def plan_jobs(manifest: CorpusManifest, split: Split, config: WakewordConfig) -> list[RenderJob]:
    """What is rendered of a split: the phrase and what is near it many times, fragments, every stretch of all else.

    Copies of one recording (`duplicate_group`) share one recording's weight.
    """
    data, plan, train = config.data, RenderPlan.of(config), split == "train"
    long = replace(plan, frames=int(plan.frames * data.negative_crop)) if train else plan
    renders: dict[ClipKind, int] = {
        "positive": data.positive_renders if train else data.validation_renders,
        "near": data.near_renders if train else data.validation_renders,
        "fragment": data.fragment_renders if train else 0,
    }
    chosen = [(i, e) for i, e in enumerate(manifest.entries) if e.split == split and e.kind != "rir"]
    shares = recording_weights([entry for _, entry in chosen])
    jobs = []
    for (index, entry), share in zip(chosen, shares.tolist(), strict=True):
        content = manifest.content(entry)
        kinds: tuple[ClipKind, ...] = ("near",) if entry.near else ("positive", "fragment") if entry.label else ()
        for kind in kinds:
            for number, first in enumerate(range(0, renders[kind], PASS_CLIPS)):
                starts = (0,) * min(PASS_CLIPS, renders[kind] - first)
                jobs.append(RenderJob(index, content, kind, plan.frames, number, starts, share))
        if kinds:
            continue
        samples = int(entry.seconds * data.sample_rate)
        of = long if samples >= long.samples else plan
        step = int(of.frames * of.frontend.step_samples * data.negative_hop)
        starts = tuple(range(0, max(1, samples - of.samples // 2), step))
        starts *= data.short_negative_renders if samples < of.samples else 1
        for number in range(data.negative_renders if train else 1):
            jobs.append(RenderJob(index, content, "negative", of.frames, number, starts, share))
    return jobs


def chunks_of(jobs: Sequence[RenderJob], manifest: CorpusManifest, split: Split) -> list[Chunk]:
    """Jobs of one kind, length and pass together, in the order of the manifest."""
    speech = [
        index
        for index, entry in enumerate(manifest.entries)
        if entry.split == split and entry.kind == "negative" and not entry.near and entry.seconds >= SPEECH_S
    ]
    values = np.array([_number(manifest.content(manifest.entries[index])) for index in speech], np.uint64)
    unfinished: dict[tuple[Any, ...], list[RenderJob]] = {}
    chunks = []

    def finish(found: list[RenderJob]) -> None:
        # The nearest by exclusive or, as in Kademlia: with other recordings most stay the same.
        nearest = np.argsort(values ^ np.uint64(_number(found[-1].content)))[:SPEECH_RECORDINGS]
        chunks.append(Chunk(tuple(found), tuple(speech[number] for number in nearest)))

    for job in jobs:
        group = (job.kind, job.frames, job.number)
        unfinished.setdefault(group, []).append(job)
        if _number(job.content) % max(1, CHUNK_CLIPS // len(job.starts)) == 0:
            finish(unfinished.pop(group))
    for rest in unfinished.values():
        finish(rest)
    return chunks


def _number(content: str) -> int:
    return int(content[:16], 16)


def build_store(
    manifest: CorpusManifest,
    split: Split,
    config: WakewordConfig,
    *,
    audio: bool | Literal["clean"] = False,
    phrase: bool = True,
) -> FeatureStore:
    """Render a split, or open what was rendered from the same content; chunks of clips lie in the cache.

    A chunk's key holds the recordings' samples and all else that decides its clips, so that new recordings, or more
    renderings, add chunks and leave the others, and an interrupted rendering goes on. With `audio`, the clips' audio is
    kept too, which a teacher needs: 32 kB for each second of a clip; with "clean", what the clips were varied from.
    Without `phrase`, recordings of a phrase, this one or another, are left out. Of the train split, clips of
    `data.positive_fraction` of the recordings of the phrase are used; all share one rendering. To the train split come
    the clips of `data.feature_negatives`, which have no audio.
    """
    check_packages(config)
    features = config.data.feature_negatives if split == "train" else ()
    if features and audio:
        what = f"{FEATURE_NEGATIVES} {features[0]} has no audio, which a teacher or this student needs"
        raise ConfigError(f"{what}: leave it empty, or train tiny_conv without a teacher")
    negatives = feature_negatives(features, config.frontend, RenderPlan.of(config).frames)
    jobs, settings, cache = plan_jobs(manifest, split, config), config.augmentation, config.cache.open()
    if not phrase:
        jobs = [job for job in jobs if job.kind == "negative" and not manifest.entries[job.entry].phrase]
    for kind, what in (("positive", "a recording of the phrase"), ("negative", "one without the phrase")):
        if (phrase or kind == "negative") and not any(job.kind == kind for job in jobs):
            raise EdgewakeError(f"split {split!r} of the manifest lacks {what}; add one and train again")
    chunks, plan = chunks_of(jobs, manifest, split), RenderPlan.of(config)
    rooms = simulated_rooms(settings.simulated_rooms, settings.rt60_s, cache) if settings.simulated_rooms else None
    pools = [e for e in manifest.entries if (e.split == split and e.kind in ("noise", "music"))]
    pools += manifest.select(split="train", kind="rir")
    about = {
        "seed": config.data.seed,
        "plan": {**vars(plan), "frontend": config.frontend.hash()},
        "splice_share": config.data.splice_share,
        "augmentation": {k: v for k, v in settings.model_dump().items() if not k.startswith(PER_BATCH)},
        "pools": [manifest.content(entry) for entry in pools],
    }
    base = content_key("clips", about, code=RENDERING, inputs=[rooms] if rooms else [])

    def parameters(chunk: Chunk, with_audio: bool | str) -> dict[str, Any]:
        entries = [manifest.entries[job.entry] for job in chunk.jobs]
        recordings = [(*job.key, e.phrase_start, e.phrase_end) for job, e in zip(chunk.jobs, entries, strict=True)]
        speech = [manifest.content(manifest.entries[index]) for index in chunk.speech]
        return {"base": base, "recordings": recordings, "speech": speech, "audio": with_audio}

    # Features are the same with audio and without.
    kept = [
        cache.find("clips", parameters(chunk, audio or True), code=())
        or (None if audio else cache.find("clips", parameters(chunk, False), code=()))
        for chunk in chunks
    ]
    lacking = [chunk for chunk, entry in zip(chunks, kept, strict=True) if entry is None]
    if lacking:
        clips = sum(chunk.clips for chunk in lacking)
        frames = sum(chunk.clips * chunk.jobs[0].frames for chunk in lacking)
        needed = 2 * frames * (plan.frontend.channels + (plan.frontend.step_samples if audio else 0))
        cache.check_room(f"{clips} clips of {split}", needed, "lower data.positive_renders")
        if needed > MUCH_BYTES:
            error_console.print(f"rendering {clips} clips of {split}: {needed / 1e9:.1f} GB in {cache.folder}")
        pool = process_pool(config.training.workers, Renderer, manifest, split, config, rooms, code=RENDERING)
        with pool as (render, run), bar(f"rendering {split}", clips) as advance:

            def make(chunk: Chunk) -> Path:
                found = cache.get(
                    "clips", parameters(chunk, audio), lambda folder: render(chunk, folder, audio), code=()
                )
                advance(chunk.clips)
                return found.folder

            made = iter(list(run(make, lacking)))
    folders = [next(made) if entry is None else entry.folder for entry in kept]
    content = [*(parameters(chunk, audio or True) for chunk in chunks), *(store.key for store in negatives)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    done = [job for chunk in chunks for job in chunk.jobs]
    more: dict[str, Any] = {"negatives": negatives, "weight": config.data.feature_negative_weight}
    store = FeatureStore(folders, done, audio=bool(audio), key=key, seed=config.training.seed, **more)
    if negatives:
        amount = f"{sum(map(len, negatives))} clips from {sum(store.hours for store in negatives):.1f} h"
        console.print(f"feature negatives: {amount} in {len(negatives)} stores", soft_wrap=True)
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
