"""The manifest of a corpus, which describes every recording: once read, its splits share no undeclared speaker."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgewake.config.base import first_complaint
from edgewake.data.reading import Samples, read_audio
from edgewake.errors import AudioError
from edgewake.io import read_json, write_json

VERSION: Literal[1] = 1
Split = Literal["train", "val", "test"]
Kind = Literal["positive", "negative", "noise", "music", "rir"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
# Where decoded samples lie: a file of int16, the first sample, and how many.
Place = tuple[Path, int, int]
LABELS: dict[str, Literal[0, 1] | None] = {"positive": 1, "negative": 0, "noise": 0, "music": 0, "rir": None}


class ManifestError(AudioError):
    """A manifest contradicts itself or this version; the message names the entry."""


class Entry(BaseModel):
    """One audio file; text that is not known is ""."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    path: Annotated[str, Field(min_length=1)]  # relative to the manifest's root, or absolute
    kind: Kind  # positive (holds the phrase), negative (speech that does not), noise, music, rir (response of a room)
    label: Literal[0, 1] | None  # 1 for positive, None for rir, else 0
    phrase: str = ""  # what is said, where the whole recording is one phrase
    speaker: Annotated[str, Field(min_length=1)] | None = None  # one name for one voice; None: unknown
    split: Split
    seconds: Annotated[float, Field(gt=0)]
    phrase_start: Annotated[float, Field(ge=0)] | None = None  # where `phrase` lies in the recording, s
    phrase_end: float | None = None  # known where other speech comes before or after it
    licence: str = ""
    source: str = ""
    family: str = ""  # recordings made in one way; false accepts are reported by it
    language: str = ""  # ISO 639 code
    quality: Literal["ok", "suspect"] = "ok"  # suspect: the label may be wrong
    duplicate_group: str = ""  # shared by copies of one recording, which count once
    note: str = ""

    @model_validator(mode="after")
    def _label_fits_kind(self) -> Self:
        if self.label != LABELS[self.kind]:
            raise ValueError(f"label {self.label} does not fit kind {self.kind!r}, whose label is {LABELS[self.kind]}")
        return self

    @model_validator(mode="after")
    def _phrase_lies_within(self) -> Self:
        start, end = self.phrase_start, self.phrase_end
        if (start is None) != (end is None):
            raise ValueError("phrase_start and phrase_end go together: give both or neither")
        # Seconds are rounded.
        if start is not None and end is not None and not start < end <= self.seconds + 0.001:
            what = f"phrase_start {start} and phrase_end {end} s in a recording of {self.seconds} s"
            raise ValueError(f"{what}: the end must come after the start and not after the recording's")
        return self

    @property
    def near(self) -> bool:
        """Speech that nearly holds the phrase: a negative whose family is named `near` or `near_...`."""
        return self.kind == "negative" and (self.family + "_").startswith("near_")


class CorpusManifest(BaseModel):
    """All recordings of a project.

    Attributes:
        root: folder that relative paths start from: absolute, relative to the manifest's own folder, or with
            environment variables (`$EDGEWAKE_CORPORA`).
        shared_speakers: voices in several splits by intent, each with the reason; of speech without the phrase only.
        description: of microphones, rooms and the like, for readers of model cards; a line a point.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = VERSION
    phrase: Annotated[str, Field(min_length=1)]
    root: str = "."
    shared_speakers: dict[str, str] = {}
    description: str = ""
    entries: Annotated[tuple[Entry, ...], Field(strict=False)]

    _folder: Path = Path()
    # By the path of a recording.
    _decoded: Mapping[str, Place] = {}
    _contents: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """A file is listed once; a speaker, and the copies of one recording, lie in one split."""
        paths: set[str] = set()
        first: dict[tuple[str, str], Entry] = {}
        for entry in self.entries:
            path = os.path.normpath(entry.path)
            if path in paths:
                raise ValueError(f"{entry.path} is listed twice; keep one entry a file")
            paths.add(path)
            if entry.speaker in self.shared_speakers and entry.kind == "positive":
                what = f"{entry.path}: speaker {entry.speaker!r} speaks the phrase and cannot be in shared_speakers"
                raise ValueError(f"{what}; put all of a speaker's recordings into one split")
            for what, name in (("duplicate_group", entry.duplicate_group), ("speaker", entry.speaker)):
                if not name or (what == "speaker" and name in self.shared_speakers):
                    continue
                other = first.setdefault((what, name), entry)
                if other.split != entry.split:
                    places = f"in split {other.split} ({other.path}) and in split {entry.split} ({entry.path})"
                    raise ValueError(f"{what} {name!r} is {places}; put all recordings of one {what} into one split")
        return self

    @classmethod
    def load(cls, path: Path | str) -> CorpusManifest:
        """Read and validate: its version, each entry, and that no two splits share a speaker."""
        path = Path(path)
        raw = read_json(path, "corpus manifest")
        version = raw.get("version") if isinstance(raw, dict) else None
        if version != VERSION:
            what = f"manifest version {version!r}, this edgewake reads version {VERSION}"
            raise ManifestError(f"{path}: {what}; import the corpus again")
        return cls._checked(raw, path.parent, f"{path}: ")

    @classmethod
    def build(
        cls, phrase: str, entries: Iterable[Entry], *, root: Path | str = ".", folder: Path | str = ".", **fields: Any
    ) -> CorpusManifest:
        """A manifest made in memory, as if it had been read from a file in `folder`; errors as in `load`.

        `fields`: shared_speakers, description.
        """
        return cls._checked({"phrase": phrase, "root": str(root), "entries": tuple(entries), **fields}, Path(folder))

    @classmethod
    def _checked(cls, fields: dict[str, Any], folder: Path, prefix: str = "") -> CorpusManifest:
        try:
            manifest = cls.model_validate(fields)
        except ValidationError as error:
            complaint = first_complaint(error)
            if found := re.match(r"entries\.(\d+)", complaint):
                entry = fields["entries"][int(found[1])]
                path = entry.get("path") if isinstance(entry, dict) else entry
                complaint = f"entry {found[1]} ({path}){complaint[found.end() :]}"
            raise ManifestError(prefix + complaint) from None
        manifest._folder = folder.resolve()
        return manifest

    def save(self, path: Path | str) -> None:
        """Write as JSON, atomically. A relative root keeps its text: write to the folder it was made for."""
        always = {"path", "kind", "label", "phrase", "speaker", "split", "seconds", "licence", "source"}
        values = self.model_dump()
        for entry in values["entries"]:
            for name in entry.keys() - always:
                if entry[name] == Entry.model_fields[name].default:
                    del entry[name]
        write_json(Path(path), values)

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from; the environment variables that the root names are set."""
        root = os.path.expandvars(self.root)
        if "$" in root:
            raise ManifestError(f"manifest root {self.root!r}: the environment variable is not set; export it first")
        return self._folder / os.fsdecode(root.encode())

    def path_of(self, entry: Entry) -> Path:
        """Where `entry`'s file is; names in a manifest are UTF-8, whatever the locale."""
        return self.folder / os.fsdecode(entry.path.encode())

    def read(self, entry: Entry) -> Samples:
        """The samples of a recording, int16 at 16 kHz: kept by a scan (`with_decoded`), or read by `read_audio`."""
        file, start, count = self._decoded.get(entry.path, (None, 0, 0))
        if file and file.is_file():  # else the cache was cleared
            return _mapped(file, file.stat().st_mtime_ns)[start : start + count]
        return read_audio(self.path_of(entry), max_seconds=None)

    def content(self, entry: Entry) -> str:
        """32 hex digits that name the samples of a recording, whatever its file is: known from a scan, or from them."""
        return self._contents.get(entry.path) or content_of(self.read(entry))

    def with_decoded(self, places: Mapping[str, Place], contents: Mapping[str, str]) -> CorpusManifest:
        """The entries that `contents` names; their samples lie in `places`, where they are known."""
        made = self.with_entries(entry for entry in self.entries if entry.path in contents)
        made._decoded, made._contents = places, contents
        return made

    def select(
        self, *, split: Split | None = None, kind: Kind | Iterable[Kind] | None = None, label: int | None = None
    ) -> tuple[Entry, ...]:
        """Entries that have every given property; `kind` may be several."""
        kinds = None if kind is None else {kind} if isinstance(kind, str) else set(kind)
        return tuple(
            entry
            for entry in self.entries
            if (split is None or entry.split == split)
            and (kinds is None or entry.kind in kinds)
            and (label is None or entry.label == label)
        )

    def with_entries(self, entries: Iterable[Entry]) -> CorpusManifest:
        """The same manifest with other entries, validated."""
        made = self._checked({**dict(self), "entries": tuple(entries)}, self._folder)
        made._decoded, made._contents = self._decoded, self._contents
        return made


def content_of(samples: Samples) -> str:
    """SHA-256 of samples, its first 32 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()[:32]


@lru_cache(8)
def _mapped(file: Path, changed_ns: int) -> Samples:
    return np.asarray(np.memmap(file, np.int16, "r"))


def recording_weights(entries: Sequence[Entry]) -> npt.NDArray[np.float64]:
    """(entries,) weights: each of n copies of one recording weighs 1/n, so that a group counts once."""
    sizes = Counter(entry.duplicate_group for entry in entries if entry.duplicate_group)
    return np.array([1.0 / sizes.get(entry.duplicate_group, 1) for entry in entries], np.float64)
