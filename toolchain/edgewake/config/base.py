"""A configuration section is valid at every moment: each assignment is checked, and every error names the key."""

from __future__ import annotations

import difflib
import types
import weakref
from collections.abc import Mapping
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from edgewake.config.renamed import RENAMED, replaced
from edgewake.errors import ConfigError


class Section(BaseModel):
    """Base of all configuration sections.

    Assigned values are validated at once; a refused value leaves the section as it was. Types are strict (an int
    is accepted for a float, nothing else is converted). Once frozen, any assignment raises `ConfigError`. Fields
    hold immutable values only (numbers, strings, tuples, sections), so that nothing changes without validation.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, strict=True, allow_inf_nan=False, validate_default=True
    )
    _frozen: bool = False
    # The configuration that the section belongs to: a renamed key may lie in another section today.
    _whole: weakref.ref[Any] | None = None

    def __init__(self, **values: Any) -> None:
        for name in [name for name in values if self._path(name) in RENAMED]:
            new, value = replaced(self._path(name), values[name])
            if new.startswith(f"{self.section_name()}."):
                values.pop(name)
                values.setdefault(new.partition(".")[2], value)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise config_error(type(self), error) from None

    @classmethod
    def section_name(cls) -> str:
        """The section's key in a configuration file: `OptimizerConfig` is `optimizer`."""
        return cls.__name__.removesuffix("Config").lower()

    @classmethod
    def _path(cls, name: str) -> str:
        return join_path(cls.section_name(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        path = self._path(name)
        if path in RENAMED:
            new, value = replaced(path, value)
            holder, name = self._holder(path, new)
            setattr(holder, name, value)
            return
        if name not in type(self).model_fields:
            raise ConfigError(unknown_key(type(self), name, value))
        if self._frozen:
            raise ConfigError(
                f"{path} is frozen: a run works on one configuration; change config.model_copy() and use that"
            )
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            # A validator of the whole section runs with the new value in place; put the old one back.
            self.__dict__.update(before)
            raise config_error(type(self), error) from None

    def __getattr__(self, name: str) -> Any:
        path = self._path(name)
        if path not in RENAMED:
            return super().__getattr__(name)  # type: ignore[misc]
        holder, name = self._holder(path, replaced(path, None)[0])
        return getattr(holder, name)

    def _holder(self, old: str, new: str) -> tuple[Section, str]:
        """The section that has a renamed key today, and the key's name in it."""
        section, _, name = new.partition(".")
        if section == self.section_name():
            return self, name
        whole = self._whole and self._whole()
        if whole is None or getattr(whole, self.section_name()) is not self:
            raise ConfigError(f"{old} is now {new}: this {type(self).__name__} is of no configuration that has it")
        return getattr(whole, section), name

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        private = state.get("__pydantic_private__") or {}
        return state | {"__pydantic_private__": private | {"_whole": None}}

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f"{self._path(name)} cannot be deleted: assign its default instead")

    def __eq__(self, other: object) -> bool:
        """Equal type and values, frozen or not."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    @property
    def frozen(self) -> bool:
        """Whether assignments are refused."""
        return self._frozen

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
    """The message for a key that `section` does not have: path, value, the nearest key and all that it has.

    Args:
        section: the one that was to have the key.
        name: of the key in it.
        value: that the key was to get.
        path: the given one, where it goes on below the key.
    """
    path = path or join_path(section.section_name(), name)
    if path in RENAMED:
        return f"{path} is now {RENAMED[path][0]}"
    known, hint = list(section.model_fields), ""
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        meant = ".".join(near[0] if part == name else part for part in path.split("."))
        hint = f"did you mean {meant!r}? "
    return f"unknown key {path!r} = {_short(value)}; {hint}known keys: {', '.join(known)}"


def config_error(section: type[Section], error: ValidationError) -> ConfigError:
    """Pydantic's first complaint in one line: full path, value, what is allowed, nearest key or value."""
    first = error.errors(include_url=False)[0]
    path = join_path(section.section_name(), *first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigError(unknown_key(section, str(first["loc"][-1]), first["input"], path))
    if isinstance(first["input"], dict | Section) and first["type"] == "value_error":
        # The section's keys contradict one another; the message names them.
        return ConfigError(f"{path}: {_allowed(section, first)}" if path else _allowed(section, first))
    return ConfigError(f"{path} = {_short(first['input'])}: {_allowed(section, first)}")


def _allowed(section: type[Section], first: ErrorDetails) -> str:
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        known = _choices(section.model_fields[str(first["loc"][0])].annotation)
        near = difflib.get_close_matches(first["input"], known, n=1, cutoff=0.5)
        return f"{message}; did you mean {near[0]!r}?" if near else message
    return message


def _choices(annotation: Any) -> list[str]:
    """The strings that a type's `Literal`s allow, at any depth."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    nested = get_origin(annotation) in (Union, types.UnionType, tuple)
    return [name for part in get_args(annotation) for name in _choices(part)] if nested else []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
