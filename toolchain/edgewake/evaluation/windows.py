"""Models that judge whole clips meet whole recordings: windows slide over them, and events are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgewake.config import WakewordConfig
from edgewake.console import bar
from edgewake.data.augment import synthetic_noise
from edgewake.data.manifest import CorpusManifest, Entry, Split, recording_weights
from edgewake.data.mixing import NoisePool, mix_at_snr
from edgewake.data.reading import SAMPLE_RATE, Samples, read_audio, to_float, to_int16
from edgewake.data.render import clip_samples
from edgewake.data.store import render_plan
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.streams import RATES, Scored
from edgewake.runtime.events import peaks, refractory_steps

# Clips are rendered with the phrase ending anywhere within 0.37 s (`RenderPlan.tail_frames`): of windows this
# far apart one always has it there, and a heavy teacher spends no more time than that takes.
HOP_S = 0.35
# What follows a recording, so that windows see the phrase's end in the place where clips have it.
PAUSE_S = 0.5
CHUNK = 2048

Probabilities = npt.NDArray[np.float32]
Score = Callable[[npt.NDArray[np.int16]], Probabilities]


class WindowEvaluator:
    """Scores a model of clips on the whole recordings of one split, as `StreamEvaluator` does one of streams.

    The recordings, the noisy renders, weights and rates of false accepts are the same ones. Windows as long
    as a training clip end `hop_s`, 2 `hop_s`, ... after a recording's start, with silence before it and half
    a second of it after. Windows that share audio would raise one event together: false accepts are separate
    peaks, at least a clip's length (and `evaluation.refractory_s`) apart.

    Args:
        manifest, config: the corpus, and what the model was trained with.
        split: which recordings.
        hop_s: seconds from one window to the next.
        copies: noisy renders of each recording of the phrase.
        noise_seed: of the backgrounds; None for `training.seed`.

    Raises:
        ConfigError: the hop is not within (0, clip].
        EdgewakeError: the split has no recording of the phrase, or nothing else.
    """

    def __init__(
        self,
        manifest: CorpusManifest,
        config: WakewordConfig,
        split: Split = "val",
        hop_s: float = HOP_S,
        *,
        copies: int = 2,
        noise_seed: int | None = None,
    ) -> None:
        self.config = config
        self.clip = clip_samples(render_plan(config), config.frontend)
        self.hop = round(hop_s * SAMPLE_RATE)
        if not 0 < self.hop <= self.clip:
            raise ConfigError(
                f"hop_s = {hop_s}: windows of {self.clip / SAMPLE_RATE:.2f} s would leave gaps or stand "
                f"still; use {HOP_S}"
            )
        positives = manifest.select(split=split, label=1)
        negatives = manifest.select(split=split, label=0)
        if not positives or not negatives:
            lacking = "a recording of the phrase" if not positives else "one without the phrase"
            raise EdgewakeError(f"split {split!r} of the manifest lacks {lacking}; add one")
        self.weights = recording_weights(positives)
        seed = config.training.seed if noise_seed is None else noise_seed
        clean = [self._paused(manifest, entry) for entry in positives]
        self.recordings: dict[str, list[Samples]] = {
            "clean": clean,
            "noisy": _in_noise(clean, manifest, config, split, copies, seed),
            "other": [self._paused(manifest, entry) for entry in negatives],
        }
        self.hours = sum(entry.seconds for entry in negatives) / 3600

    @staticmethod
    def _paused(manifest: CorpusManifest, entry: Entry) -> Samples:
        pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.int16)
        return np.concatenate([read_audio(manifest.path_of(entry)), pause])

    def windows_of(self, recording: Samples) -> npt.NDArray[np.int16]:
        """All windows of one recording, in order of time: int16, (windows, samples), copies of nothing."""
        padded = np.concatenate([np.zeros(self.clip, np.int16), recording])
        padded = np.pad(padded, (0, -len(recording) % self.hop))
        # The first window would hold none of the recording.
        return np.lib.stride_tricks.sliding_window_view(padded, self.clip)[self.hop :: self.hop]

    def windows(self) -> int:
        """How many windows a model has to judge."""
        return sum(-(-len(audio) // self.hop) for part in self.recordings.values() for audio in part)

    def scored(self, score: Score) -> Scored:
        """What a model says of the recordings; every recall follows from it.

        Args:
            score: int16 (n, samples), n <= 2048, to probabilities of the phrase, float32 (n,).

        Raises:
            EdgewakeError: it gives another number of values, or some that are not finite.
        """
        tops: dict[str, Probabilities] = {}
        false: list[Probabilities] = []
        apart = refractory_steps(
            max(self.clip / SAMPLE_RATE, self.config.evaluation.refractory_s), self.hop / SAMPLE_RATE
        )
        with bar("windows of whole recordings", self.windows()) as advance:
            for name, recordings in self.recordings.items():
                tracks = self._tracks(recordings, score, advance)
                if name == "other":
                    false = [peaks(track, apart) for track in tracks]
                else:
                    tops[name] = np.array([track.max() for track in tracks], np.float32)
        copies = len(self.recordings["noisy"]) // len(self.recordings["clean"])
        weights = {"clean": self.weights, "noisy": np.tile(self.weights, copies)}
        return Scored(tops, weights, np.concatenate(false), self.hours)

    def _tracks(
        self, recordings: Sequence[Samples], score: Score, advance: Callable[[float], None]
    ) -> list[Probabilities]:
        """Probability at every window of each recording."""
        counts = [-(-len(audio) // self.hop) for audio in recordings]
        found = []
        for chunk in self._chunks(recordings):
            probability = np.asarray(score(chunk), np.float32)
            if probability.shape != (len(chunk),) or not np.isfinite(probability).all():
                raise EdgewakeError(
                    f"a model gave {probability.shape} probabilities of {len(chunk)} windows, or some that "
                    "are not finite; check its weights"
                )
            found.append(probability)
            advance(len(chunk))
        return np.split(np.concatenate(found), np.cumsum(counts)[:-1])

    def _chunks(self, recordings: Sequence[Samples]) -> Iterator[npt.NDArray[np.int16]]:
        """Windows of recordings in order, gathered so that short recordings share a batch."""
        held: list[npt.NDArray[np.int16]] = []
        size = 0
        for recording in recordings:
            windows = self.windows_of(recording)
            while len(windows):
                part = windows[: CHUNK - size]
                held.append(part)
                size += len(part)
                windows = windows[len(part) :]
                if size == CHUNK:
                    yield np.concatenate(held)
                    held, size = [], 0
        if held:
            yield np.concatenate(held)

    def __call__(self, score: Score) -> dict[str, float]:
        """All figures of a model.

        Returns:
            "recall_clean", "recall_noisy" and "cutoff" at `evaluation.target_fa_per_hour`; the same with
            "_at_0.5", "_at_2" and "_at_8", at these rates; "recall_mean" over those; "score", which ranks
            checkpoints as `StreamEvaluator` does; "hours" and "recordings" that all were counted on.
        """
        return window_figures(self.scored(score), self.config.evaluation.target_fa_per_hour)


def window_figures(scored: Scored, target: float) -> dict[str, float]:
    """The figures of `WindowEvaluator.__call__` from what a model said."""
    clean, noisy, cutoff = scored.recalls(target)
    figures = {"recall_clean": clean, "recall_noisy": noisy, "cutoff": cutoff}
    recalls, means = [], [(clean + noisy) / 2]
    for rate in RATES:
        clean, noisy, cutoff = scored.recalls(rate)
        figures |= {f"recall_clean_at_{rate:g}": clean, f"recall_noisy_at_{rate:g}": noisy}
        figures[f"cutoff_at_{rate:g}"] = cutoff
        recalls += [clean, noisy]
        if rate != RATES[0]:
            means.append((clean + noisy) / 2)
    # What remains to be learned between the hardest negatives and the weakest phrases breaks ties.
    tops = np.sort(scored.tops["noisy"])
    margin = float(np.mean(np.log1p(tops[: max(1, len(tops) // 5)])))
    return figures | {
        "recall_mean": float(np.mean(recalls)),
        "score": float(np.mean(means)) + 0.01 * margin,
        "hours": scored.hours,
        "recordings": float(scored.weights["clean"].sum()),
    }


def _in_noise(
    clean: Sequence[Samples],
    manifest: CorpusManifest,
    config: WakewordConfig,
    split: Split,
    copies: int,
    seed: int,
) -> list[Samples]:
    """Each recording with backgrounds of its split: those that `StreamEvaluator` draws for it."""
    pool = NoisePool.from_manifest(manifest, split)
    mixed = []
    for copy in range(copies):
        for index, samples in enumerate(clean):
            rng = np.random.default_rng((seed, copy, index))
            background = (pool.draw if len(pool) else synthetic_noise)(len(samples), rng)
            both = mix_at_snr(to_float(samples), background, config.evaluation.snr_db)
            mixed.append(to_int16(both / max(1.0, float(np.abs(both).max()))))
    return mixed
