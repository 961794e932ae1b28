"""Clips of a packed corpus in one pass over its shards, dealt to any number of processes and workers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from edgewake.config import AugmentationConfig
from edgewake.console import error_console
from edgewake.data.augment import Augmenter, fit
from edgewake.data.manifest import CorpusManifest, Entry, Split
from edgewake.data.reading import AUDIO_FAULTS, SAMPLE_RATE, Samples, read_audio, to_float, to_int16
from edgewake.data.shards import shards_of, stream_samples
from edgewake.errors import ConfigError


class ShardStream(IterableDataset[tuple[Tensor, int]]):
    """Raw audio of a packed manifest's split: items (samples float32, full scale 1.0, (samples,)), label.

    As `WakewordDataset` with `return_raw_audio`, for corpora that no memory holds: a recording of the phrase
    is one clip, a longer one without it is cut into clips, and the variation of a clip in epoch e is a
    function of (seed, e, recording, clip). Order is a function of (seed, e, processes, workers): with another
    number of them batches are others. Call `set_epoch` before each epoch; trainers do.

    Args:
        manifest_path: of a corpus that `edgewake corpus pack` wrote.
        audio_duration: of a clip, s.
        augment: vary each clip, with the noise and rooms of the same manifest's train split.
        split: which recordings.
        augmentation: ranges and probabilities.
        seed: of order and variation.
        buffer: recordings among which the next one is drawn.
        strict: stop at a recording that cannot be used, instead of naming it and leaving it out.
        max_seconds: longer recordings cannot.

    Raises:
        ConfigError: the manifest is not of shards, or there are fewer shards than processes.
    """

    def __init__(
        self,
        manifest_path: Path | str | CorpusManifest,
        audio_duration: float = 1.5,
        augment: bool = False,
        *,
        split: Split = "train",
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        buffer: int = 1000,
        strict: bool = False,
        max_seconds: float | None = 3600.0,
    ) -> None:
        super().__init__()
        loaded = manifest_path if isinstance(manifest_path, CorpusManifest) else CorpusManifest.load(manifest_path)
        self.samples = round(audio_duration * SAMPLE_RATE)
        if self.samples < 1:
            raise ConfigError(f"audio_duration = {audio_duration}: must be above 0")
        self.shards = shards_of(loaded, split)
        if not self.shards:
            raise ConfigError(f"split {split} of the manifest has no recording")
        self.seed, self.buffer, self.epoch = seed, buffer, 0
        self.strict, self.max_seconds = strict, max_seconds
        self._augmenter = Augmenter.from_manifest(augmentation or AugmentationConfig(), loaded) if augment else None

    def set_epoch(self, epoch: int) -> None:
        """Draw order and variation of `epoch` from now on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        found = stream_samples(self.shards, seed=self.seed, epoch=self.epoch, buffer=self.buffer)
        for key, suffix, data, described in found:
            entry = Entry.model_validate(described)
            if entry.label is None:
                continue
            try:
                recording = read_audio(f"{key}.{suffix}", data=io.BytesIO(data), max_seconds=self.max_seconds)
            except AUDIO_FAULTS as error:
                if self.strict:
                    raise
                error_console.print(f"left out: {error}", markup=False)
                continue
            for number, clip in enumerate(self._clips(recording, entry.label)):
                yield torch.from_numpy(to_float(self._varied(clip, int(key), number))), entry.label

    def _clips(self, recording: Samples, label: int) -> list[Samples]:
        if label == 1 or len(recording) <= self.samples:
            return [recording]
        # A rest shorter than half a clip would be mostly padding.
        starts = range(0, len(recording) - self.samples // 2, self.samples)
        return [recording[start : start + self.samples] for start in starts]

    def _varied(self, clip: Samples, recording: int, number: int) -> Samples:
        if self._augmenter is None:
            rng = np.random.default_rng([self.seed, recording, number])
            return to_int16(fit(to_float(clip), self.samples, rng))
        rng = np.random.default_rng([self.seed, self.epoch, recording, number])
        return self._augmenter(clip, rng, length=self.samples)
