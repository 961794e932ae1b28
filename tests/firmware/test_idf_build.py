"""`edgewake build --idf` runs idf.py, and its figures are those of the linker's map file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgewake.builder.idf import MAP, build_with_idf, idf_figures
from edgewake.cli import main
from edgewake.errors import EdgewakeError

# GNU ld's own (2.40, for Xtensa), with the archives, sections and memory regions of ESP-IDF 5.5 for the ESP32-S3.
MAP_FILE = Path(__file__).with_name("edgewake.map")
MEMORY: list[Any] = [
    {"name": "model", "bytes": 49_000},
    {"name": "ring buffer", "bytes": 4096},
    {"name": "I2S DMA", "bytes": 2608},
]


def test_figures_are_those_of_the_map_file() -> None:
    figures = idf_figures(MAP_FILE, MEMORY)
    parts = {part["name"]: (part["flash"], part["ram"]) for part in figures["parts"]}
    iram, code, data, bss = (0x10 + 0x4, 0x8 + 0x37, 4, 0x1000)
    assert parts["edgewake_model"] == (50_000, 0)
    assert parts["edgewake_detector"][1] == pytest.approx(iram + data + bss, abs=4)
    assert parts["edgewake_detector"][0] == pytest.approx(iram + code + data, abs=8)
    assert parts["esp-nn"][1] == 400
    compared = {row["name"]: (row["computed"], row["built"]) for row in figures["compared"]}
    assert compared["model"] == (49_000, 50_000)
    assert compared["static RAM"] == (4096, sum(part["ram"] for part in figures["parts"]))
    assert figures["image_bytes"] > 50_000


@pytest.mark.parametrize(("text", "message"), [("nothing", "no map file"), (None, "no map file")])
def test_another_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "edgewake.map"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EdgewakeError, match=message):
        idf_figures(path, MEMORY)


def test_a_map_file_of_another_project_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.map"
    path.write_text(MAP_FILE.read_text().replace("edgewake", "other").replace("esp-nn", "other"))
    with pytest.raises(EdgewakeError, match="no component of edgewake"):
        idf_figures(path, MEMORY)


def install_idf(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program in the place of idf.py."""
    folder.mkdir()
    tool = folder / "idf.py"
    tool.write_text(f"#!/bin/sh\necho idf.py $* >> {folder}/calls\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_idf_sets_the_target_once_and_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "firmware").mkdir()
    install_idf(tmp_path / "bin", monkeypatch, f"mkdir -p build; cp {MAP_FILE} {MAP}; touch sdkconfig")
    for _ in range(2):
        assert build_with_idf(tmp_path / "firmware", MEMORY) == idf_figures(MAP_FILE, MEMORY)
    calls = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert calls == ["idf.py set-target esp32s3 build", "idf.py build"]


def test_a_build_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "firmware").mkdir()
    install_idf(tmp_path / "bin", monkeypatch, "exit 2")
    with pytest.raises(EdgewakeError, match=r"idf.py set-target esp32s3 build failed with status 2 in .*: see above"):
        build_with_idf(tmp_path / "firmware", MEMORY)


def test_no_idf_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which("idf.py") is None
    done = CliRunner().invoke(main, ["build", "--idf", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "idf.py is not found: source ESP-IDF's export.sh" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (False, [], "holds no model: give the firmware folder that `edgewake build` writes"),
        (True, [], "idf.py is not found: source ESP-IDF's export.sh, or give the repositories"),
        (True, ["esp-idf"], "idf_check.sh FIRMWARE IDF TFLM NN"),
    ],
)
def test_the_check_against_real_sources_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bool, arguments: list[str], message: str
) -> None:
    if model:
        generated = tmp_path / "components" / "edgewake_model" / "generated"
        generated.mkdir(parents=True)
        (generated / "ew_model_config.h").write_text("")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    script = MAP_FILE.with_name("idf_check.sh")
    done = subprocess.run([script, tmp_path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
