"""One small model's firmware project, emitted as a build would, and the host programs made from it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tflite

from edgewake.conversion.tflite_file import Graph, Operator, Tensor, write_tflite
from edgewake.frontend import FrontendConfig, features
from edgewake.pipeline import PipelineParams, derive_quantizer
from edgewake.pipeline.native import NativePipeline
from edgewake.targets.firmware import emit_firmware
from edgewake.targets.golden import Golden

HERE = Path(__file__).resolve().parent
CONFIG = FrontendConfig()
SCALE = np.float32(26 / 255)
MULTIPLIER, SHIFT = derive_quantizer(SCALE, -128)
PARAMS = PipelineParams(MULTIPLIER, SHIFT, -128, window=3, cutoff_sum=480, refractory_steps=8)
OPERATORS = ["CALL_ONCE", "CONV_2D", "VAR_HANDLE", "CONV_2D", "LOGISTIC"]


class FakeModel:
    """The same numbers as host/host_model.c."""

    def __init__(self) -> None:
        self.state = 1

    def __call__(self, step: npt.NDArray[np.int8]) -> int:
        for value in step.tolist():
            self.state = (self.state * 31 + value + 128) % 65521
        return (self.state >> 8) - 128


def tiny_tflite() -> bytes:
    """A valid .tflite with one variable; nothing here runs it."""
    resource = Tensor("", (), tflite.TensorType.RESOURCE)
    handle = Operator(
        tflite.BuiltinOperator.VAR_HANDLE, (), (0,), ("VarHandleOptions", {"Container": "", "SharedName": "0"})
    )
    return write_tflite([Graph([resource], [handle], (), ())])


def random_audio(seed: int, seconds: float) -> npt.NDArray[np.int16]:
    """Noise in bursts of very different loudness, soft enough for a gain of 18 dB not to saturate."""
    rng = np.random.default_rng(seed)
    count = int(16000 * seconds)
    loudness = np.repeat(rng.choice([1, 30, 1000, 4000], -(-count // 1600)), 1600)[:count]
    return np.clip(rng.normal(0, 1, count) * loudness, -32768, 32767).astype(np.int16)


def golden_of(samples: npt.NDArray[np.int16]) -> Golden:
    steps = NativePipeline(CONFIG, PARAMS, FakeModel()).process(samples)
    return Golden(
        name="test",
        samples=samples,
        features=features(samples, CONFIG),
        outputs=np.array([step.output for step in steps], np.int8),
        sums=np.array([step.sum for step in steps], np.uint32),
        detections=np.array([step.detected for step in steps], np.uint8),
    )


def emit(folder: Path, golden: Golden, arena_bytes: int = 20_000) -> Path:
    emit_firmware(
        folder,
        model_bytes=tiny_tflite(),
        frontend_config=CONFIG,
        params=PARAMS,
        golden=golden,
        operators=OPERATORS,
        arena_bytes=arena_bytes,
        phrase='computer "ü"?',
    )
    return folder


@dataclass(frozen=True)
class Toolchain:
    """The host's compilers, with the stubs where ESP-IDF would be."""

    cc: str
    cxx: str

    def includes(self, project: Path) -> list[str]:
        components = project / "components"
        folders = [
            HERE / "stubs",
            project / "main",
            components / "edgewake" / "include",
            components / "edgewake_model" / "generated",
        ]
        return [f"-I{folder}" for folder in folders]

    def check(self, project: Path, source: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Compile one file for its syntax and types alone, with every warning an error."""
        cpp = source.suffix == ".cc"
        command = [self.cxx if cpp else self.cc, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *options]
        command += ["-std=gnu++17" if cpp else "-std=gnu17", "-DTF_LITE_STATIC_MEMORY"]
        return run([*command, *self.includes(project), str(source)])

    def program(self, project: Path, output: Path, *options: str) -> Path:
        """The whole firmware but for TFLM, as a program of the host."""
        sources = [path for path in sorted((project / "main").glob("*.c"))]
        sources += sorted((project / "components" / "edgewake" / "src").glob("*.c"))
        sources += sorted((project / "components" / "edgewake_model" / "generated").glob("*.c"))
        sources += sorted((HERE / "host").glob("*.c"))
        command = [self.cc, "-std=gnu17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *options]
        command += [*self.includes(project), f"-I{HERE / 'host'}", *map(str, sources), "-o", str(output)]
        done = run(command)
        assert done.returncode == 0, done.stderr
        return output


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    cc, cxx = shutil.which("gcc") or shutil.which("cc"), shutil.which("g++") or shutil.which("c++")
    assert cc and cxx, "the firmware's tests need a C and a C++ compiler: apt-get install gcc g++"
    return Toolchain(cc, cxx)


@pytest.fixture(scope="session")
def golden() -> Golden:
    return golden_of(random_audio(1, 0.8))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, golden: Golden) -> Path:
    return emit(tmp_path_factory.mktemp("firmware"), golden)


