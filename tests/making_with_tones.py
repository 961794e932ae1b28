"""Speech engines that give tones, quickly and the same each time; as a program, the command line with them."""

from __future__ import annotations

import signal
import zlib
from pathlib import Path

import numpy as np
import soundfile as sf

from edgewake.cli import main
from edgewake.synthesis import engines
from edgewake.synthesis.speech import Speech

PHRASE, RATE = "hey atlas", 16_000
VOICES = {"espeak-ng": ("en-us+a1", "en-us+a2", "en-gb+m7", "en-gb+f4"), "flite": ("kal", "slt")}
YAML = """\
phrase: hey atlas
name: hey_atlas
pronunciations: [hˈA ˈætləs]
near_phrases: [hey alice]
voices: {espeak-ng: 1.0}
"""


def tone(text: str, voice: str, seconds: float) -> np.ndarray:
    """A tone that rises where the text is the phrase and falls elsewhere, in the voice's pitch."""
    time = np.arange(round(RATE * seconds)) / RATE
    rise = 400 if text.rstrip(".,!?").lower() == PHRASE else -200
    pitch = 500 + 40 * (zlib.crc32(voice.encode()) % 5)
    return 0.5 * np.sin(2 * np.pi * (pitch + rise * time) * time)


class Tones:
    """An engine of that name."""

    phonetic = False

    def __init__(self, name: str) -> None:
        self.name = name

    def voices(self) -> tuple[str, ...]:
        return VOICES[self.name]

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        silence = np.zeros(RATE // 4)
        audio = np.concatenate([silence, tone(text, voice, 0.04 * len(text) / speed), silence])
        return Speech(audio.astype(np.float32), RATE)


def missing() -> None:
    """Stands for an engine that is not installed."""
    raise engines.MissingDependencyError("it is not installed here")


MAKERS = {name: (lambda name=name: Tones(name)) if name in VOICES else missing for name in engines.ENGINES}


def write_folder(folder: Path) -> Path:
    """The folder of a wake word."""
    (folder / "recordings").mkdir(parents=True)
    (folder / "wakeword.yaml").write_text(YAML, encoding="utf-8")
    return folder


def write_recordings(folder: Path, speakers: tuple[str, ...]) -> None:
    """Two recordings of the phrase by each speaker."""
    for speaker in speakers:
        (folder / speaker).mkdir(parents=True)
        for number in range(2):
            sf.write(folder / speaker / f"{number}.wav", tone(PHRASE, f"{speaker}{number}", 0.8), RATE)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    engines._MAKERS.update(MAKERS)
    main(prog_name="edgewake")
