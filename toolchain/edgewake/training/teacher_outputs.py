"""A teacher's outputs for a run's clips: embeddings are computed once for each block of clips and kept in the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
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
from edgewake.processes import cluster, process_pool
from edgewake.teachers.base import Teacher, TeacherOutputs, device_of, tensors_fingerprint
from edgewake.teachers.embedding import BATCH, embed_clips
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.registry import load_teacher, save_teacher

BLOCK = 256
FRAMES, TEACHER = "frames.npy", "teacher.pt"
Embed = Callable[[npt.NDArray[np.int16]], npt.NDArray[np.float16]]


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
        count = pieces.shape[1]

        def clips_of(index: int) -> npt.NDArray[np.int16]:
            number, part = pieces[:, index]
            return np.asarray(whole.blocks[number][part * BLOCK : (part + 1) * BLOCK])

        found = {index: kept for index in range(count) if (kept := self._kept(clips_of(index))) is not None}
        # In an order of its own, each of several processes makes other blocks.
        order = np.random.default_rng(os.getpid()).permutation(count).tolist()
        lacking = [index for index in order if index not in found]
        progress = bar(f"{self.teacher.architecture} embeds clips", count)
        with self._embedding(len(lacking)) as (embed, run), progress as advance:

            def make(place: int) -> npt.NDArray[Any]:
                frames = self._block(clips_of(lacking[place]), embed, len(lacking) - place)
                advance(1)
                return frames

            advance(len(found))
            found.update(zip(lacking, run(make, range(len(lacking))), strict=True))
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

    @contextmanager
    def _embedding(self, blocks: int) -> Iterator[tuple[Embed, Callable[..., Iterator[Any]]]]:
        """What embeds a batch of clips, and a `map` over blocks: here, where torch uses all cores, or on a cluster.

        A cluster's workers get the teacher as a file, which edgewake's own classes have, in the cache.
        """
        if (
            not cluster()
            or blocks < 2
            or self.cache is None
            or type(self.teacher).__module__ not in _code_of(self.teacher)
        ):
            yield partial(embed_clips, self.teacher, self.reduce), map
            return
        key = {"embeddings": self.fingerprint}
        kept = self.cache.get("teachers", key, lambda folder: save_teacher(self.teacher, folder / TEACHER), code=())
        arguments = kept.folder / TEACHER, deepcopy(self.reduce).cpu(), device_of(self.teacher).type
        with process_pool(0, _embedder, *arguments, code=[__name__, *_code_of(self.reduce)]) as pool:
            yield pool

    def _place(self, clips: npt.NDArray[np.int16]) -> dict[str, Any]:
        """Where a block's embeddings are kept: arguments of `Cache.get` and `Cache.find`."""
        key = {"teacher": self.fingerprint, "clips": hashlib.sha256(clips.tobytes()).hexdigest(), "shape": clips.shape}
        code = [embed_clips.__module__, *_code_of(self.teacher), *_code_of(self.reduce)]
        return {"kind": "embeddings", "parameters": key, "code": code}

    def _kept(self, clips: npt.NDArray[np.int16]) -> npt.NDArray[Any] | None:
        entry = None if self.cache is None else self.cache.find(**self._place(clips))
        return None if entry is None else mapped(entry.folder / FRAMES)

    def _block(self, clips: npt.NDArray[np.int16], embed: Embed, left: int) -> npt.NDArray[Any]:
        """Embeddings of a block; `left`: blocks that are still to come, this one among them."""

        def embedded() -> npt.NDArray[np.float16]:
            return np.concatenate([embed(clips[begin : begin + BATCH]) for begin in range(0, len(clips), BATCH)])

        if self.cache is None:
            return embedded()
        cache = self.cache

        def make(folder: Path) -> None:
            frames, what = embedded(), f"keeping {self.teacher.architecture}'s embeddings"
            cache.check_room(what, left * BLOCK * frames[0].nbytes, "set distillation.store_outputs: false")
            np.save(folder / FRAMES, frames)

        return mapped(cache.get(make=make, **self._place(clips)).folder / FRAMES)


def _code_of(network: nn.Module) -> list[str]:
    """Modules of edgewake with the classes of a network and its parts."""
    return sorted({name for part in network.modules() if (name := type(part).__module__).startswith("edgewake.")})


def _embedder(path: Path, reduce: nn.Module, device: str) -> Embed:
    """What embeds clips in a process of a cluster, by a teacher that `save_teacher` wrote, on a device of that kind."""
    if device == "cuda" and not torch.cuda.is_available():
        raise EdgewakeError("a process of the cluster has no GPU for the teacher, and this machine uses one: add one")
    return partial(embed_clips, load_teacher(path).to(device).freeze(), reduce.to(device))
