"""Results of experiments as Markdown and as tables in the terminal, from the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.console import console, table
from edgewake.experiments.conditions import BASELINE
from edgewake.fileio import write_text

_SHORT = {"f1": "F1", "recall_mean": "mean recall"}


def title_of(figure: str) -> str:
    """A figure's name without its split, as a column has it: F1, clean at 0.5/h."""
    name = figure.rpartition(".recall_")[2] if ".recall_" in figure else figure
    if name == "mean":
        return "mean recall"
    kind, at, rate = name.partition("_at_")
    return f"{kind} at {rate}/h" if at else _SHORT.get(name, name)


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


def difference_text(cell: Mapping[str, Any] | None) -> str:
    """A difference in percentage points, its interval, and how many pairs are better and worse."""
    if cell is None or "difference" not in cell:
        return "-"
    it = cell["difference"]
    interval = f" [{percent(it['low'], True)}, {percent(it['high'], True)}]" if it["low"] is not None else ""
    return f"{percent(it['mean'], True)}{interval} {it['better']}:{it['worse']}"


def groups(results: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Columns of tables: F1, then each split's recalls."""
    names = list(dict.fromkeys(name for row in results["summary"] for name in row["figures"]))
    found = [("F1 over validation clips", [name for name in names if name == "f1"])]
    for split in results["splits"]:
        found.append((f"recall on {split}", [name for name in names if name.startswith(f"{split}.")]))
    return [(title, columns) for title, columns in found if columns]


def ablation_tables(results: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows) of all tables: levels, then differences, F1 beside the first split's recalls."""
    many = len(results["fractions"]) > 1
    made = []
    for show, what in ((spread_text, "mean ± standard deviation, %"), (difference_text, "difference to the "
                       "baseline, percentage points [95 % interval] better:worse")):  # fmt: skip
        for title, names in _merged(groups(results)):
            rows = []
            for row in results["summary"]:
                if show is difference_text and row["condition"] == BASELINE:
                    continue
                cells = [row["figures"].get(name) for name in names]
                n = next((str(_count(cell, show is difference_text)) for cell in cells if cell), "0")
                start = [fraction_text(row["fraction"])] if many else []
                rows.append([*start, row["condition"], n, *(show(cell) for cell in cells)])
            columns = [*(["recordings"] if many else []), "condition", "n", *(title_of(n) for n in names)]
            if rows:
                made.append((f"{title}: {what}", columns, rows))
    return made


def _merged(found: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """F1 stands in the first split's table."""
    if len(found) < 2 or not found[0][0].startswith("F1"):
        return list(found)
    (_, first), (title, second), *rest = found
    return [(f"F1 over validation clips, {title}", first + second), *rest]


def _count(cell: Mapping[str, Any], pairs: bool) -> int:
    return int(cell.get("difference", {"n": 0})["n"] if pairs else cell["n"])


def notes(results: Mapping[str, Any]) -> list[str]:
    """How to read the tables, and what to beware of."""
    said = []
    for split, on in results["measured_on"].items():
        accepts = ", ".join(f"{count} at {rate}/h" for rate, count in on["accepts"].items())
        said.append(
            f"{split}: {on['recordings']:g} recordings of the phrase (copies count once), and "
            f"{on['hours']:.2f} h without it, in which these false accepts are allowed: {accepts}. Every run "
            "has its own cutoff for that, found on this split; all hear the same noise"
        )
    said.append(f"n: seeds ({', '.join(map(str, results['seeds']))}). {results['method']}.")
    said += [f"Beware: {text}." for text in results["warnings"]]
    return said


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first columns are text, those after `n` are aligned to the right."""
    right = columns.index("n") if "n" in columns else len(columns)
    line = "|".join("---:" if index >= right else "---" for index in range(len(columns)))
    lines = [f"| {' | '.join(columns)} |", f"|{line}|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def print_ablation(results: Mapping[str, Any]) -> None:
    """Tables and notes in the terminal."""
    for title, columns, rows in ablation_tables(results):
        at = columns.index("n")
        table(title, [f">{name}" if i >= at else name for i, name in enumerate(columns)], rows)
    for text in notes(results):
        console.print(text, markup=False)
    print_failed(results)


def print_failed(results: Mapping[str, Any]) -> None:
    """Name what failed, each with its log."""
    for failed in results["failed"]:
        console.print(
            f"failed: {failed['name']}: {failed['error']} ({failed['log']})", style="red", markup=False
        )


def write_ablation(results: Mapping[str, Any], path: Path, pictures: Sequence[tuple[Path, str]]) -> None:
    """results.md: tables, pictures by relative path, notes, and what failed."""
    parts = [f"# Does a teacher help? {results['name']}"]
    for title, columns, rows in ablation_tables(results):
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
