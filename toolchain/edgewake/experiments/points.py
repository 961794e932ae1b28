"""Runs many points of an experiment in child processes: finished ones are kept, a failed one ends nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import make_folder, read_json, write_json
from edgewake.training.run import SPEED_ONLY
from edgewake.training.runs import flatten, record_run

SETTINGS, FIGURES, LOG, TASK = "point.yaml", "figures.json", "log.txt", "point.json"
# A point saves between two steps; a validation may be between.
_PATIENCE_S = 120.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Point:
    """One training.

    Attributes:
        name: of its folder, below points/ of the experiment.
        config: all settings.
        about: what tells it from the other points; JSON values.
    """

    name: str
    config: WakewordConfig
    about: dict[str, Any]


@dataclass
class Outcome:
    """How a point ended.

    Attributes:
        status: "finished", "failed", or "open" (not run yet).
        figures: see `worker.work`; empty unless finished.
        error: last line of a failed point's log.
        seconds: that it took just now; 0 when an earlier result was kept.
    """

    point: Point
    folder: Path
    status: str = "open"
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0

    @property
    def log(self) -> Path:
        """All that the point printed."""
        return self.folder / LOG

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.point.name,
            **self.point.about,
            "status": self.status,
            "figures": self.figures,
            "log": str(self.log),
            "error": self.error,
        }


def file_name(text: str) -> str:
    """`text` as a folder's name: letters, digits and a few signs."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "-", text).strip("-") or "point"


# ---- before a point runs -------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Keep a folder to this process; the lock goes with the process, however that ends.

    Raises:
        EdgewakeError: another process has it and does not give it back within `wait_s`.
    """
    make_folder(folder)
    until = time.monotonic() + wait_s
    with (folder / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise EdgewakeError(
                        f"{folder} is in use: another process works on this {what}; wait for it or stop it"
                    ) from None
                time.sleep(_POLL_S)
        yield


def stored_outcome(point: Point, out: Path, splits: Sequence[str]) -> Outcome:
    """What an earlier run of the experiment left of a point.

    Raises:
        ConfigError: it was run with other settings; the message names one.
    """
    outcome = Outcome(point, out / "points" / point.name)
    settings = outcome.folder / SETTINGS
    if not settings.exists():
        return outcome
    check_same(WakewordConfig.load(settings), point.config, outcome.folder)
    figures = outcome.folder / FIGURES
    if figures.exists():
        found = read_json(figures, "figures")
        if set(splits) <= set(found["splits"]):
            outcome.status, outcome.figures = "finished", found
    return outcome


def check_same(before: WakewordConfig, now: WakewordConfig, folder: Path) -> None:
    """Points of one experiment have the settings that they began with, but for those of speed only.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    if before == now:
        return

    free = {*SPEED_ONLY, "config_name", "description"}
    ours, theirs = flatten(now.to_mapping()), flatten(before.to_mapping())
    for key, value in ours.items():
        if key not in free and value != theirs[key]:
            raise ConfigError(
                f"{key} = {value!r}, but {folder} was made with {theirs[key]!r}: restore it, or choose another --out"
            )


# ---- running -------------------------------------------------------------------------------------


def run_points(
    points: Sequence[Point],
    out: Path,
    config: WakewordConfig,
    *,
    command: str,
    jobs: int = 1,
    splits: Sequence[str] = ("val",),
    tell: Callable[[Outcome], str] = lambda outcome: "",
) -> list[Outcome]:
    """Run what is not finished yet of `points`, `jobs` at a time; the order of the result is that of points.

    What points share (rendered clips, teachers' embeddings) is made before the first of them starts. Ctrl-C
    and SIGTERM let the running points save and stop them; a second one ends them at once. `out`/run.json says
    meanwhile that the experiment is running, or how it was cut short.

    Args:
        out: the experiment's folder; a point has its own, points/<name>, with its log.
        config: of the experiment, for its record.
        command: what the experiment is, for its record.
        jobs: processes at a time; with more than one each has one thread.
        splits: whose whole recordings a point is judged on.
        tell: what to say of a finished point, beside its name.

    Raises:
        ConfigError: the folder holds points with other settings.
        EdgewakeError: another process works in the folder.
        KeyboardInterrupt: passed on after the running points were stopped.
    """
    out = Path(out)
    if jobs < 1:
        raise EdgewakeError(f"--jobs {jobs}: at least one point runs at a time")
    with locked(out, "experiment"):
        outcomes = [stored_outcome(point, out, splits) for point in points]
        waiting = [outcome for outcome in outcomes if outcome.status != "finished"]
        if not waiting:
            return outcomes
        kept = len(outcomes) - len(waiting)
        if kept:
            error_console.print(f"{kept} of {len(outcomes)} points are finished already")
        record_run(out, config, None, "running", command=command, points=len(points))
        try:
            with terminating():
                _prepare(waiting, out, splits)
                _Runner(waiting, jobs, splits, tell, kept).run()
        except KeyboardInterrupt:
            record_run(out, config, None, "interrupted", command=command)
            done = sum(outcome.status == "finished" for outcome in outcomes)
            error_console.print(
                f"interrupted: {done} of {len(outcomes)} points are finished; the same command goes on with the rest",
                soft_wrap=True,
            )
            raise
        except BaseException:
            record_run(out, config, None, "failed", command=command)
            raise
    return outcomes


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """Within, SIGTERM does what Ctrl-C does."""

    def handle(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def shared_key(config: WakewordConfig) -> str:
    """Equal for points that share rendered clips and teachers' embeddings."""
    distillation = config.distillation
    teacher = distillation.model_dump(
        mode="json",
        include={
            "enabled",
            "teacher_model_path",
            "teacher_architecture",
            "teacher_name",
            "teachers",
            "frame_weight",
            "hint_weight",
        },
    )
    parts = {
        "data": config.data.model_dump(mode="json", exclude={"positive_fraction"}),
        "augmentation": config.augmentation.model_dump(mode="json"),
        "frontend": config.frontend.hash(),
        "model": [config.model.architecture, config.model.frames_per_step],
        "distillation": teacher if distillation.enabled else None,
        "teacher": config.teacher.model_dump(mode="json") if distillation.enabled else None,
        "cache": [config.cache.folder, distillation.store_outputs],
    }
    return json.dumps(parts, sort_keys=True)


def _prepare(waiting: Sequence[Outcome], out: Path, splits: Sequence[str]) -> None:
    """Make what points share, once; a failure is told, and the points that need it will say why they fail."""
    groups: dict[str, WakewordConfig] = {}
    for outcome in waiting:
        config = outcome.point.config.model_copy(deep=True)
        # Every share of the recordings is a part of all of them.
        config.data.positive_fraction = 1.0
        groups.setdefault(shared_key(config), config)
    folders = [out / "shared" / f"{number:02d}" for number in range(1, len(groups) + 1)]
    for folder, config in zip(folders, groups.values(), strict=True):
        make_folder(folder)
        config.save(folder / SETTINGS)
        write_json(folder / TASK, {"splits": list(splits)})
    with (out / "shared" / LOG).open("w") as log:
        # Its errors and progress bars are for the terminal, and Ctrl-C reaches it from there.
        child = subprocess.Popen(
            [sys.executable, "-m", "edgewake.experiments.worker", "prepare", *map(str, folders)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            env=_environment(threads=None),
        )
        try:
            code = child.wait()
        except BaseException:
            child.terminate()
            _end(child, patience_s=10.0)
            raise
    if code:
        error_console.print(
            f"preparing failed in part, and points that need it will say why: {out / 'shared' / LOG}",
            soft_wrap=True,
        )


class _Runner:
    """Starts points as others end."""

    def __init__(
        self,
        waiting: list[Outcome],
        jobs: int,
        splits: Sequence[str],
        tell: Callable[[Outcome], str],
        kept: int,
    ) -> None:
        self.waiting, self.jobs, self.splits, self.tell = list(waiting), jobs, splits, tell
        self.running: dict[subprocess.Popen[bytes], tuple[Outcome, float]] = {}
        self.began = time.monotonic()
        self.done, self.kept, self.total = 0, kept, kept + len(waiting)

    def run(self) -> None:
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.jobs:
                    self._start(self.waiting.pop(0))
                self._collect()
                time.sleep(_POLL_S)
        finally:
            self._stop()

    def _start(self, outcome: Outcome) -> None:
        folder = outcome.folder
        make_folder(folder)
        config = outcome.point.config.model_copy(deep=True)
        if self.jobs > 1:
            config.training.threads = 1
        config.save(folder / SETTINGS)
        write_json(folder / TASK, {"splits": list(self.splits), **outcome.point.about})
        with outcome.log.open("a") as log:
            log.write(f"---- {time.strftime('%Y-%m-%d %H:%M:%S')} {outcome.point.name}\n")
            log.flush()
            child = subprocess.Popen(
                [sys.executable, "-m", "edgewake.experiments.worker", "train", str(folder), "--watch"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(threads=1 if self.jobs > 1 else None),
                # Ctrl-C in the terminal is for the parent, which tells its children once.
                start_new_session=True,
            )
        self.running[child] = (outcome, time.monotonic())

    def _collect(self) -> None:
        for child, (outcome, began) in list(self.running.items()):
            code = child.poll()
            if code is None:
                continue
            del self.running[child]
            _close(child)
            outcome.seconds = time.monotonic() - began
            self._ended(outcome, code)

    def _ended(self, outcome: Outcome, code: int) -> None:
        self.done += 1
        count = f"[{self.done + self.kept:>{len(str(self.total))}}/{self.total}]"
        figures = outcome.folder / FIGURES
        if code == 0 and figures.exists():
            outcome.status, outcome.figures = "finished", read_json(figures, "figures")
            left = (time.monotonic() - self.began) / self.done * (self.total - self.kept - self.done)
            remaining = f", about {left / 60:.0f} min left" if left > 90 else ""
            shown = f"{outcome.point.name}  {self.tell(outcome)}  {outcome.seconds:.0f} s{remaining}"
            error_console.print(f"{count} {shown}", markup=False, soft_wrap=True)
            return
        outcome.status = "failed"
        outcome.error = f"killed by signal {-code}" if code < 0 else last_line(outcome.log)
        outcome.error = outcome.error.removeprefix("error: ")
        error_console.print(
            f"{count} {outcome.point.name}  FAILED: {outcome.error} ({outcome.log})",
            style="red",
            markup=False,
        )

    def _stop(self) -> None:
        """Let children that still run save and end."""
        if not self.running:
            return
        error_console.print(f"stopping {len(self.running)} points, which save first; Ctrl-C again ends them at once")
        for child in self.running:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)
        patience = _PATIENCE_S
        for child in self.running:
            try:
                child.wait(patience)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                patience = 0.0
                _end(child, patience_s=0.0)
            _close(child)
        self.running.clear()


def _close(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()


def _end(child: subprocess.Popen[bytes], *, patience_s: float) -> None:
    """End a child, after a while by force."""
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _environment(threads: int | None) -> dict[str, str]:
    values = dict(os.environ) | {"PYTHONUNBUFFERED": "1"}
    if threads is not None:
        values |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return values


def last_line(log: Path) -> str:
    """The last line of a log that says something, which is where an error stands."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended without a word")
