"""Makes a teacher from a configuration, and keeps it in and reads it from files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgewake.config import TeacherConfig, WakewordConfig
from edgewake.console import error_console
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import atomic_path
from edgewake.teachers.base import Teacher
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.heads import Head, head_from_options
from edgewake.teachers.huggingface import (
    UNUSED_TENSORS,
    USUAL_NAMES,
    WeightsNotFoundError,
    family_teacher,
    import_transformers,
    one_line,
    read_config,
    small_config,
    teacher_from_scratch,
)
from edgewake.teachers.small import SpeechEmbeddingTeacher, WordEmbeddingTeacher
from edgewake.teachers.whisper import WhisperTeacher

VERSION = 1
KEY = "edgewake_teacher"
SMALL = {"speech_embedding": SpeechEmbeddingTeacher, "word_embedding": WordEmbeddingTeacher}
SINGLE = (*USUAL_NAMES, "whisper", *SMALL)
ARCHITECTURES = (*SINGLE, "ensemble")
# Where a training checkpoint has its state_dict.
STATE_KEYS = ("model", "state_dict", "model_state_dict")


def create_teacher(
    architecture: str,
    *,
    path: str | Path = "",
    name: str = "",
    num_classes: int = 2,
    teacher: TeacherConfig | None = None,
    gradient_checkpointing: bool = False,
) -> Teacher:
    """A teacher of one architecture, not frozen.

    Args:
        architecture: one of `ARCHITECTURES` but ensemble, which `teacher_from_config` builds.
        path: a teacher.pt, a checkpoint with the state_dict of such a teacher, or a Hugging Face folder; "" for
            pretrained weights by name.
        name: of pretrained weights; "" for the architecture's usual ones.
        num_classes: classes; the phrase is class 1.
        teacher: shape of its head, and whether the network starts from scratch.
        gradient_checkpointing: recompute activations where layers are trained.

    Raises:
        ConfigError: the architecture is unknown, has no such weights, or a path holds another one.
        EdgewakeError: weights are missing or damaged.
    """
    settings, path = teacher or TeacherConfig(), str(path)
    if architecture not in SINGLE:
        raise ConfigError(
            f"distillation.teacher_architecture = {architecture!r}: must be one of {', '.join(SINGLE)} here"
        )
    _check_there(path)
    if path and Path(path).is_file():
        payload = _read(Path(path))
        if KEY in payload:
            return _checked(_ours(Path(path), payload), architecture, num_classes, path)
        return _from_state(payload, path, architecture, name, num_classes, settings, gradient_checkpointing)
    if architecture not in USUAL_NAMES:
        if path:
            raise ConfigError(
                f"distillation.teacher_model_path = {path!r}: {architecture} has no Hugging Face folders here; "
                "give a teacher.pt, or leave it empty"
            )
        if settings.from_scratch:
            raise ConfigError(
                f"teacher.from_scratch = True with {architecture}: it exists with its pretrained weights only; "
                f"use one of {', '.join(USUAL_NAMES)}, or set teacher.from_scratch: false"
            )
    made: Teacher
    if architecture == "whisper":
        made = WhisperTeacher(num_classes, name, gradient_checkpointing=gradient_checkpointing)
    elif architecture in SMALL:
        if name:
            raise ConfigError(
                f"distillation.teacher_name = {name!r}: {architecture} has one set of weights; leave it empty"
            )
        made = SMALL[architecture](num_classes)
    elif settings.from_scratch and not path:
        return teacher_from_scratch(architecture, num_classes, settings, gradient_checkpointing=gradient_checkpointing)
    else:
        made = family_teacher(
            architecture, num_classes, place=path or name, gradient_checkpointing=gradient_checkpointing
        )
    return made.new_head(settings)


def teacher_from_config(config: WakewordConfig) -> Teacher:
    """The teacher that `config.distillation` names, frozen; its head may still have to be fitted.

    Where nothing names a teacher, and the weights of the default (wav2vec2) are not available, it is whisper; a line
    on stderr and `source` say so. A teacher that is named is never replaced.

    Raises:
        ConfigError: it names the student itself ("self"), or something that does not exist.
        EdgewakeError: weights are missing or damaged.
    """
    distillation, classes = config.distillation, config.model.num_classes
    architecture, path = distillation.teacher_architecture, distillation.teacher_model_path
    if architecture == "self":
        raise ConfigError("distillation.teacher_architecture = 'self': the student teaches itself; there is no other")
    if architecture == "ensemble" and path:
        if not Path(path).is_file():
            raise ConfigError(
                f"distillation.teacher_model_path = {path!r}: of an ensemble it is a teacher.pt, or "
                "empty; give members' own files in distillation.teachers as ARCHITECTURE:PATH"
            )
        return _checked(load_teacher(path), architecture, classes, path).freeze()
    if architecture == "ensemble":
        for text in distillation.teachers:
            _check_there(text.partition(":")[2])
        members = [_member(text, config) for text in distillation.teachers]
        return EnsembleTeacher(members, distillation.teacher_weights, distillation.ensemble_mean).freeze()
    try:
        return _single(architecture, path, distillation.teacher_name, config).freeze()
    except WeightsNotFoundError as error:
        if path or distillation.teacher_name or "teacher_architecture" in distillation.model_fields_set:
            raise
        wanted = USUAL_NAMES[architecture]
        try:
            teacher = create_teacher("whisper", num_classes=classes, teacher=config.teacher)
        except EdgewakeError as other:
            raise EdgewakeError(f"{error}; whisper in its place: {other}") from other
    error_console.print(
        f"{wanted} is not available and no teacher is named: {teacher.source} takes its place; "
        "set distillation.teacher_architecture to choose",
        soft_wrap=True,
    )
    teacher.source = f"{teacher.source} (in place of {wanted}, which was not found)"
    return teacher.freeze()


def _member(text: str, config: WakewordConfig) -> Teacher:
    architecture, _, path = text.partition(":")
    if architecture not in SINGLE:
        raise ConfigError(
            f"distillation.teachers has {text!r}: a member is one of {', '.join(SINGLE)}, or such a name, a colon, "
            "and the path of its checkpoint"
        )
    if config.teacher.from_scratch and architecture not in USUAL_NAMES:
        # from_scratch is about the other members.
        config = config.model_copy()
        config.teacher.from_scratch = False
    return _single(architecture, path, "", config)


def _single(architecture: str, path: str, name: str, config: WakewordConfig) -> Teacher:
    return create_teacher(
        architecture,
        path=path,
        name=name,
        num_classes=config.model.num_classes,
        teacher=config.teacher,
        gradient_checkpointing=config.distillation.gradient_checkpointing,
    )


def _check_there(path: str) -> None:
    if path and not Path(path).exists():
        raise ConfigError(
            f"distillation.teacher_model_path = {path!r} does not exist: give a teacher.pt of edgewake teacher train, "
            "a checkpoint with such a teacher's state_dict, or a Hugging Face folder; empty: pretrained weights"
        )


def _checked(teacher: Teacher, architecture: str, num_classes: int, path: str) -> Teacher:
    if teacher.architecture != architecture:
        raise ConfigError(
            f"{path} holds a teacher {teacher.architecture}, not {architecture}; set "
            f"distillation.teacher_architecture: {teacher.architecture}"
        )
    if teacher.num_classes != num_classes:
        raise ConfigError(
            f"{path} is for {teacher.num_classes} classes, model.num_classes is {num_classes}; fit the teacher again"
        )
    return teacher


# ---- files ---------------------------------------------------------------------------------------


def save_teacher(teacher: Teacher, path: Path | str) -> None:
    """Write a teacher to a .pt, atomically; `load_teacher` gives one with equal logits.

    The file holds the network's weights only where they were trained here or are not available elsewhere; otherwise
    it holds their name or folder, and their fingerprint.
    """
    with atomic_path(Path(path)) as temporary:
        torch.save(_payload(teacher), temporary)


def load_teacher(path: Path | str) -> Teacher:
    """A teacher as `save_teacher` wrote it, in eval mode, not frozen.

    Raises:
        EdgewakeError: the file is missing, damaged, of another version, or refers to weights that are not
            there any more or have changed.
    """
    path = Path(path)
    if not path.is_file():
        raise EdgewakeError(f"no teacher at {path}: check the path, or run edgewake teacher train")
    return _ours(path, _read(path))


def _read(path: Path) -> Mapping[str, Any]:
    """What torch saved in a file: tensors and plain values, by name."""
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # errors of the archive and of pickle, of many kinds
        raise EdgewakeError(
            f"teacher {path} cannot be read ({one_line(error)}): save a state_dict by torch.save, or fit it again"
        ) from error
    return payload if isinstance(payload, Mapping) else {}


def _ours(path: Path, payload: Mapping[str, Any]) -> Teacher:
    if payload.get(KEY) != VERSION:
        raise EdgewakeError(
            f"{path} is no teacher of this edgewake (version {VERSION}); edgewake teacher train writes one"
        )
    try:
        return _restore(payload).eval()
    except EdgewakeError as error:
        raise type(error)(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EdgewakeError(f"teacher {path} does not fit together ({one_line(error)}); fit it again") from error


def _payload(teacher: Teacher) -> dict[str, Any]:
    if isinstance(teacher, EnsembleTeacher):
        return {
            KEY: VERSION,
            "architecture": "ensemble",
            "members": [_payload(member) for member in teacher.members],
            "weights": list(teacher.weights),
            "mean": teacher.mean,
        }
    head = teacher.head
    if not isinstance(head, Head):
        raise ConfigError(f"a head of class {type(head).__name__} cannot be saved: use one that make_head gives")
    available = teacher.folder or teacher.name or teacher.architecture in SMALL
    kept = teacher.backbone_trained or not available
    return {
        KEY: VERSION,
        "architecture": teacher.architecture,
        "name": teacher.name,
        "folder": teacher.folder,
        "source": teacher.source,
        "num_classes": teacher.num_classes,
        "head_options": head.options,
        "head": {name: value.cpu() for name, value in head.state_dict().items()},
        "head_trained": teacher.head_trained,
        "backbone_trained": teacher.backbone_trained,
        "backbone": {name: value.cpu() for name, value in teacher.backbone().items()} if kept else None,
        "network": teacher.network_config() if kept else None,
        "fingerprint": teacher.weights_fingerprint(),
    }


def _restore(payload: Mapping[str, Any]) -> Teacher:
    architecture = payload["architecture"]
    if architecture == "ensemble":
        members = [_restore(member) for member in payload["members"]]
        return EnsembleTeacher(members, payload["weights"], payload["mean"])
    if architecture not in SINGLE:
        raise EdgewakeError(f"it is of architecture {architecture!r}, which this edgewake does not have")
    classes, backbone = payload["num_classes"], payload["backbone"]
    if backbone is None:
        teacher = create_teacher(architecture, path=payload["folder"], name=payload["name"], num_classes=classes)
    else:
        teacher = _without_weights(architecture, classes, payload["name"], payload["network"])
        _take(teacher, backbone)
    # A file of a network outside torch may have no fingerprint.
    if payload["fingerprint"] not in ("", teacher.weights_fingerprint()):
        raise EdgewakeError(
            f"the weights of {payload['source']} are not those that its head was fitted on; fit it again"
        )
    teacher.head = head_from_options(payload["head_options"])
    teacher.head.load_state_dict(payload["head"])
    teacher.name, teacher.folder, teacher.source = payload["name"], payload["folder"], payload["source"]
    teacher.head_trained, teacher.backbone_trained = payload["head_trained"], payload["backbone_trained"]
    return teacher


def _without_weights(
    architecture: str, num_classes: int, name: str, shape: Any, gradient_checkpointing: bool = False
) -> Teacher:
    """A teacher whose network has random weights, but for an asset that torch does not run.

    Args:
        shape: of the Wav2Vec2 family: a configuration of transformers, or its plain values.
    """
    if architecture in SMALL:
        return SMALL[architecture](num_classes)
    if architecture == "whisper":
        return WhisperTeacher(num_classes, name, pretrained=False, gradient_checkpointing=gradient_checkpointing)
    if isinstance(shape, dict):
        values = {key: value for key, value in shape.items() if key != "model_type"}
        shape = import_transformers(architecture).AutoConfig.for_model(architecture, **values)
    return family_teacher(architecture, num_classes, config=shape, gradient_checkpointing=gradient_checkpointing)


def _take(teacher: Teacher, state: Mapping[str, Tensor]) -> None:
    """Load all tensors of a network, and those of the head where `state` has any.

    Raises:
        ConfigError: one is missing, unknown, or of another shape.
    """
    head = any(name.startswith("head.") for name in state)
    own = {name: value for name, value in teacher.state_dict().items() if head or not name.startswith("head.")}
    missing = [name for name in own if name not in state and not name.endswith(UNUSED_TENSORS)]
    unknown = [name for name in state if name not in own and not name.endswith(UNUSED_TENSORS)]
    if missing or unknown:
        raise ConfigError(
            f"its tensors are not those of this {teacher.architecture}: {len(missing)} missing, {len(unknown)} "
            f"unknown, such as {(missing or unknown)[0]}"
        )
    for name, value in own.items():
        if name in state and state[name].shape != value.shape:
            raise ConfigError(f"{name} is {tuple(state[name].shape)}, this teacher's is {tuple(value.shape)}")
    teacher.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)
    teacher.head_trained = head


def _state(payload: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """The state_dict of a teacher in what a file holds: itself, or below one of `STATE_KEYS`."""
    for key in STATE_KEYS:
        if isinstance(payload.get(key), Mapping):
            payload = payload[key]
            break
    state = {name: value for name, value in payload.items() if isinstance(value, Tensor)}
    if not state or len(state) < len(payload):
        raise ConfigError(
            f"{path} holds no state_dict of a teacher, neither itself nor under {', '.join(STATE_KEYS)}: save "
            "teacher.state_dict() by torch.save"
        )
    # Of torch's DistributedDataParallel, and of the network's other name in Wav2VecWakeword.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return {re.sub(r"^wav2vec2\.", "network.", name): value for name, value in state.items()}


def _from_state(
    payload: Mapping[str, Any],
    path: str,
    architecture: str,
    name: str,
    num_classes: int,
    settings: TeacherConfig,
    gradient_checkpointing: bool,
) -> Teacher:
    """A teacher with the weights of the state_dict in a file.

    The network's shape is that of `name`, else of a config.json beside the file, else of `settings` where they say
    that it was trained from scratch, else the architecture's usual one; the head's is that of `settings`.
    """
    state, folder = _state(payload, path), Path(path).parent
    shape: Any = None
    if architecture in USUAL_NAMES:
        place = name or (str(folder) if (folder / "config.json").is_file() else "")
        if place:
            shape = read_config(architecture, place)
        elif settings.from_scratch:
            shape = small_config(architecture, settings)
        else:
            shape = import_transformers(architecture).AutoConfig.for_model(architecture)
    teacher = _without_weights(architecture, num_classes, name, shape, gradient_checkpointing).new_head(settings)
    try:
        _take(teacher, state)
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error}; the shape is that of distillation.teacher_name, a config.json beside the file, and "
            "teacher.*: give those that it was trained with"
        ) from None
    teacher.backbone_trained, teacher.source = True, path
    return teacher.eval()
