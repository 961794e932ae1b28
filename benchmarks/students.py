"""Sizes and costs of each student, and the result of a build: prints the table of docs/students.md.

Weights are random, since sizes and costs do not depend on them.

    python benchmarks/students.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from edgewake.builder.build import build
from edgewake.config import WakewordConfig
from edgewake.conversion.clip_export import export_clip_student
from edgewake.errors import BudgetError
from edgewake.io import read_json
from edgewake.models import ARCHITECTURES, create_model
from edgewake.models.tiny_conv import TinyConv
from edgewake.teachers.base import parameters_of

HEADER = (
    "| student | parameters, 40 mel | 64 mel | float .tflite | int8 | million MAC a clip "
    "| arena | compute | runs on the S3 without PSRAM |\n|---|--:|--:|--:|--:|--:|--:|--:|---|"
)


def config_of(architecture: str) -> WakewordConfig:
    """A clip of 1.5 s and 40 mel channels."""
    return WakewordConfig.model_validate({"model": {"architecture": architecture}})


def board_model(folder: Path) -> TinyConv:
    """tiny_conv in its default size with random ranges, as a model folder."""
    student = create_model("tiny_conv")
    assert isinstance(student, TinyConv)
    student.observe = student.quantize = True
    student(torch.rand(16, 300, 40) * 24)
    student.observe = False
    student.fold_batch_norm()
    info = {"phrase": "computer", "window": 4, "cutoff_sum": 179_200, "refractory_s": 1.0, "refractory_steps": 33}
    student.deployed(info).save(folder)
    return student


def measured(architecture: str, folder: Path) -> dict[str, Any]:
    """Sizes of a student, and the result of `edgewake build`."""
    torch.manual_seed(0)
    config = config_of(architecture)
    student = create_model(architecture, 2, 40, **config.model.options())
    record = export_clip_student(student, config, folder / "model")
    found: dict[str, Any] = {"float": record["tflite"]["bytes"]}
    if architecture == "tiny_conv":
        board_model(folder / "board")
        report = build(folder / "board", folder / "out")
        operators = [item for item in report["operators"] if item["operator"] != "frontend"]
        clip_steps = record["input"]["frames"] // 3
        found["verdict"] = "yes"
        found["macs"] = clip_steps * sum(item["macs"] for item in operators)
        found["int8"] = f"{report['budget'][0]['value']:,}"
    else:
        try:
            build(folder / "model", folder / "out")
        except BudgetError:
            report = read_json(folder / "out" / "report.json", "report")
        found["verdict"] = "no: " + ", ".join(
            f"{row['name']} × {row['value'] / row['limit']:.1f}" for row in report["budget"] if not row["ok"]
        )
        found["macs"] = report["macs_per_clip"]
        found["int8"] = "none" if report["int8_refused"] else f"{report['model_bytes']:,}"
    rows = {row["name"]: row["value"] for row in report["budget"]}
    return found | {"arena": rows["arena"], "compute": rows["compute"]}


def main() -> None:
    """Print the table."""
    print(HEADER)
    for architecture in ARCHITECTURES:
        counts = [parameters_of(create_model(architecture, 2, mel)) for mel in (40, 64)]
        with tempfile.TemporaryDirectory() as folder:
            found = measured(architecture, Path(folder))
        cells = [
            f"`{architecture}`",
            *(f"{count:,}" for count in counts),
            f"{found['float']:,}",
            found["int8"],
            f"{found['macs'] / 1e6:.1f}",
            f"{found['arena']:,}",
            f"{found['compute']:.1f} %",
            found["verdict"],
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
