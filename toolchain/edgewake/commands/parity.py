"""`edgewake parity`: the parity checks that this machine can run; it works in a base install."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.builder.parity import check_model, print_checks, require_parity
from edgewake.commands.common import CALIBRATION, MODEL, json_option, print_json


@click.command()
@MODEL
@CALIBRATION
@json_option("One object a check.")
def parity(model: Path, calibration: Path | None, as_json: bool) -> None:
    """Run the parity checks: what was trained, what was tested, and what the board computes are the same."""
    checks = check_model(model, calibration=calibration)
    if as_json:
        for check in checks:
            print_json(check)
    else:
        print_checks(checks)
    require_parity(checks)
