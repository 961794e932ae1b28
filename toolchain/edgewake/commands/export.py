"""`edgewake export`: packages of a model for software that others wrote."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.builder.esphome import WEBSITE, export_esphome, print_export
from edgewake.commands.common import FILE, OUT_FOLDER, json_option, show
from edgewake.commands.corpus import MANIFEST
from edgewake.data.importing import open_corpus
from edgewake.runtime.deployed import DeployedModel


@click.group()
def export() -> None:
    """Write a model as other software takes it."""


@export.command()
@click.option("--model", type=FILE, default=Path("models/computer"), help="Model folder.")
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: build/esphome/<name of the model folder>]")
@click.option("--author", default="edgewake", help="Author, for the manifest.")
@click.option("--website", default=WEBSITE, help="Where the model is described, for the manifest.")
@click.option("--language", "languages", multiple=True, default=("en",), help="Language of the phrase; repeatable.")
@MANIFEST
@click.option("--corpora", type=FILE, help="Folder with manifest.csv, whose test split tells what the export costs.")
@json_option("Print export.json instead of the table.")
def esphome(
    *,
    model: Path,
    out: Path | None,
    author: str,
    website: str,
    languages: tuple[str, ...],
    manifest: Path | None,
    corpora: Path | None,
    as_json: bool,
) -> None:
    """Write a package for ESPHome: model, manifest, example."""
    folder, corpus = out or Path("build/esphome") / model.resolve().name, None
    if manifest or corpora:
        corpus = open_corpus(manifest, str(DeployedModel.load(model).info["phrase"]), corpora)
    record = export_esphome(model, folder, corpus=corpus, author=author, website=website, languages=languages)
    show(record, as_json, lambda _: print_export(record, folder))
