"""The calibration set is remade to the bit: `make.py` writes it, `--check` exits 1 if it would change.

Written beside this script: audio.flac (the scenes below), features.npz (uint16 features of that audio),
golden.npz (a second of audio and its features, which the board checks at boot) and manifest.json (hashes, the
frontend's among them, and the list of scenes).
"""

from __future__ import annotations

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import synth
from edgewake.calibration import MANIFEST, VERSION, array_sha256
from edgewake.config.frontend import FrontendConfig
from edgewake.io import atomic_path, read_json, write_json
from edgewake.runtime.frontend import features
from synth import RATE, Signal

HERE = Path(__file__).resolve().parent
SEED = 20_231
UTTERANCE_S = 5.0
WORDS = 7

# One line a voice, in the order of synth.VOICES: peak (dBFS), what lies under it, SNR (dB), in a room or dry.
SPEECH = (
    (-3.0, "room tone", 50.0, False),
    (-12.0, "pink", 20.0, True),
    (-20.0, "room tone", 40.0, False),
    (-30.0, "hum", 15.0, True),
    (-6.0, "babble", 15.0, False),
    (-16.0, "white", 10.0, True),
    (-24.0, "chords", 10.0, False),
    (-38.0, "room tone", 30.0, True),
    (-9.0, "clicks", 15.0, False),
    (-45.0, "room tone", 25.0, False),
    (-14.0, "babble", 5.0, True),
    (-20.0, "pink", 0.0, False),
)
# Played alone: name, peak level in dBFS, seconds.
ALONE = (
    ("silence", None, 1.0),
    ("room tone", -60.0, 1.5),
    ("pink", -30.0, 2.0),
    ("white", -12.0, 1.0),
    ("hum", -24.0, 2.0),
    ("clicks", -6.0, 3.0),
    ("chords", -9.0, 4.5),
    ("babble", -12.0, 4.0),
)


def noise(name: str, count: int, voices: Signal, seed: int) -> Signal:
    """`count` samples of a named noise, unscaled."""
    makers = {
        "silence": lambda: np.zeros(count),
        "room tone": lambda: synth.pink(count, seed),
        "pink": lambda: synth.pink(count, seed),
        "white": lambda: synth.Draws(seed).noise(count),
        "hum": lambda: synth.hum(count, 50.0),
        "clicks": lambda: synth.clicks(count, seed),
        "chords": lambda: synth.chords(count, seed),
        "babble": lambda: synth.babble(voices)[:count],
    }
    return makers[name]()


def scenes() -> tuple[NDArray[np.int16], list[dict[str, Any]]]:
    """The whole calibration audio (int16, 16 kHz) and what sounds when."""
    voices = synth.speak(synth.sentences(len(SPEECH), SEED, WORDS), synth.VOICES, UTTERANCE_S, SEED + 1)
    crowd = synth.speak(synth.sentences(len(SPEECH), SEED + 2, WORDS), synth.VOICES, UTTERANCE_S, SEED + 3)
    alone, spoken = [], []
    for index, (name, level, seconds) in enumerate(ALONE):
        signal = noise(name, round(seconds * RATE), crowd, SEED + 100 + index)
        alone.append(({"noise": name, "peak_dbfs": level}, signal if level is None else synth.peak_at(signal, level)))
    for index, (level, under, snr, in_room) in enumerate(SPEECH):
        voice = synth.room(voices[index], SEED + 200 + index) if in_room else voices[index]
        mixed = synth.mix(voice, noise(under, voice.size, crowd, SEED + 300 + index), snr)
        text = {"voice": index, "noise": under, "snr_db": snr, "room": in_room, "peak_dbfs": level}
        spoken.append((text, synth.peak_at(mixed, level)))
    # Noises stand between the voices, so that the frontend's noise estimate moves as it does in use.
    order = [part for pair in zip_longest(alone, spoken) for part in pair if part is not None]
    listing, start = [], 0
    for text, signal in order:
        listing.append({"start_s": start / RATE, "seconds": signal.size / RATE, **text})
        start += signal.size
    return np.concatenate([synth.to_int16(signal) for _, signal in order]), listing


def golden_audio() -> NDArray[np.int16]:
    """One second that takes the frontend to its edges: a word, silence, then what saturates or clips."""
    word = synth.speak([synth.phones(synth.COMPUTER)], synth.VOICES[5:6], 0.65, SEED + 4)[0]
    spoken = synth.to_int16(synth.peak_at(synth.mix(word, synth.pink(word.size, SEED + 5), 30.0), -9.0))
    square = np.where(np.arange(800) // 20 % 2, 32767, -32768).astype(np.int16)
    white = synth.Draws(SEED + 6).uniform(1440, -32768, 32768).astype(np.int16)
    turns = np.arange(1600, dtype=np.float64)
    sweep = synth.to_int16(0.25 * synth.sine(turns * (125.0 + turns * 2.25) / RATE))
    edges = np.zeros(800, dtype=np.int16)
    edges[100:260] = -32768
    edges[400] = 32767
    edges[640:] = 1
    silence = np.zeros(960, dtype=np.int16)
    return np.concatenate([spoken, silence, sweep, white, square, edges])


def build() -> dict[str, Any]:
    """Everything that the folder holds, in memory."""
    audio, listing = scenes()
    golden = golden_audio()
    config = FrontendConfig()
    calibration, vectors = features(audio, config), features(golden, config)
    manifest = {
        "version": VERSION,
        "seed": SEED,
        "sample_rate": RATE,
        "frontend_hash": config.hash(),
        "audio": {"samples": audio.size, "audio_sha256": array_sha256(audio)},
        "features": {"frames": len(calibration), "features_sha256": array_sha256(calibration)},
        "golden": {
            "samples": golden.size,
            "frames": len(vectors),
            "audio_sha256": array_sha256(golden),
            "features_sha256": array_sha256(vectors),
        },
        "scenes": listing,
    }
    return {
        "audio": audio,
        "features": {"features": calibration},
        "golden": {"audio": golden, "features": vectors},
        "manifest": manifest,
    }


def write(made: dict[str, Any], folder: Path) -> None:
    """Write the four files of `build()` to `folder`, each one atomically."""
    with atomic_path(folder / "audio.flac") as path:
        soundfile.write(path, made["audio"], RATE, subtype="PCM_16", format="FLAC")
    for name in ("features", "golden"):
        with atomic_path(folder / f"{name}.npz") as path, path.open("wb") as file:
            np.savez_compressed(file, **made[name])
    write_json(folder / MANIFEST, made["manifest"])


def differences(made: dict[str, Any], folder: Path) -> list[str]:
    """What in `folder` is not, to the bit, what `build()` made; an empty list when all is equal."""
    found = []
    audio, rate = soundfile.read(folder / "audio.flac", dtype="int16")
    if rate != RATE or not np.array_equal(audio, made["audio"]):
        found.append("audio.flac: other samples")
    for name in ("features", "golden"):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
            for key, value in made[name].items():
                if archive[key].dtype != value.dtype or not np.array_equal(archive[key], value):
                    found.append(f"{name}.npz: other {key}")
    old = read_json(folder / MANIFEST, "calibration manifest")
    found += [f"{MANIFEST}: other {key}" for key, value in made["manifest"].items() if old.get(key) != value]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is there and write nothing")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the files lie (default: beside this script)")
    arguments = parser.parse_args()
    made = build()
    if not arguments.check:
        write(made, arguments.folder)
        seconds = made["audio"].size / RATE
        frames = made["manifest"]["features"]["frames"]
        print(f"{arguments.folder}: {seconds:.1f} s of audio, {frames} frames of features, golden vectors")
        return 0
    found = differences(made, arguments.folder)
    for line in found:
        print(line, file=sys.stderr)
    print("differs: run calibration/make.py" if found else "unchanged")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
