"""Stages are found again by content, redone when anything changed, and never half stored."""

from __future__ import annotations

import pytest

from edgewake.errors import EdgewakeError
from edgewake.stages import KEPT_PER_STAGE, Stages, code_hash, recover, swap_in


class Counted:
    """A stage that copies its input and counts how often it ran."""

    def __init__(self, source):
        self.source = source
        self.runs = 0

    def __call__(self, folder):
        self.runs += 1
        (folder / "copy.txt").write_bytes(self.source.read_bytes())
        return {"size": self.source.stat().st_size}


@pytest.fixture
def stage(tmp_path):
    source = tmp_path / "input.txt"
    source.write_text("one")
    stages = Stages(tmp_path / "cache")
    made = Counted(source)

    def run(parameters=None, code=("errors.py",)):
        return stages.run("copy", made, inputs=[source], parameters=parameters, code=code)

    run.made, run.source = made, source
    return run


def test_unchanged_content_is_reused_with_its_record(stage):
    first = stage()
    again = stage()
    assert (first.reused, again.reused, stage.made.runs) == (False, True, 1)
    assert again.record == first.record == {"size": 3}
    assert (again.folder / "copy.txt").read_text() == "one"


@pytest.mark.parametrize("change", ["input", "parameters", "code"])
def test_any_change_runs_the_stage_again(stage, change):
    stage()
    if change == "input":
        stage.source.write_text("two")
        result = stage()
    elif change == "parameters":
        result = stage({"width": 48})
    else:
        result = stage(code=("errors.py", "io.py"))
    assert not result.reused
    assert stage.made.runs == 2


@pytest.mark.parametrize("damage", ["changed", "removed", "added", "record"])
def test_a_damaged_result_is_redone(stage, damage):
    folder = stage().folder
    if damage == "changed":
        (folder / "copy.txt").write_text("bit")
    elif damage == "removed":
        (folder / "copy.txt").unlink()
    elif damage == "added":
        (folder / "more.txt").write_text("x")
    else:
        (folder / "stage.json").write_text("{")
    result = stage()
    assert not result.reused
    assert (result.folder / "copy.txt").read_text() == "one"
    assert stage().reused


def test_a_failing_stage_stores_nothing(tmp_path):
    stages = Stages(tmp_path)

    def fail(folder):
        (folder / "half.txt").write_text("x")
        raise EdgewakeError("no")

    with pytest.raises(EdgewakeError, match="no"):
        stages.run("fail", fail)
    assert list((tmp_path / "fail").iterdir()) == []


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(EdgewakeError, match=r"gone\.bin of stage copy"):
        Stages(tmp_path).run("copy", lambda folder: {}, inputs=[tmp_path / "gone.bin"])


def test_old_results_are_dropped(stage):
    for width in range(KEPT_PER_STAGE + 3):
        newest = stage({"width": width})
    assert len(list(newest.folder.parent.iterdir())) == KEPT_PER_STAGE
    assert stage({"width": KEPT_PER_STAGE + 2}).reused


def test_code_hash_follows_the_sources():
    assert code_hash(["errors.py"]) != code_hash(["io.py"])
    assert code_hash(["errors.py"]) == code_hash(["errors.py", "errors.py"])
    assert code_hash(["errors.py"], ["numpy"]) != code_hash(["errors.py"], ["no-such-distribution"])
    with pytest.raises(EdgewakeError, match="no part 'nowhere'"):
        code_hash(["nowhere"])


def test_swap_keeps_nothing_of_the_old_and_all_of_the_new(tmp_path):
    old, new = tmp_path / "out", tmp_path / "made"
    old.mkdir()
    (old / "a").write_text("old")
    new.mkdir()
    (new / "b").write_text("new")
    swap_in(new, old)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in old.iterdir()] == ["b"]


def test_a_failed_swap_leaves_the_old_folder(tmp_path):
    old = tmp_path / "out"
    old.mkdir()
    (old / "a").write_text("old")
    with pytest.raises(EdgewakeError, match="cannot replace"):
        swap_in(tmp_path / "never-made", old)
    assert (old / "a").read_text() == "old"


def test_what_is_handed_over_is_taken_only_when_the_new_folder_is_in_place(tmp_path):
    old, new = tmp_path / "out", tmp_path / "made"
    old.mkdir()
    (old / "settings").write_text("mine")

    def hand_over(before):
        (before / "settings").replace(old / "settings")

    with pytest.raises(EdgewakeError, match="cannot replace"):
        swap_in(new, old, hand_over)
    assert (old / "settings").read_text() == "mine"
    new.mkdir()
    swap_in(new, old, hand_over)
    assert (old / "settings").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_swap_that_was_cut_off_is_undone_or_finished(tmp_path, replaced):
    aside, place = tmp_path / ".out.old", tmp_path / "out"
    aside.mkdir()
    (aside / "a").write_text("old")
    if replaced:
        place.mkdir()
        (place / "a").write_text("new")
    recover(place)
    assert (place / "a").read_text() == ("new" if replaced else "old")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
