"""How a wake phrase is said: its pronunciations in Kokoro's phonemes, in each accent, most usual first."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from edgewake.errors import EdgewakeError
from edgewake.synthesis.languages import LANGUAGES, accents, read_aloud
from edgewake.synthesis.phonemes import CODES, MARKS, distance, syllable_count
from edgewake.synthesis.words import common_words, dictionary, package

ENGLISH = accents("en")
MAX_LETTERS = 60
MAX_PRONUNCIATIONS = 6
# Pronunciations that differ by less are one: a reduced vowel, a flapped t.
SAME_PRONUNCIATION = 0.3
SHORTEST_PART = 3  # letters of a word that another is joined from


def check_phrase(text: str) -> str:
    """The phrase in lower case with single spaces; an EdgewakeError where it cannot be a wake phrase."""
    phrase = " ".join(text.split()).lower().replace("’", "'").strip("-' ").lstrip(".")
    shown = f"phrase {phrase if len(phrase) <= MAX_LETTERS else phrase[:MAX_LETTERS] + '...'!r}"
    letters = sum(map(str.isalpha, phrase))
    if digits := [sign for sign in phrase if sign.isnumeric()]:
        raise EdgewakeError(f"{shown} has {digits[0]!r}: write numbers as they are said, for 66 sixty six")
    if not letters:
        raise EdgewakeError(f"{shown} has no letters: give the words that shall wake the device, such as hey atlas")
    if letters > MAX_LETTERS:
        raise EdgewakeError(f"{shown} has {letters} letters, at most {MAX_LETTERS} are allowed: choose fewer words")
    if other := [sign for sign in phrase if not sign.isalpha() and sign not in " '-."]:
        raise EdgewakeError(f"{shown} has {other[0]!r}: letters, spaces, ' - and . are allowed; leave it out")
    if foreign := [sign for sign in phrase if sign.isalpha() and not unicodedata.name(sign).startswith("LATIN")]:
        raise EdgewakeError(f"{shown} has {foreign[0]!r}: only Latin letters can be read; respell it as it sounds")
    return phrase


@lru_cache(maxsize=2)
def _g2p(accent: str) -> Any:
    return package("hibari.g2p").G2P(british=accent == "gb")


@lru_cache(maxsize=1 << 16)
def phonemes_of(text: str, accent: str = "us") -> str:
    """The usual pronunciation of a text of any length, without punctuation; "" where none of it can be read."""
    phonemes = _g2p(accent)(text) if accent in ENGLISH else read_aloud(text, accent)
    return " ".join("".join(sign for sign in phonemes if sign in CODES or sign in MARKS).split())


def tag_of(word: str) -> str:
    """The part of speech that a word has most often, as a tag of the Penn Treebank."""
    return str(_g2p("us").tagger([word])[0])


def pronounce(text: str, accent: str = "us") -> list[str]:
    """All pronunciations of a phrase that differ, as strings of Kokoro's phonemes, most usual first.

    In another language than English they are espeak-ng's, in this accent and the language's others.
    In English the first is the lexicon's in this accent; of a word that no lexicon has, that of the two words that it
    is joined from, or else of a net. Then come the variants in CMU's dictionary, and the other accent's.

    Raises:
        EdgewakeError: a word cannot be read, or nothing of it is a vowel.
        MissingDependencyError: the extra `synthesis` is not installed.
    """
    phrase = check_phrase(text)
    words = phrase.split()
    if accent not in ENGLISH:
        others = next(accents(each) for each in LANGUAGES if accent in accents(each))
        return _differing([phonemes_of(phrase, each) for each in dict.fromkeys((accent, *others))], phrase)
    usual = _joined(phrase, accent)
    spoken = usual.split()
    found = [usual]
    if len(spoken) == len(words):
        known = dictionary()
        variants = [(said, *known.get(word, ())) for word, said in zip(words, spoken, strict=True)]
        found += map(" ".join, itertools.islice(itertools.product(*variants), 64))
    found.insert(4, _joined(phrase, "us" if accent == "gb" else "gb"))
    if unread := [word for word in words if not phonemes_of(word, accent)]:
        raise EdgewakeError(f"{unread[0]} cannot be pronounced: respell it as it sounds")
    return _differing(found, phrase)


def _differing(found: Sequence[str], phrase: str) -> list[str]:
    """Those that differ from all before them, at most `MAX_PRONUNCIATIONS`."""
    kept: list[str] = []
    for one in found:
        if syllable_count(one) and all(distance(one, other) >= SAME_PRONUNCIATION for other in kept):
            kept.append(one)
    if not kept:
        raise EdgewakeError(f"{phrase!r} cannot be pronounced: respell it as it sounds")
    return kept[:MAX_PRONUNCIATIONS]


def _joined(phrase: str, accent: str) -> str:
    """`phonemes_of`, with a stress in the second part of a joined word, without which the net's reading swallows it."""
    words, spoken = phrase.split(), phonemes_of(phrase, accent).split()
    if len(words) != len(spoken):
        return " ".join(spoken)
    parts = [_parts(word) for word in words]
    said = (
        phonemes_of(pair[0], accent) + phonemes_of(pair[1], accent).replace("ˈ", "ˌ") if pair else one
        for pair, one in zip(parts, spoken, strict=True)
    )
    return " ".join(said)


@lru_cache(maxsize=1 << 12)
def _parts(word: str) -> tuple[str, str] | None:
    """The two known words that an unknown one is joined from, such as snow and boy: the most frequent such; or None."""
    if word in dictionary():
        return None
    known = {each.text: each.per_million for each in common_words()}
    pairs = [(word[:cut], word[cut:]) for cut in range(SHORTEST_PART, len(word) - SHORTEST_PART + 1)]
    found = [pair for pair in pairs if all(part in known for part in pair)]
    return max(found, key=lambda pair: min(known[part] for part in pair), default=None)
