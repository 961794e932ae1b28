"""Pins and versions hold, and a base install pulls in nothing heavy."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import platform
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edgewake

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {
    "ai_edge_litert",
    "ai_edge_quantizer",
    "matplotlib",
    "onnx",
    "onnx2tf",
    "onnxruntime",
    "scipy",
    "tensorboard",
    "tensorflow",
    "tf_keras",
    "torch",
    "torchaudio",
}
# What is pinned


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def closure(requirements: list[str]) -> dict[str, str]:
    """Every installed distribution that `requirements` pull in, with its version."""
    queue = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    result = {}
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        result[key[0]] = distribution.version
        for text in distribution.requires or []:
            needed = Requirement(text)
            extras = ["", *requirement.extras]
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(needed)
    return result


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="constraints are those of Linux x86-64"
)
def test_constraints_pin_what_all_extras_pull_in_and_nothing_else() -> None:
    extras = itertools.chain.from_iterable(PROJECT["optional-dependencies"].values())
    needed = closure([*PROJECT["dependencies"], *extras])
    pinned = constraints()
    assert pinned == {**needed, "pip": pinned["pip"]}


def test_base_install_pulls_in_nothing_heavy() -> None:
    heavy = {canonicalize_name(name) for name in HEAVY}
    assert not heavy & set(closure(PROJECT["dependencies"]))


def test_constraints_satisfy_what_the_metadata_asks_for() -> None:
    pinned = constraints()
    extras = itertools.chain.from_iterable(PROJECT["optional-dependencies"].values())
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras, *build]):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version}"


# Versions


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    assert edgewake.__version__ == version
    cmake = re.search(r"project\(edgewake VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert cmake is not None
    assert cmake.group(1) == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == version


# Imports


def test_no_function_imports_from_edgewake() -> None:
    found = []
    for file in (ROOT / "toolchain" / "edgewake").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inner = (node for node in ast.walk(tree) if node not in tree.body)
        for node in inner:
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(module.split(".")[0] == "edgewake" for module in modules):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_ci_runs_make_test_and_tests_end_with_pytest() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().splitlines()[-1].startswith("exec make test")
    assert re.search(r"^test: .*pytest( ##.*)?$", (ROOT / "Makefile").read_text(), re.MULTILINE)
