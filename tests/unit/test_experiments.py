"""Experiments pair what belongs together, count honestly, keep what is finished, and name what failed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewake.config import WakewordConfig, get_preset
from edgewake.data.importing import import_folder
from edgewake.data.manifest import CorpusManifest
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.experiments import ablate, run_tables, sweep, tables, trials
from edgewake.experiments.compare import agreement
from edgewake.experiments.plots import draw_ablation
from edgewake.training import runs

# ---- statistics ----------------------------------------------------------------------------------


def test_a_paired_interval_is_students_by_hand() -> None:
    # Differences 1, 2, 3, 4, 5: mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445 (any table).
    found = tables.paired_difference(dict.fromkeys(range(5), 10.0), {seed: 11.0 + seed for seed in range(5)})
    assert found is not None
    reach = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert found["n"] == 5
    assert found["mean"] == pytest.approx(3.0)
    assert (found["low"], found["high"]) == pytest.approx((3 - reach, 3 + reach), abs=1e-6)
    assert (found["better"], found["worse"], found["equal"]) == (5, 0, 0)
    assert found["values"] == {str(seed): pytest.approx(1 + seed) for seed in range(5)}


def test_only_seeds_that_both_have_are_paired() -> None:
    found = tables.paired_difference({0: 1.0, 1: 2.0, 2: 3.0}, {1: 2.5, 2: 2.0, 7: 9.0})
    assert found is not None
    assert (found["n"], found["mean"]) == (2, pytest.approx(-0.25))
    assert (found["better"], found["worse"]) == (1, 1)
    assert tables.paired_difference({0: 1.0}, {1: 1.0}) is None


def test_one_pair_has_no_interval_and_equal_differences_no_probability() -> None:
    one = tables.paired_difference({0: 1.0}, {0: 2.0})
    assert one is not None
    assert (one["low"], one["high"], one["p"]) == (None, None, None)
    same = tables.paired_difference({0: 1.0, 1: 3.0}, {0: 2.0, 1: 4.0})
    assert same is not None
    assert (same["low"], same["high"], same["p"]) == (1.0, 1.0, None)


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """Rising tones are the phrase, falling ones are not."""
    root = tmp_path_factory.mktemp("corpus")
    tones(root, ("train", "train", "val", "val", "test"))
    return root


def imported(root: Path) -> CorpusManifest:
    """The manifest of a folder, saved in it."""
    manifest = import_folder(root, "hey", speaker_pattern=r"(?P<speaker>v\w+\d)_")
    manifest.save(root / "manifest.json")
    return manifest


def test_a_run_records_what_it_was_made_of(corpus: Path, tmp_path: Path) -> None:
    config, manifest = get_preset("smoke"), CorpusManifest.load(corpus / "manifest.json")
    out = tmp_path / "first"
    begun = runs.record_run(out, config, manifest, "running")
    done = runs.record_run(out, config, None, "finished", best_f1=0.5)
    more = runs.record_run(out, config, manifest, "finished", epochs=3)
    assert (begun.status, done.status) == ("running", "finished")
    assert done.data == begun.data == runs.data_hash(manifest)
    assert more.figures == {"best_f1": 0.5, "epochs": 3}
    read = runs.load_run(out)
    assert read == more
    assert (read.name, read.seed, read.config) == ("first", 0, config.hash())
    assert set(read.versions) >= {"edgewake", "code"}
    assert [run.name for run in runs.list_runs(tmp_path)] == ["first"]


def test_the_hash_of_the_data_follows_content_and_not_place(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(corpus, copy)
    before = runs.data_hash(CorpusManifest.load(corpus / "manifest.json"))
    for path in copy.rglob("*.wav"):
        os.utime(path, (1, 1))
    moved = imported(copy)
    assert moved.folder == copy
    assert runs.data_hash(moved) == before
    victim = copy / "hey" / "train" / "vhey0_a.wav"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    changed = runs.data_hash(moved)
    assert changed != before
    victim.unlink()
    assert runs.data_hash(moved) not in (before, changed)
    fewer = moved.with_entries(moved.entries[1:])
    assert runs.data_hash(fewer) != before


def test_another_process_with_the_same_id_is_not_the_run() -> None:
    us = runs.identity(os.getpid())
    assert runs.is_alive(us)
    assert not runs.is_alive(us | {"start": "1"})
    assert runs.is_alive(us | {"machine": "another", "id": 1, "start": "1"})


def test_damaged_runs_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    runs.record_run(tmp_path / "whole", get_preset("smoke"), None, "finished")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    found = {run.name: run.status for run in runs.list_runs(tmp_path)}
    assert found == {"whole": "finished", "damaged": "unreadable"}
    with pytest.raises(EdgewakeError, match="notes holds no run"):
        runs.load_run(tmp_path / "notes")
    with pytest.raises(EdgewakeError, match=r"no run 'hole' in .*: there are .*whole"):
        run_tables.find_run("hole", tmp_path)


def test_compared_runs_show_what_differs_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rate, f1 in (("a", 0.001, 0.5), ("b", 0.002, 0.75)):
        config = get_preset("smoke")
        config.training.learning_rate = rate
        config.save(tmp_path / name / "config.yaml")
        runs.record_run(tmp_path / name, config, None, "finished", best_f1=f1, model="runs/somewhere")
    comparison = run_tables.compare_runs(("a", "b"), tmp_path)
    assert comparison["settings"] == {"training.learning_rate": [0.001, 0.002]}
    assert comparison["figures"] == {"best_f1": [0.5, 0.75]}
    run_tables.print_comparison(json.loads(json.dumps(comparison)))
    shown = capsys.readouterr().out
    assert "training.learning_rate" in shown
    assert "0.002" in shown
    assert "batch_size" not in shown


# ---- what is trained -----------------------------------------------------------------------------


def test_teachers_are_named_in_all_forms(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"")
    plain = ablate.parse_teacher("whisper")
    assert plain.name == "whisper"
    assert plain.settings["distillation.teacher_architecture"] == "whisper"
    given_path = ablate.parse_teacher(f"wav2vec2:{path}")
    assert (given_path.name, given_path.settings["distillation.teacher_model_path"]) == ("wav2vec2", str(path))
    scratch = ablate.parse_teacher("wav2vec2:scratch")
    assert (scratch.name, scratch.settings["distillation.teacher_model_path"]) == ("wav2vec2", "")
    assert scratch.apply(WakewordConfig()).teacher.from_scratch
    assert not plain.apply(WakewordConfig()).teacher.from_scratch
    both = ablate.parse_teacher(f"ensemble:whisper,word_embedding:{path}")
    assert both.name == "whisper+word_embedding"
    assert both.settings["distillation.teachers"] == ["whisper", f"word_embedding:{path}"]
    named = ablate.parse_teacher("two=ensemble:whisper,word_embedding")
    assert (named.name, named.settings["distillation.teacher_architecture"]) == ("two", "ensemble")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wisper", "neither a teacher's checkpoint nor an architecture"),
        ("whisper:nowhere.pt", "'nowhere.pt' does not exist"),
        ("ensemble:whisper", "two members or more"),
        ("ensemble:self2,whisper", "has 'self2': a member is one of"),
        ("baseline=whisper", "two conditions are called 'baseline'"),
    ],
)
def test_what_is_no_teacher_is_an_error_before_any_training(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ablate.ablate(get_preset("esp32_no_psram"), tmp_path, teachers=[text])
    assert not list(tmp_path.iterdir())


def test_two_conditions_cannot_share_a_name() -> None:
    with pytest.raises(ConfigError, match="two conditions are called 'whisper'"):
        ablate.make_conditions(WakewordConfig(), ["whisper", "whisper"], [])


def test_conditions_differ_in_nothing_but_the_teacher(tmp_path: Path) -> None:
    config = get_preset("esp32_no_psram")
    config.training.seed = 3
    config.distillation.alpha = 0.7
    chosen = [trials.Condition("baseline", {"distillation.enabled": False}), ablate.parse_teacher("whisper")]
    made = trials.make_trials(config, chosen, tmp_path, 2, [1.0, 0.25])
    assert len({trial.name for trial in made}) == len(made) == 8
    assert [trial.about["seed"] for trial in made] == [3] * 4 + [4] * 4
    for one, other in zip(made[::2], made[1::2], strict=True):
        assert one.about | {"condition": ""} == other.about | {"condition": ""}
        flat = [runs.flatten(trial.config.model_dump()) for trial in (one, other)]
        differing = {key for key in flat[0] if flat[0][key] != flat[1][key]}
        assert differing == {"distillation.enabled", "distillation.teacher_architecture"}
        assert one.config.data.positive_fraction == one.about["fraction"]
    assert not config.distillation.enabled


def test_settings_of_distilled_conditions_are_read_as_in_yaml() -> None:
    made = ablate.make_conditions(
        get_preset("smoke"), ["whisper"], ["distillation.alpha=0.9", "model.kernel_sizes=[3,3]"]
    )
    assert made[0].settings == {"distillation.enabled": False}
    assert made[1].settings["distillation.alpha"] == 0.9
    assert made[1].settings["model.kernel_sizes"] == [3, 3]


def test_the_configurations_own_distillation_is_a_condition() -> None:
    config = get_preset("smoke")
    config.distillation.teacher_architecture = "ensemble"
    config.distillation.teachers = ("whisper", "word_embedding")
    condition = ablate.configured(config)
    assert condition.name == "whisper+word_embedding"
    assert condition.apply(config).distillation.enabled
    config.distillation.teacher_architecture = "self"
    assert ablate.configured(config).name == "self"


def test_values_of_a_sweep_are_read_as_a_list_in_yaml() -> None:
    config = get_preset("smoke")
    assignments = [
        "model.kernel_sizes=[3,3],[5,5]",
        "distillation.alpha=0.3, 0.5,0.3",
        "training.learning_rate=1e-3,2e-3",
        'data.phrase="a, b",hey you',
    ]
    assert sweep.parse_axes(config, assignments) == {
        "model.kernel_sizes": [[3, 3], [5, 5]],
        "distillation.alpha": [0.3, 0.5],
        "training.learning_rate": [0.001, 0.002],
        "data.phrase": ["a, b", "hey you"],
    }


def test_a_sweep_tries_all_combinations_with_all_seeds(tmp_path: Path) -> None:
    config = get_preset("smoke")
    axes = sweep.parse_axes(config, ["model.kernel_sizes=[3,3],[5,5]", "distillation.alpha=0.3,0.5,0.7"])
    made = trials.make_trials(config, sweep.combinations(axes), tmp_path, 2)
    assert len({trial.name for trial in made}) == 12
    assert made[0].config.model.kernel_sizes == (3, 3)
    assert made[-1].config.model.kernel_sizes == (5, 5)
    assert [trial.config.distillation.alpha for trial in made[:3]] == [0.3, 0.5, 0.7]
    assert {trial.config.training.seed for trial in made} == {0, 1}
    assert {trial.config.data.positive_fraction for trial in made} == {config.data.positive_fraction}


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["distillation.alpa=0.3,0.5"], "did you mean 'distillation.alpha'"),
        (["distillation.alpha=0.3,7"], r"distillation\.alpha = 7"),
        (["distillation.alpha"], "is not KEY=VALUE"),
        (["distillation.alpha=0.3,,0.5"], "write values as in"),
        (["model.kernel_sizes=[3,3],[5,5"], "write values as in"),
        (["distillation.alpha=0.3", "training.epochs=2"], "nothing varies"),
        (["distillation.alpha=0.3,0.5", "distillation.alpha=0.7"], "given twice"),
    ],
)
def test_a_mistake_in_a_sweep_is_found_before_any_training(assignments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep.parse_axes(get_preset("smoke"), assignments)


def test_a_combination_that_cannot_be_is_a_failed_trial_and_no_more(tmp_path: Path) -> None:
    config = get_preset("smoke")
    axes = sweep.parse_axes(config, ["data.hop_length=160,320", "training.epochs=2,3"])
    made = trials.make_trials(config, sweep.combinations(axes), tmp_path, 1)
    assert [trial.status for trial in made] == ["open", "open", "failed", "failed"]
    assert all("data.hop_length" in trial.error for trial in made[2:])


def test_longer_lists_keep_the_names_of_trials() -> None:
    config = get_preset("smoke")
    names = []
    for text in ("0.3,0.5", "0.1,0.3,0.5"):
        axes = sweep.parse_axes(config, [f"distillation.alpha={text}"])
        names.append({condition.name for condition in sweep.combinations(axes)})
    assert names[0] < names[1]


def test_trials_with_other_settings_are_not_taken_for_finished(tmp_path: Path) -> None:
    config = get_preset("smoke")
    config.save(tmp_path / trials.SETTINGS)
    (tmp_path / trials.FIGURES).write_text(json.dumps({"splits": {"val": {}}}))

    def status(settings: WakewordConfig, *splits: str) -> str:
        trial = trials.Trial(tmp_path, settings, {})
        trials.load_stored(trial, splits)
        return trial.status

    assert status(config, "val") == "finished"
    assert status(config, "val", "test") == "open"
    quicker = config.model_copy(deep=True)
    quicker.training.threads = 1
    assert status(quicker, "val") == "finished"
    other = config.model_copy(deep=True)
    other.training.epochs = 3
    with pytest.raises(ConfigError, match=r"training\.epochs = 3, but .* began with 2"):
        status(other, "val")


def test_an_experiments_folder_has_one_owner(tmp_path: Path) -> None:
    with trials.locked(tmp_path, "experiment"), pytest.raises(EdgewakeError, match="another process works on this"):
        trials.run_trials([], tmp_path, get_preset("smoke"), command="sweep", jobs=1, splits=("val",))
    trials.run_trials([], tmp_path, get_preset("smoke"), command="sweep", jobs=1, splits=("val",))
    assert not (tmp_path / "run.json").exists()


def test_an_experiment_does_not_begin_in_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(EdgewakeError, match="holds other files than"):
        trials.run_trials([], tmp_path, get_preset("smoke"), command="sweep", jobs=1, splits=("val",))


# ---- what comes out ------------------------------------------------------------------------------


def ended(condition: str, seed: int, f1: float, tmp_path: Path, fraction: float = 1.0) -> trials.Trial:
    """A finished trial."""
    recalls = {f"recall_{kind}_at_{rate:g}": f1 - 0.1 for kind in ("clean", "noisy") for rate in (0.5, 2, 8)}
    found = recalls | {"recall_mean": f1 - 0.1, "hours": 1.2, "recordings": 54.0}
    about = {"condition": condition, "fraction": fraction, "seed": seed}
    folder = tmp_path / "trials" / f"{condition}-{fraction:g}-seed{seed}"
    fit = {"source": "asset", "head_fingerprint": f"{seed}", "figures": {"val": {"f1": f1 + 0.1}}}
    teacher = fit if condition != "baseline" else None
    figures = {"f1": f1, "score": f1, "teacher": teacher, "splits": {"val": found}}
    return trials.Trial(folder, WakewordConfig(), about, "finished", figures)


def written(found: list[trials.Trial], summary: dict[str, Any], out: Path) -> dict[str, Any]:
    return trials.write_results(found, summary, out, WakewordConfig(config_name="tiny"), command="ablate")


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    """Three seeds of a baseline and a teacher at two shares; one distilled point failed."""
    found = []
    for fraction in (1.0, 0.25):
        for seed in range(3):
            found.append(ended("baseline", seed, 0.8 + 0.01 * seed, tmp_path, fraction))
            found.append(ended("whisper", seed, 0.85 + 0.02 * seed, tmp_path, fraction))
    failed = found[-1]
    failed.status, failed.figures, failed.error = "failed", {}, "out of | memory"
    chosen = [trials.Condition("baseline", {"distillation.enabled": False}), ablate.parse_teacher("whisper")]
    return written(found, ablate.summarize(found, chosen, [1.0, 0.25], ["val"]), tmp_path)


def row(results: dict[str, Any], condition: str, fraction: float) -> dict[str, Any]:
    found = [r for r in results["summary"] if (r["condition"], r["fraction"]) == (condition, fraction)]
    assert len(found) == 1
    figures: dict[str, Any] = found[0]["figures"]
    return figures


def test_a_summary_pairs_by_seed_and_share(results: dict[str, Any]) -> None:
    cell = row(results, "whisper", 1.0)["f1"]
    assert (cell["n"], cell["mean"], cell["sd"]) == (3, pytest.approx(0.87), pytest.approx(0.02))
    difference = cell["difference"]
    assert difference["values"] == {str(s): pytest.approx(0.05 + 0.01 * s) for s in range(3)}
    assert (difference["n"], difference["better"], difference["worse"]) == (3, 3, 0)
    little = row(results, "whisper", 0.25)["val.recall_mean"]
    assert (little["n"], little["difference"]["n"]) == (2, 2)
    assert "difference" not in row(results, "baseline", 1.0)["f1"]
    assert results["measured_on"]["val"]["accepts"] == {"0.5": 0, "2": 2, "8": 9}
    assert results["teachers"][0]["val_f1"]["mean"] == pytest.approx(0.97)
    assert [teacher["fits"] for teacher in results["teachers"]] == [3, 2]
    assert [trial["name"] for trial in results["failed"]] == ["whisper-0.25-seed2"]


def test_trials_of_different_code_or_data_are_warned_of(tmp_path: Path) -> None:
    found = [ended("baseline", 0, 0.8, tmp_path), ended("whisper", 0, 0.9, tmp_path)]
    for number, one in enumerate(found):
        run = runs.record_run(one.folder, one.config, None, "finished")
        run.versions["code"], run.data = f"{number}", "same"
        (one.folder / "run.json").write_text(json.dumps(dataclasses.asdict(run)))
    chosen = [trials.Condition("baseline", {"distillation.enabled": False}), ablate.parse_teacher("whisper")]
    assert ablate.summarize(found, chosen, [1.0], ["val"])["warnings"] == [
        "trials were trained on 2 versions of edgewake's code: differences may come from that"
    ]
    settings = chosen[1].settings | {"training.epochs": 9, "distillation.alpha": 0.9}
    other = [chosen[0], trials.Condition("whisper", settings)]
    warnings = ablate.summarize(found, other, [1.0], ["val"])["warnings"]
    assert "whisper differs from the baseline in training.epochs too" in warnings


def test_results_are_written_for_people_and_drawn(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = draw_ablation(results, tmp_path)
    assert list(pictures) == ["differences.png", "levels.png", "recalls.png", "fractions.png"]
    for name in pictures:
        assert (tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    tables.write_tables(results, tmp_path / "results.md", pictures)
    text = (tmp_path / "results.md").read_text()
    assert "| all | whisper | 3 | 87.0 ± 2.0 | +6.0 [+3.5, +8.5] | 3:0 |" in text
    assert "| 1/4 | baseline | 3 | 81.0 ± 1.0 | - | - |" in text
    assert "![Differences to the baseline](differences.png)" in text
    assert "whisper-0.25-seed2: out of | memory" in text
    assert "not corrected for the number of comparisons" in text
    assert "| noisy 8/h | all | whisper | 3 | 77.0 ± 2.0 | +6.0 [+3.5, +8.5] | 3:0 |" in text
    tables.print_tables(results)
    assert "failed: whisper-0.25-seed2" in capsys.readouterr().out


def test_without_finished_trials_there_is_still_a_result(tmp_path: Path) -> None:
    failed = ended("baseline", 0, 0.8, tmp_path)
    failed.status, failed.figures, failed.error = "failed", {}, "no corpus"
    baseline = trials.Condition("baseline", {"distillation.enabled": False})
    found = written([failed], ablate.summarize([failed], [baseline], [1.0], ["val"]), tmp_path)
    tables.write_tables(found, tmp_path / "results.md", {})
    assert "baseline-1-seed0: no corpus" in (tmp_path / "results.md").read_text()


def test_a_sweep_is_sorted_by_score_and_keeps_failures_apart(tmp_path: Path) -> None:
    axes = {"distillation.alpha": [0.3, 0.5, 0.7]}
    combinations = sweep.combinations(axes)
    found = [ended(c.name, 0, 0.6 + 0.1 * number, tmp_path) for number, c in enumerate(combinations)]
    found[0].status, found[0].error = "failed", "killed by signal 9"
    made = written(found, sweep.summarize(found, combinations, axes, ["val"]), tmp_path)
    assert [row["settings"]["distillation.alpha"] for row in made["rows"]] == [0.7, 0.5]
    assert [trial["error"] for trial in made["failed"]] == ["killed by signal 9"]
    tables.write_tables(made, tmp_path / "results.md", {})
    assert "| 0.7 | 1 | 0.8000 | 80.0 | 70.0 |" in (tmp_path / "results.md").read_text()


def test_agreement_by_hand() -> None:
    teacher = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.6, 0.4, 0.3, 0.2, 0.1], np.float32)
    student = np.array([0.9, 0.4, 0.7, 0.2, 0.1, 0.2, 0.6, 0.3, 0.2, 0.1], np.float32)
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], np.int64)
    found = agreement(teacher, student, labels)
    # Teacher says yes to 4 of 10, student to 3: by chance they share 0.4 * 0.3 + 0.6 * 0.7 = 0.54.
    assert found["share"] == pytest.approx(0.7)
    assert found["kappa"] == pytest.approx((0.7 - 0.54) / (1 - 0.54))
    counts = [found[name] for name in ("both_right", "only_teacher", "only_student", "both_wrong")]
    assert counts == [6, 2, 1, 1]
    assert agreement(teacher * 0, student * 0, labels)["kappa"] == 1.0
