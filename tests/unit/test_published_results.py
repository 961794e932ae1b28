"""The tables of docs/distillation-results.md are those of the published numbers, and the setting is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewake.config import WakewordConfig
from edgewake.experiments.markdown import ablation_tables, heading, main_figures, markdown_table

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "distillation"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """The published ablation, point by point."""
    return dict(json.loads((PUBLISHED / "results.json").read_text()))


def test_every_table_of_the_published_page_is_that_of_the_published_numbers(results: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "distillation-results.md").read_text()
    tables = {title: markdown_table(columns, rows) for title, columns, rows in ablation_tables(results, full=True)}
    for name in main_figures(results):
        assert tables[heading(name)] in page
    everything = (PUBLISHED / "results.md").read_text()
    assert tables
    for title, table in tables.items():
        assert f"**{title}**\n\n{table}" in everything


def test_the_published_ablation_hides_no_run(results: dict[str, Any]) -> None:
    assert not results["failed"]
    assert len(results["seeds"]) >= 5
    assert results["fractions"] == [1.0, 0.25, 0.0625]
    counted = 0
    for row in results["summary"]:
        of = {"condition": row["condition"], "fraction": row["fraction"], "status": "finished"}
        runs = [point for point in results["points"] if of.items() <= point.items()]
        counted += len(runs)
        assert all(cell["n"] == len(runs) for cell in row["figures"].values())
        assert len(runs) == len(results["seeds"])
    assert counted == len(results["points"])


def test_the_published_ablation_names_its_configuration(results: dict[str, Any]) -> None:
    config = WakewordConfig.load(PUBLISHED / "ablation.yaml")
    assert config.hash() == results["config"]
    released = WakewordConfig.load(ROOT / "models" / "computer" / "config.yaml")
    assert config.model == released.model
    assert config.augmentation == released.augmentation
