"""`edgewake runs`: what was trained, of what, and how it ended."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgewake.commands.common import FILE, json_option, print_json, show
from edgewake.experiments.run_tables import compare_runs, print_comparison, print_runs
from edgewake.training.runs import list_runs


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--root", type=FILE, default=Path("runs"), help="Folder of the runs.")
@json_option("One object a run, or the comparison.")
def runs(names: tuple[str, ...], root: Path, as_json: bool) -> None:
    """List the runs, or put those NAMEd side by side: what differs, and what came out."""
    if names:
        show(compare_runs(names, root), as_json, print_comparison)
        return
    found = list_runs(root)
    if as_json:
        print_json(*map(asdict, found))
    elif found:
        print_runs(found, root)
    else:
        click.echo(f"no runs in {root}; edgewake train makes one")
