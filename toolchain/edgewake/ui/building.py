"""Panel 5: a model is built here, and its report, firmware and ESPHome package are downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from edgewake.builder.build import build
from edgewake.builder.esphome import export_esphome
from edgewake.builder.user_files import FIRMWARE, PAGE, REPORT
from edgewake.conversion.convert import MODEL
from edgewake.errors import EdgewakeError
from edgewake.io import atomic_path, make_folder, read_json
from edgewake.runtime.model_manifest import FILE as MANIFEST
from edgewake.targets.budget import quantity
from edgewake.ui.common import choices, told
from edgewake.ui.project import Project
from edgewake.ui.settings import QUIET


def places(project: Project, model: Path) -> tuple[Path, Path]:
    """Where a model's build and its ESPHome package go: beside the model of a run or wake word, else in build/."""
    if model.name == "model":
        return model.parent / "build", model.parent / "esphome"
    return project.folder / "build" / model.name, project.folder / "build" / "esphome" / model.name


def described(report: Mapping[str, Any]) -> str:
    """The budget and the parity checks, in Markdown."""
    lines = [
        f"## {report['phrase']} on {report['target']['name']}",
        "",
        "| what | value | limit | |",
        "|---|--:|--:|--:|",
    ]
    for row in report["budget"]:
        value, limit = (quantity(row[key], row["unit"]) for key in ("value", "limit"))
        lines.append(f"| {row['name']} | {value} | {limit} | {row['value'] / row['limit']:.0%} |")
    differ = [check["verdict"] for check in report["parity"]].count("differs")
    lines.append(f"| parity checks | {len(report['parity']) - differ} pass | {differ} fail | |")
    return "\n".join([*lines, "", "Next, where ESP-IDF is installed (with firmware.zip elsewhere: in its folder):"])


def panel(project: Project, page: gr.Blocks) -> None:
    """Draw the panel."""
    with gr.Row():
        model = gr.Dropdown(label="Model", info="folders with trained weights", elem_id="build-model")
        run = gr.Button("Build", variant="primary", elem_id="build", scale=0)
        esphome = gr.Button("ESPHome package", elem_id="esphome", scale=0)
    report = gr.Markdown(elem_id="budget")
    command = gr.Code(
        language="shell", interactive=False, show_label=False, elem_id="next", buttons=["copy"], visible=False
    )
    files = gr.File(label="Downloads", file_count="multiple", interactive=False, elem_id="downloads")

    def models(chosen: str | None) -> Any:
        return choices(project.trained(), chosen)

    def download(name: str, parts: Mapping[str, Path]) -> list[str]:
        """Copies of files and packed folders, by the names that they get."""
        place = project.downloads / name
        make_folder(place)
        found = []
        for target, part in parts.items():
            if part.is_dir():
                with atomic_path(place / target) as packed:
                    shutil.make_archive(str(packed.with_suffix("")), "zip", part.parent, part.name)
                found.append(place / target)
            elif part.is_file():
                found.append(Path(shutil.copy2(part, place / target)))
        return [str(path) for path in found]

    def show(name: str | None) -> tuple[Any, ...]:
        """What is there of a model's build."""
        if not name:
            return "", gr.update(visible=False), None
        folder, package = places(project, project.inside(name))
        parts = {one: folder / one for one in (PAGE, MODEL, MANIFEST)}
        parts |= {"firmware.zip": folder / FIRMWARE, "esphome.zip": package}
        names = download(name.replace("/", "_"), parts)
        if not (folder / REPORT).is_file():
            return "not built yet", gr.update(visible=False), names or None
        made = read_json(folder / REPORT, "report")
        return described(made), gr.update(value=str(made["next"]), visible=True), names

    def make(name: str | None) -> tuple[Any, ...]:
        build(_given(project, name), places(project, _given(project, name))[0])
        return show(name)

    def pack(name: str | None) -> tuple[Any, ...]:
        export_esphome(_given(project, name), places(project, _given(project, name))[1])
        return show(name)

    outputs = [report, command, files]
    page.load(models, model, model, **QUIET).then(told(show), model, outputs, **QUIET)
    model.focus(models, model, model, **QUIET)
    model.input(told(show), model, outputs, **QUIET)
    # Both print to the terminal that serves the page.
    run.click(told(make), model, outputs, concurrency_id="build", concurrency_limit=1, api_visibility="private")
    esphome.click(told(pack), model, outputs, concurrency_id="build", api_visibility="private")


def _given(project: Project, name: str | None) -> Path:
    if not name:
        raise EdgewakeError(f"no trained model in {project.folder}: train one, or make a wake word")
    return project.inside(name)
