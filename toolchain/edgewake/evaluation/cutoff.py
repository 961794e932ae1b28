"""The cutoff is chosen on validation alone, by a rule that leaves a margin because validation is thin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.evaluation.tracks import Track, count_events, found, hours, weights
from edgewake.runtime.events import peaks

SAFETY = 0.5
RECALL_SLACK = 0.02
TAIL_PEAKS = 20


@dataclass(frozen=True)
class Cutoff:
    """The chosen cutoff and what bound it.

    Attributes:
        cutoff: smoothed probability in (0, 1]; `cutoff_sum` / (256 * window), rounded to float32.
        cutoff_sum: the integer that the C pipeline compares with.
        bound_by: "count", "tail" or "recall", the part of the rule that decided.
        counted: lowest cutoff that meets the target on the validation negatives as counted.
        tail: cutoff at which the fitted tail of the negatives' peaks falls to safety * target.
        recall_before: validation recall at `counted`.
        recall_after: validation recall at `cutoff`.
        events: validation false accepts at `cutoff`.
        hours: hours of validation negatives.
    """

    cutoff: float
    cutoff_sum: int
    bound_by: str
    counted: float
    tail: float
    recall_before: float
    recall_after: float
    events: int
    hours: float

    def json(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return asdict(self)


def choose_cutoff(
    positives: Sequence[Track],
    negatives: Sequence[Track],
    target_fa_per_hour: float,
    *,
    window: int,
    refractory_steps: int,
    safety: float = SAFETY,
    recall_slack: float = RECALL_SLACK,
) -> Cutoff:
    """Choose the cutoff on validation tracks.

    The rule, in the integer sums that the board compares:

    1. `counted`: the lowest sum at which this and every higher one raises at most `target_fa_per_hour` on the
       negatives as counted.
    2. `tail`: an hour or two of negatives cannot show half an event an hour, so the highest separate peaks'
       log-odds are taken as an exponential tail (peaks over threshold, Pickands 1975) and followed to
       `safety * target_fa_per_hour`.
    3. The higher of the two, but never so high that validation recall falls more than `recall_slack`
       below its value at `counted`.

    Args:
        positives: validation recordings with the phrase, clean and noisy ones together.
        negatives: validation speech, noise and music.
        target_fa_per_hour: false accepts an hour that are allowed.
        window: W, steps of the smoothing window that made the tracks.
        refractory_steps: see `find_events`.

    Raises:
        EdgewakeError: there are no positives or no negatives, or the target is not positive.
    """
    if not positives or hours(negatives) == 0:
        raise EdgewakeError(
            f"the cutoff needs validation recordings with and without the phrase, not {len(positives)} and "
            f"{len(negatives)}: add them to the manifest's val split"
        )
    if not target_fa_per_hour > 0:
        raise EdgewakeError(f"target of {target_fa_per_hour} false accepts an hour: it must be above 0")
    scale = 256 * window
    top = 255 * window
    counted = _lowest_sum(negatives, target_fa_per_hour, scale, top, refractory_steps)
    tail = min(top, _tail_sum(negatives, safety * target_fa_per_hour, scale, refractory_steps))
    base = _weighted_recall(positives, counted / scale)
    ceiling = _highest_sum(positives, base - recall_slack, counted, top, scale)
    chosen = max(counted, min(tail, ceiling))
    bound = "count" if chosen == counted and tail <= counted else ("tail" if chosen == tail else "recall")
    cutoff = float(np.float32(chosen / scale))
    return Cutoff(
        cutoff=cutoff,
        cutoff_sum=chosen,
        bound_by=bound,
        counted=counted / scale,
        tail=tail / scale,
        recall_before=base,
        recall_after=_weighted_recall(positives, cutoff),
        events=count_events(negatives, cutoff, refractory_steps),
        hours=hours(negatives),
    )


def _lowest_sum(negatives: Sequence[Track], target: float, scale: int, top: int, refractory_steps: int) -> int:
    """The sum just above the highest one that raises more than the target allows.

    Walked down from the top, because with a refractory time the count need not rise as the cutoff falls.
    """
    allowed = target * hours(negatives)
    for level in _levels(negatives, scale, allowed, refractory_steps):
        if count_events(negatives, level / scale, refractory_steps) > allowed:
            return min(level + 1, top)
    return 1


def _levels(negatives: Sequence[Track], scale: int, allowed: float, refractory_steps: int) -> list[int]:
    """Sums that occur, falling, down to one that must exceed `allowed`.

    Separate peaks lie at least a refractory time apart, so a cutoff at the n-th highest raises n or more.
    """
    need = int(allowed) + 1
    heights = np.sort(np.concatenate([peaks(t.probabilities, refractory_steps) for t in negatives]))[::-1]
    if not len(heights):
        return []
    floor = heights[min(need, len(heights)) - 1]
    near = np.concatenate([t.probabilities[t.probabilities >= floor] for t in negatives])
    sums = np.unique(np.rint(near.astype(np.float64) * scale).astype(np.int64))
    return [int(level) for level in sums[::-1] if level > 0]


def _log_odds(probability: npt.NDArray[Any], scale: int) -> npt.NDArray[np.float64]:
    edge = 0.5 / scale
    p = np.clip(np.asarray(probability, np.float64), edge, 1 - edge)
    return np.log(p / (1 - p))


def _tail_sum(negatives: Sequence[Track], target: float, scale: int, refractory_steps: int) -> int:
    """The sum at which an exponential tail through the highest peaks' log-odds falls to `target` an hour."""
    height = np.concatenate([peaks(track.probabilities, refractory_steps) for track in negatives])
    odds = np.sort(_log_odds(height, scale))[::-1][: TAIL_PEAKS + 1]
    if len(odds) < 2:
        return 1
    threshold = odds[-1]
    excess = odds[:-1] - threshold
    allowed = target * hours(negatives)
    point = threshold + excess.mean() * math.log(max(len(excess) / allowed, 1.0))
    return max(1, math.ceil(scale / (1 + math.exp(-point)) - 1e-6))


def _weighted_recall(positives: Sequence[Track], cutoff: float) -> float:
    weight = weights(positives)
    return float((weight * found(positives, cutoff)).sum() / weight.sum())


def _highest_sum(positives: Sequence[Track], least: float, low: int, high: int, scale: int) -> int:
    """The highest sum in low..high at which recall is still at least `least`."""
    while low < high:
        middle = (low + high + 1) // 2
        if _weighted_recall(positives, middle / scale) >= least - 1e-12:
            low = middle
        else:
            high = middle - 1
    return low
