"""The model card's figures are those of metrics.json; nothing in it is typed by hand but the limits."""

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

BEGIN = "<!-- figures: from models/computer/metrics.json and the report of `make build` -->"
END = "<!-- end of figures -->"
NOTES = "NOTES.md"
RECALL_CLEAN, RECALL_NOISY, FA_PER_HOUR = 0.95, 0.90, 0.5


def write_card(folder: Path) -> Path:
    """Write README.md of a model folder from its own files; returns its path.

    Lines of NOTES.md, where there is one, stand at the end of the limits.

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
            *_how(folder, config, model, metrics),
            *_figures("Figures on the validation split, which chose the cutoff", metrics["validation"]),
            *_data(read_json(folder / "data.json", "description of the data")),
            *_limits(metrics, folder / NOTES),
        ]
    )
    write_text(folder / "README.md", text.rstrip() + "\n")
    return folder / "README.md"


def readme_figures(folder: Path, report: Mapping[str, Any]) -> str:
    """The README's table: what the model does on test, and what it costs on the board.

    Args:
        folder: the model folder.
        report: report.json of its build.
    """
    summary = read_json(Path(folder) / "metrics.json", "metrics")["summary"]
    recall = {name: Recall(**part["all"]) for name, part in summary["recall"].items()}
    rate = EventRate(**summary["fa_per_hour"]["total"])
    lines = [
        f"| `models/{Path(folder).name}` on the test split | value, 95 % interval, counts |",
        "|---|---|",
        *(f"| recall, {condition_name(name)} | {value} |" for name, value in recall.items()),
        f"| false accepts, all speech, noise and music | {rate} |",
        *(f"| {row['name']} | {_used(row)} |" for row in report["budget"]),
        "",
        _against_aims(summary),
    ]
    return "\n".join(lines)


def _used(row: Mapping[str, Any]) -> str:
    if row["unit"] == "B":
        return f"{row['value']:,} B of {row['limit']:,} B"
    return f"{row['value']:.1f} % of one core at 240 MHz, of {row['limit']:g} %"


def update_readme(readme: Path, folder: Path, report: Mapping[str, Any]) -> None:
    """Put the figures of a model between the marks of the README.

    Raises:
        EdgewakeError: the README lacks the marks.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise EdgewakeError(f"{readme} has no lines {BEGIN} and {END} to put figures between")
    write_text(readme, f"{before}{BEGIN}\n\n{readme_figures(folder, report)}\n\n{END}{after}")


def _head(folder: Path, manifest: ModelManifest, model: DeployedModel) -> list[str]:
    weights = sum(layer.weight.size for layer in model.layers if layer.weight is not None)
    step_ms = model.frames_per_step * manifest.frontend_config.step_ms
    seen_s = model.receptive_field_steps * step_ms / 1000
    return [
        f"# {folder.name}: “{manifest.phrase}”",
        "",
        f"A streaming int8 student for an ESP32-S3 without PSRAM: {manifest.model.bytes:,} B of flash, "
        f"{manifest.arena.total_bytes:,} B of arena with ESP-NN's scratch, {weights:,} weights, "
        f"one inference every {step_ms:g} ms over the last {seen_s:.2f} s.",
        "",
        f"It detects when the mean of the last {manifest.window} probabilities reaches "
        f"{manifest.cutoff:.4f}, and then stays quiet for {manifest.refractory_s:g} s.",
        "",
    ]


def _against_aims(summary: Mapping[str, Any]) -> str:
    """One sentence: each aim, whether it is met, and the figure."""
    recall, rates = summary["recall"], summary["fa_per_hour"]
    clean, noisy = (recall[name]["all"]["value"] for name in ("clean", "10db"))
    rate = rates["total"]["value"]
    aims = (
        (f"recall at least {RECALL_CLEAN:.0%} clean", clean >= RECALL_CLEAN, f"{clean:.1%}"),
        (f"and {RECALL_NOISY:.0%} at 10 dB SNR", noisy >= RECALL_NOISY, f"{noisy:.1%}"),
        (f"at no more than {FA_PER_HOUR:g} false accepts an hour", rate <= FA_PER_HOUR, f"{rate:.2f}/h"),
    )
    return (
        "The aims were "
        + ", ".join(f"{aim} ({'met' if met else '**not met**'}: {figure})" for aim, met, figure in aims)
        + "."
    )


def _rate(value: Mapping[str, Any]) -> str:
    return str(EventRate(**value))


def _figures(title: str, summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return []
    lines = [f"## {title}", "", "Intervals are 95 % (Wilson for recall, exact Poisson for rates).", ""]
    lines += ["| recall | all | without doubtful recordings |", "|---|---|---|"]
    for condition, part in summary["recall"].items():
        parts = [str(Recall(**part[name])) for name in ("all", "without_suspect")]
        lines.append(f"| {condition_name(condition)} | {parts[0]} | {parts[1]} |")
    lines += ["", "| false accepts an hour | rate |", "|---|---|"]
    lines += [f"| {name} | {_rate(value)} |" for name, value in named_rates(summary["fa_per_hour"])]
    return [*lines, ""]


def _how(folder: Path, config: WakewordConfig, model: DeployedModel, metrics: Mapping[str, Any]) -> list[str]:
    training, data = model.info.get("training", {}), metrics["data"]
    name = folder.name
    return [
        _against_aims(metrics["summary"]),
        "",
        "![DET curve](det.png)",
        "",
        "## How it was made",
        "",
        "Trained on the train split, tuned on val, reported once on test: "
        f"{data['recordings_with_phrase']} recordings of the phrase "
        f"({data['distinct_recordings_with_phrase']:g} distinct), {data['hours_without_phrase']:.2f} h "
        "without it. Copies of one recording count once; noise at "
        f"{metrics['snr_db']:g} dB SNR is of the test split ({data['noise_draws']} draws a recording).",
        "",
        f"Seed {config.training.seed}, edgewake {training.get('edgewake', '?')}, torch "
        f"{training.get('torch', '?')}; kept: epoch {training.get('epoch', '?')} of "
        f"{config.training.epochs}. {_taught_by(config)}"
        "With `EDGEWAKE_CORPORA` set to the corpora, these commands make it again:",
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


def _taught_by(config: WakewordConfig) -> str:
    """A sentence on the teacher, where there was one."""
    distillation = config.distillation
    if not distillation.enabled:
        return ""
    frames = f", along time too (weight {distillation.frame_weight:g})" if distillation.frame_weight else ""
    who = " and ".join(_members(config))
    return (
        f"It learned from {who} beside the labels: alpha {distillation.alpha:g}, temperature "
        f"{distillation.temperature:g}{frames}. "
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


def _limits(metrics: Mapping[str, Any], notes: Path) -> list[str]:
    """What holds for every released model, and the lines of the model's own notes."""
    own = notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []
    hours = metrics["data"]["hours_without_phrase"]
    return [
        "## Limits",
        "",
        f"- {hours:.1f} h without the phrase cannot show a rate well below {3 / hours:.2g} an hour: see the "
        "intervals. A kitchen is not a corpus.",
        "- The recordings are of one source, with close microphones; voices were told apart by a speaker "
        "encoder, so a voice may be in two splits. Test is small: see the intervals.",
        "- Bandwidth differs between families of the corpora. Training varies it at random; false accepts on "
        "wide-band families are listed separately.",
        "- Foreign prompts are read by voices that occur in every split; their rates may flatter.",
        "- One student, one seed: another seed moves these figures within their intervals or a little more.",
        *own,
        "",
    ]


if __name__ == "__main__":
    import sys

    model, build = Path(sys.argv[1]), Path(sys.argv[2])
    update_readme(Path("README.md"), model, read_json(build / "report.json", "build report"))
