"""The simulator's arithmetic is TFLM's; streaming, whole recordings and any blocking give the same bytes."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.errors import EdgewakeError
from edgewake.runtime import simulator
from edgewake.runtime.deployed import DeployedModel, Layer, Quantization
from edgewake.runtime.fixedpoint import multiply_by_quantized_multiplier, quantize_multiplier
from edgewake.runtime.integers import BIAS_LIMIT, integer_layers, weight_scale
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import windowed_graph
from edgewake.runtime.tflite_file import write_tflite
from edgewake.runtime.tflm import TflmModel
from random_models import random_model

SEEDS = st.integers(0, 2**31)


def tiny_model(weight, bias, *, given, output, relu=False):
    """stem -> logit, with the stem as given."""
    weight = np.asarray(weight, np.float32)
    head = np.ones((1, len(weight)), np.float32)
    logit = Quantization(np.float32(0.1), 0)
    layers = (
        Layer("conv1x1", "stem", output, weight, np.asarray(bias, np.float32), relu),
        Layer("conv1x1", "logit", logit, head, np.zeros(1, np.float32)),
    )
    return DeployedModel(layers, given, 1, weight.shape[1])


def in_tflm(model, features):
    """Every activation that TFLM computes for these steps, by layer name."""
    graph = windowed_graph(model, len(features))
    interpreter = TflmModel(write_tflite([graph]), keep_tensors=True)
    interpreter.invoke(features)
    return {
        tensor.name: interpreter.tensor(index).reshape(tensor.shape)[0, :, 0, :]
        for index, tensor in enumerate(graph.tensors)
        if tensor.data is None and tensor.name != "features"
    }


# ---- fixed point ----------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.floats(2.0**-30, 2.0**30))
def test_multiplier_is_the_nearest_q31(real):
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(real)) <= Fraction(2) ** (shift - 32)


@pytest.mark.parametrize("real", [0.0, 2.0**-33, 1e-30])
def test_multipliers_that_vanish_are_zero(real):
    assert quantize_multiplier(real) == (0, 0)


@settings(max_examples=300)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(2**30, 2**31 - 1), st.integers(-31, 0))
def test_rescaling_rounds_twice(value, multiplier, shift):
    """First halves up to an integer, then halves away from zero: the definition, in exact arithmetic."""
    high = math.floor(Fraction(value * multiplier, 2**31) + Fraction(1, 2))
    exact = Fraction(high, 2**-shift)
    expected = math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    got = multiply_by_quantized_multiplier(np.array([value], np.int64), multiplier, shift)
    assert got[0] == expected


# ---- integers from the deploy form ----------------------------------------------------------------


def test_weight_scales_are_those_learned():
    for numbers in integer_layers(random_model(3, 16, (3, 5))):
        if numbers.weight_scale is not None:
            np.testing.assert_array_equal(numbers.weight_scale, numbers.layer.weight_scale)


@pytest.mark.parametrize("weight", [0.0, 1e-38, 1e-12])
def test_a_row_that_cannot_hold_its_bias_gets_a_scale_that_can(weight):
    given, output = Quantization(np.float32(0.1), -128), Quantization(np.float32(0.05), 0)
    model = tiny_model([[weight] * 4, [1.0] * 4], [2.5, 0.0], given=given, output=output)
    numbers = integer_layers(model)[0]
    assert 0.99 * BIAS_LIMIT < numbers.bias[0] <= BIAS_LIMIT
    features = np.random.default_rng(0).integers(-128, 128, (5, 4), dtype=np.int8)
    assert set(in_tflm(model, features)["stem"][:, 0]) == {50}
    np.testing.assert_array_equal(in_tflm(model, features)["stem"], IntegerModel(model).activations(features)["stem"])


def test_a_row_of_zeros_without_bias_stays_at_zero():
    given, output = Quantization(np.float32(0.1), -128), Quantization(np.float32(0.05), 7)
    model = tiny_model(np.zeros((3, 4)), np.zeros(3), given=given, output=output)
    assert (weight_scale(model.layers[0], given.scale) > 0).all()
    features = np.full((2, 4), 55, np.int8)
    assert (in_tflm(model, features)["stem"] == 7).all()
    assert (IntegerModel(model).activations(features)["stem"] == 7).all()


def test_an_accumulator_beyond_int32_is_refused_with_its_layer():
    given, output = Quantization(np.float32(1.0), -128), Quantization(np.float32(1e-7), 0)
    model = tiny_model(np.ones((1, 8)), np.zeros(1), given=given, output=output)
    with pytest.raises(EdgewakeError, match=r"layer stem, channel 0: the accumulator needs .* int32 has 31"):
        IntegerModel(model)


def test_an_average_pool_that_would_rescale_is_refused():
    model = random_model(0, 16, (), 3)
    layers = [replace(layer, output=Quantization(np.float32(9.0), 0)) if layer.kind == "avgpool" else layer
              for layer in model.layers]  # fmt: skip
    with pytest.raises(EdgewakeError, match=r"layer pool .* must be equal"):
        IntegerModel(replace(model, layers=tuple(layers)))


# ---- the model ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(SEEDS, st.sampled_from([(), (1,), (2,), (3, 4), (7, 2, 1)]), st.sampled_from([0, 2, 5]), st.booleans())
def test_stepping_equals_the_whole_recording(seed, kernels, pool, extreme):
    model = IntegerModel(random_model(seed, 16, kernels, pool, extreme=extreme))
    features = np.random.default_rng(seed).integers(-128, 128, (23, 120), dtype=np.int8)
    stepped = np.array([model.step(row) for row in features])
    np.testing.assert_array_equal(stepped, model.windowed(features))
    model.reset()
    np.testing.assert_array_equal([model.step(row) for row in features], stepped)


@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_the_block_size_does_not_show(block, monkeypatch):
    model = IntegerModel(random_model(5, 16, (5, 9), 4))
    features = np.random.default_rng(5).integers(-128, 128, (150, 120), dtype=np.int8)
    expected = model.windowed(features)
    monkeypatch.setattr(simulator, "BLOCK_STEPS", block)
    np.testing.assert_array_equal(model.windowed(features), expected)
    np.testing.assert_array_equal(model.activations(features)["logit"][:, 0], expected)


def test_whole_recordings_leave_the_state_of_stepping_alone():
    model = IntegerModel(random_model(6, 16, (5,)))
    features = np.random.default_rng(6).integers(-128, 128, (30, 120), dtype=np.int8)
    expected = model.windowed(features)
    first = [model.step(row) for row in features[:10]]
    model.windowed(features)
    np.testing.assert_array_equal(first + [model.step(row) for row in features[10:]], expected)


def test_silence_changes_nothing_after_reset():
    deployed = random_model(8, 16, (5, 3), 2, extreme=True)
    model = IntegerModel(deployed)
    silent = np.full((40, deployed.input_width), deployed.input.zero_point, np.int8)
    assert len(set(model.windowed(silent).tolist())) == 1


def test_sums_over_more_inputs_than_float32_can_hold_are_exact():
    rng = np.random.default_rng(1)
    inputs = simulator.FLOAT32_EXACT_INPUTS + 8
    given, output = Quantization(np.float32(0.1), 127), Quantization(np.float32(10.0), 0)
    model = tiny_model(rng.uniform(0.9, 1, (2, inputs)), [0.3, -0.2], given=given, output=output)
    features = rng.integers(-128, -100, (3, inputs), dtype=np.int8)
    stem = integer_layers(model)[0]
    exact = (features.astype(np.int64) - 127) @ stem.weight.T.astype(np.int64) + stem.bias
    assert np.abs(exact).max() > 2**24
    np.testing.assert_array_equal(IntegerModel(model).activations(features)["stem"], in_tflm(model, features)["stem"])


@pytest.mark.parametrize(
    "features", [np.zeros((3, 119), np.int8), np.zeros((3, 120), np.int16), np.zeros(120, np.int8)]
)
def test_features_of_another_form_are_refused(features):
    with pytest.raises(EdgewakeError, match=r"the model takes \(steps, 120\) int8"):
        IntegerModel(random_model(0)).windowed(features)


def test_an_empty_recording_has_no_steps():
    assert IntegerModel(random_model(0)).windowed(np.zeros((0, 120), np.int8)).shape == (0,)
