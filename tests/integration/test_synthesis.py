"""Engines speak, speakers change, the recogniser decides, and a run that is killed goes on to the same bytes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr
from click.testing import CliRunner

from edgewake.cli import main
from edgewake.data.importing import import_corpora
from edgewake.errors import ConfigError
from edgewake.synthesis.engines import FESTIVAL, FLITE, engine, speak, speakers_of, split_of
from edgewake.synthesis.kokoro import FRAME, RATE
from edgewake.synthesis.recogniser import Recogniser
from edgewake.synthesis.speakers import Change, changed, draw_change
from edgewake.synthesis.speech import Audio, Speech, voiced_span

GetAsset = Callable[[str], Path]
ATLAS, COMPUTER, ELECTION = "hˈA ˈætləs", "kəmpjˈuTəɹ", "əlˈɛkʃən"


def program(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"the program {name} is not installed")


@pytest.fixture(scope="module")
def kokoro(asset: GetAsset) -> None:
    """Kokoro, loaded from the asset."""
    asset("kokoro")
    engine.cache_clear()


def at_16k(speech: Speech) -> Audio:
    return np.asarray(soxr.resample(speech.audio, speech.rate, 16000), np.float32)


@pytest.mark.parametrize(
    ("needed", "voice"),
    [("flite", "flite:slt"), ("text2wave", f"festival:{FESTIVAL[1]}"), ("espeak-ng", "espeak-ng:en-gb+f2")],
)
def test_a_program_speaks_the_same_each_time_and_slower_when_asked(needed: str, voice: str) -> None:
    program(needed)
    first, again, slow = (speak("hey atlas", "", voice, speed) for speed in (1.0, 1.0, 0.7))
    assert np.array_equal(first.audio, again.audio)
    assert slow.seconds > 1.15 * first.seconds
    with pytest.raises(ConfigError, match="has no voice 'nobody'"):
        speak("hey atlas", "", f"{voice.partition(':')[0]}:nobody")
    with pytest.raises(ConfigError, match="has nothing to say: give words"):
        speak(" ?! ", "", voice)


@pytest.mark.slow
def test_piper_speaks_the_same_each_time_and_slower_when_asked(asset: GetAsset) -> None:
    program("piper")
    asset("piper-joe")
    first, again, slow = (speak("hey atlas", "", "piper:joe", speed) for speed in (1.0, 1.0, 0.7))
    assert np.array_equal(first.audio, again.audio)
    assert slow.seconds == pytest.approx(first.seconds / 0.7, rel=0.02)
    with pytest.raises(ConfigError, match=r"nowhere.onnx does not exist; give the path of an .onnx file"):
        speak("hey atlas", "", "piper:nowhere.onnx")


def test_hibari_speaks_phonemes() -> None:
    pytest.importorskip("hibari", reason="hibari-tts is not installed: pip install 'edgewake[synthesis]'")
    first, again, other = (speak("", ATLAS, "hibari:heart", seed=seed) for seed in (1, 1, 2))
    assert first.rate == 24000
    assert 0.5 < first.seconds < 3
    assert np.array_equal(first.audio, again.audio)
    assert not np.array_equal(first.audio, other.audio)


def test_hibari_gives_the_time_of_each_phoneme() -> None:
    pytest.importorskip("hibari", reason="hibari-tts is not installed: pip install 'edgewake[synthesis]'")
    speech = speak("", f"{ATLAS}, {ATLAS}.", "hibari:heart", seed=1)
    assert speech.bounds is not None
    assert len(speech.bounds) == len(f"{ATLAS}, {ATLAS}.") + 1
    # The phrase twice: loud where the phonemes are, silent in the pause of the comma and after the last phoneme.
    levels = [
        float(np.square(speech.audio[round(begin * speech.rate) : round(end * speech.rate)]).mean())
        for begin, end in (
            (speech.bounds[0], speech.bounds[len(ATLAS)]),
            (speech.bounds[len(ATLAS) + 2], speech.bounds[-2]),
            (speech.bounds[-1], speech.seconds),
        )
    ]
    assert levels[2] < 0.1 * min(levels[:2])
    assert speech.seconds - speech.bounds[-1] < 0.5


def test_a_piper_voice_has_its_speakers(tmp_path: Path) -> None:
    path = tmp_path / "many.onnx"
    Path(f"{path}.json").write_text(json.dumps({"num_speakers": 14}))
    voices = speakers_of(f"piper:{path}")
    assert len(voices) == 14
    assert [split_of(voice) for voice in voices].count("val") == 2
    assert speakers_of(f"piper:{path}#3") == (f"piper:{path}#3",)


@pytest.mark.slow
def test_kokoro_gives_the_time_of_each_phoneme(kokoro: None) -> None:
    sentence = f"tˈɛl mˌi, {ATLAS}."
    speech = speak("", sentence, "kokoro:af_heart")
    assert speech.rate == RATE
    assert speech.bounds is not None
    assert len(speech.bounds) == len(sentence) + 1
    assert (np.diff(speech.bounds) >= 0).all()
    assert 0 < speech.bounds[0] < speech.bounds[-1] < speech.seconds
    assert len(speech.audio) % FRAME == 0
    # The pause of the comma is silent, and lies where the comma's time is.
    comma = sentence.index(",")
    begin, end = speech.bounds[comma], speech.bounds[comma + 2]
    between = speech.audio[round(begin * RATE) : round(end * RATE)]
    assert np.square(between).mean() < 0.2 * np.square(speech.audio).mean()
    assert np.array_equal(speak("", sentence, "kokoro:af_heart", seed=9).audio, speech.audio)


@pytest.mark.slow
def test_kokoro_makes_speakers_from_names(kokoro: None) -> None:
    names = ("blend-1", "blend-2", "sample-1", "sample-2", "val-blend-1", "val-sample-1")
    styles = [engine("kokoro").style(name, 9) for name in names]  # type: ignore[attr-defined]
    assert all(style.shape == (256,) and np.isfinite(style).all() for style in styles)
    assert min(np.abs(a - b).max() for i, a in enumerate(styles) for b in styles[:i]) > 0.01
    assert np.array_equal(styles[2], engine("kokoro").style("sample-1", 9))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="Kokoro has no voice 'af_nobody'"):
        speak("", ATLAS, "kokoro:af_nobody")
    with pytest.raises(ConfigError, match="which Kokoro lacks"):
        speak("", "hX8", "kokoro:af_heart")


def vowel(pitch: float = 140.0, formant: float = 700.0, seconds: float = 1.0) -> Speech:
    """Harmonics under one formant."""
    at = np.arange(round(24000 * seconds)) / 24000
    harmonics = np.arange(1, 40) * pitch
    gains = np.exp(-(((harmonics - formant) / 150) ** 2)) + 0.01
    audio = sum(gain * np.sin(2 * np.pi * each * at) for gain, each in zip(gains, harmonics, strict=True))
    return Speech((0.1 * np.asarray(audio)).astype(np.float32), 24000, np.array([0.0, 0.5, 1.0]))


def test_a_changed_speaker_has_another_pitch_other_formants_and_duration() -> None:
    parselmouth = pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    made = changed(vowel(), Change(pitch=1.5, formants=1.2, duration=1.3), 1)
    assert made.seconds == pytest.approx(1.3, abs=0.01)
    assert made.bounds == pytest.approx([0.0, 0.65, 1.3], abs=0.01)
    sound = parselmouth.Sound(made.audio.astype(np.float64), made.rate)
    pitches = sound.to_pitch(0.01, 75, 500).selected_array["frequency"]
    assert np.median(pitches[pitches > 0]) == pytest.approx(210, rel=0.03)
    spectrum = np.abs(np.fft.rfft(made.audio * np.hanning(len(made.audio))))
    peak = np.argmax(np.convolve(spectrum, np.hanning(800), "same")) / made.seconds
    assert peak == pytest.approx(840, rel=0.1)
    assert np.array_equal(changed(vowel(), Change(pitch=1.5, formants=1.2, duration=1.3), 1).audio, made.audio)


def test_a_whisper_has_no_pitch_and_the_loudness_of_the_voice() -> None:
    parselmouth = pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    pytest.importorskip("hibari", reason="hibari-tts is not installed: pip install 'edgewake[synthesis]'")
    said = speak("", ATLAS, "hibari:heart", seed=1)
    whispered = changed(said, Change(whispered=True), 3)

    def voiced(speech: Speech) -> float:
        sound = parselmouth.Sound(speech.audio.astype(np.float64), speech.rate)
        return float((sound.to_pitch(0.01, 75, 500).selected_array["frequency"] > 0).mean())

    assert voiced(said) > 0.25
    assert voiced(whispered) < 0.1
    assert voiced_span(whispered) == pytest.approx(voiced_span(said), abs=0.1)


def test_drawn_changes_stay_within_what_people_have() -> None:
    rng = np.random.default_rng(0)
    changes = [draw_change(rng, child_share=0.3) for _ in range(2000)]
    for name, low, high in (
        ("pitch", 0.7, 2.0),
        ("formants", 0.84, 1.32),
        ("intonation", 0.5, 1.7),
        ("duration", 0.8, 1.25),
    ):
        values = [getattr(change, name) for change in changes]
        assert low <= min(values)
        assert max(values) <= high
    assert np.mean([change.formants > 1.18 for change in changes]) == pytest.approx(0.3 * 0.7, abs=0.04)


@pytest.mark.slow
def test_the_recogniser_tells_the_phrase_from_other_words_and_noise(kokoro: None, asset: GetAsset) -> None:
    asset("whisper-tiny.en")
    recogniser = Recogniser()
    voices = ("kokoro:af_heart", "kokoro:am_adam", "kokoro:bf_emma", "kokoro:bm_lewis")
    rng = np.random.default_rng(0)
    noise = [
        rng.standard_normal(16000).astype(np.float32),
        np.zeros(16000, np.float32),
        np.sin(np.arange(20000) * 0.1).astype("f4"),
    ]
    said = [at_16k(speak("", COMPUTER, voice)) for voice in voices]
    other = [at_16k(speak("", phonemes, voice)) for voice in voices for phonemes in (ELECTION, ATLAS)]
    verdicts = recogniser.judge([*said, *other, *noise], "computer")
    assert [verdict.held for verdict in verdicts] == [True] * 4 + [False] * (8 + 3)
    assert [recogniser.judge([clip], "hey atlas")[0].held for clip in other[1::2]] == [True] * 4


def synth(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "edgewake", "synth", "hey atlas", "--out", str(out), "--voice", "espeak-ng", *options]


COUNTS = ("--positives", "24", "--near", "12", "--sentences", "12", "--workers", "2")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes_and_leaves_no_process(tmp_path: Path) -> None:
    program("espeak-ng")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(synth(whole, *COUNTS), check=True, capture_output=True)
    child = subprocess.Popen(
        synth(cut, *COUNTS), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    while len(list(cut.glob("clips/*/*.flac"))) < 8 and child.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (cut / "manifest.csv").exists()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers outlived the killed run")
    subprocess.run(synth(cut, *COUNTS), check=True, capture_output=True)
    for path in whole.rglob("*"):
        if path.is_file():
            assert (cut / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert {path.name for path in cut.rglob("*.flac")} == {path.name for path in whole.rglob("*.flac")}
    corpus = import_corpora(whole, "hey atlas")
    assert sum(entry.kind == "positive" for entry in corpus.entries) == 24
    assert {entry.family for entry in corpus.entries} >= {"synth_espeak_ng", "near_espeak_ng"}


@pytest.mark.slow
def test_engines_for_tests_make_a_corpus_for_tests_alone(tmp_path: Path) -> None:
    program("flite")
    counts = ["--positives", "6", "--near", "4", "--sentences", "0", "--workers", "1"]
    command = ["synth", "hey atlas", "--out", str(tmp_path / "out"), "--voice", "flite", *counts]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} == {"test"}
    assert {row["speaker"] for row in rows} <= set(FLITE)


@pytest.mark.slow
def test_say_without_assets_uses_what_is_installed_and_says_what_to_get(tmp_path: Path) -> None:
    pytest.importorskip("hibari", reason="hibari-tts is not installed: pip install 'edgewake[synthesis]'")
    environment = {**os.environ, "EDGEWAKE_CACHE": str(tmp_path / "empty"), "EDGEWAKE_ASSETS": ""}
    command = [sys.executable, "-m", "edgewake", "say", "hey atlas", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert "edgewake assets get kokoro fetches its" in done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'out' / 'hey_atlas_hibari_heart.wav'}  hˈA ˈætləs")
    assert (tmp_path / "out" / "hey_atlas_hibari_heart.wav").stat().st_size > 10_000
