"""Instructions of a frame by part, executed on the emulated lx106, and at most so many in code for an ESP32-S3."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewake.conversion.c_source import frontend_header
from edgewake.runtime.frontend import FrontendConfig
from xtensa.emulator import CORE_SOURCES, HERE, TICKS_PER_INSTRUCTION, build, run

OBJDUMP = "xtensa-lx106-elf-objdump"
# As sim_parts.h has them.
PARTS = ("samples", "window", "transform", "bins", "filterbank", "noise", "gain", "logarithm")
# MULL and MULUH.
S3_PRODUCT = 2


class Counts(NamedTuple):
    """Instructions of each frame and part, (frames, parts).

    Attributes:
        lx106: as executed, with the calls that multiply to 64 bits, which this processor cannot.
        s3: at most in code for the S3: the same, with two instructions for each such call.
    """

    lx106: NDArray[np.int64]
    s3: NDArray[np.int64]


def frame_counts(samples: NDArray[np.int16], folder: Path) -> Counts:
    """Counts of all frames of (n,) int16 samples by the frontend's default configuration, whole in one chunk each."""
    config = FrontendConfig()
    (folder / "frontend_tables.h").write_text(frontend_header(config), encoding="utf-8")
    program = build(folder / "parts.elf", [HERE / "parts.c", *CORE_SOURCES], include=[folder],
                    flags=["-include", "sim_parts.h"])  # fmt: skip
    frames = config.frames(len(samples))
    used = config.window_samples + config.step_samples * (frames - 1)
    spent = np.frombuffer(run(program, struct.pack("<I", frames) + samples[:used].tobytes()), np.uint32)
    ticks, products = spent.astype(np.int64).reshape(frames, len(PARTS), 2).transpose(2, 0, 1)
    lx106 = np.rint(ticks / TICKS_PER_INSTRUCTION).astype(np.int64)
    return Counts(lx106, lx106 - products * (_call_instructions(program, "__muldi3") - S3_PRODUCT))


def _call_instructions(program: Path, function: str) -> int:
    """Instructions of a call of a function without branches, with that which calls it."""
    command = [OBJDUMP, "-d", f"--disassemble={function}", str(program)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^[0-9a-f]+:\t[0-9a-f]+\s+\t(\S+)", text, re.MULTILINE)
    body = names[: names.index("ret.n") + 1]
    assert not [name for name in body if name.startswith(("b", "j", "call"))], body
    return len(body) + 1
