"""`edgewake runs`: the runs of a folder, and several of them side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.console import console, table
from edgewake.errors import EdgewakeError
from edgewake.training.runs import Run, flatten, list_runs, load_run

# Columns below which a list of runs leaves out code and data.
WIDE = 110
# Where things lie, and what the record holds elsewhere.
_PLACES = ("best_checkpoint", "model", "data")
_FIRST_FIGURES = ("best_score", "best_f1", "epochs", "seconds")


def side_by_side(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name to one value for each of several mappings, None where one has none."""
    names = dict.fromkeys(name for each in values for name in each)
    return {name: [each.get(name) for each in values] for name in names}


def differing(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows whose values are not all the same."""
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def find_run(name: str, root: Path) -> Path:
    """A run's folder by its name in `root`, or by its path; an EdgewakeError where neither is there."""
    for folder in (root / name, Path(name)):
        if folder.is_dir():
            return folder
    known = ", ".join(run.name for run in list_runs(root)) or "none"
    raise EdgewakeError(f"no run {name!r} in {root}: there are {known}")


def compare_runs(names: Iterable[str], root: Path) -> dict[str, Any]:
    """Runs side by side: records, the settings in which they differ, and their figures."""
    folders = [find_run(name, root) for name in names]
    runs = [load_run(folder) for folder in folders]
    files = [folder / "config.yaml" for folder in folders]
    settings = [flatten(WakewordConfig.load(file).model_dump()) if file.exists() else {} for file in files]
    figures = side_by_side([flatten(run.figures) for run in runs])
    return {
        "runs": [asdict(run) for run in runs],
        "settings": differing(side_by_side(settings)),
        "figures": {name: row for name, row in figures.items() if name not in _PLACES},
    }


def print_runs(runs: Iterable[Run], root: Path) -> None:
    """The list of runs as a table."""
    # A terminal of 80 columns would break every word; what it leaves out, --json and a comparison have.
    wide = console.width >= WIDE
    rows = []
    for run in runs:
        figures = [show_figure(run.figures.get(name)) for name in _FIRST_FIGURES[:2]]
        commit, _, changed = run.versions.get("commit", "").partition("+")
        version = commit[:7] + ("+" if changed else "") or run.versions.get("edgewake", "")
        about = (run.name, run.command, run.status, run.created[:10], run.seed, *figures)
        rows.append((*about, version, run.data) if wide else about)
    columns = ("run", "command", "status", "created", ">seed", ">score", ">F1", "code", "data")
    table(f"runs in {root}", columns if wide else columns[:-2], rows)


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Runs side by side as two tables: what differs, and what came out."""
    runs = [Run(**raw) for raw in comparison["runs"]]
    names = [run.name for run in runs]
    about = side_by_side([{"seed": run.seed, "data": run.data, **run.versions} for run in runs])
    rows = [("status", *(run.status for run in runs))]
    rows += [(name, *map(show_setting, row)) for name, row in differing(about | comparison["settings"]).items()]
    table("what differs", ("setting", *names), rows)
    figures = comparison["figures"]
    ordered = dict.fromkeys([*(name for name in _FIRST_FIGURES if name in figures), *figures])
    rows = [(name, *map(show_figure, figures[name])) for name in ordered]
    table("figures", ("figure", *(f">{name}" for name in names)), rows)


def show_figure(value: Any) -> str:
    """A figure as tables show it."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def show_setting(value: Any) -> str:
    """A setting as tables show it."""
    return "-" if value is None else str(list(value) if isinstance(value, tuple) else value) or '""'
