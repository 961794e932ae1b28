"""Starting points by name; every preset is a fresh, complete configuration that passes its own checks."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from edgewake.config.defaults import WakewordConfig
from edgewake.errors import ConfigError


def get_default_preset() -> WakewordConfig:
    """Every default: tiny_conv, without quantization in the loop."""
    return WakewordConfig()


def get_esp32_no_psram_preset() -> WakewordConfig:
    """The student for an ESP32-S3 without PSRAM: tiny_conv, 40 mel channels, quantization in the loop."""
    config = WakewordConfig(config_name="esp32_no_psram", description="tiny_conv for an ESP32-S3 without PSRAM")
    config.qat.enabled = True
    config.training.batch_size = 64
    config.training.epochs = 120
    config.training.early_stopping_patience = 25
    config.augmentation.background_noise_prob = 0.8
    config.augmentation.snr_db = (-3.0, 25.0)
    config.augmentation.rir_prob = 0.5
    return config


def get_tiny_preset() -> WakewordConfig:
    """Half the width and fewer blocks: a quarter of the flash and time, for chips with other work to do."""
    config = get_esp32_no_psram_preset()
    config.config_name, config.description = "tiny", "the smallest student that still detects a two-syllable word"
    config.model.width = 32
    config.model.kernel_sizes = (5, 9, 9, 13)
    return config


def get_smoke_preset() -> WakewordConfig:
    """Seconds of training that run every phase; the result is of no use."""
    config = get_tiny_preset()
    config.config_name, config.description = "smoke", "runs every phase in seconds; the result is of no use"
    config.model.width = 16
    config.model.kernel_sizes = (3, 3)
    config.training.epochs = 2
    config.training.batch_size = 8
    config.training.batches_per_epoch = 2
    config.training.early_stopping_patience = 0
    config.training.mining_interval = 1
    config.qat.fraction = 0.5
    config.qat.observe_batches = 2
    config.augmentation.codec_prob = 0.0
    return config


def get_distillation_mobilenet_preset() -> WakewordConfig:
    """MobileNetV3 on the host, distilled from Wav2Vec2, as the guide's first example has it."""
    config = WakewordConfig(
        config_name="distillation_mobilenet",
        description="MobileNetV3 student learning from Wav2Vec2 teacher",
    )
    config.distillation.enabled = True
    config.distillation.teacher_architecture = "wav2vec2"
    config.distillation.temperature = 3.0
    config.distillation.alpha = 0.6
    config.model.architecture = "mobilenetv3"
    config.model.dropout = 0.25
    config.data.n_mels = 64
    return config


_PRESETS: dict[str, Callable[[], WakewordConfig]] = {
    "default": get_default_preset,
    "esp32_no_psram": get_esp32_no_psram_preset,
    "tiny": get_tiny_preset,
    "smoke": get_smoke_preset,
    "distillation_mobilenet": get_distillation_mobilenet_preset,
}


def list_presets() -> dict[str, str]:
    """Names of all presets, each with one line on what it is for."""
    return {name: (make.__doc__ or "").strip().splitlines()[0] for name, make in _PRESETS.items()}


def get_preset(name: str) -> WakewordConfig:
    """A fresh configuration.

    Raises:
        ConfigError: no preset has this name; the message has the nearest.
    """
    if name not in _PRESETS:
        near = difflib.get_close_matches(name, _PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "choose another"
        raise ConfigError(f"no preset {name!r}: there are {', '.join(_PRESETS)}; {hint}")
    return _PRESETS[name]()
