"""The comparison with other wake words: each peer's scores are its own client's, and all get the same recordings."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewake.data.reading import Samples, read_audio
from edgewake.errors import EdgewakeError
from edgewake.evaluation.recordings import CLEAN
from edgewake.io import write_json
from edgewake.making.report import write_report
from edgewake.runtime.model_manifest import load_manifest

pytestmark = pytest.mark.slow

MISSING = "is not installed: pip install 'edgewake[dev]'"
pymicro = pytest.importorskip("pymicro_wakeword", reason=f"pymicro-wakeword {MISSING}")
pyopen = pytest.importorskip("pyopen_wakeword", reason=f"pyopen-wakeword {MISSING}")
STEP = 160


@pytest.fixture(scope="module")
def peers(repository: Path) -> Iterator[Any]:
    """The benchmark as a module, as it is imported when it runs as a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("peers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips by espeak-ng, 22.05 kHz: three voices say the word, two say something else."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("the program espeak-ng is not installed")
    root = tmp_path_factory.mktemp("clips")
    said = {
        "positive": [("en-us", "alexa"), ("en-gb", "alexa, stop"), ("en-us+f3", "alexa")],
        "negative": [("en-us", "a lecture on wax and annexes"), ("en-gb", "open the window")],
    }
    for kind, lines in said.items():
        (root / kind).mkdir()
        for index, (voice, text) in enumerate(lines):
            subprocess.run(["espeak-ng", "-v", voice, "-w", root / kind / f"{index}.wav", text], check=True)
    return {kind: root / kind for kind in said}


@pytest.fixture(scope="module")
def model(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released model under the name of another word, which is enough to run everything."""
    folder = tmp_path_factory.mktemp("model") / "alexa"
    shutil.copytree(repository / "models" / "computer", folder)
    load_manifest(folder).model_copy(update={"phrase": "Alexa"}).save(folder)
    return folder


@pytest.fixture(scope="module")
def given(peers: Any) -> Iterator[dict[str, list[bytes]]]:
    """The samples that each peer's scorer was given while `results` was made."""
    seen: dict[str, list[bytes]] = {"MicroScorer": [], "OpenScorer": []}

    def spy(name: str) -> Any:
        score = getattr(peers, name).score

        def spied(scorer: Any, recordings: list[Samples]) -> Any:
            seen[name] += [samples.tobytes() for samples in recordings]
            return score(scorer, recordings)

        return spied

    with pytest.MonkeyPatch.context() as patch:
        for name in seen:
            patch.setattr(getattr(peers, name), "score", spy(name))
        yield seen


@pytest.fixture(scope="module")
def results(peers: Any, given: Any, model: Path, folders: dict[str, Path]) -> Any:
    """A whole comparison."""
    return peers.measure(model, "alexa", folders, rounds=1)


def whole(folders: dict[str, Path]) -> list[Samples]:
    """Two recordings one after the other, the second longer than a stream of 10 s that openWakeWord keeps."""
    first, second = (read_audio(folders[kind] / "0.wav") for kind in ("positive", "negative"))
    return [first, np.tile(second, 12 * 16_000 // len(second) + 1)]


def test_micro_wake_word_scores_what_its_client_gives_on_a_stream(peers: Any, folders: dict[str, Path]) -> None:
    recordings = whole(folders)
    scored = peers.micro_peer("alexa").scorer.score(recordings)
    for samples, track in zip(recordings, scored, strict=True):
        features = pymicro.MicroWakeWordFeatures()
        word = pymicro.MicroWakeWord.from_builtin(pymicro.Model.ALEXA)
        found = []
        for start in range(0, len(samples) - STEP + 1, STEP):
            for frame in features.process_streaming(samples[start : start + STEP].tobytes()):
                found.append(word.process_streaming_prob(frame))
        assert len(track) == len(found) // 3
        assert track.max() == np.float32(max(found)) > 0
        assert (track == np.array(found[2::3], np.float32)).all()


def test_open_wake_word_scores_what_its_client_gives_on_a_stream(peers: Any, folders: dict[str, Path]) -> None:
    recordings = whole(folders)
    scored = peers.open_peer("alexa").scorer.score(recordings)
    for samples, track in zip(recordings, scored, strict=True):
        features = pyopen.OpenWakeWordFeatures.from_builtin()
        word = pyopen.OpenWakeWord.from_builtin(pyopen.Model.ALEXA)
        found = []
        for start in range(0, len(samples), STEP):
            for embeddings in features.process_streaming(samples[start : start + STEP].tobytes()):
                found += word.process_streaming(embeddings)
        # A step looks 1760 samples back, the first into the silence before the recording.
        assert len(track) == (len(samples) - 480) // 1280 + 1
        assert (track == np.array(found[-len(track) :], np.float32)).all()
        assert max(found[: -len(track)]) < 0.01


def test_all_are_measured_on_the_same_recordings(results: Any, given: dict[str, list[bytes]]) -> None:
    assert list(results["peers"]) == ["edgewake", "microWakeWord", "openWakeWord"]
    curves = [peer["figures"]["det"] for peer in results["peers"].values()]
    assert all(list(curve) == [CLEAN, "10db"] for curve in curves)
    assert {det["recordings"] for curve in curves for det in curve.values()} == {3}
    assert len({det["hours"] for curve in curves for det in curve.values()}) == 1
    recordings = 3 + 3 * results["recordings"]["noise_draws"] + 2
    micro, other = (found[:recordings] for found in given.values())
    assert micro == other
    assert len(micro) == recordings


def test_curves_start_with_all_missed_and_nothing_accepted(results: Any) -> None:
    for peer in results["peers"].values():
        for det in peer["figures"]["det"].values():
            highest = det["points"][-1]
            assert (highest["miss_rate"], highest["fa_per_hour"]) == (1.0, 0.0)
            assert all(a["cutoff"] < b["cutoff"] for a, b in zip(det["points"], det["points"][1:], strict=False))


def test_refractory_time_is_one_second_in_the_steps_of_each(results: Any) -> None:
    steps = [peer["figures"]["refractory_steps"] for peer in results["peers"].values()]
    assert steps == [34, 34, 13]


def test_a_score_at_a_peers_cutoff_is_no_detection_of_its_client(peers: Any) -> None:
    assert np.float32(peers.micro_peer("alexa").cutoff) == np.nextafter(np.float32(0.9), np.float32(1))
    assert np.float32(peers.open_peer("alexa").cutoff) == np.nextafter(np.float32(0.5), np.float32(1))


def test_what_tflm_does_not_run_is_named_and_has_no_figures(results: Any) -> None:
    costs = {name: peer["costs"]["networks"] for name, peer in results["peers"].items()}
    spectrogram = costs["openWakeWord"]["melspectrogram.tflite"]
    assert spectrogram.keys() == {"bytes", "not_in_tflm"}
    assert "(1, 1760)" in spectrogram["not_in_tflm"]
    for name, file in (("edgewake", "model.tflite"), ("microWakeWord", "alexa.tflite")):
        figures = costs[name][file]
        assert 16_000 < figures["arena"]["host_bytes"] < figures["arena"]["total_bytes"] < 40_960
        assert figures["step_us"] > 0


def test_the_arena_of_the_model_is_that_of_its_manifest(results: Any, model: Path) -> None:
    arena = results["peers"]["edgewake"]["costs"]["networks"]["model.tflite"]["arena"]
    assert arena == load_manifest(model).arena.model_dump()


def test_report_writes_figures_tables_and_picture(peers: Any, results: Any, tmp_path: Path) -> None:
    peers.report(results, tmp_path)
    assert json.loads((tmp_path / "peers.json").read_text())["peers"].keys() == results["peers"].keys()
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "peers.md").read_text()
    assert "| missed, at 10 dB SNR, at 0.5/h |" in text
    assert "openWakeWord, melspectrogram.tflite: its client resizes" in text


def test_its_curves_reach_the_report_of_this_model_alone(results: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "alexa"
    shutil.copytree(model, folder)
    write_json(folder / "peers.json", results)
    page = write_report(folder).read_text()
    assert "Beside other wake words" in page
    assert all(peer["package"] in page for peer in results["peers"].values())
    (folder / "model.tflite").write_bytes(b"another")
    assert "Beside other wake words" not in write_report(folder).read_text()


def test_peers_without_the_word_are_left_out_with_a_line(
    peers: Any, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(peers.find_peers(repository / "models" / "computer", "computer", compared=True)) == ["edgewake"]
    told = capsys.readouterr().err
    assert "microWakeWord is left out: pymicro-wakeword has no model of 'computer', but of okay_nabu" in told
    assert "openWakeWord is left out: pyopen-wakeword has no model of 'computer'" in told


def test_a_model_of_another_word_is_not_compared(peers: Any, repository: Path) -> None:
    with pytest.raises(EdgewakeError, match="detects 'computer', the peers 'alexa': give --model or --word"):
        peers.find_peers(repository / "models" / "computer", "alexa", compared=True)
