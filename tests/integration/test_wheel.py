"""What `pip install edgewake` installs is whole: every module, the C core, the calibration data, and it computes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each needs a wheel


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive of this checkout and the wheel that is built from it, without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """The unpacked wheel."""
    (wheel,) = built.glob("*.whl")
    assert "-py3-none-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "site")
    return built / "site"


def test_an_index_takes_the_metadata(built: Path) -> None:
    archives = map(str, [*built.glob("*.whl"), *built.glob("*.tar.gz")])
    command = [sys.executable, "-m", "twine", "check", "--strict", *archives]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


# An editable install puts a finder of its own before the path; without it, the path decides.
PATH_DECIDES = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
"""


def run_installed(site: Path, code: str) -> str:
    """Standard output of `code` in an interpreter that finds the unpacked wheel before any checkout."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", PATH_DECIDES + code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=site,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_wheel_holds_every_file_of_the_package(repository: Path, installed: Path) -> None:
    package = repository / "toolchain" / "edgewake"
    wanted = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    wanted = {path for path in wanted if "__pycache__" not in path.parts and path.suffix not in (".so", ".pyc")}
    found = {path.relative_to(installed / "edgewake") for path in (installed / "edgewake").rglob("*")}
    assert wanted
    assert not wanted - found


def test_wheel_computes_features_with_its_own_library(installed: Path) -> None:
    code = """
import numpy, edgewake._native as native
from edgewake.runtime.frontend import features
print(native.library_path())
print(features(numpy.zeros(16000, numpy.int16)).shape)
"""
    library, shape = run_installed(installed, code).splitlines()
    assert Path(library).is_relative_to(installed)
    assert shape == "(98, 40)"


def test_wheel_brings_the_calibration_data(installed: Path) -> None:
    code = """
from edgewake.calibration import default_folder, load_features, load_golden
print(default_folder(), len(load_features()), len(load_golden()[0]))
"""
    folder, frames, samples = run_installed(installed, code).split()
    assert Path(folder) == installed / "edgewake" / "_calibration"
    assert (frames, samples) == ("7898", "16000")


def test_wheel_brings_the_released_trunk(repository: Path, installed: Path) -> None:
    folder = Path(run_installed(installed, "from edgewake.training.students import *; print(trunk_folder('released'))"))
    assert folder == installed / "edgewake" / "_trunk"
    for name in ("weights.safetensors", "trunk.json"):
        assert (folder / name).read_bytes() == (repository / "models" / "trunk" / name).read_bytes()


def test_wheel_brings_the_constraints_for_doctor(repository: Path, installed: Path) -> None:
    file = Path(run_installed(installed, "from edgewake.doctor import constraints_file; print(constraints_file())"))
    assert file == installed / "edgewake" / "_constraints.txt"
    assert file.read_bytes() == (repository / "constraints.txt").read_bytes()


def test_wheel_brings_the_whole_firmware_project(installed: Path) -> None:
    from edgewake.targets.firmware import template_dir, template_files

    wanted = [f"{path} {(template_dir() / path).stat().st_size}" for path in template_files()]
    code = """
from edgewake.targets.firmware import template_dir, template_files
print(template_dir())
for path in template_files(): print(path, (template_dir() / path).stat().st_size)
"""
    folder, *found = run_installed(installed, code).splitlines()
    assert Path(folder) == installed / "edgewake" / "_firmware" / "esp32s3"
    assert found == wanted
