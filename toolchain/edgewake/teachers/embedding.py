"""Embeddings of clips as they are kept: all that decides them beside the teacher and what reduces them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgewake.data.reading import to_float
from edgewake.errors import EdgewakeError
from edgewake.teachers.base import Teacher, device_of

# Clips that a teacher gets at once.
BATCH = 32


@torch.no_grad()
def embed_clips(teacher: Teacher, reduce: nn.Module, clips: npt.NDArray[np.int16]) -> npt.NDArray[np.float16]:
    """What `reduce` makes of embeddings, (clips, frames, size), of up to `BATCH` clips, (clips, samples).

    An error where it is not finite.
    """
    audio = torch.from_numpy(to_float(clips)).to(device_of(teacher))
    frames: npt.NDArray[np.float16] = reduce(teacher.eval().embed(audio)).to(torch.float16).cpu().numpy()
    if not np.isfinite(frames).all():
        raise EdgewakeError(
            f"teacher {teacher.architecture} ({teacher.source}) gives embeddings that are not finite in float16; "
            "check its weights"
        )
    return frames
