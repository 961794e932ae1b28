"""`edgewake evaluate`: recall and false accepts an hour of a model, over whole recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgewake.commands.common import MODEL, OUT_FOLDER, SEED, SPLIT, Number, json_option, plot_option, print_json
from edgewake.commands.corpus import CORPORA_OPTION, MANIFEST
from edgewake.data.importing import open_corpus
from edgewake.evaluation.evaluate import run_evaluation
from edgewake.runtime.model_manifest import load_manifest
from edgewake.runtime.pipeline.params import HIGHEST_CUTOFF


class CutoffOption(Number):
    """val, shipped, or a probability."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises BadParameter for anything else."""
        return value if value in ("val", "shipped") else super().convert(value, param, ctx)


@click.command()
@MODEL
@MANIFEST
@CORPORA_OPTION
@click.option("--split", type=SPLIT, default="test", help="Which recordings.")
@click.option(
    "--engine", type=click.Choice(["c", "tflm"]), default="c",
    help="The model's generated C (a sample is confirmed by TFLM), or TFLM everywhere.",
)  # fmt: skip
@click.option(
    "--target-fa", "target_fa_per_hour", type=Number(0, min_open=True),
    help="False accepts an hour to aim at.  [default: of the model's config.yaml, else 0.1]",
)  # fmt: skip
@click.option(
    "--cutoff", type=CutoffOption(0, HIGHEST_CUTOFF, min_open=True), metavar="CUTOFF", default="val",
    help="val: chosen on validation; shipped: the model's; or a number.",
)  # fmt: skip
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the noise.")
@click.option("--out", type=OUT_FOLDER, help="Where metrics.json, det.json and det.png go.")
@click.option("--apply", is_flag=True, help="Write cutoff and figures into the model folder.")
@plot_option("Draw det.png.")
@json_option("Print metrics.json instead of tables.")
def evaluate(*, model: Path, manifest: Path | None, corpora: Path | None, as_json: bool, **options: Any) -> None:
    """Recall and false accepts an hour over whole recordings, at a cutoff that validation chose."""
    corpus = open_corpus(manifest, load_manifest(model).phrase, corpora)
    metrics = run_evaluation(model, corpus, quiet=as_json, **options)
    if as_json:
        print_json(metrics)
