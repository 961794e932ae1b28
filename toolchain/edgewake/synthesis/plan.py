"""A plan of clips: texts with counts, voices, styles, shares; clip i of a text is the same in any plan with more."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgewake.errors import ConfigError
from edgewake.io import read_json
from edgewake.synthesis import styles
from edgewake.synthesis.engines import ENGINES, accent_of, engine, speakers_of, split_of
from edgewake.synthesis.languages import ENGLISH_VOICES, Language, voices_for_tests
from edgewake.synthesis.learners import learners_way
from edgewake.synthesis.near import SAME, nearest_part
from edgewake.synthesis.phrases import phonemes_of, pronounce
from edgewake.synthesis.recogniser import Model
from edgewake.synthesis.render import Clip
from edgewake.synthesis.speakers import Change, draw_change
from edgewake.synthesis.speech import Split
from edgewake.synthesis.styles import Style

Kind = Literal["positive", "negative"]
Share = Annotated[float, Field(ge=0)]
# Blends and samples are cheap to name; so many of each keep any one of them rare.
SPEAKERS = {"train": 2000, "val": 200}
MARKS = ".,!?"


class Line(BaseModel):
    """A text, and how many clips of it.

    Attributes:
        phonemes: its pronunciations, of which each clip has one, the first in half of the clips; by default those of
            `pronounce` for the voice's accent.
        family: what the clips are, as false accepts are reported: `synth` and the engine's name make the family.
        styled: it may be called, whispered or within a sentence; what is a sentence itself is said as it is.
        voices: instead of the plan's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(min_length=1)]
    kind: Kind
    count: Annotated[int, Field(ge=0)] = 1
    phonemes: tuple[str, ...] = ()
    family: Annotated[str, Field(pattern="[a-z_]+")] = "synth"
    styled: bool = True
    voices: dict[str, Share] = {}

    def __hash__(self) -> int:
        return hash((self.text, self.kind, self.family))


class Plan(BaseModel):
    """What to synthesise.

    Attributes:
        phrase: the wake phrase, which lines of kind `positive` have as their text or as another spelling of it.
        voices: sources of voices, by weight: an engine for all its voices, `kokoro:blend`, `kokoro:sample`, or one
            voice; of a Piper file, all its speakers.
        splits: shares of the clips; each split has voices of its own (`split_of`).
        styles: by weight.
        changed: share of the clips whose speaker is changed.
        children: share of children among changed speakers.
        learners: share of the clips whose speaker has learned English (`learners_way`).
        around_s: the longest stretch of other speech kept before and after a phrase in a sentence.
        recogniser: what leaves out clips that do not hold the phrase; None keeps them all.
        language: of all texts. In others than English there are no sentences around a phrase and no learners.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    phrase: Annotated[str, Field(min_length=1)]
    lines: tuple[Line, ...]
    seed: Annotated[int, Field(ge=0)] = 0
    voices: dict[str, Share] = ENGLISH_VOICES
    splits: dict[Split, Share] = {"train": 0.85, "val": 0.15}
    styles: dict[Style, Share] = styles.STYLES
    changed: Annotated[float, Field(ge=0, le=1)] = 0.5
    children: Annotated[float, Field(ge=0, le=1)] = 0.25
    learners: Annotated[float, Field(ge=0, le=1)] = 0.3
    around_s: Annotated[float, Field(ge=0, le=10)] = 1.5
    recogniser: Model | None = "whisper-tiny.en"
    language: Language = "en"

    @model_validator(mode="after")
    def _has_shares(self) -> Plan:
        for name in ("voices", "splits", "styles"):
            if not sum(getattr(self, name).values()):
                raise ValueError(f"{name} has no share above 0: give one")
        if self.recogniser and self.language != "en":
            raise ValueError(f"recogniser {self.recogniser} takes English alone, language is {self.language}: use null")
        texts = [(line.kind, line.text) for line in self.lines]
        if twice := [text for text, count in Counter(texts).items() if count > 1]:
            raise ValueError(f"lines have {twice[0][1]!r} twice: give it once, with the sum of the counts")
        return self

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan from JSON; a ConfigError that names the key."""
        raw = read_json(path, "plan")
        try:
            return cls.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True)
class Planned:
    """A clip with what its row of the manifest says of it."""

    line: Line
    split: Split
    style: Style
    clip: Clip


def planned(plan: Plan, line: Line, index: int) -> Planned:
    """Clip `index` of a line, drawn from the plan's seed, the text and the index alone.

    Raises:
        ConfigError: a split has a share and no voice.
    """
    rng = _generator(plan.seed, line.kind, line.text, index)
    split: Split = _weighted(plan.splits, rng)
    weights = line.voices or plan.voices
    sources = {source: names for source in weights if (names := _voices(source, split))}
    if not sources:
        hint = " or ".join(voices_for_tests(plan.language)) if split == "test" else "kokoro"
        raise ConfigError(f"splits.{split}: none of the voices {', '.join(weights)} is for {split}: add {hint}")
    voices = sources[_weighted({source: weights[source] for source in sources}, rng)]
    voice = voices[int(rng.integers(len(voices)))]
    phonetic, accent = engine(voice.partition(":")[0]).phonetic, accent_of(voice, plan.language)
    english = plan.language == "en"
    style: Style = _weighted(plan.styles, rng)
    if not line.styled or (style in styles.IN_SENTENCE and not (english and _timed(voice))):
        style = "alone"
    # An engine's only voice would be recognised as such.
    other = rng.random() < (plan.changed if len(voices) > 1 else 1)
    change = draw_change(rng, child_share=plan.children) if other else Change()
    before, after = styles.around(style, rng)
    spoken = (line.phonemes or _pronounced(line, accent)) if phonetic else ("",)
    pick = 0 if rng.random() < 0.5 else int(rng.integers(len(spoken)))
    text, phonemes, place = _joined(before, line.text, after, spoken[pick], accent, rng)
    if line.kind == "negative" and (before or after) and _holds(phonemes, plan):
        style = "alone"
        text, phonemes, place = _joined("", line.text, "", spoken[pick], accent, rng)
    learner = _generator(plan.seed, line.kind, line.text, index, "learner")
    if phonetic and english and learner.random() < plan.learners:
        other_way, other_place = _by_learner(text, phonemes, place, learner)
        if line.kind == "positive" or not _holds(other_way, plan):
            phonemes, place = other_way, other_place
    clip = Clip(
        text=text,
        phonemes=phonemes if phonetic else "",
        phrase=place if phonetic else (0, 0),
        voice=voice,
        speed=styles.speed(style, rng),
        change=styles.styled(style, change, rng),
        around=tuple(np.round(rng.uniform(0, plan.around_s, 2), 2).tolist()),
        level=round(float(rng.uniform(-24, -1)), 1),
        seed=int(rng.integers(2**31)),
    )
    return Planned(line, split, style, clip)


def _joined(
    before: str, text: str, after: str, spoken: str, accent: str, rng: np.random.Generator
) -> tuple[str, str, tuple[int, int]]:
    """Text and phonemes of a sentence, and where the phrase's are in these; the marks change the intonation."""
    if text[-1] in MARKS:
        mark = text[-1]
        text, spoken = text.rstrip(MARKS), spoken.rstrip(MARKS)
    elif after:
        mark = str(rng.choice(["", ","]))
    else:
        mark = str(rng.choice(["", ".", "!", "?", ","], p=[0.3, 0.3, 0.15, 0.1, 0.15]))
    lead = f"{_marked(before, accent)} " if before else ""
    follow = f" {_marked(after, accent)}" if after else ""
    place = (len(lead), len(lead) + len(spoken))
    return " ".join(filter(None, (before, text + mark, after))), lead + spoken + mark + follow, place


def _by_learner(
    text: str, phonemes: str, place: tuple[int, int], rng: np.random.Generator
) -> tuple[str, tuple[int, int]]:
    """Phonemes by a learner, and where the phrase's are in these."""
    said = learners_way(text, phonemes, rng)
    before, phrase = phonemes[: place[0]].count(" "), phonemes[slice(*place)].count(" ") + 1
    words = said.split(" ")
    start = sum(len(word) + 1 for word in words[:before])
    rest = phonemes[place[1] :].partition(" ")[0]
    return said, (start, start + len(" ".join(words[before : before + phrase])) - len(rest))


def _pronounced(line: Line, accent: str) -> tuple[str, ...]:
    return tuple(pronounce(line.text, accent)) if line.styled else (_marked(line.text, accent),)


@lru_cache(maxsize=4096)
def _marked(text: str, accent: str) -> str:
    """Phonemes of a text; its marks make intonation and pauses."""
    parts = re.findall(r"([^.,!?;:]+)([.,!?;:]*)", text)
    return " ".join(phonemes_of(words.strip(), accent) + mark[:1] for words, mark in parts if words.strip())


def _holds(phonemes: str, plan: Plan) -> bool:
    """Whether a sentence has the phrase in it, as "good morning" may follow a near phrase."""
    return bool(nearest_part([phonemes], _said(plan.phrase))[0] < SAME)


@lru_cache(maxsize=16)
def _said(phrase: str) -> tuple[str, ...]:
    return tuple(pronounce(phrase))


def _timed(voice: str) -> bool:
    return voice.startswith("kokoro:")


@lru_cache(maxsize=64)
def _voices(source: str, split: Split) -> tuple[str, ...]:
    """The voices of a source that belong to a split."""
    name, _, rest = source.partition(":")
    if name not in ENGINES:
        raise ConfigError(f"voices: {source!r} is no engine, nor engine:voice; engines are {', '.join(ENGINES)}")
    if source in ("kokoro:blend", "kokoro:sample"):
        prefix = "val-" if split == "val" else ""
        return tuple(f"kokoro:{prefix}{rest}-{number}" for number in range(SPEAKERS.get(split, 0)))
    every = speakers_of(source) if rest else [f"{name}:{voice}" for voice in engine(name).voices()]
    return tuple(voice for voice in every if split_of(voice) == split)


def _generator(*about: Any) -> np.random.Generator:
    digest = hashlib.sha256(json.dumps(about).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _weighted(weights: Any, rng: np.random.Generator) -> Any:
    names = sorted(weights)
    bounds = list(itertools.accumulate(weights[name] for name in names))
    return names[min(int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right")), len(names) - 1)]
