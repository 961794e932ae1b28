"""`edgewake train` and `edgewake teacher`: students, and the teachers that they are distilled from."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgewake.commands.common import OUT_FOLDER, SET, SPLIT, json_option, show
from edgewake.commands.config import load_config
from edgewake.config import WakewordConfig
from edgewake.console import table
from edgewake.data.manifest import Split
from edgewake.experiments.teachers import (
    default_folder,
    evaluate_teacher,
    find_teacher,
    print_evaluation,
    print_training,
    settings_of,
    teacher_file,
    train_teacher,
)
from edgewake.io import write_json
from edgewake.teachers.base import Teacher
from edgewake.teachers.registry import load_teacher
from edgewake.training.checklist import check_command, print_checklist
from edgewake.training.run import train_command


@click.command()
@click.argument("config")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in --out.")
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: runs/<name of the configuration>]")
@click.option("--check", is_flag=True, help="Check every item of the checklist, and train nothing.")
@json_option("With --check: print the list as JSON.")
@SET
def train(
    *, config: str, resume: bool, out: Path | None, check: bool, as_json: bool, assignments: tuple[str, ...]
) -> None:
    """Train CONFIG: a YAML file, or the name of a preset (see edgewake config presets)."""
    settings, name = load_config(config, check=not check)
    settings = settings.override(assignments)
    folder = out or Path("runs") / name
    if check:
        _checklist(settings, folder / "check.json", as_json)
        return
    result = train_command(settings, folder, resume)
    rows = [(key, value) for key, value in result.items() if not isinstance(value, dict | list)]
    table("training", ("what", "value"), rows)


def _checklist(settings: WakewordConfig, path: Path, as_json: bool) -> None:
    """Show the checklist and write it to `path`; exit code 1 where an item failed."""
    record = check_command(settings)
    write_json(path, record)
    show(record, as_json, print_checklist)
    if not record["ok"]:
        sys.exit(1)


@click.group()
def teacher() -> None:
    """Fit a teacher to the phrase, and measure whether a student can gain from it."""


@teacher.command("train")
@click.argument("config")
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: runs/<name>-teacher]")
@click.option("--resume", is_flag=True, help="Continue an interrupted training in --out.")
@json_option("Print result.json instead of the table.")
@SET
def fit(config: str, out: Path | None, resume: bool, as_json: bool, assignments: tuple[str, ...]) -> None:
    """Fit the teacher of CONFIG to its phrase.

    The keys teacher.* decide what is fitted: the head, the last layers, or a small network from scratch.
    """
    settings, name = load_config(config)
    result = train_teacher(settings.override(assignments), out or default_folder(name), resume=resume)
    show(result, as_json, print_training)


@teacher.command()
@click.argument("source", metavar="TEACHER")
@click.option("--split", type=SPLIT, default="val", show_default=True, help="Which clips and recordings.")
@click.option("--out", type=OUT_FOLDER, help="Where evaluation-SPLIT.json goes.  [default: beside the teacher]")
@json_option("Print evaluation-SPLIT.json instead of the table.")
@SET
def evaluate(source: str, split: Split, out: Path | None, as_json: bool, assignments: tuple[str, ...]) -> None:
    """Measure a fitted teacher.

    On clips, and on whole recordings by its recall at fixed false accepts an hour.

    TEACHER is a teacher.pt, a run that has one, or a configuration whose teacher was fitted. A teacher.pt is
    measured on the recordings of the config.yaml beside it, or of the run that keeps it.
    """
    found, settings, folder = open_teacher(source, assignments)
    settings = settings or settings_of(folder).override(assignments)
    show(evaluate_teacher(found, settings, out or folder, split), as_json, print_evaluation)


def open_teacher(source: str, assignments: tuple[str, ...] = ()) -> tuple[Teacher, WakewordConfig | None, Path]:
    """A fitted teacher, the configuration that names it (None for a file or a run), and its folder."""
    path = teacher_file(Path(source))
    if path is not None:
        return load_teacher(path), None, path.parent
    settings, name = load_config(source)
    settings, folder = settings.override(assignments), default_folder(name)
    return find_teacher(settings, folder), settings, folder
