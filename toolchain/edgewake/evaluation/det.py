"""Detection error trade-off over whole recordings: misses against false accepts an hour, at every cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.evaluation.tracks import Track, count_events, found, hours, weights
from edgewake.io import atomic_path
from edgewake.runtime.events import peaks

MOST_POINTS = 400


@dataclass(frozen=True)
class DetCurve:
    """One operating point a cutoff, cutoffs rising: misses rise and false accepts (nearly) fall.

    Attributes:
        cutoffs: (points,) smoothed probability.
        miss_rate: (points,) share of recordings with the phrase that raise no event, copies counted once.
        fa_per_hour: (points,) events an hour on recordings without it.
        recordings: distinct recordings with the phrase.
        hours: hours without it.
    """

    cutoffs: npt.NDArray[np.float64]
    miss_rate: npt.NDArray[np.float64]
    fa_per_hour: npt.NDArray[np.float64]
    recordings: float
    hours: float

    def json(self) -> dict[str, Any]:
        """Plain values for det.json."""
        return {
            "recordings": self.recordings,
            "hours": self.hours,
            "points": [
                {"cutoff": float(c), "miss_rate": float(m), "fa_per_hour": float(f)}
                for c, m, f in zip(self.cutoffs, self.miss_rate, self.fa_per_hour, strict=True)
            ],
        }


def det_curve(
    positives: Sequence[Track],
    negatives: Sequence[Track],
    refractory_steps: int,
    cutoffs: npt.NDArray[Any] | None = None,
) -> DetCurve:
    """Sweep the cutoff over whole recordings, with the refractory time of the detector.

    Args:
        positives: recordings with the phrase.
        negatives: recordings without it.
        refractory_steps: see `find_events`.
        cutoffs: operating points; None takes the heights at which either rate changes, thinned to 400.

    Raises:
        EdgewakeError: there is nothing to sweep over on one side.
    """
    if not positives or hours(negatives) == 0:
        raise EdgewakeError(
            f"a DET curve needs recordings with and without the phrase, not {len(positives)} and "
            f"{len(negatives)}: add them to the manifest"
        )
    points = _changes(positives, negatives, refractory_steps) if cutoffs is None else np.sort(cutoffs)
    weight = weights(positives)
    duration = hours(negatives)
    miss = [1 - float((weight * found(positives, c)).sum() / weight.sum()) for c in points]
    raised = [count_events(negatives, float(c), refractory_steps) / duration for c in points]
    return DetCurve(np.asarray(points, np.float64), np.asarray(miss), np.asarray(raised), float(weight.sum()), duration)


def _changes(positives: Sequence[Track], negatives: Sequence[Track], refractory_steps: int) -> npt.NDArray[np.float32]:
    heights = [peaks(track.probabilities, refractory_steps) for track in negatives]
    best = np.array([track.peak for track in positives], np.float32)
    levels = np.unique(np.concatenate([*heights, best]))
    levels = levels[levels > 0]
    if len(levels) <= MOST_POINTS:
        return levels
    # Even in rank from the top: the interesting end, where false accepts are few, keeps every level.
    ranks = np.unique(np.geomspace(1, len(levels), MOST_POINTS).astype(np.int64))
    return levels[::-1][ranks - 1][::-1]


def plot_det(curve: DetCurve, path: Path, *, title: str, chosen: float | None = None) -> None:
    """Draw the curve to a PNG or SVG, with the chosen cutoff marked.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "the DET curve needs matplotlib, which is not installed: pip install 'edgewake[report]'"
        ) from error
    figure = Figure(figsize=(7.2, 4.4), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    floor = 0.5 / curve.hours
    shown = np.maximum(curve.fa_per_hour, floor)
    axes.plot(shown, 100 * curve.miss_rate, color="#2563eb", linewidth=2, drawstyle="steps-post")
    if chosen is not None:
        at = int(np.searchsorted(curve.cutoffs.astype(np.float32), np.float32(chosen)))
        at = min(at, len(curve.cutoffs) - 1)
        axes.plot(
            [shown[at]], [100 * curve.miss_rate[at]], "o", color="#dc2626", markersize=8,
            label=f"cutoff {chosen:.3f}",
        )  # fmt: skip
        axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.set_xlim(left=floor)
    axes.set_ylim(bottom=-1, top=max(10.0, min(100.0, float(100 * curve.miss_rate.max()))))
    axes.set_xlabel(f"false accepts an hour, over {curve.hours:.2f} h (left edge: none)")
    axes.set_ylabel(f"missed, % of {curve.recordings:.6g} recordings")
    axes.set_title(title)
    axes.grid(alpha=0.25, which="both", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", metadata={})
