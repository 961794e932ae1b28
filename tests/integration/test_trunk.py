"""`edgewake trunk` trains on speech without phrases, and gives what `edgewake train` starts from."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgewake.cli import main
from edgewake.training import phonemes

pytest.importorskip("hibari", reason="the phonemes are those of synthesised speech: pip install 'edgewake[synthesis]'")
pytestmark = pytest.mark.slow

SETTINGS = {
    "data.manifest": "manifest.json",
    "data.phrase": "hey",
    "data.audio_duration": 0.6,
    "data.negative_renders": 1,
    "model.width": 16,
    "model.kernel_sizes": "[3, 3]",
    "training.threads": 1,
    "training.epochs": 2,
    "training.batches_per_epoch": 3,
    "training.batch_size": 4,
    "distillation.teacher_architecture": "wav2vec2",
    "teacher.from_scratch": "true",
    "teacher.layers": 1,
    "teacher.width": 16,
}


def run(*words):
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_trunk_is_trained_and_a_student_starts_from_it(tones, tmp_path, monkeypatch):
    tones(tmp_path)
    manifest = tmp_path / "manifest.json"
    # Recordings of single phrases are no part of a trunk's speech.
    manifest.write_text(manifest.read_text().replace('"phrase": "other"', '"phrase": ""'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(phonemes, "SENTENCES", 12)
    values = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    run("trunk", "trunk", *values, "--out", "trunk")
    record = json.loads((tmp_path / "trunk/trunk.json").read_text())
    assert record["steps"] == 6
    assert 0 < record["val_loss"] < 10
    assert record["teacher"]["phonemes"]["frames"] > 100
    student = ["data.positive_renders=2", "training.batch_size=8", "model.kernel_sizes=[3, 3]", "model.trunk=trunk"]
    kept = ("data.manifest", "data.phrase", "data.audio_duration", "training.threads")
    student += [f"{key}={SETTINGS[key]}" for key in kept]
    run("train", "smoke", *(word for value in student for word in ("--set", value)), "--out", "run")
    assert (tmp_path / "run/model/model.json").is_file()
