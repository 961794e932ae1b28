"""Results of experiments as Markdown and as tables in the terminal, from the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.console import console, table
from edgewake.experiments.conditions import BASELINE
from edgewake.io import write_text

Table = tuple[str, list[str], list[list[str]]]
DIFFERENCE = "difference to the baseline, percentage points [95 % interval] won:lost"
_SHORT = {"f1": "F1", "recall_mean": "mean recall"}


def title_of(figure: str) -> str:
    """A figure's name without its split, as a column has it: F1, clean at 0.5/h."""
    name = figure.rpartition(".recall_")[2] if ".recall_" in figure else figure
    if name == "mean":
        return "mean recall"
    kind, at, rate = name.partition("_at_")
    return f"{kind} {rate}/h" if at else _SHORT.get(name, name)


def percent(value: float | None, sign: bool = False) -> str:
    """A share in percent with one decimal; differences with their sign."""
    if value is None:
        return "-"
    return f"{100 * value:{'+' if sign else ''}.1f}"


def fraction_text(fraction: float) -> str:
    """1, 1/4, 1/16; other shares as decimals."""
    inverse = 1 / fraction
    if fraction == 1:
        return "all"
    return f"1/{inverse:.0f}" if abs(inverse - round(inverse)) < 1e-9 else f"{fraction:g}"


def spread_text(cell: Mapping[str, Any] | None) -> str:
    """Mean and standard deviation in percent: 91.3 ± 1.2."""
    if cell is None:
        return "-"
    return percent(cell["mean"]) + (f" ± {percent(cell['sd'])}" if cell["sd"] is not None else "")


def difference_text(cell: Mapping[str, Any] | None, *, pairs: bool = True) -> str:
    """A difference in percentage points, its interval, and (`pairs`) how many pairs are better and worse."""
    if cell is None or "difference" not in cell:
        return "-"
    it = cell["difference"]
    interval = f" [{percent(it['low'], True)}, {percent(it['high'], True)}]" if it["low"] is not None else ""
    counts = f" {it['better']}:{it['worse']}" if pairs else ""
    return f"{percent(it['mean'], True)}{interval}{counts}"


def main_figures(results: Mapping[str, Any]) -> list[str]:
    """The figures that an answer rests on: F1, and each split's mean recall, where there are any."""
    wanted = ["f1", *(f"{split}.recall_mean" for split in results["splits"])]
    return [name for name in wanted if any(name in row["figures"] for row in results["summary"])]


def heading(figure: str) -> str:
    """What a main figure is, as a heading."""
    if figure == "f1":
        return "F1 over validation clips"
    return f"{title_of(figure)}, {figure.partition('.')[0]} recordings"


def ablation_tables(results: Mapping[str, Any], *, full: bool) -> list[Table]:
    """(title, columns, rows): a table for each main figure, then recalls at each rate.

    Args:
        full: recalls at each rate with their spread and differences, too wide for a terminal.
    """
    made = [_main_table(results, name) for name in main_figures(results)]
    for split in results["splits"]:
        names = list(dict.fromkeys(name for row in results["summary"] for name in row["figures"]))
        names = [name for name in names if name.startswith(f"{split}.recall_") and "_at_" in name]
        if not names:
            continue
        title = f"recall, {split} recordings, at false accepts an hour"
        if not full:
            made.append(_short_rates_table(results, names, f"{title}: mean clean / noisy, %"))
            continue
        made.append(_rates_table(results, names, f"{title}: mean ± standard deviation, %", spread_text))
        what = f"{title}: {DIFFERENCE}"
        made.append(_rates_table(results, names, what, difference_text, differences=True))
    made.append(_teacher_table(results))
    return [(title, columns, rows) for title, columns, rows in made if rows]


def _teacher_table(results: Mapping[str, Any]) -> Table:
    rows = [
        [*_start(results, row), str(row["fits"]), spread_text(row["val_f1"]), row["source"]]
        for row in results["teachers"]
    ]
    columns = [*_start_columns(results), "F1, %", "source"]
    return "teachers themselves: fits (n) and F1 over validation clips where a run fitted them", columns, rows


def _start(results: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    share = [fraction_text(row["fraction"])] if len(results["fractions"]) > 1 else []
    return [*share, row["condition"]]


def _start_columns(results: Mapping[str, Any]) -> list[str]:
    return [*(["share"] if len(results["fractions"]) > 1 else []), "condition", "n"]


def _main_table(results: Mapping[str, Any], name: str) -> Table:
    rows = []
    for row in results["summary"]:
        cell = row["figures"].get(name)
        if cell is None:
            rows.append([*_start(results, row), "0", "-", "-", "-"])
            continue
        difference = cell.get("difference")
        n = str(cell["n"]) if difference is None else str(difference["n"])
        pairs = f"{difference['better']}:{difference['worse']}" if difference else "-"
        rows.append([*_start(results, row), n, spread_text(cell), difference_text(cell, pairs=False), pairs])
    columns = [*_start_columns(results), "mean ± sd", "to baseline [95 %]", "won:lost"]
    return heading(name), columns, rows


def _rates_table(
    results: Mapping[str, Any],
    names: Sequence[str],
    title: str,
    show: Callable[[Mapping[str, Any]], str],
    *,
    differences: bool = False,
) -> Table:
    rows = []
    for row in results["summary"]:
        if differences and row["condition"] == BASELINE:
            continue
        cells = [row["figures"].get(name) for name in names]
        counts = [cell.get("difference", cell)["n"] for cell in cells if cell is not None]
        shown = [show(cell) if cell is not None else "-" for cell in cells]
        rows.append([*_start(results, row), str(counts[0] if counts else 0), *shown])
    return title, [*_start_columns(results), *(title_of(name) for name in names)], rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """How to read the tables, and what to beware of."""
    said = ["mean recall: over clean and noisy recordings at 0.5, 2 and 8 false accepts an hour"]
    for split, on in results["measured_on"].items():
        accepts = ", ".join(f"{count} at {rate}/h" for rate, count in on["accepts"].items())
        said.append(
            f"{split}: {on['recordings']:g} recordings of the phrase (copies count once), and "
            f"{on['hours']:.2f} h without it, in which these false accepts are allowed: {accepts}. Every run "
            "has its own cutoff for that, found on this split; all hear the same noise"
        )
    said.append(f"n: runs of different seeds ({', '.join(map(str, results['seeds']))}). {results['method']}.")
    said += [f"Beware: {text}." for text in results["warnings"]]
    return said


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first columns are text, those after `n` are aligned to the right."""
    right = columns.index("n") if "n" in columns else len(columns)
    line = "|".join("---:" if index >= right else "---" for index in range(len(columns)))
    lines = [f"| {' | '.join(columns)} |", f"|{line}|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _short_rates_table(results: Mapping[str, Any], names: Sequence[str], title: str) -> Table:
    """Clean and noisy recall in one cell, for terminals."""
    pairs = [(name, name.replace(".recall_clean_", ".recall_noisy_")) for name in names if "_clean_" in name]
    rows = []
    for row in results["summary"]:
        found = [[row["figures"].get(name) for name in pair] for pair in pairs]
        shown = [" / ".join(percent(cell and cell["mean"]) for cell in pair) for pair in found]
        counts = [cell["n"] for pair in found for cell in pair if cell is not None]
        rows.append([*_start(results, row), str(counts[0] if counts else 0), *shown])
    rates = [clean.rpartition("_at_")[2] for clean, _ in pairs]
    return title, [*_start_columns(results), *(f"{rate}/h" for rate in rates)], rows


def print_ablation(results: Mapping[str, Any]) -> None:
    """Tables and notes in the terminal."""
    for title, columns, rows in ablation_tables(results, full=False):
        at = columns.index("n")
        table(title, [f">{name}" if i >= at else name for i, name in enumerate(columns)], rows)
    for text in notes(results):
        console.print(text, markup=False, soft_wrap=True)
    print_failed(results)


def print_failed(results: Mapping[str, Any]) -> None:
    """Name what failed, each with its log."""
    for failed in results["failed"]:
        console.print(f"failed: {failed['name']}: {failed['error']} ({failed['log']})", style="red", markup=False)


def write_ablation(results: Mapping[str, Any], path: Path, pictures: Sequence[tuple[Path, str]]) -> None:
    """results.md: tables, pictures by relative path, notes, and what failed."""
    parts = [f"# Does a teacher help? {results['name']}"]
    for title, columns, rows in ablation_tables(results, full=True):
        parts += [f"**{title}**", markdown_table(columns, rows)]
    parts += [f"![{text}]({picture.name})" for picture, text in pictures]
    parts.append("\n".join(f"- {text}" for text in notes(results)))
    parts.append("\n".join(f"- `{c['name']}`: {_settings(c['settings'])}" for c in results["conditions"]))
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    parts.append(f"Made {results['made']} by {versions}; all figures, point by point: results.json.")
    parts += failed_part(results)
    write_text(path, "\n\n".join(parts) + "\n")


def failed_part(results: Mapping[str, Any]) -> list[str]:
    """A paragraph that names failed points, or nothing."""
    if not results["failed"]:
        return []
    lines = [f"- {point['name']}: {point['error']} (`{point['log']}`)" for point in results["failed"]]
    return ["**Failed**", "\n".join(lines)]


def _settings(settings: Mapping[str, Any]) -> str:
    shown = [f"{key}={value}" for key, value in settings.items() if value not in ("", [], None)]
    return ", ".join(shown)


# ---- sweeps --------------------------------------------------------------------------------------


def sweep_table(results: Mapping[str, Any]) -> Table:
    """One row a combination, best first; settings that do not vary are left out."""
    axes = [axis["key"] for axis in results["axes"] if len(axis["values"]) > 1]
    splits = results["splits"]
    rows = []
    for row in results["rows"]:
        score = row["score"]
        shown = f"{score['mean']:.4f}" + (f" ± {score['sd']:.4f}" if score["sd"] is not None else "")
        recalls = [spread_text(row[f"{split}.recall_mean"]) for split in splits]
        rows.append(
            [
                *(row["settings"][key] for key in axes),
                str(score["n"]),
                shown,
                spread_text(row["f1"]),
                *recalls,
            ]
        )
    columns = [*axes, "n", "score", "F1, %", *(f"mean recall {split}, %" for split in splits)]
    return "sweep, best score first", columns, rows


def print_sweep(results: Mapping[str, Any]) -> None:
    """The table, and what failed, in the terminal."""
    title, columns, rows = sweep_table(results)
    at = columns.index("n")
    table(title, [f">{name}" if i >= at else name for i, name in enumerate(columns)], rows)
    print_failed(results)


def write_sweep(results: Mapping[str, Any], path: Path) -> None:
    """results.md: the table, settings that all points share, and what failed."""
    title, columns, rows = sweep_table(results)
    parts = [f"# Sweep of {results['name']}", f"**{title}**", markdown_table(columns, rows)]
    fixed = [f"{axis['key']}={axis['values'][0]}" for axis in results["axes"] if len(axis["values"]) == 1]
    if fixed:
        parts.append(f"All points: {', '.join(fixed)}.")
    parts.append(
        "The score is what picks checkpoints, so the best of many points flatters itself: judge the winner "
        "on other recordings, and with several seeds."
    )
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    parts.append(f"Made {results['made']} by {versions}; all figures, point by point: results.json.")
    parts += failed_part(results)
    write_text(path, "\n\n".join(parts) + "\n")
