"""One point of an experiment, in a process of its own: trains it, or goes on, then judges it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.errors import EdgewakeError
from edgewake.experiments.judge import judge_run, prepare_judging
from edgewake.experiments.points import FIGURES, SETTINGS, TASK, locked
from edgewake.io import read_json, write_json
from edgewake.training.run import prepare as prepare_training
from edgewake.training.run import train_command
from edgewake.training.runs import RECORD, load_run, record_run

# A point that a killed parent left behind notices within this time, and ends.
_HANDOVER_S = 150.0


def work(folder: Path) -> dict[str, Any]:
    """Train the point in `folder` as its point.yaml says, judge it, and write figures.json.

    What is done already is not repeated: training goes on from its last checkpoint, and a point that was
    trained is only judged on the splits that are missing.

    Returns:
        f1, score, epochs, steps, best_checkpoint, teacher (or None), seconds (of training, None if it was
        interrupted), and splits: the figures of `judge.judge_run` by split.
    """

    config = WakewordConfig.load(folder / SETTINGS)
    splits = read_json(folder / TASK, "point")["splits"]
    before = read_json(folder / FIGURES, "figures") if (folder / FIGURES).exists() else {}
    began, resume = time.monotonic(), (folder / "checkpoints" / "last.pt").exists()
    if not (folder / "result.json").exists():
        record_run(folder, config, None, "running")
        result = train_command(config, folder, resume)
    else:
        result = read_json(folder / "result.json", "result")
    seconds = before.get("seconds") if resume else round(time.monotonic() - began, 1)
    done = before.get("splits", {})
    missing = [split for split in splits if split not in done]
    figures = {
        "f1": result["best_f1"],
        "score": result["best_score"],
        "epochs": result["epochs"],
        "steps": result["steps"],
        "best_checkpoint": result["best_checkpoint"],
        "teacher": result.get("teacher"),
        "seconds": seconds,
        "splits": done | judge_run(folder, missing),
    }
    write_json(folder / FIGURES, figures)
    return figures


def prepare(folder: Path) -> None:
    """Make what points with settings like point.yaml share, so that they only have to read it."""

    config = WakewordConfig.load(folder / SETTINGS).freeze()
    prepare_training(config, folder)
    prepare_judging(config, folder, read_json(folder / TASK, "point")["splits"])


def watch_parent() -> None:
    """End this process as Ctrl-C would when its parent is gone: the pipe to it then closes."""

    def wait() -> None:
        # Unbuffered: a buffer's lock would be in the way of the interpreter's end.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    """`train FOLDER [--watch]` or `prepare FOLDER...`; returns the exit code."""
    verb, *rest = arguments
    folders = [Path(text) for text in rest if text != "--watch"]
    if "--watch" in rest:
        watch_parent()
    try:
        if verb == "train":
            return _reported(work, folders[0])
        codes = []
        for number, folder in enumerate(folders, start=1):
            distillation = WakewordConfig.load(folder / SETTINGS).distillation
            what = f"teacher {distillation.teacher_architecture}" if distillation.enabled else "clips"
            error_console.print(f"preparing {number} of {len(folders)}: {what}")
            codes.append(_reported(prepare, folder))
        return max(codes, default=0)
    except KeyboardInterrupt:
        print("interrupted")
        return 130


def _reported(verb: Callable[[Path], object], folder: Path) -> int:
    """Do something in a folder; its failure is told where people and logs look."""
    try:
        with locked(folder, "point", wait_s=_HANDOVER_S):
            verb(folder)
    except EdgewakeError as error:
        message = f"error: {' '.join(str(error).split())}"
        print(message)
        if verb is prepare:
            print(message, file=sys.stderr)
        _mark_failed(folder)
        return 1
    except Exception:
        traceback.print_exc()
        _mark_failed(folder)
        return 1
    return 0


def _mark_failed(folder: Path) -> None:
    """A run that ended before training could say so is not running any more."""
    with suppress(EdgewakeError):
        if (folder / RECORD).exists() and load_run(folder).status == "running":
            record_run(folder, WakewordConfig.load(folder / SETTINGS), None, "failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
