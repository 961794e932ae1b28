"""Teachers are fitted by the training loop, once for equal clips and settings; a resumed run keeps its teacher."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgewake.cache import Cache
from edgewake.config import WakewordConfig
from edgewake.console import console, error_console
from edgewake.data.clips import BalancedBatchSampler, ClipDataset, Clips
from edgewake.data.reading import to_float, to_int16
from edgewake.data.store import FeatureStore
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.clips import f1_score
from edgewake.io import read_json, write_json
from edgewake.teachers.base import OutputSource, Teacher, device_of, make_head, members_of
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.registry import load_teacher, save_teacher, teacher_from_config
from edgewake.training.checkpoint_manager import CheckpointManager, kept_rng
from edgewake.training.distributed import Processes, device_for
from edgewake.training.teacher_outputs import LiveOutputs, TeacherCache
from edgewake.training.trainer import Trainer

TEACHER, RECORD = "teacher.pt", "teacher.json"
# Settings of training that a fit takes over.
FIT_SETTINGS = {"negatives_per_positive", "hard_negative_mining", "mining_interval", "mining_boost"}
# Teachers of few voices are overconfident; more smoothing would take away what soft targets tell.
LABEL_SMOOTHING = 0.02
EMA_DECAY = 0.99
WARMUP_STEPS = 100
# A head sees at least this many batches an epoch: with a few clips ten passes would leave it where it began.
LEAST_BATCHES = 20
STANDARDIZED_FROM, STANDARDIZED_FROM_AUDIO = 2000, 256
LAYERS_RATE, SCRATCH_RATE = 3e-5, 1e-3
RANDOM, FROM_SCRATCH = "random", "trained from scratch"
SHIFT_SAMPLES = 1600
LOADER_BYTES = 4_000_000_000
SCORING_BATCH = 256


class LabelledClips(ClipDataset):
    """Clips to fit a teacher to: int16 audio, (clips, samples), or embeddings, (clips, frames, size), in memory or not.

    `labels` are 1 for the phrase; `weights`, 1 by default, are of sampling, within a class; both (clips,).
    """

    def __init__(self, inputs: Clips, labels: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None) -> None:
        weights = np.ones(len(labels)) if weights is None else weights
        super().__init__(np.asarray(labels, np.int64), np.asarray(weights, np.float64))
        self.inputs = inputs

    def inputs_of(self, clips: Any) -> Tensor:
        # Read in order, which is kinder to a memory map, and put back as they were drawn.
        ordered, places = np.unique(clips, return_inverse=True)
        found = np.asarray(self.inputs[ordered])
        found = to_float(found) if found.dtype == np.int16 else found.astype(np.float32)
        return torch.from_numpy(found[places])


# ---- the teacher of a run --------------------------------------------------------------------------


def has_teacher(config: WakewordConfig) -> bool:
    """Whether a run has a teacher that takes audio; a student that is its own teacher needs none."""
    return config.distillation.enabled and config.distillation.teacher_architecture != "self"


def make_teacher(config: WakewordConfig) -> Teacher:
    """The teacher that `config` names; one that starts from random weights starts from `data.seed`."""
    with kept_rng():
        torch.manual_seed(config.data.seed)
        return teacher_from_config(config)


def prepare_teacher(
    teacher: Teacher | None, config: WakewordConfig, train: FeatureStore, val: FeatureStore, kept: Path, *, write: bool
) -> tuple[OutputSource, dict[str, Any]]:
    """A run's teacher, fitted where its head is untrained, from stores with audio; kept in a folder, with `write`.

    `teacher` is None for the one that the run began with; an error where its weights have changed.

    Returns:
        Its outputs for the train store's clips by number; and its record: `describe`, "figures" of its fit, if it
        was fitted here, and "train": how far it agrees with the labels of the train store.
    """
    assert train.audio is not None
    figures: dict[str, Any] = {}
    if began := teacher is None:
        record = read_json(kept / RECORD, "record of the teacher")
        teacher, figures = load_teacher(kept / TEACHER), dict(record.get("figures", {}))
        for name, value in describe(teacher).items():
            if name.endswith("fingerprint") and value != record[name]:
                raise EdgewakeError(
                    f"the teacher in {kept} has {name} {value}, but the run began with {record[name]}: restore "
                    f"the weights of {record['source']}, or start another run with another --out"
                )
    teacher.to(device_for(config))
    if not teacher.head_trained:
        teacher, figures = fitted(teacher, config, train, val)
    record = describe(teacher.freeze()) | ({"figures": figures} if figures else {})
    shown = f"; F1 {figures['val']['f1']:.3f} on validation clips" if "val" in figures else ""
    console.print(f"teacher: {teacher.architecture}, {teacher.source}{shown}", soft_wrap=True)
    source: OutputSource = LiveOutputs(teacher, train.audio)
    if config.distillation.store_outputs:
        hints = config.distillation.hint_weight > 0
        source = stored = TeacherCache(teacher, config.cache.open()).outputs(train.audio, frames=hints)
        record["train"] = f1_score(stored.logits.softmax(dim=1)[:, 1].numpy(), train.labels)
    if write and not began:
        save_teacher(teacher, kept / TEACHER)
        write_json(kept / RECORD, record)
    return source, record


def fitted(
    teacher: Teacher, config: WakewordConfig, train: FeatureStore, val: FeatureStore
) -> tuple[Teacher, dict[str, Any]]:
    """`teacher` fitted to the clips of a store, or the result of an equal earlier fit, with its figures.

    Of an ensemble, each member that is not fitted yet; ensembles and single teachers share fits. Fits lie in
    the cache; an interrupted one goes on. `training.seed` is in the key only where it draws the recordings
    (`data.positive_fraction`): runs with different seeds have one teacher.
    """
    if isinstance(teacher, EnsembleTeacher):
        members, figures = [], {}
        for number, member in enumerate(teacher.members, 1):
            done = (member, {}) if member.head_trained else fitted(member, config, train, val)
            members.append(done[0])
            figures[f"{number} {member.architecture}"] = done[1]
        return EnsembleTeacher(members, teacher.weights, teacher.mean), {"members": figures}
    cache, device = config.cache.open(), device_of(teacher)
    drawn = [config.data.positive_fraction, config.training.seed] if config.data.positive_fraction < 1 else []

    def make(folder: Path) -> dict[str, Any]:
        assert train.audio is not None
        assert val.audio is not None
        kept, place = cache if config.distillation.store_outputs else None, folder / "checkpoints"
        clips = LabelledClips(train.audio, train.labels, train.base_weights)
        scored = LabelledClips(val.audio, val.labels)
        figures = fit_teacher(teacher, clips, config, cache=kept, val=scored, folder=place)
        save_teacher(teacher, folder / TEACHER)
        shutil.rmtree(place)
        return {"figures": figures}

    key = {
        "network": [teacher.architecture, teacher.fingerprint(), teacher.num_classes],
        "clips": [train.key, val.key, *drawn],
        "teacher": config.teacher.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json", include=FIT_SETTINGS),
        "seed": config.data.seed,
    }
    entry = cache.get("teachers", key, make, code=[__name__], resumable=True)
    return load_teacher(entry.folder / TEACHER).freeze().to(device), entry.record["figures"]


def describe(teacher: Teacher) -> dict[str, Any]:
    """What identifies a teacher, as plain data: architecture, name, source, fingerprints, and those of members."""
    record: dict[str, Any] = {name: getattr(teacher, name) for name in ("architecture", "name", "source")}
    record |= {"fingerprint": teacher.fingerprint(), "head_fingerprint": teacher.head_fingerprint()}
    members = members_of(teacher)
    return record | ({"members": [describe(member) for member in members]} if members else {})


# ---- fits ------------------------------------------------------------------------------------------


def fit_teacher(
    teacher: Teacher,
    clips: LabelledClips,
    config: WakewordConfig,
    *,
    cache: Cache | None = None,
    val: LabelledClips | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Fit what `config.teacher` names: the head, the last layers too, or a network from scratch; returns figures.

    All random numbers follow from `data.seed`, so that students of different `training.seed` have one teacher.
    Embeddings of the clips' audio are kept in `cache`, or in memory; figures are also of `val`, by which nothing is
    chosen; from the checkpoints in `folder`, or a temporary one, an interrupted fit goes on.
    """
    if folder is None:
        with TemporaryDirectory() as temporary:
            return fit_teacher(teacher, clips, config, cache=cache, val=val, folder=Path(temporary))
    figures: dict[str, Any] = {}
    if not _is_new(teacher, config):
        kept = TeacherCache(teacher, cache)
        embedded = None if val is None else LabelledClips(kept.embeddings(val.inputs), val.labels)
        frames = LabelledClips(kept.embeddings(clips.inputs), clips.labels, clips.base_weights)
        figures = fit_stage(teacher, frames, config, network=False, val=embedded, folder=folder / "head")
        if not (unfrozen := config.teacher.unfreeze_layers):
            return figures
        if not teacher.layers():
            what = f"its layers cannot be trained, only its head was (teacher.unfreeze_layers = {unfrozen})"
            error_console.print(f"{teacher.architecture}: {what}")
            return figures
        figures = {"head_alone": figures}
    return figures | fit_stage(teacher, clips, config, network=True, val=val, folder=folder / "network")


def fit_stage(
    teacher: Teacher,
    clips: LabelledClips,
    config: WakewordConfig,
    *,
    network: bool,
    val: LabelledClips | None = None,
    folder: Path,
) -> dict[str, Any]:
    """Fit a new head, as `config.teacher` describes it, to embeddings; or train head and `network` on audio.

    Of the network that is its last layers and the weights of hidden states, or all of it (`from_scratch`); a head
    that is trained already is trained on. Audio moves in time by up to 0.1 s and changes sign at random. Batches
    are balanced (`training.negatives_per_positive`), negatives that a head takes for the phrase come up more often
    (`training.mining_*`), and what is kept after a fixed number of epochs is a running average of the weights:
    a handful of validation voices would choose an epoch by chance.

    Returns:
        train_loss, epochs, history (the loss of each epoch), and "val" and, of a head, "train" (accuracy,
        precision, recall, f1 at probability 0.5).

    Raises:
        EdgewakeError: a class has no clip, the loss is not finite, or the network has no layers that can be trained.
    """
    frozen, new = teacher.frozen, _is_new(teacher, config)
    with kept_rng():
        teacher.frozen = teacher.frozen and not network
        layers = _trained_layers(teacher, config) if network else None
        if not (network and teacher.head_trained):
            _new_head(teacher, config, clips)
        trainer = _TeacherTrainer(teacher, layers, clips, config, val, folder)
        if trainer.checkpoint_manager.last.exists():
            trainer.resume()
        history = trainer.train()["history"]
        trainer.model.load_state_dict(trainer.trained.state_dict())
        trainer.model.eval().requires_grad_(False)
        losses = [epoch["train_loss"] for epoch in history]
        figures: dict[str, Any] = {"train_loss": losses[-1], "epochs": len(losses), "history": losses}
        if val is not None:
            figures["val"] = _scores(history[-1])
        if not network:
            trainer.val_loader = clips.loader(batch_size=SCORING_BATCH)
            figures["train"] = _scores(trainer.validate())
    teacher.head_trained = True
    if network:
        teacher.backbone_trained, teacher.frozen = True, frozen
        teacher.source = FROM_SCRATCH if new else teacher.source
        teacher.requires_grad_(False).eval()
    return figures


def fit_on_loader(teacher: Teacher, loader: Any, config: WakewordConfig) -> None:
    """Fit a teacher, or members of an ensemble, whose head is untrained on batches (raw audio, labels, ...).

    An error where the loader, gone through once, gives features, nothing, or more than 4 GB of audio.
    """
    audio: list[npt.NDArray[np.int16]] = []
    labels: list[npt.NDArray[np.int64]] = []
    for batch in loader:
        if batch[0].dim() != 2:
            raise EdgewakeError(
                f"a loader of {tuple(batch[0].shape)} batches cannot fit a teacher, which needs raw audio "
                "(batch, samples): give WakewordDataset(..., return_raw_audio=True)"
            )
        audio.append(to_int16(batch[0].detach().cpu().numpy()))
        labels.append(batch[1].detach().cpu().numpy())
        if len(audio) * audio[0].nbytes > LOADER_BYTES:
            raise EdgewakeError(
                f"the loader gives more than {LOADER_BYTES / 1e9:.0f} GB of audio, too much to fit on in memory: "
                "fit it by `edgewake teacher train`, and name its teacher.pt in distillation.teacher_model_path"
            )
    if not audio:
        raise EdgewakeError("the training loader gives no batch: add recordings to the train split")
    for member in members_of(teacher) or [teacher]:
        if not member.head_trained:
            fit_teacher(member, LabelledClips(np.concatenate(audio), np.concatenate(labels)), config)


def _is_new(teacher: Teacher, config: WakewordConfig) -> bool:
    """Whether the whole network is to be trained: it has random weights."""
    return config.teacher.from_scratch and teacher.source == RANDOM and not teacher.backbone_trained


def _trained_layers(teacher: Teacher, config: WakewordConfig) -> list[nn.Parameter]:
    """What is trained under the head, with gradients."""
    count, layers = config.teacher.unfreeze_layers, teacher.layers()
    if not layers:
        raise ConfigError(
            f"teacher.unfreeze_layers = {count} with {teacher.architecture}: its network cannot be trained here; set "
            "teacher.unfreeze_layers: 0"
        )
    teacher.requires_grad_(False)
    if _is_new(teacher, config):
        network = [value for name, value in teacher.named_parameters() if not name.startswith("head.")]
    else:
        network = [value for layer in layers[-count:] for value in layer.parameters()]
        mixing = getattr(teacher, "layer_weights", None)
        network += [mixing] if isinstance(mixing, nn.Parameter) else []
    for parameter in network:
        parameter.requires_grad_(True)
    return network


def _new_head(teacher: Teacher, config: WakewordConfig, clips: LabelledClips) -> None:
    """Give a teacher an untrained head, standardized by embeddings of some clips unless the network is random too."""
    torch.manual_seed(config.data.seed)
    device = device_of(teacher)
    head = make_head(config.teacher, teacher.embedding_size, teacher.frame_rate, teacher.num_classes)
    teacher.head = head.to(device)
    if _is_new(teacher, config):
        return
    most = STANDARDIZED_FROM_AUDIO if clips.inputs_of(np.array([0])).dim() == 2 else STANDARDIZED_FROM
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), most)).astype(np.int64)
    with torch.no_grad():
        inputs = [batch.to(device) for batch in clips.batches(chosen, 32)]
        head.standardize(torch.cat([batch if batch.dim() == 3 else teacher.eval().embed(batch) for batch in inputs]))


class _Trained(nn.Module):
    """What is trained of a teacher, and in checkpoints: its head on embeddings, or on audio layers below it too."""

    teacher: Teacher | None

    def __init__(self, teacher: Teacher, network: Iterable[nn.Parameter] | None) -> None:
        super().__init__()
        self.head = teacher.head.requires_grad_(True)
        self.network = nn.ParameterList(network or ())
        # Not a submodule: what is not trained is in no checkpoint, and without layers in no copy for the average.
        self.__dict__["teacher"] = None if network is None else teacher

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        logits: Tensor = self.head(inputs)[0] if self.teacher is None else self.teacher.outputs(inputs).logits
        return logits

    def train(self, mode: bool = True) -> _Trained:
        """As in torch; the teacher that is trained goes with it."""
        if self.teacher is not None:
            self.teacher.train(mode)
        return super().train(mode)


class _TeacherTrainer(Trainer):
    """The training loop with the settings of `config.teacher`; `network` is trained below the head, at its own rate."""

    continued_by = "the same command continues"

    def __init__(
        self,
        teacher: Teacher,
        network: list[nn.Parameter] | None,
        clips: LabelledClips,
        config: WakewordConfig,
        val: LabelledClips | None,
        folder: Path,
    ) -> None:
        self.teacher, settings, seed = teacher, config.teacher, config.data.seed
        for label, what in ((1, "of the phrase"), (0, "without the phrase")):
            if not (clips.labels == label).any():
                raise EdgewakeError(f"a teacher cannot be fitted: no clip {what} among {len(clips)}; add some")
        size = min(settings.batch_size, max(2, len(clips)))
        batches = max(LEAST_BATCHES if network is None else 1, -(-len(clips) // size))
        share = config.training.positive_share
        sampler = BalancedBatchSampler(clips.labels != 1, clips.weights, size, [share], batches, seed)
        rate = settings.backbone_learning_rate or (SCRATCH_RATE if _is_new(teacher, config) else LAYERS_RATE)
        self._rate_factor = rate / settings.learning_rate
        super().__init__(
            _Trained(teacher, network),
            clips.loader(sampler),
            None if val is None else val.loader(batch_size=SCORING_BATCH),
            _settings(config, network=network is not None),
            CheckpointManager(folder),
            str(device_of(teacher)),
            # Other processes wait for the teacher that the main one fits.
            processes=Processes(),
        )

    def parameter_groups(self) -> Iterator[tuple[Iterable[nn.Parameter], float]]:
        """The head, and the network with a rate of its own."""
        yield self.teacher.head.parameters(), 1.0
        yield self.model.network.parameters(), self._rate_factor  # type: ignore[union-attr]

    def process_inputs(self, inputs: Tensor, *, train: bool) -> Tensor:
        """Embeddings as they are; in training, audio is moved in time and has either sign."""
        if train and inputs.dim() == 2:
            limit = min(SHIFT_SAMPLES, inputs.shape[1] // 8)
            generator = self._generator()
            shift = torch.randint(-limit, limit + 1, (len(inputs), 1), generator=generator)
            sign = torch.randint(0, 2, (len(inputs), 1), generator=generator) * 2 - 1
            place = torch.arange(inputs.shape[1]) - shift
            moved = inputs.gather(1, place.clamp(0, inputs.shape[1] - 1))
            inputs = torch.where((place >= 0) & (place < inputs.shape[1]), moved, 0.0) * sign
        return inputs.to(self.device)

    def report_epoch(self, figures: Mapping[str, float], seconds: float, *, best: bool) -> None:
        """One line on stderr for an epoch on audio; a head's take seconds."""
        if self.model.teacher is not None:
            error_console.print(
                f"{self.teacher.architecture} epoch {self.progress.epoch}  loss {figures['train_loss']:.4f}"
            )


def _scores(figures: Mapping[str, float]) -> dict[str, float]:
    """Those of an epoch's figures of validation that a teacher's record keeps."""
    return {name: figures[f"val_{name}"] for name in ("accuracy", "precision", "recall", "f1")}


def _settings(config: WakewordConfig, *, network: bool) -> WakewordConfig:
    """The settings of a fit, in the place where the training loop reads them."""
    fit, settings = config.model_copy(), config.teacher
    fit.distillation.enabled = fit.qat.enabled = fit.augmentation.enabled = False
    training, optimizer = fit.training, fit.optimizer
    training.seed, training.epochs = config.data.seed, settings.epochs
    training.learning_rate, training.ema_decay = settings.learning_rate, EMA_DECAY
    training.label_smoothing, training.focal_gamma, training.hard_negative_weight = LABEL_SMOOTHING, 0.0, 1.0
    training.class_weights, training.early_stopping_patience = None, 0
    training.hard_negative_mining = training.hard_negative_mining and not network
    optimizer.optimizer, optimizer.scheduler, optimizer.warmup_steps = "adamw", "cosine", WARMUP_STEPS
    optimizer.weight_decay = settings.weight_decay
    optimizer.mixed_precision = optimizer.mixed_precision and network
    return fit
