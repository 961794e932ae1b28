"""`edgewake make` ends with firmware and a report, loses nothing, and makes again only what an edit changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import making_with_tones
from edgewake.cli import main
from edgewake.data.manifest import CorpusManifest
from edgewake.errors import EdgewakeError
from edgewake.making.corpus import word_corpus
from edgewake.making.make import STAGES, make
from edgewake.synthesis import engines
from edgewake.synthesis.plan import _voices
from edgewake.synthesis.plans import usable_recogniser, usable_voices
from making_with_tones import MAKERS, write_folder, write_recordings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _tones(tmp_path_factory: pytest.TempPathFactory):
    """Tones for voices, no recogniser, no other corpora."""
    found = (engines.engine, usable_recogniser, usable_voices, _voices)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_MAKERS", MAKERS)
        patch.delenv("EDGEWAKE_CORPORA", raising=False)
        patch.setenv("EDGEWAKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGEWAKE_ASSETS", str(tmp_path_factory.mktemp("assets")))
        for each in found:
            each.cache_clear()
        yield
    for each in found:
        each.cache_clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("made") / "hey_atlas")
    make(folder, "smoke", workers=1)
    return folder


def reused(record: dict) -> list[str]:
    return [name for name in STAGES if record["stages"][name]["reused"]]


def test_it_ends_with_firmware_and_a_report_that_says_what_it_was_measured_on(made: Path):
    report = (made / "report.html").read_text("utf-8")
    assert "No recording of a person was in the test" in report
    assert "False accepts were measured on synthetic speech only" in report
    assert re.search(r"Of \d+ recordings of synthesised voices it detects <b>\d+ %</b>", report)
    assert "0 dB SNR: noise as loud as the voice" in report
    assert "that sound like the phrase, in" in report
    assert "detected at" in report or "Nothing was detected in the test split." in report
    assert "effort smoke" in report
    assert (made / "build" / "firmware" / "CMakeLists.txt").is_file()
    assert "edgewake make hey_atlas --effort smoke" in (made / "model" / "README.md").read_text("utf-8")
    corpus = CorpusManifest.load(made / "corpus.json")
    tests = {entry.family for entry in corpus.select(split="test")}
    assert tests == {"synth_flite", "near_flite", "speech_flite", "generated_noise"}
    assert not {entry.family for entry in corpus.entries if entry.split != "test"} & {"synth_flite", "speech_flite"}


def test_what_has_not_changed_is_reused_and_left_as_it_is(made: Path):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file() and "make." not in path.name}
    result = CliRunner().invoke(main, ["make", str(made), "--effort", "smoke", "--json"])
    assert result.exit_code == 0, result.stderr
    assert reused(json.loads(result.stdout)) == list(STAGES)
    assert result.stderr.count("reused, nothing changed") == len(STAGES)
    after = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file() and "make." not in path.name}
    assert after == before


def test_recordings_that_come_later_are_used_and_clips_are_kept(made: Path, tmp_path: Path):
    folder = tmp_path / "hey_atlas"
    shutil.copytree(made, folder)
    write_recordings(folder / "recordings", ("anna", "ben", "carla", "dan"))
    record = make(folder, "smoke", workers=1)
    assert reused(record) == ["synth"]
    people = [entry for entry in CorpusManifest.load(folder / "corpus.json").entries if entry.family == "recordings"]
    assert len(people) == 8
    splits = {speaker: {e.split for e in people if e.speaker == speaker} for speaker in {e.speaker for e in people}}
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "val", "test"}
    report = (folder / "report.html").read_text("utf-8")
    assert "recordings of people it detects" in report
    assert "No recording of a person" not in report
    assert len(list((folder / "run").iterdir())) == 2


def test_recordings_can_be_kept_for_tests(made: Path, tmp_path: Path):
    folder = tmp_path / "hey_atlas"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("run", "model", "build"))
    write_recordings(folder / "recordings", ("anna", "ben", "carla", "dan"))
    with (folder / "wakeword.yaml").open("a") as file:
        file.write("\ntext_alone: true\n")
    people = [entry for entry in word_corpus(folder, print).entries if entry.family == "recordings"]
    assert people
    assert {entry.split for entry in people} == {"test"}


def test_another_aim_takes_another_cutoff_and_no_other_training(made: Path, tmp_path: Path):
    folder = tmp_path / "hey_atlas"
    shutil.copytree(made, folder)
    with (folder / "wakeword.yaml").open("a") as file:
        file.write("target_fa: 30.0\n")
    assert reused(make(folder, "smoke", workers=1)) == ["synth", "corpus", "train"]
    assert json.loads((folder / "model" / "metrics.json").read_text())["cutoff"]["target_fa_per_hour"] == 30
    assert "for 30 false accepts an hour" in (folder / "report.html").read_text("utf-8")


def test_a_folder_that_was_moved_keeps_all(made: Path, tmp_path: Path):
    folder = tmp_path / "elsewhere"
    shutil.copytree(made, folder)
    assert reused(make(folder, "smoke", workers=1)) == list(STAGES)


def test_stages_are_commands_of_their_own(made: Path, tmp_path: Path):
    folder = tmp_path / "hey_atlas"
    shutil.copytree(made, folder)
    (folder / "corpus.json").unlink()

    def call(*arguments: object) -> None:
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 0, result.stderr

    call("synth", folder, "--effort", "smoke", "--workers", 1)
    call("corpus", "import", folder)
    for path in ("synth/manifest.csv", "synth-test/manifest.csv", "corpus.json"):
        assert (folder / path).read_bytes() == (made / path).read_bytes()
    assert reused(make(folder, "smoke", workers=1)) == list(STAGES)


def test_a_stage_that_fails_is_named_and_the_others_are_kept(made: Path, tmp_path: Path):
    folder = tmp_path / "hey_atlas"
    shutil.copytree(made, folder)
    with (folder / "wakeword.yaml").open("a") as file:
        file.write("corpora: [nowhere/manifest.csv]\n")
    with pytest.raises(EdgewakeError, match=r"^stage corpus: corpora: .*nowhere/manifest.csv does not exist"):
        make(folder, "smoke", workers=1)
    result = CliRunner().invoke(main, ["make", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "edgewake new PHRASE makes such a folder" in result.stderr


def test_what_ctrl_c_or_kill_9_ends_goes_on_to_the_same_model(made: Path, tmp_path: Path):
    folder = write_folder(tmp_path / "hey_atlas")
    command = [sys.executable, making_with_tones.__file__, "make", str(folder), "--effort", "smoke", "--workers", "1"]

    def outcome_of(stage: str) -> str:
        return json.loads((folder / "make.json").read_text())["stages"][stage]["outcome"]

    def ended_by(number: signal.Signals, found) -> int:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
            until = time.monotonic() + 300
            while not found() and child.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            assert child.poll() is None
            os.kill(child.pid, number)
            return child.wait()

    assert ended_by(signal.SIGINT, lambda: len(list(folder.glob("synth/clips/*/*.flac"))) > 3) == 130
    assert outcome_of("synth") == "interrupted"
    assert not (folder / "synth" / "manifest.csv").exists()
    ended_by(signal.SIGKILL, lambda: list(folder.glob("run/*/checkpoints/last.pt")))
    assert outcome_of("train") == "running"
    subprocess.run(command, check=True, capture_output=True)
    record = json.loads((folder / "make.json").read_text())
    assert reused(record)[:2] == ["synth", "corpus"]
    assert (folder / "model" / "model.tflite").read_bytes() == (made / "model" / "model.tflite").read_bytes()
