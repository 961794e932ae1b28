"""Accuracy, precision, recall, F1 and loss of a teacher or a student over clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.data.clips import Clips
from edgewake.data.reading import to_float
from edgewake.errors import EdgewakeError
from edgewake.models.featurizer import make_featurizer
from edgewake.models.tiny_conv import TinyConv
from edgewake.teachers.base import Teacher

# Below this accuracy a teacher may not help (the guide, troubleshooting 4).
WORTHWHILE = 0.8


class ClipScores(float):
    """The accuracy over clips, as a number, and all figures by name, as a mapping.

    `f"{scores:.2%}"` shows the accuracy, `scores["f1"]` is the F1 of class 1. Names: acc (also accuracy),
    precision, recall, f1, loss (mean cross-entropy), clips. `dict(scores)` is plain data.
    """

    figures: Mapping[str, float]

    def __new__(cls, figures: Mapping[str, float]) -> ClipScores:
        made = super().__new__(cls, figures["acc"])
        made.figures = dict(figures)
        return made

    def __getitem__(self, name: str) -> float:
        return self.figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.figures)

    def keys(self) -> KeysView[str]:
        """Names of the figures."""
        return self.figures.keys()


def f1_score(probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of class 1 at probability 0.5, over clips: both (n,)."""
    predicted, truth = probability >= 0.5, label == 1
    hit = float((predicted & truth).sum())
    precision, recall = (hit / max(1.0, float(each.sum())) for each in (predicted, truth))
    accuracy = float((predicted == truth).mean()) if len(label) else 0.0
    f1 = 2 * precision * recall / max(1e-12, precision + recall)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def evaluate_model(
    model: nn.Module, loader: Iterable[Any], config: WakewordConfig | None = None, device: str = "cpu"
) -> ClipScores:
    """Evaluate a model over the clips of a loader, at probability 0.5.

    A teacher takes raw audio. A student takes features: those that the loader gives, or those that
    `models.featurizer` makes of its raw audio. The model is left in the mode that it was in. A teacher with an
    accuracy under 80 % is named on stderr, since distillation from it may not help.

    Args:
        model: teacher or student; its class 1 is the phrase.
        loader: batches (inputs, targets, ...), such as a validation loader.
        config: how a student's features are made of raw audio; by default of the model's own kind, with its
            `input_size` as `data.n_mels` and all else as in `WakewordConfig()`.
        device: where to compute.

    Raises:
        EdgewakeError: the loader gives no batch, or spectrograms for a teacher.
    """
    model, was_training = model.to(device), model.training
    model.eval()
    featurizer: nn.Module | None = None
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for batch in loader:
            inputs = batch[0].to(device, torch.float32)
            if isinstance(model, Teacher) and inputs.dim() != 2:
                raise EdgewakeError(
                    f"inputs of shape {tuple(inputs.shape)}: a teacher takes raw audio (batch, samples); use "
                    "WakewordDataset(return_raw_audio=True)"
                )
            if not isinstance(model, Teacher) and inputs.dim() == 2:
                featurizer = featurizer or _featurizer(model, config, device)
                inputs = featurizer(inputs)
            found.append((model(inputs).float().cpu(), torch.as_tensor(batch[1]).cpu()))
    model.train(was_training)
    if not found:
        raise EdgewakeError("the loader gives no batch: there is nothing to evaluate the model on")
    outputs, targets = (torch.cat(part) for part in zip(*found, strict=True))
    scores = f1_score(outputs.softmax(dim=1)[:, 1].numpy(), targets.numpy().astype(np.int64))
    loss = float(torch.nn.functional.cross_entropy(outputs, targets))
    result = ClipScores({"acc": scores["accuracy"], **scores, "loss": loss, "clips": len(targets)})
    if isinstance(model, Teacher):
        advise(result)
    return result


def advise(accuracy: float) -> None:
    """One line on stderr where a teacher's accuracy over clips is too low to help a student."""
    if accuracy < WORTHWHILE:
        error_console.print(
            f"Teacher accuracy: {accuracy:.2%} < {WORTHWHILE:.0%}: teacher may not be helpful; fit it with edgewake "
            "teacher train, try another architecture or more recordings, or lower distillation.alpha",
            soft_wrap=True,
        )


@torch.no_grad()
def clip_probabilities(
    model: Callable[[Tensor], Tensor], audio: Clips, device: torch.device | str, *, batch: int = 32
) -> npt.NDArray[np.float32]:
    """Probability of the phrase for clips, int16 (clips, samples): float32, (clips,).

    `model` takes raw audio on `device`, float (batch, samples), to logits (batch, classes), in eval mode.
    """
    found = [np.zeros(0, np.float32)]
    for begin in range(0, len(audio), batch):
        clips = torch.from_numpy(to_float(np.asarray(audio[begin : begin + batch]))).to(device)
        found.append(model(clips).float().softmax(dim=1)[:, 1].cpu().numpy())
    return np.concatenate(found)


def _featurizer(model: nn.Module, config: WakewordConfig | None, device: str) -> nn.Module:
    if config is None:
        config = WakewordConfig()
        if not isinstance(model, TinyConv):
            config.model.architecture = "mobilenetv3"
        config.data.n_mels = int(getattr(model, "input_size", config.data.n_mels))
        config.frontend.channels = config.data.n_mels
    return make_featurizer(config, device)
