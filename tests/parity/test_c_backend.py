"""The generated C gives the bytes of TFLM and of the simulator in every layer, for any accepted model."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from c_network import KERNELS, layers_in_c
from edgewake.builder.image import network_payload
from edgewake.cache import Cache
from edgewake.errors import EdgewakeError
from edgewake.parity.checks import signals
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.network.compiled import CompiledModel, CompiledNetwork
from edgewake.runtime.network.source import read_network
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import read_tflite, write_tflite
from edgewake.runtime.tflm import TflmModel
from random_models import random_model
from tflm_layers import assert_layers_equal_tflm

EXAMPLES = 20


def assert_equal(model, features, kernels="portable"):
    """Every layer equals the simulator and TFLM, under sanitizers; so does the logit of the streaming model in TFLM."""
    data = write_tflite(streaming_graphs(model))
    with tempfile.TemporaryDirectory() as folder:
        found = layers_in_c(data, features, Path(folder), kernels)
    simulated = IntegerModel(model).activations(features)
    assert len(found) == len(simulated)
    for (name, expected), values in zip(simulated.items(), found, strict=True):
        np.testing.assert_array_equal(values, expected, err_msg=name)
    np.testing.assert_array_equal(found[-1][:, 0], TflmModel(data).run(features))
    if len(features) >= model.receptive_field_steps:
        assert_layers_equal_tflm(model, features, dict(zip(simulated, found, strict=True)))


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from([5, 16, 32]),
    kernels=st.lists(st.integers(1, 12), max_size=3).map(tuple),
    pool=st.sampled_from([0, 0, 2, 3, 8]),
    extreme=st.sampled_from([False, True, True]),
    how=st.sampled_from(sorted(KERNELS)),
)
def test_every_layer_equals_tflm_and_the_simulator(seed, width, kernels, pool, extreme, how):
    model = random_model(seed, width, kernels, pool, extreme=extreme)
    rng = np.random.default_rng(seed)
    # Beyond twice the longest ring, so that each wraps more than once.
    features = rng.integers(-128, 128, (model.receptive_field_steps + 25, model.input_width), dtype=np.int8)
    assert_equal(model, features, how)


@pytest.mark.parametrize("how", KERNELS)
def test_a_small_model_equals_tflm_and_the_simulator(how):
    model = random_model(3, 16, (3, 5), 2, extreme=True)
    assert_equal(model, np.random.default_rng(3).integers(-128, 128, (30, 120), dtype=np.int8), how)


@pytest.mark.slow
@pytest.mark.parametrize("zero_point", [-128, -1, 0, 127])
@pytest.mark.parametrize("relu", [False, True])
def test_edges_of_levels_and_zero_points(zero_point, relu):
    drawn = random_model(abs(zero_point), 16, (3,), 2)
    edge = Quantization(drawn.layers[0].output.scale, zero_point)
    layers = tuple(
        replace(layer, output=edge, relu=relu and layer.weight is not None) if layer.name != "logit" else layer
        for layer in drawn.layers
    )
    model = DeployedModel(layers, Quantization(drawn.input.scale, zero_point))
    features = np.repeat(np.array([[-128], [0], [127]], np.int8), 8, axis=0).repeat(model.input_width, axis=1)
    assert_equal(model, features)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2, 8, 17])
@pytest.mark.parametrize("kernels", [(), (1,), (13,)])
def test_edges_of_shapes(width, kernels):
    model = random_model(width, width, kernels, frames_per_step=1, channels=7)
    features = np.random.default_rng(width).integers(-128, 128, (30, 7), dtype=np.int8)
    assert_equal(model, features, "ESP-NN, depthwise too" if width == 8 else "portable")


def test_a_model_whose_first_layer_looks_back():
    drawn = random_model(8, 16, (4,), 3)
    shape = (4, drawn.input_width)
    rng = np.random.default_rng(8)
    first = replace(
        drawn.layers[1],
        name="first",
        weight=rng.normal(0, 1, shape).astype(np.float32),
        bias=np.zeros(shape[1], np.float32),
        output=drawn.input,
    )
    model = DeployedModel((first, *drawn.layers), drawn.input).validate()
    assert_equal(model, rng.integers(-128, 128, (25, model.input_width), dtype=np.int8))


RELEASED = sorted(Path(__file__).parents[2].glob("models/*/model.tflite"))


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.parent.name)
def test_released_models_equal_tflm_and_the_simulator(path, tmp_path):
    deployed, data = DeployedModel.load(path.parent), path.read_bytes()
    features = np.concatenate([model_input(deployed, each) for each in features_batch(list(signals(4).values()))])
    compiled = CompiledModel(CompiledNetwork(data, Cache(tmp_path)))
    activations = IntegerModel(deployed).activations(features)
    for (name, expected), found in zip(activations.items(), compiled.activations(features), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)
    few = features[:200]
    np.testing.assert_array_equal(compiled.windowed(few), TflmModel(data).run(few))


@pytest.mark.slow
@pytest.mark.parametrize("how", KERNELS)
@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.parent.name)
def test_released_models_run_clean_under_sanitizers_with_each_kind_of_kernels(path, how, tmp_path):
    """With ESP-NN's own ANSI C where EDGEWAKE_TEST_ESP_NN names its source tree."""
    deployed = DeployedModel.load(path.parent)
    features = np.random.default_rng(1).integers(-128, 128, (60, deployed.input_width), dtype=np.int8)
    found = layers_in_c(path.read_bytes(), features, tmp_path, how)
    for (name, expected), values in zip(IntegerModel(deployed).activations(features).items(), found, strict=True):
        np.testing.assert_array_equal(values, expected, err_msg=name)
    np.testing.assert_array_equal(found[-1][:, 0], TflmModel(path.read_bytes()).run(features))


def test_a_changed_weight_is_found(tmp_path):
    model = random_model(5, 16, (3,))
    changed = replace(model, layers=(*model.layers[:-1], replace(model.layers[-1], bias=model.layers[-1].bias + 1)))
    features = np.random.default_rng(5).integers(-128, 128, (20, 120), dtype=np.int8)
    found = layers_in_c(write_tflite(streaming_graphs(changed)), features, tmp_path)
    assert (found[-1][:, 0] != IntegerModel(model).windowed(features)).any()


def test_an_operator_that_the_backend_lacks_is_named():
    main, init = read_tflite(RELEASED[0].read_bytes())
    operators = [
        replace(op, code=tflite.BuiltinOperator.FULLY_CONNECTED, options=None) if op.name == "CONV_2D" else op
        for op in main.operators
    ]
    main.operators = operators
    with pytest.raises(EdgewakeError, match="the C backend has no kernel for FULLY_CONNECTED; it has CONV_2D 1x1, "):
        read_network(write_tflite([main, init]))


def test_constants_and_state_are_as_counted(tmp_path):
    """The generated static asserts compile; with one byte less they do not."""
    data = write_tflite(streaming_graphs(random_model(6, 17, (3, 4), 2)))
    network = read_network(data)
    features = np.zeros((1, 120), np.int8)
    layers_in_c(data, features, tmp_path)
    text = (tmp_path / "ew_network.h").read_text()
    assert f"EW_NETWORK_CONSTANT_BYTES {network.constant_bytes}\n" in text
    limits = (f"-DEW_NETWORK_MOST_CONSTANT_BYTES={network.constant_bytes - 1}", "-DEW_NETWORK_MOST_STATE_BYTES=99999")
    with pytest.raises(AssertionError, match="constants_fit_the_target"):
        layers_in_c(data, features, tmp_path, options=limits)


@pytest.mark.parametrize("shape", [(16, (3, 4), 2), (17, (5,), 0)])
def test_the_image_of_a_network_holds_the_bytes_of_its_constants(shape, tmp_path):
    width, kernels, pool = shape
    compiled = CompiledNetwork(write_tflite(streaming_graphs(random_model(7, width, kernels, pool))), Cache(tmp_path))
    size = compiled.network.constant_bytes
    constants = (ctypes.c_char * size).in_dll(compiled.library, "EW_NETWORK_CONSTANTS")
    payload = network_payload(compiled.network)
    assert payload.data == constants.raw
    for entry in payload.numbers:
        values = np.frombuffer(payload.data, f"<i{entry.width}", entry.items, entry.offset)
        assert entry.low <= values.min()
        assert values.max() <= entry.high
