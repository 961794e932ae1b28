"""Figures over seeds (paired differences with Student's interval), as tables in the terminal and in results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import ttest_1samp

from edgewake.console import console, table
from edgewake.io import write_text

CONFIDENCE = 0.95
METHOD = (
    "paired Student t over seeds: each difference is between two runs of the same seed and the same share of "
    "recordings; mean ± t(n - 1) · s / √n. It covers what another training would change (weights, "
    "batches, and which recordings were drawn where a share is used), not what other test recordings or "
    "another fit of the teacher would; it supposes that differences are about normal, and is not corrected "
    "for the number of comparisons"
)

Cell = Mapping[str, Any] | None


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Of one value or more: n, mean, and sd, the standard deviation (n - 1; None for one value)."""
    return {"n": len(values), "mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None}


def paired_difference(baseline: Mapping[Any, float], other: Mapping[Any, float]) -> dict[str, Any] | None:
    """`other` minus `baseline` over the keys (seeds) that both have, or None where they share none.

    "n" pairs; "mean" of the differences; "low" and "high", the interval of the paired t test (Student 1908; None for
    one pair); "p", two-sided (None also for equal differences); "better", "worse" and "equal" pairs; "values" by key.
    """
    values = {str(key): other[key] - baseline[key] for key in baseline if key in other}
    differences = list(values.values())
    if not differences:
        return None
    mean, low, high, p = fmean(differences), None, None, None
    if len(differences) > 1:
        low = high = mean
        if max(differences) > min(differences):
            test = ttest_1samp(differences, 0.0)
            low, high = (float(end) for end in test.confidence_interval(CONFIDENCE))
            p = float(test.pvalue)
    better, worse, equal = (sum(sign == (d > 0) - (d < 0) for d in differences) for sign in (1, -1, 0))
    signs = {"better": better, "worse": worse, "equal": equal}
    return {"n": len(differences), "mean": mean, "low": low, "high": high, "p": p, **signs, "values": values}


class Table(NamedTuple):
    """A table; columns whose name starts with '>' are aligned to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As Markdown."""
        line = "|".join("---:" if column.startswith(">") else "---" for column in self.columns)
        lines = [f"| {' | '.join(column.lstrip('>') for column in self.columns)} |", f"|{line}|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *lines])


# Tables, and how to read them and what to beware of.
Report = tuple[list[Table], list[str]]


def percent(value: float, sign: bool = False) -> str:
    """A share in percent with one decimal; differences with their sign."""
    return f"{100 * value:{'+' if sign else ''}.1f}"


def fraction_text(fraction: float) -> str:
    """1, 1/4, 1/16; other shares as decimals."""
    inverse = round(1 / fraction)
    share = f"1/{inverse}" if abs(1 / fraction - inverse) < 1e-9 else f"{fraction:g}"
    return "all" if fraction == 1 else share


def spread_text(cell: Cell) -> str:
    """Mean and standard deviation in percent: 91.3 ± 1.2."""
    if cell is None:
        return "-"
    return percent(cell["mean"]) + (f" ± {percent(cell['sd'])}" if cell["sd"] is not None else "")


def difference_texts(cell: Cell) -> tuple[str, str]:
    """A difference in percentage points with its interval, +6.0 [+3.5, +8.5], and pairs won and lost, 3:0."""
    it = (cell or {}).get("difference")
    if it is None:
        return "-", "-"
    interval = f" [{percent(it['low'], True)}, {percent(it['high'], True)}]" if it["low"] is not None else ""
    return percent(it["mean"], True) + interval, f"{it['better']}:{it['worse']}"


def main_figures(results: Mapping[str, Any]) -> dict[str, str]:
    """The figures that an answer rests on, F1 and each split's mean recall, with their headings."""
    recalls = {f"{split}.recall_mean": f"mean recall, {split} recordings" for split in results["splits"]}
    return {"f1": "F1 over validation clips", **recalls}


def ablation_tables(results: Mapping[str, Any]) -> Report:
    """A table for each main figure, for each split's recalls at rates of false accepts, and for the teachers."""
    several = len(results["fractions"]) > 1
    start = [*(["share"] if several else []), "condition", ">n"]

    def place(row: Mapping[str, Any]) -> list[str]:
        return [*([fraction_text(row["fraction"])] if several else []), row["condition"]]

    def rows_of(figure: str, *at: str) -> list[list[str]]:
        cells = [(row, row["figures"].get(figure)) for row in results["summary"]]
        shown = [[str(cell["n"] if cell else 0), spread_text(cell), *difference_texts(cell)] for _, cell in cells]
        return [[*at, *place(row), *texts] for (row, _), texts in zip(cells, shown, strict=True)]

    columns = [*start, ">mean ± sd", ">to baseline [95 %]", ">won:lost"]
    made = [Table(f"{heading}, %", columns, rows_of(name)) for name, heading in main_figures(results).items()]
    names = dict.fromkeys(name for row in results["summary"] for name in row["figures"] if "_at_" in name)
    for split in results["splits"]:
        begin, rows = f"{split}.recall_", []
        for name in (name for name in names if name.startswith(begin)):
            rows += rows_of(name, name.removeprefix(begin).replace("_at_", " ") + "/h")
        made.append(Table(f"recall at false accepts an hour, {split} recordings, %", ["at", *columns], rows))
    fits = [[*place(row), str(row["fits"]), spread_text(row["val_f1"]), row["source"]] for row in results["teachers"]]
    made.append(Table("teachers: fits (n), and F1 of those fitted here", [*start, ">F1, %", "source"], fits))
    lines = ["mean recall: over clean and noisy recordings at 0.5, 2 and 8 false accepts an hour"]
    for split, on in results["measured_on"].items():
        accepts = ", ".join(f"{count} at {rate}/h" for rate, count in on["accepts"].items())
        lines.append(
            f"{split}: {on['recordings']:g} recordings of the phrase (copies count once), and "
            f"{on['hours']:.2f} h without it, in which these false accepts are allowed: {accepts}. Every run "
            "has its own cutoff for that, found on this split; the noise is the same for all"
        )
    lines.append(f"n: runs of different seeds ({', '.join(map(str, results['seeds']))}). {results['method']}.")
    lines += [f"Beware: {text}." for text in results["warnings"]]
    for condition in results["conditions"]:
        shown = [f"{key}={value}" for key, value in condition["settings"].items() if value not in ("", [], None)]
        lines.append(f"`{condition['name']}`: {', '.join(shown)}")
    return [one for one in made if one.rows], lines


def sweep_tables(results: Mapping[str, Any]) -> Report:
    """One row a combination, best first; settings that do not vary are left out."""
    axes = [axis["key"] for axis in results["axes"] if len(axis["values"]) > 1]
    recalls = {f">mean recall {split}, %": f"{split}.recall_mean" for split in results["splits"]}
    rows = []
    for row in results["rows"]:
        score = row["score"]
        shown = f"{score['mean']:.4f}" + (f" ± {score['sd']:.4f}" if score["sd"] is not None else "")
        spreads = [spread_text(row[name]) for name in ("f1", *recalls.values())]
        rows.append([*(str(row["settings"][key]) for key in axes), str(score["n"]), shown, *spreads])
    fixed = [f"{axis['key']}={axis['values'][0]}" for axis in results["axes"] if len(axis["values"]) == 1]
    luck = (
        "The score picks checkpoints, so the best of many trials is in part luck: evaluate the winner on other "
        "recordings, and with several seeds."
    )
    notes = [*([f"All trials: {', '.join(fixed)}."] if fixed else []), luck]
    return [Table("sweep, best score first", [*axes, ">n", ">score", ">F1, %", *recalls], rows)], notes


KINDS = {"ablation": ("Does a teacher help?", ablation_tables), "sweep": ("Sweep of", sweep_tables)}


def print_tables(results: Mapping[str, Any]) -> None:
    """Tables, notes, and what failed, in the terminal."""
    tables, notes = KINDS[results["kind"]][1](results)
    for made in tables:
        table(*made)
    for text in notes:
        console.print(text, markup=False, soft_wrap=True)
    for failed in results["failed"]:
        console.print(f"failed: {failed['name']}: {failed['error']} ({failed['log']})", style="red", markup=False)


def write_tables(results: Mapping[str, Any], path: Path, pictures: Mapping[str, str]) -> None:
    """results.md: tables, pictures (file to text), notes, and what failed."""
    title, report = KINDS[results["kind"]]
    tables, notes = report(results)
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    parts = [f"# {title} {results['name']}", *(made.markdown() for made in tables)]
    parts += [f"![{text}]({picture})" for picture, text in pictures.items()]
    parts.append("\n".join(f"- {text}" for text in notes))
    parts.append(f"Made {results['made']} by {versions}; all figures, trial by trial: results.json.")
    if results["failed"]:
        failed = [f"- {trial['name']}: {trial['error']} (`{trial['log']}`)" for trial in results["failed"]]
        parts += ["**Failed**", "\n".join(failed)]
    write_text(path, "\n\n".join(parts) + "\n")
