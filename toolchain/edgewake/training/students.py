"""Where students differ in `edgewake train`: what it hears, how it is judged, what it leaves."""

from __future__ import annotations

import math
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgewake
from edgewake.config import WakewordConfig
from edgewake.conversion.clip_export import export_clip_student
from edgewake.errors import ConfigError, MissingDependencyError
from edgewake.models import create_model
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.events import refractory_steps

EXPORTED_BY = ("onnx", "onnx2tf", "tensorflow")


def build_student(config: WakewordConfig) -> nn.Module:
    """The student of `config.model`.

    Raises:
        ConfigError: `edgewake train` could not ship what it trained.
    """
    model = config.model
    torch.manual_seed(config.training.seed)
    if model.architecture != "tiny_conv":
        return create_model(model.architecture, model.num_classes, config.data.n_mels, **model.options())
    if not config.qat.enabled:
        raise ConfigError("qat.enabled is false: nothing would be left to ship; set it to true")
    options = model.options() | {"smoothing": config.evaluation.window}
    return create_model(model.architecture, model.num_classes, config.frontend.channels, **options)


def check_exportable(config: WakewordConfig) -> None:
    """Refuse before hours of training what could not be written at their end.

    Raises:
        MissingDependencyError: a package is missing that exporting the student takes.
    """
    missing = [name for name in EXPORTED_BY if find_spec(name) is None] if hears_audio(config) else []
    if missing:
        raise MissingDependencyError(
            f"exporting {config.model.architecture} takes {', '.join(missing)}, not installed: "
            "pip install 'edgewake[convert]'"
        )


def hears_audio(config: WakewordConfig) -> bool:
    """Whether the student's features are computed from audio in training: all but the board's are."""
    return config.model.architecture != "tiny_conv"


def export(student: nn.Module, config: WakewordConfig, out: Path, state: dict[str, Any]) -> Path:
    """Write what a trained student is used by to `out`/model; returns that folder.

    tiny_conv: the deploy form that `edgewake build` takes. Others: ONNX and float .tflite.

    Args:
        state: the checkpoint whose weights `student` has.
    """
    folder = out / "model"
    if isinstance(student, TinyConv):
        student.deployed(_deploy_info(student, config, state)).save(folder)
    else:
        export_clip_student(student.cpu().eval(), config, folder)
    config.save(folder / "config.yaml")
    return folder


def _deploy_info(student: TinyConv, config: WakewordConfig, state: dict[str, Any]) -> dict[str, Any]:
    evaluation = config.evaluation
    step_s = config.model.frames_per_step * config.frontend.step_ms / 1000
    history = state["history"][-1] if state["history"] else {}
    cutoff = float(np.clip(history.get("cutoff", 0.5), 1 / 256, 1.0))
    return {
        "phrase": config.data.phrase,
        "window": evaluation.window,
        "cutoff_sum": min(255 * evaluation.window, math.ceil(cutoff * evaluation.window * 256)),
        "refractory_s": evaluation.refractory_s,
        "refractory_steps": refractory_steps(evaluation.refractory_s, step_s),
        "architecture": student.architecture(),
        "training": {
            "edgewake": edgewake.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": config.training.seed,
            "epoch": state["epoch"],
            "step": state["step"],
            "validation": history,
        },
    }
