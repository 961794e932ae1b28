"""Figures of a model on whole recordings while it is trained, compared or exported: recalls at fixed false accepts."""

from __future__ import annotations

import numpy as np
from torch import nn

from edgewake.config import WakewordConfig
from edgewake.data.augment import synthetic_noise
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.evaluation.cutoff import Cutoff, choose_cutoff
from edgewake.evaluation.recordings import CLEAN, Noise, SplitRecordings
from edgewake.evaluation.tracks import Int8Scorer, Scorer, SplitTracks, score_split, weighted_hits
from edgewake.evaluation.trained_scorers import scorer_of
from edgewake.runtime.deployed import DeployedModel

RATES = (0.5, 2.0, 8.0)
DRAWS = 2
CHECKPOINT_FIGURES = ("recall_clean", "recall_noisy", "cutoff", "score")


class CheckpointEvaluator:
    """Scores models on the whole recordings of a split: clean phrases, phrases in noise, everything else.

    `config` is what the model was trained with; `seed` is that of the noise (None: `training.seed`).
    """

    def __init__(
        self, corpus: CorpusManifest, config: WakewordConfig, split: Split = "val", *, seed: int | None = None
    ) -> None:
        self.config, snr_db = config, config.evaluation.snr_db
        seed = config.training.seed if seed is None else seed
        noise = Noise(snr_db, DRAWS, seed, kinds=("noise", "music"), synthetic=synthetic_noise)
        self.recordings = SplitRecordings(corpus, split, noise, config.cache.open())

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """What picks a checkpoint: "recall_clean", "recall_noisy", "cutoff" and "score" of a student."""
        figures = self.student_figures(model)
        return {name: figures[name] for name in CHECKPOINT_FIGURES}

    def student_figures(self, model: nn.Module) -> dict[str, float]:
        """All figures of a student, which is left in eval mode; see `recording_figures`."""
        return self.figures(scorer_of(model.eval(), self.config))

    def figures(self, scorer: Scorer) -> dict[str, float]:
        """All figures of any scorer; see `recording_figures`."""
        return recording_figures(score_split(scorer, self.recordings), self.config.evaluation.target_fa_per_hour)


def recording_figures(tracks: SplitTracks, target_fa_per_hour: float) -> dict[str, float]:
    """Recalls on whole recordings, each at the lowest cutoff that the split's own false accepts allow.

    Models are so compared at equal cost; a cutoff that is chosen on another split is what a report has.

    They are "recall_clean", "recall_noisy" and "cutoff" at the target, and with "_at_0.5", "_at_2" and "_at_8" at these
    false accepts an hour; "recall_mean" over those; "score", which picks checkpoints: the mean of both recalls at the
    target and at 2 and 8 an hour, and a term below 0.01 that breaks ties; "hours" and "recordings".
    """

    def recalls(rate: float) -> tuple[float, float, float]:
        cutoff = tracks.events.lowest_cutoff(rate * tracks.hours)
        clean, noisy = (weighted_hits(tracks.positives[name], cutoff) for name in (CLEAN, tracks.noisy))
        return clean[0] / clean[1], noisy[0] / noisy[1], cutoff

    at = {rate: recalls(rate) for rate in (target_fa_per_hour, *RATES)}
    figures: dict[str, float] = {}
    for rate, suffix in [(target_fa_per_hour, ""), *((rate, f"_at_{rate:g}") for rate in RATES)]:
        names = (name + suffix for name in ("recall_clean", "recall_noisy", "cutoff"))
        figures |= dict(zip(names, at[rate], strict=True))
    # What the weakest phrases still lack breaks ties between checkpoints.
    weakest = np.sort([max(track.peak, 0.0) for track in tracks.positives[tracks.noisy]])
    margin = float(np.mean(np.log1p(weakest[: max(1, len(weakest) // 5)])))
    return figures | {
        "recall_mean": float(np.mean([at[rate][:2] for rate in RATES])),
        "score": float(np.mean([at[rate][:2] for rate in (target_fa_per_hour, *RATES[1:])])) + 0.01 * margin,
        "hours": tracks.hours,
        "recordings": weighted_hits(tracks.positives[CLEAN], 0)[1],
    }


def cutoff_on_validation(model: DeployedModel, corpus: CorpusManifest, config: WakewordConfig) -> Cutoff:
    """The cutoff of a deployed model, by the rule and on the recordings by which `edgewake evaluate` chooses it.

    Raises EdgewakeError where recall is below `evaluation.lowest_recall`; see `choose_cutoff`.
    """
    settings = config.evaluation
    recordings = SplitRecordings(corpus, "val", Noise(synthetic=synthetic_noise), config.cache.open())
    tracks = score_split(Int8Scorer.of_deployed(model, config), recordings)
    target, lowest = settings.target_fa_per_hour, settings.lowest_recall
    return choose_cutoff(tracks, target, window=settings.window, lowest_recall=lowest)
