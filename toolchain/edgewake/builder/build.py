"""`edgewake build`: a folder that is whole, within budget and proved equal, or the previous one untouched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewake import __version__
from edgewake.builder.climbing import check_rungs, climb_rungs
from edgewake.builder.converting import MODEL, convert_stage, ptq_stage
from edgewake.builder.facts import (
    budget_json,
    file_json,
    frontend_json,
    listed,
    measured_json,
    next_command,
    operator_json,
    scale_rows,
    slow_text,
    why_not_measured,
    width_of,
)
from edgewake.builder.feasibility import refuse
from edgewake.builder.firmware import emit_firmware
from edgewake.builder.golden import Golden, make_golden
from edgewake.builder.quantization import cost_of_quantization
from edgewake.builder.source import (
    Source,
    calibration_features,
    calibration_files,
    load_source,
)
from edgewake.builder.user_files import (
    FIRMWARE,
    REPORT,
    edited_firmware,
    keep_user_files,
    replace_build,
    restore_build,
    template_hashes,
    users_files,
)
from edgewake.cache import Cache, Entry
from edgewake.calibration import default_folder, load_golden
from edgewake.console import steps
from edgewake.evaluation.command import measured_part, stored_metrics
from edgewake.evaluation.report import render
from edgewake.io import check_output_folder, sha256_file, temporary_beside, write_bytes, write_json, write_text
from edgewake.runtime.deployed import DeployedModel, clip_record, quantization_json
from edgewake.runtime.model_manifest import ModelManifest
from edgewake.runtime.pipeline import PipelineParams
from edgewake.runtime.tflm import measure_arena
from edgewake.targets.arena import s3_scratch_bytes
from edgewake.targets.budget import Target, check_budget, enforce, get_target, static_ram
from edgewake.targets.esp32s3 import OperatorCost, analyse, check_operators
from edgewake.targets.firmware import MEMORY_HEADER
from edgewake.targets.operators import ESP_NN, ESP_TFLITE_MICRO, operator_names, operators_from_bytes

STEPS = ("convert", "calibrate", "arena", "budget", "parity", "firmware", "report")


def build(
    model: Path,
    out: Path,
    *,
    target: str = "esp32s3-nopsram",
    quantization: str = "qat",
    calibration: Path | None = None,
    cache: Path | None = None,
    release: bool = False,
) -> dict[str, Any]:
    """Convert, check, prove and write everything that a board needs; returns the report.

    Args:
        model: folder with weights.safetensors and model.json; config.yaml, metrics.json and the like are used
            where they are.
        out: becomes the build folder. What is there is replaced at the end and only on success; what was
            changed or added by hand in its firmware is taken over, generated files excepted.
        target: name of the chip.
        quantization: "qat" keeps learned ranges, "ptq" measures them on the calibration audio.
        calibration: folder of calibration data; None takes the one that comes with edgewake.
        cache: folder of the stages' results; see `cache.cache_folder`.
        release: write model.tflite and manifest.json into the model folder too, so that it runs by itself.

    Raises:
        BudgetError: the target allows less than the model needs; for a student of whole clips it lists every
            limit, and a report.json is written (see `targets.feasibility`).
        ParityError: a rung of the ladder differs.
        EdgewakeError: the model is missing or unusable, or `out` is no build folder.
    """
    chip = get_target(target)
    check_output_folder(out, (REPORT,), "build")
    place = Path(out).resolve()
    restore_build(place)
    record = clip_record(model)
    if record is not None:
        refuse(Path(model), record, chip, Path(out), calibration)
    source = load_source(model)
    kept = users_files(place)
    work = temporary_beside(place)
    work.mkdir()
    try:
        with steps(STEPS) as done:
            report = _Build(
                source=source,
                target=source.within(chip),
                quantization=quantization,
                calibration=calibration or default_folder(),
                cache=Cache(cache),
                work=work,
                out=Path(out),
                edits=edited_firmware(kept),
            ).run(done)
        keep_user_files(place, work, kept)
        replace_build(work, place)
        if release:
            for name in (MODEL, "manifest.json"):
                write_bytes(source.folder / name, (place / name).read_bytes())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


@dataclass(frozen=True)
class _Build:
    """One run; every method is a stage or a part of the report."""

    source: Source
    target: Target
    quantization: str
    calibration: Path
    cache: Cache
    work: Path
    out: Path
    edits: Sequence[Path]

    def run(self, done: Callable[[], None]) -> dict[str, Any]:
        learned = convert_stage(self.cache, self.source)
        done()
        calibrated = ptq_stage(self.cache, self.source, self.calibration)
        quantizations = self._quantizations(learned, calibrated)
        converted = learned if self.quantization == "qat" else calibrated
        deployed = self.source.converted(converted)
        tflite = converted.folder / MODEL
        model = tflite.read_bytes()
        done()
        arena = self._arena(tflite)
        done()
        params = self.source.pipeline(deployed)
        operators = operators_from_bytes(model)
        costs = analyse(operators)
        slow = check_operators(costs)
        ram = static_ram(self.source.frontend, params, arena["total_bytes"], self._own(MEMORY_HEADER))
        rows = check_budget(
            self.target,
            model_bytes=len(model),
            arena_bytes=arena["total_bytes"],
            ram=ram,
            costs=costs,
            config=self.source.frontend,
            frames_per_step=params.frames_per_step,
            width=width_of(deployed),
        )
        enforce(self.target, rows)
        done()
        rungs = self._ladder(converted, deployed, params)
        done()
        golden = self._golden(params, model)
        (self.work / MODEL).write_bytes(model)
        files = emit_firmware(
            self.work / FIRMWARE,
            model_bytes=model,
            frontend_config=self.source.frontend,
            params=params,
            golden=golden,
            operators=operator_names(operators),
            arena_bytes=arena["total_bytes"],
            phrase=str(deployed.info["phrase"]),
        )
        done()
        deployed.save(self.work)
        metrics = stored_metrics(self.source.folder, self.work / MODEL)
        manifest = self._manifest(deployed, params, arena, costs, metrics)
        manifest.save(self.work)
        report = {
            "version": 1,
            "phrase": manifest.phrase,
            "target": {"name": self.target.name, "summary": "ESP32-S3, one core at 240 MHz, no PSRAM"},
            "quantization": self.quantization,
            "cutoff": manifest.cutoff,
            "budget": [budget_json(row) for row in rows],
            "parity": rungs,
            "measured": measured_json(metrics),
            "not_measured": why_not_measured(self.source.folder),
            "quantizations": quantizations,
            "quantizations_text": "Smoothed probability of the int8 model against the float network with the "
            "same weights, over the calibration audio; decisions at the model's cutoff.",
            "operators": [
                frontend_json(self.source.frontend, params.frames_per_step),
                *(operator_json(cost) for cost in costs if cost.subgraph == 0),
            ],
            "slow_operators": [f"{cost.op} {cost.name}: {cost.path}" for cost in slow],
            "cost_text": "One step on the S3 by the cycle model of docs/firmware.md; " + slow_text(slow),
            "memory": [
                {"name": "model", "bytes": len(model), "how": "in flash, read in place"},
                *({"name": line.name, "bytes": line.bytes, "how": line.why} for line in ram),
            ],
            "arena": arena,
            "scales": scale_rows(deployed, model),
            "scales_text": "Every scale and zero point that training learned, and what the .tflite holds.",
            "golden": [golden.json(params.window)],
            "golden_text": "The board runs this audio through its frontend and model at boot and does not "
            "listen unless every value is the one shown here.",
            "versions": manifest.versions.model_dump(),
            "next": next_command(self.out),
            "files": [],
            "template": template_hashes(),
            "kept": [path.as_posix() for path in self.edits],
        }
        report["files"] = [file_json(self.work, path) for path in listed(self.work, files)]
        write_json(self.work / REPORT, report)
        write_text(self.work / "report.html", render(report))
        done()
        return report

    def _own(self, path: Path) -> Path | None:
        """A file of the firmware as edited by hand, or None."""
        return self.out / FIRMWARE / path if path in self.edits else None

    def _arena(self, tflite: Path) -> dict[str, int]:
        result = self.cache.get(
            "arena",
            {},
            lambda folder: {"host_bytes": measure_arena(tflite.read_bytes())},
            code=["edgewake.runtime.tflm"],
            inputs=[tflite],
        )
        host = int(result.record["host_bytes"])
        scratch = s3_scratch_bytes(tflite.read_bytes())
        # The board's arena is a multiple of 16, as its alignment is.
        return {
            "host_bytes": host,
            "s3_scratch_bytes": scratch,
            "total_bytes": -(-(host + scratch) // 16) * 16,
        }

    def _quantizations(self, learned: Entry, calibrated: Entry) -> list[dict[str, Any]]:
        """Learned and calibrated ranges, both against the float network."""
        found = calibration_features(self.calibration, self.source.frontend)
        return [
            cost_of_quantization(name, self.source.converted(stage), found, int(stage.record["bytes"]))
            for name, stage in (("qat, learned ranges", learned), ("ptq, calibrated ranges", calibrated))
        ]

    def _ladder(self, converted: Entry, deployed: DeployedModel, params: PipelineParams) -> list[dict[str, Any]]:
        tflite, windowed = converted.folder / MODEL, converted.folder / "model_windowed.tflite"
        config = self.source.frontend
        result = self.cache.get(
            "parity",
            {"frontend": config.hash(), "pipeline": asdict(params), **self.source.network},
            lambda folder: {
                "rungs": climb_rungs(
                    deployed,
                    tflite.read_bytes(),
                    params,
                    config,
                    self.calibration,
                    windowed=windowed.read_bytes(),
                )
            },
            code=["edgewake.builder.climbing"],
            inputs=[
                tflite,
                windowed,
                converted.folder / "deployed" / "weights.safetensors",
                *calibration_files(self.calibration),
            ],
        )
        rungs: list[dict[str, Any]] = result.record["rungs"]
        check_rungs(rungs)
        return rungs

    def _golden(self, params: PipelineParams, model: bytes) -> Golden:
        audio, _ = load_golden(self.calibration)
        return make_golden("calibration/golden.npz", audio, self.source.frontend, params, model)

    def _manifest(
        self,
        deployed: DeployedModel,
        params: PipelineParams,
        arena: Mapping[str, int],
        costs: Sequence[OperatorCost],
        metrics: Mapping[str, Any] | None,
    ) -> ModelManifest:
        model = self.work / MODEL
        info = deployed.info
        return ModelManifest.model_validate(
            {
                "version": 1,
                "phrase": str(info["phrase"]),
                "target": self.target.name,
                "quantization": self.quantization,
                "model": {"file": MODEL, "sha256": sha256_file(model), "bytes": model.stat().st_size},
                "frontend": {
                    "config": self.source.frontend.model_dump(mode="json"),
                    "hash": self.source.frontend.hash(),
                },
                "frames_per_step": deployed.frames_per_step,
                "input": {
                    **quantization_json(deployed.input),
                    "multiplier": params.multiplier,
                    "shift": params.shift,
                },
                "output": quantization_json(deployed.layers[-1].output),
                "receptive_field_steps": deployed.receptive_field_steps,
                "window": params.window,
                "cutoff": float(np.float32(params.cutoff)),
                "cutoff_sum": params.cutoff_sum,
                "refractory_s": float(info["refractory_s"]),
                "refractory_steps": params.refractory_steps,
                "arena": dict(arena),
                "operators": [operator_json(cost) for cost in costs if cost.subgraph == 0],
                "measured": measured_part(metrics) if metrics else {},
                "versions": {"edgewake": __version__, "tflm": ESP_TFLITE_MICRO, "esp_nn": ESP_NN},
            }
        )
