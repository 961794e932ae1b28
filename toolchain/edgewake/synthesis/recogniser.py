"""Whether a clip holds a phrase, by Whisper: the phrase's probability is compared with that of everything it might be.

A free transcription would not do, since rare phrases are misspelt: "athena" becomes "Asina". Whisper is told the phrase
as what was said before, and gives probabilities of texts for a clip: of the phrase, of near phrases, and of its own
transcriptions. It runs on CTranslate2, which takes features of any length: 3 s cost a fortieth of Whisper's 30 s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from edgewake.assets.store import asset_path
from edgewake.synthesis.near import nearest_pairs, nearest_words
from edgewake.synthesis.phonemes import distance
from edgewake.synthesis.phrases import phonemes_of, pronounce
from edgewake.synthesis.speech import SAMPLE_RATE, Audio
from edgewake.synthesis.words import package

# whisper-base takes twice as long, and takes noise for speech more often.
Model = Literal["whisper-tiny.en"]
MODELS: tuple[Model, ...] = ("whisper-tiny.en",)
MELS, WINDOW, HOP = 80, 400, 160
LEAD_S, LEVEL, SHORTEST_S, LONGEST_S = 0.1, 0.3, 2.0, 28.0
BEAM, TOKENS = 5, 24
# Natural logarithms: how much less probable the phrase may be than a near one, what Whisper writes, its own beginning.
MARGINS = (-0.3, -2.1, -4.7)
# Less probable than this, a phrase is not said; and above that probability there is no speech at all.
FLOOR, NO_SPEECH = -8.0, 0.72
# Near phrases that are compared: words, words that nearly hold the phrase, pairs; nearer ones are taken for the phrase.
NEAR_WORDS, NEAR_INSIDE, NEAR_PAIRS, NEAREST = 6, 3, 3, 0.7


def log_mel(audio: Audio) -> Audio:
    """Whisper's input: log10 of a mel power spectrum, at most 8 below the clip's loudest point.

    Audio of full scale 1.0 at 16 kHz, (clips, samples) -> (clips, 80, samples // 160); silence follows a clip.
    """
    half = WINDOW // 2
    padded = np.pad(np.pad(audio, ((0, 0), (half, 0)), mode="reflect"), ((0, 0), (0, half)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP][:, : audio.shape[1] // HOP]
    # The window is periodic, as torch.hann_window.
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1], axis=2)))
    logs = np.log10(np.maximum(_filters() @ power.transpose(0, 2, 1), 1e-10))
    floor = logs.max(axis=(1, 2), keepdims=True) - 8
    return np.ascontiguousarray((np.maximum(logs, floor) + 4) / 4, np.float32)


@lru_cache(maxsize=1)
def _filters() -> npt.NDArray[np.float64]:
    """(80, 201) triangles of equal area on Slaney's mel scale: linear to 1 kHz, 27 mels a factor of 6.4 from there."""

    def hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))

    top = 15 + 27 * np.log(SAMPLE_RATE / 2 / 1000) / np.log(6.4)
    edges = hertz(np.linspace(0, top, MELS + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


class Verdict(NamedTuple):
    """Whether a clip holds the phrase, the margin by which, and what Whisper writes by itself, "" for no speech."""

    held: bool
    margin: float
    text: str


class Recogniser:
    """Whisper with one thread, from the asset of that name."""

    def __init__(self, model: Model = MODELS[0]) -> None:
        folder = asset_path(model)
        self._ctranslate2, tokenizers = package("ctranslate2"), package("tokenizers")
        options = {"device": "cpu", "compute_type": "int8", "intra_threads": 1, "inter_threads": 1}
        self._model: Any = self._ctranslate2.models.Whisper(str(folder), **options)
        self._tokens: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._start = [self._id(name) for name in ("<|startoftranscript|>", "<|notimestamps|>")]

    def judge(self, clips: Sequence[Audio], phrase: str) -> list[Verdict]:
        """Whether each clip, (samples,) at 16 kHz, holds `phrase`; each costs as much as the longest of the batch."""
        length = int(SAMPLE_RATE * min(LONGEST_S, max(SHORTEST_S, max(map(len, clips)) / SAMPLE_RATE + 1.0)))
        lead = np.zeros(round(LEAD_S * SAMPLE_RATE), np.float32)
        audio = np.zeros((len(clips), length), np.float32)
        for row, clip in zip(audio, clips, strict=True):
            said = np.concatenate([lead, clip * (LEVEL / max(float(np.abs(clip).max()), 1e-6))])[:length]
            row[: len(said)] = said
        features = log_mel(audio)
        encoded = self._model.encode(self._ctranslate2.StorageView.from_array(features))
        prompt = [self._id("<|startofprev|>"), *self._encode(f" {phrase.capitalize()}."), *self._start]

        def scores(texts: Sequence[str]) -> npt.NDArray[np.float64]:
            """The logarithm of the probability of a text for each clip."""
            aligned = self._model.align(
                encoded, prompt, [self._encode(text) for text in texts], [features.shape[2]] * len(clips)
            )
            return np.array([np.log(np.maximum(each.text_token_probs, 1e-12)).sum() for each in aligned])

        phrases = np.max([scores([text] * len(clips)) for text in _spellings(phrase)], 0)
        near = [
            np.max([scores([f" {text}"] * len(clips)) for text in (each, each.capitalize())], 0)
            for each in near_texts(phrase)
        ]
        found = self._model.generate(
            encoded, [prompt] * len(clips), beam_size=BEAM, num_hypotheses=BEAM, max_length=len(prompt) + TOKENS
        )
        written = [[_once(self._tokens.decode(ids)) for ids in each.sequences_ids] for each in found]
        free = np.stack(
            [scores([f" {texts[min(number, len(texts) - 1)]}" for texts in written]) for number in range(BEAM)], 1
        )
        # The prompt raises the probability of speech, so this is without it.
        silences = self._model.generate(
            encoded,
            [self._start] * len(clips),
            beam_size=1,
            max_length=len(self._start) + 1,
            return_no_speech_prob=True,
        )
        verdicts = []
        for number, texts in enumerate(written):
            margins = [phrases[number] - FLOOR, *(phrases[number] - each[number] - MARGINS[0] for each in near)]
            for text, score in zip(texts, free[number], strict=True):
                part = _letters(phrase).startswith(_letters(text))
                margins.append(phrases[number] - score - MARGINS[2 if part else 1])
            margin = float(min(margins))
            speech = silences[number].no_speech_prob < NO_SPEECH and any(map(_letters, texts))
            text = texts[int(free[number].argmax())] if speech else ""
            verdicts.append(Verdict(speech and margin >= 0, round(margin, 2), text))
        return verdicts

    def _id(self, name: str) -> int:
        return int(self._tokens.token_to_id(name))

    def _encode(self, text: str) -> list[int]:
        # A text without any token has no probability.
        return list(self._tokens.encode(text, add_special_tokens=False).ids) or [self._id("<|endoftext|>")]


@lru_cache(maxsize=256)
def near_texts(phrase: str) -> tuple[str, ...]:
    """Common words and pairs that sound like a phrase, which a clip may hold instead; none that begins it."""
    said = pronounce(phrase)
    found = [
        *nearest_words(said, 20)[:NEAR_WORDS],
        *nearest_words(said, NEAR_INSIDE, inside=True),
        *nearest_pairs(said, 20)[:NEAR_PAIRS],
    ]
    return tuple(
        text
        for text in dict.fromkeys(each.text for each in found)
        if min(distance(phonemes_of(text), each) for each in said) >= NEAREST
        and not _letters(phrase).startswith(_letters(text))
    )


def _spellings(phrase: str) -> list[str]:
    joined = phrase.replace(" ", "")
    return [
        f" {each}" for each in dict.fromkeys((phrase, phrase.capitalize(), phrase.title(), joined, joined.capitalize()))
    ]


def _letters(text: str) -> str:
    return re.sub("[^a-z]", "", text.lower())


def _once(text: str) -> str:
    """The words without repetition: in a short window Whisper writes them until it has no tokens left."""
    words = re.sub(r"[^\w' ]", " ", text).split()
    lower = [word.lower() for word in words]
    for count in range(1, len(words)):
        if all(word == lower[place % count] for place, word in enumerate(lower)):
            return " ".join(words[:count])
    return " ".join(words)


@lru_cache(maxsize=1)
def recogniser(model: Model) -> Recogniser:
    """The recogniser, loaded once in a process."""
    return Recogniser(model)
