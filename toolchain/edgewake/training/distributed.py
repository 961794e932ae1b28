"""Processes that train together act as one: the same batches and sums, one message, one writer of files."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from edgewake.console import console, error_console
from edgewake.errors import EdgewakeError, MissingDependencyError, ReportedError

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

# While one process renders clips or fits a teacher, the others wait at a collective.
PATIENCE = timedelta(days=2)
# torchrun, `accelerate launch` and several MPIs say here how many processes they started.
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Part:
    """Which clips of a batch this process works on.

    Attributes:
        first: index in the whole batch of the first of them.
        count: how many.
        total: clips in the whole batch.
        weight: sum of the clips' loss weights over that of the whole batch.
    """

    first: int
    count: int
    total: int
    weight: float

    @property
    def share(self) -> float:
        """Share of the clips of the whole batch."""
        return self.count / self.total

    @property
    def rows(self) -> slice:
        """The part's place in what was drawn for the whole batch."""
        return slice(self.first, self.first + self.count)


class Processes:
    """The processes that train one model, seen from one of them; alone by default, at no cost.

    Every method is called by all processes in the same order. What one of them raises ends all: the main one
    raises an `EdgewakeError` with the message, others a `ReportedError`, of which nothing is shown.

    Args:
        accelerator: which has set up the processes; None for one process.

    Attributes:
        index, count: which process this is, of how many.
        local_index: which of those on the same machine.
        device: where this process computes, None when it is alone (the caller's choice then).
        part: the clips of the present batch that are this process's, None outside of a step.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator
        self.part: Part | None = None
        self.index, self.count, self.local_index = 0, 1, 0
        self.device: torch.device | None = None
        if accelerator is not None and accelerator.num_processes > 1:
            self.index, self.count = accelerator.process_index, accelerator.num_processes
            self.local_index = accelerator.local_process_index
            self.device = accelerator.device

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        return self

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and shows what happens."""
        return self.index == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    # ---- exchange ------------------------------------------------------------------------------

    def gather(self, *numbers: float) -> list[list[float]]:
        """The numbers of every process, by process; as many numbers in each."""
        if self.alone:
            return [list(numbers)]
        device = self.device if self.device is not None and self.device.type == "cuda" else None
        own = torch.tensor(numbers, dtype=torch.float64, device=device)
        found = [torch.empty_like(own) for _ in range(self.count)]
        with self._connected():
            dist.all_gather(found, own)
        return [cast(list[float], row.tolist()) for row in found]

    def collect(self, value: T) -> list[T]:
        """The value of every process, by process; anything that can be pickled."""
        if self.alone:
            return [value]
        from accelerate.utils import gather_object

        with self._connected():
            return cast(list[T], gather_object([value]))

    def share(self, value: T) -> T:
        """The main process's value, in every process; anything that can be pickled."""
        if self.alone:
            return value
        from accelerate.utils import broadcast_object_list

        box: list[Any] = [value if self.main else None]
        with self._connected():
            broadcast_object_list(box, from_process=0)
        return cast(T, box[0])

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.alone else any(row[0] > 0 for row in self.gather(float(flag)))

    @torch.no_grad()
    def spread(self, module: nn.Module) -> None:
        """Give the main process's parameters and buffers to all."""
        if not self.alone:
            with self._connected():
                for value in module.state_dict().values():
                    dist.broadcast(value, 0)

    @torch.no_grad()
    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter that no process has one of keeps none."""
        if self.alone:
            return
        wanted = [p for p in parameters if p.requires_grad]
        # How many processes have a gradient travels with it: weight decay would move what has a zero.
        dtype = max((p.dtype for p in wanted), key=lambda dtype: dtype.itemsize)
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().to(dtype) for p in wanted]
            + [torch.tensor([float(p.grad is not None) for p in wanted], dtype=dtype).to(wanted[0].device)]
        )
        with self._connected():
            dist.all_reduce(flat)
        having = flat[-len(wanted) :].tolist()
        for parameter, value, present in zip(
            wanted, torch.split(flat, [*(p.numel() for p in wanted), len(wanted)]), having, strict=False
        ):
            parameter.grad = value.view_as(parameter).to(parameter.dtype) if present else None

    # ---- work and its failures -----------------------------------------------------------------

    def agree(self, error: Exception | None, *numbers: float) -> list[list[float]]:
        """`gather`, unless a process brings an error: then all end, with one message."""
        rows = self.gather(float(error is not None), *numbers)
        if any(row[0] for row in rows):
            self._end(error)
        return [row[1:] for row in rows]

    def failure(self, error: EdgewakeError) -> EdgewakeError:
        """What each process raises for an error that all of them have found."""
        return error if self.main else ReportedError(str(error))

    def main_only(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process; its result goes to all, so it must be one that can be pickled."""
        if self.alone:
            return work()
        result, error = self._try(work) if self.main else (None, None)
        self.agree(error)
        return cast(T, self.share(result))

    def main_first(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process, then once on every other machine, then in the rest.

        For what leaves files that the next one finds: clips are rendered once, on a disk that the machines
        share, or once a machine.
        """
        if self.alone:
            return work()
        mine = 0 if self.main else 1 if self.local_index == 0 else 2
        result: T | None = None
        for turn in range(3):
            error = None
            if turn == mine:
                result, error = self._try(work)
            self.agree(error)
        return cast(T, result)

    def loss(self, work: Callable[[], Tensor]) -> tuple[Tensor, float]:
        """This process's addend of a batch's loss, for `backward`, and the loss of the whole batch.

        Args:
            work: gives the mean over the clips of this process's `part`.
        """
        if self.alone:
            loss = work()
            return loss, float(loss.detach())
        assert self.part is not None
        mean, error = self._try(work)
        addend = None if mean is None else mean * self.part.share
        rows = self.agree(error, 0.0 if addend is None else float(addend.detach()))
        assert addend is not None
        return addend, sum(row[0] for row in rows)

    def mean_figures(self, figures: dict[str, float]) -> dict[str, float]:
        """Means over the whole batch of figures that are means over each process's part."""
        if self.alone or not self.any(bool(figures)):
            return figures
        assert self.part is not None
        means: dict[str, float] = {}
        for share, found in self.collect((self.part.share, figures)):
            for name, value in found.items():
                means[name] = means.get(name, 0.0) + share * value
        return means

    def together(self, batches: Iterator[Any], weigh: Callable[[Any], float]) -> Iterator[Any]:
        """`batches` for as long as every process has one, with `part` set while one is worked on.

        Args:
            batches: of this process; targets are a batch's second item.
            weigh: sum of the loss weights of a batch's clips.
        """
        if self.alone:
            yield from batches
            return
        while True:
            batch, error = self._try(lambda: next(batches, None))
            size, weight = (-1, 0.0) if batch is None else (len(batch[1]), weigh(batch))
            rows = self.agree(error, size, weight)
            sizes, weights = [int(row[0]) for row in rows], [row[1] for row in rows]
            if min(sizes) < 0:
                return
            first = sum(sizes[: self.index])
            self.part = Part(first, size, sum(sizes), weight / max(1e-12, sum(weights)))
            yield batch
            self.part = None

    @staticmethod
    def _try(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
        try:
            return work(), None
        except Exception as error:
            return None, error

    def _end(self, error: Exception | None) -> None:
        """Raise, in every process, for an error that at least one has."""
        found = self.collect(
            None if error is None else (isinstance(error, EdgewakeError), str(error) or type(error).__name__)
        )
        who, (expected, message) = next((i, item) for i, item in enumerate(found) if item is not None)
        if error is not None and (self.main or not isinstance(error, EdgewakeError)):
            raise error
        if self.main and expected:
            raise EdgewakeError(f"process {who + 1} of {self.count}: {message}")
        raise ReportedError(message)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Within, a connection that breaks says what to do about it."""
        try:
            yield
        except RuntimeError as error:
            if not lost(error):
                raise
            reason = str(error).strip().splitlines()[0]
            raise self.failure(
                EdgewakeError(
                    f"another of the {self.count} processes has ended ({reason}); mend what its own message "
                    "says, then continue with --resume"
                )
            ) from error

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Around a backward pass, which exchanges sums where layers do."""
        with self._connected():
            yield


def lost(error: BaseException) -> bool:
    """Whether an exception says that another process cannot be reached."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed" in str(error)


_processes: Processes | None = None


def launched() -> int:
    """How many processes a launcher started, this one among them."""
    return max(int(os.environ.get(name, "1") or 1) for name in WORLD_SIZES)


def processes() -> Processes:
    """The processes that a launcher started together, connected at the first call; else this one alone.

    Others than the main one show nothing from then on.

    Raises:
        MissingDependencyError: several processes were started, and `accelerate` is not installed.
    """
    global _processes  # noqa: PLW0603 (a process belongs to one group all its life)
    if _processes is None:
        _processes = _connect() if launched() > 1 else Processes()
    return _processes


def _connect() -> Processes:
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        raise MissingDependencyError(
            "training with several processes needs accelerate, not installed: pip install 'edgewake[train]'"
        ) from error
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)]
    )
    group = Processes(accelerator)
    if not group.main:
        console.quiet = error_console.quiet = True
    atexit.register(_disconnect)
    return group


def _disconnect() -> None:
    if dist.is_initialized():
        # What holds the group in a cycle (a trainer and its hooks) would outlive it, and gloo's threads with
        # it, which abort a process that ends while they run.
        gc.collect()
        dist.destroy_process_group()


class SlicedBatches(Sampler[list[int]]):
    """One process's slice of each batch of `whole`; sizes differ by one at most.

    A batch of fewer clips than processes goes to every process whole.

    Args:
        whole: a batch sampler that gives the same batches in every process.
    """

    def __init__(self, whole: Any, index: int, count: int) -> None:
        self.whole, self.index, self.count = whole, index, count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole:
            size = len(batch)
            own = slice(size * self.index // self.count, size * (self.index + 1) // self.count)
            yield batch[own] if size >= self.count else batch

    def __len__(self) -> int:
        return len(self.whole)


def sliced(loader: DataLoader[Any], group: Processes) -> DataLoader[Any]:
    """A loader of one process's part of each batch of `loader`; streams are left to split themselves."""
    if group.alone or getattr(loader, "batch_sampler", None) is None:
        return loader
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return loader
    return DataLoader(
        loader.dataset,
        batch_sampler=SlicedBatches(loader.batch_sampler, group.index, group.count),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
