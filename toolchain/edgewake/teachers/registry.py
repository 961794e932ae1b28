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
from edgewake.teachers.base import Teacher, head_from_options
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.huggingface import (
    UNUSED_TENSORS,
    USUAL_NAMES,
    HuggingFaceTeacher,
    WeightsNotFoundError,
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
RESTORED = ("name", "folder", "source", "head_trained", "backbone_trained")
# Where a training checkpoint has its state_dict.
STATE_KEYS = ("model", "state_dict", "model_state_dict")


def create_teacher(
    architecture: str,
    *,
    path: str | Path = "",
    name: str = "",
    num_classes: int = 2,
    teacher: TeacherConfig | None = None,
) -> Teacher:
    """A teacher of one of `ARCHITECTURES`, not frozen; an ensemble only from a teacher.pt.

    `path` is a teacher.pt, a checkpoint with the state_dict of such a teacher, or a Hugging Face folder; "" for
    pretrained weights by `name`, "" for the architecture's usual ones. `teacher` has the shape of its head, and
    whether the network starts from scratch.

    Raises:
        ConfigError: the architecture is unknown, has no such weights, or a path holds another one.
        EdgewakeError: weights are missing or damaged.
    """
    settings, path = teacher or TeacherConfig(), str(path)
    if path and not Path(path).exists():
        raise ConfigError(
            f"distillation.teacher_model_path = {path!r} does not exist: give a teacher.pt of edgewake teacher train, "
            "a checkpoint with such a teacher's state_dict, or a Hugging Face folder; empty: pretrained weights"
        )
    if path and Path(path).is_file():
        payload = _read(Path(path))
        if KEY not in payload and architecture in SINGLE:
            return _from_state(payload, path, architecture, name, num_classes, settings)
        found = _ours(Path(path), payload)
        if found.architecture != architecture:
            remedy = f"set distillation.teacher_architecture: {found.architecture}"
            raise ConfigError(f"{path} holds a teacher {found.architecture}, not {architecture}; {remedy}")
        if found.num_classes != num_classes:
            remedy = f"model.num_classes is {num_classes}; fit the teacher again"
            raise ConfigError(f"{path} is for {found.num_classes} classes, {remedy}")
        return found
    if architecture in USUAL_NAMES:
        if settings.from_scratch and not path:
            return teacher_from_scratch(architecture, num_classes, settings)
        return HuggingFaceTeacher(architecture, num_classes, place=path or name).new_head(settings)
    if architecture not in SINGLE:
        raise ConfigError(
            f"distillation.teacher_architecture = {architecture!r}: must be one of {', '.join(SINGLE)} here"
        )
    family = ", ".join(USUAL_NAMES)
    for wrong, setting, why in (
        (path, f"distillation.teacher_model_path = {path!r}", "has no Hugging Face folders here; give a teacher.pt"),
        (settings.from_scratch, "teacher.from_scratch = True", f"exists pretrained only; use one of {family}"),
        (architecture in SMALL and name, f"distillation.teacher_name = {name!r}", "has one set of weights; empty it"),
    ):
        if wrong:
            raise ConfigError(f"{setting} with {architecture}, which {why}")
    found = WhisperTeacher(num_classes, name) if architecture == "whisper" else SMALL[architecture](num_classes)
    return found.new_head(settings)


def teacher_from_config(config: WakewordConfig) -> Teacher:
    """The teacher that `config.distillation` names, frozen; its head may still have to be fitted.

    Where nothing names a teacher, and the weights of the default (wav2vec2) are not available, it is whisper; a line
    on stderr and `source` say so. A teacher that is named is never replaced.

    Raises:
        ConfigError: it names the student itself ("self"), or something that does not exist.
        EdgewakeError: weights are missing or damaged.
    """
    settings = config.distillation
    architecture, path, name = settings.teacher_architecture, settings.teacher_model_path, settings.teacher_name
    if architecture == "self":
        raise ConfigError("distillation.teacher_architecture = 'self': the student teaches itself; there is no other")
    if architecture == "ensemble" and not path:
        members = [_member(text, config) for text in settings.teachers]
        return EnsembleTeacher(members, settings.teacher_weights, settings.ensemble_mean).freeze()
    try:
        return _of_config(config, architecture, path, name).freeze()
    except WeightsNotFoundError:
        if path or name or "teacher_architecture" in settings.model_fields_set:
            raise
    wanted = USUAL_NAMES[architecture]
    remedy = "set distillation.teacher_architecture to choose"
    told = f"{wanted} is not available and no teacher is named: whisper takes its place; {remedy}"
    error_console.print(told, soft_wrap=True)
    teacher = _of_config(config, "whisper")
    teacher.source = f"{teacher.source} (in place of {wanted}, which was not found)"
    return teacher.freeze()


def _member(text: str, config: WakewordConfig) -> Teacher:
    architecture, _, path = text.partition(":")
    if architecture not in SINGLE:
        raise ConfigError(
            f"distillation.teachers has {text!r}: a member is one of {', '.join(SINGLE)}, or such a name, a colon, "
            "and the path of its checkpoint"
        )
    if architecture not in USUAL_NAMES:
        # from_scratch is about the other members.
        config = config.model_copy()
        config.teacher.from_scratch = False
    return _of_config(config, architecture, path)


def _of_config(config: WakewordConfig, architecture: str, path: str = "", name: str = "") -> Teacher:
    classes = config.model.num_classes
    teacher = create_teacher(architecture, path=path, name=name, num_classes=classes, teacher=config.teacher)
    if config.distillation.gradient_checkpointing:
        teacher.recompute_activations()
    return teacher


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
        members = [_payload(member) for member in teacher.members]
        found = {"members": members, "weights": list(teacher.weights), "mean": teacher.mean}
        return {KEY: VERSION, "architecture": "ensemble", **found}
    kept = teacher.backbone_trained or not (teacher.folder or teacher.name or teacher.architecture in SMALL)
    return {
        KEY: VERSION,
        **{name: getattr(teacher, name) for name in ("architecture", "num_classes", *RESTORED)},
        "head_options": teacher.head.options,
        "head": {name: value.cpu() for name, value in teacher.head.state_dict().items()},
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
    for name in RESTORED:
        setattr(teacher, name, payload[name])
    return teacher


def _without_weights(architecture: str, num_classes: int, name: str, shape: Any) -> Teacher:
    """A teacher with random weights, but for an asset that torch does not run; `shape`: as transformers has it."""
    if architecture in SMALL:
        return SMALL[architecture](num_classes)
    if architecture == "whisper":
        return WhisperTeacher(num_classes, name, pretrained=False)
    if isinstance(shape, dict):
        values = {key: value for key, value in shape.items() if key != "model_type"}
        shape = import_transformers(architecture).AutoConfig.for_model(architecture, **values)
    return HuggingFaceTeacher(architecture, num_classes, config=shape)


def _take(teacher: Teacher, state: Mapping[str, Tensor]) -> None:
    """Load all tensors of a network, and those of the head where `state` has any; a RuntimeError for other shapes."""
    teacher.head_trained = head = any(name.startswith("head.") for name in state)
    found = teacher.load_state_dict(state, strict=False)
    missing, unknown = (
        [name for name in names if not name.endswith(UNUSED_TENSORS) and (head or not name.startswith("head."))]
        for names in (found.missing_keys, found.unexpected_keys)
    )
    if missing or unknown:
        raise ConfigError(
            f"its tensors are not those of this {teacher.architecture}: {len(missing)} missing, {len(unknown)} "
            f"unknown, such as {(missing or unknown)[0]}"
        )


def _from_state(
    payload: Mapping[str, Any], path: str, architecture: str, name: str, num_classes: int, settings: TeacherConfig
) -> Teacher:
    """A teacher with the weights of a state_dict: what a file holds, or has below one of `STATE_KEYS`.

    The network's shape is that of `name`, else of a config.json beside the file, else of `settings` where they say
    that it was trained from scratch, else the architecture's usual one; the head's is that of `settings`.
    """
    state = next((payload[key] for key in STATE_KEYS if isinstance(payload.get(key), Mapping)), payload)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        places = f"neither itself nor under {', '.join(STATE_KEYS)}"
        raise ConfigError(f"{path} holds no state_dict of a teacher, {places}: save teacher.state_dict() by torch.save")
    # Of torch's DistributedDataParallel, and of the network's other name in Wav2VecWakeword.
    state = {re.sub(r"^wav2vec2\.", "network.", key.removeprefix("module.")): value for key, value in state.items()}
    folder, shape = Path(path).parent, None
    if architecture in USUAL_NAMES:
        if place := name or (str(folder) if (folder / "config.json").is_file() else ""):
            shape = read_config(architecture, place)
        elif settings.from_scratch:
            shape = small_config(architecture, settings)
        else:
            shape = import_transformers(architecture).AutoConfig.for_model(architecture)
    teacher = _without_weights(architecture, num_classes, name, shape).new_head(settings)
    try:
        _take(teacher, state)
    except (ConfigError, RuntimeError) as error:
        raise ConfigError(
            f"{path}: {one_line(error)}; the shape is that of distillation.teacher_name, a config.json beside the "
            "file, and teacher.*: give those that it was trained with"
        ) from None
    teacher.backbone_trained, teacher.source = True, path
    return teacher.eval()
