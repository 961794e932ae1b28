"""A model card is made of the model's own files alone: manifest, metrics, data and NOTES.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.assets.catalogue import teacher_asset
from edgewake.config import WakewordConfig
from edgewake.errors import EdgewakeError
from edgewake.evaluation.rates import EventRate, Recall, condition_name, named_rates
from edgewake.io import read_json, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.model_manifest import ModelManifest, load_manifest

NOTES = "NOTES.md"


def write_card(folder: Path) -> Path:
    """Write README.md of a model folder from its own files; returns its path.

    Lines of NOTES.md, where there is one, are the last of the limits.

    Raises:
        EdgewakeError: a file is missing, or metrics.json is of another model.
    """
    folder = Path(folder)
    model, manifest = DeployedModel.load(folder), load_manifest(folder)
    metrics = read_json(folder / "metrics.json", "metrics")
    if metrics["model"]["sha256"] != manifest.model.sha256:
        raise EdgewakeError(f"{folder / 'metrics.json'} is of another model: run edgewake evaluate --apply")
    config = WakewordConfig.load(folder / "config.yaml")
    text = "\n".join(
        [
            *_head(folder, manifest, model),
            *_figures("Figures on the test split", metrics["summary"]),
            "![DET curve](det.png)",
            "",
            *_limits(metrics, folder / NOTES),
            *_training(folder, config, model, metrics),
            *_figures("Figures on the validation split, which chose the cutoff", metrics["validation"]),
            *_data(read_json(folder / "data.json", "description of the data")),
        ]
    )
    write_text(folder / "README.md", text.rstrip() + "\n")
    return folder / "README.md"


def _head(folder: Path, manifest: ModelManifest, model: DeployedModel) -> list[str]:
    weights = sum(layer.weight.size for layer in model.layers if layer.weight is not None)
    step_ms = model.frames_per_step * manifest.frontend_config.step_ms
    window_s = model.receptive_field_steps * step_ms / 1000
    return [
        f"# {folder.name}: “{manifest.phrase}”",
        "",
        f"A streaming int8 model for {manifest.target or 'microcontrollers'}: {manifest.model.bytes:,} B of flash, "
        f"{manifest.arena.total_bytes:,} B of arena with ESP-NN's scratch, {weights:,} weights, "
        f"one inference every {step_ms:g} ms over the last {window_s:.2f} s.",
        "",
        f"A detection is a step at which the mean of the last {manifest.window} probabilities reaches "
        f"{manifest.cutoff:.4f}; the next one is at least {manifest.refractory_s:g} s later.",
        "",
    ]


def _figures(title: str, summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return []
    lines = [f"## {title}", "", "Intervals are 95 % (Wilson for recall, exact Poisson for rates).", ""]
    lines += ["| recall | all | without doubtful recordings |", "|---|---|---|"]
    for condition, part in summary["recall"].items():
        parts = [str(Recall(**part[name])) for name in ("all", "without_suspect")]
        lines.append(f"| {condition_name(condition)} | {parts[0]} | {parts[1]} |")
    lines += ["", "| false accepts an hour | rate |", "|---|---|"]
    lines += [f"| {name} | {EventRate(**rate)} |" for name, rate in named_rates(summary["fa_per_hour"])]
    return [*lines, ""]


def _limits(metrics: Mapping[str, Any], notes: Path) -> list[str]:
    """From the amount of data, the corpus's description and the model's own notes."""
    data = metrics["data"]
    hours = data["hours_without_phrase"]
    lines = [
        f"- {hours:.1f} h without the phrase cannot show a rate well below {3 / hours:.2g} an hour: see the intervals."
    ]
    if data.get("shared_speakers"):
        lines.append(
            f"- {data['shared_speakers']} voices of recordings without the phrase are in several splits: rates on "
            "them may be too low."
        )
    lines += [f"- {line.removeprefix('- ')}" for line in data.get("description", "").splitlines() if line.strip()]
    own = notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []
    return ["## Limits", "", *lines, *own, ""]


def _training(folder: Path, config: WakewordConfig, model: DeployedModel, metrics: Mapping[str, Any]) -> list[str]:
    training, data = model.info.get("training", {}), metrics["data"]
    name = folder.name
    corpora = "" if config.data.manifest else " with `EDGEWAKE_CORPORA` set to the corpora"
    return [
        "## Training",
        "",
        "Trained on the train split, tuned on val, reported once on test: "
        f"{data['recordings_with_phrase']} recordings of the phrase "
        f"({data['distinct_recordings_with_phrase']:g} distinct), {data['hours_without_phrase']:.2f} h "
        "without it. Copies of one recording count once; noise at "
        f"{metrics['snr_db']:g} dB SNR is of the test split ({data['noise_draws']} draws a recording).",
        "",
        f"Seed {config.training.seed}, edgewake {training.get('edgewake', '?')}, torch "
        f"{training.get('torch', '?')}; kept: epoch {training.get('epoch', '?')} of "
        f"{config.training.epochs}. {_teacher(config)}These commands make it again{corpora}:",
        "",
        "```sh",
        *_fetching(config),
        f"edgewake train models/{name}/config.yaml --out runs/{name}",
        f"edgewake release runs/{name} models/{name}",
        "```",
        "",
    ]


def _members(config: WakewordConfig) -> Sequence[str]:
    """The teachers' names: of an ensemble, each member's."""
    distillation = config.distillation
    alone = distillation.teacher_architecture != "ensemble"
    return (distillation.teacher_architecture,) if alone else distillation.teachers


def _teacher(config: WakewordConfig) -> str:
    """A sentence on the teacher, where there was one."""
    distillation = config.distillation
    if not distillation.enabled:
        return ""
    frames = f", along time too (weight {distillation.frame_weight:g})" if distillation.frame_weight else ""
    return (
        f"Distilled from {' and '.join(_members(config))}, beside the labels: alpha {distillation.alpha:g}, "
        f"temperature {distillation.temperature:g}{frames}. "
    )


def _fetching(config: WakewordConfig) -> list[str]:
    """The command that fetches what pretrained teachers are made from, where the run had any."""
    distillation = config.distillation
    if not distillation.enabled or distillation.teacher_model_path:
        return []
    name = distillation.teacher_name
    assets = [found for member in _members(config) if (found := teacher_asset(member, name))]
    return [f"edgewake assets get {' '.join(assets)}"] if assets else []


def _data(families: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "## Data",
        "",
        "| kind | family | hours train / val / test | licence | source |",
        "|---|---|---|---|---|",
    ]
    for row in families:
        hours = " / ".join(f"{row[split]['hours']:.2f}" for split in ("train", "val", "test"))
        lines.append(f"| {row['kind']} | {row['family']} | {hours} | {row['licence']} | {row['source']} |")
    return [*lines, ""]
