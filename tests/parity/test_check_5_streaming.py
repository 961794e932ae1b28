"""Parity check 5, in TFLM: the streaming model from reset gives what the windowed one gives after silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.errors import EdgewakeError
from edgewake.parity.checks import check_5, signals
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.streaming import streaming_graphs, windowed_tflite
from edgewake.runtime.tflite_file import read_tflite, write_tflite
from edgewake.runtime.tflm import TflmModel, measure_arena
from random_models import random_model

EXAMPLES = 60


def streaming_tflite(model):
    return write_tflite(streaming_graphs(model))


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from([16, 32]),
    kernels=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    pool=st.sampled_from([0, 2, 6]),
    extreme=st.booleans(),
)
def test_streaming_equals_windowed(seed, width, kernels, pool, extreme):
    model = random_model(seed, width, kernels, pool, extreme=extreme)
    result = check_5(model, streaming_tflite(model), windowed_tflite(model), [], seed)
    assert result.ok, result.detail
    assert result.compared == 300


def test_streaming_equals_windowed_on_the_frontends_features():
    model = random_model(33, 32, (5, 7, 9))
    features = features_batch(list(signals(33).values()))
    result = check_5(model, streaming_tflite(model), windowed_tflite(model), features)
    assert result.ok, result.detail


def test_reset_restores_silence_not_zeros():
    model = random_model(34, 16, (5, 3), 2, extreme=True)
    features = np.random.default_rng(34).integers(-128, 128, (20, 120), dtype=np.int8)
    interpreter = TflmModel(streaming_tflite(model))
    first = interpreter.run(features)
    interpreter.reset()
    np.testing.assert_array_equal(interpreter.run(features), first)


def test_a_state_that_is_not_silence_breaks_the_check():
    model = random_model(35, 16, (9,))
    main, init = streaming_graphs(model)
    init.tensors = [replace(tensor, data=tensor.data and bytes(len(tensor.data))) for tensor in init.tensors]
    result = check_5(model, write_tflite([main, init]), windowed_tflite(model), [])
    assert not result.ok
    assert result.differences <= 8


def test_the_streaming_model_is_a_step_with_its_state_inside():
    model = random_model(36, 16, (5, 1, 3), 4)
    main, init = read_tflite(streaming_tflite(model))
    assert [main.tensors[index].shape for index in (*main.inputs, *main.outputs)] == [
        (1, 1, 1, 120),
        (1, 1, 1, 1),
    ]
    names = [operator.name for operator in main.operators]
    assert names[0] == "CALL_ONCE"
    assert names.count("VAR_HANDLE") == names.count("ASSIGN_VARIABLE") == names.count("READ_VARIABLE") == 3
    assert [operator.name for operator in init.operators] == ["VAR_HANDLE", "ASSIGN_VARIABLE"] * 3


def test_constants_are_aligned_for_vector_loads():
    import tflite

    data = streaming_tflite(random_model(37, 16, (5, 3)))
    model = tflite.Model.GetRootAs(data, 0)
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0


def test_the_measured_arena_is_enough_and_minimal():
    data = streaming_tflite(random_model(39, 16, (5, 3)))
    arena = measure_arena(data)
    assert arena % 16 == 0
    assert len(TflmModel(data, arena).run(np.zeros((3, 120), np.int8))) == 3
    with pytest.raises(EdgewakeError, match="TFLM refuses"):
        TflmModel(data, arena - 16).run(np.zeros((3, 120), np.int8))


def test_the_check_holds_on_released_models(repository):
    released = sorted(repository.glob("models/*/model.json"))
    assert released
    features = features_batch(list(signals(5).values()))
    for path in released:
        model = DeployedModel.load(path.parent)
        streaming = (path.parent / "model.tflite").read_bytes()
        result = check_5(model, streaming, windowed_tflite(model), features)
        assert result.ok, f"{path.parent.name}: {result.detail}"
