"""What an operator costs on an ESP32-S3 with esp-tflite-micro 1.4.0 and ESP-NN 1.2.3: kernel, scratch memory, cycles.

Scratch sizes are exactly those of ESP-NN's `esp_nn_get_*_scratch_size_esp32s3`. Cycles are a model and not a
measurement: instructions counted in the assembly, one cycle each, with stalls estimated; docs/firmware.md derives
the numbers and lists what they leave out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgewake.errors import EdgewakeError
from edgewake.targets.operators import TFLM_METHODS, OperatorInfo

CPU_HZ = 240_000_000
CACHE_LINE_BYTES = 32
CACHE_BYTES = 65536  # CONFIG_ESP32S3_DATA_CACHE_64KB

Accelerated = Literal["yes", "no", "copies"]
Kernel = tuple[str, Accelerated, int, str]
"""The code that runs, whether it is accelerated, its cycles, and a note, as in `OperatorCost`."""

# Cycles of the parts that costs are made of: assumptions, whose origin docs/firmware.md gives.
NODE = 600  # TFLM's dispatch of one operator: finding tensors, building shapes and parameters
CALL = 150  # a kernel of the generated C: the call, and the parameters of ESP-NN's
TIMER = 400  # the two esp_timer_get_time() calls of each kernel in esp_nn/
FLASH_LINE = 250  # reading 32 bytes from QIO flash at 80 MHz through the cache
CONV1X1_CHANNEL, CONV1X1_8 = 115, 13  # one output channel of one position; eight of its inputs ("leftover" path)
CONV1X1_BATCH_CHANNEL, CONV1X1_BATCH_8 = 250, 16  # the same for eight positions at once
FC_CHANNEL, FC_16 = 98, 5  # one output channel of FULLY_CONNECTED, and sixteen of its inputs
FC_OFFSET = 4  # one weight in the sum that corrects for the input's zero point, in C, every inference
FC_REST = 7  # one input beyond the last sixteen, in C
DEPTHWISE_GROUP, DEPTHWISE_ROW, DEPTHWISE_TAP = 320, 30, 5  # eight channels of a position, a filter row, a tap
WIDEN_16 = 8  # sixteen int8 values to int16
POOL_GROUP, POOL_ROW, POOL_TAP = 250, 30, 9  # as depthwise
PORTABLE_MAC, REQUANTIZE = 8, 60  # in C: a product, and one output
COPY_CALL, COPY_4 = 60, 2  # a memcpy, and four bytes of it
SLICE_ITEM = 25  # one element of TFLM's SLICE, which computes a 5-dimensional offset for each
LOGISTIC_ITEM = 600  # one element of the reference LOGISTIC (fixed-point exponential)


@dataclass(frozen=True)
class OperatorCost:
    """What one operator costs on the S3 at each inference.

    Attributes:
        path: the code that runs.
        accelerated: by ESP-NN's vector instructions; "copies" for operators that only move bytes.
        kernel_cycles: model, without dispatch and flash.
        note: what stands in the way of acceleration, or a caution; "" when nothing does.
        dispatch: cycles around the kernel.
        flash_bytes: read from flash at each inference.
    """

    layer: OperatorInfo
    path: str
    accelerated: Accelerated
    kernel_cycles: int
    note: str
    dispatch: int
    flash_bytes: int

    @property
    def cycles(self) -> int:
        """With what is around the kernel, and constants read from flash."""
        return self.dispatch + self.kernel_cycles + -(-self.flash_bytes // CACHE_LINE_BYTES) * FLASH_LINE

    @property
    def scratch_bytes(self) -> int:
        """Bytes of arena that an int8 kernel asks for in Prepare."""
        if self.layer.int8 and self.layer.op == "SOFTMAX":
            return 4 * self.layer.output_shape[-1]
        sizes = {"CONV_2D": conv_scratch_bytes, "DEPTHWISE_CONV_2D": depthwise_scratch_bytes}
        return sizes[self.layer.op](self.layer) if self.layer.int8 and self.layer.op in sizes else 0

    @property
    def supported(self) -> bool:
        """TFLM has the operator."""
        return self.layer.op in TFLM_METHODS


def analyse(layers: list[OperatorInfo]) -> list[OperatorCost]:
    """Cost of each operator, in order."""
    return [OperatorCost(layer, *_kernel(layer), NODE, layer.weight_bytes) for layer in layers]


def network_costs(layers: list[OperatorInfo], tables: int) -> list[OperatorCost]:
    """Cost of each layer of the generated C, as Kconfig's defaults have it: depthwise convolutions in portable C.

    The data cache of sdkconfig.defaults keeps the constants where the frontend's `tables`, bytes, fit beside them.
    """
    found = [layer for layer in layers if layer.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D")]
    # A multiplier and a shift for each output beside weights and bias.
    sizes = [layer.weight_bytes + 8 * layer.output_shape[-1] * bool(layer.weight_bytes) for layer in found]
    cached = sum(sizes) + tables <= CACHE_BYTES
    costs = []
    for layer, size in zip(found, sizes, strict=True):
        path, accelerated, cycles, note = _kernel(layer)
        cycles -= TIMER
        if layer.op == "DEPTHWISE_CONV_2D":
            path, accelerated, note = "portable C", "no", "ESP-NN by Kconfig, for RAM"
            cycles = layer.macs * PORTABLE_MAC + layer.output_shape[-1] * REQUANTIZE
        costs.append(OperatorCost(layer, path, accelerated, cycles, note, CALL, 0 if cached else size))
    return costs


def check_operators(costs: list[OperatorCost]) -> list[OperatorCost]:
    """Those that ESP-NN does not accelerate although they compute something; one that TFLM lacks is an error."""
    for cost in costs:
        if not cost.supported:
            raise EdgewakeError(
                f"layer {cost.layer.name} is {cost.layer.op}, which esp-tflite-micro does not have: use another layer"
            )
    return [cost for cost in costs if cost.accelerated == "no"]


def conv_scratch_bytes(layer: OperatorInfo) -> int:
    """`esp_nn_get_conv_scratch_size_esp32s3` as conv.cc calls it in Prepare.

    The 1x1 kernel reserves a copy of all weights that it does not use.
    """
    _, height, width, channels = layer.input_shape
    out_channels, kernel_h, kernel_w, _ = layer.filter_shape
    (pad_h, pad_w), (stride_h, stride_w) = _padding(layer), layer.stride
    margin = 64
    if kernel_h == kernel_w == 1 and pad_h == pad_w == 0 and stride_h == stride_w == 1:
        padded = _up(channels, 8)
        transposed = 0 if width * height < 8 else 16 * padded
        copied = width * height * padded if channels % 8 else 0
        return copied + padded * out_channels + transposed + margin
    row, window = kernel_w * channels, kernel_w * kernel_h * channels
    if row < 16 <= window:
        aligned = _up(window, 16)
        return out_channels * 4 + 16 + out_channels * aligned + 16 + aligned + margin
    padded_input = (width + 2 * pad_w) * (height + 2 * pad_h) * channels if pad_w or pad_h else 0
    filter_bytes = kernel_w * kernel_h * _up(channels, 16) * out_channels
    aligned_filter = _up(row, 16) * kernel_h * out_channels
    out_h, out_w = layer.output_shape[1:3]
    right = max(0, out_w * stride_w + kernel_w - 1 - width)
    bottom = max(0, out_h * stride_h + kernel_h - 1 - height)
    edges = (width + right) * (height + bottom) * channels if right or bottom else 0
    return padded_input + filter_bytes + aligned_filter + edges + margin + out_channels * 4


def depthwise_scratch_bytes(layer: OperatorInfo) -> int:
    """`esp_nn_get_depthwise_conv_scratch_size_esp32s3` as depthwise_conv.cc calls it in Prepare."""
    _, height, width, channels = layer.input_shape
    _, kernel_h, kernel_w, _ = layer.filter_shape
    out_h, out_w = layer.output_shape[1:3]
    multiplier = layer.depth_multiplier
    filter_size = kernel_w * kernel_h * channels * multiplier
    input_size = width * height * channels
    if multiplier == 1 and channels % 8 == 0:
        if (kernel_h, kernel_w) == (3, 3) and channels >= 12:
            (pad_h, pad_w), (stride_h, stride_w) = _padding(layer), layer.stride
            right, bottom = out_w * stride_w + 2 - width, out_h * stride_h + 2 - height
            if channels % 16:
                padded = _up(channels, 16)
                given = (width + 2 * pad_w + max(0, right)) * (height + 2 * pad_h + max(0, bottom))
                return (9 + given + out_w * out_h) * padded + 64
            extra_w, extra_h = (2 * pad_w, 2 * pad_h) if pad_w or pad_h else (right, bottom)
            if not (extra_w or extra_h):
                return filter_size + 16
            full = (width + extra_w) * (height + extra_h) * channels
            return filter_size + (full if full <= 40 * 1024 else (width + extra_w) * 3 * channels) + 16
        if kernel_h == kernel_w == 3 or 2 * (filter_size + input_size) <= 48 * 1024:
            return 2 * (filter_size + input_size) + 32
        return 2 * filter_size + 2 * width * kernel_h * channels + 32
    if multiplier == 1 and channels > 3:
        padded = _up(channels, 8)
        size = _up(2 * kernel_w * kernel_h * padded, 16)
        size = _up(size + 2 * width * height * padded, 16)
        size = _up(size + out_w * out_h * padded, 16)
        return size + 3 * 4 * padded + 16
    if multiplier % 4 == 0:
        return 2 * (filter_size + input_size) + 32
    return 32


def _kernel(layer: OperatorInfo) -> Kernel:
    items = math.prod(layer.output_shape)
    if layer.op not in TFLM_METHODS:
        return "missing", "no", 0, "esp-tflite-micro does not have this operator"
    match layer.op:
        case "SLICE":
            note = "TFLM copies SLICE one element at a time; STRIDED_SLICE with stride 1 copies rows"
            return "TFLM element by element", "copies", items * SLICE_ITEM, note
        case "STRIDED_SLICE":
            row = COPY_CALL + layer.output_shape[-1] // 4 * COPY_4
            return "TFLM row by row", "copies", math.prod(layer.output_shape[:-1]) * row, ""
        case "CALL_ONCE" | "VAR_HANDLE":
            return "TFLM", "copies", 0, ""
        case "ASSIGN_VARIABLE" | "CONCATENATION" | "READ_VARIABLE" | "RESHAPE":
            return "TFLM memcpy", "copies", 2 * COPY_CALL + layer.copied_bytes // 4 * COPY_4, ""
        case "LOGISTIC":
            return "TFLM reference", "no", items * LOGISTIC_ITEM, "same bits as the host"
    if not layer.int8:
        return "TFLM reference", "no", layer.macs * PORTABLE_MAC, "not int8"
    match layer.op:
        case "CONV_2D":
            return _convolution(layer)
        case "DEPTHWISE_CONV_2D":
            return _depthwise(layer)
        case "FULLY_CONNECTED":
            return _fully_connected(layer)
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
            return _pooling(layer)
        case "ADD" | "MUL":
            return "ESP-NN elementwise", "yes", TIMER + items * 8, ""
        case "SOFTMAX":
            return "ESP-NN softmax", "yes", TIMER + items * 80, ""
    return "TFLM reference", "no", items * REQUANTIZE, "ESP-NN has no kernel in this TFLM"


def _convolution(layer: OperatorInfo) -> Kernel:
    outputs, kernel_h, kernel_w, filter_channels = layer.filter_shape
    channels, positions = layer.input_shape[-1], layer.positions
    portable = TIMER + layer.macs * PORTABLE_MAC + positions * outputs * REQUANTIZE
    if layer.dilation != (1, 1):
        return "TFLM reference", "no", portable, "dilation is not accelerated"
    if filter_channels != channels:
        return "ESP-NN C", "no", portable, "groups are not accelerated"
    if (kernel_h, kernel_w) == (1, 1) and layer.stride == (1, 1):
        if channels % 8:
            return "ESP-NN 1x1, C", "no", portable, f"1x1 wants input channels in eights, not {channels}"
        single = CONV1X1_CHANNEL + CONV1X1_8 * (channels // 8 - 1)
        batch = CONV1X1_BATCH_CHANNEL + CONV1X1_BATCH_8 * (channels // 8 - 1)
        batches, rest = divmod(positions, 8)
        name = "eight positions at once" if batches else "one position at a time"
        return f"ESP-NN 1x1, {name}", "yes", TIMER + outputs * (single * rest + batch * batches), ""
    row = _up(kernel_w * channels, 16)
    cycles = TIMER + positions * outputs * (REQUANTIZE + 60 + kernel_h * (12 + row // 16 * 3))
    note = "" if kernel_w * channels % 16 == 0 else f"width x channels = {kernel_w * channels} is padded to {row}"
    return "ESP-NN general", "yes", cycles, note


def _depthwise(layer: OperatorInfo) -> Kernel:
    _, kernel_h, kernel_w, _ = layer.filter_shape
    channels, positions, multiplier = layer.input_shape[-1], layer.positions, layer.depth_multiplier
    portable = TIMER + layer.macs * PORTABLE_MAC + positions * channels * REQUANTIZE
    if layer.dilation != (1, 1):
        return "TFLM reference", "no", portable, "dilation is not accelerated"
    if multiplier != 1 and multiplier % 4:
        return "ESP-NN C", "no", portable, f"multiplier {multiplier} is not accelerated"
    if multiplier == 1 and channels <= 3:
        return "ESP-NN C", "no", portable, f"{channels} channels are too few"
    groups = -(-channels * multiplier // 8) * positions
    taps = kernel_h * (DEPTHWISE_ROW + kernel_w * DEPTHWISE_TAP)
    widened = math.prod(layer.input_shape) + math.prod(layer.filter_shape)
    cycles = TIMER + groups * (DEPTHWISE_GROUP + taps) + widened // 16 * WIDEN_16
    if multiplier == 1 and channels % 8:
        note = f"wants channels in eights, not {channels}: padded copies in C"
        return "ESP-NN padded", "yes", cycles + widened * 12, note
    return "ESP-NN int16", "yes", cycles, ""


def _fully_connected(layer: OperatorInfo) -> Kernel:
    outputs, inputs = layer.filter_shape
    rows = math.prod(layer.output_shape[:-1])
    if inputs < 16 or (rows > 1 and inputs % 16):
        cycles = TIMER + rows * outputs * (CONV1X1_CHANNEL + inputs // 8 * CONV1X1_8)
        caution = "wrong at 2 outputs per channel (ESP-NN issue 34)" if layer.per_channel and outputs == 2 else ""
        return "ESP-NN int16", "yes", cycles, caution
    channel, note = FC_CHANNEL + inputs // 16 * FC_16 + inputs % 16 * FC_REST, ""
    if layer.input_zero_point:
        channel += inputs * FC_OFFSET
        note = "sums all weights at each inference, since the input's zero point is not 0"
    return "ESP-NN dot product", "yes", TIMER + rows * outputs * channel, note


def _pooling(layer: OperatorInfo) -> Kernel:
    kernel_h, kernel_w = layer.filter_shape
    channels = layer.input_shape[-1]
    if channels % 4:
        cycles = TIMER + layer.positions * channels * (kernel_h * kernel_w * 8 + REQUANTIZE)
        return "ESP-NN C", "no", cycles, f"wants channels in fours, not {channels}"
    groups = -(-channels // 8) * layer.positions
    taps = kernel_h * (POOL_ROW + kernel_w * POOL_TAP)
    return "ESP-NN pooling", "yes", TIMER + groups * (POOL_GROUP + taps), ""


def _padding(layer: OperatorInfo) -> tuple[int, int]:
    """(top, left), as TFLite computes it for SAME."""
    if layer.padding == "VALID":
        return 0, 0
    kernel = layer.filter_shape[1:3]
    sizes = zip(layer.input_shape[1:3], layer.output_shape[1:3], kernel, layer.stride, layer.dilation, strict=True)
    top, left = (max(0, (out - 1) * step + (k - 1) * wide + 1 - given) for given, out, k, step, wide in sizes)
    return top // 2, left // 2


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
