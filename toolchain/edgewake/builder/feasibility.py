"""Why a student of whole clips does not run on a target: every limit that it breaks, each with its number."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgewake import __version__
from edgewake.builder.report import budget_json
from edgewake.builder.source import within
from edgewake.config import WakewordConfig
from edgewake.conversion.chain import load_quantizer, quietly
from edgewake.conversion.clip_export import calibration_clips, tflite_input
from edgewake.errors import BudgetError, EdgewakeError
from edgewake.evaluation.scorers import HOP_S
from edgewake.io import read_json, write_bytes, write_json
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.pipeline import pipeline_params
from edgewake.runtime.tflite_file import SIGNATURE, read_tflite, write_tflite
from edgewake.runtime.tflm import measure_arena
from edgewake.targets.arena import model_buffers, planned_bytes, s3_scratch_bytes
from edgewake.targets.budget import BudgetRow, Target, static_ram
from edgewake.targets.esp32s3 import COPY_4, analyse, frontend_cycles
from edgewake.targets.operators import operators_from_bytes

CALIBRATION_CLIPS = 32
LARGEST_ARENA = 8 << 20


@dataclass(frozen=True)
class Feasibility:
    """What a student would take on a target.

    Attributes:
        rows: model, arena, static RAM and compute, each beside its limit.
        missing: operators that the target's TFLM lacks, with how often they occur.
        structural: what no smaller size would change.
        int8_refused: why there is no int8 form, or "" where there is one.
        model_bytes: of what was measured, int8 or float.
        weights: numbers that were learned.
        arena: host_bytes (TFLM's need on this host), s3_scratch_bytes, and whether TFLM could be asked.
        macs_per_clip: multiply-accumulates of one clip.
        macs_per_second: of audio, when a clip is judged anew every `hop_s` from its beginning.
        cycles_per_clip: by the cycle model of docs/firmware.md.
    """

    rows: list[BudgetRow]
    missing: dict[str, int]
    structural: list[str]
    int8_refused: str
    model_bytes: int
    weights: int
    arena: dict[str, Any]
    macs_per_clip: int
    macs_per_second: float
    cycles_per_clip: int
    hop_s: float = HOP_S

    def broken(self) -> list[str]:
        """One phrase for every limit that is broken."""
        found = [
            f"{row.name} needs {row.text(row.value)} of {row.text(row.limit)}"
            + (f", with a clip every {self.hop_s} s" if row.name == "compute" else "")
            for row in self.rows
            if not row.ok
        ]
        if self.missing:
            names = ", ".join(f"{name} ({count})" for name, count in self.missing.items())
            found.append(f"esp-tflite-micro lacks {names}")
        return found + self.structural


def refuse(
    folder: Path, record: dict[str, Any], target: Target, out: Path, calibration: Path | None = None
) -> NoReturn:
    """Measure the student in `folder` against `target`, write report.json, and raise.

    Args:
        folder: what `export_clip_student` wrote.
        record: its model.json.
        target: whose limits count.
        out: of the build. Where it holds a board's files, they stay, and the report goes beside it.
        calibration: folder of calibration data; None takes the one that comes with edgewake.

    Raises:
        BudgetError: always; it lists every limit that is broken, and names the report.
    """
    config = WakewordConfig.load(folder / "config.yaml")
    model, refused = quantize(folder, record, config, calibration)
    found = judge(model, record, config, within(target, config.target), refused)
    place = report_folder(Path(out))
    name = "model_float.tflite" if refused else "model_int8.tflite"
    write_bytes(place / name, model)
    broken = found.broken()
    report = {
        "version": 1,
        "feasible": False,
        "edgewake": __version__,
        "architecture": record["architecture"],
        "phrase": record["phrase"],
        "options": record["options"],
        "target": {"name": target.name, "summary": target.summary},
        "quantization": "none, float32" if refused else "ptq, int8",
        "model": name,
        "files": [{"path": name}],
        "broken": broken,
        "budget": [budget_json(row) | {"ok": row.ok} for row in found.rows],
        **{name: value for name, value in asdict(found).items() if name != "rows"},
    }
    write_json(place / "report.json", report)
    raise BudgetError(
        f"{record['architecture']} does not run on {target.name}: {'; '.join(broken)}. Train "
        f"model.architecture: tiny_conv for it, or run model.onnx on a host ({place / 'report.json'})"
    )


def report_folder(out: Path) -> Path:
    """`out`, or `out`-refused beside it where `out` holds something else than such a report."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return out
    report = out / "report.json"
    if report.is_file():
        value = read_json(report, "report")
        if isinstance(value, dict) and value.get("feasible") is False:
            return out
    return out.with_name(f"{out.name}-refused")


def quantize(
    folder: Path, record: dict[str, Any], config: WakewordConfig, calibration: Path | None = None
) -> tuple[bytes, str]:
    """The student in int8 with ranges from calibration audio, and ""; or in float32, and why not in int8.

    Raises:
        MissingDependencyError: the extra `convert` is not installed.
    """

    data = (folder / record["tflite"]["file"]).read_bytes()
    graphs = read_tflite(data)
    loops = sum(operator.name == "WHILE" for graph in graphs for operator in graph.operators)
    if loops:
        # Its calibration fails on tensors inside a loop ("Tensor data is null"): on nearly all of them.
        return data, f"ai-edge-quantizer does not go into loops over time, of which there are {loops}"
    clips = calibration_clips(config, calibration)
    spread = np.linspace(0, len(clips) - 1, min(len(clips), CALIBRATION_CLIPS)).astype(int)
    order, shape = record["tflite"]["order"], tuple(record["tflite"]["input_shape"])
    inputs = [{"features": tflite_input(clip, order, shape)} for clip in clips[spread].numpy()]
    quantizer = load_quantizer(data)
    with quietly():
        ranges = quantizer.calibrate({SIGNATURE: inputs}, num_threads=1)
        made = quantizer.quantize(ranges, enable_progress_report=False)
    return write_tflite(read_tflite(bytes(made.quantized_model))), ""


def judge(
    model: bytes, record: dict[str, Any], config: WakewordConfig, target: Target, int8_refused: str = ""
) -> Feasibility:
    """A student's .tflite against a target's limits."""
    costs = analyse(operators_from_bytes(model))
    missing: dict[str, int] = {}
    for cost in costs:
        if not cost.supported:
            missing[cost.op] = missing.get(cost.op, 0) + 1
    frames = int(record["input"]["frames"])
    times = _times(model, frames)
    macs = sum(times[cost.subgraph] * cost.macs for cost in costs)
    cycles = sum(times[cost.subgraph] * cost.cycles for cost in costs) + _loop_copies(model, frames)
    arena = _arena(model)
    budget = target.budget
    # Only the memory counts here, and only the window decides it.
    settings = {"window": config.evaluation.window, "cutoff_sum": 1, "refractory_steps": 1}
    params = pipeline_params(Quantization(np.float32(26 / 255), -128), settings, config.frontend, 3)
    ram = static_ram(config.frontend, params, arena["total_bytes"])
    step = config.frontend.step_ms / 1000
    share = 100 * (cycles / HOP_S + frontend_cycles(config.frontend) / step) / target.cpu_hz
    smaller = "model.hidden or model.layers" if "hidden" in record["options"] else "data.n_mels"
    figures = (
        ("model", len(model), budget.model_bytes, "B"),
        ("arena", arena["total_bytes"], budget.arena_bytes, "B"),
        ("static RAM", sum(line.bytes for line in ram), budget.static_ram_bytes, "B"),
        ("compute", share, 100 * budget.compute, "%"),
    )
    return Feasibility(
        rows=[BudgetRow(name, value, limit, unit, f"try a smaller {smaller}") for name, value, limit, unit in figures],
        missing=missing,
        structural=_structural(record, config, int8_refused),
        int8_refused=int8_refused,
        model_bytes=len(model),
        weights=int(record["parameters"]),
        arena=arena,
        macs_per_clip=macs,
        macs_per_second=round(macs / HOP_S),
        cycles_per_clip=cycles,
    )


def _structural(record: dict[str, Any], config: WakewordConfig, int8_refused: str) -> list[str]:
    seconds = float(record["input"]["seconds"])
    step_ms = 3 * config.frontend.step_ms
    found = [
        f"it takes {seconds:g} s of {record['input']['features']} at a time, where the firmware gives a "
        f"model {step_ms} ms of the board's own features and keeps its state"
    ]
    return found + ([f"no int8 form: {int8_refused}"] if int8_refused else [])


def _times(model: bytes, frames: int) -> dict[int, int]:
    """How often each subgraph runs in one inference: loops go over all frames."""
    graphs = read_tflite(model)
    times = {0: 1} | dict.fromkeys(range(1, len(graphs)), 0)
    for operator in graphs[0].operators:
        if operator.name == "WHILE" and operator.options is not None:
            times[operator.options[1]["CondSubgraphIndex"]] = frames + 1
            times[operator.options[1]["BodySubgraphIndex"]] = frames
    return times


def _loop_copies(model: bytes, frames: int) -> int:
    """Cycles of TFLM's WHILE, which copies the whole state into and out of the body in every round."""
    graph = read_tflite(model)[0]
    cycles = 0
    for operator in graph.operators:
        if operator.name == "WHILE":
            size = sum(4 * math.prod(graph.tensors[index].shape) for index in operator.inputs)
            cycles += frames * 2 * size // 4 * COPY_4
    return cycles


def _arena(model: bytes) -> dict[str, Any]:
    """Bytes of arena: TFLM's own need and ESP-NN's scratch; where TFLM refuses, its plan of tensors."""
    scratch = s3_scratch_bytes(model)
    try:
        host, how = measure_arena(model, LARGEST_ARENA, invoke=False), "measured in TFLM on the host"
    except EdgewakeError as error:
        host, how = planned_bytes(model_buffers(model)), f"tensors alone, since {error}"
    total = -(-(host + scratch) // 16) * 16
    return {"host_bytes": host, "s3_scratch_bytes": scratch, "total_bytes": total, "how": how}
