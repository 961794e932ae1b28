"""A build of a model that takes whole clips ends with an error that lists every limit of the target that it breaks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgewake import __version__, conversion
from edgewake.builder.report import budget_json
from edgewake.config import WakewordConfig
from edgewake.conversion.chain import quantized
from edgewake.errors import BudgetError, EdgewakeError
from edgewake.evaluation.tracks import HOP_S
from edgewake.io import read_json, write_bytes, write_json
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.pipeline import PipelineParams
from edgewake.runtime.streaming import INPUT_NAME
from edgewake.runtime.tflite_file import read_tflite, write_tflite
from edgewake.runtime.tflm import measure_arena
from edgewake.targets.arena import arena_json, model_buffers, planned_bytes
from edgewake.targets.budget import BudgetRow, Target, check_budget, static_ram
from edgewake.targets.esp32s3 import COPY_4, analyse
from edgewake.targets.frontend import frontend_cycles
from edgewake.targets.operators import operators_from_bytes

CALIBRATION_CLIPS = 32
LARGEST_ARENA = 8 << 20
FRAMES_PER_STEP = 3


def refuse(
    folder: Path, record: dict[str, Any], target: Target, out: Path, calibration: Path | None = None
) -> NoReturn:
    """Measure a student of whole clips, write report.json and the measured .tflite, and raise.

    The BudgetError lists every limit that is broken, and names the report. `folder` and `record` are what
    `export_clip_student` wrote. Where `out` holds a board's files, they stay, and the report goes to `out`-refused.
    """
    config, architecture = WakewordConfig.load(folder / "config.yaml"), record["architecture"]
    target = replace(target, limits=config.target)
    model, refused = quantize(folder, record, config, calibration)
    figures, budget = measure(model, record, config, target, refused)
    broken = [f"{row.name} needs {row.texts[0]} of {row.texts[1]}" for row in budget if not row.ok]
    if not budget[-1].ok:
        broken[-1] += f", with a clip every {HOP_S} s"
    if figures["missing"]:
        names = ", ".join(f"{name} ({count})" for name, count in figures["missing"].items())
        broken.append(f"esp-tflite-micro lacks {names}")
    broken += figures["structural"]
    path = out / "report.json"
    if path.is_file() and read_json(path, "report").get("feasible") is not False:
        path = out.with_name(f"{out.name}-refused") / path.name
    name = "model_float.tflite" if refused else "model_int8.tflite"
    write_bytes(path.parent / name, model)
    report = {
        "version": 1,
        "feasible": False,
        "edgewake": __version__,
        **{key: record[key] for key in ("architecture", "phrase", "options")},
        "target": {"name": target.name, "summary": target.summary},
        "quantization": "none, float32" if refused else "ptq, int8",
        "model": name,
        "files": [{"path": name}],
        "broken": broken,
        "budget": [budget_json(row) | {"ok": row.ok} for row in budget],
        **figures,
    }
    write_json(path, report)
    raise BudgetError(
        f"{architecture} does not run on {target.name}: {'; '.join(broken)}. Train "
        f"model.architecture: tiny_conv for it, or run model.onnx on a host ({path})"
    )


def quantize(
    folder: Path, record: dict[str, Any], config: WakewordConfig, calibration: Path | None
) -> tuple[bytes, str]:
    """The model in int8 with ranges from calibration audio, and ""; or in float32, and why not in int8."""
    data = (folder / record["tflite"]["file"]).read_bytes()
    loops = sum(operator.name == "WHILE" for graph in read_tflite(data) for operator in graph.operators)
    if loops:
        # Its calibration fails on tensors inside a loop ("Tensor data is null"): on nearly all of them.
        return data, f"ai-edge-quantizer does not go into loops over time, of which there are {loops}"
    clips = conversion.calibration_clips(config, calibration)
    spread = np.linspace(0, len(clips) - 1, min(len(clips), CALIBRATION_CLIPS)).astype(int)
    order, shape = record["tflite"]["order"], tuple(record["tflite"]["input_shape"])
    inputs = [{INPUT_NAME: conversion.tflite_input(clip, order, shape)} for clip in clips[spread].numpy()]
    return write_tflite(read_tflite(quantized(data, inputs=inputs))), ""


def measure(
    model: bytes, record: dict[str, Any], config: WakewordConfig, target: Target, int8_refused: str
) -> tuple[dict[str, Any], list[BudgetRow]]:
    """What a .tflite takes on a target: figures of the report, and those that have limits.

    MACs and cycles (by the model of docs/firmware.md) are of a clip that is computed from its beginning every `hop_s`;
    `structural` are reasons that no smaller size would change.
    """
    costs = analyse(operators_from_bytes(model))
    lacking = [cost.layer.op for cost in costs if not cost.supported]
    given, frontend = record["input"], config.frontend
    runs, copies = _loops(model, int(given["frames"]))
    macs = sum(runs[cost.layer.subgraph] * cost.layer.macs for cost in costs)
    cycles = sum(runs[cost.layer.subgraph] * cost.cycles for cost in costs) + copies
    arena = _arena(model)
    # The parameters' values do not matter to the memory that they take.
    window, output = config.evaluation.window, Quantization(np.float32(1), 0)
    params = PipelineParams(1, 1, 0, window, 1, 1, output, FRAMES_PER_STEP, frontend.channels)
    ram = static_ram(frontend, params, arena["total_bytes"])
    share = 100 * (cycles / HOP_S + 1000 * frontend_cycles(frontend) / frontend.step_ms) / target.cpu_hz
    smaller = "try a smaller " + ("model.hidden or model.layers" if "hidden" in record["options"] else "data.n_mels")
    rows = check_budget(target, model_bytes=len(model), ram=ram, compute=share, remedy=smaller)
    structural = [
        f"it takes {float(given['seconds']):g} s of {given['features']} at a time, where the firmware gives a "
        f"model {FRAMES_PER_STEP * frontend.step_ms} ms of the board's own features and keeps its state"
    ]
    if int8_refused:
        structural.append(f"no int8 form: {int8_refused}")
    figures = {
        "missing": {name: lacking.count(name) for name in dict.fromkeys(lacking)},
        "structural": structural,
        "int8_refused": int8_refused,
        "model_bytes": len(model),
        "weights": int(record["parameters"]),
        "arena": arena,
        "macs_per_clip": macs,
        "macs_per_second": round(macs / HOP_S),
        "cycles_per_clip": cycles,
        "hop_s": HOP_S,
    }
    return figures, rows


def _loops(model: bytes, frames: int) -> tuple[dict[int, int], int]:
    """How often each subgraph runs in one inference, and cycles of WHILE, which copies its state twice a round."""
    main, *others = read_tflite(model)
    runs, copies = {0: 1} | dict.fromkeys(range(1, len(others) + 1), 0), 0
    for operator in main.operators:
        if operator.name == "WHILE" and operator.options is not None:
            runs[operator.options[1]["CondSubgraphIndex"]] = frames + 1
            runs[operator.options[1]["BodySubgraphIndex"]] = frames
            size = sum(4 * math.prod(main.tensors[index].shape) for index in operator.inputs)
            copies += frames * 2 * size // 4 * COPY_4
    return runs, copies


def _arena(model: bytes) -> dict[str, Any]:
    """Bytes of arena: TFLM's own need and ESP-NN's scratch; where TFLM refuses, its plan of tensors."""
    try:
        host, how = measure_arena(model, LARGEST_ARENA, invoke=False), "measured in TFLM on the host"
    except EdgewakeError as error:
        host, how = planned_bytes(model_buffers(model)), f"tensors alone, since {error}"
    return arena_json(model, host) | {"how": how}
