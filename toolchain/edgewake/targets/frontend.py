"""What a frame of the frontend costs on an ESP32-S3: instructions that were counted, flash reads, cycles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.config.frontend import FrontendConfig
from edgewake.runtime.frontend.tables import FILTER_BITS, build_tables
from edgewake.targets.esp32s3 import CACHE_LINE_BYTES, FLASH_LINE

MEASURED: dict[str, Any] = json.loads((Path(__file__).parent / "xtensa.json").read_text(encoding="utf-8"))
"""By benchmarks/xtensa.py, for the default configuration: "frame" has by part the instructions of a frame as Debian's
compiler for the lx106 makes them ("lx106"), and at most so many in code for the S3 ("s3"); how, docs/xtensa.md says.
"date", "compiler" and "emulator" are those of the measurement."""

# Stalls of 0.14 cycles an instruction: loads and products that are used at once, and taken branches; an assumption.
CYCLES_PER_INSTRUCTION = 1.14
# Seeds of the square root, in the core's own source.
SEEDS_BYTES = 384


def frontend_instructions(config: FrontendConfig) -> dict[str, int]:
    """S3 instructions of one frame by part: as measured, in proportion to what each part works through."""
    units, measured = _units(config), _units(FrontendConfig())
    return {part: round(counts["s3"] * units[part] / measured[part]) for part, counts in MEASURED["frame"].items()}


def frontend_flash_bytes(config: FrontendConfig) -> int:
    """Bytes of tables that a frame reads from flash; twiddles are in RAM."""
    tables = build_tables(config)
    read = [tables.window, tables.bands, tables.weights, tables.gain_lut, tables.log_lut]
    if np.any(tables.weights + tables.unweights != 1 << FILTER_BITS):
        read.append(tables.unweights)
    return sum(table.nbytes for table in read) + SEEDS_BYTES


def frontend_cycles(config: FrontendConfig) -> int:
    """Cycles of one frame: a model. Tables are read from flash each time, as if nothing of them stayed in the cache."""
    lines = -(-frontend_flash_bytes(config) // CACHE_LINE_BYTES)
    return round(CYCLES_PER_INSTRUCTION * sum(frontend_instructions(config).values())) + lines * FLASH_LINE


def _units(config: FrontendConfig) -> dict[str, float]:
    """What the instructions of each part grow with."""
    half = config.fft_size // 2
    samples = dict.fromkeys(("samples", "window"), float(config.window_samples))
    channels = dict.fromkeys(("noise", "gain", "logarithm"), float(config.channels))
    # 13 instructions a bin, and 230 a channel, of which its square root takes most.
    return {**samples, **channels, "transform": half * math.log(half, 4), "bins": half,
            "filterbank": half + 18 * config.channels}  # fmt: skip
