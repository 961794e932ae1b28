"""The recordings of a split under every condition, as audio, or as features that are computed once and kept."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.cache import Cache
from edgewake.config import FrontendConfig
from edgewake.console import bar
from edgewake.data.manifest import CorpusManifest, Entry, Kind, Split
from edgewake.data.mixing import Audio, NoisePool, mix_at_snr
from edgewake.data.reading import SAMPLE_RATE, Samples, file_of, to_float, to_int16
from edgewake.errors import EdgewakeError
from edgewake.evaluation.rooms import ROOMS, in_room, responses_of, rooms_of
from edgewake.runtime.frontend import features_batch

CLEAN, NEGATIVE = "clean", "negative"
# What nearly holds the phrase is made to be mistaken: nobody says it so often, so it is no part of an hour's rate.
NEAR = "near"
# A stream goes on after the phrase, so that smoothing can reach its end.
TAIL_SECONDS = 0.5
BATCH_SECONDS = 600.0
VALUES = "values.bin"


@dataclass(frozen=True)
class Noise:
    """The backgrounds of the noisy condition: for each recording `draws` stretches, which its path and the seed decide.

    They are of recordings of these `kinds`, of the same split; where it has none, `synthetic` gives noise, (length,
    generator) to float32 (length,). `snr_db` is the mean power of active speech over the noise's.
    """

    snr_db: float = 10.0
    draws: int = 3
    seed: int = 0
    kinds: tuple[Kind, ...] = ("noise",)
    synthetic: Callable[[int, np.random.Generator], Audio] | None = None

    @property
    def condition(self) -> str:
        """The condition's name, such as "10db"."""
        return f"{self.snr_db:g}db"


@dataclass(frozen=True)
class EvaluationJob:
    """One recording under one condition; `draw` tells noisy renderings of it apart."""

    entry: Entry
    condition: str
    draw: int = 0


Batch = tuple[list[EvaluationJob], Sequence[npt.NDArray[Any]], list[float]]


class SplitRecordings:
    """Recordings with the phrase, clean and in noise, and those without it (speech, noise, music) of a split.

    Those of what nearly holds the phrase (`Entry.near`) are a condition of their own, where there are any. Those with
    the phrase have two more, `ROOMS`, as many rooms each as draws of noise; there are `measured` and `simulated` rooms.

    Features are kept in `cache` (None: `Cache()`). An EdgewakeError names what the split lacks.
    """

    def __init__(self, corpus: CorpusManifest, split: Split, noise: Noise, cache: Cache | None = None) -> None:
        self.corpus, self.split, self.noise = corpus, split, noise
        self._cache = cache or Cache()
        positives = corpus.select(split=split, label=1)
        without = corpus.select(split=split, label=0)
        negatives, near = ([entry for entry in without if entry.near is wanted] for wanted in (False, True))
        self._backgrounds = corpus.select(split=split, kind=noise.kinds)
        needed = [("with the phrase", positives), ("without the phrase", negatives)]
        if noise.synthetic is None:
            needed.append(("of " + " or ".join(noise.kinds), self._backgrounds))
        for what, entries in needed:
            if not entries:
                raise EdgewakeError(f"split {split} has no recordings {what}: add some to the corpus manifest")
        self.measured, self.simulated = rooms_of(corpus, split)
        drawn = [noise.condition, *(ROOMS if self.measured or self.simulated else ())]
        self.jobs = {
            CLEAN: [EvaluationJob(entry, CLEAN) for entry in positives],
            NEGATIVE: [EvaluationJob(entry, NEGATIVE) for entry in negatives],
        }
        for name in drawn:
            self.jobs[name] = [EvaluationJob(e, name, draw) for e in positives for draw in range(noise.draws)]
        if near:
            self.jobs[NEAR] = [EvaluationJob(entry, NEAR) for entry in near]
        self._features: dict[tuple[str, str], tuple[list[npt.NDArray[Any]], list[float]]] = {}
        self._read = lru_cache(maxsize=64)(corpus.read)
        self._responses = lru_cache(maxsize=1)(partial(responses_of, corpus, split))

    def audio(self, job: EvaluationJob) -> Samples:
        """A job's audio; it depends on the recording, the draw and the seed, and not on the order of calls."""
        if job.condition in (NEGATIVE, NEAR):
            return self.corpus.read(job.entry)
        samples = np.concatenate([self._read(job.entry), np.zeros(int(TAIL_SECONDS * SAMPLE_RATE), np.int16)])
        if job.condition == CLEAN:
            return samples
        rng = np.random.default_rng([self.noise.seed, job.draw, zlib.crc32(job.entry.path.encode())])
        if job.condition in ROOMS:
            responses = self._responses()
            mixed = in_room(to_float(samples), responses[int(rng.integers(len(responses)))], job.condition)
        else:
            draw = self._pool.draw if len(self._pool) else self.noise.synthetic
            assert draw is not None
            mixed = mix_at_snr(to_float(samples), draw(len(samples), rng), self.noise.snr_db)
        return to_int16(mixed / max(1.0, float(np.abs(mixed).max())))

    def batches(self, condition: str, frontend: FrontendConfig | None) -> Iterator[Batch]:
        """The recordings of a condition, about 600 s at a time: jobs, what is given of each, and its seconds.

        Given are a frontend's features, uint16 (frames, channels), computed now or by an earlier call or process;
        without one int16 samples (n,).
        """
        if frontend is None:
            if condition in ROOMS:
                self._responses()  # before threads, of which the simulation has one random state
            with ThreadPoolExecutor() as pool:
                for batch in _batches(self.jobs[condition]):
                    audio = list(pool.map(self.audio, batch))
                    yield batch, audio, [len(samples) / SAMPLE_RATE for samples in audio]
            return
        name = (condition, frontend.hash())
        if name not in self._features:
            self._features[name] = self._load(condition, frontend)
        values, seconds = self._features[name]
        begin = 0
        for batch in _batches(self.jobs[condition]):
            part = slice(begin, begin + len(batch))
            yield batch, values[part], seconds[part]
            begin = part.stop

    def _load(self, condition: str, frontend: FrontendConfig) -> tuple[list[npt.NDArray[Any]], list[float]]:
        """Features and seconds of a condition's recordings, from the cache or made for it."""
        jobs, noise = self.jobs[condition], self.noise
        synthetic = noise.synthetic.__module__ if noise.synthetic else None
        about: Any = condition
        needed: tuple[Entry, ...] = ()
        if noisy := condition == noise.condition:
            about, needed = {**vars(noise), "synthetic": synthetic}, self._backgrounds
        elif condition in ROOMS:
            about, needed = [condition, noise.seed, self.simulated], self.measured
        parameters = {
            "condition": about,
            "recordings": [[job.entry.path, job.draw] for job in jobs],
            "frontend": frontend.hash(),
        }

        def make(folder: Path) -> dict[str, Any]:
            lengths: list[int] = []
            seconds: list[float] = []
            total = round(sum(job.entry.seconds for job in jobs))
            progress = bar(f"{self.split}: seconds of audio, {condition}", total)
            with (folder / VALUES).open("wb") as file, progress as advance:
                for _, audio, durations in self.batches(condition, None):
                    for values in features_batch(audio, frontend):
                        values.tofile(file)
                        lengths.append(len(values))
                    seconds += durations
                    advance(sum(durations))
            return {"lengths": lengths, "seconds": seconds}

        used = [*(job.entry for job in jobs), *needed]
        files = dict.fromkeys(file_of(self.corpus.path_of(entry)) for entry in used)
        code = ["edgewake.evaluation.recordings", *([synthetic] if noisy and synthetic else [])]
        entry = self._cache.get("recordings", parameters, make, code=code, inputs=files)
        lengths = entry.record["lengths"]
        shape = (sum(lengths), frontend.channels)
        # A file without bytes cannot be mapped.
        values = np.memmap(entry.folder / VALUES, np.uint16, "r", shape=shape) if shape[0] else np.zeros(shape, "u2")
        return np.split(values, np.cumsum(lengths)[:-1]), entry.record["seconds"]

    @cached_property
    def _pool(self) -> NoisePool:
        return NoisePool.from_manifest(self.corpus, self.split, self.noise.kinds)


def _batches(jobs: Sequence[EvaluationJob]) -> Iterator[list[EvaluationJob]]:
    """Jobs in order, about 600 s of audio at a time."""
    batch: list[EvaluationJob] = []
    seconds = 0.0
    for job in jobs:
        if batch and seconds + job.entry.seconds > BATCH_SECONDS:
            yield batch
            batch, seconds = [], 0.0
        batch.append(job)
        seconds += job.entry.seconds
    if batch:
        yield batch
