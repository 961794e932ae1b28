"""A configuration section is valid at every moment: each assignment is checked, and every error names the key."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from edgewake.console import error_console
from edgewake.errors import ConfigError

# Keys of the release before, which act under their new names for one release: old path, new path, and what else a
# user of the old one must know.
RENAMED: dict[str, tuple[str, str]] = {
    "training.cache": ("cache.folder", ""),
    "training.mining_threshold": ("training.mining_cutoff", ""),
    "distillation.cache_gb": ("cache.limit_gb", ""),
    "distillation.cache": ("distillation.store_outputs", "; where outputs are stored is cache.folder"),
}


class Section(BaseModel):
    """Base of all configuration sections; once frozen, any assignment raises `ConfigError`.

    Assigned values are validated at once; a refused value leaves the section as it was. Types are strict (an int
    is accepted for a float, nothing else is converted). Fields hold immutable values only (numbers, strings,
    tuples, sections), so that nothing changes without validation.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, strict=True, allow_inf_nan=False, validate_default=True
    )
    _frozen: bool = False

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise config_error(type(self), error) from None

    @classmethod
    def section_name(cls) -> str:
        """The section's key in a configuration file: `OptimizerConfig` is `optimizer`."""
        return cls.__name__.removesuffix("Config").lower()

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        if name not in type(self).model_fields:
            raise ConfigError(unknown_key(type(self), name, value))
        if self._frozen:
            path = join_path(self.section_name(), name)
            raise ConfigError(
                f"{path} is frozen: a run works on one configuration; change config.model_copy(), use that"
            )
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            # A validator of the whole section runs with the new value in place; put the old one back.
            self.__dict__.update(before)
            raise config_error(type(self), error) from None

    def __eq__(self, other: object) -> bool:
        """Equal type and values, frozen or not."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def freeze(self) -> Self:
        """A deep copy that refuses every assignment, in its sections too."""
        copy = self.model_copy()
        copy._set_frozen(True)
        return copy

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = True) -> Self:
        """A copy that can be changed; `update` is validated like assignments. Always deep."""
        copy = super().model_copy(deep=True)
        copy._set_frozen(False)
        for name, value in (update or {}).items():
            setattr(copy, name, value)
        return copy

    def _set_frozen(self, frozen: bool) -> None:
        self._frozen = frozen
        for value in self.__dict__.values():
            if isinstance(value, Section):
                value._set_frozen(frozen)


def join_path(*parts: object) -> str:
    """Key parts joined by dots, empty ones left out."""
    return ".".join(str(part) for part in parts if part != "")


def unknown_key(section: type[Section], name: str, value: Any, path: str = "") -> str:
    """The message for a key `name` that `section` does not have; `path` is the given one, where it goes on below it."""
    path = path or join_path(section.section_name(), name)
    if path in RENAMED:
        return f"{path} is now {RENAMED[path][0]}"
    known, hint = list(section.model_fields), ""
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        meant = ".".join(near[0] if part == name else part for part in path.split("."))
        hint = f"did you mean {meant!r}? "
    return f"unknown key {path!r} = {_short(value)}; {hint}known keys: {', '.join(known)}"


def config_error(section: type[Section], error: ValidationError) -> ConfigError:
    """Pydantic's first complaint about a section, with the nearest key for one that it does not have."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        path = join_path(section.section_name(), *first["loc"])
        return ConfigError(unknown_key(section, str(first["loc"][-1]), first["input"], path))
    return ConfigError(first_complaint(error, section.section_name()))


def first_complaint(error: ValidationError, above: str = "") -> str:
    """Pydantic's first complaint in one line: path below `above`, value, what is allowed, nearest value."""
    first = error.errors(include_url=False)[0]
    path, given = join_path(above, *first["loc"]), first["input"]
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if first["type"] == "literal_error":
        near = difflib.get_close_matches(str(given), re.findall("'(.*?)'", first["ctx"]["expected"]), n=1, cutoff=0.5)
        message += f"; did you mean {near[0]!r}?" if near else ""
    known = {"missing": f"{path} is missing", "extra_forbidden": f"{path} is not a known key"}
    if isinstance(given, dict | BaseModel) and first["type"] == "value_error":
        # Several keys contradict one another; the message names them.
        return f"{path}: {message}" if path else message
    return known.get(first["type"], f"{path} = {_short(given)}: {message}") if path else message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# ---- keys of the release before ------------------------------------------------------------------


@functools.cache
def warn(old: str) -> None:
    """One line on stderr, once in a process for each key."""
    new, note = RENAMED[old]
    error_console.print(f"warning: {old} is now {new}{note}; the old name ends with the next release", soft_wrap=True)


def replaced(path: str, value: Any) -> tuple[str, Any]:
    """The path and value of today for a path and value of the release before; others as they are."""
    if path in RENAMED:
        warn(path)
        # This one was a folder, and empty where outputs were not to be stored.
        path, value = RENAMED[path][0], bool(value) if path == "distillation.cache" else value
    return path, value


def replaced_in(values: dict[str, Any]) -> dict[str, Any]:
    """Sections of keys with the old keys replaced; where a section has the new one too, that one counts."""
    sections = {name: dict(keys) if isinstance(keys, dict) else keys for name, keys in values.items()}
    for old in RENAMED:
        section, _, key = old.partition(".")
        if isinstance(sections.get(section), dict) and key in sections[section]:
            new, value = replaced(old, sections[section].pop(key))
            section, _, key = new.partition(".")
            sections[section] = sections.get(section) or {}
            if isinstance(sections[section], dict):
                sections[section].setdefault(key, value)
    return sections
