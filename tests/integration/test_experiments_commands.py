"""`ablate`, `sweep`, `compare` and `runs` as they are typed: children, killed parents, failures, results."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None]) -> Path:
    """A folder with a corpus of tones (rising ones are the phrase) and a configuration for it."""
    from edgewake.config import get_preset

    root = tmp_path_factory.mktemp("experiments")
    tones(root / "corpus", ("train", "train", "train", "val", "val"))
    manifest = root / "corpus" / "manifest.json"
    config = get_preset("smoke")
    config.config_name = "tones"
    config.data.manifest, config.data.phrase = str(manifest), "hey"
    config.data.audio_duration, config.data.positive_renders = 0.9, 6
    config.cache.folder = str(root / "cache")
    config.training.threads = 1
    config.teacher.from_scratch = True
    config.teacher.layers, config.teacher.width, config.teacher.epochs = 1, 16, 1
    config.save(root / "tones.yaml")
    return root


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgewake", *arguments]


def run(workplace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=workplace, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def ablation(workplace: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A baseline and a small teacher from scratch, two seeds each, two at a time."""
    done = run(
        workplace, "ablate", "tones.yaml", "--teacher", "wav2vec2", "--seeds", "2", "--jobs", "2", "--out", "abl"
    )
    return workplace / "abl", done


def test_an_ablation_pairs_a_teacher_with_its_baseline(ablation: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = ablation
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    assert [row["condition"] for row in results["summary"]] == ["baseline", "wav2vec2"]
    distilled = results["summary"][1]["figures"]
    assert set(distilled) >= {"f1", "val.recall_mean", "val.recall_clean_at_0.5", "val.recall_noisy_at_8"}
    assert distilled["f1"]["difference"]["n"] == 2
    assert distilled["f1"]["difference"]["low"] is not None
    assert results["warnings"] == []
    assert results["failed"] == []
    for trial in results["trials"]:
        folder = out / "trials" / trial["name"]
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == "finished"
        assert record["seed"] == trial["seed"]
        teacher = trial["figures"]["teacher"]
        assert (teacher is None) == (trial["condition"] == "baseline")
        assert (folder / "log.txt").stat().st_size > 0
    assert len({json.dumps(p["figures"]["teacher"]) for p in results["trials"][1::2]}) == 1
    for name in ("results.md", "differences.png", "levels.png", "recalls.png"):
        assert (out / name).stat().st_size > 0
    assert "to baseline [95 %]" in done.stdout
    assert "[4/4]" in done.stderr


def test_a_finished_ablation_is_not_repeated_and_another_teacher_is_added(
    workplace: Path, ablation: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    out, _ = ablation
    before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/figures.json")}
    again = run(
        workplace, "ablate", "tones.yaml", "--teacher", "wav2vec2", "--seeds", "2", "--out", "abl", "--json",
        "--no-plot",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["kind"] == "ablation"
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/figures.json")} == before
    other = run(
        workplace, "ablate", "tones.yaml", "--teacher", "wav2vec2", "--out", "abl", "--set", "training.epochs=3"
    )
    assert other.returncode == 1
    assert "training.epochs = 3" in other.stderr
    assert "choose another --out" in other.stderr


def test_teacher_and_student_stand_side_by_side(
    workplace: Path, ablation: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    out, _ = ablation
    distilled = out / "trials" / "wav2vec2-1-seed0"
    done = run(workplace, "compare", str(distilled), str(distilled / "model"), "--out", "cmp")
    assert done.returncode == 0, done.stderr
    assert "they agree on" in done.stdout
    result = json.loads((workplace / "cmp" / "comparison-val.json").read_text())
    figures = json.loads((distilled / "figures.json").read_text())
    assert (result["teacher"]["architecture"], result["student"]["architecture"]) == ("wav2vec2", "tiny_conv")
    assert result["student"]["recordings"] == figures["splits"]["val"]
    assert result["student"]["clips"]["f1"] == pytest.approx(figures["f1"])
    agreement = result["agreement"]
    counted = [agreement[name] for name in ("both_right", "only_teacher", "only_student", "both_wrong")]
    assert sum(counted) == result["clips"]
    assert result["close"] == (result["f1_behind"] <= 0.05)


def test_a_killed_sweep_goes_on_and_a_failed_trial_ends_nothing(workplace: Path) -> None:
    (workplace / "broken.json").write_text("{")
    good = workplace / "corpus" / "manifest.json"
    other = good.with_name("other.json")
    other.write_text(good.read_text())
    manifests = f"{good},broken.json,{other}"
    typed = command("sweep", "tones.yaml", "--set", f"data.manifest={manifests}", "--out", "sw")
    trials = workplace / "sw" / "trials"
    with (workplace / "sweep.log").open("w") as log:
        first = subprocess.Popen(typed, cwd=workplace, stdout=log, stderr=log)
        until = time.monotonic() + 240
        while not (finished := list(trials.glob("*/figures.json"))):
            assert first.poll() is None, (workplace / "sweep.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
    kept = finished[0].stat().st_mtime_ns
    second = subprocess.run(typed, cwd=workplace, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 1, second.stdout + second.stderr
    assert finished[0].stat().st_mtime_ns == kept
    results = json.loads((workplace / "sw" / "results.json").read_text())
    assert {row["settings"]["data.manifest"] for row in results["rows"]} == {str(good), str(other)}
    # The same recordings, seed and settings: not even an interruption changes a figure.
    assert results["rows"][0]["score"] == results["rows"][1]["score"]
    [failed] = results["failed"]
    assert "broken.json is not JSON" in failed["error"]
    assert "broken.json is not JSON" in (workplace / failed["log"]).read_text()
    assert failed["name"] in second.stdout
    listed = run(workplace, "runs", "--root", "sw/trials", "--json")
    statuses = sorted(json.loads(line)["status"] for line in listed.stdout.splitlines())
    assert statuses == ["failed", "finished", "finished"]


def test_runs_are_compared_by_name(workplace: Path, ablation: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    names = ("baseline-1-seed0", "wav2vec2-1-seed0")
    done = run(workplace, "runs", *names, "--root", "abl/trials", "--json")
    comparison = json.loads(done.stdout)
    assert comparison["settings"] == {"distillation.enabled": [False, True]}
    assert comparison["runs"][0]["data"] == comparison["runs"][1]["data"] != ""
    shown = run(workplace, "runs", *names, "--root", "abl/trials")
    assert "best_f1" in shown.stdout
    missing = run(workplace, "runs", "nobody", "--root", "abl/trials")
    assert missing.returncode == 1
    assert "no run 'nobody'" in missing.stderr
