"""The dataset gives raw audio or the features of the board, a label, and a hard-negative flag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from edgewake.data import CorpusManifest, Entry, WakewordDataset, read_audio, write_audio
from edgewake.data.reading import to_float
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, features

torch.set_num_threads(1)
RATE = 16_000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    entries = []
    for name, kind, split, seconds in (
        ("word0", "positive", "train", 1.5),
        ("word1", "positive", "train", 0.7),
        ("word2", "positive", "val", 3.0),
        ("talk", "negative", "train", 5.0),
        ("hum", "noise", "train", 1.5),
        ("room", "rir", "train", 0.2),
    ):
        write_audio(folder / f"{name}.wav", rng.integers(-6000, 6000, round(seconds * RATE)).astype(np.int16))
        label = {"positive": 1, "rir": None}.get(kind, 0)
        entries.append(Entry(path=f"{name}.wav", kind=kind, label=label, split=split, seconds=seconds))
    entries.append(Entry(path="lost.wav", kind="negative", label=0, split="train", seconds=1.0))
    CorpusManifest.build("word", entries).save(folder / "train.json")
    return folder / "train.json"


def test_raw_audio_as_the_guide_constructs_it(manifest: Path) -> None:
    dataset = WakewordDataset(
        manifest_path=manifest,
        sample_rate=16000,
        audio_duration=1.5,
        augment=True,
        return_raw_audio=True,
        device="cpu",
    )
    audio, labels = next(iter(DataLoader(dataset, batch_size=4)))
    assert audio.shape == (4, 24_000)
    assert audio.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert audio.abs().max() <= 1


def test_recording_of_a_clips_length_is_given_sample_for_sample(manifest: Path) -> None:
    dataset = WakewordDataset(manifest, return_raw_audio=True, split="train")
    audio, label = dataset[0]
    assert label == 1
    assert np.array_equal(audio.numpy(), to_float(read_audio(manifest.parent / "word0.wav")))


def test_features_are_the_boards_own(manifest: Path) -> None:
    dataset = WakewordDataset(manifest, split="train")
    value, _ = dataset[0]
    expected = features(read_audio(manifest.parent / "word0.wav")).astype(np.float32) * np.float32(FEATURE_SCALE)
    assert value.shape == (148, 40)
    assert np.array_equal(value.numpy(), expected)


def test_frontend_decides_the_shape(manifest: Path) -> None:
    dataset = WakewordDataset(manifest, split="train", frontend=FrontendConfig(channels=64, step_ms=20))
    assert dataset[0][0].shape == (74, 64)


def test_long_negative_is_cut_and_long_positive_stays_one(manifest: Path) -> None:
    train, val = WakewordDataset(manifest, split="train"), WakewordDataset(manifest, split="val")
    paths = [entry.path for entry in train.entries]
    assert paths == ["word0.wav", "word1.wav", "talk.wav", "talk.wav", "talk.wav", "hum.wav"]
    assert train.labels.tolist() == [1, 1, 0, 0, 0, 0]
    assert len(val) == 1
    assert val[0][0].shape == (148, 40)


def test_unusable_recording_is_counted_or_stops(manifest: Path) -> None:
    dataset = WakewordDataset(manifest, split="train")
    assert dataset.report.counts == {"missing": 1}
    with pytest.raises(EdgewakeError, match=r"lost\.wav"):
        WakewordDataset(manifest, split="train", strict=True)


def test_variation_depends_on_seed_epoch_and_clip_alone(manifest: Path) -> None:
    def clips(seed: int, epoch: int) -> list[torch.Tensor]:
        dataset = WakewordDataset(manifest, augment=True, return_raw_audio=True, split="train", seed=seed)
        dataset.set_epoch(epoch)
        return [dataset[i][0] for i in reversed(range(len(dataset)))]

    first = clips(1, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, clips(1, 2), strict=True))
    for other in (clips(1, 3), clips(2, 2)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_clips_without_variation_are_the_same_in_every_epoch(manifest: Path) -> None:
    dataset = WakewordDataset(manifest, return_raw_audio=True, split="train")
    before = dataset[1][0]
    dataset.set_epoch(5)
    assert torch.equal(dataset[1][0], before)


def test_marked_hard_negatives_come_as_a_third_part(manifest: Path) -> None:
    dataset = WakewordDataset(manifest, split="train")
    assert len(dataset[0]) == 2
    dataset.mark_hard_negatives([3])
    _, labels, hard = next(iter(DataLoader(dataset, batch_size=6)))
    assert hard.tolist() == [False, False, False, True, False, False]
    assert labels.tolist() == [1, 1, 0, 0, 0, 0]
    with pytest.raises(ConfigError, match=r"word0\.wav.*holds the phrase"):
        dataset.mark_hard_negatives([0])


def test_wrong_arguments_are_clear_errors(manifest: Path) -> None:
    with pytest.raises(ConfigError, match="sample_rate = 8000"):
        WakewordDataset(manifest, sample_rate=8000)
    with pytest.raises(ConfigError, match=r"audio_duration = 0\.01"):
        WakewordDataset(manifest, audio_duration=0.01)
    with pytest.raises(EdgewakeError, match="no usable recording"):
        WakewordDataset(manifest, split="test")
    with pytest.raises(IndexError):
        WakewordDataset(manifest, split="val")[1]
