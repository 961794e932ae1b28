"""Any audio file becomes int16 mono at 16 kHz, sample for sample where it was that, or one clear error."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewake.data import reading
from edgewake.data.reading import (
    RecordingError,
    read_audio,
    read_duration,
    to_float,
    to_int16,
    write_audio,
)
from edgewake.errors import AudioError

RATE = 16_000


@contextmanager
def raises_fault(fault: str, match: str | None = None) -> Iterator[pytest.ExceptionInfo[RecordingError]]:
    with pytest.raises(RecordingError, match=match) as raised:
        yield raised
    assert raised.value.fault == fault


def tone(seconds: float, rate: int, hertz: float = 440.0, peak: float = 0.5) -> npt.NDArray[np.float64]:
    return peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def level(samples: npt.NDArray[np.generic]) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))


class TestFormats:
    @pytest.mark.parametrize("suffix", [".wav", ".flac"])
    def test_16_bit_mono_at_16_khz_is_read_bit_for_bit(self, suffix: str, tmp_path: Path) -> None:
        samples = np.random.default_rng(1).integers(-32768, 32768, 20_000).astype(np.int16)
        samples[:4] = [-32768, 32767, -1, 1]
        write_audio(tmp_path / f"a{suffix}", samples)
        assert np.array_equal(read_audio(tmp_path / f"a{suffix}"), samples)

    @pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000])
    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_any_rate_and_channel_count_keeps_time_level_and_phase(
        self, rate: int, channels: int, tmp_path: Path
    ) -> None:
        audio = tone(1.0, rate)
        sf.write(tmp_path / "a.wav", np.stack([audio] * channels, axis=1), rate)
        samples = read_audio(tmp_path / "a.wav")
        assert samples.dtype == np.int16
        assert samples.ndim == 1
        assert abs(len(samples) - RATE) <= 1
        expected = tone(1.0, RATE)[400:15600] * 32768
        assert level(samples[400:15600] - expected) < 0.01 * level(expected)

    def test_resampler_does_not_alias(self, tmp_path: Path) -> None:
        sf.write(tmp_path / "a.wav", tone(1.0, 48000, hertz=11000), 48000)
        assert level(read_audio(tmp_path / "a.wav")[400:-400]) < 10

    def test_block_borders_leave_no_trace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sf.write(tmp_path / "a.wav", tone(1.0, 44100), 44100)
        whole = read_audio(tmp_path / "a.wav")
        monkeypatch.setattr(reading, "_BLOCK_SAMPLES", 1009)
        assert np.array_equal(read_audio(tmp_path / "a.wav"), whole)

    @pytest.mark.parametrize(
        ("container", "subtype", "suffix"),
        [
            ("OGG", "VORBIS", "ogg"),
            ("OGG", "OPUS", "opus"),
            ("MP3", "MPEG_LAYER_III", "mp3"),
            ("WAV", "FLOAT", "wav"),
            ("WAV", "PCM_24", "wav"),
            ("WAV", "PCM_U8", "wav"),
            ("WAV", "ULAW", "wav"),
            ("FLAC", "PCM_24", "flac"),
            ("AIFF", "PCM_16", "aiff"),
        ],
    )
    def test_every_usual_format_keeps_time_and_level(
        self, container: str, subtype: str, suffix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"a.{suffix}"
        sf.write(path, tone(1.0, RATE), RATE, format=container, subtype=subtype)
        samples = read_audio(path)
        assert len(samples) == RATE
        expected = tone(1.0, RATE) * 32768
        assert level(samples[1600:14400] - expected[1600:14400]) < 0.1 * level(expected)
        assert read_duration(path) == 1.0

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        left = np.array([1000, -2000, 32767], np.int16)
        right = np.array([3000, -2000, 32767], np.int16)
        write_audio(tmp_path / "a.wav", np.stack([left, right], axis=1))
        assert read_audio(tmp_path / "a.wav").tolist() == [2000, -2000, 32767]

    def test_floats_over_full_scale_are_clipped_not_wrapped(self, tmp_path: Path) -> None:
        sf.write(tmp_path / "a.wav", np.array([1.33, -1.33, 1.0, -1.0, 0.5]), RATE, subtype="FLOAT")
        assert read_audio(tmp_path / "a.wav").tolist() == [32767, -32768, 32767, -32768, 16384]

    @given(hnp.arrays(np.int16, st.integers(0, 50)))
    def test_conversion_to_float_and_back_is_exact(self, samples: npt.NDArray[np.int16]) -> None:
        assert np.array_equal(to_int16(to_float(samples)), samples)

    @given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-2, 2, width=32)))
    def test_conversion_to_int16_is_within_half_a_unit_or_clipped(self, audio: npt.NDArray[np.float32]) -> None:
        exact = np.clip(audio.astype(np.float64) * 32768, -32768, 32767)
        assert np.abs(to_int16(audio) - exact).max() <= 0.5


class TestFaults:
    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with raises_fault("missing", r"none\.wav: no such file"):
            read_audio(tmp_path / "none.wav")
        with raises_fault("missing", "a folder, not an audio file"):
            read_audio(tmp_path)

    def test_file_of_no_bytes_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").touch()
        with raises_fault("empty", r"a\.wav"):
            read_audio(tmp_path / "a.wav")

    @pytest.mark.parametrize("suffix", [".wav", ".aiff"])
    def test_header_without_samples_is_empty(self, suffix: str, tmp_path: Path) -> None:
        write_audio(tmp_path / f"a{suffix}", np.zeros(0, np.int16))
        with raises_fault("empty", "no samples"):
            read_audio(tmp_path / f"a{suffix}")
        with raises_fault("empty"):
            read_duration(tmp_path / f"a{suffix}")

    def test_text_is_not_audio(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_text("not audio " * 100)
        with raises_fault("corrupt", r"a\.wav: not readable as audio"):
            read_audio(tmp_path / "a.wav")

    def test_raw_samples_are_refused_with_a_remedy(self, tmp_path: Path) -> None:
        (tmp_path / "a.raw").write_bytes(bytes(1000))
        with raises_fault("corrupt", "export it again as WAV"):
            read_audio(tmp_path / "a.raw")

    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
    def test_cut_off_file_is_an_error_and_not_a_shorter_recording(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a.{suffix}"
        sf.write(path, tone(3.0, RATE), RATE)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with raises_fault("corrupt"):
            read_audio(path)

    def test_damage_in_the_middle_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "a.flac"
        write_audio(path, np.random.default_rng(0).integers(-9999, 9999, 48000).astype(np.int16))
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 3000] = bytes(3000)
        path.write_bytes(data)
        with raises_fault("corrupt"):
            read_audio(path)

    def test_size_that_a_pipe_could_not_write_is_accepted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        samples = np.arange(1000, dtype=np.int16)
        write_audio(path, samples)
        data = bytearray(path.read_bytes())
        assert data[36:40] == b"data"
        data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
        path.write_bytes(data)
        assert np.array_equal(read_audio(path), samples)

    def test_values_that_are_not_numbers_are_corrupt(self, tmp_path: Path) -> None:
        for bad in (np.nan, np.inf):
            sf.write(tmp_path / "a.wav", np.array([0.1, bad, 0.1]), RATE, subtype="FLOAT")
            with raises_fault("corrupt", "not numbers"):
                read_audio(tmp_path / "a.wav")

    def test_limit_on_duration_holds_at_any_rate(self, tmp_path: Path) -> None:
        sf.write(tmp_path / "a.wav", tone(1.0, 44100), 44100)
        assert len(read_audio(tmp_path / "a.wav", max_seconds=1.0)) == RATE
        with raises_fault("too long", r"a\.wav: 1\.0 s.*limit of 0\.9 s"):
            read_audio(tmp_path / "a.wav", max_seconds=0.9)

    def test_silence_is_audio(self, tmp_path: Path) -> None:
        write_audio(tmp_path / "a.wav", np.zeros(100, np.int16))
        assert len(read_audio(tmp_path / "a.wav")) == 100

    def test_an_error_passes_between_processes(self) -> None:
        error = pickle.loads(pickle.dumps(RecordingError("silent", "a.wav: silent")))
        assert (str(error), error.fault) == ("a.wav: silent", "silent")

    def test_writing_floats_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match="float64"):
            write_audio(tmp_path / "a.wav", np.zeros(3))  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())


class TestHostileFiles:
    @pytest.mark.parametrize("rate", [1, 100, 3_999, 800_000])
    def test_a_rate_that_no_recording_has_fails_before_anything_is_decoded(self, rate: int, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        sf.write(path, tone(3.0, RATE), RATE)
        data = bytearray(path.read_bytes())
        data[24:28] = rate.to_bytes(4, "little")
        path.write_bytes(data)
        for read in (lambda: read_audio(path, max_seconds=None), lambda: read_duration(path)):
            with raises_fault("corrupt", rf"a\.wav: its header says {rate:,} Hz.*4,000 to 768,000"):
                read()

    def test_a_length_without_a_limit_of_its_own_is_a_day_at_most(self, tmp_path: Path) -> None:
        sf.write(tmp_path / "a.wav", np.zeros(4, np.int16), 4000, subtype="PCM_U8")
        size = 4000 * 86_401
        data = bytearray((tmp_path / "a.wav").read_bytes())
        data[4:8], data[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(data)
        os.truncate(tmp_path / "a.wav", size + 44)
        with raises_fault("too long", r"86,401\.0 s.*86,400"):
            read_audio(tmp_path / "a.wav", max_seconds=None)

    @pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
    @pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
    def test_an_ogg_file_without_its_last_page_is_cut_off(self, subtype: str, share: float, tmp_path: Path) -> None:
        path = tmp_path / "a.ogg"
        rng = np.random.default_rng(0)
        sf.write(path, rng.normal(0, 0.1, 10 * RATE), RATE, format="OGG", subtype=subtype)
        data = path.read_bytes()
        cut = int(share * len(data))
        page = data.rfind(b"OggS", 0, cut)
        for end in (cut, page):
            path.write_bytes(data[:end])
            for read in (read_audio, read_duration):
                with pytest.raises(RecordingError, match=r"a\.ogg") as raised:
                    read(path)
                assert raised.value.fault in ("corrupt", "empty")
        path.write_bytes(data)
        assert len(read_audio(path)) == 10 * RATE

    @pytest.mark.parametrize("value", [3e38, -3e38, 32_767.0])
    @pytest.mark.parametrize("rate", [RATE, 44_100])
    @pytest.mark.filterwarnings("error")
    def test_floats_far_beyond_full_scale_are_no_audio(self, value: float, rate: int, tmp_path: Path) -> None:
        audio = np.tile(np.float32([value, 0.1, value, value]), 500)
        sf.write(tmp_path / "a.wav", np.stack([audio, audio], 1), rate, subtype="FLOAT")
        with raises_fault("corrupt", r"a\.wav: .*times full scale"):
            read_audio(tmp_path / "a.wav")

    @pytest.mark.filterwarnings("error")
    def test_loud_floats_become_int16_without_a_warning(self) -> None:
        assert to_int16(np.float32([3e38, -3e38, 1.0, 0.99999])).tolist() == [32767, -32768, 32767, 32767]

    def test_a_damaged_mp3_writes_nothing_to_stderr(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        sf.write(tmp_path / "a.mp3", tone(3.0, RATE), RATE)
        data = bytearray((tmp_path / "a.mp3").read_bytes())
        data[len(data) // 2 : len(data) // 2 + 700] = np.random.default_rng(0).bytes(700)
        for name in ("a.mp3", "a.wav"):
            (tmp_path / name).write_bytes(data)
            with raises_fault("corrupt"):
                read_audio(tmp_path / name)
        (tmp_path / "a.mp3").write_bytes(data[: len(data) // 2])
        with raises_fault("corrupt"):
            read_audio(tmp_path / "a.mp3")
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(read_audio, tmp_path / "a.mp3") for _ in range(40)]:
                with raises_fault("corrupt"):
                    future.result()
        assert capfd.readouterr().err == ""
        os.write(2, b"stderr is back")
        assert capfd.readouterr().err == "stderr is back"

    @pytest.mark.parametrize("name", ["a::b.wav", "a.tar::b.wav", "::.wav", os.fsdecode(b"caf\xe9.wav"), "日本.wav"])
    def test_any_file_name_can_be_read(self, name: str, tmp_path: Path) -> None:
        samples = np.arange(100, dtype=np.int16)
        sf.write(tmp_path / "plain.wav", samples, RATE)
        (tmp_path / "plain.wav").rename(tmp_path / name)
        assert np.array_equal(read_audio(tmp_path / name), samples)

    def test_a_name_that_is_not_utf_8_can_be_printed_in_an_error(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_text("no audio")
        with raises_fault("corrupt", r"caf\\xe9\.wav: not readable") as raised:
            read_audio(tmp_path / os.fsdecode(b"caf\xe9.wav"))
        str(raised.value).encode()
