"""Layers that see a whole batch though each process holds a part of it: BatchNorm's sums, dropout's masks."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from edgewake.training.distributed import Processes


def share_layers(model: nn.Module, group: Processes) -> None:
    """Replace BatchNorm and dropout layers of `model` so that they act on whole batches; names stay.

    Recurrent layers' own dropout (nn.LSTM, nn.GRU) is drawn by each process for its own clips.
    """
    if group.alone:
        return
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, SyncedBatchNorm.like(child))
        elif isinstance(child, _DropoutNd):
            setattr(model, name, SharedDropout(child, group))
        else:
            share_layers(child, group)


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm over the clips of all processes; with its weights and buffers under the same names.

    torch's SyncBatchNorm computes on GPUs only. In evaluation nothing is exchanged.

    Shapes: (batch, channels, ...) -> the same.
    """

    @classmethod
    def like(cls, norm: _BatchNorm) -> SyncedBatchNorm:
        """One that shares parameters and buffers with `norm`."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.weight, made.bias = norm.weight, norm.bias
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalize by the statistics of all processes' clips, in training."""
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = cast(
            tuple[Tensor, Tensor, Tensor, float],
            _Normalize.apply(input, self.weight, self.bias, self.eps),  # type: ignore[no-untyped-call]
        )
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                unbiased = variance * (count / max(1.0, count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        return output


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))


class _Normalize(torch.autograd.Function):
    """Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) with sums over all processes."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        axes = [axis for axis in range(value.dim()) if axis != 1]
        wide = _wide(value)
        count = value.numel() / max(1, value.shape[1])
        mean = wide.mean(axes)
        centred = wide - _as_channels(mean, wide)
        own = torch.cat([mean, centred.square().sum(axes), mean.new_zeros(1)]).double()
        own[-1] = count
        found = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(found, own)
        # Means and sums of squares about them, joined as Chan et al. 1983 do: no difference of large sums.
        channels = value.shape[1]
        table = torch.stack(found)
        counts = table[:, 2 * channels :]
        total = counts.sum()
        means = table[:, :channels]
        mean = (means * counts).sum(0) / total
        squares = table[:, channels : 2 * channels] + counts * (means - mean).square()
        variance = (squares.sum(0) / total).to(wide.dtype)
        mean = mean.to(wide.dtype)
        scale = (variance + eps).rsqrt()
        normal = (wide - _as_channels(mean, wide)) * _as_channels(scale, wide)
        ctx.save_for_backward(normal, weight, scale)
        ctx.total = float(total)
        output = normal
        if weight is not None and bias is not None:
            output = normal * _as_channels(weight, wide) + _as_channels(bias, wide)
        ctx.mark_non_differentiable(mean, variance)
        return output.to(value.dtype), mean, variance, ctx.total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        normal, weight, scale = ctx.saved_tensors
        wide = _wide(gradient)
        axes = [axis for axis in range(wide.dim()) if axis != 1]
        # Of this process's clips: gradients of weight and bias are summed with all others' later.
        by_bias, by_weight = wide.sum(axes), (wide * normal).sum(axes)
        sums = torch.cat([by_bias, by_weight])
        dist.all_reduce(sums)
        mean, slope = (_as_channels(part, wide) for part in (sums / ctx.total).chunk(2))
        factor = scale if weight is None else scale * weight
        to_value = (wide - mean - normal * slope) * _as_channels(factor, wide)
        affine = weight is not None
        return to_value.to(gradient.dtype), by_weight if affine else None, by_bias if affine else None, None


class SharedDropout(nn.Module):
    """Dropout whose mask is this process's part of one that is drawn for the whole batch.

    Every process draws the same numbers then, so that their random states stay equal.

    Args:
        dropout: the layer that it stands for.
    """

    def __init__(self, dropout: nn.Module, group: Processes) -> None:
        super().__init__()
        self.dropout, self.group = dropout, group
        self.train(dropout.training)

    def forward(self, value: Tensor) -> Tensor:
        """Drop and scale, in training."""
        part = self.group.part
        if not self.training or part is None or value.shape[0] % max(1, part.count):
            return cast(Tensor, self.dropout(value))
        # Where clips and steps share an axis, each clip has several rows.
        rows = value.shape[0] // part.count
        whole = self.dropout(value.new_ones(part.total * rows, *value.shape[1:]))
        mask: Tensor = whole[part.first * rows : (part.first + part.count) * rows]
        return value * mask
