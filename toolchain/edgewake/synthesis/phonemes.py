"""Kokoro's phonemes: their signs, their articulation, and a distance between strings of them that is a metric.

A string of phonemes is written as misaki writes it: one sign a phoneme (diphthongs and affricates too: A = eɪ,
I = aɪ, O = oʊ, Q = əʊ, W = aʊ, Y = ɔɪ, T = a flapped t), ˈ and ˌ before a stressed vowel, spaces between words.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgewake.errors import EdgewakeError

Codes = NDArray[np.uint8]
Costs = NDArray[np.float32]

# Height (0 open, 1 close), backness (0 front, 1 back) and rounding of monophthongs, after the IPA's vowel chart;
# GOOSE is fronted, as American and British speakers have it today.
_VOWELS = {
    "i": (1, 0, 0), "ɪ": (0.8, 0.15, 0), "ᵻ": (0.75, 0.35, 0), "e": (0.7, 0, 0), "ɛ": (0.4, 0.1, 0),
    "æ": (0.15, 0.1, 0), "a": (0, 0.3, 0), "ɐ": (0.25, 0.5, 0), "ə": (0.5, 0.5, 0), "ɜ": (0.45, 0.5, 0),
    "ɚ": (0.5, 0.55, 0), "ʌ": (0.35, 0.65, 0), "ɑ": (0.05, 0.9, 0), "ɒ": (0.05, 1, 0.5), "ɔ": (0.35, 1, 0.7),
    "o": (0.65, 1, 0.9), "ʊ": (0.8, 0.85, 0.6), "u": (1, 0.8, 1), "y": (1, 0, 1), "ø": (0.7, 0.1, 1),
    "œ": (0.4, 0.15, 1), "ɨ": (0.95, 0.5, 0), "ɯ": (1, 0.9, 0), "ɤ": (0.65, 0.9, 0),
}  # fmt: skip
_DIPHTHONGS = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "Q": "əʊ", "W": "aʊ", "Y": "ɔɪ"}
# What tells consonants apart: the weight of each property, and its values.
_CONSONANTS: tuple[tuple[float, dict[float, str]], ...] = (
    # Place, from the lips to the glottis; English ʃ is rounded, which sets it further from s than its place.
    (0.9, {0: "pbmβ", 0.1: "fvw", 0.3: "θð", 0.4: "tdnszlrɾʦ", 0.5: "ɹ", 0.65: "çɲʎ", 0.7: "ʧʤj", 0.8: "kɡŋʃʒxɣ",
           0.9: "qʁ", 1: "hʔ"}),
    # Openness, from stops to approximants.
    (0.9, {0: "pbtdkɡqʔ", 0.2: "mnɲŋ", 0.3: "ʦʧʤ", 0.5: "fvθðszʃʒβçxɣ", 0.6: "h", 0.7: "rʁ", 0.75: "ɾ", 0.8: "lʎɹwj"}),
    (0.35, {0: "ptkqʔʦʧfθsʃçxh", 1: "bdɡʤvðzʒβɣmnɲŋrɾʁlʎɹwj"}),  # voice
    (0.6, {0: "ptkqʔʦʧfθsʃçxhbdɡʤvðzʒβɣ", 1: "mnɲŋrɾʁlʎɹwj"}),  # sonorant
    (0.5, {0: "ptkqʔfθçxhbdɡvðβɣmnɲŋrɾʁlʎɹwj", 1: "ʦʧʤsʃzʒ"}),  # sibilant
    (0.4, {0: "ptkqʔʦʧfθsʃçxhbdɡʤvðzʒβɣrɾʁlʎɹwj", 1: "mnɲŋ"}),  # nasal
    (0.5, {0: "ptkqʔʦʧfθsʃçxhbdɡʤvðzʒβɣmnɲŋrɾʁɹwj", 1: "lʎ"}),  # lateral
)  # fmt: skip
_VOWEL_WEIGHTS = (1, 0.8, 0.3)
# Nearer than their articulation: a glide and its vowel, an r and its coloured vowel, vowels that merge without stress.
_NEARER = {
    ("j", "i"): 0.4, ("j", "ɪ"): 0.5, ("w", "u"): 0.4, ("w", "ʊ"): 0.5, ("ɹ", "ɚ"): 0.3, ("ɹ", "ɜ"): 0.5,
    ("ə", "ɪ"): 0.25, ("ə", "ᵻ"): 0.15, ("ɪ", "ᵻ"): 0.15,
}  # fmt: skip
# What it costs to leave a phoneme out: less for sounds that fluent speech drops.
_GAP, _GAPS = 0.8, {"ə": 0.5, "ᵻ": 0.6, "h": 0.5, "ʔ": 0.2, "ɹ": 0.6, "j": 0.6, "w": 0.6}
# Variants of a phoneme, not told apart: flapped t, the schwa of a syllabic consonant, glides, a voiced affricate.
_VARIANTS = {"T": "t", "ᵊ": "ə", "ʝ": "j", "ɥ": "j", "ʣ": "ʦ"}

SIGNS = (*_VOWELS, *_DIPHTHONGS, *"".join(_CONSONANTS[0][1].values()))
CODES = {sign: code for code, sign in enumerate(SIGNS)}
CODES |= {sign: CODES[phoneme] for sign, phoneme in _VARIANTS.items()}
VOWELS = frozenset([*_VOWELS, *_DIPHTHONGS, "ᵊ"])
# Signs that are no phonemes: stress, length, nasal vowels (not told from others), and the space between words.
MARKS = "ˈˌː\u0303 "


def check_phonemes(phonemes: str) -> str:
    """`phonemes` with single spaces; an EdgewakeError names a sign that is not allowed, and its place."""
    text = " ".join(phonemes.split())
    for position, sign in enumerate(text, 1):
        if sign not in CODES and sign not in MARKS:
            hint = {"g": "; for g write ɡ (U+0261)", "'": "; stress is ˈ (U+02C8)"}.get(sign, "")
            raise EdgewakeError(
                f"phonemes {text!r}: {sign!r} at position {position} is not allowed{hint}; "
                f"allowed: {''.join(CODES)} and ˈ ˌ before a stressed vowel, ː, space"
            )
    if not any(sign in VOWELS for sign in text):
        raise EdgewakeError(f"phonemes {text!r} have no vowel: allowed vowels are {''.join(sorted(VOWELS))}")
    return text


def encode(phonemes: str) -> Codes:
    """One code below `len(SIGNS)` for each phoneme; stress, length, spaces and other signs are left out."""
    return np.array([CODES[sign] for sign in phonemes if sign in CODES], np.uint8)


def phoneme_count(phonemes: str) -> int:
    """Number of phonemes; a diphthong or an affricate is one."""
    return len(encode(phonemes))


def syllable_count(phonemes: str) -> int:
    """Number of vowels and diphthongs, syllabic consonants (written with ᵊ) among them."""
    return sum(sign in VOWELS for sign in phonemes)


@lru_cache(maxsize=1)
def costs() -> Costs:
    """[n + 1, n + 1]: what it costs to say one phoneme for another, 0 to about 1; row and column n are "nothing".

    It is a metric (closed under detours, Floyd and Warshall), so that `distance` is one.
    """
    n = len(SIGNS)
    matrix = np.ones((n + 1, n + 1), np.float32)
    ends = {sign: (sign, sign) for sign in _VOWELS} | {sign: (both[0], both[1]) for sign, both in _DIPHTHONGS.items()}
    vowels = {sign: np.multiply(place, _VOWEL_WEIGHTS) for sign, place in _VOWELS.items()}
    consonants = {
        sign: np.array([weight * value for weight, values in _CONSONANTS for value, of in values.items() if sign in of])
        for sign in SIGNS
        if sign not in VOWELS
    }
    for table in (vowels, consonants):
        for (a, first), (b, second) in itertools.product(table.items(), repeat=2):
            matrix[CODES[a], CODES[b]] = np.hypot.reduce(first - second)
    for (a, (a0, a1)), (b, (b0, b1)) in itertools.product(ends.items(), repeat=2):
        if a in _DIPHTHONGS or b in _DIPHTHONGS:
            matrix[CODES[a], CODES[b]] = (matrix[CODES[a0], CODES[b0]] + matrix[CODES[a1], CODES[b1]]) / 2
    for (a, b), cost in _NEARER.items():
        matrix[CODES[a], CODES[b]] = matrix[CODES[b], CODES[a]] = cost
    matrix = np.minimum(matrix, 1)
    matrix[n, :n] = matrix[:n, n] = [_GAPS.get(sign, _GAP) for sign in SIGNS]
    np.fill_diagonal(matrix, 0)
    for via in range(n + 1):
        matrix = np.minimum(matrix, matrix[:, via, None] + matrix[None, via])
    return matrix


class Strings:
    """Many strings of phonemes, padded for one pass over all of them."""

    def __init__(self, strings: Sequence[Codes]) -> None:
        self.lengths = np.array([len(one) for one in strings])
        self.codes = np.zeros((len(strings), max(self.lengths, default=0)), np.uint8)
        for row, one in zip(self.codes, strings, strict=True):
            row[: len(one)] = one

    def reversed(self) -> Strings:
        """Each string from its end to its beginning."""
        return Strings([row[:length][::-1] for row, length in zip(self.codes, self.lengths, strict=True)])


def prefix_distances(strings: Strings, target: Codes, *, free_start: bool = False, free_end: bool = False) -> Costs:
    """[strings, len(target) + 1]: the weighted edit distance of each string to each beginning of `target`.

    Args:
        free_start: what a string has before the part that matches costs nothing.
        free_end: what it has after it costs nothing.
    """
    cost, nothing = costs(), len(SIGNS)
    skipped = np.concatenate([[0], np.cumsum(cost[nothing, target])]).astype(np.float32)
    column = np.repeat(skipped[:, None], len(strings.lengths), 1)
    result = column.copy()
    for position in range(strings.codes.shape[1]):
        sign = strings.codes[:, position]
        gap = cost[nothing, sign]
        following = np.empty_like(column)
        following[0] = 0 if free_start else column[0] + gap
        for i, wanted in enumerate(target, 1):
            np.minimum(column[i - 1] + cost[wanted, sign], column[i] + gap, out=following[i])
            np.minimum(following[i], following[i - 1] + cost[nothing, wanted], out=following[i])
        column = following
        live = strings.lengths > position
        result[:, live] = np.minimum(result, column)[:, live] if free_end else column[:, live]
    return result.T


def units(phonemes: str) -> list[str]:
    """The string cut before each phoneme; stress and spaces stay with the phoneme that follows, length with its own."""
    return re.findall("[ˈˌ ]*[^ˈˌː\u0303 ][ː\u0303]*", phonemes)


def distances(strings: Strings, target: Codes) -> Costs:
    """[strings]: the weighted edit distance of each to `target`, in phonemes: 1 is one that is wholly different."""
    return prefix_distances(strings, target)[:, -1]


def distances_within(strings: Strings, target: Codes) -> Costs:
    """[strings]: the distance of `target` to the part of each string that is nearest to it."""
    return prefix_distances(strings, target, free_start=True, free_end=True)[:, -1]


def distance(first: str, second: str) -> float:
    """The weighted edit distance of two strings of phonemes, without stress: a metric, in phonemes."""
    return float(distances(Strings([encode(first)]), encode(second))[0])
