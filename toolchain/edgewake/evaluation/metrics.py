"""From probability tracks to the figures of a report: recall and false accepts an hour, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgewake.evaluation.rates import EventRate, Recall, event_rate, recall
from edgewake.evaluation.tracks import Track, count_events, found, hours, is_wide_band, weights


def measured_recall(positives: Sequence[Track], cutoff: float) -> Recall:
    """Share of recordings that raise an event, a group of copies counted once."""
    if not positives:
        return recall(0, 0)
    weight = weights(positives)
    return recall(float((weight * found(positives, cutoff)).sum()), float(weight.sum()))


def measured_fa(negatives: Sequence[Track], cutoff: float, refractory_steps: int) -> EventRate:
    """False accepts an hour over whole recordings."""
    return event_rate(count_events(negatives, cutoff, refractory_steps), hours(negatives))


def summarise(
    positives: Mapping[str, Sequence[Track]],
    negatives: Sequence[Track],
    cutoff: float,
    refractory_steps: int,
) -> dict[str, Any]:
    """The figures of one split at one cutoff, as plain JSON values.

    Args:
        positives: condition ("clean", "10db") to the same recordings under that condition.
        negatives: speech, noise and music without the phrase.
        cutoff: smoothed probability.
        refractory_steps: see `find_events`.

    Returns:
        "recall": condition to {"all", "without_suspect", "suspect"}, each a `Recall`;
        "fa_per_hour": "total", "speech_en", "speech_foreign", "noise", "music", "wide_band" and a dict
        "families", each an `EventRate`; "cutoff" and "refractory_steps".
    """

    def rate(chosen: Callable[[Track], bool]) -> dict[str, Any]:
        return measured_fa([t for t in negatives if chosen(t)], cutoff, refractory_steps).json()

    families = sorted({track.family for track in negatives})
    return {
        "cutoff": cutoff,
        "refractory_steps": refractory_steps,
        "recall": {
            condition: {
                "all": measured_recall(tracks, cutoff).json(),
                "without_suspect": measured_recall([t for t in tracks if not t.suspect], cutoff).json(),
                "suspect": measured_recall([t for t in tracks if t.suspect], cutoff).json(),
            }
            for condition, tracks in positives.items()
        },
        "fa_per_hour": {
            "total": rate(lambda t: True),
            "speech_en": rate(lambda t: t.kind == "negative" and t.language == "en"),
            "speech_foreign": rate(lambda t: t.kind == "negative" and t.language != "en"),
            "noise": rate(lambda t: t.kind == "noise"),
            "music": rate(lambda t: t.kind == "music"),
            "wide_band": rate(is_wide_band),
            "families": {
                family: measured_fa([t for t in negatives if t.family == family], cutoff, refractory_steps).json()
                for family in families
            },
        },
    }
