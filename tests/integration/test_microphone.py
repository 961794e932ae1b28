"""`edgewake listen` and `record` through the real PortAudio and ALSA, whose file plugin stands for a sound card."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewake.data.importing import import_speakers
from edgewake.data.reading import Samples, read_audio
from edgewake.data.takes import MARGIN_S

RATE = 16_000
# Of an installation without the library, `import sounddevice` says so.
_FOUND = subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True, text=True, check=False)
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _FOUND.returncode != 0, reason="needs ALSA, sounddevice and libportaudio2"
)
DEVICE = """
pcm.{name} {{
  type file
  slave.pcm {{ type null }}
  file "/dev/null"
  infile "{file}"
  format "raw"
}}
"""
NO_DEVICE = "pcm.default { type hw card 31 }\n"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command where the only sound card is a file: (samples,) or (samples, channels) int16."""

    def call(samples: Samples | None, *arguments: object, name: str = "default") -> subprocess.CompletedProcess[str]:
        card = tmp_path / "alsa.conf"
        card.write_text(NO_DEVICE)
        if samples is not None:
            samples.tofile(tmp_path / "card.raw")
            # PortAudio aborts without a default device.
            names = dict.fromkeys((name, "default"))
            card.write_text("".join(DEVICE.format(name=each, file=tmp_path / "card.raw") for each in names))
        environment = {**os.environ, "ALSA_CONFIG_PATH": str(card)}
        command = [sys.executable, "-m", "edgewake", *map(str, arguments)]
        nothing = subprocess.DEVNULL
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, stdin=nothing)

    return call


@pytest.fixture(scope="module")
def sound() -> Samples:
    """Bursts of tones: what the model makes of them does not matter."""
    rng, time_s = np.random.default_rng(3), np.arange(12 * RATE) / RATE
    tones = np.sin(2 * np.pi * (500 + 300 * np.sin(3 * time_s)) * time_s) * (np.sin(5 * time_s) > 0)
    return (9000 * tones + rng.normal(0, 50, len(time_s))).astype(np.int16)


@pytest.mark.slow
def test_listen_detects_what_detect_finds_in_the_same_audio(
    run: Run, sound: Samples, repository: Path, tmp_path: Path
) -> None:
    model = ("--model", repository / "models" / "computer", "--cutoff", "0.00002", "--json")
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    expected = [json.loads(line) for line in run(None, "detect", tmp_path / "a.wav", *model).stdout.splitlines()]
    assert len(expected) > 3
    kept = tmp_path / "kept"
    done = run(sound, "listen", *model, "--seconds", 12, "--wav", kept)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["time_s"], one["probability"]) for one in found] == [
        (one["time_s"], one["probability"]) for one in expected
    ]
    assert done.stderr == f"{len(found)} detections in 12.0 s\n"
    # What is kept ends with the step that detected it, and begins 3 s earlier.
    for one in found:
        end = round(one["time_s"] * RATE)
        samples = read_audio(one["wav"])
        assert len(samples) >= min(end, 2.9 * RATE)
        assert np.array_equal(samples, sound[end - len(samples) : end])


def test_listen_ends_at_ctrl_c_with_a_count(sound: Samples, repository: Path, tmp_path: Path) -> None:
    sound.tofile(tmp_path / "card.raw")
    (tmp_path / "alsa.conf").write_text(DEVICE.format(name="default", file=tmp_path / "card.raw"))
    command = [sys.executable, "-m", "edgewake", "listen", "--model", str(repository / "models" / "computer")]
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "alsa.conf")}
    with subprocess.Popen(
        [*command, "--cutoff", "0.00002"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert "computer" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.fullmatch(r"\d+ detections? in \d+\.\d s\n", errors)


def said(count: int) -> Samples:
    """A person who follows `edgewake record`: 1.5 s of quiet, then 2.5 s with a phrase, in blocks of 30 ms."""
    countdown, length = 3 * 8160, 40320
    audio = np.random.default_rng(0).normal(0, 10, count * (countdown + length))
    for number in range(count):
        start = number * (countdown + length) + countdown + 12_000
        audio[start : start + 10_000] += 6000 * np.sin(np.arange(10_000) * 0.3)
    return audio.astype(np.int16)


@pytest.fixture
def word(tmp_path: Path) -> Path:
    """The folder of a wake word."""
    folder = tmp_path / "hey_atlas"
    (folder / "recordings").mkdir(parents=True)
    (folder / "wakeword.yaml").write_text("phrase: hey atlas\nname: hey_atlas\npronunciations: [hˈA ˈætləs]\n")
    return folder


def test_record_saves_trimmed_takes_where_make_finds_them(run: Run, word: Path) -> None:
    done = run(said(3), "record", word, "--speaker", "anna", "--count", 3, "--json")
    assert done.returncode == 0, done.stderr
    takes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["file"] for one in takes] == [str(word / "recordings" / "anna" / f"00{n}.wav") for n in (1, 2, 3)]
    for one in takes:
        samples = read_audio(one["file"])
        assert len(samples) / RATE == pytest.approx(10_000 / RATE + 2 * MARGIN_S, abs=0.05)
        assert one["seconds"] == pytest.approx(len(samples) / RATE, abs=0.006)
    # Without a terminal, a line tells when to speak.
    assert done.stderr.count('say "hey atlas" now') == 3
    assert "edgewake make" in done.stderr
    entries = import_speakers(word / "recordings", "hey atlas", lambda fault: None)
    assert [entry.speaker for entry in entries] == ["recordings/anna"] * 3
    again = run(said(1), "record", word, "--speaker", "anna", "--count", 1)
    assert "004.wav: 1.02 s" in again.stdout.replace("1.04", "1.02")


def test_record_gives_up_on_a_microphone_that_gives_silence(run: Run, word: Path) -> None:
    done = run(np.zeros(400_000, np.int16), "record", word, "--speaker", "anna")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 3 recordings in a row are no use; of the last one, its loud")
    assert not list((word / "recordings").rglob("*.wav"))


def test_record_asks_for_a_speaker_only_in_a_terminal(run: Run, word: Path) -> None:
    done = run(said(1), "record", word)
    assert done.returncode == 2
    assert "give the --speaker" in done.stderr


def test_a_machine_without_a_microphone_is_one_line(run: Run, repository: Path, word: Path) -> None:
    for command in (("listen", "--model", repository / "models" / "computer"), ("record", word, "--speaker", "anna")):
        done = run(None, *command)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: microphone: ")
        assert "connect a microphone" in done.stderr
    assert run(None, "listen", "--devices").stdout == "no input device\n"


def test_microphones_are_listed_and_chosen_by_name(run: Run, sound: Samples, repository: Path) -> None:
    listed = run(sound, "listen", "--devices", name="desk")
    assert listed.stdout == "0: desk\n1: default (default)\n"
    model = ("--model", repository / "models" / "computer", "--seconds", 1)
    assert run(sound, "listen", *model, "--device", "des", name="desk").returncode == 0
    refused = run(sound, "listen", *model, "--device", "gone", name="desk")
    assert refused.returncode == 1
    assert "name another with --device: 0: desk; 1: default (default)" in refused.stderr


def test_a_card_of_48_khz_stereo_alone_is_converted(tmp_path: Path) -> None:
    """ALSA's null device takes any rate; so the library is told here to refuse all but one."""
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(2 * 48_000) / 48_000)).astype(np.int16)
    np.stack([tone, tone], axis=1).tofile(tmp_path / "card.raw")
    (tmp_path / "alsa.conf").write_text(DEVICE.format(name="default", file=tmp_path / "card.raw"))
    code = (
        "import numpy as np, sounddevice as sd\n"
        "from edgewake.data import microphone as m\n"
        "real = sd.InputStream\n"
        "def only_48k(**options):\n"
        "    if (options['samplerate'], options['channels']) != (48000, 2):\n"
        "        raise sd.PortAudioError('Invalid sample rate', -9997)\n"
        "    return real(**options)\n"
        "query = sd.query_devices\n"
        "def stereo(*which):\n"
        "    about = query(*which)\n"
        "    return {**about, 'default_samplerate': 48000.0, 'max_input_channels': 2} if which else about\n"
        "sd.InputStream, sd.query_devices = only_48k, stereo\n"
        "parts, count = [], 0\n"
        "with m.Microphone() as source:\n"
        "    for block in source:\n"
        "        parts.append(block); count += len(block)\n"
        "        if count >= 24000: break\n"
        "np.save('found.npy', np.concatenate(parts))\n"
    )
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "alsa.conf")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npy")
    assert found.dtype == np.int16
    spectrum = np.abs(np.fft.rfft(found[2000:18000]))
    assert np.argmax(spectrum) == 440
    assert np.abs(found[2000:18000].astype(int)).max() == pytest.approx(8000, rel=0.01)
