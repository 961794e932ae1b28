"""What ESPHome's micro_wake_word takes: tensors, operators, features, the cutoff, and the scratch of its esp-nn.

Read in esphome 2026.6.5 (PyPI), components/micro_wake_word; operators, scaling of features and manifest are the same in
2024.7.0 and in commit 33fdbbe3. It pins esp-tflite-micro 1.3.3~1 and esp-nn 1.1.2 (tag v1.1.2, commit 207dc4e0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.frontend import FEATURE_SCALE
from edgewake.targets.operators import OperatorInfo, count_variables, operators_from_bytes

RELEASE, ESP_TFLITE_MICRO, ESP_NN = "2026.6.5", "1.3.3~1", "1.1.2"
# The first release that reads manifests of version 2, and the first that takes the example of a device.
MINIMUM_RELEASE, EXAMPLE_RELEASE = "2024.7.0", "2025.5.0"

# streaming_model.cpp, register_streaming_ops_: a MicroMutableOpResolver<20> with these.
OPERATORS = {
    "CALL_ONCE", "VAR_HANDLE", "RESHAPE", "READ_VARIABLE", "STRIDED_SLICE", "CONCATENATION", "ASSIGN_VARIABLE",
    "CONV_2D", "MUL", "ADD", "MEAN", "FULLY_CONNECTED", "LOGISTIC", "QUANTIZE", "DEPTHWISE_CONV_2D",
    "AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "PACK", "SPLIT_V",
}  # fmt: skip
# streaming_model.cpp, load_model_: MicroResourceVariables::Create(ma, 20).
MOST_VARIABLES = 20
# __init__.py, MANIFEST_SCHEMA_V2: feature_step_size.
LONGEST_STEP_MS = 30

# micro_wake_word.cpp, generate_features_: int8 = clamp((feature * 256 + 333) / 666 - 128).
VALUE_SCALE, VALUE_DIV = 256, 666
FEATURES = Quantization(np.float32(FEATURE_SCALE * VALUE_DIV / VALUE_SCALE), -128)

# The model's uint8 output u stands for u / 256, and the manifest's cutoff becomes int(cutoff * 255).
ONE, HIGHEST_CUTOFF = 256, 254
# Slices of 10 ms below the cutoff that must follow the start, or a detection, before the next one (MIN_SLICES_...).
COOL_OFF_SLICES = 100


def check(model: DeployedModel, frontend: FrontendConfig) -> None:
    """Raise EdgewakeError where ESPHome would give the model other features, or take its phrase for another model."""
    phrase, expected = str(model.info["phrase"]), FrontendConfig(step_ms=min(frontend.step_ms, LONGEST_STEP_MS))
    other = [name for name, value in frontend if value != getattr(expected, name)]
    if other:
        name = other[0]
        raise EdgewakeError(
            f"frontend.{name} is {getattr(frontend, name)}; ESPHome's frontend has {getattr(expected, name)} fixed: "
            "train with that value"
        )
    if phrase.casefold() == "vad":
        raise EdgewakeError("the phrase 'vad' names ESPHome's voice activity model: train another phrase")


def check_variant(data: bytes) -> tuple[list[OperatorInfo], int]:
    """The operators of a .tflite and how many variables it keeps; an EdgewakeError for what ESPHome does not run."""
    operators, variables = operators_from_bytes(data), count_variables(data)
    if foreign := sorted({each.op for each in operators} - OPERATORS):
        raise EdgewakeError(f"ESPHome's resolver lacks {', '.join(foreign)}: train a tiny_conv")
    if variables > MOST_VARIABLES:
        raise EdgewakeError(
            f"the model keeps {variables} variables; ESPHome has room for {MOST_VARIABLES}: shorten model.kernel_sizes"
        )
    return operators, variables


def scratch_bytes(operators: Sequence[OperatorInfo]) -> list[int]:
    """Scratch that each operator of a streaming model asks for in Prepare, in bytes.

    That is `esp_nn_get_conv_scratch_size_esp32s3` and `esp_nn_get_depthwise_conv_scratch_size_esp32s3` of esp-nn 1.1.2,
    for 1x1 convolutions of one position and depthwise ones one feature wide.
    """

    def of(layer: OperatorInfo) -> int:
        if layer.op != "CONV_2D":
            return 32 if layer.op == "DEPTHWISE_CONV_2D" else 0
        outputs, *_, channels = layer.filter_shape
        padded = -(-channels // 8) * 8
        return padded * outputs + (padded if channels % 8 else 0) + 32

    return [of(layer) for layer in operators]


def nearest_cutoff(cutoff: float, window: int) -> int:
    """The uint8 cutoff whose lowest mean probability with a detection, see `lowest_mean`, is nearest to `cutoff`."""
    return min(max(round(cutoff * ONE - 1 / window), 1), HIGHEST_CUTOFF)


def lowest_mean(cutoff: int, window: int) -> float:
    """The lowest mean probability of `window` steps that ESPHome detects: their sum must exceed cutoff * window."""
    return (cutoff * window + 1) / ONE / window


def manifest_cutoff(cutoff: int) -> float:
    """The shortest probability_cutoff that becomes this uint8; older releases compare it with sum / (255 * window)."""
    return float(np.ceil(cutoff / 255 * 1e5) / 1e5)


def file_name(phrase: str) -> str:
    """A name for files and devices: letters, digits and underscores of the phrase, "wake_word" where it has none.

    Beside them lie the export's own record and ESPHome's secrets.yaml.
    """
    name = re.sub(r"[^a-z0-9]+", "_", phrase.casefold()).strip("_") or "wake_word"
    return f"{name}_word" if name in ("export", "secrets") else name
