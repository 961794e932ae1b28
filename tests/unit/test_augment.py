"""Variation does what it says, in level, time and band; it repeats from a seed and marks no class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.cache import Cache
from edgewake.config import AugmentationConfig, WakewordConfig
from edgewake.data import CorpusManifest, Entry, write_audio
from edgewake.data.augment import (
    Augmenter,
    RirPool,
    align_response,
    available_codecs,
    change_speed,
    fit,
    impulsive_noise,
    recode,
    requantize,
    reverberate,
    shape_spectrum,
    shift,
    synthetic_noise,
    synthetic_response,
)
from edgewake.data.mixing import NoisePool, active_power, mix_at_snr
from edgewake.data.rendering import check_packages
from edgewake.data.rooms import simulate, simulated_rooms
from edgewake.errors import MissingDependencyError
from edgewake.synthesis.speakers import usable_intonation

RATE = 16_000
Audio = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16]


def white(samples: int, seed: int = 0, rms: float = 0.1) -> Audio:
    return (np.random.default_rng(seed).standard_normal(samples) * rms).astype(np.float32)


def word(seconds: float = 2.0, start: float = 0.8, end: float = 1.3, seed: int = 0) -> Samples:
    """Band-limited bursts between silences, as a recording of a word has them."""
    out = np.zeros(round(seconds * RATE), np.float32)
    first, last = round(start * RATE), round(end * RATE)
    burst = white(last - first, seed, 0.2) * np.hanning(last - first)
    out[first:last] = shape_spectrum(burst.astype(np.float32), 4000, [])
    return (out * 32767).astype(np.int16)


def only(**changes: Any) -> AugmentationConfig:
    """A configuration in which nothing happens but `changes`."""
    nothing = {name: 0.0 for name in AugmentationConfig.model_fields if name.endswith("_prob")}
    return AugmentationConfig(**nothing | {"time_shift_ms": 0.0} | changes)


def augmenter(config: AugmentationConfig, noise: list[Samples] | None = None) -> Augmenter:
    return Augmenter(config, NoisePool(noise or []), RirPool([]))


def power_db(audio: npt.NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-20))


def lag(first: Audio, second: Audio) -> int:
    """Samples by which `second` comes after `first`."""
    size = len(first) + len(second)
    product = np.fft.rfft(second, size) * np.conj(np.fft.rfft(first, size))
    at = int(np.argmax(np.fft.irfft(product, size)))
    return at - size if at > size // 2 else at


NOISE = [(white(40_000, seed, 0.05) * 32767).astype(np.int16) for seed in (11, 12)]


class TestWhole:
    def test_same_generator_same_samples_other_generator_others(self) -> None:
        made = augmenter(AugmentationConfig(codec_prob=0.3), NOISE)
        for seed in range(12):
            first, second, other = (made(word(), np.random.default_rng(s)) for s in (seed, seed, seed + 1000))
            assert np.array_equal(first, second)
            assert not np.array_equal(first, other)

    def test_order_of_earlier_clips_does_not_matter(self) -> None:
        made = augmenter(AugmentationConfig(), NOISE)
        expected = made(word(), np.random.default_rng(5))
        for seed in range(3):
            made(word(seed=seed), np.random.default_rng(seed))
        assert np.array_equal(made(word(), np.random.default_rng(5)), expected)

    @given(st.integers(0, 2**32), st.integers(1, 40_000), st.none() | st.integers(1, 40_000))
    def test_length_and_type_are_kept_for_any_length(self, seed: int, samples: int, length: int | None) -> None:
        clip = (white(samples, seed) * 32767).astype(np.int16)
        out = augmenter(AugmentationConfig(), NOISE)(clip, np.random.default_rng(seed), length=length)
        assert out.dtype == np.int16
        assert out.shape == (samples if length is None else length,)

    def test_input_is_not_changed(self) -> None:
        clip, before = word(), word()
        for seed in range(10):
            augmenter(AugmentationConfig(), NOISE)(clip, np.random.default_rng(seed))
        assert np.array_equal(clip, before)

    def test_nothing_happens_where_every_probability_is_zero_or_it_is_off(self) -> None:
        for config in (only(), AugmentationConfig(enabled=False)):
            assert np.array_equal(augmenter(config)(word(), np.random.default_rng(0)), word())

    def test_digital_silence_gets_a_floor(self) -> None:
        out = augmenter(only(noise_floor_prob=1.0))(np.zeros(RATE, np.int16), np.random.default_rng(0))
        assert out.any()
        assert power_db(out / 32768) < -59

    def test_floor_stays_far_below_the_clip(self) -> None:
        clip = (word().astype(np.float32) * 0.02).astype(np.int16)
        config = only(noise_floor_prob=1.0, noise_floor_dbfs=(-60.0, -60.0))
        out = augmenter(config)(clip, np.random.default_rng(0))
        peak = 20 * np.log10(np.abs(clip).max() / 32768)
        assert power_db(out[: RATE // 2] / 32768) < peak - 38

    def test_level_reaches_the_whole_range(self) -> None:
        made = augmenter(only(gain_prob=1.0, peak_dbfs=(-40.0, 0.0)))
        peaks = [np.abs(made(word(), np.random.default_rng(seed)).astype(int)).max() for seed in range(200)]
        decibel = 20 * np.log10(np.array(peaks) / 32768)
        assert decibel.min() >= -40.1
        assert decibel.max() <= 0
        assert np.histogram(decibel, 4, (-40, 0))[0].min() > 25

    def test_clipping_flattens_the_peaks_and_nothing_else_does(self) -> None:
        clipped = augmenter(only(clip_prob=1.0, clip_db=(9.0, 9.0)))(word(), np.random.default_rng(0))
        top = np.abs(clipped.astype(int)).max()
        assert (np.abs(clipped.astype(int)) == top).sum() > 50
        loud = augmenter(only(background_noise_prob=1.0, synthetic_noise_share=0.0, snr_db=(-20.0, -20.0)), NOISE)
        mixed = loud(word(), np.random.default_rng(0)).astype(int)
        assert (np.abs(mixed) == np.abs(mixed).max()).sum() < 3

    def test_phrase_stays_where_the_caller_put_it(self) -> None:
        config = AugmentationConfig(
            background_noise_prob=0.0, noise_floor_prob=0.0, synthetic_rir_share=1.0, rir_prob=1.0
        )
        for seed in range(8):
            out = augmenter(config)(word(), np.random.default_rng(seed), speed=False)
            assert abs(lag(word().astype(np.float32), out.astype(np.float32))) <= 4

    def test_silent_clip_in_noise_is_noise(self) -> None:
        made = augmenter(only(background_noise_prob=1.0, synthetic_noise_share=0.0), NOISE)
        assert made(np.zeros(RATE, np.int16), np.random.default_rng(0)).any()

    def test_speed_alone_changes_the_length(self) -> None:
        made = augmenter(only(speed_prob=1.0, speed=(0.8, 1.25)))
        lengths = [len(made.speed(word(), np.random.default_rng(seed))) for seed in range(50)]
        assert 25_500 <= min(lengths) < 28_000
        assert 36_000 < max(lengths) <= 40_100
        assert np.array_equal(augmenter(only()).speed(word(), np.random.default_rng(0)), word())

    def test_pools_come_from_one_split(self, tmp_path: Path) -> None:
        entries = []
        for name, kind, split in (
            ("a", "noise", "train"),
            ("b", "noise", "test"),
            ("c", "music", "train"),
            ("d", "rir", "train"),
        ):
            write_audio(tmp_path / f"{name}.wav", NOISE[0][:3000])
            label = None if kind == "rir" else 0
            entries.append(Entry(path=f"{name}.wav", kind=kind, label=label, split=split, seconds=0.1875))
        manifest = CorpusManifest.build("x", entries, folder=tmp_path)
        made = Augmenter.from_manifest(AugmentationConfig(), manifest, "train")
        assert (len(made.noise_pool), len(made.rir_pool.responses)) == (2, 1)
        assert len(Augmenter.from_manifest(AugmentationConfig(), manifest, "test").noise_pool) == 1


class TestNoise:
    @given(st.floats(-20, 40), st.integers(0, 1000))
    def test_ratio_is_the_one_asked_for(self, snr_db: float, seed: int) -> None:
        speech, noise = word(seed=seed).astype(np.float32) / 32768, white(2 * RATE, seed + 1, 0.3)
        mixed = mix_at_snr(speech, noise, snr_db)
        measured = 10 * np.log10(active_power(speech) / np.mean(np.square(mixed - speech, dtype=np.float64)))
        assert measured == pytest.approx(snr_db, abs=0.1)

    def test_pauses_do_not_count_as_speech(self) -> None:
        burst = white(RATE // 2)
        padded = np.concatenate([np.zeros(3 * RATE, np.float32), burst, np.zeros(5 * RATE, np.float32)])
        assert active_power(padded) == pytest.approx(active_power(burst), rel=0.05)

    def test_click_does_not_set_the_level(self) -> None:
        speech = white(2 * RATE)
        clicked = speech.copy()
        clicked[1000] = 30.0
        assert active_power(clicked) < 8 * active_power(speech)
        assert active_power(np.zeros(1000, np.float32)) == active_power(np.zeros(0, np.float32)) == 0

    def test_silent_parts_leave_the_speech_as_it_is(self) -> None:
        speech, silence = white(1000), np.zeros(1000, np.float32)
        assert np.array_equal(mix_at_snr(speech, silence, 0), speech)
        assert np.array_equal(mix_at_snr(silence, speech, 0), silence)

    def test_recordings_come_up_by_their_length(self) -> None:
        pool = NoisePool([np.full(9000, 1000, np.int16), np.full(3000, 2000, np.int16), np.zeros(500, np.int16)])
        assert len(pool) == 2
        rng = np.random.default_rng(0)
        drawn = [round(float(pool.draw(10, rng)[0]) * 32768) for _ in range(2000)]
        assert set(drawn) == {1000, 2000}
        assert drawn.count(1000) / 2000 == pytest.approx(0.75, abs=0.04)

    def test_short_recording_is_repeated(self) -> None:
        pool = NoisePool([np.arange(1, 101, dtype=np.int16)])
        drawn = np.rint(pool.draw(350, np.random.default_rng(0)) * 32768).astype(int)
        assert np.array_equal(drawn[:250], drawn[100:])

    def test_generated_noise_has_unit_level_and_several_colours(self) -> None:
        tilts = set()
        for seed in range(30):
            noise = synthetic_noise(RATE, np.random.default_rng(seed))
            assert power_db(noise) == pytest.approx(0, abs=0.01)
            spectrum = np.abs(np.fft.rfft(noise)) ** 2
            tilts.add(round(float(np.log10(spectrum[200:400].mean() / spectrum[4000:7000].mean()))))
        assert len(tilts) >= 3

    @given(st.integers(0, 2**32), st.integers(1, 60_000))
    def test_impulsive_noise_has_unit_level_and_pauses(self, seed: int, length: int) -> None:
        noise = impulsive_noise(length, np.random.default_rng(seed))
        assert noise.shape == (length,)
        assert np.isfinite(noise).all()
        if length >= RATE:
            assert power_db(noise) == pytest.approx(0, abs=0.01)

    def test_impulsive_noise_is_far_above_its_mean_level_for_moments(self) -> None:
        crests = [float(np.abs(impulsive_noise(2 * RATE, np.random.default_rng(seed))).max()) for seed in range(40)]
        assert np.median(crests) > 8  # of noise it is about 4
        share = {
            name: only(background_noise_prob=1.0, impulse_share=value) for name, value in (("all", 1.0), ("no", 0.0))
        }
        kurtosis = {}
        for name, config in share.items():
            made = [augmenter(config)(np.zeros(RATE, np.int16), np.random.default_rng(seed)) for seed in range(20)]
            kurtosis[name] = np.median([np.mean((clip / clip.std()) ** 4.0) for clip in made])
        assert kurtosis["all"] > 5 * kurtosis["no"]

    def test_a_second_talker_is_below_the_first_by_what_is_asked_for(self) -> None:
        config = only(talker_prob=1.0, talker_db=(12.0, 12.0))
        talker = NoisePool([(white(50_000, 3, 0.05) * 32767).astype(np.int16)])
        clip = word()
        mixed = Augmenter(config, NoisePool([]), RirPool([]), talker)(clip, np.random.default_rng(0))
        added = (mixed.astype(np.float32) - clip) / 32768
        assert 10 * np.log10(active_power(clip / np.float32(32768)) / np.mean(added**2)) == pytest.approx(12, abs=0.1)
        assert np.array_equal(augmenter(config)(clip, np.random.default_rng(0)), clip)

    def test_heavy_clips_are_the_share_that_is_set_and_have_values_of_their_own(self) -> None:
        usual, heavy = {"synthetic_noise_share": 0.0, "snr_db": (60.0, 60.0)}, {"heavy_snr_db": (0.0, 0.0)}
        config = only(background_noise_prob=1.0, heavy_background_prob=1.0, heavy_share=0.3, **usual, **heavy)
        made = augmenter(config, NOISE)
        levels = [power_db(made(word(), np.random.default_rng(seed))[: RATE // 2] / 32768) for seed in range(300)]
        assert np.mean(np.array(levels) > -40) == pytest.approx(0.3, abs=0.08)
        rooms = augmenter(only(heavy_share=1.0, heavy_rir_prob=1.0, synthetic_rir_share=1.0))
        assert not np.array_equal(rooms(word(), np.random.default_rng(0)), word())


class TestVoice:
    def test_another_speaker_has_another_pitch_and_stays_the_same_by_its_seed(self) -> None:
        pytest.importorskip("parselmouth", reason="not installed: pip install 'edgewake[synthesis]'")
        time = np.arange(RATE) / RATE
        speech = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 20)) * 4000
        made = augmenter(only(voice_prob=1.0))
        periods, lengths = set(), set()
        for seed in range(8):
            other, again = (made.speed(speech.astype(np.int16), np.random.default_rng(seed)) for _ in range(2))
            assert np.array_equal(other, again)
            middle = other[3000:9000].astype(np.float64)
            product = np.correlate(middle, middle, "full")[len(middle) :]
            periods.add(round(RATE / (40 + int(np.argmax(product[40:400])))))
            lengths.add(len(other))
        assert max(periods) - min(periods) > 20
        assert len(lengths) > 4

    @given(st.floats(0.3, 3), st.floats(60, 700), st.floats(60, 700))
    def test_intonation_keeps_every_pitch_above_zero(self, intonation: float, median: float, lowest: float) -> None:
        used = usable_intonation(intonation, median, min(lowest, median))
        assert used <= intonation
        assert median + (min(lowest, median) - median) * used >= 0.199 * median
        assert usable_intonation(intonation, np.nan, np.nan) == intonation

    @pytest.mark.parametrize("key", ["voice_prob", "negative_voice_prob", "simulated_rooms"])
    def test_a_package_that_is_missing_is_named_with_its_extra(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgewake.data.rendering.find_spec", lambda name: None)
        config = WakewordConfig()
        check_packages(config)
        config.set(f"augmentation.{key}", 1)
        with pytest.raises(MissingDependencyError, match=rf"augmentation\.{key} takes .*edgewake\[synthesis\]"):
            check_packages(config)


class TestRooms:
    def test_simulated_rooms_are_near_and_far_repeat_and_are_kept(self, tmp_path: Path) -> None:
        pytest.importorskip("pyroomacoustics", reason="not installed: pip install 'edgewake[synthesis]'")
        file = simulated_rooms(12, (0.2, 0.6), Cache(tmp_path))
        responses = np.load(file)
        assert responses.shape == (12, RATE)
        assert np.array_equal(simulate(3, (0.2, 0.6)), responses[3])
        direct = [np.square(r[:40]).sum() / np.square(r).sum() for r in map(align_response, responses)]
        assert (min(direct) < 0.2, max(direct) > 0.7) == (True, True)
        pool = RirPool([], responses)
        found = {len(pool.draw(np.random.default_rng(seed), 1.0)) for seed in range(40)}
        assert found <= {len(align_response(response)) for response in responses}
        assert simulated_rooms(12, (0.2, 0.6), Cache(tmp_path)) == file

    @given(st.integers(0, 2**32), st.floats(0.05, 1.5))
    def test_generated_room_starts_at_its_direct_path_with_energy_1(self, seed: int, rt60: float) -> None:
        response = synthetic_response(np.random.default_rng(seed), (rt60, rt60))
        assert np.argmax(np.abs(response)) == 0 or response[0] > 0
        assert float(np.square(response).sum()) == pytest.approx(1, rel=1e-4)
        assert np.isfinite(response).all()

    def test_generated_room_decays_by_60_db_in_its_reverberation_time(self) -> None:
        decays = []
        for seed in range(20):
            response = synthetic_response(np.random.default_rng(seed), (0.6, 0.6)).astype(np.float64)
            remaining = np.cumsum(np.square(response[::-1]))[::-1]
            db = 10 * np.log10(remaining / remaining[300])
            span = slice(int(np.argmax(db < -5)), int(np.argmax(db < -20)))
            slope = np.polyfit(np.arange(span.stop - span.start) / RATE, db[span], 1)[0]
            decays.append(-60 / slope)
        assert 0.35 < np.median(decays) < 0.7

    def test_measured_response_is_aligned_and_normalised(self) -> None:
        measured = np.zeros(4 * RATE, np.float32)
        measured[3000:] = white(len(measured) - 3000, 1, 0.2) * np.exp(-np.arange(len(measured) - 3000) / 2000)
        measured[3000] = 3.0
        response = align_response(measured * 0.01)
        assert np.argmax(np.abs(response)) == 0
        assert len(response) <= RATE
        assert float(np.square(response).sum()) == pytest.approx(1, rel=1e-4)

    def test_response_of_zeros_is_refused(self) -> None:
        with pytest.raises(ValueError, match="all zeros"):
            align_response(np.zeros(100, np.float32))

    def test_room_neither_delays_nor_changes_the_level(self) -> None:
        dry = white(4 * RATE)
        for seed in range(5):
            wet = reverberate(dry, synthetic_response(np.random.default_rng(seed)))
            assert len(wet) == len(dry)
            assert lag(dry, wet) == 0
            assert power_db(wet) == pytest.approx(power_db(dry), abs=1.5)

    def test_convolution_is_the_definition(self) -> None:
        dry, response = white(700), white(90, 2)
        expected = np.convolve(dry.astype(np.float64), response.astype(np.float64))[:700]
        assert np.allclose(reverberate(dry, response), expected, atol=1e-5)

    def test_pool_draws_measured_and_generated(self) -> None:
        pool = RirPool([np.array([1.0, 0.0, 0.5], np.float32)])
        rng = np.random.default_rng(0)
        lengths = {len(pool.draw(rng, 0.5)) for _ in range(30)}
        assert 3 in lengths
        assert len(lengths) > 5
        assert len(RirPool([]).draw(rng, 0.0)) > 3


class TestLine:
    @pytest.mark.parametrize("cutoff", [3400.0, 5500.0, 7000.0])
    def test_low_pass_removes_what_is_above_and_keeps_what_is_below(self, cutoff: float) -> None:
        audio = white(RATE)
        spectrum = np.abs(np.fft.rfft(shape_spectrum(audio, cutoff, []))) ** 2
        original = np.abs(np.fft.rfft(audio)) ** 2
        edge = int(cutoff)
        assert spectrum[edge + 50 :].sum() < 1e-5 * original[edge + 50 :].sum()
        assert spectrum[: int(0.93 * edge)].sum() == pytest.approx(original[: int(0.93 * edge)].sum(), rel=0.01)
        assert lag(audio, shape_spectrum(audio, cutoff, [])) == 0

    def test_equalizer_has_the_gains_it_was_given(self) -> None:
        gains = [0.0, 3.0, -3.0, 6.0, -6.0, 0.0, 2.0, -2.0]
        audio = white(RATE)
        ratio = np.abs(np.fft.rfft(shape_spectrum(audio, None, gains))) / np.abs(np.fft.rfft(audio))
        for octave, gain in enumerate(gains):
            at = min(7990, round(62.5 * 2**octave))
            assert 20 * np.log10(ratio[at]) == pytest.approx(gain, abs=0.3)

    @pytest.mark.parametrize("law", ["linear", "mulaw"])
    def test_eight_bits_leave_at_most_256_values(self, law: str) -> None:
        audio = white(RATE)
        out = requantize(audio, law)
        assert len(np.unique(out)) <= 256
        assert np.abs(out - audio).max() <= np.abs(audio).max() * (0.02 if law == "mulaw" else 0.004)
        assert np.array_equal(requantize(np.zeros(9, np.float32), law), np.zeros(9))

    @pytest.mark.parametrize("codec", ["vorbis", "mp3", "opus"])
    def test_recoding_keeps_length_time_and_level(self, codec: str) -> None:
        if codec not in available_codecs():
            pytest.skip(f"the installed libsndfile does not write {codec}")
        audio = shape_spectrum(white(20_001, 3), 3000, [])
        out = recode(audio, codec, 0.9)
        assert out.shape == audio.shape
        assert lag(audio, out) == 0
        assert power_db(out) == pytest.approx(power_db(audio), abs=1.5)
        assert not np.array_equal(out, audio)

    def test_wheels_of_soundfile_have_every_codec(self) -> None:
        assert available_codecs() == {"vorbis", "mp3", "opus"}


class TestTime:
    @given(st.floats(0.85, 1.18))
    def test_speed_scales_length_and_pitch(self, factor: float) -> None:
        tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
        fast = change_speed(tone, factor)
        assert len(fast) == pytest.approx(RATE / factor, abs=2)
        peak = np.argmax(np.abs(np.fft.rfft(fast * np.hanning(len(fast))))) * RATE / len(fast)
        assert peak == pytest.approx(1000 * factor, abs=2)

    @given(st.integers(-1200, 1200))
    def test_shift_moves_and_fills_with_silence(self, samples: int) -> None:
        audio = white(1000)
        out = shift(audio, samples)
        kept = max(0, 1000 - abs(samples))
        if samples >= 0:
            assert np.array_equal(out[1000 - kept :], audio[:kept])
        else:
            assert np.array_equal(out[:kept], audio[1000 - kept :])
        assert np.count_nonzero(out) == kept

    @given(st.integers(0, 10_000), st.floats(0.1, 2.0), st.floats(0.2, 0.8))
    def test_fit_keeps_all_of_a_word_that_fits(self, seed: int, start: float, length: float) -> None:
        clip = word(3.0, start, start + length, seed).astype(np.float32)
        out = fit(clip, RATE, np.random.default_rng(seed))
        assert len(out) == RATE
        assert np.square(out).sum() >= 0.97 * np.square(clip).sum()

    @given(st.integers(0, 10_000), st.integers(0, 3000))
    def test_fit_places_a_short_clip_whole(self, seed: int, samples: int) -> None:
        clip = white(samples, seed) + np.float32(1)
        out = fit(clip, 3000, np.random.default_rng(seed))
        start = int(np.argmax(out != 0)) if samples else 0
        assert np.array_equal(out[start : start + samples], clip)
        assert np.count_nonzero(out) == samples
