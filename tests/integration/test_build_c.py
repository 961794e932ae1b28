"""`edgewake build --backend c` makes a project without TFLM, within a budget of its own, beside the same .tflite."""

from __future__ import annotations

import pytest

from edgewake.builder.build import build
from edgewake.builder.firmware import GENERATED
from edgewake.io import read_json
from edgewake.runtime.network.source import read_network


@pytest.mark.slow
def test_both_backends_are_built_of_the_same_tflite(repository, tmp_path):
    model = repository / "models" / "computer"
    reports = {name: build(model, tmp_path / name, backend=name, cache=tmp_path / "cache") for name in ("tflm", "c")}
    data = (tmp_path / "c" / "model.tflite").read_bytes()
    assert data == (tmp_path / "tflm" / "model.tflite").read_bytes() == (model / "model.tflite").read_bytes()
    assert read_json(tmp_path / "c" / "report.json", "report")["backend"] == "c"
    memory = {name: {line["name"]: line["bytes"] for line in report["memory"]} for name, report in reports.items()}
    assert memory["c"]["network"] == read_network(data).state_bytes
    assert not memory["c"].keys() & {"arena", "interpreter"}
    budget = {name: {row["name"]: row["value"] for row in report["budget"]} for name, report in reports.items()}
    assert budget["c"]["static RAM"] <= budget["tflm"]["static RAM"] / 2
    assert budget["c"]["compute"] < budget["tflm"]["compute"]
    checks = {check["name"]: check["verdict"] for check in reports["c"]["parity"]}
    assert checks["integer simulator = generated C"] == "equal"
    # A second build with the other backend leaves nothing of the first, and takes no file of edgewake for a person's.
    again = build(model, tmp_path / "c", backend="tflm", cache=tmp_path / "cache")
    assert again["kept"] == []
    assert not (tmp_path / "c" / "firmware" / GENERATED / "ew_network.c").exists()
