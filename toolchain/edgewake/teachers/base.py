"""What a teacher is: raw audio to logits and to embeddings along time, frozen."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from edgewake.config import TeacherConfig
from edgewake.errors import EdgewakeError
from edgewake.teachers.heads import Head, make_head

SAMPLE_RATE = 16_000


class TeacherOutputs(NamedTuple):
    """Logits of a batch, (batch, classes); embeddings, (batch, frames, size), and logits along time, or None."""

    logits: Tensor
    frames: Tensor | None = None
    frame_logits: Tensor | None = None


class Teacher(nn.Module):
    """Raw audio (batch, samples), float, 16 kHz, full scale 1.0, to logits (batch, classes).

    A subclass implements `embed`, and may have `layers`; `head` maps embeddings to logits and is what is fitted to a
    phrase. After `freeze()` no parameter takes gradients and the module stays in eval mode.

    Attributes:
        architecture: its name in `distillation.teacher_architecture`.
        num_classes: the phrase is class 1.
        embedding_size: channels of an embedding; 0 for an ensemble, whose members have them.
        frame_rate: embeddings a second.
        head_trained: whether the head was fitted.
        source: origin of the weights, for records: a path, a hub name, an asset, or "random".
        name, folder: of the pretrained weights; "" where there is only one set, or none.
        backbone_trained: the network under the head was trained by the user, so a saved teacher holds its weights.
        outside_parameters: number of weights in a network that torch does not run.
    """

    architecture: str
    num_classes: int
    embedding_size: int
    frame_rate: float
    source: str
    head: Head
    head_trained: bool = False
    name: str = ""
    folder: str = ""
    backbone_trained: bool = False
    outside_parameters: int = 0
    frozen: bool = False

    @abstractmethod
    def embed(self, audio: Tensor) -> Tensor:
        """Embeddings along time: (batch, samples) -> (batch, frames, embedding_size)."""

    def layers(self) -> list[nn.Module]:
        """The network's layers, first to last, that can be trained on from their pretrained weights."""
        return []

    def recompute_activations(self) -> None:
        """Where layers are trained: less memory, more time, and the same gradients."""

    def network_config(self) -> dict[str, Any] | None:
        """Plain values from which the network can be built without pretrained files; None where that is impossible."""
        return None

    def backbone(self) -> dict[str, Tensor]:
        """All tensors but the head's, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("head.")}

    def weights_fingerprint(self) -> str:
        """16 hex digits of the network's weights."""
        return tensors_fingerprint(self.backbone())

    def fingerprint(self) -> str:
        """16 hex digits of the network, its weights and its shape; keys of stored results add the code."""
        return digest(self.weights_fingerprint(), self.network_config())

    def head_fingerprint(self) -> str:
        """16 hex digits of what decides logits given embeddings."""
        return tensors_fingerprint(self.head.state_dict())

    def new_head(self, settings: TeacherConfig | None = None) -> Self:
        """Replace the head by an untrained one."""
        self.head = make_head(settings or TeacherConfig(), self.embedding_size, self.frame_rate, self.num_classes)
        self.head_trained = False
        return self

    def outputs(self, audio: Tensor) -> TeacherOutputs:
        """Logits, and the embeddings and logits along time that they come from."""
        frames = self.embed(audio)
        logits, frame_logits = self.head(frames)
        return TeacherOutputs(logits, frames, frame_logits)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, samples) -> (batch, classes)."""
        return self.outputs(audio).logits

    def freeze(self) -> Self:
        """No gradients and eval mode, until `frozen` is set to False."""
        self.requires_grad_(False)
        self.eval()
        self.frozen = True
        return self

    def train(self, mode: bool = True) -> Self:
        """As in torch, but a frozen teacher stays in eval mode."""
        return super().train(mode and not self.frozen)


def check_length(audio: Tensor, least: int, most: int, name: str) -> None:
    """Raises EdgewakeError unless audio is (batch, samples) of `least` to `most` samples."""
    if audio.dim() != 2:
        raise EdgewakeError(f"{name} takes audio (batch, samples), not {tuple(audio.shape)}: reshape it")
    if not least <= audio.shape[1] <= most:
        raise EdgewakeError(
            f"{name} takes clips of {least / SAMPLE_RATE:g} to {most / SAMPLE_RATE:g} s, not of "
            f"{audio.shape[1] / SAMPLE_RATE:g} s ({audio.shape[1]:,} samples): cut or pad them"
        )


def device_of(teacher: nn.Module) -> torch.device:
    """Where a teacher's input must be; the CPU where it has no parameters in torch."""
    parameter = next(teacher.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def members_of(teacher: nn.Module) -> list[Teacher]:
    """The members of an ensemble; none of any other teacher."""
    return list(getattr(teacher, "members", ()))


def parameters_of(model: nn.Module) -> int:
    """Number of weights of a model, also of those that torch does not hold."""
    outside = sum(getattr(module, "outside_parameters", 0) for module in model.modules())
    return sum(value.numel() for value in model.parameters()) + outside


def tensors_fingerprint(state: dict[str, Tensor]) -> str:
    """First 16 hex digits of SHA-256 over names, shapes and bytes of tensors."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.view(torch.uint8).numpy().tobytes() if value.dim() else str(value.item()).encode())
    return found.hexdigest()[:16]


def digest(*parts: Any) -> str:
    """First 16 hex digits of SHA-256 over JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class OutputSource(Protocol):
    """A teacher's outputs for clips that a trainer names by number; `frame_rate` is frames a second."""

    frame_rate: float

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs, on the CPU, for clips: (batch,) int64 numbers of the training loader's clips."""
        ...
