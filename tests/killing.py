"""`kill -9` at random moments of make, train, build, synth and corpus get: all that is left is whole, the end the same.

As a program: `python tests/killing.py --kills 50 --json kills.json`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from corpus_server import Server
from edgewake.assets import corpora
from edgewake.assets.corpora import Archive, ArchiveFile, Corpus, Rule
from edgewake.cli import main
from edgewake.config.presets import get_preset
from edgewake.data.importing import import_folder
from edgewake.synthesis import engines
from making_with_tones import MAKERS, write_folder

RELEASED = Path(__file__).resolve().parents[1] / "models" / "computer"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
PREPARED = "prepared"  # what is there before the command, in its folder


class Case:
    """One command: what it needs in an empty folder, how it is typed, and where its result lies.

    Args:
        span: mean time to a kill, of the undisturbed time. Times are drawn from an exponential distribution: any
            moment is as likely, and a run is killed several times, but none for ever.
        modules: imported before the calls are forked, so that a kill meets the work and not the imports.
    """

    span = 0.25
    modules: tuple[str, ...] = ()
    results: tuple[str, ...] = ("result",)

    def prepare(self) -> None:
        """Write what the command needs into the working folder."""

    def arguments(self) -> list[str]:
        """What is typed now, in the working folder."""
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[None]:
        """What has to run beside the command."""
        yield

    def patch(self) -> None:
        """Called in the process of the command before it."""


class Make(Case):
    """The whole way, with tones for voices."""

    span = 0.1
    modules = ("edgewake.making.make", "edgewake.commands.make", "edgewake.training.run", "edgewake.conversion.chain")
    results = ("hey_atlas",)

    def prepare(self) -> None:
        write_folder(Path("hey_atlas"))

    def arguments(self) -> list[str]:
        return ["make", "hey_atlas", "--effort", "smoke", "--workers", "1"]

    def patch(self) -> None:
        engines._MAKERS.update(MAKERS)


class Train(Case):
    """A training with an average, mining, two phases and checkpoints within epochs."""

    modules = ("edgewake.commands.train", "edgewake.conversion.chain")

    def prepare(self) -> None:
        write_tones(Path(PREPARED))
        config = get_preset("smoke")
        config.data.manifest, config.data.phrase = f"{PREPARED}/manifest.json", "hey"
        config.data.audio_duration, config.data.positive_renders = 0.9, 4
        config.training.threads, config.training.checkpoint_steps = 1, 7
        config.training.epochs, config.training.batches_per_epoch = 4, 30
        config.save(Path(PREPARED, "config.yaml"))

    def arguments(self) -> list[str]:
        begun = Path("result/checkpoints/last.pt").exists()
        return ["train", f"{PREPARED}/config.yaml", "--out", "result", *(["--resume"] if begun else [])]


class Build(Case):
    """The released model, over the build of another one."""

    modules = ("edgewake.commands.build", "edgewake.builder.build")

    def arguments(self) -> list[str]:
        return ["build", "--model", str(RELEASED), "--out", "result"]


class Synth(Case):
    """Clips by espeak-ng in two processes."""

    modules = ("edgewake.commands.synthesis", "edgewake.synthesis.synthesize")

    def arguments(self) -> list[str]:
        counts = ["--positives", "24", "--near", "12", "--sentences", "12", "--workers", "2"]
        return ["synth", "hey atlas", "--out", "result", "--voice", "espeak-ng", *counts]


class CorpusGet(Case):
    """An archive of 300 recordings from a slow server of this machine."""

    modules = ("edgewake.commands.corpus", "edgewake.data.fetching", "huggingface_hub.file_download")
    results = ("result",)

    def __init__(self) -> None:
        self.server = Server()
        self.server.pause_s = 0.03
        out = io.BytesIO()
        noise = np.random.default_rng(0).integers(-9000, 9000, 2400).astype(np.int16)
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for number in range(300):
                wav = io.BytesIO()
                sf.write(wav, np.roll(noise, number), 16000, format="WAV")
                member = tarfile.TarInfo(f"corpus/s{number % 10}/{number}.wav")
                member.size = wav.tell()
                wav.seek(0)
                archive.addfile(member, wav)
        content = self.server.files["sample.tar.gz"] = out.getvalue()
        file = ArchiveFile(
            self.server.url("sample.tar.gz"), len(content) / 1e9, f"sha256:{hashlib.sha256(content).hexdigest()}"
        )
        rule = Rule(pattern=r"corpus/(?P<speaker>\w+)/[^/]+\.wav$", kind="negative", language="en")
        page = "https://example.org/corpus"
        self.corpus = Corpus("sample", "ten people", "CC0-1.0", "no", page, (Archive("all", (file,)),), (rule,))

    def arguments(self) -> list[str]:
        return ["corpus", "get", "sample", "--out", "result"]

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.server.server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.server.server.shutdown()
            thread.join()

    def patch(self) -> None:
        corpora.CORPORA = (self.corpus,)
        importlib.import_module("huggingface_hub.constants").DOWNLOAD_CHUNK_SIZE = 1 << 14


CASES: dict[str, Callable[[], Case]] = {
    "build": Build,
    "corpus get": CorpusGet,
    "synth": Synth,
    "train": Train,
    "make": Make,
}


def write_tones(root: Path) -> None:
    """A small corpus: rising tones are the phrase, falling ones are not."""
    time_s = np.arange(16000) / 16000
    for label, slope in (("hey", 900.0), ("other", -900.0)):
        for index, split in enumerate(("train", "train", "val", "test")):
            tone = 0.2 * np.sin(2 * np.pi * (900 + 60 * index + slope * time_s / 2) * time_s)
            path = root / label / split / f"v{label}{index}_a.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, tone * ((time_s > 0.3) & (time_s < 0.8)), 16000)
    import_folder(root, "hey", speaker_pattern=r"(?P<speaker>v\w+\d)_").save(root / "manifest.json")


def call(case: Case, place: Path, kill_after_s: float | None = None) -> bool:
    """Run the command in `place`, in a process and session of its own; whether it ended before it was killed."""
    os.chdir(place)
    arguments = case.arguments()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            os.environ.update(ENVIRONMENT, EDGEWAKE_CACHE=str(place / "cache"), EDGEWAKE_ASSETS=str(place / "assets"))
            os.environ.pop("EDGEWAKE_CORPORA", None)
            log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            case.patch()
            try:
                main(arguments, prog_name="edgewake")
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            sys.stdout.flush()
        finally:
            os._exit(code)
    until = None if kill_after_s is None else time.monotonic() + kill_after_s
    while True:
        done, status = os.waitpid(child, 0 if until is None else os.WNOHANG)
        if done:
            if status:
                raise AssertionError(f"{arguments} ended with {status}: {(place / 'log').read_text()[-2000:]}")
            return True
        if until is not None and time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return not os.WIFSIGNALED(status)
        time.sleep(0.002)


def contents(case: Case, place: Path) -> dict[str, str]:
    """SHA-256 of every file of the result by its path, hidden ones included.

    Each call of a training has a file for TensorBoard, with its time in the name: those are left out.
    """
    paths = [path for name in case.results for path in (place / name).rglob("*") if path.is_file()]
    paths = [path for path in paths if ".tfevents." not in path.name]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# A make's report has minutes of each stage, which two runs may share by chance.
ROUNDED_TIMES = ("report.html",)


def check_readable(path: Path) -> None:
    """Raise whatever a reader of the file raises where it is half written."""
    if path.suffix in (".json", ".flac", ".wav", ".csv", ".pt", ".safetensors", ".yaml"):
        assert path.stat().st_size, "it is empty"
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix in (".flac", ".wav"):
        audio, _ = sf.read(path)
        assert len(audio) == sf.info(path).frames
    elif path.suffix == ".csv":
        rows = list(csv.reader(line for line in path.open() if not line.startswith("#")))
        assert len({len(row) for row in rows}) == 1, "its rows differ in length"
    elif path.suffix == ".pt":
        importlib.import_module("torch").load(path, weights_only=True)
    elif path.suffix == ".safetensors":
        importlib.import_module("safetensors.numpy").load_file(path)


def half_written(place: Path, expected: dict[str, str]) -> list[str]:
    """Files under their final names that are not whole; `expected` are those that are the same each time.

    Files under hidden names and downloads (NAME.part) are unfinished by their names; logs grow.
    """
    found = []
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        unfinished = any(part.startswith(".") for part in Path(name).parts) or path.suffix == ".part"
        if unfinished or not path.is_file():
            continue
        try:
            check_readable(path)
        except FileNotFoundError:
            continue  # a process of the killed one's may still end
        except Exception as error:
            found.append(f"{name}: {error}")
        if path.suffix not in (".json", ".pt", ".jsonl") and name in expected:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != expected[name]:
                found.append(f"{name}: it is not that of an undisturbed run")
    return found


def kill_often(case: Case, place: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Call the command again and again, killing it, until it was killed `kills` times and has ended.

    Returns:
        seconds (undisturbed), kills, runs (that ended), files (compared), varying (files that two undisturbed runs
        write differently, such as times), half_written and different (what was found; empty when all is well).
    """
    for module in case.modules:
        importlib.import_module(module)
    before, rng = Path.cwd(), random.Random(seed)

    def fresh() -> None:
        os.chdir(before)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        os.chdir(place)
        case.prepare()

    try:
        with case.running():
            wholes, took = [], []
            for _ in range(2):
                fresh()
                began = time.monotonic()
                assert call(case, place)
                took.append(time.monotonic() - began)
                wholes.append(contents(case, place))
            assert wholes[0].keys() == wholes[1].keys(), set(wholes[0]) ^ set(wholes[1])
            same = {
                name: digest
                for name, digest in wholes[0].items()
                if wholes[1][name] == digest and Path(name).name not in ROUNDED_TIMES
            }
            assert same
            record: dict[str, Any] = {"seconds": round(min(took), 2), "kills": 0, "runs": 0, "files": len(same)}
            record |= {"varying": sorted(wholes[0].keys() - same.keys()), "half_written": [], "different": []}
            ended = True
            while record["kills"] < kills or not ended:
                if ended:
                    fresh()
                last = record["kills"] >= kills
                ended = call(case, place, None if last else rng.expovariate(1 / (min(took) * case.span)))
                if not ended:
                    record["kills"] += 1
                    show(record)
                    record["half_written"] += half_written(place, same)
                    continue
                record["runs"] += 1
                end = contents(case, place)
                record["different"] += [f"{name}: missing" for name in sorted(wholes[0].keys() - end.keys())]
                record["different"] += [f"{name}: left over" for name in sorted(end.keys() - wholes[0].keys())]
                record["different"] += [
                    name for name, digest in sorted(same.items()) if end.get(name, digest) != digest
                ]
                show(record)
    finally:
        os.chdir(before)
        shutil.rmtree(place, ignore_errors=True)
    return record


def show(record: dict[str, Any]) -> None:
    """One line about what was done so far."""
    faults = len(record["half_written"]) + len(record["different"])
    print(f"{record['kills']} kills, {record['runs']} runs ended, {faults} faults", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--only", action="append", choices=list(CASES), help="this command alone; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args()
    records = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or CASES:
            records[name] = kill_often(CASES[name](), Path(folder).resolve() / "place", options.kills, options.seed)
            print(name, json.dumps(records[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")
    sys.exit(any(record["half_written"] or record["different"] for record in records.values()))
