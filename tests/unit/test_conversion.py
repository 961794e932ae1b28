"""A model is converted without converters to the released bytes; files are written and read to the byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgewake.config import WakewordConfig
from edgewake.conversion.convert import convert, stages
from edgewake.conversion.ptq import calibrated
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.parity.checks import signals
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.streaming import streaming_graphs, windowed_graph, windowed_tflite
from edgewake.runtime.tflite_file import in_order_of_use, options, read_tflite, write_tflite
from edgewake.runtime.tflm import TflmModel
from random_models import random_model


@pytest.fixture(scope="module")
def model():
    return random_model(50, 16, (3, 5), 2)


@pytest.fixture(scope="module")
def recordings():
    return features_batch(list(signals(50).values()))


def test_the_default_model_fits_its_budget(tmp_path):
    shape = WakewordConfig().model
    model = random_model(51, shape.width, shape.kernel_sizes)
    data = write_tflite(streaming_graphs(model))
    assert len(data) <= 56 * 1024


def test_an_unknown_method_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="must be qat or ptq"):
        convert(model, tmp_path, "int4")


def test_a_model_that_int8_cannot_hold_is_refused_before_any_stage(model, tmp_path):
    fine = replace(model.layers[0], output=Quantization(np.float32(1e-30), -128))
    with pytest.raises(EdgewakeError, match="layer stem"):
        convert(replace(model, layers=(fine, *model.layers[1:])), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_released_model_is_made_without_converters(repository, tmp_path):
    """Its bytes were made by the chain."""
    result = convert(repository / "models" / "computer", tmp_path, chain=False)
    assert result.model == (repository / "models" / "computer" / "model.tflite").read_bytes()


def test_stages_are_those_that_run(model, tmp_path):
    begun = []
    convert(model, tmp_path, progress=begun.append, chain=False)
    assert begun == list(stages(chain=False)) == ["int8", "streaming", "c"]


def test_ptq_measures_other_ranges_and_streams_as_exactly(model, recordings, tmp_path):
    result = convert(model, tmp_path, "ptq", recordings, chain=False)
    assert result.deployed.input != model.input
    assert all(new.weight is old.weight for new, old in zip(result.deployed.layers, model.layers, strict=True))
    steps = model_input(result.deployed, recordings[3])
    stepped = TflmModel(result.model).run(steps)
    np.testing.assert_array_equal(stepped, IntegerModel(result.deployed).windowed(steps))


def test_calibration_on_recordings_shorter_than_the_window_is_refused(model):
    with pytest.raises(EdgewakeError, match="fills a window"):
        calibrated(model, [np.zeros((5, 40), np.uint16)])


def test_a_file_read_and_written_again_is_the_same():
    model = random_model(52, 16, (3, 5), 2)
    for graphs in ([windowed_graph(model)], streaming_graphs(model)):
        data = write_tflite(graphs)
        assert write_tflite(read_tflite(data)) == data


def test_options_carry_the_schemas_defaults():
    assert options("Conv2DOptions", StrideW=1)[1]["DilationWFactor"] == 1
    assert options("Conv2DOptions", StrideW=1)[1]["StrideW"] == 1


def test_unused_tensors_are_dropped_and_numbers_follow_use(model):
    graph = windowed_graph(model)
    shuffled = replace(graph, tensors=[*graph.tensors, graph.tensors[0]])
    assert in_order_of_use(shuffled) == graph


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"TFL3"])
def test_what_is_not_a_tflite_is_refused(data):
    with pytest.raises(EdgewakeError, match="not a \\.tflite"):
        read_tflite(data)


def test_tflm_refuses_with_one_line(model):
    with pytest.raises(EdgewakeError, match="TFLM refuses this model"):
        TflmModel(windowed_tflite(model), arena_size=4096)


def test_features_become_whole_steps_oldest_frame_first(model):
    features = np.arange(7 * 40, dtype=np.uint16).reshape(7, 40)
    steps = model_input(model, features)
    assert steps.shape == (2, 120)
    one = np.clip(np.floor(features[:3].ravel() * 0.0390625 / float(model.input.scale) + 0.5) - 128, -128, 127)
    np.testing.assert_array_equal(steps[0], one)
    with pytest.raises(EdgewakeError, match=r"takes \(frames, 40\)"):
        model_input(model, features[:, :39])
