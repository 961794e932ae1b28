"""The chain of converters writes what is written without it, records how, and refuses another network."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from edgewake.conversion.c_source import c_array
from edgewake.conversion.chain import checked_and_named, differing_tensors, quantized
from edgewake.conversion.convert import FLOAT, convert, stages
from edgewake.conversion.ptq import calibrated
from edgewake.errors import EdgewakeError
from edgewake.parity.checks import signals
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.simulator import real_steps
from edgewake.runtime.streaming import window_steps, windowed_graph, windowed_tflite
from edgewake.runtime.tflite_file import read_tflite
from random_models import random_model


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
    begun = []
    result = convert(model, tmp_path_factory.mktemp("converted"), progress=begun.append)
    assert begun == list(stages())
    return result


@pytest.mark.slow
def test_a_chain_in_its_own_process_writes_the_same_model(converted, model):
    assert converted.windowed == windowed_tflite(model)


@pytest.mark.slow
def test_every_stage_is_recorded_with_the_hash_of_its_file(converted):
    assert tuple(converted.stages) == stages()
    for record in converted.stages.values():
        data = (converted.folder / record["file"]).read_bytes()
        assert (record["sha256"], record["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert converted.stages["float"]["tools"]["onnx2tf"]


@pytest.mark.slow
def test_the_float_model_is_that_of_the_deploy_form(converted, model):
    """onnx2tf's result in LiteRT against the same layers in float64."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(converted.folder / FLOAT))
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


@pytest.mark.slow
def test_operators_are_named_with_their_layers(converted):
    operators = [(row["operator"], row["layer"]) for row in converted.stages["streaming"]["operators"]]
    assert ("DEPTHWISE_CONV_2D", "depth1") in operators
    assert ("AVERAGE_POOL_2D", "pool") in operators
    assert operators[-1] == ("CONV_2D", "logit")


@pytest.mark.slow
@pytest.mark.parametrize("change", ["order", "weight", "stride"])
def test_a_float_model_that_is_another_network_is_refused(converted, model, change):
    graph = read_tflite((converted.folder / FLOAT).read_bytes())[0]
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


@pytest.mark.slow
def test_a_graph_that_is_not_int8_is_refused(converted, model):
    with pytest.raises(EdgewakeError, match="is not quantized"):
        differing_tensors(read_tflite((converted.folder / FLOAT).read_bytes())[0], windowed_graph(model))


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["qat", "ptq"])
def test_a_model_made_without_converters_is_the_same(model, recordings, converted, tmp_path, quantization):
    direct = convert(model, tmp_path / "direct", quantization, recordings, chain=False)
    chain = converted if quantization == "qat" else convert(model, tmp_path, quantization, recordings)
    names = {path.name for path in direct.folder.iterdir()}
    assert names == {"model_windowed.tflite", "model.tflite", "edgewake_model.c", "edgewake_model.h"}
    for name in names:
        assert (direct.folder / name).read_bytes() == (chain.folder / name).read_bytes()


@pytest.mark.slow
def test_ranges_are_those_of_ai_edge_quantizers_calibration(converted, model, recordings):
    """Up to the order in which float32 products are added; the logit keeps its own."""
    data, steps = (converted.folder / FLOAT).read_bytes(), window_steps(model)
    windows = []
    for recording in recordings:
        values = real_steps(model, recording)
        windows += [values[start : start + steps] for start in range(0, len(values) - steps + 1, steps)]
    given = [{"features": window[None, :, None]} for window in windows]
    graph = read_tflite(quantized(data, inputs=given))[0]
    found = calibrated(model, recordings)
    assert found.output == model.output
    for name, value in {"features": found.input, **{layer.name: layer.output for layer in found.layers[:-1]}}.items():
        expected = next(tensor for tensor in graph.tensors if tensor.name == name).quantization
        assert value.scale == pytest.approx(expected.scale[0], rel=1e-5)
        assert value.zero_point == expected.zero_point[0]


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
