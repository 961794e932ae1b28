"""A teacher hears a clip once: embeddings are kept by the clip's samples and the teacher's fingerprint."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgewake.console import bar, error_console
from edgewake.data.clip_array import ClipArray, Clips, Rows
from edgewake.data.reading import to_float, to_int16
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.base import Teacher, TeacherOutputs, device_of, members_of
from edgewake.training.blocks import BlockStore

LIMIT_KEY = "cache.limit_gb"
DIGEST_BYTES = 16
HEAD_BATCH = 256
# A computation that takes less than this is not worth a line.
QUIET_SECONDS = 5.0

Frames = npt.NDArray[np.float16]


class StoredOutputs:
    """A teacher's signals of numbered clips: what `of` gives is what the teacher said of them once.

    Attributes:
        logits: float32, (clips, classes).
        frame_logits: float32, (clips, frames, classes), or None.
        frames: embeddings, or None where they were not asked for.
        frame_rate: frames a second.
    """

    def __init__(
        self, logits: Tensor, frame_logits: Tensor | None, frames: ClipArray | None, frame_rate: float
    ) -> None:
        self.logits, self.frame_logits, self.frames = logits, frame_logits, frames
        self.frame_rate = frame_rate

    def __len__(self) -> int:
        return len(self.logits)

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips by number, (batch,), on the CPU, float32."""
        chosen = clips.cpu().long()
        frames = None
        if self.frames is not None:
            frames = torch.from_numpy(self.frames[chosen.numpy()].astype(np.float32))
        return TeacherOutputs(
            self.logits[chosen], frames, None if self.frame_logits is None else self.frame_logits[chosen]
        )


class CombinedOutputs:
    """An ensemble's signals, combined from its members' whenever they are asked for."""

    def __init__(
        self, members: Sequence[StoredOutputs], combine: Callable[[list[TeacherOutputs]], TeacherOutputs]
    ) -> None:
        self.members, self.combine = members, combine
        self.frame_rate = max(member.frame_rate for member in members)

    def __len__(self) -> int:
        return len(self.members[0])

    @property
    def logits(self) -> Tensor:
        """float32, (clips, classes)."""
        return self.of(torch.arange(len(self))).logits

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips by number, (batch,), on the CPU, float32."""
        return self.combine([member.of(clips) for member in self.members])


class TeacherCache:
    """What teachers said of clips, in one folder that any number of runs share, also at the same time.

    Embeddings lie in blocks of `block` clips under the teacher's fingerprint, found by a hash of each
    clip's samples, so that any choice and order of known clips is found again, and an interrupted
    computation goes on with the next block. Logits are computed from them by the teacher's head, and kept
    too. Embeddings are float16: logits differ from those of a teacher that listens anew by that rounding.

    Args:
        folder: of the outputs.
        limit_gb: `cache.limit_gb`; the least recently used blocks go, never those that a call needs.
        block: clips a file.
        batch: clips that a teacher hears at once.
    """

    def __init__(self, folder: Path | str, limit_gb: float = 20.0, *, block: int = 256, batch: int = 32) -> None:
        self.store = BlockStore(Path(folder), int(limit_gb * 1e9), LIMIT_KEY)
        self.block, self.batch = block, batch
        self._rows: dict[str, dict[bytes, tuple[str, int]]] = {}
        self._indexed: set[str] = set()
        self._fingerprints: WeakKeyDictionary[Teacher, tuple[Any, str]] = WeakKeyDictionary()

    def embeddings(self, teacher: Teacher, audio: Clips) -> ClipArray:
        """Embeddings of clips, int16 (clips, samples): float16, (clips, frames, size).

        Raises:
            ConfigError: the teacher is an ensemble, whose members have their own.
            EdgewakeError: they take more room than the limit, or are not finite.
        """
        if members_of(teacher):
            raise ConfigError(f"{teacher.architecture} has no embeddings of its own: ask for those of its members")
        return self._embeddings(teacher, audio, clip_digests(audio))

    def outputs(self, teacher: Teacher, audio: Clips, *, frames: bool = False) -> StoredOutputs | CombinedOutputs:
        """Outputs for clips, int16 (clips, samples), by their number; `frames`: with embeddings.

        Raises:
            EdgewakeError: as in `embeddings`.
        """
        members = members_of(teacher)
        if members:
            combine: Callable[[list[TeacherOutputs]], TeacherOutputs] = teacher.combine  # type: ignore[assignment]
            digests = clip_digests(audio)
            return CombinedOutputs(
                [self._signals(member, audio, digests, frames=frames) for member in members], combine
            )
        return self._signals(teacher, audio, clip_digests(audio), frames=frames)

    def lookup(self, teacher: Teacher, audio: Tensor) -> TeacherOutputs:
        """Outputs for a live batch, float (batch, samples), full scale 1.0, heard as 16-bit samples.

        They are on the device of the head; what is not known yet is computed and kept.
        """
        members = members_of(teacher)
        if members:
            combine: Callable[[list[TeacherOutputs]], TeacherOutputs] = teacher.combine  # type: ignore[assignment]
            return combine([self.lookup(member, audio) for member in members])
        samples = to_int16(audio.detach().cpu().numpy())
        known = self._embeddings(teacher, samples, clip_digests(samples), quiet=True)
        frames = torch.from_numpy(known[:].astype(np.float32)).to(device_of(teacher))
        with torch.no_grad():
            logits, frame_logits = teacher.head(frames)
        return TeacherOutputs(logits, frames, frame_logits)

    # ---- logits ----------------------------------------------------------------------------------

    def _signals(self, teacher: Teacher, audio: Clips, digests: list[bytes], *, frames: bool) -> StoredOutputs:
        fingerprint = self._fingerprint(teacher)
        name = f"signals/{_hash(fingerprint, teacher.head_fingerprint(), *digests)}"
        kept = self.store.read(name)
        embeddings = self._embeddings(teacher, audio, digests) if frames or kept is None else None
        if kept is None:
            assert embeddings is not None
            kept = head_signals(teacher, embeddings)
            self.store.write(name, kept)
        along = kept.get("frame_logits")
        return StoredOutputs(
            torch.from_numpy(np.array(kept["logits"])),
            None if along is None else torch.from_numpy(np.array(along)),
            embeddings if frames else None,
            teacher.frame_rate,
        )

    # ---- embeddings ------------------------------------------------------------------------------

    def _embeddings(self, teacher: Teacher, audio: Clips, digests: list[bytes], *, quiet: bool = False) -> ClipArray:
        group = self._fingerprint(teacher)
        first_at: dict[bytes, int] = {}
        for number, digest in enumerate(digests):
            first_at.setdefault(digest, number)
        if not first_at:
            raise EdgewakeError("no clip to embed: the loader or split is empty")
        opened = self._known(group, list(first_at))
        unique = list(first_at)
        parts = [unique[begin : begin + self.block] for begin in range(0, len(unique), self.block)]
        jobs = [missing for part in parts if (missing := [digest for digest in part if digest not in opened])]
        if jobs:
            self._check_room(teacher, audio[:1], sum(map(len, jobs)), {name for name, _ in opened.values()})
            self._compute(teacher, audio, group, first_at, jobs, opened, quiet)
        names = sorted({name for name, _ in opened.values()})
        arrays = []
        for name in names:
            block = self.store.read(name)
            if block is None:
                raise EdgewakeError(
                    f"{self.store.path(name)} was taken away by another run as soon as it was made: "
                    f"raise {LIMIT_KEY} and start again"
                )
            arrays.append(block["frames"])
        number_of = {name: number for number, name in enumerate(names)}
        places = [opened[digest] for digest in digests]
        return ClipArray(
            arrays,
            np.array([number_of[name] for name, _ in places], np.int64),
            np.array([row for _, row in places], np.int64),
        )

    def _known(self, group: str, wanted: list[bytes]) -> dict[bytes, tuple[str, int]]:
        """Block and row of the clips whose blocks are there and sound; those blocks are open then."""
        rows = self._rows.setdefault(group, {})
        if any(digest not in rows for digest in wanted):
            for name in self.store.names(group):
                if name not in self._indexed and (clips := self.store.peek(name, "clips")) is not None:
                    self._indexed.add(name)
                    for row, clip in enumerate(clips):
                        rows.setdefault(clip.tobytes(), (name, row))
        sound: dict[str, bool] = {}
        known = {}
        for digest in wanted:
            place = rows.get(digest)
            if place is None:
                continue
            name = place[0]
            if name not in sound:
                sound[name] = self.store.read(name) is not None
            if sound[name]:
                known[digest] = place
            else:
                self._indexed.discard(name)
                del rows[digest]
        return known

    def _check_room(self, teacher: Teacher, clip: Clips, missing: int, in_use: set[str]) -> None:
        """Refuse before hours of work what cannot be kept."""
        each = self._embed(teacher, clip)[0].nbytes + DIGEST_BYTES
        needed = each * missing + sum(self.store.size(name) for name in in_use)
        if needed > self.store.limit_bytes:
            raise self.store.too_small(needed)

    def _compute(
        self,
        teacher: Teacher,
        audio: Clips,
        group: str,
        first_at: dict[bytes, int],
        jobs: list[list[bytes]],
        opened: dict[bytes, tuple[str, int]],
        quiet: bool,
    ) -> None:
        """Make the blocks of `jobs`; one that another process is making is left to it and waited for."""
        total = sum(map(len, jobs))
        what = f"{teacher.architecture} hears clips"
        began, done = time.monotonic(), 0
        if not quiet:
            error_console.print(f"{total} of {len(first_at)} clips are new to {teacher.architecture}")
        with bar(what, total) as show:

            def advance(clips: int) -> None:
                nonlocal done
                done += clips
                show(clips, f"{what}, {done / max(1e-9, time.monotonic() - began):.1f} clips/s")

            waiting = jobs
            for wait in (False, True):
                later = []
                for digests in waiting:
                    name = f"{group}/{_hash(group, *digests)}"
                    with self.store.lock(name, wait=wait) as mine:
                        if not mine:
                            later.append(digests)
                            continue
                        if self.store.read(name) is None:
                            clips = audio[[first_at[digest] for digest in digests]]
                            frames = self._embed(teacher, clips, advance)
                            marks = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
                            in_use = {block for block, _ in opened.values()}
                            self.store.write(name, {"clips": marks, "frames": frames}, in_use)
                            self.store.read(name)
                        else:
                            advance(len(digests))
                    for row, digest in enumerate(digests):
                        opened[digest] = self._rows[group][digest] = (name, row)
                    self._indexed.add(name)
                waiting = later
        seconds = time.monotonic() - began
        if not quiet and seconds > QUIET_SECONDS:
            error_console.print(
                f"{teacher.architecture}: embedded {total} clips in {seconds:.0f} s, "
                f"{total / seconds:.1f} clips/s; kept in {self.store.folder}",
                soft_wrap=True,
            )

    @torch.no_grad()
    def _embed(self, teacher: Teacher, clips: Clips, advance: Callable[[int], None] = lambda clips: None) -> Frames:
        if clips.dtype != np.int16 or clips.ndim != 2:
            raise EdgewakeError(
                f"a teacher's clips are {clips.dtype} {clips.shape}: give int16 samples, (clips, samples)"
            )
        device = device_of(teacher)
        out = []
        for begin in range(0, len(clips), self.batch):
            heard = torch.from_numpy(to_float(clips[begin : begin + self.batch])).to(device)
            frames = teacher.embed(heard).to(torch.float16).cpu().numpy()
            if not np.isfinite(frames).all():
                raise EdgewakeError(
                    f"teacher {teacher.architecture} ({teacher.source}) gives embeddings that are not finite "
                    "in float16; check its weights"
                )
            out.append(frames)
            advance(len(frames))
        return np.concatenate(out)

    def _fingerprint(self, teacher: Teacher) -> str:
        """The teacher's fingerprint, computed again only when one of its tensors changed."""
        stamp = tuple((value.data_ptr(), value._version) for value in teacher.state_dict().values())
        kept = self._fingerprints.get(teacher)
        if kept is None or kept[0] != stamp:
            kept = self._fingerprints[teacher] = (stamp, teacher.fingerprint())
        return kept[1]


@torch.no_grad()
def head_signals(teacher: Teacher, embeddings: Clips) -> dict[str, npt.NDArray[Any]]:
    """What a teacher's head says of embeddings: logits and, where it has them, frame_logits, float32."""
    device = device_of(teacher)
    found: dict[str, list[npt.NDArray[np.float32]]] = {"logits": [], "frame_logits": []}
    for begin in range(0, len(embeddings), HEAD_BATCH):
        frames = torch.from_numpy(embeddings[begin : begin + HEAD_BATCH].astype(np.float32)).to(device)
        logits, along = teacher.head(frames)
        found["logits"].append(logits.float().cpu().numpy())
        if along is not None:
            found["frame_logits"].append(along.float().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def clip_digests(audio: Rows) -> list[bytes]:
    """BLAKE2b of each clip's samples."""
    return [
        hashlib.blake2b(np.ascontiguousarray(audio[clip]).tobytes(), digest_size=DIGEST_BYTES).digest()
        for clip in range(len(audio))
    ]


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()
