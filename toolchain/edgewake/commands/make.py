"""`edgewake make`: from the folder of a wake word to firmware and a report."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.builder.user_files import PAGE
from edgewake.commands.common import FILE, json_option, print_json
from edgewake.console import console
from edgewake.io import read_json
from edgewake.making.efforts import EFFORTS
from edgewake.making.make import make as run_make
from edgewake.making.report import BUILD, METRICS, MODEL, short


@click.command()
@click.argument("folder", type=FILE)
@click.option(
    "--effort", type=click.Choice(list(EFFORTS)), metavar="quick|best", default="quick", show_default=True,
    help="quick takes about ten minutes on two cores, with corpora more, best some hours.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes that synthesise.  [default: one for each core]")
@json_option("Print make.json.")
def make(folder: Path, effort: str, workers: int | None, as_json: bool) -> None:
    """Make a wake word: clips, corpus, training, evaluation, firmware and a report.

    FOLDER is what edgewake new made. Stages whose inputs did not change are reused; after Ctrl-C or a crash the same
    command goes on. Recordings of people in FOLDER/recordings are used, whenever they come.
    """
    record = run_make(folder, effort, workers=workers)
    if as_json:
        print_json(record)
        return
    for line in short(read_json(folder / MODEL / METRICS, "metrics")):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"report: {folder / PAGE}\nfirmware: {folder / BUILD / 'firmware'}", soft_wrap=True, markup=False)
