"""Windows cover recordings without gaps; their figures are those of streams: recall at a cost in events."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.config import WakewordConfig
from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.data.reading import write_audio
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.streams import Scored, StreamEvaluator, join
from edgewake.evaluation.windows import CHUNK, HOP_S, WindowEvaluator, window_figures
from edgewake.runtime.frontend import features_batch

RATE = 16000
PHRASE_LEVEL = 8000


def make_config() -> WakewordConfig:
    config = WakewordConfig()
    config.data.audio_duration = 0.9
    return config


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> CorpusManifest:
    """Two loud bursts are the phrase; a long recording is quiet but for two bursts as loud, 3 s apart."""
    root = tmp_path_factory.mktemp("windows")
    burst = (PHRASE_LEVEL * np.sin(np.arange(4800) * 0.3)).astype(np.int16)
    quiet = np.full(RATE, 3, np.int16)
    long = np.tile(quiet, 20)
    for at in (5.0, 8.0):
        long[int(at * RATE) : int(at * RATE) + len(burst)] = burst
    recordings = {
        "p0": np.concatenate([quiet, burst, quiet[:4000]]),
        "p1": burst,
        "n0": long,
        "n1": quiet[:8000],
    }
    entries = []
    for name, samples in recordings.items():
        write_audio(root / f"{name}.wav", samples)
        positive = name[0] == "p"
        entries.append(
            Entry(
                path=f"{name}.wav",
                kind="positive" if positive else "negative",
                label=1 if positive else 0,
                split="val",
                seconds=len(samples) / RATE,
                duplicate_group="same" if positive else "",
            )
        )
    return CorpusManifest.build("hey", entries, root=root)


@pytest.fixture(scope="module")
def evaluator(manifest: CorpusManifest) -> WindowEvaluator:
    return WindowEvaluator(manifest, make_config())


def loudness(windows: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    return np.asarray(np.abs(windows.astype(np.float32)).max(axis=1) / 32768, np.float32)


@given(st.integers(1, 60000), st.integers(1, 14000))
def test_every_sample_is_in_a_window_and_the_last_window_reaches_the_end(samples: int, hop: int) -> None:
    evaluator = WindowEvaluator.__new__(WindowEvaluator)
    evaluator.clip, evaluator.hop = 14400, hop
    audio = np.arange(1, samples + 1).astype(np.int16)
    windows = evaluator.windows_of(audio)
    assert windows.shape == (math.ceil(samples / hop), 14400)
    first, last = windows[0], windows[-1]
    # The first holds one hop of the recording after silence, the last its end (and zeros after it).
    assert (first[: 14400 - hop] == 0).all()
    np.testing.assert_array_equal(first[14400 - hop :][: min(hop, samples)], audio[:hop])
    rest = len(windows) * hop - samples
    assert rest < hop
    assert last[14400 - 1 - rest] == audio[-1]
    assert windows.base is not None


def test_windows_of_many_recordings_share_batches_and_come_back_apart(evaluator: WindowEvaluator) -> None:
    recordings = [np.full(length, level, np.int16) for level, length in ((1, 100), (2, 30000), (3, 5601))]
    recordings *= 300
    sizes: list[int] = []

    def score(windows: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        sizes.append(len(windows))
        return windows.max(axis=1).astype(np.float32)

    tracks = evaluator._tracks(recordings, score, lambda windows: None)
    assert [len(track) for track in tracks] == [math.ceil(len(audio) / evaluator.hop) for audio in recordings]
    for audio, track in zip(recordings, tracks, strict=True):
        assert (track == audio[0]).all()
    assert set(sizes[:-1]) == {CHUNK}


def test_a_detector_of_loudness_finds_all_phrases_and_two_false_accepts(evaluator: WindowEvaluator) -> None:
    scored = evaluator.scored(loudness)
    level = PHRASE_LEVEL / 32768
    assert scored.hours == pytest.approx(20.5 / 3600)
    # Each burst is in three windows and is one event.
    assert (scored.false > 0.9 * level).sum() == 2
    assert (scored.tops["clean"] > 0.9 * level).all()
    assert scored.weights["clean"].tolist() == [0.5, 0.5]
    assert len(scored.tops["noisy"]) == 4


def test_figures_are_those_counted_by_hand() -> None:
    scored = Scored(
        {"clean": np.array([0.9, 0.5], np.float32), "noisy": np.array([0.7, 0.2], np.float32)},
        {"clean": np.array([1.0, 3.0]), "noisy": np.array([1.0, 3.0])},
        np.array([0.8, 0.6, 0.1], np.float32),
        1.0,
    )
    figures = window_figures(scored, 0.5)
    # int(0.5 * 1 h) = 0 may pass 0.8; two may pass at 2 an hour, leaving 0.1; all at 8.
    assert figures["recall_clean"] == figures["recall_clean_at_0.5"] == pytest.approx(0.25)
    assert figures["recall_noisy"] == 0.0
    assert figures["cutoff"] == figures["cutoff_at_0.5"] == pytest.approx(0.8)
    assert figures["recall_clean_at_2"] == figures["recall_noisy_at_2"] == 1.0
    assert figures["cutoff_at_8"] == 0.0
    assert figures["recall_mean"] == pytest.approx((0.25 + 0 + 4) / 6)
    assert figures["score"] == pytest.approx((0.125 + 1 + 1) / 3 + 0.01 * math.log1p(0.2))
    assert figures["recordings"] == 4.0


def test_phrases_in_noise_are_those_that_streams_meet(manifest: CorpusManifest) -> None:
    config = make_config()
    noisy = WindowEvaluator(manifest, config, noise_seed=3).recordings["noisy"]
    stream = StreamEvaluator(manifest, config, noise_seed=3).noisy
    weights = [0.5] * len(noisy)
    ours = join(features_batch(noisy, config.frontend), weights, 120, config.model.frames_per_step)
    np.testing.assert_array_equal(ours.features, stream.features)
    np.testing.assert_array_equal(ours.weight, stream.weight)
    other = WindowEvaluator(manifest, config, noise_seed=4).recordings["noisy"]
    assert not (noisy[0] == other[0]).all()


def test_a_perfect_and_a_deaf_model_get_the_extremes(manifest: CorpusManifest) -> None:
    evaluator = WindowEvaluator(manifest, make_config())
    deaf = evaluator(lambda windows: np.zeros(len(windows), np.float32))
    assert deaf["recall_clean_at_0.5"] == deaf["recall_noisy_at_8"] == 0.0
    whole = manifest.with_entries(
        entry.model_copy(update={"path": "n1.wav", "seconds": 0.5}) if entry.path == "n0.wav" else entry
        for entry in manifest.entries
        if entry.path != "n1.wav"
    )
    perfect = WindowEvaluator(whole, make_config())(loudness)
    assert perfect["recall_clean_at_0.5"] == perfect["recall_noisy_at_0.5"] == 1.0


@pytest.mark.parametrize("hop", [0.0, -1.0, 5.0])
def test_a_hop_that_would_skip_audio_is_refused(manifest: CorpusManifest, hop: float) -> None:
    with pytest.raises(ConfigError, match=f"hop_s = {hop}.*use {HOP_S}"):
        WindowEvaluator(manifest, make_config(), hop_s=hop)


def test_a_split_that_lacks_a_class_is_named(manifest: CorpusManifest) -> None:
    with pytest.raises(EdgewakeError, match=r"'test'.*lacks a recording of the phrase"):
        WindowEvaluator(manifest, make_config(), "test")


def test_a_model_that_gives_no_numbers_is_stopped(evaluator: WindowEvaluator) -> None:
    with pytest.raises(EdgewakeError, match="not finite"):
        evaluator(lambda windows: np.full(len(windows), np.nan, np.float32))
    with pytest.raises(EdgewakeError, match="probabilities of"):
        evaluator(lambda windows: np.zeros(len(windows) + 1, np.float32))


def test_paths_of_a_manifest_may_be_relative(manifest: CorpusManifest, tmp_path: Path) -> None:
    saved = tmp_path / "manifest.json"
    manifest.save(saved)
    assert WindowEvaluator(CorpusManifest.load(saved), make_config()).windows() > 60
