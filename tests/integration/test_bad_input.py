"""Bad input ends in one line that names it, and exit code 1 or 2; only a bug has a traceback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
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


def write_bad_audio(noise: np.ndarray) -> None:
    """bad-NAME, of every kind of damage that a file of audio can have."""
    wav, float_wav = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, noise, 16000, format="WAV")
    soundfile.write(float_wav, np.full(4000, np.nan, np.float32), 16000, "FLOAT", format="WAV")
    whole = wav.getvalue()
    coded = {}
    for suffix in ("flac", "ogg", "mp3"):
        out = io.BytesIO()
        soundfile.write(out, noise, 16000, format=suffix.upper())
        coded[suffix] = out.getvalue()
    huge = io.BytesIO()
    soundfile.write(huge, np.full(4000, 3e5, np.float32), 16000, "FLOAT", format="WAV")
    files = {
        "empty.wav": b"",
        "header.wav": whole[:44],
        "short.wav": whole[:30],
        "cut.wav": whole[:5000],
        "text.wav": b"not audio at all\n" * 100,
        "zip.wav": b"PK\3\4" + bytes(500),
        "rate-0.wav": whole[:24] + struct.pack("<I", 0) + whole[28:],
        "rate-high.wav": whole[:24] + struct.pack("<I", 2_000_000_000) + whole[28:],
        "rate-low.wav": whole[:24] + struct.pack("<I", 10) + whole[28:],
        "channels-0.wav": whole[:22] + struct.pack("<H", 0) + whole[24:],
        "codec.wav": whole[:20] + struct.pack("<H", 0x4444) + whole[22:],
        "nan.wav": float_wav.getvalue(),
        "huge.wav": huge.getvalue(),
        "cut.flac": coded["flac"][: len(coded["flac"]) // 2],
        "damaged.flac": coded["flac"][:3000] + bytes(2000) + coded["flac"][5000:],
        "cut.ogg": coded["ogg"][: len(coded["ogg"]) // 2],
        "head.mp3": coded["mp3"][:40],
        "noise.mp3": b"\xff\xfb" + noise.tobytes()[:4000],
        "id3.mp3": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(200),
        "aiff.aiff": b"FORM\0\0\0\x10AIFFCOMM" + bytes(8),
        "au.au": b".snd" + b"\xff" * 60,
    }
    for name, data in files.items():
        Path(f"bad-{name}").write_bytes(data)
    Path("bad-folder.wav").mkdir()
    Path("bad-link.wav").symlink_to("nowhere.wav")
    Path("bad-loop.wav").symlink_to("bad-loop.wav")
    os.mkfifo("bad-pipe.wav")
    with tarfile.open("bad-shard.tar", "w") as tar:
        member = tarfile.TarInfo("0.wav")
        member.size = len(whole)
        tar.addfile(member, io.BytesIO(whole))
    Path("bad-cut.tar").write_bytes(Path("bad-shard.tar").read_bytes()[:4000])
    Path("bad-text.tar").write_bytes(b"x" * 3000)


AUDIO = (
    *("empty.wav", "header.wav", "short.wav", "cut.wav", "text.wav", "zip.wav", "rate-0.wav", "rate-high.wav"),
    *("rate-low.wav", "channels-0.wav", "codec.wav", "nan.wav", "huge.wav", "cut.flac", "damaged.flac"),
    *("cut.ogg", "head.mp3", "noise.mp3", "id3.mp3", "aiff.aiff", "au.au", "folder.wav", "link.wav", "loop.wav"),
    *("pipe.wav", "shard.tar::1.wav", "cut.tar::0.wav", "text.tar::0.wav", "none.tar::0.wav", "shard.tar"),
)


def write_bad_models() -> None:
    """bad-model-NAME: the released model with one thing wrong in its manifest or .tflite."""
    record = json.loads((RELEASED / "manifest.json").read_text())
    data = (RELEASED / "model.tflite").read_bytes()
    for name, (keys, value) in MANIFESTS.items():
        folder = Path(f"bad-model-{name}")
        shutil.copytree(RELEASED, folder)
        changed = json.loads(json.dumps(record))
        part = changed
        for key in keys[:-1]:
            part = part[key]
        if value is None:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value
        (folder / "manifest.json").write_text(json.dumps(changed))
    for name, found in {"cut": data[:1000], "empty": b"", "text": b"TFL3" * 100}.items():
        folder = Path(f"bad-model-{name}")
        shutil.copytree(RELEASED, folder)
        (folder / "model.tflite").write_bytes(found)
        about = record["model"] | {"sha256": hashlib.sha256(found).hexdigest(), "bytes": max(1, len(found))}
        (folder / "manifest.json").write_text(json.dumps(record | {"model": about}))
    shutil.copytree(RELEASED, "bad-model-gone")
    Path("bad-model-gone", "model.tflite").unlink()
    shutil.copytree(RELEASED, "bad-weights")
    Path("bad-weights", "weights.safetensors").write_bytes(b"\xff" * 8 + b"{")


MANIFESTS: dict[str, tuple[tuple[str, ...], Any]] = {
    "version": (("version",), 99),
    "outside": (("model", "file"), "../computer/model.tflite"),
    "absolute": (("model", "file"), "/etc/passwd"),
    "dots": (("model", "file"), ".."),
    "sha": (("model", "sha256"), "0" * 64),
    "no-sha": (("model", "sha256"), "x"),
    "size": (("model", "bytes"), 5),
    "scale": (("input", "scale"), -1.0),
    "zero": (("input", "zero_point"), 900),
    "frames": (("frames_per_step",), 0),
    "missing": (("input",), None),
    "more": (("surprise",), 1),
    "hash": (("frontend", "hash"), "0" * 16),
    "phrase": (("phrase",), 7),
}
BROKEN = (*MANIFESTS, "cut", "empty", "text", "gone")


def write_bad_corpora() -> None:
    """corpus-NAME.json, with one thing wrong each."""
    shutil.copytree("classes", "corpus")
    done = CliRunner().invoke(main, ["corpus", "import", "corpus", "--phrase", "hey", "--out", "corpus.json"])
    assert done.exit_code == 0, done.output
    good = json.loads(Path("corpus.json").read_text())
    first = good["entries"][0]
    changes = {
        "version": {"version": 0},
        "entries": {"entries": "all"},
        "entry": {"entries": [7]},
        "twice": {"entries": [first, first]},
        "split": {"entries": [first | {"split": "dev"}]},
        "seconds": {"entries": [first | {"seconds": -1}]},
        "kind": {"entries": [first | {"kind": "speech"}]},
        "path": {"entries": [first | {"path": ""}]},
        "gone": {"entries": [first | {"path": "gone.wav"}]},
        "speaker": {
            "entries": [first | {"speaker": "a", "split": split, "path": split} for split in ("train", "test")]
        },
        "phrase": {"phrase": None},
        "root": {"root": 5},
    }
    for name, change in changes.items():
        Path(f"corpus-{name}.json").write_text(json.dumps(good | change))


CORPORA = ("version", "entries", "entry", "twice", "split", "seconds", "kind", "path", "speaker", "phrase", "root")
WORD = "phrase: hey atlas\nname: hey_atlas\npronunciations: [hˈA ˈætləs]\n"
WAKEWORDS = {
    "empty": "",
    "list": "[1]",
    "key": WORD + "surprise: 1\n",
    "name": WORD.replace("hey_atlas", "../hey"),
    "phrase": WORD.replace("hey atlas", "7 & 8 §"),
    "phonemes": WORD.replace("hˈA ˈætləs", "XYZ§"),
    "none": WORD.replace("[hˈA ˈætləs]", "[]"),
    "near": WORD + "near_phrases: [hey atlas]\n",
    "voice": WORD + "voices: {nobody: 1.0}\n",
    "weight": WORD + "voices: {espeak-ng: -1}\n",
    "rate": WORD + "target_fa: .inf\n",
    "target": WORD + "target: esp8266\n",
    "seed": WORD + f"seed: {BIG}\n",
    "corpora": WORD + "corpora: [gone/manifest.csv]\n",
    "binary": "\udcff\udcfe\0\0",
    "tag": WORD + "text_alone: !!python/name:os.system\n",
}


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
    write_bad_audio(noise)
    write_bad_models()
    write_bad_corpora()
    for name, text in WAKEWORDS.items():
        Path(f"word-{name}").mkdir()
        Path(f"word-{name}", "wakeword.yaml").write_text(text, errors="surrogateescape")
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
    *(("detect", f"bad-{name}") for name in AUDIO),
    *(("detect", "a.wav", "--model", f"bad-model-{name}") for name in BROKEN),
    *(("build", "--model", name) for name in ("bad-weights", "a.wav")),
    *(("export", "esphome", "--model", name, "--out", "esphome") for name in ("bad-weights", "gone", "a.wav")),
    *(("corpus", "scan", f"corpus-{name}.json") for name in CORPORA),
    ("corpus", "pack", "corpus-gone.json", "shards"),
    *(
        ("corpus", "get", *rest)
        for rest in (("gone",), ("esc50", "--part", "gone"), ("esc50", "--archive", "gone.zip"))
    ),
    *(("make", f"word-{name}", "--effort", "smoke") for name in WAKEWORDS),
    *(("make", name) for name in ("gone", "a.wav", "classes")),
    *(("new", phrase, "--out", "new") for phrase in ("", "   ", "12 34", "§§", "x" * 300)),
    *(("new", "hey atlas", "--out", out) for out in ("classes", "a.wav", "a.wav/x")),
    ("say", "hey atlas", "--voice", "nobody", "--out", "said"),
    ("synth", "hey atlas", "--voice", "nobody", "--out", "synth"),
    ("synth", "hey atlas", "--voice", "espeak-ng", "--positives", "-1", "--out", "synth"),
    *(("release", *rest) for rest in (("gone", "out"), ("classes", "out"), ("a.wav", "out"))),
    *(("report", name) for name in ("gone", "classes", "a.wav")),
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
