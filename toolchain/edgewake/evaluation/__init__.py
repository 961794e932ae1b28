"""Judging a model on the host: events, rates with intervals, the cutoff, DET curves and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.evaluation.clips import evaluate_model

_LAZY = {"evaluate_model": "edgewake.evaluation.clips"}
__all__ = ["evaluate_model"]

__getattr__ = lazy(__name__, _LAZY)
