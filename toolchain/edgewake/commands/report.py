"""`edgewake report`: report.html again, from what a make, a build or an evaluation left."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.commands.common import FILE, OUT_FILE
from edgewake.making.report import write_report


@click.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=OUT_FILE, help="The page.  [default: FOLDER/report.html]")
def report(folder: Path, out: Path | None) -> None:
    """Write report.html: for whom the model works, what wakes it by mistake, and what it takes on the board.

    FOLDER is one that edgewake make or build made, a model folder, or what edgewake evaluate --out wrote. Nothing is
    measured again: the page shows what the JSON files there hold.
    """
    click.echo(f"report: {write_report(folder, out)}")
