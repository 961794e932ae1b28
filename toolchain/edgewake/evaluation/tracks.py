"""Scorers give probability tracks of whole recordings (the int8 model's equal the detector's); copies weigh as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgewake.cache import Cache
from edgewake.config import FrontendConfig, WakewordConfig
from edgewake.console import bar
from edgewake.data.manifest import Entry
from edgewake.evaluation.recordings import CLEAN, NEAR, NEGATIVE, EvaluationJob, SplitRecordings
from edgewake.evaluation.rooms import ROOMS
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.events import EventCounter, probabilities, refractory_steps
from edgewake.runtime.model_manifest import load_model
from edgewake.runtime.network.compiled import Backend, CompiledModel, CompiledNetwork, usable
from edgewake.runtime.pipeline.params import quantize
from edgewake.runtime.simulator import model_input
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite
from edgewake.runtime.tflm import TflmModel

# Of a window that slides over audio, s. Clips are rendered with the phrase ending anywhere within 0.37 s
# (`RenderPlan.tail_frames`): of windows this far apart one always has it there, at the least cost.
HOP_S = 0.35

Int8Array = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.float32]


class Scorer(Protocol):
    """Gives the probability of the phrase at every step of whole recordings.

    Attributes:
        frontend: recordings are given as its features, uint16 (frames, channels); None: as int16 samples.
        refractory_steps: see `find_events`.
    """

    frontend: FrontendConfig | None
    refractory_steps: int

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """Smoothed probability at every step of each recording, from its own reset: float32, (steps,)."""


@dataclass
class Int8Scorer:
    """The int8 model: `to_input` makes int8 steps of features, `run` takes them from reset to logits, (steps,) int8."""

    run: Callable[[Int8Array], Int8Array]
    to_input: Callable[[npt.NDArray[np.uint16]], Int8Array]
    output: Quantization
    frontend: FrontendConfig | None
    window: int
    refractory_steps: int

    @classmethod
    def of_model(cls, path: Path, engine: Backend = "c", cache: Cache | None = None) -> Int8Scorer:
        """The model of a build or model folder, by its generated C or, some times slower, by TFLM."""
        manifest, tflite = load_model(path)
        frontend, given = manifest.frontend_config, manifest.input

        def to_input(features: npt.NDArray[np.uint16]) -> Int8Array:
            whole = features[: len(features) // manifest.frames_per_step * manifest.frames_per_step]
            steps = whole.reshape(-1, manifest.frames_per_step * frontend.channels)
            return quantize(steps, given.multiplier, given.shift, given.zero_point)

        run, output = _runner(tflite, engine, cache), manifest.output.quantization
        return cls(run, to_input, output, frontend, manifest.window, manifest.refractory_steps)

    @classmethod
    def of_deployed(cls, model: DeployedModel, config: WakewordConfig) -> Int8Scorer:
        """A model in the deploy form, by its generated C, with the settings of its run."""
        frontend, evaluation = config.frontend, config.evaluation
        steps = refractory_steps(evaluation.refractory_s, model.frames_per_step * frontend.step_ms / 1000)
        cache = Cache(config.cache.folder, config.cache.limit_gb)
        run = _runner(write_tflite(streaming_graphs(model)), "c", cache)
        return cls(run, partial(model_input, model), model.output, frontend, evaluation.window, steps)

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """Equal to `Detector.probabilities` of each recording; see `Scorer`."""
        return [probabilities(self.run(self.to_input(features)), self.output, self.window) for features in recordings]


def _runner(model: bytes, engine: Backend, cache: Cache | None) -> Callable[[Int8Array], Int8Array]:
    """Steps of a streaming .tflite from reset, (steps, inputs) int8 -> (steps,) int8; without a C compiler by TFLM."""
    if usable(engine) == "c":
        return CompiledModel(CompiledNetwork(model, cache)).windowed
    return partial(_run_tflm, TflmModel(model))


def _run_tflm(model: TflmModel, steps: Int8Array) -> Int8Array:
    model.reset()
    return model.run(steps)


@dataclass(frozen=True)
class Track:
    """What a model gives for one recording: smoothed probabilities, (steps,) float32, over `seconds` of audio.

    `group` names the copies of one recording, or its noisy draws, which weigh together as one; "" for none.
    """

    entry: Entry
    probabilities: Probabilities
    seconds: float
    group: str = ""

    @property
    def peak(self) -> float:
        """The highest probability; -1 when the recording is too short for a step."""
        return float(self.probabilities.max()) if len(self.probabilities) else -1.0


@dataclass(frozen=True)
class SplitTracks:
    """Tracks of one split: of recordings with the phrase by condition ("clean", and that of the noise), of others.

    `near` are those of what nearly holds the phrase, which do not count as `negatives`.
    """

    positives: Mapping[str, Sequence[Track]]
    negatives: Sequence[Track]
    refractory_steps: int
    near: Sequence[Track] = ()

    @cached_property
    def events(self) -> EventCounter:
        """False accepts at any cutoff."""
        return EventCounter((track.probabilities for track in self.negatives), self.refractory_steps)

    @property
    def hours(self) -> float:
        """Hours of audio without the phrase."""
        return hours_of(self.negatives)

    @property
    def noisy(self) -> str:
        """The name of the noisy condition."""
        return next(name for name in self.positives if name != CLEAN)


def score_split(scorer: Scorer, recordings: SplitRecordings) -> SplitTracks:
    """Tracks of every recording of a split but in rooms, in the order of `recordings.jobs`."""
    tracks = {name: score_condition(scorer, recordings, name) for name in recordings.jobs if name not in ROOMS}
    negatives, near = tracks.pop(NEGATIVE), tracks.pop(NEAR, [])
    return SplitTracks(tracks, negatives, scorer.refractory_steps, near)


def score_condition(scorer: Scorer, recordings: SplitRecordings, condition: str) -> list[Track]:
    """Tracks of the recordings of one condition."""
    jobs, found = recordings.jobs[condition], list[Track]()
    total = round(sum(job.entry.seconds for job in jobs))
    with bar(f"{recordings.split}: seconds of audio scored, {condition}", total) as advance:
        for batch, values, seconds in recordings.batches(condition, scorer.frontend):
            scored = zip(batch, scorer.score(values), seconds, strict=True)
            found += [Track(job.entry, track, length, _group(job)) for job, track, length in scored]
            advance(sum(seconds))
    return found


def _group(job: EvaluationJob) -> str:
    """The copies of one recording weigh together as one; so do its noisy draws."""
    drawn = job.condition not in (CLEAN, NEGATIVE, NEAR)
    group = job.entry.duplicate_group or (job.entry.path if drawn else "")
    return f"{job.condition}/{group}" if group else ""


def weights(tracks: Sequence[Track]) -> npt.NDArray[np.float64]:
    """(tracks,) weights: a group of n copies weighs 1 in all, so each copy 1/n."""
    sizes = Counter(track.group for track in tracks if track.group)
    return np.array([1 / sizes.get(track.group, 1) for track in tracks], np.float64)


def weighted_hits(tracks: Sequence[Track], cutoff: float) -> tuple[float, float]:
    """Distinct recordings that raise at least one event, and distinct recordings."""
    weight, peaks = weights(tracks), np.array([track.peak for track in tracks], np.float32)
    return float(weight[peaks >= np.float32(cutoff)].sum()), float(weight.sum())


def hours_of(tracks: Sequence[Track]) -> float:
    """Hours of audio."""
    return sum(track.seconds for track in tracks) / 3600
