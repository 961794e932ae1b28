"""A build of a student that the board cannot run names every limit it breaks, and harms nothing."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from click.testing import CliRunner

from edgewake.cli import main
from edgewake.config import WakewordConfig
from edgewake.conversion.clip_export import export_clip_student
from edgewake.errors import EdgewakeError
from edgewake.models import create_model
from edgewake.models.featurizer import frame_count
from edgewake.runtime.tflm import TflmModel

pytestmark = pytest.mark.slow  # each needs a build


def exported(folder, architecture, **model):
    config = WakewordConfig()
    config.model.architecture = architecture
    config.data.audio_duration = 0.5
    for name, value in model.items():
        setattr(config.model, name, value)
    torch.manual_seed(0)
    student = create_model(architecture, 2, config.data.n_mels, **config.model.options())
    student.train()
    student(torch.rand(4, frame_count(config), config.data.n_mels) * 20)
    export_clip_student(student, config, folder)
    return folder


@pytest.fixture(scope="module")
def tcn(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("models") / "tcn", "tcn", hidden=128)


@pytest.fixture(scope="module")
def gru(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("models") / "gru", "gru", hidden=16, layers=1)


def run_build(model, out):
    return CliRunner().invoke(main, ["build", "--model", str(model), "--out", str(out)])


def report_of(out):
    return json.loads((out / "report.json").read_text())


def test_a_build_names_which_limits_a_student_breaks(tcn, tmp_path):
    done = run_build(tcn, tmp_path / "out")
    assert done.exit_code == 1
    # ai-edge-quantizer's progress goes to the stderr of a process, not to the one that click's runner reads.
    line = done.stderr[done.stderr.index("error: ") :].strip()
    assert line.startswith("error: tcn does not run on esp32s3-nopsram: model needs ")
    assert line.count("\n") == 0
    report = report_of(tmp_path / "out")
    assert report["feasible"] is False
    assert report["quantization"] == "ptq, int8"
    model = (tmp_path / "out" / report["model"]).read_bytes()
    rows = {row["name"]: row for row in report["budget"]}
    assert rows["model"]["value"] == len(model) == report["model_bytes"]
    for name, row in rows.items():
        assert row["ok"] == (row["value"] <= row["limit"])
        assert (f"{name} needs " in line) == (not row["ok"])
    assert f"model needs {len(model):,} B of 65,536 B" in line
    assert "with a clip every 0.35 s" in line


def test_the_arena_of_the_report_is_what_tflm_takes(tcn, tmp_path):
    run_build(tcn, tmp_path / "out")
    report = report_of(tmp_path / "out")
    model = (tmp_path / "out" / report["model"]).read_bytes()
    arena = report["arena"]
    TflmModel(model, arena_size=arena["host_bytes"])
    with pytest.raises(EdgewakeError):
        TflmModel(model, arena_size=arena["host_bytes"] // 2)
    assert arena["total_bytes"] >= arena["host_bytes"] + arena["s3_scratch_bytes"]


def test_multiplications_are_those_of_the_whole_clip_at_every_hop(tcn, tmp_path):
    run_build(tcn, tmp_path / "out")
    report = report_of(tmp_path / "out")
    frames, kernel = 51, 3
    first = frames * (40 * 128 * kernel + 40 * 128 + 128 * 128 * kernel)
    others = 4 * frames * 2 * 128 * 128 * kernel
    assert report["macs_per_clip"] == first + others + 128 * 2
    assert report["macs_per_second"] == round(report["macs_per_clip"] / report["hop_s"])


def test_a_small_recurrent_student_fits_in_flash_and_breaks_other_limits(gru, tmp_path):
    done = run_build(gru, tmp_path / "out")
    assert done.exit_code == 1
    report = report_of(tmp_path / "out")
    rows = {row["name"]: row for row in report["budget"]}
    assert rows["model"]["ok"]
    assert "model needs" not in done.stderr
    assert "no int8 form: ai-edge-quantizer does not go into loops over time" in done.stderr
    assert "it takes 0.5 s of torchaudio log-mel at a time" in done.stderr
    # Both matrices of a GRU at each of 51 frames, and the last layer.
    assert report["macs_per_clip"] == 51 * (3 * 16 * 40 + 3 * 16 * 16) + 16 * 2
    TflmModel((tmp_path / "out" / report["model"]).read_bytes(), arena_size=report["arena"]["host_bytes"])


def test_a_projects_own_limits_count(gru, tmp_path):
    folder = tmp_path / "gru"
    shutil.copytree(gru, folder)
    config = WakewordConfig.load(folder / "config.yaml")
    config.target.model_bytes = 4096
    config.save(folder / "config.yaml")
    done = run_build(folder, tmp_path / "out")
    assert " B of 4,096 B" in done.stderr


def test_a_boards_build_stays_and_follows_a_refused_one(built, model_folder, gru, tmp_path):
    out = tmp_path / "copy" / built.name
    shutil.copytree(built.parent, out.parent)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run_build(gru, out).exit_code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    refused = out.with_name(f"{out.name}-refused")
    assert report_of(refused)["architecture"] == "gru"
    assert run_build(gru, refused).exit_code == 1  # again into its own folder
    done = run_build(model_folder, refused)
    assert done.exit_code == 0, done.output
    assert (refused / "manifest.json").is_file()


def test_an_unknown_target_is_named(gru, tmp_path):
    done = CliRunner().invoke(main, ["build", "--model", str(gru), "--target", "esp32", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "unknown target 'esp32'" in done.stderr
