"""Raw audio to a student's features, on the device that trains it."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from edgewake.config import WakewordConfig
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, features_batch

# Power of a mel band that counts as silence: white noise at about -75 dB of full scale. Below it the logarithm
# goes to zero smoothly: digital silence is 0, and faint noise is not amplified.
FLOOR = 1e-5
MAX_FFT = 8192


class BoardFeatures(nn.Module):
    """The board's features, by the board's own C code on the CPU."""

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config.freeze()

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """(batch, samples), full scale 1.0, rounded to 16 bits -> (batch, frames, mel) float32, in 0..26."""
        check_audio(audio)
        samples = (audio.detach().float().cpu() * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
        rows = features_batch(list(samples), self.config, torch.get_num_threads())
        found = torch.from_numpy(np.stack(rows).astype(np.float32) * np.float32(FEATURE_SCALE))
        return found.to(audio.device)


class LogMel(nn.Module):
    """Log-mel by torchaudio on the device of the audio: log(1 + power / 1e-5) of each mel band.

    Frames are centred on multiples of `hop_length`, samples // hop_length + 1 of them, and cover
    `window_samples` under a Hann window. Values go from 0 (digital silence) to about 22.
    """

    bands: Tensor
    window: Tensor

    def __init__(self, n_mels: int, hop_length: int = 160, frontend: FrontendConfig | None = None) -> None:
        super().__init__()
        frontend = frontend or FrontendConfig()
        try:
            from torchaudio.functional import melscale_fbanks
        except ImportError as error:
            raise MissingDependencyError(
                f"log-mel features need {error.name}: pip install 'edgewake[train]'"
            ) from error
        self.n_mels, self.hop_length = n_mels, hop_length
        window_samples, rate = frontend.window_samples, frontend.sample_rate
        self.n_fft = max(512, 1 << (window_samples - 1).bit_length())
        limits = {"f_min": frontend.lower_hz, "f_max": frontend.upper_hz}
        band = partial(melscale_fbanks, n_mels=n_mels, sample_rate=rate, **limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torchaudio's, of empty bands
            while not (bands := band(self.n_fft // 2 + 1)).sum(dim=0).all() and self.n_fft < MAX_FFT:
                # Low bands are narrower than a bin: zeros around the frame interpolate its spectrum.
                self.n_fft *= 2
        # A longer transform has more bins a band; the scale stays that of 512.
        bands = bands * (512 / self.n_fft)
        window = torch.zeros(self.n_fft)
        start = (self.n_fft - window_samples) // 2
        window[start : start + window_samples] = torch.hann_window(window_samples)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("window", window, persistent=False)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """(batch, samples), full scale 1.0 -> (batch, samples // hop_length + 1, n_mels) float32."""
        check_audio(audio)
        # Half precision has neither the range of a power spectrum nor the resolution of faint bands.
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.stft(
                audio.float(), self.n_fft, self.hop_length, window=self.window, pad_mode="constant", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            return torch.log1p(power.transpose(1, 2) @ self.bands / FLOOR)


def check_audio(audio: Tensor) -> None:
    """Raises EdgewakeError unless `audio` is (batch, samples) of floats, not empty."""
    if audio.dim() != 2 or not audio.is_floating_point() or not audio.numel():
        raise EdgewakeError(
            f"audio of shape {tuple(audio.shape)}, {audio.dtype}: raw audio is (batch, samples) of floats "
            "with full scale 1.0"
        )


def make_featurizer(config: WakewordConfig, device: torch.device | str = "cpu") -> nn.Module:
    """From raw audio (batch, samples) to (batch, frames, mel): the board's frontend for tiny_conv, else `LogMel`."""
    if config.model.architecture == "tiny_conv":
        return BoardFeatures(config.frontend)
    return LogMel(config.data.n_mels, config.data.hop_length, config.frontend).to(device)


def frame_count(config: WakewordConfig) -> int:
    """Frames of a clip of `data.audio_duration` as `make_featurizer` gives them."""
    samples = round(config.data.sample_rate * config.data.audio_duration)
    if config.model.architecture == "tiny_conv":
        return config.frontend.frames(samples)
    return samples // config.data.hop_length + 1
