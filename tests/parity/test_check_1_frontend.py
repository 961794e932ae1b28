"""Parity check 1: numpy reference, C core and pymicro-features give the same bits on every class of signal."""

from __future__ import annotations

import csv
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymicro_features import MicroFrontend

from edgewake.errors import ConfigError
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, NativeFrontend, features
from edgewake.runtime.frontend.reference import ReferenceFrontend
from edgewake.runtime.frontend.tables import build_tables
from signals import RATE, SIGNALS, STEP, Samples, clip, random

Features = NDArray[np.uint16]


class OracleFrontend:
    """pymicro-features as a stream; it takes steps of 160 samples."""

    def __init__(self) -> None:
        self._frontend = MicroFrontend()

    def process(self, samples: Samples) -> Features:
        frames = []
        for start in range(0, len(samples) - STEP + 1, STEP):
            output = self._frontend.process_samples(samples[start : start + STEP].tobytes())
            assert output.samples_read == STEP
            if output.features:
                frames.append(output.features)
        integers = np.array(frames).reshape(-1, 40) / FEATURE_SCALE
        assert np.array_equal(integers, np.rint(integers))
        return integers.astype(np.uint16)

    def reset(self) -> None:
        self._frontend.reset()


def assert_all_equal(samples: Samples) -> None:
    expected = OracleFrontend().process(samples)
    assert len(expected) == FrontendConfig().frames(len(samples) // STEP * STEP)
    cut = samples[: len(samples) // STEP * STEP]
    np.testing.assert_array_equal(features(cut), expected)
    np.testing.assert_array_equal(ReferenceFrontend().process(cut), expected)


@pytest.mark.parametrize("name", SIGNALS)
def test_reference_equals_c_equals_oracle(name: str) -> None:
    assert_all_equal(SIGNALS[name]())


@pytest.mark.slow
def test_ten_thousand_random_frames_are_equal() -> None:
    generator = random(9)
    level = np.exp(generator.uniform(0, np.log(65536), 1_050)).repeat(10 * STEP)
    samples = clip(generator.uniform(-1, 1, len(level)) * level)
    assert FrontendConfig().frames(len(samples)) > 10_000
    assert_all_equal(samples)


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=12),
    st.lists(st.integers(1, 700), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_arbitrary_plateaus_with_noise_are_equal(values: list[int], lengths: list[int], seed: int) -> None:
    plateaus = np.concatenate([np.full(n, v) for v, n in zip(values * 12, lengths, strict=False)])
    noise = random(seed).integers(-3, 4, len(plateaus))
    assert_all_equal(clip(np.tile(plateaus + noise, 3).astype(np.float64)))


@pytest.mark.corpora
@pytest.mark.slow
def test_recordings_are_equal(corpora: Path) -> None:
    import soundfile

    with (corpora / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    families: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] != "rir":
            families.setdefault(row["family"], []).append(row["path"])
    assert len(families) >= 5
    for paths in families.values():
        for path in paths[:2]:
            audio, rate = soundfile.read(os.fspath(corpora / path), dtype="float32", frames=5 * RATE)
            assert rate == RATE
            assert_all_equal(clip(audio * 32767.0))


def test_c_in_chunks_of_every_size_equals_whole() -> None:
    samples = np.concatenate([SIGNALS["speech_like"]()[:1_200], SIGNALS["noise_full_scale"]()[:800]])
    expected = features(samples)
    frontend = NativeFrontend()
    for size in range(1, 482):
        frontend.reset()
        parts = [frontend.process(samples[i : i + size]) for i in range(0, len(samples), size)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_reference_in_chunks_of_every_size_equals_whole() -> None:
    samples = SIGNALS["speech_like"]()[4_000 : 4_000 + 650]
    expected = features(samples)
    assert len(expected) == 2
    frontend = ReferenceFrontend()
    for size in range(1, 482):
        frontend.reset()
        parts = [frontend.process(samples[i : i + size]) for i in range(0, len(samples), size)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


@given(st.lists(st.integers(0, 2_000), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_any_chunking_equals_whole(sizes: list[int], seed: int) -> None:
    samples = random(seed).integers(-32768, 32768, sum(sizes), np.int16)
    expected = features(samples)
    frontend = NativeFrontend()
    edges = np.cumsum([0, *sizes])
    parts = [frontend.process(samples[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("kind", [NativeFrontend, ReferenceFrontend, OracleFrontend])
def test_reset_restores_the_initial_state(
    kind: type[NativeFrontend | ReferenceFrontend | OracleFrontend],
) -> None:
    samples = SIGNALS["level_jumps"]()[:8_000]
    frontend = kind()
    fresh = frontend.process(samples)
    frontend.process(samples[:160])
    frontend.reset()
    np.testing.assert_array_equal(frontend.process(samples), fresh)


@pytest.mark.parametrize("kind", [NativeFrontend, ReferenceFrontend])
def test_two_instances_share_no_state(kind: type[NativeFrontend | ReferenceFrontend]) -> None:
    loud, quiet = SIGNALS["noise_full_scale"]()[:8_000], SIGNALS["least_significant_bit"]()[:8_000]
    first, second = kind(), kind()
    parts = [(first.process(loud[i : i + 333]), second.process(quiet[i : i + 333])) for i in range(0, 8_000, 333)]
    np.testing.assert_array_equal(np.concatenate([p for p, _ in parts]), features(loud))
    np.testing.assert_array_equal(np.concatenate([p for _, p in parts]), features(quiet))


OTHER_CONFIGS = {
    "step_20_ms": {"step_ms": 20},
    "step_30_ms": {"step_ms": 30},
    "without_pcan": {"pcan": False},
    "without_noise_reduction": {"noise_reduction": False},
    "without_both": {"noise_reduction": False, "pcan": False},
    "fft_256": {"window_ms": 16, "channels": 20, "lower_hz": 60.0},
    "fft_1024": {"window_ms": 64, "step_ms": 20, "channels": 64, "upper_hz": 7_900.0},
    "fft_128": {"sample_rate": 8_000, "window_ms": 16, "upper_hz": 3_500.0, "channels": 8},
    "fft_64": {"sample_rate": 8_000, "window_ms": 5, "step_ms": 5, "upper_hz": 3_500.0, "channels": 4},
    "fft_2048": {"sample_rate": 44_100, "window_ms": 46, "channels": 80},
    "odd_window": {"sample_rate": 11_025, "window_ms": 31, "upper_hz": 5_000.0},
    "one_channel": {"channels": 1},
    "more_channels_than_bins": {"window_ms": 10, "channels": 128},
    "gain_that_wraps": {"pcan_strength": 0.3, "pcan_gain_bits": 23},
    "loud_logarithm": {"log_scale_shift": 10},
}


@pytest.mark.parametrize("name", OTHER_CONFIGS)
def test_other_configurations_reference_equals_c(name: str) -> None:
    config = FrontendConfig(**OTHER_CONFIGS[name])
    for signal in ("speech_like", "noise_full_scale", "minimum_runs", "level_jumps", "sweep_full_scale"):
        samples = SIGNALS[signal]()[: 2 * RATE]
        expected = ReferenceFrontend(config).process(samples)
        assert expected.max() > 0
        np.testing.assert_array_equal(features(samples, config), expected)


@st.composite
def configurations(draw: st.DrawFn) -> FrontendConfig:
    rate = draw(st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]))
    window = draw(st.integers(5, 64))
    lower = draw(st.floats(0, 1_000))
    unit = st.floats(0, 1)
    try:
        config = FrontendConfig(
            sample_rate=rate,
            window_ms=window,
            step_ms=draw(st.integers(1, window)),
            channels=draw(st.integers(1, 128)),
            lower_hz=lower,
            upper_hz=draw(st.floats(lower + 1, rate / 2)),
            noise_reduction=draw(st.booleans()),
            smoothing_bits=draw(st.integers(0, 16)),
            even_smoothing=draw(unit),
            odd_smoothing=draw(unit),
            min_signal_remaining=draw(unit),
            pcan=draw(st.booleans()),
            pcan_strength=draw(st.floats(0, 2)),
            pcan_offset=draw(st.floats(0.01, 1e6)),
            pcan_gain_bits=draw(st.integers(17, 30)),
            log_scale_shift=draw(st.integers(0, 10)),
        )
        build_tables(config)
    except ConfigError:
        assume(False)
    return config


@pytest.mark.slow
@given(configurations(), st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_any_valid_configuration_reference_equals_c(config: FrontendConfig, seed: int) -> None:
    level = np.exp(random(seed).uniform(0, 10.4, 40)).repeat(100)
    samples = clip(random(seed + 1).uniform(-1, 1, len(level)) * level)
    np.testing.assert_array_equal(features(samples, config), ReferenceFrontend(config).process(samples))
