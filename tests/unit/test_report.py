"""The report's page fetches nothing, is legible in light and dark, and says for whom a model works and for whom not."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgewake.builder.page import TEMPLATE, det_chart, figures, png, render, verdict
from edgewake.builder.report import REPORT_VERSION
from edgewake.cli import main
from edgewake.evaluation.families import with_small_ones_summed
from edgewake.evaluation.rates import event_rate, recall
from edgewake.io import sha256_file
from edgewake.making.report import write_report
from killed import killed

VOID = {"meta", "img", "line", "path", "rect", "circle", "polyline", "br"}


def det(*points: tuple[float, float, float]) -> dict[str, Any]:
    found = [{"cutoff": cutoff, "miss_rate": miss, "fa_per_hour": rate} for cutoff, miss, rate in points]
    return {"recordings": 14, "hours": 5.0, "points": found}


def text_of(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


EXAMPLE = {
    "of_detected": 5,
    "family": "recordings",
    "speaker": "recordings/anna",
    "file": "001.wav",
    "begin_s": 0.2,
    "seconds": 0.4,
    "phrase_s": [0.05, 0.3],
    "time_s": 0.35,
    "probability": 0.9,
    "cutoff": 0.5,
    "waveform": {
        "column_s": 0.01,
        "peak_dbfs": -6.0,
        "low_high": text_of(np.tile(np.array([-50, 60], np.int8), (40, 1))),
    },
    "mel": {
        **{"first_s": 0.02, "step_s": 0.01, "channels": 4, "hz": [125.0, 7500.0]},
        "values": text_of(np.arange(160, dtype=np.uint8)),
    },
    "steps": {"first_s": 0.05, "step_s": 0.03, "probabilities": [0.1, 0.2, 0.4, 0.6, 0.9]},
}


@pytest.fixture
def metrics() -> dict[str, Any]:
    """As `evaluate` gives them: two people and a synthesised voice, clean and in noise, and some families of sound."""
    families = {"recordings": recall(5, 12), "synth_flite": recall(19, 20)}
    noisy = {"recordings": recall(1, 12), "synth_flite": recall(11, 20)}
    sound = {
        **{"fotaq": event_rate(2, 3.0), "noise_a": event_rate(0, 1.5), "speech_flite": event_rate(0, 0.5)},
        **{"a": event_rate(1, 0.04), "b": event_rate(0, 0.05), "c": event_rate(2, 0.01)},
    }
    groups = {"family": {"clean": families, "10db": noisy, "far_room": dict(noisy)}}
    groups["speaker"] = {
        **{"recordings/anna": recall(5, 5), "recordings/ben": recall(0, 5), "recordings/cleo": recall(1, 2)},
        "synth_flite/kal": recall(19, 20),
    }
    parts = {"all": recall(24, 32), "without_suspect": recall(24, 32), "suspect": recall(0, 0)}
    near = {"hey alice": recall(1, 5), "atlas": recall(2, 4), "hey": recall(0, 1)}
    rates = {"total": event_rate(5, 5.1), "noise": event_rate(0, 1.5), "families": sound}
    return {
        "version": 1,
        "model": {"phrase": "hey atlas", "sha256": "0" * 64},
        "split": "test",
        "snr_db": 10.0,
        "cutoff": {"value": 0.5, "from": "validation", "target_fa_per_hour": 0.1},
        "summary": {
            "recall": dict.fromkeys(groups["family"], parts),
            "groups": groups,
            "near": {"total": recall(3, 10), "phrases": near},
            "fa_per_hour": rates,
            "latency": {"recordings": 20, "median_s": 0.04, "p90_s": 0.1},
        },
        "validation": {"fa_per_hour": {"total": event_rate(1, 2.5), "families": {"commands": event_rate(1, 0.25)}}},
        "data": {
            **{"corpus": "hey_atlas", "distinct_recordings_with_phrase": 32, "suspect_recordings": 0, "noise_draws": 3},
            "rooms": {"measured": 4, "simulated": 12},
        },
        "det": det((0.2, 0.0, 40.0), (0.5, 0.25, 1.0), (1.0, 1.0, 0.0)),
        "det_noisy": det((0.2, 0.1, 40.0), (0.5, 0.6, 1.0), (1.0, 1.0, 0.0)),
        "detection": EXAMPLE,
    }


def peers_of(sha256: str) -> dict[str, Any]:
    """As benchmarks/peers.py writes it."""
    names = {"edgewake": 0.5, "microWakeWord": 0.9, "openWakeWord": 0.5}
    peers = {
        name: {
            "package": f"{name} 1.0",
            "figures": {
                "det": {c: det((0.4, 0.1, 5.0), (cutoff, 0.2, 2.0), (1.0, 1.0, 0.0)) for c in ("clean", "10db")},
                "shipped": {"cutoff": cutoff},
            },
            "costs": {},
        }
        for name, cutoff in names.items()
    }
    about = {"positives": 30, "hours": 5.0, "corpus": "hey_atlas"}
    return {"model_sha256": sha256, "recordings": about, "peers": peers}


@pytest.fixture
def evaluated(tmp_path: Path, metrics: dict[str, Any]) -> Path:
    """What `edgewake evaluate --apply` leaves in a model folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"a model")
    metrics["model"]["sha256"] = sha256_file(folder / "model.tflite")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def page_of(metrics: dict[str, Any] | None) -> str:
    return render({"phrase": "hey atlas", "measured": metrics, "peers": None, "not_measured": "Not measured yet"})


class Elements(HTMLParser):
    """Every element with its attributes, and whether all are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found, self.open, self.whole = list[tuple[str, dict[str, str | None]]](), list[str](), True
        self.feed(page)
        self.whole = self.whole and not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.whole = self.whole and bool(self.open) and self.open.pop() == tag


def test_the_page_fetches_nothing(metrics: dict[str, Any]):
    elements = Elements(page_of(metrics))
    assert elements.whole
    for tag, attributes in elements.found:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "xlink:href", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.findall(r"https?://|//[a-z]|@import|url\(", page_of(metrics))


def test_every_picture_has_a_text_and_every_table_its_heads(metrics: dict[str, Any]):
    elements = Elements(page_of(metrics)).found
    pictures = [attributes for _, attributes in elements if attributes.get("role") == "img"]
    assert len(pictures) == 2
    assert all(len(each["aria-label"] or "") > 20 for each in pictures)
    assert all("alt" in attributes for tag, attributes in elements if tag == "img")
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")


def colours(block: str) -> dict[str, tuple[float, ...]]:
    found = re.findall(r"--([\w-]+):\s*#([0-9a-f]{6})\b", block)
    return {name: tuple(byte / 255 for byte in bytes.fromhex(value)) for name, value in found}


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2's ratio of two sRGB colours."""

    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_both_colour_schemes_are_whole_and_legible():
    style = TEMPLATE.read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert "@media screen and (prefers-color-scheme: dark) { :root" in style
    assert colours(light).keys() == colours(dark).keys()
    for scheme in (colours(light), colours(dark)):
        texts = [(text, back) for text in ("ink", "soft") for back in ("page", "card")]
        texts += [(name, f"{name}-bg") for name in ("good", "warn", "bad")]
        texts += [("ink", f"{name}-bg") for name in ("good", "warn", "bad")] + [("bad", "card")]
        pale = {pair for pair in texts if contrast(*(scheme[name] for name in pair)) < 4.5}
        assert not pale
        for line in ("accent", "second", "third", "pale"):
            assert contrast(scheme[line], scheme["card"]) >= 3, line


def test_it_is_laid_out_for_paper_and_for_narrow_screens():
    style = TEMPLATE.read_text()
    assert "@media print {" in style
    assert "@media (max-width: 680px) {" in style
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in style


def test_families_with_few_hours_are_one_line(metrics: dict[str, Any]):
    rates = with_small_ones_summed(metrics["summary"]["fa_per_hour"]["families"])
    assert list(rates) == ["fotaq", "noise_a", "speech_flite", "3 families with less than 0.1 h each"]
    assert list(rates.values())[-1] == event_rate(3, 0.04 + 0.05 + 0.01)
    page = page_of(metrics)
    assert '<th scope="row">3 families with less than 0.1 h each</th>' in page
    assert '<th scope="row">b</th>' not in page
    assert list(with_small_ones_summed({"a": event_rate(0, 0.01), "b": event_rate(0, 0.2)})) == ["b", "a"]


@pytest.mark.parametrize(
    ("hits", "total", "said"), [(9, 10, "works"), (8, 10, "partly"), (5, 10, "partly"), (4, 10, "fails"), (4, 4, "few")]
)
def test_it_works_fails_or_cannot_be_told(hits: int, total: int, said: str):
    assert verdict(recall(hits, total)) == said


def test_people_are_apart_from_synthesised_voices_and_each_is_where_it_belongs(metrics: dict[str, Any]):
    found = figures(metrics)
    names = {key: [name for name, _ in each] for key, each in found["groups"].items()}
    assert names["works"] == ["anna", "kal, synthesised"]
    assert names["fails"] == ["people, clean", "people, at 10 dB SNR", "people, far room", "ben"]
    assert names["few"] == ["cleo"]
    assert found["who"] == "people"
    assert [voice["name"] for voice in found["voices"]] == ["ben", "cleo", "anna", "kal"]
    assert [kind for kind, _ in found["distance"]["far_room"]] == ["people", "synthesised voices"]
    page = page_of(metrics)
    assert "Of 12 recordings of people it detects <b>42 %</b>" in page
    assert page.index("“atlas”") < page.index("“hey alice”")
    assert "“hey”" not in page
    assert "3 m in 4 measured and 12 simulated rooms" in page
    assert "for 0.1 false accepts an hour, and has 0.40/h" in page
    assert "Worst family: commands, with 1 of 1 events" in page


def test_what_limits_the_figures_is_said(metrics: dict[str, Any]):
    assert [claim for claim, _ in figures(metrics)["warnings"]] == ["Few hours chose the cutoff"]
    summary = metrics["summary"]
    for found in summary["groups"]["family"].values():
        del found["recordings"]
    summary["fa_per_hour"]["families"] = {"speech_flite": event_rate(0, 2.0), "generated_noise": event_rate(0, 1.0)}
    metrics["split"] = "val"
    warnings = dict(figures(metrics)["warnings"])
    assert "These are figures of the val split, and too good" in warnings
    assert "No recording of a person was in the test" in warnings
    assert "False accepts were measured on synthetic speech only" in warnings
    assert "Of 20 recordings of synthesised voices" in page_of(metrics)


def test_real_recordings_whose_family_begins_like_a_synthetic_one_are_real_sound(metrics: dict[str, Any]):
    metrics["summary"]["fa_per_hour"]["families"] = {"speech_commands": event_rate(0, 2.0)}
    assert [claim for claim, _ in figures(metrics)["warnings"]] == ["Few hours chose the cutoff"]


def test_one_detection_is_drawn_with_cutoff_and_time(metrics: dict[str, Any]):
    page = page_of(metrics)
    assert "detected at 0.55 s" in page
    assert "cutoff 0.500" in page
    assert "; the shaded part is the phrase" in page
    assert "reaches the cutoff 0.500 at 0.55 s." in page
    metrics["detection"] = None
    assert "edgewake evaluate --apply again" in page_of(metrics)


def test_the_mel_picture_is_a_png_of_these_values():
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    data = base64.b64decode(png(values).removeprefix("data:image/png;base64,"))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        assert int.from_bytes(data[at + 8 + size : at + 12 + size]) == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + size
    assert chunks[b"IHDR"][:8] == (4).to_bytes(4) + (3).to_bytes(4)
    assert chunks[b"PLTE"][:3] == bytes.fromhex("440154")
    assert len(chunks[b"PLTE"]) == 768
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(3, 5)
    assert (lines[:, 0] == 0).all()
    assert np.array_equal(lines[:, 1:], values)


def test_a_curve_has_only_horizontal_and_vertical_lines_and_a_mark_at_its_cutoff():
    chart = det_chart({"clean": (det((0.2, 0.01, 40.0), (0.5, 0.25, 1.0), (1.0, 1.0, 0.0)), 0.5)})
    (curve,) = chart["curves"]
    assert re.fullmatch(r"M[\d.]+,[\d.]+(H[\d.]+V[\d.]+)*", curve["path"])
    assert curve["mark"]["miss_rate"] == 0.25
    assert curve["mark"]["at"][1] == pytest.approx(0.5)
    assert [text for _, text in chart["levels"]] == ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %"]
    assert [text for _, text in chart["decades"]] == ["0.1", "1", "10"]


def test_curves_of_peers_stand_beside_where_they_are_of_this_model(evaluated: Path):
    page = write_report(evaluated).read_text()
    assert "Beside other wake words" not in page
    known = sha256_file(evaluated / "model.tflite")
    (evaluated / "peers.json").write_text(json.dumps(peers_of(known)))
    page = write_report(evaluated).read_text()
    assert "microWakeWord 1.0, openWakeWord 1.0, all on the same 30 recordings" in page
    assert page.count('class="curve c3" d=') == 2
    assert "which are not those above" not in page
    (evaluated / "peers.json").write_text(json.dumps(peers_of("1" * 64)))
    assert "Beside other wake words" not in write_report(evaluated).read_text()


def test_the_command_makes_it_again_from_what_an_evaluation_left(evaluated: Path, tmp_path: Path):
    result = CliRunner().invoke(main, ["report", str(evaluated), "--out", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"report: {tmp_path / 'page.html'}\n"
    assert not (evaluated / "report.html").exists()
    assert "“hey atlas”" in (tmp_path / "page.html").read_text()


def make_folder(folder: Path, evaluated: Path) -> None:
    """What a make leaves, but for its build."""
    shutil.copytree(evaluated, folder / "model")
    (folder / "make.json").write_text(json.dumps({"effort": "quick", "stages": {"train": {"seconds": 12.0}}}))


def test_a_make_has_its_clips_and_times_and_what_was_measured_since_its_build(
    evaluated: Path, metrics: dict[str, Any], tmp_path: Path
):
    folder = tmp_path / "hey_atlas"
    make_folder(folder, evaluated)
    (folder / "build").mkdir()
    shutil.copy(evaluated / "model.tflite", folder / "build")
    built = {
        "version": REPORT_VERSION,
        "phrase": "hey atlas",
        "measured": None,
        "peers": None,
        "not_measured": "Not yet",
    }
    (folder / "build" / "report.json").write_text(json.dumps(built))
    cell = {"positive train": {"clips": 400, "seconds": 360.0}}
    synthesis = {"by_kind_and_split": cell, "left_out": {"silent": 2}, "voices": 30}
    (folder / "synth").mkdir()
    (folder / "synth" / "synthesis.json").write_text(json.dumps(synthesis))
    page = write_report(folder).read_text()
    assert "Of 12 recordings of people" in page
    assert "By edgewake make, effort quick." in page
    assert "synth: 30 voices; left out: 2 silent." in page
    assert '<td class="n">12 s</td>' in page
    (folder / "model" / "metrics.json").write_text(json.dumps(metrics | {"model": {"phrase": "", "sha256": "1" * 64}}))
    page = write_report(folder).read_text()
    assert "<p>Not yet</p>" in page, page[-3000:]


NOTHING: list[tuple[Callable[[Path, Path], object], str]] = [
    (lambda folder, _: None, "has no make.json, report.json or metrics.json"),
    (make_folder, "has no build/report.json: finish it with edgewake make"),
    (lambda folder, _: (folder / "metrics.json").write_text("[]"), "of another version of edgewake"),
    (lambda folder, _: (folder / "metrics.json").write_text("{"), "is not JSON"),
    (
        lambda folder, _: (folder / "report.json").write_text('{"version": 2, "measured": {}}'),
        "is damaged, or of another",
    ),
    (lambda folder, _: (folder / "report.json").write_text('{"version": 2, "phrase": 1}'), "is damaged, or of another"),
    (lambda folder, _: (folder / "report.json").write_text('{"version": 1}'), "run edgewake build again"),
    (lambda folder, _: (folder / "report.json").write_text('{"feasible": false}'), "a build that was refused"),
]


@pytest.mark.parametrize(("prepare", "message"), NOTHING, ids=[message for _, message in NOTHING])
def test_what_is_missing_is_one_line(
    prepare: Callable[[Path, Path], object], message: str, evaluated: Path, tmp_path: Path
):
    folder = tmp_path / "folder"
    folder.mkdir()
    prepare(folder, evaluated)
    result = CliRunner().invoke(main, ["report", str(folder)])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert message in result.stderr
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("step", [1, 2])
def test_a_write_that_is_killed_leaves_the_page_before(evaluated: Path, step: int):
    page = evaluated / "report.html"
    page.write_text("the page before")

    def again(begin: Callable[[], None]) -> None:
        begin()
        write_report(evaluated)

    assert killed(again, ("fsync", "replace"), step)
    assert page.read_text() == "the page before"
    assert "“hey atlas”" in write_report(evaluated).read_text()
    assert sorted(path.name for path in evaluated.iterdir()) == ["metrics.json", "model.tflite", "report.html"]


def test_a_model_that_was_not_measured_says_how_to():
    page = page_of(None)
    assert "<p>Not measured yet</p>" in page
    assert "Not measured</span>" in page
