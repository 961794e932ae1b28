"""`edgewake assets`: pretrained teachers and voices; every one of them is optional."""

from __future__ import annotations

import click

from edgewake.assets import asset_path, get_asset, list_assets
from edgewake.assets.catalogue import find_asset
from edgewake.commands.common import json_option, show
from edgewake.console import error_console, table


@click.group()
def assets() -> None:
    """List and fetch pretrained teachers and voices; every one of them is optional."""


@assets.command("list")
@json_option("Also files, checksums and sources.")
def list_all(as_json: bool) -> None:
    """List assets, and whether they are here."""
    found = list_assets()
    rows = [(a["name"], a["kind"], f"{a['bytes'] / 1e6:,.1f}", a["state"], a["licence"]) for a in found]
    show(found, as_json, lambda _: table("assets", ("name", "kind", ">MB", "state", "licence"), rows))


@assets.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def get(names: tuple[str, ...]) -> None:
    """Fetch assets by NAME, and verify them.

    They go to the user's cache; their folders are printed.
    """
    for asset in [find_asset(name) for name in names]:
        with error_console.status(f"{asset.name}: fetching up to {asset.size / 1e6:,.1f} MB"):
            folder = get_asset(asset.name, report=lambda line: click.echo(f"  {line}", err=True))
        click.echo(folder)


@assets.command()
@click.argument("name")
def path(name: str) -> None:
    """Print the folder of an asset; fetch nothing."""
    click.echo(asset_path(name))
