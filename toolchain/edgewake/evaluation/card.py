"""A model card is made of the model's own files alone: manifest, metrics, data and NOTES.md."""

from __future__ import annotations

from pathlib import Path

import jinja2

from edgewake.assets.catalogue import teacher_asset
from edgewake.config import WakewordConfig
from edgewake.errors import EdgewakeError
from edgewake.evaluation.cutoff import few_hours
from edgewake.evaluation.rates import condition_name, figure_text, named_rates, worst_family_text
from edgewake.evaluation.rooms import rooms_text
from edgewake.io import read_json, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.model_manifest import load_manifest

NOTES, COMMANDS = "NOTES.md", "commands.txt"
TEMPLATE = Path(__file__).with_name("card.md.j2")


def write_card(folder: Path) -> Path:
    """Write README.md of a model folder from its own files, NOTES.md as the last of the limits; returns its path.

    The lines of commands.txt make the model again, by default training and release with the folder's config.yaml.
    """
    folder = Path(folder)
    again = f"edgewake train models/{folder.name}/config.yaml --out runs/{folder.name}"
    commands = [again, f"edgewake release runs/{folder.name} models/{folder.name}"]
    if (folder / COMMANDS).is_file():
        commands = (folder / COMMANDS).read_text(encoding="utf-8").splitlines()
    model, manifest = DeployedModel.load(folder), load_manifest(folder)
    metrics = read_json(folder / "metrics.json", "metrics")
    if metrics["model"]["sha256"] != manifest.model.sha256:
        raise EdgewakeError(f"{folder / 'metrics.json'} is of another model: run edgewake evaluate --apply")
    config, notes = WakewordConfig.load(folder / "config.yaml"), folder / NOTES
    distillation, members = config.distillation, list[str]()
    if distillation.enabled:
        alone = distillation.teacher_architecture != "ensemble"
        members = [distillation.teacher_architecture] if alone else list(distillation.teachers)
    # Of teachers that were made from pretrained weights.
    fetched = [] if distillation.teacher_model_path else members
    assets = [found for member in fetched if (found := teacher_asset(member, distillation.teacher_name))]
    step_ms = model.frames_per_step * manifest.frontend_config.step_ms
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for used in (figure_text, condition_name, named_rates, worst_family_text, few_hours, rooms_text):
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
        members=members,
        assets=assets,
        commands=commands,
    )
    write_text(folder / "README.md", text.rstrip() + "\n")
    return folder / "README.md"
