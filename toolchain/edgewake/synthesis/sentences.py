"""Sentences that do not hold the phrase: by grammar, at random by frequency, and as one speaks to a device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgewake.errors import EdgewakeError
from edgewake.synthesis.languages import Language, accents
from edgewake.synthesis.near import HELD, nearest_part
from edgewake.synthesis.phrases import check_phrase, phonemes_of, pronounce, tag_of
from edgewake.synthesis.words import Word, common_words, dictionary

CHUNK = 1000
# Powers of the frequency: below 1, rare words come oftener than they are said, and with them all pairs of phonemes.
FLATTENED, USUAL = 0.5, 0.8
GRAMMAR_WORDS = 15_000
# Upper case: a word with this tag of the Penn Treebank, or an entry of `_LISTS`.
_GRAMMAR = """
the NN VBD IN the NN
the JJ NN of the NN VBD RB
PRP MD VB the NN IN a JJ NN
PRP VBD that the NNS MD RB VB
DT NN VBZ NNS IN the NN and the NN
a JJ NN VBD IN PRP$ NN , and NNS VBD
JJ NNS VBD RB JJ
if PRP VBD the NN , PRP MD VB PRP$ NNS
NAME VBD the NN IN NUMBER NNS
NAME and NAME MD VB IN the JJ NN
VBG the NN is JJR than VBG the NNS
there is a JJ NN IN the NN
there were NUMBER NNS IN the NN
PRP$ NN is the JJS NN IN the NN
what VBD the JJ NN ?
why did the NN VB the NNS ?
when MD PRP VB the NN ?
who VBZ the JJ NNS of NAME ?
how JJ is the NN IN the NN ?
MD PRP VB NAME IN the NN ?
RB , the NN VBD JJ NNS
no , PRP VBD NUMBER of the NNS
it is RB JJ to VB NNS
PRP MD not VB the NN because the NN is JJ
""".strip().splitlines()
_DEVICE = """
turn SWITCH the THING
turn SWITCH the THING in the ROOM
turn the THING SWITCH please
set the THING to NUMBER percent
set a timer for NUMBER minutes
set an alarm for NUMBER in the morning
wake me at NUMBER NUMBER
what time is it ?
what is NUMBER times NUMBER ?
what is the weather like in NAME ?
will it rain on DAY ?
is the THING in the ROOM still on ?
play some JJ music
play NN by NAME
next song please
make it louder
stop the music in the ROOM
call NAME
send a message to NAME
remind me to VB the NN on DAY
add NNS to the shopping list
open the THING
close the THING in the ROOM
dim the THING to NUMBER
how far is it to NAME ?
good morning NAME
good night
thank you
is anybody in the ROOM ?
what is the temperature in the ROOM ?
the code is NUMBER NUMBER NUMBER
it is DAY , MONTH NUMBER
""".strip().splitlines()
_LISTS = {
    "SWITCH": "on off up down",
    "THING": "light lights lamp fan heater television radio door window blinds curtains oven kettle camera gate",
    "ROOM": "kitchen bedroom bathroom hallway garage garden office basement attic nursery",
    "DAY": "monday tuesday wednesday thursday friday saturday sunday today tomorrow",
    "MONTH": "january february march april may june july august september october november december",
    "NAME": "james mary robert patricia john jennifer michael linda david elizabeth thomas barbara charles susan "
    "daniel jessica anthony sarah mark karen paul nancy steven lisa andrew margaret joshua sandra kevin ashley brian "
    "emma george olivia edward sophia london paris chicago berlin boston dublin texas india",
}
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def sentences(
    count: int, seed: int, without: str = "", pronunciations: Sequence[str] = (), language: Language = "en"
) -> list[str]:
    """`count` different sentences in which the phrase `without` does not occur, nor anything that sounds just like it.

    A longer list begins with the shorter ones of the same seed. Text is lower case but for "I"; questions end in "?".

    Args:
        without: compared by its letters and by its phonemes, over the bounds of words too; "" for none.
        pronunciations: of `without`, where they are not those of `pronounce`.
        language: of the words; in other languages than English all sentences are words at random.

    Raises:
        EdgewakeError: the phrase is so common that too few sentences remain.
    """
    phrase = check_phrase(without) if without else ""
    said = (list(pronunciations) or pronounce(phrase, accents(language)[0])) if phrase else []
    kept: dict[str, None] = {}
    chunk = 0
    while len(kept) < count:
        if chunk > 20 + 5 * count // CHUNK:
            raise EdgewakeError(
                f"only {len(kept)} of {count} sentences are without {phrase!r}: choose a longer phrase, or fewer"
            )
        generator = np.random.default_rng([seed, chunk])
        texts = list(_chunk(generator) if language == "en" else _at_random(generator, language))
        chunk += 1
        if phrase:
            held = np.array([f" {phrase} " in f" {' '.join(_words(text))} " for text in texts])
            near = nearest_part([_phonemes(text, language) for text in texts], said) < HELD
            texts = [text for text, bad in zip(texts, held | near, strict=True) if not bad]
        kept |= dict.fromkeys(texts)
    return list(kept)[:count]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_']+(?:'[a-z]+)?", text.lower())


def _phonemes(text: str, language: Language) -> str:
    if language != "en":
        return " ".join(_read(language)[word] for word in text.split())
    return " ".join(_word_phonemes(word) for word in _words(text))


@lru_cache(maxsize=1 << 16)
def _word_phonemes(word: str) -> str:
    known = dictionary().get(word)
    return known[0] if known else phonemes_of(word)


@lru_cache(maxsize=1)
def _read(language: Language) -> Mapping[str, str]:
    return {word.text: word.pronunciations[0] for word in common_words(language)}


def _at_random(generator: np.random.Generator, language: Language) -> Iterator[str]:
    """`CHUNK` sentences of words at random, half of them by their frequency, half with more rare words."""
    pools = _Pool(common_words(language)), _Pool(common_words(language), USUAL)
    for kind in generator.integers(2, size=CHUNK):
        yield " ".join(pools[kind].draw(generator, int(generator.integers(3, 13))))


def _chunk(generator: np.random.Generator) -> Iterator[str]:
    """`CHUNK` sentences: two fifths by grammar, two fifths at random, one fifth to a device."""
    pools, lists = _by_tag(), {name: words.split() for name, words in _LISTS.items()}
    everything, usual = _Pool(common_words()), _Pool(common_words(), USUAL)
    for kind in generator.choice(3, CHUNK, p=(0.4, 0.4, 0.2)):
        if kind == 1:
            pool = everything if generator.random() < 0.5 else usual
            tokens = pool.draw(generator, int(generator.integers(3, 13)))
        else:
            templates = _DEVICE if kind else _GRAMMAR
            tokens = []
            for slot in templates[generator.integers(len(templates))].split():
                if slot == "NUMBER":
                    tokens.append(_number(int(generator.integers(100))))
                elif slot in lists:
                    tokens.append(str(generator.choice(lists[slot])))
                else:
                    tokens += pools[slot].draw(generator, 1) if slot in pools else [slot]
        text = " ".join(tokens).replace(" ,", ",").replace(" ?", "?")
        yield re.sub(r"\bi\b", "I", text)


def _number(value: int) -> str:
    ones = _ONES.split()
    if value < 20:
        return ones[value]
    return _TENS.split()[value // 10 - 2] + (f" {ones[value % 10]}" if value % 10 else "")


class _Pool:
    """Words to draw from, by their frequency to a power."""

    def __init__(self, words: Sequence[Word], power: float = FLATTENED) -> None:
        self.texts: NDArray[np.object_] = np.array([word.text for word in words], object)
        weights = np.cumsum(np.array([word.per_million for word in words]) ** power)
        self.until = weights / weights[-1]

    def draw(self, generator: np.random.Generator, count: int) -> list[str]:
        return [str(text) for text in self.texts[np.searchsorted(self.until, generator.random(count))]]


@lru_cache(maxsize=1)
def _by_tag() -> Mapping[str, _Pool]:
    """The most frequent words by the tag that they have alone."""
    tags: dict[str, list[Word]] = {}
    for word in common_words()[:GRAMMAR_WORDS]:
        tags.setdefault(tag_of(word.text), []).append(word)
    tags["VBD"] = tags["VBD"] + [word for word in tags["VBN"] if word.text.endswith("ed")]
    return {tag: _Pool(words) for tag, words in tags.items()}
