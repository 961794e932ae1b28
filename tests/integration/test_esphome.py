"""An exported package has the same events in pymicro-wakeword, a client that others wrote; its cost is measured."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from click.testing import CliRunner

from edgewake.builder.esphome import ALL, BOARD, CUTOFF, FEATURES, EsphomeScorer, export_esphome
from edgewake.cli import main
from edgewake.conversion.esphome import for_esphome
from edgewake.data.importing import import_corpora, import_folder
from edgewake.data.manifest import CorpusManifest
from edgewake.data.reading import Samples, read_audio, write_audio
from edgewake.errors import EdgewakeError
from edgewake.evaluation.evaluate import run_evaluation
from edgewake.io import read_json, write_json
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.detector import Detector
from edgewake.runtime.events import as_probability, find_events
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.model_manifest import load_manifest
from edgewake.runtime.pipeline.params import sum_of_cutoff

pytestmark = pytest.mark.slow

pymicro = pytest.importorskip(
    "pymicro_wakeword", reason="pymicro-wakeword is not installed: pip install 'edgewake[dev]'"
)
STEP_S, SECOND = 0.03, 34


@pytest.fixture(scope="module")
def audio(repository: Path) -> Samples:
    return read_audio(repository / "calibration" / "audio.flac")


@pytest.fixture(scope="module")
def model(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released model with a cutoff at which the calibration audio has events."""
    folder = tmp_path_factory.mktemp("model") / "computer"
    shutil.copytree(repository / "models" / "computer", folder, ignore=shutil.ignore_patterns("metrics.json"))
    _set(folder, cutoff=0.2)
    return folder


@pytest.fixture(scope="module")
def package(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "computer"
    export_esphome(model, folder, author="A", website="https://example.org", languages=("en", "de"))
    return folder


@pytest.fixture(scope="module")
def corpus(audio: Samples, tmp_path_factory: pytest.TempPathFactory) -> CorpusManifest:
    """Stretches of the calibration audio, some of which the model takes for its phrase."""
    root = tmp_path_factory.mktemp("corpus") / "spoken"
    stretches = {"computer": [(1, 4), (14, 17), (22, 25)], "other": [(30, 50)], "noise": [(65, 75)]}
    for label, times in stretches.items():
        for begin, end in times:
            path = root / label / "test" / f"{begin}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, audio[16_000 * begin : 16_000 * end])
    return import_folder(root, "computer")


def _set(folder: Path, *, cutoff: float) -> None:
    """Change a model folder's cutoff, in both places."""
    known, record = load_manifest(folder), read_json(folder / "model.json", "model")
    total = sum_of_cutoff(cutoff, known.window)
    record["info"]["cutoff_sum"] = total
    write_json(folder / "model.json", record)
    known.model_copy(update={"cutoff": float(as_probability(total, known.window)), "cutoff_sum": total}).save(folder)


def test_the_manifest_has_every_field_and_names_the_model(package: Path) -> None:
    manifest, record = json.loads((package / "computer.json").read_text()), read_json(package / "export.json", "export")
    assert manifest == {
        "type": "micro",
        "wake_word": "computer",
        "author": "A",
        "website": "https://example.org",
        "model": "computer.tflite",
        "trained_languages": ["en", "de"],
        "version": 2,
        "micro": {
            "probability_cutoff": 0.2,
            "feature_step_size": 10,
            "sliding_window_size": 10,
            "tensor_arena_size": record["arena"]["total_bytes"],
            "minimum_esphome_version": "2024.7.0",
        },
    }
    assert record["cutoff"] == {"model": 0.2, "uint8": 51, "lowest_mean": 511 / 2560}
    assert record["parity"] == {"steps": record["parity"]["steps"], "differences": 0}
    assert record["parity"]["steps"] > 2000
    assert record["variables"] == 2
    for name, digest in record["files"].items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == digest
    # What esp-tflite-micro 1.3.3~1 needs with 32-bit pointers and the scratch of esp-nn 1.1.2: docs/esphome.md.
    assert 23_328 <= manifest["micro"]["tensor_arena_size"] <= 32_768


def test_the_example_is_of_this_package(package: Path) -> None:
    class Loader(yaml.SafeLoader):
        """ESPHome's tags as text."""

    for tag in ("!secret", "!lambda"):
        Loader.add_constructor(tag, lambda loader, node: loader.construct_scalar(node))
    example = yaml.load((package / "computer.yaml").read_text(), Loader)
    assert example["micro_wake_word"]["models"] == [{"model": "computer.json"}]
    assert example["esphome"]["name"] == "computer"
    assert "psram" not in example
    assert example["voice_assistant"]["micro_wake_word"] == example["micro_wake_word"]["id"]


def test_pymicro_wakeword_gives_the_probabilities_and_events_of_the_package(
    package: Path, model: Path, audio: Samples
) -> None:
    """From the first whole window on, before which the client gives none; and edgewake's own detections.

    The client runs the package in TFLite, whose outputs differ from TFLM's by a byte at a few steps.
    """
    word, given = pymicro.MicroWakeWord.from_config(package / "computer.json"), pymicro.MicroWakeWordFeatures()
    probability, detected = _client(word, given, audio)
    scorer = EsphomeScorer(for_esphome(DeployedModel.load(model)), FrontendConfig(), 10, SECOND)
    (expected,) = scorer.score([features(audio, FrontendConfig())])
    assert len(probability) == len(expected)
    bytes_of_windows = np.abs(np.rint((probability[9:] - expected[9:]) * (10 * 256)))
    assert bytes_of_windows.max() <= 1
    assert np.mean(bytes_of_windows > 0) < 0.01
    assert (detected == (probability > word.probability_cutoff)).all()
    _same_events(_events(probability, word), Detector(model), audio, 5)


@pytest.mark.corpora
def test_pymicro_wakeword_has_the_same_events_on_recordings_of_people(
    package: Path, model: Path, corpora: Path
) -> None:
    spoken = import_corpora(corpora, "computer")
    entries = spoken.select(split="test", label=1)[::4]
    word, given = pymicro.MicroWakeWord.from_config(package / "computer.json"), pymicro.MicroWakeWordFeatures()
    detector, found = Detector(model, cutoff=word.probability_cutoff), 0
    for entry in entries:
        audio = spoken.read(entry)
        word.reset()
        given.reset()
        detector.reset()
        events = _events(_client(word, given, audio)[0], word)
        _same_events(events, detector, audio, len(events))
        found += len(events)
    assert found > len(entries) / 2


def _events(probability: npt.NDArray[np.float32], word: Any) -> npt.NDArray[np.int64]:
    """Steps at which the client detects, a second apart; it detects above its cutoff."""
    return find_events(probability, float(np.nextafter(np.float32(word.probability_cutoff), np.float32(1))), SECOND)


def _same_events(events: npt.NDArray[np.int64], detector: Detector, audio: Samples, count: int) -> None:
    """The detector's are as many, each within two steps, as features are rounded otherwise there."""
    known = [found.time_s for found in detector.process(audio)]
    assert len(known) == len(events) == count
    assert (np.abs((events + 1) * STEP_S + 0.02 - known) <= 2 * STEP_S + 1e-6).all()


def _client(word: Any, given: Any, audio: Samples) -> tuple[Any, Any]:
    """What the client gives at each step of audio: mean probability, (steps,) float32, and whether it detects."""
    seen, found = [], word.process_streaming_prob

    def spy(frame: Any) -> Any:
        seen.append(found(frame))
        return seen[-1]

    word.process_streaming_prob = spy
    detected = [word.process_streaming(frame) for frame in given.process_streaming(audio.tobytes())]
    return np.array(seen[2::3], np.float32), np.array(detected[2::3])


def test_the_cost_is_that_of_the_evaluation(model: Path, corpus: CorpusManifest, tmp_path: Path) -> None:
    """Recordings of the test split give the figures of `edgewake evaluate`; without them its curves do."""
    folder = tmp_path / "computer"
    shutil.copytree(model, folder)
    assert export_esphome(folder, tmp_path / "before")["cost"] is None
    metrics = run_evaluation(folder, corpus, out=tmp_path / "out", apply=True, quiet=True, plot=False, cutoff="shipped")
    measured = export_esphome(folder, tmp_path / "measured", corpus=corpus)["cost"]
    stored = export_esphome(folder, tmp_path / "stored")["cost"]
    assert [row["what"] for row in measured["rows"]] == [BOARD, FEATURES, ALL]
    assert [row["what"] for row in stored["rows"]] == [BOARD, CUTOFF]
    assert (measured["from"], stored["from"]) == ("test split of spoken", "metrics.json, test split of spoken")
    summary = metrics["summary"]
    assert summary["fa_per_hour"]["total"]["events"] > 0
    assert 0 < summary["recall"]["clean"]["all"]["value"] < 1
    for row in (measured["rows"][0], stored["rows"][0]):
        assert row["fa_per_hour"] == summary["fa_per_hour"]["total"]
        assert list(row["recall"]) == ["clean", "10db"]
        for condition, found in row["recall"].items():
            assert found["value"] == pytest.approx(summary["recall"][condition]["all"]["value"])


def test_a_corpus_of_another_phrase_is_refused(model: Path, corpus: CorpusManifest, tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match="the model detects 'computer', the corpus is of 'hey'"):
        export_esphome(model, tmp_path / "out", corpus=corpus.model_copy(update={"phrase": "hey"}))


def test_a_cutoff_that_esphome_cannot_express_is_told(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sure"
    shutil.copytree(model, folder)
    _set(folder, cutoff=0.999)
    done = CliRunner().invoke(main, ["export", "esphome", "--model", str(folder), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "254 of 255" in done.output
    assert "ESPHome has no cutoff above 0.99258: expect more false accepts" in done.output
    assert f"next: esphome config {tmp_path / 'out' / 'computer.yaml'}" in done.output


def test_a_folder_of_something_else_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(EdgewakeError, match="holds other files than"):
        export_esphome(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_website_that_esphome_would_refuse_is_an_error(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match="ESPHome takes a URL"):
        export_esphome(model, tmp_path / "out", website="example.org")
