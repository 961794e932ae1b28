"""The command `edgewake`: a command's module is imported when it is used, after its packages were checked."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from edgewake import __version__
from edgewake.commands.common import fail, missing
from edgewake.errors import EdgewakeError, MissingDependencyError, ReportedError

# Failures of the machine, or of a path that was given, and not of the program.
NO_ACCESS = [
    "ENOSPC",
    "EFBIG",
    "EDQUOT",
    "EROFS",
    "EACCES",
    "EPERM",
    "EEXIST",
    "ENOTDIR",
    "EISDIR",
    "ENAMETOOLONG",
    "ELOOP",
]


class Lazy(NamedTuple):
    """Where a command is (module:name below edgewake.commands), its line in the list, and the extras it needs."""

    place: str
    help: str
    extras: tuple[str, ...] = ()


COMMANDS = {
    "new": Lazy("wakeword:new", "Begin a wake word: a folder, and what is thought of the phrase.", ("synthesis",)),
    "record": Lazy("microphone:record", "Record people who say a phrase.", ("mic",)),
    "make": Lazy("make:make", "Make a wake word: clips to firmware and a report.", ("synthesis", "train", "report")),
    "config": Lazy("inventory:config", "Show configurations and presets."),
    "corpus": Lazy("corpus:corpus", "Fetch and import recordings, check them, pack them."),
    "assets": Lazy("inventory:assets", "List and fetch pretrained teachers and voices."),
    "say": Lazy("synthesis:say", "Write samples of a phrase to listen to."),
    "synth": Lazy("synthesis:synth", "Synthesise a phrase by many speakers.", ("synthesis",)),
    "train": Lazy("train:train", "Train a model.", ("train",)),
    "trunk": Lazy("train:trunk", "Train what the models of all phrases start from.", ("train", "synthesis")),
    "teacher": Lazy("train:teacher", "Fit a teacher to the phrase, or evaluate one.", ("teachers",)),
    "runs": Lazy("inventory:runs", "List trainings, or compare some of them."),
    "ablate": Lazy("experiments:ablate", "Train with and without teachers, and compare.", ("train",)),
    "sweep": Lazy("experiments:sweep", "Train every combination of some settings.", ("train",)),
    "compare": Lazy("experiments:compare", "Compare a student with its teacher.", ("teachers",)),
    "convert": Lazy("build:convert", "Convert trained weights to a streaming int8 .tflite."),
    "build": Lazy("build:build", "Convert a model, check it, and write the firmware."),
    "flash": Lazy("board:flash", "Write the firmware, or a wake word alone, to a board.", ("flash",)),
    "monitor": Lazy("board:monitor", "Show what a board logs: self-test, detections, times.", ("flash",)),
    "parity": Lazy("build:parity", "Check that host and board compute the same."),
    "release": Lazy("build:release", "Make a released model of a training.", ("report",)),
    "export": Lazy("export:export", "Write a model as ESPHome takes it."),
    "evaluate": Lazy("evaluate:evaluate", "Measure recall and false accepts an hour."),
    "report": Lazy("report:report", "Make report.html again from what was measured."),
    "detect": Lazy("detect:detect", "Find the phrase in audio files."),
    "listen": Lazy("microphone:listen", "Find the phrase in what a microphone records.", ("mic",)),
    "doctor": Lazy("doctor:doctor", "Check this machine, and name what to install."),
    "ui": Lazy("ui:ui", "Serve the page: the phrase, training, trying a model, firmware.", ("ui", "train")),
    "cache": Lazy("inventory:cache", "Show or clear results that are kept for reuse."),
}


class Commands(click.Group):
    """Loads commands on demand; expected failures are one line and exit code 1, Ctrl-C 130, a bug a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of work, as the table has them."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command from its module, or one whose help names what to install."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        entry = COMMANDS[cmd_name]
        if lacking := missing(entry.extras):
            return _not_installed(cmd_name, entry, lacking)
        module, _, name = entry.place.partition(":")
        # torch alone takes seconds; a shell that completes a line shows nothing.
        with _loading(cmd_name) if sys.stderr.isatty() and not ctx.resilient_parsing else nullcontext():
            command: click.Command = getattr(import_module(f"edgewake.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table, so that nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands from the table, so that nothing is imported, and the options."""
        found = [CompletionItem(name, help=COMMANDS[name].help) for name in COMMANDS if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; file names and signs that the terminal's encoding lacks are printed escaped, and NO_COLOR is kept to."""
        if os.environ.get("NO_COLOR"):
            extra.setdefault("color", False)
        # click's help is 50 columns wide at least.
        if (columns := shutil.get_terminal_size().columns) < 52:
            extra.setdefault("terminal_width", max(columns - 2, 20))
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ReportedError:
            ctx.exit(1)
        except (EdgewakeError, UnicodeEncodeError, OSError) as error:
            if not (text := _message(error)):
                raise
            fail(text)
            ctx.exit(1)
        except KeyboardInterrupt:
            if os.environ.get("RANK", "0") == "0":  # one of the processes that train together
                click.secho("interrupted", fg="yellow", err=True)
            ctx.exit(130)


def _loading(name: str) -> Any:
    return import_module("edgewake.console").working(f"loading edgewake {name}")


def _message(error: Exception) -> str:
    """What to tell the user of an expected failure; "" for a bug."""
    if isinstance(error, UnicodeEncodeError):
        text = error.object.encode("ascii", "backslashreplace").decode()
        return f"{text} cannot be written as {error.encoding}: rename it, or set LC_ALL=C.UTF-8"
    if isinstance(error, OSError):
        if errno.errorcode.get(error.errno or 0) not in NO_ACCESS:
            return ""
        what = f"{error.filename}: " if error.filename else ""
        return f"{what}{error.strerror}; free space or choose another folder"
    return str(error)


def _not_installed(name: str, entry: Lazy, lacking: str) -> click.Command:
    """Stands for a command whose packages are not there: its help names what to install, running it fails."""

    def refuse(**_: Any) -> None:
        raise MissingDependencyError(f"edgewake {name} {lacking}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, anything, refuse, help=f"{entry.help}\n\nIt {lacking}, to see its options.")


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    click.echo(f"edgewake, version {__version__}")
    if ctx.params["verbose"]:
        import_module("edgewake.commands.doctor").print_versions()
    ctx.exit()


@click.group(cls=Commands, context_settings=SETTINGS)
# Eager options come first, so that --verbose may stand on either side.
@click.option(
    "--verbose", is_flag=True, is_eager=True, help="With --version: also what a report of a fault should name."
)
@click.option("--version", is_flag=True, expose_value=False, callback=_print_version, help="Show the version.")
def main(verbose: bool) -> None:
    """From a wake phrase and some audio to an ESP32-S3 without PSRAM that wakes on it.

    What is tested here is, bit for bit, what the board computes.
    """
    if verbose:
        raise click.UsageError("--verbose goes with --version")
