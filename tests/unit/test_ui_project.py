"""A project of the page: paths stay inside, names are names, one training at a time, and records are read from disk."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from edgewake.config import WakewordConfig
from edgewake.errors import EdgewakeError
from edgewake.training.runs import Run, identity
from edgewake.ui.project import JOB, STATE, Job, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/passwd", "runs/../../..", "a\0b"])
def test_paths_that_leave_the_folder_are_refused(project: Project, path: str) -> None:
    with pytest.raises(EdgewakeError, match="outside of"):
        project.inside(path)


def test_paths_in_the_folder_are_taken(project: Project) -> None:
    assert project.inside("runs/a") == project.folder / "runs" / "a"
    assert project.inside(project.folder / "x" / ".." / "y") == project.folder / "y"


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", " a", "a\n", "x" * 81])
def test_what_is_no_name_is_refused(project: Project, name: str) -> None:
    with pytest.raises(EdgewakeError, match="letters, digits"):
        project.named(name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.manifest", "/etc/passwd"),
        ("cache.folder", "../cache"),
        ("distillation.teachers", ("whisper:../../w.pt",)),
        ("data.feature_negatives", ("/",)),
        ("model.trunk", "../trunk"),
    ],
)
def test_settings_with_paths_elsewhere_are_refused(project: Project, key: str, value: object) -> None:
    config = WakewordConfig()
    config.set(key, value)
    with pytest.raises(EdgewakeError, match=f"{key}: .* is outside of"):
        project.check_paths(config)
    with pytest.raises(EdgewakeError, match="is outside of"):
        project.train(config, "x")
    assert not (project.folder / STATE).exists()


def test_a_second_training_is_refused_while_one_runs(project: Project) -> None:
    (project.folder / STATE).mkdir()
    record = {"name": "first", "arguments": [], "process": identity(os.getpid())}
    (project.folder / STATE / JOB).write_text(json.dumps(record))
    with pytest.raises(EdgewakeError, match=r"first is in progress: .* one at a time"):
        project.train(WakewordConfig(), "second")


def test_a_training_that_a_command_began_here_counts_as_well(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "_start", lambda *given: Job("second", []))
    folder = project.folder / "runs" / "first"
    folder.mkdir(parents=True)
    record = Run("first", "running", "", "", process=identity(os.getpid()))
    (folder / "run.json").write_text(json.dumps(asdict(record)))
    with pytest.raises(EdgewakeError, match=r"runs/first is in progress: .* one at a time"):
        project.train(WakewordConfig(), "second")
    # That of another machine may be long gone.
    record.process["machine"] = "elsewhere"
    (folder / "run.json").write_text(json.dumps(asdict(record)))
    assert project.train(WakewordConfig(), "second").name == "second"


def test_a_damaged_record_is_shown_as_such_and_hinders_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Project, "_start", lambda *given: Job("next", []))
    (project.folder / "runs" / "torn").mkdir(parents=True)
    (project.folder / "runs" / "torn" / "run.json").write_text("{")
    assert project.run("runs/torn").status == "unreadable"
    assert project.train(WakewordConfig(), "next").name == "next"


def test_the_configuration_is_kept_for_the_next_visit(project: Project) -> None:
    config = project.draft()
    config.training.epochs = 7
    project.keep_draft(config)
    assert Project(project.folder).draft() == config


def test_models_are_neither_corpora_nor_built_twice(project: Project) -> None:
    for path in (
        "audio/manifest.json",
        "a/manifest.json",
        "a/model.tflite",
        "a/weights.safetensors",
        "r/x/model/weights.safetensors",
        "w/build/manifest.json",
        "w/build/model.tflite",
        "w/model/manifest.json",
        "w/model/model.tflite",
    ):
        (project.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / path).touch()
    for name in ("manifest.json", "model.tflite", "weights.safetensors", "report.json"):
        (project.folder / "build").mkdir(exist_ok=True)
        (project.folder / "build" / name).touch()
    assert project.models() == ["a", "build", "w/model"]
    assert project.trained() == ["a", "r/x/model"]


def test_a_log_shows_the_last_state_of_a_bar(project: Project) -> None:
    folder = project.folder / STATE / "logs"
    folder.mkdir(parents=True)
    (folder / "a.log").write_bytes(b"one\r\n10 %\r20 %\nend")
    assert project.log("a") == "one\n20 %\nend"
