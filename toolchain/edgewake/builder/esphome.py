"""`edgewake export esphome`: a checked package for ESPHome's micro_wake_word, and what it costs to run there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.builder.convert import ModelFolder, calibration_features, load_model_folder
from edgewake.calibration import default_folder
from edgewake.console import console, steps, table
from edgewake.conversion.convert import MODEL
from edgewake.conversion.esphome import for_esphome, probability_bytes, variant
from edgewake.data.manifest import CorpusManifest
from edgewake.errors import EdgewakeError, ParityError
from edgewake.evaluation.evaluate import stored_metrics
from edgewake.evaluation.rates import condition_name, event_rate, figure_text, recall, summarise
from edgewake.evaluation.recordings import Noise, SplitRecordings
from edgewake.evaluation.tracks import Int8Scorer, Probabilities, Scorer, score_split
from edgewake.io import check_output_folder, sha256_file, write_bytes, write_json, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import smooth_probabilities
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.model_manifest import FILE, load_manifest
from edgewake.runtime.network.source import c_templates
from edgewake.runtime.pipeline import PipelineParams
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite
from edgewake.runtime.tflm import TflmModel, measure_arena
from edgewake.targets.arena import arena_json
from edgewake.targets.esphome import (
    ESP_NN,
    ESP_TFLITE_MICRO,
    EXAMPLE_RELEASE,
    HIGHEST_CUTOFF,
    MINIMUM_RELEASE,
    ONE,
    RELEASE,
    check,
    check_variant,
    file_name,
    lowest_mean,
    manifest_cutoff,
    nearest_cutoff,
    scratch_bytes,
)

RECORD = "export.json"
STEPS = ("convert", "parity", "arena", "cost")
WEBSITE = "https://esphome.io/components/micro_wake_word"
# What a row of the cost is of.
BOARD, FEATURES = "edgewake's firmware", "ESPHome's features"
ALL, CUTOFF = "ESPHome's features and cutoff", "ESPHome's cutoff"


@dataclass
class EsphomeScorer:
    """The variant as ESPHome runs it; probabilities are means of the uint8 outputs over the window, divided by 256."""

    model: DeployedModel
    frontend: FrontendConfig | None
    window: int
    refractory_steps: int

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """See `Scorer`."""
        run, values = IntegerModel(self.model), probability_bytes(self.model.output)
        logits = (run.windowed(model_input(self.model, features)) for features in recordings)
        return [smooth_probabilities(values[found.astype(np.int16) + 128] / ONE, self.window) for found in logits]


def export_esphome(
    model: Path,
    out: Path,
    *,
    corpus: CorpusManifest | None = None,
    author: str = "edgewake",
    website: str = WEBSITE,
    languages: Sequence[str] = ("en",),
    calibration: Path | None = None,
) -> dict[str, Any]:
    """Write NAME.json, NAME.tflite and NAME.yaml, an example of a device, into `out`; returns what export.json holds.

    Args:
        model: folder with weights.safetensors and model.json.
        corpus: its test split tells what the export costs; None takes what metrics.json of the model tells.
        author, website, languages: for the manifest.
        calibration: audio on which the variant is compared with the model; None takes that of edgewake.

    Raises:
        EdgewakeError: ESPHome cannot run the model, or `out` holds something else.
        ParityError: in TFLM, the variant's output is not LOGISTIC of the model's logit, + 128.
    """
    check_output_folder(out, (RECORD,), "package for ESPHome")
    if not website.startswith(("http://", "https://")):
        raise EdgewakeError(f"website is {website!r}; ESPHome takes a URL: begin it with https://")
    source = load_model_folder(model)
    frontend = load_manifest(model).frontend_config if (source.folder / FILE).is_file() else source.frontend
    check(source.deployed, frontend)
    params, phrase = source.pipeline(source.deployed), str(source.deployed.info["phrase"])
    if corpus and corpus.phrase.casefold() != phrase.casefold():
        raise EdgewakeError(f"the model detects {phrase!r}, the corpus is of {corpus.phrase!r}: give another")
    name, cutoff = file_name(phrase), nearest_cutoff(params.cutoff, params.window)
    with steps(STEPS) as done:
        data = variant(source.deployed)
        operators, variables = check_variant(data)
        done()
        frames = calibration_features(calibration or default_folder(), frontend)
        compared = check_outputs(source.deployed, data, frames)
        done()
        arena = arena_json(data, measure_arena(data), scratch_bytes(operators))
        done()
        if corpus:
            cost: dict[str, Any] | None = measured_cost(source, frontend, params, cutoff, corpus)
        else:
            cost = stored_cost(source, params, cutoff)
        done()
    manifest = {
        "type": "micro",
        "wake_word": phrase,
        "author": author,
        "website": website,
        "model": f"{name}.tflite",
        "trained_languages": list(languages),
        "version": 2,
        "micro": {
            "probability_cutoff": manifest_cutoff(cutoff),
            "feature_step_size": frontend.step_ms,
            "sliding_window_size": params.window,
            "tensor_arena_size": arena["total_bytes"],
            "minimum_esphome_version": MINIMUM_RELEASE,
        },
    }
    files = [out / f"{name}.{kind}" for kind in ("tflite", "json", "yaml")]
    write_bytes(files[0], data)
    write_json(files[1], manifest)
    device = name.replace("_", "-")[:24].strip("-")
    example = c_templates(Path(__file__).parent / "templates").get_template("esphome.yaml.j2")
    names = {"manifest": files[1].name, "model": files[0].name, "device": device, "minimum": EXAMPLE_RELEASE}
    write_text(files[2], example.render(phrase=" ".join(phrase.split()), **names))
    record = {
        "version": 1,
        "manifest": manifest,
        "files": {
            path.name: sha256_file(path) for path in (out / f"{name}.{kind}" for kind in ("tflite", "json", "yaml"))
        },
        "bytes": len(data),
        "operators": dict(sorted(Counter(each.op for each in operators).items())),
        "variables": variables,
        "arena": arena,
        "parity": {"steps": compared, "differences": 0},
        "cutoff": {"model": params.cutoff, "uint8": cutoff, "lowest_mean": lowest_mean(cutoff, params.window)},
        "cost": cost,
        "read_in": {"esphome": RELEASE, "esp-tflite-micro": ESP_TFLITE_MICRO, "esp-nn": ESP_NN},
    }
    write_json(out / RECORD, record)
    return record


def check_outputs(model: DeployedModel, data: bytes, frames: npt.NDArray[np.uint16]) -> int:
    """Compare the variant with the model at every step, both in TFLM; returns how many steps.

    Raises ParityError where an output is not LOGISTIC of the logit, + 128.
    """
    changed = for_esphome(model)
    given = model_input(changed, frames)
    logits = TflmModel(write_tflite(streaming_graphs(changed))).run(given)
    expected = probability_bytes(model.output)[logits.astype(np.int16) + 128]
    found = TflmModel(data).run(given).view(np.uint8)
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        step = int(wrong[0])
        raise ParityError(
            f"step {step}: ESPHome's variant gives {found[step]}, LOGISTIC of the logit {expected[step]}; "
            f"{len(wrong)} of {len(found)} steps differ: report this"
        )
    return len(found)


def measured_cost(
    source: ModelFolder, frontend: FrontendConfig, params: PipelineParams, cutoff: int, corpus: CorpusManifest
) -> dict[str, Any]:
    """Recall and false accepts on the test split: of the model, with ESPHome's features, and with its cutoff too.

    All have the refractory time of the model, so that they differ by what the rows name alone.
    """
    model, changed = source.deployed, for_esphome(source.deployed)

    def logits(deployed: DeployedModel) -> Int8Scorer:
        run, to_input = IntegerModel(deployed).windowed, partial(model_input, deployed)
        return Int8Scorer(run, to_input, model.output, frontend, params.window, params.refractory_steps)

    scorers: dict[str, tuple[Scorer, float]] = {
        BOARD: (logits(model), params.cutoff),
        FEATURES: (logits(changed), params.cutoff),
        ALL: (
            EsphomeScorer(changed, frontend, params.window, params.refractory_steps),
            lowest_mean(cutoff, params.window),
        ),
    }
    recordings = SplitRecordings(corpus, "test", Noise())
    rows = []
    for name, (scorer, at) in scorers.items():
        found = summarise(score_split(scorer, recordings), at)
        recalls = {condition: part["all"] for condition, part in found["recall"].items()}
        rows.append({"what": name, "cutoff": at, "recall": recalls, "fa_per_hour": found["fa_per_hour"]["total"]})
    return {"from": f"test split of {corpus.folder.resolve().name}", "rows": rows}


def stored_cost(source: ModelFolder, params: PipelineParams, cutoff: int) -> dict[str, Any] | None:
    """The same from the curves of metrics.json, which cannot tell what ESPHome's features cost; None without one."""
    tflite = source.folder / MODEL
    metrics = stored_metrics(source.folder, tflite) if tflite.is_file() else None
    if metrics is None:
        return None
    curves = {"clean": metrics["det"], f"{metrics['snr_db']:g}db": metrics["det_noisy"]}
    at = {BOARD: params.cutoff, CUTOFF: lowest_mean(cutoff, params.window)}
    rows = [{"what": name, "cutoff": value, **_on_curves(curves, value)} for name, value in at.items()]
    return {"from": f"metrics.json, {metrics['split']} split of {metrics['data']['corpus']}", "rows": rows}


def _on_curves(curves: Mapping[str, Any], cutoff: float) -> dict[str, Any]:
    """Figures at a cutoff; rates change at the points of a curve, and hold below them."""
    found: dict[str, Any] = {"recall": {}}
    for condition, curve in curves.items():
        point = next(each for each in curve["points"] if np.float32(each["cutoff"]) >= np.float32(cutoff))
        total, hours = curve["recordings"], curve["hours"]
        found["recall"][condition] = recall((1 - point["miss_rate"]) * total, total)
        found["fa_per_hour"] = event_rate(round(point["fa_per_hour"] * hours), hours)
    return found


def print_export(record: Mapping[str, Any], out: Path) -> None:
    """What the package costs, and the next command."""
    micro, cutoff, cost = record["manifest"]["micro"], record["cutoff"], record["cost"]
    console.print(
        f"cutoff {cutoff['model']:.5f}: {cutoff['uint8']} of 255 in ESPHome, detections from a mean of "
        f"{cutoff['lowest_mean']:.5f} on; arena {micro['tensor_arena_size']:,} B; {record['bytes']:,} B of flash",
        soft_wrap=True,
    )
    if cutoff["uint8"] == HIGHEST_CUTOFF and cutoff["lowest_mean"] < cutoff["model"]:
        console.print(
            f"ESPHome has no cutoff above {cutoff['lowest_mean']:.5f}: expect more false accepts", soft_wrap=True
        )
    if cost:
        rows = list[tuple[str, str, str]]()
        for row in cost["rows"]:
            recalls = [(f"recall, {condition_name(name)}", figure_text(rate)) for name, rate in row["recall"].items()]
            rates = [*recalls, ("false accepts", figure_text(row["fa_per_hour"]))]
            rows += [(row["what"], "cutoff", f"{row['cutoff']:.5f}"), *(("", *rate) for rate in rates)]
        table(cost["from"], ("", "figure", "value [95 %]"), rows)
    else:
        console.print("what this costs is not measured: give --corpora or --manifest", soft_wrap=True)
    name = Path(record["manifest"]["model"]).with_suffix(".yaml")
    console.print(f"next: esphome config {out / name}", soft_wrap=True)
