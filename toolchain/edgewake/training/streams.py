"""The score that picks a checkpoint: recall over whole recordings at given rates of false accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgewake.config import WakewordConfig
from edgewake.corpus.augment import synthetic_noise
from edgewake.corpus.manifest import Manifest, Split, recording_weights
from edgewake.corpus.mixing import NoisePool, mix_at_snr
from edgewake.corpus.reading import read_audio, to_float, to_int16
from edgewake.evaluation.events import smooth_probabilities
from edgewake.frontend import features, features_batch
from edgewake.models.tiny_conv import FEATURE_SCALE, TinyConv

Steps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stream:
    """Recordings one after another, with silence between, so that one forward pass scores them all.

    Attributes:
        features: uint16, (frames, channels).
        begin, end: first step and step after the last of each recording.
        weight: of each recording (copies of one recording share a weight of 1).
        seconds: total length of the recordings.
    """

    features: npt.NDArray[np.uint16]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    seconds: float


def join(
    recordings: Sequence[npt.NDArray[np.uint16]],
    weight: Sequence[float],
    gap: int,
    per_step: int,
    frame_s: float = 0.01,
) -> Stream:
    """Join recordings' features with `gap` silent steps before each, every one starting on a step.

    Args:
        per_step: frames of a step.
        frame_s: seconds from one frame to the next.
    """
    parts, begin, end, at = [], [], [], 0
    for recording in recordings:
        steps = len(recording) // per_step
        parts += [np.zeros((gap * per_step, recording.shape[1]), np.uint16), recording[: steps * per_step]]
        begin.append(at + gap)
        end.append(at + gap + steps)
        at = end[-1]
    seconds = sum(len(recording) for recording in recordings) * frame_s
    joined = np.concatenate(parts) if parts else np.zeros((0, 40), np.uint16)
    return Stream(joined, np.array(begin), np.array(end), np.array(weight, np.float64), seconds)


@torch.no_grad()
def step_probabilities(model: TinyConv, stream: Stream, chunk: int = 8192) -> Steps:
    """Probability at every step of a stream: (steps,)."""
    per_step, history = model.frames_per_step, model.receptive_field_steps - 1
    steps = len(stream.features) // per_step
    out = np.zeros(steps, np.float32)
    device = next(model.parameters()).device
    for start in range(0, steps, chunk):
        first = max(0, start - history)
        block = stream.features[first * per_step : min(steps, start + chunk) * per_step].astype(np.float32)
        value = torch.from_numpy(block * np.float32(FEATURE_SCALE)).unsqueeze(0).to(device)
        logits = model.step_logits(value, silence_before=True)[0, start - first :]
        out[start : start + len(logits)] = torch.sigmoid(logits).cpu().numpy()
    return out


def peaks(track: Steps, stream: Stream, block: int) -> npt.NDArray[np.float32]:
    """Largest value of every `block` steps within recordings: what could be one event each."""
    found = []
    for begin, end in zip(stream.begin, stream.end, strict=True):
        part = track[begin:end]
        padded = np.pad(part, (0, -len(part) % block), constant_values=0.0)
        found.append(padded.reshape(-1, block).max(axis=1))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def recall_at(
    top: Steps, weight: npt.NDArray[np.float64], negative_peaks: npt.NDArray[np.float32], accepts: int
) -> tuple[float, float]:
    """Recall, and its cutoff, when `accepts` of the negative peaks may pass."""
    ordered = np.sort(negative_peaks)[::-1]
    cutoff = float(ordered[accepts]) if accepts < len(ordered) else 0.0
    return float(weight[top > cutoff].sum() / max(1e-9, weight.sum())), cutoff


class StreamEvaluator:
    """Scores a model on whole recordings of one split: clean phrases, phrases in noise, everything else.

    Args:
        manifest, config: the corpus and what the model was trained with.
        split: which recordings.
        copies: noisy renders of each recording of the phrase.
        gap: silent steps before each recording; at least the receptive field.
    """

    def __init__(
        self,
        manifest: Manifest,
        config: WakewordConfig,
        split: Split = "val",
        copies: int = 2,
        gap: int = 120,
    ) -> None:
        self.config = config
        positives = manifest.select(split=split, label=1)
        weight = recording_weights(positives).tolist()
        pool = NoisePool.from_manifest(manifest, split)
        # Half a second more, so that the smoothing window and the receptive field see the phrase's end.
        pause = np.zeros(8000, np.int16)
        clean = [np.concatenate([read_audio(manifest.path_of(entry)), pause]) for entry in positives]
        noisy = []
        for copy in range(copies):
            for index, samples in enumerate(clean):
                rng = np.random.default_rng((config.training.seed, copy, index))
                drawn = pool.draw if len(pool) else synthetic_noise
                background = drawn(len(samples), rng)
                mixed = mix_at_snr(to_float(samples), background, config.evaluation.snr_db)
                noisy.append(to_int16(mixed / max(1.0, float(np.abs(mixed).max()))))
        per_step = config.model.frames_per_step
        self.clean, self.noisy = (
            join(
                features_batch(audio, config.frontend),
                weight * (len(audio) // max(1, len(clean))),
                gap,
                per_step,
            )
            for audio in (clean, noisy)
        )
        negatives = manifest.select(split=split, label=0)
        other = [features(read_audio(manifest.path_of(entry)), config.frontend) for entry in negatives]
        self.negative = join(other, [1.0] * len(other), gap, per_step, config.frontend.step_ms / 1000)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Recall at the target rate of false accepts, and "score": its mean over several rates."""
        assert isinstance(model, TinyConv)
        evaluation = self.config.evaluation
        window = evaluation.window
        step_s = model.frames_per_step * self.config.frontend.step_ms / 1000
        block = max(1, round(evaluation.refractory_s / step_s))
        false = peaks(
            smooth_probabilities(step_probabilities(model, self.negative), window), self.negative, block
        )
        hours = self.negative.seconds / 3600
        tops = {}
        for name, stream in (("clean", self.clean), ("noisy", self.noisy)):
            track = smooth_probabilities(step_probabilities(model, stream), window)
            spans = zip(stream.begin, stream.end, strict=True)
            tops[name] = np.array([track[begin:end].max() for begin, end in spans], np.float32)
        figures: dict[str, float] = {}
        scores = []
        for rate in (evaluation.target_fa_per_hour, 2.0, 8.0):
            accepts = int(rate * hours)
            clean, cutoff = recall_at(tops["clean"], self.clean.weight, false, accepts)
            noisy, _ = recall_at(tops["noisy"], self.noisy.weight, false, accepts)
            scores.append((clean + noisy) / 2)
            if rate == evaluation.target_fa_per_hour:
                figures |= {"recall_clean": clean, "recall_noisy": noisy, "cutoff": cutoff}
        # What remains to be learned between the hardest negatives and the weakest phrases breaks ties.
        margin = float(np.mean(np.log1p(np.sort(tops["noisy"])[: max(1, len(tops["noisy"]) // 5)])))
        figures["score"] = float(np.mean(scores)) + 0.01 * margin
        return figures
