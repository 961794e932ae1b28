"""Losses of the student, all scalars: of labels, and of a teacher's logits and embeddings along time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewake.config import DistillationConfig
from edgewake.config.frontend import FrontendConfig


def clip_loss(
    outputs: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    *,
    label_smoothing: float = 0,
    focal_gamma: float = 0,
) -> Tensor:
    """Mean cross-entropy of clips, weighted (see `clip_weights`): sum(weight loss) / sum(weight); a scalar.

    `outputs` are logits, (batch, classes), `targets` class indices, (batch,). Label smoothing s moves mass to all
    classes alike: the target is (1 - s) onehot + s / classes (Szegedy et al. 2016, arXiv:1512.00567). With
    `focal_gamma` a clip's loss is multiplied by (1 - p)^gamma, where p is the probability of its label, so that what
    is already right weighs less (Lin et al. 2017, arXiv:1708.02002).
    """
    loss = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)
    if focal_gamma:
        # 1 - p as the sum of the other classes: 1 - softmax would be 0 with no gradient where p rounds to 1.
        label = F.one_hot(targets, outputs.shape[1]).bool()
        other = outputs.masked_fill(label, -torch.inf).logsumexp(dim=1) - outputs.logsumexp(dim=1)
        loss = loss * (focal_gamma * other).exp()
    weight = torch.ones_like(loss) if weight is None else weight
    return (loss * weight).sum() / weight.sum().clamp_min(1e-12)


def clip_weights(
    targets: Tensor,
    class_weights: Sequence[float] | None = None,
    is_hard_negative: Tensor | None = None,
    hard_negative_weight: float = 1.0,
) -> Tensor:
    """What each clip's loss is multiplied by, by its class and whether mining found it: float32, (batch,)."""
    weight = torch.ones(len(targets), device=targets.device)
    if class_weights is not None:
        weight = torch.tensor(class_weights, device=targets.device)[targets]
    if is_hard_negative is not None:
        weight = weight * torch.where(is_hard_negative.bool(), hard_negative_weight, 1.0)
    return weight


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of distributions softened by T > 0, a mean over the batch; a scalar.

    T^2 sum_c p_c (log p_c - log q_c), with p = softmax(teacher / T) and q = softmax(student / T), of logits (batch,
    classes). The gradient of soft targets shrinks by 1 / T^2; the factor keeps the balance with the labels when T
    changes (Hinton et al. 2015, section 2, arXiv:1503.02531).
    """
    soft_targets = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    soft_student = F.log_softmax(student_logits.float() / temperature, dim=1)
    return F.kl_div(soft_student, soft_targets, reduction="batchmean", log_target=True) * temperature**2


def distillation_loss(
    student_loss: Tensor, student_logits: Tensor, teacher_logits: Tensor, *, alpha: float, temperature: float
) -> tuple[Tensor, Tensor]:
    """The combined loss, (1 - alpha) student_loss + alpha T^2 KL, and its second part without alpha.

    alpha is the weight of the teacher, 0 (labels alone) to 1 (teacher alone); student_loss, a scalar, is the
    cross-entropy with the labels (Hinton et al. 2015, arXiv:1503.02531).
    """
    soft = soft_target_loss(student_logits, teacher_logits, temperature)
    return (1 - alpha) * student_loss + alpha * soft, soft


def step_ends(steps: int, frames: int, frames_per_step: int, frontend: FrontendConfig) -> Tensor:
    """The ends, in s from a clip's start, of the last `steps` inference steps of its `frames`: (steps,)."""
    last = frames // frames_per_step
    ends = torch.arange(last - steps + 1, last + 1, dtype=torch.float64) * frames_per_step - 1
    return (ends * frontend.step_samples + frontend.window_samples) / frontend.sample_rate


def at_times(sequence: Tensor, rate: float, times: Tensor) -> Tensor:
    """A sequence's values at given times, linear between the middles of frames, its ends held beyond them.

    `sequence` is (batch, frames, size), frame j standing for the time (j + 0.5) / rate, at `rate` frames a second;
    `times`, in s, (steps,), give (batch, steps, size).
    """
    last = sequence.shape[1] - 1
    position = (times.to(sequence.device, torch.float64) * rate - 0.5).clamp(0, last)
    below = position.floor().long().clamp(max=max(0, last - 1))
    share = (position - below).to(sequence.dtype)[None, :, None]
    return torch.lerp(sequence[:, below], sequence[:, (below + 1).clamp(max=last)], share)


def frame_loss(step_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """`soft_target_loss` at every step, a mean over batch and steps; a scalar.

    The frame-wise (sequence-free) form of distillation in acoustic models (Li et al. 2014, "Learning small-size DNN
    with output-distribution-based criteria", Interspeech). `step_logits` are a student's z, whose distribution is
    softmax([0, z]), (batch, steps); `teacher_logits` are of the same steps, (batch, steps, 2).
    """
    student = torch.stack([torch.zeros_like(step_logits), step_logits], dim=2)
    return soft_target_loss(student.flatten(0, 1), teacher_logits.flatten(0, 1), temperature)


def hint_loss(projected: Tensor, hints: Tensor, kind: Literal["mse", "cosine"] = "mse") -> Tensor:
    """Distance of a student's projected features from a teacher's embeddings, both (..., size); a scalar.

    mse: the mean over all elements of (projected - hint)^2, which is FitNets' ||u - r(v)||^2 / 2 up to a
    constant factor; r is the projection (Romero et al. 2015, equation 3, arXiv:1412.6550). cosine: the mean
    over vectors of 1 - cos(projected, hint), blind to the scale of either.
    """
    projected, hints = projected.float(), hints.float()
    if kind == "mse":
        return F.mse_loss(projected, hints)
    return (1 - F.cosine_similarity(projected, hints, dim=-1)).mean()


def scheduled(start: float, end: float | None, shape: Literal["constant", "linear", "cosine"], share: float) -> float:
    """The value after `share` (0 to 1) of training.

    linear: start + (end - start) share. cosine: the same with (1 - cos(pi share)) / 2 in place of share,
    level at both ends (Loshchilov and Hutter 2017, arXiv:1608.03983). constant: start.
    """
    if shape == "constant" or end is None:
        return start
    share = min(1.0, max(0.0, share))
    return start + (end - start) * ((1 - math.cos(math.pi * share)) / 2 if shape == "cosine" else share)


def alpha_and_temperature(config: DistillationConfig, share: float) -> tuple[float, float]:
    """alpha and T after `share` of all epochs, both phases together.

    Annealing T and alpha lets the teacher lead at first and the labels at the end, or the other way round
    (Jafari et al. 2021, arXiv:2104.07163; Clark et al. 2019 for alpha, arXiv:1907.04829).
    """
    alpha = scheduled(config.alpha, config.alpha_end, config.alpha_schedule, share)
    return alpha, scheduled(config.temperature, config.temperature_end, config.temperature_schedule, share)
