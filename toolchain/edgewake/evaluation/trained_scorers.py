"""Scorers of models in torch: tiny_conv stepped along features, and a window that slides over audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgewake.config import FrontendConfig, WakewordConfig
from edgewake.data.reading import SAMPLE_RATE, Samples
from edgewake.data.rendering import RenderPlan
from edgewake.errors import EdgewakeError
from edgewake.evaluation.clips import clip_probabilities
from edgewake.evaluation.tracks import HOP_S, Probabilities, Scorer
from edgewake.models.featurizer import make_featurizer
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.events import refractory_steps, smooth_probabilities
from edgewake.runtime.frontend import FEATURE_SCALE

STEPS_AT_ONCE = 8192
CLIPS_AT_ONCE = 2048
CLIP_BATCH = 256

ClipModel = Callable[[npt.NDArray[np.int16]], Probabilities]


def scorer_of(model: nn.Module, config: WakewordConfig) -> Scorer:
    """The scorer of a student: tiny_conv is stepped as on the board, others get a sliding window."""
    if isinstance(model, TinyConv):
        return TinyConvScorer(model, config)
    return ClipScorer(clip_model(model, config), config)


def clip_model(student: nn.Module, config: WakewordConfig) -> ClipModel:
    """What gives a student's probabilities of clips by their audio."""
    device = next(student.parameters()).device
    featurizer = make_featurizer(config, device)
    return lambda clips: clip_probabilities(lambda audio: student(featurizer(audio)), clips, device, batch=CLIP_BATCH)


class TinyConvScorer:
    """A tiny_conv in torch, in its own mode, with fake quantization where its phase has that."""

    def __init__(self, model: TinyConv, config: WakewordConfig) -> None:
        self.model, self._window = model, config.evaluation.window
        self.frontend: FrontendConfig | None = config.frontend
        step_s = model.frames_per_step * config.frontend.step_ms / 1000
        self.refractory_steps = refractory_steps(config.evaluation.refractory_s, step_s)

    @torch.no_grad()
    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """See `Scorer`. The recordings go through the model together, with silence between that resets it."""
        model, device = self.model, next(self.model.parameters()).device
        per_step, history = model.frames_per_step, model.receptive_field_steps - 1
        gap = np.zeros((history * per_step, model.input_size), np.uint16)
        counts = [len(features) // per_step for features in recordings]
        parts = [(gap, each[: count * per_step]) for count, each in zip(counts, recordings, strict=True)]
        features = np.concatenate([part for pair in parts for part in pair])
        steps = len(features) // per_step
        found = np.zeros(steps, np.float32)
        for start in range(0, steps, STEPS_AT_ONCE):
            first = max(0, start - history)
            block = features[first * per_step : min(steps, start + STEPS_AT_ONCE) * per_step].astype(np.float32)
            value = torch.from_numpy(block * np.float32(FEATURE_SCALE)).unsqueeze(0).to(device)
            logits = model.step_logits(value, silence_before=True)[0, start - first :]
            found[start : start + len(logits)] = torch.sigmoid(logits).cpu().numpy()
        spans = zip(np.cumsum([history + count for count in counts]).tolist(), counts, strict=True)
        return [smooth_probabilities(found[end - count : end], self._window) for end, count in spans]


class ClipScorer:
    """A model of clips, by a window that slides over audio.

    Windows as long as a training clip end one hop, two hops, ... after a recording's start, with silence before it.
    `model` takes int16 (n, samples), n <= 2048, to the probability of the phrase, float32 (n,).
    """

    frontend: FrontendConfig | None = None

    def __init__(self, model: ClipModel, config: WakewordConfig) -> None:
        self._model = model
        self.clip = RenderPlan.of(config).clip_samples
        self.hop = min(round(HOP_S * SAMPLE_RATE), self.clip)
        self.refractory_steps = refractory_steps(config.evaluation.refractory_s, self.hop / SAMPLE_RATE)

    def windows_of(self, recording: Samples) -> npt.NDArray[np.int16]:
        """All windows of one recording, in order of time: int16, (windows, samples), a view."""
        padded = np.concatenate([np.zeros(self.clip, np.int16), recording])
        padded = np.pad(padded, (0, -len(recording) % self.hop))
        # The first window would hold none of the recording.
        return np.lib.stride_tricks.sliding_window_view(padded, self.clip)[self.hop :: self.hop]

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """See `Scorer`. Short recordings share a call of the model."""
        windows = [self.windows_of(recording) for recording in recordings]
        found = [np.zeros(0, np.float32)]
        held: list[npt.NDArray[np.int16]] = []
        for piece in (each[at : at + CLIPS_AT_ONCE] for each in windows for at in range(0, len(each), CLIPS_AT_ONCE)):
            if sum(map(len, held)) + len(piece) > CLIPS_AT_ONCE:
                found.append(self._checked(np.concatenate(held)))
                held = []
            held.append(piece)
        if held:
            found.append(self._checked(np.concatenate(held)))
        return np.split(np.concatenate(found), np.cumsum([len(each) for each in windows])[:-1])

    def _checked(self, clips: npt.NDArray[np.int16]) -> Probabilities:
        found = np.asarray(self._model(clips), np.float32)
        if found.shape != (len(clips),) or not np.isfinite(found).all():
            raise EdgewakeError(
                f"a model gave {found.shape} probabilities of {len(clips)} windows, or some that are not finite; "
                "check its weights"
            )
        return found
