"""Time of `Detector` in 10 ms chunks against pymicro-wakeword, and of a model step in TFLM against its model's."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tflite_micro.python.tflite_micro import runtime

from edgewake.io import write_json
from edgewake.runtime.detector import Detector

if TYPE_CHECKING:
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

RATE, STEP = 16_000, 160
SECONDS = 5
MODEL_STEPS = 300
OURS, THEIRS = "edgewake", "pymicro-wakeword"

Samples = NDArray[np.int16]


def stimulus() -> Samples:
    """Noise whose level changes every 0.1 s over the whole range."""
    random = np.random.default_rng(0)
    level = np.exp(random.uniform(0, np.log(32768), SECONDS * 10)).repeat(RATE // 10)
    return np.clip(random.normal(0, level), -32768, 32767).astype(np.int16)


def detect(detector: Detector, samples: Samples) -> None:
    """The whole detector, 10 ms a call, as a live stream uses it."""
    for start in range(0, len(samples), STEP):
        detector.process(samples[start : start + STEP])


def detect_micro(features: MicroWakeWordFeatures, word: MicroWakeWord, data: bytes) -> None:
    """pymicro-wakeword, 10 ms a call, as its own command runs it."""
    for start in range(0, len(data), 2 * STEP):
        for found in features.process_streaming(data[start : start + 2 * STEP]):
            word.process_streaming(found)


def step(model: bytes, steps: int = MODEL_STEPS, arena: int = 1 << 20) -> Callable[[], None]:
    """Steps of a model in TFLM on random features of its type, the interpreter alone."""
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
    given = interpreter.get_input_details(0)
    features = np.random.default_rng(0).integers(-128, 128, (steps, *given["shape"])).astype(given["dtype"])

    def run() -> None:
        for one in features:
            interpreter.set_input(one, 0)
            interpreter.invoke()
            interpreter.get_output(0)

    return run


def best_microseconds(paths: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Least processor time of each path, over rounds in which they take turns."""
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(rounds):
        for name, path in paths.items():
            start = time.process_time()
            path()
            best[name] = min(best[name], (time.process_time() - start) * 1e6)
    return best


def measure(folder: Path, word: str, rounds: int) -> dict[str, object]:
    """All figures, as JSON values."""
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    samples = stimulus()
    data = samples.tobytes()
    detector, features, micro = Detector(folder), MicroWakeWordFeatures(), MicroWakeWord.from_builtin(Model(word))
    ours = (folder / "model.tflite").read_bytes()
    theirs = files("pymicro_wakeword").joinpath("models", f"{word}.tflite").read_bytes()
    whole = best_microseconds(
        {OURS: lambda: detect(detector, samples), THEIRS: lambda: detect_micro(features, micro, data)}, rounds
    )
    alone = best_microseconds({OURS: step(ours), THEIRS: step(theirs)}, rounds)
    return {
        "machine": f"{platform.machine()}, {platform.system()}",
        "models": {OURS: f"{folder.name}, {len(ours):,} B", THEIRS: f"{word}, {len(theirs):,} B"},
        "detector_us_per_audio_second": {name: round(value / SECONDS, 1) for name, value in whole.items()},
        "model_step_us_in_tflm": {name: round(value / MODEL_STEPS, 2) for name, value in alone.items()},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/computer"), help="a build or model folder")
    parser.add_argument("--word", default="alexa", help="a model of pymicro-wakeword")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of which the best counts")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/detector.json"))
    given = parser.parse_args()
    result = measure(given.model, given.word, given.rounds)
    table = Table(title=f"detector and model, {result['machine']}")
    for title in ("", OURS, THEIRS, "times as fast"):
        table.add_column(title, justify="right" if title else "left")
    for key in ("models", "detector_us_per_audio_second", "model_step_us_in_tflm"):
        row = result[key]
        assert isinstance(row, dict)
        ratio = "" if key == "models" else f"{row[THEIRS] / row[OURS]:.2f}"
        table.add_row(key.replace("_", " "), str(row[OURS]), str(row[THEIRS]), ratio)
    Console().print(table)
    write_json(given.json, result)


if __name__ == "__main__":
    main()
