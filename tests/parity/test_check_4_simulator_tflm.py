"""Parity check 4: the integer simulator and TFLM compute the same bytes, in every layer, for any accepted model.

Models are built without converters here, so that many can be drawn; that these are byte for byte what the
converters make is for check 3's tests to show.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.parity.checks import check_4, signals
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite
from edgewake.runtime.tflm import TflmModel
from random_models import random_model
from tflm_layers import assert_layers_equal_tflm

EXAMPLES = 120
KERNELS = st.lists(st.integers(1, 12), max_size=3).map(tuple)
RELEASED = "models/*/model.json"


def streaming_tflite(model):
    return write_tflite(streaming_graphs(model))


def assert_every_layer_equal(model, features):
    """Compare all activations of the windowed model in TFLM with the simulator's of the same steps."""
    assert_layers_equal_tflm(model, features, IntegerModel(model).activations(features))


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from([16, 32]),
    kernels=KERNELS,
    pool=st.sampled_from([0, 0, 2, 3, 8]),
    extreme=st.sampled_from([False, True, True]),
)
def test_every_layer_equals_tflm(seed, width, kernels, pool, extreme):
    model = random_model(seed, width, kernels, pool, extreme=extreme)
    rng = np.random.default_rng(seed)
    features = rng.integers(-128, 128, (model.receptive_field_steps + 5, model.input_width), dtype=np.int8)
    assert_every_layer_equal(model, features)
    stepped = TflmModel(streaming_tflite(model)).run(features)
    np.testing.assert_array_equal(IntegerModel(model).windowed(features), stepped)


@pytest.mark.parametrize("level", [-128, 0, 127])
@pytest.mark.parametrize("zero_point", [-128, -1, 0, 127])
@pytest.mark.parametrize("relu", [False, True])
def test_edges_of_levels_and_zero_points_equal_tflm(level, zero_point, relu):
    """Enumerated, as random draws seldom meet them all at once."""
    from dataclasses import replace

    from edgewake.runtime.deployed import Quantization

    drawn = random_model(abs(level) + abs(zero_point), 16, (3,), 2)
    edge = Quantization(drawn.layers[0].output.scale, zero_point)
    layers = tuple(
        replace(layer, output=edge, relu=relu and layer.weight is not None) if layer.name != "logit" else layer
        for layer in drawn.layers
    )
    model = DeployedModel(layers, Quantization(drawn.input.scale, zero_point))
    assert_every_layer_equal(model, np.full((8, model.input_width), level, np.int8))


@pytest.mark.parametrize("width", [1, 2, 3, 8, 16, 17])
@pytest.mark.parametrize("kernels", [(), (1,), (2,), (13,)])
def test_edges_of_shapes_equal_tflm(width, kernels):
    """Shapes that no released model has, such as 2 channels, which random draws of good shapes would miss."""
    model = random_model(width, width, kernels, frames_per_step=1, channels=7)
    features = np.random.default_rng(width).integers(-128, 128, (20, 7), dtype=np.int8)
    assert_every_layer_equal(model, features)
    stepped = TflmModel(streaming_tflite(model)).run(features)
    np.testing.assert_array_equal(IntegerModel(model).windowed(features), stepped)


def test_the_check_holds_on_the_frontends_features():
    model = random_model(21, 32, (5, 7), 3)
    features = features_batch(list(signals(21).values()))
    result = check_4(model, streaming_tflite(model), features)
    assert result.ok
    assert result.compared > 500


def test_the_check_fails_for_another_model():
    model, other = random_model(1, 16, (3,)), random_model(2, 16, (3,))
    result = check_4(model, streaming_tflite(other), [])
    assert not result.ok
    assert result.differences > 0
    assert "first difference" in result.detail


def test_the_check_holds_on_released_models(repository):
    released = sorted(repository.glob(RELEASED))
    assert released
    features = features_batch(list(signals(4).values()))
    for path in released:
        model = DeployedModel.load(path.parent)
        assert check_4(model, (path.parent / "model.tflite").read_bytes(), features).ok, path.parent.name
