"""What a target allows, and a build's figures beside it; a figure over its limit is an error with value and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgewake.config.defaults import TargetConfig
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import BudgetError, ConfigError
from edgewake.runtime.network.source import Network
from edgewake.runtime.pipeline.native import pipeline_bytes, selftest_bytes
from edgewake.runtime.pipeline.params import PipelineParams
from edgewake.targets.esp32s3 import CPU_HZ, OperatorCost
from edgewake.targets.firmware import MEMORY_HEADER, firmware_sizes
from edgewake.targets.frontend import frontend_cycles


@dataclass(frozen=True)
class Target:
    """A chip in one configuration; the defaults of `TargetConfig` are its limits, a project's may be lower."""

    name: str
    summary: str
    cpu_hz: int
    limits: TargetConfig


_NO_PSRAM = Target("esp32s3-nopsram", "ESP32-S3, one core at 240 MHz, no PSRAM", CPU_HZ, TargetConfig())
TARGETS = {_NO_PSRAM.name: _NO_PSRAM}


def get_target(name: str) -> Target:
    """The target of that name; a ConfigError names those that there are."""
    if name not in TARGETS:
        raise ConfigError(f"unknown target {name!r}; known targets: {', '.join(TARGETS)}")
    return TARGETS[name]


class RamLine(NamedTuple):
    """One block of RAM that the firmware holds for as long as it runs."""

    name: str
    bytes: int
    how: str


def static_ram(
    config: FrontendConfig,
    params: PipelineParams,
    arena_bytes: int,
    header: Path | None = None,
    network: Network | None = None,
) -> list[RamLine]:
    """Every block of RAM that the firmware holds: static memory, and what drivers allocate.

    Sizes come from the firmware's memory.h (`header`: a project's own) and from the C core's size queries on
    this host, whose pointers are larger than the board's. Golden vectors and weights are constants in flash. A
    generated `network` has neither arena nor interpreter.
    """
    sizes = firmware_sizes(header)
    block = sizes["EW_BLOCK_SAMPLES"]
    core = pipeline_bytes(config, params)
    test = selftest_bytes(config, params) - core
    kept = sizes["EW_WAKEWORD_BYTES"] + sizes["EW_TIMING_BYTES"]
    dma = sizes["EW_DMA_DESCRIPTORS"] * (4 * block + 12)
    model = [
        RamLine("arena", arena_bytes, "tensors, state and ESP-NN scratch of the model"),
        RamLine("interpreter", sizes["EW_INTERPRETER_BYTES"], "TFLM's interpreter and operator resolver"),
    ]
    samples, stack = sizes["EW_RING_SAMPLES"], sizes["EW_INFERENCE_STACK_BYTES"]
    if network is not None:
        model = [RamLine("network", network.state_bytes, "rings of state, and buffers between layers")]
        samples, stack = sizes["EW_NETWORK_RING_SAMPLES"], sizes["EW_NETWORK_STACK_BYTES"]
    return [
        *model,
        RamLine("frontend and pipeline", core, "frontend state, one step of features, smoothing window"),
        RamLine("golden buffers", test, "one frame for the boot test; the vectors are in flash"),
        RamLine("wake word", kept, "which one runs, and measured times"),
        RamLine("ring buffer", 2 * samples, "samples between capture and inference"),
        RamLine("capture stack", sizes["EW_CAPTURE_STACK_BYTES"], "task on core 0"),
        RamLine("inference stack", stack, "task on core 1"),
        RamLine("task control", 2 * sizes["EW_TASK_CONTROL_BYTES"], "FreeRTOS, both tasks"),
        RamLine("sample blocks", (4 + 2 + 2) * block, "10 ms: slots, and samples on either side"),
        RamLine("I2S DMA", dma, "buffers and descriptors, allocated by the driver"),
    ]


def quantity(value: float, unit: str) -> str:
    """A value as people read it: `41,232 B` or `25.0 %`."""
    return f"{value:,.0f} B" if unit == "B" else f"{value:.1f} %"


@dataclass(frozen=True)
class BudgetRow:
    """One figure (model, arena, static RAM or compute) beside its limit, in B or % of one core."""

    name: str
    value: float
    limit: float
    unit: str
    remedy: str

    @property
    def ok(self) -> bool:
        """The value is within its limit."""
        return self.value <= self.limit

    @property
    def texts(self) -> tuple[str, str]:
        """Value and limit as people read them."""
        return quantity(self.value, self.unit), quantity(self.limit, self.unit)


def compute_share(target: Target, costs: list[OperatorCost], config: FrontendConfig, frames_per_step: int) -> float:
    """Percent of one core for a model that takes a step every `frames_per_step` frames, frontend included."""
    cycles = sum(cost.cycles for cost in costs if cost.layer.subgraph == 0) + frames_per_step * frontend_cycles(config)
    return 100 * cycles / (target.cpu_hz * frames_per_step * config.step_ms / 1000)


def check_budget(
    target: Target,
    *,
    model_bytes: int,
    ram: Sequence[RamLine],
    compute: float,
    width: int | None = None,
    remedy: str = "",
) -> list[BudgetRow]:
    """The four figures that the budget limits, from `static_ram` and `compute` in percent of one core.

    Their remedy is a `width` that may fit, derived from the model's channels, or `remedy`.
    """
    limits = target.limits
    arena, *others = ram
    buffer = max(others, key=lambda line: line.bytes)
    or_smaller = f", or a smaller {buffer.name} in {MEMORY_HEADER}"
    # Weights and their products grow with the width's square, buffers with the width.
    figures = (
        ("model", model_bytes, limits.model_bytes, "B", 0.5, ""),
        (arena.name, arena.bytes, limits.arena_bytes, "B", 1.0, ""),
        ("static RAM", sum(line.bytes for line in ram), limits.ram_bytes, "B", 1.0, or_smaller),
        ("compute", compute, 100 * limits.cpu_share, "%", 0.5, ""),
    )
    return [
        BudgetRow(name, value, limit, unit, remedy or _narrower(width, value / limit, power) + more)
        for name, value, limit, unit, power, more in figures
    ]


def enforce(target: Target, rows: Sequence[BudgetRow]) -> None:
    """Raise BudgetError for the first figure over its limit, such as
    `arena needs 41,232 B; esp32s3-nopsram allows 40,960 B: try model.width: 48`.
    """
    for row in rows:
        if not row.ok:
            needed, allowed = row.texts
            raise BudgetError(f"{row.name} needs {needed}; {target.name} allows {allowed}: {row.remedy}")


def _narrower(width: int | None, excess: float, power: float) -> str:
    """The widest model that may fit: of a multiple of 16 channels, and narrower by `excess ** power`."""
    fitting = 0 if width is None else int(min(width - 1, width / max(excess, 1.0) ** power)) // 16 * 16
    return f"try model.width: {fitting}" if fitting else "try fewer or shorter model.kernel_sizes"
