"""A manifest that loads is whole and consistent; every fault is one line with the key and the value."""

from __future__ import annotations

import copy
import json

import pytest

from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.model_manifest import ModelManifest, find_manifest, load_manifest

MODEL = b"a model"


def record():
    import hashlib

    config = FrontendConfig()
    return {
        "version": 2,
        "phrase": "computer",
        "target": "esp32s3-nopsram",
        "quantization": "qat",
        "model": {"file": "model.tflite", "sha256": hashlib.sha256(MODEL).hexdigest(), "bytes": len(MODEL)},
        "frontend": {"config": config.model_dump(mode="json"), "hash": config.hash()},
        "frames_per_step": 3,
        "input": {"scale": 0.1, "zero_point": -128, "multiplier": 3, "shift": 5},
        "output": {"scale": 0.09375, "zero_point": 0},
        "receptive_field_steps": 50,
        "window": 5,
        "cutoff": 0.78125,
        "cutoff_sum": 256_000,
        "refractory_s": 1.0,
        "refractory_steps": 33,
        "arena": {"host_bytes": 100, "s3_scratch_bytes": 20, "total_bytes": 128},
        "operators": [{"operator": "CONV_2D", "layer": "stem"}],
        "measured": {"recall_clean": {"value": 0.9, "low": 0.8, "high": 1.0, "hits": 9, "total": 10, "data": "test"}},
        "versions": {"edgewake": "0.1.0", "tflm": "1.4.0", "esp_nn": "1.2.3"},
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.tflite").write_bytes(MODEL)
    (tmp_path / "manifest.json").write_text(json.dumps(record()))
    return tmp_path


def test_a_manifest_survives_saving(folder, tmp_path_factory):
    manifest = load_manifest(folder)
    other = tmp_path_factory.mktemp("copy")
    manifest.save(other)
    assert load_manifest(other / "manifest.json") == manifest
    assert manifest.step_s == pytest.approx(0.03)


def test_folder_and_file_mean_the_same_manifest(folder):
    assert find_manifest(folder) == find_manifest(folder / "manifest.json") == folder / "manifest.json"


def changed(path, value):
    found = record()
    holder = found
    *parents, last = path.split(".")
    for part in parents:
        holder = holder[part]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 1, "version 1; this edgewake reads 2 (the model's output is a logit): build it again"),
        ("phrase", ..., "phrase is missing"),
        ("phrase", "", "phrase = ''"),
        ("surprise", 1, "surprise is not a known key"),
        ("model.sha256", "abc", "model.sha256 = 'abc'"),
        ("model.extra", 1, "model.extra is not a known key"),
        ("input.zero_point", 128, "input.zero_point = 128"),
        ("input.scale", 0.0, "input.scale = 0.0"),
        ("input.scale", "0.1", "input.scale = '0.1'"),
        ("window", 65, "window = 65"),
        ("cutoff_sum", 327_676, "cutoff_sum 327676 can never be reached: window 5 and the output's range allow 327675"),
        ("output.scale", 0.001, "cutoff_sum 256000 can never be reached: window 5"),
        ("cutoff", 0.7, "cutoff 0.7 is not cutoff_sum / (65536 * window) = 0.78125"),
        ("arena.total_bytes", 99, "arena.total_bytes 99 is below host_bytes 100"),
        ("measured.recall_clean.value", -1.0, "measured.recall_clean.value = -1.0"),
        ("frontend.hash", "0" * 16, "frontend.hash 0000000000000000 is not the hash"),
        ("frontend.config.step_ms", 0, "frontend.step_ms = 0"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(folder, path, value, message):
    (folder / "manifest.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(EdgewakeError) as caught:
        load_manifest(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\ud800".encode("utf-8", "surrogatepass")])
def test_what_is_no_manifest_is_an_error(folder, text):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(EdgewakeError, match="manifest"):
        load_manifest(folder)


def test_missing_places_are_told_apart(tmp_path):
    with pytest.raises(EdgewakeError, match="does not exist"):
        load_manifest(tmp_path / "nowhere")
    with pytest.raises(EdgewakeError, match=r"holds no manifest\.json"):
        load_manifest(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(EdgewakeError, match="run edgewake build"):
        load_manifest(tmp_path)


def test_a_manifest_cannot_be_changed_in_place():
    manifest = ModelManifest.model_validate(copy.deepcopy(record()))
    with pytest.raises(ValueError, match="frozen"):
        manifest.window = 6
