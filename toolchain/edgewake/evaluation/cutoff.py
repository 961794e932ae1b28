"""The cutoff is chosen on validation alone, for all of it and its worst families; a useless one is an error."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewake.errors import EdgewakeError
from edgewake.evaluation.rates import event_rate, worst_family
from edgewake.evaluation.tracks import SplitTracks, Track, hours_of, weighted_hits
from edgewake.runtime.events import HIGHEST_PROBABILITY, PROBABILITY_ONE, EventCounter, as_probability

SAFETY = 0.5
RECALL_SLACK = 0.1
TAIL_EVENTS = 20
# A family may raise this times the target.
FAMILY_FACTOR = 3.0
# Of negatives; with fewer, the printed cutoff says what to add.
SEVERAL_HOURS = 5.0
# Weights of thirds add up to a little more or less.
ROUNDING = 1e-9
# False accepts an hour at which the message about a useless cutoff states the recall.
SHOWN_RATES = (0.1, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True)
class Cutoff:
    """The chosen cutoff and what bound it.

    `cutoff` is a smoothed probability in (0, 1], `cutoff_sum` / (65536 * window) rounded to float32; the C pipeline
    compares with `cutoff_sum`. `bound_by` is the part of the rule that decided, "count", "tail", "family" or "recall";
    `counted`, `tail` and `by_family` are what its first three parts ask for, see `choose_cutoff`. Validation recall is
    `recall_before` at `counted` and `recall_after` at `cutoff`, which raises `events` in `hours` without the phrase, of
    `families` families; `worst` is the one that raises most of them, `worst_events` in `worst_hours`.
    """

    cutoff: float
    cutoff_sum: int
    bound_by: str
    counted: float
    tail: float
    by_family: float
    recall_before: float
    recall_after: float
    events: int
    hours: float
    families: int
    worst: str
    worst_events: int
    worst_hours: float

    def __str__(self) -> str:
        worst = f", most in {self.worst}: {self.worst_events} in {self.worst_hours:.2f} h" if self.worst_events else ""
        text = (
            f"{self.cutoff:.5f} from validation: recall {self.recall_after:.1%}, {self.events} false accepts in "
            f"{self.hours:.2f} h (95 %: at most {event_rate(self.events, self.hours)['high']:.2f}/h; families: "
            f"{self.families}{worst}), bound by {self.bound_by} (as counted {self.counted:.5f}, by its tail "
            f"{self.tail:.5f}, by family {self.by_family:.5f})"
        )
        return "\n".join(filter(None, [text, few_hours(self.hours)]))


def few_hours(hours: float) -> str:
    """What to add where `hours` of validation without the phrase are fewer than a cutoff needs, or ""."""
    if hours >= SEVERAL_HOURS:
        return ""
    return (
        f"{hours:.2f} h of validation without the phrase are few for a cutoff, {SEVERAL_HOURS:g} h are the least: add "
        "speech of many voices, noise and music to its val split (edgewake corpus get, EDGEWAKE_CORPORA)"
    )


def choose_cutoff(tracks: SplitTracks, target_fa_per_hour: float, *, window: int, lowest_recall: float = 0.5) -> Cutoff:
    """Choose the cutoff on validation tracks.

    The rule, in the integer sums that the board compares:

    1. `counted`: the lowest sum that raises at most `target_fa_per_hour` on the negatives as counted, that is
       floor(`target_fa_per_hour` * hours) events; of an hour or more at least one: a single recording that nearly
       holds the phrase would otherwise decide how many others are missed.
    2. `tail`: hours of negatives cannot show a rate far below one event in them, so the log-odds of the cutoffs
       at which the highest events appear are taken as an exponential tail (peaks over threshold, Pickands
       1975) and followed to `SAFETY * target_fa_per_hour`.
    3. `by_family`: the lowest sum at which no family raises more than `FAMILY_FACTOR` times the target: hours of
       easy sound would otherwise pay for one that raises most events. One event is always allowed; families that
       are so short that one event is a higher rate are judged together as well, as one.
    4. The highest of the three, but never so high that validation recall, of clean and noisy recordings
       together, falls more than `RECALL_SLACK` below its value at `counted`, or below `lowest_recall`.

    `tracks` are of validation, by the int8 model, smoothed over `window` steps.

    Raises:
        EdgewakeError: nothing to choose on; or validation recall at the cutoff is below `lowest_recall`.
    """
    positives = [track for found in tracks.positives.values() for track in found]
    if not positives or tracks.hours == 0:
        raise EdgewakeError(
            f"the cutoff needs validation recordings with and without the phrase, not {len(positives)} and "
            f"{len(tracks.negatives)}: add them to the manifest's val split"
        )
    if not target_fa_per_hour > 0:
        raise EdgewakeError(f"target of {target_fa_per_hour} false accepts an hour: it must be above 0")
    scale, top = PROBABILITY_ONE * window, HIGHEST_PROBABILITY * window
    allowed = target_fa_per_hour * tracks.hours
    counted = min(top, math.ceil(tracks.events.lowest_cutoff(max(allowed, float(tracks.hours >= 1))) * scale))
    tail = min(top, _tail_sum(tracks.events, SAFETY * allowed, scale))
    families = defaultdict[str, list[Track]](list)
    for track in tracks.negatives:
        families[track.entry.family or "(no family)"].append(track)
    steps, limit = tracks.refractory_steps, FAMILY_FACTOR * target_fa_per_hour
    family = min(top, math.ceil(_family_cutoff(list(families.values()), limit, steps) * scale))
    before = _recall(positives, counted / scale)
    least = max(before - RECALL_SLACK, min(before, lowest_recall))
    ceiling = _highest_sum(positives, least, counted, top, window)
    wanted = max(tail, family)
    chosen = max(counted, min(wanted, ceiling))
    bound = "recall" if chosen < wanted else "count" if wanted <= counted else "tail" if tail >= family else "family"
    cutoff = float(as_probability(chosen, window))
    after, events = _recall(positives, cutoff), tracks.events.count(cutoff)
    if after < lowest_recall - ROUNDING:
        curve = ((rate, tracks.events.lowest_cutoff(rate * tracks.hours)) for rate in SHOWN_RATES)
        shown = ", ".join(f"{_recall(positives, at):.1%} at {rate:g}" for rate, at in curve)
        raise EdgewakeError(
            f"no usable cutoff for {target_fa_per_hour:g} false accepts an hour: at {cutoff:.5f} validation recall is "
            f"{after:.1%}, below the {lowest_recall:.0%} of evaluation.lowest_recall; it is {shown} false accepts an "
            f"hour, as counted in {tracks.hours:.2f} h: train longer or on more recordings, or allow more false accepts"
        )
    rates = {
        name: event_rate(_counter(found, steps).count(cutoff), hours_of(found)) for name, found in families.items()
    }
    worst, rate = worst_family(rates)
    return Cutoff(
        cutoff=cutoff,
        cutoff_sum=chosen,
        bound_by=bound,
        counted=counted / scale,
        tail=tail / scale,
        by_family=family / scale,
        recall_before=before,
        recall_after=after,
        events=events,
        hours=tracks.hours,
        families=len(families),
        worst=worst,
        worst_events=rate["events"],
        worst_hours=rate["hours"],
    )


def _counter(tracks: Sequence[Track], refractory_steps: int) -> EventCounter:
    return EventCounter((track.probabilities for track in tracks), refractory_steps)


def _family_cutoff(families: Sequence[Sequence[Track]], rate: float, refractory_steps: int) -> float:
    """The lowest cutoff at which no family, nor all short ones together, raises more than `rate` an hour."""
    short = [track for family in families if rate * hours_of(family) < 1 for track in family]
    return max(
        _counter(group, refractory_steps).lowest_cutoff(max(1.0, rate * hours_of(group)))
        for group in (*families, short)
    )


def _tail_sum(events: EventCounter, allowed: float, scale: int) -> int:
    """The sum at which an exponential tail through the highest events' log-odds falls to `allowed` events."""
    heights = [height for rank in range(1, TAIL_EVENTS + 2) if (height := events.height(rank)) > 0]
    if len(heights) < 2:
        return 1
    p = np.clip(np.asarray(heights, np.float64), 0.5 / scale, 1 - 0.5 / scale)
    odds = np.log(p / (1 - p))
    excess = odds[:-1] - odds[-1]
    point = odds[-1] + excess.mean() * math.log(max(len(excess) / allowed, 1.0))
    return max(1, math.ceil(scale / (1 + math.exp(-point)) - 1e-6))


def _recall(positives: Sequence[Track], cutoff: float) -> float:
    hits, total = weighted_hits(positives, cutoff)
    return hits / total


def _highest_sum(positives: Sequence[Track], least: float, low: int, high: int, window: int) -> int:
    """The highest sum in low..high at which recall is still at least `least`, as it is at `low`."""
    sums = range(low + 1, high + 1)

    def too_high(total: int) -> bool:
        return _recall(positives, float(as_probability(total, window))) < least - ROUNDING

    return low + bisect_left(sums, True, key=too_high)
