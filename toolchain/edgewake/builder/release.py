"""`edgewake release`: a trained run is built and checked, measured on test once, and described in a model card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgewake.builder.build import build
from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.errors import EdgewakeError
from edgewake.evaluation.card import COMMANDS, NOTES, write_card
from edgewake.evaluation.evaluate import run_evaluation
from edgewake.io import write_bytes, write_json, write_text

PARTS = ("model.json", "weights.safetensors", "config.yaml")


def release(
    run: Path,
    folder: Path,
    corpus: CorpusManifest,
    *,
    target: str = "esp32s3-nopsram",
    split: Split = "test",
    commands: Sequence[str] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Make the model folder of a trained run: what `edgewake build` starts from, with its figures and card.

    The build goes first, so that a model over budget, or one that fails a parity check, is never released. The cutoff
    is chosen on the validation split for the run's own `evaluation.target_fa_per_hour`; `split` is reported once, at
    that cutoff. `commands` are what the card names to make it again, `settings` keys
    of the model's config.yaml that shall differ from the run's. Other files that `folder` holds stay. Returns the
    metrics.
    """
    source = Path(run) / "model"
    for name in PARTS:
        if not (source / name).is_file():
            raise EdgewakeError(f"{source} has no {name}: finish training first (edgewake train ... --resume)")
    folder = Path(folder)
    config = WakewordConfig.load(source / "config.yaml")
    for key, value in settings.items():
        config.set(key, value)
    with tempfile.TemporaryDirectory(prefix="edgewake-release-") as place:
        # The name goes into paths and titles, so the work is done in a folder that has it.
        work = Path(place) / folder.name
        work.mkdir()
        for name in PARTS:
            shutil.copyfile(source / name, work / name)
        config.save(work / "config.yaml")
        if (folder / NOTES).is_file():
            shutil.copyfile(folder / NOTES, work / NOTES)
        build(work, Path(place) / "build", target=target, release=True)
        console.print(f"built; measuring on the {split} split")
        options: Any = {
            "split": split,
            "target_fa_per_hour": config.evaluation.target_fa_per_hour,
            "out": Path(place) / "evaluation",
        }
        metrics = run_evaluation(work, corpus, apply=True, quiet=False, **options)
        write_json(work / "data.json", describe_data(corpus))
        if commands:
            write_text(work / COMMANDS, "\n".join(commands) + "\n")
        write_card(work)
        for path in sorted(work.iterdir()):
            write_bytes(folder / path.name, path.read_bytes())
    return metrics


def describe_data(corpus: CorpusManifest) -> list[dict[str, Any]]:
    """Every family of recordings: kind, licence, source, and recordings and hours of each split."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in corpus.entries:
        row = rows.setdefault(
            (entry.kind, entry.family),
            {"kind": entry.kind, "family": entry.family, "licence": entry.licence, "source": entry.source}
            | {split: {"recordings": 0, "hours": 0.0} for split in ("train", "val", "test")},
        )
        row[entry.split]["recordings"] += 1
        row[entry.split]["hours"] = round(row[entry.split]["hours"] + entry.seconds / 3600, 6)
    return [rows[key] for key in sorted(rows)]
