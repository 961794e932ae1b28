"""Wherever a build is killed, the next one finds every file that a person or idf.py wrote, and no half of a build."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edgewake.builder import user_files
from edgewake.builder.user_files import edited_firmware, keep_user_files, replace_build, restore_build, users_files
from edgewake.errors import EdgewakeError
from edgewake.io import check_output_folder, sha256_file, temporary_beside
from killed import killed

# What a person and idf.py write: small files, a deep folder, an edit, a link.
THEIRS = {
    "firmware/sdkconfig": "my settings",
    "firmware/sdkconfig.old": "my settings of before",
    "firmware/dependencies.lock": "versions",
    "firmware/build/esp-idf/main/main.o": "compiled",
    "firmware/managed_components/esp-nn/nn.c": "fetched",
    "firmware/main/action.c": "opens the door",
    "firmware/components/door/door.c": "a door",
    "notes.txt": "of the build",
}
STEPS = ("rename", "replace", "link", "unlink", "rmdir", "mkdir")


@pytest.fixture(autouse=True)
def template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_files, "template_files", lambda: [Path("main/action.c"), Path("main/main.c")])


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def make_build(folder: Path, model: str) -> None:
    """What a build writes."""
    ours = {"main/action.c": "nothing", "main/main.c": "main"}
    write(folder / "firmware", ours | {"components/edgewake_model/generated/ew_golden.c": model})
    write(folder, {"model.tflite": model, "report.html": model})
    template = {name: sha256_file(folder / "firmware" / name) for name in ours}
    files = [{"path": "model.tflite"}, {"path": "firmware/components/edgewake_model/generated/ew_golden.c"}]
    (folder / "report.json").write_text(json.dumps({"model": model, "template": template, "files": files}))


def build(out: Path, model: str) -> None:
    """The order of `build.build`."""
    check_output_folder(out, ("report.json",), "build")
    restore_build(out)
    work = temporary_beside(out)
    work.mkdir()
    make_build(work, model)
    keep_user_files(out, work)
    replace_build(work, out)


def build_second(out: Path, begin: Callable[[], None]) -> None:
    begin()
    build(out, "second")


def theirs_in(out: Path) -> dict[str, str]:
    return {name: (out / name).read_text() for name in THEIRS if (out / name).exists()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "computer"
    make_build(folder, "first")
    write(folder, THEIRS)
    (folder / "firmware/latest").symlink_to("build")
    return folder


@pytest.mark.slow
def test_a_build_killed_anywhere_loses_nothing(out: Path, tmp_path: Path) -> None:
    for step in range(1, 1000):
        folder = tmp_path / f"{step}" / "computer"
        shutil.copytree(out, folder, symlinks=True)
        was_killed = killed(partial(build_second, folder), STEPS, step)
        # What is in place is one of the builds, whole; or the last one waits beside it.
        if folder.exists():
            assert theirs_in(folder) == THEIRS, f"killed at {step}"
        build(folder, "third")
        assert theirs_in(folder) == THEIRS, f"killed at {step}"
        assert (folder / "firmware/latest").is_symlink()
        assert json.loads((folder / "report.json").read_text())["model"] == "third"
        assert (folder / "model.tflite").read_text() == "third"
        assert [path.name for path in folder.parent.iterdir()] == ["computer"], f"killed at {step}"
        if not was_killed:
            break
    assert not was_killed
    assert step > 40


def test_an_empty_folder_where_a_build_was_cut_off_does_not_cost_the_build(out: Path) -> None:
    out.replace(out.with_name(".computer.old"))
    out.mkdir()
    build(out, "second")
    assert theirs_in(out) == THEIRS


def test_what_a_person_wrote_is_told_from_what_the_build_wrote(out: Path) -> None:
    assert sorted(map(str, users_files(out))) == sorted([*THEIRS, "firmware/latest"])
    assert sorted(map(str, edited_firmware(users_files(out)))) == ["components/door/door.c", "latest", "main/action.c"]


def test_a_file_of_an_earlier_edgewake_goes_unless_it_was_edited(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    for name in ("old.c", "older.c"):
        write(out / "firmware", {name: "written by the build"})
        report["template"][name] = sha256_file(out / "firmware" / name)
    (out / "report.json").write_text(json.dumps(report))
    (out / "firmware/older.c").write_text("edited")
    build(out, "second")
    assert not (out / "firmware/old.c").exists()
    assert (out / "firmware/older.c").read_text() == "edited"


@pytest.mark.parametrize("text", ['{"files": [1]}', '{"template": 3}', "[1]", "nonsense"])
def test_a_report_that_is_none_costs_nothing(out: Path, text: str) -> None:
    (out / "report.json").write_text(text)
    with contextlib.suppress(EdgewakeError):
        build(out, "second")
    # Without a record an edit of the template cannot be told from an older template.
    assert {**theirs_in(out), "firmware/main/action.c": ""} == {**THEIRS, "firmware/main/action.c": ""}


def test_copies_do_where_the_file_system_has_no_links(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments, **options):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    build(out, "second")
    assert theirs_in(out) == THEIRS


def test_a_failed_replacement_leaves_the_last_build(out: Path) -> None:
    with pytest.raises(EdgewakeError, match="cannot replace"):
        replace_build(out.with_name("never-made"), out)
    assert theirs_in(out) == THEIRS


@pytest.mark.parametrize("name", ["foreign.txt", "folder"])
def test_a_folder_with_foreign_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(EdgewakeError, match=r"holds other files than a build \(no report.json\)"):
        check_output_folder(tmp_path, ("report.json", "other.json"), "build")
    (tmp_path / "other.json").touch()
    check_output_folder(tmp_path, ("report.json", "other.json"), "build")
