"""Students of whole clips as plain 4-dimensional operators that onnx2tf 1.28.8 keeps one for one.

The same numbers as the student in eval mode: BatchNorm goes into the weights where nothing is padded before
it, and reshaping is left out. docs/students.md has the layouts.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.conversion.chain import convolution, operator_module
from edgewake.errors import EdgewakeError
from edgewake.models.clip import TCN, Block, CausalConv, ClipStudent, MobileNetV3, ResNet18
from edgewake.models.tiny_conv import FEATURE_INPUT, TimeConv, TinyConv
from edgewake.runtime.deployed import Layer


def clip_form(student: nn.Module, frames: int) -> tuple[nn.Module, tuple[int, ...], str]:
    """The form of a student for clips of `frames`, the shape of its input (NCHW), and the order in which a .tflite
    made of it takes the clip's values: "mel, frames" or "frames, mel".
    """
    if isinstance(student, MobileNetV3 | ResNet18):
        return _picture(student).eval(), (1, 1, student.input_size, frames), "mel, frames"
    if isinstance(student, TCN):
        return _tcn(student, frames).eval(), (1, student.input_size, frames, 1), "frames, mel"
    if isinstance(student, TinyConv):
        steps = frames // student.frames_per_step
        width = student.frames_per_step * student.input_size
        return _TinyConvForm(student, steps).eval(), (1, width, steps, 1), "frames, mel"
    raise EdgewakeError(f"{type(student).__name__} has no form that onnx2tf converts")


def statistics(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Running mean and 1 / standard deviation, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.double(), 1 / torch.sqrt(norm.running_var.double() + norm.eps)


class _Normalized(nn.Module):
    """The student's first BatchNorm, and `layers` behind it; `shape` has -1 at the axis of mel channels.

    A clip is padded with zeros after it was normalized, so this cannot go into the weights.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, student: ClipStudent, shape: tuple[int, ...], *layers: nn.Module) -> None:
        super().__init__()
        mean, factor = statistics(student.norm)
        self.register_buffer("factor", factor.float().view(shape))
        self.register_buffer("offset", (-mean * factor).float().view(shape))
        self.layers = nn.Sequential(*layers)

    def forward(self, value: Tensor) -> Tensor:
        logits: Tensor = self.layers(value * self.factor + self.offset)
        return logits


class _HardSigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6, in operators that TFLM has: onnx2tf makes RELU_0_TO_1 of torch's own."""

    def forward(self, value: Tensor) -> Tensor:
        return F.relu6(value + 3.0) * (1 / 6)


def _picture(student: MobileNetV3 | ResNet18) -> nn.Module:
    """mobilenetv3 and resnet18 over [1, 1, mel, frames]."""
    student = copy.deepcopy(student)
    for module in list(student.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Hardsigmoid):
                setattr(module, name, _HardSigmoid())
    if isinstance(student, MobileNetV3):
        parts = [student.convolutions, student.pool, nn.Flatten(), student.projection]
    else:
        parts = [student.stem, student.blocks, student.pool, nn.Flatten()]
    return _Normalized(student, (1, 1, -1, 1), *parts, student.head)


def _tcn(student: TCN, frames: int) -> nn.Module:
    """tcn over [1, mel, frames, 1]; logits [1, classes, 1, 1]."""
    blocks = [_BlockForm(block) for block in student.blocks if isinstance(block, Block)]
    head = convolution(student.head.weight[:, :, None, None], student.head.bias)
    return _Normalized(student, (1, -1, 1, 1), *blocks, nn.MaxPool2d((frames, 1)), head)


class _BlockForm(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.first, self.second = _folded(block.first), _folded(block.second)
        self.history = block.first.history
        self.shortcut: nn.Module = nn.Identity()
        if isinstance(block.shortcut, nn.Conv1d):
            self.shortcut = convolution(block.shortcut.weight.unsqueeze(3), block.shortcut.bias)

    def forward(self, value: Tensor) -> Tensor:
        inner = F.relu(self.first(F.pad(value, (0, 0, self.history, 0))))
        inner = F.relu(self.second(F.pad(inner, (0, 0, self.history, 0))))
        return F.relu(self.shortcut(value) + inner)


@torch.no_grad()
def _folded(layer: CausalConv) -> nn.Conv2d:
    """Convolution (k, 1) with its BatchNorm folded in, as in `TimeConv.fold`."""
    norm, conv = layer.norm, layer.conv
    mean, inverse = statistics(norm)
    factor = norm.weight.double() * inverse
    weight = (conv.weight.double() * factor[:, None, None]).float().unsqueeze(3)
    return convolution(weight, (norm.bias.double() - mean * factor).float(), conv.dilation[0])


class _TinyConvForm(nn.Module):
    """tiny_conv over [1, frames_per_step * mel, steps, 1]."""

    def __init__(self, student: TinyConv, steps: int) -> None:
        super().__init__()
        self.missing = max(0, student.receptive_field_steps - steps)
        steps += self.missing - (student.receptive_field_steps - 1)
        student = copy.deepcopy(student)
        student.fold_batch_norm()
        layers: list[nn.Module] = []
        for layer in student.layers:
            layers += [_time_conv(layer), nn.ReLU()]
        if student.pool > 1:
            layers.append(nn.AvgPool2d((student.pool, 1), 1, count_include_pad=False))
        self.layers = nn.Sequential(*layers, _time_conv(student.head))
        self.smooth = None
        if student.smoothing > 1 and steps >= student.smoothing:
            self.smooth = nn.AvgPool2d((student.smoothing, 1), 1, count_include_pad=False)
            steps -= student.smoothing - 1
        self.top = nn.MaxPool2d((steps, 1))

    def forward(self, value: Tensor) -> Tensor:
        """Logits [1, 2, 1, 1]: 0 and that of the clip's largest smoothed probability."""
        if self.missing:
            value = F.pad(value, (0, 0, self.missing, 0))
        value = self.layers(value.clamp(0.0, FEATURE_INPUT.high))
        if self.smooth is not None:
            top = self.top(self.smooth(torch.sigmoid(value))).clamp(1e-6, 1 - 1e-6)
            value = torch.log(top / (1 - top))
        else:
            value = self.top(value)
        return torch.cat([value * 0.0, value], dim=1)


def _time_conv(layer: Any) -> nn.Module:
    assert isinstance(layer, TimeConv)
    weight, bias = (value.detach().cpu().numpy() for value in (layer.weight, layer.bias))
    kind: Any = "depthwise" if layer.depthwise else "conv1x1"
    return operator_module(Layer(kind, layer.name, FEATURE_INPUT, weight=weight, bias=bias))
