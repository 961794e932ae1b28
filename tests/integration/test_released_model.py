"""The released model is what its weights convert to, within budget, and measured on exactly these bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgewake.builder.build import build
from edgewake.io import sha256_file
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.model_manifest import load_manifest

pytestmark = pytest.mark.slow  # each needs a build

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture(scope="module", params=sorted(path.parent.name for path in MODELS.glob("*/model.json")))
def released(request):
    return MODELS / request.param


def test_there_is_a_released_model():
    assert (MODELS / "computer" / "model.json").is_file()


@pytest.fixture(scope="module")
def rebuilt(released, tmp_path_factory):
    out = tmp_path_factory.mktemp("rebuilt") / released.name
    build(released, out)
    return out


def test_its_tflite_is_what_its_weights_convert_to(released, rebuilt):
    assert sha256_file(released / "model.tflite") == sha256_file(rebuilt / "model.tflite")


def test_its_manifest_is_the_one_that_a_build_writes(released, rebuilt):
    # Costs are a model of the chip that may get better between releases; what decides bits may not.
    left, right = (
        load_manifest(folder).model_dump(exclude={"operators", "versions"}) for folder in (released, rebuilt)
    )
    assert left == right


def test_it_is_within_budget_and_every_parity_check_passes(rebuilt):
    report = json.loads((rebuilt / "report.json").read_text())
    assert all(item["value"] <= item["limit"] for item in report["budget"])
    assert {check["verdict"] for check in report["parity"]} == {"equal", "within bounds"}


def test_its_figures_were_measured_on_these_bytes_at_this_cutoff(released):
    metrics = json.loads((released / "metrics.json").read_text())
    manifest = load_manifest(released)
    assert metrics["model"]["sha256"] == manifest.model.sha256
    assert metrics["cutoff"]["from"] == "validation"
    assert metrics["cutoff"]["value"] == pytest.approx(manifest.cutoff, abs=1e-7)
    assert metrics["split"] == "test"
    assert metrics["detector_check"]["differences"] == 0
    assert manifest.measured["recall_clean"].value == metrics["summary"]["recall"]["clean"]["all"]["value"]
    assert manifest.cutoff_sum == DeployedModel.load(released).info["cutoff_sum"]
