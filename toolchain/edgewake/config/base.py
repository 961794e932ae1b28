"""A configuration section is valid at every moment: each assignment is checked, and every error names the key."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgewake.errors import ConfigError


class Section(BaseModel):
    """Base of all configuration sections.

    Fields can be assigned and are validated at once; after `freeze()` any assignment raises `ConfigError`.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, strict=False, allow_inf_nan=False, validate_default=True
    )
    _frozen: bool = False
    _path: str = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise config_error(type(self), error, "") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        path = f"{self._path}.{name}" if self._path else name
        if self._frozen:
            raise ConfigError(f"{path} is frozen: change a copy (config.model_copy(deep=True)) instead")
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise config_error(type(self), error, self._path) from None
        except ValueError as error:
            raise ConfigError(unknown_key(type(self), path, name)) from error


def unknown_key(section: type[BaseModel], path: str, name: str) -> str:
    """The message for a key that `section` does not have, with the nearest key that it has."""
    known = list(section.model_fields)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {path!r}; {hint}"


def config_error(section: type[BaseModel], error: ValidationError, prefix: str) -> ConfigError:
    """Turn pydantic's first complaint into one line: full path, value, what is allowed, nearest key."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in ((prefix, *first["loc"]) if prefix else first["loc"]))
    if first["type"] == "extra_forbidden":
        holder: Any = section
        for part in first["loc"][:-1]:
            holder = holder.model_fields[str(part)].annotation
        return ConfigError(unknown_key(holder, path, str(first["loc"][-1])))
    return ConfigError(f"{path} = {first.get('input')!r}: {first['msg']}")
