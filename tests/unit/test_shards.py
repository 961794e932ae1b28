"""A corpus in shards is the corpus in files: the same bytes, samples and features."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgewake.cli import main
from edgewake.config.presets import get_preset
from edgewake.data import (
    CorpusManifest,
    Entry,
    pack,
    read_audio,
    scan,
    write_audio,
)
from edgewake.data.reading import RecordingError, file_of, split_path
from edgewake.data.store import build_store
from edgewake.errors import AudioError, ConfigError, EdgewakeError

RATE = 16_000
SUFFIXES = ("wav", "flac", "ogg", "mp3", "aiff")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rising tones are the phrase, falling ones are not, in files of many formats; and a room."""
    root = tmp_path_factory.mktemp("corpus")
    time = np.arange(RATE) / RATE
    entries = []
    for split, count in (("train", 10), ("val", 4), ("test", 2)):
        for number in range(count):
            kind = "positive" if number % 2 else "negative"
            slope = 900.0 if kind == "positive" else -900.0
            tone = 6000 * np.sin(2 * np.pi * (900 + 60 * number + slope * time / 2) * time)
            samples = (tone * ((time > 0.3) & (time < 0.8))).astype(np.int16)
            if kind == "negative" and number == 2:
                samples = np.tile(samples, 5)
            path = f"{split}/{kind}/{number}.{SUFFIXES[number % len(SUFFIXES)]}"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            write_audio(root / path, samples)
            entries.append(
                Entry(
                    path=path,
                    kind=kind,
                    label=int(kind == "positive"),
                    split=split,
                    seconds=len(samples) / RATE,
                    speaker=f"{split}{number}",
                )
            )
    write_audio(root / "room.flac", (np.exp(-np.arange(3200) / 400) * 9000).astype(np.int16))
    entries.append(Entry(path="room.flac", kind="rir", label=None, split="train", seconds=0.2))
    CorpusManifest.build("hey", entries, folder=root).save(root / "manifest.json")
    return root


@pytest.fixture(scope="module")
def packed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in shards of 60 kB, of which a split has several."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    result = CliRunner().invoke(
        main, ["corpus", "pack", str(corpus / "manifest.json"), str(out), "--shard-mb", "0.06", "--json"]
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.output)
    assert record["recordings"] == 17
    assert record["shards"] == len(list(out.glob("*.tar"))) >= 5
    return out


def pairs(corpus: Path, packed: Path) -> list[tuple[Path, Path]]:
    files, members = (
        CorpusManifest.load(corpus / "manifest.json"),
        CorpusManifest.load(packed / "manifest.json"),
    )
    return [
        (files.path_of(file), members.path_of(member))
        for file, member in zip(files.entries, members.entries, strict=True)
    ]


def test_every_recording_is_in_a_shard_byte_for_byte(corpus: Path, packed: Path) -> None:
    for file, member in pairs(corpus, packed):
        shard, name = split_path(member) or (None, "")
        assert shard == file_of(member)
        assert shard is not None
        with tarfile.open(shard) as tar:
            found = tar.extractfile(name)
            assert found is not None
            assert found.read() == file.read_bytes()
        assert np.array_equal(read_audio(file), read_audio(member)), file


def test_entries_keep_their_order_and_all_that_is_known_of_them(corpus: Path, packed: Path) -> None:
    files, members = (
        CorpusManifest.load(corpus / "manifest.json"),
        CorpusManifest.load(packed / "manifest.json"),
    )
    assert [entry.model_copy(update={"path": ""}) for entry in files.entries] == [
        entry.model_copy(update={"path": ""}) for entry in members.entries
    ]
    assert all(Path(entry.path).name.startswith(entry.split) for entry in members.entries)
    assert len(scan(members).kept) == 17


def test_training_from_shards_gives_the_features_of_training_from_files(
    corpus: Path, packed: Path, tmp_path: Path
) -> None:
    config = get_preset("smoke")
    config.data.audio_duration = 0.9
    config.data.positive_renders = 2
    config.cache.folder = str(tmp_path)
    stores = [
        build_store(CorpusManifest.load(folder / "manifest.json"), "train", config, audio=True)
        for folder in (corpus, packed)
    ]
    assert np.array_equal(stores[0].labels, stores[1].labels)
    assert np.array_equal(np.asarray(stores[0].features), np.asarray(stores[1].features))
    assert np.array_equal(np.asarray(stores[0].audio), np.asarray(stores[1].audio))


def test_packing_again_gives_the_same_bytes_and_overwrites_nothing(corpus: Path, packed: Path, tmp_path: Path) -> None:
    manifest = CorpusManifest.load(corpus / "manifest.json")
    pack(manifest, tmp_path / "again", 0.06)
    for path in packed.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    with pytest.raises(EdgewakeError, match="holds a packed corpus already"):
        pack(manifest, packed)


def test_a_packed_corpus_can_be_packed_anew(corpus: Path, packed: Path, tmp_path: Path) -> None:
    larger = pack(CorpusManifest.load(packed / "manifest.json"), tmp_path / "larger", 100)
    assert len(list((tmp_path / "larger").glob("*.tar"))) == 3
    for (file, _), entry in zip(pairs(corpus, packed), larger.entries, strict=True):
        assert np.array_equal(read_audio(file), read_audio(larger.path_of(entry)))


@pytest.mark.parametrize(
    ("name", "fault", "message"),
    [
        ("none-000000.tar::00000000.wav", "missing", "no such file"),
        ("train-000000.tar::none.wav", "missing", "no such file"),
        ("cut-000000.tar::00000001.flac", "corrupt", "the shard is damaged"),
        ("text-000000.tar::00000000.wav", "corrupt", "the shard is damaged"),
        ("empty-000000.tar::00000000.wav", "empty", "0 bytes"),
    ],
)
def test_what_cannot_be_read_from_a_shard_is_named(
    packed: Path, tmp_path: Path, name: str, fault: str, message: str
) -> None:
    whole = (packed / "train-000000.tar").read_bytes()
    (tmp_path / "train-000000.tar").write_bytes(whole)
    with tarfile.open(packed / "train-000000.tar") as tar:
        cut = tar.getmember("00000001.flac").offset_data + 100
    (tmp_path / "cut-000000.tar").write_bytes(whole[:cut])
    (tmp_path / "text-000000.tar").write_text("no tar file" * 100)
    with tarfile.open(tmp_path / "empty-000000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("00000000.wav"))
    with pytest.raises(RecordingError, match=message) as raised:
        read_audio(tmp_path / name)
    assert raised.value.fault == fault


def test_a_file_that_cannot_be_packed_is_named(corpus: Path, tmp_path: Path) -> None:
    entries = [Entry(path="lost.wav", kind="negative", label=0, split="train", seconds=1.0)]
    with pytest.raises(AudioError, match=r"lost\.wav: no such file"):
        pack(CorpusManifest.build("hey", entries, folder=tmp_path), tmp_path / "out")


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_a_shard_size_that_is_none_is_refused(corpus: Path, tmp_path: Path, size: float) -> None:
    with pytest.raises(ConfigError, match=f"--shard-mb {size}: must be above 0"):
        pack(CorpusManifest.load(corpus / "manifest.json"), tmp_path / "out", size)
