"""Probability tracks of the recordings of a split; copies of one recording weigh as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgewake.console import bar
from edgewake.evaluation.recordings import CLEAN, NEGATIVE, EvaluationJob, SplitRecordings, batches
from edgewake.evaluation.scorers import Scorer
from edgewake.runtime.events import EventCounter


@dataclass(frozen=True)
class Track:
    """What a model gives for one recording, from reset to its end.

    Attributes:
        path: names the recording.
        kind: positive, negative (speech), noise or music.
        probabilities: (steps,) float32, smoothed.
        seconds: duration of the audio, which is what false accepts are counted over.
        family: source of the recording.
        language: spoken language, or "".
        suspect: the corpus doubts that the recording holds the phrase.
        duplicate_group: name shared by copies of one recording, or "".
    """

    path: str
    kind: str
    probabilities: npt.NDArray[np.float32]
    seconds: float
    family: str = ""
    language: str = ""
    suspect: bool = False
    duplicate_group: str = ""

    @property
    def peak(self) -> float:
        """The highest probability; -1 when the recording is too short for a step."""
        return float(self.probabilities.max()) if len(self.probabilities) else -1.0


@dataclass(frozen=True)
class SplitTracks:
    """Probability tracks of one split.

    Attributes:
        positives: condition ("clean", and that of the noise) to its tracks.
        negatives: speech, noise and music.
        refractory_steps: of the scorer that made them; see `find_events`.
    """

    positives: Mapping[str, Sequence[Track]]
    negatives: Sequence[Track]
    refractory_steps: int

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
    """Tracks of every recording of a split, in the order of `recordings.jobs`."""
    tracks: dict[str, list[Track]] = {}
    for condition, jobs in recordings.jobs.items():
        rendered = recordings.load(condition, scorer.frontend)
        found: list[npt.NDArray[np.float32]] = []
        total = round(sum(rendered.seconds))
        with bar(f"{recordings.split}: seconds of audio scored, {condition}", total) as advance:
            for batch in batches(jobs):
                part = slice(len(found), len(found) + len(batch))
                found += scorer.score(rendered.values[part])
                advance(sum(rendered.seconds[part]))
        scored = zip(jobs, found, rendered.seconds, strict=True)
        tracks[condition] = [_track(job, track, seconds) for job, track, seconds in scored]
    negatives = tracks.pop(NEGATIVE)
    return SplitTracks(tracks, negatives, scorer.refractory_steps)


def _track(job: EvaluationJob, probabilities: npt.NDArray[np.float32], seconds: float) -> Track:
    entry = job.entry
    # Noisy draws of one recording weigh together as that recording does; so do copies of one recording.
    group = entry.duplicate_group or (entry.path if job.condition not in (CLEAN, NEGATIVE) else "")
    return Track(
        path=entry.path,
        kind=entry.kind,
        probabilities=probabilities,
        seconds=seconds,
        family=entry.family,
        language=entry.language,
        suspect=entry.quality == "suspect",
        duplicate_group=f"{job.condition}/{group}" if group else "",
    )


def weights(tracks: Sequence[Track]) -> npt.NDArray[np.float64]:
    """(tracks,) weights: a group of n copies weighs 1 in all, so each copy 1/n."""
    sizes = Counter(track.duplicate_group for track in tracks if track.duplicate_group)
    return np.array([1 / sizes.get(track.duplicate_group, 1) for track in tracks], np.float64)


def weighted_hits(tracks: Sequence[Track], cutoff: float) -> tuple[float, float]:
    """Distinct recordings that raise at least one event, and distinct recordings."""
    weight = weights(tracks)
    peaks = np.array([track.peak for track in tracks], np.float32)
    return float(weight[peaks >= np.float32(cutoff)].sum()), float(weight.sum())


def hours_of(tracks: Sequence[Track]) -> float:
    """Hours of audio."""
    return sum(track.seconds for track in tracks) / 3600
