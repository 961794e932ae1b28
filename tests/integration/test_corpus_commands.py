"""Corpora of hostile names and interrupted work, seen from other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

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
