"""Small inline SVG pictures for the report: no script, no font, nothing fetched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(text)}</text>'


def _polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def det_svg(det: Mapping[str, Any], chosen: float | None, width: int = 980, height: int = 360) -> str:
    """The DET curve: false accepts an hour (log) against misses in percent, with the chosen cutoff marked.

    Args:
        det: see `det_curve`.
        chosen: cutoff to mark.
    """
    points = det["points"]
    at = next((p for p in points if chosen is not None and p["cutoff"] >= chosen - 1e-7), None)
    left, right, top, bottom = 72, width - 16, 14, height - 44
    floor = 0.5 / det["hours"]
    highest = max([floor * 10, *(p["fa_per_hour"] for p in points if p["miss_rate"] > 0)])
    raised = [p["miss_rate"] for p in points if p["fa_per_hour"] > 0]
    worst = _round_up(1.2 * max([0.02, *raised, *([at["miss_rate"]] if at else [])]))
    span = math.log10(highest / floor)

    def place(point: Mapping[str, float]) -> tuple[float, float]:
        x = left + (right - left) * math.log10(max(point["fa_per_hour"], floor) / floor) / span
        return min(x, right), bottom - (bottom - top) * min(point["miss_rate"] / worst, 1.0)

    parts = [_grid((left, right, top, bottom), floor=floor, highest=highest, worst=worst)]
    parts.append(_polyline(_stairs([place(p) for p in points if p["miss_rate"] <= worst]), "curve"))
    if at is not None and chosen is not None:
        parts.append(_mark(*place(at), f"cutoff {chosen:.3f}", flip=place(at)[0] > (left + right) / 2))
    below = f"false accepts an hour over {det['hours']:.2f} h (left edge: none)"
    parts.append(_text((left + right) / 2, height - 6, below))
    turned = f'transform="translate(14 {(top + bottom) / 2:.0f}) rotate(-90)"'
    parts.append(_text(0, 0, f"missed, of {det['recordings']:.6g} recordings", extra=turned))
    return _svg(width, height, "DET curve", parts)


def _grid(box: tuple[float, float, float, float], *, floor: float, highest: float, worst: float) -> str:
    left, right, top, bottom = box
    parts = []
    span = math.log10(highest / floor)
    for exponent in range(math.ceil(math.log10(floor)), math.floor(math.log10(highest)) + 1):
        x = left + (right - left) * (exponent - math.log10(floor)) / span
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, f"{10.0**exponent:g}"))
    for part in range(6):
        y = bottom - (bottom - top) * part / 5
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{20 * worst * part:g} %", "end"))
    return "".join(parts)


def _mark(x: float, y: float, text: str, *, flip: bool) -> str:
    label = _text(x + (-12 if flip else 12), y - 10, text, "end" if flip else "start")
    return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="6"/>{label}'


def _round_up(share: float) -> float:
    """The next share that five even grid lines divide into round percents."""
    return next((s for s in (0.025, 0.05, 0.1, 0.25, 0.5) if s >= share), 1.0)


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Horizontal and vertical lines only: between two operating points there is no measurement."""
    out: list[tuple[float, float]] = []
    for x, y in points:
        if out:
            out.append((x, out[-1][1]))
        out.append((x, y))
    return out


def spark_svg(values: Sequence[float], cutoff: float | None = None, width: int = 220, height: int = 40) -> str:
    """A probability track from 0 to 1, with the cutoff as a dashed line."""
    last = max(len(values) - 1, 1)
    points = [(width * i / last, 2 + (height - 4) * (1 - v)) for i, v in enumerate(values)]
    parts = [_polyline(points, "curve thin")]
    if cutoff is not None:
        y = 2 + (height - 4) * (1 - cutoff)
        parts.append(f'<line class="limit" x1="0" y1="{y:.1f}" x2="{width}" y2="{y:.1f}"/>')
    return _svg(width, height, "probability over time", parts)


def interval_svg(value: float, low: float, high: float, *, top: float, width: int = 220, height: int = 18) -> str:
    """A value with its interval on a scale from 0 to `top`."""

    def x(v: float) -> float:
        return 6 + (width - 12) * min(v / top, 1.0)

    middle = height / 2
    return _svg(
        width,
        height,
        f"{value:.4g}, 95 % interval {low:.4g} to {high:.4g}",
        [
            f'<line class="rail" x1="6" y1="{middle}" x2="{width - 6}" y2="{middle}"/>',
            f'<line class="interval" x1="{x(low):.1f}" y1="{middle}" x2="{x(high):.1f}" y2="{middle}"/>',
            f'<circle class="point" cx="{x(value):.1f}" cy="{middle}" r="4.5"/>',
        ],
    )


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
