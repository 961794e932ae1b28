"""The usual plans: a phrase by many speakers, what sounds like it by the same ones, and sentences by fast ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from edgewake.assets.catalogue import find_asset
from edgewake.assets.store import look_up
from edgewake.console import error_console
from edgewake.errors import EdgewakeError
from edgewake.synthesis.engines import engine, split_of
from edgewake.synthesis.languages import Language, accents, usual_voices
from edgewake.synthesis.near import near_phrases
from edgewake.synthesis.phonemes import check_phonemes
from edgewake.synthesis.phrases import check_phrase, pronounce
from edgewake.synthesis.plan import Line, Plan
from edgewake.synthesis.recogniser import MODELS, Model
from edgewake.synthesis.sentences import sentences as make_sentences
from edgewake.synthesis.speech import Split
from edgewake.synthesis.wakeword import Wakeword, spoken

# Of sentences: hibari takes a fiftieth of Kokoro's time, and each of its clips has another speaker.
FAST_VOICES = {"hibari": 0.9, "kokoro:blend": 0.05, "kokoro:sample": 0.05}
# Without Kokoro, of what is installed.
OTHER_VOICES = {"hibari": 0.5, "piper": 0.2, "espeak-ng": 0.3}


class Counts(NamedTuple):
    """Counts of clips: of the phrase; of phrases that sound like it, of which there are `near_texts`; of sentences."""

    positives: int
    near: int
    near_texts: int
    sentences: int


def make_plan(
    phrase: str,
    counts: Counts,
    *,
    phonemes: Sequence[str] = (),
    near_texts: Sequence[str] = (),
    voices: Mapping[str, float] | Sequence[str] = (),
    seed: int = 0,
    language: Language = "en",
) -> Plan:
    """The usual plan of a phrase.

    Args:
        phonemes: pronunciations of the phrase, by default those of each voice's accent.
        language: of the phrase, and of all other texts.
        near_texts: phrases that come first among those that sound like it, as `wakeword.yaml` has them.
        voices: sources of voices, with weights or with equal ones, by default the best that are here. With engines for
            tests alone, all clips are for tests.
    """
    phrase = check_phrase(phrase)
    phonemes = tuple(map(check_phonemes, phonemes))
    given = voices if isinstance(voices, Mapping) else dict.fromkeys(voices, 1.0)
    weights = dict(given) or usable_voices(language)
    lines = [Line(text=phrase, kind="positive", count=counts.positives, phonemes=phonemes)]
    count = counts.near
    said = {text: phonemes for text, phonemes in map(spoken, near_texts) if text != phrase}
    for each in near_phrases(phrase, min(count, counts.near_texts), seed, phonemes, language):
        said.setdefault(each.text, each.phonemes)
    texts = list(said.items())[: min(count, max(counts.near_texts, len(near_texts)))]
    for number, (text, ways) in enumerate(texts):
        share = len(range(number, count, len(texts)))
        lines.append(Line(text=text, kind="negative", count=share, phonemes=(ways,) if ways else (), family="near"))
    fast = FAST_VOICES if "kokoro" in weights and not given and language == "en" else {}
    for text in make_sentences(counts.sentences, seed, phrase, phonemes, language):
        if text not in said:
            lines.append(Line(text=text, kind="negative", family="speech", styled=False, voices=fast))
    only_tests = all(split_of(voice) == "test" for voice in weights)
    splits: dict[Split, float] = {"test": 1.0} if only_tests else {"train": 0.85, "val": 0.15}
    return Plan(
        phrase=phrase,
        lines=tuple(lines),
        seed=seed,
        voices=weights,
        splits=splits,
        recogniser=usable_recogniser() if language == "en" else None,
        language=language,
    )


def wakeword_plan(
    word: Wakeword, counts: Counts, voices: Mapping[str, float] | None = None, *, seed: int | None = None
) -> Plan:
    """The usual plan of a folder's `wakeword.yaml`, with its pronunciations, near phrases, voices and seed."""
    # Those that were not edited are given by each voice in its accent.
    usual = list(word.pronunciations) == pronounce(word.phrase, accents(word.language)[0])
    return make_plan(
        word.phrase,
        counts,
        phonemes=() if usual else tuple(word.pronunciations),
        near_texts=tuple(word.near_phrases),
        voices=voices or ({} if word.voices == usual_voices(word.language) else word.voices),
        seed=word.seed if seed is None else seed,
        language=word.language,
    )


@lru_cache(maxsize=2)
def usable_voices(language: Language = "en") -> dict[str, float]:
    """The usual sources of voices, or where Kokoro is missing what is installed, with one line that says how to get it.

    Raises:
        EdgewakeError: no engine can be used.
    """
    missing: list[str] = []
    for wanted in (usual_voices(language), OTHER_VOICES if language == "en" else {}):
        found, lacking = found_voices(wanted)
        missing += lacking
        if "kokoro" in found:
            return found
    if not found:
        raise EdgewakeError(missing[0] + ("; or install espeak-ng" if language == "en" else ""))
    error_console.print(f"{missing[0]}; used instead: {', '.join(found)}", soft_wrap=True, markup=False)
    return found


def found_voices(wanted: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """The sources of voices whose engines are here, and why others are not."""
    found, missing = {}, []
    for voice, share in wanted.items():
        try:
            if engine(voice.partition(":")[0]).voices():
                found[voice] = share
        except EdgewakeError as error:
            missing.append(str(error))
    return found, missing


@lru_cache(maxsize=1)
def usable_recogniser() -> Model | None:
    """The recogniser whose asset is here; None with a line that says how to get one."""
    for model in MODELS:
        if look_up(find_asset(model))[0] in ("ready", "local"):
            return model
    get = f"edgewake assets get {MODELS[0]}"
    error_console.print(f"clips are not checked by a recogniser: {get} fetches one", soft_wrap=True)
    return None
