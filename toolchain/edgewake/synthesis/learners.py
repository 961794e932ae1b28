"""English as learners say it: phonemes that a first language lacks become its nearest ones, reduced vowels full ones.

The substitutions are those that Swan and Smith, "Learner English", 2nd edition, describe for each language.
"""

from __future__ import annotations

import re

import numpy as np

from edgewake.synthesis.phonemes import VOWELS

# By first language: what becomes of phonemes, in Kokoro's alphabet. A flapped t is no learner's.
_CLEAR_T = {"T": "t", "ɾ": "t"}
LANGUAGES: dict[str, dict[str, str]] = {
    "hindi": {"t": "ʈ", "d": "ɖ", "θ": "t", "ð": "d", "w": "ʋ", "v": "ʋ", "ɹ": "ɾ", "A": "e", "O": "o", "z": "s"},
    "spanish": {
        "ɪ": "i", "ʊ": "u", "æ": "a", "ʌ": "a", "ɑ": "a", "ɔ": "o", "z": "s", "v": "b", "h": "x", "ɹ": "r", "ð": "d",
        "θ": "t", "ʤ": "j", "A": "e", "O": "o", "ɜ": "ɛ", "ŋ": "n",
    },
    "german": {"w": "v", "θ": "s", "ð": "z", "æ": "ɛ", "ʤ": "ʧ", "ɹ": "ʁ", "A": "e", "O": "o", "ʌ": "a", "ɜ": "œ"},
    "french": {
        "h": "", "θ": "s", "ð": "z", "ɪ": "i", "ʊ": "u", "ʤ": "ʒ", "ʧ": "ʃ", "ɹ": "ʁ", "ʌ": "œ", "A": "e", "O": "o",
        "æ": "a", "ɜ": "œ",
    },
    "russian": {
        "θ": "f", "ð": "z", "w": "v", "h": "x", "ɪ": "i", "æ": "ɛ", "ɹ": "r", "ŋ": "n", "ɜ": "ɛ", "ʌ": "a", "ʊ": "u",
        "O": "o",
    },
    "chinese": {"θ": "s", "ð": "d", "v": "w", "z": "s", "æ": "ɛ", "ɪ": "i", "ʊ": "u", "ʌ": "a", "ʒ": "ɹ"},
    "japanese": {
        "θ": "s", "ð": "z", "v": "b", "ɹ": "ɾ", "l": "ɾ", "æ": "a", "ʌ": "a", "ɑ": "a", "ɪ": "i", "ʊ": "ɯ", "u": "ɯ",
        "A": "e", "O": "o", "ɔ": "o", "ɜ": "a",
    },
    "arabic": {"p": "b", "v": "f", "ɹ": "r", "A": "e", "O": "o", "ɜ": "ɛ", "ʌ": "a", "ɪ": "ɛ", "ʧ": "ʃ", "ŋ": "n"},
}  # fmt: skip
_FINAL_DEVOICED = {"b": "p", "d": "t", "ɡ": "k", "v": "f", "z": "s", "ʤ": "ʧ", "ʒ": "ʃ"}
DEVOICING = ("german", "russian", "chinese")
# Those that drop an r after a vowel, as British speakers do; the others have it always.
WITHOUT_R = ("chinese", "japanese")
# Full vowels by the letter that is read.
_FULL = {"a": "æɑa", "e": "ɛe", "i": "iɪ", "o": "ɑɔo", "u": "ʌu", "y": "i"}
# Of a learner's substitutions, and of reduced vowels that are read out.
APPLIED, READ_OUT = 0.7, 0.6


def learners_way(text: str, phonemes: str, rng: np.random.Generator) -> str:
    """`phonemes` of `text` by a learner of a random first language; words and stress stay where they are."""
    language = sorted(LANGUAGES)[int(rng.integers(len(LANGUAGES)))]
    rules = _CLEAR_T | {sign: other for sign, other in LANGUAGES[language].items() if rng.random() < APPLIED}
    reads_out = rng.random() < READ_OUT
    written, spoken = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower()), phonemes.split(" ")
    aligned = len(written) == len(spoken)
    words = []
    for number, word in enumerate(spoken):
        vowels = _full_vowels(written[number] if aligned else "", word, rng) if reads_out else {}
        said = "".join(vowels.get(place, rules.get(sign, sign)) for place, sign in enumerate(word))
        if language in WITHOUT_R:
            said = re.sub(f"(?<=[{''.join(VOWELS)}ː])[ɹɾ](?![{''.join(VOWELS)}ˈˌ])", "", said)
        if language in DEVOICING:
            said = re.sub(r"\w(?=\W*$)", lambda last: _FINAL_DEVOICED.get(last[0], last[0]), said)
        words.append(said)
    return " ".join(words)


def _full_vowels(written: str, spoken: str, rng: np.random.Generator) -> dict[int, str]:
    """A full vowel for each reduced one of a word, by its place; of the letter where letters and vowels pair off."""
    places = [place for place, sign in enumerate(spoken) if sign in VOWELS]
    letters = re.findall("[aeiouy]+", written.removesuffix("e") if len(written) > 3 else written)
    full = {}
    for number, place in enumerate(places):
        if spoken[place] in "əᵊɐᵻ":
            letter = letters[number][-1] if len(letters) == len(places) else "aeou"[int(rng.integers(4))]
            full[place] = _FULL[letter][int(rng.integers(len(_FULL[letter])))]
    return full
