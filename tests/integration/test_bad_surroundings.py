"""A full disk, no permission, a read-only home and a clock that goes back: one line, or the same result."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pickle
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgewake.cli import main

RELEASED = Path(__file__).resolve().parents[2] / "models" / "computer"
Outcome = tuple[int, str, str]


def without_capabilities() -> None:
    """Root is bound by permissions as its files' owner is; nobody else has capabilities."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def in_child(setup: Callable[[], object], arguments: tuple[str, ...]) -> Outcome:
    """Exit code, stdout and stderr of a command in a process of its own, after `setup`; 70 after an exception."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            setup()
            done = CliRunner().invoke(main, [*arguments])
            unexpected = done.exception and not isinstance(done.exception, SystemExit)
            outcome: Any = (70 if unexpected else done.exit_code, done.stdout, repr(done.exception) + done.stderr)
        except BaseException as error:
            outcome = (71, "", repr(error))
        os.write(writing, pickle.dumps(outcome)[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    found: Outcome = pickle.loads(data)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, a corpus and a model."""
    root = tmp_path_factory.mktemp("surroundings")
    noise = np.random.default_rng(0).integers(-4000, 4000, 16000).astype(np.int16)
    for label in ("computer", "other"):
        for split in ("train", "val", "test"):
            (root / "classes" / label / split).mkdir(parents=True)
            soundfile.write(root / "classes" / label / split / "x.wav", np.roll(noise, len(label + split)), 16000)
    shutil.copytree(RELEASED, root / "model")
    shutil.copy(root / "classes" / "computer" / "test" / "x.wav", root / "a.wav")
    done = CliRunner().invoke(
        main,
        [
            "corpus",
            "import",
            str(root / "classes"),
            "--phrase",
            "computer",
            "--out",
            str(root / "classes" / "manifest.json"),
        ],
    )
    assert done.exit_code == 0, done.stderr
    return root


@contextlib.contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """Permissions of a file or folder for as long as the block takes."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


SYNTH = ("--workers", "1", "--out", "out/synth")
WRITING: list[tuple[str, ...]] = [
    ("build", "--model", "model", "--out", "out/build"),
    ("convert", "model", "--out", "out/converted"),
    ("corpus", "import", "classes", "--phrase", "computer", "--out", "out/corpus.json"),
    ("corpus", "pack", "classes/manifest.json", "out/shards"),
    ("new", "hey atlas", "--out", "out/word"),
    ("say", "hey atlas", "--voice", "espeak-ng", "--out", "out/said"),
    (*("synth", "hey atlas", "--voice", "espeak-ng", "--positives", "2", "--near", "1", "--sentences", "1"), *SYNTH),
    (
        "train",
        "smoke",
        "--set",
        "data.manifest=classes/manifest.json",
        "--set",
        "data.phrase=computer",
        "--out",
        "out/run",
    ),
    ("export", "esphome", "--model", "model", "--out", "out/esphome"),
    ("report", "model", "--out", "out/report.html"),
]


def check_one_line(outcome: Outcome) -> None:
    code, _, shown = outcome
    assert code in (1, 2), outcome
    errors = [line for line in shown.splitlines() if "error: " in line.lower()]
    assert len(errors) == 1, shown
    assert "Traceback" not in shown


def named(arguments: tuple[str, ...]) -> str:
    return " ".join(arguments[:2])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", WRITING, ids=named)
def test_a_full_disk_is_one_line_and_nothing_half_written(
    place: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    if "espeak-ng" in arguments and not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")

    def setup() -> None:
        shutil.copytree(place, tmp_path, dirs_exist_ok=True)
        os.chdir(tmp_path)
        os.environ.update(EDGEWAKE_CACHE=str(tmp_path / "cache"), EDGEWAKE_CORPORA="")
        # No file may grow beyond this: writing more fails, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    check_one_line(in_child(setup, arguments))
    visible = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert all(path.stat().st_size < 200 for path in visible)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", WRITING, ids=named)
def test_a_folder_without_permission_is_one_line(place: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    def setup() -> None:
        os.chdir(place)
        os.environ.update(EDGEWAKE_CACHE="/proc/none", HOME="/nonexistent", EDGEWAKE_CORPORA="")
        without_capabilities()

    with mode(place, 0o555):
        check_one_line(in_child(setup, arguments))
    assert not (place / "out").exists()


READING: list[tuple[str, ...]] = [
    ("detect", "secret.wav", "--model", "model"),
    ("detect", "a.wav", "--model", "secret"),
    ("build", "--model", "secret", "--out", "/tmp/none"),
    ("corpus", "scan", "secret.json"),
    ("config", "show", "secret.yaml"),
    ("train", "secret.yaml", "--out", "/tmp/none"),
    ("make", "secret"),
    ("evaluate", "--model", "model", "--manifest", "secret.json", "--no-plot"),
]


@pytest.mark.parametrize("arguments", READING, ids=named)
def test_a_file_without_permission_is_one_line(place: Path, arguments: tuple[str, ...]) -> None:
    for name in ("secret.wav", "secret.json", "secret.yaml"):
        (place / name).write_bytes(b"{}")
    (place / "secret").mkdir(exist_ok=True)

    def setup() -> None:
        os.chdir(place)
        os.environ.update(HOME="/nonexistent", EDGEWAKE_CORPORA="")
        without_capabilities()

    with contextlib.ExitStack() as stack:
        for name in ("secret.wav", "secret.json", "secret.yaml", "secret"):
            stack.enter_context(mode(place / name, 0))
        check_one_line(in_child(setup, arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("detect", "a.wav", "--model", "model"),
        ("config", "show", "smoke"),
        ("corpus", "get"),
        ("assets", "list"),
        ("cache", "show"),
        ("runs",),
        ("--version", "--verbose"),
    ],
    ids=named,
)
def test_a_read_only_home_is_no_obstacle(place: Path, arguments: tuple[str, ...]) -> None:
    def setup() -> None:
        os.chdir(place)
        for name in ("EDGEWAKE_CACHE", "EDGEWAKE_ASSETS", "XDG_CACHE_HOME", "EDGEWAKE_CORPORA"):
            os.environ.pop(name, None)
        os.environ["HOME"] = str(place)
        without_capabilities()

    with mode(place, 0o555):
        code, _, shown = in_child(setup, arguments)
    assert code == 0, shown


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [WRITING[0], WRITING[2], WRITING[4], WRITING[9]], ids=named)
def test_a_clock_that_goes_back_changes_nothing(
    place: Path, tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def setup(back: bool) -> None:
        folder = tmp_path / str(back)
        shutil.copytree(place, folder, ignore=shutil.ignore_patterns("secret*"))
        os.chdir(folder)
        os.environ.update(EDGEWAKE_CACHE=str(folder / "cache"), EDGEWAKE_CORPORA="")
        if back:
            ticks = itertools.count()
            time.time = lambda: 1.8e9 - 3600.0 * next(ticks)

    for back in (False, True):
        code, _, shown = in_child(lambda back=back: setup(back), arguments)
        assert code == 0, shown
    made = {path.relative_to(tmp_path / "False") for path in (tmp_path / "False" / "out").rglob("*") if path.is_file()}
    assert made
    assert made == {
        path.relative_to(tmp_path / "True") for path in (tmp_path / "True" / "out").rglob("*") if path.is_file()
    }
