"""A fingerprint changes with every file that runs, and with the native library; with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgewake import _native, fingerprint
from edgewake.cache import content_key
from edgewake.errors import EdgewakeError
from edgewake.fingerprint import closure, code_fingerprint
from edgewake.io import sha256_file

RENDERS = "edgewake.data.rendering"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which fingerprints are taken of."""
    package = tmp_path / "edgewake"
    shutil.copytree(fingerprint.ROOT, package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    monkeypatch.setattr(fingerprint, "ROOT", package)
    return package


def append(path: Path, what: bytes) -> None:
    path.write_bytes(path.read_bytes() + what)


@pytest.mark.parametrize(
    "file",
    ["data/rendering.py", "runtime/frontend/native.py", "config/defaults.py", "data/__init__.py", "errors.py"],
)
def test_an_edit_of_any_module_that_runs_changes_it(copy: Path, file: str) -> None:
    before = code_fingerprint(RENDERS)
    append(copy / file, b"\n# edited\n")
    assert code_fingerprint(RENDERS) != before


def test_an_edit_of_the_native_library_changes_it_once_that_is_loaded(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_fingerprint(RENDERS)
    newer = tmp_path / _native.library_path().name
    newer.write_bytes(_native.library_path().read_bytes() + b"\0")
    monkeypatch.setattr(_native, "__path__", [*_native.__path__, str(tmp_path)])
    assert _native.library_path() == newer
    assert code_fingerprint(RENDERS) == before, "this process still runs the library that it loaded"
    loaded = _native.load.__wrapped__()
    newer.unlink()  # built again after it was loaded
    newer.write_bytes(b"newer still")
    monkeypatch.setattr(_native, "load", lambda: loaded)
    assert code_fingerprint(RENDERS) != before
    assert loaded.sha256 != sha256_file(newer)


def test_code_that_does_not_run_changes_nothing(copy: Path) -> None:
    before = code_fingerprint(RENDERS)
    append(copy / "targets" / "budget.py", b"\n# edited\n")
    assert code_fingerprint(RENDERS) == before


def test_another_version_of_a_package_that_is_used_changes_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = code_fingerprint(RENDERS), fingerprint.metadata.version
    monkeypatch.setattr(fingerprint.metadata, "version", lambda name: "0" if name == "numpy" else real(name))
    assert code_fingerprint(RENDERS) != before


def test_a_name_that_loads_lazily_is_followed_to_the_module_that_has_it(copy: Path) -> None:
    (copy / "data" / "rendering.py").write_text("from edgewake.config import get_preset\n")
    assert "edgewake.config.presets" in closure([RENDERS])


def test_every_module_is_in_its_own_closure_and_imports_only_what_exists() -> None:
    for file in fingerprint.ROOT.rglob("*.py"):
        name = ".".join(("edgewake", *file.relative_to(fingerprint.ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        assert name in closure([name])


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(EdgewakeError, match=r"no module 'edgewake\.absent'"):
        code_fingerprint("edgewake.absent")


def test_a_key_holds_code_parameters_and_the_content_of_inputs(copy: Path, tmp_path: Path) -> None:
    given = tmp_path / "input"
    given.write_bytes(b"one")
    key = content_key("clips", {"seed": 1}, code=[RENDERS], inputs=[given])
    assert content_key("clips", {"seed": 1}, code=[RENDERS], inputs=[given]) == key
    assert content_key("clips", {"seed": 2}, code=[RENDERS], inputs=[given]) != key
    assert content_key("other", {"seed": 1}, code=[RENDERS], inputs=[given]) != key
    given.write_bytes(b"two")
    assert content_key("clips", {"seed": 1}, code=[RENDERS], inputs=[given]) != key


def test_a_module_that_a_package_loads_on_use_counts() -> None:
    """`from edgewake import models` and `models.TinyConv` run edgewake.models.tiny_conv."""
    assert "edgewake.models.tiny_conv" in closure(["edgewake.parity.checks"])
    assert "edgewake.models.clip" not in closure(["edgewake.parity.checks"])
