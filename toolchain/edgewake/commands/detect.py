"""`edgewake detect`: events in audio files, by the path that the board runs."""

from __future__ import annotations

import sys
from math import ceil
from pathlib import Path

import click

from edgewake.commands.common import FILE, MODEL, Number, fail, json_option, print_json
from edgewake.console import bar, working
from edgewake.data.reading import SAMPLE_RATE, read_audio
from edgewake.errors import AudioError
from edgewake.runtime.detector import Detector, DetectorStep
from edgewake.runtime.network.compiled import Backend

_MINUTE = 60 * SAMPLE_RATE


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@MODEL
@click.option("--cutoff", type=Number(0, 1), help="Another cutoff than the model's own.")
@click.option(
    "--backend", type=click.Choice(["tflm", "c"]), default="tflm", help="TFLM, or the generated C: the same, faster."
)
@click.option("--trace", is_flag=True, help="Print the smoothed probability of every inference step as well.")
@json_option("One object a line.")
def detect(
    files: tuple[Path, ...], model: Path, cutoff: float | None, backend: Backend, trace: bool, as_json: bool
) -> None:
    """Find the phrase in audio FILES of any rate, channel count and length, by the board's own path.

    The detector is reset before each file. A file that cannot be read is named, the others are still
    processed, and the exit code is 1.
    """
    detector, failed = Detector(model, cutoff=cutoff, backend=backend), False
    for path in files:
        try:
            with working(f"reading {path}"):
                samples = read_audio(path, max_seconds=None)
        except AudioError as error:
            fail(error)
            failed = True
            continue
        detector.reset()
        steps: list[DetectorStep] = []
        with bar(f"{path}: minutes", ceil(len(samples) / _MINUTE)) as advance:
            for start in range(0, len(samples), _MINUTE):
                done = detector.steps(samples[start : start + _MINUTE])
                steps += [step for step in done if trace or step.detected]
                advance(1)
        found = [step for step in steps if step.detected]
        for step in steps if trace else ():
            _print_probability(path, "step", step, as_json)
        for detection in found:
            _print_probability(path, detector.phrase, detection, as_json)
        if not found and not as_json:
            click.echo(f"{path}: no detection in {len(samples) / SAMPLE_RATE:.2f} s")
    if failed:
        sys.exit(1)


def _print_probability(path: Path, what: str, found: DetectorStep, as_json: bool) -> None:
    if as_json:
        about = {"file": str(path), "kind": "step" if what == "step" else "event"}
        print_json(about | {"time_s": round(found.time_s, 4), "probability": found.probability})
    else:
        click.echo(f"{path}: {found.time_s:8.2f} s  {what}  {found.probability:.5f}")
