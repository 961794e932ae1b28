"""TensorFlow Lite Micro on the host: the reference for inference, and for the arena that a model needs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError, MissingDependencyError

Int8Array = npt.NDArray[np.int8]

ARENA_STEP = 16
GENEROUS_ARENA = 1 << 20


class TflmModel:
    """A .tflite in TFLM, stepping a streaming model or running a windowed one.

    Args:
        model: bytes of the .tflite; int8 input [1, steps, 1, width] or [1, steps, width], int8 output [1, outputs, ..].
        arena_size: bytes of arena; None takes ample memory.
        keep_tensors: keep every intermediate tensor readable by `tensor`; needs more arena.
    """

    def __init__(self, model: bytes, arena_size: int | None = None, *, keep_tensors: bool = False) -> None:
        self._model = bytes(model)
        self._arena_size = arena_size or max(GENEROUS_ARENA, 10 * len(model))
        self._keep = keep_tensors
        self._interpreter: Any = self._fresh()
        details = self._interpreter.get_input_details(0)
        self._shape = tuple(int(size) for size in details["shape"])
        self.steps, self.width = self._shape[1], self._shape[-1]

    def reset(self) -> None:
        """Restore the state of a new model, by making the interpreter anew.

        TFLM's own Reset() sets state to zero and does not run CALL_ONCE again, which is not silence.
        """
        self._interpreter = self._fresh()

    def _fresh(self) -> Any:
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "TensorFlow Lite Micro (tflite-micro) is not installed; its packages are for Linux on x86-64 alone: "
                "run, measure and build models there, in WSL 2 or in a container"
            ) from error
        kind = runtime.InterpreterConfig
        config = kind.kPreserveAllTensors if self._keep else kind.kAllocationRecording
        try:
            return runtime.Interpreter.from_bytes(self._model, arena_size=self._arena_size, intrepreter_config=config)
        except (RuntimeError, ValueError) as error:
            raise EdgewakeError(
                f"TFLM refuses this model of {len(self._model):,} B in {self._arena_size:,} B: {error}"
            ) from error

    def invoke(self, features: Int8Array) -> Int8Array:
        """One inference: (steps, width) int8 -> (outputs,) int8."""
        self._interpreter.set_input(np.ascontiguousarray(features, np.int8).reshape(self._shape), 0)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_output(0), np.int8).reshape(-1)

    def step(self, features: Int8Array) -> int:
        """The next step of a streaming model: (width,) int8 -> -128..127."""
        return int(self.invoke(features)[0])

    def run(self, features: Int8Array) -> Int8Array:
        """Steps of a streaming model, on from the present state: (steps, width) int8 -> (steps,) int8."""
        return np.array([self.step(row) for row in features], np.int8)

    def tensor(self, index: int, subgraph: int = 0) -> npt.NDArray[Any]:
        """An intermediate tensor after the last inference; needs `keep_tensors`."""
        return np.array(self._interpreter.GetTensor(index, subgraph)["tensor_data"])


def measure_arena(model: bytes, limit: int = GENEROUS_ARENA, *, invoke: bool = True) -> int:
    """The smallest arena of at most `limit` bytes, to 16, in which TFLM on this host runs the model twice.

    Host pointers are 8 bytes, so this bounds a 32-bit target from above. The trials run in another process,
    because TFLM crashes in arenas that are far too small; where that happens, bisection goes on above. Models that
    take something else than int8 steps are only allocated, without `invoke`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        too_small, enough = 0, limit
        while enough - too_small > ARENA_STEP:
            what = "invoke" if invoke else "allocate"
            command = [sys.executable, "-m", "edgewake.runtime.tflm", str(path), str(too_small), str(enough), what]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            tried = [line.split() for line in done.stdout.splitlines()]
            enough = min([enough, *(int(arena) for arena, *result in tried if result == ["fits"])])
            too_small = max([too_small, *(int(arena) for arena, *result in tried if result != ["fits"])])
            if not tried:
                raise EdgewakeError(f"TFLM cannot be tried on this host: {done.stderr.strip()[-200:]}")
    if enough == limit:
        raise EdgewakeError(f"the model of {len(model):,} B does not run in {limit:,} B of arena")
    return enough


def _bisect(path: Path, too_small: int, enough: int, invoke: bool) -> None:
    """Print a line before each trial, so that the parent process can tell which arena a crash belongs to."""
    model = path.read_bytes()
    while enough - too_small > ARENA_STEP:
        middle = (enough + too_small) // (2 * ARENA_STEP) * ARENA_STEP
        print(middle, end=" ", flush=True)
        try:
            trial = TflmModel(model, middle)
            for _ in range(2 if invoke else 0):
                trial.invoke(np.zeros((trial.steps, trial.width), np.int8))
            print("fits", flush=True)
            enough = middle
        except (EdgewakeError, RuntimeError):
            print("fails", flush=True)
            too_small = middle


if __name__ == "__main__":
    _bisect(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "invoke")
