"""The generated C on the host: the detector's and evaluation's bytes, compiled once, five times as fast as TFLM."""

from __future__ import annotations

import time

import numpy as np
import pytest

import edgewake
from edgewake.cache import Cache
from edgewake.errors import EdgewakeError
from edgewake.runtime.network.compiled import CompiledModel, CompiledNetwork
from edgewake.runtime.tflm import TflmModel


def speechlike(seconds, seed):
    """Noise whose level changes as syllables do: it makes a random model swing."""
    rng = np.random.default_rng(seed)
    n = int(seconds * 16000)
    level = np.repeat(rng.choice([5, 100, 2000, 15000], -(-n // 1600)), 1600)[:n]
    return np.clip(rng.standard_normal(n) * level, -32768, 32767).astype(np.int16)


def test_the_generated_c_detects_what_tflm_detects(built, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path))
    tflm, compiled = edgewake.Detector(built), edgewake.Detector(built, backend="c")
    assert (tflm.backend, compiled.backend) == ("tflm", "c")
    samples = speechlike(6, seed=3)
    for start in range(0, len(samples), 7001):
        chunk = samples[start : start + 7001]
        assert compiled.steps(chunk) == tflm.steps(chunk)
    compiled.reset()
    np.testing.assert_array_equal(compiled.probabilities(samples), tflm.probabilities(samples))


def test_two_streams_of_the_generated_c_have_states_of_their_own(built, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path))
    detector = edgewake.Detector(built, backend="c")
    samples = speechlike(2, seed=4)
    first = detector.steps(samples[:16000])
    detector.probabilities(samples[::-1].copy())
    assert first + detector.steps(samples[16000:]) == edgewake.Detector(built).steps(samples)


def test_the_generated_c_is_compiled_once(built, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path))
    edgewake.Detector(built, backend="c")
    monkeypatch.setattr(Cache, "_make", lambda *_: pytest.fail("compiled again"))
    edgewake.Detector(built, backend="c")


def test_without_a_compiler_the_detector_is_tflm(built, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    assert edgewake.Detector(built, backend="c").backend == "tflm"


def test_a_compiler_that_fails_is_one_line(built, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    with pytest.raises(EdgewakeError, match=r"false .* fails: .*: use the backend tflm"):
        edgewake.Detector(built, backend="c")


@pytest.mark.slow
def test_a_step_of_the_generated_c_takes_a_fifth_of_the_time_of_tflm_or_less(repository, tmp_path, monkeypatch):
    """Of the model alone, on a released one, in the same run; in turns, so that other load falls on both."""
    model = (repository / "models" / "computer" / "model.tflite").read_bytes()
    both = TflmModel(model), CompiledModel(CompiledNetwork(model, Cache(tmp_path)))
    steps = np.random.default_rng(0).integers(-128, 128, (200, 120), dtype=np.int8)
    spent = [[], []]
    for _ in range(9):
        for times, engine in zip(spent, both, strict=True):
            began = time.process_time()
            engine.run(steps)
            times.append(time.process_time() - began)
    tflm, generated = map(min, spent)
    assert tflm >= 5 * generated
