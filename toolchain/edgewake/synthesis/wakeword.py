"""The folder of a wake word: `wakeword.yaml`, which says what to make, and `recordings/` for recordings of people."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edgewake.config.base import Section
from edgewake.config.defaults import Several
from edgewake.config.yaml_text import dump, load_mapping
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import temporary_beside, write_json, write_text
from edgewake.synthesis.assessment import Assessment, assess
from edgewake.synthesis.languages import ENGLISH_VOICES, Language, usual_voices
from edgewake.synthesis.near import NearPhrase, near_phrases
from edgewake.synthesis.phonemes import check_phonemes
from edgewake.synthesis.phrases import check_phrase

FILE, ASSESSMENT, RECORDINGS = "wakeword.yaml", "assessment.json", "recordings"
NEAR_PHRASES = 100
# Engines whose voices are trained on; flite and festival are kept for the test.
ENGINES = ("kokoro", "hibari", "piper", "espeak-ng")
_OTHERS = ("target_fa", "target", "recordings", "corpora", "text_alone")
_WITH_PHONEMES = re.compile(r"(.+?)\s+/(.+)/")


def _checked(check: Any) -> Any:
    """A validator of pydantic's from a function that raises EdgewakeError."""

    def validate(value: str) -> str:
        try:
            return str(check(value))
        except EdgewakeError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validate)


def _near(value: str) -> str:
    text, phonemes = spoken(value)
    check_phrase(text)
    return f"{text} /{check_phonemes(phonemes)}/" if phonemes else text


def _voices(value: dict[str, float]) -> dict[str, float]:
    for voice in value:
        if voice.partition(":")[0] not in ENGINES:
            raise ValueError(f"{voice!r} is no engine, nor engine:voice; engines to train on are {', '.join(ENGINES)}")
    if not sum(value.values()) > 0:
        raise ValueError("no voice has a weight above 0: give one")
    return value


class Wakeword(Section):
    """What `edgewake make` needs to know of a wake word; the values of `wakeword.yaml`, validated."""

    phrase: Annotated[str, _checked(check_phrase)] = Field(description="the wake phrase")
    language: Language = Field("en", description="of the phrase and of what sounds like it")
    name: str = Field(pattern="^[a-z][a-z0-9_]*$", max_length=80, description="of the model")
    pronunciations: Several[Annotated[str, _checked(check_phonemes)]] = Field(
        min_length=1, description="how it is said, in Kokoro's phonemes, the most usual first"
    )
    near_phrases: Several[Annotated[str, _checked(_near)]] = Field(
        (), description="what must not wake: a text, or a text and /its phonemes/"
    )
    voices: Annotated[dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(dict), AfterValidator(_voices)] = Field(
        ENGLISH_VOICES, description="voices to train on, by weight"
    )
    target_fa: float = Field(0.1, gt=0, le=1000, description="false accepts an hour that are aimed at")
    target: Literal["esp32s3-nopsram"] = Field("esp32s3-nopsram", description="the chip")
    seed: int = Field(0, ge=0, lt=2**32, description="of all that is drawn")
    recordings: str = Field(RECORDINGS, min_length=1, description="folder of recordings, one folder a speaker")
    corpora: Several[Annotated[str, Field(min_length=1)]] = Field(
        (), description="manifest.csv of other recordings: of the phrase, other speech, noise, music, rooms"
    )
    text_alone: bool = Field(False, description="recordings of the phrase are for tests alone")

    @classmethod
    def section_name(cls) -> str:
        """Empty: its keys are the file's."""
        return ""

    @model_validator(mode="after")
    def _consistent(self) -> Wakeword:
        if self.phrase in (spoken(one)[0] for one in self.near_phrases):
            raise ValueError(f"near_phrases hold the phrase {self.phrase!r} itself: remove it there")
        return self


def spoken(near_phrase: str) -> tuple[str, str]:
    """Text and phonemes of an entry of `near_phrases`; no phonemes where it gives none."""
    found = _WITH_PHONEMES.fullmatch(near_phrase.strip())
    return (found[1], found[2]) if found else (near_phrase.strip(), "")


def read_wakeword(folder: Path) -> Wakeword:
    """The validated and frozen `wakeword.yaml` of a folder.

    Raises:
        ConfigError: there is no such file, or a key or a value of it is wrong; one line that names it.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: edgewake new PHRASE makes such a folder")
    values = load_mapping(path)
    try:
        return Wakeword(**values).freeze()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def name_of(phrase: str) -> str:
    """The phrase as a name of files and models, such as hey_atlas."""
    plain = unicodedata.normalize("NFKD", phrase.lower()).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain.replace("'", "")).strip("_")
    return name or "wakeword"


def check_unused(folder: Path) -> None:
    """Refuse a folder that exists: what somebody edited or recorded is never overwritten."""
    if folder.exists():
        raise EdgewakeError(f"{folder} exists: remove it, or choose another folder with --out")


def begin_wakeword(
    folder: Path,
    phrase: str,
    pronunciations: Sequence[str] = (),
    near: int = NEAR_PHRASES,
    seed: int = 0,
    language: Language = "en",
) -> Assessment:
    """Make the folder of a wake word from its phrase alone; returns what is thought of the phrase.

    Args:
        pronunciations: of the phrase, by default those of `pronounce`.
        near: phrases that sound like it, at most.
        seed: of the near phrases and of training.

    Raises:
        EdgewakeError: the folder exists, or cannot be written; or the phrase cannot be read.
    """
    check_unused(folder)
    assessment = assess(phrase, pronunciations, language)
    said = [one.phonemes for one in assessment.pronunciations]
    found = near_phrases(phrase, near, seed, said, language) if near else []
    create_wakeword(folder, assessment, found, seed, language)
    return assessment


def create_wakeword(
    folder: Path, assessment: Assessment, near: Sequence[NearPhrase], seed: int, language: Language = "en"
) -> Wakeword:
    """Make the folder of a wake word, whole or not at all.

    Raises:
        EdgewakeError: the folder exists, or cannot be written.
    """
    check_unused(folder)
    work = temporary_beside(folder)
    try:
        (work / RECORDINGS).mkdir(parents=True)
        write_text(work / FILE, _yaml(assessment, near, seed, language))
        write_text(work / RECORDINGS / "README.md", _README.format(phrase=assessment.phrase))
        write_json(work / ASSESSMENT, json_of(assessment))
        word = read_wakeword(work)
        work.rename(folder)
    except OSError as error:
        raise EdgewakeError(f"cannot make {folder}: {error.strerror}; choose another folder with --out") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return word


def json_of(assessment: Assessment) -> dict[str, Any]:
    """The assessment as JSON values, with rounded figures."""
    value = asdict(assessment) | {
        key: [one._asdict() for one in getattr(assessment, key)] for key in ("near", "inside")
    }
    rounded: dict[str, Any] = json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))
    return rounded


_README = """Recordings of people who say "{phrase}": recordings/<speaker>/*.wav, one folder for each speaker.

Any rate, and any format that libsndfile reads; the phrase once in a file, with little before and after it. All of a
speaker is in one split, so that a model is judged on people it was not trained on. Without recordings, training uses
synthetic speech alone.
"""
_TEXT = """\
# The wake word "{phrase}" for edgewake make; assessed as {verdict}, see {assessment}.
{names}
# How it is said, in Kokoro's phonemes (docs/phrases.md), the most usual first: half of the clips have that one.
# Remove what nobody says, add what people near you say. Listen to one: edgewake say "{phrase}" --phonemes "..."
{counts}
{pronunciations}
# What sounds like it and must not wake: spoken by the same voices, as negatives. Remove what may wake; add what is
# often said near your device. Phonemes between slashes tell how a text is said where its spelling does not.
{near}
# Voices to train on, by weight: an engine for all its voices, kokoro:blend and kokoro:sample for made-up speakers, or
# one voice (kokoro:af_heart, piper:FILE). flite and festival (in other languages than English espeak-ng) are the test.
{voices}
# False accepts an hour that are aimed at; the chip; the seed of all that is drawn; where recordings of people are, one
# folder a speaker; the manifest.csv of other recordings (docs/corpus.md), beside those of $EDGEWAKE_CORPORA; whether
# recordings of the phrase are kept for tests, to see how good a model from its text alone is.
{others}"""


def _yaml(assessment: Assessment, near: Sequence[NearPhrase], seed: int, language: Language) -> str:
    usual = Wakeword.model_fields
    ways = assessment.pronunciations
    return _TEXT.format(
        phrase=assessment.phrase,
        verdict=assessment.verdict,
        assessment=ASSESSMENT,
        names=dump({"phrase": assessment.phrase, "name": name_of(assessment.phrase), "language": language}),
        counts="\n".join(f"# {one.phonemes}: {one.syllables} syllables, {one.phoneme_count} phonemes" for one in ways),
        pronunciations=_listed("pronunciations", [one.phonemes for one in ways]),
        near=_listed(
            "near_phrases", [f"{one.text} /{one.phonemes}/" if one.kind == "part" else one.text for one in near]
        ),
        voices=dump({"voices": usual_voices(language)}),
        others=dump({key: usual[key].default for key in _OTHERS} | {"seed": seed}),
    )


def _listed(key: str, values: Sequence[str]) -> str:
    """A list with one entry a line, which is easier to edit than YAML's brackets."""
    if not values:
        return f"{key}: []\n"
    return "\n".join([f"{key}:", *("  - " + dump({"": one}).partition(": ")[2].strip() for one in values)]) + "\n"
