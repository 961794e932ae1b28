"""Lines over time as an SVG, which needs no script, no other package, and no place to load anything from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[float, float]
WIDTH, HEIGHT, LEFT, TOP, BELOW = 1000, 240, 56, 10, 24
# A pixel column or two for each point is enough.
MOST_POINTS = 1000
COLOURS = ("#2563eb", "#d97706", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#65a30d", "#db2777")


def chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
    unit: str = "",
    limit: float | None = None,
    marks: Sequence[float] = (),
    width: int = WIDTH,
) -> str:
    """Lines by name as HTML: an SVG with a legend.

    Args:
        x, y: what the axes span, by default what the points do.
        unit: of x.
        limit: a dashed level.
        marks: places on the x axis, as vertical lines.
        width: in the picture's own units, which are those of its texts.
    """
    points = [point for line in series.values() for point in line]
    (x0, x1), (y0, y1) = (given or _span([point[axis] for point in points]) for axis, given in enumerate((x, y)))

    def place(point: Point) -> tuple[float, float]:
        right = LEFT + (point[0] - x0) / (x1 - x0) * (width - LEFT - 4)
        return round(right, 1), round(TOP + (y1 - point[1]) / (y1 - y0) * (HEIGHT - TOP - BELOW), 1)

    def line(begin: Point, end: Point, style: str) -> str:
        (left, top), (right, bottom) = place(begin), place(end)
        return f'<line x1="{left}" y1="{top}" x2="{right}" y2="{bottom}" {style}/>'

    drawn = [line((x0, level), (x1, level), 'stroke="currentColor" stroke-opacity="0.3"') for level in (y0, y1)]
    drawn += [line((at, y0), (at, y1), 'class="mark" stroke="#16a34a" stroke-width="3"') for at in marks]
    if limit is not None:
        drawn.append(line((x0, limit), (x1, limit), 'stroke="#dc2626" stroke-dasharray="6 4"'))
    legend = []
    for number, (name, all_points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{left},{top}" for left, top in map(place, _thinned(all_points)))
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        last = f" {all_points[-1][1]:.4g}" if all_points else ""
        legend.append(f'<span style="white-space: nowrap"><b style="color: {colour}">―</b> {escape(name)}{last}</span>')
    texts = [(LEFT, HEIGHT - 6, "start", f"{x0:.4g} {unit}"), (width - 4, HEIGHT - 6, "end", f"{x1:.4g} {unit}")]
    texts += [(LEFT - 6, TOP + 5, "end", f"{y1:.3g}"), (LEFT - 6, HEIGHT - BELOW + 4, "end", f"{y0:.3g}")]
    drawn += [f'<text x="{at}" y="{down}" text-anchor="{side}">{text}</text>' for at, down, side, text in texts]
    return (
        f'<figure style="margin: 0"><figcaption><b>{escape(title)}</b></figcaption>'
        f'<svg viewBox="0 0 {width} {HEIGHT}" width="100%" role="img" aria-label="{escape(title)}" font-size="12" '
        f'fill="currentColor">{"".join(drawn)}</svg>{" &nbsp; ".join(legend)}</figure>'
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Of points that share a pixel column the highest, so that no peak is lost."""
    group = max(1, -(-len(points) // MOST_POINTS))
    return [max(points[start : start + group], key=lambda point: point[1]) for start in range(0, len(points), group)]
