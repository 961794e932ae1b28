"""The deploy form run as training ran it: fake-quantized, in floating point, on torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgewake.models.fake_quantization import fake_quantize_weight
from edgewake.runtime.deployed import DeployedModel, Layer, Quantization

if TYPE_CHECKING:
    import torch

FEATURE_SCALE = 10 / 256


def qat_logits(model: DeployedModel, features: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Logit of every step from reset, with weights and activations rounded as in training: (steps,).

    Args:
        model: the deploy form.
        features: (frames, channels) uint16; a rest that fills no step is dropped.
    """
    import torch

    steps = len(features) // model.frames_per_step
    whole = features[: steps * model.frames_per_step].reshape(steps, model.input_width)
    past = np.zeros((model.receptive_field_steps - 1, model.input_width), np.float32)
    real = np.concatenate([past, whole.astype(np.float32) * np.float32(FEATURE_SCALE)])
    with torch.no_grad():
        value = _fake_quantize(torch.from_numpy(real.T.copy())[None], model.input)
        for layer in model.layers[:-1]:
            value = _fake_quantize(_apply(layer, value), layer.output)
    return np.asarray(value[0, 0].numpy(), np.float64)


def _apply(layer: Layer, value: torch.Tensor) -> torch.Tensor:
    import torch
    import torch.nn.functional as F

    if layer.kind == "avgpool":
        return F.avg_pool1d(value, layer.window, 1)
    assert layer.weight is not None
    assert layer.bias is not None
    weight = fake_quantize_weight(torch.from_numpy(layer.weight.copy()), int(layer.kind == "conv1x1"))
    bias = torch.from_numpy(layer.bias.copy())
    if layer.kind == "conv1x1":
        value = F.conv1d(value, weight[:, :, None], bias)
    else:
        value = F.conv1d(value, weight.T[:, None], bias, groups=weight.shape[1])
    return F.relu(value) if layer.relu else value


def _fake_quantize(value: torch.Tensor, given: Quantization) -> torch.Tensor:
    level = (value / float(given.scale)).round() + given.zero_point
    return (level.clamp(-128, 127) - given.zero_point) * float(given.scale)
