"""A corpus by its name becomes a folder with a manifest.csv, in which no known speaker is in two splits."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from edgewake.assets.archives import ARCHIVES, fetch_archive
from edgewake.assets.corpora import Archive, ArchiveFile, Corpus, Rule, corpora_folder, find_corpus
from edgewake.console import track
from edgewake.data.importing import CSV, split_speakers
from edgewake.data.reading import RecordingError, read_duration
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import check_output_folder, make_folder, printable, read_json, write_json, write_text

RECORD = "fetched.json"
_NEEDED = ("path", "kind", "phrase", "family", "speaker", "language", "seconds", "split", "quality")
COLUMNS = (*_NEEDED, "license", "source", "duplicate_group", "note")
# Parts of a split by other names; the tables of Common Voice.
_SPLITS = {"train": "train", "dev": "val", "test": "test"}
Details = Callable[[re.Match[str]], dict[str, Any] | None]


@dataclass
class Fetched:
    """What `get_corpus` did: SHA-256 of archives by name, with those that nobody published; and what is there now."""

    corpus: Corpus
    folder: Path
    digests: dict[str, str] = field(default_factory=dict)
    unpublished: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    recordings: int = 0
    seconds: float = 0.0
    left_out: list[RecordingError] = field(default_factory=list)


def get_corpus(name: str, out: Path | None = None, parts: Sequence[str] = (), archives: Sequence[Path] = ()) -> Fetched:
    """Fetch the parts of a corpus that `out` (by default a folder of the cache) lacks, and write its manifest.csv.

    `archives` are files of this machine that are taken in place of downloads, by their names; of a corpus without
    downloads, whatever their names. Each part is unpacked whole or not at all, so that a fetch which was interrupted
    goes on; the manifest lists all parts that are there.
    """
    corpus = find_corpus(name)
    wanted, given = _wanted(corpus, tuple(parts), archives)
    folder = out or corpora_folder() / name
    check_output_folder(folder, (RECORD, ARCHIVES), "fetched corpus")
    make_folder(folder)
    fetched = Fetched(corpus, folder)
    with FileLock(folder / ".lock"):
        record = read_json(folder / RECORD, "record of a corpus") if (folder / RECORD).is_file() else {}
        if record.get("corpus", name) != name:
            raise ConfigError(f"--out {folder} holds {record['corpus']}: choose another folder for {name}")
        known = dict(record.get("sha256", {}))
        lacking = [archive for archive in wanted if not (folder / archive.part).is_dir()]
        _check_room(folder, [file for archive in lacking for file in archive.files if file.name not in given])

        def note(found: dict[str, str]) -> None:
            known.update(found)
            fetched.digests |= found
            files = (file for archive in wanted for file in archive.files if file.name in found)
            fetched.unpublished += [file.name for file in files if not file.checksum]
            about = {"corpus": name, "licence": corpus.licence, "page": corpus.page}
            write_json(folder / RECORD, about | {"sha256": known})

        for archive in wanted:
            fetch_archive(archive, folder, known, given, corpus.page, note)
        if (folder / ARCHIVES).is_dir() and not any((folder / ARCHIVES).iterdir()):
            (folder / ARCHIVES).rmdir()
        there = (path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        fetched.parts = sorted(set(there) - {ARCHIVES})
        if corpus.rules:
            rows = list_recordings(corpus, folder, fetched.left_out.append)
            if not rows:
                raise EdgewakeError(f"{folder} holds no recording of {name} where one is expected: see {corpus.page}")
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(folder / CSV, text.getvalue())
            fetched.recordings, fetched.seconds = len(rows), sum(row["seconds"] for row in rows)
    return fetched


def _wanted(
    corpus: Corpus, parts: tuple[str, ...], archives: Sequence[Path]
) -> tuple[tuple[Archive, ...], dict[str, Path]]:
    """The archives to have, and the files of this machine that are taken for downloads."""
    for path in archives:
        if not path.is_file():
            raise ConfigError(f"--archive {path} does not exist: check the path")
    given = {path.name: path for path in archives}
    if not corpus.archives:
        if not given:
            what = f"{corpus.name} cannot be downloaded without an account: get an archive from {corpus.page}"
            raise ConfigError(f"{what}, then edgewake corpus get {corpus.name} --archive FILE")
        made = [Archive(re.sub(r"\.(tar\.\w+|tgz|tar|zip)$", "", name), (ArchiveFile(name, 0, ""),)) for name in given]
        return tuple(made), given
    wanted = corpus.parts(parts)
    names = [file.name for archive in wanted for file in archive.files]
    for name, path in given.items():
        if name not in names:
            raise ConfigError(f"--archive {path} is no file of {corpus.name}: they are {', '.join(names)}")
    return wanted, given


def _check_room(folder: Path, files: Sequence[ArchiveFile]) -> None:
    """Archives go when they are unpacked, but for the largest; and audio is hardly smaller in them."""
    if not files:
        return
    needed = sum(file.gb for file in files) + max(file.gb for file in files)
    free = shutil.disk_usage(folder).free / 1e9
    if needed > free:
        where = f"{folder} has {free:.1f} GB free"
        raise EdgewakeError(f"this takes about {needed:.1f} GB, {where}: free space, choose another --out, or a --part")


# ---- manifest.csv ----------------------------------------------------------------------------------------


def list_recordings(corpus: Corpus, folder: Path, on_fault: Callable[[RecordingError], None]) -> list[dict[str, Any]]:
    """Rows of a manifest.csv for what was unpacked in `folder`; files that cannot be read go to `on_fault`."""
    details: Details = _DETAILS[corpus.details](folder) if corpus.details else lambda match: {}
    rows: list[dict[str, Any]] = []
    names: dict[int, str] = {}  # of whom or what has no split yet
    for path, rule, match in track(list(_matches(corpus.rules, folder)), f"listing {corpus.name}"):
        groups, more = match.groupdict(), details(match)
        if more is None:
            continue
        try:
            seconds = more.pop("seconds", 0.0) or round(read_duration(folder / path), 3)
        except RecordingError as error:
            on_fault(error)
            continue
        row: dict[str, Any] = {"path": path, "family": corpus.name, "seconds": seconds}
        row["kind"] = rule.kind or rule.kinds[groups["kind"]]
        row |= {"split": rule.split or rule.splits.get(groups.get("split") or "", ""), "quality": "ok"}
        row |= {"language": groups.get("language") or rule.language, "speaker": groups.get("speaker") or ""}
        row |= {"license": corpus.licence, "source": corpus.page, "duplicate_group": ""}
        if rule.once:
            row["duplicate_group"] = f"{corpus.name}/{groups['group']}"
        row |= more
        if not row["split"]:
            names[len(rows)] = str(row["speaker"] or groups.get("group") or path)
        rows.append(row)
    dealt = split_speakers(names.values())
    for index, name in names.items():
        rows[index]["split"] = dealt[name]
    return rows


def _matches(rules: Sequence[Rule], folder: Path) -> Iterator[tuple[str, Rule, re.Match[str]]]:
    """Paths of recordings below `folder`, each with the first rule that it matches."""
    patterns = [(rule, re.compile(rule.pattern)) for rule in rules]
    for path in sorted(folder.rglob("*")):
        # macOS leaves copies of attributes in archives, by the names of the files.
        if path.name.startswith("._") or "__MACOSX" in path.parts:
            continue
        name = printable(path.relative_to(folder).as_posix())
        for rule, pattern in patterns:
            if match := pattern.search(name):
                yield name, rule, match
                break


def _table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else 0))


def _fsd50k(folder: Path) -> Details:
    """Kind by class, the corpus's own train and val, and each recording's licence."""
    labels: dict[str, dict[str, str]] = {}
    for path in folder.rglob("FSD50K.ground_truth/*.csv"):
        if path.name in ("dev.csv", "eval.csv"):
            labels |= {row["fname"]: row for row in _table(path)}
    licences: dict[str, str] = {}
    for path in folder.rglob("*_clips_info_FSD50K.json"):
        licences |= {clip: about.get("license", "") for clip, about in read_json(path, "table of FSD50K").items()}

    def details(match: re.Match[str]) -> dict[str, Any]:
        clip = match["clip"]
        about = labels.get(clip, {})
        classes = set(about.get("labels", "").split(","))
        kind = "negative" if "Speech" in classes else "music" if "Music" in classes else "noise"
        found: dict[str, Any] = {"kind": kind, "note": about.get("labels", "")}
        if about.get("split"):
            found["split"] = about["split"]
        return found | ({"license": licences[clip]} if licences.get(clip) else {})

    return details


def _common_voice(folder: Path) -> Details:
    """Clips that were validated, with the split of their speaker: the corpus's own where it has one."""
    speakers: dict[str, str] = {}
    splits: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for path in sorted(folder.rglob("*.tsv")):
        if path.name == "clip_durations.tsv":
            seconds |= {row["clip"]: round(float(row["duration[ms]"]) / 1000, 3) for row in _table(path, "\t")}
        if path.stem in ("validated", *_SPLITS):
            for row in _table(path, "\t"):
                speakers[row["path"]] = row["client_id"][:16]
                if path.stem in _SPLITS:
                    splits[row["client_id"][:16]] = _SPLITS[path.stem]

    def details(match: re.Match[str]) -> dict[str, Any] | None:
        clip = match["clip"]
        if clip not in speakers:
            return None
        speaker = speakers[clip]
        return {"speaker": speaker, "split": splits.get(speaker, ""), "seconds": seconds.get(clip, 0.0)}

    return details


_DETAILS: dict[str, Callable[[Path], Details]] = {"fsd50k": _fsd50k, "common_voice": _common_voice}
