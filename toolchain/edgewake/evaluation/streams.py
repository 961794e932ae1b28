"""The score that picks a checkpoint: recall over whole recordings at given rates of false accepts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgewake.config import WakewordConfig
from edgewake.data.augment import synthetic_noise
from edgewake.data.manifest import CorpusManifest, Entry, Split, recording_weights
from edgewake.data.mixing import NoisePool, mix_at_snr
from edgewake.data.reading import file_of, read_audio, to_float, to_int16
from edgewake.errors import EdgewakeError
from edgewake.io import atomic_path
from edgewake.models.tiny_conv import FEATURE_SCALE, TinyConv
from edgewake.runtime.events import refractory_steps, smooth_probabilities
from edgewake.runtime.frontend import features, features_batch
from edgewake.stages import code_hash

RATES = (0.5, 2.0, 8.0)
_MADE_BY = (
    "data/augment.py",
    "data/mixing.py",
    "data/reading.py",
    "runtime/frontend",
    "evaluation/streams.py",
)
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


class Scored(NamedTuple):
    """What a model says of a split.

    Attributes:
        tops: greatest smoothed probability of each recording of the phrase, by "clean" and "noisy".
        weights: of those recordings.
        false: what could be a false accept each, see `peaks`.
        hours: of recordings without the phrase.
    """

    tops: dict[str, Steps]
    weights: dict[str, npt.NDArray[np.float64]]
    false: Steps
    hours: float

    def recalls(self, rate: float) -> tuple[float, float, float]:
        """Recall clean and noisy at `rate` false accepts an hour, and the cutoff that gives it."""
        accepts = int(rate * self.hours)
        clean, cutoff = recall_at(self.tops["clean"], self.weights["clean"], self.false, accepts)
        noisy, _ = recall_at(self.tops["noisy"], self.weights["noisy"], self.false, accepts)
        return clean, noisy, cutoff


class StreamEvaluator:
    """Scores a model on whole recordings of one split: clean phrases, phrases in noise, everything else.

    Args:
        manifest, config: the corpus and what the model was trained with.
        split: which recordings.
        copies: noisy renders of each recording of the phrase.
        gap: silent steps before each recording; at least the receptive field.
        cache: folder where features of whole recordings are kept for the next run; None: nowhere.
        noise_seed: of the backgrounds; None: `training.seed`.
    """

    def __init__(
        self,
        manifest: CorpusManifest,
        config: WakewordConfig,
        split: Split = "val",
        copies: int = 2,
        gap: int = 120,
        *,
        cache: Path | None = None,
        noise_seed: int | None = None,
    ) -> None:
        self.config = config
        seed = config.training.seed if noise_seed is None else noise_seed
        per_step, frame_s = config.model.frames_per_step, config.frontend.step_ms / 1000
        positives = manifest.select(split=split, label=1)
        negatives = manifest.select(split=split, label=0)
        weight = recording_weights(positives).tolist()
        # Half a second more, so that the smoothing window and the receptive field see the phrase's end.
        pause = np.zeros(8000, np.int16)

        def clean() -> list[npt.NDArray[np.int16]]:
            return [np.concatenate([read_audio(manifest.path_of(entry)), pause]) for entry in positives]

        def noisy() -> list[npt.NDArray[np.int16]]:
            pool = NoisePool.from_manifest(manifest, split)
            mixed, heard = [], clean()
            for copy in range(copies):
                for index, samples in enumerate(heard):
                    rng = np.random.default_rng((seed, copy, index))
                    drawn = pool.draw if len(pool) else synthetic_noise
                    background = drawn(len(samples), rng)
                    both = mix_at_snr(to_float(samples), background, config.evaluation.snr_db)
                    mixed.append(to_int16(both / max(1.0, float(np.abs(both).max()))))
            return mixed

        def joined(audio: list[npt.NDArray[np.int16]]) -> Stream:
            weights = weight * (len(audio) // max(1, len(positives)))
            return join(features_batch(audio, config.frontend), weights, gap, per_step)

        def other() -> Stream:
            found = [features(read_audio(manifest.path_of(entry)), config.frontend) for entry in negatives]
            return join(found, [1.0] * len(found), gap, per_step, frame_s)

        everything = [*positives, *negatives]
        about = {"gap": gap, "per_step": per_step, "frontend": config.frontend.hash()}
        store = StreamStore(cache, manifest)
        self.clean = store.get(positives, about | {"of": "clean"}, lambda: joined(clean()))
        noise = {"of": "noisy", "copies": copies, "seed": seed, "snr": config.evaluation.snr_db}
        self.noisy = store.get(everything, about | noise, lambda: joined(noisy()))
        self.negative = store.get(negatives, about | {"of": "negative"}, other)

    def scored(self, model: nn.Module) -> Scored:
        """What `model` says of the recordings; every recall follows from it."""
        assert isinstance(model, TinyConv)
        evaluation = self.config.evaluation
        window = evaluation.window
        step_s = model.frames_per_step * self.config.frontend.step_ms / 1000
        block = refractory_steps(evaluation.refractory_s, step_s)
        false = peaks(smooth_probabilities(step_probabilities(model, self.negative), window), self.negative, block)
        tops, weights = {}, {}
        for name, stream in (("clean", self.clean), ("noisy", self.noisy)):
            track = smooth_probabilities(step_probabilities(model, stream), window)
            spans = zip(stream.begin, stream.end, strict=True)
            tops[name] = np.array([track[begin:end].max() for begin, end in spans], np.float32)
            weights[name] = stream.weight
        return Scored(tops, weights, false, self.negative.seconds / 3600)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Recall at the target rate of false accepts, and "score": its mean over several rates."""
        scored = self.scored(model)
        target = self.config.evaluation.target_fa_per_hour
        figures: dict[str, float] = {}
        scores = []
        for rate in (target, *RATES[1:]):
            clean, noisy, cutoff = scored.recalls(rate)
            scores.append((clean + noisy) / 2)
            if rate == target:
                figures |= {"recall_clean": clean, "recall_noisy": noisy, "cutoff": cutoff}
        # What remains to be learned between the hardest negatives and the weakest phrases breaks ties.
        tops = scored.tops["noisy"]
        margin = float(np.mean(np.log1p(np.sort(tops)[: max(1, len(tops) // 5)])))
        figures["score"] = float(np.mean(scores)) + 0.01 * margin
        return figures

    def judge(self, model: nn.Module, rates: Sequence[float] = RATES) -> dict[str, float]:
        """All recalls: `recall_clean_at_0.5`, `recall_noisy_at_0.5`, `cutoff_at_0.5`, and so on.

        Each is at the lowest cutoff that this split's own recordings without the phrase allow, so models are
        compared at equal cost; a cutoff that is chosen on another split is what a report has.

        Returns:
            These, "recall_mean" over all of them, and "hours" and "recordings" that they were counted on.
        """
        scored = self.scored(model)
        figures: dict[str, float] = {}
        recalls = []
        for rate in rates:
            clean, noisy, cutoff = scored.recalls(rate)
            figures |= {f"recall_clean_at_{rate:g}": clean, f"recall_noisy_at_{rate:g}": noisy}
            figures[f"cutoff_at_{rate:g}"] = cutoff
            recalls += [clean, noisy]
        figures["recall_mean"] = float(np.mean(recalls))
        figures["hours"] = scored.hours
        figures["recordings"] = float(scored.weights["clean"].sum())
        return figures


class StreamStore:
    """Streams on disk, under a key of all that decides them: recordings (path, size, time), settings, code.

    Args:
        cache: the folder, or None to keep nothing.
        manifest: says where recordings are.
    """

    def __init__(self, cache: Path | None, manifest: CorpusManifest) -> None:
        self.cache, self.manifest = cache, manifest

    def get(self, entries: Sequence[Entry], about: Mapping[str, Any], make: Callable[[], Stream]) -> Stream:
        """The stored stream of these recordings and settings, or a new one."""
        if self.cache is None:
            return make()
        seen = []
        for entry in entries:
            stat = file_of(self.manifest.path_of(entry)).stat()
            seen.append((entry.model_dump(mode="json"), stat.st_size, stat.st_mtime_ns))
        code = code_hash(_MADE_BY, ("numpy", "scipy", "soxr"))
        text = json.dumps([code, about, str(self.manifest.folder), seen], sort_keys=True)
        path = self.cache / f"stream-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            stream = make()
            with atomic_path(path) as temporary:
                np.savez(temporary, allow_pickle=False, **vars(stream))
            return stream
        try:
            with np.load(path) as stored:
                values = {name: stored[name] for name in stored.files}
                return Stream(**values | {"seconds": float(values["seconds"])})
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise EdgewakeError(f"{path} is damaged ({error}); delete it and start again") from None
