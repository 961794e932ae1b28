"""Parity checks 2 and 8: on Xtensa the C core gives the host's features, quantized inputs and events, byte for byte."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewake.builder.firmware import make_golden
from edgewake.calibration import load_golden
from edgewake.conversion.c_source import frontend_header
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.detector import Detector
from edgewake.runtime.frontend import FrontendConfig, NativeFrontend
from edgewake.runtime.pipeline import PipelineParams, derive_quantizer
from edgewake.runtime.pipeline.native import NativePipeline
from signals import RATE, SIGNALS, Samples
from xtensa.emulator import CORE_SOURCES, HERE, build, missing, run

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# Of each signal, which frontend and pipeline take one after the other.
SECONDS = 2
PASSED = 0

Build = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path) -> Build:
    """A program of this folder with the core, by its name, with other tables than the default ones where given."""

    def make(name: str, tables: str = frontend_header()) -> Path:
        (tmp_path / "frontend_tables.h").write_text(tables, encoding="utf-8")
        return build(tmp_path / f"{name}.elf", [HERE / f"{name}.c", *CORE_SOURCES], include=[tmp_path])

    return make


class Model:
    """The model of core.c, which keeps what it got."""

    def __init__(self) -> None:
        self.state, self.inputs = 0, list[bytes]()

    def step(self, features: NDArray[np.int8]) -> int:
        self.inputs.append(features.tobytes())
        for value in features.astype(np.uint8).tolist():
            self.state = (self.state * 31 + value) % 2**32
        return (self.state >> 16 & 0xFF ^ 0x80) - 0x80


def parameters() -> PipelineParams:
    quantizer = (*derive_quantizer(np.float32(26 / 255), -128), -128)
    return PipelineParams(*quantizer, 3, 3 * 40_000, 7, Quantization(np.float32(0.09375), 0))


def packed(params: PipelineParams) -> bytes:
    """The configuration as core.c reads it."""
    scalars = (params.frames_per_step, params.channels, params.multiplier, params.shift, params.zero_point,
               params.window, params.cutoff_sum, params.refractory_steps)  # fmt: skip
    return struct.pack("<4Ii3I", *scalars) + params.probabilities.tobytes()


def request(signals: Sequence[tuple[Samples, list[int]]]) -> bytes:
    """Signals with their chunks, as core.c reads them."""
    parts = [packed(parameters())]
    for samples, chunks in signals:
        parts += [struct.pack(f"<2I{len(chunks)}I", len(chunks), len(samples), *chunks), samples.tobytes()]
    return b"".join(parts) + bytes(8)


def answer(samples: Samples, chunks: list[int]) -> bytes:
    """What core.c must write for a signal, by the library that the host runs."""
    config, model = FrontendConfig(), Model()
    rows = NativeFrontend(config).process(samples).tobytes()
    for number, step in enumerate(NativePipeline(config, parameters(), model.step).process(samples)):
        rows += model.inputs[number] + struct.pack("<2i2I", step.output, step.detected, step.sum, step.sample_index)
    return rows


def random_chunks(total: int, seed: int) -> list[int]:
    """Sizes that add up to `total`: most of a few milliseconds, some of one sample, some of half a second."""
    random, chunks = np.random.default_rng(seed), list[int]()
    while (left := total - sum(chunks)) > 0:
        chunks.append(min(left, int(random.choice([1, random.integers(1, 600), 160, 8_000], p=[0.3, 0.5, 0.1, 0.1]))))
    return chunks


def test_every_class_of_signal_in_random_chunks_gives_the_bytes_of_the_host(program: Build) -> None:
    samples = [make()[: SECONDS * RATE] for make in SIGNALS.values()]
    signals = [(each, random_chunks(len(each), seed)) for seed, each in enumerate(samples)]
    expected = b"".join(answer(*signal) for signal in signals)
    assert run(program("core"), request(signals)) == expected


def test_a_core_with_the_other_basic_instructions_of_the_board_gives_the_same_bytes(program: Build) -> None:
    samples = SIGNALS["level_jumps"]()[:RATE]
    chunks = random_chunks(len(samples), 99)
    assert run(program("core"), request([(samples, chunks)]), cpu="de212") == answer(samples, chunks)


def test_one_changed_value_of_a_table_changes_what_is_compared(program: Build) -> None:
    samples = SIGNALS["speech_like"]()[:RATE]
    header = frontend_header()
    numbers = re.search(r"static const int16_t \w+\[\d+\] = \{(.*?)\};", header, re.DOTALL)
    assert numbers is not None
    values = numbers[1].split(",")
    values[200] = str(int(values[200]) + 1)
    changed = header.replace(numbers[1], ",".join(values))
    assert run(program("core", changed), request([(samples, [RATE])])) != answer(samples, [RATE])


def test_golden_vectors_of_the_released_model_pass_and_one_flipped_value_is_found(
    program: Build, repository: Path
) -> None:
    folder = repository / "models" / "computer"
    detector = Detector(folder)
    config, params = detector.manifest.frontend_config, detector.params
    golden = make_golden("", load_golden()[0], config, params, (folder / "model.tflite").read_bytes())
    frames, steps = len(golden.features), len(golden.outputs)
    places = [frames * 40 - 7, steps - 2, steps // 2, 5]
    data = struct.pack("<3I", len(golden.samples), frames, steps)
    arrays = (golden.samples, golden.features, golden.outputs, golden.sums, golden.detections)
    data = packed(params) + data + b"".join(array.tobytes() for array in arrays) + struct.pack("<4I", *places)
    rows = np.frombuffer(run(program("golden", frontend_header(config)), data), np.int32).reshape(5, 4)
    assert rows[0, 0] == PASSED
    assert rows[1:, :2].tolist() == [[stage, place] for stage, place in enumerate(places, start=1)]
    assert ((rows[1:, 2] ^ rows[1:, 3]) == 1).all()
