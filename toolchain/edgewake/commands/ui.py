"""`edgewake ui`: the page in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.commands.common import FILE
from edgewake.ui.app import PASSWORD, USER, make_server


@click.command()
@click.argument("folder", type=FILE, default=Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; another one needs a password.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: one that is free.")
@click.option(
    "--password", envvar=PASSWORD, show_envvar=True, show_default=False,
    help=f"Asked for by the page, of the user {USER}; better in the environment, where others cannot see it.",
)  # fmt: skip
def ui(folder: Path, host: str, port: int, password: str | None) -> None:
    """Serve the page for the project in FOLDER (where configurations, runs/ and wake words are) until Ctrl-C.

    Trainings that it started go on without it.
    """
    server, listening, address = make_server(folder, host, port, password)
    click.echo(f"{address}  (Ctrl-C ends the page, not a training)")
    server.run(sockets=[listening])
