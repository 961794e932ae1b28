"""How much `edgewake make` does of everything: one table, and the one recipe, the same for every phrase."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.synthesis.plans import Counts
from edgewake.synthesis.wakeword import Wakeword


class Effort(NamedTuple):
    """A row of the table.

    Attributes:
        clips: to train and validate on.
        test: by engines that are kept for tests.
        settings: of the recipe.
        runs, run_steps: of the float phase, which ends in the mean of its runs.
        qat_steps: after it; epochs are of `epoch_steps`, after each of which training validates.
        minutes: that each stage takes on two idle cores, of which the time that is left is estimated at first.
        lowest_recall: on validation; a released model with less is an error.
        trunk: start from the released trunk, where there is one.
    """

    clips: Counts
    test: Counts
    settings: Mapping[str, Any]
    runs: int
    run_steps: int
    qat_steps: int
    epoch_steps: int
    minutes: Mapping[str, float]
    lowest_recall: float = 0.5
    trunk: bool = True


EFFORTS = {
    "quick": Effort(
        clips=Counts(positives=400, near=200, near_texts=100, sentences=600),
        test=Counts(positives=140, near=150, near_texts=150, sentences=400),
        settings={
            "data.positive_renders": 10,
            "data.near_renders": 4,
            "data.fragment_renders": 1,
            "data.negative_renders": 2,
        },
        runs=4,
        run_steps=800,
        qat_steps=400,
        epoch_steps=400,
        minutes={"synth": 5, "corpus": 0.1, "train": 8, "evaluate": 1, "build": 0.1, "report": 0.1},
    ),
    "best": Effort(
        clips=Counts(positives=1000, near=400, near_texts=200, sentences=6000),
        test=Counts(positives=280, near=300, near_texts=200, sentences=1000),
        settings={
            "data.positive_renders": 12,
            "data.near_renders": 8,
            "data.fragment_renders": 2,
            "data.negative_renders": 4,
        },
        runs=4,
        run_steps=1250,
        qat_steps=625,
        epoch_steps=625,
        minutes={"synth": 15, "corpus": 0.5, "train": 25, "evaluate": 3, "build": 0.1, "report": 0.1},
    ),
    # Of use for tests alone.
    "smoke": Effort(
        clips=Counts(positives=16, near=4, near_texts=2, sentences=8),
        test=Counts(positives=2, near=2, near_texts=2, sentences=2),
        settings={
            "data.positive_renders": 2,
            "data.near_renders": 1,
            "data.fragment_renders": 1,
            "data.negative_renders": 1,
            "training.batch_size": 8,
            "training.hard_candidates": 8,
            "model.width": 16,
            "model.kernel_sizes": (3, 3),
            "qat.observe_batches": 2,
        },
        runs=2,
        run_steps=4,
        qat_steps=4,
        epoch_steps=2,
        minutes={},
        lowest_recall=0.0,
        trunk=False,
    ),
}
# Beside the preset esp32_no_psram, and the released trunk where there is one.
RECIPE: dict[str, Any] = {
    "training.early_stopping_patience": 0,
    "training.mining_interval": 2,
    # More of these costs recall on people.
    "training.near_share": 0.03,
    "training.fragment_share": 0.02,
    # So short a training leaves what is most like the phrase, also among the training's own negatives, undecided.
    "training.negatives_per_positive": 2.2,
    "training.hard_share": 0.6,
    "training.hard_candidates": 256,
    "training.hard_negative_weight": 1.0,
    # More speakers: at every rendering of a clip, and in every batch.
    "augmentation.voice_prob": 0.35,
    # People far away, and microphones without gain, are lower than the preset's range; of levels lower still, where
    # noise is near to speech, the others bear the cost.
    "augmentation.peak_dbfs": (-50.0, 0.0),
    "augmentation.mel_warp_channels": 3.0,
    "augmentation.mel_masks": 2,
    "evaluation.window": 10,
    # From a trunk, the preset's rate leaves the head behind.
    "training.learning_rate": 0.004,
    "training.ema_decay": 0.998,
    # QAT sets ranges and mends what rounding costs; at a usual rate it leaves the mean of the runs, and misses people.
    "qat.learning_rate_factor": 0.0001,
    # Of 70 steps, 28 are after the receptive field; of the usual 49, 7.
    "data.audio_duration": 2.1,
    # Rows of twice that, of which each epoch takes other stretches.
    "data.negative_crop": 2.0,
    "data.negative_hop": 1.0,
    # The released model's are another matter: its cutoff is chosen anew, and may be refused then.
    "evaluation.target_fa_per_hour": 0.1,
    "evaluation.lowest_recall": 0.0,
}


def recipe(word: Wakeword, effort: Effort, manifest: Path, trunk: str = "") -> WakewordConfig:
    """The settings of a training: the preset esp32_no_psram, the recipe and the effort's, for this word and corpus."""
    config = get_preset("esp32_no_psram")
    steps = effort.runs * effort.run_steps + effort.qat_steps
    values = {
        "config_name": word.name,
        "description": f"edgewake make, {word.phrase}",
        "data.phrase": word.phrase,
        "data.manifest": str(manifest),
        "data.seed": word.seed,
        "model.trunk": trunk,
        "training.seed": word.seed,
        "training.epochs": steps // effort.epoch_steps,
        "training.averaged_runs": effort.runs,
        "training.batches_per_epoch": effort.epoch_steps,
        "training.workers": os.cpu_count() or 1,
        # Batches are small: with two threads a step took ten times as long on a busy machine.
        "training.threads": 1,
        "qat.fraction": effort.qat_steps / steps,
        "target.name": word.target,
    }
    for key, value in {**values, **RECIPE, **effort.settings}.items():
        config.set(key, value)
    return config
