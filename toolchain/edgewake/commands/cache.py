"""`edgewake cache`: what is kept for reuse, and how to free it."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.cache import Cache
from edgewake.commands.common import FILE, json_option, print_json, show
from edgewake.console import table

_FOLDER = "Another cache, as cache.folder names it.  [default: $EDGEWAKE_CACHE, or build/cache]"
FOLDER = click.option("--folder", type=FILE, help=_FOLDER)


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
    size = sum(size for name, (_, size) in kept.usage().items() if kind in (None, name))
    if size and not yes:
        what = f"all of {kind}" if kind else "everything"
        click.confirm(f"Remove {what}, {size / 1e6:,.1f} MB, from {kept.folder}?", abort=True, err=True)
    freed = kept.clear(kind)
    record = {"folder": str(kept.folder), "kind": kind, "freed_bytes": freed}
    show(record, as_json, lambda _: click.echo(f"freed {freed / 1e6:,.1f} MB in {kept.folder}"))
