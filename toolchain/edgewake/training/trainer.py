"""The training loop: each run is seeded, resumable to the bit on CPU, and never loses its last good state."""

from __future__ import annotations

import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.errors import EdgewakeError
from edgewake.evaluation.clip_metrics import MetricsLog, f1_score
from edgewake.models.featurizer import make_featurizer
from edgewake.training.checkpoint_manager import CheckpointManager, restore_rng, rng_state
from edgewake.training.distributed import Processes, sliced
from edgewake.training.distributed import processes as launched_processes
from edgewake.training.feature_augment import augment
from edgewake.training.loop import BatchProgress, interrupts_wait, len_of
from edgewake.training.losses import clip_loss, clip_weights
from edgewake.training.optimizing import make_average, make_optimizer, scheduled_rate
from edgewake.training.synced import share_layers

# Batches that QAT observes have no step of their own: their augmentation is seeded so far from that of steps.
OBSERVED_SEEDS = 1_000_000_007

Evaluator = Callable[[nn.Module], Mapping[str, float]]
Miner = Callable[[nn.Module, int], Mapping[str, float]]


@runtime_checkable
class Quantizable(Protocol):
    """A student that can be trained with quantization in the loop."""

    quantize: bool
    observe: bool

    def fold_batch_norm(self) -> None:
        """Enter the last phase."""


@dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    phase: str = "float"
    phase_epoch: int = 0
    stale: int = 0
    best_score: float = -math.inf
    best_f1: float = 0.0
    loss_sum: float = 0.0
    figure_sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains a student on clips.

    Phase `float` trains with BatchNorm; phase `qat`, when `config.qat.enabled` and the model can, folds
    BatchNorm, observes the ranges of activations, and then trains the very weights that are exported with
    int8 weights and activations in the loop.

    Args:
        model: gives logits (batch, classes) for inputs of the loaders.
        train_loader, val_loader: batches (inputs, targets[, is_hard_negative[, clips]]), where clips are the
            loader's own numbers of its clips, kept in `self.clips` while a batch is worked on.
        config: a copy is frozen.
        checkpoint_manager: where checkpoints go.
        device: "cpu", "cuda", ...
        metrics: receives every figure; None for none.
        evaluator: extra figures after each epoch; its "score" (higher is better) decides which
            checkpoint is best, otherwise validation F1 does.
        miner: called after every epoch of mining with (model, epoch); returns figures to log.
        loader_state: has state_dict and load_state_dict; kept in checkpoints (sampling weights).
        processes: those that train together; by default all that a launcher started. Each is given the same
            model, loaders and configuration, and works on its part of every batch.

    Attributes:
        extras: modules that are trained beside the model and dropped with the run, such as a projection that
            only the loss needs; a subclass that fills it calls `_make_optimizer` again.
        loss_figures: of the present step, logged with its loss; their means are an epoch's figures.
        processes: see above; `processes.part` is the present batch's part that is this process's.
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader[Any],
        val_loader: DataLoader[Any],
        config: WakewordConfig,
        checkpoint_manager: CheckpointManager,
        device: str = "cpu",
        *,
        metrics: MetricsLog | None = None,
        evaluator: Evaluator | None = None,
        miner: Miner | None = None,
        loader_state: Any = None,
        processes: Processes | None = None,
    ) -> None:
        self.config = config.freeze()
        self.processes = processes or launched_processes()
        self.device = self.processes.device or torch.device(device)
        self.model = model.to(self.device)
        share_layers(self.model, self.processes)
        self.train_loader, self.val_loader = train_loader, val_loader
        self._part_loader = sliced(train_loader, self.processes)
        self.checkpoint_manager = checkpoint_manager
        self.metrics, self.evaluator, self.miner, self.loader_state = metrics, evaluator, miner, loader_state
        self.progress = Progress()
        self.clips: Tensor | None = None
        self.loss_figures: dict[str, float] = {}
        self._log_this_step = False
        self._observed = 0
        self.extras = nn.ModuleDict().to(self.device)
        self._featurizer: nn.Module | None = None
        self._epoch_rng: dict[str, Any] | None = None
        half = self.config.optimizer.mixed_precision and self.device.type == "cuda"
        self._scaler = GradScaler("cuda", enabled=half)
        self._autocast = torch.autocast("cuda", torch.float16) if half else nullcontext()
        self.optimizer = self._make_optimizer()
        self._average = self._make_average()

    # ---- the parts that a subclass may replace -------------------------------------------------

    def compute_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        inputs: Tensor | None = None,
        processed_inputs: Tensor | None = None,
        is_hard_negative: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch, a scalar: a mean over its clips.

        Where several processes share a batch, each computes it on its part, and the trainer averages by
        number of clips. A mean that is weighted otherwise is multiplied by what the weights ask for
        (`part.weight / part.share`), as the one here is.

        Args:
            outputs: the student's logits, (batch, classes).
            targets: class indices, (batch,).
            inputs: what the loader gave (raw audio or features).
            processed_inputs: what the student saw.
            is_hard_negative: bool, (batch,): negatives that mining found.
        """
        training, part = self.config.training, self.processes.part
        loss = clip_loss(
            outputs,
            targets,
            class_weights=self._class_weights,
            is_hard_negative=is_hard_negative,
            hard_negative_weight=training.hard_negative_weight,
            label_smoothing=training.label_smoothing,
            focal_gamma=training.focal_gamma,
        )
        return loss if part is None else loss * (part.weight / part.share)

    @property
    def _class_weights(self) -> Tensor | None:
        weights = self.config.training.class_weights
        return None if weights is None else torch.tensor(weights)

    def _weigh(self, batch: Any) -> float:
        """Sum of the loss weights of a batch's clips."""
        return float(
            clip_weights(
                batch[1],
                class_weights=self._class_weights,
                is_hard_negative=batch[2] if len(batch) > 2 else None,
                hard_negative_weight=self.config.training.hard_negative_weight,
            ).sum()
        )

    def forward_student(self, processed: Tensor) -> Tensor:
        """The student's logits of what `process_inputs` gave, in training."""
        outputs: Tensor = self.model(processed)
        return outputs

    def log_metrics(self, figures: Mapping[str, float]) -> None:
        """Log figures of the present step, whatever `training.log_every` says; for use in `compute_loss`."""
        self.loss_figures |= {name: float(value) for name, value in figures.items()}
        self._log_this_step = True

    def batch_figures(self, figures: dict[str, float]) -> dict[str, float]:
        """Figures of a whole batch from their means over its clips: what is no mean is computed anew."""
        return figures

    def process_inputs(self, inputs: Tensor, *, train: bool) -> Tensor:
        """What the student sees of `inputs`: in training, features are warped and masked at random.

        Raw audio, (batch, samples), becomes features first.
        """
        inputs = inputs.to(self.device, torch.float32)
        if inputs.dim() == 2:
            if self._featurizer is None:
                self._featurizer = make_featurizer(self.config, self.device)
            inputs = self._featurizer(inputs)
        augmentation = self.config.augmentation
        if train and augmentation.enabled and inputs.dim() == 3:
            seed = self.config.training.seed * 1_000_003 + self.progress.step + OBSERVED_SEEDS * self._observed
            generator = torch.Generator().manual_seed(seed)
            inputs = augment(inputs, generator, augmentation, self.processes.part)
        return inputs

    # ---- optimizer and schedule ----------------------------------------------------------------

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.config.optimizer, self._trained_parameters(), self.config.training.learning_rate)

    def _make_average(self) -> AveragedModel | None:
        return make_average(self.model, self.config.training.ema_decay)

    def _trained_parameters(self) -> Iterator[nn.Parameter]:
        return itertools.chain(self.model.parameters(), self.extras.parameters())

    @property
    def trained(self) -> nn.Module:
        """The model to judge and to keep: the average of the weights, or the weights themselves."""
        return self.model if self._average is None else self._average.module

    @property
    def qat_epochs(self) -> int:
        """Epochs of phase `qat`; 0 when it is off."""
        if not (self.config.qat.enabled and isinstance(self.model, Quantizable)):
            return 0
        return max(1, round(self.config.training.epochs * self.config.qat.fraction))

    @property
    def phase_epochs(self) -> int:
        """Epochs that the present phase may take."""
        total = self.config.training.epochs
        return self.qat_epochs if self.progress.phase == "qat" else max(0, total - self.qat_epochs)

    def learning_rate(self) -> float:
        """Rate at this step: linear warm-up, then a cosine to 1 % over the phase (arXiv:1608.03983)."""
        config, progress = self.config, self.progress
        per_epoch = max(1, len_of(self.train_loader))
        peak = config.training.learning_rate
        if progress.phase == "qat":
            peak *= config.qat.learning_rate_factor
        done = progress.phase_epoch * per_epoch + progress.batch
        return scheduled_rate(config.optimizer, peak, done, self.phase_epochs * per_epoch)

    # ---- phases --------------------------------------------------------------------------------

    def _enter_qat(self) -> None:
        """Take the best float weights, observe ranges, fold BatchNorm, and start a fresh optimizer."""
        model = self.model
        assert isinstance(model, Quantizable)
        manager = self.checkpoint_manager
        trained = self.progress.phase_epoch > 0
        best = self.processes.main_only(
            lambda: manager.load(manager.best) if trained and manager.best.exists() else None
        )
        if best is not None:
            model.load_state_dict(best["model"])
            self.extras.load_state_dict(best.get("extras", {}))
        model.eval()
        model.fold_batch_norm()
        model.observe = True
        with torch.no_grad():
            # Whole batches in every process: a quantile of parts is not that of the whole.
            batches = self._batches(self.train_loader)
            for batch in itertools.islice(batches, self.config.qat.observe_batches):
                self._observed += 1
                model(self.process_inputs(batch[0], train=True))
        self._observed = 0
        model.observe = False
        model.quantize = True
        progress = self.progress
        progress.phase, progress.phase_epoch, progress.stale, progress.best_score = "qat", 0, 0, -math.inf
        self.optimizer = self._make_optimizer()
        self._average = self._make_average()

    # ---- checkpoints ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that continues this run."""
        return {
            "model": self.trained.state_dict(),
            "raw_model": self.model.state_dict(),
            "extras": self.extras.state_dict(),
            "averaged_steps": 0 if self._average is None else int(self._average.n_averaged),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "epoch_rng": self._epoch_rng,
            "loader": None if self.loader_state is None else self.loader_state.state_dict(),
            **vars(self.progress),
        }

    def resume(self) -> None:
        """Continue from the last checkpoint.

        Raises:
            EdgewakeError: there is none, or it is of another architecture.
        """
        state = self.processes.main_only(self.checkpoint_manager.load)
        model = self.model
        if state["phase"] == "qat":
            assert isinstance(model, Quantizable)
            model.fold_batch_norm()
            model.quantize = True
        try:
            model.load_state_dict(state["raw_model"])
            self.extras.load_state_dict(state.get("extras", {}))
            self._average = self._make_average()
            if self._average is not None:
                self._average.module.load_state_dict(state["model"])
                self._average.n_averaged.fill_(state["averaged_steps"])
        except RuntimeError as error:
            raise EdgewakeError(
                f"checkpoint {self.checkpoint_manager.last} is of another architecture: "
                f"{str(error).splitlines()[0]} Start without --resume, or restore model.* of the config"
            ) from error
        self.progress = Progress(**{name: state[name] for name in vars(Progress()) if name in state})
        self.optimizer = self._make_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self.loader_state is not None and state["loader"] is not None:
            self.loader_state.load_state_dict(state["loader"])
        self._epoch_rng = state["epoch_rng"]
        restore_rng(state["rng"])

    def _batches(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """The rest of the present epoch's batches, the same whether or not the epoch was interrupted."""
        skip = self.progress.batch
        if not self.processes.alone:
            restore_rng(self.processes.share(rng_state()), self.device)
        interrupted = rng_state() if skip else None
        if skip and self._epoch_rng is not None:
            restore_rng(self._epoch_rng)
        else:
            self._epoch_rng = rng_state()
        sampler: Any = getattr(self.train_loader, "batch_sampler", None)
        if hasattr(loader.dataset, "set_epoch"):
            loader.dataset.set_epoch(self.progress.epoch)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.progress.epoch, skip)
            iterator = iter(loader)
        else:
            iterator = iter(loader)
            for _ in range(skip):
                next(iterator)
        if interrupted is not None:
            restore_rng(interrupted)
        return iterator

    # ---- the loop ------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Train to the end; returns best_f1 (as f1 too), best_checkpoint, best_score, epochs, steps, history.

        Raises:
            EdgewakeError: the loss is not finite; the message names the batch.
            KeyboardInterrupt: passed on after the state was saved.
        """
        if not (self.progress.step or self.progress.epoch):
            torch.manual_seed(self.config.training.seed)
        with interrupts_wait() as interrupted:
            while not self._finished():
                self._epoch(interrupted)
                if self.processes.any(interrupted()):
                    self._stop()
        return {
            "best_f1": self.progress.best_f1,
            "f1": self.progress.best_f1,
            "best_checkpoint": str(self.checkpoint_manager.best),
            "best_score": self.progress.best_score,
            "epochs": self.progress.epoch,
            "steps": self.progress.step,
            "history": self.progress.history,
        }

    def _save(self, *, best: bool = False) -> None:
        self.processes.main_only(lambda: self.checkpoint_manager.save(self.state(), best=best))

    def _stop(self) -> NoReturn:
        """Save between two steps, where the state is one that training passes through, and end."""
        self._save()
        console.print(
            f"interrupted: epoch {self.progress.epoch + 1}, batch {self.progress.batch} is saved in "
            f"{self.checkpoint_manager.last}; the same command with --resume continues"
        )
        raise KeyboardInterrupt

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.training.early_stopping_patience
        phase_over = progress.phase_epoch >= self.phase_epochs or (patience and progress.stale >= patience)
        if progress.batch or not phase_over:
            return False
        if progress.phase == "float" and self.qat_epochs:
            self._enter_qat()
            return False
        return True

    def _epoch(self, interrupted: Callable[[], bool]) -> None:
        progress, started = self.progress, time.monotonic()
        self.model.train()
        self.processes.spread(self.model)
        self.processes.spread(self.extras)
        total = len_of(self.train_loader)
        often = self.config.training.checkpoint_steps
        batches = self.processes.together(self._batches(self._part_loader), self._weigh)
        with BatchProgress(f"{progress.phase} epoch {progress.epoch + 1}", total) as advance:
            for batch in batches:
                loss = self._step(batch)
                progress.loss_sum += loss
                for name, value in self.loss_figures.items():
                    progress.figure_sums[name] = progress.figure_sums.get(name, 0.0) + value
                progress.batch += 1
                progress.step += 1
                advance(loss, self.loss_figures)
                if self.processes.any(interrupted()):
                    self._stop()
                if often and progress.step % often == 0 and progress.batch < total:
                    self._save()
        if progress.batch == 0:
            raise EdgewakeError("the training loader gives no batch: add recordings to the train split")
        figures = {"epoch": progress.epoch + 1, "train_loss": progress.loss_sum / progress.batch}
        figures |= {name: value / progress.batch for name, value in progress.figure_sums.items()}
        figures |= self.processes.main_only(self.validate)
        figures |= self._mine()
        progress.epoch += 1
        progress.phase_epoch += 1
        progress.batch, progress.loss_sum, progress.figure_sums = 0, 0.0, {}
        score = figures.get("score", figures["val_f1"])
        best = score > progress.best_score
        if best:
            progress.best_score, progress.best_f1, progress.stale = score, figures["val_f1"], 0
        else:
            progress.stale += 1
        progress.history.append({name: float(value) for name, value in figures.items()})
        # Logged first: where the run dies between the two, resuming drops the line and writes it again.
        if self.metrics is not None and self.processes.main:
            self.metrics.log(progress.step, figures | {"phase": progress.phase})
        self._save(best=best)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "epoch")
        console.print(
            f"{progress.phase} epoch {progress.epoch}  {shown}  "
            f"{time.monotonic() - started:.0f} s{'  (best)' if best else ''}"
        )

    def _step(self, batch: Any) -> float:
        inputs, targets = batch[0], batch[1].to(self.device)
        is_hard = batch[2].to(self.device) if len(batch) > 2 else None
        self.clips = batch[3] if len(batch) > 3 else None
        self.loss_figures, self._log_this_step = {}, False
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._autocast:

            def part_loss() -> Tensor:
                processed = self.process_inputs(inputs, train=True)
                outputs = self.forward_student(processed)
                return self._loss(outputs, targets, inputs, processed, is_hard)

            loss, value = self.processes.loss(part_loss)
        self.loss_figures = self.batch_figures(self.processes.mean_figures(self.loss_figures))
        if not math.isfinite(value):
            self._refuse(value, inputs)
        self.optimizer.zero_grad(set_to_none=True)
        with self.processes.backward():
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.processes.sum_gradients(self._trained_parameters())
        self._scaler.unscale_(self.optimizer)
        clip = self.config.optimizer.gradient_clip
        norm = nn.utils.clip_grad_norm_(self._trained_parameters(), clip) if clip else None
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self.model)
        regular = self.progress.step % self.config.training.log_every == 0
        if self.metrics is not None and self.processes.main and (regular or self._log_this_step):
            figures = {"loss": value, "learning_rate": rate} | self.loss_figures
            if norm is not None:
                figures["gradient_norm"] = float(norm)
            self.metrics.log(self.progress.step, figures)
        return value

    def _refuse(self, value: float, inputs: Tensor) -> NoReturn:
        """End at a loss that is not finite, before it reaches the weights."""
        lows, highs = np.transpose(self.processes.gather(float(inputs.min()), float(inputs.max())))
        last = self.checkpoint_manager.last
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        raise self.processes.failure(
            EdgewakeError(
                f"loss is {value} in epoch {self.progress.epoch + 1}, batch {self.progress.batch} "
                f"(inputs {lows.min():.3g}..{highs.max():.3g}); {kept}: "
                "lower training.learning_rate or optimizer.gradient_clip"
            )
        )

    def _mine(self) -> dict[str, float]:
        """Mine in the main process; every process draws by what it found."""
        if self.miner is None:
            return {}
        miner, state = self.miner, self.loader_state
        figures = self.processes.main_only(lambda: dict(miner(self.trained, self.progress.epoch)))
        if not self.processes.alone:
            sampler: Any = getattr(self.train_loader, "batch_sampler", None)
            weights, found = self.processes.share(
                (getattr(sampler, "weights", None), None if state is None else state.state_dict())
            )
            if not self.processes.main:
                if weights is not None:
                    sampler.weights = weights
                if state is not None:
                    state.load_state_dict(found)
        return figures

    def _loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        inputs: Tensor,
        processed_inputs: Tensor,
        is_hard_negative: Tensor | None,
    ) -> Tensor:
        """`compute_loss` with as many of its arguments as a subclass's own version takes."""
        given = {
            "inputs": inputs,
            "processed_inputs": processed_inputs,
            "is_hard_negative": is_hard_negative,
        }
        taken = inspect.signature(self.compute_loss).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            given = {name: value for name, value in given.items() if name in taken}
        return self.compute_loss(outputs, targets, **given)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Validation loss, accuracy, precision, recall and F1 over clips, and the evaluator's figures."""
        model = self.trained.eval()
        losses, weights, probabilities, labels = [], [], [], []
        for batch in self.val_loader:
            targets = batch[1].to(self.device)
            outputs = model(self.process_inputs(batch[0], train=False))
            losses.append(float(torch.nn.functional.cross_entropy(outputs, targets)))
            weights.append(len(targets))
            probabilities.append(outputs.softmax(dim=1)[:, 1].cpu().numpy())
            labels.append(targets.cpu().numpy())
        if not losses:
            raise EdgewakeError("the validation loader gives no batch: add recordings to the val split")
        figures = {"val_loss": float(np.average(losses, weights=weights))}
        scores = f1_score(np.concatenate(probabilities), np.concatenate(labels))
        figures |= {f"val_{name}": value for name, value in scores.items()}
        if self.evaluator is not None:
            figures |= dict(self.evaluator(model))
        return figures
