"""Hours of audio through the C pipeline and TFLM: no drift, and the state is a fresh run's after the receptive field.

As a program: `python tests/long_run.py --hours 24 --json long_run.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.data.reading import read_audio
from edgewake.runtime.detector import Detector
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.pipeline.params import Step
from edgewake.runtime.tflm import TflmModel

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
MINUTE_STEPS = 2_000
BLOCK_S = 60  # a whole number of inference steps, so that a run which starts with any block has the same steps
CUTOFF = 0.02  # low, so that there are events without the phrase
SHARES = {"speech": 0.55, "noise": 0.15, "quiet": 0.1, "silence": 0.05, "clipped": 0.05, "lowest": 0.05, "tone": 0.05}
VARYING = ("speech", "noise", "quiet")


@lru_cache(maxsize=1)
def speech() -> npt.NDArray[np.int16]:
    """The calibration data's audio, again and again, for one block."""
    return np.resize(read_audio(ROOT / "calibration" / "audio.flac"), RATE * BLOCK_S)


def kind_of(index: int) -> str:
    """What a minute holds."""
    return str(np.random.default_rng(index).choice(list(SHARES), p=list(SHARES.values())))


def varies(index: int) -> bool:
    """Whether the audio of a minute varies, so that what the noise estimates were before is forgotten.

    Of a steady input they stay up to 40 units of 2^-10 apart, since they are rounded down: 40 units are 1 / 0.025, the
    share of the input that is taken at a frame.
    """
    return kind_of(index) in VARYING


def block(index: int) -> npt.NDArray[np.int16]:
    """A minute of speech of any level, noise, silence, a full-scale square wave, nothing but -32768, or a tone."""
    random, kind, n = np.random.default_rng([index, 1]), kind_of(index), RATE * BLOCK_S
    noise = random.standard_normal(n).astype(np.float32)
    if kind == "speech":
        audio = np.roll(speech(), int(random.integers(n))) * np.exp(random.uniform(-3, 1)) + noise * random.uniform(
            0, 50
        )
    elif kind == "noise":
        audio = noise * np.exp(random.uniform(0, 10))
    elif kind == "tone":
        audio = 20_000 * np.sin(np.arange(n) * random.uniform(0.02, 3))
    elif kind == "clipped":
        audio = np.where(np.arange(n) // int(random.integers(2, 90)) % 2, 32767, -32768)
    else:
        audio = {"quiet": noise, "silence": np.zeros(n), "lowest": np.full(n, -32768)}[kind]
    return np.clip(np.round(audio), -32768, 32767).astype(np.int16)


def fresh(detector: Detector) -> NativePipeline:
    """The detector's pipeline and model, as after a restart; its steps have the model's outputs too."""
    return NativePipeline(detector._config, detector.params, TflmModel(detector._bytes).step)


def resident_mb() -> float:
    """Memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def settled_after(steps: list[Step], expected: list[Step]) -> int:
    """Steps until outputs and sums are equal for good."""
    unequal = [
        i for i, (a, b) in enumerate(zip(steps, expected, strict=True)) if (a.output, a.sum) != (b.output, b.sum)
    ]
    return unequal[-1] + 1 if unequal else 0


@dataclass
class Restart:
    """A run that started at a minute of the long one: its steps, and those of the long one meanwhile."""

    minute: int
    varies: int  # the first minute from then on whose audio varies
    stream: NativePipeline
    steps: list[Step] = field(default_factory=list)
    expected: list[Step] = field(default_factory=list)


def run(model: Path, hours: float, restarts: int, show: bool = False) -> dict[str, Any]:
    """Take `hours` of audio; at `restarts` places, evenly, another run starts and takes the next minutes too, until
    one whose audio varies and one more.

    Returns:
        hours, steps, events, settled_s (of each restart, seconds of varying audio until its steps are those of the
        long run for good),
        speed (hours of audio an hour of processor time, of the first and the last tenth), and memory_mb (after the
        first tenth and at the end).

    Raises:
        AssertionError: a step ends at another sample than the formula's, events are too close, a sum is out of range,
            or a restart has not settled after a minute of varying audio.
    """
    detector = Detector(model, cutoff=CUTOFF)
    stream, blocks, step_count, last_event = fresh(detector), round(hours * 3600 / BLOCK_S), 0, -(10**9)
    places = {round(place) for place in np.linspace(1, blocks - 2, restarts)}
    record: dict[str, Any] = {"hours": hours, "steps": 0, "events": 0, "settled_s": []}
    started: list[Restart] = []
    speed, memory = [], []
    for index in range(blocks):
        audio, began = block(index), time.process_time()
        steps = stream.process(audio)
        speed.append(BLOCK_S / (time.process_time() - began))
        memory.append(resident_mb())
        for step in steps:
            assert step.sample_index == detector.sample_index(step_count)
            assert 0 <= step.sum <= 65535 * detector.params.window
            if step.detected:
                assert step_count - last_event >= detector.refractory_steps
                last_event = step_count
                record["events"] += 1
            step_count += 1
        if index in places:
            started.append(Restart(index, next(filter(varies, itertools.count(index))), fresh(detector)))
        for restart in started:
            restart.steps.extend(restart.stream.process(audio))
            # Those of its first block that the restarted run could not complete yet are cut off below.
            restart.expected.extend(steps)
        for restart in [restart for restart in started if index > restart.varies]:
            started.remove(restart)
            settled = settled_after(restart.steps, restart.expected[-len(restart.steps) :])
            # In steps since the audio varies, and below a minute.
            settled = max(0, settled - (restart.varies - restart.minute) * MINUTE_STEPS)
            assert settled < MINUTE_STEPS, f"a run from minute {restart.minute} on differs for {settled} steps"
            record["settled_s"].append(round(settled * detector.step_s, 2))
        if show and index % 60 == 59:
            print(f"{(index + 1) / 60:.0f} h, {record['events']} events", flush=True)
    tenth = max(1, blocks // 10)
    record |= {"steps": step_count, "speed": [round(float(np.median(p))) for p in (speed[:tenth], speed[-tenth:])]}
    return record | {"memory_mb": [round(memory[tenth - 1]), round(memory[-1])]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--restarts", type=int, default=48, help="runs that start on the way, to compare with")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "computer")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args()
    result = run(options.model, options.hours, options.restarts, show=True)
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
