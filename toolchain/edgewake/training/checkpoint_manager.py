"""A checkpoint is whole or absent, and holds all that a bit-identical continuation needs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from edgewake.errors import EdgewakeError
from edgewake.io import atomic_path, make_folder

LAST, BEST = "last.pt", "best.pt"


class CheckpointManager:
    """Keeps `last.pt` (to resume from) and `best.pt` (by validation score) in one folder, written atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.last, self.best = self.folder / LAST, self.folder / BEST
        make_folder(self.folder)

    def save(self, state: dict[str, Any], *, best: bool = False) -> Path:
        """Write `state` and all random states as the last checkpoint, and as the best if asked; returns its path."""
        for path in (self.last, self.best) if best else (self.last,):
            with atomic_path(path) as temporary:
                torch.save(state | {"rng": rng_state()}, temporary)
        return path

    def load(self, path: Path | None = None) -> dict[str, Any]:
        """Read a checkpoint (by default the last one); an error where there is none, or it cannot be read."""
        path = path or self.last
        if not path.exists():
            raise EdgewakeError(f"no checkpoint at {path}; start without --resume")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # torch's own message has several lines, and advises to read the file unsafely.
            unsafe = isinstance(error, UnpicklingError)
            reason = "it holds something else than tensors and plain values" if unsafe else " ".join(str(error).split())
            raise EdgewakeError(
                f"checkpoint {path} cannot be read ({reason:.200}); delete it or use another"
            ) from error
        if not isinstance(state, dict) or "model" not in state:
            raise EdgewakeError(f"checkpoint {path} holds no model; was it written by edgewake?")
        return state


@contextmanager
def kept_rng() -> Iterator[None]:
    """Within, random numbers may be drawn that the code around does not notice."""
    before = rng_state()
    try:
        yield
    finally:
        restore_rng(before)


def rng_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 (libraries may draw from it)
    state = (str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss))
    found = {"python": random.getstate(), "numpy": state, "torch": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def restore_rng(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Inverse of `rng_state`; the first GPU's state goes to `device`, if that is another GPU.

    A state that was taken with more GPUs, or with fewer, is restored for as many as there are.
    """
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
        if device is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"][0], device)
