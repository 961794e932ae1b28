"""The folder that the page works in: no path leaves it, and one training at a time runs in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgewake.builder.user_files import REPORT
from edgewake.config import WakewordConfig
from edgewake.conversion.convert import MODEL
from edgewake.data.reading import Samples, write_audio
from edgewake.errors import EdgewakeError
from edgewake.io import make_folder, read_json, write_json, write_text
from edgewake.runtime.model_manifest import FILE as MANIFEST
from edgewake.synthesis.wakeword import FILE as WAKEWORD
from edgewake.training.runs import RECORD, Run, flatten, identity, is_alive, load_run

# Kept by the page: the configuration as it was left, the training that was started, what it printed, and files to
# listen to and to download.
STATE, DRAFT, JOB, LOGS, SAMPLES, DOWNLOADS = ".ui", "config.yaml", "job.json", "logs", "samples", "downloads"
CONFIGS, RUNS, METRICS = "config", "runs", "metrics.jsonl"
WEIGHTS = "weights.safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]{0,79}")
LOG_BYTES = 20_000
# Texts of the configuration that are neither paths nor hold any.
_NO_PATHS = ("config_name", "description", "data.phrase")


@dataclass(frozen=True)
class Job:
    """A command that the page started: its name, what follows `edgewake`, and the process."""

    name: str
    arguments: list[str]
    process: dict[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return is_alive(self.process)


class Project:
    """A folder with configurations, runs and wake words, as the commands leave them in their working folder.

    Raises:
        EdgewakeError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise EdgewakeError(f"{folder} is no folder: make it, or name another one")
        self._state = self.folder / STATE

    # ---- paths -----------------------------------------------------------------------------------

    def inside(self, text: str | Path) -> Path:
        """A path from the folder on. An error where it leaves the folder; links in it are the owner's, and followed."""
        path = Path(os.path.normpath(self.folder / text))
        if "\0" in str(text) or not path.is_relative_to(self.folder):
            raise EdgewakeError(f"{text!s:.200} is outside of {self.folder}: the page takes paths in its folder alone")
        return path

    def shown(self, path: Path) -> str:
        """A path as the page names it: from the folder on."""
        return path.relative_to(self.folder).as_posix()

    def named(self, name: str) -> str:
        """A name of a run or configuration, checked: it becomes that of a file or folder."""
        if not NAME.fullmatch(name):
            raise EdgewakeError(
                f"name {name!r:.90}: give 1 to 80 letters, digits and _.+=-, the first a letter or digit"
            )
        return name

    def check_paths(self, config: WakewordConfig) -> None:
        """An error where a setting names a path outside of the folder."""
        for key, value in flatten(config.model_dump()).items():
            texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else ()
            for text in texts:
                # A teacher may be ARCHITECTURE:PATH.
                for part in (text, text.partition(":")[2]) if isinstance(text, str) and key not in _NO_PATHS else ():
                    try:
                        self.inside(part)
                    except EdgewakeError as error:
                        raise EdgewakeError(f"{key}: {error}") from None

    # ---- what is there ---------------------------------------------------------------------------

    def configurations(self) -> list[str]:
        """YAML files of the folder and of its folder `config`, as paths from the folder on."""
        found = [path for place in (self.folder, self.folder / CONFIGS) for path in sorted(place.glob("*.y*ml"))]
        return [self.shown(path) for path in found if path.name != WAKEWORD]

    def words(self) -> list[str]:
        """Folders of wake words, as `edgewake new` makes them."""
        return [self.shown(path.parent) for path in sorted(self.folder.glob(f"*/{WAKEWORD}"))]

    def runs(self) -> list[str]:
        """Folders of runs: those of the page and of the command line, and those of wake words; the newest first."""
        found = [*self.folder.glob(f"{RUNS}/*/{RECORD}"), *self.folder.glob(f"*/run/*/{RECORD}")]
        return [self.shown(path.parent) for path in sorted(found, key=lambda path: -path.stat().st_mtime)]

    def run(self, name: str) -> Run:
        """The record of a run; one that is damaged has the status "unreadable"."""
        folder = self.inside(name)
        try:
            return load_run(folder)
        except EdgewakeError as error:
            return Run(folder.name, "unreadable", "", "", figures={"error": str(error)})

    def models(self) -> list[str]:
        """Folders with a model that can detect: released models and builds, not those of a model beside them."""
        found = [place for place in self._with(MODEL) if (self.folder / place / MANIFEST).is_file()]
        # Which was measured; the build is of the same bytes.
        beside = {f"{place.removesuffix('model')}build" for place in found if place.endswith("/model")}
        return [place for place in found if place not in beside]

    def trained(self) -> list[str]:
        """Folders with the weights of a model, which can be built; not the builds."""
        return [place for place in self._with(WEIGHTS) if not (self.folder / place / REPORT).is_file()]

    def _with(self, name: str) -> list[str]:
        found = [path for depth in (1, 2, 3) for path in self.folder.glob("/".join(["*"] * depth + [name]))]
        places = sorted({path.parent.relative_to(self.folder) for path in found})
        return [place.as_posix() for place in places if not any(part.startswith(".") for part in place.parts)]

    @property
    def samples(self) -> Path:
        """Samples of phrases to listen to."""
        return self._state / SAMPLES

    def playable(self, samples: Samples) -> str:
        """A file of samples, int16 at 16 kHz; Gradio would scale an array to its peak."""
        path = self.samples / f"{hashlib.sha256(samples.tobytes()).hexdigest()[:32]}.wav"
        if not path.is_file():
            write_audio(path, samples)
        return str(path)

    @property
    def downloads(self) -> Path:
        """Copies of what can be downloaded."""
        return self._state / DOWNLOADS

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """The lines of a run's metrics.jsonl that are whole."""
        path = self.inside(name) / METRICS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    # ---- the configuration as it was left --------------------------------------------------------

    def draft(self) -> WakewordConfig:
        """The configuration that the page was left with; the defaults at first."""
        path = self._state / DRAFT
        return WakewordConfig.load(path, check=False) if path.is_file() else WakewordConfig()

    def keep_draft(self, config: WakewordConfig) -> None:
        """Keep the configuration for when the page is opened again."""
        write_text(self._state / DRAFT, config.to_yaml())

    # ---- the one training ------------------------------------------------------------------------

    def job(self) -> Job | None:
        """What the page started last, whether or not it goes on."""
        path = self._state / JOB
        return Job(**read_json(path, "record of the training")) if path.is_file() else None

    def log(self, name: str) -> str:
        """The end of what a job printed."""
        path = self._state / LOGS / f"{self.named(name)}.log"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
        # A bar is drawn again and again after a carriage return.
        return "\n".join(line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))

    def train(self, config: WakewordConfig, name: str) -> Job:
        """Start `edgewake train` in runs/NAME, with the configuration as config/NAME.yaml."""
        folder = self.folder / RUNS / self.named(name)
        if (folder / RECORD).exists():
            raise EdgewakeError(f"{RUNS}/{name} holds a run already: resume it, or give another name")
        self.check_paths(config)
        with self._free():
            config.save(self.folder / CONFIGS / f"{name}.yaml")
            return self._start(name, ["train", f"{CONFIGS}/{name}.yaml", "--out", f"{RUNS}/{name}"])

    def resume(self, run: str) -> Job:
        """Go on with a run, with the settings that it began with."""
        folder = self.inside(run)
        if folder.parent.parent != self.folder or folder.parent.name != RUNS:
            raise EdgewakeError(f"{run} is no run of {RUNS}/: edgewake make goes on with those of a wake word")
        with self._free():
            arguments = ["train", f"{RUNS}/{folder.name}/config.yaml", "--out", f"{RUNS}/{folder.name}", "--resume"]
            return self._start(folder.name, arguments)

    def make(self, word: str, effort: str) -> Job:
        """Start or go on with `edgewake make` of a wake word's folder."""
        folder = self.inside(word)
        if not (folder / WAKEWORD).is_file():
            raise EdgewakeError(f"{word} has no {WAKEWORD}: begin the wake word in the panel Phrase")
        with self._free():
            return self._start(folder.name, ["make", self.shown(folder), "--effort", effort])

    def stop(self) -> None:
        """What Ctrl-C does: the training saves and ends; a second time ends it at once."""
        job = self.job()
        if job is None or not job.running:
            raise EdgewakeError("no training is in progress")
        os.kill(int(job.process["id"]), signal.SIGINT)

    def _in_progress(self) -> str:
        """The training that runs here, begun by the page or by a command; "" without one."""
        if (job := self.job()) and job.running:
            return job.name
        for name in self.runs():
            record = self.run(name)
            # Of a run that another machine began it is not known whether it still goes on.
            if record.status == "running" and record.process.get("machine") == socket.gethostname():
                return name
        return ""

    @contextmanager
    def _free(self) -> Iterator[None]:
        """Within, nobody else starts a training; an error where one is in progress."""
        make_folder(self._state)
        try:
            with FileLock(self._state / ".lock", timeout=0):
                if busy := self._in_progress():
                    raise EdgewakeError(f"{busy} is in progress: stop it, or wait; a project trains one at a time")
                yield
        except Timeout:
            raise EdgewakeError("another page starts a training in this project: wait") from None

    def _start(self, name: str, arguments: Sequence[str]) -> Job:
        """Run `edgewake ARGUMENTS` in the folder, on its own: it goes on when the page ends."""
        log = self._state / LOGS / f"{self.named(name)}.log"
        make_folder(log.parent)
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "120"}
        with log.open("wb") as output:
            child = subprocess.Popen(
                # -P: files of the folder are data, and no modules.
                [sys.executable, "-P", "-m", "edgewake", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        # A child that nobody waits for would count as running after its end.
        threading.Thread(target=child.wait, daemon=True).start()
        job = Job(name, list(arguments), identity(child.pid))
        write_json(self._state / JOB, asdict(job))
        return job
