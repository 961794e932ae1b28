"""Parity check 3: every scale that training learned is in the .tflite, through torch, onnx2tf and ai-edge-quantizer.

The real converters run for each example, so there are few of them (about a second each).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgewake.conversion import chain
from edgewake.conversion.chain import differing_tensors
from edgewake.conversion.convert import convert
from edgewake.parity.checks import check_3, learned_scales, stored_scales
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import windowed_graph, windowed_tflite
from edgewake.runtime.tflite_file import Affine, read_tflite, write_tflite
from random_models import random_model

EXAMPLES = 10

pytest.importorskip("onnx2tf", reason="the extra `convert` is not installed")


@pytest.fixture(scope="module", autouse=True)
def in_this_process(tmp_path_factory):
    """onnx2tf without a process of its own for each example, which would take minutes."""
    raw = tmp_path_factory.mktemp("onnx2tf") / "raw.tflite"

    def graphs(onnx):
        chain.run_onnx2tf(onnx, raw)
        return read_tflite(raw.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "onnx_graphs", graphs)
        yield


def corrected(result):
    return result.stages["int8"]["corrected"]


def assert_exact(model, result):
    """Both files hold every learned number; the windowed one is what is built without converters."""
    for name, data in (("windowed", result.windowed), ("streaming", result.model)):
        found = check_3(model, data, name)
        assert found.ok, found.detail
    assert result.windowed == windowed_tflite(model)


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],  # shrinking would convert for minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.sampled_from([16, 32]), st.lists(st.integers(1, 9), max_size=3), st.sampled_from([0, 2, 5])),
    extreme=st.booleans(),
)
def test_converters_keep_every_learned_number(tmp_path, seed, shape, extreme):
    model = random_model(seed, *shape, extreme=extreme)
    result = convert(model, tmp_path)
    assert_exact(model, result)
    assert extreme or corrected(result) == []


@pytest.mark.slow
def test_the_quantizer_itself_gives_the_learned_scales_of_a_plausible_model(tmp_path):
    """No correction is needed: what makes it hold is the ranges given, not the correction afterwards."""
    model = random_model(5, 32, (5, 7), 3)
    result = convert(model, tmp_path)
    assert_exact(model, result)
    assert corrected(result) == []


@pytest.mark.slow
def test_rows_below_the_quantizers_floor_are_corrected_and_recorded(tmp_path):
    """ai-edge-quantizer takes 1e-9 for a row of zeros, which would change the scale and overflow the bias."""
    model = random_model(6, 16, (3,))
    stem = model.layers[0]
    weight = stem.weight.copy()
    weight[:3] = 0
    model = replace(model, layers=(replace(stem, weight=weight), *model.layers[1:]))
    result = convert(model, tmp_path)
    assert_exact(model, result)
    assert corrected(result) == ["stem/weight", "stem/bias"]


SCALES = [1e-9, 0.1, 1 / 3, 1.0000001, 12345.678]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "kernels", "pool"), [(16, (12,), 2), (32, (1, 28), 0), (16, (), 5), (16, (13, 2), 0)]
)
def test_shapes_that_look_alike_survive_the_converters(tmp_path, width, kernels, pool):
    """onnx2tf guesses axes by their lengths: here a length in time equals the width, or a kernel is 1."""
    model = random_model(10, width, kernels, pool)
    assert_exact(model, convert(model, tmp_path))


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 1, 127])
def test_float64_ranges_give_back_the_scale_exactly(zero_point):
    """The quantizer's own formula, for all that matters about a float32 scale: its mantissa."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor import (
        tensor_zp_scale_from_min_max,
    )

    rng = np.random.default_rng(zero_point + 200)
    for scale in np.float32([*SCALES, *np.exp2(rng.uniform(-20, 20, 2000))]):
        value = Quantization(scale, zero_point)
        low, high = np.array([value.low]), np.array([value.high])
        found_zero, found_scale = tensor_zp_scale_from_min_max(
            low, high, 8, symmetric=False, granularity=qtyping.QuantGranularity.TENSORWISE
        )
        assert np.float32(found_scale[0]) == scale
        assert found_zero[0] == zero_point


def test_a_number_that_the_quantizer_changes_is_reported():
    model = random_model(7, 16, (3,))
    graph = windowed_graph(model)
    assert differing_tensors(graph, windowed_graph(model)) == []
    index = next(i for i, tensor in enumerate(graph.tensors) if tensor.name == "depth0")
    off = Affine(np.nextafter(graph.tensors[index].quantization.scale, np.float32(9)), np.array([-128]))
    graph.tensors[index] = replace(graph.tensors[index], quantization=off)
    assert differing_tensors(graph, windowed_graph(model)) == ["depth0"]


def test_one_ulp_in_one_scale_breaks_the_check():
    model = random_model(8, 16, (3,))
    graph = windowed_graph(model)
    for index, tensor in enumerate(graph.tensors):
        scale = tensor.quantization.scale.copy()
        scale[-1] = np.nextafter(scale[-1], np.float32(np.inf))
        wrong = replace(tensor, quantization=replace(tensor.quantization, scale=scale))
        changed = replace(graph, tensors=[*graph.tensors[:index], wrong, *graph.tensors[index + 1 :]])
        result = check_3(model, write_tflite([changed]))
        assert (result.ok, result.differences) == (False, 1), tensor.name


def test_every_tensor_of_a_windowed_model_is_compared():
    model = random_model(9, 16, (3, 5), 2)
    data = windowed_tflite(model)
    graph = windowed_graph(model)
    assert set(learned_scales(model)) == set(stored_scales(data)) == {tensor.name for tensor in graph.tensors}


def test_the_check_holds_on_released_models(repository):
    released = sorted(repository.glob("models/*/model.json"))
    assert released
    for path in released:
        model = DeployedModel.load(path.parent)
        result = check_3(model, (path.parent / "model.tflite").read_bytes())
        assert result.ok, f"{path.parent.name}: {result.detail}"
        IntegerModel(model)
