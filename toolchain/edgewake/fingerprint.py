"""A fingerprint of code changes with every file that runs: sources, the native library, versions of other packages."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

from edgewake._native import library_sha256
from edgewake.errors import EdgewakeError
from edgewake.io import sha256_file

PACKAGE = "edgewake"
ROOT = Path(__file__).parent
# Files beside a module that decide what it gives: templates of reports, the catalogue of assets.
_DATA_SUFFIXES = (".j2", ".toml")


def code_fingerprint(*modules: str) -> str:
    """SHA-256 of all that decides what modules, such as "edgewake.data.store", compute: 64 hex digits.

    It covers each module and every module of edgewake that it imports, directly or not; where the C core is among
    them, the library that this process loads; and the versions of the other packages that any of them imports.
    """
    files = closure(modules)
    digest = hashlib.sha256(f"python {sys.version_info[0]}.{sys.version_info[1]}\0".encode())
    for name, file in sorted(files.items()):
        digest.update(f"{name}\0{sha256_file(file)}\0".encode())
        for extra in sorted(path for path in file.parent.iterdir() if path.suffix in _DATA_SUFFIXES):
            digest.update(f"{extra.name}\0{sha256_file(extra)}\0".encode())
    if f"{PACKAGE}._native" in files:
        digest.update(f"native\0{library_sha256()}\0".encode())
    for distribution, version in _distributions(files.values()):
        digest.update(f"{distribution}=={version}\0".encode())
    return digest.hexdigest()


def closure(modules: Iterable[str]) -> dict[str, Path]:
    """Modules of edgewake and all of edgewake that they import: dotted name to source file."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    if absent := [name for name in waiting if _file(name) is None]:
        raise EdgewakeError(f"edgewake has no module {absent[0]!r}; the installation is incomplete, reinstall it")
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is None or name in found:
            continue
        found[name] = file
        # A package's __init__ runs before its modules do.
        waiting.append(name.rpartition(".")[0])
        waiting += [target for target in _imports(file) if target.split(".")[0] == PACKAGE]
    return found


def _file(module: str) -> Path | None:
    first, *rest = module.split(".")
    place = ROOT.joinpath(*rest)
    files = (place.with_suffix(".py"), place / "__init__.py") if first == PACKAGE else ()
    return next((file for file in files if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    """Dotted names that a source file may import: modules, and names in them that could be modules.

    A package whose names load lazily lists them in its `.pyi`, so a name is followed to the module that has it.
    """
    for module, names in _parsed(file.read_bytes()):
        package = _file(module)
        stub = package.with_suffix(".pyi") if package else None
        listed = _parsed(stub.read_bytes()) if stub and stub.is_file() else ()
        lazy = {name: module + source for source, found in listed for name in found if source.startswith(".")}
        yield module
        yield from (lazy.get(name, f"{module}.{name}") for name in names)


@lru_cache(maxsize=1024)
def _parsed(source: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Imports of a module, anywhere in it, and attributes of imported names: (module, names)."""
    found: list[tuple[str, tuple[str, ...]]] = []
    nodes = list(ast.walk(ast.parse(source)))
    known: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.append((module, tuple(alias.name for alias in node.names)))
            known |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    # `from edgewake import models`, then models.TinyConv: a package loads the module of that name when it is used.
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            found.append((known[node.value.id], (node.attr,)))
    return tuple(found)


def _distributions(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Name and version of every installed distribution that the files import from; absent ones are named so."""
    wanted = {module.split(".")[0] for file in files for module, _ in _parsed(file.read_bytes())}
    wanted -= {PACKAGE, "", *sys.stdlib_module_names}
    owners = _owners()
    for distribution in (owner for name in sorted(wanted) for owner in sorted(set(owners.get(name, ()))) or [name]):
        try:
            yield distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            yield distribution, "absent"


_owners = cache(metadata.packages_distributions)
