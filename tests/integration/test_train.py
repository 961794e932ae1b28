"""`edgewake train` with a teacher, as a user types it: four losses an epoch, and at its end the best F1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LOSSES = ("student_loss", "distillation_loss", "total_loss", "loss_ratio")


def edgewake(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewake", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """A folder with recordings by label and split: rising tones are the phrase, falling ones are not."""
    root = tmp_path_factory.mktemp("project")
    tones(root / "recordings", seconds=0.8, active=(0.2, 0.6), manifest=False)
    return root


@pytest.fixture(scope="module")
def settings() -> list[str]:
    values = {
        "data.manifest": "corpus.json",
        "data.phrase": "hey",
        "data.audio_duration": 0.6,
        "data.positive_renders": 4,
        "training.threads": 1,
        "distillation.enabled": "true",
        "distillation.temperature": 3,
        "distillation.alpha": 0.6,
        "teacher.from_scratch": "true",
        "teacher.layers": 1,
        "teacher.width": 16,
        "teacher.epochs": 1,
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def trained(project: Path, settings: list[str]) -> str:
    """What the command prints."""
    speakers = r"(?P<speaker>v\w+\d)_"
    command = ["corpus", "import", "recordings", "--phrase", "hey", "--out", "corpus.json"]
    imported = edgewake(*command, "--speaker-pattern", speakers, folder=project)
    assert imported.returncode == 0, imported.stderr
    found = edgewake("train", "smoke", *settings, folder=project)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_every_epoch_prints_the_guides_four_losses(trained: str) -> None:
    text = " ".join(trained.split())
    for epoch in ("float epoch 1", "qat epoch 2"):
        line = text.partition(epoch)[2].partition("epoch")[0]
        for name in LOSSES:
            assert f"{name} " in line, (epoch, name)


def test_the_end_is_best_f1_and_best_checkpoint(trained: str, project: Path) -> None:
    end = trained.rpartition("training")[2]
    assert "best_f1" in end
    assert "best_checkpoint" in end
    result = json.loads((project / "runs" / "smoke" / "result.json").read_text())
    assert (project / result["best_checkpoint"]).exists()
    assert f"{result['best_f1']}"[:6] in end


def test_the_teacher_is_named_and_kept(trained: str, project: Path) -> None:
    assert "teacher: wav2vec2, trained from scratch" in trained
    assert (project / "runs" / "smoke" / "teacher" / "teacher.pt").exists()
    assert list((Path(os.environ["EDGEWAKE_CACHE"]) / "teachers").glob("*/teacher.pt"))


def test_the_run_can_be_resumed_and_is_listed(trained: str, project: Path, settings: list[str]) -> None:
    again = edgewake("train", "smoke", *settings, "--resume", folder=project)
    assert again.returncode == 0, again.stderr
    assert "best_f1" in again.stdout
    listed = edgewake("runs", "--json", folder=project)
    assert json.loads(listed.stdout.splitlines()[0])["status"] == "finished"
