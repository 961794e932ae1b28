"""The baseline to beat: ranges measured on representative features after training, not learned in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake import calibration
from edgewake.conversion.features import model_input
from edgewake.conversion.int8_tflite import load_quantizer, quantized, quietly
from edgewake.conversion.onnx_export import INPUT_NAME
from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Quantization, quantization_json
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.tflite_file import SIGNATURE, Graph, read_tflite

FEATURE_SCALE = np.float32(10 / 256)


def load_features(path: Path | None = None) -> list[npt.NDArray[np.uint16]]:
    """Representative features, (frames, channels) uint16 each.

    Args:
        path: a calibration folder (see `edgewake.calibration`; None: the one that comes with edgewake), a
            .npy of one such array, or a .npz of several.

    Raises:
        EdgewakeError: the data cannot be read, or is something else.
    """
    if path is None or Path(path).is_dir():
        return [calibration.load_features(path)]
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    except (OSError, ValueError, EOFError) as error:
        raise EdgewakeError(f"calibration features {path} cannot be read: {error}") from error
    kept = [array for array in arrays if array.ndim == 2 and array.dtype == np.uint16 and len(array)]
    if not kept:
        raise EdgewakeError(f"{path} holds no features; calibration takes arrays (frames, channels) of uint16")
    return kept


def calibrated(float_tflite: Path, model: DeployedModel, features: Sequence[npt.NDArray[np.uint16]]) -> DeployedModel:
    """The same weights with the ranges that ai-edge-quantizer finds by running the float model on `features`.

    Args:
        float_tflite: what `to_float_tflite` wrote; its window is slid over the features without overlap.
        model: the deploy form; its learned ranges are replaced.
        features: recordings, (frames, channels) uint16 each.

    Raises:
        MissingDependencyError: ai-edge-quantizer is not installed.
        EdgewakeError: all recordings are shorter than the window.
    """
    data = Path(float_tflite).read_bytes()
    steps = read_tflite(data)[0].tensors[0].shape[1]
    windows = _windows(model, features, steps)
    if not windows:
        raise EdgewakeError(f"no calibration recording fills a window of {steps} steps; give longer ones")
    quantizer = load_quantizer(data)
    with quietly():
        ranges: dict[str, Any] = quantizer.calibrate({SIGNATURE: windows}, num_threads=1)
    graph = read_tflite(quantized(data, ranges))[0]
    layers = tuple(replace(layer, output=_range(graph, layer.name)) for layer in model.layers)
    return replace(model, layers=layers, input=_range(graph, INPUT_NAME))


def _windows(
    model: DeployedModel, features: Sequence[npt.NDArray[np.uint16]], steps: int
) -> list[dict[str, npt.NDArray[np.float32]]]:
    size = steps * model.frames_per_step
    return [
        {INPUT_NAME: (recording[start : start + size] * FEATURE_SCALE).reshape(1, steps, 1, -1)}
        for recording in features
        for start in range(0, len(recording) - size + 1, size)
    ]


def _range(graph: Graph, name: str) -> Quantization:
    given = graph.named(name).quantization
    if given is None:
        raise EdgewakeError(f"ai-edge-quantizer left {name} without a range; use the pinned version")
    return Quantization(given.scale[0], int(given.zero_point[0]))


@dataclass(frozen=True)
class Comparison:
    """Two int8 models on the same features, step by step from reset.

    Attributes:
        steps: steps compared.
        equal_decisions: steps where both probabilities are on the same side of `threshold`.
        threshold: the probability that decides.
        logit_mean: mean absolute difference of logits, in LSB of the first model.
        logit_max: the largest.
        scales: {tensor name: both quantizations}.
    """

    steps: int
    equal_decisions: int
    threshold: float
    logit_mean: float
    logit_max: float
    scales: dict[str, dict[str, Any]]

    @property
    def agreement(self) -> float:
        """Share of steps with equal decisions."""
        return self.equal_decisions / self.steps


def compare(
    first: DeployedModel,
    second: DeployedModel,
    features: Sequence[npt.NDArray[np.uint16]],
    threshold: float = 0.5,
) -> Comparison:
    """Compare two quantizations of one network, in the integer simulator.

    Args:
        first: for instance with learned ranges.
        second: for instance with calibrated ranges.
        features: recordings, (frames, channels) uint16 each.
        threshold: probability of one step that decides.

    Raises:
        EdgewakeError: there is not a single step to compare.
    """
    logits, decisions = zip(
        *(_logits_and_decisions(model, features, threshold) for model in (first, second)), strict=True
    )
    if not len(logits[0]):
        raise EdgewakeError("no recording has a whole step; nothing can be compared")
    difference = np.abs(logits[0] - logits[1]) / float(first.layers[-2].output.scale)
    return Comparison(
        steps=len(difference),
        equal_decisions=int((decisions[0] == decisions[1]).sum()),
        threshold=threshold,
        logit_mean=float(difference.mean()),
        logit_max=float(difference.max()),
        scales=_scales(first, second),
    )


def _logits_and_decisions(
    model: DeployedModel, features: Sequence[npt.NDArray[np.uint16]], threshold: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    integer = IntegerModel(model)
    logit, probability = model.layers[-2], model.layers[-1]
    logits, decisions = [], []
    for recording in features:
        values = integer.activations(model_input(model, recording))
        if values:
            level = values[logit.name][:, 0].astype(np.float64)
            logits.append((level - logit.output.zero_point) * float(logit.output.scale))
            decisions.append((values[probability.name][:, 0].astype(np.int64) + 128) / 256 >= threshold)
    if not logits:
        return np.zeros(0), np.zeros(0, bool)
    return np.concatenate(logits), np.concatenate(decisions)


def _scales(first: DeployedModel, second: DeployedModel) -> dict[str, dict[str, Any]]:
    pairs = {INPUT_NAME: (first.input, second.input)}
    for left, right in zip(first.layers, second.layers, strict=True):
        pairs[left.name] = (left.output, right.output)
    return {
        name: {"first": quantization_json(left), "second": quantization_json(right)}
        for name, (left, right) in pairs.items()
    }
