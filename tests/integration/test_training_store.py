"""Stores hold the inputs of students and teachers for the same clips, and the share of the phrase that is set."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.data.reading import write_audio
from edgewake.data.rendering import KINDS, Chunk, Renderer, RenderPlan
from edgewake.data.store import build_store, unused_positives
from edgewake.errors import EdgewakeError
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.trainer import Trainer
from killed import killed

POSITIVES = 8


def entry(number: int, label: int, split: str = "train", group: str = "") -> Entry:
    return Entry.model_validate(
        {
            "path": f"{split}{label}{number}.wav",
            "kind": "positive" if label else "negative",
            "label": label,
            "phrase": "hey" if label else "",
            "speaker": f"{split}{label}{number}",
            "split": split,
            "seconds": 1.0,
            "duplicate_group": group,
        }
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> CorpusManifest:
    """Eight recordings of the phrase, two of which are copies of one, and four others; one of each for validation."""
    root = tmp_path_factory.mktemp("recordings")
    entries = [entry(i, 1, group="twins" if i in (2, 5) else "") for i in range(POSITIVES)]
    entries += [entry(i, 0) for i in range(4)]
    entries += [entry(0, 1, "val"), entry(0, 0, "val")]
    rng = np.random.default_rng(0)
    for each in entries:
        write_audio(root / each.path, rng.normal(0, 3000, 16000).astype(np.int16))
    return CorpusManifest.build("hey", entries, root=root)


def chunks(cache: Path) -> set[Path]:
    """Folders of rendered clips."""
    return set((cache / "clips").glob("[!.]*"))


def make_config(cache: Path | str = "", fraction: float = 1.0, seed: int = 0) -> WakewordConfig:
    config = get_preset("smoke")
    config.cache.folder = str(cache)
    config.data.audio_duration = 0.6
    config.data.positive_renders = 8
    config.data.positive_fraction = fraction
    config.training.seed = seed
    return config


def test_audio_is_what_the_features_were_computed_from(manifest: CorpusManifest, tmp_path: Path) -> None:
    from edgewake.runtime.frontend import features

    config = make_config(tmp_path)
    store = build_store(manifest, "train", config, audio=True)
    assert store.audio is not None
    assert store.audio.shape == (len(store), 480 + (store.features.shape[1] - 1) * 160)
    # The frontend's noise estimate had settled before the clip, so that loudness over time is what compares.
    found = []
    for clip in range(len(store)):
        alone = features(store.audio[clip], config.frontend)[20:].mean(axis=1)
        kept = store.features[clip][20:].mean(axis=1)
        if alone.std() > 0 and kept.std() > 0:
            found.append(np.corrcoef(alone, kept)[0, 1])
    assert len(found) > len(store) / 2
    assert np.median(found) > 0.8


def test_a_store_without_audio_has_the_same_features_and_uses_one_with_audio(
    manifest: CorpusManifest, tmp_path: Path
) -> None:
    alone = build_store(manifest, "train", make_config(tmp_path / "a"))
    both = build_store(manifest, "train", make_config(tmp_path / "b"), audio=True)
    assert alone.audio is None
    assert not list((tmp_path / "a").glob("clips/*/audio.npy"))
    np.testing.assert_array_equal(np.asarray(alone.features), np.asarray(both.features))
    before = chunks(tmp_path / "b")
    again = build_store(manifest, "train", make_config(tmp_path / "b"))
    assert (again.key, again.audio, chunks(tmp_path / "b")) == (both.key, None, before)
    later = build_store(manifest, "train", make_config(tmp_path / "a"), audio=True)
    np.testing.assert_array_equal(np.asarray(later.audio), np.asarray(both.audio))


@pytest.mark.slow
def test_clips_are_made_again_when_anything_that_decides_them_changes(
    manifest: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {build_store(manifest, "train", make_config(tmp_path)).key}
    assert build_store(manifest, "train", make_config(tmp_path)).key in keys

    def differs(of: CorpusManifest = manifest, **settings: object) -> bool:
        config = make_config(tmp_path).override(
            [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        )
        count, before = len(keys), chunks(tmp_path)
        keys.add(build_store(of, "train", config).key)
        assert (len(keys) > count) == (chunks(tmp_path) > before)
        return len(keys) > count

    assert differs(augmentation__rir_prob=0.123)
    assert differs(data__seed=3)
    assert not differs(augmentation__spec_augment_prob=0.123)  # of batches, not of clips
    room = entry(0, 0).model_copy(update={"path": "room.wav", "kind": "rir", "label": None, "seconds": 0.2})
    write_audio(manifest.folder / "room.wav", (np.exp(-np.arange(3200) / 400) * 9000).astype(np.int16))
    roomy = manifest.with_entries([*manifest.entries, room])
    assert differs(roomy)
    write_audio(manifest.folder / "room.wav", (np.exp(-np.arange(3200) / 200) * 9000).astype(np.int16))
    assert differs(roomy)
    # The C core is part of what computes features: another library, other clips.
    monkeypatch.setattr("edgewake.fingerprint.library_sha256", lambda: "0" * 64)
    assert differs()


def test_damaged_clips_are_made_again_with_one_line(
    manifest: CorpusManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = build_store(manifest, "train", make_config(tmp_path))
    whole, folder = np.array(store.features[:]), min(chunks(tmp_path))
    path = folder / "features.npy"
    os.truncate(path, path.stat().st_size // 2)
    capsys.readouterr()
    again = build_store(manifest, "train", make_config(tmp_path))
    np.testing.assert_array_equal(np.asarray(again.features), whole)
    assert capsys.readouterr().err == f"{folder} is damaged and is made again\n"


def test_new_recordings_and_more_renderings_leave_the_clips_that_are_there(
    manifest: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewake.data.store.CHUNK_CLIPS", 1)  # a chunk for every recording and pass
    before = build_store(manifest, "train", make_config(tmp_path))
    kept = {folder: folder.stat().st_mtime_ns for folder in chunks(tmp_path)}
    new = entry(POSITIVES, 1)
    write_audio(manifest.folder / new.path, np.random.default_rng(9).normal(0, 2000, 16000).astype(np.int16))
    config = make_config(tmp_path)
    config.data.positive_renders, config.data.negative_renders = 11, 3
    after = build_store(manifest.with_entries([new, *manifest.entries]), "train", config)
    assert {folder: folder.stat().st_mtime_ns for folder in kept} == kept
    # Of the phrase a pass of 3 for each and a pass of 8 for the new one, its fragments, and a pass of each negative.
    assert len(chunks(tmp_path)) - len(kept) == POSITIVES + 2 + 1 + 4
    old = {bytes(clip) for clip in np.asarray(before.features)}
    assert old < {bytes(clip) for clip in np.asarray(after.features)}
    assert len(after) == len(before) + POSITIVES * 3 + 11 + 3 + 4 * 2


def test_an_interrupted_rendering_goes_on(
    manifest: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewake.data.store.CHUNK_CLIPS", 1)
    whole, made = Renderer.__call__, []

    def some(self: Renderer, chunk: Chunk, *rest: object) -> None:
        made.append(chunk)
        if len(made) == 6:
            raise KeyboardInterrupt
        whole(self, chunk, *rest)

    monkeypatch.setattr(Renderer, "__call__", some)
    with pytest.raises(KeyboardInterrupt):
        build_store(manifest, "train", make_config(tmp_path))
    assert len(chunks(tmp_path)) == 5
    build_store(manifest, "train", make_config(tmp_path))
    assert len(made) == 6 + len(chunks(tmp_path)) - 5
    assert len(set(made)) == len(chunks(tmp_path))


def test_a_killed_rendering_goes_on(manifest: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewake.data.store.CHUNK_CLIPS", 1)
    config = make_config(tmp_path)

    def action(begin: Callable[[], None]) -> None:
        begin()
        build_store(manifest, "train", config)

    assert killed(action, ["replace"], 12)
    kept = {folder: folder.stat().st_mtime_ns for folder in chunks(tmp_path)}
    assert len(kept) == 5  # two renames each
    build_store(manifest, "train", config)
    assert len(chunks(tmp_path)) > 5
    assert {folder: folder.stat().st_mtime_ns for folder in kept} == kept


@pytest.mark.slow
def test_clips_are_the_same_whatever_renders_them(manifest: CorpusManifest, tmp_path: Path) -> None:
    config = make_config(tmp_path / "processes")
    config.training.workers = 2
    alone, together = (build_store(manifest, "val", each) for each in (make_config(tmp_path / "alone"), config))
    np.testing.assert_array_equal(np.asarray(alone.features), np.asarray(together.features))


def test_what_is_near_the_phrase_is_placed_like_it_and_no_match(manifest: CorpusManifest, tmp_path: Path) -> None:
    near = entry(0, 0).model_copy(update={"family": "near_kokoro", "phrase_start": 0.2, "phrase_end": 0.7})
    config = make_config(tmp_path)
    config.data.near_renders, config.data.fragment_renders = 9, 5
    store = build_store(manifest.with_entries([near, *manifest.entries[:POSITIVES], entry(1, 0)]), "train", config)
    count = {kind: int((store.kinds == number).sum()) for number, kind in enumerate(KINDS)}
    assert count == {"positive": 8 * 8, "near": 9, "fragment": 8 * 5, "negative": 4}
    assert set(store.entries[store.kinds == KINDS.index("near")]) == {0}
    np.testing.assert_array_equal(store.labels, store.kinds == 0)


def test_epochs_take_other_stretches_of_long_negatives(manifest: CorpusManifest, tmp_path: Path) -> None:
    long = entry(9, 0).model_copy(update={"seconds": 6.0})
    write_audio(manifest.folder / long.path, np.random.default_rng(2).normal(0, 2000, 96000).astype(np.int16))
    config = make_config(tmp_path)
    config.data.negative_crop = 2.0
    store = build_store(manifest.with_entries([*manifest.entries, long]), "train", config)
    frames = RenderPlan.of(config).frames
    assert store.features.shape[1] == frames
    spare = store.features.spare()
    assert set(spare) == {0, frames}
    clips = np.flatnonzero(spare)
    assert set(store.entries[clips]) == {len(manifest.entries)}
    taken = []
    for epoch in (0, 1, 0):
        store.set_epoch(epoch)
        taken.append(store.inputs_of(clips))
        np.testing.assert_array_equal(store.inputs_of(int(clips[0])), taken[-1][0])
    assert torch.equal(taken[0], taken[2])
    assert not torch.equal(taken[0], taken[1])


def test_a_fraction_of_the_phrase_leaves_out_its_clips_and_fragments(manifest: CorpusManifest, tmp_path: Path) -> None:
    whole = build_store(manifest, "train", make_config(tmp_path), audio=True)
    part = build_store(manifest, "train", make_config(tmp_path, 0.5), audio=True)
    assert part.key == whole.key
    unused = unused_positives(manifest, make_config("", 0.5))
    assert set(part.entries) == set(whole.entries) - unused
    kept = np.flatnonzero(~np.isin(whole.entries, list(unused)))
    for name in ("labels", "kinds", "entries", "base_weights", "weights", "hard"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[kept])
    np.testing.assert_array_equal(np.asarray(part.features), np.asarray(whole.features)[kept])
    np.testing.assert_array_equal(np.asarray(part.audio), np.asarray(whole.audio)[kept])
    assert torch.equal(part[3][0], whole[int(kept[3])][0])
    assert (part.labels == 0).sum() > 0
    assert len(part) < len(whole)


@settings(max_examples=60)
@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.integers(0, 1000), st.integers(0, 2**31))
def test_fractions_keep_copies_together_and_nest(first: float, second: float, seed: int, shape: int) -> None:
    rng = np.random.default_rng(shape)
    groups = ["", "a", "b", "c"]
    entries = [entry(i, 1, group=groups[rng.integers(4)]) for i in range(int(rng.integers(1, 12)))]
    manifest = CorpusManifest.build("hey", [*entries, entry(0, 0), entry(0, 1, "val")])
    small, large = sorted((first, second))
    few, many = (unused_positives(manifest, make_config("", share, seed)) for share in (small, large))
    assert many <= few
    for unused in (few, many):
        assert unused < set(range(len(entries)))
        for group in "abc":
            same = {i for i, e in enumerate(entries) if e.duplicate_group == group}
            assert not same & unused or same <= unused
    assert not unused_positives(manifest, make_config("", 1.0, seed))


def test_the_seed_of_training_draws_the_fraction(manifest: CorpusManifest) -> None:
    drawn = {frozenset(unused_positives(manifest, make_config("", 0.5, seed))) for seed in range(8)}
    assert len(drawn) > 1
    assert unused_positives(manifest, make_config("", 0.5, 3)) == unused_positives(manifest, make_config("", 0.5, 3))


def test_a_store_gives_audio_to_students_whose_features_are_computed_on_the_way(
    manifest: CorpusManifest, tmp_path: Path
) -> None:
    store = build_store(manifest, "train", make_config(tmp_path), audio=True)
    store.gives_audio = True
    assert store.audio is not None
    clip, label, hard, number = store[5]
    assert (label, hard, number) == (int(store.labels[5]), False, 5)
    np.testing.assert_array_equal(clip.numpy(), store.audio[5] / np.float32(32768))
    negatives = np.flatnonzero(store.labels == 0)
    assert torch.equal(next(store.batches(negatives, 3))[1], store[int(negatives[1])][0])


def test_mining_sees_what_the_student_sees(manifest: CorpusManifest, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    store = build_store(manifest, "train", config, audio=True)
    store.gives_audio = True
    seen = []

    class Loudest(Trainer):
        def process_inputs(self, inputs: torch.Tensor, *, train: bool) -> torch.Tensor:
            seen.append((inputs.shape[1], train))
            return inputs.abs().amax(1, keepdim=True)

    config.training.mining_interval = 1
    model = torch.nn.Linear(1, 2)
    trainer = Loudest(model, store.loader(batch_size=4), None, config, CheckpointManager(tmp_path / "run"))
    assert trainer._mine()["hard_negatives"] >= 0
    assert store.audio is not None
    assert set(seen) == {(store.audio.shape[1], False)}
    assert (store.weights[store.labels == 0] > store.base_weights[store.labels == 0]).all()


def test_a_store_that_the_disk_has_no_room_for_is_refused(
    manifest: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("edgewake.cache.shutil.disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(EdgewakeError, match=r"has 0\.0 free: .*set cache\.folder"):
        build_store(manifest, "train", make_config(tmp_path), audio=True)


def test_much_disk_is_reported_before_it_is_used(
    manifest: CorpusManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("edgewake.data.store.MUCH_BYTES", 1e5)
    build_store(manifest, "train", make_config(tmp_path), audio=True)
    assert "clips of train: 0.0 GB in" in capsys.readouterr().err
