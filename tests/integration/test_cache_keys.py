"""Whatever the cache holds is made again when any module that took part in making it changes."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgewake.builder.build import build
from edgewake.cli import main

pytestmark = pytest.mark.slow

SETTINGS = {
    "data.manifest": "manifest.json",
    "data.phrase": "hey",
    "data.audio_duration": 0.6,
    "data.positive_renders": 2,
    "training.threads": 1,
    "distillation.enabled": "true",
    "teacher.from_scratch": "true",
    "teacher.layers": 1,
    "teacher.width": 16,
    "teacher.epochs": 1,
}


def test_keys_of_a_build_cover_all_that_runs(model_folder, tmp_path, covered_cache):
    build(model_folder, tmp_path / "computer", cache=tmp_path / "cache")
    assert covered_cache == ["conversion", "conversion", "arena", "network", "parity"]


def test_keys_of_a_training_cover_all_that_runs(tones, tmp_path, monkeypatch, covered_cache):
    tones(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "cache"))
    values = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(main, ["train", "smoke", *values, "--out", "run"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert set(covered_cache) == {"decoded", "clips", "teachers", "embeddings", "recordings", "network"}
