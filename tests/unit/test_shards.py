"""A corpus in shards is the corpus in files: the same bytes, samples and features, by name or in a stream."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader

from edgewake.cli import main
from edgewake.config.presets import get_preset
from edgewake.data import (
    CorpusManifest,
    Entry,
    ShardStream,
    WakewordDataset,
    pack,
    read_audio,
    scan,
    write_audio,
)
from edgewake.data import shards as module
from edgewake.data.reading import CorruptAudioError, EmptyAudioError, MissingAudioError, to_float
from edgewake.data.shards import ShardReader, file_of, index_path, shards_of, split_path, stream_samples
from edgewake.data.store import build_store
from edgewake.errors import AudioError, ConfigError, EdgewakeError

torch.set_num_threads(1)
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
        build_store(CorpusManifest.load(folder / "manifest.json"), "train", config, tmp_path / name, audio=True)
        for name, folder in (("files", corpus), ("shards", packed))
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


@pytest.mark.parametrize("index", ["gone", "of another shard", "not JSON"])
def test_a_shard_is_read_without_its_index_too(packed: Path, tmp_path: Path, index: str) -> None:
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes((packed / shard.name).read_bytes())
    if index == "of another shard":
        index_path(shard).write_text(json.dumps({"bytes": 1, "members": {"00000000.wav": [0, 4]}}))
    elif index == "not JSON":
        index_path(shard).write_text("{")
    assert len(read_audio(f"{shard}::00000000.wav")) == RATE


def test_a_reader_opens_each_shard_once_and_keeps_few(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    original = module._open_shard

    def count(shard: Path) -> object:
        opened.append(shard)
        return original(shard)

    monkeypatch.setattr(module, "_open_shard", count)
    manifest = CorpusManifest.load(packed / "manifest.json")
    paths = [split_path(manifest.path_of(entry)) for entry in manifest.entries]
    reader = ShardReader()
    for _ in range(3):
        for path in paths:
            assert path is not None
            reader.read(*path)
    assert len(opened) == len(set(opened)) == len({path[0] for path in paths if path})
    reader.close()
    opened.clear()
    small = ShardReader(limit=2)
    for path in paths:
        assert path is not None
        small.read(*path)
        assert len(small._open) <= 2
    small.close()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none-000000.tar::00000000.wav", MissingAudioError, "No such file"),
        ("train-000000.tar::none.wav", MissingAudioError, "has no member none.wav"),
        ("cut-000000.tar::00000001.flac", CorruptAudioError, "ends .* B before"),
        ("text-000000.tar::00000000.wav", CorruptAudioError, "the shard is damaged"),
        ("empty-000000.tar::00000000.wav", EmptyAudioError, "0 bytes"),
    ],
)
def test_what_cannot_be_read_from_a_shard_is_named(
    packed: Path, tmp_path: Path, name: str, error: type[AudioError], message: str
) -> None:
    whole = (packed / "train-000000.tar").read_bytes()
    (tmp_path / "train-000000.tar").write_bytes(whole)
    members = json.loads(index_path(packed / "train-000000.tar").read_text())["members"]
    cut = members["00000001.flac"][0] + 100
    (tmp_path / "cut-000000.tar").write_bytes(whole[:cut])
    index_path(tmp_path / "cut-000000.tar").write_text(json.dumps({"bytes": cut, "members": members}))
    (tmp_path / "text-000000.tar").write_text("no tar file" * 100)
    with tarfile.open(tmp_path / "empty-000000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("00000000.wav"))
    with pytest.raises(error, match=message):
        read_audio(tmp_path / name)


def test_a_file_that_cannot_be_packed_is_named(corpus: Path, tmp_path: Path) -> None:
    entries = [Entry(path="lost.wav", kind="negative", label=0, split="train", seconds=1.0)]
    with pytest.raises(AudioError, match=r"lost\.wav: cannot be read"):
        pack(CorpusManifest.build("hey", entries, folder=tmp_path), tmp_path / "out")
    with pytest.raises(ConfigError, match="--shard-mb 0"):
        pack(CorpusManifest.load(corpus / "manifest.json"), tmp_path / "out", 0)


def keys(shards: list[Path], epoch: int = 0, seed: int = 0) -> list[str]:
    return [key for key, *_ in stream_samples(shards, seed=seed, epoch=epoch, buffer=4)]


def test_a_stream_has_every_recording_once_in_an_order_that_a_seed_repeats(packed: Path) -> None:
    manifest = CorpusManifest.load(packed / "manifest.json")
    shards = shards_of(manifest, "train")
    assert len(shards) >= 3
    wanted = sorted(Path(entry.path.split("::")[1]).stem for entry in manifest.select(split="train"))
    first = keys(shards)
    assert sorted(first) == wanted
    assert first != wanted
    assert keys(shards) == first
    assert keys(shards, epoch=1) != first
    assert keys(shards, seed=1) != first


def test_processes_share_a_stream(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = shards_of(CorpusManifest.load(packed / "manifest.json"), "train")
    alone = keys(shards)
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        parts.append(keys(shards))
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == sorted(alone)
    monkeypatch.setenv("WORLD_SIZE", "99")
    with pytest.raises(ConfigError, match="shards for 99 processes"):
        keys(shards)


def test_workers_share_a_stream_of_clips(packed: Path) -> None:
    stream = ShardStream(packed / "manifest.json", 0.9, seed=3)
    heard = {}
    for workers in (0, 2):
        loader = DataLoader(stream, batch_size=4, num_workers=workers)
        heard[workers] = sorted(
            (int(label), clip.tobytes())
            for audio, labels in loader
            for clip, label in zip(audio.numpy(), labels, strict=True)
        )
    assert heard[0] == heard[2]
    # Nine recordings of a second and one of five, which is six clips of 0.9 s; the room is none.
    assert len(heard[0]) == 9 + 6


def test_a_streamed_clip_is_the_recording(corpus: Path, packed: Path) -> None:
    stream = ShardStream(packed / "manifest.json", 1.0, split="test")
    found = sorted((label, audio.numpy().tobytes()) for audio, label in stream)
    files = CorpusManifest.load(corpus / "manifest.json")
    dataset = WakewordDataset(files, audio_duration=1.0, return_raw_audio=True, split="test")
    assert found == sorted((label, audio.numpy().tobytes()) for audio, label in dataset)
    assert {audio for _, audio in found} == {
        to_float(read_audio(files.path_of(entry))).tobytes() for entry in files.select(split="test")
    }


def test_streamed_clips_vary_by_epoch_and_repeat_by_seed(packed: Path) -> None:
    stream = ShardStream(packed / "manifest.json", 0.9, augment=True, split="val", seed=2)

    def epoch(number: int) -> list[bytes]:
        stream.set_epoch(number)
        return sorted(audio.numpy().tobytes() for audio, _ in stream)

    first = epoch(0)
    assert epoch(1) != first
    assert epoch(0) == first


def test_a_stream_names_what_it_leaves_out(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ShardStream(packed / "manifest.json", 0.9, max_seconds=2.0)
    assert len(list(short)) == 9
    assert "left out: 00000002.ogg" in capsys.readouterr().err
    with pytest.raises(AudioError, match="limit"):
        list(ShardStream(packed / "manifest.json", 0.9, max_seconds=2.0, strict=True))


def test_a_stream_needs_shards(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="corpus pack"):
        ShardStream(corpus / "manifest.json")
