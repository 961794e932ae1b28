"""`edgewake config`: configurations as edgewake reads them; and how other commands open theirs."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.commands.common import SET, json_option, print_json
from edgewake.config import WakewordConfig, get_preset, list_presets
from edgewake.console import table
from edgewake.errors import ConfigError


def load_config(text: str, *, check: bool = True) -> tuple[WakewordConfig, str]:
    """A configuration from a YAML file or a preset's name, and what to call it.

    Args:
        check: that the settings of a file fit together.

    Raises:
        ConfigError: it is neither, or cannot be used.
    """
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return WakewordConfig.load(path, check=check), path.stem
    if text not in list_presets():
        raise ConfigError(f"{text!r} is neither a YAML file nor a preset: there are {', '.join(list_presets())}")
    return get_preset(text), text


@click.group()
def config() -> None:
    """Show configurations and presets."""


@config.command()
@click.argument("source", metavar="[CONFIG]", default="default")
@SET
@json_option("JSON instead of YAML.")
def show(source: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Print a configuration with all defaults.

    CONFIG is a YAML file or a preset.
    """
    settings = load_config(source)[0].override(assignments)
    settings.check()
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        click.echo(settings.to_yaml(), nl=False)


@config.command()
@json_option("One object.")
def presets(as_json: bool) -> None:
    """List the presets."""
    if as_json:
        print_json(list_presets())
    else:
        table("presets", ("name", "what for"), list_presets().items())
