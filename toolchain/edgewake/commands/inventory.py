"""`edgewake config`, `assets`, `runs` and `cache`: what there is to work with, and what earlier work left."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgewake.assets import asset_path, get_asset, list_assets
from edgewake.assets.catalogue import ASSETS, find_asset
from edgewake.cache import Cache
from edgewake.commands.common import FILE, SET, json_option, print_json, show, suggest
from edgewake.config import list_presets
from edgewake.config.presets import load_config
from edgewake.console import table, working
from edgewake.experiments.run_tables import compare_runs, print_comparison, print_runs
from edgewake.training.runs import list_runs

_FOLDER = "Another cache, as cache.folder names it.  [default: $EDGEWAKE_CACHE, or build/cache]"
NAMES = suggest([asset.name for asset in ASSETS])
FOLDER = click.option("--folder", type=FILE, help=_FOLDER)


@click.group()
def config() -> None:
    """Show configurations and presets."""


@config.command("show")
@click.argument("source", metavar="[CONFIG]", default="default", shell_complete=suggest(list_presets(), files=True))
@SET
@json_option("JSON instead of YAML.")
def show_config(source: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Print a configuration with all defaults.

    CONFIG is a YAML file or a preset.
    """
    settings, _ = load_config(source, assignments)
    settings.check()
    show(settings.model_dump(mode="json"), as_json, lambda _: click.echo(settings.to_yaml(), nl=False))


@config.command()
@json_option("One object.")
def presets(as_json: bool) -> None:
    """List the presets."""
    show(list_presets(), as_json, lambda found: table("presets", ("name", "what for"), found.items()))


@click.group()
def assets() -> None:
    """List and fetch pretrained teachers and voices; every one of them is optional."""


@assets.command("list")
@json_option("Also files, checksums and sources.")
def show_assets(as_json: bool) -> None:
    """List assets, and whether they are here."""
    with working("checking what is here"):
        found = list_assets()
    rows = [(a["name"], a["kind"], f"{a['bytes'] / 1e6:,.1f}", a["state"], a["licence"]) for a in found]
    show(found, as_json, lambda _: table("assets", ("name", "kind", ">MB", "state", "licence"), rows))


@assets.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=NAMES)
def get(names: tuple[str, ...]) -> None:
    """Fetch assets by NAME, and verify them.

    They go to the user's cache; their folders are printed.
    """
    for asset in [find_asset(name) for name in names]:
        with working(f"{asset.name}: fetching up to {asset.size / 1e6:,.1f} MB"):
            folder = get_asset(asset.name, report=lambda line: click.echo(f"  {line}", err=True))
        click.echo(folder)


@assets.command()
@click.argument("name", shell_complete=NAMES)
def path(name: str) -> None:
    """Print the folder of an asset; fetch nothing."""
    with working("checking what is here"):
        folder = asset_path(name)
    click.echo(folder)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--root", type=FILE, default=Path("runs"), help="Folder of the runs.")
@json_option("One object a run, or the comparison.")
def runs(names: tuple[str, ...], root: Path, as_json: bool) -> None:
    """List the runs, or put those NAMEd side by side: what differs, and what came out."""
    found = [] if names else list_runs(root)
    if names:
        show(compare_runs(names, root), as_json, print_comparison)
    elif as_json:
        print_json(*map(asdict, found))
    elif found:
        print_runs(found, root)
    else:
        click.echo(f"no runs in {root}; edgewake train makes one")


@click.group()
def cache() -> None:
    """Show or clear what is kept for reuse: recordings, clips, features, embeddings, teachers, build stages."""


@cache.command("show")
@click.argument("kind", required=False)
@FOLDER
@json_option("One object.")
def usage(kind: str | None, folder: Path | None, as_json: bool) -> None:
    """Show how many results of each KIND there are, and their size."""
    kept = Cache(folder)
    with working("reading the cache"):
        found = {name: usage for name, usage in kept.usage().items() if kind in (None, name)}
    total = sum(size for _, size in found.values())
    if as_json:
        kinds = {name: {"entries": entries, "bytes": size} for name, (entries, size) in found.items()}
        print_json({"folder": str(kept.folder), "limit_bytes": kept.limit_bytes, "bytes": total, "kinds": kinds})
        return
    rows = [(name, entries, f"{size / 1e6:,.1f}") for name, (entries, size) in found.items()]
    table(f"cache {kept.folder}", ("kind", ">entries", ">MB"), rows)
    limit = f"above {kept.limit_bytes / 1e9:g} GB (cache.limit_gb) the least recently used are removed"
    click.echo(f"{total / 1e6:,.1f} MB in {kept.folder}; {limit}")


@cache.command()
@click.argument("kind", required=False)
@FOLDER
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option("One object.")
def clear(kind: str | None, folder: Path | None, yes: bool, as_json: bool) -> None:
    """Remove all results, or those of a KIND.

    They are made again when they are needed.
    """
    kept = Cache(folder)
    with working("reading the cache"):
        size = sum(size for name, (_, size) in kept.usage().items() if kind in (None, name))
    if size and not yes:
        what = f"all of {kind}" if kind else "everything"
        click.confirm(f"Remove {what}, {size / 1e6:,.1f} MB, from {kept.folder}?", abort=True, err=True)
    with working("removing"):
        freed = kept.clear(kind)
    record = {"folder": str(kept.folder), "kind": kind, "freed_bytes": freed}
    show(record, as_json, lambda _: click.echo(f"freed {freed / 1e6:,.1f} MB in {kept.folder}"))
