"""`edgewake parity`, and the parity checks of a build: every one that this machine can run, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgewake.builder.convert import ModelFolder, calibration_features, calibration_files, conversion_files
from edgewake.cache import Cache
from edgewake.calibration import default_folder
from edgewake.console import error_console, table, working
from edgewake.conversion.convert import Conversion
from edgewake.errors import ParityError
from edgewake.parity.checks import run_checks
from edgewake.runtime.deployed import DeployedModel, quantization_json
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.model_manifest import find_manifest, load_model
from edgewake.runtime.pipeline import PipelineParams


def check_model(model: Path, *, calibration: Path | None = None) -> list[dict[str, Any]]:
    """`edgewake parity`: the checks on a build folder or a model folder."""
    path = find_manifest(Path(model))
    manifest, streaming = load_model(path)
    deployed, params = DeployedModel.load(path.parent), manifest.pipeline_params()
    with working("running the parity checks"):
        return _checks(deployed, streaming, params, manifest.frontend_config, calibration or default_folder())


def cached_checks(
    cache: Cache, source: ModelFolder, converted: Conversion, params: PipelineParams, calibration: Path
) -> list[dict[str, Any]]:
    """The checks of a converted model."""

    def make(folder: Path) -> dict[str, Any]:
        given = (converted.deployed, converted.model, params, source.frontend, calibration)
        return {"checks": _checks(*given, windowed=converted.windowed)}

    pipeline = asdict(params) | {"output": quantization_json(params.output)}
    parameters = {"pipeline": pipeline, **source.network}
    inputs = [*conversion_files(converted), *calibration_files(calibration)]
    checks: list[dict[str, Any]] = cache.get("parity", parameters, make, code=[__name__], inputs=inputs).record[
        "checks"
    ]
    return checks


def _checks(
    deployed: DeployedModel,
    streaming: bytes,
    params: PipelineParams,
    config: FrontendConfig,
    calibration: Path,
    windowed: bytes | None = None,
) -> list[dict[str, Any]]:
    """The checks on test signals and on the calibration audio: a `CheckResult` each, and its "verdict"."""
    if find_spec("torch") is None:
        error_console.print("parity check 6 is left out: it needs torch, pip install 'edgewake[train]'", markup=False)
    features = [calibration_features(calibration, config)]
    results = run_checks(deployed, streaming, params, config, windowed=windowed, features=features)
    return [{**asdict(result), "verdict": result.verdict} for result in results]


def require_parity(checks: Sequence[Mapping[str, Any]]) -> None:
    """Raise ParityError for the first check that fails, with what was compared and the first difference."""
    for found in checks:
        if found["verdict"] == "differs":
            raise ParityError(
                f"parity check {found['check']}, {found['name']}: {found['differences']:,} of "
                f"{found['compared']:,} values differ ({found['detail']}): report this with the model"
            )


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """One row a comparison."""
    rows = [(c["check"], c["name"], f"{c['compared']:,}", c["differences"], c["verdict"], c["detail"]) for c in checks]
    table("parity checks", ("check", "comparison", ">compared", ">differ", "verdict", "what"), rows)
