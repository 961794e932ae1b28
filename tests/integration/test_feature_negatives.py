"""Features that others stored are read as our frontend computes them, or refused, and training draws their clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmap_ninja.ragged import RaggedMmap
from numpy.typing import NDArray
from pymicro_features import MicroFrontend

from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.data.clips import ClipArray
from edgewake.data.manifest import CorpusManifest
from edgewake.data.ragged import RaggedFeatures
from edgewake.data.rendering import KINDS, RenderPlan
from edgewake.data.store import build_store
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, features
from edgewake.training.run import train_command

FRAMES = 60


def recordings(*seconds: float) -> list[NDArray[np.int16]]:
    rng = np.random.default_rng(0)
    return [np.clip(np.cumsum(rng.normal(0, 300, round(16000 * s))) % 9000, 0, 9000).astype(np.int16) for s in seconds]


def as_microwakeword(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """By pymicro-features, 160 samples at a time."""
    frontend, found = MicroFrontend(), []
    for begin in range(0, len(samples) - 159, 160):
        if got := frontend.process_samples(samples[begin : begin + 160].tobytes()).features:
            found.append(got)
    return np.array(found, np.float32)


def write(folder: Path, items: Sequence[NDArray[Any]]) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    RaggedMmap.from_generator(folder, iter(items), batch_size=2)  # the later batches extend the first
    return folder


@pytest.fixture
def spoken() -> list[NDArray[np.int16]]:
    return recordings(1.0, 0.3, 4.0, 2.0, 1.5)


@pytest.mark.parametrize("kind", ["float32 of pymicro-features", "uint16 of ours"])
def test_what_is_read_equals_our_frontend_bit_for_bit(
    kind: str, spoken: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    ours = [features(samples, FrontendConfig()) for samples in spoken]
    items = ours if kind == "uint16 of ours" else [as_microwakeword(samples) for samples in spoken]
    store = RaggedFeatures(write(tmp_path / "a_mmap", items), 10_000, 40)
    assert len(store) == len(ours)
    for number, wanted in enumerate(ours):
        assert store.lengths[number] == len(wanted)
        found = store[number, slice(0, len(wanted))]
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, wanted)


def test_long_items_are_sections_and_short_ones_have_zeros_before(
    spoken: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    ours = [features(samples, FrontendConfig()) for samples in spoken]
    store = RaggedFeatures(write(tmp_path / "a_mmap", ours), FRAMES, 40)
    counts = [max(1, len(item) // (2 * FRAMES)) for item in ours]
    assert counts == [1, 1, 3, 1, 1]
    assert len(store) == sum(counts)
    assert store.lengths.sum() == sum(map(len, ours))
    long = np.concatenate([store[number, slice(0, int(store.lengths[number]))] for number in (2, 3, 4)])
    np.testing.assert_array_equal(long, ours[2])
    short = store[1, slice(0, FRAMES)]
    np.testing.assert_array_equal(short[-len(ours[1]) :], ours[1])
    assert not short[: -len(ours[1])].any()


def test_a_store_is_mapped_and_not_copied(spoken: list[NDArray[np.int16]], tmp_path: Path) -> None:
    items = [as_microwakeword(samples) for samples in spoken]
    store = RaggedFeatures(write(tmp_path / "a_mmap", items), FRAMES, 40)
    owner: Any = store.rows
    while isinstance(owner, np.ndarray):
        assert not owner.flags.owndata
        owner = owner.base
    assert type(owner).__name__ == "mmap"


def test_epochs_take_other_stretches_of_the_items(spoken: list[NDArray[np.int16]], tmp_path: Path) -> None:
    ours = [features(samples, FrontendConfig()) for samples in spoken]
    store = RaggedFeatures(write(tmp_path / "a_mmap", ours), FRAMES, 40)
    rendered = np.arange(2 * FRAMES * 40, dtype=np.uint16).reshape(2, FRAMES, 40)
    clips = ClipArray.whole([rendered, store])
    assert clips.shape == (2 + len(store), FRAMES, 40)
    np.testing.assert_array_equal(clips.spare(), [0, 0, *np.maximum(store.lengths - FRAMES, 0)])
    taken = []
    for seed in range(3):
        clips.first = np.random.default_rng(seed).integers(clips.spare(), endpoint=True)
        taken.append(np.asarray(clips))
        for number, found in enumerate(taken[-1][2:]):
            first, last = clips.first[2 + number], clips.first[2 + number] + FRAMES
            np.testing.assert_array_equal(found, store[number, slice(int(first), int(last))])
    np.testing.assert_array_equal(taken[0][:2], rendered)
    assert any((taken[0][2:] != other[2:]).any() for other in taken[1:])
    np.testing.assert_array_equal(clips[5], taken[-1][5])


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f * FEATURE_SCALE * 1.5, r"holds [\d.]+, which is [\d.]+5 units of 0.0390625"),
        (lambda f: f.astype(np.float32), r"holds [\d.]+, which is [\d.]+ units of 0.0390625; .* 0 to 700"),
        (lambda f: f * 4, r"holds \d+, which is \d+ units of 0.0390625; features are whole numbers of them, 0 to 700"),
        (
            lambda f: (f * FEATURE_SCALE).astype(np.uint16),
            r"reaches \d+ units in .* stretches .*: it has another scale",
        ),
        (lambda f: f.astype(np.int16), "holds int16: features are uint16 or floats"),
        (lambda f: f[:, :39], r"has an item of shape \[\d+, 39\]: features are \(frames, 40\)"),
        (lambda f: f[:, 0], r"has an item of shape \[\d+\]"),
        (lambda f: f * np.float32(FEATURE_SCALE) - 99, r"holds -\d+"),
        (lambda f: np.where(f > 99, np.nan, f * FEATURE_SCALE), "holds nan"),
    ],
)
def test_another_scale_or_shape_is_refused_by_the_value(
    change: Callable[[NDArray[Any]], NDArray[Any]], message: str, spoken: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    items = [change(features(samples, FrontendConfig())) for samples in spoken]
    with pytest.raises(ConfigError, match=message) as error:
        RaggedFeatures(write(tmp_path / "a_mmap", items), FRAMES, 40)
    assert "data.feature_negatives" in str(error.value)


def test_a_damaged_or_missing_store_is_named(
    manifest: CorpusManifest, spoken: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    folder = write(tmp_path / "stores" / "a_mmap", [as_microwakeword(samples) for samples in spoken])
    config = make_config(tmp_path / "cache", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"data.feature_negatives: .*gone is no folder"):
        build_store(manifest, "train", config)
    config.data.feature_negatives = (str(tmp_path),)
    with (folder / "data.ninja").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ConfigError, match="a_mmap is no whole RaggedMmap"):
        build_store(manifest, "train", config)
    (folder / "data.ninja").unlink()
    with pytest.raises(ConfigError, match=r"holds no RaggedMmap \(a folder with data.ninja and starts\)"):
        build_store(manifest, "train", config)
    assert not (tmp_path / "cache").exists()  # before anything was rendered


def test_what_has_no_use_for_them_refuses_them(
    manifest: CorpusManifest, spoken: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    folder = write(tmp_path / "a_mmap", [as_microwakeword(samples) for samples in spoken])
    config = make_config(tmp_path / "cache", str(folder))
    with pytest.raises(ConfigError, match=r"a_mmap has no audio, which a teacher or this student needs"):
        build_store(manifest, "train", config, audio=True)
    config.frontend.step_ms = 20
    with pytest.raises(ConfigError, match=r"are features of frontend.step_ms 10, this is 20"):
        build_store(manifest, "train", config)


# Training


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> CorpusManifest:
    root = tmp_path_factory.mktemp("corpus")
    tones(root)
    return CorpusManifest.load(root / "manifest.json")


def make_config(cache: Path, *folders: str) -> WakewordConfig:
    config = get_preset("smoke")
    config.data.phrase = "hey"
    config.data.audio_duration = 0.9
    config.data.positive_renders = 6
    config.data.feature_negatives = folders
    config.cache.folder = str(cache)
    config.training.workers = 0
    config.training.threads = 1
    return config


def test_a_store_of_training_has_their_clips_after_the_rendered_ones(
    manifest: CorpusManifest, spoken: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    for place in ("speech/training/one_mmap", "speech/training/deep/two_mmap", "speech/validation/three_mmap"):
        write(tmp_path / place, [as_microwakeword(samples) for samples in spoken])
    config = make_config(tmp_path / "cache", str(tmp_path / "speech"))
    config.data.feature_negative_weight = 0.5
    plain = build_store(manifest, "train", make_config(tmp_path / "cache"))
    store = build_store(manifest, "train", config)
    frames, more = RenderPlan.of(config).frames, len(store) - len(plain)
    assert more == 2 * sum(max(1, len(as_microwakeword(samples)) // (2 * frames)) for samples in spoken)
    new = np.arange(len(plain), len(store))
    assert (set(store.kinds[new]), set(store.labels[new])) == ({KINDS.index("negative")}, {0})
    assert (set(store.entries[new]), set(store.weights[new])) == ({-1}, {0.5})
    assert store.key != plain.key
    for each in (plain, store):
        each.set_epoch(3)
    np.testing.assert_array_equal(np.asarray(store.features)[: len(plain)], np.asarray(plain.features))
    whole = {bytes(row) for samples in spoken for row in features(samples, FrontendConfig())}
    inputs = store.inputs_of(new).numpy() / np.float32(FEATURE_SCALE)
    assert all(bytes(row.astype(np.uint16)) in whole for clip in inputs for row in clip if row.any())
    assert len(build_store(manifest, "val", config)) == len(
        build_store(manifest, "val", make_config(tmp_path / "cache"))
    )


@pytest.mark.slow
def test_training_runs_on_them_and_draws_their_clips(
    manifest: CorpusManifest, spoken: list[NDArray[np.int16]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "a_mmap", [as_microwakeword(samples) for samples in spoken])
    config = make_config(tmp_path / "cache", str(folder))
    config.data.manifest = str(manifest.folder / "manifest.json")
    config.data.feature_negative_weight = 100.0
    config.training.hard_negative_mining = False
    drawn: Counter[int] = Counter()
    whole = RaggedFeatures.__getitem__

    def counted(self: RaggedFeatures, place: tuple[Any, slice]) -> NDArray[np.uint16]:
        drawn[int(place[0])] += 1
        return whole(self, place)

    monkeypatch.setattr(RaggedFeatures, "_check", lambda self: None)  # which reads, too
    monkeypatch.setattr(RaggedFeatures, "__getitem__", counted)
    result = train_command(config, tmp_path / "run", resume=False)
    assert Path(result["model"]).is_dir()
    assert set(drawn) == set(range(6))  # the item of 4 s is two
    # With that weight nearly every negative of a batch is one of theirs.
    negatives = round(config.training.batch_size * 0.75) * result["steps"]
    assert sum(drawn.values()) > 0.5 * negatives
    config.data.feature_negatives = ()
    with pytest.raises(EdgewakeError, match=r"data.feature_negatives = \(\), but the run"):
        train_command(config, tmp_path / "run", resume=True)
