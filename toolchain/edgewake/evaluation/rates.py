"""Recall and false accepts an hour: at one cutoff with counts and 95 % intervals, and at every cutoff (DET)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from edgewake.errors import EdgewakeError
from edgewake.evaluation.tracks import SplitTracks, Track, hours_of, weighted_hits
from edgewake.io import atomic_path
from edgewake.runtime.events import EventCounter

CONFIDENCE = 0.95
MOST_POINTS = 400
# Names of figures in tables.
NAMES = {"total": "all of it together", "speech_en": "English speech", "speech_foreign": "foreign speech"}


# What was counted, as JSON values: "hits" of "total" recordings or "events" in "hours"; "value", and its interval
# from "low" to "high", or None where nothing was counted.
Figure = Mapping[str, Any]


def figure_text(figure: Figure) -> str:
    """A recall or a rate with its interval and counts, as tables and model cards show it."""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if "total" in figure:
        counts = f"({count_text(figure['hits'])} of {count_text(figure['total'])} recordings)"
        return "no recordings" if value is None else f"{value:.1%} [{low:.1%}, {high:.1%}] {counts}"
    counts = f"({figure['events']} in {figure['hours']:.2f} h)"
    return "no audio" if value is None else f"{value:.2f}/h [{low:.2f}, {high:.2f}] {counts}"


def recall(hits: float, total: float) -> dict[str, Any]:
    """Recall with Wilson's score interval (Wilson 1927), which holds near 0 and 1.

    A group of copies counts once, so that `hits` may be a fraction.
    """
    if total == 0:
        return {"hits": 0, "total": 0, "value": None, "low": None, "high": None}
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    p = min(hits / total, 1.0)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    middle, scale = p + z * z / (2 * total), 1 + z * z / total
    low = 0.0 if p == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if p == 1 else min(1.0, (middle + spread) / scale)
    return {"hits": hits, "total": total, "value": p, "low": low, "high": high}


def event_rate(events: int, hours: float) -> dict[str, Any]:
    """Events an hour with the exact central Poisson interval (Garwood 1936)."""
    if hours == 0:
        return {"events": events, "hours": 0.0, "value": None, "low": None, "high": None}
    value, low, high = (count / hours for count in (events, *poisson_interval(events)))
    return {"events": events, "hours": hours, "value": value, "low": low, "high": high}


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

    "recall" has by condition "all", "without_suspect" and "suspect", each a `recall`; "fa_per_hour" has "total",
    "speech_en", "speech_foreign", "noise", "music" and a dict "families", each an `event_rate`. "groups" has recalls
    by condition and family, and of clean ones by speaker. "near" has the share, as a `recall`, of clips of what nearly
    holds the phrase that raise an event: "total", and in "phrases" for each text, which is "" within sentences.
    """

    def found(positives: Sequence[Track], *quality: str) -> dict[str, Any]:
        return recall(*weighted_hits([track for track in positives if track.entry.quality in quality], cutoff))

    def rate(chosen: Callable[[Track], bool]) -> dict[str, Any]:
        negatives = [track for track in tracks.negatives if chosen(track)]
        events = EventCounter((track.probabilities for track in negatives), tracks.refractory_steps)
        return event_rate(events.count(cutoff), hours_of(negatives))

    def of(**known: str) -> dict[str, Any]:
        return rate(lambda track: all(getattr(track.entry, name) == value for name, value in known.items()))

    def grouped(found: Sequence[Track], key: Callable[[Track], str]) -> dict[str, Any]:
        names = sorted({key(track) for track in found})
        return {name: recall(*weighted_hits([t for t in found if key(t) == name], cutoff)) for name in names}

    families = {name: grouped(found, lambda t: t.entry.family) for name, found in tracks.positives.items()}
    return {
        "cutoff": cutoff,
        "refractory_steps": tracks.refractory_steps,
        "groups": {
            "family": families,
            "speaker": grouped(tracks.positives["clean"], lambda t: t.entry.speaker or "unknown"),
        },
        "near": {
            "total": recall(*weighted_hits(tracks.near, cutoff)),
            "phrases": grouped(tracks.near, lambda t: t.entry.phrase),
        },
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


def latency(positives: Sequence[Track], cutoff: float, step_s: float) -> dict[str, Any] | None:
    """Seconds from the end of the phrase to the detection, of recordings that have it and tell where the phrase ends.

    "recordings", "median_s" and "p90_s", which nine of ten do not pass; None where no recording counts. The step lasts
    `step_s`; a detection before the end is negative.
    """
    delays = [
        (int(np.argmax(track.probabilities >= np.float32(cutoff))) + 1) * step_s - track.entry.phrase_end
        for track in positives
        if track.entry.phrase_end is not None and track.peak >= np.float32(cutoff)
    ]
    if not delays:
        return None
    median, most = np.quantile(delays, (0.5, 0.9)).tolist()
    return {"recordings": len(delays), "median_s": median, "p90_s": most}


def worst_family(families: Mapping[str, Figure]) -> tuple[str, Figure]:
    """The family with most events; of several, that of the highest rate."""
    return max(families.items(), key=lambda each: (each[1]["events"], -each[1]["hours"]))


def worst_family_text(families: Mapping[str, Figure]) -> str:
    """A sentence on `worst_family`, or, without any event, on what most of the sound is."""
    name, rate = worst_family(families)
    if not rate["events"]:
        return f"No family gave any; most of the sound is {max(families, key=lambda each: families[each]['hours'])}."
    every = sum(each["events"] for each in families.values())
    return f"Worst family: {name}, with {rate['events']} of {every} events in {rate['hours']:.2f} h."


def named_rates(rates: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rates of false accepts of a summary, families last, each with the name that tables show."""
    kinds = {NAMES.get(key, key.replace("_", " ")): rate for key, rate in rates.items() if key != "families"}
    families = {f"family {name}": rate for name, rate in rates["families"].items()}
    return list((kinds | families).items())


def count_text(value: float) -> str:
    """A number of recordings, with two decimals where copies that count once make it a fraction."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def condition_name(condition: str) -> str:
    """The name that tables show for a condition of a summary: "10db" is "at 10 dB SNR", "far_room" is "far room"."""
    return f"at {condition.removesuffix('db')} dB SNR" if condition.endswith("db") else condition.replace("_", " ")


def det_curve(tracks: SplitTracks, condition: str) -> dict[str, Any]:
    """Sweep the cutoff over whole recordings, with the refractory time of the detector; returns what det.json holds.

    That is "recordings" (distinct ones with the phrase), "hours" (without it), and at most 401 "points", the cutoffs
    at which a rate changes, thinned where false accepts are many. Each has cutoff (rising), miss_rate (share of
    recordings with the phrase that raise no event) and fa_per_hour.
    """
    positives = tracks.positives[condition]
    if not positives or tracks.hours == 0:
        raise EdgewakeError(
            f"a DET curve needs recordings with and without the phrase, not {len(positives)} and "
            f"{len(tracks.negatives)}: add them to the manifest"
        )
    events = tracks.events
    levels = np.union1d(events.levels, np.array([track.peak for track in positives], np.float32))
    levels = levels[levels > 0][::-1]
    # Even in the logarithm of the rank from the top: where false accepts are few, every level is kept.
    ranks = np.unique(np.geomspace(1, max(len(levels), 1), MOST_POINTS).astype(np.int64))
    # At 1, which smoothed probabilities of the int8 model do not reach, all is missed and nothing accepted.
    levels = np.union1d(levels[ranks[ranks <= len(levels)] - 1], np.ones(1, np.float32))
    hits = np.array([weighted_hits(positives, level) for level in levels])
    missed = 1 - hits[:, 0] / hits[:, 1]
    raised = np.array([events.count(level) for level in levels]) / tracks.hours
    changes = np.append((np.diff(missed) != 0) | (np.diff(raised) != 0), True)
    points = zip(levels[changes].tolist(), missed[changes].tolist(), raised[changes].tolist(), strict=True)
    return {
        "recordings": weighted_hits(positives, 0)[1],
        "hours": tracks.hours,
        "points": [{"cutoff": cutoff, "miss_rate": miss, "fa_per_hour": rate} for cutoff, miss, rate in points],
    }


@contextmanager
def picture(path: Path, width: float, height: float, dpi: int = 140) -> Iterator[Any]:
    """A figure of matplotlib, inches wide and high, that is saved to a PNG or SVG afterwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", metadata={})


def plot_det(det: Mapping[str, Any], path: Path, *, title: str, chosen: float) -> None:
    """Draw what `det_curve` returned to a PNG or SVG, with the chosen cutoff marked; needs matplotlib."""
    cutoffs, missed, raised = (
        np.array([point[name] for point in det["points"]]) for name in ("cutoff", "miss_rate", "fa_per_hour")
    )
    floor = 0.5 / det["hours"]
    shown = np.maximum(raised, floor)
    at = min(int(np.searchsorted(cutoffs.astype(np.float32), np.float32(chosen))), len(cutoffs) - 1)
    marker: dict[str, Any] = {"color": "#dc2626", "markersize": 8, "clip_on": False, "label": f"cutoff {chosen:.5f}"}
    with picture(path, 7.2, 4.4, dpi=144) as figure:
        axes = figure.add_subplot()
        axes.plot(shown, 100 * missed, color="#2563eb", linewidth=2, drawstyle="steps-post")
        axes.plot(shown[at], 100 * missed[at], "o", **marker)
        axes.legend(frameon=False)
        axes.set_xscale("log")
        axes.set_xlim(left=floor)
        axes.set_ylim(bottom=-1, top=min(101.0, 110 * max([0.1, *missed[raised > 0], missed[at]])))
        axes.set_xlabel(f"false accepts an hour, over {det['hours']:.2f} h (left edge: none)")
        axes.set_ylabel(f"missed, % of {det['recordings']:.6g} recordings")
        axes.set_title(title)
        axes.grid(alpha=0.25, which="both", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
