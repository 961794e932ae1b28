"""Time of the frontend for a second of audio, against pymicro-features in the same run, on equal features."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymicro_features import MicroFrontend
from rich.console import Console
from rich.table import Table

from edgewake.io import write_json
from edgewake.runtime.frontend import FEATURE_SCALE, NativeFrontend, features, features_batch

RATE = 16_000
STEP = 160
SECONDS = 5
ORACLE = "pymicro-features, 10 ms a call"
STREAM = "edgewake, 10 ms a call"
WHOLE = "edgewake, whole recording"
BATCH = "edgewake, batch on all cores"

Samples = NDArray[np.int16]


def stimulus() -> Samples:
    """Noise whose level changes every 0.1 s over the whole range, so that all branches are taken."""
    random = np.random.default_rng(0)
    level = np.exp(random.uniform(0, np.log(32768), SECONDS * 10)).repeat(RATE // 10)
    return np.clip(random.normal(0, level), -32768, 32767).astype(np.int16)


def oracle(samples: Samples) -> Iterator[list[float]]:
    """pymicro-features in the one way that its API has: 160 samples a call."""
    frontend = MicroFrontend()
    data = samples.tobytes()
    for start in range(0, len(data), 2 * STEP):
        yield frontend.process_samples(data[start : start + 2 * STEP]).features


def streaming(samples: Samples) -> Iterator[NDArray[np.uint16]]:
    """The C frontend through Python, 160 samples a call, as a live stream would use it."""
    frontend = NativeFrontend()
    for start in range(0, len(samples), STEP):
        yield frontend.process(samples[start : start + STEP])


def exhaust(outputs: Iterator[object]) -> None:
    """Take all outputs and keep none."""
    deque(outputs, maxlen=0)


def check_equal(samples: Samples) -> int:
    """Number of frames of `samples`, which all paths agree on.

    Raises:
        SystemExit: they do not agree.
    """
    integers = np.array([frame for frame in oracle(samples) if frame]) / FEATURE_SCALE
    paths = {
        "whole recording": features(samples),
        "10 ms a call": np.concatenate(list(streaming(samples))),
        "batch": features_batch([samples] * 4)[-1],
    }
    different = [name for name, found in paths.items() if not np.array_equal(found, integers)]
    if different:
        raise SystemExit(f"features differ from pymicro-features: {', '.join(different)}")
    return len(integers)


def best_microseconds(paths: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least time of each path in microseconds, over rounds in which they take turns."""
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            path()
            best[name] = min(best[name], (time.perf_counter() - start) * 1e6)
    return best


def measure(rounds: int) -> dict[str, object]:
    """All figures, after checking that all paths give the same features."""
    samples = stimulus()
    cores = len(os.sched_getaffinity(0))
    batch = [samples] * (4 * cores)
    seconds = {ORACLE: SECONDS, STREAM: SECONDS, WHOLE: SECONDS, BATCH: SECONDS * len(batch)}
    frames = check_equal(samples)
    best = best_microseconds(
        {
            ORACLE: lambda: exhaust(oracle(samples)),
            STREAM: lambda: exhaust(streaming(samples)),
            WHOLE: lambda: features(samples),
            BATCH: lambda: features_batch(batch),
        },
        rounds,
    )
    times = {name: value / seconds[name] for name, value in best.items()}
    return {
        "machine": f"{platform.machine()}, {cores} cores, {platform.system()}",
        "seconds_of_audio": SECONDS,
        "frames_compared": frames,
        "equal": True,
        "microseconds_per_audio_second": {name: round(value, 1) for name, value in times.items()},
        "times_faster_on_one_core": round(times[ORACLE] / times[WHOLE], 2),
    }


def show(result: dict[str, object], target: Path) -> None:
    """Print the figures as a table and write them as JSON to `target`."""
    console = Console()
    table = Table(title=f"mel frontend, {result['machine']}; {result['frames_compared']} frames equal")
    table.add_column("path")
    table.add_column("µs per second of audio", justify="right")
    table.add_column("times faster", justify="right")
    times = result["microseconds_per_audio_second"]
    assert isinstance(times, dict)
    base = next(iter(times.values()))
    for name, value in times.items():
        table.add_row(name, f"{value:,.1f}", f"{base / value:.2f}")
    console.print(table)
    write_json(target, result)
    console.print(f"written to {target}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of which the best counts")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/frontend.json"))
    options = parser.parse_args()
    show(measure(options.rounds), options.json)


if __name__ == "__main__":
    main()
