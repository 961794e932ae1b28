"""YAML 1.2's core schema: 1e-3 is a number, `on` is text, no key comes twice, and a round trip is exact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from edgewake.errors import ConfigError
from edgewake.io import usual_recursion_limit

# Section 10.3.2 of YAML 1.2. PyYAML's own schema is YAML 1.1, where 1e-3 is text and `on` is true.
_NUMBER = r"(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
MOST_VALUES = 100_000
_SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+$", list("-+0123456789")),
    "float": (rf"^(?:[-+]?{_NUMBER}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.0123456789")),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Aliases of aliases double with each level: a page of text would be more values than memory holds.
        node = super().compose_node(parent, index)
        if not hasattr(self, "_sizes"):
            self._sizes: dict[int, int] = {}
        if node is not None and id(node) not in self._sizes:
            below = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [part for item in below for part in (item if isinstance(item, tuple) else (item,))]
            self._sizes[id(node)] = size = 1 + sum(self._sizes.get(id(part), 0) for part in parts)
            if size > MOST_VALUES:
                what = f"its aliases (*name) stand for more than {MOST_VALUES:,} values; write out what is meant"
                raise yaml.composer.ComposerError(None, None, what, node.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (KeyError, AttributeError, TypeError, ValueError):
            # What PyYAML's constructors raise for values that do not fit an explicit tag, such as !!bool maybe.
            what = f"{node.value!r:.40} is not a value of type {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            wrong = "is given twice" if key in seen else "must be text" if not key_node.tag.endswith(":str") else ""
            if wrong:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r:.60} {wrong}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # Only in double quotes does PyYAML escape what a reader would take for a line break (NEL, U+2028).
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, None if value.isprintable() else '"')


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)
# PyYAML's own reads 010 as octal.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))  # type: ignore[arg-type]
_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def load_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top is a mapping; an empty file is an empty mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; `edgewake config show PRESET` prints one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return parse_mapping(text, str(path))


def parse_mapping(text: str, name: str) -> dict[str, Any]:
    """As `load_mapping`, from text; `name` stands for the file in errors."""
    try:
        with usual_recursion_limit():
            value = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        where = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{where}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nests too deeply; settings have two levels") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: the top must be a mapping of sections (model:, data:, ...), not {value!r:.60}")
    return value


def parse_scalar(text: str) -> Any:
    """One value as it would stand behind a key, for overrides on a command line."""
    return parse_mapping(f"value: {text}", "override")["value"]


def dump(value: dict[str, Any]) -> str:
    """YAML text that `parse_mapping` turns into the same values, in the same order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text
