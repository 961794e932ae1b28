"""`edgewake train` and `edgewake teacher`: students, and the teachers that they are distilled from."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgewake.commands.common import OUT_FOLDER, SET, SPLIT, json_option, show, suggest
from edgewake.config.presets import list_presets, load_config
from edgewake.console import table, working
from edgewake.data.manifest import Split
from edgewake.experiments import teachers
from edgewake.io import write_json
from edgewake.training.checklist import check_command, print_checklist
from edgewake.training.run import train_command
from edgewake.training.trunk import train_trunk


@click.command()
@click.argument("config", shell_complete=suggest(list_presets(), files=True))
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in --out.")
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: runs/<name of the configuration>]")
@click.option("--check", is_flag=True, help="Check every item of the checklist, and train nothing.")
@json_option("With --check: print the list as JSON.")
@SET
def train(
    *, config: str, resume: bool, out: Path | None, check: bool, as_json: bool, assignments: tuple[str, ...]
) -> None:
    """Train CONFIG: a YAML file, or the name of a preset (see edgewake config presets)."""
    settings, name = load_config(config, assignments, check=not check)
    folder = out or Path("runs") / name
    if check:
        record = check_command(settings)
        write_json(folder / "check.json", record)
        show(record, as_json, print_checklist)
        sys.exit(0 if record["ok"] else 1)
    result = train_command(settings, folder, resume)
    rows = [(key, value) for key, value in result.items() if not isinstance(value, dict | list)]
    table("training", ("what", "value"), rows)


@click.command()
@click.argument("config", default="trunk", shell_complete=suggest(list_presets(), files=True))
@click.option("--out", type=OUT_FOLDER, required=True, help="Output folder.")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in --out.")
@SET
def trunk(config: str, out: Path, resume: bool, assignments: tuple[str, ...]) -> None:
    """Train a trunk, from which the models of all phrases start, on the speech of a corpus.

    CONFIG is a YAML file, or the name of a preset.  [default: trunk]
    """
    settings, _ = load_config(config, assignments)
    record = train_trunk(settings, out, resume)
    table("trunk", ("what", "value"), [(key, value) for key, value in record.items() if not isinstance(value, dict)])


@click.group()
def teacher() -> None:
    """Fit a teacher to the phrase, and measure whether a student can gain from it."""


@teacher.command("train")
@click.argument("config", shell_complete=suggest(list_presets(), files=True))
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: runs/<name>-teacher]")
@click.option("--resume", is_flag=True, help="Continue an interrupted training in --out.")
@json_option("Print result.json instead of the table.")
@SET
def fit(config: str, out: Path | None, resume: bool, as_json: bool, assignments: tuple[str, ...]) -> None:
    """Fit the teacher of CONFIG to its phrase.

    The keys teacher.* decide what is fitted: the head, the last layers, or a small network from scratch.
    """
    settings, name = load_config(config, assignments)
    result = teachers.train_teacher(settings, out or teachers.default_folder(name), resume=resume)
    show(result, as_json, teachers.print_training)


@teacher.command()
@click.argument("source", metavar="TEACHER")
@click.option("--split", type=SPLIT, default="val", help="Which clips and recordings.")
@click.option("--out", type=OUT_FOLDER, help="Where evaluation-SPLIT.json goes.  [default: beside the teacher]")
@json_option("Print evaluation-SPLIT.json instead of the table.")
@SET
def evaluate(source: str, split: Split, out: Path | None, as_json: bool, assignments: tuple[str, ...]) -> None:
    """Measure a fitted teacher.

    On clips, and on whole recordings by its recall at fixed false accepts an hour.

    TEACHER is a teacher.pt, a run that has one, or a configuration whose teacher was fitted. A teacher.pt is
    measured on the recordings of the config.yaml beside it, or of the run that keeps it.
    """
    with working("loading the teacher"):
        found, settings, folder = teachers.open_teacher(source, assignments)
    settings = settings or teachers.settings_of(folder).override(assignments)
    show(teachers.evaluate_teacher(found, settings, out or folder, split), as_json, teachers.print_evaluation)
