"""`edgewake flash` and `edgewake monitor`: what was built onto a board, and what it logs."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import click

from edgewake.builder.board_log import Event, event_of, lines_of
from edgewake.builder.flash import Board, flash_firmware, flash_wakeword
from edgewake.commands.common import FILE, Number, json_line, json_option
from edgewake.console import console, error_console, working

PORT = click.option("--port", required=True, help="Serial port of the board, such as /dev/ttyACM0.")


@click.command()
@click.argument("build", type=FILE, default=Path("build/computer"))
@PORT
@click.option("--model-only", is_flag=True, help="Only the wake word, in seconds: the board runs edgewake already.")
@click.option("--baud", type=click.IntRange(1200), default=460_800, help="Bits a second.")
@click.option("--stub/--no-stub", default=True, help="esptool's own loader on the chip, or that in its ROM.")
@json_option("One object.")
def flash(build: Path, port: str, model_only: bool, baud: int, stub: bool, as_json: bool) -> None:
    """Write the firmware of the build folder BUILD to a board, or with --model-only its wake word.

    The firmware is what idf.py build made; --model-only needs no ESP-IDF. A wake word for another firmware is refused
    before anything is written.
    """
    board = Board(port, baud, stub)
    with working(f"flashing {port}"):
        header = (flash_wakeword if model_only else flash_firmware)(board, build)
    about = {"phrase": header.phrase, "model": header.sha256, "bytes": header.bytes, "model_only": model_only}
    if as_json:
        click.echo(json_line(about))
        return
    what = "wake word" if model_only else "firmware and wake word"
    console.print(f"{what} “{header.phrase}” ({header.sha256[:12]}) written", soft_wrap=True, markup=False)
    console.print(f"next: edgewake monitor --port {port}", soft_wrap=True, markup=False)


@click.command()
@PORT
@click.option("--reset/--no-reset", default=True, help="Restart the board first, so that its self-test is seen.")
@click.option("--seconds", type=Number(0, min_open=True), help="Stop after so long.  [default: at Ctrl-C]")
@json_option("One object an event.")
def monitor(port: str, reset: bool, seconds: float | None, as_json: bool) -> None:
    """Show what a board logs: wake word, self-test, detections, lost audio, measured times, stacks, warnings.

    The firmware logs times and stacks once a minute. Ctrl-C ends it; the exit code is 1 where the self-test failed.
    """
    seen: Counter[str] = Counter()
    failed = False
    with suppress(KeyboardInterrupt):
        for event in filter(None, map(event_of, lines_of(port, reset=reset, seconds=seconds))):
            seen[event["event"]] += 1
            failed = failed or event.get("passed") is False
            text = json_line(event) if as_json else f"{event['ms'] / 1000:10.3f}  {described(event)}"
            console.print(text, soft_wrap=True, markup=False, emoji=False)
    error_console.print(f"{seen['detection']} detections, {seen['message']} other warnings", soft_wrap=True)
    if failed:
        click.get_current_context().exit(1)


def described(event: Event) -> str:
    """An event as a line to read."""
    match event["event"]:
        case "wakeword":
            origin = "built in" if event["built_in"] else "of the partition"
            return f"wake word “{event['phrase']}”, model {event['model']}, {event['bytes']:,} B, {origin}"
        case "refused":
            return f"the wake word of the partition is refused: {event['reason']}"
        case "self_test" if event["passed"]:
            return f"self-test passed: {event['features']:,} features, {event['steps']} steps, in {event['took_ms']} ms"
        case "self_test":
            return f"self-test FAILED: {event['difference']}"
        case "detection":
            return f"“{event['phrase']}” at {event['time_s']:.3f} s, probability {event['probability']:.4f}"
        case "loss":
            return f"audio lost since the start: {event['samples']:,} samples, {event['dma_blocks']} DMA blocks"
        case "timing":
            frame, step = event["frame"]["ms"], event["step"]["ms"]
            return (
                f"frontend {frame['mean']:.3f} ms a frame ({frame['min']:.3f} to {frame['max']:.3f}), step "
                f"{step['mean']:.3f} ms ({step['min']:.3f} to {step['max']:.3f}), {event['steps']} steps"
            )
        case "stacks":
            parts = (f"{name} {free:,} of {event['bytes'][name]:,} B" for name, free in event["unused"].items())
            return f"stack never used: {', '.join(parts)}"
    return f"{event['level']}: {event['tag']}: {event['text']}"
