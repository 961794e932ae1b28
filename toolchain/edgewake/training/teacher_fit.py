"""Fits a teacher to a phrase: its head on stored embeddings, or its network on audio; seeded, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewake.config import WakewordConfig
from edgewake.console import bar, error_console
from edgewake.data.clip_array import Rows
from edgewake.data.reading import to_float, to_int16
from edgewake.data.sampling import BalancedBatchSampler
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.clip_metrics import f1_score
from edgewake.evaluation.clips import clip_probabilities
from edgewake.io import atomic_path
from edgewake.teachers.base import Teacher, device_of, members_of
from edgewake.teachers.heads import Head, make_head
from edgewake.teachers.huggingface import one_line
from edgewake.teachers.registry import load_teacher, save_teacher
from edgewake.training.teacher_cache import clip_digests

__all__ = [
    "fit_head",
    "fit_live",
    "fit_on_loader",
    "fit_teacher",
    "load_teacher",
    "save_teacher",
    "trains_on_audio",
]

# Confident teachers of few voices are wrong with confidence; more would take away what they are asked for.
LABEL_SMOOTHING = 0.02
EMA_DECAY = 0.99
# A head sees at least this many batches an epoch: with a few clips ten passes would leave it where it began.
LEAST_BATCHES = 20
STANDARDIZED_FROM = 2000
LAYERS_RATE, SCRATCH_RATE = 3e-5, 1e-3
RANDOM, FROM_SCRATCH = "random", "trained from scratch"
SHIFT_SAMPLES = 1600
LOADER_BYTES = 4_000_000_000
SCORING_BATCH = 256

Numbers = npt.NDArray[Any]


class Embedder(Protocol):
    """What keeps embeddings: `training.teacher_cache.TeacherCache`."""

    def embeddings(self, teacher: Teacher, audio: Any) -> Any:
        """(clips, samples) int16 -> (clips, frames, size) float16."""
        ...


def trains_on_audio(config: WakewordConfig) -> bool:
    """Whether more than a head is trained, so that every epoch needs the audio."""
    return config.teacher.from_scratch or config.teacher.unfreeze_layers > 0


def fit_teacher(
    teacher: Teacher,
    audio: Rows,
    labels: Numbers,
    weights: Numbers,
    config: WakewordConfig,
    *,
    cache: Embedder | None = None,
    val: tuple[Rows, Numbers] | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Fit what `config.teacher` says: the head, the last layers too, or a network from scratch.

    An ensemble's members are fitted one after another, those that are fitted already left as they are. All
    chance follows from `data.seed`, so that students of different `training.seed` learn from one teacher.

    Args:
        audio: int16, (clips, samples).
        labels, weights: (clips,); weights are of sampling, within a class.
        cache: where embeddings are kept; None for memory.
        val: audio and labels to report figures on; nothing is chosen by them.
        checkpoint: file for the state after each epoch on audio, from which an interrupted fit goes on.

    Returns:
        Figures, as `fit_head` gives them; of an ensemble, "members" with those of each.
    """
    if members := members_of(teacher):
        found = {}
        for number, member in enumerate(members):
            name = f"{number + 1} {member.architecture}"
            kept = None if checkpoint is None else checkpoint.with_stem(f"{checkpoint.stem}-{number + 1}")
            found[name] = (
                {}
                if member.head_trained
                else fit_teacher(
                    member,
                    audio,
                    labels,
                    weights,
                    config,
                    cache=cache,
                    val=val,
                    checkpoint=kept,
                )
            )
        return {"members": found}
    figures: dict[str, Any] = {}
    live = _is_new(teacher, config)
    if not live:
        embed = in_memory if cache is None else cache.embeddings
        frames = embed(teacher, audio)
        seen = None if val is None else (embed(teacher, val[0]), val[1])
        figures = fit_head(teacher, frames, labels, weights, config, val=seen)
    if live or (config.teacher.unfreeze_layers and teacher.layers()):
        live_figures = fit_live(teacher, audio, labels, weights, config, val=val, checkpoint=checkpoint)
        figures = ({"head_alone": figures} if figures else {}) | live_figures
    elif config.teacher.unfreeze_layers:
        error_console.print(
            f"{teacher.architecture}: its layers cannot be trained, only its head was "
            f"(teacher.unfreeze_layers = {config.teacher.unfreeze_layers})"
        )
    return figures


def in_memory(teacher: Teacher, audio: Rows, batch: int = 32) -> npt.NDArray[np.float16]:
    """Embeddings of clips, int16 (clips, samples), that nobody keeps: float16, (clips, frames, size)."""
    device, found = device_of(teacher), []
    was_training = teacher.training
    teacher.eval()
    with torch.no_grad(), bar(f"{teacher.architecture} hears clips", len(audio)) as advance:
        for begin in range(0, len(audio), batch):
            heard = torch.from_numpy(to_float(np.asarray(audio[begin : begin + batch]))).to(device)
            found.append(teacher.embed(heard).half().cpu().numpy())
            advance(len(heard))
    teacher.train(was_training)
    if not found:
        raise EdgewakeError("no clip to embed: the loader or split is empty")
    return np.concatenate(found)


# ---- the head ------------------------------------------------------------------------------------


def fit_head(
    teacher: Teacher,
    frames: Rows,
    labels: Numbers,
    weights: Numbers,
    config: WakewordConfig,
    *,
    val: tuple[Rows, Numbers] | None = None,
) -> dict[str, Any]:
    """Fit a new head, as `config.teacher` describes it, to embeddings.

    Batches are balanced (`training.negatives_per_positive`), negatives that the head takes for the phrase
    come up more often (`training.mining_*`), and what is kept after a fixed number of epochs is a running
    average of the weights: a handful of validation voices would choose an epoch by chance.

    Args:
        frames: float16 or float32, (clips, frames, size); read batch by batch.
        labels, weights: (clips,); weights are of sampling, within a class.
        val: embeddings and labels to report figures on.

    Returns:
        train_loss, and "train" and "val" (accuracy, precision, recall, f1 at probability 0.5).

    Raises:
        EdgewakeError: a class has no clip, or the loss is not finite.
    """
    settings = config.teacher
    seed = config.data.seed
    labels = np.asarray(labels, np.int64)
    weights = np.asarray(weights, np.float64)
    _check_classes(labels)
    device = device_of(teacher)
    frozen = teacher.frozen
    with torch.random.fork_rng(devices=_cuda(device)):
        torch.manual_seed(seed)
        made = make_head(settings, teacher.embedding_size, teacher.frame_rate, teacher.num_classes)
        head = teacher.head = made.to(device)
        _standardize(head, lambda chosen: _batch(frames, chosen, device), len(labels))
        size = min(settings.batch_size, max(2, len(labels)))
        batches = max(LEAST_BATCHES, -(-len(labels) // size))
        sampler = BalancedBatchSampler(labels, weights, size, config.training.positive_share, batches, seed)
        average = Average(head)
        optimizer = torch.optim.AdamW(_groups(head, settings.learning_rate, settings.weight_decay))
        schedule = Schedule(settings.epochs * batches)
        targets = torch.from_numpy(labels)
        loss_sum = 0.0
        with bar("fitting the head", settings.epochs * batches) as advance:
            for epoch in range(settings.epochs):
                sampler.set_epoch(epoch)
                head.train()
                loss_sum = 0.0
                for chosen in sampler:
                    logits, _ = head(_batch(frames, np.array(chosen), device))
                    loss = _loss(logits, targets[chosen].to(device), teacher.architecture)
                    schedule.step(optimizer, loss)
                    average.follow(head)
                    loss_sum += float(loss.detach())
                    advance(1)
                if _mines(config, epoch, settings.epochs):
                    sampler.weights = _mined(head, frames, labels, weights, config, device)
        average.apply(head)
    head.eval()
    teacher.head_trained = True
    if frozen:
        teacher.freeze()
    figures: dict[str, Any] = {"train_loss": loss_sum / batches, "epochs": settings.epochs}
    figures["train"] = f1_score(probabilities(head, frames, device), labels)
    if val is not None:
        figures["val"] = f1_score(probabilities(head, val[0], device), np.asarray(val[1], np.int64))
    return figures


@torch.no_grad()
def probabilities(head: nn.Module, frames: Rows, device: torch.device) -> npt.NDArray[np.float32]:
    """The head's probability of class 1 for embeddings, (clips, frames, size): float32, (clips,)."""
    head.eval()
    found = [
        head(_batch(frames, np.arange(begin, min(begin + SCORING_BATCH, len(frames))), device))[0]
        .softmax(dim=1)[:, 1]
        .cpu()
        for begin in range(0, len(frames), SCORING_BATCH)
    ]
    return np.asarray(torch.cat(found).numpy(), np.float32) if found else np.zeros(0, np.float32)


def _mines(config: WakewordConfig, epoch: int, epochs: int) -> bool:
    training = config.training
    return training.hard_negative_mining and not (epoch + 1) % training.mining_interval and epoch + 1 < epochs


def _mined(
    head: nn.Module,
    frames: Rows,
    labels: Numbers,
    weights: Numbers,
    config: WakewordConfig,
    device: torch.device,
) -> npt.NDArray[np.float64]:
    """Weights for the next epochs: a negative with probability p is drawn 1 + boost * p times as often."""
    mined = np.asarray(weights, np.float64).copy()
    negative = labels != 1
    mined[negative] *= 1 + config.training.mining_boost * probabilities(head, frames, device)[negative]
    return mined


def _batch(frames: Rows, chosen: Numbers, device: torch.device) -> Tensor:
    # Read in order, which is kinder to a memory map, and put back as they were drawn.
    ordered, places = np.unique(chosen, return_inverse=True)
    return torch.from_numpy(np.asarray(frames[ordered], np.float32)[places]).to(device)


# ---- the network ---------------------------------------------------------------------------------


def fit_live(
    teacher: Teacher,
    audio: Rows,
    labels: Numbers,
    weights: Numbers,
    config: WakewordConfig,
    *,
    val: tuple[Rows, Numbers] | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Train the head and the network under it on audio: its last layers, or all of it (`from_scratch`).

    Clips move in time by up to 0.1 s and change sign at random. The weights of hidden states are trained too.
    A head that is trained already is trained on; else a new one is made. What is kept is a running average.

    Args:
        audio: int16, (clips, samples).
        labels, weights: (clips,).
        val: audio and labels to report figures on.
        checkpoint: file that holds the state after each epoch. If it is there, of the same settings and seed,
            training goes on from it, and ends as if it had not been interrupted.

    Returns:
        train_loss, history (one figure of loss an epoch), "val".

    Raises:
        ConfigError: the network has no layers that can be trained.
        EdgewakeError: a class has no clip, the loss is not finite, or the checkpoint is of another training.
    """
    settings = config.teacher
    seed = config.data.seed
    labels, weights = np.asarray(labels, np.int64), np.asarray(weights, np.float64)
    _check_classes(labels)
    device = device_of(teacher)
    frozen = teacher.frozen
    teacher.thaw()
    with torch.random.fork_rng(devices=_cuda(device)):
        torch.manual_seed(seed)
        scratch = _is_new(teacher, config)
        network, rate = _open(teacher, config)
        if not teacher.head_trained:
            made = make_head(settings, teacher.embedding_size, teacher.frame_rate, teacher.num_classes)
            teacher.head = made.to(device)
            if not scratch:
                teacher.eval()
                _standardize(teacher.head, lambda chosen: _heard(teacher, audio, chosen), len(labels), 256)
        for parameter in teacher.head.parameters():
            parameter.requires_grad_(True)
        trained = _Trained(teacher, network)
        size = min(settings.batch_size, max(2, len(labels)))
        batches = max(1, -(-len(labels) // size))
        sampler = BalancedBatchSampler(labels, weights, size, config.training.positive_share, batches, seed)
        groups = _groups(teacher.head, settings.learning_rate, settings.weight_decay)
        groups += _groups(network, rate, settings.weight_decay)
        optimizer = torch.optim.AdamW(groups)
        schedule = Schedule(settings.epochs * batches, config.optimizer.gradient_clip or math.inf)
        average = Average(trained)
        key: list[Any] = []
        if checkpoint is not None:
            key = [seed, settings.model_dump(mode="json"), config.training.positive_share]
            key += [teacher.architecture, teacher.name, clips_fingerprint(audio, labels, weights)]
        history: list[float] = []
        if checkpoint is not None and checkpoint.exists():
            history = _resume(checkpoint, key, trained, optimizer, average)
            schedule.done = len(history) * batches
            error_console.print(f"{teacher.architecture}: epoch {len(history)} of {settings.epochs} is done already")
        targets = torch.from_numpy(labels)
        half = device.type == "cuda" and config.optimizer.mixed_precision
        for epoch in range(len(history), settings.epochs):
            # From here on an epoch depends on its number and the state alone.
            torch.manual_seed(seed * 1_000_003 + epoch)
            rng = np.random.default_rng([seed, epoch])
            sampler.set_epoch(epoch)
            teacher.train()
            loss_sum = 0.0
            name = f"training {teacher.architecture}, epoch {epoch + 1} of {settings.epochs}"
            with bar(name, batches) as advance:
                for chosen in sampler:
                    heard = _varied(to_float(np.asarray(audio[np.array(chosen)])), rng).to(device)
                    with torch.autocast("cuda", torch.bfloat16) if half else contextlib.nullcontext():
                        logits = teacher.outputs(heard).logits
                    loss = _loss(logits.float(), targets[chosen].to(device), teacher.architecture)
                    schedule.step(optimizer, loss)
                    average.follow(trained)
                    loss_sum += float(loss.detach())
                    advance(1)
            history.append(loss_sum / batches)
            error_console.print(f"{teacher.architecture} epoch {epoch + 1}  loss {history[-1]:.4f}")
            if checkpoint is not None:
                _keep(checkpoint, key, trained, optimizer, average, history)
        average.apply(trained)
    teacher.backbone_trained = teacher.head_trained = True
    if scratch:
        teacher.source = FROM_SCRATCH
    teacher.requires_grad_(False)
    teacher.eval()
    if frozen:
        teacher.freeze()
    figures: dict[str, Any] = {"train_loss": history[-1], "epochs": settings.epochs, "history": history}
    if val is not None:
        probability = clip_probabilities(teacher.eval(), val[0], device)
        figures["val"] = f1_score(probability, np.asarray(val[1], np.int64))
    return figures


class _Trained(nn.Module):
    """All that `fit_live` changes, and nothing else."""

    def __init__(self, teacher: Teacher, network: nn.Module) -> None:
        super().__init__()
        self.head, self.network = teacher.head, network


def _is_new(teacher: Teacher, config: WakewordConfig) -> bool:
    """Whether the whole network is to be trained: it was made with random weights, and nobody trained it."""
    return config.teacher.from_scratch and teacher.source == RANDOM and not teacher.backbone_trained


def _open(teacher: Teacher, config: WakewordConfig) -> tuple[nn.Module, float]:
    """Give gradients to what is trained under the head; returns it and its learning rate."""
    settings, layers = config.teacher, teacher.layers()
    if not layers:
        raise ConfigError(
            f"teacher.unfreeze_layers = {settings.unfreeze_layers} with {teacher.architecture}: its network "
            "cannot be trained here; set teacher.unfreeze_layers: 0"
        )
    teacher.requires_grad_(False)
    network = nn.ParameterList()
    scratch = _is_new(teacher, config)
    if scratch:
        network.extend(value for name, value in teacher.named_parameters() if not name.startswith("head."))
    else:
        for layer in layers[-settings.unfreeze_layers :]:
            network.extend(layer.parameters())
        mixing = getattr(teacher, "layer_weights", None)
        if isinstance(mixing, nn.Parameter):
            network.append(mixing)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    usual = SCRATCH_RATE if scratch else LAYERS_RATE
    return network, settings.backbone_learning_rate or usual


def _varied(audio: npt.NDArray[np.float32], rng: np.random.Generator) -> Tensor:
    """Clips moved by up to 0.1 s, zeros coming in, and with either sign."""
    out = np.zeros_like(audio)
    limit = min(SHIFT_SAMPLES, audio.shape[1] // 8)
    for row, clip in zip(out, audio, strict=True):
        shift = int(rng.integers(-limit, limit + 1))
        moved = clip[max(0, -shift) : len(clip) - max(0, shift)]
        row[max(0, shift) : max(0, shift) + len(moved)] = moved * rng.choice((-1.0, 1.0))
    return torch.from_numpy(out)


def _heard(teacher: Teacher, audio: Rows, chosen: Numbers) -> Tensor:
    parts = np.array_split(chosen, max(1, len(chosen) // 32))
    device = device_of(teacher)
    return torch.cat([teacher.embed(torch.from_numpy(to_float(np.asarray(audio[part]))).to(device)) for part in parts])


def clips_fingerprint(audio: Rows, labels: Numbers, weights: Numbers) -> str:
    """16 hex digits over clips, int16 (clips, samples), their labels and their weights."""
    seen = b"".join([labels.tobytes(), weights.tobytes(), *clip_digests(audio)])
    return hashlib.sha256(seen).hexdigest()[:16]


def _keep(
    path: Path,
    key: list[Any],
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    history: list[float],
) -> None:
    state = {
        "key": key,
        "trained": trained.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state_dict(),
        "history": history,
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _resume(
    path: Path, key: list[Any], trained: nn.Module, optimizer: torch.optim.Optimizer, average: Average
) -> list[float]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["key"] == key:
            trained.load_state_dict(state["trained"])
            optimizer.load_state_dict(state["optimizer"])
            average.load_state_dict(state["average"])
            return list(state["history"])
    except Exception as error:  # of the archive, of pickle, of a shape: it is of no use in any case
        raise EdgewakeError(f"{path} cannot be read ({one_line(error)}); delete it to train anew") from error
    raise EdgewakeError(f"{path} is of a training with other settings or clips; delete it to train anew")


# ---- from a loader -------------------------------------------------------------------------------


def fit_on_loader(teacher: Teacher, loader: Any, config: WakewordConfig) -> dict[str, Any]:
    """Fit a teacher on a loader's batches (raw audio (batch, samples), labels, ...), gone through once.

    Raises:
        EdgewakeError: the loader gives features, nothing, or more than 4 GB of audio.
    """
    audio: list[npt.NDArray[np.int16]] = []
    labels: list[npt.NDArray[np.int64]] = []
    size = 0
    for batch in loader:
        inputs = batch[0]
        if inputs.dim() != 2:
            raise EdgewakeError(
                f"a loader of {tuple(inputs.shape)} batches cannot fit a teacher, which needs raw audio "
                "(batch, samples): give WakewordDataset(..., return_raw_audio=True)"
            )
        audio.append(to_int16(inputs.detach().cpu().numpy()))
        labels.append(batch[1].detach().cpu().numpy())
        size += audio[-1].nbytes
        if size > LOADER_BYTES:
            raise EdgewakeError(
                f"the loader gives more than {LOADER_BYTES / 1e9:.0f} GB of audio, too much to fit a head on "
                "in memory: fit the teacher by `edgewake teacher train`, and name its teacher.pt in "
                "distillation.teacher_model_path"
            )
    if not audio:
        raise EdgewakeError("the training loader gives no batch: add recordings to the train split")
    clips, truth = np.concatenate(audio), np.concatenate(labels)
    return fit_teacher(teacher, clips, truth, np.ones(len(truth)), config)


# ---- parts ---------------------------------------------------------------------------------------


class Schedule:
    """Steps an optimizer: linear warm-up over a tenth, then a cosine to 1 % (arXiv:1608.03983)."""

    def __init__(self, steps: int, clip: float = 1.0) -> None:
        self.steps, self.clip, self.done = steps, clip, 0

    def factor(self) -> float:
        """Share of the peak rate at this step."""
        warmup = min(100, max(1, self.steps // 10))
        if self.done < warmup:
            return (self.done + 1) / warmup
        share = (self.done - warmup) / max(1, self.steps - warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """One update from `loss`."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * self.factor()
        values = [value for group in optimizer.param_groups for value in group["params"]]
        nn.utils.clip_grad_norm_(values, self.clip)
        optimizer.step()
        self.done += 1


class Average:
    """A running average of parameters (arXiv:1703.01780), with a short memory at first."""

    def __init__(self, module: nn.Module) -> None:
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}
        self.seen = 0

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Take in the present values."""
        decay = min(EMA_DECAY, (1 + self.seen) / (10 + self.seen))
        for name, value in module.named_parameters():
            self.values[name].lerp_(value, 1 - decay)
        self.seen += 1

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        """Put the average in the place of the present values."""
        for name, value in module.named_parameters():
            value.copy_(self.values[name])

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"values": self.values, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for name, value in state["values"].items():
            self.values[name].copy_(value)
        self.seen = int(state["seen"])


def _groups(module: nn.Module, rate: float, decay: float) -> list[dict[str, Any]]:
    values = [value for value in module.parameters() if value.requires_grad]
    matrices = [value for value in values if value.dim() > 1]
    plain = [value for value in values if value.dim() <= 1]
    return [
        {"params": chosen, "lr": rate, "peak": rate, "weight_decay": share}
        for chosen, share in ((matrices, decay), (plain, 0.0))
        if chosen
    ]


def _loss(logits: Tensor, targets: Tensor, name: str) -> Tensor:
    loss = F.cross_entropy(logits, targets, label_smoothing=LABEL_SMOOTHING)
    if not math.isfinite(float(loss.detach())):
        raise EdgewakeError(
            f"teacher {name}: loss is {float(loss.detach())}; lower teacher.learning_rate or "
            "teacher.backbone_learning_rate, and check the audio for values that are not numbers"
        )
    return loss


def _standardize(
    head: nn.Module, frames: Callable[[Numbers], Tensor], clips: int, most: int = STANDARDIZED_FROM
) -> None:
    if isinstance(head, Head):
        with torch.no_grad():
            head.standardize(frames(np.linspace(0, clips - 1, min(clips, most)).astype(np.int64)))


def _check_classes(labels: Numbers) -> None:
    for label, what in ((1, "of the phrase"), (0, "without the phrase")):
        if not (labels == label).any():
            raise EdgewakeError(f"a teacher cannot be fitted: no clip {what} among {len(labels)}; add some")


def _cuda(device: torch.device) -> Iterator[int] | list[int]:
    return [torch.cuda.current_device()] if device.type == "cuda" else []
