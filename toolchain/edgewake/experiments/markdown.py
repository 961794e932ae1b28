"""Results of experiments as Markdown and as tables in the terminal, from the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.console import console, table
from edgewake.experiments.conditions import BASELINE
from edgewake.io import write_text

Table = tuple[str, list[str], list[list[str]]]
Cell = Mapping[str, Any] | None
# A column's header, the figures that it shows, and how.
Columns = Mapping[str, tuple[Sequence[str], Callable[..., str]]]
DIFFERENCE = "difference to the baseline, percentage points [95 % interval] won:lost"


# ---- one value -----------------------------------------------------------------------------------


def percent(value: float | None, sign: bool = False) -> str:
    """A share in percent with one decimal; differences with their sign."""
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.1f}"


def fraction_text(fraction: float) -> str:
    """1, 1/4, 1/16; other shares as decimals."""
    inverse = 1 / fraction
    if fraction == 1:
        return "all"
    return f"1/{inverse:.0f}" if abs(inverse - round(inverse)) < 1e-9 else f"{fraction:g}"


def spread_text(cell: Cell) -> str:
    """Mean and standard deviation in percent: 91.3 ± 1.2."""
    if cell is None:
        return "-"
    return percent(cell["mean"]) + (f" ± {percent(cell['sd'])}" if cell["sd"] is not None else "")


def interval_text(cell: Cell) -> str:
    """A difference in percentage points and its interval: +6.0 [+3.5, +8.5]."""
    it = (cell or {}).get("difference")
    if it is None:
        return "-"
    interval = f" [{percent(it['low'], True)}, {percent(it['high'], True)}]" if it["low"] is not None else ""
    return percent(it["mean"], True) + interval


def pairs_text(cell: Cell) -> str:
    """How many pairs are better and worse: 3:0."""
    it = (cell or {}).get("difference")
    return "-" if it is None else f"{it['better']}:{it['worse']}"


def difference_text(cell: Cell) -> str:
    """Difference, interval and pairs."""
    return "-" if interval_text(cell) == "-" else f"{interval_text(cell)} {pairs_text(cell)}"


def means_text(*cells: Cell) -> str:
    """Means in percent, side by side: 91.3 / 87.0."""
    return " / ".join(percent(cell["mean"] if cell else None) for cell in cells)


# ---- an ablation ---------------------------------------------------------------------------------


def main_figures(results: Mapping[str, Any]) -> list[str]:
    """The figures that an answer rests on: F1, and each split's mean recall, where there are any."""
    wanted = ["f1", *(f"{split}.recall_mean" for split in results["splits"])]
    return [name for name in wanted if any(name in row["figures"] for row in results["summary"])]


def heading(figure: str) -> str:
    """What a main figure is, as a heading."""
    return "F1 over validation clips" if figure == "f1" else f"mean recall, {figure.partition('.')[0]} recordings"


def ablation_tables(results: Mapping[str, Any], *, full: bool) -> list[Table]:
    """(title, columns, rows): a table for each main figure, then recalls at each rate.

    Args:
        full: recalls at each rate with their spread and differences, too wide for a terminal.
    """
    made = []
    for name in main_figures(results):
        columns: Columns = {
            "mean ± sd": ([name], spread_text),
            "to baseline [95 %]": ([name], interval_text),
            "won:lost": ([name], pairs_text),
        }
        made.append(_table(results, heading(name), columns))
    for split in results["splits"]:
        found = dict.fromkeys(name for row in results["summary"] for name in row["figures"])
        start = f"{split}.recall_"
        at = {name.removeprefix(start): name for name in found if name.startswith(start) and "_at_" in name}
        title = f"recall, {split} recordings, at false accepts an hour"
        if not full:
            both = {
                f"{kind.removeprefix('clean_at_')}/h": ([name, at[kind.replace("clean", "noisy")]], means_text)
                for kind, name in at.items()
                if kind.startswith("clean")
            }
            made.append(_table(results, f"{title}: mean clean / noisy, %", both))
            continue
        headers = {kind.replace("_at_", " ") + "/h": [name] for kind, name in at.items()}
        means = {header: (names, spread_text) for header, names in headers.items()}
        made.append(_table(results, f"{title}: mean ± standard deviation, %", means))
        changes = {header: (names, difference_text) for header, names in headers.items()}
        made.append(_table(results, f"{title}: {DIFFERENCE}", changes, differences=True))
    made.append(_teacher_table(results))
    return [(title, columns, rows) for title, columns, rows in made if rows and columns[-1] != "n"]


def _start(results: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    share = [fraction_text(row["fraction"])] if len(results["fractions"]) > 1 else []
    return [*share, row["condition"]]


def _start_columns(results: Mapping[str, Any]) -> list[str]:
    return [*(["share"] if len(results["fractions"]) > 1 else []), "condition", "n"]


def _table(results: Mapping[str, Any], title: str, columns: Columns, *, differences: bool = False) -> Table:
    """A row for each condition and share; n counts pairs where there are differences, else runs."""
    rows = []
    for row in results["summary"]:
        if differences and row["condition"] == BASELINE:
            continue
        figures = row["figures"]
        cells = [figures[name] for names, _ in columns.values() for name in names if name in figures]
        n = cells[0].get("difference", cells[0])["n"] if cells else 0
        shown = [show(*(figures.get(name) for name in names)) for names, show in columns.values()]
        rows.append([*_start(results, row), str(n), *shown])
    return title, [*_start_columns(results), *columns], rows


def _teacher_table(results: Mapping[str, Any]) -> Table:
    rows = [
        [*_start(results, row), str(row["fits"]), spread_text(row["val_f1"]), row["source"]]
        for row in results["teachers"]
    ]
    title = "teachers themselves: fits (n) and F1 over validation clips where a run fitted them"
    return title, [*_start_columns(results), "F1, %", "source"], rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """How to read the tables, and what to beware of."""
    lines = ["mean recall: over clean and noisy recordings at 0.5, 2 and 8 false accepts an hour"]
    for split, on in results["measured_on"].items():
        accepts = ", ".join(f"{count} at {rate}/h" for rate, count in on["accepts"].items())
        lines.append(
            f"{split}: {on['recordings']:g} recordings of the phrase (copies count once), and "
            f"{on['hours']:.2f} h without it, in which these false accepts are allowed: {accepts}. Every run "
            "has its own cutoff for that, found on this split; the noise is the same for all"
        )
    lines.append(f"n: runs of different seeds ({', '.join(map(str, results['seeds']))}). {results['method']}.")
    return lines + [f"Beware: {text}." for text in results["warnings"]]


def print_ablation(results: Mapping[str, Any]) -> None:
    """Tables and notes in the terminal."""
    for made in ablation_tables(results, full=False):
        _print(made)
    for text in notes(results):
        console.print(text, markup=False, soft_wrap=True)
    _print_failed(results)


def write_ablation(results: Mapping[str, Any], path: Path, pictures: Sequence[tuple[Path, str]]) -> None:
    """results.md: tables, pictures by relative path, notes, and what failed."""
    parts = [f"# Does a teacher help? {results['name']}"]
    for title, columns, rows in ablation_tables(results, full=True):
        parts += [f"**{title}**", markdown_table(columns, rows)]
    parts += [f"![{text}]({picture.name})" for picture, text in pictures]
    parts.append("\n".join(f"- {text}" for text in notes(results)))
    lines = []
    for condition in results["conditions"]:
        shown = [f"{key}={value}" for key, value in condition["settings"].items() if value not in ("", [], None)]
        lines.append(f"- `{condition['name']}`: {', '.join(shown)}")
    _write(results, path, [*parts, "\n".join(lines)])


# ---- a sweep -------------------------------------------------------------------------------------


def sweep_table(results: Mapping[str, Any]) -> Table:
    """One row a combination, best first; settings that do not vary are left out."""
    axes = [axis["key"] for axis in results["axes"] if len(axis["values"]) > 1]
    recalls = {f"mean recall {split}, %": f"{split}.recall_mean" for split in results["splits"]}
    rows = []
    for row in results["rows"]:
        score = row["score"]
        shown = f"{score['mean']:.4f}" + (f" ± {score['sd']:.4f}" if score["sd"] is not None else "")
        spreads = [spread_text(row[name]) for name in ("f1", *recalls.values())]
        rows.append([*(str(row["settings"][key]) for key in axes), str(score["n"]), shown, *spreads])
    return "sweep, best score first", [*axes, "n", "score", "F1, %", *recalls], rows


def print_sweep(results: Mapping[str, Any]) -> None:
    """The table, and what failed, in the terminal."""
    _print(sweep_table(results))
    _print_failed(results)


def write_sweep(results: Mapping[str, Any], path: Path) -> None:
    """results.md: the table, settings that all trials share, and what failed."""
    title, columns, rows = sweep_table(results)
    parts = [f"# Sweep of {results['name']}", f"**{title}**", markdown_table(columns, rows)]
    fixed = [f"{axis['key']}={axis['values'][0]}" for axis in results["axes"] if len(axis["values"]) == 1]
    if fixed:
        parts.append(f"All trials: {', '.join(fixed)}.")
    parts.append(
        "The score picks checkpoints, so the best of many trials is in part luck: evaluate the winner on other "
        "recordings, and with several seeds."
    )
    _write(results, path, parts)


# ---- both ----------------------------------------------------------------------------------------


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first columns are text, those from `n` on are aligned to the right."""
    line = "|".join("---:" if index >= columns.index("n") else "---" for index in range(len(columns)))
    lines = [f"| {' | '.join(columns)} |", f"|{line}|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _print(made: Table) -> None:
    title, columns, rows = made
    right = columns.index("n")
    table(title, [f">{name}" if index >= right else name for index, name in enumerate(columns)], rows)


def _print_failed(results: Mapping[str, Any]) -> None:
    for failed in results["failed"]:
        console.print(f"failed: {failed['name']}: {failed['error']} ({failed['log']})", style="red", markup=False)


def _write(results: Mapping[str, Any], path: Path, parts: list[str]) -> None:
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    parts = [*parts, f"Made {results['made']} by {versions}; all figures, trial by trial: results.json."]
    failed = [f"- {trial['name']}: {trial['error']} (`{trial['log']}`)" for trial in results["failed"]]
    write_text(path, "\n\n".join([*parts, *(["**Failed**", "\n".join(failed)] if failed else [])]) + "\n")
