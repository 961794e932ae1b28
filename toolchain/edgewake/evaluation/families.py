"""Which families of recordings are of people or of real sound, and the small ones as one figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgewake.evaluation.rates import Figure, event_rate, recall
from edgewake.synthesis.engines import ENGINES

# As `edgewake synth` names families: of the phrase, of what nearly holds it, and of sentences.
SYNTHETIC = {f"{kind}_{engine}" for kind in ("synth", "near", "speech") for engine in ENGINES}
# Families with less show a rate of ten an hour and more by a single event.
LEAST_HOURS = 0.1


def is_synthetic(family: str) -> bool:
    """Whether its recordings are speech that was synthesised here."""
    return family in SYNTHETIC


def hours_of_real_sound(families: Mapping[str, Figure]) -> float:
    """Hours of what was neither synthesised nor generated here."""
    real = (name for name in families if not is_synthetic(name) and not name.startswith("generated_"))
    return float(sum(families[name]["hours"] for name in real))


def joint_recall(figures: Iterable[Figure]) -> dict[str, Any]:
    """The `recall` of several groups together."""
    each = list(figures)
    return recall(sum(figure["hits"] for figure in each), sum(figure["total"] for figure in each))


def with_small_ones_summed(families: Mapping[str, Figure]) -> dict[str, Figure]:
    """Rates by family, those with events first, then by hours; those with less than `LEAST_HOURS` are one, the last."""
    small = [rate for rate in families.values() if rate["hours"] < LEAST_HOURS]
    if len(small) < 2:
        small = []
    kept = {name: rate for name, rate in families.items() if rate not in small}
    ordered = dict(sorted(kept.items(), key=lambda each: (-each[1]["events"], -each[1]["hours"])))
    if small:
        rate = event_rate(sum(each["events"] for each in small), sum(each["hours"] for each in small))
        ordered[f"{len(small)} families with less than {LEAST_HOURS:g} h each"] = rate
    return ordered
