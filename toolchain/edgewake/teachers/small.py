"""Small pretrained networks as teachers, in their own runtimes; a clip's embeddings do not depend on its batch."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgewake.assets.catalogue import find_asset
from edgewake.assets.store import asset_path
from edgewake.errors import MissingDependencyError
from edgewake.teachers.base import SAMPLE_RATE, Teacher, check_length, digest

LEAST_SAMPLES, MOST_SAMPLES = 400, 60 * SAMPLE_RATE


# Networks are loaded once in each process and are no part of a teacher, which is pickled and copied.
@lru_cache(maxsize=4)
def _network(path: Path) -> Any:
    """LiteRT's interpreter of a .tflite, or ONNX Runtime's session of a .onnx."""
    try:
        if path.suffix == ".tflite":
            from ai_edge_litert.interpreter import Interpreter

            return Interpreter(str(path), num_threads=1)
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"this teacher needs {error.name}: pip install 'edgewake[teachers]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_lite(path: Path, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of a .tflite with one input, whose first dimension is free, and one output."""
    network = _network(path)
    source = network.get_input_details()[0]
    if tuple(source["shape"]) != value.shape:
        network.resize_tensor_input(source["index"], value.shape)
    network.allocate_tensors()
    network.set_tensor(source["index"], value)
    network.invoke()
    return np.asarray(network.get_tensor(network.get_output_details()[0]["index"]))


class _OutsideTeacher(Teacher):
    """A teacher whose network is an asset, run on the CPU without gradients; only its head is torch's."""

    FILES: tuple[str, ...]

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes, self.source = num_classes, f"asset {self.architecture}"
        self.files = [asset_path(self.architecture) / name for name in self.FILES]
        # Nearly all of a file is float32 weights.
        self.outside_parameters = sum(path.stat().st_size // 4 for path in self.files)
        self.new_head()

    @abstractmethod
    def compute(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """(batch, samples) -> (batch, frames, embedding_size)."""

    def embed(self, audio: Tensor) -> Tensor:
        """(batch, samples), 0.025 to 60 s -> (batch, frames, embedding_size), on the audio's device."""
        check_length(audio, LEAST_SAMPLES, MOST_SAMPLES, self.architecture)
        samples = np.ascontiguousarray(audio.detach().cpu().numpy(), np.float32)
        return torch.from_numpy(self.compute(samples)).to(audio.device)

    def weights_fingerprint(self) -> str:
        """16 hex digits of the asset's files."""
        return digest(*(file.sha256 for file in find_asset(self.architecture).files))


class SpeechEmbeddingTeacher(_OutsideTeacher):
    """Google's speech embedding (arXiv:2002.01322), as openWakeWord uses it: 12.5 embeddings a second.

    Each embedding covers 76 mel frames (0.782 s), and the next starts 8 frames (80 ms) later, so that up to 80 ms
    at a clip's end are not used. A clip shorter than one embedding is padded with silence before it.
    """

    architecture = "speech_embedding"
    embedding_size = 96
    FILES = ("melspectrogram.tflite", "embedding_model.tflite")
    WINDOW, STEP, MELS, HOP, MEL_WINDOW = 76, 8, 32, 160, 512
    frame_rate = SAMPLE_RATE / (STEP * HOP)
    # Windows at a time; more are slower, since they do not fit the processor's caches.
    BLOCK = 16

    def compute(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        short = self.MEL_WINDOW + (self.WINDOW - 1) * self.HOP - audio.shape[1]
        # Samples have int16's scale. The network limits decibels to 80 below the loudest point of its whole input, so
        # clips go through it one by one.
        padded = np.pad(audio, ((0, 0), (max(0, short), 0))) * np.float32(32768)
        mel = np.stack([run_lite(self.files[0], clip[None])[0, 0] for clip in padded]) / np.float32(10) + np.float32(2)
        windows = np.lib.stride_tricks.sliding_window_view(mel, self.WINDOW, axis=1)[:, :: self.STEP]
        clips, frames = windows.shape[:2]
        values = windows.reshape(clips * frames, self.MELS, self.WINDOW).transpose(0, 2, 1)[..., None]
        blocks = [
            run_lite(self.files[1], np.ascontiguousarray(values[start : start + self.BLOCK]))
            for start in range(0, len(values), self.BLOCK)
        ]
        return np.concatenate(blocks).reshape(clips, frames, self.embedding_size)


class WordEmbeddingTeacher(_OutsideTeacher):
    """EfficientWord-Net's ResNet-50 (arXiv:2111.00379), on windows of 1.5 s, 3.3 times a second.

    Windows are spread evenly, 0.3 s apart or less, from the clip's start to its end. A clip shorter than one
    window is padded with silence before it. The network scales each window's features itself, so that level has no
    effect. Embeddings have length 1; those of digital silence, where the scale is undefined, are zeros.
    """

    architecture = "word_embedding"
    embedding_size = 2048
    FILES = ("model.onnx",)
    WINDOW, HOP = 24_000, 4_800
    FRAME, FRAME_HOP, POINTS, MELS = 400, 160, 512, 64
    frame_rate = SAMPLE_RATE / HOP

    def filterbank(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(windows, 24000) -> (windows, 149, 64): log of the energy in triangles on the mel scale.

        Frames of 25 ms without a window function or pre-emphasis, an FFT of 512; energy that is exactly zero
        counts as 2.2e-16, float64's epsilon. As in python_speech_features' logfbank.
        """
        audio = torch.from_numpy(windows).double()
        audio = F.pad(audio, (0, -(windows.shape[1] - self.FRAME) % self.FRAME_HOP))
        frames = audio.unfold(1, self.FRAME, self.FRAME_HOP)
        power = torch.fft.rfft(frames, self.POINTS).abs().square() / self.POINTS
        energy = power @ torch.from_numpy(bin_filters(self.MELS, self.POINTS)).T
        energy = torch.where(energy == 0, torch.finfo(torch.float64).eps, energy)
        return np.asarray(energy.log().float())

    def compute(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        audio = np.pad(audio, ((0, 0), (max(0, self.WINDOW - audio.shape[1]), 0)))
        spare = audio.shape[1] - self.WINDOW
        starts = np.linspace(0, spare, 1 + -(-spare // self.HOP)).astype(int)
        session = _network(self.files[0])
        source = session.get_inputs()[0].name
        result = np.empty((len(audio), len(starts), self.embedding_size), np.float32)
        for clip, samples in enumerate(audio):
            windows = np.stack([samples[start : start + self.WINDOW] for start in starts])
            # The network's first dimension is fixed to one, and it divides by the range of its features.
            for place, features in enumerate(self.filterbank(windows)):
                silent = features.min() == features.max()
                result[clip, place] = 0 if silent else session.run(None, {source: features[None, None]})[0][0]
        return result


@lru_cache(maxsize=2)
def bin_filters(mels: int, points: int) -> NDArray[np.float64]:
    """(mels, points / 2 + 1) triangles with corners at whole FFT bins, even on the scale 2595 log10(1 + f / 700)."""
    steps = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), mels + 2)
    corners = np.floor((points + 1) * 700 * (10 ** (steps / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(points // 2 + 1)
    left, middle, right = (corners[start : start + mels, None] for start in range(3))
    rising, falling = (bins - left) / np.maximum(middle - left, 1), (right - bins) / np.maximum(right - middle, 1)
    return np.where((bins >= left) & (bins < middle), rising, np.where((bins >= middle) & (bins < right), falling, 0.0))
