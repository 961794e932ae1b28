"""Several teachers as one: a weighted mean of their outputs, of clips and along time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.errors import ConfigError
from edgewake.teachers.base import Teacher, TeacherOutputs, digest

Mean = Literal["probabilities", "logits"]


class EnsembleTeacher(Teacher):
    """A weighted mean of its members' probabilities or logits.

    With weights w that sum to 1, and members' logits z_i: of probabilities, log(sum_i w_i softmax(z_i)),
    which is a mixture of experts (Hinton et al. 2015, arXiv:1503.02531, section 3 uses the mean as target);
    of logits, sum_i w_i z_i, which is the geometric mean of the probabilities, normalized.

    Logits along time are brought to the most frequent member's frames by linear interpolation of what is
    averaged; members without them (a linear head) are left out there. An ensemble has no embeddings of its own,
    since its members' differ in size and rate. `weights` have any scale; None means equal ones.
    """

    architecture = "ensemble"
    embedding_size = 0

    def __init__(
        self, members: Sequence[Teacher], weights: Sequence[float] | None = None, mean: Mean = "probabilities"
    ) -> None:
        super().__init__()
        if len(members) < 2:
            raise ConfigError(f"an ensemble of {len(members)}: give two teachers or more (distillation.teachers)")
        weights = list(weights or [1.0] * len(members))
        if len(weights) != len(members) or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                f"distillation.teacher_weights = {weights}: give {len(members)} weights, none negative, "
                "with a positive sum"
            )
        classes = {member.num_classes for member in members}
        if len(classes) > 1:
            raise ConfigError(f"an ensemble's members have {sorted(classes)} classes: give equal ones")
        self.members, self.mean = cast("list[Teacher]", nn.ModuleList(members)), mean
        self.weights = [weight / sum(weights) for weight in weights]
        self.num_classes = classes.pop()
        self.frame_rate = max(member.frame_rate for member in members)

    @property
    def head_trained(self) -> bool:  # type: ignore[override]
        return all(member.head_trained for member in self.members)

    @property
    def source(self) -> str:  # type: ignore[override]
        return ", ".join(f"{member.architecture}: {member.source}" for member in self.members)

    def embed(self, audio: Tensor) -> Tensor:
        raise ConfigError(
            "an ensemble has no embeddings of its own: ask its members, or set distillation.hint_weight: 0"
        )

    def outputs(self, audio: Tensor) -> TeacherOutputs:
        return self.combine([member.outputs(audio) for member in self.members])

    def combine(self, outputs: Sequence[TeacherOutputs]) -> TeacherOutputs:
        """The ensemble's outputs from its members', in their order; `frames` are None."""
        logits = self._average([each.logits for each in outputs], self.weights)
        weighed = zip((each.frame_logits for each in outputs), self.weights, strict=True)
        timed = [(value, weight) for value, weight in weighed if value is not None and weight > 0]
        if not timed:
            return TeacherOutputs(logits)
        frames, total = max(value.shape[1] for value, _ in timed), sum(weight for _, weight in timed)
        values = [self._at_frames(value, frames) for value, _ in timed]
        return TeacherOutputs(logits, None, self._average(values, [weight / total for _, weight in timed]))

    def _at_frames(self, logits: Tensor, frames: int) -> Tensor:
        """(batch, any, classes) -> (batch, frames, classes), each spread evenly over the clip."""
        if logits.shape[1] == frames:
            return logits
        value = logits.softmax(dim=2) if self.mean == "probabilities" else logits
        value = F.interpolate(value.transpose(1, 2), frames, mode="linear").transpose(1, 2)
        return value.clamp_min(1e-12).log() if self.mean == "probabilities" else value

    def _average(self, logits: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        stacked = torch.stack([value.float() for value in logits])
        weight = torch.tensor(weights).to(stacked).reshape(-1, *[1] * (stacked.dim() - 1))
        if self.mean == "logits":
            return (weight * stacked).sum(dim=0)
        # A weight of 0 has the logarithm -inf, which leaves its member out.
        return torch.logsumexp(stacked.log_softmax(dim=-1) + weight.log(), dim=0)

    def fingerprint(self) -> str:
        return digest(*(member.fingerprint() for member in self.members))

    def head_fingerprint(self) -> str:
        return digest([member.head_fingerprint() for member in self.members], self.weights, self.mean)
