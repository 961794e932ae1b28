"""Trainings of an experiment, each in a child process and a folder of its own; finished ones are kept."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgewake.config import WakewordConfig
from edgewake.console import bar, error_console
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.experiments.compare import evaluate_run
from edgewake.experiments.tables import write_tables
from edgewake.io import check_output_folder, make_folder, read_json, write_json
from edgewake.training.run import check_unchanged, train_command
from edgewake.training.runs import RUN_FILES, code_version, record_run, recorded_run

SETTINGS, FIGURES, LOG = "trial.yaml", "figures.json", "log.txt"
# A trial that a killed parent left behind notices within this time, and ends.
_WAIT_S = 150.0
# A training saves between two steps; a validation may be between.
_PATIENCE_S = 120.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Condition:
    """One way to train: its name in tables and folders, and the settings (full keys) that it changes."""

    name: str
    settings: dict[str, Any]

    def apply(self, config: WakewordConfig) -> WakewordConfig:
        """A copy of `config` with the condition's settings."""
        changed = config.model_copy(deep=True)
        for key, value in self.settings.items():
            changed.set(key, value)
        return changed


@dataclass
class Trial:
    """One training: `about` has its condition, seed and (in an ablation) fraction; `figures` are those of `work`.

    `status` is "open" (not run yet), "finished" or "failed", with the reason in `error`.
    """

    folder: Path
    config: WakewordConfig
    about: dict[str, Any]
    status: str = "open"
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """All that it printed."""
        return self.folder / LOG

    def json(self) -> dict[str, Any]:
        """Plain values."""
        known = {"name": self.name, **self.about, "status": self.status}
        return known | {"figures": self.figures, "log": str(self.log), "error": self.error}


def make_trials(
    config: WakewordConfig, conditions: Sequence[Condition], out: Path, seeds: int, fractions: Sequence[float] = ()
) -> list[Trial]:
    """All trials, seed by seed, so that an experiment that is cut short has whole pairs.

    There are `seeds` from `training.seed` on, and `fractions` for `data.positive_fraction` (none: the
    configuration's own). Trials whose settings do not fit together have failed already, and are not run.
    """
    trials, first = [], config.training.seed
    for seed, fraction, condition in itertools.product(range(first, first + seeds), fractions or (None,), conditions):
        changed = condition.apply(config)
        changed.training.seed = seed
        # A bad condition is a result too; nothing of an experiment is shipped.
        changed.evaluation.lowest_recall = 0.0
        about: dict[str, Any] = {"condition": condition.name, "seed": seed}
        if fraction is not None:
            changed.data.positive_fraction = about["fraction"] = fraction
        name = condition.name + ("" if fraction is None else f"-{fraction:g}")
        trial = Trial(Path(out) / "trials" / file_name(f"{name}-seed{seed}"), changed, about)
        try:
            changed.check()
        except ConfigError as error:
            trial.status, trial.error = "failed", str(error)
        trials.append(trial)
    return trials


def file_name(text: str) -> str:
    """`text` as a folder's name: letters, digits and a few signs."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "-", text).strip("-") or "trial"


def write_results(
    trials: Sequence[Trial],
    summary: dict[str, Any],
    out: Path,
    config: WakewordConfig,
    *,
    command: str,
    draw: Callable[[dict[str, Any], Path], dict[str, str]] | None = None,
    **figures: Any,
) -> dict[str, Any]:
    """Write results.json, results.md with what `draw` makes, and to run.json how the experiment ended.

    Returns:
        What is in results.json.
    """
    failed = [trial.json() for trial in trials if trial.status != "finished"]
    results = summary | {
        "failed": failed,
        "trials": [trial.json() for trial in trials],
        "name": config.config_name,
        "config": config.hash(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(code_version()),
    }
    write_json(out / "results.json", results)
    figures |= {"trials": len(trials), "failed_trials": len(failed)}
    record_run(out, config, None, "failed" if failed else "finished", command=command, **figures)
    write_tables(results, out / "results.md", draw(results, out) if draw and len(failed) < len(trials) else {})
    return results


@contextlib.contextmanager
def locked(folder: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Keep a folder to this process; the lock goes with the process, however that ends."""
    make_folder(folder)
    try:
        with FileLock(folder / ".lock", timeout=wait_s):
            yield
    except Timeout:
        raise EdgewakeError(f"{folder} is in use: another process works on this {what}; wait or stop it") from None


def load_stored(trial: Trial, splits: Sequence[str]) -> None:
    """Take over the figures that an earlier run of the experiment left, where they cover `splits`."""
    settings, figures = trial.folder / SETTINGS, trial.folder / FIGURES
    if trial.status != "open" or not settings.exists():
        return
    check_unchanged(trial.config, settings)
    if figures.exists():
        found = read_json(figures, "figures")
        if set(splits) <= set(found["splits"]):
            trial.status, trial.figures = "finished", found


def run_trials(
    trials: Sequence[Trial], out: Path, config: WakewordConfig, *, command: str, jobs: int, splits: Sequence[str]
) -> None:
    """Run what is open of `trials`, `jobs` at a time; afterwards each is finished or failed.

    What trials share (rendered clips, teachers' outputs) the first that needs it makes, and others wait for it
    (see `Cache`). With several jobs each has one thread. Ctrl-C and SIGTERM let running trials save and stop them; a
    second one ends them at once. `out`/run.json says meanwhile that the experiment runs, or how it was cut short.
    """
    check_output_folder(out, RUN_FILES, "experiment")
    with locked(out, "experiment"):
        for trial in trials:
            load_stored(trial, splits)
        waiting = [trial for trial in trials if trial.status == "open"]
        if not waiting:
            return
        if len(waiting) < len(trials):
            error_console.print(f"{len(trials) - len(waiting)} of {len(trials)} trials have ended already")
        # From here on SIGTERM does what Ctrl-C does.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with recorded_run(out, config, command=command), bar("trials", len(waiting)) as advance:
                _run(waiting, jobs, splits, len(trials), advance)
        except KeyboardInterrupt:
            done = sum(trial.status == "finished" for trial in trials)
            error_console.print(
                f"interrupted: {done} of {len(trials)} trials are finished; the same command continues with the rest",
                soft_wrap=True,
            )
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)


def _run(
    waiting: list[Trial], jobs: int, splits: Sequence[str], total: int, advance: Callable[[int, str | None], None]
) -> None:
    """Start trials as others end, print how each ended, and show which ones run."""
    began, left, done = time.monotonic(), list(waiting), 0
    running: dict[subprocess.Popen[bytes], Trial] = {}
    try:
        while left or running:
            while left and len(running) < jobs:
                trial = left.pop(0)
                running[_start(trial, splits, one_thread=jobs > 1)] = trial
                advance(0, ", ".join(each.name for each in running.values()))
            for child in [child for child in running if child.poll() is not None]:
                trial = running.pop(child)
                _close(child, trial)
                done += 1
                minutes = (time.monotonic() - began) / done * (len(waiting) - done) / 60
                position = f"[{total - len(waiting) + done:>{len(str(total))}}/{total}]"
                _show(trial, position, f"  about {minutes:.0f} min left" if minutes > 1.5 else "")
                advance(1, None)
            time.sleep(_POLL_S)
    finally:
        _stop(running)


def _show(trial: Trial, position: str, rest: str) -> None:
    """Print how a trial ended, and how long the others may take."""
    if trial.status == "failed":
        shown, style = f"FAILED: {trial.error} ({trial.log})", "red"
    else:
        recalls = [f"{split} recall {values['recall_mean']:.1%}" for split, values in trial.figures["splits"].items()]
        figures = [f"score {trial.figures['score']:.4f}", f"F1 {trial.figures['f1']:.1%}", *recalls]
        shown, style = "  ".join(figures) + rest, None
    error_console.print(f"{position} {trial.name}  {shown}", style=style, markup=False, soft_wrap=True)


def _start(trial: Trial, splits: Sequence[str], *, one_thread: bool) -> subprocess.Popen[bytes]:
    config, environment = trial.config.model_copy(deep=True), os.environ | {"PYTHONUNBUFFERED": "1"}
    if one_thread:
        config.training.threads = 1
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    make_folder(trial.folder)
    config.save(trial.folder / SETTINGS)
    with trial.log.open("a") as log:
        log.write(f"---- {time.strftime('%Y-%m-%d %H:%M:%S')} {trial.name}\n")
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", "edgewake.experiments.trials", str(trial.folder), *splits],
            # The child ends when this pipe closes, as it does with this process.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C in the terminal is for the parent, which passes it on once.
            start_new_session=True,
        )


def _close(child: subprocess.Popen[bytes], trial: Trial) -> None:
    """Take over how an ended child's trial came out."""
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
    if child.returncode == 0:
        trial.status, trial.figures = "finished", read_json(trial.folder / FIGURES, "figures")
        return
    lines = [line.strip() for line in trial.log.read_text(errors="replace").splitlines() if line.strip()]
    killed = f"killed by signal {-child.returncode}" if child.returncode < 0 else ""
    trial.status, trial.error = "failed", killed or lines[-1].removeprefix("error: ")


def _stop(running: dict[subprocess.Popen[bytes], Trial]) -> None:
    """Let children that still run save and end."""
    if not running:
        return
    error_console.print(f"stopping {len(running)} trials, which save first; Ctrl-C again ends them at once")
    for child in running:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT)
    patience = _PATIENCE_S
    for child in running:
        try:
            child.wait(patience)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            patience = 0.0
            child.kill()
            child.wait()


def work(folder: Path, splits: Sequence[Any]) -> dict[str, Any]:
    """Train in `folder` with the settings of its trial.yaml, evaluate the result, and write figures.json.

    Training continues from its last checkpoint, and a trained run is only evaluated on the splits that are missing.
    Figures are f1, score, epochs, steps, best_checkpoint, teacher (or None), seconds (of training, None if it was
    interrupted), and those of `evaluate_run` in splits.
    """
    config, result_file = WakewordConfig.load(folder / SETTINGS), folder / "result.json"
    before = read_json(folder / FIGURES, "figures") if (folder / FIGURES).exists() else {}
    seconds, done = before.get("seconds"), before.get("splits", {})
    if result_file.exists():
        result = read_json(result_file, "result")
    else:
        record_run(folder, config, None, "running")
        began, resume = time.monotonic(), (folder / "checkpoints" / "last.pt").exists()
        result = train_command(config, folder, resume)
        seconds = None if resume else round(time.monotonic() - began, 1)
    figures = {"f1": result["best_f1"], "score": result["best_score"], "seconds": seconds}
    figures |= {name: result.get(name) for name in ("epochs", "steps", "best_checkpoint", "teacher")}
    figures["splits"] = done | evaluate_run(folder, [split for split in splits if split not in done])
    write_json(folder / FIGURES, figures)
    return figures


def watch_parent() -> None:
    """End this process as Ctrl-C would when its parent is gone: the pipe to it then closes."""

    def wait() -> None:
        # Unbuffered: a buffer's lock would be in the way of the interpreter's end.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def main(folder: Path, splits: Sequence[str]) -> int:
    """Run the trial in `folder`; a failure is the last line that is printed. Returns the exit code."""
    try:
        watch_parent()
        with locked(folder, "trial", wait_s=_WAIT_S):
            work(folder, splits)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    except EdgewakeError as error:
        print(f"error: {' '.join(str(error).split())}")
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
