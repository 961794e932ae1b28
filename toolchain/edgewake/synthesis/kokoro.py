"""Kokoro-82M by ONNX Runtime: voices, blends and sampled speakers that a name reproduces, with the times of phonemes.

A speaker is two weighted sums of the voices' styles: one for the timbre, which the decoder gets, one for the prosody.

    af_heart         a voice
    blend-17         of two voices for timbre, and two others for prosody
    sample-17        from the Gaussian distribution of the voices' styles, in their span
    val-blend-17     made of validation voices only, as val-sample-17 is; the others are of training voices only
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.assets.store import asset_path
from edgewake.errors import ConfigError
from edgewake.io import read_json
from edgewake.synthesis.speech import Speech, Split
from edgewake.synthesis.words import package

RATE, FRAME = 24_000, 600
DURATIONS = "/encoder/Clip_output_0"  # frames of each token, an inner tensor of the graph
# Male and female, American, British and Italian; af_bella and the like are too near to a training voice.
VALIDATION = ("af_sky", "am_eric", "bf_alice", "bm_lewis", "if_sara", "im_nicola")
TIMBRE = 128  # of 256 values of a style; the others are prosody
LONGEST = 509  # symbols; the model takes 512 tokens, a style file has rows for 510
# Standard deviations of a sampled speaker, in those of the voices.
TIMBRE_SCALE, PROSODY_SCALE = 1.2, 0.9
_NAME = re.compile(r"(val-)?(blend|sample)-(\d{1,9})")


def split_of_kokoro(voice: str) -> Split:
    """The split of a voice: `val` for validation voices and what is made of them."""
    return "val" if voice in VALIDATION or voice.startswith("val-") else "train"


class Kokoro:
    """The model of the asset, with one thread."""

    name = "kokoro"
    phonetic = True

    def __init__(self) -> None:
        self._folder = asset_path("kokoro")
        self._vocabulary: dict[str, int] = read_json(self._folder / "vocab.json", "vocabulary")["vocab"]
        self._names = tuple(sorted(path.stem for path in (self._folder / "voices").glob("*.bin")))
        styles = [np.fromfile(self._folder / f"voices/{name}.bin", np.float32) for name in self._names]
        self._styles = np.stack(styles).reshape(len(styles), -1, 2 * TIMBRE)

    @cached_property
    def _session(self) -> Any:
        # Only once something is said: to ask for voices takes no time.
        return session(str(self._folder / "model.onnx"), DURATIONS)

    def voices(self) -> tuple[str, ...]:
        """The 54 voices; blends and samples have other names."""
        return self._names

    def speak(self, text: str, phonemes: str, voice: str, speed: float, seed: int) -> Speech:
        """Speech of `phonemes`, which decide alone; `seed` changes nothing, since the model has no chance in it."""
        tokens = self.tokens(phonemes)
        row = self.style(voice, len(tokens))[None]
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": row,
            "speed": np.array([speed], np.float32),
        }
        audio, frames = self._session.run(None, inputs)
        bounds = np.cumsum(frames.ravel())[:-1] * (FRAME / RATE)
        return Speech(audio.ravel(), RATE, bounds.astype(np.float64))

    def tokens(self, phonemes: str) -> list[int]:
        """The symbols' numbers; a ConfigError where there is none, or too many, or one that the model lacks."""
        if unknown := sorted(set(phonemes) - set(self._vocabulary)):
            raise ConfigError(f"phonemes {phonemes!r} have {' '.join(unknown)}, which Kokoro lacks: use its vocab.json")
        if not 0 < len(phonemes) <= LONGEST:
            raise ConfigError(f"{len(phonemes)} phonemes, Kokoro takes 1 to {LONGEST}: split the text")
        return [self._vocabulary[symbol] for symbol in phonemes]

    def style(self, voice: str, symbols: int) -> npt.NDArray[np.float32]:
        """(256,) style of a voice for a text of that many symbols, on which it depends."""
        timbre, prosody = _weights(voice, self._names)
        row = self._styles[:, symbols - 1].astype(np.float64)
        return np.concatenate([timbre @ row[:, :TIMBRE], prosody @ row[:, TIMBRE:]]).astype(np.float32)

    @staticmethod
    def accent(voice: str) -> str:
        """The accent whose pronunciations a voice is given: "gb" for bf_ and bm_, else "us"."""
        return "gb" if voice.startswith(("bf_", "bm_")) else "us"


@lru_cache(maxsize=4096)
def _weights(voice: str, names: tuple[str, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights of the voices in timbre and in prosody, each with the sum 1."""
    if voice in names:
        one = np.array([float(name == voice) for name in names])
        return one, one
    match = _NAME.fullmatch(voice)
    if match is None:
        made = "blend-N, sample-N, val-blend-N, val-sample-N"
        raise ConfigError(f"Kokoro has no voice {voice!r}: it has {', '.join(names)}, {made}")
    validation, kind, number = bool(match[1]), match[2], int(match[3])
    usable = np.flatnonzero([(name in VALIDATION) == validation for name in names])
    rng = np.random.default_rng([number, kind == "sample", validation])
    timbre, prosody = np.zeros(len(names)), np.zeros(len(names))
    for weights, scale in zip((timbre, prosody), (TIMBRE_SCALE, PROSODY_SCALE), strict=True):
        if kind == "blend":
            share = rng.uniform(0.25, 0.75)
            weights[rng.choice(usable, 2, replace=False)] = share, 1 - share
        else:
            # mean + sum g_i (x_i - mean) / sqrt(n - 1) has the voices' covariance, and stays in their span.
            drawn = rng.standard_normal(len(usable)) * scale / np.sqrt(len(usable) - 1)
            weights[usable] = 1 / len(usable) + drawn - drawn.mean()
    return timbre, prosody


def session(model: str, durations: str) -> Any:
    """A model with an inner tensor, the durations of its symbols in frames, as its last output; one thread."""
    onnx, onnxruntime = package("onnx"), package("onnxruntime")
    graph = onnx.load(model)
    graph.graph.output.append(onnx.ValueInfoProto(name=durations))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
