"""Pictures of an ablation that are read without colour too: every condition has its marker and its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgewake.experiments.conditions import BASELINE
from edgewake.experiments.markdown import fraction_text, heading, main_figures
from edgewake.io import atomic_path

# Okabe and Ito (2008), told apart with every kind of colour vision; yellow is too pale on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def draw_ablation(results: Mapping[str, Any], out: Path) -> list[tuple[Path, str]]:
    """Draw what there is to see; returns paths with a text each.

    differences.png: paired differences with intervals; levels.png: every run; recalls.png: recall by rate of
    false accepts; fractions.png: by share of recordings, where there are several.
    """
    drawn = []
    if any("difference" in cell for row in results["summary"] for cell in row["figures"].values()):
        drawn.append((_rows(results, out / "differences.png", differences=True), "Differences to the baseline"))
    drawn.append((_rows(results, out / "levels.png", differences=False), "F1 and mean recall of every run"))
    drawn.append((_recalls(results, out / "recalls.png"), "Recall by rate of false accepts"))
    if len(results["fractions"]) > 1:
        drawn.append((_fractions(results, out / "fractions.png"), "By share of the phrase's recordings"))
    return drawn


@contextmanager
def _picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """A figure that is saved to `path` afterwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={})


def _style(results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Colour and marker of each condition."""
    names = [condition["name"] for condition in results["conditions"]]
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]} for i, name in enumerate(names)
    }


def _legend(figure: Any, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=9, frameon=False)


def _grid(axis: Any, which: str = "both") -> None:
    axis.grid(axis=which, color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)


def _places(axis: Any, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> list[float]:
    """Places of rows from the top down, with a gap between shares of recordings."""
    places, at, before = [], 0.0, None
    for row in rows:
        at += 0.7 if before not in (None, row["fraction"]) else 0.0
        places.append(at)
        at, before = at + 1.0, row["fraction"]
    several = len(results["fractions"]) > 1
    labels = [row["condition"] + (f", {fraction_text(row['fraction'])}" if several else "") for row in rows]
    axis.set_yticks(places, labels)
    axis.set_ylim(at - 0.3, -0.7)
    _grid(axis, "x")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return places


def _rows(results: Mapping[str, Any], path: Path, *, differences: bool) -> Path:
    """One panel a figure, one row a condition: every run or pair a tick, the mean a marker, intervals lines."""
    names, style = main_figures(results), _style(results)
    rows = [row for row in results["summary"] if not differences or row["condition"] != BASELINE]
    with _picture(path, 1.8 + 3.4 * len(names), 1.5 + 0.42 * len(rows)) as figure:
        for axis, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            places = _places(axis, rows, results)
            for place, row in zip(places, rows, strict=True):
                cell = row["figures"].get(name, {})
                cell = cell.get("difference", {}) if differences else cell
                if not cell:
                    continue
                look = style[row["condition"]]
                each = [100 * value for value in cell["values"].values()]
                axis.plot(each, [place + 0.22] * len(each), "|", color="#888888", markersize=7)
                if differences and cell["low"] is not None:
                    ends = [100 * cell["low"], 100 * cell["high"]]
                    axis.plot(ends, [place, place], color=look["color"], linewidth=2.2)
                axis.plot(100 * cell["mean"], place, markersize=7, **look)
            axis.set_title(heading(name), fontsize=10)
            axis.set_xlabel("percentage points; right of the line: better" if differences else "%", fontsize=8)
            if differences:
                axis.axvline(0, color="black", linewidth=1)
        title = (
            "Difference to the baseline: mean, 95 % interval (paired t), pairs as ticks"
            if differences
            else "Every run as a tick, their mean as a marker"
        )
        figure.suptitle(title, fontsize=10)
    return path


def _recalls(results: Mapping[str, Any], path: Path) -> Path:
    """Recall against false accepts an hour: rows by share of recordings, columns by split and noise."""
    fractions, style = results["fractions"], _style(results)
    columns = [(split, kind) for split in results["splits"] for kind in ("clean", "noisy")]
    with _picture(path, 1.4 + 2.6 * len(columns), 1.2 + 2.5 * len(fractions)) as figure:
        axes = figure.subplots(len(fractions), len(columns), sharex=True, sharey="row", squeeze=False)
        for line, fraction in zip(axes, fractions, strict=True):
            for axis, (split, kind) in zip(line, columns, strict=True):
                start = f"{split}.recall_{kind}_at_"
                for row in results["summary"]:
                    if row["fraction"] != fraction:
                        continue
                    found = {name: cell for name, cell in row["figures"].items() if name.startswith(start)}
                    means = [100 * cell["mean"] for cell in found.values()]
                    look = style[row["condition"]]
                    axis.plot(range(len(found)), means, label=row["condition"], linewidth=1.6, markersize=5, **look)
                    axis.set_xticks(range(len(found)), [name.removeprefix(start) for name in found])
                _grid(axis)
                title = f"{split}, {kind}"
                axis.set_title(title if len(fractions) == 1 else f"{title}, {fraction_text(fraction)}", fontsize=9)
            line[0].set_ylabel("recall, %", fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("false accepts an hour", fontsize=9)
        _legend(figure, axes[0][0])
    return path


def _fractions(results: Mapping[str, Any], path: Path) -> Path:
    """Against the share of the phrase's recordings: mean, and standard deviation as bars."""
    names, fractions, style = main_figures(results), sorted(results["fractions"]), _style(results)
    with _picture(path, 1.0 + 3.6 * len(names), 3.9) as figure:
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            for index, (condition, look) in enumerate(style.items()):
                cells = {
                    fractions.index(row["fraction"]): row["figures"][name]
                    for row in reversed(results["summary"])
                    if row["condition"] == condition and name in row["figures"]
                }
                # Side by side, so that bars do not hide one another.
                aside = 0.03 * (index - (len(style) - 1) / 2)
                axis.errorbar(
                    [place + aside for place in cells],
                    [100 * cell["mean"] for cell in cells.values()],
                    [100 * (cell["sd"] or 0.0) for cell in cells.values()],
                    **{"label": condition, "linewidth": 1.6, "elinewidth": 1, "capsize": 2, "markersize": 5, **look},
                )
            axis.set_xticks(range(len(fractions)), [fraction_text(fraction) for fraction in fractions])
            axis.set_title(heading(name), fontsize=10)
            axis.set_xlabel("recordings of the phrase", fontsize=9)
            _grid(axis)
        axes[0].set_ylabel("%; bars: standard deviation", fontsize=9)
        _legend(figure, axes[0])
    return path
