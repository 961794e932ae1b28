"""Phonemes along time from a pretrained speech encoder, by a classifier fitted to synthesised speech.

Synthesis gives the times of the phonemes that it was given; a small network learns to tell them from the encoder's
embeddings, and then gives posteriors of any recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.cache import Cache
from edgewake.console import track
from edgewake.data.reading import SAMPLE_RATE
from edgewake.synthesis.engines import speak
from edgewake.synthesis.phonemes import CODES, MARKS, SIGNS
from edgewake.synthesis.phrases import phonemes_of
from edgewake.synthesis.sentences import sentences
from edgewake.synthesis.speakers import changed, draw_change
from edgewake.teachers.base import Teacher

CLASSES = len(SIGNS) + 1
SILENCE = len(SIGNS)
IGNORED = -1
VOICE = "hibari:heart"
SENTENCES, HELD_OUT_EVERY = 700, 10
EPOCHS, BATCH, RATE, HIDDEN = 10, 1024, 4e-3, 128
# Quiet and loud speech, as recordings have it, dB of full scale; under it a faint noise.
LEVEL_DB, NOISE_DB = (-25.0, 0.0), -70.0


class PhonemeHead(nn.Module):
    """Embeddings, (..., size), to logits of phonemes and silence, (..., CLASSES)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.layers = nn.Sequential(nn.Linear(size, HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, CLASSES))

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.layers((frames.float() - self.mean) / self.scale)
        return logits


def frame_labels(
    phonemes: str, bounds: npt.NDArray[np.float64], times: npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    """Class at each time, in s: (times,); `IGNORED` between words, where sound belongs to a neighbour.

    `bounds` are `Speech.bounds`. A stress mark's time counts as that of the phoneme after it, a length's as before it.
    """
    classes = []
    for position, sign in enumerate(phonemes):
        around = {"ˈ": phonemes[position:], "ˌ": phonemes[position:], "ː": phonemes[position::-1]}.get(sign, "")
        nearest = next((other for other in around if other in CODES), sign)
        classes.append(CODES.get(nearest, IGNORED if nearest in MARKS else SILENCE))
    index = np.searchsorted(bounds, times, side="right") - 1
    inside = (index >= 0) & (index < len(classes))
    return np.where(inside, np.array(classes)[np.clip(index, 0, len(classes) - 1)], SILENCE)


def fitted_head(teacher: Teacher, cache: Cache, seed: int) -> tuple[PhonemeHead, dict[str, float]]:
    """A head for a teacher's embeddings, from the cache where it was fitted before, and its held-out accuracy."""

    def make(folder: Path) -> dict[str, Any]:
        head, figures = _fit(teacher, seed)
        torch.save(head.state_dict(), folder / "head.pt")
        return figures

    key = {"teacher": teacher.fingerprint(), "seed": seed, "sentences": SENTENCES, "voice": VOICE}
    found = cache.get("phonemes", key, make, code=[__name__])
    head = PhonemeHead(teacher.embedding_size)
    head.load_state_dict(torch.load(found.folder / "head.pt", weights_only=True))
    return head.eval().requires_grad_(False), found.record


def _fit(teacher: Teacher, seed: int) -> tuple[PhonemeHead, dict[str, float]]:
    parts: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
    for number, text in enumerate(track(sentences(SENTENCES, seed), "phonemes of synthesised speech")):
        frames, labels = _labelled(teacher, text, np.random.default_rng([seed, number]))
        parts[number % HELD_OUT_EVERY == 0].append((frames[labels != IGNORED], labels[labels != IGNORED]))
    (frames, labels), held = ([torch.cat(each) for each in zip(*parts[which], strict=True)] for which in (False, True))
    torch.manual_seed(seed)
    head = PhonemeHead(teacher.embedding_size)
    head.mean.copy_(frames.mean(0))
    head.scale.copy_(frames.std(0) + 1e-3)
    optimizer = torch.optim.AdamW(head.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    for _ in range(EPOCHS):
        for chosen in torch.split(torch.randperm(len(frames)), BATCH):
            loss = F.cross_entropy(head(frames[chosen]), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    head.eval()
    with torch.no_grad():
        right = (head(held[0]).argmax(1) == held[1]).float().mean()
    return head, {"accuracy": float(right), "frames": len(labels)}


@torch.no_grad()
def _labelled(teacher: Teacher, text: str, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Embeddings of a sentence, (frames, size), and the class of each frame."""
    phonemes = phonemes_of(text)
    speech = changed(speak(text, phonemes, VOICE, float(np.exp(rng.uniform(-0.22, 0.4)))), draw_change(rng))
    assert speech.bounds is not None
    audio = np.asarray(soxr.resample(speech.audio, speech.rate, SAMPLE_RATE), np.float32)
    audio *= 10 ** (rng.uniform(*LEVEL_DB) / 20) / max(float(np.abs(audio).max()), 1e-6)
    audio += 10 ** (NOISE_DB / 20) * rng.standard_normal(len(audio), dtype=np.float32)
    frames = teacher.embed(torch.from_numpy(audio)[None])[0]
    times = (np.arange(len(frames)) + 0.5) / teacher.frame_rate
    return frames, torch.from_numpy(frame_labels(phonemes, speech.bounds, times))
