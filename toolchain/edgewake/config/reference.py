"""The table of every key is made from the classes themselves, so that documentation cannot fall behind them.

`python -m edgewake.config.reference docs/configuration.md` renews the tables between the file's two markers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from edgewake.config.base import Section
from edgewake.config.wakeword import WakewordConfig
from edgewake.errors import ConfigError
from edgewake.io import write_text

BEGIN = "<!-- keys: begin -->"
END = "<!-- keys: end -->"


def tables() -> str:
    """Markdown: one table for the top level and for each section, of key, default, range and meaning."""
    defaults = WakewordConfig()
    sections = {name: value for name, value in defaults if isinstance(value, Section)}
    parts = ["### Top level\n\n" + _table(defaults, [n for n in WakewordConfig.model_fields if n not in sections])]
    for name, section in sections.items():
        first = (type(section).__doc__ or "").strip().splitlines()[0]
        parts.append(f"### `{name}`\n\n{first}\n\n" + _table(section, list(type(section).model_fields), f"{name}."))
    return "\n\n".join(parts)


def renew(path: Path) -> None:
    """Write the tables between the markers of a Markdown file.

    Raises:
        ConfigError: a marker is missing.
    """
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ConfigError(f"{path} lacks the line {BEGIN!r} or {END!r}; put both where the tables belong")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(path, f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}")


def _table(section: Section, names: list[str], prefix: str = "") -> str:
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    schema = type(section).model_json_schema()["properties"]
    for name in names:
        field = type(section).model_fields[name]
        default = json.dumps(section.model_dump(mode="json")[name], ensure_ascii=False)
        rows.append(f"| `{prefix}{name}` | `{default}` | {_allowed(schema[name])} | {_meaning(field)} |")
    return "\n".join(rows)


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _allowed(schema: dict[str, Any]) -> str:
    """What JSON Schema says of a key, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return _list_of(schema)
    words = {"boolean": "`true`, `false`", "string": "text", "integer": "whole number", "number": "number"}
    name = words.get(str(kind), str(kind))
    limits = [
        f"{sign} {schema[word]}"
        for word, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if word in schema
    ]
    if "multipleOf" in schema:
        limits.append(f"multiple of {schema['multipleOf']}")
    return ", ".join([name, *limits])


def _list_of(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[low, high], each a {_allowed(schema['prefixItems'][0])}"
    count = f"{schema['minItems']} or more of " if "minItems" in schema else ""
    return f"list: {count}{_allowed(schema['items'])}"


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
