"""Folders become manifests; a file's split never depends on the order in which a disk lists files."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.console import track
from edgewake.data.manifest import LABELS, SPLITS, CorpusManifest, Entry, Kind, ManifestError, Split
from edgewake.data.reading import CorruptAudioError, RecordingError, read_duration
from edgewake.errors import ConfigError
from edgewake.io import printable

CORPORA_VARIABLE = "EDGEWAKE_CORPORA"
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".w64", ".caf"})
_SHARES = np.array([0.7, 0.15, 0.15])  # of train, val, test
_UNKNOWN = frozenset({"", "-", "unknown", "all"})
_SPECIAL: dict[str, Kind] = {"noise": "noise", "_background_noise_": "noise", "music": "music", "rir": "rir"}
_COLUMNS = ("path", "kind", "phrase", "family", "speaker", "language", "seconds", "split", "quality")


def open_corpus(manifest: Path | str | None, phrase: str, corpora: Path | str | None = None) -> CorpusManifest:
    """The corpus of a manifest file; without one, `phrase` in the shared corpora.

    Args:
        corpora: folder with manifest.csv, by default $EDGEWAKE_CORPORA.

    Raises:
        ConfigError: neither is named.
        ManifestError: as `CorpusManifest.load` and `import_corpora`.
    """
    if manifest:
        return CorpusManifest.load(manifest)
    root = corpora or os.environ.get(CORPORA_VARIABLE)
    if not root:
        raise ConfigError(
            f"no corpus: name a manifest (data.manifest or --manifest; edgewake corpus import FOLDER makes one), "
            f"or set {CORPORA_VARIABLE}"
        )
    return import_corpora(root, phrase)


def import_corpora(root: Path | str, phrase: str, *, root_text: str | None = None) -> CorpusManifest:
    """Read the shared corpora's `manifest.csv` for one phrase.

    Recordings of `phrase` become positives with label 1; recordings of any other phrase become negatives that
    keep their family; negatives, noise, music and responses stay what they are, and so does every split.
    A speaker is named `family/speaker`, since names such as "voice" recur between families; "unknown" or an
    empty cell becomes None. Voices of negatives that the csv itself has in several
    splits (the prompts of one language are one voice) become `shared_speakers`.

    Args:
        root: folder with `manifest.csv`.
        root_text: what the manifest writes as its root, by default the absolute path; `"$EDGEWAKE_CORPORA"`
            makes a manifest that is the same on every machine.

    Raises:
        ManifestError: no such file, a column is missing, or no recording holds `phrase`.
    """
    root = Path(root).resolve()
    rows = _read_rows(root / "manifest.csv")
    wanted = phrase.strip().casefold()
    entries = [_entry_of_row(row, wanted, root / "manifest.csv", line) for line, row in enumerate(rows, 2)]
    if not any(entry.kind == "positive" for entry in entries):
        phrases = sorted({row["phrase"] for row in rows if row["phrase"]})
        raise ManifestError(f"no recording of {phrase!r} in {root}; it has {', '.join(phrases) or 'no phrase'}")
    return CorpusManifest.build(
        wanted,
        entries,
        root=root_text or str(root),
        folder=root,
        shared_speakers=_shared_voices(entries),
    )


def import_folder(
    root: Path | str,
    phrase: str,
    *,
    speaker_pattern: str | None = None,
    seed: int = 0,
    on_fault: Callable[[RecordingError], None] | None = None,
) -> CorpusManifest:
    """Make a manifest of a folder that holds one folder a class.

    The folder named like the phrase (spaces, "_" and "-" alike) holds positives; `noise` (or
    `_background_noise_`), `music` and `rir` hold those kinds; all others hold negatives, whose phrase is the
    folder's name. Files below a class folder belong to it at any depth. A folder `train`, `val` or `test` directly
    below a class folder, or above it, fixes the split of what it holds; otherwise whole speakers are dealt to
    splits so that each class comes as near to 70 / 15 / 15 % as its speakers allow.

    Args:
        speaker_pattern: regular expression on the path below the class folder; its group `speaker` (or the
            first) is the speaker, e.g. `r"(?P<speaker>[^_/]+)_nohash_"`. A file that it does not match is an
            error. Without a pattern each file is a speaker of its own: figures are then right only if no voice
            recurs.
        seed: of the deal. The same files and seed give the same splits.
        on_fault: gets the error of every file that cannot be used, which is then left out; without it, the
            first is raised.

    Raises:
        ManifestError: no class folder, no audio, or a pattern that does not match.
        RecordingError: a file cannot be used and there is no `on_fault`.
    """
    root = Path(root).resolve()
    found = []
    for file in track(_find_files(root), "importing"):
        try:
            if os.fsdecode(file.name.encode()) != str(file.path.relative_to(root)):
                raise CorruptAudioError(f"{root / file.name}: its name is not UTF-8; rename it")
            found.append(replace(file, seconds=round(read_duration(file.path), 3)))
        except RecordingError as error:
            if on_fault is None:
                raise
            on_fault(error)
    if not any(_fold(file.label) == _fold(phrase) for file in found):
        names = sorted({file.label for file in found})
        raise ManifestError(f"{root} has no class folder {_fold(phrase)!r}; it has {', '.join(names) or 'none'}")
    pattern = _compile(speaker_pattern)
    found = [replace(file, speaker=_speaker(file, pattern)) for file in found]
    dealt = _deal([file for file in found if file.split is None], seed)
    entries = []
    for file in found:
        kind: Kind = "positive" if _fold(file.label) == _fold(phrase) else _SPECIAL.get(file.label, "negative")
        entries.append(
            Entry(
                path=file.name,
                kind=kind,
                label=LABELS[kind],
                phrase=phrase if kind == "positive" else file.label if kind == "negative" else "",
                speaker=file.speaker,
                split=file.split or dealt[file.group],
                seconds=file.seconds,
                family=file.label,
            )
        )
    return CorpusManifest.build(phrase, entries, root=printable(root), folder=root)


# ---- manifest.csv ----------------------------------------------------------------------------------------


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ManifestError(f"{path} does not exist; set EDGEWAKE_CORPORA to the folder that holds manifest.csv")
    rows: list[dict[str, str]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise ManifestError(f"{path} has no column {', '.join(missing)}")
            for row in reader:
                short = [name for name in _COLUMNS if row[name] is None]
                if short:
                    raise ManifestError(f"{path} line {reader.line_num}: has no value for {', '.join(short)}; add it")
                rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} line {len(rows) + 2} is not CSV text ({error}); write it anew as UTF-8") from error
    return rows


def _entry_of_row(row: Mapping[str, str], phrase: str, csv_path: Path, line: int) -> Entry:
    spoken = row["phrase"].strip().casefold()
    kind = row["kind"]
    if kind == "positive" and spoken != phrase:
        kind = "negative"
    speaker = row["speaker"].strip()
    raw: dict[str, Any] = {
        "path": row["path"],
        "kind": kind,
        "label": LABELS.get(kind, 0),
        "phrase": spoken,
        "speaker": None if speaker in _UNKNOWN else f"{row['family']}/{speaker}",
        "split": row["split"],
        "licence": row.get("license") or "",
        "source": row.get("source") or "",
        "family": row["family"],
        "language": row["language"].strip("-"),
        "quality": row["quality"],
        "duplicate_group": row.get("duplicate_group") or "",
        "note": row.get("note") or "",
    }
    try:
        return Entry(seconds=float(row["seconds"]), **raw)
    except ValueError as error:
        reason = str(error).splitlines()
        raise ManifestError(f"{csv_path} line {line} ({row['path']}): {' '.join(reason[1:3]) or reason[0]}") from None


def _shared_voices(entries: Iterable[Entry]) -> dict[str, str]:
    splits: dict[str, set[str]] = defaultdict(set)
    positive: set[str] = set()
    for entry in entries:
        if entry.speaker is not None:
            splits[entry.speaker].add(entry.split)
            if entry.kind == "positive":
                positive.add(entry.speaker)
    reason = "the corpus itself splits this voice by file"
    return {name: reason for name, found in splits.items() if len(found) > 1 and name not in positive}


# ---- folder of class folders -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """A file of a class folder.

    Attributes:
        path: on this disk.
        name: as the manifest has it: relative to the root, with "/", as UTF-8.
        label: the class.
        below: path below the class folder.
        split: the one that a folder fixes, or None.
    """

    path: Path
    name: str
    label: str
    below: str
    split: Split | None = None
    seconds: float = 0.0
    speaker: str | None = None

    @property
    def group(self) -> str:
        """What is dealt to a split as a whole."""
        return f"file {self.label}/{self.below}" if self.speaker is None else f"speaker {self.speaker}"


def _find_files(root: Path) -> list[_File]:
    if not root.is_dir():
        raise ManifestError(f"{root} is not a folder; give the folder that holds the class folders")
    found = []
    for path in sorted(root.rglob("*")):
        name = printable(path.relative_to(root).as_posix())
        parts = name.split("/")
        if any(part.startswith(".") for part in parts) or path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        if not path.is_file():
            continue
        split = next((part for part in SPLITS if part in parts[:2]), None)
        if split:
            parts.remove(split)
        if len(parts) < 2:
            raise ManifestError(f"{root / name} is in no class folder; move it into one")
        found.append(_File(path, name, parts[0], "/".join(parts[1:]), split))
    if not found:
        raise ManifestError(f"{root} holds no audio; expected <class>/<file> with {', '.join(sorted(AUDIO_SUFFIXES))}")
    return found


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ManifestError(f"speaker pattern {pattern!r} is not a regular expression: {error}") from None
    if not compiled.groups:
        raise ManifestError(f"speaker pattern {pattern!r} has no group; put the speaker's part in parentheses")
    return compiled


def _speaker(file: _File, pattern: re.Pattern[str] | None) -> str | None:
    if pattern is None or file.label in _SPECIAL:
        return None
    match = pattern.search(file.below)
    name = (match["speaker"] if "speaker" in pattern.groupindex else match[1]) if match else None
    if not name:
        raise ManifestError(f"speaker pattern {pattern.pattern!r} does not match {file.path}; rename or move the file")
    return name


def _deal(files: list[_File], seed: int) -> dict[str, Split]:
    """Deal whole groups, the largest first, each to the split that lags most in the group's classes."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    totals: dict[str, int] = defaultdict(int)
    for file in files:
        counts[file.group][file.label] += 1
        totals[file.label] += 1

    def order(name: str) -> tuple[int, str]:
        # A digest instead of a shuffle: adding a file leaves the order of the others as it was.
        return -sum(counts[name].values()), hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    have = {label: np.zeros(3) for label in totals}
    dealt: dict[str, Split] = {}
    for name in sorted(counts, key=order):
        behind = np.zeros(3)
        for label, count in counts[name].items():
            target = _SHARES * totals[label]
            # Measured in the share itself, so that small splits get their due from the start.
            behind += count * ((target - have[label]) / target)
        chosen = int(np.argmax(behind))
        dealt[name] = SPLITS[chosen]
        for label, count in counts[name].items():
            have[label][chosen] += count
    return dealt


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
