"""A recording of the phrase is trimmed and saved where `edgewake make` looks, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewake.data.importing import import_speakers
from edgewake.data.microphone import level_dbfs
from edgewake.data.reading import Samples, read_audio
from edgewake.data.takes import MARGIN_S, save_take, speaker_folder, trimmed
from edgewake.errors import AudioError

RATE = 16_000


def take(start: float, seconds: float, peak: float, *, noise: float = 10.0, length: float = 2.5) -> Samples:
    """A tone in noise, both in units of int16."""
    audio = np.random.default_rng(0).normal(0, noise, round(length * RATE))
    place = slice(round(start * RATE), round((start + seconds) * RATE))
    audio[place] += peak * np.sin(np.arange(len(audio[place])) * 0.3)
    return np.clip(np.rint(audio), -32768, 32767).astype(np.int16)


def test_speech_keeps_a_margin_and_loses_the_silence() -> None:
    samples = take(1.0, 0.6, 8000)
    kept, fault = trimmed(samples)
    assert fault == ""
    assert len(kept) == pytest.approx((0.6 + 2 * MARGIN_S) * RATE, abs=0.04 * RATE)
    start = round((1.0 - MARGIN_S) * RATE)
    assert np.array_equal(kept, samples[start : start + len(kept)])


def test_a_soft_end_is_kept() -> None:
    samples = take(1.0, 0.4, 8000) + take(1.4, 0.4, 400)
    kept, fault = trimmed(samples)
    assert fault == ""
    assert len(kept) > (0.8 + MARGIN_S) * RATE


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0, np.int16), "nothing was recorded"),
        (np.zeros(40_000, np.int16), "dBFS: speak up"),
        (take(1.0, 0.6, 0, noise=1000), "over the noise"),
        (take(1.0, 0.6, 300, noise=1000), "over the noise"),
        (take(1.0, 0.6, 90_000), "clipped"),
        (take(1.0, 0.03, 8000), "a click"),
        (take(0.0, 0.6, 8000), "cut off"),
        (take(2.2, 0.6, 8000), "cut off"),
    ],
)
def test_what_is_no_use_is_refused_with_the_reason(samples: Samples, reason: str) -> None:
    assert reason in trimmed(samples)[1]


def test_takes_lie_where_make_finds_them_and_never_replace_one(tmp_path: Path) -> None:
    samples = take(1.0, 0.6, 8000)
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "007.flac").write_bytes(b"of another time")
    paths = [save_take(speaker_folder(tmp_path, "anna"), samples) for _ in range(2)]
    paths.append(save_take(speaker_folder(tmp_path, "Jürgen M."), samples))
    assert [path.name for path in paths] == ["008.wav", "009.wav", "001.wav"]
    assert np.array_equal(read_audio(paths[0]), samples)
    faults: list[Exception] = []
    entries = import_speakers(tmp_path, "hey atlas", faults.append)
    assert {(entry.speaker, entry.path) for entry in entries} == {
        ("recordings/anna", "anna/008.wav"),
        ("recordings/anna", "anna/009.wav"),
        ("recordings/Jürgen M.", "Jürgen M./001.wav"),
    }
    assert len(faults) == 1


@pytest.mark.parametrize("name", ["", " anna", "../anna", ".hidden", "a/b", "a\\b", "nul\0", "what?"])
def test_a_speaker_that_cannot_name_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match="cannot name a folder"):
        speaker_folder(tmp_path, name)


def test_levels_are_those_of_full_scale() -> None:
    assert level_dbfs(np.zeros(0, np.int16)) == level_dbfs(np.zeros(480, np.int16)) == -96
    assert level_dbfs(np.full(480, -32768, np.int16)) == pytest.approx(0, abs=1e-6)
    assert level_dbfs(take(0, 1, 32767, noise=0, length=1)) == pytest.approx(-3.01, abs=0.1)
