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
from edgewake.making.report import markdown, report_parts
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


def figure(hits: float, total: float) -> dict[str, float]:
    return {"hits": hits, "total": total, "value": hits / total, "low": 0.0, "high": 1.0}


def rate(events: int, hours: float) -> dict[str, float]:
    return {"events": events, "hours": hours, "value": events / hours, "low": 0.0, "high": 9.0}


def test_the_report_has_people_apart_names_the_worst_family_and_what_is_accepted():
    families = {"synth_flite": figure(9, 10), "recordings": figure(1, 4)}
    metrics = {
        "model": {"phrase": "hey atlas"},
        "split": "test",
        "cutoff": {"value": 0.5, "target_fa_per_hour": 0.1},
        "summary": {
            "recall": {name: {"all": figure(10, 14)} for name in ("clean", "far_room")},
            "groups": {
                "family": {"clean": families, "far_room": families},
                "speaker": {"a": figure(1, 1), "b": figure(0, 1)},
            },
            "near": {
                "total": figure(3, 10),
                "phrases": {"hey alice": figure(1, 5), "atlas": figure(2, 4), "hey": figure(0, 1)},
            },
            "fa_per_hour": {
                "total": rate(3, 5.0),
                "families": {"fotaq": rate(2, 3.0), "noise": rate(1, 1.5), "speech_flite": rate(0, 0.5)},
            },
        },
        "data": {"rooms": {"measured": 4, "simulated": 12}},
        "validation": {"fa_per_hour": {"total": rate(1, 2.5), "families": {"commands": rate(1, 0.25)}}},
    }
    built = {"budget": [], "parity": [{}], "next": "idf.py flash"}
    text = markdown("title", report_parts(metrics, built, {}, {"train": 12.0}))
    assert "| recall | all | of people |" in text
    assert "| 25.0% [4.6%, 69.9%] of 4 |" in text
    assert "Worst family: fotaq, with 2 of 3 events in 3.00 h." in text
    assert "has 0.40/h [0.00, 9.00] (1 in 2.50 h) there. Worst family: commands, with 1 of 1 events" in text
    assert "2.50 h of validation without the phrase are few for a cutoff, 5 h are the least: add" in text
    assert "3 m in 4 measured and 12 simulated rooms" in text
    assert "| far room | 71.4% [0.0%, 100.0%] of 14 | 25.0%" in text
    assert text.index("| atlas | 50.0%") < text.index("| hey alice | 20.0%")
    assert "| hey |" not in text
    assert "synthetic speech only" not in text
    assert text.index("| b | 0.0%") < text.index("| a | 100.0%")
