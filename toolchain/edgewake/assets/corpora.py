"""The corpora of corpora.toml: their licences, archives with checksums, and which of their files are recordings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgewake.assets.store import assets_folder
from edgewake.errors import ConfigError


@dataclass(frozen=True)
class ArchiveFile:
    """A file to download; `checksum` is "md5:..." or "sha256:..." as published, or ""; `gb` 0 where not known."""

    url: str
    gb: float
    checksum: str

    @property
    def name(self) -> str:
        """Its name on disk."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Archive:
    """A part of a corpus: an archive, or a zip in several files, the last of which is the .zip."""

    part: str
    files: tuple[ArchiveFile, ...]
    extra: bool = False  # fetched only where it is named


@dataclass(frozen=True)
class Rule:
    """Files whose path matches `pattern` are recordings; see corpora.toml."""

    pattern: str
    kind: str = ""
    kinds: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    language: str = ""
    once: bool = False


@dataclass(frozen=True)
class Corpus:
    """Recordings of others, or features of them, that a user may fetch."""

    name: str
    title: str
    licence: str
    non_commercial: Literal["yes", "no", "partly", "unknown"]
    page: str
    archives: tuple[Archive, ...]
    rules: tuple[Rule, ...]
    details: str = ""

    def parts(self, named: tuple[str, ...] = ()) -> tuple[Archive, ...]:
        """The archives of the named parts, or all that are not extra; a ConfigError names those that there are."""
        there = {archive.part: archive for archive in self.archives}
        for part in named:
            if part not in there:
                raise ConfigError(f"{self.name} has no part {part!r}: it has {', '.join(there) or 'none'}")
        return tuple(archive for part, archive in there.items() if (part in named if named else not archive.extra))


def _read(catalogue: Path) -> tuple[Corpus, ...]:
    corpora = []
    for about in tomllib.loads(catalogue.read_text(encoding="utf-8"))["corpus"]:
        archives = tuple(_archive(**archive) for archive in about.pop("archives"))
        rules = tuple(Rule(**rule) for rule in about.pop("rules"))
        corpora.append(Corpus(**about, archives=archives, rules=rules))
    return tuple(corpora)


def _archive(files: list[dict[str, Any]], **about: Any) -> Archive:
    return Archive(files=tuple(ArchiveFile(**file) for file in files), **about)


CORPORA = _read(Path(__file__).with_suffix(".toml"))


def find_corpus(name: str) -> Corpus:
    """The corpus called `name`; a ConfigError with those that there are where there is none."""
    found = {corpus.name: corpus for corpus in CORPORA}
    if name not in found:
        raise ConfigError(f"there is no corpus {name!r}: there are {', '.join(found)}")
    return found[name]


def corpora_folder() -> Path:
    """Where fetched corpora are kept, beside assets: `EDGEWAKE_CACHE`/corpora, or edgewake/corpora in XDG's cache."""
    return assets_folder().with_name("corpora")
