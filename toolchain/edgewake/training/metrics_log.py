"""The figures of a run: one JSON object a line, and in TensorBoard where that is installed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from edgewake.io import write_text


class MetricsLog:
    """Append-only `metrics.jsonl`, mirrored to TensorBoard in `tensorboard/`.

    What was logged after the step from which training resumes is dropped, so that a resumed run reads as one.
    """

    def __init__(self, folder: Path, *, resume_step: int | None = None, tensorboard: bool = True) -> None:
        self.path = Path(folder) / "metrics.jsonl"
        lines = self.path.read_text().splitlines(keepends=True) if resume_step and self.path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and _before(json.loads(line), resume_step or 0)]
        write_text(self.path, "".join(kept))
        self._file, self._board = self.path.open("a", buffering=1), None
        if tensorboard:
            # Where TensorFlow is installed TensorBoard would import it all; this name makes it use its stub.
            sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
            with suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=resume_step)

    def log(self, step: int, values: Mapping[str, float | int | str]) -> None:
        """Record `values` at optimizer step `step`."""
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if not isinstance(value, str):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _before(line: dict[str, Any], steps: int) -> bool:
    """Whether a line is of the first `steps` steps, which count from 0, or of an epoch that ends by then."""
    return bool(line["step"] <= steps if "epoch" in line else line["step"] < steps)
