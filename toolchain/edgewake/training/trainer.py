"""The training loop: each run is seeded, resumable to the bit on a CPU, and never loses its last good state."""

from __future__ import annotations

import inspect
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from edgewake.config import WakewordConfig
from edgewake.console import bar, console
from edgewake.data.clips import ClipDataset
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.evaluation.clips import f1_score
from edgewake.models.featurizer import make_featurizer
from edgewake.models.tiny_conv import TinyConv
from edgewake.training.checkpoint_manager import CheckpointManager, restore_rng, rng_state
from edgewake.training.distributed import Processes, launched_processes, sync_batch_norm
from edgewake.training.feature_augment import augment
from edgewake.training.losses import clip_loss, clip_weights
from edgewake.training.metrics_log import MetricsLog

# Batches that QAT observes have no step of their own: their augmentation is seeded so far from that of steps.
OBSERVED_SEEDS = 1_000_000_007


@dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    phase: str = "float"
    phase_epoch: int = 0  # of the phase, over all its runs
    stale: int = 0
    best_score: float = -math.inf
    best_f1: float = 0.0
    skipped_batches: int = 0
    figure_sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains a model, from inputs of the loaders to logits (batch, classes), on clips.

    Phase `float` trains with BatchNorm, `training.averaged_runs` times from the same weights, each on other batches
    and with a schedule of its own; the mean of their last weights goes on (a model soup, arXiv:2203.05482). Phase
    `qat`, when `config.qat.enabled` and the model is a `TinyConv`, folds BatchNorm, observes the ranges of
    activations, and then trains the very weights that are exported with int8 weights and activations in the loop.

    Args:
        train_loader: batches (inputs, targets[, is_hard_negative[, clips]]), where clips are the loader's own
            numbers of its clips, kept in `self.clips` while a batch is worked on. Those of a `ClipDataset` are mined
            for hard negatives (`training.mining_*`). With `training.hard_share`, what a batch has beyond `batch_size`
            are negatives at its end, of which the hardest are trained on.
        val_loader: batches of the same form; None to validate nothing.
        config: a copy is frozen.
        evaluator: from the model to extra figures after each epoch; its "score" (higher is better) decides which
            checkpoint is best, otherwise validation F1 does; with neither, the latest is.
        processes: those that train together, by default all that a launcher started; each is given the same
            arguments, and works on its slice of every batch.

    Attributes:
        metrics: where figures of steps and epochs are logged, or None.
        extras: modules that are trained beside the model and dropped with the run, such as a projection that
            only the loss needs; a subclass that fills it calls `_make_optimizer` again.
        loss_figures: of the present step, logged with its loss; their means are an epoch's figures.
    """

    continued_by = "the same command with --resume continues"

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader[Any],
        val_loader: DataLoader[Any] | None,
        config: WakewordConfig,
        checkpoint_manager: CheckpointManager,
        device: str = "cpu",
        *,
        evaluator: Callable[[nn.Module], Mapping[str, float]] | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.config = config.freeze()
        self.processes = processes or launched_processes()
        self.device = self.processes.device or torch.device(device)
        self.model = model.to(self.device)
        if not self.processes.alone:
            if share := self.config.training.hard_share:
                raise ConfigError(
                    f"training.hard_share = {share}: the hardest are of a whole batch; set 0, or one process"
                )
            sync_batch_norm(self.model)
        self.train_loader, self.val_loader, self.evaluator = train_loader, val_loader, evaluator
        dataset = getattr(train_loader, "dataset", None)
        self.store = dataset if isinstance(dataset, ClipDataset) else None
        self._slices = self.processes.slices(train_loader)
        self.checkpoint_manager, self.progress = checkpoint_manager, Progress()
        self.metrics: MetricsLog | None = None
        self.clips: Tensor | None = None
        self.loss_figures: dict[str, float] = {}
        self._observed = 0
        self.extras = nn.ModuleDict().to(self.device)
        self._featurizer: nn.Module | None = None
        self._epoch_rng: dict[str, Any] | None = None
        # Where each run begins, and the mean of the weights in which those before ended.
        self._start = clone(self.model.state_dict()) if self.config.training.averaged_runs > 1 else None
        self._mean = None if self._start is None else averaged(self.model, lambda seen: seen / (seen + 1))
        half = self.config.optimizer.mixed_precision and self.device.type == "cuda"
        self._scaler = GradScaler("cuda", enabled=half)
        self._autocast = torch.autocast("cuda", torch.float16) if half else nullcontext()
        self._restart_optimizer()

    # ---- the loop ------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Train to the end; returns best_f1 (as f1 too), best_checkpoint, best_score, epochs, steps, history.

        An error names the batch whose loss is not finite; KeyboardInterrupt is passed on after the state was saved.
        """
        progress = self.progress
        if not (progress.step or progress.epoch):
            torch.manual_seed(self.config.training.seed)
        with self.processes.one_message(), delayed_interrupts() as interrupted:
            while not self._finished():
                self._epoch(interrupted)
                if self.processes.any(interrupted()):
                    self._stop()
        return {
            "best_f1": progress.best_f1,
            "f1": progress.best_f1,
            "best_checkpoint": str(self.checkpoint_manager.best),
            "best_score": progress.best_score,
            "epochs": progress.epoch,
            "steps": progress.step,
            "history": progress.history,
        }

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.training.early_stopping_patience
        stale = patience and progress.stale >= patience and not self._averages
        phase_over = progress.phase_epoch >= self.phase_epochs or stale
        if progress.batch or not phase_over:
            return False
        if progress.phase == "float" and self.qat_epochs:
            self._enter_qat()
            return False
        return True

    def _epoch(self, interrupted: Callable[[], bool]) -> None:
        progress, started = self.progress, time.monotonic()
        self.model.train()
        self.processes.share_weights(self.model)
        self.processes.share_weights(self.extras)
        total, often = len(self.train_loader), self.config.training.checkpoint_steps
        name = f"{progress.phase} epoch {progress.epoch + 1}"
        with bar(name, total) as advance:
            for batch in self._batches(self._slices):
                loss = self.train_step(batch)
                for key, value in {"train_loss": loss, **self.loss_figures}.items():
                    progress.figure_sums[key] = progress.figure_sums.get(key, 0.0) + value
                progress.batch += 1
                progress.step += 1
                advance(1, f"{name}  loss {loss:.4f}")
                if self.processes.any(interrupted()):
                    self._stop()
                if often and progress.step % often == 0 and progress.batch < total:
                    self._save()
        if progress.batch == 0:
            raise EdgewakeError("the training loader gives no batch: add recordings to the train split")
        means = {key: value / progress.batch for key, value in progress.figure_sums.items()}
        run_over = self._averages and (progress.phase_epoch + 1) % self.run_epochs == 0
        all_over = run_over and progress.phase_epoch + 1 == self.phase_epochs
        if run_over:
            self._end_run(last=all_over)
        figures = {"epoch": progress.epoch + 1} | self.combine(means)
        figures |= self.processes.main_only(lambda: self.validate() | self._mine())
        if self.store is not None:
            # Every process draws by what the main one found.
            self.store.load_state_dict(self.processes.share(self.store.state_dict()))
        progress.epoch += 1
        progress.phase_epoch += 1
        progress.batch, progress.figure_sums = 0, {}
        f1 = figures.get("val_f1", 0.0)
        score = figures.get("score", f1)
        progress.stale += 1
        better = score > progress.best_score or not {"score", "val_f1"} & figures.keys()
        # Of several runs only the mean is kept.
        if best := all_over if self._averages else better:
            progress.best_score, progress.best_f1, progress.stale = score, f1, 0
        progress.history.append({key: float(value) for key, value in figures.items()})
        # Logged first: where the run dies between the two, resuming drops the line and writes it again.
        if self.metrics is not None:
            self.metrics.log(progress.step, figures | {"phase": progress.phase})
        if run_over and not all_over:
            assert self._start is not None
            self.model.load_state_dict(self._start)
            self._restart_optimizer()
        self._save(best=best)
        self.report_epoch(figures, time.monotonic() - started, best=best)

    def train_step(self, batch: Any) -> float:
        """Train on a batch; returns its loss, over all processes."""
        self.loss_figures = {}
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        with self._autocast:
            processed = self.process_inputs(batch[0], train=True)
            if self.config.training.hardest and len(processed) > self.config.training.batch_size:
                chosen = self._with_hardest(processed)
                processed, batch = processed[chosen], [part[chosen.to(part.device)] for part in batch]
            inputs, targets = batch[0], batch[1].to(self.device)
            is_hard = batch[2].to(self.device) if len(batch) > 2 else None
            self.clips = batch[3] if len(batch) > 3 else None
            outputs = self.forward_student(processed)
            loss = self._loss(outputs, targets, inputs=inputs, processed_inputs=processed, is_hard_negative=is_hard)
        value, *means = self.processes.mean([float(loss.detach()), *self.loss_figures.values()])
        self.loss_figures = self.combine(dict(zip(self.loss_figures, means, strict=True)))
        if not math.isfinite(value):
            low, high = self.processes.mean([float(inputs.min()), float(inputs.max())])
            last = self.checkpoint_manager.last
            kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
            raise EdgewakeError(
                f"loss is {value} in epoch {self.progress.epoch + 1}, batch {self.progress.batch} (inputs {low:.3g}.."
                f"{high:.3g}); {kept}: lower training.learning_rate or optimizer.gradient_clip"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        trained = [p for parameters, _ in self.parameter_groups() for p in parameters]
        self.processes.average_gradients(trained)
        self._scaler.unscale_(self.optimizer)
        clip = self.config.optimizer.gradient_clip
        norm = nn.utils.clip_grad_norm_(trained, clip) if clip else None
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self.model)
        regular = self.progress.step % self.config.training.log_every == 0
        if self.metrics is not None and (regular or self.loss_figures):
            figures = {"loss": value, "learning_rate": rate} | self.loss_figures
            self.metrics.log(self.progress.step, figures | ({} if norm is None else {"gradient_norm": float(norm)}))
        return value

    @torch.no_grad()
    def _with_hardest(self, processed: Tensor) -> Tensor:
        """Rows of a batch to train on: of the negatives at its end, the share of highest probability.

        Online hard example mining (Shrivastava et al. 2016, arXiv:1604.03540).
        """
        training = self.config.training
        sure = training.batch_size - training.hardest
        self.model.eval()
        outputs = self.model(processed[sure:])
        self.model.train()
        hardest = (outputs[:, 1] - outputs[:, 0]).topk(training.hardest).indices
        return torch.cat([torch.arange(sure, device=hardest.device), sure + hardest])

    def _loss(self, outputs: Tensor, targets: Tensor, **given: Tensor | None) -> Tensor:
        """`compute_loss` with as many of its arguments as a subclass's own version takes."""
        taken = inspect.signature(self.compute_loss).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            given = {name: value for name, value in given.items() if name in taken}
        return self.compute_loss(outputs, targets, **given)

    # ---- the parts that a subclass may replace -------------------------------------------------

    def compute_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        inputs: Tensor | None = None,
        processed_inputs: Tensor | None = None,
        is_hard_negative: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch, a scalar: a mean over its clips, or over this process's slice of them.

        From the student's logits `outputs`, (batch, classes), class indices `targets`, (batch,), what the loader gave
        (raw audio or features) and what the student saw of it, and bool, (batch,): negatives that mining found.
        """
        training = self.config.training
        weight = clip_weights(targets, training.class_weights, is_hard_negative, training.hard_negative_weight)
        smoothing, gamma = training.label_smoothing, training.focal_gamma
        loss = clip_loss(outputs, targets, weight, label_smoothing=smoothing, focal_gamma=gamma)
        if not self.processes.alone:
            # The mean over the whole batch divides by the sum of all weights, not by that of the slice.
            own = float(weight.sum())
            loss = loss * (own / self.processes.mean([own])[0])
        return loss

    def forward_student(self, processed: Tensor) -> Tensor:
        """The student's logits of what `process_inputs` gave, in training."""
        outputs: Tensor = self.model(processed)
        return outputs

    def process_inputs(self, inputs: Tensor, *, train: bool) -> Tensor:
        """What the student sees: features, also of raw audio (batch, samples), warped and masked in training."""
        inputs = inputs.to(self.device, torch.float32)
        if inputs.dim() == 2:
            if self._featurizer is None:
                self._featurizer = make_featurizer(self.config, self.device)
            inputs = self._featurizer(inputs)
        augmentation = self.config.augmentation
        if train and augmentation.enabled and inputs.dim() == 3:
            # While QAT observes, every process has whole batches.
            place = (0, 1) if self._observed else (self.processes.index, self.processes.count)
            inputs = augment(inputs, self._generator(), augmentation, place)
        return inputs

    def _generator(self) -> torch.Generator:
        """Of the random numbers of one batch, which an interrupted run draws again."""
        seed = self.config.training.seed * 1_000_003 + self.progress.step + OBSERVED_SEEDS * self._observed
        return torch.Generator().manual_seed(seed)

    def log_metrics(self, figures: Mapping[str, float]) -> None:
        """Log figures of the present step, in every step; for use in `compute_loss`."""
        self.loss_figures |= {name: float(value) for name, value in figures.items()}

    def combine(self, means: dict[str, float]) -> dict[str, float]:
        """Figures of several batches or slices from their means; what is no mean is to be computed from them."""
        return means

    def parameter_groups(self) -> Iterator[tuple[Iterable[nn.Parameter], float]]:
        """What is trained, and at which multiple of the learning rate."""
        yield itertools.chain(self.model.parameters(), self.extras.parameters()), 1.0

    def report_epoch(self, figures: Mapping[str, float], seconds: float, *, best: bool) -> None:
        """Print an epoch's figures."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "epoch")
        phase, epoch = self.progress.phase, self.progress.epoch
        console.print(f"{phase} epoch {epoch}  {shown}  {seconds:.0f} s{'  (best)' if best else ''}")

    # ---- validation and mining -----------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Validation loss, accuracy, precision, recall and F1 over clips, and the evaluator's figures."""
        model = self.trained.eval()
        figures: dict[str, float] = {}
        if self.val_loader is not None:
            found = [(model(self.process_inputs(batch[0], train=False)), batch[1]) for batch in self.val_loader]
            if not found:
                raise EdgewakeError("the validation loader gives no batch: add recordings to the val split")
            outputs, targets = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
            scores = f1_score(outputs.softmax(dim=1)[:, 1].numpy(), targets.numpy())
            figures = {"val_loss": float(nn.functional.cross_entropy(outputs, targets))}
            figures |= {f"val_{name}": value for name, value in scores.items()}
        if self.evaluator is not None:
            figures |= dict(self.evaluator(model))
        return figures

    @torch.no_grad()
    def _mine(self) -> dict[str, float]:
        """Draw negatives of probability p 1 + mining_boost * p times as often; those above a cutoff count as hard."""
        training, store = self.config.training, self.store
        if store is None or not training.hard_negative_mining or (self.progress.epoch + 1) % training.mining_interval:
            return {}
        model, negatives = self.trained.eval(), np.flatnonzero(store.labels != 1)
        logits = [model(self.process_inputs(batch, train=False)) for batch in store.batches(negatives)]
        probability = torch.cat(logits).softmax(dim=1)[:, 1].cpu().numpy()
        store.weights[negatives] = store.base_weights[negatives] * (1 + training.mining_boost * probability)
        store.hard[negatives] = probability > training.mining_cutoff
        return {"hard_negatives": float(store.hard[negatives].sum())}

    # ---- phases, optimizer and schedule --------------------------------------------------------

    @property
    def trained(self) -> nn.Module:
        """The model to validate and to keep: the average of the weights where there is one."""
        return self.model if self._average is None else self._average.module

    @property
    def qat_epochs(self) -> int:
        """Epochs of phase `qat`; 0 when it is off."""
        return self.config.qat_epochs if isinstance(self.model, TinyConv) else 0

    @property
    def phase_epochs(self) -> int:
        """Epochs that the present phase may take."""
        qat = self.qat_epochs
        return qat if self.progress.phase == "qat" else max(0, self.config.training.epochs - qat)

    @property
    def _averages(self) -> bool:
        """Whether the present phase is several runs."""
        return self.progress.phase == "float" and self._start is not None

    @property
    def run_epochs(self) -> int:
        """Epochs of one run of the present phase."""
        return self.phase_epochs // self.config.training.averaged_runs if self._averages else self.phase_epochs

    def _end_run(self, *, last: bool) -> None:
        """Add the run's weights to the mean; after the last run, the mean becomes the model."""
        assert self._mean is not None
        self._mean.update_parameters(self.trained)
        if last:
            self.model.load_state_dict(self._mean.module.state_dict())
            self._average = self._make_average()

    def learning_rate(self) -> float:
        """Rate at this step: linear warm-up, then a cosine to 1 % over the phase or run (arXiv:1608.03983)."""
        config, progress = self.config.optimizer, self.progress
        peak = self.config.training.learning_rate
        if progress.phase == "qat":
            peak *= self.config.qat.learning_rate_factor
        if config.scheduler == "constant":
            return peak
        per_epoch = max(1, len(self.train_loader))
        epochs = max(1, self.run_epochs)
        done, steps = progress.phase_epoch % epochs * per_epoch + progress.batch, epochs * per_epoch
        warmup = min(config.warmup_steps, max(1, steps // 10))
        if done < warmup:
            return peak * (done + 1) / warmup
        share = min(1.0, (done - warmup) / max(1, steps - warmup))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

    def _restart_optimizer(self) -> None:
        self.optimizer, self._average = self._make_optimizer(), self._make_average()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """As configured; weight decay leaves out what is not a matrix: biases, norms, ranges."""
        config, rate = self.config.optimizer, self.config.training.learning_rate
        groups: list[dict[str, Any]] = []
        for parameters, factor in self.parameter_groups():
            trained = [p for p in parameters if p.requires_grad]
            for matrices, decay in ((True, config.weight_decay), (False, 0.0)):
                if chosen := [p for p in trained if (p.dim() > 1) == matrices]:
                    groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
        if config.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=config.momentum)
        adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        return adam(groups, lr=rate)

    def _make_average(self) -> AveragedModel | None:
        """An exponential average of the weights, which is validated and exported (arXiv:1703.01780)."""
        limit = self.config.training.ema_decay
        # A short memory at first, so that the random start is soon forgotten.
        return averaged(self.model, lambda seen: min(limit, (1 + seen) / (10 + seen))) if limit else None

    def _enter_qat(self) -> None:
        """Take the best float weights, observe ranges, fold BatchNorm, and start a fresh optimizer."""
        model, manager = cast(TinyConv, self.model), self.checkpoint_manager
        if self.progress.phase_epoch:
            best = self.processes.main_only(lambda: manager.load(manager.best))
            model.load_state_dict(best["model"])
            self.extras.load_state_dict(best["extras"])
        model.eval().fold_batch_norm()
        model.observe = True
        with torch.no_grad():
            # Whole batches in every process: a quantile of slices is not that of the whole.
            for batch in itertools.islice(self._batches(self.train_loader), self.config.qat.observe_batches):
                self._observed += 1
                model(self.process_inputs(batch[0], train=True))
        self._observed, model.observe, model.quantize = 0, False, True
        progress = self.progress
        progress.phase, progress.phase_epoch, progress.stale, progress.best_score = "qat", 0, 0, -math.inf
        self._restart_optimizer()

    # ---- checkpoints ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that continues this run, but for the random states, which a checkpoint adds."""
        return {
            "model": self.trained.state_dict(),
            "raw_model": self.model.state_dict(),
            "extras": self.extras.state_dict(),
            "averaged_steps": 0 if self._average is None else int(self._average.n_averaged),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "start": self._start,
            "mean": None if self._mean is None else self._mean.state_dict(),
            "epoch_rng": self._epoch_rng,
            "loader": None if self.store is None else self.store.state_dict(),
            **vars(self.progress),
        }

    def resume(self) -> None:
        """Continue from the last checkpoint; an error where there is none, or one of another architecture."""
        state, model = self.processes.main_only(self.checkpoint_manager.load), self.model
        if state["phase"] == "qat" and isinstance(model, TinyConv):
            model.fold_batch_norm()
            model.quantize = True
        try:
            model.load_state_dict(state["raw_model"])
            self.extras.load_state_dict(state["extras"])
            self._restart_optimizer()
            if self._average is not None:
                self._average.module.load_state_dict(state["model"])
                self._average.n_averaged.fill_(state["averaged_steps"])
        except RuntimeError as error:
            raise EdgewakeError(
                f"checkpoint {self.checkpoint_manager.last} is of another architecture: "
                f"{str(error).splitlines()[0]} Start without --resume, or restore model.* of the config"
            ) from error
        self.progress = Progress(**{name: state[name] for name in vars(Progress()) if name in state})
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self.store is not None:
            self.store.load_state_dict(state["loader"])
        self._start, self._epoch_rng = state["start"], state["epoch_rng"]
        if self._mean is not None:
            self._mean.load_state_dict(state["mean"])
        restore_rng(state["rng"])

    def _save(self, *, best: bool = False) -> None:
        self.processes.main_only(lambda: self.checkpoint_manager.save(self.state(), best=best))

    def _stop(self) -> NoReturn:
        """Save between two steps, where the state is one that training passes through, and end."""
        self._save()
        console.print(
            f"interrupted: epoch {self.progress.epoch + 1}, batch {self.progress.batch} is saved in "
            f"{self.checkpoint_manager.last}; {self.continued_by}"
        )
        raise KeyboardInterrupt

    def _batches(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """The rest of the present epoch's batches, the same whether or not the epoch was interrupted."""
        skip = self.progress.batch
        if not self.processes.alone:
            restore_rng(self.processes.share(rng_state()), self.device)
        interrupted = rng_state()
        if skip and self._epoch_rng is not None:
            restore_rng(self._epoch_rng)
        else:
            self._epoch_rng = interrupted
        parts: tuple[Any, ...] = (loader.dataset, getattr(self.train_loader, "batch_sampler", None))
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(self.progress.epoch)
        iterator = iter(loader)
        for _ in range(skip):
            next(iterator)
        if skip:
            restore_rng(interrupted)
        return iterator


def averaged(model: nn.Module, decay: Callable[[float], float]) -> AveragedModel:
    """A copy of a model whose weights and buffers follow it, keeping the share `decay` gives of updates before."""

    def follow(average: Tensor, value: Tensor, seen: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return value
        # Infinite scales of channels that are left out stay so: inf - inf is no number.
        return torch.where(average == value, average, torch.lerp(average, value, 1 - decay(float(seen))))

    return AveragedModel(model, avg_fn=follow, use_buffers=True)


def clone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that training does not change."""
    return {name: value.clone() for name, value in weights.items()}


@contextmanager
def delayed_interrupts() -> Iterator[Callable[[], bool]]:
    """Within, a first Ctrl-C (or SIGTERM) sets what the yielded function returns; a second one acts at once.

    A step that is cut in its middle has moved BatchNorm and the random state but not the weights.
    """
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
