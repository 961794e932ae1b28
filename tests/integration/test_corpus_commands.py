"""Corpora of hostile names and interrupted work, seen from other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewake.data import CorpusManifest, scan, write_audio


def test_names_beyond_ascii_work_in_a_c_locale(tmp_path: Path) -> None:
    for name in ("go/é.wav", "no/日本.wav"):
        write_audio(tmp_path / name, np.arange(1600, dtype=np.int16))
    code = (
        "import sys; from edgewake.data import CorpusManifest, import_folder, scan\n"
        "import_folder(sys.argv[1], 'go').save(sys.argv[2])\n"
        "assert sys.getfilesystemencoding() != 'utf-8'\n"
        "report = scan(CorpusManifest.load(sys.argv[2])); assert not report.findings, report.findings"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "m.json")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = CorpusManifest.load(tmp_path / "m.json")
    assert [entry.path for entry in manifest.entries] == ["go/é.wav", "no/日本.wav"]
    assert not scan(manifest).findings


KILLED = """
import os, signal, sys
from edgewake.config.presets import get_preset
from edgewake.data import CorpusManifest, rendering, store
config = get_preset("smoke")
config.cache.folder, config.training.workers, config.data.audio_duration = sys.argv[2], 0, 0.6
run, calls = rendering.render, []
def die_at_the_third(*arguments, **options):
    calls.append(arguments)
    if len(calls) == 3 and sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return run(*arguments, **options)
rendering.render = die_at_the_third
print(len(store.build_store(CorpusManifest.load(sys.argv[1]), "val", config)))
"""


@pytest.mark.slow
def test_what_a_killed_rendering_left_is_removed_by_the_next(tones: Callable[..., None], tmp_path: Path) -> None:
    tones(tmp_path / "corpus", ("val", "val"))
    cache = tmp_path / "cache"

    def render(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "corpus" / "manifest.json"), str(cache), how]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert render("die").returncode == -signal.SIGKILL
    left = [path.name for path in (cache / "clips").iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".making-")
    done = render("live")
    assert done.returncode == 0, done.stderr
    kept = [path.name for path in (cache / "clips").iterdir()]
    assert left[0].removeprefix(".making-") in kept
    assert not any(name.startswith(".") for name in kept)


def test_what_a_killed_writer_left_beside_a_file_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from edgewake.io import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as path:\n"
        "    path.write_bytes(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "a.wav"
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    write_audio(target, np.arange(10, dtype=np.int16))
    assert list(tmp_path.iterdir()) == [target]
