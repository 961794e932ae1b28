"""`edgewake detect`: events in audio files, by the path that the board runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgewake.commands.common import FILE, MODEL, Number, fail, json_option, print_json
from edgewake.data.reading import read_audio
from edgewake.errors import AudioError
from edgewake.runtime.detector import Detector


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@MODEL
@click.option("--cutoff", type=Number(0, 1), help="Another cutoff than the model's own.")
@click.option("--trace", is_flag=True, help="Print the smoothed probability of every inference step as well.")
@json_option("One object a line.")
def detect(files: tuple[Path, ...], model: Path, cutoff: float | None, trace: bool, as_json: bool) -> None:
    """Find the phrase in audio FILES of any rate, channel count and length, by the board's own path.

    The detector is reset before each file. A file that cannot be read is named, the others are still
    processed, and the exit code is 1.
    """
    detector, failed = Detector(model, cutoff=cutoff), False
    for path in files:
        try:
            samples = read_audio(path, max_seconds=None)
        except AudioError as error:
            fail(error)
            failed = True
            continue
        detector.reset()
        if trace:
            for step, probability in enumerate(detector.probabilities(samples)):
                time = detector.sample_index(step) / 16000
                _print_probability(path, "step", time, float(probability), as_json)
        found = detector.process(samples)
        for detection in found:
            _print_probability(path, detector.phrase, detection.time_s, detection.probability, as_json)
        if not found and not as_json:
            click.echo(f"{path}: no detection in {len(samples) / 16000:.2f} s")
    if failed:
        sys.exit(1)


def _print_probability(path: Path, what: str, time_s: float, probability: float, as_json: bool) -> None:
    if as_json:
        kind = "step" if what == "step" else "event"
        print_json({"file": str(path), "kind": kind, "time_s": round(time_s, 4), "probability": probability})
    else:
        click.echo(f"{path}: {time_s:8.2f} s  {what}  {probability:.5f}")
