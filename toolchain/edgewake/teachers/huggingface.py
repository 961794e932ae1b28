"""Wav2Vec2 and its relatives as teachers: from the hub by name, from a folder, or small and from scratch."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.config import TeacherConfig
from edgewake.errors import ConfigError, EdgewakeError, MissingDependencyError
from edgewake.teachers.base import SAMPLE_RATE, Teacher

if TYPE_CHECKING:
    from transformers import PretrainedConfig

USUAL_NAMES = {
    "wav2vec2": "facebook/wav2vec2-base",
    "hubert": "facebook/hubert-base-ls960",
    "wavlm": "microsoft/wavlm-base-plus",
    "data2vec-audio": "facebook/data2vec-audio-base",
}
HUB_TIMEOUT_S = 5.0
# Written by pretraining only, and absent from many published files.
UNUSED_TENSORS = ("masked_spec_embed",)


class MissingTransformersError(MissingDependencyError, ImportError):
    """The `transformers` package is not installed; an ImportError, as people expect of a missing package."""


class WeightsNotFoundError(EdgewakeError):
    """Pretrained weights are neither in the local cache nor available from the hub."""


def import_transformers(architecture: str) -> Any:
    """The `transformers` package; raises MissingTransformersError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        needed_by = "Wav2VecWakeword" if architecture == "wav2vec2" else f"the teacher {architecture}"
        what = f"transformers library is required for {needed_by}: pip install transformers"
        raise MissingTransformersError(what) from error
    return transformers


class HuggingFaceTeacher(Teacher):
    """A network of transformers under a head.

    An embedding is a weighted sum of all hidden states, each normalized over its channels first, since layers
    differ in scale by orders of magnitude; the weights are a softmax of `layer_weights` (Yang et al. 2021,
    arXiv:2105.01051). They start equal and are trained where layers are trained: fitting a head alone leaves
    embeddings as they are, so that they can be stored once and used by every head. Audio is brought to zero mean and
    unit variance clip by clip, as Wav2Vec2's feature extractor does it.

    Pretrained are the weights of `place`, a Hugging Face folder or a name in the hub ("": the architecture's usual
    one); those of a network of shape `config` are random.

    Raises:
        MissingTransformersError: transformers is not installed.
        WeightsNotFoundError: the hub does not have the weights, or cannot be reached.
        EdgewakeError: a folder's files are damaged, or (ConfigError) of another architecture.
    """

    def __init__(
        self, architecture: str, num_classes: int, *, place: Path | str = "", config: PretrainedConfig | None = None
    ) -> None:
        super().__init__()
        transformers = import_transformers(architecture)
        self.architecture, self.num_classes = architecture, num_classes
        if config is not None:
            self.source = "random"
            config.apply_spec_augment = False
            self.network: Any = transformers.AutoModel.from_config(config)
        else:
            self.source = str(place) or USUAL_NAMES[architecture]
            folder = Path(self.source).is_dir()
            self.folder, self.name = (str(Path(place).resolve()), "") if folder else ("", self.source)
            self.network = load_network(architecture, self.source)
        settings = self.network.config
        self.embedding_size = int(settings.hidden_size)
        self.frame_rate = SAMPLE_RATE / math.prod(settings.conv_stride)
        self.layer_weights = nn.Parameter(torch.zeros(settings.num_hidden_layers + 1))
        self.new_head()

    @property
    def wav2vec2(self) -> Any:
        """The network of transformers, as the guide names it."""
        return self.network

    @property
    def least_samples(self) -> int:
        """Samples of the shortest clip that gives a frame."""
        samples, settings = 1, self.network.config
        for kernel, stride in zip(settings.conv_kernel[::-1], settings.conv_stride[::-1], strict=True):
            samples = (samples - 1) * stride + kernel
        return int(samples)

    def embed(self, audio: Tensor) -> Tensor:
        audio = F.pad(audio.float(), (0, max(0, self.least_samples - audio.shape[1])))
        audio = audio - audio.mean(dim=1, keepdim=True)
        audio = audio / torch.sqrt(audio.var(dim=1, keepdim=True, correction=0) + 1e-7)
        states = self.network(audio, output_hidden_states=True).hidden_states
        total = torch.zeros_like(states[0], dtype=torch.float32)
        for weight, state in zip(self.layer_weights.softmax(dim=0), states, strict=True):
            total = total + weight * F.layer_norm(state.float(), state.shape[-1:])
        return total

    def layers(self) -> list[nn.Module]:
        return list(self.network.encoder.layers)

    def recompute_activations(self) -> None:
        # Its name in later releases of transformers, where the old one warns.
        enable = getattr(self.network, "activation_checkpointing_enable", None)
        (enable or self.network.gradient_checkpointing_enable)({"use_reentrant": False})

    def network_config(self) -> dict[str, Any]:
        """The network's configuration in transformers, without what differs between equal networks."""
        values: dict[str, Any] = json.loads(self.network.config.to_json_string(use_diff=False))
        return {key: value for key, value in values.items() if key not in ("_name_or_path", "dtype")}


class Wav2VecWakeword(HuggingFaceTeacher):
    """Wav2Vec2 with a head for a wake word: raw audio (batch, samples) to logits (batch, classes).

    Without `pretrained` the weights are random, in a network of shape `config`, or that of wav2vec2-base. `model_name`
    is one in the hub, or a Hugging Face folder. `freeze`: no gradients and eval mode from the start.
    """

    def __init__(
        self,
        num_classes: int = 2,
        pretrained: bool = True,
        model_name: str = "",
        *,
        config: PretrainedConfig | None = None,
        freeze: bool = False,
    ) -> None:
        if config is None and not pretrained:
            config = import_transformers("wav2vec2").Wav2Vec2Config()
        super().__init__("wav2vec2", num_classes, place=model_name, config=config)
        if freeze:
            self.freeze()


def read_config(architecture: str, place: str) -> PretrainedConfig:
    """The shape of the network in a Hugging Face folder or of a name in the hub; errors as in `HuggingFaceTeacher`."""
    load = import_transformers(architecture).AutoConfig.from_pretrained
    config: PretrainedConfig = _fetch(place, "config.json", load)
    if config.model_type != architecture:
        raise ConfigError(
            f"{place} holds a network of type {config.model_type!r}, not {architecture!r}; set "
            f"distillation.teacher_architecture: {config.model_type}"
        )
    return config


def load_network(architecture: str, place: str) -> Any:
    """The network in a Hugging Face folder or of a name in the hub; errors as in `HuggingFaceTeacher`."""
    read_config(architecture, place)
    load = import_transformers(architecture).AutoModel.from_pretrained
    with _quiet():
        network, report = _fetch(place, "weights", partial(load, output_loading_info=True, dtype=torch.float32))
    missing = [name for name in report["missing_keys"] if not name.endswith(UNUSED_TENSORS)]
    wrong = sorted(missing) or sorted(str(item) for item in report.get("mismatched_keys", ()))
    # transformers fills such tensors with random numbers, and the teacher would seem to work.
    if wrong:
        raise EdgewakeError(
            f"weights {place!r} do not fit the network: {len(wrong)} tensors are missing or of another "
            f"shape, such as {wrong[0]}; use a checkpoint of the whole network"
        )
    network.config.apply_spec_augment = False
    return network


def _fetch(place: str, what: str, load: Callable[..., Any]) -> Any:
    """What transformers loads of a folder; of a name, from the hub's local cache, else from the hub."""
    try:
        return load(place, local_files_only=True)
    except Exception as error:  # transformers has many kinds of errors for a damaged or missing file
        if Path(place).is_dir():
            raise EdgewakeError(
                f"{what} in {place} cannot be read: {one_line(error)}; copy it again, from a folder that "
                "save_pretrained wrote"
            ) from error
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import get_hf_file_metadata

    try:
        # One small request first: the hub's own loader would retry for minutes.
        get_hf_file_metadata(hf_hub_url(place, "config.json"), timeout=HUB_TIMEOUT_S)
        return load(place, local_files_only=False)
    except Exception as error:  # httpx's, the hub's, transformers', or a bad name's: all mean that it is not available
        why = "HF_HUB_OFFLINE is set: unset it" if constants.HF_HUB_OFFLINE else one_line(error)
        raise WeightsNotFoundError(
            f"weights {place!r} are neither in the local cache nor available from the hub ({why}): give a local folder "
            "or checkpoint by distillation.teacher_model_path, or set distillation.teacher_architecture: whisper, "
            "whose weights `edgewake assets get whisper-base` fetches"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and reports about the missing head."""
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
    """Another library's error message in one line."""
    if isinstance(error, UnpicklingError):
        # torch's own message advises to read the file unsafely.
        return "it holds something else than tensors and plain values"
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__} {text}".strip() if isinstance(error, KeyError) or not text else text


def small_config(architecture: str, teacher: TeacherConfig) -> PretrainedConfig:
    """The shape of a network that two CPU cores can train: some 5 ms of both for a clip of 2 s.

    The usual stack of seven convolutions of 512 channels would take nearly all the time of a small network.
    Here three do its work at 64 channels: the first spans 4 ms every 2 ms, and frames come 25 a second.
    """
    width = teacher.width
    heads = next(count for count in (8, 4, 2, 1) if width % count == 0 and width // count >= 16)
    settings: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width}
    settings |= {"num_hidden_layers": teacher.layers, "num_attention_heads": heads, "num_feat_extract_layers": 3}
    settings |= {"conv_dim": [64, 64, 64], "conv_kernel": [64, 8, 4], "conv_stride": [32, 5, 4]}
    settings |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 8}
    settings |= dict.fromkeys(("attention_dropout", "activation_dropout", "mask_time_prob", "layerdrop"), 0.0)
    settings["apply_spec_augment"] = False
    if architecture == "data2vec-audio":
        settings |= {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 9}
    config: PretrainedConfig = import_transformers(architecture).AutoConfig.for_model(architecture, **settings)
    return config


def teacher_from_scratch(architecture: str, num_classes: int, teacher: TeacherConfig) -> HuggingFaceTeacher:
    """A small network with random weights, to be trained by `fit_teacher`.

    Its first convolution starts as a bank of band-pass filters on the mel scale, in pairs of two phases
    (Zeghidour et al. 2018, arXiv:1711.01161): little data does not find them from noise.
    """
    made = HuggingFaceTeacher(architecture, num_classes, config=small_config(architecture, teacher)).new_head(teacher)
    with torch.no_grad():
        first = made.network.feature_extractor.conv_layers[0].conv.weight
        first.copy_(mel_filters(first.shape[0], first.shape[2]))
    return made


def mel_filters(count: int, length: int, low: float = 80.0, high: float = 7600.0) -> Tensor:
    """Band-pass filters: (count, 1, length), Hann-windowed cosines and sines at centres on the mel scale."""
    edges = torch.tensor([low, high]).div(700).log1p()
    centres = 700 * torch.linspace(float(edges[0]), float(edges[1]), -(-count // 2)).expm1()
    angle = 2 * math.pi * centres[:, None] * ((torch.arange(length) - (length - 1) / 2) / SAMPLE_RATE)
    window = torch.hann_window(length, periodic=False)
    filters = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1).reshape(-1, length)[:count] * window
    return (filters / filters.square().sum(dim=1, keepdim=True).sqrt()).unsqueeze(1)
