"""The streaming student: causal, unpadded in time, and made of shapes that ESP-NN accelerates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.errors import ConfigError, EdgewakeError
from edgewake.models.fake_quantization import ActivationRange, fake_quantize_weight
from edgewake.runtime.deployed import DeployedModel, Layer, Quantization

# 26 is the top of the micro frontend's log scale in practice, and the constant that ESPHome's runtime uses.
FEATURE_INPUT = Quantization(np.float32(26 / 255), -128)
# Logits from -12 to 11.9. The highest probability of 16 bits is that of logit 11.1: more range would waste levels.
# A learned range would end where the loss becomes flat (label smoothing decides where), and logits of the hardest
# negatives and of the phrase would saturate at the same level.
LOGIT_RANGE = Quantization(np.float32(0.09375), 0)


class TimeConv(nn.Module):
    """Pointwise or depthwise convolution over steps, with BatchNorm that can be folded into it.

    Shapes: input (batch, channels, steps) -> (batch, out, steps - kernel + 1).
    Once `fold` was called the layer holds exactly the weights that are exported.
    """

    def __init__(self, channels: int, out: int, kernel: int, *, relu: bool, norm: bool, name: str) -> None:
        super().__init__()
        if kernel > 1 and out != channels:
            raise ConfigError(f"depthwise layer {name} cannot change {channels} channels to {out}")
        self.relu, self.name, self.depthwise = relu, name, kernel > 1
        self.weight = nn.Parameter(torch.empty(kernel if self.depthwise else out, channels))
        nn.init.kaiming_normal_(self.weight if not self.depthwise else self.weight.T, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(out))
        self.norm: nn.BatchNorm1d | None = nn.BatchNorm1d(out, eps=1e-3) if norm else None
        self.range = ActivationRange(fixed=None if relu else LOGIT_RANGE)

    def forward(self, value: Tensor, quantize: bool, observe: bool) -> Tensor:
        """`quantize` fakes int8 weights and outputs, `observe` updates the output range."""
        weight = fake_quantize_weight(self.weight, 0 if self.depthwise else 1) if quantize else self.weight
        # Two-dimensional and channels last throughout: a third of conv1d's time on a CPU, forward and backward.
        kernel = weight.T[:, None, None] if self.depthwise else weight[:, :, None, None]
        groups = weight.shape[1] if self.depthwise else 1
        value = F.conv2d(value.unsqueeze(2), kernel, self.bias, groups=groups).squeeze(2)
        if self.norm is not None:
            rows: Tensor = self.norm(value.transpose(1, 2).flatten(0, 1))
            value = rows.view(value.shape[0], -1, rows.shape[1]).transpose(1, 2)
        if self.relu:
            value = F.relu(value)
        if observe:
            self.range.observe(value)
        return self.range(value) if quantize else value

    @torch.no_grad()
    def fold(self) -> None:
        """Fold BatchNorm's running statistics into weight and bias (Jacob et al. 2018, arXiv:1712.05877)."""
        if self.norm is None:
            return
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight.mul_(factor if self.depthwise else factor.unsqueeze(1))
        self.bias.copy_((self.bias - norm.running_mean) * factor + norm.bias)
        self.norm = None

    @torch.no_grad()
    def set(self, layer: Layer) -> None:
        """Take over an exported layer; `deployed` undone."""
        assert layer.weight is not None
        assert layer.bias is not None
        self.name, self.relu = layer.name, layer.relu
        self.weight.copy_(torch.from_numpy(layer.weight))
        self.bias.copy_(torch.from_numpy(layer.bias))
        self.range.set(layer.output)

    def deployed(self) -> Layer:
        """The layer's exported form."""
        return Layer(
            kind="depthwise" if self.depthwise else "conv1x1",
            name=self.name,
            output=self.range.quantization(),
            weight=self.weight.detach().cpu().numpy().astype(np.float32),
            bias=self.bias.detach().cpu().numpy().astype(np.float32),
            relu=self.relu,
        )


class TinyConv(nn.Module):
    """Streaming student: pointwise stem over one step, blocks of (depthwise over time, pointwise), one logit.

    Input features are real values (uint16 * 0.0390625) of shape (batch, frames, mel) or, as image models
    take them, (batch, 1, mel, frames). Frames are grouped into steps of `frames_per_step`; a rest is dropped.

    `step_logits` gives, at every step, the one logit that is deployed. `forward` gives two logits (batch, 2),
    [0, z], whose softmax is the clip's largest smoothed probability, which a board compares with its cutoff.
    A mean of logits would reward single high steps, which a mean of probabilities suppresses.

    Args:
        width: channels of every block; a multiple of 16.
        kernel_sizes: steps that each block's depthwise convolution spans.
        dropout: probability of dropping a channel of the last block, in training.
        smoothing: steps whose probabilities are averaged before the clip's maximum is taken; the window that
            the deployed model is smoothed with.
        pool: steps of average pooling before the head; 0 for none.

    Attributes:
        quantize, observe: compute with int8 weights and activations; set activation ranges from what passes.
    """

    def __init__(
        self,
        input_size: int = 40,
        width: int = 112,
        kernel_sizes: Sequence[int] = (21, 23),
        frames_per_step: int = 3,
        dropout: float = 0.2,
        smoothing: int = 3,
        pool: int = 0,
        num_classes: int = 2,
    ) -> None:
        super().__init__()
        if num_classes != 2:
            raise ConfigError(f"model.num_classes = {num_classes}: tiny_conv has 2 classes (wake, not wake)")
        if width % 16:
            raise ConfigError(f"model.width = {width}: must be a multiple of 16, which ESP-NN accelerates")
        self.input_size, self.width, self.frames_per_step = input_size, width, frames_per_step
        self.kernel_sizes, self.smoothing, self.pool = tuple(kernel_sizes), smoothing, pool
        self.input_range = ActivationRange(fixed=FEATURE_INPUT)
        layers = [TimeConv(input_size * frames_per_step, width, 1, relu=True, norm=True, name="stem")]
        for index, kernel in enumerate(kernel_sizes):
            layers.append(TimeConv(width, width, kernel, relu=True, norm=True, name=f"block{index}_depthwise"))
            layers.append(TimeConv(width, width, 1, relu=True, norm=True, name=f"block{index}_pointwise"))
        self.body, self.layers = tuple(layers), nn.ModuleList(layers)
        self.dropout = nn.Dropout1d(dropout)
        self.head = TimeConv(width, 1, 1, relu=False, norm=False, name="logit")
        nn.init.normal_(self.head.weight, std=0.05)
        self.quantize = self.observe = False

    @property
    def receptive_field_steps(self) -> int:
        """Steps of input that one step's logit depends on."""
        return 1 + sum(kernel - 1 for kernel in self.kernel_sizes) + max(0, self.pool - 1)

    def to_steps(self, features: Tensor) -> Tensor:
        """(batch, frames, mel) or (batch, 1, mel, frames) -> (batch, frames_per_step * mel, steps)."""
        if features.dim() == 4:
            features = features.squeeze(1).transpose(1, 2)
        batch, frames, mel = features.shape
        steps, count = frames // self.frames_per_step, self.frames_per_step
        return features[:, : steps * count].reshape(batch, steps, mel * count).transpose(1, 2)

    def features(self, features: Tensor, *, silence_before: bool = False) -> Tensor:
        """The head's input at every step, before dropout: (batch, width, steps'); see `step_logits`."""
        value = self.to_steps(features)
        if silence_before:
            value = F.pad(value, (self.receptive_field_steps - 1, 0))
        if value.shape[2] < self.receptive_field_steps:
            value = F.pad(value, (self.receptive_field_steps - value.shape[2], 0))
        value = self.input_range(value) if self.quantize else value.clamp(0.0, FEATURE_INPUT.high)
        for layer in self.body:
            value = layer(value, self.quantize, self.observe)
        if self.pool > 1:
            value = F.avg_pool1d(value, self.pool, 1)
            # TFLite's int8 pooling keeps its input's scale.
            value = self.body[-1].range(value) if self.quantize else value
        return value

    def step_logits(self, features: Tensor, *, silence_before: bool = False) -> Tensor:
        """Logit z of every step whose receptive field lies in `features`: (batch, steps').

        With `silence_before`, R - 1 all-zero steps go first, as on a device that was just reset: (batch, steps).
        """
        value = self.dropout(self.features(features, silence_before=silence_before))
        logits: Tensor = self.head(value, self.quantize, self.observe)
        return logits.squeeze(1)

    def forward(self, features: Tensor) -> Tensor:
        """Two logits of a clip: (batch, 2)."""
        steps = self.step_logits(features)
        if self.smoothing > 1 and steps.shape[1] >= self.smoothing:
            smoothed = F.avg_pool1d(torch.sigmoid(steps.float()).unsqueeze(1), self.smoothing, 1).squeeze(1)
            steps = torch.logit(smoothed, eps=1e-6)
        top = steps.amax(dim=1)
        return torch.stack([torch.zeros_like(top), top], dim=1)

    def fold_batch_norm(self) -> None:
        """Fold every BatchNorm; from then on the weights are those that are exported."""
        for layer in self.body:
            layer.fold()

    def deployed(self, info: dict[str, Any] | None = None) -> DeployedModel:
        """The deploy form; an error before BatchNorm is folded: the exported model would not be the trained one."""
        if any(layer.norm is not None for layer in self.body):
            raise ConfigError("BatchNorm is not folded: finish training's last phase before exporting")
        layers = [layer.deployed() for layer in self.body]
        if self.pool > 1:
            layers.append(Layer("avgpool", "pool", layers[-1].output, window=self.pool))
        layers, given = [*layers, self.head.deployed()], self.input_range.quantization()
        return DeployedModel(tuple(layers), given, self.frames_per_step, self.input_size, info or {}).validate()

    @classmethod
    def from_deployed(cls, model: DeployedModel) -> TinyConv:
        """The trained network of a deploy form, in eval mode: `deployed` undone; an error where it is no tiny_conv's.

        It computes what the int8 model computes, up to the rounding of sums: `step_logits(features,
        silence_before=True)` gives the logits of a whole recording from reset. With `quantize` set to False
        it is the float network of the same weights.
        """
        given = [layer for layer in model.layers if layer.weight is not None]
        body = [layer.kind for layer in given[:-1]]
        depthwise = [len(layer.weight) for layer in given if layer.kind == "depthwise" and layer.weight is not None]
        pools = [layer.window for layer in model.layers[:-1] if layer.kind == "avgpool"]
        expected = ["conv1x1", *["depthwise", "conv1x1"] * len(depthwise)]
        if body != expected or len(model.layers) != len(given) + len(pools) or len(pools) > 1:
            raise EdgewakeError(
                f"layers {', '.join(layer.kind for layer in model.layers)} are not those of a tiny_conv: a stem, "
                "pairs of depthwise and pointwise, a pool at most, and a logit"
            )
        student = cls(
            input_size=model.channels,
            width=len(given[0].bias) if given[0].bias is not None else 0,
            kernel_sizes=depthwise,
            frames_per_step=model.frames_per_step,
            smoothing=int(model.info.get("window", 1)),
            pool=pools[0] if pools else 0,
        )
        student.fold_batch_norm()
        student.quantize = True
        student.input_range.set(model.input)
        for part, layer in zip((*student.body, student.head), given, strict=True):
            part.set(layer)
        return student.eval()

    def architecture(self) -> dict[str, Any]:
        """Keyword arguments that build this architecture again."""
        names = ("input_size", "width", "frames_per_step", "smoothing", "pool")
        return {name: getattr(self, name) for name in names} | {"kernel_sizes": list(self.kernel_sizes)}
