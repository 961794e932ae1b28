"""Detection error trade-off over whole recordings: misses against false accepts an hour, at every cutoff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.errors import EdgewakeError
from edgewake.evaluation.tracks import SplitTracks, weighted_hits
from edgewake.io import atomic_path

MOST_POINTS = 400


def det_curve(tracks: SplitTracks, condition: str) -> dict[str, Any]:
    """Sweep the cutoff over whole recordings, with the refractory time of the detector.

    Returns:
        What det.json holds: recordings (distinct ones with the phrase), hours (without it), and at most 401
        points, the cutoffs at which a rate changes, thinned where false accepts are many. Each has cutoff
        (smoothed probability, rising), miss_rate (share of recordings with the phrase that raise no event,
        copies counted once; rising) and fa_per_hour (events an hour on the others; nearly falling).

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
    points = zip(levels[changes].tolist(), missed[changes].tolist(), raised[changes].tolist(), strict=True)
    return {
        "recordings": weighted_hits(positives, 0)[1],
        "hours": tracks.hours,
        "points": [{"cutoff": cutoff, "miss_rate": miss, "fa_per_hour": rate} for cutoff, miss, rate in points],
    }


def plot_det(det: Mapping[str, Any], path: Path, *, title: str, chosen: float) -> None:
    """Draw what `det_curve` returned to a PNG or SVG, with the chosen cutoff marked; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cutoffs, missed, raised = (
        np.array([point[name] for point in det["points"]]) for name in ("cutoff", "miss_rate", "fa_per_hour")
    )
    figure = Figure(figsize=(7.2, 4.4), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    floor = 0.5 / det["hours"]
    shown = np.maximum(raised, floor)
    at = min(int(np.searchsorted(cutoffs.astype(np.float32), np.float32(chosen))), len(cutoffs) - 1)
    axes.plot(shown, 100 * missed, color="#2563eb", linewidth=2, drawstyle="steps-post")
    marker: dict[str, Any] = {"color": "#dc2626", "markersize": 8, "clip_on": False, "label": f"cutoff {chosen:.3f}"}
    axes.plot(shown[at], 100 * missed[at], "o", **marker)
    axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.set_xlim(left=floor)
    worst = max([0.1, *missed[raised > 0], missed[at]])
    axes.set_ylim(bottom=-1, top=min(101.0, 110 * worst))
    axes.set_xlabel(f"false accepts an hour, over {det['hours']:.2f} h (left edge: none)")
    axes.set_ylabel(f"missed, % of {det['recordings']:.6g} recordings")
    axes.set_title(title)
    axes.grid(alpha=0.25, which="both", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", metadata={})
