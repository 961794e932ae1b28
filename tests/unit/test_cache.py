"""The cache gives what was made for this very content, whole and checked, whatever ended earlier processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from edgewake import cache as module
from edgewake.cache import Cache
from edgewake.errors import EdgewakeError

CODE = ["edgewake.errors"]


def make(folder: Path) -> dict[str, Any]:
    (folder / "data.bin").write_bytes(b"x" * 1000)
    return {"made": 1}


def refuse(folder: Path) -> dict[str, Any]:
    raise AssertionError("made again")


def test_a_result_is_made_once(tmp_path: Path) -> None:
    first = Cache(tmp_path).get("clips", {"seed": 1}, make, code=CODE)
    second = Cache(tmp_path).get("clips", {"seed": 1}, refuse, code=CODE)
    assert (first.reused, second.reused) == (False, True)
    assert second.record == {"made": 1}
    assert (second.folder / "data.bin").read_bytes() == b"x" * 1000


def damage_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def damage_flip(file: Path) -> None:
    file.write_bytes(b"y" + file.read_bytes()[1:])


def damage_add(file: Path) -> None:
    (file.parent / "more").write_bytes(b"")


def damage_record(file: Path) -> None:
    (file.parent / module.RECORD).write_bytes(b"{")


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, damage_add, damage_record, Path.unlink])
def test_a_damaged_entry_is_made_again_with_one_line(
    tmp_path: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Cache(tmp_path).get("clips", {}, make, code=CODE)
    damage(entry.folder / "data.bin")
    again = Cache(tmp_path).get("clips", {}, make, code=CODE)
    assert not again.reused
    assert (again.folder / "data.bin").read_bytes() == b"x" * 1000
    assert capsys.readouterr().err.count("is damaged and is made again") == 1


def test_a_large_file_is_checked_by_blocks_that_reach_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 100)
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    entry = Cache(tmp_path).get("clips", {}, make, code=CODE)
    assert Cache(tmp_path).get("clips", {}, refuse, code=CODE).reused
    file = entry.folder / "data.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"y")
    assert not Cache(tmp_path).get("clips", {}, make, code=CODE).reused


def test_what_fails_or_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    for error in (ValueError, KeyboardInterrupt):

        def fail(folder: Path, error: type[BaseException] = error) -> None:
            (folder / "half").write_bytes(b"x")
            raise error

        with pytest.raises(error):
            Cache(tmp_path).get("clips", {}, fail, code=CODE)
    assert not list((tmp_path / "clips").iterdir())


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(EdgewakeError, match=r"No space left on device; free space, or set cache\.folder"):
        Cache(tmp_path).get("clips", {}, full, code=CODE)


def test_what_a_killed_process_left_is_removed_by_the_next_that_makes_something(tmp_path: Path) -> None:
    left = tmp_path / "clips" / f"{module.MAKING}{'0' * 32}"
    left.mkdir(parents=True)
    (left / "features.npy").write_bytes(b"x" * 100)
    Cache(tmp_path).get("clips", {}, make, code=CODE)
    assert not left.exists()


def test_a_resumable_result_goes_on_from_what_was_left(tmp_path: Path) -> None:
    def work(folder: Path) -> dict[str, Any]:
        done = len(list(folder.iterdir()))
        (folder / str(done)).write_bytes(b"")
        if done < 2:
            raise KeyboardInterrupt
        return {"parts": done + 1}

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Cache(tmp_path).get("teachers", {}, work, code=CODE, resumable=True)
    Cache(tmp_path).get("clips", {}, make, code=CODE)
    assert Cache(tmp_path).get("teachers", {}, work, code=CODE, resumable=True).record == {"parts": 3}


def test_the_least_recently_used_go_and_never_those_in_use(tmp_path: Path) -> None:
    for seed in range(3):
        entry = Cache(tmp_path).get("clips", {"seed": seed}, make, code=CODE)
        os.utime(entry.folder / module.RECORD, (seed, seed))
    Cache(tmp_path).get("clips", {"seed": 0}, refuse, code=CODE)
    small = Cache(tmp_path, limit_gb=4e-6)
    small.get("clips", {"seed": 3}, make, code=CODE)
    small.get("clips", {"seed": 4}, make, code=CODE)
    left = [seed for seed in range(5) if _holds(tmp_path, seed)]
    assert {3, 4} <= set(left)


def _holds(folder: Path, seed: int) -> bool:
    try:
        return Cache(folder).get("clips", {"seed": seed}, refuse, code=CODE).reused
    except AssertionError:
        return False


def test_processes_that_need_the_same_wait_for_one(tmp_path: Path) -> None:
    made = []

    def slow(folder: Path) -> None:
        made.append(folder)
        (folder / "data").write_bytes(b"x")
        threading.Event().wait(0.2)

    threads = [threading.Thread(target=lambda: Cache(tmp_path).get("clips", {}, slow, code=CODE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_show_and_clear(tmp_path: Path) -> None:
    kept = Cache(tmp_path)
    kept.get("clips", {}, make, code=CODE)
    kept.get("scans", {}, make, code=CODE)
    assert {kind: count for kind, (count, _) in kept.usage().items()} == {"clips": 1, "scans": 1}
    assert kept.clear("clips") > 1000
    assert list(kept.usage()) == ["scans"]
    with pytest.raises(EdgewakeError, match=r"holds no 'steams': it has scans"):
        kept.clear("steams")
    kept.clear()
    assert not kept.usage()


def test_much_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match=r"rendering takes 2\.0 GB, cache\.limit_gb allows 1\.0, .*raise the limit"):
        Cache(tmp_path, limit_gb=1).check_room("rendering", 2_000_000_000, "lower data.positive_renders")


def test_what_is_no_entry_stays(tmp_path: Path) -> None:
    asset = tmp_path / "assets" / "whisper" / "weights.bin"
    asset.parent.mkdir(parents=True)
    asset.write_bytes(b"x" * 100)
    kept = Cache(tmp_path, limit_gb=1e-9)
    kept.get("clips", {}, make, code=CODE)
    kept.clear()
    assert asset.exists()
    assert kept.usage() == {}


def test_an_entry_that_another_process_renames_while_sizes_are_taken_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache(tmp_path).get("clips", {}, make, code=CODE)
    (tmp_path / "clips" / f"{module.MAKING}0").mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name.startswith(module.MAKING):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    entries, size = Cache(tmp_path).usage()["clips"]
    assert entries == 2
    assert size > 1000
