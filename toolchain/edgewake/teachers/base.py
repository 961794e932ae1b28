"""What a teacher is: raw audio in, logits out, frozen, with embeddings along time where it has any."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16_000


class TeacherOutputs(NamedTuple):
    """All that a teacher says of a batch.

    Attributes:
        logits: (batch, classes).
        frames: embeddings along time, (batch, frames, size), or None.
        frame_logits: logits along time, (batch, frames, classes), or None.
    """

    logits: Tensor
    frames: Tensor | None = None
    frame_logits: Tensor | None = None


class Teacher(nn.Module):
    """Raw audio (batch, samples), float, 16 kHz, full scale 1.0, to logits (batch, classes).

    A subclass gives `embed`; `head` turns embeddings into logits and is what is fitted to a phrase. Teachers
    are frozen: after `freeze()` no parameter needs a gradient and the module stays in eval mode.

    Attributes:
        architecture: name in the registry.
        num_classes: the phrase is class 1.
        embedding_size: channels of an embedding.
        frame_rate: embeddings a second.
        head_trained: whether logits mean anything yet.
        source: where the weights are from, for records: a path, a hub name, an asset, or "random".
        name: of the pretrained weights; "" where there is only one set, or none.
        backbone_trained: whether the network under the head was trained here, so that its weights are kept.
        has_embeddings: False for an ensemble, whose members have them.
        outside_parameters: weights beside `parameters()`, of a network that torch does not run.
    """

    architecture: str
    name: str = ""
    backbone_trained: bool = False
    has_embeddings: bool = True
    outside_parameters: int = 0
    num_classes: int
    embedding_size: int
    frame_rate: float
    head_trained: bool
    source: str
    head: Head

    @abstractmethod
    def embed(self, audio: Tensor) -> Tensor:
        """Embeddings along time: (batch, samples) -> (batch, frames, embedding_size)."""

    @abstractmethod
    def fingerprint(self) -> str:
        """16 hex digits of what decides embeddings: weights, precision and the code that computes them."""

    def layers(self) -> list[nn.Module]:
        """The network's layers, first to last, that can be trained on from their pretrained weights."""
        return []

    def head_fingerprint(self) -> str:
        """16 hex digits of what decides logits given embeddings."""
        return tensors_fingerprint(self.head.state_dict())

    def outputs(self, audio: Tensor) -> TeacherOutputs:
        """Logits and all that led to them."""
        frames = self.embed(audio)
        logits, frame_logits = self.head(frames)
        return TeacherOutputs(logits, frames, frame_logits)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, samples) -> (batch, classes)."""
        return self.outputs(audio).logits

    def freeze(self) -> Teacher:
        """No gradients, eval mode, for good."""
        self.requires_grad_(False)
        self.eval()
        self._frozen = True
        return self

    def thaw(self) -> Teacher:
        """Undo `freeze`, to train here; parameters stay without gradients until they are given them."""
        self._frozen = False
        return self

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called."""
        return bool(getattr(self, "_frozen", False))

    def train(self, mode: bool = True) -> Teacher:
        """As in torch, but a frozen teacher stays in eval mode."""
        super().train(mode and not self.frozen)
        return self


class Head(nn.Module):
    """(batch, frames, size) -> logits (batch, classes), and logits along time (batch, frames, classes)."""

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """To be given by a subclass."""
        raise NotImplementedError


def device_of(teacher: nn.Module) -> torch.device:
    """Where a teacher is, and what it hears has to be; a head alone counts where torch runs no more of it."""
    parameter = next(teacher.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def members_of(teacher: nn.Module) -> list[Teacher]:
    """The members of an ensemble; none of any other teacher."""
    return list(getattr(teacher, "members", ()))


def parameters_of(model: nn.Module) -> int:
    """Weights of a model, those that torch does not hold too; of an ensemble, of all its members."""
    if members := members_of(model):
        return sum(parameters_of(member) for member in members)
    return sum(value.numel() for value in model.parameters()) + int(getattr(model, "outside_parameters", 0))


def tensors_fingerprint(state: dict[str, Tensor]) -> str:
    """First 16 hex digits of SHA-256 over names, shapes and bytes of tensors."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.view(torch.uint8).numpy().tobytes() if value.dim() else str(value.item()).encode())
    return digest.hexdigest()[:16]


class OutputSource(Protocol):
    """Where a trainer gets a teacher's signals of clips that it knows by number."""

    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips, (batch,) int64 numbers of the training loader's clips, on the CPU."""
        ...
