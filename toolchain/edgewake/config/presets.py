"""Starting points by name; every preset is a fresh, complete configuration that passes its own checks."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from edgewake.config.defaults import WakewordConfig
from edgewake.errors import ConfigError

_ESP32 = {
    "qat.enabled": True,
    "training.batch_size": 64,
    "training.epochs": 120,
    "training.early_stopping_patience": 25,
    "augmentation.background_noise_prob": 0.8,
    "augmentation.snr_db": (-3.0, 25.0),
    "augmentation.rir_prob": 0.5,
    "augmentation.heavy_share": 0.5,
}
_TINY = _ESP32 | {"model.width": 32, "model.kernel_sizes": (5, 9, 9, 13)}
# Long clips: every step after the receptive field counts. The times of speech do not change, and there is no head.
_TRUNK = _ESP32 | {
    "data.audio_duration": 4.2,
    "data.negative_renders": 2,
    "data.negative_hop": 1.0,
    "data.negative_crop": 1.0,
    "data.splice_share": 0.0,
    "model.dropout": 0.0,
    "training.batch_size": 32,
    "training.epochs": 50,
    "training.learning_rate": 0.003,
    "training.ema_decay": 0.998,
    "training.hard_negative_mining": False,
    "augmentation.speed_prob": 0.0,
    "augmentation.time_shift_ms": 0.0,
    "augmentation.tempo_warp": 0.0,
    "augmentation.mel_warp_channels": 3.0,
    "distillation.teacher_architecture": "whisper",
    "distillation.teacher_name": "whisper-tiny.en",
    "qat.enabled": False,
}
_SMOKE = _TINY | {
    "model.width": 16,
    "model.kernel_sizes": (3, 3),
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.batches_per_epoch": 2,
    "training.early_stopping_patience": 0,
    "training.mining_interval": 1,
    "qat.fraction": 0.5,
    "qat.observe_batches": 2,
    "augmentation.codec_prob": 0.0,
    "evaluation.lowest_recall": 0.0,
}
# The guide's first example.
_MOBILENET = {
    "distillation.enabled": True,
    "distillation.teacher_architecture": "wav2vec2",
    "distillation.temperature": 3.0,
    "distillation.alpha": 0.6,
    "model.architecture": "mobilenetv3",
    "model.dropout": 0.25,
    "data.n_mels": 64,
}
_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("every default: tiny_conv, without quantization in training", {}),
    "esp32_no_psram": ("tiny_conv for an ESP32-S3 without PSRAM, trained with quantization", _ESP32),
    "tiny": ("narrow: a third of the flash and time", _TINY),
    "trunk": ("tiny_conv to start the models of all phrases from, by edgewake trunk", _TRUNK),
    "smoke": ("runs every phase in seconds; the result is of no use", _SMOKE),
    "distillation_mobilenet": ("MobileNetV3 student learning from Wav2Vec2 teacher", _MOBILENET),
}


def list_presets() -> dict[str, str]:
    """Names of all presets, each with its description."""
    return {name: description for name, (description, _) in _PRESETS.items()}


def get_preset(name: str) -> WakewordConfig:
    """A fresh configuration; a ConfigError with the nearest name where there is none."""
    if name not in _PRESETS:
        near = difflib.get_close_matches(name, _PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "choose another"
        raise ConfigError(f"{name!r} is neither a YAML file nor a preset: there are {', '.join(_PRESETS)}; {hint}")
    description, changes = _PRESETS[name]
    config = WakewordConfig(config_name=name, description=description)
    for key, value in changes.items():
        config.set(key, value)
    return config


def load_config(text: str, assignments: tuple[str, ...] = (), *, check: bool = True) -> tuple[WakewordConfig, str]:
    """A configuration from a YAML file or a preset's name, with `key=value` assignments, and what to call it.

    `check`: that the settings of a file fit together.
    """
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return WakewordConfig.load(path, check=check).override(assignments), path.stem
    return get_preset(text).override(assignments), text


def get_esp32_no_psram_preset() -> WakewordConfig:
    """The student for an ESP32-S3 without PSRAM: tiny_conv, 40 mel channels, quantization in training."""
    return get_preset("esp32_no_psram")
