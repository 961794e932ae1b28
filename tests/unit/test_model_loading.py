"""A model loads when manifest and .tflite are of one build; otherwise one line says what differs."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.runtime.detector import Detector
from edgewake.runtime.model_manifest import load_model
from edgewake.runtime.streaming import verify
from edgewake.runtime.tflite_file import Graph, Operator, Tensor, options, write_tflite
from edgewake.runtime.tflm import TflmModel


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    for name in ("model.tflite", "manifest.json"):
        (tmp_path / name).write_bytes((repository / "models" / "computer" / name).read_bytes())
    return tmp_path


def put_model(folder: Path, data: bytes) -> None:
    """Another model under the manifest, with its own hash."""
    (folder / "model.tflite").write_bytes(data)
    record = json.loads((folder / "manifest.json").read_text())
    record["model"]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(record))


def test_the_released_model_loads(folder: Path) -> None:
    manifest, data = load_model(folder)
    assert data == (folder / "model.tflite").read_bytes()
    found = verify(data)
    assert (found.width, found.receptive_field_steps) == (120, manifest.receptive_field_steps)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input.multiplier", 50214),
        ("input.shift", 16),
        ("input.scale", 0.2),
        ("input.zero_point", -127),
        ("output.scale", 0.09375001),
        ("output.zero_point", 1),
        ("receptive_field_steps", 44),
        ("frames_per_step", 2),
        ("model.bytes", 52175),
    ],
)
def test_a_manifest_with_other_numbers_than_the_model_is_one_line(folder: Path, path: str, value: Any) -> None:
    record = json.loads((folder / "manifest.json").read_text())
    *parents, key = path.split(".")
    place = record
    for parent in parents:
        place = place[parent]
    place[key] = value
    (folder / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(EdgewakeError, match=rf"manifest.json has {path}.* = .*, the .tflite .*: build it again"):
        Detector(folder)


def test_a_model_that_is_missing_or_another_is_refused(folder: Path) -> None:
    data = bytearray((folder / "model.tflite").read_bytes())
    data[-1] ^= 1
    (folder / "model.tflite").write_bytes(data)
    with pytest.raises(EdgewakeError, match="SHA-256"):
        load_model(folder)
    (folder / "model.tflite").unlink()
    with pytest.raises(EdgewakeError, match="does not exist"):
        load_model(folder)


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\0\0\0\0TFL3", bytes(range(256)), b"\xff\xff\xff\xffTFL3" + bytes(64)]
)
def test_what_is_no_tflite_is_one_line(folder: Path, data: bytes) -> None:
    put_model(folder, data)
    with pytest.raises(EdgewakeError, match=r"model .*\.tflite"):
        load_model(folder)


def microwakeword_like() -> bytes:
    """int8 [1, 3, 40] -> uint8 [1, 1] with a variable, the form of a microWakeWord model."""
    graph = Graph()
    taken = graph.add(Tensor("features", (1, 3, 40), 9))
    handle = graph.add(Tensor("", (), 13))
    given = graph.add(Tensor("probability", (1, 1), 3))
    named = options("VarHandleOptions", Container="", SharedName="stream")
    graph.operators = [Operator(142, (), (handle,), named), Operator(114, (taken,), (given,))]
    graph.inputs, graph.outputs = (taken,), (given,)
    return write_tflite([graph, Graph()])


def test_a_microwakeword_model_is_called_by_its_name(folder: Path) -> None:
    put_model(folder, microwakeword_like())
    line = r"microWakeWord model \(input int8 \[1, 3, 40\], output uint8 \[1, 1\]\)"
    with pytest.raises(EdgewakeError, match=line):
        Detector(folder)
    with pytest.raises(EdgewakeError, match=line):
        Detector(folder / "model.tflite")
    (folder / "manifest.json").write_text(json.dumps({"type": "micro", "wake_word": "Alexa", "version": 2}))
    with pytest.raises(EdgewakeError, match="microWakeWord"):
        Detector(folder)


def test_where_tflm_has_no_package_one_line_says_where_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    with pytest.raises(MissingDependencyError, match=r"packages are for Linux on x86-64 alone: run, measure and build"):
        TflmModel(b"")
