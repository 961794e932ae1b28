"""All parity checks pass on a random model, and each fails when its two sides differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgewake.builder.parity import check_model
from edgewake.parity import checks
from edgewake.parity.checks import chunks, signals
from edgewake.runtime.frontend import FrontendConfig, features_batch
from edgewake.runtime.pipeline import pipeline_params
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite
from random_models import random_model


def streaming_tflite(model):
    return write_tflite(streaming_graphs(model))


@pytest.fixture(scope="module")
def model():
    return random_model(60, 16, (3, 5), 2)


@pytest.fixture(scope="module")
def features():
    return features_batch(list(signals(60, 0.8).values()))


SETTINGS = {"window": 1, "cutoff_sum": 32_768, "refractory_s": 1.0}


def params_of(model):
    return pipeline_params(model.input, model.output, SETTINGS, FrontendConfig(), model.frames_per_step)


def run(model, tflite):
    return checks.run_checks(model, tflite, params_of(model), FrontendConfig())


@pytest.mark.slow
def test_all_checks_pass(model):
    results = run(model, streaming_tflite(model))
    assert {result.check for result in results} >= {1, 3, 4, 5, 7}
    assert [result for result in results if not result.ok] == []
    assert all(result.compared > 100 for result in results)


@pytest.mark.slow
def test_another_models_file_fails_checks_3_4_5_and_7(model):
    other = streaming_tflite(random_model(61, 16, (3, 5), 2))
    failed = {result.check for result in run(model, other) if not result.ok}
    assert failed == {3, 4, 5, 7}


def test_check_1_fails_when_frontends_are_configured_differently(monkeypatch):
    class Other(checks.NativeFrontend):
        def __init__(self, config):
            super().__init__(FrontendConfig(pcan=False))

    monkeypatch.setattr(checks, "NativeFrontend", Other)
    results = checks.check_1(FrontendConfig(), [signals(1, 0.5)["speech-like"]])
    assert not any(result.ok for result in results)


def test_check_1_without_a_signal_is_not_ok():
    assert not any(result.ok for result in checks.check_1(FrontendConfig(), []))


def six(model, features):
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    return checks.check_6(model, features, params_of(model))


@pytest.mark.parametrize("seed", range(8))
def test_check_6_the_trained_network_and_its_int8_form_agree_within_bounds(seed, features):
    found = six(random_model(seed, 16 * (1 + seed % 2), (3, 5), seed % 3), features)
    assert (found.ok, found.verdict) == (True, "within bounds"), found.detail
    assert found.compared == sum(len(recording) // 3 for recording in features)


def no_channel(layer):
    weight = layer.weight.copy()
    weight[: len(weight) // 2] = 0
    return {"weight": weight}


@pytest.mark.parametrize(
    "change",
    [no_channel, lambda layer: {"weight": layer.weight * np.float32(1.3)}, lambda layer: {"bias": 0 * layer.bias}],
)
@pytest.mark.parametrize("name", ["stem", "depth0", "point1"])
def test_check_6_fails_for_a_network_that_is_not_the_trained_one(change, name, features, monkeypatch):
    """The int8 side has a layer whose weights or bias are wrong; training's network has not."""
    trained = random_model(9, 16, (3, 5), 2)
    layers = [replace(each, **change(each)) if each.name == name else each for each in trained.layers]
    deployed = replace(trained, layers=tuple(layers))
    monkeypatch.setattr(checks, "IntegerModel", lambda model: IntegerModel(deployed))
    found = six(trained, features)
    assert (found.ok, found.verdict) == (False, "differs"), found.detail


def test_check_7_sees_events(model):
    params = pipeline_params(
        model.input,
        model.output,
        {"window": 5, "cutoff_sum": 230_400, "refractory_s": 0.2},
        FrontendConfig(),
        model.frames_per_step,
    )
    assert (params.window, params.cutoff_sum, params.refractory_steps) == (5, 230_400, 7)
    result = checks.check_7(model, streaming_tflite(model), params, FrontendConfig(), list(signals().values()))
    assert result.ok, result.detail
    assert int(result.detail.split("; ")[1].split(" ")[0]) > 10


def test_signals_and_chunks_repeat_and_lose_nothing():
    for name, samples in signals(5).items():
        np.testing.assert_array_equal(samples, signals(5)[name])
        np.testing.assert_array_equal(np.concatenate(list(chunks(samples, 3))), samples)


@pytest.mark.slow
def test_released_models_pass(repository):
    released = sorted(repository.glob("models/*/model.json"))
    assert released
    for path in released:
        found = check_model(path.parent)
        assert {check["check"] for check in found} >= {1, 3, 4, 5, 7}
        assert {check["verdict"] for check in found} <= {"equal", "within bounds"}, path.parent.name
