"""`edgewake parity`, and the parity checks of a build: every one that this machine can run, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgewake.builder.model_folder import calibration_features
from edgewake.calibration import default_folder
from edgewake.console import error_console, table
from edgewake.errors import ParityError
from edgewake.parity.checks import run_checks
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.model_manifest import find_manifest, load_model
from edgewake.runtime.pipeline import PipelineParams


def check_model(model: Path, *, calibration: Path | None = None) -> list[dict[str, Any]]:
    """`edgewake parity`: the checks on a build folder or a model folder.

    Raises:
        EdgewakeError: a file is missing or is not what its manifest names.
    """
    path = find_manifest(Path(model))
    manifest, streaming = load_model(path)
    with error_console.status("running the parity checks"):
        return run_parity_checks(
            DeployedModel.load(path.parent),
            streaming,
            manifest.pipeline_params(),
            manifest.frontend_config,
            calibration or default_folder(),
        )


def run_parity_checks(
    deployed: DeployedModel,
    streaming: bytes,
    params: PipelineParams,
    config: FrontendConfig,
    calibration: Path,
    *,
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
