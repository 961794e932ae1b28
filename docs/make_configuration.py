"""Renew the tables of all keys in docs/configuration.md, between its two markers, from the classes themselves."""

from __future__ import annotations

import json
from pathlib import Path

from edgewake.config.base import Section
from edgewake.config.defaults import WakewordConfig
from edgewake.config.ranges import allowed
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
    """Write the tables between the markers of a Markdown file."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    write_text(path, f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}")


def _table(section: Section, names: list[str], prefix: str = "") -> str:
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    schema = type(section).model_json_schema()["properties"]
    for name in names:
        field = type(section).model_fields[name]
        default = json.dumps(section.model_dump(mode="json")[name], ensure_ascii=False)
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | `{default}` | {allowed(schema[name])} | {meaning} |")
    return "\n".join(rows)


if __name__ == "__main__":
    renew(Path(__file__).with_name("configuration.md"))
