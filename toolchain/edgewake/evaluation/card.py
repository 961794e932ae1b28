"""A model card is made of the model's own files alone: manifest, metrics, data and NOTES.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from edgewake.assets.catalogue import teacher_asset
from edgewake.config import WakewordConfig
from edgewake.errors import EdgewakeError
from edgewake.evaluation.rates import EventRate, Recall, condition_name, named_rates
from edgewake.io import read_json, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.model_manifest import load_manifest

NOTES = "NOTES.md"
TEMPLATE = Path(__file__).with_name("card.md.j2")


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
    config, notes = WakewordConfig.load(folder / "config.yaml"), folder / NOTES
    step_ms = model.frames_per_step * manifest.frontend_config.step_ms
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for used in (Recall, EventRate, condition_name, named_rates):
        environment.globals[used.__name__] = used
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=folder.name,
        manifest=manifest,
        weights=sum(layer.weight.size for layer in model.layers if layer.weight is not None),
        step_ms=step_ms,
        window_s=model.receptive_field_steps * step_ms / 1000,
        metrics=metrics,
        data=metrics["data"],
        notes=notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else [],
        training={"edgewake": "?", "torch": "?", "epoch": "?"} | model.info.get("training", {}),
        config=config,
        families=read_json(folder / "data.json", "description of the data"),
        **_teacher(config),
    )
    write_text(folder / "README.md", text.rstrip() + "\n")
    return folder / "README.md"


def _teacher(config: WakewordConfig) -> dict[str, Any]:
    """A sentence on the teacher, where there was one, and the assets that pretrained teachers are made from."""
    distillation = config.distillation
    if not distillation.enabled:
        return {"teacher": "", "assets": []}
    alone = distillation.teacher_architecture != "ensemble"
    members = [distillation.teacher_architecture] if alone else distillation.teachers
    frames = f", along time too (weight {distillation.frame_weight:g})" if distillation.frame_weight else ""
    sentence = (
        f"Distilled from {' and '.join(members)}, beside the labels: alpha {distillation.alpha:g}, "
        f"temperature {distillation.temperature:g}{frames}. "
    )
    fetched = [] if distillation.teacher_model_path else members
    assets = [found for member in fetched if (found := teacher_asset(member, distillation.teacher_name))]
    return {"teacher": sentence, "assets": assets}
