"""Figures over seeds: mean and spread, and paired differences with Student's interval and their counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgewake.errors import EdgewakeError

CONFIDENCE = 0.95
METHOD = (
    "paired Student t over seeds: each difference is between two runs of the same seed and the same share of "
    "recordings; mean ± t(n - 1) · s / √n. It covers what another training would change (weights, "
    "batches, and which recordings were drawn where a share is used), not what other test recordings or "
    "another fit of the teacher would; it supposes that differences are about normal, and is not corrected "
    "for the number of comparisons"
)


@dataclass(frozen=True)
class Spread:
    """Values of several seeds: their number, mean, and standard deviation (n - 1; None for one value)."""

    n: int
    mean: float
    sd: float | None

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """What changed from a baseline, over pairs.

    Attributes:
        n: pairs.
        mean: of the differences.
        low, high: of the interval; None for fewer than two pairs.
        p: two-sided probability of such a mean without an effect; None where there is no interval, or where
            all differences are the same.
        better, worse, equal: pairs by the sign of their difference.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    better: int
    worse: int
    equal: int

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation.

    Raises:
        EdgewakeError: there is no value.
    """
    if not values:
        raise EdgewakeError("no values: a mean needs at least one finished run")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(1, mean, None)
    square = math.fsum((value - mean) ** 2 for value in values)
    return Spread(len(values), mean, math.sqrt(square / (len(values) - 1)))


def paired_difference(
    baseline: Mapping[Any, float], other: Mapping[Any, float], confidence: float = CONFIDENCE
) -> PairedDifference | None:
    """`other` minus `baseline` over the keys (seeds) that both have, or None where they share none.

    The interval is that of the paired t test (Student 1908): mean +- t(n - 1) * s / sqrt(n), with s the
    differences' standard deviation.
    """
    differences = [other[key] - baseline[key] for key in baseline if key in other]
    if not differences:
        return None
    over = spread(differences)
    better, worse = (sum(sign * value > 0 for value in differences) for sign in (1, -1))
    low = high = p = None
    if over.sd is not None:
        # Imported here: what only reads results needs no scipy.
        from scipy.stats import t

        error = over.sd / math.sqrt(over.n)
        reach = float(t.ppf((1 + confidence) / 2, over.n - 1)) * error
        low, high = over.mean - reach, over.mean + reach
        p = float(2 * t.sf(abs(over.mean) / error, over.n - 1)) if error else None
    return PairedDifference(over.n, over.mean, low, high, p, better, worse, over.n - better - worse)
