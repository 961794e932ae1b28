"""The detector gives one probability a step, and the same events in any chunking, from silence on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewake
from edgewake.cli import main
from edgewake.errors import AudioError, EdgewakeError
from edgewake.evaluation.tracks import Int8Scorer
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import find_events, probabilities
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.pipeline.params import quantize
from edgewake.runtime.simulator import IntegerModel


def speechlike(seconds, seed=0):
    """Noise whose level changes as syllables do: it makes a random model swing."""
    rng = np.random.default_rng(seed)
    n = int(seconds * 16000)
    level = np.repeat(rng.choice([5, 100, 2000, 15000], -(-n // 1600)), 1600)[:n]
    return np.clip(rng.standard_normal(n) * level, -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def detector(built):
    return edgewake.Detector(built)


@pytest.fixture(scope="module")
def lively(built, detector):
    """A detector whose cutoff lies in the middle of what its model gives, so that events occur."""
    return edgewake.Detector(built, cutoff=float(np.quantile(detector.probabilities(speechlike(8)), 0.7)))


def test_one_probability_for_every_completed_step(detector):
    for samples in (0, 1, 799, 800, 801, 1279, 1280, 16000):
        found = detector.probabilities(speechlike(1)[:samples])
        steps = FrontendConfig().frames(samples) // 3
        assert found.shape == (steps,)
        assert found.dtype == np.float32
        if steps:
            assert detector.sample_index(steps - 1) <= samples < detector.sample_index(steps)


def test_probabilities_equal_simulator_smoothed_from_zeros(built, detector):
    samples = speechlike(3)
    manifest = detector.manifest
    found = features(samples)
    steps = quantize(
        found[: len(found) // 3 * 3],
        manifest.input.multiplier,
        manifest.input.shift,
        manifest.input.zero_point,
    ).reshape(-1, 120)
    outputs = IntegerModel(DeployedModel.load(built)).windowed(steps)
    assert np.array_equal(
        detector.probabilities(samples), probabilities(outputs, manifest.output.quantization, manifest.window)
    )
    assert len(np.unique(outputs)) > 3


def test_events_are_the_cutoff_rule_on_the_probabilities(lively):
    samples = speechlike(8)
    track = lively.probabilities(samples)
    expected = find_events(track, lively.cutoff, lively.refractory_steps)
    lively.reset()
    found = lively.process(samples)
    assert len(found) >= 2
    assert [d.time_s for d in found] == [lively.sample_index(int(s)) / 16000 for s in expected]
    assert [np.float32(d.probability) for d in found] == list(track[expected])


@settings(max_examples=10)
@given(sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=6))
def test_chunking_changes_nothing(lively, sizes):
    samples = speechlike(4)
    lively.reset()
    whole = lively.process(samples)
    lively.reset()
    parts, start, turn = [], 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)] or (turn % 2) * 160
        parts += lively.process(samples[start : start + size])
        start, turn = start + size, turn + 1
    assert parts == whole


def test_probabilities_leave_the_running_stream_alone(lively):
    samples = speechlike(4)
    lively.reset()
    whole = lively.process(samples)
    lively.reset()
    first = lively.process(samples[:20000])
    lively.probabilities(speechlike(1, seed=5))
    assert first + lively.process(samples[20000:]) == whole


def test_reset_forgets_everything(lively):
    samples = speechlike(3, seed=1)
    lively.reset()
    fresh = lively.process(samples)
    lively.process(speechlike(2, seed=2))
    lively.reset()
    assert lively.process(samples) == fresh


def test_two_detectors_share_nothing(built, lively):
    samples = speechlike(3)
    lively.reset()
    expected = lively.process(samples)
    one = edgewake.Detector(built, cutoff=lively.cutoff)
    two = edgewake.Detector(built, cutoff=lively.cutoff)
    found = []
    for start in range(0, len(samples), 1600):
        found += one.process(samples[start : start + 1600])
        two.process(speechlike(0.05, seed=start))
    assert found == expected


def test_folder_and_manifest_file_give_the_same_detector(built, detector):
    samples = speechlike(1)
    other = edgewake.Detector(str(built / "manifest.json"))
    assert np.array_equal(other.probabilities(samples), detector.probabilities(samples))
    assert other.cutoff == detector.cutoff
    assert other.step_s == pytest.approx(0.03)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(100, np.float32),
        np.zeros(100, np.int32),
        np.zeros((100, 1), np.int16),
        np.zeros((2, 50), np.int16),
        [0, 1, 2],
    ],
)
def test_other_than_int16_mono_is_refused(detector, samples):
    for take in (detector.process, detector.probabilities):
        with pytest.raises(AudioError, match="int16"):
            take(samples)


def test_views_that_are_not_contiguous_are_read_right(detector):
    stereo = np.stack([speechlike(1), speechlike(1, seed=3)], axis=1)
    assert np.array_equal(detector.probabilities(stereo[:, 0]), detector.probabilities(speechlike(1)))


@pytest.mark.parametrize("cutoff", [0.0, -1.0, 1.0, float("nan")])
def test_a_cutoff_out_of_range_is_refused(built, cutoff):
    with pytest.raises(EdgewakeError, match="cutoff"):
        edgewake.Detector(built, cutoff=cutoff)


def test_a_printed_cutoff_finds_its_own_sum_again(built):
    for cutoff_sum in (*range(1, 65535 * 5, 24_989), 65535 * 5):
        detector = edgewake.Detector(built, cutoff=cutoff_sum / (5 * 65536))
        assert edgewake.Detector(built, cutoff=detector.cutoff).params.cutoff_sum == cutoff_sum
        assert detector.params.cutoff_sum == cutoff_sum


@pytest.mark.parametrize("engine", ["c", "tflm"])
def test_both_engines_of_evaluation_equal_the_detector(built, detector, engine):
    recordings = [speechlike(s, seed=i) for i, s in enumerate((0.02, 0.6, 2.5))]
    scorer = Int8Scorer.of_model(built, engine)
    tracks = scorer.score([features(samples, scorer.frontend) for samples in recordings])
    for samples, track in zip(recordings, tracks, strict=True):
        assert np.array_equal(track, detector.probabilities(samples))


def run(*arguments):
    return CliRunner().invoke(main, ["detect", *(str(a) for a in arguments)])


def test_detect_prints_the_events_of_every_readable_file(built, lively, tmp_path):
    samples = speechlike(6)
    soundfile.write(tmp_path / "mono.wav", samples, 16000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1), 16000)
    (tmp_path / "corrupt.wav").write_bytes(b"RIFF" + bytes(40))
    (tmp_path / "empty.wav").write_bytes(b"")
    files = [tmp_path / f"{name}.wav" for name in ("mono", "corrupt", "empty", "stereo")]
    found = run(*files, "--model", built, "--cutoff", lively.cutoff, "--json")
    assert found.exit_code == 1
    assert found.stderr.count("error: ") == 2
    assert "corrupt.wav" in found.stderr
    assert "empty.wav" in found.stderr
    lively.reset()
    expected = [(round(d.time_s, 4), d.probability) for d in lively.process(samples)]
    assert expected
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    for name in ("mono", "stereo"):
        events = [(x["time_s"], x["probability"]) for x in lines if x["file"].endswith(f"{name}.wav")]
        assert events == expected


def test_detect_reads_other_rates(built, tmp_path):
    time = np.arange(48000) / 48000
    soundfile.write(tmp_path / "high.wav", 0.3 * np.sin(2 * np.pi * 400 * time), 48000)
    found = run(tmp_path / "high.wav", "--model", built, "--trace", "--json")
    assert found.exit_code == 0, found.output
    steps = [json.loads(line) for line in found.stdout.splitlines()]
    assert sum(line["kind"] == "step" for line in steps) == FrontendConfig().frames(16000) // 3


def test_detect_reports_when_there_is_no_detection(built, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.zeros(100, np.int16), 16000)
    found = run(tmp_path / "short.wav", "--model", built)
    assert found.exit_code == 0
    assert "no detection in 0.01 s" in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_damaged_models_are_refused_or_run_and_never_crash(repository: Path, seed: int) -> None:
    """Their hash matches: the file itself decides."""
    script, model = Path(__file__).with_name("mutated_models.py"), repository / "models" / "computer" / "model.tflite"
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(seed), "400"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, ran = map(int, done.stdout.split())
    assert refused > 200
    assert refused + ran == 400
