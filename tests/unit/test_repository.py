"""The repository keeps its promises: pins, versions, documents, hooks and headers agree with one another."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
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
NOT_OURS = {"build", "dist", "runs", "generated", "managed_components", "__pycache__"}


def files(*suffixes: str) -> list[Path]:
    """Files of the repository with one of `suffixes` (none: all), generated and installed ones left out."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name == ".ci" or not (name in NOT_OURS or name[0] == ".")]
        found += [Path(folder) / name for name in names if not suffixes or Path(name).suffix in suffixes]
    return sorted(found)


def relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def make_targets() -> dict[str, list[str]]:
    """Targets of the Makefile by name, with their prerequisites."""
    text = (ROOT / "Makefile").read_text()
    rules = re.findall(r"^([a-z-]+(?: [a-z-]+)*):(?!=)([^#\n]*)", text, re.MULTILINE)
    return {name: prerequisites.split() for names, prerequisites in rules for name in names.split()}


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


# What a base install can do


def run_without(modules: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter in which importing any of `modules` fails."""
    blocker = f"import sys\nfor name in {sorted(modules)!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", blocker + code], capture_output=True, text=True, check=False)


def test_help_needs_nothing_heavy() -> None:
    done = run_without(HEAVY, "sys.argv = ['edgewake', '--help']\nfrom edgewake.cli import main\nmain()")
    assert done.returncode == 0, done.stderr
    assert "build" in done.stdout


def test_public_names_need_nothing_heavy() -> None:
    code = "import edgewake\nfor name in edgewake.__all__: getattr(edgewake, name)"
    done = run_without(HEAVY, code)
    assert done.returncode == 0, done.stderr


# Versions


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    assert edgewake.__version__ == version
    cmake = re.search(r"project\(edgewake VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert cmake is not None
    assert cmake.group(1) == version
    newest = re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == version


# Files


def first_words(path: Path) -> str:
    """The guarantee that a source file starts with, or an empty string."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        lines = (ast.get_docstring(ast.parse(text)) or "").splitlines()
        return lines[0] if lines else ""
    first = text.removeprefix('<?xml version="1.0"?>\n').split("\n", 1)[0]
    match = re.match(r"(?:/\*+|//|#|<!--)\s*(.*)", first)
    return match.group(1) if match else ""


def test_every_source_file_starts_with_what_it_guarantees() -> None:
    sources = files(".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".svg", ".yaml", ".yml", ".defaults")
    sources += [ROOT / "Makefile", ROOT / "CMakeLists.txt", ROOT / "constraints.txt"]
    written = [path for path in sources if not path.is_relative_to(ROOT / "models")]  # saved by training
    silent = [path for path in written if len(first_words(path).split()) < 4]
    assert not relative(silent)


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/\w")
    named = [path for path in files() if pattern.search(path.read_text(encoding="utf-8", errors="ignore"))]
    assert not relative(named)


def test_no_file_is_large() -> None:
    large = [path for path in files() if path.stat().st_size > 2_000_000 and path.suffix != ".so"]
    assert not relative(large)


# Documents


def documents() -> Iterator[tuple[Path, str]]:
    for path in files(".md"):
        yield path, path.read_text(encoding="utf-8")


def typed(text: str, program: str) -> list[str]:
    """First arguments of `program` in code: between backticks, or at the start of a line of a block."""
    blocks = re.findall(r"```.*?```|(?:^ {4}.*\n)+", text, re.DOTALL | re.MULTILINE)
    spoken = re.findall(rf"`{program} ([a-z][a-z-]+)", text)
    return spoken + re.findall(rf"^ *(?:\$ )?{program} ([a-z][a-z-]+)", "\n".join(blocks), re.MULTILINE)


def test_links_in_documents_lead_somewhere() -> None:
    broken = []
    for path, text in documents():
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            if not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken


def test_make_targets_in_documents_exist() -> None:
    known = set(make_targets())
    for path, text in documents():
        for target in typed(text, "make"):
            assert target in known, f"{path.relative_to(ROOT)}: make {target}"


def test_commands_in_documents_exist() -> None:
    from edgewake.cli import main

    for path, text in documents():
        for verb in typed(text, "edgewake"):
            assert verb in main.commands, f"{path.relative_to(ROOT)}: edgewake {verb}"


def test_scripts_and_modules_named_in_documents_exist() -> None:
    known = {path.name for path in files(".py")} | {"idf.py"}
    for path, text in documents():
        for name in re.findall(r"`(?:[\w./]*/)?(\w+\.py)`", text):
            assert name in known, f"{path.relative_to(ROOT)}: {name}"


def test_architecture_has_a_paragraph_for_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = [path.parent.name for path in (ROOT / "toolchain" / "edgewake").glob("[a-z]*/__init__.py")]
    assert packages
    for package in packages:
        assert re.search(rf"^\*\*`(?:[a-z_]+/`, `)*{package}/`", text, re.MULTILINE), package


# Checks


def test_hooks_run_what_make_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)
    entries = [hook["entry"].removeprefix("make --silent ") for hook in hooks]
    assert entries == make_targets()["lint"]


def test_hook_configuration_is_valid() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tools_of_lint_are_pinned() -> None:
    pinned = constraints()
    recipe = (ROOT / "Makefile").read_text()
    tools = set(re.findall(r"\$\(BIN\)/([a-z-]+)", recipe)) - {"python", "ninja", "edgewake"}
    assert {"ruff", "mypy", "clang-format", "cmake"} <= tools
    assert not {"cmake" if tool == "ctest" else tool for tool in tools} - set(pinned)


def test_ci_runs_make_test_and_tests_end_with_pytest() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().splitlines()[-1].startswith("exec make test")
    assert make_targets()["test"][-1] == "pytest"
