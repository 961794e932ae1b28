"""Teachers by name, from a configuration, and from files: a teacher.pt holds all that was fitted here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgewake.config import DistillationConfig, TeacherConfig, WakewordConfig
from edgewake.console import error_console
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import atomic_path
from edgewake.teachers.base import Teacher, tensors_fingerprint
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.heads import StandardHead, head_from_options, make_head
from edgewake.teachers.huggingface import (
    USUAL_NAMES,
    HuggingFaceTeacher,
    Wav2VecWakeword,
    WeightsNotFoundError,
    import_transformers,
    one_line,
    teacher_from_scratch,
)
from edgewake.teachers.small import SpeechEmbeddingTeacher, WordEmbeddingTeacher
from edgewake.teachers.whisper import WhisperTeacher

VERSION = 1
PRETRAINED_ONLY = ("whisper", "speech_embedding", "word_embedding")
ARCHITECTURES = (*USUAL_NAMES, *PRETRAINED_ONLY, "ensemble")
KEY = "edgewake_teacher"


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
        path: a teacher.pt, or a Hugging Face folder; "" for pretrained weights by name.
        name: of pretrained weights; "" for the architecture's usual ones.
        num_classes: classes; the phrase is class 1.
        teacher: what head it gets, and whether the network starts from scratch.
        gradient_checkpointing: recompute activations where layers are trained.

    Raises:
        ConfigError: the architecture is unknown, has no such weights, or a path holds another one.
        EdgewakeError: weights are missing or damaged.
    """
    settings = teacher or TeacherConfig()
    if architecture not in ARCHITECTURES or architecture == "ensemble":
        raise ConfigError(
            f"distillation.teacher_architecture = {architecture!r}: must be one of "
            f"{', '.join(name for name in ARCHITECTURES if name != 'ensemble')}"
        )
    _check_there(path)
    if path and Path(path).is_file():
        return _checked(load_teacher(path), architecture, num_classes, path)
    if architecture in PRETRAINED_ONLY:
        return _small(architecture, str(path), name, num_classes, settings, checkpointing=gradient_checkpointing)
    if settings.from_scratch and not path:
        return teacher_from_scratch(architecture, num_classes, settings, gradient_checkpointing=gradient_checkpointing)
    made: HuggingFaceTeacher
    if architecture == "wav2vec2":
        made = Wav2VecWakeword(
            num_classes,
            model_name=str(path) or name or USUAL_NAMES[architecture],
            gradient_checkpointing=gradient_checkpointing,
        )
    else:
        made = HuggingFaceTeacher(
            architecture, num_classes, path=path, name=name, gradient_checkpointing=gradient_checkpointing
        )
    return _with_head(made, settings)


def _check_there(path: str | Path) -> None:
    if path and not Path(path).exists():
        raise ConfigError(
            f"distillation.teacher_model_path = {str(path)!r} does not exist: give a teacher.pt of edgewake "
            "teacher train or a Hugging Face folder, or leave it empty for pretrained weights"
        )


def teacher_from_config(config: WakewordConfig) -> Teacher:
    """The teacher that `config.distillation` names, frozen; its head may have to be fitted yet.

    Where the architecture is wav2vec2, no weights are named, and the usual ones cannot be had, it is whisper,
    the strongest speech model that packages carry; a line says so, and `source` too.

    Raises:
        ConfigError: it names the student itself ("self"), or something that is not there.
        EdgewakeError: weights are missing or damaged.
    """
    distillation = config.distillation
    architecture = distillation.teacher_architecture
    if architecture == "self":
        raise ConfigError("distillation.teacher_architecture = 'self': the student teaches itself; there is no other")
    if architecture == "ensemble":
        path = Path(distillation.teacher_model_path)
        if distillation.teacher_model_path:
            if not path.is_file():
                raise ConfigError(
                    f"distillation.teacher_model_path = {str(path)!r}: of an ensemble it is a teacher.pt, or "
                    "empty; give members' own files in distillation.teachers as ARCHITECTURE:PATH"
                )
            return _checked(load_teacher(path), architecture, config.model.num_classes, path).freeze()
        for text in distillation.teachers:
            _check_there(text.partition(":")[2])
        members = [_member(text, config) for text in distillation.teachers]
        return EnsembleTeacher(members, distillation.teacher_weights, distillation.ensemble_mean).freeze()
    return _single(architecture, distillation.teacher_model_path, distillation.teacher_name, config).freeze()


def _member(text: str, config: WakewordConfig) -> Teacher:
    architecture, _, path = text.partition(":")
    if architecture not in ARCHITECTURES or architecture == "ensemble":
        raise ConfigError(
            f"distillation.teachers has {text!r}: a member is one of "
            f"{', '.join(name for name in ARCHITECTURES if name != 'ensemble')}, or such a name, a colon, "
            "and the path of its checkpoint"
        )
    if architecture in PRETRAINED_ONLY and config.teacher.from_scratch:
        # It says how the other members are made.
        config = config.model_copy()
        config.teacher.from_scratch = False
    return _single(architecture, path, "", config)


def _single(architecture: str, path: str, name: str, config: WakewordConfig) -> Teacher:
    distillation: DistillationConfig = config.distillation
    try:
        return create_teacher(
            architecture,
            path=path,
            name=name,
            num_classes=config.model.num_classes,
            teacher=config.teacher,
            gradient_checkpointing=distillation.gradient_checkpointing,
        )
    except WeightsNotFoundError as error:
        if architecture != "wav2vec2" or path or name:
            raise
        wanted = USUAL_NAMES[architecture]
        try:
            teacher = create_teacher("whisper", num_classes=config.model.num_classes, teacher=config.teacher)
        except EdgewakeError as other:
            raise EdgewakeError(f"{error}; whisper in its place: {other}") from other
        error_console.print(
            f"{wanted} cannot be had (no local copy, no hub): the teacher is {teacher.source} in its place; "
            "distillation.teacher_architecture: whisper says so in the configuration",
            soft_wrap=True,
        )
        teacher.source = f"{teacher.source} (in place of {wanted}, which was not found)"
        return teacher


def _small(
    architecture: str,
    path: str,
    name: str,
    num_classes: int,
    settings: TeacherConfig,
    *,
    checkpointing: bool,
) -> Teacher:
    """A teacher whose weights are an asset's; its modules are imported only when they are asked for."""
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
        made = WhisperTeacher(num_classes, name, gradient_checkpointing=checkpointing)
    else:
        if name:
            raise ConfigError(
                f"distillation.teacher_name = {name!r}: {architecture} has one set of weights; leave it empty"
            )

        kind = SpeechEmbeddingTeacher if architecture == "speech_embedding" else WordEmbeddingTeacher
        made = kind(num_classes)
    return _with_head(made, settings)


def _with_head(teacher: Teacher, settings: TeacherConfig) -> Teacher:
    teacher.head = make_head(settings, teacher.embedding_size, teacher.frame_rate, teacher.num_classes)
    return teacher


def _checked(teacher: Teacher, architecture: str, num_classes: int, path: Path | str) -> Teacher:
    if teacher.architecture != architecture:
        raise ConfigError(
            f"{path} holds a teacher {teacher.architecture}, not {architecture}; set "
            f"distillation.teacher_architecture: {teacher.architecture}"
        )
    if teacher.num_classes != num_classes:
        raise ConfigError(
            f"{path} tells {teacher.num_classes} classes apart, model.num_classes is {num_classes}; fit the "
            "teacher again"
        )
    return teacher


# ---- files ---------------------------------------------------------------------------------------


def save_teacher(teacher: Teacher, path: Path | str) -> None:
    """Write a teacher to a .pt, atomically; `load_teacher` gives one with equal logits.

    The network's weights are in it only where they were trained here or cannot be had again: otherwise their
    name or folder is, and their fingerprint.
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
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of the archive or of pickle: every kind of damage has its own
        raise EdgewakeError(
            f"teacher {path} cannot be read ({one_line(error)}); it is damaged, or no checkpoint of "
            "edgewake: fit it again"
        ) from error
    if not isinstance(payload, dict) or payload.get(KEY) != VERSION:
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
    if not isinstance(head, StandardHead):
        raise ConfigError(f"a head of class {type(head).__name__} cannot be saved: use one that make_head gives")
    folder = getattr(teacher, "folder", "")
    kept = teacher.backbone_trained or not (folder or _has_name(teacher))
    network = {name: value for name, value in teacher.state_dict().items() if not name.startswith("head.")}
    describe = getattr(teacher, "network_config", None)
    return {
        KEY: VERSION,
        "architecture": teacher.architecture,
        "name": teacher.name,
        "folder": folder,
        "source": teacher.source,
        "num_classes": teacher.num_classes,
        "head_options": head.options(),
        "head": {name: value.cpu() for name, value in head.state_dict().items()},
        "head_trained": teacher.head_trained,
        "backbone_trained": teacher.backbone_trained,
        "backbone": {name: value.cpu() for name, value in network.items()} if kept else None,
        "network": describe() if kept and describe is not None else None,
        "fingerprint": tensors_fingerprint(network) if network else "",
    }


def _has_name(teacher: Teacher) -> bool:
    return bool(teacher.name) or teacher.architecture in PRETRAINED_ONLY


def _restore(payload: Mapping[str, Any]) -> Teacher:
    architecture = payload["architecture"]
    if architecture == "ensemble":
        members = [_restore(member) for member in payload["members"]]
        return EnsembleTeacher(members, payload["weights"], payload["mean"])
    if architecture not in ARCHITECTURES:
        raise EdgewakeError(f"it is of architecture {architecture!r}, which this edgewake does not know")
    classes, backbone = payload["num_classes"], payload["backbone"]
    teacher: Teacher
    if payload["network"] is not None:
        transformers = import_transformers(f"the teacher {architecture}")
        values = {key: value for key, value in payload["network"].items() if key != "model_type"}
        shape = transformers.AutoConfig.for_model(architecture, **values)
        if architecture == "wav2vec2":
            teacher = Wav2VecWakeword(classes, pretrained=False, config=shape)
        else:
            teacher = HuggingFaceTeacher(architecture, classes, config=shape)
    elif backbone is not None and architecture == "whisper":
        teacher = WhisperTeacher(classes, payload["name"], pretrained=False)
    else:
        teacher = create_teacher(architecture, path=payload["folder"], name=payload["name"], num_classes=classes)
    if backbone is not None:
        missing, unknown = teacher.load_state_dict(backbone, strict=False)
        missing = [name for name in missing if not name.startswith("head.")]
        if missing or unknown:
            raise EdgewakeError(
                f"its weights do not fit {architecture}: {len(missing)} missing, {len(unknown)} unknown, "
                f"such as {(missing or unknown)[0]}; fit it again"
            )
    network = {name: value for name, value in teacher.state_dict().items() if not name.startswith("head.")}
    if network and tensors_fingerprint(network) != payload["fingerprint"]:
        raise EdgewakeError(
            f"the weights of {payload['source']} are not those that its head was fitted on; fit it again"
        )
    teacher.head = head_from_options(payload["head_options"])
    teacher.head.load_state_dict(payload["head"])
    teacher.name, teacher.source = payload["name"], payload["source"]
    teacher.head_trained, teacher.backbone_trained = payload["head_trained"], payload["backbone_trained"]
    return teacher
