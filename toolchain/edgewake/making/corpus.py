"""The corpus of a wake word's folder, as `edgewake make` and `edgewake corpus import FOLDER` make it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.data.augment import synthetic_noise
from edgewake.data.importing import CORPORA_VARIABLE, CSV, corpus_entries, import_speakers, join_entries
from edgewake.data.manifest import SPLITS, CorpusManifest, Entry
from edgewake.data.reading import SAMPLE_RATE, RecordingError, to_int16, write_audio
from edgewake.errors import ConfigError
from edgewake.making.clips import SYNTH, TEST
from edgewake.synthesis.wakeword import Wakeword, read_wakeword

NOISE, CORPUS = "noise", "corpus.json"
# Generated backgrounds of a split that has no other ones.
NOISES, NOISE_S, NOISE_PEAK = 6, 30, 0.25


def csv_files(folder: Path, word: Wakeword) -> list[Path]:
    """The manifest.csv of the clips, of the word's `corpora`, and of $EDGEWAKE_CORPORA.

    Raises:
        ConfigError: one that is named does not exist, or there are no clips yet.
    """
    if not (folder / SYNTH / CSV).is_file():
        raise ConfigError(f"{folder / SYNTH} holds no clips: edgewake synth {folder} makes them")
    files = [folder / place / CSV for place in (SYNTH, TEST) if (folder / place / CSV).is_file()]
    named = [folder / path for path in word.corpora]
    for path in named:
        if not path.is_file():
            raise ConfigError(f"corpora: {path} does not exist: name the manifest.csv of a corpus (docs/corpus.md)")
    if root := os.environ.get(CORPORA_VARIABLE):
        named.append(Path(root) / CSV)
    return [*files, *dict.fromkeys(path.resolve() for path in named)]


def word_corpus(folder: Path, on_fault: Callable[[RecordingError], None]) -> CorpusManifest:
    """The corpus of a word's folder: its clips, recordings of people, and other corpora, in one manifest.

    A split in which none of them has noise gets generated noise, which is written to the folder. Recordings that
    cannot be read go to `on_fault`.
    """
    word, entries, recorded = read_wakeword(folder), list[Entry](), list[Entry]()
    for path in csv_files(folder, word):
        found = entries if path.parent.parent == folder else recorded
        found += _placed(corpus_entries(path, word.phrase), path.parent, folder)
    recordings = folder / word.recordings
    recorded += _placed(import_speakers(recordings, word.phrase, on_fault), recordings, folder)
    entries += [entry for entry in recorded if not (word.text_alone and entry.label and entry.split != "test")]
    for split in SPLITS:
        if not any(entry.kind == "noise" and entry.split == split for entry in entries):
            entries += _generated_noise(folder, split)
    return join_entries(word.phrase, entries, root=".", folder=folder)


def _placed(entries: Sequence[Entry], place: Path, folder: Path) -> list[Entry]:
    """The entries of a corpus in `place`, with paths from `folder` on where it lies in it, or else absolute ones."""
    place, folder = place.resolve(), folder.resolve()
    start = place.relative_to(folder) if place.is_relative_to(folder) else place
    return [entry.model_copy(update={"path": (start / entry.path).as_posix()}) for entry in entries]


def _generated_noise(folder: Path, split: Any) -> list[Entry]:
    entries = []
    for number in range(NOISES):
        path = f"{NOISE}/{split}-{number}.flac"
        if not (folder / path).is_file():
            rng = np.random.default_rng([number, SPLITS.index(split)])
            noise = synthetic_noise(NOISE_S * SAMPLE_RATE, rng)
            write_audio(folder / path, to_int16(noise * (NOISE_PEAK / np.abs(noise).max())))
        about: dict[str, Any] = {"kind": "noise", "label": 0, "split": split, "family": "generated_noise"}
        entries.append(Entry(path=path, seconds=float(NOISE_S), source="generated", **about))
    return entries


def corpus_state(folder: Path, manifest: CorpusManifest) -> list[tuple[Any, ...]]:
    """What tells that a file has changed: its size and time; clips are named by their content."""
    state: list[tuple[Any, ...]] = []
    for entry in manifest.entries:
        if entry.path.startswith((f"{SYNTH}/", f"{TEST}/", f"{NOISE}/")):
            continue
        status = manifest.path_of(entry).stat()
        state.append((entry.path, status.st_size, status.st_mtime_ns))
    return state
