"""The public names of edgewake.evaluation, for `lazy_loader` and for type checkers."""

from .clips import evaluate_model as evaluate_model

__all__ = ["evaluate_model"]
