"""The calibration set is what its script makes, to the bit; a damaged copy is an error, not a worse model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewake.calibration import array_sha256, default_folder, load_features, load_golden, load_manifest
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend import features
from edgewake.runtime.frontend.reference import ReferenceFrontend


def test_features_are_those_of_the_committed_audio() -> None:
    audio, rate = soundfile.read(default_folder() / "audio.flac", dtype="int16")
    assert rate == 16000
    assert np.array_equal(load_features(), features(audio))


def test_golden_features_are_those_of_the_reference_frontend() -> None:
    audio, expected = load_golden()
    assert np.array_equal(ReferenceFrontend(FrontendConfig()).process(audio), expected)


def test_golden_vectors_reach_the_edges_of_int16_and_include_digital_silence() -> None:
    audio, expected = load_golden()
    assert audio.min() == -32768
    assert audio.max() == 32767
    assert len(audio) == 16000
    assert expected.shape == (98, 40)
    assert any(not audio[i : i + 480].any() for i in range(0, len(audio) - 480, 160))
    assert np.count_nonzero(expected.max(axis=1)) > 60


def test_manifest_describes_the_files_beside_it() -> None:
    manifest = load_manifest()
    assert manifest["frontend_hash"] == FrontendConfig().hash()
    audio, _ = soundfile.read(default_folder() / "audio.flac", dtype="int16")
    assert manifest["audio"] == {"samples": len(audio), "audio_sha256": array_sha256(audio)}
    last = manifest["scenes"][-1]
    assert round((last["start_s"] + last["seconds"]) * 16000) == len(audio)


def test_loudness_covers_the_range_of_a_kitchen_and_everyone_speaks() -> None:
    scenes = load_manifest()["scenes"]
    levels = [scene["peak_dbfs"] for scene in scenes if "voice" in scene]
    assert min(levels) <= -45
    assert max(levels) >= -3
    assert {scene["voice"] for scene in scenes if "voice" in scene} == set(range(12))
    assert any(scene["noise"] == "silence" for scene in scenes)


@pytest.mark.parametrize("name", ["features", "golden"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "calibration"
    shutil.copytree(default_folder(), folder)
    load = {"features": load_features, "golden": load_golden}[name]
    load(folder)
    with np.load(folder / f"{name}.npz") as archive:
        arrays = dict(archive)
    arrays["features"][3, 7] ^= 1
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    with pytest.raises(EdgewakeError, match=rf"{name}\.npz: features has SHA-256 .* run calibration/"):
        load(folder)
    (folder / f"{name}.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(EdgewakeError, match=rf"{name}\.npz cannot be read"):
        load(folder)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(EdgewakeError, match="is not version 1"):
        load_features(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match=r"nowhere.* does not exist"):
        load_features(tmp_path / "nowhere")


@pytest.mark.parametrize("entry", [None, [], "x"])
def test_a_manifest_without_an_entry_is_refused(tmp_path: Path, entry: object) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 1, "features": entry}))
    with pytest.raises(EdgewakeError, match="lacks features"):
        load_features(tmp_path)
