"""One trial of an experiment, in a process of its own: trains it or continues its training, then evaluates it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewake.config import WakewordConfig
from edgewake.errors import EdgewakeError
from edgewake.experiments.compare import evaluate_run
from edgewake.experiments.trials import FIGURES, SETTINGS, locked
from edgewake.io import read_json, write_json
from edgewake.training.run import train_command
from edgewake.training.runs import record_run

# A trial that a killed parent left behind notices within this time, and ends.
_WAIT_S = 150.0


def work(folder: Path, splits: Sequence[Any]) -> dict[str, Any]:
    """Train in `folder` with the settings of its trial.yaml, evaluate the result, and write figures.json.

    What is done already is not repeated: training continues from its last checkpoint, and a run that is trained
    is only evaluated on the splits that are missing.

    Returns:
        f1, score, epochs, steps, best_checkpoint, teacher (or None), seconds (of training, None if it was
        interrupted), and splits: the figures of `evaluate_run` by split.
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
