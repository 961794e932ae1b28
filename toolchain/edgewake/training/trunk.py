"""A trunk: tiny_conv's weights below its head, trained once to tell phonemes, from which the models of phrases start.

At every step the student gives, of augmented audio, the phonemes that a pretrained encoder finds in the clean audio a
little earlier. No recording of a phrase is needed, and nothing of it depends on one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import edgewake
from edgewake.config import WakewordConfig
from edgewake.data.clips import BalancedBatchSampler, Clips
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.io import atomic_path, check_output_folder, write_json
from edgewake.models.tiny_conv import TinyConv
from edgewake.teachers.base import device_of
from edgewake.training.checkpoint_manager import CheckpointManager, kept_rng
from edgewake.training.distributed import device_for
from edgewake.training.losses import at_times, step_ends
from edgewake.training.metrics_log import MetricsLog
from edgewake.training.phonemes import CLASSES, fitted_head
from edgewake.training.students import TRUNK_RECORD, TRUNK_WEIGHTS, build_student
from edgewake.training.teacher_fit import make_teacher
from edgewake.training.teacher_outputs import TeacherCache
from edgewake.training.trainer import Trainer

BATCH = 128


class TrunkTrainer(Trainer):
    """`Trainer` with the loss of phonemes along time: cross-entropy of the student's with the teacher's posteriors.

    Args:
        targets: of the train store's and the validation store's clips, by number: posteriors (clips, frames, CLASSES).
        frame_rate: posteriors a second.
    """

    model: TinyConv

    def __init__(self, *args: Any, targets: tuple[Clips, Clips], frame_rate: float, **rest: Any):
        super().__init__(*args, **rest)
        self.targets, self.frame_rate = targets, frame_rate
        with kept_rng():
            torch.manual_seed(self.config.training.seed)
            self.extras["phonemes"] = nn.Linear(self.model.width, CLASSES).to(self.device)
        self._restart_optimizer()

    def forward_student(self, processed: Tensor) -> Tensor:
        """Logits of phonemes at every step: (batch, steps, CLASSES)."""
        return self._logits(self.model, processed)

    def _logits(self, model: TinyConv, processed: Tensor) -> Tensor:
        logits: Tensor = self.extras["phonemes"](model.features(processed).transpose(1, 2))
        return logits

    def compute_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        inputs: Tensor | None = None,
        processed_inputs: Tensor | None = None,
        is_hard_negative: Tensor | None = None,
    ) -> Tensor:
        """Cross-entropy, a mean over clips and steps."""
        assert self.clips is not None
        assert processed_inputs is not None
        return self._phoneme_loss(outputs, self.targets[0], self.clips, processed_inputs)

    def _phoneme_loss(self, logits: Tensor, targets: Clips, clips: Tensor, processed: Tensor) -> Tensor:
        posteriors = torch.from_numpy(targets[clips.numpy()]).to(self.device, torch.float32)
        times = step_ends(logits.shape[1], processed.shape[1], self.model.frames_per_step, self.config.frontend)
        wanted = at_times(posteriors, self.frame_rate, times - self.config.distillation.frame_delay_ms / 1000)
        return -(wanted * F.log_softmax(logits, 2)).sum(2).mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on the validation clips; "score" is its negative."""
        model, losses = cast(TinyConv, self.trained.eval()), []
        for inputs, _, _, clips in self.val_loader or ():
            processed = self.process_inputs(inputs, train=False)
            losses.append(float(self._phoneme_loss(self._logits(model, processed), self.targets[1], clips, processed)))
        loss = sum(losses) / max(1, len(losses))
        return {"val_loss": loss, "score": -loss}


def train_trunk(config: WakewordConfig, out: Path, resume: bool) -> dict[str, Any]:
    """Train a trunk on a corpus without its phrase, and write weights.safetensors and trunk.json to `out`.

    `distillation.teacher_*` names the encoder, `frame_delay_ms` how much earlier it is. See `load_trunk`.
    """
    config, out = config.freeze(), Path(out)
    check_output_folder(out, ("config.yaml", TRUNK_RECORD, TRUNK_WEIGHTS), "trunk")
    config.save(out / "config.yaml")
    corpus = usable_corpus(config, out)
    stores = [build_store(corpus, split, config, audio="clean", phrase=False) for split in ("train", "val")]
    teacher = make_teacher(config).to(device_for(config)).freeze()
    head, figures = fitted_head(teacher, config.cache.open(), config.data.seed)
    cache = TeacherCache(teacher, config.cache.open(), nn.Sequential(head.to(device_of(teacher)), nn.Softmax(2)))
    targets = cast(tuple[Clips, Clips], tuple(cache.embeddings(_audio(store)) for store in stores))
    train, val = stores
    training = config.training
    steps = training.batches_per_epoch or max(1, len(train) // training.batch_size)
    sampler = BalancedBatchSampler(train.labels, train.weights, training.batch_size, (), steps, training.seed)
    trainer = TrunkTrainer(
        build_student(config, ships=False),
        train.loader(sampler),
        val.loader(batch_size=BATCH),
        config,
        CheckpointManager(out / "checkpoints"),
        str(device_for(config)),
        targets=targets,
        frame_rate=teacher.frame_rate,
    )
    if resume:
        trainer.resume()
    trainer.metrics = MetricsLog(out, resume_step=trainer.progress.step if resume else None)
    try:
        result = trainer.train()
    finally:
        trainer.metrics.close()
    best = trainer.checkpoint_manager.load(trainer.checkpoint_manager.best)
    record = {
        "version": 1,
        "architecture": trainer.model.architecture(),
        "frontend": config.frontend.hash(),
        "teacher": {"architecture": teacher.architecture, "name": teacher.name, "phonemes": figures},
        "frame_delay_ms": config.distillation.frame_delay_ms,
        "clips": {"train": len(train), "val": len(val)},
        "val_loss": -result["best_score"],
        "steps": result["steps"],
        "seed": training.seed,
        "edgewake": edgewake.__version__,
    }
    tensors = {name: value for name, value in best["model"].items() if not name.startswith("head.")}
    with atomic_path(out / TRUNK_WEIGHTS) as path:
        save_file(tensors, path)
    write_json(out / TRUNK_RECORD, record)
    return record


def _audio(store: FeatureStore) -> Clips:
    assert store.audio is not None
    return store.audio
