"""Bad input ends in one line that names it, and exit code 1 or 2; only a bug has a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgewake.cli import main

RELEASED = Path(__file__).resolve().parents[2] / "models" / "computer"
DEEP = "[" * 100_000
BIG = "9" * 5000


def edited(folder: Path, file: str, **values: Any) -> None:
    """A copy of the released model, with `values` set in model.json's info or the manifest's frontend."""
    shutil.copytree(RELEASED, folder)
    record = json.loads((folder / file).read_text())
    record["info" if file == "model.json" else "frontend"] |= values
    (folder / file).write_text(json.dumps(record))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of good and bad files; tests run in it."""
    root = tmp_path_factory.mktemp("bad")
    noise = np.random.default_rng(0).integers(-4000, 4000, 16000).astype(np.int16)
    before = Path.cwd()
    os.chdir(root)
    soundfile.write("a.wav", noise, 16000)
    for name in (b"bad\xff.wav", "né.wav".encode(), b"a::b.wav"):
        shutil.copy("a.wav", os.fsdecode(name))
    Path("noise.wav").write_bytes(noise.tobytes())
    for label in ("hey", "other"):
        for split in ("train", "val", "test"):
            folder = Path("classes", label, split)
            folder.mkdir(parents=True)
            shutil.copy("a.wav", folder / "x.wav")
    tables = {
        "binary": noise.tobytes(),
        "nul": b"file,label\n\0\0\0\n",
        "short": b"file,corpus,speaker,label,seconds\nx\n",
        "huge": b"file\n" + b"x" * 300_000 + b"\n",
        "empty": b"",
        "latin": "file,label\né.wav,hé\n".encode("latin-1"),
    }
    for name, data in tables.items():
        Path(f"table-{name}").mkdir()
        Path(f"table-{name}", "manifest.csv").write_bytes(data)
    documents = {"deep": DEEP, "big": f'{{"version": {BIG}}}', "list": "[]", "number": "3", "nan": "NaN"}
    for name, text in documents.items():
        Path(f"{name}.json").write_text(text)
        Path(f"model-{name}").mkdir()
        for file in ("manifest.json", "model.json"):
            Path(f"model-{name}", file).write_text(text)
    settings = {
        "deep": f"a: {DEEP}",
        "flow": "a: " + "{b: " * 5000 + "1" + "}" * 5000,
        "bool": "training: {seed: !!bool maybe}",
        "float": "training: {learning_rate: !!float x}",
        "time": "training: {seed: !!timestamp x}",
        "big": f"training: {{seed: {BIG}}}",
        "python": "training: !!python/object:os.system {}",
        "alias": "a: &a [*a]",
        "list": "[1]",
        "twice": "training: {epochs: 2}\ntraining: {epochs: 3}",
        "keys": "? [1, 2]\n: 3",
        "nan": "training: {learning_rate: .nan}",
    }
    for name, text in settings.items():
        Path(f"{name}.yaml").write_text(text)
    Path("binary.yaml").write_bytes(noise.tobytes())
    edited(Path("model-window"), "model.json", window="four")
    edited(Path("model-refractory"), "model.json", refractory_s=-3)
    edited(Path("model-never"), "model.json", refractory_s=float("nan"))
    edited(Path("model-cutoff"), "model.json", cutoff_sum="x")
    edited(Path("model-frontend"), "manifest.json", config={"channels": "x"})
    yield root
    os.chdir(before)


MODELS = ("deep", "big", "list", "number", "nan")
YAML = ("deep", "flow", "bool", "float", "time", "big", "python", "alias", "list", "twice", "keys", "nan", "binary")
CASES: list[tuple[str, ...]] = [
    *(("detect", name) for name in ("noise.wav", "gone.wav", "classes", "/dev/null", "x" * 300, "")),
    *(("detect", "a.wav", "--cutoff", text) for text in ("nan", "inf", "-1", "x")),
    *(("detect", "a.wav", "--model", f"model-{name}") for name in (*MODELS, "frontend")),
    *(("parity", "--model", f"model-{name}") for name in (*MODELS, "frontend")),
    *(("build", "--model", f"model-{name}") for name in (*MODELS, "window", "refractory", "never", "cutoff")),
    *(("convert", f"model-{name}") for name in MODELS),
    *(("build", *rest) for rest in (("--out", "/"), ("--out", "a.wav"), ("--model", "classes"), ("--target", "x"))),
    *(("convert", str(RELEASED), "--out", out) for out in ("/", "a.wav")),
    *(("corpus", "import", f"table-{n}", "--phrase", "hey") for n in ("binary", "nul", "short", "huge", "latin")),
    *(("corpus", "import", name, "--phrase", "hey") for name in ("gone", "a.wav", "table-empty")),
    *(("corpus", "import", "classes", "--phrase", "hey", "--out", out) for out in ("/", "a.wav/x.json")),
    ("corpus", "import", "classes", "--phrase", "", "--out", "corpus.json"),
    ("corpus", "import", "classes", "--phrase", "hey", "--speaker-pattern", "("),
    ("corpus", "import", "classes", "--phrase", "hey", "--seed", "-1"),
    *(("corpus", "scan", f"{name}.json") for name in (*MODELS, "gone")),
    *(("corpus", "pack", f"{name}.json", "shards") for name in MODELS),
    *(("corpus", "pack", "list.json", "shards", "--shard-mb", text) for text in ("nan", "inf", "0", "-1")),
    ("corpus", "pack", "list.json", "/"),
    *(("evaluate", "--manifest", f"{name}.json", "--no-plot") for name in MODELS),
    *(("evaluate", "--seed", text) for text in ("-1", "9" * 30, "nan")),
    *(("evaluate", "--target-fa", text) for text in ("nan", "inf", "-1")),
    *(("evaluate", "--cutoff", text) for text in ("nan", "inf", "0", "1.5", "high", "")),
    ("evaluate", "--no-plot"),
    *(("config", "show", f"{name}.yaml") for name in YAML),
    *(("train", f"{name}.yaml") for name in YAML),
    *(("config", "show", name) for name in ("gone.yaml", "classes", "esp32", "")),
    *(
        ("config", "show", "--set", text)
        for text in (
            "training.epochs=nan",
            "training.learning_rate=.inf",
            "training.learning_rate=nan",
            "evaluation.refractory_s=-3",
            f"training.seed={BIG}",
            f"training.seed={DEEP}",
            "training.seed=!!bool maybe",
            "=3",
            "training",
            "model.kernel_sizes=[[",
            "data.phrase=\udcff",
        )
    ),
    *(("train", "smoke", "--out", out) for out in ("/", "a.wav")),
    ("ablate", "smoke", "--fraction", "nan"),
    ("ablate", "smoke", "--fraction", "0"),
    *(("ablate", "smoke", "--teacher", text) for text in ("", "x=classes", "ensemble:,", "x=noise.wav")),
    ("sweep", "smoke", "--set", "training.epochs=nan,2"),
    ("sweep", "bool.yaml", "--set", "training.epochs=1,2"),
    ("sweep", "smoke", "--set", "training.seed=1,2", "--out", "/"),
    *(("compare", teacher, str(RELEASED)) for teacher in ("noise.wav", "classes", "gone.pt")),
    *(("teacher", "evaluate", name) for name in ("gone.pt", "deep.yaml")),
    *(("runs", *rest) for rest in (("gone",), ("--root", "classes", "hey"))),
    *(("assets", "path", name) for name in ("gone", "", "../x")),
    ("cache", "clear", "gone", "--yes"),
]


@pytest.mark.parametrize("arguments", CASES, ids=lambda words: " ".join(word[:24] for word in words).strip())
def test_bad_input_is_one_line(place: Path, arguments: tuple[str, ...]) -> None:
    done = CliRunner(env={"EDGEWAKE_CORPORA": ""}).invoke(main, with_model(arguments))
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2)
    lines = done.stderr.splitlines()
    assert sum(line.lower().startswith("error: ") for line in lines) == 1, done.stderr
    assert len(lines[-1]) < 700


def with_model(arguments: tuple[str, ...]) -> list[str]:
    """The arguments, with the released model where a command takes one and none is given."""
    takes = arguments[0] in ("detect", "evaluate") and "--model" not in arguments
    return [*arguments, *(["--model", str(RELEASED)] if takes else [])]


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"bad\xff.wav", "né.wav".encode(), b"a::b.wav"])
def test_audio_of_any_name_is_read(place: Path, name: bytes) -> None:
    for terminal in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        for flag in ("--json", "--trace"):
            typed = [sys.executable, "-m", "edgewake", "detect", name, "--model", str(RELEASED), flag]
            done = subprocess.run(typed, cwd=place, env=os.environ | terminal, capture_output=True, check=False)
            assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_corpus_with_names_of_any_bytes_is_imported(place: Path) -> None:
    shutil.copytree("classes", "names")
    for name in (b"bad\xff.wav", "né.wav".encode()):
        shutil.copy("a.wav", os.fsdecode(b"names/hey/train/" + name))
    for terminal in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        typed = [sys.executable, "-m", "edgewake", "corpus", "import", "names", "--phrase", "hey"]
        done = subprocess.run(typed, cwd=place, env=os.environ | terminal, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert b"recordings" in done.stdout
        assert b"Traceback" not in done.stderr
