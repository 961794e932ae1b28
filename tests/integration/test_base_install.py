"""A built model runs, is evaluated and passes the parity checks on a base install, without any extra."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewake.data.importing import import_folder

pytestmark = pytest.mark.slow  # each needs a build

# Everything that only an extra brings, or that a dependency of one does.
EXTRA_MODULES = (
    *("torch", "torchaudio", "scipy", "tensorboard", "pyroomacoustics"),
    *("tensorflow", "tf_keras", "keras", "onnx", "onnx2tf", "onnxruntime", "onnxscript", "onnxsim"),
    *("onnx_graphsurgeon", "sng4onnx", "ai_edge_quantizer", "ai_edge_litert", "psutil"),
    *("matplotlib", "sounddevice", "pymicro_features", "hypothesis", "pytest"),
)
BLOCKED = f"""
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRA_MODULES!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Absent())
import importlib.util
known = importlib.util.find_spec
def find_spec(name, package=None):
    return None if name.split(".")[0] in {EXTRA_MODULES!r} else known(name, package)
importlib.util.find_spec = find_spec
from edgewake.cli import main
main(prog_name="edgewake")
"""


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWAKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run(*arguments):
    command = [sys.executable, "-c", BLOCKED, *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("computer", "other", "noise"):
            path = root / label / split / "a.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, rng.integers(-4000, 4000, 48000).astype(np.int16), 16000)
    import_folder(root, "computer").save(root / "corpus.json")
    return root


def test_detect_runs(built, audio):
    found = run("detect", audio / "other" / "test" / "a.wav", "--model", built, "--json")
    assert found.returncode == 0, found.stderr


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_build_gives_the_bytes_of_a_complete_install(built, model_folder, tmp_path):
    found = run("build", "--model", model_folder, "--out", tmp_path / "computer")
    assert found.returncode == 0, found.stderr
    # The reports differ: parity check 6 needs torch.
    reports = {Path("report.json"), Path("report.html")}
    left, right = files(built), files(tmp_path / "computer")
    assert {path: data for path, data in left.items() if path not in reports} == {
        path: data for path, data in right.items() if path not in reports
    }
    assert "<h3>Parity checks</h3>" in right[Path("report.html")].decode()


@pytest.mark.parametrize("quantization", ["qat", "ptq"])
def test_convert_needs_no_converter(model_folder, tmp_path, quantization):
    found = run("convert", model_folder, "--out", tmp_path, "--quantization", quantization)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "model.tflite").is_file()


def test_a_package_for_esphome_is_made_and_its_cost_measured(model_folder, audio, tmp_path):
    corpus = ("--manifest", audio / "corpus.json")
    done = run("export", "esphome", "--model", model_folder, "--out", tmp_path / "out", *corpus)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "computer.tflite").is_file()
    assert "next: esphome config" in done.stdout
    assert len(json.loads((tmp_path / "out" / "export.json").read_text())["cost"]["rows"]) == 3


def test_all_parity_checks_but_the_one_that_needs_torch_run(built):
    found = run("parity", "--model", built)
    assert found.returncode == 0, found.stderr
    assert "Python pipeline" in found.stdout
    assert "check 6 is left out" in found.stderr


def test_evaluate_runs_without_a_plot(built, audio, tmp_path):
    arguments = ("evaluate", "--model", built, "--manifest", audio / "corpus.json", "--out", tmp_path)
    found = run(*arguments, "--no-plot")
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "metrics.json").is_file()
    assert "no recall by distance" in found.stderr
    found = run(*arguments)
    assert found.returncode == 1
    assert "pip install 'edgewake[report]', or add --no-plot" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(["train", "default"], "train"), (["teacher", "train", "default"], "teachers"), (["compare"], "teachers")],
)
def test_what_needs_an_extra_names_it(arguments, extra):
    found = run(*arguments)
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert f"pip install 'edgewake[{extra}" in found.stderr


def test_doctor_runs_and_names_what_lacks():
    found = json.loads(run("doctor", "--json").stdout)["findings"]
    (microphone,) = [one for one in found if one["name"] == "microphone"]
    assert (microphone["state"], microphone["remedy"]) == ("optional", "pip install 'edgewake[mic]'")
