"""Recordings are rendered once under a key of all that decides them; every scorer steps them from reset to end."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.cache import Cache
from edgewake.config import FrontendConfig, WakewordConfig
from edgewake.data.augment import synthetic_noise
from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.data.reading import write_audio
from edgewake.errors import EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator, cutoff_on_validation
from edgewake.evaluation.recordings import CLEAN, NEGATIVE, Noise, SplitRecordings
from edgewake.evaluation.rooms import LEAST_ROOMS, ROOMS, in_room, responses_of
from edgewake.evaluation.tracks import Int8Scorer, score_split, weights
from edgewake.evaluation.trained_scorers import CLIPS_AT_ONCE, ClipScorer, TinyConvScorer
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.events import smooth_probabilities
from edgewake.runtime.frontend import features, features_batch
from random_models import random_student

RATE = 16000
PHRASE_LEVEL = 8000
SYNTHETIC = Noise(draws=2, synthetic=synthetic_noise)


@pytest.fixture
def config(tmp_path: Path) -> WakewordConfig:
    config = WakewordConfig()
    config.data.audio_duration = 0.9
    config.cache.folder = str(tmp_path / "cache")
    return config


def write_corpus(root: Path) -> CorpusManifest:
    """Two loud bursts are the phrase; a long recording is quiet but for two bursts as loud, 3 s apart."""
    burst = (PHRASE_LEVEL * np.sin(np.arange(4800) * 0.3)).astype(np.int16)
    quiet = np.full(RATE, 3, np.int16)
    long = np.tile(quiet, 20)
    for at in (5.0, 8.0):
        long[int(at * RATE) : int(at * RATE) + len(burst)] = burst
    recordings = {"p0": np.concatenate([quiet, burst, quiet[:4000]]), "p1": burst, "n0": long, "n1": quiet[:8000]}
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
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusManifest:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def student() -> TinyConv:
    return random_student(smoothing=4)


def loudness(windows: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    return np.asarray(np.abs(windows.astype(np.float32)).max(axis=1) / 32768, np.float32)


# ---- recordings ----------------------------------------------------------------------------------


def test_features_are_those_of_the_audio_and_are_not_rendered_twice(
    corpus: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewake.evaluation.rooms.LEAST_ROOMS", 1)
    recordings = SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path))
    frontend = FrontendConfig()
    rendered = {}
    for condition, jobs in recordings.jobs.items():
        audio = [recordings.audio(job) for job in jobs]
        [(given, samples, seconds)] = recordings.batches(condition, None)
        [(also, made, same_seconds)] = rendered[condition] = list(recordings.batches(condition, frontend))
        assert given == also == jobs
        assert seconds == same_seconds == [len(each) / RATE for each in audio]
        for ours, theirs in zip(samples, audio, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for ours, theirs in zip(made, features_batch(audio, frontend), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    monkeypatch.setattr(SplitRecordings, "audio", None)
    again = SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path))
    for condition, [(_, made, _)] in rendered.items():
        [(_, found, _)] = again.batches(condition, frontend)
        for ours, theirs in zip(made, found, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(list((tmp_path / "recordings").iterdir())) == len(recordings.jobs)


def test_another_frontend_noise_or_content_is_rendered_again(tmp_path: Path) -> None:
    corpus, cache = write_corpus(tmp_path), Cache(tmp_path / "cache")

    def noisy(noise: Noise, frontend: FrontendConfig) -> npt.NDArray[np.uint16]:
        [(_, values, _)] = SplitRecordings(corpus, "val", noise, cache).batches(noise.condition, frontend)
        return np.concatenate(values)

    first = noisy(SYNTHETIC, FrontendConfig())
    assert np.array_equal(first, noisy(SYNTHETIC, FrontendConfig()))
    for changed in (
        noisy(Noise(draws=2, seed=1, synthetic=synthetic_noise), FrontendConfig()),
        noisy(Noise(draws=2, snr_db=0.0, synthetic=synthetic_noise), FrontendConfig()),
        noisy(SYNTHETIC, FrontendConfig(pcan=False)),
    ):
        assert changed.shape == first.shape
        assert not np.array_equal(first, changed)
    write_audio(tmp_path / "p1.wav", np.full(4800, 900, np.int16))
    assert not np.array_equal(first, noisy(SYNTHETIC, FrontendConfig()))


def test_features_of_another_native_library_are_not_taken_from_the_cache(
    corpus: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries() -> int:
        list(SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path)).batches(NEGATIVE, FrontendConfig()))
        return len(list((tmp_path / "recordings").iterdir()))

    assert (entries(), entries()) == (1, 1)
    monkeypatch.setattr("edgewake.fingerprint.library_sha256", lambda: "0" * 64)
    assert entries() == 2


def test_noise_depends_on_the_recording_and_not_on_its_place(corpus: CorpusManifest, tmp_path: Path) -> None:
    recordings = SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path))
    turned = SplitRecordings(corpus.with_entries(corpus.entries[::-1]), "val", SYNTHETIC, Cache(tmp_path))
    jobs = {(job.entry.path, job.draw): job for job in turned.jobs["10db"]}
    for job in recordings.jobs["10db"]:
        np.testing.assert_array_equal(recordings.audio(job), turned.audio(jobs[job.entry.path, job.draw]))


def with_rooms(corpus: CorpusManifest, count: int) -> CorpusManifest:
    """The corpus and measured rooms of its split: a direct path and a decaying tail."""
    rng = np.random.default_rng(5)
    entries = list(corpus.entries)
    for number in range(count):
        tail = rng.standard_normal(RATE // 2) * np.exp(-np.arange(RATE // 2) / 2000) * 2000
        tail[:40] = 0
        tail[7] = 25000
        write_audio(corpus.folder / f"room{number}.wav", tail.astype(np.int16))
        entries.append(Entry(path=f"room{number}.wav", kind="rir", label=None, split="val", seconds=0.5))
    return corpus.with_entries(entries)


def test_the_room_of_a_recording_depends_on_its_path_and_the_seed_alone(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    others = CorpusManifest.build("hey", corpus.entries[::-1], root=tmp_path)
    corpus, others = (with_rooms(each, LEAST_ROOMS) for each in (corpus, others))
    recordings = SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path))
    # Enough measured rooms: none is simulated.
    assert (len(recordings.measured), recordings.simulated) == (LEAST_ROOMS, 0)
    turned = SplitRecordings(others, "val", SYNTHETIC, Cache(tmp_path))
    other = SplitRecordings(corpus, "val", Noise(draws=2, seed=1, synthetic=synthetic_noise), Cache(tmp_path))
    differing = 0
    for name in ROOMS:
        jobs = {(job.entry.path, job.draw): job for job in turned.jobs[name]}
        assert len(jobs) == 2 * len(recordings.jobs[CLEAN])
        for job in recordings.jobs[name]:
            audio = recordings.audio(job)
            differing += not np.array_equal(audio, other.audio(job))
            np.testing.assert_array_equal(audio, turned.audio(jobs[job.entry.path, job.draw]))
    assert differing


def test_simulated_rooms_join_few_measured_ones_and_are_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="rooms are simulated: pip install 'edgewake[synthesis]'")
    corpus = with_rooms(write_corpus(tmp_path), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewake.evaluation.rooms.LEAST_ROOMS", 3)
        recordings = SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path))
        assert (len(recordings.measured), recordings.simulated) == (2, 1)
        first, again = (responses_of(corpus, "val") for _ in range(2))
    assert len(first) == 3
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
        # From the direct path on.
        assert np.abs(one[: RATE // 400]).max() == np.abs(one).max()


def test_a_split_without_rooms_has_no_recall_by_distance(
    corpus: CorpusManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewake.evaluation.rooms.find_spec", lambda name: None)
    assert not set(ROOMS) & SplitRecordings(corpus, "val", SYNTHETIC, Cache(tmp_path)).jobs.keys()


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9), st.integers(100, 3000))
@settings(max_examples=20)
def test_near_and_far_have_their_direct_share_and_the_same_reverberation(seed: int, decay: float, length: int) -> None:
    rng = np.random.default_rng(seed)
    response = (rng.standard_normal(8000) * np.exp(-np.arange(8000) / (decay * 4000))).astype(np.float32)
    response[0] = 6
    impulse = np.zeros(length + 8000, np.float32)
    impulse[0] = 1
    direct, energies, tails = RATE // 400, {}, []
    for condition, ratio in ROOMS.items():
        found = in_room(impulse, response, condition).astype(np.float64)
        early, late = (float(np.square(part).sum()) for part in (found[:direct], found[direct:]))
        assert 10 * math.log10(early / late) == pytest.approx(ratio, abs=0.01)
        energies[condition] = early + late
        tails.append(found[direct:])
    np.testing.assert_allclose(*tails, atol=1e-6)
    assert energies["near_room"] == pytest.approx(1, abs=1e-4)
    assert energies["far_room"] < 0.5
    # Sound comes as late as it was: what follows the impulse by so much does in the room.
    audio = rng.standard_normal(length).astype(np.float32)
    wet = in_room(audio, response, "far_room")
    np.testing.assert_allclose(wet, np.convolve(audio, in_room(impulse, response, "far_room"))[:length], atol=1e-4)


def test_a_response_without_reverberation_leaves_audio_as_it_is() -> None:
    audio = np.ones(100, np.float32)
    np.testing.assert_array_equal(in_room(audio, np.eye(1, 400, dtype=np.float32)[0], "far_room"), audio)


@pytest.mark.parametrize(
    ("split", "noise", "message"),
    [
        ("test", SYNTHETIC, "split test has no recordings with the phrase"),
        ("val", Noise(), "split val has no recordings of noise"),
        ("val", Noise(kinds=("noise", "music")), "split val has no recordings of noise or music"),
    ],
)
def test_a_split_that_lacks_recordings_is_named(
    corpus: CorpusManifest, tmp_path: Path, split: str, noise: Noise, message: str
) -> None:
    with pytest.raises(EdgewakeError, match=message):
        SplitRecordings(corpus, split, noise, Cache(tmp_path))


# ---- scorers -------------------------------------------------------------------------------------


def test_tiny_conv_scores_recordings_together_as_one_by_one(student: TinyConv, config: WakewordConfig) -> None:
    scorer = TinyConvScorer(student, config)
    rng = np.random.default_rng(0)
    recordings = [rng.integers(0, 600, (frames, 40)).astype(np.uint16) for frames in (31, 200, 2, 25000, 7)]
    together = scorer.score(recordings)
    assert [len(track) for track in together] == [10, 66, 0, 8333, 2]
    for recording, track in zip(recordings, together, strict=True):
        (alone,) = scorer.score([recording])
        np.testing.assert_allclose(track, alone, atol=1e-6)
        with torch.no_grad():
            steps = student.step_logits(torch.from_numpy(recording * np.float32(10 / 256))[None], silence_before=True)
        if len(track):
            np.testing.assert_allclose(track, smooth_probabilities(torch.sigmoid(steps)[0].numpy(), 4), atol=1e-6)


def test_the_integer_model_scores_nearly_as_the_student_that_it_was_exported_from(
    student: TinyConv, config: WakewordConfig
) -> None:
    samples = np.random.default_rng(1).integers(-9000, 9000, 3 * RATE).astype(np.int16)
    found = [features(samples, config.frontend)]
    exact = Int8Scorer.of_deployed(student.deployed(), config)
    trained = TinyConvScorer(student, config)
    assert exact.refractory_steps == trained.refractory_steps == 34
    np.testing.assert_allclose(exact.score(found)[0], trained.score(found)[0], atol=0.05)


@given(st.integers(1, 60000), st.integers(1, 14000))
def test_every_sample_is_in_a_window_and_the_last_window_reaches_the_end(samples: int, hop: int) -> None:
    scorer = ClipScorer(loudness, WakewordConfig())
    scorer.clip, scorer.hop = 14400, hop
    audio = np.arange(1, samples + 1).astype(np.int16)
    windows = scorer.windows_of(audio)
    assert windows.shape == (math.ceil(samples / hop), 14400)
    first, last = windows[0], windows[-1]
    # The first holds one hop of the recording after silence, the last its end (and zeros after it).
    assert (first[: 14400 - hop] == 0).all()
    np.testing.assert_array_equal(first[14400 - hop :][: min(hop, samples)], audio[:hop])
    rest = len(windows) * hop - samples
    assert rest < hop
    assert last[14400 - 1 - rest] == audio[-1]
    assert windows.base is not None


def test_windows_of_many_recordings_share_calls_and_come_back_apart(config: WakewordConfig) -> None:
    recordings = [np.full(length, level, np.int16) for level, length in ((1, 100), (2, 30000), (3, 5601))]
    recordings *= 300
    sizes: list[int] = []

    def model(windows: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        sizes.append(len(windows))
        return windows.max(axis=1).astype(np.float32)

    scorer = ClipScorer(model, config)
    tracks = scorer.score(recordings)
    assert [len(track) for track in tracks] == [math.ceil(len(audio) / scorer.hop) for audio in recordings]
    for audio, track in zip(recordings, tracks, strict=True):
        assert (track == audio[0]).all()
    assert min(sizes[:-1]) > 0.9 * CLIPS_AT_ONCE
    assert max(sizes) <= CLIPS_AT_ONCE


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda windows: np.full(len(windows), np.nan, np.float32), "not finite"),
        (lambda windows: np.zeros(len(windows) + 1, np.float32), "probabilities of"),
    ],
)
def test_a_model_that_gives_no_numbers_is_stopped(model, message, config: WakewordConfig) -> None:
    with pytest.raises(EdgewakeError, match=message):
        ClipScorer(model, config).score([np.zeros(RATE, np.int16)])


# ---- figures -------------------------------------------------------------------------------------


def test_a_detector_of_loudness_finds_all_phrases_and_two_false_accepts(
    corpus: CorpusManifest, config: WakewordConfig
) -> None:
    config.evaluation.refractory_s = 1.3
    evaluator = CheckpointEvaluator(corpus, config)
    scorer = ClipScorer(loudness, config)
    tracks = score_split(scorer, evaluator.recordings)
    level = PHRASE_LEVEL / 32768
    assert tracks.hours == pytest.approx(20.5 / 3600)
    # Each burst is in three or four windows and is one event.
    assert scorer.refractory_steps == 4
    assert tracks.events.count(0.9 * level) == 2
    assert all(track.peak > 0.9 * level for track in tracks.positives[CLEAN])
    assert weights(tracks.positives[CLEAN]).tolist() == [0.5, 0.5]
    assert weights(tracks.positives["10db"]).tolist() == [0.25] * 4
    deaf = evaluator.figures(ClipScorer(lambda windows: np.zeros(len(windows), np.float32), config))
    assert deaf["recall_clean_at_0.5"] == deaf["recall_noisy_at_8"] == 0.0
    kept = corpus.with_entries(entry for entry in corpus.entries if entry.path != "n0.wav")
    perfect = CheckpointEvaluator(kept, config).figures(scorer)
    assert perfect["recall_clean_at_0.5"] == perfect["recall_noisy_at_0.5"] == 1.0


def test_training_logs_four_of_a_students_figures(
    corpus: CorpusManifest, config: WakewordConfig, student: TinyConv
) -> None:
    evaluator = CheckpointEvaluator(corpus, config)
    figures = evaluator(student)
    assert list(figures) == ["recall_clean", "recall_noisy", "cutoff", "score"]
    all_of_them = evaluator.student_figures(student)
    assert figures.items() <= all_of_them.items()
    assert all_of_them["recall_clean_at_0.5"] == figures["recall_clean"]


def test_the_cutoff_of_a_fresh_model_is_the_lowest_that_its_false_accepts_allow(
    corpus: CorpusManifest, config: WakewordConfig, student: TinyConv
) -> None:
    config.evaluation.target_fa_per_hour, config.evaluation.lowest_recall = 1000.0, 0.0
    chosen = cutoff_on_validation(student.deployed(), corpus, config)
    scorer = Int8Scorer.of_deployed(student.deployed(), config)
    recordings = SplitRecordings(corpus, "val", Noise(synthetic=synthetic_noise), Cache(config.cache.folder))
    tracks = score_split(scorer, recordings)
    allowed = 1000 * tracks.hours
    assert tracks.events.count(chosen.counted) <= allowed < tracks.events.count(chosen.counted - 2**-18)
    assert chosen.cutoff >= chosen.counted
    assert chosen.cutoff_sum == round(chosen.cutoff * 4 * 65536)


def test_what_nearly_holds_the_phrase_is_scored_apart(
    corpus: CorpusManifest, student: TinyConv, config: WakewordConfig, tmp_path: Path
) -> None:
    first = corpus.select(split="val", kind="negative")[0]
    named = [e.model_copy(update={"family": "near_x"}) if e.path == first.path else e for e in corpus.entries]
    scorer = TinyConvScorer(student, config)
    whole, apart = (
        score_split(scorer, SplitRecordings(corpus.with_entries(entries), "val", SYNTHETIC, Cache(tmp_path)))
        for entries in (corpus.entries, named)
    )
    assert [track.entry.path for track in apart.near] == [first.path]
    assert len(apart.negatives) == len(whole.negatives) - 1
    assert apart.hours < whole.hours
