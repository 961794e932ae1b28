"""What sounds like a phrase: the nearest common words and pairs of words, and near phrases to train against."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewake.synthesis.languages import Language, accents, read_words
from edgewake.synthesis.phonemes import (
    VOWELS,
    Codes,
    Costs,
    Strings,
    distances,
    distances_within,
    encode,
    prefix_distances,
    units,
)
from edgewake.synthesis.phrases import check_phrase, phonemes_of, pronounce
from edgewake.synthesis.words import common_words, frequencies

# What is nearer than this is taken for the phrase: one phoneme differs, and that by its voicing or a little in place.
SAME = 0.5
# Speech whose nearest part is nearer than the first holds the phrase; up to the second, nearly: "election" for "alexa".
HELD, HOLDER = 0.2, 0.8
# Respellings are many: those nearer than this would cost recall and teach little.
NEAREST_EDIT = 0.7
# Pronunciations that pairs are made of, and how many first and second words are tried together at each cut.
PAIR_ROWS, BEAM = 25_000, 40
# Of them, those that everyday speech is estimated from: all of them with all.
EVERYDAY_ROWS = 5000
# Beginnings and ends of so many lengths.
PART_SIZES = 6
# A word ten times as frequent counts as this much nearer.
NEARER_PER_DECADE = 0.12
Kind = Literal["word", "pair", "holder", "edit", "part", "swapped", "rhyme", "replaced"]


class Neighbour(NamedTuple):
    """A word or a pair of words that sounds like the phrase, or holds (`inside`) what sounds like it.

    Of a pair, `per_million` is what its words' frequencies would give if they were independent.
    """

    text: str
    distance: float
    per_million: float
    inside: bool


@dataclass(frozen=True)
class NearPhrase:
    """A phrase that is near the wake phrase without being it; `phonemes` are of the usual accent, for Kokoro.

    Of kind `holder` are those in which a part nearly is the phrase: "a lexus", "election" for "alexa".
    """

    text: str
    phonemes: str
    kind: Kind
    distance: float


@dataclass(frozen=True)
class _Table:
    """Every pronunciation of the common words, most frequent first, padded for one pass."""

    texts: tuple[str, ...]
    phonemes: tuple[str, ...]
    per_million: NDArray[np.float64]
    strings: Strings

    def head(self, rows: int) -> _Table:
        phonemes = self.phonemes[:rows]
        return _Table(self.texts[:rows], phonemes, self.per_million[:rows], Strings([encode(one) for one in phonemes]))


@lru_cache(maxsize=2)
def _table(language: Language = "en") -> _Table:
    rows = [(word.text, said, word.per_million) for word in common_words(language) for said in word.pronunciations]
    texts, phonemes, per_million = zip(*rows, strict=True)
    return _Table(texts, phonemes, np.array(per_million), Strings([encode(one) for one in phonemes]))


@lru_cache(maxsize=2)
def _pair_table(language: Language) -> _Table:
    return _table(language).head(PAIR_ROWS)


def nearest_words(
    pronunciations: Sequence[str], count: int, *, inside: bool = False, language: Language = "en"
) -> list[Neighbour]:
    """The common words nearest to any of the pronunciations, or to whose parts (`inside`) they are nearest."""
    table, measure = _table(language), distances_within if inside else distances
    found = np.min([measure(table.strings, encode(one)) for one in pronunciations], axis=0)
    ranked = np.argsort(_weighted(found, table.per_million), kind="stable")[: 4 * count]
    return _distinct((table.texts[i], found[i], table.per_million[i], inside) for i in ranked)[:count]


def nearest_pairs(
    pronunciations: Sequence[str], count: int, *, inside: bool = False, language: Language = "en"
) -> list[Neighbour]:
    """The pairs of frequent words nearest to any of the pronunciations.

    The phrase is cut at each place; the words nearest to both halves are tried together. With `inside`, what the
    first word has before its part, and the second after its own, costs nothing ("Alexa is" holds "a lexus"). Words
    that hold the phrase by themselves are no part of a pair.
    """
    table = _pair_table(language)
    found: list[tuple[str, float, float, bool]] = []
    for target in map(encode, pronunciations):
        first, second = _halves(target, language, inside=inside)
        for cut in range(1, len(target)):
            left, right = (
                np.argsort(_weighted(half[:, cut], table.per_million), kind="stable")[:BEAM] for half in (first, second)
            )
            both = first[left, None, cut] + second[None, right, cut]
            found += (
                (
                    f"{table.texts[i]} {table.texts[j]}",
                    both[a, b],
                    table.per_million[i] * table.per_million[j] / 1e6,
                    inside,
                )
                for (a, i), (b, j) in itertools.product(enumerate(left), enumerate(right))
            )
    ranked = _weighted(np.array([row[1] for row in found]), np.array([row[2] for row in found]))
    return _distinct(found[i] for i in np.argsort(ranked, kind="stable")[: 8 * count])[:count]


def everyday_per_million(phrase: str, pronunciations: Sequence[str], language: Language = "en") -> float:
    """How often other speech holds what would be taken for the phrase, in a million words.

    Words that sound like it or have it in them ("collection" for "alexa"), and pairs of frequent words across whose
    bound it comes ("a lexus"), as if words were independent of one another; the phrase itself does not count.
    """
    table = _table(language)
    near = np.min([distances_within(table.strings, encode(one)) for one in pronunciations], axis=0) < SAME
    words = {table.texts[i]: table.per_million[i] for i in np.flatnonzero(near)}
    words.pop(phrase, None)
    pairs = _pair_table(language)
    first, second = (half[:EVERYDAY_ROWS] for half in _halves(encode(pronunciations[0]), language, inside=True))
    found: list[NDArray[np.int64]] = []
    for cut in range(1, first.shape[1] - 1):
        left, right = np.flatnonzero(first[:, cut] < SAME), np.flatnonzero(second[:, cut] < SAME)
        rows, columns = np.nonzero(first[left, None, cut] + second[None, right, cut] < SAME)
        found.append(left[rows] * PAIR_ROWS + right[columns])
    i, j = np.divmod(np.unique(np.concatenate(found)), PAIR_ROWS) if found else (np.zeros(0, int),) * 2
    own = np.array([f"{pairs.texts[a]} {pairs.texts[b]}" == phrase for a, b in zip(i, j, strict=True)], bool)
    together = pairs.per_million[i] * pairs.per_million[j] / 1e6
    return float(sum(words.values()) + together[~own].sum())


def _halves(target: Codes, language: Language, *, inside: bool) -> tuple[Costs, Costs]:
    """[pair words, len(target) + 1]: distances to what is before each place of `target`, and to what is after it."""
    strings = _pair_table(language).strings
    allowed = np.where(distances_within(strings, target) < SAME, np.inf, 0).astype(np.float32)[:, None]
    first = prefix_distances(strings, target, free_start=inside)
    second = prefix_distances(_backwards(language), target[::-1], free_start=inside)[:, ::-1]
    return first + allowed, second + allowed


@lru_cache(maxsize=2)
def _backwards(language: Language) -> Strings:
    return _pair_table(language).strings.reversed()


def _weighted(distance: Costs, per_million: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(distance - NEARER_PER_DECADE * np.log10(per_million), np.float64)


def _distinct(rows: Iterable[tuple[str, float, float, bool]]) -> list[Neighbour]:
    """Each text once, in its best row."""
    kept: dict[str, Neighbour] = {}
    for text, distance, per_million, inside in rows:
        kept.setdefault(text, Neighbour(text, float(distance), float(per_million), inside))
    return list(kept.values())


def nearest_part(phonemes: Sequence[str], pronunciations: Sequence[str]) -> Costs:
    """[phonemes]: how near the part of each string that is nearest comes to any of the pronunciations."""
    strings = Strings([encode(one) for one in phonemes])
    return np.asarray(np.min([distances_within(strings, encode(one)) for one in pronunciations], axis=0), np.float32)


def near_phrases(
    phrase: str, count: int, seed: int, pronunciations: Sequence[str] = (), language: Language = "en"
) -> list[NearPhrase]:
    """Up to `count` phrases that sound like `phrase` in part or in whole, of every kind in turn, without the phrase.

    Args:
        seed: the same one gives the same phrases; nearer ones are always preferred.
        pronunciations: the phrase's own, where they are not those of `pronounce`.
        language: whose words are near.

    What sounds like the phrase in any accent (nearer than `SAME`), or holds it ("computers"; a part is nearer than
    `HELD`), is left out.
    """
    phrase = check_phrase(phrase)
    said = list(pronunciations) or pronounce(phrase, accents(language)[0])
    makers: dict[Kind, Callable[[], Iterable[tuple[str, str]]]] = {
        "part": partial(_parts, phrase, said[0], language),
        "swapped": partial(_swapped, phrase),
        "word": partial(_texts, nearest_words(said, 2 * count, language=language)),
        "pair": partial(_texts, nearest_pairs(said, 2 * count, language=language)),
        "holder": partial(_holders, phrase, said, count, language),
        "edit": partial(_edits, phrase),
        "rhyme": partial(_rhymes, phrase, language),
        "replaced": partial(_replaced, phrase, count, language),
    }
    generator = np.random.default_rng(seed)
    queues = [
        iter(_ordered(kind, dict(maker()), said, 2 * count, generator, language)) for kind, maker in makers.items()
    ]
    kept: dict[str, NearPhrase] = {}
    for one in _in_turn(queues):
        if len(kept) == count:
            break
        kept.setdefault(one.text, one)
    return list(kept.values())


def _in_turn(queues: list[Iterator[NearPhrase]]) -> Iterator[NearPhrase]:
    while queues:
        for queue in list(queues):
            try:
                yield next(queue)
            except StopIteration:
                queues.remove(queue)


def _ordered(
    kind: Kind,
    candidates: dict[str, str],
    said: Sequence[str],
    most: int,
    generator: np.random.Generator,
    language: Language,
) -> list[NearPhrase]:
    """The candidates (text: phonemes, or "" for the usual ones) that are not the phrase, roughly nearest first."""
    texts = list(candidates)
    if len(texts) > 4 * most + 100:
        texts = [texts[i] for i in np.sort(generator.choice(len(texts), 4 * most + 100, replace=False))]
    read = dict(zip(texts, _read(texts, language), strict=True))
    texts = [text for text in texts if read[text]]
    if not texts:
        return []
    phonemes = [candidates[text] or read[text] for text in texts]
    strings = Strings([encode(one) for one in phonemes])
    distance = np.min([distances(strings, encode(one)) for one in said], axis=0)
    order = np.argsort(distance + 0.3 * generator.gumbel(size=len(texts)), kind="stable")[: 2 * most]
    others = [nearest_part(_read([texts[i] for i in order], language, each), said) for each in accents(language)[1:]]
    part = np.min([nearest_part([phonemes[i] for i in order], said), *others], axis=0)
    if kind == "holder":
        fit = order[(part >= HELD) & (part < HOLDER) & (distance[order] >= SAME)]
    else:
        fit = order[part >= (NEAREST_EDIT if kind == "edit" else SAME)]
    return [NearPhrase(texts[i], phonemes[i], kind, round(float(distance[i]), 2)) for i in fit[:most]]


def _read(texts: Sequence[str], language: Language, accent: str = "") -> list[str]:
    """Usual phonemes of each text; those of espeak-ng in one run."""
    accent = accent or accents(language)[0]
    return [phonemes_of(text, accent) for text in texts] if language == "en" else read_words(texts, accent)


def _texts(neighbours: Iterable[Neighbour]) -> Iterator[tuple[str, str]]:
    return ((one.text, "") for one in neighbours)


def _holders(phrase: str, said: Sequence[str], count: int, language: Language) -> Iterator[tuple[str, str]]:
    """Words and pairs of words with a part that sounds like the phrase, but not its own forms."""
    found = (
        *nearest_words(said, 2 * count, inside=True, language=language),
        *nearest_pairs(said, 2 * count, inside=True, language=language),
    )
    return ((one.text, "") for one in found if one.distance < HOLDER and phrase not in one.text)


def _parts(phrase: str, phonemes: str, language: Language) -> Iterator[tuple[str, str]]:
    """Each word alone, and beginnings and ends of up to three quarters of the phonemes, spelled as they sound."""
    words = phrase.split()
    if len(words) > 1:
        yield from ((word, "") for word in words)
    cut = units(phonemes)
    sizes = np.linspace(max(3, len(cut) // 3), len(cut) * 3 // 4, PART_SIZES).round().astype(int)
    for size in dict.fromkeys(sizes.tolist()) if len(cut) > 3 else ():
        for piece, spellings in (
            ("".join(cut[:size]), [phrase[:end].strip(" -'.") for end in range(1, len(phrase))]),
            ("".join(cut[-size:]), [phrase[start:].strip(" -'.") for start in range(1, len(phrase))]),
        ):
            if VOWELS.intersection(piece):
                spellings += [one.text for one in nearest_words([piece], 4, language=language)]
                spellings += [one.text for one in nearest_pairs([piece], 4, language=language)]
                strings = Strings([encode(read) for read in _read(spellings, language)])
                yield spellings[int(np.argmin(distances(strings, encode(piece))))], piece.strip()


def _swapped(phrase: str) -> Iterator[tuple[str, str]]:
    words = phrase.split()
    orders = itertools.permutations(words) if len(words) <= 4 else [words[i:] + words[:i] for i in range(1, len(words))]
    return ((" ".join(order), "") for order in orders)


def _edits(phrase: str) -> Iterator[tuple[str, str]]:
    """Every letter left out, exchanged with the next, replaced, or another one put before it."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    for at in (place for place, sign in enumerate(phrase) if sign != " "):
        before, sign, after = phrase[:at], phrase[at], phrase[at + 1 :]
        yield before + after, ""
        yield before + after[:1] + sign + after[1:], ""
        yield from ((before + other + after, "") for other in alphabet)
        yield from ((before + other + sign + after, "") for other in alphabet)


def _rhymes(phrase: str, language: Language) -> Iterator[tuple[str, str]]:
    """The last word replaced by words that sound alike from their stressed vowel on."""
    *start, last = phrase.split()
    table = _table(language)
    ends = distances(_rhyme_strings(language), _rhyme(_read([last], language)[0]))
    rows = np.argsort(_weighted(ends, table.per_million), kind="stable")[:400]
    return ((" ".join([*start, table.texts[i]]), "") for i in rows if ends[i] < SAME)


@lru_cache(maxsize=2)
def _rhyme_strings(language: Language) -> Strings:
    return Strings([_rhyme(one) for one in _table(language).phonemes])


def _rhyme(phonemes: str) -> Codes:
    return encode(phonemes.rpartition("ˈ")[2])


def _replaced(phrase: str, count: int, language: Language) -> Iterator[tuple[str, str]]:
    """One word of several replaced, by what sounds like it and by frequent words."""
    words = phrase.split()
    if len(words) < 2:
        return
    frequent = [word.text for word in common_words(language)[:count]]
    for at, word in enumerate(words):
        said = _read([word], language)
        alike = (*nearest_words(said, count, language=language), *nearest_pairs(said, count, language=language))
        for other in [*(one.text for one in alike), *frequent]:
            yield " ".join([*words[:at], other, *words[at + 1 :]]), ""


def share_of(phrase: str, language: Language = "en") -> float:
    """How often the phrase is among a million words, as if its words were independent of one another."""
    shares = [frequencies(language).get(word, 0.0) for word in phrase.split()]
    return float(np.prod(shares) * 1e6)
