"""Conditions of an experiment, and teachers as `--teacher` names them: whisper, NAME=teacher.pt, ensemble:a,b."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edgewake.config import WakewordConfig
from edgewake.config.sections import TeacherArchitecture
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.registry import load_teacher

BASELINE, SCRATCH, ENSEMBLE = "baseline", "scratch", "ensemble"
ARCHITECTURES: tuple[str, ...] = get_args(TeacherArchitecture)
_FORMS = "give ARCHITECTURE, ARCHITECTURE:PATH, ARCHITECTURE:scratch, NAME=PATH or ensemble:MEMBER,MEMBER"


@dataclass(frozen=True)
class Condition:
    """One way to train.

    Attributes:
        name: in tables and folders.
        settings: full keys and values that it changes.
    """

    name: str
    settings: dict[str, Any]

    def apply(self, config: WakewordConfig) -> WakewordConfig:
        """A copy of `config` with the condition's settings."""
        changed = config.model_copy(deep=True)
        for key, value in self.settings.items():
            changed.set(key, value)
        return changed


def baseline() -> Condition:
    """Labels only."""
    return Condition(BASELINE, {"distillation.enabled": False})


def configured(config: WakewordConfig) -> Condition:
    """Distillation as the configuration has it."""
    distillation = config.distillation
    members = distillation.teachers if distillation.teacher_architecture == ENSEMBLE else ()
    return Condition(_usual_name(members) or distillation.teacher_architecture, {"distillation.enabled": True})


def parse_teacher(text: str) -> Condition:
    """A condition from the text of `--teacher`.

    - `whisper`: an architecture, with its usual weights;
    - `wav2vec2:runs/teacher/teacher.pt`: an architecture and its checkpoint;
    - `wav2vec2:scratch`: a small network of the architecture, trained on the run's own recordings;
    - `mine=runs/teacher/teacher.pt`: a checkpoint, whose architecture is stored in it, and a name for it;
    - `ensemble:whisper,word_embedding:other.pt`: members of either of the first two forms;
    - a name and `=` before any of them names the condition.

    Raises:
        ConfigError: the text is none of these, or the file is not there.
    """
    name, rest = text.split("=", 1) if "=" in text else ("", text)
    architecture, _, path = rest.partition(":")
    teachers: list[str] = []
    scratch = path == SCRATCH
    if architecture == ENSEMBLE:
        teachers = [member.strip() for member in path.split(",") if member.strip()]
        if len(teachers) < 2:
            raise ConfigError(f"--teacher {text}: an ensemble has two members or more; {_FORMS}")
        path = ""
    elif scratch:
        path = ""
    elif architecture not in ARCHITECTURES and Path(rest).is_file():
        try:
            architecture, path = load_teacher(Path(rest)).architecture, rest
        except EdgewakeError as error:
            raise ConfigError(f"--teacher {text}: {error}") from error
    for member in teachers or [f"{architecture}:{path}"]:
        _check_single(member, text)
    if name == BASELINE:
        raise ConfigError(f"--teacher {text}: {BASELINE!r} is training without a teacher; choose another name")
    settings: dict[str, Any] = {
        "distillation.enabled": True,
        "distillation.teacher_model_path": path,
        "distillation.teacher_name": "",
        "distillation.teachers": teachers,
        "distillation.teacher_architecture": architecture,
    }
    if scratch:
        settings["teacher.from_scratch"] = True
    return Condition(name or _usual_name(teachers) or architecture, settings)


def _usual_name(members: tuple[str, ...] | list[str]) -> str:
    return "+".join(member.partition(":")[0] for member in members)


def _check_single(member: str, text: str) -> None:
    architecture, _, path = member.partition(":")
    single = [name for name in ARCHITECTURES if name != ENSEMBLE]
    if architecture not in single:
        raise ConfigError(
            f"--teacher {text}: {architecture!r} is neither a teacher's checkpoint nor an architecture "
            f"({', '.join(single)}); {_FORMS}"
        )
    if path and not Path(path).exists():
        raise ConfigError(f"--teacher {text}: {path} does not exist; edgewake teacher train writes a teacher.pt")


def distinct(conditions: list[Condition]) -> list[Condition]:
    """The same conditions.

    Raises:
        ConfigError: two have one name.
    """
    names = [condition.name for condition in conditions]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two teachers are called {name!r}: name one of them, as in other={name}")
    return conditions
