"""What the S3 does with a layer: scratch as ESP-NN computes it, paths and notes as its sources have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite
from hypothesis import given
from hypothesis import strategies as st

import edgewake
from edgewake.errors import BudgetError, ConfigError, EdgewakeError
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.frontend.tables import build_tables
from edgewake.runtime.pipeline import PipelineParams
from edgewake.runtime.tflite_file import Affine, Graph, Operator, Tensor, write_tflite
from edgewake.targets.arena import Buffer, greedy_plan, model_buffers, planned_bytes, s3_scratch_bytes
from edgewake.targets.budget import BudgetRow, check_budget, compute_share, enforce, get_target, static_ram
from edgewake.targets.esp32s3 import analyse, check_operators, conv_scratch_bytes, depthwise_scratch_bytes
from edgewake.targets.firmware import MEMORY_HEADER, firmware_sizes, template_dir
from edgewake.targets.frontend import MEASURED, frontend_cycles, frontend_flash_bytes, frontend_instructions
from edgewake.targets.operators import (
    TFLM_METHODS,
    OperatorInfo,
    count_variables,
    operators_from_bytes,
)

CONFIG = FrontendConfig()
PARAMS = PipelineParams(50215, 17, -128, 5, 80_000, 20, Quantization(np.float32(0.09375), 0))
TARGET = get_target("esp32s3-nopsram")
INT8, INT32, RESOURCE = tflite.TensorType.INT8, tflite.TensorType.INT32, tflite.TensorType.RESOURCE
Code = tflite.BuiltinOperator


def conv(channels: int, outputs: int, **changes: object) -> OperatorInfo:
    values: dict[str, object] = {
        "input_shape": (1, 1, 1, channels),
        "output_shape": (1, 1, 1, outputs),
        "filter_shape": (outputs, 1, 1, channels),
        "input_zero_point": -128,
        "weight_bytes": channels * outputs + 4 * outputs,
    }
    return OperatorInfo("layer", "CONV_2D", **{**values, **changes})  # type: ignore[arg-type]


def depthwise(kernel: tuple[int, int], channels: int, **changes: object) -> OperatorInfo:
    values: dict[str, object] = {
        "input_shape": (1, *kernel, channels),
        "output_shape": (1, 1, 1, channels),
        "filter_shape": (1, *kernel, channels),
    }
    return OperatorInfo("layer", "DEPTHWISE_CONV_2D", **{**values, **changes})  # type: ignore[arg-type]


# Computed by ESP-NN 1.2.3's own esp_nn_get_conv_scratch_size_esp32s3 and
# esp_nn_get_depthwise_conv_scratch_size_esp32s3, compiled for a host: input (w, h, c), filter (w, h), out
# channels, multiplier, output (w, h), stride (w, h), padding; scratch of convolution and depthwise.
SCRATCH = [
    ((9, 37, 24), (1, 2), 2, 1, (9, 37), (1, 1), "SAME", 8536, 16112),
    ((9, 41, 8), (1, 7), 8, 1, (9, 21), (1, 2), "SAME", 704, 6048),
    ((53, 7, 1), (7, 3), 1, 2, (24, 3), (2, 2), "VALID", 164, 32),
    ((20, 45, 120), (3, 3), 8, 1, (9, 22), (2, 2), "VALID", 128544, 144320),
    ((7, 4, 3), (3, 3), 43, 8, (7, 4), (1, 1), "SAME", 1676, 632),
    ((49, 58, 4), (3, 3), 8, 4, (49, 58), (1, 1), "SAME", 560, 23056),
    ((41, 40, 1), (1, 8), 48, 1, (21, 17), (2, 2), "VALID", 14266, 32),
    ((4, 5, 120), (4, 5), 1, 1, (1, 1), (2, 2), "VALID", 8628, 9632),
    ((20, 58, 16), (1, 3), 8, 8, (10, 28), (2, 2), "VALID", 864, 37920),
    ((46, 52, 40), (1, 11), 1, 1, (46, 52), (1, 1), "SAME", 229284, 41392),
    ((9, 7, 1), (1, 2), 1, 1, (5, 4), (2, 2), "SAME", 222, 32),
    ((36, 13, 12), (3, 3), 2, 1, (36, 7), (1, 2), "SAME", 14784, 19504),
    ((45, 60, 104), (2, 7), 2, 4, (45, 60), (1, 1), "SAME", 630744, 573280),
    ((23, 44, 69), (3, 3), 64, 1, (21, 42), (1, 1), "VALID", 86336, 211408),
    ((36, 7, 8), (6, 6), 52, 4, (36, 7), (1, 1), "SAME", 52656, 6368),
    ((20, 11, 8), (3, 3), 8, 1, (18, 9), (1, 1), "VALID", 2016, 3696),
    ((60, 21, 24), (9, 4), 2, 1, (60, 11), (1, 2), "SAME", 82504, 13280),
    ((44, 46, 40), (1, 1), 2, 1, (44, 46), (1, 1), "SAME", 784, 3632),
    ((30, 6, 20), (1, 1), 16, 1, (30, 3), (1, 2), "SAME", 1152, 11152),
    ((45, 22, 12), (3, 3), 1, 1, (45, 22), (1, 1), "SAME", 27428, 48016),
]


@pytest.mark.parametrize("case", SCRATCH)
def test_scratch_is_what_esp_nn_asks_for(case: tuple[Any, ...]) -> None:
    (width, height, channels), (kernel_w, kernel_h), outputs, multiplier, (out_w, out_h), stride, padding = case[:7]
    shared = {
        "input_shape": (1, height, width, channels),
        "stride": stride[::-1],
        "padding": padding,
        "depth_multiplier": multiplier,
    }
    layer = OperatorInfo(
        "layer",
        "CONV_2D",
        output_shape=(1, out_h, out_w, outputs),
        filter_shape=(outputs, kernel_h, kernel_w, channels),
        **shared,
    )
    assert conv_scratch_bytes(layer) == case[7]
    layer = OperatorInfo(
        "layer",
        "DEPTHWISE_CONV_2D",
        output_shape=(1, out_h, out_w, channels * multiplier),
        filter_shape=(1, kernel_h, kernel_w, channels * multiplier),
        **shared,
    )
    assert depthwise_scratch_bytes(layer) == case[8]


def test_streaming_shapes_have_the_scratch_of_the_design() -> None:
    assert conv_scratch_bytes(conv(120, 64)) == 120 * 64 + 64
    assert conv_scratch_bytes(conv(64, 64)) == 64 * 64 + 64
    assert depthwise_scratch_bytes(depthwise((9, 1), 64)) == 2 * 2 * 9 * 64 + 32


# Paths and costs


@pytest.mark.parametrize(
    ("layer", "accelerated", "note"),
    [
        (conv(64, 64), "yes", ""),
        (conv(60, 64), "no", "eights"),
        (conv(64, 64, dilation=(2, 1)), "no", "dilation"),
        (conv(64, 64, filter_shape=(64, 1, 1, 32)), "no", "groups"),
        (conv(8, 8, input_shape=(1, 3, 3, 8), filter_shape=(8, 3, 3, 8)), "yes", "padded to 32"),
        (depthwise((5, 1), 64), "yes", ""),
        (depthwise((5, 1), 60), "yes", "eights"),
        (depthwise((5, 1), 2), "no", "too few"),
        (depthwise((5, 1), 64, dilation=(2, 1)), "no", "dilation"),
        (depthwise((5, 1), 8, depth_multiplier=3), "no", "multiplier 3"),
        (OperatorInfo("p", "AVERAGE_POOL_2D", (1, 4, 1, 64), (1, 1, 1, 64), (4, 1)), "yes", ""),
        (OperatorInfo("p", "AVERAGE_POOL_2D", (1, 4, 1, 6), (1, 1, 1, 6), (4, 1)), "no", "fours"),
        (OperatorInfo("m", "MEAN", (1, 4, 1, 64), (1, 1, 1, 64)), "no", "no kernel"),
        (OperatorInfo("l", "LOGISTIC", (1, 1, 1, 1), (1, 1, 1, 1)), "no", "same bits"),
        (OperatorInfo("s", "SLICE", (1, 5, 1, 64), (1, 4, 1, 64)), "copies", "STRIDED_SLICE"),
        (OperatorInfo("s", "STRIDED_SLICE", (1, 5, 1, 64), (1, 4, 1, 64)), "copies", ""),
        (OperatorInfo("f", "FULLY_CONNECTED", (1, 64), (1, 2), (2, 64), per_channel=True), "yes", ""),
        (OperatorInfo("f", "FULLY_CONNECTED", (1, 8), (1, 2), (2, 8), per_channel=True), "yes", "issue 34"),
    ],
)
def test_acceleration_has_the_conditions_of_esp_nn(layer: OperatorInfo, accelerated: str, note: str) -> None:
    (cost,) = analyse([layer])
    assert cost.accelerated == accelerated
    assert note in cost.note
    assert bool(note) == bool(cost.note)


def test_an_operator_that_tflm_lacks_is_named_with_its_layer() -> None:
    costs = analyse([OperatorInfo("attention", "EINSUM", (1, 4), (1, 4))])
    with pytest.raises(EdgewakeError, match="layer attention is EINSUM"):
        check_operators(costs)


def test_slow_operators_are_listed() -> None:
    costs = analyse([conv(64, 64), conv(60, 64), OperatorInfo("l", "LOGISTIC", (1, 1), (1, 1))])
    assert [cost.layer.op for cost in check_operators(costs)] == ["CONV_2D", "LOGISTIC"]


@pytest.mark.parametrize("channels", [64, 120])
def test_pointwise_as_convolution_is_cheaper_than_fully_connected(channels: int) -> None:
    """One position, zero point not 0: FULLY_CONNECTED sums its weights anew at each inference."""
    dense = OperatorInfo(
        "f", "FULLY_CONNECTED", (1, channels), (1, 64), (64, channels), input_zero_point=-128, weight_bytes=1
    )
    as_conv, as_dense = analyse([conv(channels, 64, weight_bytes=1), dense])
    assert as_conv.cycles < 0.7 * as_dense.cycles


@given(channels=st.integers(1, 16), outputs=st.integers(1, 16), extra=st.integers(1, 4))
def test_wider_layers_cost_more(channels: int, outputs: int, extra: int) -> None:
    inputs, wide = 8 * channels, 8 * outputs
    layers = [conv(inputs, wide), conv(inputs + 8 * extra, wide), conv(inputs, wide + extra)]
    small, wider, taller = analyse(layers)
    assert small.cycles < wider.cycles
    assert small.cycles < taller.cycles
    assert small.scratch_bytes < wider.scratch_bytes


def test_time_along_width_is_cheaper_than_along_height() -> None:
    tall, wide = analyse([depthwise((9, 1), 64), depthwise((1, 9), 64)])
    assert wide.cycles < tall.cycles
    assert wide.scratch_bytes == tall.scratch_bytes


# Reading models


def streaming_model(width: int = 16, kernel: int = 5) -> bytes:
    """Stem, one layer with state, and a logistic, which has no accelerated kernel."""

    def value(name: str, *shape: int) -> Tensor:
        return Tensor(name, shape, INT8, None, Affine(np.float32([0.1]), np.int64([-128])))

    def weights(*shape: int, axis: int = 0) -> Tensor:
        scales = np.full(shape[axis], 0.01, np.float32)
        data = np.ones(shape, np.int8).tobytes()
        return Tensor("", shape, INT8, data, Affine(scales, np.zeros(shape[axis], np.int64), axis))

    def bias(count: int) -> Tensor:
        return Tensor("", (count,), INT32, np.arange(count, dtype=np.int32).tobytes())

    def numbers(*values: int) -> Tensor:
        return Tensor("", (len(values),), INT32, np.array(values, np.int32).tobytes())

    convolution = {"Padding": 1, "StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    variable = ("VarHandleOptions", {"Container": "", "SharedName": "0"})
    past = kernel - 1
    main = Graph(
        tensors=[
            value("features", 1, 1, 1, 120),
            weights(width, 1, 1, 120),
            bias(width),
            value("stem", 1, 1, 1, width),
            Tensor("", (), RESOURCE),
            value("", 1, past, 1, width),
            value("", 1, kernel, 1, width),
            numbers(0, 1, 0, 0),
            numbers(1, past, 1, width),
            value("", 1, past, 1, width),
            weights(1, kernel, 1, width, axis=3),
            value("depth", 1, 1, 1, width),
            value("probability", 1, 1, 1, width),
        ],
        operators=[
            Operator(Code.CALL_ONCE, (), (), ("CallOnceOptions", {"InitSubgraphIndex": 1})),
            Operator(Code.CONV_2D, (0, 1, 2), (3,), ("Conv2DOptions", convolution)),
            Operator(Code.VAR_HANDLE, (), (4,), variable),
            Operator(Code.READ_VARIABLE, (4,), (5,)),
            Operator(Code.CONCATENATION, (5, 3), (6,), ("ConcatenationOptions", {"Axis": 1})),
            Operator(Code.SLICE, (6, 7, 8), (9,)),
            Operator(Code.ASSIGN_VARIABLE, (4, 9), ()),
            Operator(
                Code.DEPTHWISE_CONV_2D,
                (6, 10, 2),
                (11,),
                ("DepthwiseConv2DOptions", {**convolution, "DepthMultiplier": 1}),
            ),
            Operator(Code.LOGISTIC, (11,), (12,)),
        ],
        inputs=(0,),
        outputs=(12,),
    )
    initial = Tensor("", (1, past, 1, width), INT8, b"\x80" * past * width)
    init = Graph(
        [Tensor("", (), RESOURCE), initial],
        [Operator(Code.VAR_HANDLE, (), (0,), variable), Operator(Code.ASSIGN_VARIABLE, (0, 1), ())],
    )
    return write_tflite([main, init])


def test_operators_are_read_with_shapes_strides_and_bytes() -> None:
    found = operators_from_bytes(streaming_model())
    assert [layer.op for layer in found if layer.subgraph == 0][:2] == ["CALL_ONCE", "CONV_2D"]
    stem = found[1]
    assert stem == OperatorInfo(
        name="stem",
        op="CONV_2D",
        input_shape=(1, 1, 1, 120),
        output_shape=(1, 1, 1, 16),
        filter_shape=(16, 1, 1, 120),
        per_channel=True,
        input_zero_point=-128,
        weight_bytes=120 * 16 + 4 * 16,
        copied_bytes=120,
    )
    assert stem.macs == 1920
    depth = next(layer for layer in found if layer.op == "DEPTHWISE_CONV_2D")
    assert (depth.filter_shape, depth.macs, depth.copied_bytes) == ((1, 5, 1, 16), 80, 80)
    assert count_variables(streaming_model()) == 1
    assert {operator.op for operator in found} <= set(TFLM_METHODS)


def test_only_the_main_graph_counts_for_a_step() -> None:
    costs = analyse(operators_from_bytes(streaming_model()))
    assert {cost.layer.subgraph for cost in costs} == {0, 1}
    main = [cost for cost in costs if cost.layer.subgraph == 0]
    assert compute_share(TARGET, costs, CONFIG, 3) == compute_share(TARGET, main, CONFIG, 3)


# The arena


BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Buffer(16 * size, first, first + length),
        st.integers(1, 40),
        st.integers(0, 12),
        st.integers(0, 6),
    ),
    max_size=25,
)


@given(buffers=BUFFERS)
def test_plan_never_lets_living_buffers_overlap(buffers: list[Buffer]) -> None:
    offsets = greedy_plan(buffers)
    placed = list(zip(offsets, buffers, strict=True))
    for index, (offset, one) in enumerate(placed):
        assert offset >= 0
        for other_offset, other in placed[:index]:
            apart_in_time = one.first > other.last or other.first > one.last
            assert apart_in_time or offset >= other_offset + other.size or other_offset >= offset + one.size
    live = [sum(b.size for b in buffers if b.first <= time <= b.last) for time in range(20)]
    assert planned_bytes(buffers) >= max(live)


def test_scratch_growth_covers_the_largest_layer() -> None:
    model = streaming_model(width=64, kernel=9)
    plain = planned_bytes(model_buffers(model))
    grown = s3_scratch_bytes(model)
    assert plain + grown >= 120 * 64 + 64 + 120 + 64
    assert grown <= 120 * 64 + 64 + 2 * 32


# The budget


def rows(model_bytes: int = 50_000, arena_bytes: int = 20_000) -> list[BudgetRow]:
    costs = analyse(operators_from_bytes(streaming_model(64, 9)))
    return check_budget(
        TARGET,
        model_bytes=model_bytes,
        ram=static_ram(CONFIG, PARAMS, arena_bytes),
        compute=compute_share(TARGET, costs, CONFIG, 3),
        width=64,
    )


def test_a_model_within_the_budget_passes() -> None:
    assert all(row.ok for row in rows())
    enforce(TARGET, rows())


def test_limits_are_those_of_the_target() -> None:
    assert [(row.name, row.limit) for row in rows()] == [
        ("model", 65_536),
        ("arena", 40_960),
        ("static RAM", 65_536),
        ("compute", 25.0),
    ]


def test_an_arena_of_40_800_bytes_leaves_room_for_everything_else() -> None:
    # docs/firmware.md says so; static RAM, not the arena's own limit of 40,960 B, is what ends first.
    assert all(row.ok for row in rows(arena_bytes=40_800))


def test_over_budget_names_value_limit_and_remedy() -> None:
    with pytest.raises(BudgetError) as caught:
        enforce(TARGET, rows(arena_bytes=41_232))
    assert str(caught.value) == "arena needs 41,232 B; esp32s3-nopsram allows 40,960 B: try model.width: 48"


@pytest.mark.parametrize(("model_bytes", "width"), [(66_000, 48), (119_696, 32), (400_000, 16)])
def test_the_remedy_is_a_width_that_may_fit(model_bytes: int, width: int) -> None:
    """Weights grow with the square of the width: a step of 16 is not enough for a model twice too large."""
    assert rows(model_bytes=model_bytes)[0].remedy == f"try model.width: {width}"


def test_a_projects_own_sizes_count(tmp_path: Path, repository: Path) -> None:
    header = (repository / "firmware/esp32s3/components/edgewake_detector/memory.h").read_text()
    own = tmp_path / "memory.h"
    own.write_text(header.replace("EW_RING_SAMPLES 2048", "EW_RING_SAMPLES 8192"))
    lines = {line.name: line.bytes for line in static_ram(CONFIG, PARAMS, 20_000, own)}
    assert lines["ring buffer"] == 16_384
    own.write_text(header.replace("EW_RING_SAMPLES 2048", "EW_RING_SAMPLES (4 * 512)"))
    with pytest.raises(EdgewakeError, match=r"memory\.h lacks #define EW_RING_SAMPLES with a number: restore"):
        static_ram(CONFIG, PARAMS, 20_000, own)


def test_exactly_the_limit_is_within_it() -> None:
    assert rows(model_bytes=65_536)[0].ok
    assert not rows(model_bytes=65_537)[0].ok


def test_compute_counts_frontend_and_model() -> None:
    step = 0.03 * TARGET.cpu_hz
    costs = analyse(operators_from_bytes(streaming_model(64, 9)))
    main = sum(cost.cycles for cost in costs if cost.layer.subgraph == 0)
    cycles = main + 3 * frontend_cycles(CONFIG)
    assert rows()[3].value == pytest.approx(100 * cycles / step)


def test_the_frontends_cycles_are_made_of_measured_instructions_and_grow_with_its_work() -> None:
    stated = {part: counts["s3"] for part, counts in MEASURED["frame"].items()}
    assert frontend_instructions(CONFIG) == stated
    assert frontend_cycles(CONFIG) > sum(stated.values())
    twice = frontend_instructions(FrontendConfig(window_ms=64, channels=80))
    assert twice["noise"] == 2 * stated["noise"]
    assert 2 < twice["transform"] / stated["transform"] < 2.5


def test_a_frame_reads_both_weights_of_a_bin_only_where_they_do_not_add_up_to_one() -> None:
    assert frontend_flash_bytes(CONFIG) == 960 + 84 + 472 + 250 + 258 + 384
    both = FrontendConfig(channels=25)
    tables = build_tables(both)
    read = frontend_flash_bytes(both) - tables.window.nbytes - tables.bands.nbytes - 250 - 258 - 384
    assert read == 2 * tables.weights.nbytes


def test_static_ram_has_a_line_for_every_block_of_the_firmware(repository: Path) -> None:
    lines = {line.name: line.bytes for line in static_ram(CONFIG, PARAMS, 20_000)}
    sizes = firmware_sizes()
    header = (repository / "firmware/esp32s3/components/edgewake_detector/memory.h").read_text()
    assert set(sizes) == {word for word in header.split() if word.startswith("EW_")} - {"EW_BLOCK_SAMPLES,"}
    assert lines["ring buffer"] == 2 * sizes["EW_RING_SAMPLES"]
    assert lines["arena"] == 20_000
    assert lines["I2S DMA"] >= 4 * sizes["EW_DMA_DESCRIPTORS"] * sizes["EW_BLOCK_SAMPLES"]
    assert all(value > 0 for value in lines.values())


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="esp32s3-nopsram"):
        get_target("esp32s3")


def test_template_of_the_checkout_comes_before_the_copy_of_an_editable_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, checkout = tmp_path / "site-packages" / "edgewake", tmp_path / "clone" / "toolchain" / "edgewake"
    folders = [installed / "_firmware" / "esp32s3", tmp_path / "clone" / "firmware" / "esp32s3"]
    for folder in folders:
        (folder / MEMORY_HEADER).parent.mkdir(parents=True)
        (folder / MEMORY_HEADER).write_text("")
    monkeypatch.setattr(edgewake, "__path__", [str(installed), str(checkout)])
    assert template_dir() == folders[1].resolve()
    monkeypatch.setattr(edgewake, "__path__", [str(installed)])
    assert template_dir() == folders[0].resolve()
