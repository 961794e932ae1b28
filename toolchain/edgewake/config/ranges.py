"""What a key of a section may be, in words, from its JSON Schema: for the documentation and the page."""

from __future__ import annotations

from typing import Any


def allowed(schema: dict[str, Any]) -> str:
    """The type and limits of a key by its JSON Schema, in words and Markdown."""
    if "anyOf" in schema:
        return " or ".join(allowed(part) for part in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type"))
    if "prefixItems" in schema:
        return f"[low, high], each a {allowed(schema['prefixItems'][0])}"
    if kind == "array":
        count = f"{schema['minItems']} or more of " if "minItems" in schema else ""
        return f"list: {count}{allowed(schema['items'])}"
    words = {"boolean": "`true`, `false`", "string": "text", "integer": "whole number", "number": "number"}
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits["multipleOf"] = "multiple of"
    found = [f"{sign} {schema[key]}" for key, sign in limits.items() if key in schema]
    return ", ".join([words.get(kind, kind), *found])
