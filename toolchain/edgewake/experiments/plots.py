"""Pictures of an ablation that are read without colour too: every condition has its marker and its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.errors import MissingDependencyError
from edgewake.experiments.conditions import BASELINE
from edgewake.experiments.markdown import fraction_text, heading, main_figures
from edgewake.io import atomic_path

# Okabe and Ito (2008), told apart with every kind of colour vision; yellow is too pale on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_GREY = "#888888"


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib, not installed: pip install 'edgewake[report]', or add --no-plot"
        ) from None
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={})


def draw_ablation(results: Mapping[str, Any], out: Path) -> list[tuple[Path, str]]:
    """Draw what there is to see; returns paths with a text each.

    differences.png: paired differences with intervals; levels.png: every run; recalls.png: recall by rate of
    false accepts; fractions.png: by share of recordings, where there are several.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    out = Path(out)
    drawn = []
    if any("difference" in cell for row in results["summary"] for cell in row["figures"].values()):
        drawn.append((_differences(results, out / "differences.png"), "Differences to the baseline"))
    drawn.append((_levels(results, out / "levels.png"), "F1 and mean recall of every run"))
    drawn.append((_recalls(results, out / "recalls.png"), "Recall by rate of false accepts"))
    if len(results["fractions"]) > 1:
        drawn.append((_fractions(results, out / "fractions.png"), "By share of the phrase's recordings"))
    return drawn


def _style(results: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    names = [condition["name"] for condition in results["conditions"]]
    return {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _label(row: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    if len(results["fractions"]) == 1:
        return str(row["condition"])
    return f"{row['condition']}, {fraction_text(row['fraction'])}"


def _rows_panel(axis: Any, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> list[float]:
    """Places of rows from the top down, with a gap between shares of recordings."""
    places, at, before = [], 0.0, None
    for row in rows:
        if before is not None and row["fraction"] != before:
            at += 0.7
        places.append(at)
        at, before = at + 1.0, row["fraction"]
    axis.set_yticks(places, [_label(row, results) for row in rows])
    axis.set_ylim(at - 0.3, -0.7)
    axis.grid(axis="x", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return places


def _differences(results: Mapping[str, Any], path: Path) -> Path:
    """One panel a figure: every pair a small dot, the mean and its interval above them; zero is a line."""
    names = main_figures(results)
    rows = [row for row in results["summary"] if row["condition"] != BASELINE]
    style = _style(results)
    figure = _figure(1.8 + 3.4 * len(names), 1.5 + 0.42 * len(rows))
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        places = _rows_panel(axis, rows, results)
        axis.axvline(0, color="black", linewidth=1)
        for place, row in zip(places, rows, strict=True):
            cell = row["figures"].get(name, {}).get("difference")
            if cell is None:
                continue
            colour, marker = style[row["condition"]]
            each = [100 * value for value in cell["values"].values()]
            axis.plot(each, [place + 0.22] * len(each), "|", color=_GREY, markersize=7)
            if cell["low"] is not None:
                axis.plot([100 * cell["low"], 100 * cell["high"]], [place, place], color=colour, linewidth=2.2)
            axis.plot(100 * cell["mean"], place, marker, color=colour, markersize=7)
        axis.set_title(heading(name), fontsize=10)
        axis.set_xlabel("percentage points; right of the line: better", fontsize=8)
    figure.suptitle("Difference to the baseline: mean, 95 % interval (paired t), pairs as ticks", fontsize=10)
    _save(figure, path)
    return path


def _levels(results: Mapping[str, Any], path: Path) -> Path:
    """One panel a figure: every run a tick, the mean a marker."""
    names = main_figures(results)
    rows = results["summary"]
    style = _style(results)
    figure = _figure(1.8 + 3.4 * len(names), 1.5 + 0.42 * len(rows))
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        places = _rows_panel(axis, rows, results)
        for place, row in zip(places, rows, strict=True):
            cell = row["figures"].get(name)
            if cell is None:
                continue
            colour, marker = style[row["condition"]]
            each = [100 * value for value in cell["values"].values()]
            axis.plot(each, [place + 0.22] * len(each), "|", color=_GREY, markersize=7)
            axis.plot(100 * cell["mean"], place, marker, color=colour, markersize=7)
        axis.set_title(heading(name), fontsize=10)
        axis.set_xlabel("%", fontsize=8)
    figure.suptitle("Every run as a tick, their mean as a marker", fontsize=10)
    _save(figure, path)
    return path


def _recalls(results: Mapping[str, Any], path: Path) -> Path:
    """Recall against false accepts an hour: rows by share of recordings, columns by split and noise."""
    fractions, splits, style = results["fractions"], results["splits"], _style(results)
    columns = [(split, kind) for split in splits for kind in ("clean", "noisy")]
    figure = _figure(1.4 + 2.6 * len(columns), 1.2 + 2.5 * len(fractions))
    axes = figure.subplots(len(fractions), len(columns), sharex=True, sharey="row", squeeze=False)
    for line, fraction in zip(axes, fractions, strict=True):
        for axis, (split, kind) in zip(line, columns, strict=True):
            start = f"{split}.recall_{kind}_at_"
            for row in results["summary"]:
                if row["fraction"] != fraction:
                    continue
                found = {
                    float(name.removeprefix(start)): cell
                    for name, cell in row["figures"].items()
                    if name.startswith(start)
                }
                colour, marker = style[row["condition"]]
                axis.plot(
                    range(len(found)),
                    [100 * cell["mean"] for cell in found.values()],
                    marker=marker,
                    color=colour,
                    label=row["condition"],
                    linewidth=1.6,
                    markersize=5,
                )
                axis.set_xticks(range(len(found)), [f"{rate:g}" for rate in found])
            axis.grid(color="#dddddd", linewidth=0.7)
            axis.set_axisbelow(True)
            title = f"{split}, {kind}"
            axis.set_title(title if len(fractions) == 1 else f"{title}, {fraction_text(fraction)}", fontsize=9)
        line[0].set_ylabel("recall, %", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("false accepts an hour", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=9, frameon=False)
    _save(figure, path)
    return path


def _fractions(results: Mapping[str, Any], path: Path) -> Path:
    """Against the share of the phrase's recordings: mean, and standard deviation as bars."""
    names, fractions, style = main_figures(results), sorted(results["fractions"]), _style(results)
    figure = _figure(1.0 + 3.6 * len(names), 3.9)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    conditions = [condition["name"] for condition in results["conditions"]]
    for axis, name in zip(axes, names, strict=True):
        for index, condition in enumerate(conditions):
            cells = {
                row["fraction"]: row["figures"][name]
                for row in results["summary"]
                if row["condition"] == condition and name in row["figures"]
            }
            colour, marker = style[condition]
            # Side by side, so that bars do not hide one another.
            aside = 0.03 * (index - (len(conditions) - 1) / 2)
            places = [fractions.index(fraction) + aside for fraction in sorted(cells)]
            ordered = [cells[fraction] for fraction in sorted(cells)]
            axis.errorbar(
                places,
                [100 * cell["mean"] for cell in ordered],
                [100 * (cell["sd"] or 0.0) for cell in ordered],
                color=colour,
                marker=marker,
                label=condition,
                linewidth=1.6,
                elinewidth=1,
                capsize=2,
                markersize=5,
            )
        axis.set_xticks(range(len(fractions)), [fraction_text(fraction) for fraction in fractions])
        axis.set_title(heading(name), fontsize=10)
        axis.set_xlabel("recordings of the phrase", fontsize=9)
        axis.grid(color="#dddddd", linewidth=0.7)
        axis.set_axisbelow(True)
    axes[0].set_ylabel("%; bars: standard deviation", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=9, frameon=False)
    _save(figure, path)
    return path
