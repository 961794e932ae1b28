"""A trunk's weights start a student of its architecture, and frames of speech get the phonemes that were spoken."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgewake.config import WakewordConfig
from edgewake.errors import ConfigError
from edgewake.synthesis.phonemes import CODES
from edgewake.training.phonemes import IGNORED, SILENCE, frame_labels
from edgewake.training.students import TRUNK_RECORD, TRUNK_WEIGHTS, build_student

PHONEMES = "hˈA ˈætləs."


@given(st.lists(st.floats(0.02, 0.3), min_size=len(PHONEMES) + 1, max_size=len(PHONEMES) + 1))
def test_every_frame_has_the_phoneme_of_its_time(durations):
    bounds = np.cumsum(durations)
    times = np.arange(0, bounds[-1] + 0.1, 0.02)
    labels = frame_labels(PHONEMES, bounds, times)
    spoken = [c for c in PHONEMES if c in CODES]
    found = [label for label, previous in zip(labels, [None, *labels[:-1]], strict=True) if label != previous]
    # Each phoneme lasts at least a frame: all occur, in order, a stress mark's time being that of what follows it.
    assert [label for label in found if label not in (SILENCE, IGNORED)] == [CODES[c] for c in spoken]
    assert (labels[times < bounds[0]] == SILENCE).all()
    assert (labels[times >= bounds[-1]] == SILENCE).all()


def trunk(folder, config, **changes):
    student = build_student(config)
    record = {"architecture": student.architecture(), "frontend": config.frontend.hash()} | changes
    (folder / TRUNK_RECORD).write_text(json.dumps(record))
    tensors = {name: value for name, value in student.state_dict().items() if not name.startswith("head.")}
    save_file(tensors, folder / TRUNK_WEIGHTS)
    return student


def settings(folder="", seed=0):
    config = WakewordConfig()
    config.qat.enabled = True
    config.model.trunk, config.training.seed = str(folder), seed
    return config


def test_a_student_starts_from_its_trunk_and_a_head_of_its_own(tmp_path):
    given = trunk(tmp_path, settings(seed=1))
    student = build_student(settings(tmp_path, seed=2))
    for name, value in student.state_dict().items():
        if name.startswith("head.weight"):
            assert not torch.equal(value, given.state_dict()[name])
        elif not name.startswith("head."):
            assert torch.equal(value, given.state_dict()[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frontend": "0123456789abcdef"}, "frontend 0123456789abcdef, not"),
        ({"architecture": None}, r"width 32, not 112"),
    ],
)
def test_a_trunk_of_another_shape_is_refused_in_one_line(tmp_path, change, message):
    if change.get("architecture", 0) is None:
        change = {"architecture": build_student(settings()).architecture() | {"width": 32}}
    trunk(tmp_path, settings(), **change)
    with pytest.raises(ConfigError, match=message):
        build_student(settings(tmp_path))


def test_a_missing_or_damaged_trunk_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"has no trunk.json; train one with edgewake trunk"):
        build_student(settings(tmp_path))
    trunk(tmp_path, settings())
    record = json.loads((tmp_path / TRUNK_RECORD).read_text())
    for lacking in ({}, {"architecture": {}}, {"architecture": record["architecture"]}, []):
        (tmp_path / TRUNK_RECORD).write_text(json.dumps(lacking))
        with pytest.raises(ConfigError, match=r"trunk.json is not the record of a trunk \(.*\): get the trunk again"):
            build_student(settings(tmp_path))
    trunk(tmp_path, settings())
    (tmp_path / TRUNK_WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be read"):
        build_student(settings(tmp_path))
