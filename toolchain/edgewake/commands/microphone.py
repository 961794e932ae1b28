"""`edgewake listen` and `edgewake record`: the board's own path on a live microphone, and guided recordings."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from edgewake.commands.common import FILE, MODEL, OUT_FOLDER, Number, json_line, json_option
from edgewake.console import console, error_console
from edgewake.data.microphone import Microphone, level_dbfs, microphones
from edgewake.data.reading import SAMPLE_RATE, Samples, write_audio
from edgewake.data.takes import describe, save_take, speaker_folder, trimmed
from edgewake.errors import AudioError
from edgewake.runtime.detector import Detector
from edgewake.synthesis.wakeword import name_of, read_wakeword

REFRESH_S = 0.1
LOWEST_SHOWN_DBFS = -60.0
# What is kept of the audio that ends with a detection.
KEPT_S = 3.0
COUNTDOWN_S = 0.5  # for each of 3, 2, 1
TRIES = 3
# Asked for in turn, since people do not say it in one way at home.
WAYS = (
    "as you usually say it",
    "quickly",
    "slowly and clearly",
    "quietly",
    "loudly, as from another room",
    "with your head turned away",
    "as a question",
    "tired",
    "from a few steps away",
)


def _list_devices(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo("\n".join(microphones()) or "no input device")
        ctx.exit()


DEVICE = click.option("--device", help="Number or part of the name of a microphone.  [default: the system's]")
DEVICES = click.option(
    "--devices", is_flag=True, is_eager=True, expose_value=False, callback=_list_devices, help="List the microphones."
)


def _speaker(ctx: click.Context, _: click.Parameter, name: str | None) -> str:
    if name is None and not sys.stdin.isatty():
        raise click.UsageError("give the --speaker, a name of your choice", ctx)
    return name or str(click.prompt("Who speaks (a name of your choice)", err=True))


@click.command()
@MODEL
@DEVICE
@DEVICES
@click.option("--cutoff", type=Number(0, 1), help="Another cutoff than the model's own.")
@click.option("--wav", "kept", type=OUT_FOLDER, help="Keep the 3 s before each detection as a WAV file in this folder.")
@click.option("--seconds", type=Number(0, min_open=True), help="Stop after so much audio.  [default: at Ctrl-C]")
@json_option("One object a detection.")
def listen(
    *, model: Path, device: str | None, cutoff: float | None, kept: Path | None, seconds: float | None, as_json: bool
) -> None:
    """Find the phrase in what the microphone records, by the board's own path: the C pipeline, step by step.

    A terminal shows the level, and the highest smoothed probability of the last second. Ctrl-C ends it.
    """
    detector, started = Detector(model, cutoff=cutoff), datetime.now()
    # Of the whole stream, in samples and seconds; `recent` is the end of it.
    taken, found, recent = 0, 0, np.zeros(0, np.int16)
    peaks: deque[float] = deque([0.0], maxlen=round(1 / detector.step_s))
    with Microphone(device) as source, _shown() as screen, suppress(KeyboardInterrupt):
        for block in source:
            taken += len(block)
            recent = np.concatenate([recent, block])[-round(KEPT_S * SAMPLE_RATE) :]
            for step in detector.steps(block):
                peaks.append(step.probability)
                if not step.detected:
                    continue
                found += 1
                about: dict[str, Any] = {"at": datetime.now().isoformat(timespec="seconds"), "phrase": detector.phrase}
                about |= {"time_s": round(step.time_s, 4), "probability": step.probability}
                if kept:
                    path = kept / f"{name_of(detector.phrase)}-{started:%Y%m%d-%H%M%S}-{found:04}.wav"
                    write_audio(path, recent[: len(recent) - taken + round(step.time_s * SAMPLE_RATE)])
                    about["wav"] = str(path)
                line = f"{about['at']}  {step.time_s:8.2f} s  {detector.phrase}  {step.probability:.5f}"
                screen.print(json_line(about) if as_json else f"{line}  {about.get('wav', '')}".rstrip())
            screen.draw(_meters(detector, level_dbfs(block), max(peaks)))
            if seconds and taken >= seconds * SAMPLE_RATE:
                break
    lost = f"; audio was lost {source.overflows} times: this machine is too slow" if source.overflows else ""
    _end(f"{_several(found, 'detection')} in {taken / SAMPLE_RATE:.1f} s{lost}")


@click.command()
@click.argument("folder", type=FILE)
@click.option(
    "--speaker", callback=_speaker, help="A name, which the folder of the recordings gets.  [default: asked for]"
)
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Recordings to make.")
@DEVICE
@DEVICES
@click.option("--seconds", type=Number(1, 10), default=2.5, show_default=True, help="Time to say it in.")
@json_option("One object a recording.")
def record(*, folder: Path, speaker: str, count: int, device: str | None, seconds: float, as_json: bool) -> None:
    """Record a person who says the phrase of FOLDER: a countdown, the phrase, and again in another way.

    FOLDER is what edgewake new made. Each recording is checked, trimmed and saved in FOLDER/recordings/SPEAKER, from
    where edgewake make takes it. Ctrl-C ends it; what is recorded stays.
    """
    word = read_wakeword(folder)
    place = speaker_folder(folder / word.recordings, speaker)
    made = failed = 0
    with Microphone(device) as source, _shown() as screen, suppress(KeyboardInterrupt):
        blocks = iter(source)
        while made < count:
            title, way = f"{made + 1}/{count}", WAYS[made % len(WAYS)]
            said = f'say "{word.phrase}" now, {way}'
            for left in (3, 2, 1):
                _take(blocks, COUNTDOWN_S, screen, title, f"{left} ... {way}")
            if not screen.drawn_on:
                screen.note(f"{title}: {said}")
            samples, fault = trimmed(_take(blocks, seconds, screen, title, said))
            failed = failed + 1 if fault else 0
            if failed == TRIES:
                raise AudioError(f"{TRIES} recordings in a row are no use; of the last one, {fault}")
            if fault:
                screen.note(f"{title}: again, {fault}")
                continue
            made += 1
            about = describe(save_take(place, samples), samples)
            line = f"{about['file']}: {about['seconds']:.2f} s, {about['dbfs']:.0f} dBFS"
            screen.print(json_line(about) if as_json else line)
    _end(f"{_several(made, 'recording')} in {place}" + (f"; edgewake make {folder} uses them" if made else ""))


def _take(blocks: Iterator[Samples], seconds: float, screen: _Screen, title: str, text: str) -> Samples:
    """So many seconds of audio from now on, under a text and the level."""
    parts: list[Samples] = []
    while sum(map(len, parts)) < seconds * SAMPLE_RATE:
        parts.append(next(blocks))
        rows = Table.grid(padding=(0, 1))
        rows.add_row(title, _bar(1 - level_dbfs(parts[-1]) / LOWEST_SHOWN_DBFS), text)
        screen.draw(rows)
    return np.concatenate(parts)


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _end(text: str) -> None:
    error_console.print(text, soft_wrap=True, markup=False, emoji=False)


# ---- what a terminal shows -------------------------------------------------------------------------------


class _Screen:
    """Results on stdout, and below them in a terminal what is drawn again and again; notes where a person reads."""

    def __init__(self, live: Live) -> None:
        self._live, self._drawn = live, 0.0
        self.drawn_on = live.console.is_terminal

    def print(self, line: str) -> None:
        """Print a result to stdout."""
        console.print(line, soft_wrap=True, markup=False, emoji=False)

    def note(self, line: str) -> None:
        """Print what a person should know."""
        self._live.console.print(line, soft_wrap=True, markup=False, emoji=False)

    def draw(self, what: RenderableType) -> None:
        """Draw in a terminal, at most every 0.1 s."""
        if self.drawn_on and time.monotonic() > self._drawn + REFRESH_S:
            self._live.update(what, refresh=True)
            self._drawn = time.monotonic()


@contextmanager
def _shown() -> Iterator[_Screen]:
    # In one terminal both come from one console, which moves what is drawn out of the way.
    where = console if console.is_terminal else error_console
    with Live(console=where, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False) as live:
        yield _Screen(live)


def _meters(detector: Detector, level: float, probability: float) -> Table:
    rows = Table.grid(padding=(0, 1))
    rows.add_row("level", _bar(1 - level / LOWEST_SHOWN_DBFS), f"{level:.0f} dBFS")
    rows.add_row(detector.phrase, _bar(probability), f"{probability:.3f} of {detector.cutoff:.3f}")
    return rows


def _bar(share: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=max(0.0, share), width=12, finished_style="bar.complete")
