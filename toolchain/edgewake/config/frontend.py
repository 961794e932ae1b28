"""A `FrontendConfig` that exists is usable: every constant is in range, and they fit together."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import Field, model_validator

from edgewake.config.base import Section

MAX_FFT = 2048


class FrontendConfig(Section):
    """Constants of the mel frontend. The defaults are those of microWakeWord and of `pymicro-features`."""

    sample_rate: int = Field(16_000, ge=8_000, le=48_000, description="samples per second")
    window_ms: int = Field(30, ge=5, le=64, description="length of a frame in ms")
    step_ms: int = Field(10, ge=1, le=64, description="time between frames in ms, at most window_ms")
    channels: int = Field(40, ge=1, le=128, description="features in a frame")
    lower_hz: float = Field(125.0, ge=0.0, description="lower band edge")
    upper_hz: float = Field(7_500.0, gt=0.0, description="upper band edge")

    noise_reduction: bool = Field(True, description="subtract the noise estimate")
    smoothing_bits: int = Field(10, ge=0, le=16, description="fraction bits of the noise estimate")
    even_smoothing: float = Field(0.025, ge=0.0, le=1.0, description="share of a new frame, even channels")
    odd_smoothing: float = Field(0.06, ge=0.0, le=1.0, description="share of a new frame, odd channels")
    min_signal_remaining: float = Field(0.05, ge=0.0, le=1.0, description="share that subtraction leaves")

    pcan: bool = Field(True, description="per-channel automatic gain control")
    pcan_strength: float = Field(0.95, ge=0.0, le=2.0, description="exponent of the gain")
    pcan_offset: float = Field(80.0, gt=0.0, le=1e6, description="added to the noise estimate")
    pcan_gain_bits: int = Field(21, ge=17, le=30, description="fraction bits of the gain")

    log_scale_shift: int = Field(6, ge=0, le=10, description="the logarithm is multiplied by 2 to this power")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.step_ms > self.window_ms:
            raise ValueError(f"step_ms {self.step_ms} exceeds window_ms {self.window_ms}: frames would skip samples")
        if self.window_samples > MAX_FFT:
            raise ValueError(f"a window of {self.window_samples} samples exceeds {MAX_FFT}: shorten window_ms")
        if self.upper_hz <= self.lower_hz:
            raise ValueError(f"upper_hz {self.upper_hz} must be above lower_hz {self.lower_hz}")
        highest = self.sample_rate / 2 - 2 * self.sample_rate / self.fft_size
        if self.upper_hz > highest:
            raise ValueError(f"upper_hz {self.upper_hz} exceeds {highest:g}, two FFT bins below half the sample rate")
        if self.smoothing_bits < self.correction_bits:
            raise ValueError(f"smoothing_bits {self.smoothing_bits} must be at least {self.correction_bits}")
        return self

    @property
    def window_samples(self) -> int:
        """Samples in a frame."""
        return self.window_ms * self.sample_rate // 1000

    @property
    def step_samples(self) -> int:
        """Samples between the starts of two frames."""
        return self.step_ms * self.sample_rate // 1000

    @property
    def fft_size(self) -> int:
        """Smallest power of two that holds a window."""
        return max(64, 1 << (self.window_samples - 1).bit_length())

    @property
    def correction_bits(self) -> int:
        """Bits by which the FFT's scaling exceeds half the filterbank's fraction: log2(fft_size) - 6."""
        return self.fft_size.bit_length() - 1 - 6

    def frames(self, samples: int) -> int:
        """How many frames `samples` samples complete after a reset."""
        return max(0, (samples - self.window_samples) // self.step_samples + 1)

    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces)."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
