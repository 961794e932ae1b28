"""Conditions of an experiment, and teachers as `--teacher` names them: whisper, NAME=teacher.pt, ensemble:a,b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edgewake.config import WakewordConfig, yaml_text
from edgewake.config.defaults import TeacherArchitecture
from edgewake.errors import ConfigError
from edgewake.teachers.registry import load_teacher

BASELINE, SCRATCH, ENSEMBLE = "baseline", "scratch", "ensemble"
ARCHITECTURES = [name for name in get_args(TeacherArchitecture) if name != ENSEMBLE]


@dataclass(frozen=True)
class Condition:
    """One way to train: its name in tables and folders, and the settings (full keys) that it changes."""

    name: str
    settings: dict[str, Any]

    def apply(self, config: WakewordConfig) -> WakewordConfig:
        """A copy of `config` with the condition's settings."""
        changed = config.model_copy(deep=True)
        for key, value in self.settings.items():
            changed.set(key, value)
        return changed


def make_conditions(config: WakewordConfig, teachers: Sequence[str], distilled: Sequence[str]) -> list[Condition]:
    """The baseline, and a condition for each teacher (none: the configuration's own) with the settings of `distilled`.

    Raises:
        ConfigError: a text names no teacher, a setting is wrong, or two conditions have one name.
    """
    config.override(list(distilled))  # checks keys and values
    assigned = (assignment.partition("=") for assignment in distilled)
    extra = {key.strip(): yaml_text.parse_scalar(text.strip()) for key, _, text in assigned}
    chosen = [parse_teacher(text) for text in teachers] or [configured(config)]
    conditions = [Condition(BASELINE, {"distillation.enabled": False})]
    for condition in chosen:
        if condition.name in [known.name for known in conditions]:
            raise ConfigError(f"two conditions are called {condition.name!r}: name the teacher, as in other=whisper")
        conditions.append(Condition(condition.name, condition.settings | extra))
    return conditions


def configured(config: WakewordConfig) -> Condition:
    """Distillation as the configuration has it."""
    distillation = config.distillation
    members = distillation.teachers if distillation.teacher_architecture == ENSEMBLE else ()
    return Condition(_usual_name(distillation.teacher_architecture, members), {"distillation.enabled": True})


def parse_teacher(text: str) -> Condition:
    """A condition from the text of `--teacher`; whether files and members are there is found when it is loaded.

    - `whisper`: an architecture, with its usual weights;
    - `wav2vec2:runs/teacher/teacher.pt`: an architecture and its checkpoint;
    - `wav2vec2:scratch`: a small network of the architecture, trained on the run's own recordings;
    - `mine=runs/teacher/teacher.pt`: a checkpoint, whose architecture is stored in it, and a name for it;
    - `ensemble:whisper,word_embedding:other.pt`: members of either of the first two forms;
    - a name and `=` before any of them names the condition.

    Raises:
        ConfigError: the text is none of these.
    """
    name, rest = text.split("=", 1) if "=" in text else ("", text)
    architecture, _, path = rest.partition(":")
    members: list[str] = []
    if architecture == ENSEMBLE:
        members, path = [member.strip() for member in path.split(",")], ""
        if len(members) < 2:
            raise ConfigError(f"--teacher {text}: an ensemble has two members or more, as in ensemble:whisper,wavlm")
    elif architecture not in ARCHITECTURES:
        if not Path(rest).is_file():
            raise ConfigError(
                f"--teacher {text}: {architecture!r} is neither a teacher's checkpoint nor an architecture "
                f"({', '.join(ARCHITECTURES)}); give ARCHITECTURE, ARCHITECTURE:PATH, ARCHITECTURE:scratch, NAME=PATH "
                "or ensemble:MEMBER,MEMBER"
            )
        architecture, path = load_teacher(Path(rest)).architecture, rest
    settings: dict[str, Any] = {
        "distillation.enabled": True,
        "distillation.teacher_model_path": "" if path == SCRATCH else path,
        "distillation.teacher_name": "",
        "distillation.teachers": members,
        "distillation.teacher_architecture": architecture,
    }
    if path == SCRATCH:
        settings["teacher.from_scratch"] = True
    return Condition(name or _usual_name(architecture, members), settings)


def _usual_name(architecture: str, members: Sequence[str]) -> str:
    return "+".join(member.partition(":")[0] for member in members) or architecture
