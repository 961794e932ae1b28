"""The student of a run: built from the configuration, read from a checkpoint, exported for what uses it."""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import edgewake
from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.conversion.clip_export import export_clip_student
from edgewake.data.manifest import CorpusManifest
from edgewake.errors import ConfigError, EdgewakeError, MissingDependencyError
from edgewake.evaluation.checkpoints import cutoff_on_validation
from edgewake.io import read_json
from edgewake.models import create_model
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.events import refractory_steps
from edgewake.training.checkpoint_manager import BEST, CheckpointManager

EXPORTED_BY = ("onnx", "onnx2tf", "tensorflow")
TRUNK_WEIGHTS, TRUNK_RECORD, RELEASED = "weights.safetensors", "trunk.json", "released"


def takes_audio(config: WakewordConfig) -> bool:
    """Whether the student's features are computed from audio in training: all but the board's are."""
    return config.model.architecture != "tiny_conv"


def build_student(config: WakewordConfig, *, ships: bool = True) -> nn.Module:
    """The untrained student of `config.model`, on its trunk; an error where `edgewake train` could not ship it."""
    if not (takes_audio(config) or config.qat.enabled) and ships:
        raise ConfigError("qat.enabled is false: nothing would be left to ship; set it to true")
    missing = [name for name in EXPORTED_BY if find_spec(name) is None] if takes_audio(config) else []
    if missing:
        raise MissingDependencyError(
            f"exporting {config.model.architecture} takes {', '.join(missing)}, not installed: "
            "pip install 'edgewake[convert]'"
        )
    torch.manual_seed(config.training.seed)
    student = _create(config)
    if config.model.trunk:
        load_trunk(student, config)
    return student


def trunk_folder(name: str) -> Path:
    """The folder of a trunk; "released" is the one that comes with edgewake."""
    if name != RELEASED:
        return Path(name)
    package = Path(edgewake.__file__).resolve().parent
    checkout = package.parents[1] / "models" / "trunk"
    return checkout if checkout.is_dir() else package / "_trunk"


def load_trunk(student: nn.Module, config: WakewordConfig) -> None:
    """Start `student` from the weights below the head that `train_trunk` wrote for its architecture.

    Raises:
        ConfigError: there is none, or it is of another architecture, or of another frontend.
    """
    folder = trunk_folder(config.model.trunk)
    if not (isinstance(student, TinyConv) and (folder / TRUNK_RECORD).is_file()):
        remedy = 'train one with edgewake trunk, or set model.trunk: ""'
        what = "has no trunk.json" if isinstance(student, TinyConv) else "is for tiny_conv"
        raise ConfigError(f"model.trunk = {config.model.trunk!r}: {folder} {what}; {remedy}")
    record = read_json(folder / TRUNK_RECORD, "record of a trunk")
    shape = ("input_size", "width", "frames_per_step", "kernel_sizes", "pool")
    own = student.architecture() | {"frontend": config.frontend.hash()}
    try:
        its = record["architecture"] | {"frontend": record["frontend"]}
        given = {name: (own[name], its[name]) for name in (*shape, "frontend")}
    except (KeyError, TypeError) as error:
        what = f"{folder / TRUNK_RECORD} is not the record of a trunk (no {error})"
        raise ConfigError(f"{what}: get the trunk again, or train one with edgewake trunk") from error
    if differing := [f"{name} {theirs}, not {ours}" for name, (ours, theirs) in given.items() if ours != theirs]:
        raise ConfigError(
            f"the trunk {folder} has {'; '.join(differing)}: set model.* as the trunk has it, or train one"
        )
    try:
        student.load_state_dict(load_file(folder / TRUNK_WEIGHTS), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError(f"the trunk {folder / TRUNK_WEIGHTS} cannot be read ({error}): get it again") from error


def _create(config: WakewordConfig, **given: Any) -> nn.Module:
    model = config.model
    options, size = model.options() | given, config.data.n_mels
    if not takes_audio(config):
        options, size = options | {"smoothing": config.evaluation.window}, config.frontend.channels
    return create_model(model.architecture, model.num_classes, size, **options)


def student_of_checkpoint(path: Path | str, like: nn.Module | None = None) -> nn.Module:
    """The student of a checkpoint, frozen, in eval mode, quantized where its run had reached that phase.

    `path` is a run's folder, whose config.yaml describes the student, or its checkpoints/best.pt or last.pt; `like`,
    which is not changed, is a student of the same architecture, for a checkpoint without config.yaml.

    Raises:
        ConfigError: there is no checkpoint, or its weights are of another student than is described.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoints" / BEST if (path / "checkpoints").is_dir() else path / BEST
    if not path.is_file():
        raise ConfigError(f"student {str(path)!r} does not exist: name a student's checkpoint, or its run")
    state = CheckpointManager(path.parent).load(path)
    places = (folder / "config.yaml" for folder in (path.parent, path.parent.parent))
    settings = next((place for place in places if place.exists()), None)
    if settings is not None:
        config = WakewordConfig.load(settings)
        student = _create(config, **({"pretrained": False} if "pretrained" in config.model.options() else {}))
    elif like is not None:
        student = copy.deepcopy(like)
    else:
        raise ConfigError(f"student {path} lacks the config.yaml of its run: keep a checkpoint in its run's folder")
    try:
        if state.get("phase") == "qat" and isinstance(student, TinyConv):
            student.fold_batch_norm()
            student.quantize = True
        student.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ConfigError(
            f"student {str(path)!r} is of another architecture than {settings or 'model.*'} describes "
            f"({str(error).splitlines()[0]}); keep a checkpoint in its run's folder"
        ) from error
    return student.requires_grad_(False).eval()


class StudentMean(nn.Module):
    """The mean of several students' probabilities, as logits: (batch, ...) -> (batch, classes)."""

    def __init__(self, students: Sequence[nn.Module]) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logarithms of mean probabilities."""
        logits = torch.stack([student(inputs) for student in self.students])
        return logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(self.students))


def teaching_students(config: WakewordConfig, like: nn.Module | None = None) -> nn.Module | None:
    """What `distillation.teacher_architecture: self` learns from: a student, a mean of several, or None: its average.

    Arguments and errors as in `student_of_checkpoint`.
    """
    distillation = config.distillation
    paths = distillation.teachers or tuple(filter(None, [distillation.teacher_model_path]))
    found = [student_of_checkpoint(path, like) for path in paths]
    return StudentMean(found) if len(found) > 1 else found[0] if found else None


def export(
    student: nn.Module, config: WakewordConfig, corpus: CorpusManifest, out: Path, state: dict[str, Any]
) -> Path:
    """Write what a trained student is used by to `out`/model; returns that folder.

    tiny_conv: the deploy form that `edgewake build` takes, with the cutoff that is chosen on the validation
    split of `corpus` with the int8 model. Others: ONNX and float .tflite. `state` is the checkpoint of the weights.

    Raises EdgewakeError where no cutoff is usable; see `choose_cutoff`.
    """
    folder = out / "model"
    if isinstance(student, TinyConv):
        evaluation = config.evaluation
        step_s = config.model.frames_per_step * config.frontend.step_ms / 1000
        info = {
            "phrase": config.data.phrase,
            "window": evaluation.window,
            "cutoff_sum": 1,
            "refractory_s": evaluation.refractory_s,
            "refractory_steps": refractory_steps(evaluation.refractory_s, step_s),
            "architecture": student.architecture(),
        }
        model = student.deployed(info)
        try:
            cutoff = cutoff_on_validation(model, corpus, config)
        except EdgewakeError as error:
            raise EdgewakeError(
                f"{error}. Training is complete and its weights are in {out / 'checkpoints'}; to export them as they "
                "are, repeat the command with --resume --set evaluation.lowest_recall=0"
            ) from error
        error_console.print(f"cutoff {cutoff}", soft_wrap=True)
        training = {
            "edgewake": edgewake.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": config.training.seed,
            "epoch": state["epoch"],
            "step": state["step"],
            "validation": state["history"][-1] if state["history"] else {},
            "cutoff": asdict(cutoff),
        }
        replace(model, info=info | {"cutoff_sum": cutoff.cutoff_sum, "training": training}).save(folder)
    else:
        export_clip_student(student.cpu().eval(), config, folder)
    config.save(folder / "config.yaml")
    return folder
