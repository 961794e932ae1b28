"""A model is evaluated on whole recordings: the cutoff comes from validation, the figures from another split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgewake import __version__
from edgewake.cache import Cache
from edgewake.config import WakewordConfig
from edgewake.console import bar, console, error_console, table
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.data.reading import SAMPLE_RATE
from edgewake.errors import EdgewakeError, ParityError
from edgewake.evaluation.cutoff import Cutoff, choose_cutoff
from edgewake.evaluation.example import example_detection
from edgewake.evaluation.rates import condition_name, det_curve, figure_text, latency, named_rates, plot_det, summarise
from edgewake.evaluation.recordings import CLEAN, NEGATIVE, Noise, SplitRecordings
from edgewake.evaluation.rooms import ROOMS, rooms_text
from edgewake.evaluation.tracks import Int8Scorer, SplitTracks, score_condition, score_split, weighted_hits
from edgewake.io import read_json, sha256_file, write_json
from edgewake.runtime.detector import Detector
from edgewake.runtime.events import as_probability
from edgewake.runtime.model_manifest import Counted, find_manifest, load_manifest
from edgewake.runtime.network.compiled import Backend, usable
from edgewake.runtime.pipeline.params import sum_of_cutoff

VERSION = 1
SPOT_CHECKS = 8
# Of reports, beside that of the noisy condition, dB.
SNRS = (20.0, 10.0, 5.0, 0.0)
SPOT_SECONDS = 60.0


def evaluate(
    model: Path,
    corpus: CorpusManifest,
    split: Split = "test",
    engine: Backend = "c",
    *,
    target_fa_per_hour: float | None = None,
    cutoff: Literal["val", "shipped"] | float = "val",
    snr_db: float = 10.0,
    seed: int = 0,
    cache: Cache | None = None,
) -> dict[str, Any]:
    """Stream over the whole of every recording of a split.

    Args:
        model: a build or model folder, or its manifest.json.
        target_fa_per_hour: None takes that of the config.yaml in the model's folder, or the default.
        engine: see `Int8Scorer.of_model`. A sample of the recordings goes through the detector too, and must agree.
        cutoff: "val" chooses it on validation by `choose_cutoff`, "shipped" takes the manifest's, or a number.
        snr_db, seed: of the noisy condition, and the seed of rooms; see `Noise`.

    Returns:
        What metrics.json holds.

    Raises:
        EdgewakeError: another phrase, an empty split, a recording that cannot be read, or no usable cutoff.
        ParityError: the engine and the detector differ on the sample.
    """
    known = load_manifest(model)
    engine = usable(engine)
    scorer = Int8Scorer.of_model(model, engine, cache)
    if corpus.phrase.casefold() != known.phrase.casefold():
        remedy = f"import it with --phrase {known.phrase!r}"
        raise EdgewakeError(f"the model detects {known.phrase!r}, the corpus is of {corpus.phrase!r}: {remedy}")
    config = find_manifest(model).parent / "config.yaml"
    settings = (WakewordConfig.load(config) if config.is_file() else WakewordConfig()).evaluation
    target, lowest = target_fa_per_hour or settings.target_fa_per_hour, settings.lowest_recall
    noise = Noise(snr_db=snr_db, seed=seed)
    tracks: dict[Split, SplitTracks] = {}
    for name in dict.fromkeys((*(("val",) if cutoff == "val" else ()), split)):
        recordings = SplitRecordings(corpus, name, noise, cache)
        tracks[name] = score_split(scorer, recordings)
        checked = check_sample(model, recordings, tracks[name], seed)
    chosen = None
    if cutoff == "val":
        chosen = choose_cutoff(tracks["val"], target, window=known.window, lowest_recall=lowest)
    at = chosen.cutoff if chosen else known.cutoff if cutoff == "shipped" else float(cutoff)
    clean, noisy = tracks[split].positives[CLEAN], dict[str, Any]()
    for ratio in sorted({*SNRS, snr_db}, reverse=True):
        others = SplitRecordings(corpus, split, replace(noise, snr_db=ratio), cache)
        name = others.noise.condition
        noisy[name] = tracks[split].positives.get(name) or score_condition(scorer, others, name)
    noisy |= {name: score_condition(scorer, recordings, name) for name in ROOMS if name in recordings.jobs}
    if not recordings.simulated and not recordings.measured:
        lacking = (
            f"no recall by distance: the {split} split has no responses of rooms, and pyroomacoustics is not installed"
        )
        error_console.print(f"{lacking}: pip install 'edgewake[synthesis]'", soft_wrap=True)
    step_s = known.frames_per_step * known.frontend_config.step_ms / 1000
    reported = replace(tracks[split], positives={CLEAN: clean} | noisy)
    return {
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
            "target_fa_per_hour": target,
            "choice": asdict(chosen) if chosen else None,
        },
        "summary": {**summarise(reported, at), "latency": latency(clean, at, step_s)},
        "validation": summarise(tracks["val"], at) if chosen else None,
        "data": {
            # Its name and not its place, which is another on every machine.
            "corpus": corpus.folder.resolve().name,
            "recordings_with_phrase": len(clean),
            "distinct_recordings_with_phrase": round(weighted_hits(clean, 0)[1], 3),
            "suspect_recordings": sum(track.entry.quality == "suspect" for track in clean),
            "recordings_without_phrase": len(reported.negatives),
            "hours_without_phrase": reported.hours,
            "noise_draws": noise.draws,
            "rooms": {"measured": len(recordings.measured), "simulated": recordings.simulated},
            "shared_speakers": len(corpus.shared_speakers),
            "description": corpus.description,
        },
        "det": det_curve(reported, CLEAN),
        "det_noisy": det_curve(reported, noise.condition),
        "detection": example_detection(model, recordings, clean, at),
    }


def check_sample(model: Path, recordings: SplitRecordings, tracks: SplitTracks, seed: int) -> tuple[int, int]:
    """Run the detector (C pipeline, TFLM) on a sample of the recordings; returns how many, and compared steps."""
    rng = np.random.default_rng(seed)
    with_phrase = [(recordings.jobs[name], found) for name, found in tracks.positives.items()]
    # Of both sides the first one, and some more.
    chosen = []
    for side in (with_phrase, [(recordings.jobs[NEGATIVE], tracks.negatives)]):
        pairs = [pair for jobs, found in side for pair in zip(jobs, found, strict=True)]
        more = rng.choice(len(pairs), min(len(pairs), SPOT_CHECKS // 2), replace=False)
        chosen += [pairs[index] for index in sorted({0, *more.tolist()})]
    detector, steps = Detector(model), 0
    with bar(f"{recordings.split}: recordings checked by the detector", len(chosen)) as advance:
        for job, track in chosen:
            audio = recordings.audio(job)
            part = audio[: int(SPOT_SECONDS * SAMPLE_RATE)]
            expected = detector.probabilities(part)
            found = track.probabilities if len(part) == len(audio) else track.probabilities[: len(expected)]
            name = f"{job.entry.path} ({job.condition})"
            if len(found) != len(expected):
                raise ParityError(f"{name}: {len(expected)} steps by the detector, {len(found)} by the evaluation")
            wrong = np.flatnonzero(expected != found)
            if len(wrong):
                step = int(wrong[0])
                raise ParityError(
                    f"{name}: step {step} is {found[step]} by the evaluation, {expected[step]} by the detector; "
                    f"{len(wrong)} of {len(expected)} steps differ: build the model again"
                )
            steps += len(expected)
            advance(1)
    return len(chosen), steps


def run_evaluation(
    model: Path, corpus: CorpusManifest, *, out: Path | None, apply: bool, quiet: bool, plot: bool = True, **given: Any
) -> dict[str, Any]:
    """`evaluate` with what is `given`, write metrics.json, det.json and det.png, and print tables unless `quiet`.

    They go to `out`, or build/evaluation/<name of the model's folder>; with `apply` also beside the model, whose
    model.json and manifest.json get the cutoff. det.png (`plot`) needs matplotlib.
    """
    home = find_manifest(model).parent
    if apply and not (home / "model.json").is_file():
        raise EdgewakeError(f"{home} has no model.json to apply a cutoff to: give the model folder, not a build")
    metrics = evaluate(model, corpus, **given)
    value, title = metrics["cutoff"]["value"], f"“{metrics['model']['phrase']}”, {metrics['split']} split"
    folders = [out or Path("build/evaluation") / home.resolve().name]
    if apply:
        manifest, record = load_manifest(home), read_json(home / "model.json", "model description")
        record["info"]["cutoff_sum"] = cutoff_sum = sum_of_cutoff(value, manifest.window)
        write_json(home / "model.json", record)
        shipped = {"cutoff": float(as_probability(cutoff_sum, manifest.window)), "cutoff_sum": cutoff_sum}
        manifest.model_copy(update={**shipped, "measured": measured_part(metrics)}).save(home)
        metrics["model"]["shipped_cutoff"] = shipped["cutoff"]
        folders.append(home)
    for folder in folders:
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "det.json", metrics["det"])
        if plot:
            plot_det(metrics["det"], folder / "det.png", title=title, chosen=value)
    if not quiet:
        print_metrics(metrics)
        console.print(f"written to {' and '.join(map(str, folders))}")
    return metrics


def measured_part(metrics: Mapping[str, Any]) -> dict[str, Counted]:
    """The manifest's `measured`: recall by condition, false accepts by kind, and on what."""
    data, figures = f"{metrics['split']} split of {metrics['data']['corpus']}", metrics["summary"]
    measured = {f"recall_{name}": part["all"] for name, part in figures["recall"].items()}
    rates = {name: rate for name, rate in figures["fa_per_hour"].items() if name != "families"}
    measured |= {"fa_per_hour" + ("" if name == "total" else f"_{name}"): rate for name, rate in rates.items()}
    return {name: Counted(**figure, data=data) for name, figure in measured.items()}


def stored_metrics(folder: Path, model: Path) -> dict[str, Any] | None:
    """metrics.json of a model folder if it was measured on exactly this .tflite, else None."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    metrics = read_json(path, "metrics")
    if not isinstance(metrics, dict) or metrics.get("version") != 1:
        raise EdgewakeError(f"metrics {path} are of another version: run edgewake evaluate --apply")
    return metrics if metrics["model"]["sha256"] == sha256_file(model) else None


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Tables of recall and of false accepts, and where the cutoff came from."""
    figures, cutoff, checked = metrics["summary"], metrics["cutoff"], metrics["detector_check"]
    shown = Cutoff(**cutoff["choice"]) if cutoff["choice"] else f"{cutoff['value']:.5f} ({cutoff['from']})"
    console.print(f"cutoff {shown}", soft_wrap=True)
    rows = [
        (condition_name(name), part.replace("_", " "), figure_text(rate))
        for name, parts in figures["recall"].items()
        for part, rate in parts.items()
        if rate["value"] is not None
    ]
    table(f"recall, {metrics['split']} split", ("condition", "recordings", "recall [95 %]"), rows)
    if set(ROOMS) & figures["recall"].keys():
        console.print(rooms_text(metrics["data"]["rooms"]), soft_wrap=True)
    rates = [(name, figure_text(rate)) for name, rate in named_rates(figures["fa_per_hour"])]
    table("false accepts an hour", ("audio", "rate [95 %]"), rates)
    console.print(
        f"{checked['recordings']} recordings ({checked['steps']:,} steps) went through the detector as well: "
        f"{checked['differences']} differences",
        soft_wrap=True,
    )
