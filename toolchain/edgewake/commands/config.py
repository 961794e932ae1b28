"""`edgewake config`: configurations as edgewake reads them."""

from __future__ import annotations

import click

from edgewake.commands.common import SET, json_option, show
from edgewake.config import list_presets
from edgewake.config.presets import load_config
from edgewake.console import table


@click.group()
def config() -> None:
    """Show configurations and presets."""


@config.command("show")
@click.argument("source", metavar="[CONFIG]", default="default")
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
