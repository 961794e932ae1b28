"""Recall and false accepts an hour: each with its counts and its 95 % interval, Wilson's or exact Poisson's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from edgewake.evaluation.tracks import SplitTracks, Track, hours_of, weighted_hits
from edgewake.runtime.events import EventCounter

CONFIDENCE = 0.95
# Names of figures in tables.
NAMES = {"total": "all of it together", "speech_en": "English speech", "speech_foreign": "foreign speech"}


@dataclass(frozen=True)
class Recall:
    """Recordings found, of those that hold the phrase. `value` and the interval are None without any."""

    hits: float
    total: float
    value: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "no recordings"
        interval = f"[{self.low:.1%}, {self.high:.1%}]"
        return f"{self.value:.1%} {interval} ({count_text(self.hits)} of {count_text(self.total)} recordings)"


@dataclass(frozen=True)
class EventRate:
    """Events, the hours they were counted over, events an hour. Without hours `value` is None."""

    events: int
    hours: float
    value: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "no audio"
        return f"{self.value:.2f}/h [{self.low:.2f}, {self.high:.2f}] ({self.events} in {self.hours:.2f} h)"


def recall(hits: float, total: float) -> Recall:
    """Recall with Wilson's score interval (Wilson 1927), which holds near 0 and 1.

    A group of copies counts once, so that `hits` may be a fraction.
    """
    if total == 0:
        return Recall(0, 0)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    p = min(hits / total, 1.0)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    middle, scale = p + z * z / (2 * total), 1 + z * z / total
    low = 0.0 if p == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if p == 1 else min(1.0, (middle + spread) / scale)
    return Recall(hits, total, p, low, high)


def event_rate(events: int, hours: float) -> EventRate:
    """Events an hour with the exact central Poisson interval (Garwood 1936)."""
    if hours == 0:
        return EventRate(events, 0.0)
    low, high = poisson_interval(events)
    return EventRate(events, hours, events / hours, low / hours, high / hours)


def poisson_interval(events: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Garwood's interval for a Poisson mean: the means at which so few, or so many, events are too unlikely."""
    tail = (1 - confidence) / 2
    return 0.0 if events == 0 else _mean_at(events - 1, 1 - tail), _mean_at(events, tail)


def _mean_at(events: int, probability: float) -> float:
    """The Poisson mean at which P(X <= events) is `probability`, by bisection to the last bits of a float."""
    low, high = 0.0, events + 10 * math.sqrt(events + 1) + 20
    while low < (middle := (low + high) / 2) < high:
        # Terms are formed in logarithms, which do not overflow.
        terms = (math.exp(k * math.log(middle) - middle - math.lgamma(k + 1)) for k in range(events + 1))
        low, high = (middle, high) if math.fsum(terms) > probability else (low, middle)
    return low


def summarise(tracks: SplitTracks, cutoff: float) -> dict[str, Any]:
    """The figures of one split at one cutoff, as plain JSON values.

    Returns:
        "recall": condition to {"all", "without_suspect", "suspect"}, each a `Recall`;
        "fa_per_hour": "total", "speech_en", "speech_foreign", "noise", "music" and a dict "families", each an
        `EventRate`; "cutoff" and "refractory_steps".
    """

    def found(positives: Sequence[Track], *quality: str) -> dict[str, Any]:
        return asdict(recall(*weighted_hits([track for track in positives if track.entry.quality in quality], cutoff)))

    def rate(chosen: Callable[[Track], bool]) -> dict[str, Any]:
        negatives = [track for track in tracks.negatives if chosen(track)]
        events = EventCounter((track.probabilities for track in negatives), tracks.refractory_steps)
        return asdict(event_rate(events.count(cutoff), hours_of(negatives)))

    def of(**known: str) -> dict[str, Any]:
        return rate(lambda track: all(getattr(track.entry, name) == value for name, value in known.items()))

    return {
        "cutoff": cutoff,
        "refractory_steps": tracks.refractory_steps,
        "recall": {
            condition: {
                "all": found(positives, "ok", "suspect"),
                "without_suspect": found(positives, "ok"),
                "suspect": found(positives, "suspect"),
            }
            for condition, positives in tracks.positives.items()
        },
        "fa_per_hour": {
            "total": of(),
            "speech_en": of(kind="negative", language="en"),
            "speech_foreign": rate(lambda track: track.entry.kind == "negative" and track.entry.language != "en"),
            "noise": of(kind="noise"),
            "music": of(kind="music"),
            "families": {name: of(family=name) for name in sorted({t.entry.family for t in tracks.negatives})},
        },
    }


def named_rates(rates: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rates of false accepts of a summary, families last, each with the name that tables show."""
    kinds = {NAMES.get(key, key.replace("_", " ")): rate for key, rate in rates.items() if key != "families"}
    families = {f"family {name}": rate for name, rate in rates["families"].items()}
    return list((kinds | families).items())


def count_text(value: float) -> str:
    """A number of recordings, with two decimals where copies that count once make it a fraction."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def condition_name(condition: str) -> str:
    """The name that tables show for a condition of a summary: "10db" is "at 10 dB SNR"."""
    return f"at {condition.removesuffix('db')} dB SNR" if condition.endswith("db") else condition
