"""Each loss equals numbers that were computed by hand from its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from edgewake.config import DistillationConfig
from edgewake.training.losses import (
    alpha_and_temperature,
    at_times,
    clip_loss,
    clip_weights,
    distillation_loss,
    frame_loss,
    hint_loss,
    scheduled,
    soft_target_loss,
)

# softmax([ln 3, 0]) = [3/4, 1/4]; softmax([0, ln 4]) = [1/5, 4/5].
LN3, LN4 = math.log(3), math.log(4)


def test_plain_cross_entropy_is_the_mean_of_minus_log_p() -> None:
    outputs = torch.tensor([[LN3, 0.0], [0.0, LN4]])
    expected = (math.log(4 / 3) + math.log(5)) / 2
    assert float(clip_loss(outputs, torch.tensor([0, 0]))) == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_moves_mass_to_all_classes_alike() -> None:
    outputs = torch.tensor([[LN3, 0.0]])
    # Target [0.9, 0.1] for a smoothing of 0.2 over two classes.
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    loss = clip_loss(outputs, torch.tensor([0]), label_smoothing=0.2)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_multiplies_by_one_minus_p_to_the_gamma(gamma: float) -> None:
    outputs = torch.tensor([[LN3, 0.0], [0.0, LN4]])
    expected = (0.25**gamma * math.log(4 / 3) + 0.8**gamma * math.log(5)) / 2
    loss = clip_loss(outputs, torch.tensor([0, 0]), focal_gamma=gamma)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_has_a_finite_gradient_where_a_clip_is_surely_right() -> None:
    outputs = torch.tensor([[60.0, -60.0], [0.0, 1.0]], requires_grad=True)
    clip_loss(outputs, torch.tensor([0, 1]), focal_gamma=0.5).backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_hard_negatives_and_classes_weigh_what_they_should() -> None:
    outputs = torch.tensor([[LN3, 0.0], [LN3, 0.0], [LN3, 0.0]])
    targets = torch.tensor([0, 0, 1])
    loss = clip_loss(
        outputs,
        targets,
        clip_weights(
            targets,
            class_weights=(1.0, 4.0),
            is_hard_negative=torch.tensor([False, True, False]),
            hard_negative_weight=3.0,
        ),
    )
    expected = (1 * math.log(4 / 3) + 3 * math.log(4 / 3) + 4 * math.log(4)) / 8
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_soft_targets_are_temperature_squared_times_the_divergence_of_softened_distributions() -> None:
    # Divided by T = 2, the teacher is [3/4, 1/4] and the student [1/5, 4/5].
    teacher = torch.tensor([[2 * LN3, 0.0]])
    student = torch.tensor([[0.0, 2 * LN4]])
    expected = 4 * (0.75 * math.log(0.75 / 0.2) + 0.25 * math.log(0.25 / 0.8))
    assert float(soft_target_loss(student, teacher, 2.0)) == pytest.approx(expected, rel=1e-6)
    # A mean over the batch, not over batch and classes.
    both = soft_target_loss(torch.cat([student, teacher]), torch.cat([teacher, teacher]), 2.0)
    assert float(both) == pytest.approx(expected / 2, rel=1e-6)


def test_the_divergence_is_of_the_student_from_the_teacher_and_not_the_other_way() -> None:
    teacher, student = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, LN4]])
    expected = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    other_way = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    loss = float(soft_target_loss(student, teacher, 1.0))
    assert loss == pytest.approx(expected, rel=1e-6)
    assert abs(loss - other_way) > 0.02


def test_the_combined_loss_is_the_guides() -> None:
    teacher, student = torch.tensor([[3 * LN3, 0.0]]), torch.tensor([[0.0, 3 * LN4]])
    targets = torch.tensor([0])
    student_loss = F.cross_entropy(student, targets)
    total, soft = distillation_loss(student_loss, student, teacher, alpha=0.6, temperature=3.0)
    divergence = 9 * (0.75 * math.log(0.75 / 0.2) + 0.25 * math.log(0.25 / 0.8))
    assert float(soft) == pytest.approx(divergence, rel=1e-6)
    assert float(total) == pytest.approx(0.4 * math.log(1 + 64) + 0.6 * divergence, rel=1e-6)


@given(
    alpha=st.floats(0, 1),
    temperature=st.floats(1, 10),
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 9),
    classes=st.integers(2, 5),
)
def test_the_combined_loss_is_the_guides_code_for_any_numbers(
    alpha: float, temperature: float, seed: int, batch: int, classes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(batch, classes, generator=generator) * 4
    teacher_logits = torch.randn(batch, classes, generator=generator) * 4
    targets = torch.randint(0, classes, (batch,), generator=generator)
    student_loss = clip_loss(outputs, targets)
    # The guide, "Understanding the Loss Function", line by line.
    soft_targets = F.log_softmax(teacher_logits / temperature, dim=1)
    soft_student = F.log_softmax(outputs / temperature, dim=1)
    guide = F.kl_div(soft_student, soft_targets, reduction="batchmean", log_target=True) * (temperature**2)
    expected = (1 - alpha) * F.cross_entropy(outputs, targets) + alpha * guide
    total, soft = distillation_loss(student_loss, outputs, teacher_logits, alpha=alpha, temperature=temperature)
    assert torch.allclose(total, expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(soft, guide, rtol=1e-5, atol=1e-6)
    # By numpy in float64, so that torch is not compared with itself alone.
    p, q = (
        np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True))
        for x in (teacher_logits.double().numpy() / temperature, outputs.double().numpy() / temperature)
    )
    divergence = (p * (np.log(p) - np.log(q))).sum() / batch * temperature**2
    assert float(soft) == pytest.approx(divergence, rel=1e-4, abs=1e-5)


def test_a_student_that_agrees_has_no_distillation_loss() -> None:
    logits = torch.tensor([[1.5, -0.5], [0.0, 2.0]])
    # A constant added to all logits changes no distribution.
    assert float(soft_target_loss(logits + 7, logits, 3.0)) == pytest.approx(0.0, abs=1e-6)


def test_values_at_times_lie_on_the_lines_between_the_middles_of_frames() -> None:
    sequence = torch.tensor([[[0.0], [10.0], [30.0]]])  # at 50 a second: 0.01, 0.03, 0.05 s
    times = torch.tensor([-1.0, 0.01, 0.02, 0.03, 0.035, 0.05, 9.0])
    expected = [0.0, 0.0, 5.0, 10.0, 15.0, 30.0, 30.0]
    assert at_times(sequence, 50.0, times)[0, :, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert at_times(sequence[:, :1], 50.0, times)[0, :, 0].tolist() == [0.0] * 7


def test_frame_loss_is_the_mean_over_clips_and_steps() -> None:
    student = torch.tensor([[2 * LN4, 0.0], [0.0, 0.0]])
    teacher = torch.tensor([[[2 * LN3, 0.0], [5.0, 5.0]], [[1.0, 1.0], [0.0, 2 * LN3]]])
    first = 4 * (0.75 * math.log(0.75 / 0.2) + 0.25 * math.log(0.25 / 0.8))
    last = 4 * (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
    assert float(frame_loss(student, teacher, 2.0)) == pytest.approx((first + 0 + 0 + last) / 4, rel=1e-5)


def test_hints_are_compared_by_mean_square_or_by_angle() -> None:
    projected = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    hints = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert float(hint_loss(projected, hints)) == pytest.approx((0 + 4 + 9 + 16) / 4)
    # cos = 1 / sqrt(5) and 0.
    expected = (1 - 1 / math.sqrt(5) + 1) / 2
    assert float(hint_loss(projected, hints, "cosine")) == pytest.approx(expected, rel=1e-6)
    assert float(hint_loss(projected * 7, hints * 0.3, "cosine")) == pytest.approx(expected, rel=1e-6)


def test_schedules_start_and_end_where_they_say() -> None:
    for shape in ("linear", "cosine"):
        assert scheduled(0.9, 0.1, shape, 0.0) == pytest.approx(0.9)
        assert scheduled(0.9, 0.1, shape, 0.5) == pytest.approx(0.5)
        assert scheduled(0.9, 0.1, shape, 1.0) == pytest.approx(0.1)
    assert scheduled(0.0, 1.0, "linear", 0.25) == pytest.approx(0.25)
    assert scheduled(0.0, 1.0, "cosine", 0.25) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert scheduled(0.7, None, "constant", 0.5) == 0.7


def test_alpha_and_temperature_move_on_their_own_ways() -> None:
    config = DistillationConfig(
        alpha=0.8, alpha_end=0.2, alpha_schedule="linear",
        temperature=4.0, temperature_end=2.0, temperature_schedule="cosine",
    )  # fmt: skip
    alpha, temperature = alpha_and_temperature(config, 0.25)
    assert alpha == pytest.approx(0.65)
    assert temperature == pytest.approx(4 - 2 * (1 - math.sqrt(0.5)) / 2)
    assert alpha_and_temperature(DistillationConfig(alpha=0.3), 0.9) == (0.3, 2.0)
