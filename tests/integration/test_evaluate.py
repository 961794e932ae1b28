"""An evaluation counts what the detector raises on whole recordings, and writes it down with its data."""

from __future__ import annotations

import base64
import json
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import edgewake
from edgewake.builder.build import build
from edgewake.cli import main
from edgewake.data.importing import import_corpora, import_folder
from edgewake.data.manifest import CorpusManifest
from edgewake.errors import EdgewakeError, ParityError
from edgewake.evaluation.evaluate import evaluate
from edgewake.runtime.frontend import features
from edgewake.runtime.model_manifest import load_manifest

pytestmark = pytest.mark.slow  # each needs a build


def sound(seconds, seed, level=12000):
    rng = np.random.default_rng(seed)
    n = int(seconds * 16000)
    bursts = np.repeat(rng.choice([3, 200, level], -(-n // 1600)), 1600)[:n]
    return np.clip(rng.standard_normal(n) * bursts, -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two splits of positives, speech, noise and music, as class folders."""
    root = tmp_path_factory.mktemp("corpus")
    seed = 0
    for split in ("train", "val", "test"):
        for label, count, seconds in (("computer", 4, 1.5), ("chatter", 2, 20), ("noise", 1, 8), ("music", 1, 8)):
            for number in range(count):
                path = root / label / split / f"{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sound(seconds, seed), 16000)
                seed += 1
    return import_folder(root, "computer")


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWAKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def untrained(built, tmp_path_factory):
    """The build, with settings that let a model pass that finds nothing."""
    folder = tmp_path_factory.mktemp("untrained") / "computer"
    shutil.copytree(built, folder)
    config = edgewake.WakewordConfig()
    config.evaluation.lowest_recall = 0.0
    config.save(folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def low(built):
    """A cutoff that a random model crosses at times."""
    detector = edgewake.Detector(built)
    return float(np.quantile(detector.probabilities(sound(20, 99)), 0.9))


@pytest.mark.parametrize("engine", ["c", "tflm"])
def test_false_accepts_are_the_detections_on_whole_recordings(built, corpus, low, engine):
    found = evaluate(built, corpus, engine=engine, cutoff=low)
    detector = edgewake.Detector(built, cutoff=low)
    expected = seconds = 0
    for entry in corpus.select(split="test", kind=("negative", "noise", "music")):
        samples, _ = soundfile.read(corpus.path_of(entry), dtype="int16")
        detector.reset()
        expected += len(detector.process(samples))
        seconds += len(samples) / 16000
    total = found["summary"]["fa_per_hour"]["total"]
    assert expected > 0
    assert total["events"] == expected
    assert total["hours"] == pytest.approx(seconds / 3600)
    assert found["detector_check"]["recordings"] > 0
    assert found["detector_check"]["differences"] == 0


def test_the_example_is_a_detection_of_the_split_as_the_detector_gives_it(built, corpus, low):
    example = evaluate(built, corpus, cutoff=low)["detection"]
    detector = edgewake.Detector(built, cutoff=low)
    (entry,) = [e for e in corpus.select(split="test", label=1) if e.path.endswith(example["file"])]
    samples = np.concatenate([corpus.read(entry), np.zeros(8000, np.int16)])
    steps = detector.steps(samples)
    found = next(step for step in steps if step.detected)
    assert (example["cutoff"], example["probability"]) == (detector.cutoff, found.probability)
    begin, end = example["begin_s"], example["begin_s"] + example["seconds"]
    assert begin + example["time_s"] == pytest.approx(found.time_s)
    shown = [step for step in steps if begin <= step.time_s <= end]
    assert example["steps"]["probabilities"] == [round(step.probability, 6) for step in shown]
    assert begin + example["steps"]["first_s"] == pytest.approx(shown[0].time_s)
    mel = np.frombuffer(base64.b64decode(example["mel"]["values"]), np.uint8).reshape(-1, example["mel"]["channels"])
    first = round((begin + example["mel"]["first_s"]) * 100) - 3
    values = features(samples)[first : first + len(mel)].astype(np.int64)
    assert np.array_equal(mel, (values - values.min()) * 255 // (values.max() - values.min()))
    wave = np.frombuffer(base64.b64decode(example["waveform"]["low_high"]), np.int8).reshape(-1, 2)
    columns = samples[round(begin * 16000) : round(end * 16000)].astype(int)
    columns = columns[: len(wave) * 160].reshape(-1, 160)
    assert np.array_equal(wave[:, 0], columns.min(1) * 127 // np.abs(columns).max())
    assert example["waveform"]["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(columns).max() / 32768))


def test_without_a_detection_there_is_no_example(built, corpus):
    assert evaluate(built, corpus, cutoff=0.9999)["detection"] is None


def test_a_step_at_which_the_detector_differs_stops_the_evaluation(built, corpus, low, monkeypatch):
    exact = edgewake.Detector.probabilities

    def off_by_one(detector, samples):
        track = exact(detector, samples)
        track[7] += 2**-14
        return track

    monkeypatch.setattr(edgewake.Detector, "probabilities", off_by_one)
    with pytest.raises(ParityError, match=r"step 7 is .* 1 of \d+ steps differ: build the model again"):
        evaluate(built, corpus, cutoff=low)


def test_noise_is_seeded_and_drawn_per_recording(built, corpus, low):
    first = evaluate(built, corpus, cutoff=low)
    again = evaluate(built, corpus, cutoff=low)
    other = evaluate(built, corpus, cutoff=low, seed=1)
    assert first == again
    assert first["det"] == other["det"]
    assert first["det_noisy"] != other["det_noisy"]
    noisy = first["summary"]["recall"]["10db"]["all"]
    assert noisy["total"] == pytest.approx(4)
    assert first["data"]["noise_draws"] == 3


def test_a_model_that_misses_most_of_validation_gets_no_cutoff(built, corpus):
    with pytest.raises(EdgewakeError, match=r"no usable cutoff for 0\.1 false accepts an hour.* 4\.2% at 0\.1"):
        evaluate(built, corpus)


def test_the_cutoff_comes_from_validation_alone(untrained, corpus, tmp_path):
    chosen = evaluate(untrained, corpus)["cutoff"]
    # Without test recordings of another kind the choice stays the same: it cannot have looked at them.
    kept = [e for e in corpus.entries if e.split != "test" or e.path.endswith("0.wav")]
    fewer = evaluate(untrained, corpus.with_entries(kept))["cutoff"]
    assert chosen["from"] == "validation"
    assert chosen == fewer


def test_a_split_without_a_kind_is_named(built, corpus):
    kept = [e for e in corpus.entries if not (e.split == "test" and e.kind == "noise")]
    with pytest.raises(EdgewakeError, match="split test has no recordings of noise"):
        evaluate(built, corpus.with_entries(kept), cutoff="shipped")


def test_another_phrase_is_refused(built, corpus):
    other = CorpusManifest.build("hey atlas", corpus.entries, root=corpus.root)
    with pytest.raises(EdgewakeError, match="detects 'computer', the corpus is of 'hey atlas'"):
        evaluate(built, other)


def test_the_command_writes_figures_and_applies_the_cutoff(untrained, corpus, tmp_path):
    model = tmp_path / "computer"
    shutil.copytree(untrained, model)
    corpus.save(tmp_path / "corpus.json")
    arguments = ["evaluate", "--model", model, "--manifest", tmp_path / "corpus.json", "--out", tmp_path / "out"]
    found = CliRunner().invoke(main, [str(a) for a in [*arguments, "--apply"]])
    assert found.exit_code == 0, found.stderr
    assert "false accepts an hour" in found.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (tmp_path / "out" / "det.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "det.json").read_text()) == metrics["det"]
    manifest = load_manifest(model)
    assert manifest.cutoff == pytest.approx(metrics["cutoff"]["value"], abs=1e-7)
    assert manifest.measured["fa_per_hour"].hours == metrics["summary"]["fa_per_hour"]["total"]["hours"]
    assert json.loads((model / "model.json").read_text())["info"]["cutoff_sum"] == manifest.cutoff_sum
    assert edgewake.Detector(model).cutoff == manifest.cutoff
    report = build(model, tmp_path / "again")
    page = (tmp_path / "again" / "report.html").read_text()
    assert report["cutoff"] == manifest.cutoff
    assert report["measured"] == metrics
    assert "Detection error trade-off" in page
    assert f"cutoff {manifest.cutoff:.5f}" in page


@pytest.mark.corpora
def test_the_shared_corpora_are_counted_as_their_readme_says(corpora):
    manifest = import_corpora(corpora, "computer")
    positives = manifest.select(split="test", kind="positive")
    assert len(positives) == 97
    groups = {entry.duplicate_group or entry.path for entry in positives}
    assert len(groups) == 61


def test_a_run_is_released_whole_with_figures_for_its_own_target(model_folder, corpus, tmp_path):
    shutil.copytree(model_folder, tmp_path / "run" / "model")
    config = edgewake.WakewordConfig()
    config.evaluation.target_fa_per_hour, config.evaluation.lowest_recall = 50.0, 0.0
    config.save(tmp_path / "run" / "model" / "config.yaml")
    corpus.save(tmp_path / "corpus.json")
    folder = tmp_path / "models" / "computer"
    found = CliRunner().invoke(
        main, ["release", str(tmp_path / "run"), str(folder), "--manifest", str(tmp_path / "corpus.json")]
    )
    assert found.exit_code == 0, found.output
    metrics = json.loads((folder / "metrics.json").read_text())
    manifest = load_manifest(folder)
    assert metrics["cutoff"]["target_fa_per_hour"] == 50.0
    assert metrics["cutoff"]["value"] == pytest.approx(manifest.cutoff, abs=1e-7)
    assert metrics["model"]["sha256"] == manifest.model.sha256
    assert manifest.measured["recall_clean"].value == metrics["summary"]["recall"]["clean"]["all"]["value"]
    assert edgewake.Detector(folder).cutoff == pytest.approx(manifest.cutoff)
    assert (folder / "README.md").read_text().startswith("# computer: “computer”")
    assert (folder / "det.png").is_file()
