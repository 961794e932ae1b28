"""An earlier student as a teacher: its checkpoint gives a network that says what it said when it was kept."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from edgewake.config import WakewordConfig
from edgewake.errors import ConfigError
from edgewake.models import create_model
from edgewake.training.checkpoint_manager import BEST, CheckpointManager

KEY = "distillation.teacher_model_path"


def earlier_student(path: Path | str, like: nn.Module) -> nn.Module:
    """The student of a checkpoint, frozen, in eval mode, quantized where its run had reached that phase.

    Args:
        path: a run's folder, or its checkpoints/best.pt or last.pt. The run's config.yaml says which student
            it is, which may be larger than the present one.
        like: a student of the same architecture, for a checkpoint without config.yaml; it is not changed.

    Raises:
        ConfigError: there is no checkpoint, or its weights are of another student than is described.
        EdgewakeError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoints" / BEST if (path / "checkpoints").is_dir() else path / BEST
    if not path.is_file():
        raise ConfigError(f"{KEY} = {str(path)!r} does not exist: name a student's checkpoint, or its run")
    state = CheckpointManager(path.parent).load(path)
    places = (folder / "config.yaml" for folder in (path.parent, path.parent.parent))
    settings = next((place for place in places if place.exists()), None)
    student: Any = copy.deepcopy(like) if settings is None else _described(settings)
    try:
        if state.get("phase") == "qat":
            student.fold_batch_norm()
            student.quantize = True
        student.load_state_dict(state["model"])
    except (AttributeError, RuntimeError) as error:
        described = "model.* describes" if settings is None else f"{settings} describes"
        raise ConfigError(
            f"{KEY} = {str(path)!r} is of another student than {described} "
            f"({str(error).splitlines()[0]}); keep a checkpoint in its run's folder"
        ) from error
    made: nn.Module = student.requires_grad_(False).eval()
    return made


def _described(settings: Path) -> nn.Module:
    config = WakewordConfig.load(settings)
    model = config.model
    options = model.options()
    if model.architecture == "tiny_conv":
        options["smoothing"] = config.evaluation.window
    else:
        options["pretrained"] = False
    return create_model(model.architecture, model.num_classes, config.data.n_mels, **options)
