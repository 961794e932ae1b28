"""What is thought of a wake phrase before any training: its length, how common it is, and what sounds like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgewake.synthesis.languages import Language, accents
from edgewake.synthesis.near import SAME, Neighbour, everyday_per_million, nearest_pairs, nearest_words, share_of
from edgewake.synthesis.phonemes import check_phonemes, phoneme_count, syllable_count
from edgewake.synthesis.phrases import check_phrase, pronounce

# Syllables and phonemes: below the first a phrase is poor, below the second it is short.
POOR_LENGTH, SHORT_LENGTH = (2, 5), (3, 6)
# Often and too often, in a million words (110 hours of talk), for the phrase and for what sounds like it.
WORDS_PER_HOUR = 9000
OWN_OFTEN, OWN_TOO_OFTEN = 20.0, 200.0
ALIKE_OFTEN, ALIKE_TOO_OFTEN = 20.0, 500.0
SHOWN = 8

Verdict = Literal["good", "fair", "poor"]


@dataclass(frozen=True)
class Pronunciation:
    """One way to say the phrase, in Kokoro's phonemes."""

    phonemes: str
    syllables: int
    phoneme_count: int


@dataclass(frozen=True)
class Assessment:
    """What is thought of a phrase.

    Attributes:
        per_million: how often the phrase itself is among a million words, as if its words were independent.
        alike_per_million: how often other speech holds what sounds like it.
        near: the nearest common words and pairs of words, each with its distance in phonemes.
        inside: common speech that has what sounds like the phrase in it.
    """

    phrase: str
    verdict: Verdict
    advice: tuple[str, ...]
    pronunciations: tuple[Pronunciation, ...]
    per_million: float
    alike_per_million: float
    near: tuple[Neighbour, ...]
    inside: tuple[Neighbour, ...]


def assess(phrase: str, pronunciations: Sequence[str] = (), language: Language = "en") -> Assessment:
    """Assess a phrase by its pronunciations, or by those of `pronounce`.

    Raises:
        EdgewakeError: the phrase or a pronunciation cannot be used.
        MissingDependencyError: the extra `synthesis` is not installed.
    """
    phrase = check_phrase(phrase)
    said = [check_phonemes(one) for one in pronunciations] or pronounce(phrase, accents(language)[0])
    ways = tuple(Pronunciation(one, syllable_count(one), phoneme_count(one)) for one in said)
    others = [one for one in nearest_words(said, 2 * SHOWN, language=language) if one.text != phrase]
    pairs = [one for one in nearest_pairs(said, 4 * SHOWN, language=language) if one.text != phrase]
    inner = nearest_words(said, 20 * SHOWN, inside=True, language=language)
    holders = [one for one in inner if one.text != phrase and one.distance < SAME]
    inner = nearest_pairs(said, 4 * SHOWN, inside=True, language=language)
    across = [one for one in inner if one.text != phrase and one.distance < SAME]
    holders.sort(key=lambda one: -one.per_million)
    inside = (*holders[:SHOWN], *_of_distinct_words(across)[: SHOWN // 2])
    alike, own = everyday_per_million(phrase, said, language), share_of(phrase, language)
    judged = list(_judged(phrase, ways[0], own, alike, inside))
    verdicts = [verdict for verdict, _ in judged]
    return Assessment(
        phrase,
        "poor" if "poor" in verdicts else "fair" if judged else "good",
        tuple(advice for _, advice in judged) or ("long enough, seldom said, and not contained in everyday speech",),
        ways,
        own,
        alike,
        (*others[:SHOWN], *_of_distinct_words(pairs)[:SHOWN]),
        inside,
    )


def _of_distinct_words(pairs: Sequence[Neighbour]) -> list[Neighbour]:
    """The first pair with each word."""
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        if seen.isdisjoint(pair.text.split()):
            kept.append(pair)
            seen.update(pair.text.split())
    return kept


def _judged(
    phrase: str, way: Pronunciation, own: float, alike: float, inside: Sequence[Neighbour]
) -> Iterator[tuple[Verdict, str]]:
    """What speaks against the phrase, and how much."""
    length = (way.syllables, way.phoneme_count)
    size = f"{_number(length[0], 'syllable')} and {_number(length[1], 'phoneme')}"
    longer = "another word before it" if phrase.startswith("hey ") else f"such as 'hey {phrase}'"
    if any(value < limit for value, limit in zip(length, POOR_LENGTH, strict=True)):
        yield "poor", f"too short: {size}; take at least {SHORT_LENGTH[0]} and {SHORT_LENGTH[1]}, {longer}"
    elif any(value < limit for value, limit in zip(length, SHORT_LENGTH, strict=True)):
        yield "fair", f"short: {size}; {SHORT_LENGTH[0]} and {SHORT_LENGTH[1]} or more are recognised better, {longer}"
    if own >= OWN_OFTEN:
        much = "too common" if own >= OWN_TOO_OFTEN else "common"
        yield (
            "poor" if own >= OWN_TOO_OFTEN else "fair",
            f"{much}: said {_often(own)} of talk, and each time wakes the device",
        )
    if alike >= ALIKE_OFTEN:
        examples = f" ({', '.join(one.text for one in inside[:4])})" if inside else ""
        yield (
            "poor" if alike >= ALIKE_TOO_OFTEN else "fair",
            f"contained in everyday speech: what sounds like it comes {_often(alike)} of talk{examples}; "
            f"a longer phrase is rarer, {longer}",
        )


def _often(per_million: float) -> str:
    """A frequency in words, by the time that so many words take."""
    an_hour = per_million * WORDS_PER_HOUR / 1e6
    return f"about {an_hour:,.0f} times in an hour" if an_hour >= 1.5 else f"about once in {1 / an_hour:.1f} hours"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
