"""A teacher's outputs for a run's clips: embeddings are computed once for each block of clips and kept in the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgewake.cache import Cache
from edgewake.config import WakewordConfig
from edgewake.console import bar
from edgewake.data.clips import ClipArray, Clips
from edgewake.data.reading import to_float
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.base import Teacher, TeacherOutputs, device_of, members_of
from edgewake.teachers.ensemble import EnsembleTeacher

BLOCK = 256
BATCH = 32
FRAMES = "frames.npy"


class LiveOutputs:
    """Outputs for numbered clips from a teacher that is run each time they are asked for."""

    def __init__(self, teacher: Teacher, audio: Clips) -> None:
        self.teacher, self.audio = teacher, audio
        self.frame_rate = teacher.frame_rate

    @torch.no_grad()
    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips by number, (batch,), on the device of the teacher."""
        audio = torch.from_numpy(to_float(self.audio[clips.cpu().numpy()])).to(device_of(self.teacher))
        return self.teacher.outputs(audio)


class StoredOutputs:
    """Outputs for numbered clips that were computed before.

    Attributes:
        logits: float32, (clips, classes).
        frame_logits: float32, (clips, frames, classes), or None.
        frames: embeddings, or None where they were not asked for.
        frame_rate: frames a second.
    """

    def __init__(self, logits: Tensor, frame_logits: Tensor | None, frames: Clips | None, frame_rate: float) -> None:
        self.logits, self.frame_logits, self.frames = logits, frame_logits, frames
        self.frame_rate = frame_rate

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips by number, (batch,), on the CPU, float32."""
        chosen = clips.cpu().long()
        frames = None
        if self.frames is not None:
            frames = torch.from_numpy(self.frames[chosen.numpy()].astype(np.float32))
        along = None if self.frame_logits is None else self.frame_logits[chosen]
        return TeacherOutputs(self.logits[chosen], frames, along)


class CombinedOutputs:
    """An ensemble's outputs, combined from those of its members."""

    def __init__(self, ensemble: EnsembleTeacher, members: Sequence[StoredOutputs]) -> None:
        self.ensemble, self.members = ensemble, members
        self.frame_rate = ensemble.frame_rate

    @property
    def logits(self) -> Tensor:
        """float32, (clips, classes)."""
        return self.of(torch.arange(len(self.members[0].logits))).logits

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips by number, (batch,), on the CPU, float32."""
        return self.ensemble.combine([member.of(clips) for member in self.members])


class TeacherCache:
    """Runs one teacher on clips, and keeps its embeddings in the cache that all runs share.

    An entry holds the embeddings of 256 consecutive clips, found by the clips' samples and the teacher's
    fingerprint: an interrupted computation goes on with the next block, and processes share the work. They are
    float16: logits differ by that rounding from those of a teacher that is run on the audio. Logits are computed
    from them by the teacher's head, which takes little time.

    Args:
        teacher: does not change meanwhile.
        cache: None to keep nothing.
    """

    def __init__(self, teacher: Teacher, cache: Cache | None) -> None:
        self.teacher, self.cache = teacher, cache
        self.fingerprint = teacher.fingerprint() if cache is not None else ""

    def embeddings(self, audio: Clips) -> Clips:
        """Embeddings of clips, int16 (clips, samples): float16, (clips, frames, size).

        Raises:
            ConfigError: the teacher is an ensemble, whose members have their own.
            EdgewakeError: they take more room than there is, or are not finite.
        """
        name = self.teacher.architecture
        if members_of(self.teacher):
            raise ConfigError(f"{name} has no embeddings of its own: ask for those of its members")
        if audio.dtype != np.int16 or audio.ndim != 2:
            raise EdgewakeError(
                f"a teacher's clips are {audio.dtype} {audio.shape}: give int16 samples, (clips, samples)"
            )
        if not len(audio):
            raise EdgewakeError("no clip to embed: the loader or split is empty")
        # A choice of clips shares the blocks of the store that it is from.
        whole, rows = audio.origin() if isinstance(audio, ClipArray) else (audio, np.arange(len(audio)))
        numbers = np.unique(rows // BLOCK)
        # In an order of its own, each of several processes makes other blocks.
        order = np.random.default_rng(os.getpid()).permutation(numbers)
        found: dict[int, npt.NDArray[Any]] = {}
        with bar(f"{name} embeds clips", len(whole)) as advance:
            for number in order.tolist():
                clips = np.asarray(whole[number * BLOCK : (number + 1) * BLOCK])
                found[number] = self._block(clips, len(numbers) - len(found))
                advance(len(clips))
        place = {number: index for index, number in enumerate(found)}
        return ClipArray(list(found.values()), np.array([place[n] for n in (rows // BLOCK).tolist()]), rows % BLOCK)

    def outputs(self, audio: Clips, *, frames: bool = False) -> StoredOutputs | CombinedOutputs:
        """Outputs for clips, int16 (clips, samples), by their number; `frames`: with embeddings."""
        teacher = self.teacher
        if isinstance(teacher, EnsembleTeacher):
            caches = [TeacherCache(member, self.cache) for member in teacher.members]
            return CombinedOutputs(teacher, [cache._stored(audio, frames=frames) for cache in caches])
        return self._stored(audio, frames=frames)

    @torch.no_grad()
    def _stored(self, audio: Clips, *, frames: bool) -> StoredOutputs:
        embeddings, device = self.embeddings(audio), device_of(self.teacher)
        logits, frame_logits = [], []
        for begin in range(0, len(embeddings), BLOCK):
            block = torch.from_numpy(embeddings[begin : begin + BLOCK].astype(np.float32)).to(device)
            found, along = self.teacher.head(block)
            logits.append(found.float().cpu())
            if along is not None:
                frame_logits.append(along.float().cpu())
        return StoredOutputs(
            torch.cat(logits),
            torch.cat(frame_logits) if frame_logits else None,
            embeddings if frames else None,
            self.teacher.frame_rate,
        )

    def _block(self, clips: npt.NDArray[np.int16], left: int) -> npt.NDArray[Any]:
        """Embeddings of a block; `left`: blocks that are still to come, this one among them."""
        if self.cache is None:
            return self._embed(clips)
        cache, module = self.cache, type(self.teacher).__module__

        def make(folder: Path) -> None:
            frames = self._embed(clips)
            remedy = "set distillation.store_outputs: false"
            cache.check_room(
                f"keeping {self.teacher.architecture}'s embeddings", left * BLOCK * frames[0].nbytes, remedy
            )
            np.save(folder / FRAMES, frames)

        entry = self.cache.get(
            "embeddings",
            {
                "teacher": self.fingerprint,
                "clips": hashlib.sha256(clips.tobytes()).hexdigest(),
                "shape": clips.shape,
            },
            make,
            code=[__name__, *([module] if module.startswith("edgewake.") else ())],
        )
        frames: npt.NDArray[Any] = np.load(entry.folder / FRAMES, mmap_mode="r")
        return frames

    @torch.no_grad()
    def _embed(self, clips: npt.NDArray[np.int16]) -> npt.NDArray[np.float16]:
        teacher, found = self.teacher, []
        was_training = teacher.training
        teacher.eval()
        for begin in range(0, len(clips), BATCH):
            audio = torch.from_numpy(to_float(clips[begin : begin + BATCH])).to(device_of(teacher))
            found.append(teacher.embed(audio).to(torch.float16).cpu().numpy())
        teacher.train(was_training)
        frames = np.concatenate(found)
        if not np.isfinite(frames).all():
            raise EdgewakeError(
                f"teacher {teacher.architecture} ({teacher.source}) gives embeddings that are not finite in float16; "
                "check its weights"
            )
        return frames


def cache_of(config: WakewordConfig) -> Cache:
    """The cache that a configuration names."""
    return Cache(config.cache.folder, config.cache.limit_gb)
