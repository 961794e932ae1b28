"""Each stage of conversion writes what it says, records how, and refuses what it cannot do."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from edgewake.conversion.c_array import c_array
from edgewake.conversion.convert import STAGES, convert, unaccelerated
from edgewake.conversion.direct import windowed_graph, windowed_tflite
from edgewake.conversion.features import model_input
from edgewake.conversion.float_tflite import checked_and_named
from edgewake.conversion.int8_tflite import pin
from edgewake.conversion.onnx_export import export_onnx, window_steps
from edgewake.conversion.ptq import compare, load_features
from edgewake.conversion.record import record_path
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import read_json
from edgewake.parity.random_models import random_model
from edgewake.parity.signals import signals
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import in_order_of_use, options, read_tflite, write_tflite
from edgewake.runtime.tflm import TflmModel

LARGEST = (5, 7, 7, 9, 9, 11)


@pytest.fixture(scope="module")
def model():
    return random_model(50, 16, (3, 5), 2)


@pytest.fixture(scope="module")
def recordings():
    return features_batch(list(signals(50).values()))


@pytest.fixture(scope="module")
def converted(model, tmp_path_factory):
    """The chain as the command runs it, onnx2tf in its own process."""
    pytest.importorskip("onnx2tf", reason="the extra `convert` is not installed")
    stages = []
    result = convert(model, tmp_path_factory.mktemp("converted"), progress=stages.append)
    assert stages == list(STAGES)
    return result


@pytest.fixture(scope="module")
def calibrated(model, recordings, tmp_path_factory):
    pytest.importorskip("onnx2tf", reason="the extra `convert` is not installed")
    folder = tmp_path_factory.mktemp("ptq")
    np.savez(folder / "features.npz", *recordings)
    return convert(model, folder, "ptq", folder / "features.npz", isolated=False)


# ---- the chain ------------------------------------------------------------------------------------


def test_a_chain_in_its_own_process_writes_the_same_model(converted, model):
    assert converted.windowed.read_bytes() == windowed_tflite(model, window_steps(model))


def test_every_file_has_a_record_with_its_hash(converted):
    for path in (converted.onnx, converted.float_tflite, converted.windowed, converted.streaming,
                 converted.source, converted.header):  # fmt: skip
        record = read_json(record_path(path), "record")
        assert record["output"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["output"]["bytes"] == path.stat().st_size


def test_records_chain_from_stage_to_stage(converted):
    for before, after in (
        (converted.onnx, converted.float_tflite),
        (converted.windowed, converted.streaming),
    ):
        (given,) = read_json(record_path(after), "record")["inputs"].values()
        assert given["sha256"] == read_json(record_path(before), "record")["output"]["sha256"]


def test_the_float_model_is_that_of_the_deploy_form(converted, model):
    """onnx2tf's result in LiteRT against the same layers in float64."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(converted.float_tflite))
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    value = rng.uniform(0, 5, (window_steps(model), model.input_width))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value[None, :, None].astype(np.float32))
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, :, 0, 0]
    for layer in model.layers:
        windows = np.lib.stride_tricks.sliding_window_view(value, layer.history + 1, axis=0)
        if layer.kind == "conv1x1":
            value = value @ layer.weight.T.astype(np.float64) + layer.bias
        elif layer.kind == "depthwise":
            value = np.einsum("tck,kc->tc", windows, layer.weight.astype(np.float64)) + layer.bias
        elif layer.kind == "avgpool":
            value = windows.mean(axis=2)
        else:
            value = 1 / (1 + np.exp(-value))
        value = np.maximum(value, 0) if layer.relu else value
    np.testing.assert_allclose(found, value[:, 0], atol=1e-5)


def test_operators_are_named_with_their_layers(converted):
    assert ("DEPTHWISE_CONV_2D", "depth1") in converted.operators
    assert ("AVERAGE_POOL_2D", "pool") in converted.operators
    assert converted.operators[-1] == ("LOGISTIC", "probability")


def test_what_the_target_does_not_accelerate_is_named_with_its_layer(converted, tmp_path):
    """18 channels are no shape of ESP-NN's vector code, 16 are."""
    odd = random_model(50, 18, (3,))
    silence = IntegerModel(odd).silence()
    path = tmp_path / "odd.tflite"
    path.write_bytes(write_tflite(streaming_graphs(windowed_graph(odd, window_steps(odd)), silence)))
    assert any(line.startswith("layer point0 (CONV_2D) runs as ") for line in unaccelerated(path))
    assert not any("CONV_2D" in line for line in converted.unaccelerated)


def test_the_largest_model_fits_its_budget(tmp_path):
    model = random_model(51, 64, LARGEST)
    graph = windowed_graph(model, window_steps(model))
    data = write_tflite(streaming_graphs(graph, IntegerModel(model).silence()))
    assert len(data) <= 53 * 1024


def test_the_window_can_be_longer_but_not_shorter_than_the_receptive_field(model, tmp_path):
    pytest.importorskip("onnx", reason="the extra `convert` is not installed")
    with pytest.raises(EdgewakeError, match="less than the receptive field of 8"):
        export_onnx(model, tmp_path / "model.onnx", steps=7)


def test_an_unknown_method_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="must be qat or ptq"):
        convert(model, tmp_path, "int4")


def test_a_model_that_int8_cannot_hold_is_refused_before_any_stage(model, tmp_path):
    fine = replace(model.layers[0], output=Quantization(np.float32(1e-30), -128))
    with pytest.raises(EdgewakeError, match="layer stem"):
        convert(replace(model, layers=(fine, *model.layers[1:])), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["order", "weight", "stride"])
def test_a_float_model_that_is_another_network_is_refused(converted, model, change):
    graph = read_tflite(converted.float_tflite.read_bytes())[0]
    if change == "order":
        graph.operators[1], graph.operators[2] = graph.operators[2], graph.operators[1]
    elif change == "weight":
        index = graph.operators[0].inputs[1]
        values = graph.tensors[index].array().copy()
        values.flat[0] += 1
        graph.tensors[index] = replace(graph.tensors[index], data=values.tobytes())
    else:
        name, fields = graph.operators[1].options
        graph.operators[1] = replace(graph.operators[1], options=(name, fields | {"StrideH": 2}))
    with pytest.raises(EdgewakeError, match="onnx2tf"):
        checked_and_named(graph, model)


def test_a_graph_that_is_not_int8_is_not_pinned(converted, model):
    with pytest.raises(EdgewakeError, match="is not quantized"):
        pin(read_tflite(converted.float_tflite.read_bytes())[0], model)


# ---- post-training quantization -------------------------------------------------------------------


def test_ptq_measures_other_ranges_and_streams_as_exactly(calibrated, model, recordings):
    assert calibrated.deployed.input != model.input
    assert all(new.weight is old.weight for new, old in zip(calibrated.deployed.layers, model.layers, strict=True))
    steps = model_input(calibrated.deployed, recordings[3])
    stepped = TflmModel(calibrated.model).run(steps)
    np.testing.assert_array_equal(stepped, IntegerModel(calibrated.deployed).windowed(steps))


def test_comparison_counts_steps_and_lists_every_scale(calibrated, model, recordings):
    found = compare(model, calibrated.deployed, recordings)
    assert found.steps == sum(len(features) // 3 for features in recordings)
    assert found.equal_decisions <= found.steps
    assert set(found.scales) == {"features", *(layer.name for layer in model.layers)}
    same = compare(model, model, recordings)
    assert (same.agreement, same.logit_max) == (1.0, 0.0)


def test_calibration_on_recordings_shorter_than_the_window_is_refused(converted, model, tmp_path):
    from edgewake.conversion.ptq import calibrated

    with pytest.raises(EdgewakeError, match="fills a window"):
        calibrated(converted.float_tflite, model, [np.zeros((5, 40), np.uint16)])


@pytest.mark.parametrize("content", [b"", b"not numpy", None])
def test_calibration_features_that_cannot_be_read_are_refused(tmp_path, content):
    path = tmp_path / "features.npz"
    if content is None:
        np.savez(path, np.zeros((3, 40), np.float32))
    else:
        path.write_bytes(content)
    with pytest.raises(EdgewakeError, match=re.escape(str(path))):
        load_features(path)


# ---- files ----------------------------------------------------------------------------------------


def test_a_file_read_and_written_again_is_the_same():
    model = random_model(52, 16, (3, 5), 2)
    graph = windowed_graph(model, window_steps(model))
    for graphs in ([graph], streaming_graphs(graph, IntegerModel(model).silence())):
        data = write_tflite(graphs)
        assert write_tflite(read_tflite(data)) == data


def test_options_carry_the_schemas_defaults():
    assert options("Conv2DOptions", StrideW=1)[1]["DilationWFactor"] == 1
    assert options("Conv2DOptions", StrideW=1)[1]["StrideW"] == 1


def test_unused_tensors_are_dropped_and_numbers_follow_use(model):
    graph = windowed_graph(model, window_steps(model))
    shuffled = replace(graph, tensors=[*graph.tensors, graph.tensors[0]])
    assert in_order_of_use(shuffled) == graph


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"TFL3"])
def test_what_is_not_a_tflite_is_refused(data):
    with pytest.raises(EdgewakeError, match="not a \\.tflite"):
        read_tflite(data)


def test_tflm_refuses_with_one_line(model):
    with pytest.raises(EdgewakeError, match="TFLM refuses this model"):
        TflmModel(windowed_tflite(model, window_steps(model)), arena_size=4096)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_array_holds_the_bytes_aligned(tmp_path):
    data = bytes(range(256)) * 3 + b"\x07"
    source, header = c_array(data, "model_data")
    (tmp_path / "model_data.c").write_text(source)
    (tmp_path / "model_data.h").write_text(header)
    (tmp_path / "main.c").write_text(
        '#include "model_data.h"\n#include <stdio.h>\n'
        "int main(void) { if ((uintptr_t)model_data % 16) return 1;"
        " fwrite(model_data, 1, MODEL_DATA_SIZE, stdout); fputs(MODEL_DATA_SHA256, stderr); return 0; }\n"
    )
    binary = tmp_path / "main"
    strict = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", str(binary)]
    subprocess.run([*strict, str(tmp_path / "main.c"), str(tmp_path / "model_data.c")], check=True)
    done = subprocess.run([str(binary)], capture_output=True, check=True)
    assert done.stdout == data
    assert done.stderr.decode() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["", "1model", "model-data", "a b", "x;y"])
def test_a_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(EdgewakeError, match="not a C identifier"):
        c_array(b"abc", name)


def test_features_become_whole_steps_oldest_frame_first(model):
    features = np.arange(7 * 40, dtype=np.uint16).reshape(7, 40)
    steps = model_input(model, features)
    assert steps.shape == (2, 120)
    one = np.clip(np.floor(features[:3].ravel() * 0.0390625 / float(model.input.scale) + 0.5) - 128, -128, 127)
    np.testing.assert_array_equal(steps[0], one)
    with pytest.raises(EdgewakeError, match=r"takes \(frames, 40\)"):
        model_input(model, features[:, :39])
