"""`edgewake ablate`, `sweep` and `compare`: many trainings, or two models, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgewake.commands.common import FILE, OUT_FOLDER, SET, Number, json_option, plot_option, show, suggest
from edgewake.config.presets import list_presets, load_config
from edgewake.console import working
from edgewake.data.manifest import Split
from edgewake.experiments.ablate import ablate as run_ablation
from edgewake.experiments.compare import compare as run_comparison
from edgewake.experiments.compare import print_comparison
from edgewake.experiments.sweep import sweep as run_sweep
from edgewake.experiments.tables import print_tables
from edgewake.experiments.teachers import open_teacher

SPLIT = click.Choice(["val", "test"])
COUNT = click.IntRange(1)
_SPLITS = "Whole recordings to measure every run on; repeat it."
_JOBS = "Trainings at a time; with more than one each has one thread."
SPLITS = click.option("--split", "splits", type=SPLIT, multiple=True, default=("val",), help=_SPLITS)
JOBS = click.option("--jobs", type=COUNT, metavar="N", default=1, help=_JOBS)


@click.command()
@click.argument("config", shell_complete=suggest(list_presets(), files=True))
@click.option(
    "--teacher", "teachers", multiple=True, metavar="TEACHER",
    help="ARCHITECTURE, ARCHITECTURE:PATH, NAME=PATH or ensemble:A,B; repeat it.  [default: CONFIG's own]",
)  # fmt: skip
@click.option("--seeds", type=COUNT, metavar="N", default=5, help="Trainings of each condition.")
@click.option(
    "--fraction", "fractions", type=Number(0, 1, min_open=True), multiple=True, default=(1.0,),
    help="Share of the phrase's recordings to train on; repeat it.",
)  # fmt: skip
@SET
@click.option(
    "--set-distilled", "distilled", multiple=True, metavar="KEY=VALUE",
    help="As --set, for the conditions with a teacher only.",
)  # fmt: skip
@SPLITS
@JOBS
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: runs/<name of the configuration>-ablation]")
@plot_option("Draw PNG pictures.")
@json_option("Print results.json instead of tables.")
def ablate(*, config: str, assignments: tuple[str, ...], out: Path | None, as_json: bool, **options: Any) -> None:
    """Does a teacher help? Train CONFIG with and without, over seeds, everything else equal.

    The same command continues where it was interrupted, or with more seeds, shares or teachers.
    """
    settings, name = load_config(config, assignments)
    folder = out or Path("runs") / f"{name}-ablation"
    results = run_ablation(settings, folder, **options)
    _show_results(results, folder, as_json)


@click.command()
@click.argument("config", shell_complete=suggest(list_presets(), files=True))
@click.option(
    "--set", "assignments", multiple=True, required=True, metavar="KEY=VALUE,VALUE",
    help="Values to try, all combinations; commas in brackets belong to a value: [3,3],[5,5].",
)  # fmt: skip
@click.option("--seeds", type=COUNT, metavar="N", default=1, help="Trainings of each combination.")
@SPLITS
@JOBS
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: runs/<name of the configuration>-sweep]")
@json_option("Print results.json instead of the table.")
def sweep(*, config: str, assignments: tuple[str, ...], out: Path | None, as_json: bool, **options: Any) -> None:
    """Train every combination of settings, and rank them by score.

    The same command continues where it was interrupted, or with more values; after a failed training the
    others still run.
    """
    settings, name = load_config(config)
    folder = out or Path("runs") / f"{name}-sweep"
    results = run_sweep(settings, folder, assignments, **options)
    _show_results(results, folder, as_json)


def _show_results(results: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print results; exit code 1 where trainings failed."""
    show(results, as_json, print_tables)
    if not as_json:
        click.echo(f"results.json and results.md are in {folder}")
    if results["failed"]:
        sys.exit(1)


@click.command()
@click.argument("teacher")
@click.argument("student", type=FILE)
@click.option("--split", type=SPLIT, default="val", help="Which clips and recordings.")
@SET
@click.option(
    "--out", type=OUT_FOLDER, help="Where comparison-SPLIT.json goes.  [default: the run, or build/comparison/NAME]"
)
@json_option("Print comparison-SPLIT.json instead of the table.")
def compare(
    *, teacher: str, student: Path, split: Split, assignments: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """TEACHER and STUDENT side by side on the same clips and whole recordings.

    TEACHER is a teacher.pt, a run that has one, or a configuration; STUDENT is a run, a model folder, or a
    run's checkpoint. The settings of STUDENT name the clips and recordings.
    """
    with working("loading the teacher"):
        found = open_teacher(teacher)[0]
    result = run_comparison(found, student, split=split, assignments=assignments, out=out)
    show(result, as_json, print_comparison)
