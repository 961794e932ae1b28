"""Input audio is one-dimensional, contiguous int16, or an error names what it is instead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewake.errors import AudioError


def check_samples(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """`samples` as contiguous int16.

    Raises:
        AudioError: not one-dimensional int16.
    """
    samples = np.asarray(samples)
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise AudioError(
            f"samples are {samples.dtype} of shape {samples.shape}; the frontend takes int16 of shape (n,): "
            "convert to mono and scale floats by 32767"
        )
    return np.ascontiguousarray(samples)
