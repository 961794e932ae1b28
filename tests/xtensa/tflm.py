"""A firmware's model by TFLM's reference kernels or generated C in the emulator: outputs, instructions, code."""

from __future__ import annotations

import re
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgewake.builder.firmware import DETECTOR, GENERATED
from xtensa import emulator
from xtensa.emulator import COMPILER, CORE, CORE_SOURCES, HERE, build, instructions, run

HEADERS = Path("/usr/include/newlib")
LIBRARIES = [Path("/usr/lib/xtensa-lx106-elf/lib") / name for name in ("libm.a", "libc.a")]
PACKAGES = "libnewlib-dev libstdc++-arm-none-eabi-newlib picolibc-xtensa-lx106-elf"
# esp-tflite-micro's own flags, and ESP-IDF's that this compiler has.
FLAGS = ["-std=gnu++14", "-w", "-mlongcalls", "-mtext-section-literals", "-ffunction-sections", "-fdata-sections",
         "-fno-jump-tables", "-fno-tree-switch-conversion", "-fstrict-volatile-bitfields", "-fno-rtti",
         "-fno-exceptions", "-fno-threadsafe-statics", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
         "-DTF_LITE_STATIC_MEMORY", "-DTF_LITE_DISABLE_X86_NEON", "-nostdinc++"]  # fmt: skip
# The interpreter, and the kernels of a streaming model's operators: the linker drops what is not called.
KERNELS = ("assign_variable", "call_once", "concatenation", "conv", "conv_common", "depthwise_conv",
           "depthwise_conv_common", "kernel_util", "pooling", "pooling_common", "read_variable", "strided_slice",
           "strided_slice_common", "var_handle")  # fmt: skip
MICRO = ("flatbuffer_utils", "memory_helpers", "micro_allocation_info", "micro_allocator", "micro_context",
         "micro_interpreter", "micro_interpreter_context", "micro_interpreter_graph", "micro_log", "micro_op_resolver",
         "micro_profiler", "micro_resource_variable", "micro_time", "micro_utils", "system_setup",
         "tflite_bridge/*", "memory_planner/greedy_memory_planner", "memory_planner/linear_memory_planner",
         "arena_allocator/non_persistent*", "arena_allocator/persistent*", "arena_allocator/single*")  # fmt: skip
LITE = ("kernels/kernel_util", "core/c/common", "core/api/*", "kernels/internal/common", "kernels/internal/*_util",
        "kernels/internal/*_utils", "kernels/internal/tensor_ctypes", "kernels/internal/reference/*")  # fmt: skip
MLIR = ("core/api/error_reporter", "schema/schema_utils")


class Measured(NamedTuple):
    """`golden` is the stage of the golden vectors that differs, 0: none; `logits` and `counts` are of each step."""

    golden: int
    logits: npt.NDArray[np.int32]
    counts: list[int]
    code_bytes: int


def missing() -> str:
    """What must be installed besides the emulator's packages; "" where all of it is."""
    there = (HEADERS / "c++").is_dir() and all(path.is_file() for path in LIBRARIES)
    return "" if there else f"no C++ headers or C library for Xtensa: apt-get install {PACKAGES}"


def measure(firmware: Path, features: npt.NDArray[np.int8], folder: Path, tree: Path | None = None) -> Measured:
    """The model of a firmware folder over (steps, inputs) int8 from reset; TFLM's with a `tree` of esp-tflite-micro."""
    detector, generated = firmware / DETECTOR, firmware / GENERATED
    (folder / "sdkconfig.h").write_text("")
    objects = [detector / "network.c"]
    if tree:
        lite = tree / "tensorflow/lite"
        places = ((lite / "micro/kernels", KERNELS), (lite / "micro", MICRO), (lite, LITE),
                  (tree / "tensorflow/compiler/mlir/lite", MLIR))  # fmt: skip
        sources = [path for place, names in places for name in names for path in sorted(place.glob(f"{name}.cc"))]
        cxx = max((HEADERS / "c++").iterdir())
        third = [tree / "third_party" / name for name in ("gemmlowp", "flatbuffers/include", "ruy")]
        stub = folder / "stub"
        stub.mkdir()
        (stub / "esp_log.h").write_text((HERE.parent / "firmware/stubs/esp_log.h").read_text())
        include = [tree, *third, stub, detector, generated, firmware / "components/edgewake/include"]
        flags = [*FLAGS, *(f"-isystem{path}" for path in (cxx, cxx / "arm-none-eabi", HEADERS)),
                 *(f"-I{path}" for path in include)]  # fmt: skip

        def compiled(numbered: tuple[int, Path]) -> Path:
            number, source = numbered
            target = folder / f"tflm{number}.o"
            # The firmware's optimization, and over it TFLM's own of its CMakeLists.txt.
            own = "-O3" if source.is_relative_to(tree) else "-O2"
            done = subprocess.run(["xtensa-lx106-elf-g++", own, *flags, "-c", source, "-o", target],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            if done.returncode != 0:
                raise AssertionError(done.stderr)
            return target

        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compiled, enumerate([*sources, detector / "model.cc", HERE / "tflm.cc"])))
    support = objects[-1] if tree else None
    counted = {str(path) for path in objects if path != support}
    program, sections = folder / "model.elf", folder / "model.map"
    if not tree:  # As objects, so that the map names them.
        objects = [
            _object(path, folder, [generated, detector, folder]) for path in (*objects, generated / "ew_network.c")
        ]
        counted = {str(path) for path in objects}
    sources = [HERE / "model.c", *CORE_SOURCES, *objects, *(LIBRARIES if tree else [])]
    sources += [path for path in generated.glob("*.c") if path.name != "ew_network.c"]
    build(program, sources, include=[generated, detector, folder], flags=[f"-Wl,-Map={sections}"])
    answer = run(program, struct.pack("<I", len(features)) + features.tobytes())
    rows = np.frombuffer(answer[16:], np.int32).reshape(-1, 2)
    return Measured(struct.unpack("<I", answer[:4])[0], rows[:, 0], [instructions(int(ticks)) for ticks in rows[:, 1]],
                    _code_bytes(sections, counted))  # fmt: skip


def _object(source: Path, folder: Path, include: list[Path]) -> Path:
    """A C source compiled as the emulator's programs are."""
    target = folder / f"{source.stem}.o"
    paths = [f"-I{path}" for path in (*include, CORE / "include", HERE / "include")]
    subprocess.run([COMPILER, *emulator.FLAGS, *paths, "-c", source, "-o", target], check=True)
    return target


def _code_bytes(sections: Path, counted: set[str]) -> int:
    """Bytes of code and of constants, without those of the network's, which a linker map gives to objects."""
    text = sections.read_text().partition("Linker script and memory map")[2]
    found = re.findall(r"^ (\.(?:text|literal|rodata)\S*)\s+0x[0-9a-f]+\s+(0x[0-9a-f]+) (\S+)$", text, re.MULTILINE)
    return sum(int(size, 16) for name, size, file in found if file in counted and "EW_NETWORK_CONSTANTS" not in name)
