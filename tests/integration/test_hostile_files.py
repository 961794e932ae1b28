"""Files from outside with any damage are read, or refused in one line; none runs code or writes outside its folder.

EDGEWAKE_FUZZ_EXAMPLES sets how many damaged copies of each kind of file are tried.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edgewake.assets.archives import unpack
from edgewake.config import WakewordConfig
from edgewake.data.importing import corpus_entries
from edgewake.data.manifest import CorpusManifest
from edgewake.data.ragged import RaggedFeatures
from edgewake.data.reading import read_audio, read_duration
from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.model_manifest import load_manifest
from edgewake.synthesis.wakeword import read_wakeword
from edgewake.teachers.registry import load_teacher
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.runs import load_run

pytestmark = pytest.mark.slow

RELEASED = Path(__file__).resolve().parents[2] / "models" / "computer"
EXAMPLES = int(os.environ.get("EDGEWAKE_FUZZ_EXAMPLES", "40"))
WORD = b"phrase: hey atlas\nname: hey_atlas\npronunciations: ['h\xcb\x88A \xcb\x88\xc3\xa6tl\xc9\x99s']\nseed: 3\n"
TABLE = b"path,kind,phrase,family,speaker,language,seconds,split,quality\na.wav,negative,,x,ann,en,1.0,train,ok\n"
# What parsers are said to stumble over.
VALUES = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 400, b"0.1", b'""', b"[]", b"{}", b"[[[[[[]]]]]]"),
    *(
        b'"../../x"',
        b'"/etc/passwd"',
        b'"\\u0000"',
        b'"\\ud800"',
        b'"' + b"x" * 300 + b'"',
        b"*a",
        b"&a",
        b"!!python/x",
    ),
    *(
        b"\xff\xfe",
        b"\0",
        b"\r",
        b"# ",
        b"---\n",
        b"<<: ",
        b"2001-01-01",
        b"0x1f",
        b"1_000",
        b"\xe2\x80\xa8",
        b",",
        b'"',
    ),
)
Reader = Callable[[Path], object]


def tarball() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("a/b.wav", "a/c.wav"):
            member = tarfile.TarInfo(name)
            member.size = 300
            archive.addfile(member, io.BytesIO(bytes(300)))
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.wav", bytes(300))
    return out.getvalue()


def saved(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def audio(suffix: str) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
    soundfile.write(out, noise, 16000, format=suffix.upper())
    return out.getvalue()


def corpus() -> bytes:
    entry = {"path": "a.wav", "kind": "negative", "label": "negative", "phrase": "", "speaker": "ann", "split": "train"}
    entry |= {"seconds": 1.0, "licence": "", "source": ""}
    return json.dumps({"version": 1, "phrase": "hey", "root": ".", "entries": [entry]}).encode()


def read_wav_or_duration(path: Path) -> None:
    read_duration(path)
    read_audio(path, max_seconds=60)


def into_folder(path: Path) -> None:
    target = path.parent / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    unpack([path], target)


# Name of the file, its right content, and what reads it. Beside it lies what else the reader needs.
KINDS: dict[str, tuple[str, Callable[[], bytes], Reader]] = {
    "model manifest": ("manifest.json", (RELEASED / "manifest.json").read_bytes, load_manifest),
    "model description": ("model.json", (RELEASED / "model.json").read_bytes, lambda p: DeployedModel.load(p.parent)),
    "weights": (
        "weights.safetensors",
        (RELEASED / "weights.safetensors").read_bytes,
        lambda p: DeployedModel.load(p.parent),
    ),
    "corpus manifest": ("corpus.json", corpus, CorpusManifest.load),
    "corpus table": ("manifest.csv", lambda: TABLE, lambda p: corpus_entries(p, "hey")),
    "configuration": ("config.yaml", (RELEASED / "config.yaml").read_bytes, WakewordConfig.load),
    "wake word": ("wakeword.yaml", lambda: WORD, lambda p: read_wakeword(p.parent)),
    "checkpoint": (
        "last.pt",
        lambda: saved({"model": {"a": torch.ones(3)}, "step": 4}),
        lambda p: CheckpointManager(p.parent).load(),
    ),
    "teacher": ("teacher.pt", lambda: saved({"edgewake_teacher": 1, "architecture": "wav2vec2"}), load_teacher),
    "record of a run": ("run.json", lambda: b'{"status": "ended", "seconds": 3.0}', lambda p: load_run(p.parent)),
    "tar": ("archive.tar.gz", tarball, into_folder),
    "zip": ("archive.zip", zipped, into_folder),
    **{
        suffix: (f"a.{suffix}", lambda suffix=suffix: audio(suffix), read_wav_or_duration) for suffix in ("wav", "flac")
    },
    **{suffix: (f"a.{suffix}", lambda suffix=suffix: audio(suffix), read_wav_or_duration) for suffix in ("ogg", "mp3")},
}


def damaged(data: bytes, seed: int) -> bytes:
    """A copy with one to three faults: flipped bits, bytes cut off, put in, moved, or a value in another's place."""
    rng, found = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place, kind = rng.randrange(len(found) + 1), rng.randrange(6)
        if kind == 0 and found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[place:]
        elif kind == 2:
            found[place:place] = rng.choice(VALUES)
        elif kind == 3:
            del found[place : place + rng.randrange(1, 40)]
        elif kind == 4:
            values = list(re.finditer(rb'"[^"]*"|-?\d[\d.e+-]*|true|false|null|(?<=: )[^\n]+', bytes(found[:20_000])))
            if values:
                chosen = rng.choice(values)
                found[chosen.start() : chosen.end()] = rng.choice(VALUES)
        else:
            found[place:place] = found[:place][-rng.randrange(1, 200) :]
    return bytes(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    name, make, reader = KINDS[kind]
    shutil.copytree(RELEASED, tmp_path / "folder")
    path, data = tmp_path / "folder" / name, make()
    outside = {found for found in tmp_path.rglob("*") if "unpacked" not in found.parts}
    outcomes, lines = {"read": 0, "refused": 0}, list[str]()

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(st.integers(0, 2**48))
    def one(seed: int) -> None:
        path.write_bytes(damaged(data, seed))
        try:
            reader(path)
            outcomes["read"] += 1
        except EdgewakeError as error:
            outcomes["refused"] += 1
            lines.append(str(error))

    one()
    path.write_bytes(data)
    assert all("\n" not in line and 10 < len(line) < 2000 for line in lines)
    assert outcomes["refused"] > EXAMPLES // 20
    left = {found for found in tmp_path.rglob("*") if "unpacked" not in found.parts and found.name[0] != "."}
    assert left - outside <= {path}


class Malicious:
    """Runs a command where it is unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_from_outside_runs_nothing(tmp_path: Path) -> None:
    mark, out = tmp_path / "mark", tmp_path / "out"
    bad = Malicious(mark)
    pickle.loads(pickle.dumps(bad))
    assert mark.exists()  # as it would
    mark.unlink()
    out.mkdir()
    for name in ("last.pt", "teacher.pt"):
        for content in (pickle.dumps(bad), saved({"model": bad}), saved(bad)):
            (out / name).write_bytes(content)
            with pytest.raises(EdgewakeError, match=r"cannot be read|something else than tensors") as caught:
                (load_teacher if name == "teacher.pt" else CheckpointManager(out).load)(*[out / name])
            assert "\n" not in str(caught.value)
            assert "weights_only" not in str(caught.value)
    ragged = out / "store"
    ragged.mkdir()
    np.save(ragged / "data.ninja", np.array([bad], object), allow_pickle=True)
    (ragged / "data.ninja.npy").rename(ragged / "data.ninja")
    for name in ("starts", "ends", "shapes", "order", "type", "dtype"):
        (ragged / f"{name}.ninja").write_bytes(pickle.dumps(bad))
    with pytest.raises(EdgewakeError):
        RaggedFeatures(ragged, 100, 40)
    for name in ("config.yaml", "wakeword.yaml"):
        (out / name).write_text(f'a: !!python/object/apply:os.system ["touch {mark}"]\n')
        with pytest.raises(EdgewakeError):
            (WakewordConfig.load if name == "config.yaml" else read_wakeword)(out / name if name[0] == "c" else out)
    assert not mark.exists()


def test_nothing_of_the_package_reads_pickles_but_those_of_its_own_processes(repository: Path) -> None:
    unsafe = re.compile(
        r"pickle\.loads?\(|torch\.load\((?!.*weights_only=True)|allow_pickle=True|yaml\.(unsafe_)?load\(|joblib"
    )
    found = {
        f"{path.relative_to(repository / 'toolchain/edgewake')}: {line.strip()}"
        for path in (repository / "toolchain").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if unsafe.search(line)
    }
    assert found == {
        # By a subclass of SafeLoader.
        "config/yaml_text.py: value = yaml.load(text, _Loader)",
        # Between processes of one user's cluster (docs/scaling.md).
        "processes.py: return _started(setup)(*pickle.loads(piece))",
    }


@pytest.mark.parametrize("fault", ["gone", "flipped", "cut", "text"])
@pytest.mark.parametrize(
    "name", ["data.ninja", "starts", "shapes", "dtype.ninja", "type.ninja", "shapes_are_flat.ninja"]
)
def test_a_damaged_store_of_features_is_refused_or_read(name: str, fault: str, tmp_path: Path) -> None:
    ninja = pytest.importorskip("mmap_ninja.ragged")
    rows = [np.random.default_rng(i).integers(0, 600, (300, 40)).astype(np.uint16) for i in range(3)]
    ninja.RaggedMmap.from_lists(tmp_path / "store", rows)
    assert len(RaggedFeatures(tmp_path / "store", 100, 40)) == 3
    for path in [tmp_path / "store" / name, *(tmp_path / "store" / name).rglob("*")]:
        if path.is_file():
            data = path.read_bytes()
            changed = {"flipped": bytes(byte ^ 0x55 for byte in data), "cut": data[: len(data) // 2], "text": b"x" * 99}
            path.unlink() if fault == "gone" else path.write_bytes(changed[fault])
    with suppress(EdgewakeError):
        store = RaggedFeatures(tmp_path / "store", 100, 40)
        store[0, slice(0, 100)]


def test_weights_of_any_shape_are_refused_in_one_line(tmp_path: Path) -> None:
    shutil.copytree(RELEASED, tmp_path / "model")
    save_file({"a": np.zeros((2, 2), np.float32)}, tmp_path / "model" / "weights.safetensors")
    with pytest.raises(EdgewakeError, match="export it again"):
        DeployedModel.load(tmp_path / "model")


def test_aliases_that_stand_for_millions_of_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(["l0: &l0 [x]", *levels]))
    with pytest.raises(EdgewakeError, match="100,000 values; write out"):
        WakewordConfig.load(path)
    path.write_text("[" + path.read_text().replace("\n", "}, {").join("{}") + "]")
    with pytest.raises(EdgewakeError, match="100,000 values; write out"):
        WakewordConfig.load(path)


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewake.assets.archives.ALLOWED_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(16 << 20))
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("a.wav")
        member.size = 16 << 20
        tar.addfile(member, io.BytesIO(bytes(16 << 20)))
    for name in ("bomb.zip", "bomb.tar.gz"):
        with pytest.raises(EdgewakeError, match="are allowed: compare its source") as caught:
            unpack([tmp_path / name], tmp_path / "out")
        assert "16,777,216" in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.tar.gz", "bomb.zip"]
    monkeypatch.setattr("edgewake.assets.archives.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
    monkeypatch.setattr("edgewake.assets.archives.ALLOWED_BYTES", 1 << 30)
    with pytest.raises(EdgewakeError, match="the disk has 1,000 free: free space"):
        unpack([tmp_path / "bomb.zip"], tmp_path / "out")
