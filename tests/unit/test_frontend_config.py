"""A frontend configuration is valid at every moment, and its hash names exactly what decides the bits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.errors import ConfigError
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.frontend.tables import build_tables, hann_window, log1p32, log_lut

DEFAULT_HASH = "4ce84af1ca3ecc5c"


def test_hash_of_the_defaults_is_the_one_that_released_models_carry() -> None:
    assert FrontendConfig().hash() == DEFAULT_HASH


def test_hash_survives_json_and_integers_for_floats() -> None:
    config = FrontendConfig(lower_hz=125, pcan_offset=80)
    assert config.hash() == DEFAULT_HASH
    assert FrontendConfig(**json.loads(config.model_dump_json())).hash() == DEFAULT_HASH


@pytest.mark.parametrize("name", list(FrontendConfig.model_fields))
def test_hash_depends_on_every_field(name: str) -> None:
    changed = {
        "sample_rate": 22_050,
        "window_ms": 31,
        "step_ms": 20,
        "channels": 41,
        "lower_hz": 126.0,
        "upper_hz": 7_400.0,
        "smoothing_bits": 11,
        "even_smoothing": 0.03,
        "odd_smoothing": 0.05,
        "min_signal_remaining": 0.1,
        "pcan_strength": 0.9,
        "pcan_offset": 81.0,
        "pcan_gain_bits": 20,
        "log_scale_shift": 7,
        "pcan": False,
        "noise_reduction": False,
    }
    assert FrontendConfig(**{name: changed[name]}).hash() != DEFAULT_HASH


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"step_ms": 31}, "step_ms 31"),
        ({"window_ms": 4}, "window_ms"),
        ({"channels": 0}, "channels"),
        ({"upper_hz": 100.0}, "upper_hz 100"),
        ({"upper_hz": 7_950.0}, "7937.5"),
        ({"sample_rate": 48_000, "window_ms": 64}, "2048"),
        ({"smoothing_bits": 2}, "smoothing_bits 2"),
        ({"even_smoothing": 1.5}, "even_smoothing"),
        ({"chanels": 40}, "channels"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FrontendConfig(**values)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_assignment_changes_nothing() -> None:
    config = FrontendConfig()
    with pytest.raises(ConfigError, match="step_ms 40"):
        config.step_ms = 40
    assert config == FrontendConfig()


def test_a_band_without_bins_is_refused() -> None:
    with pytest.raises(ConfigError, match="widen"):
        build_tables(FrontendConfig(lower_hz=125.0, upper_hz=130.0))


@given(st.integers(0, 1_000_000))
def test_frames_counts_complete_windows(samples: int) -> None:
    config = FrontendConfig()
    count = config.frames(samples)
    assert count >= 0
    assert count == 0 or config.window_samples + (count - 1) * config.step_samples <= samples
    assert config.window_samples + count * config.step_samples > samples


def test_tables_have_the_properties_of_the_design() -> None:
    tables = build_tables(FrontendConfig())
    assert tables.bands[0] == 5
    assert tables.bands[-1] == 241
    assert np.all(np.diff(tables.bands.astype(int)) >= 1)
    total = tables.weights.astype(int) + tables.unweights
    assert set(total.tolist()) <= {4096, 4097}
    assert (tables.even_smoothing, tables.odd_smoothing, tables.min_signal_remaining) == (409, 983, 819)
    assert np.abs(tables.window - tables.window[::-1]).max() <= 1
    assert tables.window.max() == 4096
    assert np.all(np.diff(tables.gain_lut[[0, 1, *range(2, 125, 4)]].astype(int)) <= 0)


@given(st.integers(2, 3_000))
def test_window_is_a_hann_window(size: int) -> None:
    exact = 4096 * np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    assert np.abs(hann_window(size) - exact).max() <= 0.51


def test_logarithm_table_corrects_the_straight_line() -> None:
    x = np.arange(129) / 128
    assert np.array_equal(log_lut(), np.rint(65536 * (np.log2(1 + x) - x)))


@given(st.floats(0, 1e6, width=32))
def test_log1p32_is_within_one_unit_of_the_exact_value(x: float) -> None:
    exact = np.log1p(np.float64(x))
    assert abs(float(log1p32(np.float32(x))) - exact) <= np.spacing(np.float32(exact))
