"""Processes that a launcher started train as one: equal steps, one writer of files, one message of a failure."""

from __future__ import annotations

import atexit
import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, IterableDataset

from edgewake.config import WakewordConfig
from edgewake.console import console, error_console
from edgewake.errors import EdgewakeError, MissingDependencyError, ReportedError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")

# While the main process renders clips or fits a teacher, the others wait at a collective.
PATIENCE = timedelta(days=2)
# torchrun, `accelerate launch` and several MPIs set one of these to the number of processes.
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
FAILED = "edgewake/failed"


class Processes:
    """The processes that train one model, as one of them sees them; alone by default, at no cost.

    Every method is called by all processes in the same order.

    Attributes:
        index, count: which process this is, of how many.
        device: where this process computes; None when it is alone (the caller's choice then).
    """

    def __init__(self, state: PartialState | None = None) -> None:
        self._state = state
        self.index: int = state.process_index if state else 0
        self.count: int = state.num_processes if state else 1
        self.device: torch.device | None = state.device if state else None

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.index == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    def mean(self, values: Sequence[float]) -> list[float]:
        """Means over the processes, each of which gives as many values."""
        if self.alone:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(mine)
        return cast(list[float], (mine / self.count).tolist())

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self.mean([flag])[0] > 0

    def share(self, value: T) -> T:
        """The main process's value, in every process; anything that can be pickled."""
        shared = [value if self.main else None]
        if not self.alone:
            dist.broadcast_object_list(shared, src=0)
        return cast(T, shared[0])

    def share_weights(self, module: nn.Module) -> None:
        """Give the main process's parameters and buffers to all."""
        if not self.alone:
            for value in module.state_dict().values():
                dist.broadcast(value, 0)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over the processes."""
        for parameter in () if self.alone else parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.count

    def slices(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """A loader of this process's slice of each batch of `loader`, as many in all processes."""
        if self.alone:
            return loader
        whole: Any = getattr(loader, "batch_sampler", None)
        size = getattr(whole, "batch_size", None)
        if not size or isinstance(loader.dataset, IterableDataset) or size % self.count:
            raise EdgewakeError(
                f"batches of {size} clips cannot be shared evenly by {self.count} processes: give a DataLoader of a "
                f"map-style dataset, and set training.batch_size to a multiple of {self.count}"
            )
        from accelerate.data_loader import BatchSamplerShard

        part = copy.copy(loader)
        # A DataLoader refuses the assignment; this one is a copy whose workers have not been started.
        part.__dict__["batch_sampler"] = BatchSamplerShard(whole, self.count, self.index, split_batches=True)
        return part

    def main_only(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process; its result, one that can be pickled, goes to all."""
        return self.share(work() if self.main else cast(T, None))

    def main_first(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process, then in the others, which find the files that it left."""
        with self._state.main_process_first() if self._state else nullcontext():
            return work()

    @contextmanager
    def one_message(self) -> Iterator[None]:
        """Within, an error of one process ends all; the first one that fails raises it, the others silently."""
        try:
            yield
        except Exception as error:
            if not (self.alone or self._first_to_fail()):
                raise ReportedError(str(error)) from error
            error_console.quiet = False
            if lost(error):
                raise EdgewakeError(
                    f"another of the {self.count} processes has ended ({str(error).strip().splitlines()[0]}): "
                    "see its log, then continue with --resume"
                ) from error
            raise

    def _first_to_fail(self) -> bool:
        own = str(self.index)
        try:
            return bool(dist.distributed_c10d._get_default_store().compare_set(FAILED, "", own) == own.encode())
        except RuntimeError:  # the process that held the store has ended
            return False


def lost(error: BaseException) -> bool:
    """Whether an exception means that another process cannot be reached."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed" in str(error)


@cache
def launched_processes() -> Processes:
    """The processes that a launcher started together, connected at the first call; else this one alone.

    An `Accelerator` of the caller is joined. Others than the main process print nothing from then on. An error where
    several processes were started, and `accelerate` is not installed.
    """
    if max(int(os.environ.get(name, "1") or 1) for name in WORLD_SIZES) == 1:
        return Processes()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingDependencyError(
            "training with several processes needs accelerate, not installed: pip install 'edgewake[train]'"
        ) from error
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    atexit.register(state.destroy_process_group)
    if not state.is_main_process:
        console.quiet = error_console.quiet = True
    return Processes(state)


def device_for(config: WakewordConfig) -> torch.device:
    """The launcher's choice, else a GPU where there is one, else the CPU, with `training.threads`."""
    device = launched_processes().device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and config.training.threads:
        torch.set_num_threads(config.training.threads)
    return device


def sync_batch_norm(model: nn.Module) -> None:
    """Let BatchNorm layers use the statistics of all processes' clips; weights, buffers and names stay."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = SyncedBatchNorm


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm over the clips of all processes, as many in each, on any device: torch's own is for GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalize, and follow mean and variance."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        axes, shape = [0, *range(2, input.dim())], (1, -1, *[1] * (input.dim() - 2))
        count = dist.get_world_size()
        mean = all_reduce(input.mean(axes)) / count  # type: ignore[no-untyped-call]
        variance = all_reduce((input - mean.view(shape)).square().mean(axes)) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            values = input.numel() // input.shape[1] * count
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_((variance * (values / (values - 1))).to(self.running_var), momentum)
        output: Tensor = (input - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        return output * self.weight.view(shape) + self.bias.view(shape) if self.affine else output
