"""Detection error trade-off over whole recordings: misses against false accepts an hour, at every cutoff."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.evaluation.tracks import SplitTracks, weighted_hits
from edgewake.io import atomic_path

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


def det_curve(tracks: SplitTracks, condition: str) -> DetCurve:
    """Sweep the cutoff over whole recordings, with the refractory time of the detector.

    Args:
        tracks: of one split.
        condition: of the recordings with the phrase.

    Returns:
        At most 401 points: the cutoffs at which a rate changes, thinned where false accepts are many.

    Raises:
        EdgewakeError: there is nothing to sweep over on one side.
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
    # At 1, which smoothed int8 probabilities do not reach, all is missed and nothing accepted.
    levels = np.union1d(levels[ranks[ranks <= len(levels)] - 1], np.ones(1, np.float32))
    hits = np.array([weighted_hits(positives, level) for level in levels])
    missed = 1 - hits[:, 0] / hits[:, 1]
    raised = np.array([events.count(level) for level in levels]) / tracks.hours
    changes = np.append((np.diff(missed) != 0) | (np.diff(raised) != 0), True)
    total = weighted_hits(positives, 0)[1]
    return DetCurve(levels[changes].astype(np.float64), missed[changes], raised[changes], total, tracks.hours)


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
    marked: list[float] = []
    if chosen is not None:
        at = int(np.searchsorted(curve.cutoffs.astype(np.float32), np.float32(chosen)))
        at = min(at, len(curve.cutoffs) - 1)
        marked.append(float(curve.miss_rate[at]))
        axes.plot(
            [shown[at]], [100 * curve.miss_rate[at]], "o", color="#dc2626", markersize=8, clip_on=False,
            label=f"cutoff {chosen:.3f}",
        )  # fmt: skip
        axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.set_xlim(left=floor)
    worst = max([0.1, *curve.miss_rate[curve.fa_per_hour > 0], *marked])
    axes.set_ylim(bottom=-1, top=min(101.0, 110 * worst))
    axes.set_xlabel(f"false accepts an hour, over {curve.hours:.2f} h (left edge: none)")
    axes.set_ylabel(f"missed, % of {curve.recordings:.6g} recordings")
    axes.set_title(title)
    axes.grid(alpha=0.25, which="both", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", metadata={})
