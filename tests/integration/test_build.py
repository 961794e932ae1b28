"""A build is whole and consistent, is not made twice, and one that fails leaves the last one as it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import edgewake
from edgewake import fingerprint
from edgewake.builder import build as build_module
from edgewake.builder.build import build
from edgewake.builder.convert import load_model_folder
from edgewake.builder.user_files import keep_user_files
from edgewake.cache import Cache
from edgewake.cli import main
from edgewake.errors import BudgetError, EdgewakeError, ParityError
from edgewake.io import sha256_file, temporary_beside
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import probability_table
from edgewake.runtime.frontend import features
from edgewake.runtime.model_manifest import load_manifest
from edgewake.runtime.tflm import TflmModel
from killed import killed

pytestmark = pytest.mark.slow  # each needs a build


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def again(built, tmp_path):
    """The build folder, copied for a test to build over."""
    shutil.copytree(built.parent, tmp_path / "copy")
    return tmp_path / "copy" / built.name


def test_a_build_holds_what_a_board_and_a_host_need(built):
    found = snapshot(built)
    for name in (
        "manifest.json",
        "model.tflite",
        "report.json",
        "report.html",
        "weights.safetensors",
        "firmware/CMakeLists.txt",
        "firmware/components/edgewake_detector/idf_component.yml",
        "firmware/components/edgewake/src/ew_pipeline.c",
        "firmware/components/edgewake_model/generated/ew_model_data.c",
        "firmware/components/edgewake_model/generated/ew_golden.c",
        "firmware/components/edgewake_model/generated/ew_frontend_tables.h",
    ):
        assert name in found, name
    report = json.loads((built / "report.json").read_text())
    for file in report["files"]:
        assert found[file["path"]] == file["sha256"]


def test_manifest_describes_the_model_beside_it(built, model_folder):
    manifest = load_manifest(built)
    deployed = DeployedModel.load(model_folder)
    assert manifest.model.sha256 == sha256_file(built / "model.tflite")
    assert manifest.receptive_field_steps == deployed.receptive_field_steps
    assert np.float32(manifest.input.scale) == deployed.input.scale
    assert manifest.cutoff_sum == deployed.info["cutoff_sum"]
    # The arena that the manifest promises is enough, and its host part is not generous.
    model = (built / "model.tflite").read_bytes()
    TflmModel(model, arena_size=manifest.arena.total_bytes)
    with pytest.raises(EdgewakeError):
        TflmModel(model, arena_size=manifest.arena.host_bytes // 2)


def test_golden_vectors_are_what_frontend_and_model_give(built):
    generated = built / "firmware/components/edgewake_model/generated"
    text = (generated / "ew_golden.c").read_text()
    arrays = {
        name: np.array([int(v) for v in body.replace("\n", " ").split(",") if v.strip()])
        for name, body in re.findall(r"(\w+)\[\d+\] = \{\n(.*?)\};", text, re.DOTALL)
    }
    samples = arrays["samples"].astype(np.int16)
    assert np.array_equal(features(samples).reshape(-1), arrays["features"])
    detector = edgewake.Detector(built)
    window = detector.manifest.window
    track = detector.probabilities(samples)
    assert np.array_equal(track, (arrays["sums"] / (65536 * window)).astype(np.float32))
    table = re.search(r"\[256\] = \{\n(.*?)\};", (generated / "ew_model_config.c").read_text(), re.DOTALL)[1]
    expected = probability_table(detector.manifest.output.quantization).tolist()
    assert [int(value) for value in table.replace("\n", " ").split(",") if value.strip()] == expected
    assert arrays["detections"].sum() == len(detector.process(samples))
    assert len(np.unique(arrays["outputs"])) > 1


def test_the_report_needs_nothing_from_elsewhere(built):
    page = (built / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=|@import|url\(|<script""", page)
    assert re.search(r"<details><summary><h3>Cost by operator</h3>", page)
    report = json.loads((built / "report.json").read_text())
    assert f"{report['budget'][0]['value']:,} B" in page
    assert page.count("<tr>") > 40
    assert all(row["learned"] == row["read"] for row in report["scales"])
    assert {check["verdict"] for check in report["parity"]} == {"equal", "within bounds"}
    assert {check["check"] for check in report["parity"]} == {1, 3, 4, 5, 6, 7}


def test_an_edit_of_the_c_core_or_of_any_stage_makes_it_again(again, model_folder, monkeypatch):
    """The library that is loaded counts by its content, wherever it lies."""
    made = []

    def spied(self, kind, *arguments, **options):
        entry = get(self, kind, *arguments, **options)
        if not entry.reused:
            made.append(kind)
        return entry

    get = Cache.get
    monkeypatch.setattr(Cache, "get", spied)
    build(model_folder, again)
    assert made == []
    monkeypatch.setattr(fingerprint, "library_sha256", lambda: "0" * 64)
    build(model_folder, again)
    assert sorted(made) == ["conversion", "conversion", "parity"]


def test_an_unchanged_build_runs_no_stage_again_and_gives_the_same_bytes(again, model_folder, monkeypatch):
    before = snapshot(again)

    def never(*arguments, **options):
        raise AssertionError("a stage ran again")

    monkeypatch.setattr("edgewake.builder.convert.convert", never)
    monkeypatch.setattr(build_module, "measure_arena", never)
    monkeypatch.setattr("edgewake.builder.parity.run_checks", never)
    build(model_folder, again)
    after = snapshot(again)
    # report.json and report.html name the folder in the next command.
    named = {"report.json", "report.html"}
    assert {k: v for k, v in after.items() if k not in named} == {k: v for k, v in before.items() if k not in named}
    assert sorted(p.name for p in again.parent.iterdir()) == ["computer"]


def test_over_budget_leaves_the_last_build_whole(again, model_folder, tmp_path):
    before = snapshot(again)
    tight = shutil.copytree(model_folder, tmp_path / "tight")
    (tight / "config.yaml").write_text("target: {arena_bytes: 4096}\n")
    with pytest.raises(BudgetError, match=r"arena needs [\d,]+ B; esp32s3-nopsram allows 4,096 B: try"):
        build(tight, again)
    assert snapshot(again) == before
    assert sorted(p.name for p in again.parent.iterdir()) == ["computer"]


def test_a_project_may_allow_less_than_the_chip(again, model_folder, tmp_path):
    folder = tmp_path / "computer"
    shutil.copytree(model_folder, folder)
    config = edgewake.WakewordConfig()
    config.target.cpu_share = 0.01
    config.save(folder / "config.yaml")
    with pytest.raises(BudgetError, match=r"compute needs [\d.]+ %; esp32s3-nopsram allows 1\.0 %: try"):
        build(folder, again)


def test_a_failed_parity_check_leaves_the_last_build_whole(again, model_folder, tmp_path, monkeypatch):
    before = snapshot(again)
    failed = {"check": 4, "name": "integer simulator = TFLM", "compared": 100, "differences": 2}
    failed |= {"detail": "first difference: step[3]: 1 against 2", "verdict": "differs"}
    monkeypatch.setattr(build_module, "cached_checks", lambda *a, **k: [failed])
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ParityError, match=r"parity check 4, .* 2 of 100 values differ \(first difference"):
        build(model_folder, again)
    assert snapshot(again) == before


def test_a_model_that_differs_from_its_weights_fails_a_parity_check(built, tmp_path):
    folder = tmp_path / "tampered"
    shutil.copytree(built, folder)
    deployed = DeployedModel.load(folder)
    deployed.layers[0].weight[0] *= 0.9
    deployed.save(folder)
    found = CliRunner().invoke(main, ["parity", "--model", str(folder)])
    assert found.exit_code == 1
    assert found.stderr.startswith("error: parity check 3")
    assert found.stderr.count("\n") == 1


def test_what_idf_made_survives_a_build(again, model_folder):
    (again / "firmware" / "build").mkdir()
    (again / "firmware" / "build" / "app.bin").write_text("compiled")
    (again / "firmware" / "sdkconfig").write_text("mine")
    build(model_folder, again)
    assert (again / "firmware" / "build" / "app.bin").read_text() == "compiled"
    assert (again / "firmware" / "sdkconfig").read_text() == "mine"


def test_a_killed_build_loses_nothing_of_the_users(again, model_folder):
    theirs = {
        "firmware/sdkconfig": "my settings",
        "firmware/dependencies.lock": "versions",
        "firmware/build/app.bin": "compiled",
        "firmware/managed_components/nn.c": "fetched",
        "firmware/main/action.c": "/* opens the door */",
    }
    for name, text in theirs.items():
        (again / name).parent.mkdir(exist_ok=True)
        (again / name).write_text(text)

    def build_again(begin):
        def keep(old, new):
            begin()
            keep_user_files(old, new)

        build_module.keep_user_files = keep
        build(model_folder, again)

    for step in range(1, 100):
        was_killed = killed(build_again, ("link", "replace", "rename"), step)
        if step > len(theirs):  # killed between the renames: the next build has to put the last one back
            assert was_killed == (step <= len(theirs) + 2)
        build(model_folder, again)
        assert {name: (again / name).read_text() for name in theirs} == theirs, f"killed at {step}"
        assert [path.name for path in again.parent.iterdir()] == ["computer"]
        if not was_killed:
            break


def test_what_was_edited_in_the_firmware_survives_builds(again, model_folder):
    firmware = again / "firmware"
    (firmware / "main/action.c").write_text("/* opens the door */")
    (firmware / "components/door").mkdir()
    (firmware / "components/door/door.c").write_text("/* a door */")
    golden = "components/edgewake_model/generated/ew_golden.c"
    (firmware / golden).write_text("nobody edits this")
    # Twice, since the second build finds the first one's copy.
    for _ in range(2):
        report = build(model_folder, again)
        assert report["kept"] == ["components/door/door.c", "main/action.c"]
        assert (firmware / "main/action.c").read_text() == "/* opens the door */"
        assert (firmware / "components/door/door.c").read_text() == "/* a door */"
        assert "EW_GOLDEN" in (firmware / golden).read_text()


def test_the_budget_counts_an_edited_memory_header(again, model_folder):
    header = again / "firmware/components/edgewake_detector/memory.h"
    header.write_text(header.read_text().replace("EW_RING_SAMPLES 2048", "EW_RING_SAMPLES 65536"))
    before = snapshot(again)
    with pytest.raises(BudgetError, match=r"static RAM needs [\d,]+ B; .* or a smaller ring buffer in .*/memory\.h"):
        build(model_folder, again)
    assert snapshot(again) == before


def test_idf_need_not_compile_again_what_did_not_change(again, model_folder):
    long_ago = 1_000_000_000
    for path in (again / "firmware").rglob("*"):
        os.utime(path, (long_ago, long_ago))
    (again / "firmware/components/edgewake_model/generated/ew_golden.c").write_text("of another model")
    build(model_folder, again)
    newer = [
        path.name for path in (again / "firmware").rglob("*") if path.is_file() and path.stat().st_mtime != long_ago
    ]
    assert newer == ["ew_golden.c"]


def test_a_folder_that_cannot_be_made_is_one_line(model_folder, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "computer", "/proc/nowhere/computer"):
        found = CliRunner().invoke(main, ["build", "--model", str(model_folder), "--out", str(out)])
        assert (found.exit_code, found.stderr.count("\n")) == (1, 1), found.exception
        assert found.stderr.endswith("choose another one\n")


@pytest.mark.parametrize("command", [["build", "--model"], ["convert"], ["train"], ["teacher", "train"]])
def test_a_folder_of_something_else_is_never_written_to(command, model_folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    for out in (tmp_path, tmp_path / "thesis.txt", model_folder, Path("/")):
        source = ["default", "--set", "qat.enabled=true"] if command[-1] == "train" else [str(model_folder)]
        found = CliRunner().invoke(main, [*command, *source, "--out", str(out)])
        # The command line itself refuses files and "/".
        assert found.exit_code == (1 if out.is_dir() and out != Path("/") else 2), found.exception
        assert out.name in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_what_a_killed_build_left_goes_with_the_next(again, model_folder):
    child = os.fork()
    if child == 0:
        left = temporary_beside(again)
        left.mkdir()
        (left / "model.tflite").write_bytes(b"0" * 1000)
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(again.parent.iterdir())) == 2
    build(model_folder, again)
    assert [path.name for path in again.parent.iterdir()] == ["computer"]


@pytest.mark.parametrize("missing", ["weights.safetensors", "model.json"])
def test_an_incomplete_model_is_named(model_folder, tmp_path, missing):
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(EdgewakeError, match=f"has no {missing}"):
        load_model_folder(tmp_path / "model")


def test_a_model_without_detection_parameters_is_refused(model_folder, tmp_path):
    deployed = DeployedModel.load(model_folder)
    deployed.info.pop("window")
    deployed.save(tmp_path)
    with pytest.raises(EdgewakeError, match=r"lacks info\.window"):
        load_model_folder(tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        {"window": "four"},
        {"window": 0},
        {"window": 5.5},
        {"cutoff_sum": None},
        {"cutoff_sum": 0},
        {"window": 1000},
        {"refractory_s": -3},
        {"refractory_s": float("nan")},
        {"refractory_s": "soon"},
        {"refractory_steps": "many"},
        {"phrase": 3},
    ],
    ids=str,
)
def test_a_mangled_description_is_one_line(model_folder, tmp_path, bad):
    shutil.copytree(model_folder, tmp_path / "model")
    record = json.loads((model_folder / "model.json").read_text())
    record["info"] |= bad
    (tmp_path / "model" / "model.json").write_text(json.dumps(record))
    found = CliRunner().invoke(main, ["build", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")])
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1), found.exception
    assert next(iter(bad)) in found.stderr
    assert not (tmp_path / "out").exists()


def test_failures_of_the_command_are_one_line_and_exit_1(tmp_path, model_folder):
    for arguments in (
        ["--model", str(tmp_path / "gone")],
        ["--model", str(model_folder), "--target", "esp32s3-nopsran", "--out", str(tmp_path / "out")],
    ):
        found = CliRunner().invoke(main, ["build", *arguments])
        assert (found.exit_code, found.stdout) == (1, "")
        assert found.stderr.startswith("error: ")
        assert found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_post_training_quantization_builds_and_is_compared(again, model_folder, tmp_path):
    out = again.parent / "ptq"
    found = CliRunner().invoke(
        main, ["build", "--model", str(model_folder), "--out", str(out), "--quantization", "ptq", "--json"]
    )
    assert found.exit_code == 0, found.stderr
    report = json.loads(found.stdout)
    assert [q["name"].split(",")[0] for q in report["quantizations"]] == ["qat", "ptq"]
    assert load_manifest(out).quantization == "ptq"
    assert load_manifest(out).input != load_manifest(again).input


def test_a_released_model_folder_detects_by_itself(again, model_folder, tmp_path):
    folder = tmp_path / "released" / "computer"
    shutil.copytree(model_folder, folder)
    build(folder, again, release=True)
    samples = np.random.default_rng(0).integers(-9000, 9000, 16000).astype(np.int16)
    expected = edgewake.Detector(again).probabilities(samples)
    assert np.array_equal(edgewake.Detector(folder).probabilities(samples), expected)


def test_convert_keeps_every_stage_with_its_record(model_folder, built, tmp_path):
    found = CliRunner().invoke(main, ["convert", str(model_folder), "--out", str(tmp_path), "--json"])
    assert found.exit_code == 0, found.stderr
    record = json.loads(found.stdout)
    assert json.loads((tmp_path / "conversion.json").read_text()) == record
    assert record["sha256"] == load_manifest(built).model.sha256
    files = [stage["file"] for stage in record["stages"].values()]
    assert files == ["model.onnx", "model_float.tflite", "model_windowed.tflite", "model.tflite", "edgewake_model.c"]
    assert all((tmp_path / name).is_file() for name in files)


def test_an_interrupted_conversion_is_repeated_into_its_folder(model_folder, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edgewake.builder.convert.convert", interrupt)
        assert CliRunner().invoke(main, ["convert", str(model_folder), "--out", str(tmp_path)]).exit_code == 130
    found = CliRunner().invoke(main, ["convert", str(model_folder), "--out", str(tmp_path)])
    assert found.exit_code == 0, found.stderr
    assert (tmp_path / "model.tflite").is_file()


def test_convert_spares_a_folder_of_another_model(model_folder, tmp_path):
    """A model of whole clips has a model.onnx as well."""
    (tmp_path / "model.onnx").write_text("of another model")
    found = CliRunner().invoke(main, ["convert", str(model_folder), "--out", str(tmp_path)])
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert (tmp_path / "model.onnx").read_text() == "of another model"
