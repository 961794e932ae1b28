"""`edgewake build` leaves a folder that is complete, within budget and passes the parity checks, or the last one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgewake import __version__
from edgewake.builder.clip_models import refuse
from edgewake.builder.convert import (
    ModelFolder,
    cached_conversion,
    calibration_features,
    cost_of_quantization,
    load_model_folder,
)
from edgewake.builder.firmware import GENERATED, IMAGE, emit_firmware, make_golden
from edgewake.builder.idf import build_with_idf, require_idf
from edgewake.builder.page import render
from edgewake.builder.parity import cached_checks, require_parity
from edgewake.builder.report import (
    REPORT_VERSION,
    budget_json,
    files_json,
    frontend_json,
    instructions_json,
    operators_json,
    scales_json,
    stored_peers,
    why_not_measured,
)
from edgewake.builder.user_files import (
    FIRMWARE,
    PAGE,
    REPORT,
    edited_firmware,
    keep_user_files,
    replace_build,
    restore_build,
    template_hashes,
    users_files,
)
from edgewake.cache import Cache
from edgewake.calibration import default_folder, load_golden
from edgewake.console import steps
from edgewake.conversion.convert import MODEL, Method
from edgewake.evaluation.evaluate import measured_part, stored_metrics
from edgewake.io import check_output_folder, sha256_file, temporary_beside, write_bytes, write_json, write_text
from edgewake.runtime.deployed import clip_record, quantization_json
from edgewake.runtime.model_manifest import VERSION as MANIFEST_VERSION
from edgewake.runtime.model_manifest import ModelManifest
from edgewake.runtime.network.compiled import Backend
from edgewake.runtime.network.source import read_network
from edgewake.runtime.tflm import measure_arena
from edgewake.targets.arena import arena_json
from edgewake.targets.budget import RamLine, Target, check_budget, compute_share, enforce, get_target, static_ram
from edgewake.targets.esp32s3 import analyse, check_operators, network_costs
from edgewake.targets.firmware import MEMORY_HEADER
from edgewake.targets.frontend import frontend_flash_bytes
from edgewake.targets.operators import ESP_NN, ESP_TFLITE_MICRO, operators_from_bytes

STEPS = ("convert", "calibrate", "arena", "budget", "parity", "firmware", "report")


def build(
    model: Path,
    out: Path,
    *,
    target: str = "esp32s3-nopsram",
    quantization: Method = "qat",
    backend: Backend = "tflm",
    calibration: Path | None = None,
    cache: Path | None = None,
    release: bool = False,
    idf: bool = False,
) -> dict[str, Any]:
    """Convert a model, check its budget and parity, and write everything that a board needs; returns the report.

    Args:
        model: folder with weights.safetensors and model.json; config.yaml and metrics.json are used where they are.
        out: becomes the build folder. What is there is replaced at the end and only on success; what was
            changed or added by hand in its firmware is taken over, generated files excepted.
        quantization: "qat" keeps learned ranges, "ptq" measures them on the calibration audio.
        backend: what runs the model on the board: TFLM's interpreter, or C that is generated for it.
        calibration: folder of calibration data; None takes the one that comes with edgewake.
        release: write model.tflite and manifest.json into the model folder too, so that it runs by itself.
        idf: build the firmware with the installed ESP-IDF at the end, and report the flash and RAM of its map file.

    Raises:
        BudgetError: the target allows less than the model needs; for a student of whole clips it lists every
            limit, and a report.json is written (see `clip_models`).
        ParityError: a parity check fails.
        EdgewakeError: the model is missing or unusable, or `out` is no build folder.
    """
    if idf:
        require_idf()
    chip = get_target(target)
    check_output_folder(out, (REPORT,), "build")
    place = Path(out).resolve()
    restore_build(place)
    record = clip_record(model)
    if record is not None:
        refuse(Path(model), record, chip, Path(out), calibration)
    source = load_model_folder(model)
    work = temporary_beside(place)
    work.mkdir()
    try:
        with steps(STEPS) as done:
            chip, audio = replace(chip, limits=source.limits), calibration or default_folder()
            report = _make(source, chip, quantization, backend, audio, Cache(cache), work, Path(out), done)
        keep_user_files(place, work)
        replace_build(work, place)
        if release:
            for name in (MODEL, "manifest.json"):
                write_bytes(source.folder / name, (place / name).read_bytes())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if idf:
        report["idf"] = build_with_idf(place / FIRMWARE, report["memory"])
        write_json(place / REPORT, report)
        write_text(place / PAGE, render(report))
    return report


def _make(
    source: ModelFolder,
    target: Target,
    quantization: Method,
    backend: Backend,
    calibration: Path,
    cache: Cache,
    work: Path,
    out: Path,
    done: Callable[[], None],
) -> dict[str, Any]:
    """Every step of a build into `work`, whose files will lie in `out`; `done` is called after each of `STEPS`."""
    learned = cached_conversion(cache, source, "qat", calibration)
    done()
    calibrated = cached_conversion(cache, source, "ptq", calibration)
    features = calibration_features(calibration, source.frontend)
    names = {"qat, learned ranges": learned, "ptq, calibrated ranges": calibrated}
    quantizations = [cost_of_quantization(name, form, features) for name, form in names.items()]
    converted = learned if quantization == "qat" else calibrated
    deployed, model = converted.deployed, converted.model
    params = source.pipeline(deployed)
    done()

    def measured(_: Path) -> dict[str, int]:
        return {"host_bytes": measure_arena(model)}

    entry = cache.get("arena", {}, measured, code=["edgewake.runtime.tflm"], inputs=[converted.folder / MODEL])
    arena = arena_json(model, int(entry.record["host_bytes"]))
    done()
    operators = operators_from_bytes(model)
    network = read_network(model) if backend == "c" else None
    costs = network_costs(operators, frontend_flash_bytes(source.frontend)) if network else analyse(operators)
    slow = check_operators(costs)
    edits = edited_firmware(users_files(out.resolve()))
    header = out / FIRMWARE / MEMORY_HEADER if MEMORY_HEADER in edits else None
    ram = static_ram(source.frontend, params, arena["total_bytes"], header, network)
    model_bytes = network.constant_bytes if network else len(model)
    compute = compute_share(target, costs, source.frontend, params.frames_per_step)
    width = None if deployed.layers[0].weight is None else len(deployed.layers[0].weight)
    budget = check_budget(target, model_bytes=model_bytes, ram=ram, compute=compute, width=width)
    enforce(target, budget)
    done()
    checks = cached_checks(cache, source, converted, params, calibration)
    require_parity(checks)
    done()
    golden = make_golden("calibration/golden.npz", load_golden(calibration)[0], source.frontend, params, model)
    write_bytes(work / MODEL, model)
    firmware = emit_firmware(
        work / FIRMWARE,
        model_bytes=model,
        frontend_config=source.frontend,
        params=params,
        golden=golden,
        operators=[operator.op for operator in operators],
        arena_bytes=arena["total_bytes"],
        phrase=str(deployed.info["phrase"]),
        network=network,
        limits=target.limits,
    )
    done()
    deployed.save(work)
    metrics = stored_metrics(source.folder, work / MODEL)
    manifest = ModelManifest.model_validate(
        {
            "version": MANIFEST_VERSION,
            "phrase": deployed.info["phrase"],
            "target": target.name,
            "quantization": quantization,
            "model": {"file": MODEL, "sha256": sha256_file(work / MODEL), "bytes": len(model)},
            "frontend": {"config": source.frontend.model_dump(mode="json"), "hash": source.frontend.hash()},
            "frames_per_step": deployed.frames_per_step,
            "input": {**quantization_json(deployed.input), "multiplier": params.multiplier, "shift": params.shift},
            "output": quantization_json(deployed.output),
            "receptive_field_steps": deployed.receptive_field_steps,
            "window": params.window,
            "cutoff": float(np.float32(params.cutoff)),
            "cutoff_sum": params.cutoff_sum,
            "refractory_s": float(deployed.info["refractory_s"]),
            "refractory_steps": params.refractory_steps,
            "arena": arena,
            "operators": operators_json(costs),
            "measured": measured_part(metrics) if metrics else {},
            "versions": {"edgewake": __version__, "tflm": ESP_TFLITE_MICRO, "esp_nn": ESP_NN},
        }
    )
    manifest.save(work)
    report = {
        "version": REPORT_VERSION,
        "phrase": manifest.phrase,
        "target": {"name": target.name, "summary": target.summary},
        "quantization": quantization,
        "backend": backend,
        "cutoff": manifest.cutoff,
        "budget": [budget_json(row) for row in budget],
        "parity": checks,
        "measured": metrics,
        "peers": stored_peers(source.folder, work / MODEL),
        "not_measured": why_not_measured(source.folder),
        "quantizations": quantizations,
        "operators": [frontend_json(source.frontend, params.frames_per_step), *operators_json(costs)],
        "instructions": instructions_json(source.frontend),
        "slow_operators": [f"{cost.layer.op} {cost.layer.name}: {cost.path}" for cost in slow],
        "memory": [line._asdict() for line in (RamLine("model", model_bytes, "in flash, read in place"), *ram)],
        "arena": arena,
        "scales": scales_json(deployed, model),
        "golden": [golden.json(params.window)],
        "versions": manifest.versions.model_dump(),
        "next": f"cd {out / FIRMWARE} && idf.py set-target esp32s3 build flash monitor\n"
        f"edgewake flash {out} --port PORT --model-only  # instead, where the board runs edgewake already",
        "files": files_json(work, [path for path in firmware if path == IMAGE or path.is_relative_to(GENERATED)]),
        "template": template_hashes(work / FIRMWARE, [path for path in firmware if path != IMAGE]),
        "kept": [path.as_posix() for path in edits],
    }
    write_json(work / REPORT, report)
    write_text(work / PAGE, render(report))
    done()
    return report
