"""Plans, splits and changed speakers hold what they promise; the engine gives a tone, by voice of another pitch."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.data.importing import import_corpora
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.synthesis import engines, kokoro
from edgewake.synthesis.engines import split_of
from edgewake.synthesis.plan import Line, Plan, _voices, planned
from edgewake.synthesis.render import Clip, render
from edgewake.synthesis.speech import Speech, voiced_span
from edgewake.synthesis.synthesize import synthesize

NAMES = tuple(f"{accent}{number}" for accent in ("en-us+", "en-gb+") for number in ("a1", "a2", "m7"))


class Tones:
    """Half a second of silence, a tone of 40 ms a letter, and silence; "mute" has no tone, "longer" is much longer."""

    name = "espeak-ng"
    phonetic = False
    spoken = 0

    def voices(self) -> tuple[str, ...]:
        return NAMES

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        Tones.spoken += 1
        seconds = 0.04 * len(text) / speed * (4 if "longer" in text and seed % 10 == 0 else 1)
        tone = np.sin(2 * np.pi * (200 + 50 * NAMES.index(voice)) * np.arange(round(22050 * seconds)) / 22050)
        silence = np.zeros(11025)
        return Speech(np.concatenate([silence, 0.0 * tone if "mute" in text else tone, silence]).astype("f4"), 22050)


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> type[Tones]:
    """Tones in place of espeak-ng."""
    monkeypatch.setitem(engines._MAKERS, "espeak-ng", Tones)
    caches = (engines.engine, _voices)
    for cache in caches:
        cache.cache_clear()
    Tones.spoken = 0
    yield Tones
    for cache in caches:
        cache.cache_clear()


def plan(count: int = 24, text: str = "hey atlas", near: int | None = None, **options: object) -> Plan:
    counts = (count, count // 2 if near is None else near)
    lines = (
        Line(text=text, kind="positive", count=counts[0]),
        Line(text="hey alice", kind="negative", count=counts[1]),
    )
    options = {"changed": 0.0, "recogniser": None, "styles": {"alone": 1.0, "fast": 1.0}, **options}
    return Plan(phrase="hey atlas", lines=lines, voices={"espeak-ng": 1.0}, **options)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_plan_gives_the_same_bytes_and_a_larger_one_adds_to_them(tones: type[Tones], tmp_path: Path) -> None:
    report = synthesize(plan(), tmp_path / "a", workers=1)
    assert report["clips"] == 36
    first = files(tmp_path / "a")
    assert synthesize(plan(), tmp_path / "b", workers=1) == report
    assert files(tmp_path / "b") == first
    spoken = tones.spoken
    assert synthesize(plan(), tmp_path / "a", workers=1) == report
    assert tones.spoken == spoken
    synthesize(plan(36), tmp_path / "a", workers=1)
    assert tones.spoken == spoken + 18
    larger = files(tmp_path / "a")
    assert all(larger[name] == data for name, data in first.items() if name.endswith(".flac"))
    assert len(larger) == 54 + 2


def test_a_folder_is_a_corpus_in_which_no_voice_is_in_two_splits(tones: type[Tones], tmp_path: Path) -> None:
    synthesize(plan(60, splits={"train": 0.6, "val": 0.4}), tmp_path / "out", workers=1)
    corpus = import_corpora(tmp_path / "out", "hey atlas")
    assert corpus.shared_speakers == {}
    assert {entry.split for entry in corpus.entries} == {"train", "val"}
    assert sum(entry.kind == "positive" for entry in corpus.entries) == 60
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").read_text().splitlines()))
    for row, entry in zip(rows, corpus.entries, strict=True):
        assert split_of(row["voice"]) == row["split"] == entry.split
        assert len(corpus.read(entry)) == pytest.approx(16000 * entry.seconds, abs=1)
        spoken = float(row["phrase_end"]) - float(row["phrase_start"])
        assert spoken == pytest.approx(0.04 * len(row["text"]) / float(row["speed"]), abs=0.03)


def test_silent_and_overlong_clips_are_replaced_and_counted(tones: type[Tones], tmp_path: Path) -> None:
    report = synthesize(plan(60, "a longer phrase"), tmp_path / "a", workers=1)
    assert (
        report["by_kind_and_split"]["positive train"]["clips"] + report["by_kind_and_split"]["positive val"]["clips"]
        == 60
    )
    assert report["left_out"]["duration"] >= 1
    kept, made = (sum(numbers) for numbers in zip(*report["kept_by_voice"].values(), strict=True))
    assert made - kept == sum(report["left_out"].values())
    with pytest.raises(EdgewakeError, match="no clip of 'hey atlas' can be used: silent; try other voices"):
        synthesize(plan(4, "mute", near=0), tmp_path / "b", workers=1)


def test_a_damaged_clip_is_made_again(tones: type[Tones], tmp_path: Path) -> None:
    synthesize(plan(8), tmp_path / "a", workers=1)
    before = files(tmp_path / "a")
    chosen = sorted(name for name in before if name.endswith(".flac"))[:3]
    (tmp_path / "a" / chosen[0]).write_bytes(before[chosen[0]][:200])
    (tmp_path / "a" / chosen[1]).write_bytes(b"")
    (tmp_path / "a" / chosen[2]).unlink()
    synthesize(plan(8), tmp_path / "a", workers=1)
    assert files(tmp_path / "a") == before


def test_engines_for_tests_are_never_trained_on() -> None:
    for voice in ("flite:slt", "flite:kal", "festival:kal_diphone", "festival:another"):
        assert split_of(voice) == "test"
    lines = (Line(text="hey atlas", kind="positive", count=3),)
    with pytest.raises(ConfigError, match=r"splits.train: none of the voices flite is for train"):
        planned(Plan(phrase="hey atlas", lines=lines, voices={"flite": 1.0}, splits={"train": 1.0}), lines[0], 0)


@pytest.mark.parametrize("wrong", ["", "af_heart", "aws:joanna"])
def test_a_voice_without_its_engine_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="not of the form engine:name"):
        split_of(wrong)


@given(st.sampled_from(["blend", "sample"]), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_made_speaker_is_of_voices_of_its_split_alone(kind: str, validation: bool, number: int) -> None:
    names = tuple(sorted(["af_heart", "am_adam", "bf_emma", "jf_alpha", "zm_yunxi", *kokoro.VALIDATION]))
    voice = f"{'val-' if validation else ''}{kind}-{number}"
    assert split_of(f"kokoro:{voice}") == ("val" if validation else "train")
    for weights in kokoro._weights(voice, names):
        used = {name for name, weight in zip(names, weights, strict=True) if weight}
        assert weights.sum() == pytest.approx(1)
        assert len(used) > 1
        assert used <= set(kokoro.VALIDATION) if validation else not used & set(kokoro.VALIDATION)


@given(st.floats(0.05, 2), st.floats(0.05, 2), st.floats(0.2, 2), st.floats(-30, 0))
@settings(max_examples=50, deadline=None)
def test_sound_is_found_between_silences(before: float, after: float, length: float, level: float) -> None:
    rate = 16000
    tone = 10 ** (level / 20) * np.sin(np.arange(round(length * rate)) * 0.3)
    audio = np.concatenate([np.zeros(round(before * rate)), tone, np.zeros(round(after * rate))]).astype("f4")
    span = voiced_span(Speech(audio, rate))
    assert span is not None
    assert span == pytest.approx((before, before + length), abs=0.011)


def test_a_clip_keeps_what_its_settings_ask_for_around_the_phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tones of a second each, of which the second is the phrase."""
    rate = 24000
    audio = np.concatenate([np.sin(np.arange(rate) * pitch) for pitch in (0.1, 0.2, 0.3)]).astype("f4")
    speech = Speech(audio, rate, np.array([0.0, 1.0, 2.0, 3.0]))
    monkeypatch.setattr("edgewake.synthesis.render.speak", lambda *_: speech)
    made = render(Clip("a b c", "abc", (1, 2), "kokoro:af_heart", around=(0.5, 0.25), level=-6.0))
    assert made is not None
    assert len(made.samples) / 16000 == pytest.approx(0.5 + 1 + 0.25 + 0.15, abs=0.02)
    assert (made.start, made.end) == pytest.approx((0.55, 1.6), abs=0.02)
    assert abs(int(np.abs(made.samples).max()) / 32768 - 10 ** (-6 / 20)) < 0.02


def test_a_plan_is_read_from_json_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan().model_dump_json())
    assert Plan.load(path) == plan()
    path.write_text(json.dumps({**plan().model_dump(mode="json"), "voices": {"kokoro": -1}}))
    with pytest.raises(ConfigError, match=r"plan.json: voices.kokoro: .*greater than or equal to 0"):
        Plan.load(path)


def test_a_text_is_in_a_plan_once() -> None:
    line = Line(text="hey alice", kind="negative", count=2)
    with pytest.raises(ValueError, match="lines have 'hey alice' twice"):
        Plan(phrase="hey atlas", lines=(line, line.model_copy(update={"count": 3})))


@pytest.mark.slow
def test_a_near_phrase_is_never_said_where_it_would_make_the_phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "good mourners" and "good morning": the command after it may be the phrase itself."""
    pytest.importorskip("hibari", reason="hibari-tts is not installed: pip install 'edgewake[synthesis]'")

    class Silent:
        name, phonetic = "kokoro", True

        def voices(self) -> tuple[str, ...]:
            return ("af_heart",)

    monkeypatch.setitem(engines._MAKERS, "kokoro", Silent)
    engines.engine.cache_clear()
    line = Line(text="good evening", kind="negative", count=200)
    made = Plan(
        phrase="good morning", lines=(line,), voices={"kokoro:af_heart": 1}, splits={"train": 1}, styles={"command": 1}
    )
    texts = [planned(made, line, index).clip.text for index in range(200)]
    engines.engine.cache_clear()
    assert all("good morning" not in text for text in texts)
    assert sum(text.startswith("good evening") and len(text) > 20 for text in texts) > 150
