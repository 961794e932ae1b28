"""Samples of a text in some voices, as WAV files to listen to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile as sf

from edgewake.io import atomic_path
from edgewake.synthesis.engines import ENGINES, accent_of, engine, speak, usable
from edgewake.synthesis.languages import Language, native_voices
from edgewake.synthesis.phonemes import check_phonemes
from edgewake.synthesis.phrases import pronounce


def say(
    text: str,
    out: Path,
    *,
    voices: Sequence[str] = (),
    engine_name: str | None = None,
    phonemes: Sequence[str] = (),
    speed: float = 1.0,
    count: int = 1,
    seed: int = 0,
    language: Language = "en",
) -> Iterator[tuple[Path, str]]:
    """Write samples, and yield each file with the phonemes that it was made from.

    Args:
        voices: `engine:name`, or a name of one of `engine_name`'s voices; each says each pronunciation.
        engine_name: without `voices`, its first `count` ones speak, and speakers sampled by Kokoro after these; by
            default the first engine that can be used.
        phonemes: pronunciations in Kokoro's alphabet, by default the most usual one in a voice's accent.
        language: of the text; native voices come first.
    """
    name = engine_name or usable(ENGINES)
    native = native_voices(language) if name == "kokoro" else ()
    chosen = [voice if voice.partition(":")[0] in ENGINES else f"{name}:{voice}" for voice in voices]
    for voice in chosen or [*native, *_first(name, count)][:count]:
        said: Sequence[str] = [""]
        if engine(voice.partition(":")[0]).phonetic:
            said = list(map(check_phonemes, phonemes)) or pronounce(text, accent_of(voice, language))[:1]
        for number, one in enumerate(said):
            speech = speak(text, one, voice, speed, seed)
            about = f"{text} {voice}" + (f" {number + 1}" if number else "")
            path = out / (re.sub(r"[^\w-]+", "_", about).strip("_")[-150:] + ".wav")
            with atomic_path(path) as temporary:
                sf.write(temporary, speech.audio, speech.rate)
            yield path, one


def _first(name: str, count: int) -> Iterator[str]:
    names: Iterator[str] = iter(engine(name).voices())
    if name == "kokoro":
        names = itertools.chain(names, (f"sample-{number}" for number in itertools.count()))
    return (f"{name}:{voice}" for voice in itertools.islice(names, count))
