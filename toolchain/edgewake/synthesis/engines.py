"""Speech engines behind one interface: text, phonemes, voice, speed and seed to float audio, the same each time.

A voice is called `engine:name`, as `kokoro:af_heart`. It belongs to one split, which its name alone decides: what an
engine for tests says can never be in another split than `test`, nor a validation voice in training.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf

from edgewake.assets.catalogue import find_asset
from edgewake.assets.store import asset_path, look_up
from edgewake.console import error_console
from edgewake.errors import ConfigError, EdgewakeError, MissingDependencyError
from edgewake.io import read_json
from edgewake.synthesis.kokoro import Kokoro, session, split_of_kokoro
from edgewake.synthesis.languages import Language, accents, foreign_voices, voices_for_tests
from edgewake.synthesis.speakers import Change, changed
from edgewake.synthesis.speech import Speech, Split
from edgewake.synthesis.words import package

PROGRAM_TIMEOUT_S = 120
# Frames of each symbol, an inner tensor of hibari's graph.
DURATIONS = "/Clip_output_0"
# Of an engine's many speakers, every seventh is for validation.
VALIDATION_EVERY = 7
FLITE = ("awb", "kal", "rms", "slt")
FESTIVAL = ("cmu_us_slt_arctic_hts", "kal_diphone", "ked_diphone")
ESPEAK_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
ESPEAK_VARIANTS = ("", "+m3", "+m7", "+f2", "+f4")
ESPEAK_VALIDATION = ("+m7", "+f4")


class Engine(Protocol):
    """What turns text into speech.

    Attributes:
        name: the first part of the names of its voices.
        phonetic: it is given phonemes; the others read the text by their own rules.
    """

    name: str
    phonetic: bool

    def voices(self) -> tuple[str, ...]:
        """Its voices on this machine, without the engine's name."""
        ...

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        """Speech of `text`, or of `phonemes` in Kokoro's alphabet; `speed` is a factor."""
        ...


class Hibari:
    """One American voice in the package hibari-tts, made from Kokoro's af_heart, at a hundred times real time."""

    name = "hibari"
    phonetic = True

    def __init__(self) -> None:
        self._model = package("hibari").Hibari()
        self._session = session(self._model.model_path, DURATIONS)

    def voices(self) -> tuple[str, ...]:
        """The voice in the package; its others are downloads."""
        return ("heart",)

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        """Speech of `phonemes`, with their times; `seed` is that of the breath noise."""
        _check(self, voice)
        if unknown := sorted(set(phonemes) - set(self._model.vocab)):
            raise ConfigError(f"phonemes {phonemes!r} have {' '.join(unknown)}, which hibari lacks")
        inputs = {"ids": np.array([self._model.ids(phonemes)], np.int64), "speed": np.array([speed], np.float32)}
        *spectrum, frames = self._session.run(None, inputs)
        dsp = package("hibari.dsp")
        audio = dsp.synth(*(part[0] for part in spectrum), np.random.default_rng(seed))
        # A symbol's frame is two of the spectrum's.
        ends = np.cumsum(frames.ravel())
        return Speech(audio, dsp.SR, ends[:-1] * (len(audio) / dsp.SR / ends[-1]))


class Program:
    """A program on PATH that writes a WAV; `arguments` are its command line, with fields of `str.format`."""

    phonetic = False

    def __init__(self, name: str, voices: tuple[str, ...], program: str, *arguments: str) -> None:
        self.name, self._voices, self._arguments = name, voices, arguments
        self._program = shutil.which(program) or ""
        if not self._program:
            raise MissingDependencyError(f"the engine {name} is the program {program}, not found on PATH: install it")

    def voices(self) -> tuple[str, ...]:
        """Voices that its Debian packages bring."""
        return self._voices

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        """Speech of `text`; `phonemes` and `seed` change nothing."""
        _check(self, voice)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "speech.wav"
            values = {"voice": voice, "out": out, "stretch": f"{1 / speed:.3f}", "words": round(160 * speed)}
            run([self._program, *(part.format(**values) for part in self._arguments)], text)
            return _read(out)


class Piper:
    """Piper's voices by the separate program `piper` (GPL), which is run and never imported.

    A voice is the path of an .onnx file, or `joe` for the asset piper-joe; `#3` after it is the fourth of its speakers.
    Its noise is off, so that a clip can be made again. The program stays for the next text of the same voice.
    """

    name = "piper"
    phonetic = False

    def __init__(self) -> None:
        self._program = shutil.which("piper") or ""
        if not self._program:
            raise MissingDependencyError(
                "the engine piper is the program piper, not found on PATH: pipx install piper-tts"
            )
        self._voice = ""
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def voices(self) -> tuple[str, ...]:
        """The asset's voice; any other is a path."""
        return ("joe",) if look_up(find_asset("piper-joe"))[0] in ("ready", "local") else ()

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        """Speech of `text`, whose speed is changed afterwards; `phonemes` and `seed` change nothing."""
        if voice != self._voice or self._process is None or self._process.poll() is not None:
            self._start(voice)
        process = self._process
        assert process
        assert process.stdin
        assert process.stderr
        process.stdin.write(" ".join(text.split()) + "\n")
        process.stdin.flush()
        lines = []
        for line in process.stderr:
            lines.append(line.strip())
            if "Wrote " in line:
                path = Path(line.partition("Wrote ")[2].strip())
                speech = _read(path)
                path.unlink()
                return changed(speech, Change(duration=round(1 / speed, 3)))
        raise EdgewakeError(f"piper cannot say {text!r} as {voice}: {lines[-1] if lines else 'it ended'}")

    def _start(self, voice: str) -> None:
        self.close()
        file, _, speaker = voice.partition("#")
        model = asset_path("piper-joe") / "en_US-joe-medium.onnx" if file == "joe" else Path(file).expanduser()
        if not model.is_file():
            raise ConfigError(f"voice piper:{voice}: {model} does not exist; give the path of an .onnx file")
        command = [self._program, "-m", str(model), "-d", self._folder.name, "-s", speaker or "0"]
        command += ["--noise-scale", "0", "--noise-w-scale", "0"]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, text=True, stdin=pipe, stderr=pipe, stdout=nothing)
        self._voice = voice
        atexit.register(self.close)

    def close(self) -> None:
        """End the program: it does when it has no more input."""
        if self._process:
            self._process.communicate()
            self._process = None


def speakers_of(voice: str) -> tuple[str, ...]:
    """The voices of a Piper file by speaker; any other voice is its only one."""
    engine, _, name = voice.partition(":")
    if engine != "piper" or "#" in name or name == "joe":
        return (voice,)
    count = int(read_json(Path(f"{name}.json").expanduser(), "Piper voice").get("num_speakers", 1))
    return tuple(f"{voice}#{number}" for number in range(count)) if count > 1 else (voice,)


_MAKERS: dict[str, Callable[[], Engine]] = {
    "kokoro": Kokoro,
    "hibari": Hibari,
    "piper": Piper,
    "espeak-ng": lambda: Program(
        "espeak-ng",
        tuple(accent + variant for accent in ESPEAK_ACCENTS for variant in ESPEAK_VARIANTS) + foreign_voices(),
        *("espeak-ng", "-v", "{voice}", "-s", "{words}", "-w", "{out}", "--stdin"),
    ),
    "flite": lambda: Program(
        *("flite", FLITE, "flite", "-voice", "{voice}", "--setf", "duration_stretch={stretch}", "-o", "{out}", "-")
    ),
    "festival": lambda: Program(
        *("festival", FESTIVAL, "text2wave", "-eval", "(voice_{voice})"),
        *("-eval", "(Parameter.set 'Duration_Stretch {stretch})", "-o", "{out}", "-"),
    ),
}
ENGINES = tuple(_MAKERS)
TEST_ONLY = tuple(voices_for_tests("en"))


@lru_cache(maxsize=len(ENGINES))
def engine(name: str) -> Engine:
    """An engine by name, loaded once in a process.

    Raises:
        ConfigError: there is no such engine.
        EdgewakeError: its asset, package or program is missing; the message says how to get it.
    """
    if name not in _MAKERS:
        raise ConfigError(f"there is no speech engine {name!r}: there are {', '.join(ENGINES)}")
    return _MAKERS[name]()


def usable(names: Sequence[str]) -> str:
    """The first of the engines that can be used here, with one line where it is not the best.

    Raises:
        EdgewakeError: none can; the message says how to get the first.
    """
    reasons = []
    for name in names:
        try:
            voices = engine(name).voices()
        except EdgewakeError as error:
            reasons.append(str(error))
            continue
        if voices:
            if reasons:
                error_console.print(f"{reasons[0]}; {name} is used instead", soft_wrap=True, markup=False)
            return name
    raise EdgewakeError(f"{reasons[0]}; or install espeak-ng")


def speak(text: str, phonemes: str, voice: str, speed: float = 1.0, seed: int = 0) -> Speech:
    """Speech of a voice called `engine:name`."""
    if not any(map(str.isalnum, text + phonemes)):
        raise ConfigError(f"text {text!r} has nothing to say: give words")
    name, _, rest = voice.partition(":")
    return engine(name).speak(text, phonemes, rest, speed, seed)


def split_of(voice: str) -> Split:
    """The only split in which a voice may be, from its name."""
    name, _, rest = voice.partition(":")
    if name not in ENGINES:
        raise ConfigError(f"voice {voice!r} is not of the form engine:name with {', '.join(ENGINES)}")
    if name in TEST_ONLY:
        return "test"
    if name == "kokoro":
        return split_of_kokoro(rest)
    if name == "espeak-ng" and rest in foreign_voices():
        return "test"
    if name == "espeak-ng":
        return "val" if rest.endswith(ESPEAK_VALIDATION) else "train"
    speaker = rest.partition("#")[2]
    return "val" if speaker.isdigit() and int(speaker) % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "train"


def accent_of(voice: str, language: Language = "en") -> str:
    """The accent whose pronunciations a voice is given: "us" or "gb", or the usual one of another language."""
    if language != "en":
        return accents(language)[0]
    name, _, rest = voice.partition(":")
    return Kokoro.accent(rest) if name == "kokoro" else "us"


def run(command: list[str], text: str) -> None:
    """Run a program with `text` as its input; an EdgewakeError with its last line where it fails."""
    try:
        done = subprocess.run(
            command, input=text + "\n", capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EdgewakeError(f"{command[0]} took over {PROGRAM_TIMEOUT_S} s for {text!r}: shorten the text") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise EdgewakeError(f"{Path(command[0]).name} cannot say {text!r}: {lines[-1]}")


def _read(path: Path) -> Speech:
    try:
        audio, rate = sf.read(path, dtype="float32")
    except sf.LibsndfileError as error:
        raise EdgewakeError(f"the speech program wrote no audio ({error}): try another text") from error
    return Speech(audio, rate)


def _check(engine: Engine, voice: str) -> None:
    if voice not in engine.voices():
        raise ConfigError(f"{engine.name} has no voice {voice!r}: it has {', '.join(engine.voices())}")
