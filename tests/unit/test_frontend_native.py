"""The binding of the C frontend: shapes, errors, many recordings at once, and a missing library named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewake._native as native_package
from edgewake.errors import AudioError, EdgewakeError
from edgewake.runtime.frontend import FrontendConfig, NativeFrontend, features, features_batch
from edgewake.runtime.frontend.reference import ReferenceFrontend


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, samples, np.int16)


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 481, 639, 640, 16_000])
def test_features_have_one_row_for_each_complete_window(samples: int) -> None:
    rows = 0 if samples < 480 else 1 + (samples - 480) // 160
    for found in (features(noise(samples)), ReferenceFrontend().process(noise(samples))):
        assert found.shape == (rows, 40)
        assert found.dtype == np.uint16


def test_silence_has_features_of_zero() -> None:
    assert not features(np.zeros(16_000, np.int16)).any()


@pytest.mark.parametrize(
    "wrong", [np.zeros(100, np.float32), np.zeros((2, 100), np.int16), np.zeros(100, np.int32), np.int16(3)]
)
def test_other_than_flat_int16_is_refused(wrong: np.ndarray) -> None:
    for kind in (NativeFrontend, ReferenceFrontend):
        with pytest.raises(AudioError, match="int16 of shape"):
            kind().process(wrong)


def test_strided_samples_are_read_as_numpy_reads_them() -> None:
    samples = noise(8_000)
    assert np.array_equal(features(samples[::2]), features(samples[::2].copy()))
    assert np.array_equal(features(samples[::-1]), features(samples[::-1].copy()))


@given(st.lists(st.integers(0, 3_000), max_size=12), st.integers(1, 5))
@settings(max_examples=25)
def test_batch_equals_one_by_one_in_order(lengths: list[int], workers: int) -> None:
    recordings = [noise(length, seed) for seed, length in enumerate(lengths)]
    found = features_batch(recordings, workers=workers)
    assert len(found) == len(recordings)
    for batch, recording in zip(found, recordings, strict=True):
        assert np.array_equal(batch, features(recording))


def test_batch_passes_configuration_and_errors_on() -> None:
    config = FrontendConfig(channels=20, step_ms=20)
    assert [f.shape for f in features_batch([noise(16_000)] * 3, config)] == [(49, 20)] * 3
    with pytest.raises(AudioError):
        features_batch([noise(1_000), np.zeros(5, np.float64), noise(1_000)], workers=2)
    with pytest.raises(EdgewakeError, match="workers = 0"):
        features_batch([noise(1_000)], workers=0)


@pytest.mark.parametrize("kind", [NativeFrontend, ReferenceFrontend])
def test_a_later_change_of_the_configuration_does_not_reach_a_frontend(
    kind: type[NativeFrontend | ReferenceFrontend],
) -> None:
    config = FrontendConfig()
    frontend = kind(config)
    config.channels = 20
    assert frontend.process(noise(480)).shape == (1, 40)
    assert kind(config).process(noise(480)).shape == (1, 20)


def test_a_missing_library_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native_package, "__path__", [str(tmp_path)])
    with pytest.raises(EdgewakeError, match="make build"):
        native_package.library_path()


def test_the_newest_library_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = native_package.library_path().name
    for folder, age in (("old", 100), ("new", 200), ("older", 50)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
        os.utime(tmp_path / folder / name, (age, age))
    folders = [str(tmp_path / folder) for folder in ("old", "new", "older", "missing")]
    monkeypatch.setattr(native_package, "__path__", folders)
    assert native_package.library_path() == tmp_path / "new" / name


def test_a_library_of_another_machine_is_an_error_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / native_package.library_path().name).write_bytes(b"not a library")
    monkeypatch.setattr(native_package, "__path__", [str(tmp_path)])
    with pytest.raises(EdgewakeError, match="cannot be loaded"):
        native_package.load.__wrapped__()
