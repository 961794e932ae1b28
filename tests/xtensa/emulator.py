"""C programs, compiled for Xtensa by Debian's compiler and run in QEMU: bytes in, bytes out, instructions counted.

`build` compiles sources together with start code and the few functions of a C library that compilers need (sim.c);
`run` gives the program what it reads by `sim_read`, and returns what it wrote by `sim_write` (include/sim.h). A program
ends well by returning 0 from main(). Differences of `sim_now` become counts of instructions by `instructions`.
`missing` says what must be installed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CORE = REPOSITORY / "firmware/esp32s3/components/edgewake"
CORE_SOURCES = tuple(sorted((CORE / "src").glob("*.c")))

COMPILER, EMULATOR = "xtensa-lx106-elf-gcc", "qemu-system-xtensa"
PACKAGES = "gcc-xtensa-lx106 binutils-xtensa-lx106 qemu-system-misc"
# The core's own in its CMakeLists.txt, and of ESP-IDF's those that this compiler has (it gives -mlongcalls to all).
FLAGS = ["-std=c99", "-O2", "-fno-schedule-insns", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror",
         "-mlongcalls", "-ffunction-sections", "-fdata-sections", "-fno-jump-tables", "-fno-tree-switch-conversion",
         "-fstrict-volatile-bitfields", "-ffreestanding", "-mtext-section-literals"]  # fmt: skip
# An instruction takes 2^10 ns of QEMU's time, in which the core's counter runs at 40 MHz.
ICOUNT, TICKS_PER_INSTRUCTION = "shift=10,sleep=off", 40.96


def missing() -> str:
    """What must be installed before programs are built and run, in one line; "" where all of it is."""
    lacking = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
    return f"{', '.join(lacking)} not found: apt-get install {PACKAGES}" if lacking else ""


def version(command: str) -> str:
    """The first line of `command --version`."""
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def instructions(ticks: int) -> int:
    """How many instructions a difference of two `sim_now` stands for, with those of one `sim_now`; below 1e8."""
    return round((ticks % 2**32) / TICKS_PER_INSTRUCTION)


def build(target: Path, sources: Sequence[Path], *, include: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path:
    """Compile `sources`, of which one has main(), into the program `target`, and return it.

    The core's headers are found; its sources are CORE_SOURCES. A warning is an error. `flags` come last.
    """
    folders = [*include, CORE / "include", HERE / "include"]
    command = [COMPILER, *FLAGS, *flags, *(f"-I{folder}" for folder in folders), "-nostdlib", "-Wl,--gc-sections",
               "-T", HERE / "sim.ld", HERE / "start.S", HERE / "sim.c", *sources, "-lgcc", "-o", target]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{COMPILER}: {done.stderr}")
    return target


def run(program: Path, data: bytes = b"", *, cpu: str = "lx106", timeout: float = 120) -> bytes:
    """What `program` writes, given `data` to read; an AssertionError where it does not end by returning 0.

    `cpu` is a core of QEMU with the lx106's addresses: the de212 has hardware loops, MIN, MAX, SEXT and CLAMPS as well.
    """
    command = [EMULATOR, "-M", "sim", "-cpu", cpu, "-display", "none", "-serial", "none", "-monitor", "none",
               "-semihosting", "-icount", ICOUNT, "-kernel", str(program.resolve())]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "input").write_bytes(data)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout)
        output = Path(folder) / "output"
        if done.returncode != 0:
            raise AssertionError(f"{program.name} ended with {done.returncode}: {done.stderr}")
        return output.read_bytes()
