"""Random models: deploy forms, from plausible to extreme but always computable, and a student in its last phase."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.deployed import DeployedModel, Kind, Layer, Quantization

Float32Array = npt.NDArray[np.float32]

# Root mean square of a uniformly random int8 around its zero point, roughly; a layer's gain is set by it.
TYPICAL_LEVEL = 64.0


def random_model(
    seed: int,
    width: int = 16,
    kernels: Sequence[int] = (3,),
    pool: int = 0,
    *,
    extreme: bool = False,
    frames_per_step: int = 3,
    channels: int = 40,
) -> DeployedModel:
    """A deploy form with random weights and ranges; the same for the same arguments.

    Args:
        seed: of every draw.
        width: channels of every block.
        kernels: steps of each block's depthwise convolution.
        pool: window of an average pool before the head; 0: none.
        extreme: scales over 12 decimal orders, zero points at the edges, gains that saturate or vanish, rows
            of weights that are zero, tiny or a single spike, ReLU in any place.
        frames_per_step, channels: of the input.
    """
    draw = _Extreme(seed) if extreme else _Plausible(seed)
    given = draw.range(relu=True)
    inputs = frames_per_step * channels
    model_input = given
    layers: list[Layer] = []

    def weighted(kind: Kind, name: str, shape: tuple[int, int], *, head: bool = False) -> None:
        nonlocal given
        relu = not head and draw.relu()
        output = draw.logit_range() if head else draw.range(relu)
        layers.append(draw.layer(kind, name, shape, given=given, output=output, relu=relu))
        given = output

    weighted("conv1x1", "stem", (width, inputs))
    for index, kernel in enumerate(kernels):
        weighted("depthwise", f"depth{index}", (kernel, width))
        weighted("conv1x1", f"point{index}", (width, width))
    if pool:
        layers.append(Layer("avgpool", "pool", given, window=pool))
    weighted("conv1x1", "logit", (1, width), head=True)
    return DeployedModel(tuple(layers), model_input, frames_per_step, channels).validate()


class _Plausible:
    """Ranges and weights like those of a trained model."""

    scale_bits = (-7.0, -3.0)

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def gain(self) -> float:
        return float(2.0 ** self.rng.uniform(-1, 1))

    def relu(self) -> bool:
        return True

    def zero_point(self, relu: bool) -> int:
        return -128 if relu else int(self.rng.integers(-20, 21))

    def range(self, relu: bool) -> Quantization:
        return Quantization(np.float32(2.0 ** self.rng.uniform(*self.scale_bits)), self.zero_point(relu))

    def logit_range(self) -> Quantization:
        return Quantization(np.float32(2.0 ** self.rng.uniform(-5, -3)), self.zero_point(False))

    def rows(self, weight: Float32Array) -> Float32Array:
        """(channels, values) as they are."""
        return weight

    def layer(
        self,
        kind: Kind,
        name: str,
        shape: tuple[int, int],
        *,
        given: Quantization,
        output: Quantization,
        relu: bool,
    ) -> Layer:
        """A layer whose sums, for random inputs, span about the output's range times the drawn gain."""
        terms = shape[1] if kind == "conv1x1" else shape[0]
        gain = self.gain()
        spread = float(output.scale) * gain / (float(given.scale) * np.sqrt(terms))
        weight = (self.rng.standard_normal(shape) * spread).astype(np.float32)
        weight = self.rows(weight) if kind == "conv1x1" else self.rows(weight.T).T
        count = shape[0] if kind == "conv1x1" else shape[1]
        bias = self.rng.standard_normal((count, 1)) * float(output.scale) * TYPICAL_LEVEL * gain
        return Layer(kind, name, output, weight, self.rows(bias.astype(np.float32))[:, 0], relu)


class _Extreme(_Plausible):
    """Whatever the format allows and the kernels can compute."""

    scale_bits = (-20.0, 20.0)

    def gain(self) -> float:
        return float(2.0 ** np.clip(self.rng.normal(1, 2), -8, 10))

    def relu(self) -> bool:
        return bool(self.rng.random() < 0.7)

    def zero_point(self, relu: bool) -> int:
        # Behind a ReLU, 127 leaves a single level, which makes everything after it constant: draw it rarely.
        edges = [0.6, 0.02, 0.08, 0.3] if relu else [0.25, 0.25, 0.25, 0.25]
        return int(self.rng.choice([-128, 127, 0, int(self.rng.integers(-128, 128))], p=edges))

    def logit_range(self) -> Quantization:
        return Quantization(np.float32(2.0 ** self.rng.uniform(-20, 3)), self.zero_point(False))

    def rows(self, weight: Float32Array) -> Float32Array:
        """Make some channels zero, some tiny, some a spike in one value."""
        weight = weight.copy()
        for row, fate in enumerate(self.rng.random(len(weight))):
            if fate < 0.1:
                weight[row] = 0
            elif fate < 0.2:
                weight[row] *= np.float32(1e-25)
            elif fate < 0.3:
                weight[row, self.rng.integers(weight.shape[1])] *= np.float32(1000)
        return weight


def random_student(smoothing: int = 5) -> TinyConv:
    """A random tiny_conv as training leaves it: quantized, in eval mode, the same at every call."""
    torch.manual_seed(7)
    student = TinyConv(width=16, kernel_sizes=(3, 5), smoothing=smoothing)
    # An untrained head hardly moves; probabilities have to differ for tests to tell recordings apart.
    torch.nn.init.normal_(student.head.weight, std=1.0)
    student.observe = student.quantize = True
    student.train()
    student(torch.rand(16, 300, 40) * 24)
    student.observe = False
    student.fold_batch_norm()
    return student.eval()
