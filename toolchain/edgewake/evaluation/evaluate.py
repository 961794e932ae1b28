"""A model is evaluated on whole recordings: the cutoff comes from validation, the figures from another split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgewake import __version__
from edgewake.cache import Cache
from edgewake.console import bar
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.data.reading import SAMPLE_RATE
from edgewake.errors import EdgewakeError, ParityError
from edgewake.evaluation.cutoff import Cutoff, choose_cutoff
from edgewake.evaluation.det import DetCurve, det_curve
from edgewake.evaluation.metrics import summarise
from edgewake.evaluation.recordings import CLEAN, NEGATIVE, Noise, SplitRecordings
from edgewake.evaluation.scorers import Engine, Int8Scorer, Probabilities
from edgewake.evaluation.tracks import SplitTracks, score_split, weighted_hits
from edgewake.runtime.detector import Detector
from edgewake.runtime.model_manifest import load_manifest

VERSION = 1
SPOT_CHECKS = 8
SPOT_SECONDS = 60.0


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: `metrics` as plain JSON, and the DET curve of the reported split."""

    metrics: dict[str, Any]
    curve: DetCurve


def evaluate(
    model: Path,
    corpus: CorpusManifest,
    split: Split = "test",
    engine: Engine = "simulator",
    *,
    target_fa_per_hour: float = 0.5,
    cutoff: Literal["val", "shipped"] | float = "val",
    snr_db: float = 10.0,
    seed: int = 0,
    cache: Cache | None = None,
) -> Evaluation:
    """Stream over the whole of every recording of a split.

    Args:
        model: a build or model folder, or its manifest.json.
        corpus: which recordings there are; its phrase must be the model's.
        split: reported split.
        engine: see `Int8Scorer`. A sample of the recordings goes through the detector too, and must agree.
        target_fa_per_hour: what the cutoff aims at on validation; see `choose_cutoff`.
        cutoff: "val" chooses it on the validation split, "shipped" takes the manifest's, or a number.
        snr_db: of the noisy condition; see `Noise`.
        seed: of the noise.
        cache: keeps the recordings' features; None: `Cache()`.

    Raises:
        EdgewakeError: another phrase, an empty split, or a recording that cannot be read.
        ParityError: the engine and the detector differ on the sample.
    """
    known = load_manifest(model)
    scorer = Int8Scorer.of_model(model, engine)
    if corpus.phrase.casefold() != known.phrase.casefold():
        raise EdgewakeError(
            f"the model detects {known.phrase!r}, the corpus is of {corpus.phrase!r}: "
            f"import it with --phrase {known.phrase!r}"
        )
    noise = Noise(snr_db=snr_db, seed=seed)
    splits: list[Split] = ["val", split] if cutoff == "val" else [split]
    tracks: dict[Split, SplitTracks] = {}
    for name in dict.fromkeys(splits):
        recordings = SplitRecordings(corpus, name, noise, cache)
        tracks[name] = score_split(scorer, recordings)
        checked = check_sample(model, recordings, tracks[name], seed)
    chosen: Cutoff | None = None
    if cutoff == "val":
        chosen = choose_cutoff(tracks["val"], target_fa_per_hour, window=known.window)
    at = chosen.cutoff if chosen else known.cutoff if cutoff == "shipped" else float(cutoff)
    reported = tracks[split]
    curve = det_curve(reported, CLEAN)
    metrics = {
        "version": VERSION,
        "edgewake": __version__,
        "model": {"phrase": known.phrase, "sha256": known.model.sha256, "shipped_cutoff": known.cutoff},
        "split": split,
        "engine": engine,
        "seed": seed,
        "snr_db": snr_db,
        "detector_check": {"recordings": checked[0], "steps": checked[1], "differences": 0},
        "cutoff": {
            "value": at,
            "from": "validation" if chosen else str(cutoff),
            "target_fa_per_hour": target_fa_per_hour,
            "choice": chosen.json() if chosen else None,
        },
        "summary": summarise(reported, at),
        "validation": summarise(tracks["val"], at) if chosen else None,
        "data": describe(reported, corpus, noise),
        "det": curve.json(),
        "det_noisy": det_curve(reported, noise.condition).json(),
    }
    return Evaluation(metrics, curve)


def check_sample(model: Path, recordings: SplitRecordings, tracks: SplitTracks, seed: int) -> tuple[int, int]:
    """Run the detector (C pipeline, TFLM) on a sample of the recordings and compare every step.

    Returns:
        Recordings and steps that were compared.

    Raises:
        ParityError: a step differs.
    """
    rng = np.random.default_rng(seed)
    positives = [
        pair for name, found in tracks.positives.items() for pair in zip(recordings.jobs[name], found, strict=True)
    ]
    negatives = list(zip(recordings.jobs[NEGATIVE], tracks.negatives, strict=True))
    chosen = [found[i] for found in (positives, negatives) for i in _sample(len(found), rng)]
    detector = Detector(model)
    steps = 0
    with bar(f"{recordings.split}: recordings checked by the detector", len(chosen)) as advance:
        for job, track in chosen:
            audio = recordings.audio(job)
            part = audio[: int(SPOT_SECONDS * SAMPLE_RATE)]
            expected = detector.probabilities(part)
            found = track.probabilities if len(part) == len(audio) else track.probabilities[: len(expected)]
            _compare(f"{job.entry.path} ({job.condition})", found, expected)
            steps += len(expected)
            advance(1)
    return len(chosen), steps


def _sample(count: int, rng: np.random.Generator) -> Sequence[int]:
    """The first one, and some more."""
    return sorted({0, *rng.choice(count, min(count, SPOT_CHECKS // 2), replace=False).tolist()})


def _compare(name: str, found: Probabilities, expected: Probabilities) -> None:
    if len(found) != len(expected):
        raise ParityError(f"{name}: {len(expected)} steps by the detector, {len(found)} by the evaluation")
    wrong = np.flatnonzero(expected != found)
    if len(wrong):
        step = int(wrong[0])
        raise ParityError(
            f"{name}: step {step} is {found[step]} by the evaluation, {expected[step]} by the detector; "
            f"{len(wrong)} of {len(expected)} steps differ: build the model again"
        )


def describe(tracks: SplitTracks, corpus: CorpusManifest, noise: Noise) -> dict[str, Any]:
    """What the figures were measured on: counts, and the corpus's own description."""
    clean = tracks.positives[CLEAN]
    return {
        # Its name and not its place, which is another on every machine.
        "corpus": corpus.folder.resolve().name,
        "recordings_with_phrase": len(clean),
        "distinct_recordings_with_phrase": round(weighted_hits(clean, 0)[1], 3),
        "suspect_recordings": sum(track.suspect for track in clean),
        "recordings_without_phrase": len(tracks.negatives),
        "hours_without_phrase": tracks.hours,
        "noise_draws": noise.draws,
        "shared_speakers": len(corpus.shared_speakers),
        "description": corpus.description,
    }
