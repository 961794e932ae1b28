"""`edgewake convert`, `build`, `parity` and `release`: from weights to what the board runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgewake.builder.build import build as run_build
from edgewake.builder.convert import run_conversion
from edgewake.builder.parity import check_model, print_checks, require_parity
from edgewake.builder.release import release as run_release
from edgewake.builder.report import print_summary
from edgewake.commands.common import CALIBRATION, FILE, MODEL, OUT_FOLDER, json_option, print_json, show
from edgewake.commands.corpus import CORPORA_OPTION, MANIFEST
from edgewake.console import table
from edgewake.conversion.convert import Method
from edgewake.data.importing import open_corpus
from edgewake.runtime.deployed import DeployedModel

QUANTIZATION = click.option(
    "--quantization", type=click.Choice(["qat", "ptq"]), default="qat",
    help="Scales learned in training, or set afterwards from calibration audio.",
)  # fmt: skip


@click.command()
@click.option("--target", default="esp32s3-nopsram", help="The chip.")
@click.option("--model", type=FILE, default=Path("models/computer"), help="Model folder.")
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: build/<name of the model folder>]")
@QUANTIZATION
@click.option(
    "--backend",
    type=click.Choice(["tflm", "c"]),
    default="tflm",
    help="TFLM's interpreter, or C generated for the model.",
)
@CALIBRATION
@click.option("--release", is_flag=True, help="Write model.tflite and manifest.json into the model folder too.")
@click.option("--idf", is_flag=True, help="Build the firmware with the installed ESP-IDF, and report its map file.")
@json_option("Print report.json instead of the table.")
def build(*, model: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Convert a model, check its budget, run the parity checks, and write the board's files."""
    folder = out or Path("build") / model.resolve().name
    show(run_build(model, folder, **options), as_json, lambda report: print_summary(report, folder))


@click.command()
@click.argument("model", type=FILE)
@click.option("--out", type=OUT_FOLDER, help="Output folder.  [default: build/conversion/<name of the model folder>]")
@QUANTIZATION
@CALIBRATION
@json_option("Print the record of the conversion.")
def convert(model: Path, out: Path | None, quantization: Method, calibration: Path | None, as_json: bool) -> None:
    """Turn a model folder's weights into a streaming int8 .tflite that keeps the learned scales."""
    folder = out or Path("build/conversion") / model.resolve().name
    record = run_conversion(model, folder, quantization=quantization, calibration=calibration)
    rows = [(path.name, f"{path.stat().st_size:,}") for path in sorted(folder.iterdir()) if path.is_file()]
    show(record, as_json, lambda _: table(f"{model} ({quantization}) in {folder}", ("file", ">bytes"), rows))


@click.command()
@MODEL
@CALIBRATION
@json_option("One object a check.")
def parity(model: Path, calibration: Path | None, as_json: bool) -> None:
    """Run the parity checks: what was trained, what was tested, and what the board computes are the same."""
    checks = check_model(model, calibration=calibration)
    if as_json:
        print_json(*checks)
    else:
        print_checks(checks)
    require_parity(checks)


@click.command()
@click.argument("run", type=FILE)
@click.argument("folder", type=OUT_FOLDER)
@MANIFEST
@CORPORA_OPTION
def release(run: Path, folder: Path, manifest: Path | None, corpora: Path | None) -> None:
    """Make the released model FOLDER of a trained RUN: built, measured on test once, with a model card."""
    phrase = str(DeployedModel.load(run / "model").info["phrase"])
    run_release(run, folder, open_corpus(manifest, phrase, corpora))
    click.echo(f"next: edgewake build --model {folder}")
