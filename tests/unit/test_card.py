"""The README and the model cards show the figures that were measured, and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgewake.builder.release import describe_data, release
from edgewake.config import WakewordConfig
from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.errors import EdgewakeError
from edgewake.evaluation.card import write_card
from edgewake.evaluation.rates import figure_text

MODELS = sorted(path.parent for path in (Path(__file__).parents[2] / "models").glob("*/metrics.json"))
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)


@each_model
def test_the_card_is_what_its_metrics_say(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / model.name
    shutil.copytree(model, copy)
    (copy / "README.md").unlink()
    assert write_card(copy).read_text() == (model / "README.md").read_text()


@pytest.mark.parametrize(
    ("settings", "sentence", "command"),
    [
        (["distillation.enabled=false"], "", ""),
        (
            ["distillation.teacher_architecture=whisper", "distillation.teacher_name=whisper-tiny.en"],
            "Distilled from whisper",
            "get whisper-tiny.en",
        ),
        (
            ["distillation.teacher_architecture=ensemble", "distillation.teachers=[whisper,speech_embedding]"],
            "Distilled from whisper and speech_embedding",
            "get whisper-base speech_embedding",
        ),
        (["distillation.teacher_architecture=wavlm"], "Distilled from wavlm", ""),
        (
            ["distillation.teacher_architecture=wavlm", "distillation.teacher_name=microsoft/wavlm-large"],
            "Distilled from wavlm",
            "",
        ),
        (
            ["distillation.teacher_architecture=ensemble", "distillation.teachers=[wavlm,word_embedding]"],
            "Distilled from wavlm and word_embedding",
            "get word_embedding",
        ),
    ],
)
def test_a_card_names_the_teacher_and_the_command_that_fetches_it(
    settings: list[str], sentence: str, command: str, repository: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "computer"
    shutil.copytree(repository / "models" / "computer", copy)
    (copy / "commands.txt").unlink()
    config = WakewordConfig.load(copy / "config.yaml")
    config.override(["distillation.enabled=true", "data.negative_crop=1", *settings]).save(copy / "config.yaml")
    text = write_card(copy).read_text()
    assert ("Distilled from" in text) == bool(sentence)
    assert sentence in text
    assert ("edgewake assets get" in text) == bool(command)
    assert f"{command}\n" in text


@each_model
def test_a_card_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / model.name
    shutil.copytree(model, copy)
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["model"]["sha256"] = "0" * 64
    (copy / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(EdgewakeError, match="another model"):
        write_card(copy)


@each_model
def test_the_readme_shows_its_recall_and_rate(model: Path, repository: Path) -> None:
    summary = json.loads((model / "metrics.json").read_text())["summary"]
    (row,) = (line for line in (repository / "README.md").read_text().splitlines() if f"(models/{model.name}/" in line)
    assert figure_text(summary["fa_per_hour"]["total"]) in row
    families = summary["groups"]["family"]
    people = [name for name in families["clean"] if not name.startswith("synth")]
    for name in people:
        assert all(figure_text(families[condition][name]) in row for condition in ("clean", "10db"))
    assert people or all(figure_text(summary["recall"][name]["all"]) in row for name in ("clean", "10db"))


def test_a_card_of_another_corpus_states_nothing_of_ours(tmp_path: Path, repository: Path) -> None:
    """Microphones, speakers, families and aims come from the corpus's description and the model's notes alone."""
    copy = tmp_path / "atlas"
    shutil.copytree(repository / "models" / "computer", copy)
    (copy / "NOTES.md").unlink()
    metrics = json.loads((copy / "metrics.json").read_text())
    for part in ("summary", "validation"):
        rates = metrics[part]["fa_per_hour"]
        metrics[part]["fa_per_hour"] = {name: rates[name] for name in ("total", "speech_en", "noise", "music")}
        metrics[part]["fa_per_hour"]["families"] = {"kitchen": rates["total"]}
    metrics["data"] |= {"description": "Far microphones.\n- Two rooms.", "shared_speakers": 3}
    (copy / "metrics.json").write_text(json.dumps(metrics))
    (copy / "data.json").write_text("[]")
    text = write_card(copy).read_text()
    for fact in ("close microphone", "speaker encoder", "ide-band", "ide band", "aims", "prompts", "another seed"):
        assert fact not in text
    assert "- Far microphones.\n- Two rooms.\n" in text
    assert "- 3 voices" in text


def test_data_is_described_by_family_with_its_licence_and_hours() -> None:
    def entry(path: str, split: str, seconds: float) -> Entry:
        return Entry(path=path, kind="noise", label=0, split=split, seconds=seconds, licence="CC0-1.0", family="rain")

    corpus = CorpusManifest.build("hey", [entry("a.wav", "train", 1800.0), entry("b.wav", "test", 900.0)])
    (row,) = describe_data(corpus)
    assert row["licence"] == "CC0-1.0"
    assert row["train"] == {"recordings": 1, "hours": 0.5}
    assert row["val"] == {"recordings": 0, "hours": 0.0}
    assert row["test"] == {"recordings": 1, "hours": 0.25}


def test_a_run_without_a_finished_model_is_not_released(tmp_path: Path) -> None:
    corpus = CorpusManifest.build("hey", [])
    with pytest.raises(EdgewakeError, match="finish training first"):
        release(tmp_path / "run", tmp_path / "model", corpus)
    assert not (tmp_path / "model").exists()
