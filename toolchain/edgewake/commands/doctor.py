"""`edgewake doctor` and `edgewake --version --verbose`: what this machine has, and what to do where something lacks."""

from __future__ import annotations

import sys

import click

from edgewake import __version__
from edgewake.commands.common import json_option, print_json
from edgewake.console import console
from edgewake.doctor import Finding, examine, versions

_COLOURS = {"ok": "green", "optional": "yellow", "wrong": "red"}


@click.command()
@json_option("One object.")
def doctor(as_json: bool) -> None:
    """Look at Python, packages, tools, assets and this machine, and name a remedy for what lacks.

    What is "optional" only some commands need; where something is "wrong" the exit code is 1.
    """
    found = examine()
    wrong = any(finding.state == "wrong" for finding in found)
    if as_json:
        about = {"edgewake": __version__, "ok": not wrong, "findings": [finding._asdict() for finding in found]}
        print_json(about)
    else:
        for finding in found:
            _show(finding)
    sys.exit(int(wrong))


def _show(finding: Finding) -> None:
    console.print(f"{finding.state:<8}", style=_COLOURS[finding.state], end=" ")
    # Not folded, so that commands can be copied.
    console.print(f"{finding.name}: {finding.found}", soft_wrap=True, markup=False, emoji=False)
    if finding.remedy:
        console.print(f"{'':9}to do: {finding.remedy}", soft_wrap=True, markup=False, emoji=False)


def print_versions() -> None:
    """Print what a report of a fault should name, a line each."""
    click.echo("\n".join(f"{name}: {version}" for name, version in versions().items()))
