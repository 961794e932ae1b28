"""A model is judged on whole recordings: the cutoff comes from validation, the figures from another split."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgewake import __version__
from edgewake.console import bar
from edgewake.data.manifest import CorpusManifest, Entry, Kind, Split
from edgewake.data.mixing import NoisePool, mix_at_snr
from edgewake.data.reading import SAMPLE_RATE, read_audio, to_float, to_int16
from edgewake.errors import EdgewakeError
from edgewake.evaluation.cutoff import Cutoff, choose_cutoff
from edgewake.evaluation.det import DetCurve, det_curve
from edgewake.evaluation.engine import Engine, Samples, Scorer
from edgewake.evaluation.metrics import summarise
from edgewake.evaluation.tracks import Track, total_weight

VERSION = 1
TAIL_SECONDS = 0.5
BATCH_SECONDS = 600.0
NOISE_DRAWS = 3
SPOT_CHECKS = 8
SPOT_SECONDS = 60.0
NEGATIVE_KINDS: tuple[Kind, ...] = ("negative", "noise", "music")


@dataclass(frozen=True)
class Job:
    """One recording under one condition."""

    entry: Entry
    condition: str
    draw: int = 0


@dataclass(frozen=True)
class SplitTracks:
    """Probability tracks of one split.

    Attributes:
        positives: condition ("clean", "10db") to its tracks.
        negatives: speech, noise and music.
        checked: recordings and steps that the detector confirmed.
    """

    positives: dict[str, list[Track]]
    negatives: list[Track]
    checked: tuple[int, int]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: `metrics` as plain JSON, and the DET curve of the reported split."""

    metrics: dict[str, Any]
    curve: DetCurve


def evaluate(
    model: Path,
    corpus: CorpusManifest,
    split: Split = "test",
    engine: Engine = "simulator",
    *,
    target_fa_per_hour: float = 0.5,
    cutoff: Literal["val", "shipped"] | float = "val",
    snr_db: float = 10.0,
    seed: int = 0,
) -> Evaluation:
    """Judge a model by streaming over the whole of every recording of a split.

    Args:
        model: a build or model folder, or its manifest.json.
        corpus: which recordings there are; its phrase must be the model's.
        split: reported split.
        engine: see `Scorer`. A sample of the recordings goes through the detector too, and must agree.
        target_fa_per_hour: what the cutoff aims at on validation; see `choose_cutoff`.
        cutoff: "val" chooses it on the validation split, "shipped" takes the manifest's, or a number.
        snr_db: of the noisy condition: active speech over the noise's mean power.
        seed: of the noise.

    Raises:
        EdgewakeError: another phrase, an empty split, or a recording that cannot be read.
        ParityError: the engine and the detector differ on the sample.
    """
    scorer = Scorer(model, engine)
    if corpus.phrase.casefold() != scorer.manifest.phrase.casefold():
        raise EdgewakeError(
            f"the model listens for {scorer.manifest.phrase!r}, the corpus is of {corpus.phrase!r}: "
            f"import it with --phrase {scorer.manifest.phrase!r}"
        )
    known = scorer.manifest
    chosen: Cutoff | None = None
    validation: SplitTracks | None = None
    if cutoff == "val":
        validation = score_split(scorer, corpus, "val", snr_db=snr_db, seed=seed)
        chosen = choose_cutoff(
            [track for tracks in validation.positives.values() for track in tracks],
            validation.negatives,
            target_fa_per_hour,
            window=known.window,
            refractory_steps=known.refractory_steps,
        )
    at = chosen.cutoff if chosen else known.cutoff if cutoff == "shipped" else float(cutoff)
    reported = (
        validation if validation and split == "val" else score_split(scorer, corpus, split, snr_db=snr_db, seed=seed)
    )
    curve = det_curve(reported.positives["clean"], reported.negatives, known.refractory_steps)
    noisy = next(name for name in reported.positives if name != "clean")
    noisy_curve = det_curve(reported.positives[noisy], reported.negatives, known.refractory_steps)
    metrics = {
        "version": VERSION,
        "edgewake": __version__,
        "model": {"phrase": known.phrase, "sha256": known.model.sha256, "shipped_cutoff": known.cutoff},
        "split": split,
        "engine": engine,
        "seed": seed,
        "snr_db": snr_db,
        "detector_check": {"recordings": reported.checked[0], "steps": reported.checked[1], "differences": 0},
        "cutoff": {
            "value": at,
            "from": "validation" if chosen else str(cutoff),
            "target_fa_per_hour": target_fa_per_hour,
            "choice": chosen.json() if chosen else None,
        },
        "summary": summarise(reported.positives, reported.negatives, at, known.refractory_steps),
        "validation": summarise(validation.positives, validation.negatives, at, known.refractory_steps)
        if validation
        else None,
        "data": describe(reported, corpus),
        "det": curve.json(),
        "det_noisy": noisy_curve.json(),
    }
    return Evaluation(metrics, curve)


def score_split(
    scorer: Scorer, corpus: CorpusManifest, split: Split, *, snr_db: float = 10.0, seed: int = 0
) -> SplitTracks:
    """Tracks of every recording of a split, a sample of them confirmed by the detector.

    Raises:
        EdgewakeError: the split lacks recordings with the phrase, without it, or noise.
    """
    positives = corpus.select(split=split, kind="positive")
    negatives = corpus.select(split=split, kind=NEGATIVE_KINDS)
    noise = corpus.select(split=split, kind="noise")
    for what, entries in (("with the phrase", positives), ("without it", negatives), ("of noise", noise)):
        if not entries:
            raise EdgewakeError(f"split {split} has no recordings {what}: add some to the corpus manifest")
    noisy = f"{snr_db:g}db"
    draws = [("clean", 0), *((noisy, draw) for draw in range(NOISE_DRAWS))]
    jobs = [Job(entry, condition, draw) for entry in positives for condition, draw in draws]
    jobs += [Job(entry, "negative") for entry in negatives]
    renderer = _Renderer(corpus, split, snr_db, seed)
    tracks: dict[str, list[Track]] = {"clean": [], noisy: [], "negative": []}
    checks = _sample(jobs, seed)
    checked = steps = 0
    total = round(sum(job.entry.seconds for job in jobs))
    with bar(f"{split}: seconds of audio", total) as advance:
        for batch, audio in _rendered(jobs, renderer):
            for job, samples, found in zip(batch, audio, scorer.score(audio), strict=True):
                tracks[job.condition].append(_track(job, found, len(samples)))
                if job in checks:
                    part = samples[: int(SPOT_SECONDS * SAMPLE_RATE)]
                    name = f"{job.entry.path} ({job.condition})"
                    steps += scorer.check(name, part, found[: _steps_in(scorer, len(part))])
                    checked += 1
            advance(sum(job.entry.seconds for job in batch))
    return SplitTracks({"clean": tracks["clean"], noisy: tracks[noisy]}, tracks["negative"], (checked, steps))


def _steps_in(scorer: Scorer, samples: int) -> int:
    return scorer.frontend.frames(samples) // scorer.manifest.frames_per_step


def _track(job: Job, found: npt.NDArray[np.float32], samples: int) -> Track:
    entry = job.entry
    # Noisy draws of one recording weigh together as that recording does; so do copies of one recording.
    group = entry.duplicate_group or (entry.path if job.condition not in ("clean", "negative") else "")
    return Track(
        path=entry.path,
        kind=entry.kind,
        probabilities=found,
        seconds=samples / SAMPLE_RATE,
        family=entry.family,
        language=entry.language,
        suspect=entry.quality == "suspect",
        duplicate_group=f"{job.condition}/{group}" if group else "",
    )


class _Renderer:
    """Reads a job's audio; noise depends on the seed, the recording and the draw, not on order."""

    def __init__(self, corpus: CorpusManifest, split: Split, snr_db: float, seed: int) -> None:
        self._corpus, self._snr_db, self._seed = corpus, snr_db, seed
        # A recording with the phrase comes up once for every condition, one after the other.
        self._read_again = lru_cache(maxsize=64)(read_audio)
        self._noise = NoisePool.from_manifest(corpus, split, ("noise",))

    def __call__(self, job: Job) -> Samples:
        path = self._corpus.path_of(job.entry)
        if job.condition == "negative":
            return read_audio(path)
        samples = self._read_again(path)
        # A stream goes on after the phrase, so that smoothing can reach its end.
        samples = np.concatenate([samples, np.zeros(int(TAIL_SECONDS * SAMPLE_RATE), np.int16)])
        if job.condition == "clean":
            return samples
        rng = np.random.default_rng([self._seed, job.draw, zlib.crc32(job.entry.path.encode())])
        mixed = mix_at_snr(to_float(samples), self._noise.draw(len(samples), rng), self._snr_db)
        return to_int16(mixed / max(1.0, float(np.abs(mixed).max())))


def _rendered(jobs: Sequence[Job], render: Callable[[Job], Samples]) -> Iterator[tuple[list[Job], list[Samples]]]:
    """Batches with their audio, the next one being decoded on all cores while the last one is scored."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting: deque[tuple[list[Job], list[Future[Samples]]]] = deque()
        for batch in _batches(jobs):
            waiting.append((batch, [pool.submit(render, job) for job in batch]))
            if len(waiting) > 1:
                ready, audio = waiting.popleft()
                yield ready, [future.result() for future in audio]
        for ready, audio in waiting:
            yield ready, [future.result() for future in audio]


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    batch: list[Job] = []
    seconds = 0.0
    for job in jobs:
        if batch and seconds + job.entry.seconds > BATCH_SECONDS:
            yield batch
            batch, seconds = [], 0.0
        batch.append(job)
        seconds += job.entry.seconds
    if batch:
        yield batch


def _sample(jobs: Sequence[Job], seed: int) -> set[Job]:
    """Jobs for the detector: some with the phrase and some without, always the first of each."""
    rng = np.random.default_rng(seed)
    chosen: set[Job] = set()
    for negative in (False, True):
        kind = [job for job in jobs if (job.condition == "negative") == negative]
        chosen.add(kind[0])
        chosen |= {kind[int(i)] for i in rng.choice(len(kind), min(len(kind), SPOT_CHECKS // 2), replace=False)}
    return chosen


def describe(tracks: SplitTracks, corpus: CorpusManifest) -> dict[str, Any]:
    """What the figures were measured on, in counts."""
    clean = tracks.positives["clean"]
    return {
        # Its name and not its place, which is another on every machine.
        "corpus": corpus.folder.resolve().name,
        "recordings_with_phrase": len(clean),
        "distinct_recordings_with_phrase": round(total_weight(clean), 3),
        "suspect_recordings": sum(track.suspect for track in clean),
        "recordings_without_phrase": len(tracks.negatives),
        "hours_without_phrase": sum(track.seconds for track in tracks.negatives) / 3600,
        "noise_draws": NOISE_DRAWS,
    }
