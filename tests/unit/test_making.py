"""Stages are made again when their inputs change, and speakers keep their splits."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgewake.data.importing import split_speakers
from edgewake.errors import EdgewakeError
from edgewake.making.efforts import EFFORTS, recipe
from edgewake.making.stages import Stages, named
from edgewake.synthesis.wakeword import Wakeword
from edgewake.training.students import StudentMean

NAMES = st.sets(st.text("abcdefghij", min_size=1, max_size=8), max_size=40)


def stages(folder: Path) -> Stages:
    return Stages(folder, {"first": 1.0, "second": 2.0}, phrase="hey atlas")


def run(folder: Path, inputs: object, text: str = "made", intact: bool = True) -> bool:
    file = folder / "out.txt"
    return stages(folder).run("first", inputs, lambda: [file], lambda: file.write_text(text), lambda: intact)


def test_a_stage_is_made_again_when_inputs_outputs_or_what_must_hold_changed(tmp_path: Path):
    assert not run(tmp_path, {"a": 1})
    assert run(tmp_path, {"a": 1}, "other")
    assert (tmp_path / "out.txt").read_text() == "made"
    assert not run(tmp_path, {"a": 2})
    assert not run(tmp_path, {"a": 2}, intact=False)
    (tmp_path / "out.txt").write_text("edited")
    assert not run(tmp_path, {"a": 2})
    (tmp_path / "out.txt").unlink()
    assert not run(tmp_path, {"a": 2})
    record = json.loads((tmp_path / "make.json").read_text())
    assert record["stages"]["first"]["outcome"] == "made"


@pytest.mark.parametrize(
    ("error", "outcome"), [(EdgewakeError("no room"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_stage_that_ends_early_is_recorded_and_made_again(tmp_path: Path, error: BaseException, outcome: str):
    run(tmp_path, 1)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        stages(tmp_path).run("first", 2, list, fail)
    assert json.loads((tmp_path / "make.json").read_text())["stages"]["first"]["outcome"] == outcome
    assert not run(tmp_path, 1)


def test_an_expected_failure_has_the_name_of_its_stage():
    with pytest.raises(EdgewakeError, match=r"^stage train: no room$"), named("train"):
        raise EdgewakeError("no room")


def test_the_time_left_follows_the_stages_that_were_made(tmp_path: Path):
    made = stages(tmp_path)
    assert made.left() == 180
    made._made, made._now, made._began = {"first": 120.0}, "second", time.monotonic()
    # The first took twice as long as usual.
    assert made.left() == pytest.approx(240, abs=5)


@given(NAMES)
def test_every_speaker_has_one_split_and_three_speakers_fill_all(names: set[str]):
    splits = split_speakers(names)
    assert splits.keys() == names
    assert split_speakers(sorted(names, reverse=True)) == splits
    used = set(splits.values())
    assert len(used) == min(3, len(names))
    assert not names or "train" in used
    assert len(names) != 2 or "test" in used


@given(NAMES, st.text("klmnop", min_size=1, max_size=8))
def test_a_new_speaker_moves_hardly_anybody(names: set[str], new: str):
    before, after = split_speakers(names), split_speakers(names | {new})
    moved = Counter(before[name] == after[name] for name in names)
    assert moved[False] <= 3


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_is_a_valid_training_of_its_steps(effort: str, tmp_path: Path):
    word = Wakeword(phrase="hey atlas", name="hey_atlas", pronunciations=("hˈA ˈætləs",), seed=7)
    row = EFFORTS[effort]
    config = recipe(word, row, tmp_path / "corpus.json")
    config.check()
    training = config.training
    assert (training.epochs - config.qat_epochs) * training.batches_per_epoch == row.runs * row.run_steps
    assert config.qat_epochs * training.batches_per_epoch == row.qat_steps
    assert training.seed == 7


def test_several_students_teach_their_mean_probability():
    students = [nn.Linear(4, 2) for _ in range(3)]
    inputs = torch.randn(5, 4)
    expected = torch.stack([student(inputs).softmax(1) for student in students]).mean(0)
    torch.testing.assert_close(StudentMean(students)(inputs).softmax(1), expected)
