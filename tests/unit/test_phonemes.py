"""The distance of phonemes is a metric, computed alike for one string and for many, and orders sounds as people do."""

from __future__ import annotations

import itertools
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.errors import EdgewakeError
from edgewake.synthesis.phonemes import (
    CODES,
    MARKS,
    SIGNS,
    Strings,
    check_phonemes,
    costs,
    distance,
    distances,
    distances_within,
    encode,
    phoneme_count,
    prefix_distances,
    syllable_count,
    units,
)

PHONEMES = st.text(st.sampled_from(SIGNS), max_size=8)
WRITTEN = st.text(st.sampled_from([*CODES, *MARKS]), max_size=12)


def test_every_sign_is_one_that_kokoro_knows():
    spec = find_spec("hibari")
    assert spec is not None
    vocabulary = json.loads(Path(spec.submodule_search_locations[0], "assets", "vocab.json").read_text("utf-8"))
    assert set(CODES) | set(MARKS) <= set(vocabulary)


def test_costs_are_a_metric():
    matrix = costs().astype(np.float64)
    assert np.array_equal(matrix, matrix.T)
    assert np.array_equal(matrix == 0, np.eye(len(matrix), dtype=bool))
    assert (matrix[:, :, None] <= matrix[:, None, :] + matrix.T[None, :, :] + 1e-6).all()
    assert matrix.max() <= 1


@given(PHONEMES, PHONEMES, PHONEMES)
def test_distance_is_a_metric(a: str, b: str, c: str):
    assert distance(a, a) == 0
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-5)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-5


@given(st.lists(WRITTEN, min_size=1, max_size=5), PHONEMES)
def test_many_strings_at_once_are_as_one_by_one(many: list[str], target: str):
    together = prefix_distances(Strings([encode(one) for one in many]), encode(target))
    for row, one in zip(together, many, strict=True):
        assert row == pytest.approx([distance(one, target[:end]) for end in range(len(target) + 1)], abs=1e-5)


@given(PHONEMES, st.text(st.sampled_from(SIGNS), min_size=1, max_size=4))
def test_distance_within_is_that_of_the_nearest_part(whole: str, target: str):
    parts = {whole[a:b] for a, b in itertools.combinations_with_replacement(range(len(whole) + 1), 2)}
    found = distances_within(Strings([encode(whole)]), encode(target))[0]
    assert found == pytest.approx(min(distance(part, target) for part in parts), abs=1e-5)


@given(
    st.lists(st.tuples(st.sampled_from(["", " ", "ˈ", " ˌ"]), st.sampled_from([*CODES]), st.sampled_from(["", "ː"])))
)
def test_units_are_phonemes_with_what_belongs_to_them(pieces: list[tuple[str, str, str]]):
    written = ["".join(piece) for piece in pieces]
    assert units("".join(written)) == written
    assert phoneme_count("".join(written)) == len(written)


@pytest.mark.parametrize(
    ("nearer", "further"),
    [("sz", "sm"), ("fθ", "fk"), ("mn", "mt"), ("pb", "pl"), ("iɪ", "iɑ"), ("ɛæ", "ɛu"), ("sʃ", "sɡ"), ("ju", "jɑ")],
)
def test_sounds_that_people_confuse_are_nearer(nearer: str, further: str):
    assert distance(*nearer) < distance(*further)


def test_stress_length_and_the_flap_are_no_difference():
    assert distance("kəmpjˈuTəɹ", "kəm pjuːtəɹ") == 0


def test_syllables_and_phonemes_are_counted():
    assert (syllable_count("ɡˈuɡᵊl"), phoneme_count("ɡˈuɡᵊl")) == (2, 5)
    assert (syllable_count("snˈObY"), phoneme_count("snˈObY")) == (2, 5)
    assert (syllable_count("kəmpjˈuːtə"), phoneme_count("kəmpjˈuːtə")) == (3, 8)


def test_no_strings_have_no_distances():
    assert distances(Strings([]), encode("ə")).shape == (0,)


@pytest.mark.parametrize(
    ("phonemes", "words"),
    [
        ("hˈA 5tlas", ("'5'", "position 5", "allowed: ")),
        ("ɡˈugəl", ("'g'", "position 4", "ɡ (U+0261)")),
        ("pst", ("no vowel",)),
        ("  ", ("no vowel",)),
    ],
)
def test_wrong_phonemes_are_named(phonemes: str, words: tuple[str, ...]):
    with pytest.raises(EdgewakeError) as error:
        check_phonemes(phonemes)
    for word in words:
        assert word in str(error.value)


def test_right_phonemes_pass():
    assert check_phonemes("  hˈA   ˈætləs ") == "hˈA ˈætləs"
