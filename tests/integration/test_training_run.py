"""`edgewake train` goes from recordings to a model folder, names what it leaves out, and can be resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgewake.cli import main
from edgewake.config import WakewordConfig
from edgewake.config.presets import get_preset
from edgewake.data.importing import import_folder
from edgewake.data.manifest import CorpusManifest
from edgewake.data.store import build_store, plan_jobs
from edgewake.errors import AudioError, ConfigError, EdgewakeError
from edgewake.evaluation.checkpoints import cutoff_on_validation
from edgewake.runtime.deployed import DeployedModel
from edgewake.training import runs
from edgewake.training.run import train_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """Rising tones are the phrase, falling ones are not; three voices a class and split, and some noise."""
    root = tmp_path_factory.mktemp("corpus")
    tones(root)
    return root


def make_config(corpus: Path, cache: Path) -> WakewordConfig:
    config = get_preset("smoke")
    config.data.manifest = str(corpus / "manifest.json")
    config.data.phrase = "hey"
    config.data.audio_duration = 0.9
    config.data.positive_renders = 6
    config.cache.folder = str(cache)
    config.training.workers = 0
    config.training.threads = 1
    return config


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[WakewordConfig, Path, dict[str, object]]:
    cache = tmp_path_factory.mktemp("cache")
    out = tmp_path_factory.mktemp("runs") / "smoke"
    config = make_config(corpus, cache)
    return config, out, train_command(config, out, resume=False)


def test_training_ends_with_a_model_folder_that_loads(
    trained: tuple[WakewordConfig, Path, dict[str, object]],
) -> None:
    config, out, result = trained
    model = DeployedModel.load(Path(str(result["model"])))
    assert model.info["phrase"] == "hey"
    assert model.info["window"] == config.evaluation.window
    assert 1 <= model.info["cutoff_sum"] <= 65535 * config.evaluation.window
    assert WakewordConfig.load(out / "model" / "config.yaml") == WakewordConfig.load(out / "config.yaml")
    assert Path(str(result["best_checkpoint"])).exists()
    assert 0 <= float(str(result["best_f1"])) <= 1


def test_a_fresh_run_is_built_with_the_cutoff_that_the_rule_chooses_on_validation(
    trained: tuple[WakewordConfig, Path, dict[str, object]], tmp_path: Path
) -> None:
    config, _, result = trained
    folder = Path(str(result["model"]))
    model = DeployedModel.load(folder)
    chosen = cutoff_on_validation(model, CorpusManifest.load(config.data.manifest), config)
    assert model.info["cutoff_sum"] == chosen.cutoff_sum
    assert model.info["training"]["cutoff"] == asdict(chosen)
    done = CliRunner().invoke(main, ["build", "--model", str(folder), "--out", str(tmp_path / "build")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "build" / "manifest.json").read_text())["cutoff_sum"] == chosen.cutoff_sum


def test_training_writes_its_figures_and_what_it_scanned(
    trained: tuple[WakewordConfig, Path, dict[str, object]],
) -> None:
    _, out, result = trained
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "val_f1" in line]
    assert [line["phase"] for line in epochs] == ["float", "qat"]
    assert {"train_loss", "val_loss", "recall_clean", "recall_noisy", "score"} <= set(epochs[0])
    assert json.loads((out / "result.json").read_text())["best_score"] == result["best_score"]
    assert len(json.loads((out / "scan.json").read_text())["kept_paths"]) == 8


def test_a_finished_run_is_not_overwritten(trained: tuple[WakewordConfig, Path, dict[str, object]]) -> None:
    config, out, _ = trained
    with pytest.raises(EdgewakeError, match="--resume"):
        train_command(config, out, resume=False)


def test_resuming_a_finished_run_changes_nothing(
    trained: tuple[WakewordConfig, Path, dict[str, object]],
) -> None:
    config, out, result = trained
    weights = (out / "model" / "weights.safetensors").read_bytes()
    again = train_command(config, out, resume=True)
    assert again["best_score"] == result["best_score"]
    assert (out / "model" / "weights.safetensors").read_bytes() == weights


def test_a_run_without_a_usable_cutoff_keeps_its_weights_and_can_be_exported_all_the_same(
    trained: tuple[WakewordConfig, Path, dict[str, object]], tmp_path: Path
) -> None:
    config, out, _ = trained
    run = tmp_path / "run"
    shutil.copytree(out, run)
    shutil.rmtree(run / "model")
    strict = config.override(("evaluation.lowest_recall=1",))
    with pytest.raises(EdgewakeError) as caught:
        train_command(strict, run, resume=True)
    assert "below the 100% of evaluation.lowest_recall" in str(caught.value)
    assert f"weights are in {run / 'checkpoints'}" in str(caught.value)
    assert "--resume --set evaluation.lowest_recall=0" in str(caught.value)
    assert not (run / "model").exists()
    train_command(config, run, resume=True)
    for name in ("model.json", "weights.safetensors"):
        assert (run / "model" / name).read_bytes() == (out / "model" / name).read_bytes()


def test_a_second_run_with_the_same_seed_gives_the_same_model(
    trained: tuple[WakewordConfig, Path, dict[str, object]], tmp_path: Path
) -> None:
    config, out, _ = trained
    other = config.model_copy(deep=True)
    other.cache.folder = str(tmp_path / "cache")
    other.training.workers = 2  # the number of processes decides nothing but the time
    train_command(other, tmp_path / "run", resume=False)
    ours, theirs = ((folder / "model" / "weights.safetensors").read_bytes() for folder in (out, tmp_path / "run"))
    assert ours == theirs


def test_recordings_that_cannot_be_used_are_named_or_stop_the_run(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "corpus"
    for path in corpus.rglob("*.*"):
        target = broken / path.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    import_folder(broken, "hey", speaker_pattern=r"(?P<speaker>v\w+\d)_").save(broken / "manifest.json")
    victim = broken / "other" / "train" / "vother0_a.wav"
    victim.write_bytes(b"RIFF" + bytes(40))
    config = make_config(broken, tmp_path / "cache")
    config.data.strict = True
    with pytest.raises(AudioError, match="vother0_a"):
        train_command(config, tmp_path / "strict", resume=False)
    config.data.strict = False
    train_command(config, tmp_path / "lenient", resume=False)
    shown = capsys.readouterr().err
    assert "1 of 8 recordings left out" in shown
    assert "vother0_a" in shown.replace("\n", "")


def test_a_model_without_quantization_is_not_exported(corpus: Path, tmp_path: Path) -> None:
    config = make_config(corpus, tmp_path / "cache")
    config.qat.enabled = False
    with pytest.raises(ConfigError, match=r"qat\.enabled"):
        train_command(config, tmp_path / "run", resume=False)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_without_a_manifest_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWAKE_CORPORA", raising=False)
    with pytest.raises(ConfigError, match="corpus import"):
        train_command(get_preset("smoke"), tmp_path / "run", resume=False)


def test_a_split_without_the_phrase_is_an_error(corpus: Path, tmp_path: Path) -> None:
    from edgewake.data.manifest import CorpusManifest

    manifest = CorpusManifest.load(corpus / "manifest.json")
    rest = manifest.with_entries(entry for entry in manifest.entries if entry.label == 0)
    with pytest.raises(EdgewakeError, match=r"'train'.*phrase"):
        build_store(rest, "train", make_config(corpus, tmp_path))


def test_copies_of_a_recording_share_its_weight(corpus: Path, tmp_path: Path) -> None:
    from edgewake.data.manifest import CorpusManifest

    config = make_config(corpus, tmp_path)
    manifest = CorpusManifest.load(corpus / "manifest.json")
    entries = [
        entry.model_copy(update={"duplicate_group": "dup1"}) if entry.label == 1 and entry.split == "train" else entry
        for entry in manifest.entries
    ]
    jobs = plan_jobs(manifest.with_entries(entries), "train", config)
    assert {job.weight for job in jobs if job.kind == "positive"} == {0.5}
    assert {job.weight for job in jobs if job.kind == "negative"} == {1.0}


def test_a_run_goes_on_only_with_the_settings_it_began_with(
    trained: tuple[WakewordConfig, Path, dict[str, object]],
) -> None:
    config, out, _ = trained
    other = config.model_copy(deep=True)
    other.training.learning_rate = 0.5
    with pytest.raises(ConfigError, match=r"training\.learning_rate = 0\.5.*began with 0\.001"):
        train_command(other, out, resume=True)
    assert WakewordConfig.load(out / "config.yaml").training.learning_rate == 0.001
    quicker = config.model_copy(deep=True)
    quicker.training.workers = 2
    train_command(quicker, out, resume=True)


def test_what_cannot_be_trained_is_reported_before_any_work(corpus: Path, tmp_path: Path) -> None:
    config = make_config(corpus, tmp_path / "cache")
    with pytest.raises(EdgewakeError, match="start without --resume"):
        train_command(config, tmp_path / "run", resume=True)
    assert not (tmp_path / "cache").exists()


def test_a_run_whose_process_is_gone_has_stopped(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgewake.config import get_preset;"
        "from edgewake.training.runs import record_run;"
        "record_run(Path(sys.argv[1]), get_preset('smoke'), None, 'running')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "gone")], check=True)
    runs.record_run(tmp_path / "alive", get_preset("smoke"), None, "running")
    assert {run.name: run.status for run in runs.list_runs(tmp_path)} == {"gone": "stopped", "alive": "running"}
