"""Teachers as a command line names them: whisper, wav2vec2:teacher.pt, NAME=teacher.pt, ensemble:a,b."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edgewake.config import WakewordConfig
from edgewake.config.sections import TeacherArchitecture
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.registry import load_teacher

BASELINE = "baseline"
ARCHITECTURES: tuple[str, ...] = get_args(TeacherArchitecture)
SCRATCH = "scratch"
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
    name: str = distillation.teacher_architecture
    if name == "ensemble":
        name = "+".join(member.partition(":")[0] for member in distillation.teachers)
    return Condition(name, {"distillation.enabled": True})


def parse_teacher(text: str) -> Condition:
    """A condition from the text of `--teacher`.

    - `whisper`: an architecture, with its usual weights;
    - `wav2vec2:runs/teacher/teacher.pt`: an architecture and its checkpoint;
    - `wav2vec2:scratch`: a small network of the architecture, trained on the run's own recordings;
    - `mine=runs/teacher/teacher.pt`: a checkpoint that knows its architecture, and what to call it;
    - `ensemble:whisper,word_embedding:other.pt`: members of either of the first two forms;
    - a name and `=` before any of them says what to call it.

    Raises:
        ConfigError: the text is none of these, or the file is not there.
    """
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = "", text
    architecture, _, path = rest.partition(":")
    settings: dict[str, Any] = {
        "distillation.enabled": True,
        "distillation.teacher_model_path": "",
        "distillation.teacher_name": "",
        "distillation.teachers": [],
    }
    if architecture == "ensemble":
        members = [member.strip() for member in path.split(",") if member.strip()]
        if len(members) < 2:
            raise ConfigError(f"--teacher {text}: an ensemble has two members or more; {_FORMS}")
        for member in members:
            _check_single(member, text)
        settings["distillation.teachers"] = members
        usual = "+".join(member.partition(":")[0] for member in members)
    elif path == SCRATCH:
        _check_single(architecture, text)
        settings["teacher.from_scratch"] = True
        usual = architecture
    elif architecture in ARCHITECTURES:
        _check_single(rest, text)
        settings["distillation.teacher_model_path"] = path
        usual = architecture
    elif Path(rest).is_file():
        architecture = _architecture_of(Path(rest))
        usual = architecture
        settings["distillation.teacher_model_path"] = rest
    else:
        raise ConfigError(
            f"--teacher {text}: {rest!r} is neither a teacher's checkpoint nor an architecture "
            f"({', '.join(ARCHITECTURES)}); {_FORMS}"
        )
    settings["distillation.teacher_architecture"] = architecture
    if name == BASELINE:
        raise ConfigError(f"--teacher {text}: {BASELINE!r} is training without a teacher; choose another name")
    return Condition(name or usual, settings)


def _check_single(member: str, text: str) -> None:
    architecture, _, path = member.partition(":")
    if architecture not in ARCHITECTURES or architecture == "ensemble":
        raise ConfigError(
            f"--teacher {text}: {architecture!r} must be one of "
            f"{', '.join(name for name in ARCHITECTURES if name != 'ensemble')}; {_FORMS}"
        )
    if path and not Path(path).exists():
        raise ConfigError(f"--teacher {text}: {path} does not exist; edgewake teacher train writes a teacher.pt")


def _architecture_of(path: Path) -> str:

    try:
        return load_teacher(path).architecture
    except EdgewakeError as error:
        raise ConfigError(f"--teacher {path}: {error}") from error


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
