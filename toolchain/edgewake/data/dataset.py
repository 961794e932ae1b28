"""Clips of a manifest for torch: raw audio, or the very features that the board's frontend computes of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edgewake.config import AugmentationConfig
from edgewake.config.frontend import FrontendConfig
from edgewake.data.augment import Augmenter, fit
from edgewake.data.manifest import CorpusManifest, Entry, Split
from edgewake.data.reading import SAMPLE_RATE, Samples, to_float, to_int16
from edgewake.data.scanning import ScanReport, read_entries
from edgewake.errors import ConfigError
from edgewake.runtime.frontend import FEATURE_SCALE, features

Item = tuple[Tensor, int] | tuple[Tensor, int, bool]


class WakewordDataset(Dataset[Item]):
    """Clips of `audio_duration` seconds: one a recording, or as many as a long negative has.

    An item is `(raw, label)` with raw float32, (samples,), full scale 1.0, or `(features, label)` with features
    float32, (frames, mel channels), log-mel in the units that models see. After `mark_hard_negatives`, or with
    `with_hard_negatives=True`, items are `(input, label, is_hard_negative)`.

    A positive that is longer than a clip is cut around its active part. The variation of clip i in epoch
    e is a function of (seed, e, i) alone: call `set_epoch` before each epoch; workers need nothing else.

    `report` tells what was read and what was left out, by fault; `entries` is the manifest's entry of each clip;
    `labels` int64 (clips,), `is_hard_negative` bool (clips,).

    Args:
        augment: vary each clip, with the noise and rooms of the same manifest's train split.
        return_raw_audio: what a teacher needs; False for features.
        device: where items' tensors go. In a loader with workers keep "cpu".
        split: None for all entries, as for a manifest that holds one split.
        strict: stop at a recording that cannot be used (AudioError), instead of leaving it out with a count.
    """

    def __init__(
        self,
        manifest_path: Path | str | CorpusManifest,
        sample_rate: int = SAMPLE_RATE,
        audio_duration: float = 1.5,
        augment: bool = False,
        return_raw_audio: bool = False,
        device: str = "cpu",
        *,
        split: Split | None = None,
        frontend: FrontendConfig | None = None,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        strict: bool = False,
        with_hard_negatives: bool = False,
    ) -> None:
        if sample_rate != SAMPLE_RATE:
            raise ConfigError(f"sample_rate = {sample_rate}: must be {SAMPLE_RATE}; files are resampled to it")
        self.frontend = (frontend or FrontendConfig()).freeze()
        self.samples = round(audio_duration * sample_rate)
        if self.samples < self.frontend.window_samples:
            least = self.frontend.window_ms / 1000
            raise ConfigError(f"audio_duration = {audio_duration}: must be at least {least} s, one frame")
        loaded = manifest_path if isinstance(manifest_path, CorpusManifest) else CorpusManifest.load(manifest_path)
        self.return_raw_audio, self.device, self.seed, self.epoch = return_raw_audio, device, seed, 0
        self.report = ScanReport(loaded.phrase)
        self._clips: list[Samples] = []
        self.entries: list[Entry] = []
        entries = [entry for entry in loaded.select(split=split) if entry.label is not None]
        for entry, samples in read_entries(loaded, entries, self.report, strict=strict):
            whole = entry.label == 1 or len(samples) <= self.samples
            # A rest shorter than half a clip would be mostly padding.
            starts = [0] if whole else range(0, len(samples) - self.samples // 2, self.samples)
            self._clips += [samples if whole else samples[start : start + self.samples] for start in starts]
            self.entries += [entry] * len(starts)
        if not self._clips:
            what = f"split {split or 'all'} of the manifest"
            raise ConfigError(f"{what} has no usable recording: {self.report.summary()}")
        self.labels: npt.NDArray[np.int64] = np.array([entry.label for entry in self.entries], np.int64)
        self.is_hard_negative = np.zeros(len(self._clips), np.bool_)
        self.with_hard_negatives = with_hard_negatives
        self._augmenter = Augmenter.from_manifest(augmentation or AugmentationConfig(), loaded) if augment else None

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        index %= len(self)
        samples = self.clip(index)
        value = to_float(samples)
        if not self.return_raw_audio:
            value = features(samples, self.frontend).astype(np.float32) * np.float32(FEATURE_SCALE)
        tensor = torch.from_numpy(value).to(self.device)
        label = int(self.labels[index])
        return (tensor, label, bool(self.is_hard_negative[index])) if self.with_hard_negatives else (tensor, label)

    def clip(self, index: int) -> Samples:
        """The audio of item `index` in the present epoch: int16, (samples,)."""
        if self._augmenter is not None:
            rng = np.random.default_rng([self.seed, self.epoch, index])
            return self._augmenter(self._clips[index], rng, length=self.samples)
        # Unvaried clips lie in the same place in every epoch.
        rng = np.random.default_rng([self.seed, index])
        return to_int16(fit(to_float(self._clips[index]), self.samples, rng))

    def set_epoch(self, epoch: int) -> None:
        """Draw the variation of `epoch` from now on."""
        self.epoch = epoch

    def mark_hard_negatives(self, indices: Iterable[int]) -> None:
        """From now on items have a third part, True for these and no others; none of them may hold the phrase."""
        marked = np.zeros(len(self), np.bool_)
        marked[list(indices)] = True
        wrong = np.flatnonzero(marked & (self.labels == 1))
        if len(wrong):
            raise ConfigError(f"clip {wrong[0]} ({self.entries[wrong[0]].path}) holds the phrase: not a negative")
        self.is_hard_negative, self.with_hard_negatives = marked, True
