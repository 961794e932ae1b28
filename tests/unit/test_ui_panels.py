"""What the panels show is what the configuration, the metrics of a run, and a DET curve hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgewake.config.presets import get_preset, list_presets
from edgewake.errors import ConfigError
from edgewake.ui.chart import MOST_POINTS, chart

pytest.importorskip("gradio", reason="needs the extra ui")
from edgewake.ui.settings import configuration, settings, values_of
from edgewake.ui.training import advice, curves
from edgewake.ui.trying import measured


@pytest.mark.parametrize("name", list_presets())
def test_fields_give_back_the_configuration_that_they_show(name: str) -> None:
    assert configuration(values_of(get_preset(name))) == get_preset(name)


def test_every_key_of_the_configuration_has_a_field() -> None:
    shown = {setting.key for setting in settings()}
    values = get_preset("default").model_dump()
    keys = {f"{name}.{key}" for name, part in values.items() if isinstance(part, dict) for key in part}
    assert shown == keys | {name for name, part in values.items() if not isinstance(part, dict)}


def test_a_field_that_is_wrong_is_named() -> None:
    keys = [setting.key for setting in settings()]
    for key, value in (("training.epochs", 0), ("training.epochs", None), ("augmentation.snr_db", "[3, 1]")):
        values = values_of(get_preset("default"))
        values[keys.index(key)] = value
        with pytest.raises(ConfigError, match=key):
            configuration(values)


def test_curves_are_of_steps_or_of_epochs() -> None:
    lines = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}, {"step": 2, "epoch": 1, "loss": 0.7, "val_loss": 0.6}]
    assert curves(lines, ("loss", "val_loss"), "a") == {"a loss": [(0, 1.0), (1, 0.5)], "a val_loss": [(2, 0.6)]}


@pytest.mark.parametrize(("ratio", "text"), [(11.0, "reduce alpha"), (0.05, "increase alpha"), (1.0, "both count")])
def test_the_loss_ratio_gets_the_advice_of_the_guide(ratio: float, text: str) -> None:
    assert text in advice([{"step": 0, "loss_ratio": 1.0}, {"step": 1, "loss_ratio": ratio}])


def test_a_cutoff_says_what_it_gave_on_the_split(tmp_path: Path) -> None:
    points = [
        {"cutoff": 0.5, "miss_rate": 0.1, "fa_per_hour": 4.0},
        {"cutoff": 0.7, "miss_rate": 0.3, "fa_per_hour": 1},
    ]
    (tmp_path / "det.json").write_text(json.dumps({"recordings": 10, "hours": 2.0, "points": points}))
    (tmp_path / "metrics.json").write_text('{"split": "test"}')
    assert "0.6900 on test: **recall 90.0%** of 10 recordings, **4.00 false" in measured(tmp_path, 0.69)
    assert "recall 70.0%" in measured(tmp_path, 0.7)


def test_a_chart_keeps_every_peak_and_escapes_names() -> None:
    points = [(float(at), 0.0) for at in range(10 * MOST_POINTS)]
    points[777] = (777.0, 1.0)
    drawn = chart("<t>", {"<i>": points}, y=(0.0, 1.0))
    assert "<i>" not in drawn
    assert "&lt;i&gt;" in drawn
    path = re.search(r'points="([^"]*)"', drawn)
    assert path is not None
    assert min(float(point.split(",")[1]) for point in path[1].split()) == 10.0
