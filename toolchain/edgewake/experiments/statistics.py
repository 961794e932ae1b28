"""Figures over seeds: mean and standard deviation, and paired differences with Student's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from scipy.stats import ttest_1samp

CONFIDENCE = 0.95
METHOD = (
    "paired Student t over seeds: each difference is between two runs of the same seed and the same share of "
    "recordings; mean ± t(n - 1) · s / √n. It covers what another training would change (weights, "
    "batches, and which recordings were drawn where a share is used), not what other test recordings or "
    "another fit of the teacher would; it supposes that differences are about normal, and is not corrected "
    "for the number of comparisons"
)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Of one value or more: n, mean, and sd, the standard deviation (n - 1; None for one value)."""
    return {"n": len(values), "mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None}


def paired_difference(baseline: Mapping[Any, float], other: Mapping[Any, float]) -> dict[str, Any] | None:
    """`other` minus `baseline` over the keys (seeds) that both have, or None where they share none.

    Returns:
        n: pairs; mean: of the differences; low, high: the interval of the paired t test (Student 1908), None
        for fewer than two pairs; p: two-sided, None also where all differences are the same; better, worse,
        equal: pairs by the sign of their difference; values: differences by key.
    """
    values = {str(key): other[key] - baseline[key] for key in baseline if key in other}
    differences = list(values.values())
    if not differences:
        return None
    mean, low, high, p = fmean(differences), None, None, None
    if len(differences) > 1:
        low = high = mean
        if max(differences) > min(differences):
            test = ttest_1samp(differences, 0.0)
            low, high = (float(end) for end in test.confidence_interval(CONFIDENCE))
            p = float(test.pvalue)
    better, worse, equal = (sum(sign == (d > 0) - (d < 0) for d in differences) for sign in (1, -1, 0))
    signs = {"better": better, "worse": worse, "equal": equal}
    return {"n": len(differences), "mean": mean, "low": low, "high": high, "p": p, **signs, "values": values}
