"""The ladder holds on a random model from end to end, and each rung falls when its two sides differ."""

from __future__ import annotations

import numpy as np
import pytest

from edgewake.builder.climbing import climb_ladder
from edgewake.conversion.direct import windowed_graph
from edgewake.parity import ladder
from edgewake.parity.random_models import random_model
from edgewake.parity.signals import chunks, signals
from edgewake.runtime.frontend import FrontendConfig, features_batch
from edgewake.runtime.pipeline import pipeline_params
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite


def streaming_tflite(model):
    graph = windowed_graph(model)
    return write_tflite(streaming_graphs(graph, IntegerModel(model).silence()))


@pytest.fixture(scope="module")
def model():
    return random_model(60, 16, (3, 5), 2)


@pytest.fixture(scope="module")
def features():
    return features_batch(list(signals(60, 0.8).values()))


def test_the_whole_ladder_holds(model):
    said = []
    results = ladder.climb(model, streaming_tflite(model), progress=said.append)
    assert {result.rung for result in results} == {1, 3, 4, 5, 7}
    assert [result for result in results if not result.ok] == []
    assert all(result.compared > 100 for result in results)
    assert len(said) == 5


def test_another_models_file_breaks_rungs_3_4_5_and_7(model):
    other = streaming_tflite(random_model(61, 16, (3, 5), 2))
    broken = {result.rung for result in ladder.climb(model, other) if not result.ok}
    assert broken == {3, 4, 5, 7}


def test_rung_1_falls_when_frontends_are_configured_differently(monkeypatch):
    class Other(ladder.NativeFrontend):
        def __init__(self, config):
            super().__init__(FrontendConfig(pcan=False))

    monkeypatch.setattr(ladder, "NativeFrontend", Other)
    results = ladder.rung_1(recordings=[signals(1, 0.5)["speech-like"]])
    assert not any(result.ok for result in results)


def test_rung_1_without_a_signal_is_not_ok():
    assert not any(result.ok for result in ladder.rung_1(recordings=[]))


def test_rung_6_reports_logits_within_a_few_lsb_of_training(model, features):
    """Fake quantization computes what int8 computes but for the rounding of sums: a level or two."""
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from edgewake.parity.qat import qat_logits

    result = ladder.rung_6(model, lambda recording: qat_logits(model, recording), features)
    assert result.reported
    assert result.compared == sum(len(recording) // 3 for recording in features)
    assert float(result.detail.split("by ")[1].split(" LSB")[0]) < 1.5


def test_rung_6_of_a_float_model_that_is_the_int8_model_has_no_difference(model, features):
    def exact(recording):
        values = IntegerModel(model).activations(model_input(model, recording))["logit"][:, 0]
        logit = model.layers[-2].output
        return (values.astype(np.float64) - logit.zero_point) * float(logit.scale)

    result = ladder.rung_6(model, exact, features, cutoff=0.4987)
    assert (result.ok, result.differences) == (True, 0)


def test_rung_7_sees_events(model):
    params = pipeline_params(
        model.input,
        {"window": 5, "cutoff_sum": 900, "refractory_s": 0.2},
        FrontendConfig(),
        model.frames_per_step,
    )
    assert (params.window, params.cutoff_sum, params.refractory_steps) == (5, 900, 7)
    result = ladder.rung_7(model, streaming_tflite(model), params)
    assert result.ok, result.detail
    assert int(result.detail.split("; ")[1].split(" ")[0]) > 10


def test_signals_and_chunks_repeat_and_lose_nothing():
    for name, samples in signals(5).items():
        np.testing.assert_array_equal(samples, signals(5)[name])
        np.testing.assert_array_equal(np.concatenate(list(chunks(samples, 3))), samples)


def test_released_models_climb_the_ladder(repository):
    released = sorted(repository.glob("models/*/model.json"))
    assert released
    for path in released:
        rungs = climb_ladder(path.parent)
        assert {rung["rung"] for rung in rungs} >= {1, 3, 4, 5, 7}
        assert {rung["verdict"] for rung in rungs} <= {"equal", "reported"}, path.parent.name
