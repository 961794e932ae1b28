"""Wav2Vec2 and its relatives as teachers: from the hub by name, from a folder, or small and from scratch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.config import TeacherConfig
from edgewake.errors import ConfigError, EdgewakeError, MissingDependencyError
from edgewake.stages import code_hash
from edgewake.teachers.base import SAMPLE_RATE, Head, Teacher, tensors_fingerprint
from edgewake.teachers.heads import make_head

if TYPE_CHECKING:
    from transformers import PretrainedConfig

USUAL_NAMES = {
    "wav2vec2": "facebook/wav2vec2-base",
    "hubert": "facebook/hubert-base-ls960",
    "wavlm": "microsoft/wavlm-base-plus",
    "data2vec-audio": "facebook/data2vec-audio-base",
}
CODE = ("teachers/huggingface.py",)
HUB_TIMEOUT_S = 5.0
# Written by pretraining only, and absent from many published files.
UNUSED_TENSORS = ("masked_spec_embed",)


class MissingTransformersError(MissingDependencyError, ImportError):
    """The `transformers` package is not installed; an ImportError, as people expect of a missing package."""


class WeightsNotFoundError(EdgewakeError):
    """Pretrained weights are neither in the local cache nor to be had from the hub."""


def import_transformers(needed_by: str) -> Any:
    """The `transformers` package.

    Raises:
        MissingTransformersError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingTransformersError(
            f"transformers library is required for {needed_by}: pip install transformers"
        ) from error
    return transformers


class HuggingFaceTeacher(Teacher):
    """A network of transformers under a head.

    An embedding is a weighted sum of all hidden states, each normalized over its channels first, since layers
    differ in scale by orders of magnitude; the weights are a softmax of `layer_weights` (Yang et al. 2021,
    arXiv:2105.01051). They start equal and are trained where layers are trained (`fit_live`): fitting a head
    alone leaves embeddings as they are, so that they can be stored once and used by every head.

    Audio is brought to zero mean and unit variance clip by clip, as Wav2Vec2's feature extractor does it.

    Args:
        architecture: a key of `USUAL_NAMES`.
        num_classes: classes; the phrase is class 1.
        path: a Hugging Face folder; "" for `name`.
        name: of weights in the hub; "" for the architecture's usual ones.
        config: a network of this configuration, with random weights; nothing is loaded.
        head: of embeddings; None for the default one.
        gradient_checkpointing: recompute activations in training: less memory, more time.

    Raises:
        MissingTransformersError: transformers is not installed.
        WeightsNotFoundError: the hub does not have them, or cannot be reached.
        EdgewakeError: a folder's files are damaged.
        ConfigError: a folder holds another architecture.
    """

    def __init__(
        self,
        architecture: str,
        num_classes: int = 2,
        *,
        path: Path | str = "",
        name: str = "",
        config: PretrainedConfig | None = None,
        head: Head | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        needed_by = "Wav2VecWakeword" if architecture == "wav2vec2" else f"the teacher {architecture}"
        transformers = import_transformers(needed_by)
        self.architecture, self.num_classes = architecture, num_classes
        self.folder = ""
        if config is not None:
            self.source = "random"
            config.apply_spec_augment = False
            self.network: Any = transformers.AutoModel.from_config(config)
        elif path:
            self.folder = str(Path(path).resolve())
            self.source = str(path)
            self.network = load_folder(architecture, Path(path))
        else:
            self.name = name or USUAL_NAMES[architecture]
            self.source = self.name
            self.network = load_from_hub(architecture, self.name)
        settings = self.network.config
        self.embedding_size = int(settings.hidden_size)
        self.hop_samples = math.prod(settings.conv_stride)
        self.frame_rate = SAMPLE_RATE / self.hop_samples
        self.layer_weights = nn.Parameter(torch.zeros(settings.num_hidden_layers + 1))
        self.head = head or make_head(TeacherConfig(), self.embedding_size, self.frame_rate, num_classes)
        self.head_trained = False
        if gradient_checkpointing:
            self.gradient_checkpointing_enable()

    def gradient_checkpointing_enable(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        # Its name in later releases of transformers, where the old one warns.
        enable = getattr(self.network, "activation_checkpointing_enable", None)
        enable = enable or self.network.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    @property
    def least_samples(self) -> int:
        """Samples of the shortest clip that gives a frame."""
        samples = 1
        settings = self.network.config
        for kernel, stride in reversed(list(zip(settings.conv_kernel, settings.conv_stride, strict=True))):
            samples = (samples - 1) * stride + kernel
        return int(samples)

    def embed(self, audio: Tensor) -> Tensor:
        """Embeddings along time: (batch, samples) -> (batch, frames, embedding_size)."""
        audio = F.pad(audio.float(), (0, max(0, self.least_samples - audio.shape[1])))
        audio = audio - audio.mean(dim=1, keepdim=True)
        audio = audio / torch.sqrt(audio.var(dim=1, keepdim=True, correction=0) + 1e-7)
        states = self.network(audio, output_hidden_states=True).hidden_states
        weights = self.layer_weights.softmax(dim=0)
        total = torch.zeros_like(states[0], dtype=torch.float32)
        for weight, state in zip(weights, states, strict=True):
            total = total + weight * F.layer_norm(state.float(), state.shape[-1:])
        return total

    def layers(self) -> list[nn.Module]:
        """The transformer's layers."""
        return list(self.network.encoder.layers)

    def network_config(self) -> dict[str, Any]:
        """What builds this network again, as plain values."""
        values: dict[str, Any] = json.loads(self.network.config.to_json_string(use_diff=False))
        return values

    def weights_fingerprint(self) -> str:
        """16 hex digits of the network's weights and those of its hidden states."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return tensors_fingerprint(state | {"layer_weights": self.layer_weights})

    def fingerprint(self) -> str:
        """16 hex digits of what decides embeddings: weights, the network's shape, and the code."""
        settings = {key: value for key, value in self.network_config().items() if key not in ("_name_or_path", "dtype")}
        parts = [self.weights_fingerprint(), settings, code_hash(CODE, ("torch", "transformers"))]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Wav2VecWakeword(HuggingFaceTeacher):
    """Wav2Vec2 with a head for a wake word: raw audio (batch, samples) to logits (batch, classes).

    Args:
        num_classes: classes; the phrase is class 1.
        pretrained: load weights; False for random ones of `config`, or of the shape of wav2vec2-base.
        model_name: in the hub, or a Hugging Face folder.
        config: shape of a network with random weights.
        head: of embeddings; None for the default one.
        freeze: no gradients and eval mode from the start.
        gradient_checkpointing: recompute activations in training: less memory, more time.
    """

    def __init__(
        self,
        num_classes: int = 2,
        pretrained: bool = True,
        model_name: str = USUAL_NAMES["wav2vec2"],
        *,
        config: PretrainedConfig | None = None,
        head: Head | None = None,
        freeze: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        if config is None and not pretrained:
            config = import_transformers("Wav2VecWakeword").Wav2Vec2Config()
        folder = model_name if Path(model_name).is_dir() else ""
        super().__init__(
            "wav2vec2",
            num_classes,
            path=folder,
            name=model_name,
            config=config,
            head=head,
            gradient_checkpointing=gradient_checkpointing,
        )
        if freeze:
            self.freeze()

    @property
    def wav2vec2(self) -> Any:
        """The network of transformers."""
        return self.network


# ---- weights -------------------------------------------------------------------------------------


def load_folder(architecture: str, folder: Path) -> Any:
    """The network in a Hugging Face folder; errors as in `HuggingFaceTeacher`."""
    transformers = import_transformers(f"the teacher {architecture}")
    if not (folder / "config.json").is_file():
        raise EdgewakeError(
            f"{folder} is no Hugging Face folder: it has no config.json; give one that save_pretrained "
            "wrote, or a teacher.pt"
        )
    try:
        found = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except Exception as error:  # whatever the file holds, transformers says it in its own ways
        raise EdgewakeError(f"{folder}/config.json cannot be used: {one_line(error)}; copy it again") from error
    if found != architecture:
        raise ConfigError(
            f"{folder} holds a network of type {found!r}, not {architecture!r}; set "
            f"distillation.teacher_architecture: {found}"
        )
    try:
        return _load(str(folder), local=True)
    except EdgewakeError:
        raise
    except Exception as error:
        raise EdgewakeError(f"weights in {folder} cannot be read: {one_line(error)}; copy them again") from error


def load_from_hub(architecture: str, name: str) -> Any:
    """The network of this name: from the local cache of the hub, else from the hub.

    Raises:
        WeightsNotFoundError: neither has it; found out within seconds.
    """
    import_transformers("Wav2VecWakeword" if architecture == "wav2vec2" else f"the teacher {architecture}")
    try:
        network = _load(name, local=True)
    except EdgewakeError:
        raise
    except Exception:  # not in the cache
        _ask_hub(name)
        try:
            network = _load(name, local=False)
        except EdgewakeError:
            raise
        except Exception as error:
            raise WeightsNotFoundError(
                f"weights {name!r} came incomplete from the hub: {one_line(error)}; try again"
            ) from error
    found = network.config.model_type
    if found != architecture:
        raise ConfigError(
            f"{name!r} is a network of type {found!r}, not {architecture!r}; set "
            f"distillation.teacher_architecture: {found}"
        )
    return network


def _ask_hub(name: str) -> None:
    """Whether the hub has `name`, by one small question: its own loader would retry for minutes."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import get_hf_file_metadata

    remedy = (
        "give a local folder by distillation.teacher_model_path, or use the architecture whisper, whose "
        "weights `edgewake assets get whisper-base` fetches"
    )
    if constants.HF_HUB_OFFLINE:
        raise WeightsNotFoundError(
            f"weights {name!r} are not in the local cache, and HF_HUB_OFFLINE is set: unset it, {remedy}"
        )
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_TIMEOUT_S)
    except Exception as error:  # httpx's, the hub's, or a bad name's: all mean that it cannot be had
        raise WeightsNotFoundError(
            f"weights {name!r} are neither in the local cache nor to be had from the hub ({one_line(error)}): {remedy}"
        ) from error


def _load(place: str, *, local: bool) -> Any:
    import transformers

    with _quiet():
        network, report = transformers.AutoModel.from_pretrained(
            place, local_files_only=local, output_loading_info=True, dtype=torch.float32
        )
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(UNUSED_TENSORS))
    # transformers would draw at random what a file lacks, and the teacher would seem to work.
    if missing or report.get("mismatched_keys"):
        wrong = missing or sorted(str(item) for item in report["mismatched_keys"])
        raise EdgewakeError(
            f"weights {place!r} do not fit the network: {len(wrong)} tensors are missing or of another "
            f"shape, such as {wrong[0]}; use a checkpoint of the whole network"
        )
    network.config.apply_spec_augment = False
    return network


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars and reports, which a missing head would fill."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def one_line(error: BaseException) -> str:
    """What another library's error says, in one line."""
    if isinstance(error, UnpicklingError):
        # torch's own words advise to read the file unsafely.
        return "it holds something else than tensors and plain values"
    text = str(error).strip()
    if isinstance(error, KeyError) or not text:  # a key alone says nothing
        return f"{type(error).__name__} {text}".strip()
    return text.splitlines()[0][:200]


# ---- from scratch --------------------------------------------------------------------------------


def small_config(architecture: str, teacher: TeacherConfig) -> PretrainedConfig:
    """The shape of a network that two CPU cores can train: some 5 ms of both for a clip of 2 s.

    The usual stack of seven convolutions of 512 channels would take nearly all the time of a small network.
    Here three do its work at 64 channels: the first spans 4 ms every 2 ms, and frames come 25 a second.
    """
    transformers = import_transformers(f"the teacher {architecture}")
    width = teacher.width
    heads = next(count for count in (8, 4, 2, 1) if width % count == 0 and width // count >= 16)
    settings: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": teacher.layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "conv_dim": [64, 64, 64],
        "conv_kernel": [64, 8, 4],
        "conv_stride": [32, 5, 4],
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 8,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "layerdrop": 0.0,
    }
    if architecture == "data2vec-audio":
        settings |= {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 9}
    config: PretrainedConfig = transformers.AutoConfig.for_model(architecture, **settings)
    return config


def teacher_from_scratch(
    architecture: str, num_classes: int, teacher: TeacherConfig, *, gradient_checkpointing: bool = False
) -> HuggingFaceTeacher:
    """A small network with random weights, to be trained by `fit_live`.

    Its first convolution starts as a bank of band-pass filters on the mel scale, in pairs of two phases
    (Zeghidour et al. 2018, arXiv:1711.01161): little data does not find them from noise.
    """
    made = HuggingFaceTeacher(
        architecture,
        num_classes,
        config=small_config(architecture, teacher),
        gradient_checkpointing=gradient_checkpointing,
    )
    made.head = make_head(teacher, made.embedding_size, made.frame_rate, num_classes)
    with torch.no_grad():
        first = made.network.feature_extractor.conv_layers[0].conv.weight
        first.copy_(mel_filters(first.shape[0], first.shape[2]))
    return made


def mel_filters(count: int, length: int, low: float = 80.0, high: float = 7600.0) -> Tensor:
    """Band-pass filters: (count, 1, length), Hann-windowed cosines and sines at centres on the mel scale."""
    bands = -(-count // 2)
    edges = torch.tensor([low, high]).div(700).log1p()
    centres = 700 * torch.linspace(float(edges[0]), float(edges[1]), bands).expm1()
    time = (torch.arange(length) - (length - 1) / 2) / SAMPLE_RATE
    angle = 2 * math.pi * centres[:, None] * time
    window = torch.hann_window(length, periodic=False)
    filters = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1).reshape(-1, length)[:count] * window
    norms = filters.square().sum(dim=1, keepdim=True).sqrt()
    return (filters / norms).unsqueeze(1)
