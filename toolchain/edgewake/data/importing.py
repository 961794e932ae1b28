"""Folders become manifests; a file's split never depends on the order in which a disk lists files."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.console import track
from edgewake.data.manifest import LABELS, SPLITS, CorpusManifest, Entry, Kind, ManifestError, Split
from edgewake.data.reading import RecordingError, read_duration
from edgewake.errors import ConfigError
from edgewake.io import printable

CORPORA_VARIABLE, CSV = "EDGEWAKE_CORPORA", "manifest.csv"
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".w64", ".caf"})
_SHARES = np.array([0.7, 0.15, 0.15])  # of train, val, test
_UNKNOWN = frozenset({"", "-", "unknown", "all"})
_SPECIAL: dict[str, Kind] = {"noise": "noise", "_background_noise_": "noise", "music": "music", "rir": "rir"}
_COLUMNS = ("path", "kind", "phrase", "family", "speaker", "language", "seconds", "split", "quality")


def open_corpus(manifest: Path | str | None, phrase: str, corpora: Path | str | None = None) -> CorpusManifest:
    """The corpus of a manifest file; without one, `phrase` in `corpora`, by default $EDGEWAKE_CORPORA."""
    if manifest:
        return CorpusManifest.load(manifest)
    root = corpora or os.environ.get(CORPORA_VARIABLE)
    if not root:
        made = "data.manifest or --manifest; edgewake corpus import FOLDER makes one"
        raise ConfigError(f"no corpus: name a manifest ({made}), or set {CORPORA_VARIABLE}")
    return import_corpora(root, phrase)


def import_corpora(root: Path | str, phrase: str) -> CorpusManifest:
    """Read the shared corpora's `manifest.csv` for one phrase.

    Recordings of `phrase` become positives, recordings of any other phrase negatives that keep their family;
    negatives, noise, music and responses stay what they are, and so does every split. A speaker is named
    `family/speaker`, since names such as "voice" recur between families; "unknown" or an empty cell becomes None.
    Voices of negatives that the csv itself has in several splits become `shared_speakers`.
    """
    root = Path(root).resolve()
    entries = corpus_entries(root / CSV, phrase)
    if not any(entry.kind == "positive" for entry in entries):
        phrases = sorted({entry.phrase for entry in entries if entry.phrase})
        raise ManifestError(f"no recording of {phrase!r} in {root}; it has {', '.join(phrases) or 'no phrase'}")
    return join_entries(phrase, entries, root=root, folder=root)


def corpus_entries(csv_path: Path, phrase: str) -> list[Entry]:
    """The recordings of a manifest.csv, as `import_corpora` takes them; paths are relative to its folder."""
    wanted = phrase.strip().casefold()
    return [_entry_of_row(row, wanted, csv_path, line) for line, row in enumerate(_read_rows(csv_path), 2)]


def join_entries(phrase: str, entries: Sequence[Entry], *, root: Path | str, folder: Path) -> CorpusManifest:
    """A manifest of recordings of one or several corpora; `root` and `folder` as for `CorpusManifest.build`."""
    shared = _shared_voices(entries)
    return CorpusManifest.build(phrase.strip().casefold(), entries, root=root, folder=folder, shared_speakers=shared)


def import_speakers(
    root: Path, phrase: str, on_fault: Callable[[RecordingError], None], family: str = "recordings"
) -> list[Entry]:
    """Recordings of the phrase, one folder a speaker; those that lie in `root` itself are one speaker's.

    The names of the speakers alone decide the splits, see `split_speakers`. Files that cannot be used go to `on_fault`.
    Paths are relative to `root`; the list is empty where there are none.
    """
    if not root.is_dir() or not (found := _audio_in(root)):
        return []
    named = {path: path.relative_to(root).parts[0] if path.parent != root else root.name for path in found}
    splits = split_speakers(named.values())
    entries = []
    for path, speaker in named.items():
        try:
            seconds = round(read_duration(path), 3)
        except RecordingError as error:
            on_fault(error)
            continue
        about: dict[str, Any] = {"kind": "positive", "label": 1, "phrase": phrase, "family": family}
        about |= {"speaker": f"{family}/{printable(speaker)}", "split": splits[speaker]}
        entries.append(Entry(path=printable(path.relative_to(root).as_posix()), seconds=seconds, **about))
    return entries


def split_speakers(names: Iterable[str]) -> dict[str, Split]:
    """Split of each speaker, by the hash of the name: 60 % train, 15 % val, 25 % test.

    One speaker is for train; of two one is for test; of three or more each split has at least one.
    """

    def draw(name: str) -> float:
        return int(hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12], 16) / 16**12

    ordered = sorted(set(names), key=draw)
    splits: dict[str, Split] = {
        name: "test" if draw(name) < 0.25 else "val" if draw(name) < 0.4 else "train" for name in ordered
    }
    needed: tuple[Split, ...] = ("train", "test", "val")
    for split in needed[: len(ordered)]:
        counts = Counter(splits.values())
        if not counts[split]:
            # From the largest, and of equal ones from the one that is needed least.
            giver = max(reversed(needed), key=lambda each: counts[each])
            splits[next(name for name in ordered if splits[name] == giver)] = split
    return splits


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
        speaker_pattern: regular expression on the path below the class folder, which must match; its group
            `speaker` (or the first) is the speaker, e.g. `r"(?P<speaker>[^_/]+)_nohash_"`. Without a pattern each
            file is a speaker of its own: figures are then right only if no voice recurs.
        seed: of the deal. The same files and seed give the same splits.
        on_fault: gets the error of every file that cannot be used and is left out; without it, the first is raised.
    """
    root, wanted, pattern = Path(root).resolve(), _fold(phrase), _compile(speaker_pattern)
    found: list[tuple[Entry, str]] = []  # with the group that is dealt to a split as a whole; "" where that is given
    for path in track(_find_audio(root), "importing"):
        name = printable(path.relative_to(root).as_posix())
        parts = name.split("/")
        split = next((part for part in SPLITS if part in parts[:2]), None)
        if split:
            parts.remove(split)
        if len(parts) < 2:
            raise ManifestError(f"{root / name} is in no class folder; move it into one")
        label, below = parts[0], "/".join(parts[1:])
        try:
            if os.fsdecode(name.encode()) != str(path.relative_to(root)):
                raise RecordingError("corrupt", f"{root / name}: its name is not UTF-8; rename it")
            seconds = round(read_duration(path), 3)
        except RecordingError as error:
            if on_fault is None:
                raise
            on_fault(error)
            continue
        kind: Kind = "positive" if _fold(label) == wanted else _SPECIAL.get(label, "negative")
        speaker = _speaker(below, path, pattern) if pattern and label not in _SPECIAL else None
        group = f"file {label}/{below}" if speaker is None else f"speaker {speaker}"
        about: dict[str, Any] = {"phrase": {"positive": phrase, "negative": label}.get(kind, ""), "speaker": speaker}
        about |= {"kind": kind, "label": LABELS[kind], "family": label, "split": split or "train"}
        found.append((Entry(path=name, seconds=seconds, **about), "" if split else group))
    labels = sorted({entry.family for entry, _ in found})
    if wanted not in map(_fold, labels):
        raise ManifestError(f"{root} has no class folder {wanted!r}; it has {', '.join(labels) or 'none'}")
    dealt = _deal([(group, entry.family) for entry, group in found if group], seed)
    entries = [entry.model_copy(update={"split": dealt.get(group, entry.split)}) for entry, group in found]
    return CorpusManifest.build(phrase, entries, root=printable(root), folder=root)


# ---- manifest.csv ----------------------------------------------------------------------------------------


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ManifestError(f"{path} does not exist; set EDGEWAKE_CORPORA to the folder that holds manifest.csv")
    rows: list[dict[str, str]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for row in reader:
                if lacking := [name for name in _COLUMNS if row.get(name) is None]:
                    what = f"has no value for {', '.join(lacking)}; add it"
                    raise ManifestError(f"{path} line {reader.line_num}: {what}")
                rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} line {len(rows) + 2} is not CSV text ({error}); write it anew as UTF-8") from error
    return rows


def _entry_of_row(row: Mapping[str, str], phrase: str, csv_path: Path, line: int) -> Entry:
    spoken, speaker = row["phrase"].strip().casefold(), row["speaker"].strip()
    kind = "negative" if row["kind"] == "positive" and spoken != phrase else row["kind"]
    raw: dict[str, Any] = {name: row[name] for name in ("path", "split", "family", "quality")}
    raw |= {name: row.get(name) or "" for name in ("source", "duplicate_group", "note")}
    raw |= {"kind": kind, "label": LABELS.get(kind, 0), "phrase": spoken, "licence": row.get("license") or ""}
    raw["speaker"] = None if speaker in _UNKNOWN else f"{row['family']}/{speaker}"
    try:
        raw |= {name: float(row[name]) for name in ("phrase_start", "phrase_end") if row.get(name)}
        return Entry(seconds=float(row["seconds"]), language=row["language"].strip("-"), **raw)
    except ValueError as error:
        reason = str(error).splitlines()
        raise ManifestError(f"{csv_path} line {line} ({row['path']}): {' '.join(reason[1:3]) or reason[0]}") from None


def _shared_voices(entries: Sequence[Entry]) -> dict[str, str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.speaker is not None:
            splits[entry.speaker].add(entry.split)
    positive = {entry.speaker for entry in entries if entry.kind == "positive"}
    reason = "the corpus itself splits this voice by file"
    return {name: reason for name, found in splits.items() if len(found) > 1 and name not in positive}


# ---- folder of class folders -----------------------------------------------------------------------------


def _audio_in(root: Path) -> list[Path]:
    audio = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    return [path for path in audio if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _find_audio(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ManifestError(f"{root} is not a folder; give the folder that holds the class folders")
    found = _audio_in(root)
    if not found:
        raise ManifestError(f"{root} holds no audio; expected <class>/<file> with {', '.join(sorted(AUDIO_SUFFIXES))}")
    return found


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    try:
        compiled = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ManifestError(f"speaker pattern {pattern!r} is not a regular expression: {error}") from None
    if compiled and not compiled.groups:
        raise ManifestError(f"speaker pattern {pattern!r} has no group; put the speaker's part in parentheses")
    return compiled


def _speaker(below: str, path: Path, pattern: re.Pattern[str]) -> str:
    match = pattern.search(below)
    name = match["speaker" if "speaker" in pattern.groupindex else 1] if match else None
    if not name:
        raise ManifestError(f"speaker pattern {pattern.pattern!r} does not match {path}; rename or move the file")
    return str(name)


def _deal(files: Sequence[tuple[str, str]], seed: int) -> dict[str, Split]:
    """Split of each group, from (group, class) of files: the largest first, to the split that lags most in them."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in files:
        counts[group][label] += 1
    targets = {label: _SHARES * total for label, total in Counter(label for _, label in files).items()}

    def order(group: str) -> tuple[int, str]:
        # A digest instead of a shuffle: adding a file leaves the order of the others as it was.
        return -counts[group].total(), hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()

    have = {label: np.zeros(3) for label in targets}
    dealt: dict[str, Split] = {}
    for group in sorted(counts, key=order):
        behind = np.zeros(3)
        for label, count in counts[group].items():
            # Measured in the share itself, so that small splits get their due from the start.
            behind += count * ((targets[label] - have[label]) / targets[label])
        chosen = int(np.argmax(behind))
        dealt[group] = SPLITS[chosen]
        for label, count in counts[group].items():
            have[label][chosen] += count
    return dealt


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
