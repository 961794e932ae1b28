"""Phrases in other languages: phonemes that Kokoro takes, near words of the language, and voices apart for the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from edgewake.errors import ConfigError, EdgewakeError
from edgewake.synthesis import languages, near, sentences, words
from edgewake.synthesis.engines import split_of
from edgewake.synthesis.languages import LANGUAGES, read_words, usual_voices, voices_for_tests
from edgewake.synthesis.phonemes import CODES, MARKS, check_phonemes, phoneme_count, units
from edgewake.synthesis.phrases import pronounce
from edgewake.synthesis.plan import Plan
from edgewake.synthesis.wakeword import Wakeword

reads = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The 400 most frequent words of a language in place of 20,000, which take seconds to read."""
    kept = (words.common_words, near._table, near._pair_table, near._backwards, near._rhyme_strings, sentences._read)
    monkeypatch.setattr(words, "FOREIGN_WORDS", 400)
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()


@reads
@pytest.mark.parametrize(
    ("accent", "text", "phonemes"),
    [
        ("es", "zapato", "θapˈato"),
        ("es-419", "zapato", "sapˈato"),
        ("de", "zwei bücher", "ʦvˈI bˈyːçɜ"),
        ("fr-fr", "bon vin", "bˈɔ\u0303 vˈɛ\u0303"),
        ("it", "pizza oggi", "pˈiʦːa ˈɔʤːɪ"),
    ],
)
def test_espeak_reads_in_kokoros_signs(accent: str, text: str, phonemes: str) -> None:
    assert pronounce(text, accent)[0] == phonemes
    assert check_phonemes(phonemes) == phonemes
    assert len(units(phonemes)) == phoneme_count(phonemes)


@reads
def test_each_sign_that_espeak_gives_is_a_phoneme() -> None:
    texts = {
        "de": "ich mache schöne häuser für jungen heute zeit müssen pferd köpfe wasser",
        "es": "lluvia jamón guerra hielo ventana niño cigüeña ayuda mujer rey",
        "fr-fr": "huit feuille deux rue montagne chien oiseau lundi garçon yeux",
        "it": "gnocchi figlio zero acqua ragazzo scienza uomo perché",
    }
    for accent, text in texts.items():
        unknown = set("".join(read_words(text.split(), accent))) - set(CODES) - set(MARKS)
        assert not unknown, (accent, unknown)


@reads
def test_spanish_is_said_in_both_ways() -> None:
    assert pronounce("cielo azul", "es") == ["θjˈelo aθˈul", "sjˈelo asˈul"]


@reads
@pytest.mark.usefixtures("few_words")
def test_near_phrases_and_sentences_are_of_the_language() -> None:
    found = near.near_phrases("buenos días", 40, 0, language="es")
    assert found == near.near_phrases("buenos días", 40, 0, language="es")
    assert "buenos días" not in {one.text for one in found}
    spanish = {word.text for word in words.common_words("es")}
    assert [one for one in found if one.kind in ("word", "pair") and set(one.text.split()) <= spanish]
    said = sentences.sentences(50, 0, "buenos días", language="es")
    assert {word for text in said for word in text.split()} <= spanish
    assert not [text for text in said if "buenos días" in text]


def test_no_voice_of_the_test_is_trained_on() -> None:
    for language in LANGUAGES:
        assert {split_of(voice) for voice in voices_for_tests(language)} == {"test"}
        assert "test" not in {split_of(voice) for voice in usual_voices(language)}
        assert Wakeword(phrase="hola", name="hola", pronunciations=("ˈola",), language=language)


def test_a_recogniser_of_english_is_refused_for_others() -> None:
    with pytest.raises(ValueError, match=r"whisper-tiny.en takes English alone, language is es: use null"):
        Plan(phrase="hola", lines=(), language="es")


def test_a_language_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="language"):
        Wakeword(phrase="hej", name="hej", pronunciations=("hˈA",), language="sv")


def test_without_the_program_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages.shutil, "which", lambda _: None)
    with pytest.raises(EdgewakeError, match="need the program espeak-ng, not found on PATH: apt-get install espeak-ng"):
        read_words(["hola"], "es")
