"""Languages of phrases: who reads them (lexicons for English, espeak-ng for the others), and which voices say them."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from edgewake.errors import EdgewakeError, MissingDependencyError

Language = Literal["en", "de", "es", "fr", "it"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
TIMEOUT_S = 600


class _Way(NamedTuple):
    """Accents, the usual first: for English those of its lexicons, else voices of espeak-ng; Kokoro's native voices."""

    accents: tuple[str, ...]
    native: tuple[str, ...] = ()


_WAYS: dict[Language, _Way] = {
    "en": _Way(("us", "gb")),
    "de": _Way(("de",)),
    "es": _Way(("es", "es-419"), ("ef_dora", "em_alex", "em_santa")),
    "fr": _Way(("fr-fr",), ("ff_siwis",)),
    "it": _Way(("it",), ("if_sara", "im_nicola")),
}
# Voices of espeak-ng in these languages are for tests alone, as flite and festival are in English.
TEST_VARIANTS = ("", "+m3", "+m7", "+f2", "+f4")
ENGLISH_VOICES = {"kokoro": 0.3, "kokoro:blend": 0.3, "kokoro:sample": 0.35, "hibari": 0.05}
NATIVE_SHARE = 0.3
# espeak-ng's signs as Kokoro has them; those of two letters come with a tie between them.
_SIGNS = {
    "a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "o^ʊ": "O", "ɔ^ɪ": "Y", "ɔ^ø": "Y", "ɔ^y": "Y",
    "t^ʃ": "ʧ", "d^ʒ": "ʤ", "t^s": "ʦ", "d^z": "ʣ", "ʏ": "y", "^": "",
}  # fmt: skip


def accents(language: Language) -> tuple[str, ...]:
    """The accents of a language, the usual first, as `pronounce` takes them."""
    return _WAYS[language].accents


def native_voices(language: Language) -> tuple[str, ...]:
    """Kokoro's own voices of a language, as engine:name; of English, which most of its voices are, none are listed."""
    return tuple(f"kokoro:{voice}" for voice in _WAYS[language].native)


def usual_voices(language: Language) -> dict[str, float]:
    """Voices to train on, by weight: native ones first, and all of Kokoro's, which read any phonemes."""
    if language == "en":
        return dict(ENGLISH_VOICES)
    native = native_voices(language)
    others = {"kokoro": 0.2, "kokoro:blend": 0.25, "kokoro:sample": 0.25}
    return {voice: round(NATIVE_SHARE / len(native), 3) for voice in native} | others


def voices_for_tests(language: Language) -> dict[str, float]:
    """Voices to test with, of engines that are never trained on in this language."""
    if language == "en":
        return {"flite": 1.0, "festival": 1.0}
    return {f"espeak-ng:{accent}{variant}": 1.0 for accent in accents(language) for variant in TEST_VARIANTS}


def foreign_voices() -> tuple[str, ...]:
    """The voices of espeak-ng for all languages but English."""
    return tuple(voice.partition(":")[2] for each in LANGUAGES if each != "en" for voice in voices_for_tests(each))


@lru_cache(maxsize=1 << 16)
def read_aloud(text: str, accent: str) -> str:
    """Phonemes of a text in an accent of espeak-ng's, without punctuation."""
    return " ".join(_espeak(accent, (text,)))


def read_words(words: Sequence[str], accent: str) -> list[str]:
    """Phonemes of each word, in one run of the program."""
    lines = _espeak(accent, words)
    if len(lines) != len(words):
        raise EdgewakeError(
            f"espeak-ng read {len(lines)} of {len(words)} words in {accent}: install version 1.51 or newer"
        )
    return lines


def _espeak(accent: str, texts: Sequence[str]) -> list[str]:
    program = shutil.which("espeak-ng")
    if program is None:
        raise MissingDependencyError(
            f"phonemes in {accent} need the program espeak-ng, not found on PATH: apt-get install espeak-ng"
        )
    command = [program, "-q", "--ipa", "--tie=^", "-v", accent]
    done = subprocess.run(
        command,
        input="\n".join(texts),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        encoding="utf-8",
    )
    if done.returncode:
        raise EdgewakeError(f"espeak-ng cannot read {accent}: {done.stderr.strip().splitlines()[-1:]}")
    return [_kokoro(line) for line in done.stdout.splitlines()]


def _kokoro(ipa: str) -> str:
    """A line of espeak-ng's as Kokoro's phonemes; "(en)" and the like mark words that it reads in another language."""
    text = unicodedata.normalize("NFD", re.sub(r"\([a-z-]+\)", "", ipa)).replace("c\u0327", "ç")
    for sign, other in _SIGNS.items():
        text = text.replace(sign, other)
    return " ".join(text.replace("-", "").split())
