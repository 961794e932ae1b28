"""`edgewake corpus pack`: a corpus as tar shards of WebDataset's layout, which hold the very bytes of its files."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from pathlib import Path

from edgewake.console import bar
from edgewake.data.manifest import SPLITS, CorpusManifest, Entry
from edgewake.data.reading import open_recording
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import atomic_path


def pack(manifest: CorpusManifest, out: Path, shard_mb: float = 500.0) -> CorpusManifest:
    """Copy all recordings of a manifest into shards in `out`, beside a manifest of them, which is returned.

    Each recording is `<number>.<suffix>` with the very bytes of the file, and `<number>.json` with its entry. A
    shard, `<split>-<number>.tar`, is closed when it has `shard_mb` 1e6 B. Entries keep their order:
    training from shards gives the same clips.
    """
    if not 0 < shard_mb < 1e6:
        raise ConfigError(f"--shard-mb {shard_mb}: must be above 0 and below 1,000,000; a few hundred is usual")
    out, packed = Path(out), dict[int, Entry]()
    if (out / "manifest.json").exists():
        raise EdgewakeError(f"{out} holds a packed corpus already: delete it, or choose another folder")
    with bar("packing", len(manifest.entries)) as advance:
        for split in SPLITS:
            waiting = [(number, entry) for number, entry in enumerate(manifest.entries) if entry.split == split][::-1]
            shards = itertools.count()
            while waiting:
                name = f"{split}-{next(shards):06d}.tar"
                with atomic_path(out / name) as file, tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
                    while waiting and tar.offset < shard_mb * 1e6:
                        number, entry = waiting.pop()
                        key, suffix = f"{number:08d}", Path(entry.path).suffix.lstrip(".").lower() or "audio"
                        with open_recording(manifest.path_of(entry)) as recording:
                            _add(tar, f"{key}.{suffix}", recording.read())
                        described = json.dumps(entry.model_dump(mode="json"), ensure_ascii=False)
                        _add(tar, f"{key}.json", described.encode())
                        packed[number] = entry.model_copy(update={"path": f"{name}::{key}.{suffix}"})
                        advance(1)
    about = manifest.model_dump(include={"shared_speakers", "description"})
    made = manifest.build(manifest.phrase, (packed[number] for number in sorted(packed)), folder=out, **about)
    made.save(out / "manifest.json")
    return made


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Without owner and time, so that the same corpus gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
