"""`edgewake doctor` names what lacks on a machine, each with a remedy, and fails only on what is wrong."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgewake import __version__, doctor
from edgewake.cli import main
from edgewake.doctor import Finding, constraints_file


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "cache"))
    for name in ("IDF_PATH", "CC", "EDGEWAKE_ASSETS"):
        monkeypatch.delenv(name, raising=False)


def finding(look: str) -> Finding:
    (found,) = doctor._EXAMINED[look]()
    return found


def test_everything_is_looked_at_and_what_lacks_has_a_remedy() -> None:
    done = CliRunner().invoke(main, ["doctor", "--json"])
    record = json.loads(done.stdout)
    assert record["edgewake"] == __version__
    names = {each["name"] for each in record["findings"]}
    wanted = {"python", "C core", "packages", "constraints", "compiler", "ESP-IDF", "serial ports", "microphone"}
    assert wanted | {"asset kokoro", "disk, cache", "memory", "GPU", "terminal"} <= names
    assert all((each["state"] == "ok") == (each["remedy"] == "") for each in record["findings"])
    wrong = any(each["state"] == "wrong" for each in record["findings"])
    assert (record["ok"], done.exit_code) == (not wrong, int(wrong))
    lines = CliRunner().invoke(main, ["doctor"]).stdout.splitlines()
    assert sum("to do: " in line for line in lines) == sum(each["state"] != "ok" for each in record["findings"])


def idf(folder: Path, version: str) -> Path:
    major, minor, patch = version.split(".")
    (folder / "tools" / "cmake").mkdir(parents=True)
    (folder / "tools" / "cmake" / "version.cmake").write_text(
        f"set(IDF_VERSION_MAJOR {major})\nset(IDF_VERSION_MINOR {minor})\nset(IDF_VERSION_PATCH {patch})\n"
        'set(ENV{IDF_VERSION} "${IDF_VERSION_MAJOR}.${IDF_VERSION_MINOR}.${IDF_VERSION_PATCH}")\n'
    )
    return folder


def test_esp_idf_is_found_by_its_path_and_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert finding("ESP-IDF").state == "optional"
    monkeypatch.setenv("IDF_PATH", str(tmp_path))
    assert finding("ESP-IDF").state == "wrong"
    monkeypatch.setenv("IDF_PATH", str(idf(tmp_path / "old", "5.2.3")))
    old = finding("ESP-IDF")
    assert (old.state, old.found) == ("wrong", f"5.2.3 in {tmp_path / 'old'}")
    assert "5.3" in old.remedy
    monkeypatch.setenv("IDF_PATH", str(idf(tmp_path / "new", "5.10.0")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert finding("ESP-IDF").state == "optional"
    tool = tmp_path / "idf.py"
    tool.touch()
    tool.chmod(stat.S_IRWXU)
    assert finding("ESP-IDF") == Finding("ESP-IDF", "ok", f"5.10.0 in {tmp_path / 'new'}")


def test_packages_are_compared_with_constraints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# a comment\nclick==1.0\nnot-installed-anywhere==3\n")
    monkeypatch.setattr(doctor, "constraints_file", lambda: pins)
    found = {each.name: each for each in doctor._packages()}
    assert "tested with 1.0" in found["constraints"].found
    assert found["constraints"].found.startswith("0 of 1 package ")
    assert found["constraints"].remedy == f"pip install -c {pins} click"
    assert "dev" not in str(found), "someone who installed a wheel has no use for the tools of a checkout"
    assert found["packages"].state == "ok"


def test_a_package_that_lacks_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"sounddevice": "", "numpy": "1.26.0"}
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, known(name)))
    found = {each.name: each for each in doctor._packages()}
    assert (found["extra mic"].state, found["extra mic"].found) == ("optional", "not installed: sounddevice")
    assert f"-c {constraints_file()}" in found["extra mic"].remedy
    assert "[mic]" in found["extra mic"].remedy
    assert found["packages"].state == "wrong"
    assert "numpy 1.26.0, not <3,>=2.0" in found["packages"].found


def test_a_serial_port_without_access_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PORTS", ("null",))
    assert finding("serial ports") == Finding("serial ports", "ok", "/dev/null")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert finding("serial ports").state == "wrong"
    assert "dialout" in finding("serial ports").remedy
    monkeypatch.setattr(doctor, "_PORTS", ("edgewake-has-none*",))
    assert finding("serial ports").state == "optional"


def test_a_missing_compiler_and_absent_assets_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert finding("compiler").state == "optional"
    assets = list(doctor._EXAMINED["assets"]())
    assert {each.state for each in assets} == {"optional"}
    assert assets[0].remedy == f"edgewake assets get {assets[0].name.removeprefix('asset ')}"


def test_little_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "LEAST_MEMORY_GB", 1e9)
    assert {each.state for each in doctor._EXAMINED["disk"]()} == {"optional"}
    assert "fewer --workers" in finding("memory").remedy


def test_the_verbose_version_is_for_reports_of_faults() -> None:
    for arguments in (["--version", "--verbose"], ["--verbose", "--version"]):
        lines = CliRunner().invoke(main, arguments).stdout.splitlines()
        assert lines[0] == f"edgewake, version {__version__}"
        names = {line.partition(":")[0] for line in lines[1:]}
        assert {"python", "platform", "C core", "numpy", "tflite-micro", "for the board"} <= names
    assert CliRunner().invoke(main, ["--version"]).stdout == f"edgewake, version {__version__}\n"
    assert CliRunner().invoke(main, ["--verbose", "detect"]).exit_code == 2
