"""`edgewake parity`, and the ladder of a build: every rung that this machine can climb, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.builder.source import calibration_features
from edgewake.calibration import default_folder
from edgewake.console import error_console, table
from edgewake.errors import ParityError
from edgewake.parity.ladder import RungResult, climb
from edgewake.parity.qat import qat_logits
from edgewake.parity.signals import signals
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig, features_batch
from edgewake.runtime.model_manifest import find_manifest, load_model
from edgewake.runtime.pipeline import PipelineParams


def climb_ladder(model: Path, *, calibration: Path | None = None) -> list[dict[str, Any]]:
    """`edgewake parity`: every rung that this machine can climb, on a build folder or a model folder.

    Raises:
        EdgewakeError: a file is missing or is not what its manifest names.
    """
    path = find_manifest(Path(model))
    manifest, streaming = load_model(path)
    config = manifest.frontend_config
    with error_console.status("climbing"):
        return climb_rungs(
            DeployedModel.load(path.parent),
            streaming,
            manifest.pipeline_params(),
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

    float_model = None
    if find_spec("torch") is not None:

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


def print_ladder(rungs: Sequence[Mapping[str, Any]]) -> None:
    """One row a comparison."""
    rows = [(r["rung"], r["name"], f"{r['compared']:,}", r["differences"], r["verdict"], r["detail"]) for r in rungs]
    table("parity ladder", ("rung", "equality", ">compared", ">differ", "verdict", "what"), rows)
