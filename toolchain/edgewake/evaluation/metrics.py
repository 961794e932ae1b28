"""From probability tracks to the figures of a report: recall and false accepts an hour, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgewake.evaluation.rates import Recall, event_rate, recall
from edgewake.evaluation.tracks import SplitTracks, Track, hours, weighted_hits
from edgewake.runtime.events import EventCounter


def measured_recall(positives: Sequence[Track], cutoff: float) -> Recall:
    """Share of recordings that raise an event, a group of copies counted once."""
    return recall(*weighted_hits(positives, cutoff))


def summarise(tracks: SplitTracks, cutoff: float) -> dict[str, Any]:
    """The figures of one split at one cutoff, as plain JSON values.

    Returns:
        "recall": condition to {"all", "without_suspect", "suspect"}, each a `Recall`;
        "fa_per_hour": "total", "speech_en", "speech_foreign", "noise", "music" and a dict "families", each an
        `EventRate`; "cutoff" and "refractory_steps".
    """

    def rate(chosen: Callable[[Track], bool]) -> dict[str, Any]:
        found = [track for track in tracks.negatives if chosen(track)]
        events = EventCounter((track.probabilities for track in found), tracks.refractory_steps)
        return event_rate(events.count(cutoff), hours(found)).json()

    def family_rate(family: str) -> dict[str, Any]:
        return rate(lambda track: track.family == family)

    families = sorted({track.family for track in tracks.negatives})
    return {
        "cutoff": cutoff,
        "refractory_steps": tracks.refractory_steps,
        "recall": {
            condition: {
                "all": measured_recall(found, cutoff).json(),
                "without_suspect": measured_recall([t for t in found if not t.suspect], cutoff).json(),
                "suspect": measured_recall([t for t in found if t.suspect], cutoff).json(),
            }
            for condition, found in tracks.positives.items()
        },
        "fa_per_hour": {
            "total": rate(lambda t: True),
            "speech_en": rate(lambda t: t.kind == "negative" and t.language == "en"),
            "speech_foreign": rate(lambda t: t.kind == "negative" and t.language != "en"),
            "noise": rate(lambda t: t.kind == "noise"),
            "music": rate(lambda t: t.kind == "music"),
            "families": {family: family_rate(family) for family in families},
        },
    }
