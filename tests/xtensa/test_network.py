"""Parity checks 4 and 8 of the generated C on Xtensa: every layer, and the golden vectors as at boot, byte for byte."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from c_network import network_files
from edgewake.builder.firmware import GENERATED, emit_firmware, make_golden
from edgewake.calibration import load_golden
from edgewake.runtime.model_manifest import load_model
from edgewake.runtime.network.source import read_network
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite
from edgewake.runtime.tflm import TflmModel
from random_models import random_model
from xtensa.emulator import CORE_SOURCES, HERE, build, instructions, missing, run

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

RELEASED = HERE.parents[1] / "models" / "computer"


def request(features):
    return struct.pack("<I", len(features)) + features.tobytes()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_layer_equals_the_simulator(seed, tmp_path):
    model = random_model(seed, 16, (3, 6), 2, extreme=True)
    network_files(write_tflite(streaming_graphs(model)), tmp_path)
    sources = [HERE / "network.c", tmp_path / "ew_network.c"]
    program = build(tmp_path / "network.elf", sources, include=[tmp_path], flags=["-DEW_NETWORK_TRACE"])
    features = np.random.default_rng(seed).integers(-128, 128, (30, 120), dtype=np.int8)
    expected = np.concatenate(list(IntegerModel(model).activations(features).values()), axis=1)
    found = np.frombuffer(run(program, request(features)), np.int8)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_a_released_model_equals_tflm_in_fewer_instructions_than_stated(tmp_path):
    """docs/backends.md has the figure; most are products of weights, 1 instruction for each would be 43,000."""
    data = (RELEASED / "model.tflite").read_bytes()
    network_files(data, tmp_path)
    program = build(tmp_path / "network.elf", [HERE / "network.c", tmp_path / "ew_network.c"], include=[tmp_path])
    features = np.random.default_rng(3).integers(-128, 128, (30, 120), dtype=np.int8)
    rows = np.frombuffer(run(program, request(features)), np.int32).reshape(-1, 2)
    np.testing.assert_array_equal(rows[:, 0], TflmModel(data).run(features))
    assert max(instructions(int(ticks)) for ticks in rows[:, 1]) < 450_000


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The generated folder of the released model's firmware."""
    folder = tmp_path_factory.mktemp("project")
    manifest, data = load_model(RELEASED)
    params, config = manifest.pipeline_params(), manifest.frontend_config
    audio = load_golden()[0][:16_000]
    given = {"frontend_config": config, "params": params, "golden": make_golden("test", audio, config, params, data)}
    names = {
        "model_bytes": data,
        "network": read_network(data),
        "operators": [],
        "arena_bytes": 0,
        "phrase": "computer",
    }
    emit_firmware(folder, **given, **names)
    return folder / GENERATED


def selftest(folder, output):
    program = build(output, [HERE / "selftest.c", *folder.glob("*.c"), *CORE_SOURCES], include=[folder])
    return struct.unpack("<2I2i", run(program))


def test_the_golden_vectors_of_the_host_come_out_on_xtensa(project, tmp_path):
    assert selftest(project, tmp_path / "selftest.elf")[0] == 0


def test_a_changed_constant_is_found_by_the_golden_vectors(project, tmp_path):
    for path in project.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    source = tmp_path / "ew_network.c"
    source.write_text(re.sub(r"(\.bias0 = \{\s+)-?\d+", r"\g<1>1000000", source.read_text()))
    stage, *_ = selftest(tmp_path, tmp_path / "selftest.elf")
    assert stage == 2
