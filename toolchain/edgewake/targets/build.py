"""`edgewake build`: a folder that is whole, within budget and proved equal, or the previous one untouched."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgewake import __version__
from edgewake.calibration import default_folder, load_features, load_golden
from edgewake.calibration import load_manifest as load_calibration
from edgewake.console import console, error_console, steps, table
from edgewake.conversion.tflm import measure_arena
from edgewake.errors import EdgewakeError, ParityError
from edgewake.evaluation.command import measured_part, stored_metrics
from edgewake.evaluation.detector import pipeline_params as manifest_params
from edgewake.evaluation.quantization import cost_of_quantization
from edgewake.evaluation.report import quantity, render
from edgewake.fileio import read_json, sha256_file, write_bytes, write_json, write_text
from edgewake.frontend import FrontendConfig, features
from edgewake.models.deployed import DeployedModel, quantization_json
from edgewake.parity.scales import learned_scales, stored_scales
from edgewake.pipeline import PipelineParams, derive_quantizer
from edgewake.stages import StageResult, Stages, swap_in
from edgewake.targets.budget import BudgetRow, Target, check_budget, enforce, get_target, static_ram
from edgewake.targets.esp32s3 import analyse, check_operators, frontend_cycles, s3_scratch_bytes
from edgewake.targets.firmware import emit_firmware
from edgewake.targets.golden import Golden, make_golden
from edgewake.targets.manifest import Manifest, find_manifest, load_manifest, read_model
from edgewake.targets.operators import operator_names, operators_from_bytes
from edgewake.targets.tflm import ESP_NN, ESP_TFLITE_MICRO

if TYPE_CHECKING:
    from edgewake.parity.ladder import RungResult

REPORT = "report.json"
MODEL = "model.tflite"
FIRMWARE = "firmware"
WEIGHTS = ("weights.safetensors", "model.json")
# What idf.py leaves in the project and would have to make again.
KEPT_IN_FIRMWARE = ("build", "managed_components", "sdkconfig", "dependencies.lock")
CONVERSION_TOOLS = ("torch", "onnx", "onnx2tf", "tensorflow", "tf-keras", "ai-edge-quantizer", "numpy")
LADDER_CODE = ("conversion", "frontend", "models", "parity", "pipeline", "_native", "targets/build.py")
STEPS = ("convert", "calibrate", "arena", "budget", "parity", "firmware", "report")


@dataclass(frozen=True)
class Source:
    """A model folder: weights with their learned ranges, and how the model detects.

    Attributes:
        folder: holds weights.safetensors and model.json.
        deployed: both of them.
        frontend: from config.yaml, or the defaults.
    """

    folder: Path
    deployed: DeployedModel
    frontend: FrontendConfig

    @property
    def network(self) -> dict[str, Any]:
        """What conversion depends on beside the weights: model.json without its info (the cutoff)."""
        record = read_json(self.folder / "model.json", "model description")
        return {key: value for key, value in record.items() if key != "info"}

    def converted(self, stage: StageResult) -> DeployedModel:
        """The model that a stage left, which may be older than this folder's info."""
        return replace(DeployedModel.load(stage.folder / "deployed"), info=self.deployed.info)

    @property
    def refractory_steps(self) -> int:
        """Distance between two events at least, in steps."""
        info = self.deployed.info
        if "refractory_steps" in info:
            return int(info["refractory_steps"])
        return max(1, math.ceil(float(info["refractory_s"]) / self.step_s))

    @property
    def step_s(self) -> float:
        """Seconds of one inference step."""
        return self.deployed.frames_per_step * self.frontend.step_ms / 1000


def load_source(folder: Path) -> Source:
    """Read a model folder.

    Raises:
        EdgewakeError: it does not exist, or lacks what a build needs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EdgewakeError(f"model folder {folder} does not exist: train one, or give another --model")
    for name in WEIGHTS:
        if not (folder / name).is_file():
            raise EdgewakeError(f"model folder {folder} has no {name}: train it, or give another --model")
    deployed = DeployedModel.load(folder)
    for key in ("phrase", "window", "cutoff_sum", "refractory_s"):
        if key not in deployed.info:
            raise EdgewakeError(f"{folder / 'model.json'} lacks info.{key}: export the model again")
    frontend = FrontendConfig()
    if (folder / "config.yaml").is_file():
        from edgewake.config import WakewordConfig

        frontend = WakewordConfig.load(folder / "config.yaml").frontend
    if frontend.channels != deployed.channels:
        raise EdgewakeError(
            f"{folder}: the model takes {deployed.channels} channels, its frontend {frontend.channels}: "
            "export both from one training run"
        )
    return Source(folder, deployed, frontend)


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
        out: becomes the build folder. What is there is replaced at the end and only on success.
        target: name of the chip.
        quantization: "qat" keeps learned ranges, "ptq" measures them on the calibration audio.
        calibration: folder of calibration data; None takes the one that comes with edgewake.
        cache: of stages; None takes `.cache` beside `out`.
        release: write model.tflite and manifest.json into the model folder too, so that it runs by itself.

    Raises:
        BudgetError: the target allows less than the model needs.
        ParityError: a rung of the ladder differs.
        EdgewakeError: the model is missing or unusable, or `out` is no build folder.
    """
    source, chip = load_source(model), get_target(target)
    out = Path(out)
    _check_replaceable(out)
    stages = Stages(cache or out.parent / ".cache")
    folder = calibration or default_folder()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    work.chmod(0o755)
    try:
        with steps(STEPS) as done:
            report = _Build(source, chip, quantization, folder, stages, work, out).run(done)
        _keep_tools_files(out / FIRMWARE, work / FIRMWARE)
        swap_in(work, out)
        if release:
            for name in (MODEL, "manifest.json"):
                write_bytes(source.folder / name, (out / name).read_bytes())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def _check_replaceable(out: Path) -> None:
    """A mistyped --out must not cost anybody a folder."""
    if out.exists() and not out.is_dir():
        raise EdgewakeError(f"--out {out} is a file: choose a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / REPORT).is_file():
        raise EdgewakeError(f"--out {out} holds other files than a build (no {REPORT}): choose one")


def _keep_tools_files(old: Path, new: Path) -> None:
    """Hand over what idf.py made, so that the next `idf.py build` compiles only what changed."""
    for name in KEPT_IN_FIRMWARE:
        if (old / name).exists() and not (new / name).exists():
            (old / name).replace(new / name)


@dataclass(frozen=True)
class _Build:
    """One run; every method is a stage or a part of the report."""

    source: Source
    target: Target
    quantization: str
    calibration: Path
    stages: Stages
    work: Path
    out: Path

    def run(self, done: Callable[[], None]) -> dict[str, Any]:
        learned = convert_stage(self.stages, self.source)
        done()
        calibrated = ptq_stage(self.stages, self.source, learned, self.calibration)
        quantizations = self._quantizations(learned, calibrated)
        converted = learned if self.quantization == "qat" else calibrated
        deployed = self.source.converted(converted)
        tflite = converted.folder / MODEL
        model = tflite.read_bytes()
        done()
        arena = self._arena(tflite)
        done()
        params = pipeline_params(self.source, deployed)
        operators = operators_from_bytes(model)
        costs = analyse(operators)
        slow = check_operators(costs)
        ram = static_ram(self.source.frontend, params, arena["total_bytes"])
        rows = check_budget(
            self.target,
            model_bytes=len(model),
            arena_bytes=arena["total_bytes"],
            ram=ram,
            costs=costs,
            config=self.source.frontend,
            frames_per_step=params.frames_per_step,
            width=_width(deployed),
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
            "budget": [_budget_json(row) for row in rows],
            "parity": rungs,
            "measured": _measured_json(metrics),
            "not_measured": _why_not_measured(self.source.folder),
            "quantizations": quantizations,
            "quantizations_text": "Smoothed probability of the int8 model against the float network with the "
            "same weights, over the calibration audio; decisions at the model's cutoff.",
            "operators": [
                _frontend_json(self.source.frontend, params.frames_per_step),
                *(_operator_json(cost) for cost in costs if cost.subgraph == 0),
            ],
            "slow_operators": [f"{cost.op} {cost.name}: {cost.path}" for cost in slow],
            "cost_text": "One step on the S3 by the cycle model of docs/firmware.md; " + _slow_text(slow),
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
        }
        report["files"] = [_file_json(self.work, path) for path in _listed(self.work, files)]
        write_json(self.work / REPORT, report)
        write_text(self.work / "report.html", render(report))
        done()
        return report

    def _arena(self, tflite: Path) -> dict[str, int]:
        result = self.stages.run(
            "arena",
            lambda folder: {"host_bytes": measure_arena(tflite.read_bytes())},
            inputs=[tflite],
            code=["conversion/tflm.py"],
            distributions=["tflite-micro"],
        )
        host = int(result.record["host_bytes"])
        scratch = s3_scratch_bytes(tflite.read_bytes())
        # The board's arena is a multiple of 16, as its alignment is.
        return {
            "host_bytes": host,
            "s3_scratch_bytes": scratch,
            "total_bytes": -(-(host + scratch) // 16) * 16,
        }

    def _quantizations(self, learned: StageResult, calibrated: StageResult) -> list[dict[str, Any]]:
        """Learned and calibrated ranges, both against the float network."""
        found = calibration_features(self.calibration, self.source.frontend)
        return [
            cost_of_quantization(name, self.source.converted(stage), found, int(stage.record["bytes"]))
            for name, stage in (("qat, learned ranges", learned), ("ptq, calibrated ranges", calibrated))
        ]

    def _ladder(
        self, converted: StageResult, deployed: DeployedModel, params: PipelineParams
    ) -> list[dict[str, Any]]:
        tflite, windowed = converted.folder / MODEL, converted.folder / "model_windowed.tflite"
        config = self.source.frontend
        result = self.stages.run(
            "parity",
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
            inputs=[
                tflite,
                windowed,
                converted.folder / "deployed" / "weights.safetensors",
                *_calibration_files(self.calibration),
            ],
            parameters={"frontend": config.hash(), "pipeline": asdict(params), **self.source.network},
            code=LADDER_CODE,
            distributions=["tflite-micro", "numpy"],
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
        costs: Sequence[Any],
        metrics: Mapping[str, Any] | None,
    ) -> Manifest:
        model = self.work / MODEL
        info = deployed.info
        return Manifest.model_validate(
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
                "operators": [_operator_json(cost) for cost in costs if cost.subgraph == 0],
                "measured": measured_part(metrics) if metrics else {},
                "versions": {"edgewake": __version__, "tflm": ESP_TFLITE_MICRO, "esp_nn": ESP_NN},
            }
        )


# ---- stages ---------------------------------------------------------------------------------------


def convert_stage(stages: Stages, source: Source) -> StageResult:
    """The .tflite with the learned ranges, and all that led to it; `deployed` in its folder is the model."""

    def make(folder: Path) -> dict[str, Any]:
        from edgewake.conversion.convert import convert

        result = convert(source.folder, folder)
        result.deployed.save(folder / "deployed")
        return {"bytes": len(result.model)}

    return stages.run(
        "convert",
        make,
        inputs=[source.folder / "weights.safetensors"],
        parameters=source.network,
        code=["conversion", "models/deployed.py"],
        distributions=CONVERSION_TOOLS,
    )


def ptq_stage(stages: Stages, source: Source, converted: StageResult, calibration: Path) -> StageResult:
    """The same weights with ranges from calibration audio: the baseline that learned ranges have to beat.

    Starts at the float .tflite of `convert_stage`, and leaves the same files.
    """

    def make(folder: Path) -> dict[str, Any]:
        from edgewake.conversion.int8_tflite import to_int8
        from edgewake.conversion.ptq import calibrated
        from edgewake.conversion.simulator import IntegerModel
        from edgewake.conversion.streaming import to_streaming

        float_tflite = converted.folder / "model_float.tflite"
        found = calibrated(
            float_tflite, source.deployed, [calibration_features(calibration, source.frontend)]
        )
        windowed = to_int8(float_tflite, folder / "model_windowed.tflite", found)
        streaming = to_streaming(windowed, folder / MODEL, IntegerModel(found).silence())
        found.save(folder / "deployed")
        return {"bytes": streaming.stat().st_size}

    return stages.run(
        "calibrate",
        make,
        inputs=[
            converted.folder / "model_float.tflite",
            source.folder / "weights.safetensors",
            *_calibration_files(calibration),
        ],
        parameters={"frontend": source.frontend.hash(), **source.network},
        code=["conversion", "models/deployed.py"],
        distributions=CONVERSION_TOOLS,
    )


def run_conversion(
    model: Path, out: Path, *, quantization: str = "qat", calibration: Path | None = None
) -> dict[str, Any]:
    """`edgewake convert`: every file of the conversion in `out`, each with its record; returns a summary.

    Raises:
        EdgewakeError: what the conversion raises; it names the layer.
    """
    from edgewake.conversion.convert import STAGES, convert

    source = load_source(model)
    given = None
    if quantization == "ptq":
        given = Path(out) / "features.npz"
        given.parent.mkdir(parents=True, exist_ok=True)
        found = calibration_features(calibration or default_folder(), source.frontend)
        np.savez_compressed(given, features=found)
    with steps(STAGES) as done:
        result = convert(source.folder, out, quantization, given, _after_first(done))  # type: ignore[arg-type]
    return {
        "quantization": quantization,
        "model": str(result.streaming),
        "sha256": sha256_file(result.streaming),
        "bytes": result.streaming.stat().st_size,
        "operators": [{"operator": operator, "layer": layer} for operator, layer in result.operators],
        "seconds": {stage: round(seconds, 2) for stage, seconds in result.seconds.items()},
    }


def _after_first(done: Callable[[], None]) -> Callable[[str], None]:
    """conversion tells when a stage begins, which ends the one before."""
    begun: list[str] = []

    def begin(stage: str) -> None:
        if begun:
            done()
        begun.append(stage)

    return begin


def calibration_features(calibration: Path, config: FrontendConfig) -> npt.NDArray[np.uint16]:
    """Features of the calibration audio as this frontend computes them: (frames, channels)."""
    if load_calibration(calibration).get("frontend_hash") == config.hash():
        return load_features(calibration)
    from edgewake.corpus.reading import read_audio

    return features(read_audio(calibration / "audio.flac"), config)


def _calibration_files(calibration: Path) -> list[Path]:
    return [calibration / name for name in ("manifest.json", "features.npz", "audio.flac")]


# ---- parity ---------------------------------------------------------------------------------------


def climb_ladder(model: Path, *, calibration: Path | None = None) -> list[dict[str, Any]]:
    """`edgewake parity`: every rung that this machine can climb, on a build folder or a model folder.

    Raises:
        EdgewakeError: a file is missing or is not what its manifest names.
    """
    path = find_manifest(Path(model))
    manifest = load_manifest(path)
    config = FrontendConfig(**manifest.frontend.config)
    with error_console.status("climbing"):
        return climb_rungs(
            DeployedModel.load(path.parent),
            read_model(path, manifest),
            manifest_params(manifest),
            config,
            calibration or default_folder(),
        )


def climb_rungs(
    deployed: DeployedModel,
    streaming: bytes,
    params: PipelineParams,
    config: FrontendConfig,
    calibration: Path,
    *,
    windowed: bytes | None = None,
) -> list[dict[str, Any]]:
    """The ladder on test signals and on the calibration audio, as plain JSON.

    Returns:
        A `RungResult` each, and "verdict": equal, differs, or reported (what need not be equal).
    """
    from edgewake.frontend import features_batch
    from edgewake.parity.ladder import climb
    from edgewake.parity.signals import signals

    float_model = None
    if find_spec("torch") is not None:
        from edgewake.parity.qat import qat_logits

        def float_model(found: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
            return qat_logits(deployed, found)

    recordings = features_batch(list(signals().values()), config)
    results = climb(
        deployed,
        streaming,
        windowed=windowed,
        config=config,
        params=params,
        features=[*recordings, calibration_features(calibration, config)],
        float_model=float_model,
    )
    return [{**asdict(result), "verdict": _verdict(result)} for result in results]


def _verdict(result: RungResult) -> str:
    if result.reported:
        return "reported"
    return "equal" if result.ok else "differs"


def check_rungs(rungs: Sequence[Mapping[str, Any]]) -> None:
    """Raise for the first rung that differs.

    Raises:
        ParityError: with what was compared and the first difference.
    """
    for rung in rungs:
        if rung["verdict"] == "differs":
            raise ParityError(
                f"rung {rung['rung']} of the parity ladder, {rung['name']}: {rung['differences']:,} of "
                f"{rung['compared']:,} values differ ({rung['detail']}), none may: report this with the model"
            )


# ---- parts of the report --------------------------------------------------------------------------


def pipeline_params(source: Source, deployed: DeployedModel) -> PipelineParams:
    """The C pipeline's parameters for a model as converted."""
    multiplier, shift = derive_quantizer(deployed.input.scale, deployed.input.zero_point)
    return PipelineParams(
        multiplier=multiplier,
        shift=shift,
        zero_point=deployed.input.zero_point,
        window=int(deployed.info["window"]),
        cutoff_sum=int(deployed.info["cutoff_sum"]),
        refractory_steps=source.refractory_steps,
        frames_per_step=deployed.frames_per_step,
        channels=deployed.channels,
    )


def _width(deployed: DeployedModel) -> int | None:
    """The model's channels, as model.width says them."""
    first = deployed.layers[0]
    return None if first.weight is None else int(first.weight.shape[0])


def _budget_json(row: BudgetRow) -> dict[str, Any]:
    return {"name": row.name, "value": row.value, "limit": row.limit, "unit": row.unit}


def _operator_json(cost: Any) -> dict[str, Any]:
    return {
        "operator": cost.op,
        "layer": cost.name,
        "path": cost.path,
        "macs": cost.macs,
        "scratch_bytes": cost.scratch_bytes,
        "cycles": cost.cycles,
        "note": cost.note,
    }


def _frontend_json(config: FrontendConfig, frames: int) -> dict[str, Any]:
    return {
        "operator": "frontend",
        "layer": f"{frames} frames",
        "path": "portable C core",
        "macs": 0,
        "scratch_bytes": 0,
        "cycles": frames * frontend_cycles(config),
        "note": "",
    }


def _slow_text(slow: Sequence[Any]) -> str:
    if not slow:
        return "ESP-NN accelerates every operator that computes."
    return "not accelerated by ESP-NN: " + ", ".join(f"{cost.op} ({cost.name})" for cost in slow) + "."


def scale_rows(deployed: DeployedModel, model: bytes) -> list[dict[str, Any]]:
    """Learned and read-back scales of every activation and weight; a bias has none of its own."""
    stored = stored_scales(model)
    rows = []
    for name, learned in learned_scales(deployed).items():
        if name.endswith("/bias"):
            continue
        found = stored.get(name)
        same = found is not None and bool((found.zero_point == learned.zero_point).all())
        rows.append(
            {
                "name": name,
                "learned": [float(scale) for scale in learned.scale],
                "read": [float(scale) for scale in found.scale] if found is not None and same else [],
                "zero_point": str(int(learned.zero_point[0])),
            }
        )
    return rows


def _measured_json(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metrics is None:
        return None
    data, cutoff = metrics["data"], metrics["cutoff"]
    return {
        "split": metrics["split"],
        "text": f"{data['distinct_recordings_with_phrase']:g} distinct recordings with the phrase and "
        f"{data['hours_without_phrase']:.2f} h without it, streamed whole, at the cutoff "
        f"{cutoff['value']:.4f} from {cutoff['from']}. Copies of a recording count once; intervals are 95 %.",
        "summary": metrics["summary"],
        "det": metrics["det"],
    }


def _why_not_measured(folder: Path) -> str:
    command = f"edgewake evaluate --model {folder} --apply"
    if (folder / "metrics.json").is_file():
        return f"metrics.json of the model folder was measured on another .tflite. Run: {command}"
    return f"Nobody has measured this model yet. Run: {command}"


def next_command(out: Path) -> str:
    """What to type next."""
    return f"cd {out / FIRMWARE} && idf.py set-target esp32s3 build flash monitor"


def _listed(work: Path, firmware: Sequence[Path]) -> list[Path]:
    """The files that this model made: its own, and the generated ones of the firmware."""
    generated = [work / FIRMWARE / path for path in firmware if "generated" in Path(path).parts]
    own = [path for path in sorted(work.iterdir()) if path.is_file()]
    return [*own, *generated]


def _file_json(work: Path, path: Path) -> dict[str, Any]:
    return {
        "path": path.relative_to(work).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
    }


# ---- the terminal ---------------------------------------------------------------------------------


def print_summary(report: Mapping[str, Any], out: Path) -> None:
    """One table and the next command."""
    rows = [
        (
            item["name"],
            quantity(item["value"], item["unit"]),
            quantity(item["limit"], item["unit"]),
            f"{100 * item['value'] / item['limit']:.0f} %",
        )
        for item in report["budget"]
    ]
    equal = sum(rung["verdict"] == "equal" for rung in report["parity"])
    differ = sum(rung["verdict"] == "differs" for rung in report["parity"])
    rows.append(("parity ladder", f"{equal} equal", f"{differ} differ", ""))
    measured = report["measured"]
    if measured:
        for condition, parts in measured["summary"]["recall"].items():
            rate = parts["all"]
            rows.append(
                (
                    f"recall {condition}",
                    f"{rate['value']:.1%}",
                    f"[{rate['low']:.1%}, {rate['high']:.1%}]",
                    "",
                )
            )
        rate = measured["summary"]["fa_per_hour"]["total"]
        rows.append(
            (
                "false accepts/h",
                f"{rate['value']:.2f}",
                f"[{rate['low']:.2f}, {rate['high']:.2f}]",
                f"{rate['hours']:.1f} h",
            )
        )
    table(
        f"“{report['phrase']}” on {report['target']['name']}", ("what", ">value", ">limit [95 %]", ">"), rows
    )
    console.print(f"report: {out / 'report.html'}")
    console.print(f"next:   {report['next']}", soft_wrap=True)


def print_ladder(rungs: Sequence[Mapping[str, Any]]) -> None:
    """One row a comparison."""
    rows = [
        (r["rung"], r["name"], f"{r['compared']:,}", r["differences"], r["verdict"], r["detail"])
        for r in rungs
    ]
    table("parity ladder", ("rung", "equality", ">compared", ">differ", "verdict", "what"), rows)
