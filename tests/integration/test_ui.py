"""The page in a real Chromium: each panel's journey, as a person goes it; a screenshot of each is kept.

EDGEWAKE_SCREENSHOTS names a folder for the pictures. Each test passes alone; together they share server and browser.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import soxr

from edgewake.config import WakewordConfig, get_preset
from edgewake.data.reading import SAMPLE_RATE as RATE
from edgewake.data.reading import Samples, read_audio, to_float, to_int16, write_audio
from edgewake.runtime.detector import Detector
from edgewake.synthesis.engines import ENGINES, engine, usable

pytest.importorskip("httpx", reason="needs the extra ui")
import httpx

from page_sessions import damaged, damaged_requests, visit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(not find_spec("gradio"), reason="needs the extra ui"),
    pytest.mark.skipif(not find_spec("playwright"), reason="needs playwright, of the extra dev"),
]
# A loaded machine takes long to draw 180 fields, or to build.
WAIT_MS = 180_000
# How many voices the page lets say a phrase.
VOICES = 4


@pytest.fixture(scope="module")
def spoken(repository: Path) -> Samples:
    """Six seconds in which "computer" is said once; the released model is not sure of this voice."""
    audio = read_audio(repository / "calibration" / "audio.flac")
    detector = Detector(repository / "models" / "computer")
    end = detector.sample_index(int(np.argmax(detector.probabilities(audio))))
    # The speech before and after it is left out softly.
    word = audio[end - 8 * RATE // 10 : end + RATE // 10] * (20 * np.bartlett(9 * RATE // 10)).clip(0, 1)
    alone = np.zeros(6 * RATE, np.int16)
    # A recording begins when the microphone is on for 1.5 s, and ends at 4 s.
    alone[24 * RATE // 10 :][: len(word)] = word.astype(np.int16)
    return alone


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tones: Callable[..., None], repository: Path) -> Path:
    """A folder with recordings, a released model, and a configuration that trains in seconds with a small teacher."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(repository / "models" / "computer", root / "computer")
    tones(root / "audio", ("train",) * 4 + ("val", "test"), seconds=0.8, active=(0.2, 0.6))
    config = get_preset("smoke")
    values = {
        "config_name": "hey", "data.manifest": "audio/manifest.json", "data.phrase": "hey", "cache.folder": "cache",
        "data.audio_duration": 0.6, "data.positive_renders": 4, "training.threads": 1, "training.log_every": 1,
        "augmentation.rir_prob": 0.0, "teacher.from_scratch": True, "teacher.layers": 1, "teacher.width": 16,
        "teacher.hidden": 8, "teacher.epochs": 1, "teacher.batch_size": 8,
    }  # fmt: skip
    for key, value in values.items():
        config.set(key, value)
    (root / "config").mkdir()
    config.save(root / "config" / "base.yaml")
    return root


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    """The page of the project, as `python -m edgewake.ui.app` serves it."""
    command = [sys.executable, "-P", "-m", "edgewake.ui.app", str(project), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().split()[0]
    server.terminate()
    server.communicate()


@pytest.fixture(scope="module")
def browser(spoken: Samples, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, whose microphone plays the spoken word again and again."""
    from playwright.sync_api import sync_playwright

    sound = tmp_path_factory.mktemp("microphone") / "sound.wav"
    write_audio(sound, to_int16(soxr.resample(to_float(spoken), RATE, 3 * RATE)), 3 * RATE)
    with sync_playwright() as playwright:
        # A container has no user namespaces for its sandbox.
        arguments = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        arguments.append(f"--use-file-for-fake-audio-capture={sound}")
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page in a tab that notes every request, every error of a script, and what it refused to load."""
    tab = browser.new_page(viewport={"width": 1300, "height": 1000})
    tab.set_default_timeout(WAIT_MS)
    tab.asked, tab.faults = [], []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.on("console", lambda line: tab.faults.append(line.text) if line.type == "error" else None)
    tab.goto(address)
    tab.get_by_role("tab", name="2. Configuration").click()
    tab.get_by_text("they fit together").wait_for()
    yield tab
    tab.close()


@pytest.fixture
def photographed(page: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Keeps a picture of the page at the end of a test, whatever its outcome."""
    yield
    folder = Path(os.environ.get("EDGEWAKE_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"{request.node.name}.png", full_page=True)


NOTE_THE_COUNTDOWN = """() => {
  const place = document.querySelector('#countdown')
  window.noted = []
  new MutationObserver(() => window.noted.push(place.textContent)).observe(place, {childList: true})
}"""


def panel(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def choose(page: Any, element: str, text: str) -> None:
    """Choose in a dropdown what begins with `text`."""
    page.locator(f"#{element} input").click()
    page.get_by_role("option", name=text).first.click()


def fill(page: Any, element: str, text: str) -> None:
    field = page.locator(f"#{element} input, #{element} textarea").first
    field.fill(text)
    field.blur()


def until(found: Callable[[], Any], seconds: float = WAIT_MS / 1000) -> Any:
    """What `found` gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError("did not come to pass")


@pytest.fixture
def configured(page: Any) -> None:
    """The configuration that trains in seconds, without distillation, chosen in panel 2."""
    panel(page, "2. Configuration")
    choose(page, "preset", "config/base.yaml")
    page.get_by_text("hey: every value").wait_for()


@pytest.fixture(scope="module")
def distilled(page: Any, project: Path) -> Path:
    """The run that Method 3 of the guide gives: Panel 2, three values; Panel 3, Start."""
    panel(page, "2. Configuration")
    choose(page, "preset", "config/base.yaml")
    page.get_by_text("hey: every value").wait_for()
    panel(page, "Optimization & Loss")
    assert page.get_by_text("Advanced Optimization").is_visible()
    page.get_by_label("Enable Distillation").check()
    choose(page, "setting-distillation-teacher_architecture", "wav2vec2")
    page.get_by_label("Distillation Temp").fill("3.0")
    page.get_by_label("Distillation Alpha").fill("0.6")
    until(lambda: WakewordConfig.load(project / ".ui" / "config.yaml").distillation.alpha == 0.6)
    panel(page, "3. Training")
    fill(page, "run-name", "distilled")
    page.get_by_role("button", name="Start", exact=True).click()
    until((project / "runs" / "distilled" / "result.json").exists)
    page.locator("#training-status").get_by_text("distilled has ended").wait_for()
    return project / "runs" / "distilled"


@pytest.mark.usefixtures("photographed")
def test_method_3_of_the_guide_works_as_printed(page: Any, distilled: Path) -> None:
    used = WakewordConfig.load(distilled / "config.yaml").distillation
    assert (used.enabled, used.teacher_architecture, used.temperature, used.alpha) == (True, "wav2vec2", 3.0, 0.6)
    # Losses and the ratio's advice are shown.
    page.locator("#training-status").get_by_text("runs/distilled: finished").wait_for()
    page.locator("#loss-ratio-advice").get_by_text("loss_ratio").wait_for()
    # A level line has no height, and does not count as visible.
    for plot in ("losses", "ratio", "scores"):
        page.locator(f"#{plot} polyline").first.wait_for(state="attached")
    lines = [json.loads(line) for line in (distilled / "metrics.jsonl").read_text().splitlines()]
    assert any("loss_ratio" in line for line in lines)


@pytest.mark.usefixtures("photographed")
def test_a_value_out_of_its_range_is_named_and_nothing_starts(page: Any, project: Path) -> None:
    panel(page, "2. Configuration")
    panel(page, "Optimization & Loss")
    fill(page, "setting-distillation-alpha", "1.5")
    page.locator("#configuration-message").get_by_text("distillation.alpha = 1.5").wait_for()
    panel(page, "3. Training")
    fill(page, "run-name", "wrong")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("distillation.alpha = 1.5: must be less than or equal to 1").last.wait_for()
    assert not (project / "config" / "wrong.yaml").exists()
    panel(page, "2. Configuration")
    fill(page, "setting-distillation-alpha", "0.6")
    page.get_by_text("they fit together").wait_for()
    page.get_by_role("button", name="YAML").click()
    # The editor draws the lines that are in view.
    page.locator("#yaml .cm-line").get_by_text("config_name").first.wait_for()
    # Presets are there by name, and tabs for all sections.
    choose(page, "preset", "smoke: ")
    page.get_by_text("smoke: every value").wait_for()
    shown = {tab.inner_text() for tab in page.get_by_role("tab").all()}
    assert {"Data", "Frontend", "Model", "Training", "Augmentation", "Teacher", "QAT", "Evaluation", "Target"} <= shown


@pytest.mark.usefixtures("photographed", "distilled", "configured")
def test_a_training_goes_on_without_the_page_and_is_stopped_and_resumed(page: Any, address: str, project: Path) -> None:
    panel(page, "Training")
    fill(page, "setting-training-epochs", "4000")
    until(lambda: WakewordConfig.load(project / ".ui" / "config.yaml").training.epochs == 4000)
    panel(page, "3. Training")
    fill(page, "run-name", "long")
    page.get_by_role("button", name="Start", exact=True).click()
    metrics = project / "runs" / "long" / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_text().count('"epoch"'))
    # Closed, and opened again.
    page.goto("about:blank")
    seen = metrics.stat().st_size
    until(lambda: metrics.stat().st_size > seen)
    page.goto(address)
    panel(page, "2. Configuration")
    page.get_by_text("they fit together").wait_for()
    panel(page, "Training")
    assert page.locator("#setting-training-epochs input").input_value() == "4000"
    panel(page, "3. Training")
    page.locator("#training-status").get_by_text("long is in progress").wait_for()
    # A second training is refused.
    fill(page, "run-name", "second")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("a project trains one at a time").last.wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#training-status").get_by_text("runs/long: interrupted").wait_for()
    steps = metrics.read_text().count("\n")
    page.locator("#training-status").get_by_text("long has ended").wait_for()
    # A run that is selected and removed is no error.
    shutil.copytree(project / "runs" / "distilled", project / "runs" / "other")
    page.get_by_label("runs/other").check()
    shutil.rmtree(project / "runs" / "other")
    choose(page, "resumed", "runs/long")
    page.get_by_role("button", name="Resume", exact=True).click()
    until(lambda: metrics.read_text().count("\n") > steps + 5)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#training-status").get_by_text("runs/long: interrupted").wait_for()
    page.get_by_label("runs/other").wait_for(state="detached")
    # Side by side.
    for run in ("runs/long", "runs/distilled"):
        page.get_by_label(run).check()
    page.get_by_text("Side by side").click()
    page.locator("#comparison").get_by_text("training.epochs").first.wait_for()
    assert not page.get_by_text("not in the list").count()


@pytest.mark.usefixtures("photographed")
def test_a_file_is_tried_by_the_c_pipeline_and_a_cutoff_says_what_it_gives(
    page: Any, project: Path, spoken: Samples, tmp_path: Path
) -> None:
    panel(page, "4. Try")
    choose(page, "model", "computer")
    metrics = json.loads((project / "computer" / "metrics.json").read_text())
    page.locator("#rates").get_by_text(f"at {metrics['cutoff']['value']:.4f} on test").wait_for()
    write_audio(tmp_path / "spoken.wav", spoken)
    page.locator("#file input[type=file]").set_input_files(tmp_path / "spoken.wav")
    page.locator("#detections").get_by_text("0 detections in 6.00 s").wait_for()
    fill(page, "cutoff", "0.5")
    (found,) = Detector(project / "computer", cutoff=0.5).process(spoken)
    page.locator("#detections").get_by_text(f"{found.time_s:.2f} s ({found.probability:.4f})").wait_for()
    page.locator("#rates").get_by_text("at 0.5000 on test").wait_for()
    assert page.locator("#probability .mark").count() == 1
    # What can be listened to is what the pipeline was given, bit for bit.
    (given,) = (project / ".ui" / "samples").glob("*.wav")
    assert np.array_equal(read_audio(given), spoken)


@pytest.mark.usefixtures("photographed")
def test_the_microphone_is_drawn_live_with_what_it_detects(page: Any) -> None:
    panel(page, "4. Try")
    fill(page, "cutoff", "0.3")
    page.locator("#microphone").get_by_role("button", name="Record").click()
    page.locator("#detections").get_by_text(", at ").wait_for()
    assert page.locator("#probability polyline").count() == 1
    page.locator("#microphone").get_by_role("button", name="Stop").first.click()


@pytest.mark.usefixtures("photographed")
def test_a_model_is_built_and_downloaded(page: Any, project: Path, tmp_path: Path) -> None:
    panel(page, "5. Build and flash")
    choose(page, "build-model", "computer")
    page.get_by_role("button", name="Build", exact=True).click()
    page.locator("#budget").get_by_text("parity checks").wait_for()
    page.locator("#next").get_by_text("idf.py").wait_for()
    page.get_by_role("button", name="ESPHome package").click()
    page.locator("#downloads a[download='esphome.zip']").wait_for()
    with page.expect_download() as download:
        page.locator("#downloads a[download='firmware.zip']").first.click()
    download.value.save_as(tmp_path / "firmware.zip")
    with zipfile.ZipFile(tmp_path / "firmware.zip") as packed:
        assert "firmware/sdkconfig.defaults" in packed.namelist()


@pytest.fixture(scope="module")
def begun(page: Any, project: Path) -> Path:
    """The folder of a wake word that was begun in panel 1."""
    panel(page, "1. Phrase")
    fill(page, "phrase", "hey atlas")
    page.get_by_role("button", name="Begin this wake word").click()
    page.locator("#made").get_by_text("hey_atlas/wakeword.yaml").wait_for()
    return project / "hey_atlas"


@pytest.mark.usefixtures("photographed")
def test_a_phrase_is_assessed_and_said_by_the_voices_that_are_here(page: Any, project: Path) -> None:
    panel(page, "1. Phrase")
    fill(page, "phrase", "hey atlas")
    page.get_by_role("button", name="Assess").click()
    page.locator("#assessment").get_by_text("hey atlas: good").wait_for()
    page.get_by_role("button", name="Listen").click()
    expected = min(VOICES, len(engine(usable(ENGINES)).voices()))
    page.locator(f"#sample-{expected - 1} button[aria-label='Play']").wait_for()
    files = sorted((project / ".ui" / "samples" / "hey_atlas").glob("*.wav"))
    assert len(files) == expected
    for file in files:
        page.locator("label").get_by_text(file.stem).wait_for()
        samples = read_audio(file)
        assert 0.4 < len(samples) / RATE < 3
        assert np.abs(samples).max() > 1000


@pytest.mark.usefixtures("photographed")
def test_a_speaker_is_recorded_with_countdown_and_level_and_each_take_is_trimmed(page: Any, begun: Path) -> None:
    panel(page, "1. Phrase")
    fill(page, "speaker", "anna")
    page.evaluate(NOTE_THE_COUNTDOWN)
    for take in ("001.wav", "002.wav"):

        def recorded(file: Path = begun / "recordings" / "anna" / take) -> bool:
            page.locator("#record").click()
            page.locator("#countdown").get_by_text("say it now").wait_for()
            page.locator("#countdown").get_by_text("say it now").wait_for(state="detached")
            refused = page.get_by_text("again: ")
            page.locator("#saved").get_by_text(f"hey_atlas/recordings/anna/{file.name}").or_(refused).first.wait_for()
            # A loaded machine begins too late: say it again.
            while refused.count():
                page.get_by_role("button", name="Close").first.click()
            return file.exists()

        until(recorded)
        # Of 2.5 s the word, and 0.2 s on each side.
        assert 0.9 < len(read_audio(begun / "recordings" / "anna" / take)) / RATE < 1.4
    shown = page.evaluate("noted")
    assert {"3 ...", "2 ...", "1 ..."} < set(shown)
    # Room and speech: 20 signs are 0 dBFS.
    levels = [text.count("#") for text in shown if "say it now" in text]
    assert min(levels) < 3
    assert max(levels) > 10


@pytest.mark.usefixtures("photographed")
def test_recordings_are_added_and_those_that_are_none_are_named(
    page: Any, begun: Path, spoken: Samples, tmp_path: Path
) -> None:
    panel(page, "1. Phrase")
    fill(page, "speaker", "ben")
    write_audio(tmp_path / "good.wav", spoken)
    write_audio(tmp_path / "cut.wav", spoken[28 * RATE // 10 :])
    (tmp_path / "none.wav").write_bytes(b"RIFF, but no sound")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Add recordings").click()
    chosen.value.set_files([tmp_path / name for name in ("good.wav", "cut.wav", "none.wav")])
    for text in ("hey_atlas/recordings/ben/001.wav", "cut.wav: again: it is cut off", "none.wav: not readable"):
        page.locator("#saved").get_by_text(text).wait_for()
    assert [path.name for path in (begun / "recordings" / "ben").iterdir()] == ["001.wav"]


@pytest.mark.usefixtures("photographed", "begun")
def test_a_wake_word_is_made_and_followed_and_stopped(page: Any) -> None:
    panel(page, "1. Phrase")
    page.get_by_role("button", name="Make it").click()
    page.locator("#made").get_by_text("making hey_atlas").wait_for()
    panel(page, "3. Training")
    page.locator("#training-status").get_by_text("hey_atlas is in progress").wait_for()
    until(lambda: "synth" in page.locator("#log textarea").input_value())
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#training-status").get_by_text("hey_atlas has ended: interrupted").wait_for()


@pytest.mark.usefixtures("photographed")
def test_of_two_tabs_that_start_a_training_at_once_one_trains(
    page: Any, browser: Any, address: str, project: Path
) -> None:
    other = browser.new_page()
    other.set_default_timeout(WAIT_MS)
    other.goto(address)
    tabs = {"one": page, "other": other}
    for name, tab in tabs.items():
        panel(tab, "2. Configuration")
        tab.get_by_text("they fit together").wait_for()
        panel(tab, "3. Training")
        fill(tab, "run-name", name)
    for tab in tabs.values():
        # Not waited for.
        tab.evaluate("document.querySelector('#start').click()")
    refused = re.compile("a project trains one at a time|another page starts a training")
    until(lambda: any(tab.get_by_text(refused).count() for tab in tabs.values()))
    begun = [name for name in tabs if (project / "config" / f"{name}.yaml").exists()]
    assert len(begun) == 1
    for tab in tabs.values():
        tab.locator("#training-status").get_by_text(f"{begun[0]} is in progress").wait_for()
    other.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#training-status").get_by_text(f"{begun[0]} has ended").wait_for()
    other.close()


def test_damaged_uploads_and_requests_are_refused_and_the_page_goes_on(address: str) -> None:
    async def visited() -> tuple[Counter[str], list[str]]:
        async with httpx.AsyncClient(base_url=address, timeout=WAIT_MS / 1000) as client:
            seen = await visit(client, defaultdict(list), random.Random(0), list(damaged()))
            return seen, await damaged_requests(client)

    # Playwright's own loop runs in this thread.
    with ThreadPoolExecutor(1) as threads:
        seen, others = threads.submit(asyncio.run, visited()).result()
    assert not others
    assert not [line for line in seen if line.startswith("WRONG")]
    assert all(seen[f"refused: {name}"] == 1 for name in damaged())
    assert seen["taken: a tone"] == 1


def test_nothing_came_from_another_host_and_no_script_failed(page: Any, address: str) -> None:
    assert {urlsplit(url).netloc for url in page.asked if urlsplit(url).scheme in ("http", "https", "ws")} == {
        urlsplit(address).netloc
    }
    assert not page.faults
