"""A learner's way keeps words and stress, has signs that the engines read, and full vowels by the letters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.synthesis.engines import Hibari
from edgewake.synthesis.learners import LANGUAGES, learners_way
from edgewake.synthesis.phonemes import SIGNS
from edgewake.synthesis.phrases import phonemes_of
from edgewake.synthesis.plan import Line, Plan, planned
from edgewake.synthesis.words import package


@given(st.lists(st.text(sorted(SIGNS), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_words_and_stress_stay_where_they_are(words: list[str], seed: int) -> None:
    phonemes = " ".join("ˈ" + word for word in words)
    said = learners_way("some text", phonemes, np.random.default_rng(seed))
    assert said == learners_way("some text", phonemes, np.random.default_rng(seed))
    assert [word[:1] for word in said.split(" ")] == ["ˈ"] * len(words)


def test_every_sign_can_be_read_aloud() -> None:
    signs = {sign for rules in LANGUAGES.values() for said in rules.values() for sign in said}
    assert signs <= set(package("hibari").Hibari().vocab)
    assert Hibari.phonetic


@pytest.mark.parametrize(
    ("text", "vowels"), [("computer", ["ɑɔo", "u", "ɛeə"]), ("athena", ["æɑa", "i", "æɑa"]), ("lemon", ["ɛe", "ɑɔo"])]
)
def test_reduced_vowels_are_read_as_they_are_written(text: str, vowels: list[str]) -> None:
    found: list[set[str]] = [set() for _ in vowels]
    for seed in range(200):
        said = learners_way(text, phonemes_of(text), np.random.default_rng(seed))
        spoken = [sign for sign in said if sign in "ɑɔoɛeaæəuiɯ"]
        assert len(spoken) == len(vowels)
        for all_of, sign in zip(found, spoken, strict=True):
            all_of.add(sign)
    for all_of, allowed in zip(found, vowels, strict=True):
        assert set(allowed) & all_of
        assert all_of <= set(allowed) | set("ə" + "uɯ" * ("u" in allowed) + "iɪ" * ("i" in allowed) + "ae")


def test_a_share_of_the_clips_is_by_learners_and_the_others_stay() -> None:
    line = Line(text="computer", kind="positive", count=200)
    without, some, every = (
        Plan(phrase="computer", lines=(line,), splits={"train": 1.0}, voices={"hibari": 1.0}, learners=share)
        for share in (0.0, 0.3, 1.0)
    )
    changed = 0
    for index in range(200):
        usual, drawn, always = (planned(each, line, index).clip for each in (without, some, every))
        assert drawn in (usual, always)
        changed += drawn != usual
        first, last = always.phrase
        assert (first == 0) or always.phonemes[first - 1] == " "
        assert always.phonemes[first] in "kʔ"
        assert last == len(always.phonemes) or always.phonemes[last] in " .,!?"
    assert 30 < changed < 80
