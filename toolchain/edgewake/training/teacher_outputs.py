"""A teacher's outputs for a run's clips: embeddings are computed once for each block of clips and kept in the cache."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgewake.cache import Cache
from edgewake.console import bar
from edgewake.data.clips import ClipArray, Clips, mapped
from edgewake.data.reading import to_float
from edgewake.errors import EdgewakeError
from edgewake.teachers.base import Teacher, TeacherOutputs, device_of, tensors_fingerprint
from edgewake.teachers.ensemble import EnsembleTeacher

BLOCK = 256
BATCH = 32
FRAMES = "frames.npy"


class LiveOutputs:
    """Outputs for clips by number, (batch,), from a teacher that is run each time, on its device."""

    def __init__(self, teacher: Teacher, audio: Clips) -> None:
        self.teacher, self.audio, self.frame_rate = teacher, audio, teacher.frame_rate

    @torch.no_grad()
    def of(self, clips: Tensor) -> TeacherOutputs:
        audio = torch.from_numpy(to_float(self.audio[clips.cpu().numpy()])).to(device_of(self.teacher))
        return self.teacher.outputs(audio)


@dataclass
class StoredOutputs:
    """Outputs for clips by number, (batch,), that were computed before; float32, on the CPU.

    `logits` are (clips, classes), `frame_logits` (clips, frames, classes) or None, `frames` embeddings or None.
    """

    logits: Tensor
    frame_logits: Tensor | None
    frames: Clips | None
    frame_rate: float

    def of(self, clips: Tensor) -> TeacherOutputs:
        chosen = clips.cpu().long()
        frames = None if self.frames is None else torch.from_numpy(self.frames[chosen.numpy()].astype(np.float32))
        along = None if self.frame_logits is None else self.frame_logits[chosen]
        return TeacherOutputs(self.logits[chosen], frames, along)


class TeacherCache:
    """Runs one teacher, which does not change meanwhile, on clips, and keeps its embeddings in a cache, if not None.

    Of embeddings, (clips, frames, size), only what `reduce` makes of them is kept, if it is not None; it is called on
    the teacher's device, and does not change either.

    An entry holds the embeddings of 256 consecutive clips, found by the clips' samples and the teacher's
    fingerprint: an interrupted computation goes on with the next block, and processes share the work. They are
    float16: logits differ by that rounding from those of a teacher that is run on the audio. Logits are computed
    from them by the teacher's head, which takes little time.
    """

    def __init__(self, teacher: Teacher, cache: Cache | None, reduce: nn.Module | None = None) -> None:
        self.teacher, self.cache, self.reduce = teacher, cache, reduce or nn.Identity()
        weights = tensors_fingerprint(self.reduce.state_dict())
        self.fingerprint = teacher.fingerprint() + weights if cache is not None else ""

    def embeddings(self, audio: Clips) -> Clips:
        """Embeddings, or what is kept of them, of clips, int16 (clips, samples): float16, (clips, frames, size).

        An error where the teacher is an ensemble, or embeddings take more room than there is, or are not finite.
        """
        # A choice of clips shares the blocks of the arrays that it is from.
        whole = audio if isinstance(audio, ClipArray) else ClipArray.whole([audio])
        pieces, place = np.unique(np.stack([whole.block, whole.row // BLOCK]), axis=1, return_inverse=True)
        found: dict[int, npt.NDArray[Any]] = {}
        with bar(f"{self.teacher.architecture} embeds clips", pieces.shape[1]) as advance:
            # In an order of its own, each of several processes makes other blocks.
            for index in np.random.default_rng(os.getpid()).permutation(pieces.shape[1]).tolist():
                number, part = pieces[:, index]
                clips = np.asarray(whole.blocks[number][part * BLOCK : (part + 1) * BLOCK])
                found[index] = self._block(clips, pieces.shape[1] - len(found))
                advance(1)
        return ClipArray([found[index] for index in range(len(found))], place.reshape(-1), whole.row % BLOCK)

    @torch.no_grad()
    def outputs(self, audio: Clips, *, frames: bool = False) -> StoredOutputs:
        """Outputs for clips, int16 (clips, samples), by their number; `frames`: with embeddings."""
        teacher = self.teacher
        if isinstance(teacher, EnsembleTeacher):
            each = [TeacherCache(member, self.cache).outputs(audio) for member in teacher.members]
            together = teacher.combine([TeacherOutputs(one.logits, None, one.frame_logits) for one in each])
            return StoredOutputs(together.logits, together.frame_logits, None, teacher.frame_rate)
        embeddings = self.embeddings(audio)
        logits, along = [], []
        for begin in range(0, len(embeddings), BLOCK):
            block = torch.from_numpy(embeddings[begin : begin + BLOCK].astype(np.float32)).to(device_of(teacher))
            of_clips, of_frames = teacher.head(block)
            logits.append(of_clips.float().cpu())
            if of_frames is not None:
                along.append(of_frames.float().cpu())
        frame_logits = torch.cat(along) if along else None
        return StoredOutputs(torch.cat(logits), frame_logits, embeddings if frames else None, teacher.frame_rate)

    def _block(self, clips: npt.NDArray[np.int16], left: int) -> npt.NDArray[Any]:
        """Embeddings of a block; `left`: blocks that are still to come, this one among them."""
        if self.cache is None:
            return self._embed(clips)
        cache, module = self.cache, type(self.teacher).__module__

        def make(folder: Path) -> None:
            frames, what = self._embed(clips), f"keeping {self.teacher.architecture}'s embeddings"
            cache.check_room(what, left * BLOCK * frames[0].nbytes, "set distillation.store_outputs: false")
            np.save(folder / FRAMES, frames)

        key = {"teacher": self.fingerprint, "clips": hashlib.sha256(clips.tobytes()).hexdigest(), "shape": clips.shape}
        code = [__name__, *([module] if module.startswith("edgewake.") else ())]
        entry = self.cache.get("embeddings", key, make, code=code)
        return mapped(entry.folder / FRAMES)

    @torch.no_grad()
    def _embed(self, clips: npt.NDArray[np.int16]) -> npt.NDArray[np.float16]:
        teacher, found = self.teacher, []
        teacher.eval()
        for begin in range(0, len(clips), BATCH):
            audio = torch.from_numpy(to_float(clips[begin : begin + BATCH])).to(device_of(teacher))
            found.append(self.reduce(teacher.embed(audio)).to(torch.float16).cpu().numpy())
        frames = np.concatenate(found)
        if not np.isfinite(frames).all():
            raise EdgewakeError(
                f"teacher {teacher.architecture} ({teacher.source}) gives embeddings that are not finite in float16; "
                "check its weights"
            )
        return frames
