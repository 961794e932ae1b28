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

from edgewake.conversion.chain import operator_module
from edgewake.errors import EdgewakeError
from edgewake.models.clip import TCN, Block, CausalConv, ClipStudent
from edgewake.models.images import MobileNetV3, ResNet18
from edgewake.models.tiny_conv import FEATURE_INPUT, TimeConv, TinyConv
from edgewake.runtime.deployed import Layer


class PictureForm(nn.Module):
    """mobilenetv3 and resnet18 over [1, 1, mel, frames]."""

    factor: Tensor
    offset: Tensor

    def __init__(self, student: MobileNetV3 | ResNet18) -> None:
        super().__init__()
        self.student = copy.deepcopy(student)
        _replace_hard_sigmoids(self.student)
        factor, offset = normalization(student)
        self.register_buffer("factor", factor[None, None, :, None])
        self.register_buffer("offset", offset[None, None, :, None])

    def forward(self, value: Tensor) -> Tensor:
        """Logits [1, classes]."""
        student: Any = self.student
        value = value * self.factor + self.offset
        if isinstance(student, MobileNetV3):
            value = student.projection(torch.flatten(student.pool(student.convolutions(value)), 1))
        else:
            value = torch.flatten(student.pool(student.blocks(student.stem(value))), 1)
        logits: Tensor = student.head(value)
        return logits


class HardSigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6, in operators that TFLM has: onnx2tf makes RELU_0_TO_1 of torch's own."""

    def forward(self, value: Tensor) -> Tensor:
        """Of each value."""
        return F.relu6(value + 3.0) * (1 / 6)


def _replace_hard_sigmoids(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Hardsigmoid):
            setattr(module, name, HardSigmoid())
        else:
            _replace_hard_sigmoids(child)


class TCNForm(nn.Module):
    """tcn over [1, mel, frames, 1]."""

    factor: Tensor
    offset: Tensor

    def __init__(self, student: TCN, frames: int) -> None:
        super().__init__()
        factor, offset = normalization(student)
        # The clip is padded with zeros after it was normalized, so this cannot go into the weights.
        self.register_buffer("factor", factor[None, :, None, None])
        self.register_buffer("offset", offset[None, :, None, None])
        self.blocks = nn.ModuleList(_BlockForm(block) for block in student.blocks if isinstance(block, Block))
        self.pool = nn.MaxPool2d((frames, 1))
        self.head = _pointwise(student.head.weight, student.head.bias)

    def forward(self, value: Tensor) -> Tensor:
        """Logits [1, classes, 1, 1]."""
        value = value * self.factor + self.offset
        for block in self.blocks:
            value = block(value)
        logits: Tensor = self.head(self.pool(value))
        return logits


class _BlockForm(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.first, self.second = _folded(block.first), _folded(block.second)
        self.history = block.first.history
        shortcut = block.shortcut
        self.shortcut: nn.Module = nn.Identity()
        if isinstance(shortcut, nn.Conv1d):
            self.shortcut = _pointwise(shortcut.weight[:, :, 0], shortcut.bias)

    def forward(self, value: Tensor) -> Tensor:
        inner = F.relu(self.first(F.pad(value, (0, 0, self.history, 0))))
        inner = F.relu(self.second(F.pad(inner, (0, 0, self.history, 0))))
        return F.relu(self.shortcut(value) + inner)


class TinyConvForm(nn.Module):
    """tiny_conv over [1, frames_per_step * mel, steps, 1]."""

    def __init__(self, student: TinyConv, steps: int) -> None:
        super().__init__()
        field = student.receptive_field_steps
        self.missing = max(0, field - steps)
        student = copy.deepcopy(student)
        student.fold_batch_norm()
        self.layers = nn.ModuleList(
            _time_conv(layer) for layer in (*student.layers, student.head) if isinstance(layer, TimeConv)
        )
        self.average = None
        if student.pool > 1:
            self.average = nn.AvgPool2d((student.pool, 1), 1, count_include_pad=False)
        steps += self.missing - (field - 1)
        self.smooth = None
        if student.smoothing > 1 and steps >= student.smoothing:
            self.smooth = nn.AvgPool2d((student.smoothing, 1), 1, count_include_pad=False)
            steps -= student.smoothing - 1
        self.top = nn.MaxPool2d((steps, 1))

    def forward(self, value: Tensor) -> Tensor:
        """Logits [1, 2, 1, 1]: 0 and that of the clip's largest smoothed probability."""
        if self.missing:
            value = F.pad(value, (0, 0, self.missing, 0))
        value = value.clamp(0.0, FEATURE_INPUT.high)
        *blocks, head = self.layers
        for layer in blocks:
            value = F.relu(layer(value))
        if self.average is not None:
            value = self.average(value)
        value = head(value)
        if self.smooth is not None:
            top = self.top(self.smooth(torch.sigmoid(value))).clamp(1e-6, 1 - 1e-6)
            value = torch.log(top / (1 - top))
        else:
            value = self.top(value)
        return torch.cat([value * 0.0, value], dim=1)


def normalization(student: ClipStudent) -> tuple[Tensor, Tensor]:
    """The first BatchNorm as value * factor + offset, (mel,) each."""
    norm = student.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    return factor.float(), (-norm.running_mean.double() * factor).float()


@torch.no_grad()
def _folded(layer: CausalConv) -> nn.Conv2d:
    """Convolution (k, 1) with its BatchNorm folded in, as in `TimeConv.fold`."""
    norm, conv = layer.norm, layer.conv
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    out, channels, kernel = conv.weight.shape
    made = nn.Conv2d(channels, out, (kernel, 1), dilation=(conv.dilation[0], 1))
    made.weight.copy_((conv.weight.double() * factor[:, None, None]).float().unsqueeze(3))
    assert made.bias is not None
    made.bias.copy_((norm.bias.double() - norm.running_mean.double() * factor).float())
    return made


@torch.no_grad()
def _pointwise(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    made.weight.copy_(weight[:, :, None, None])
    assert made.bias is not None
    assert bias is not None
    made.bias.copy_(bias)
    return made


def _time_conv(layer: TimeConv) -> nn.Module:

    kind: Any = "depthwise" if layer.depthwise else "conv1x1"
    weight, bias = (value.detach().cpu().numpy() for value in (layer.weight, layer.bias))
    return operator_module(Layer(kind, layer.name, FEATURE_INPUT, weight=weight, bias=bias))


def clip_form(student: nn.Module, frames: int) -> tuple[nn.Module, tuple[int, ...], str]:
    """The form of a student for clips of `frames`.

    Returns:
        the module, the shape of its input (NCHW), and the order in which a .tflite made of it takes the
        clip's values: "mel, frames" or "frames, mel".

    Raises:
        EdgewakeError: there is none for this student.
    """
    if isinstance(student, MobileNetV3 | ResNet18):
        return PictureForm(student).eval(), (1, 1, student.input_size, frames), "mel, frames"
    if isinstance(student, TCN):
        return TCNForm(student, frames).eval(), (1, student.input_size, frames, 1), "frames, mel"
    if isinstance(student, TinyConv):
        steps = frames // student.frames_per_step
        width = student.frames_per_step * student.input_size
        return TinyConvForm(student, steps).eval(), (1, width, steps, 1), "frames, mel"
    raise EdgewakeError(f"{type(student).__name__} has no form that onnx2tf converts")
