"""Pictures of an ablation that are read without colour too: every condition has its marker and its place."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.evaluation.rates import picture
from edgewake.experiments.tables import fraction_text, main_figures

# Okabe and Ito (2008), told apart with every kind of colour vision; yellow is too pale on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


# Title, names of places along x, and condition to its cells at these places.
Panel = tuple[str, Sequence[str], Mapping[str, Sequence[Mapping[str, Any] | None]]]


def draw_ablation(results: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Draw what there is to see; returns names of files with a text each.

    differences.png: paired differences with intervals; levels.png: every run; recalls.png: recall by rate of
    false accepts; fractions.png: by share of recordings, where there are several.
    """
    drawn = {}
    fractions, rows = results["fractions"], results["summary"]
    if any("difference" in cell for row in rows for cell in row["figures"].values()):
        drawn["differences.png"] = "Differences to the baseline"
        _rows(results, out / "differences.png", differences=True)
    drawn["levels.png"] = "F1 and mean recall of every run"
    _rows(results, out / "levels.png", differences=False)
    drawn["recalls.png"] = "Recall by rate of false accepts"
    panels: list[Panel] = []
    starts = [f"{split}.recall_{kind}_at_" for split in results["splits"] for kind in ("clean", "noisy")]
    for fraction, start in itertools.product(fractions, starts):
        figures = {row["condition"]: row["figures"] for row in rows if row["fraction"] == fraction}
        names = dict.fromkeys(name for each in figures.values() for name in each if name.startswith(start))
        lines = {condition: [each.get(name) for name in names] for condition, each in figures.items()}
        share = f", {fraction_text(fraction)}" if len(fractions) > 1 else ""
        title = start.removesuffix("_at_").replace(".recall_", ", ") + share
        panels.append((title, [name.removeprefix(start) for name in names], lines))
    _lines(results, out / "recalls.png", panels, "false accepts an hour", len(starts))
    if len(fractions) > 1:
        drawn["fractions.png"] = "By share of the phrase's recordings"
        shares, panels = [fraction_text(fraction) for fraction in reversed(fractions)], []
        for name, heading in main_figures(results).items():
            lines = {condition["name"]: [] for condition in results["conditions"]}
            for row in reversed(rows):
                lines[row["condition"]].append(row["figures"].get(name))
            panels.append((heading, shares, lines))
        _lines(results, out / "fractions.png", panels, "recordings of the phrase", len(panels))
    return drawn


def _looks(results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Colour and marker of each condition."""
    names = [condition["name"] for condition in results["conditions"]]
    looks = zip(names, itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    return {name: {"color": colour, "marker": marker} for name, colour, marker in looks}


def _rows(results: Mapping[str, Any], path: Path, *, differences: bool) -> None:
    """One panel a figure, one row a condition: every run or pair a tick, the mean a marker, intervals lines."""
    names, looks, several = main_figures(results), _looks(results), len(results["fractions"]) > 1
    rows, baseline = results["summary"], results["conditions"][0]["name"]
    if differences:
        rows = [row for row in rows if row["condition"] != baseline]
    # From the top down, with a gap between shares of recordings.
    places = [index + 0.7 * results["fractions"].index(row["fraction"]) for index, row in enumerate(rows)]
    labels = [row["condition"] + (f", {fraction_text(row['fraction'])}" if several else "") for row in rows]
    with picture(path, 1.8 + 3.4 * len(names), 1.5 + 0.42 * len(rows)) as figure:
        axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axis, (name, heading) in zip(axes, names.items(), strict=True):
            for place, row in zip(places, rows, strict=True):
                cell = row["figures"].get(name, {})
                cell = cell.get("difference", {}) if differences else cell
                if not cell:
                    continue
                look = looks[row["condition"]]
                each = [100 * value for value in cell["values"].values()]
                axis.plot(each, [place + 0.22] * len(each), "|", color="#888888", markersize=7)
                if differences and cell["low"] is not None:
                    ends = [100 * cell["low"], 100 * cell["high"]]
                    axis.plot(ends, [place, place], color=look["color"], linewidth=2.2)
                axis.plot(100 * cell["mean"], place, markersize=7, **look)
            axis.set_title(heading, fontsize=10)
            axis.set_xlabel("percentage points; right of the line: better" if differences else "%", fontsize=8)
            axis.set_yticks(places, labels)
            axis.set_ylim(places[-1] + 0.7, -0.7)
            axis.grid(axis="x", color="#dddddd", linewidth=0.7)
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.tick_params(axis="y", length=0)
            if differences:
                axis.axvline(0, color="black", linewidth=1)
        title = "Difference to the baseline: mean, 95 % interval (paired t), pairs as ticks"
        figure.suptitle(title if differences else "Every run as a tick, their mean as a marker", fontsize=10)


def _lines(results: Mapping[str, Any], path: Path, panels: Sequence[Panel], label: str, columns: int) -> None:
    """Panels, `columns` side by side, of lines, one a condition: the mean, and the standard deviation as bars."""
    looks, lines = _looks(results), len(panels) // columns
    with picture(path, 1.2 + 2.8 * columns, 1.3 + 2.6 * lines) as figure:
        axes = figure.subplots(lines, columns, sharey="row", squeeze=False)
        for axis, (title, names, conditions) in zip(axes.flat, panels, strict=True):
            for index, (condition, cells) in enumerate(conditions.items()):
                # Side by side, so that bars do not hide one another.
                aside = 0.03 * (index - (len(conditions) - 1) / 2)
                shown = [cell for cell in cells if cell]
                places = [place + aside for place, cell in enumerate(cells) if cell]
                means, bars = ([100 * (cell[name] or 0.0) for cell in shown] for name in ("mean", "sd"))
                line: dict[str, Any] = {"linewidth": 1.6, "elinewidth": 1, "capsize": 2, "markersize": 5}
                axis.errorbar(places, means, bars, label=condition, **line, **looks[condition])
            axis.set_xticks(range(len(names)), names)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel(label, fontsize=9)
            axis.grid(color="#dddddd", linewidth=0.7)
            axis.set_axisbelow(True)
        for axis in axes[:, 0]:
            axis.set_ylabel("%; bars: standard deviation", fontsize=9)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=9, frameon=False)
