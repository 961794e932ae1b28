"""What a board's log says, as events: wake word, self-test, detections, losses of audio, measured times, stacks.

A line of ESP-IDF's log is `I (1234) tag: text`, perhaps in colour; 1234 are milliseconds since the start.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from edgewake.errors import EdgewakeError

Event = dict[str, Any]
BAUD = 115_200
LONGEST_LINE = 4096
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"([EWI]) \((\d+)\) ([^:]+): (.*)")
_FIGURE = r"(\d+) cycles[a-z ]* \((\d+) to (\d+)\)"


def _timing(found: re.Match[str]) -> Event:
    numbers = list(map(int, found.groups()))
    mhz = numbers[-1]

    def figure(mean: int, least: int, most: int) -> Event:
        ms = {name: round(value / mhz / 1000, 4) for name, value in (("min", least), ("mean", mean), ("max", most))}
        return {"cycles": {"min": least, "mean": mean, "max": most}, "ms": ms}

    return {"frame": figure(*numbers[:3]), "step": figure(*numbers[3:6]), "steps": numbers[6], "mhz": mhz}


def _stacks(found: re.Match[str]) -> Event:
    capture, of_capture, inference, of_inference = map(int, found.groups())
    unused = {"capture": capture, "inference": inference}
    return {"unused": unused, "bytes": {"capture": of_capture, "inference": of_inference}}


# By the firmware's texts, which begin as these do.
_EVENTS: list[tuple[str, re.Pattern[str], Callable[[re.Match[str]], Event]]] = [
    (
        "wakeword",
        re.compile(r'phrase "(.*)", model (\w+), (\d+) bytes, (of the partition|built in)'),
        lambda m: {"phrase": m[1], "model": m[2], "bytes": int(m[3]), "built_in": m[4] == "built in"},
    ),
    ("refused", re.compile(r"the wake word of the partition is refused: (.*)"), lambda m: {"reason": m[1]}),
    (
        "self_test",
        re.compile(r"golden vectors agree: (\d+) features, (\d+) steps, in (\d+) ms"),
        lambda m: {"passed": True, "features": int(m[1]), "steps": int(m[2]), "took_ms": int(m[3])},
    ),
    ("self_test", re.compile(r"golden vectors differ: (.*)"), lambda m: {"passed": False, "difference": m[1]}),
    (
        "detection",
        re.compile(r'detected "(.*)" at (\d+\.\d+) s, probability (\d+\.\d+) %'),
        lambda m: {"phrase": m[1], "time_s": float(m[2]), "probability": round(float(m[3]) / 100, 4)},
    ),
    (
        "loss",
        re.compile(r"audio lost since start: (\d+) samples before inference, (\d+) DMA blocks"),
        lambda m: {"samples": int(m[1]), "dma_blocks": int(m[2])},
    ),
    ("timing", re.compile(rf"frontend {_FIGURE}, step {_FIGURE}, (\d+) steps at (\d+) MHz"), _timing),
    ("stacks", re.compile(r"stacks: (\d+) of (\d+) B of capture, (\d+) of (\d+) B of inference"), _stacks),
]


def event_of(line: str) -> Event | None:
    """The event of a line: "event" names it, "ms" is the board's time. Other warnings and errors are "message"s."""
    found = _LINE.match(_COLOUR.sub("", line).strip())
    if found is None:
        return None
    level, ms, tag, text = found.groups()
    for name, pattern, values in _EVENTS:
        if matched := pattern.match(text):
            return {"event": name, "ms": int(ms), **values(matched)}
    if level == "I":
        return None
    return {"event": "message", "ms": int(ms), "level": {"W": "warning", "E": "error"}[level], "tag": tag, "text": text}


def lines_of(port: str, *, reset: bool, seconds: float | None = None) -> Iterator[str]:
    """Lines that a board at a serial port writes, after a reset where it is asked for; for so long, or for ever.

    Raises:
        EdgewakeError: the port cannot be opened, or is closed meanwhile.
    """
    import serial

    until = None if seconds is None else time.monotonic() + seconds
    try:
        with serial.Serial(None, BAUD, timeout=0.1) as device:
            # Both lines off, so that opening the port does not reset the board.
            device.dtr = device.rts = False
            device.port = port
            device.open()
            # A pseudo-terminal has no such lines.
            with suppress(OSError):
                if reset:
                    device.rts = True
                    time.sleep(0.1)
                    device.rts = False
            pending = b""
            while until is None or time.monotonic() < until:
                pending += device.read(max(1, device.in_waiting))
                *whole, pending = pending.split(b"\n")
                # Of another baud rate may come anything, without an end.
                pending = pending[-LONGEST_LINE:]
                yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    except (OSError, serial.SerialException) as error:
        raise EdgewakeError(
            f"{port}: {' '.join(str(error).split())}; is the board there, and nothing else at its port?"
        ) from error
