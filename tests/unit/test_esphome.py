"""The variant for ESPHome has the operators, tensors and scales of micro_wake_word, and gives our logit's bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tflite

from edgewake.builder.esphome import check_outputs
from edgewake.config.frontend import FrontendConfig
from edgewake.conversion.esphome import for_esphome, probability_bytes, variant
from edgewake.errors import EdgewakeError, ParityError
from edgewake.parity.checks import signals
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.integers import integer_layers
from edgewake.runtime.pipeline.params import derive_quantizer, quantize
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import Graph, read_tflite, write_tflite
from edgewake.targets.esphome import (
    FEATURES,
    HIGHEST_CUTOFF,
    OPERATORS,
    check,
    check_variant,
    file_name,
    lowest_mean,
    manifest_cutoff,
    nearest_cutoff,
    scratch_bytes,
)
from edgewake.targets.operators import OperatorInfo
from random_models import random_model

# `register_streaming_ops_` of esphome 2026.6.5, components/micro_wake_word/streaming_model.cpp, in its order; the same
# in 2024.7.0, 2025.5.0, and commit 33fdbbe30c4d9643300483bf2dfd85d992e2cf86 (there in micro_wake_word.cpp).
REGISTERED = """
    AddCallOnce AddVarHandle AddReshape AddReadVariable AddStridedSlice AddConcatenation AddAssignVariable
    AddConv2D AddMul AddAdd AddMean AddFullyConnected AddLogistic AddQuantize AddDepthwiseConv2D AddAveragePool2D
    AddMaxPool2D AddPad AddPack AddSplitV
"""
# Computed by esp_nn_get_conv_scratch_size_esp32s3 of esp-nn 1.1.2 (commit 207dc4e0), compiled for a host: channels,
# outputs, bytes of a 1x1 convolution of one position; its depthwise twin gives 32 for every kernel of one column.
SCRATCH = [
    (120, 64, 7712), (64, 64, 4128), (64, 1, 96), (40, 16, 672), (16, 16, 288),
    (41, 7, 416), (7, 3, 64), (123, 1, 288), (240, 32, 7712), (80, 48, 3872),
]  # fmt: skip
SHAPES = [
    {"kernels": (5, 7, 7, 9, 9, 11), "width": 64},
    {"kernels": (3,), "pool": 4, "frames_per_step": 1},
    {"kernels": (3, 5), "width": 24, "frames_per_step": 2},
    {"kernels": (2,) * 19, "width": 8, "pool": 2},
    {"kernels": (3,), "extreme": True},
]
WINDOWS = (1, 3, 10, 64)
FRAMES = np.concatenate([frames[-60:] for frames in features_batch(list(signals(11).values()))])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_variant_is_what_esphome_takes(shape: dict[str, object]) -> None:
    model = random_model(7, **shape)  # type: ignore[arg-type]
    data = variant(model)
    operators, variables = check_variant(data)
    assert {each.op for each in operators} <= OPERATORS
    assert variables == sum(layer.history > 0 for layer in model.layers) <= 20
    main = read_tflite(data)[0]
    (given,), (output,) = ([main.tensors[i] for i in indices] for indices in (main.inputs, main.outputs))
    assert (given.type, given.shape) == (tflite.TensorType.INT8, (1, model.frames_per_step, 40))
    assert (output.type, output.shape) == (tflite.TensorType.UINT8, (1, 1))
    assert output.quantization is not None
    assert (output.quantization.scale[0], output.quantization.zero_point[0]) == (np.float32(1 / 256), 0)


def test_the_operators_are_those_that_the_source_registers() -> None:
    def plain(name: str) -> str:
        return name.removeprefix("Add").replace("_", "").lower()

    assert len(OPERATORS) == len(REGISTERED.split()) == 20
    assert {plain(name) for name in OPERATORS} == {plain(name) for name in REGISTERED.split()}


def test_an_operator_that_esphome_lacks_is_refused() -> None:
    main, init = streaming_graphs(random_model(3))
    slow = replace(main.operators[-1], code=tflite.BuiltinOperator.TANH, options=None)
    data = write_tflite([Graph(main.tensors, [*main.operators[:-1], slow], main.inputs, main.outputs), init])
    with pytest.raises(EdgewakeError, match="lacks TANH"):
        check_variant(data)


def test_more_variables_than_esphome_has_are_refused() -> None:
    with pytest.raises(EdgewakeError, match="keeps 21 variables; ESPHome has room for 20"):
        check_variant(variant(random_model(7, 8, (2,) * 21)))


def test_every_feature_becomes_the_int8_of_esphome() -> None:
    """Of the whole range of uint16, by the integers of micro_wake_word.cpp: generate_features_."""
    feature = np.arange(1 << 16)
    expected = np.clip((feature * 256 + 666 // 2) // 666 - 128, -128, 127)
    found = quantize(feature.astype(np.uint16), *derive_quantizer(FEATURES.scale, FEATURES.zero_point), -128)
    assert (found == expected).all()
    assert found[666] == 127


def test_only_the_first_layers_integers_change() -> None:
    model = random_model(5, 16, (3, 5), 2)
    first, *others = integer_layers(for_esphome(model))
    before = integer_layers(model)
    assert (first.multiplier != before[0].multiplier).any()
    for layer, other in zip(others, before[1:], strict=True):
        for name in ("weight", "bias", "multiplier", "shift"):
            assert np.array_equal(getattr(layer, name), getattr(other, name))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_output_is_logistic_of_the_logit_plus_128(shape: dict[str, object]) -> None:
    model = random_model(11, **shape)  # type: ignore[arg-type]
    assert check_outputs(model, variant(model), FRAMES) == len(FRAMES) // model.frames_per_step


def test_another_output_is_a_parity_error() -> None:
    with pytest.raises(ParityError, match="LOGISTIC of the logit"):
        check_outputs(random_model(11), variant(random_model(12)), FRAMES)


@pytest.mark.parametrize("output", [Quantization(np.float32(0.09375), 0), Quantization(np.float32(0.03), -17)])
def test_the_bytes_of_probabilities_are_within_one_of_the_exact_ones(output: Quantization) -> None:
    logit = (np.arange(-128, 128) - output.zero_point) * float(output.scale)
    exact = np.minimum(256 / (1 + np.exp(-logit)), 255)
    found = probability_bytes(output).astype(float)
    assert (np.abs(found - exact) <= 1).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("window", WINDOWS)
def test_a_cutoff_in_the_manifest_acts_alike_in_all_releases(window: int) -> None:
    """2025.5.0 and later: sum > int(cutoff * 255) * window; 2024.7.0, in float32: sum / (255 * window) > cutoff."""
    for cutoff in range(1, HIGHEST_CUTOFF + 1):
        value = manifest_cutoff(cutoff)
        assert int(value * 255) == cutoff
        sums = np.arange(max(cutoff * window - 3, 0), cutoff * window + 4)
        older = sums.astype(np.float32) / np.float32(255 * window) > np.float32(value)
        assert (older == (sums > cutoff * window)).all()
        assert ((sums / 256 / window >= lowest_mean(cutoff, window)) == (sums > cutoff * window)).all()


@pytest.mark.parametrize("window", WINDOWS)
def test_no_other_cutoff_is_nearer(window: int) -> None:
    means = np.array([lowest_mean(cutoff, window) for cutoff in range(1, HIGHEST_CUTOFF + 1)])
    for value in np.linspace(0.001, 0.999, 333):
        found = abs(lowest_mean(nearest_cutoff(value, window), window) - value)
        assert found <= np.abs(means - value).min() + 1e-12


@pytest.mark.parametrize(("channels", "outputs", "size"), SCRATCH)
def test_scratch_is_what_esp_nn_1_1_2_asks_for(channels: int, outputs: int, size: int) -> None:
    shapes = {"input_shape": (1, 1, 1, channels), "filter_shape": (outputs, 1, 1, channels)}
    operators = [
        OperatorInfo("layer", "CONV_2D", **shapes),  # type: ignore[arg-type]
        OperatorInfo("layer", "DEPTHWISE_CONV_2D", (1, 9, 1, channels), filter_shape=(1, 9, 1, channels)),
        OperatorInfo("layer", "LOGISTIC"),
    ]
    assert scratch_bytes(operators) == [size, 32, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pcan": False}, "frontend.pcan is False; ESPHome's frontend has True fixed"),
        ({"channels": 32}, "frontend.channels is 32"),
        ({"window_ms": 40, "step_ms": 40}, "frontend.window_ms is 40"),
    ],
)
def test_another_frontend_is_refused(changes: dict[str, object], message: str) -> None:
    model = DeployedModel((), FEATURES, info={"phrase": "computer"})
    with pytest.raises(EdgewakeError, match=message):
        check(model, FrontendConfig(**changes))  # type: ignore[arg-type]
    check(model, FrontendConfig(step_ms=20))


def test_the_name_of_the_voice_activity_model_is_refused() -> None:
    with pytest.raises(EdgewakeError, match="vad"):
        check(DeployedModel((), FEATURES, info={"phrase": "VAD"}), FrontendConfig())


@pytest.mark.parametrize(
    ("phrase", "name"),
    [("Hey, Atlas!", "hey_atlas"), ("你好", "wake_word"), ("alexa", "alexa"), ("Secrets", "secrets_word")],
)
def test_files_have_names_that_every_system_takes(phrase: str, name: str) -> None:
    assert file_name(phrase) == name
