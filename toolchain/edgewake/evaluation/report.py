"""report.html is one self-contained page, made from report.json alone: nothing is fetched or measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewake.errors import MissingDependencyError
from edgewake.evaluation.drawing import det_svg, interval_svg, spark_svg
from edgewake.evaluation.rates import count_text

TEMPLATE = Path(__file__).with_name("report.html.j2")
NAMES = {
    "total": "all of it together",
    "speech_en": "English speech",
    "speech_foreign": "foreign speech",
    "noise": "noise",
    "music": "music",
}


def render(report: Mapping[str, Any]) -> str:
    """The page for one report.

    Args:
        report: what `edgewake build` writes as report.json.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            "report.html needs Jinja2, which is not installed: pip install 'edgewake[report]'"
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["recordings"] = count_text
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(r=_view(report))


def _view(report: Mapping[str, Any]) -> dict[str, Any]:
    budget = [_budget(item) for item in report["budget"]]
    parity = [_rung(item) for item in report["parity"]]
    passed = sum(item["verdict"] == "equal" for item in parity)
    failed = sum(item["verdict"] == "differs" for item in parity)
    measured = report["measured"]
    return {
        "phrase": report["phrase"],
        "target": report["target"],
        "versions": report["versions"],
        "quantization_text": {
            "qat": "with the scales that training learned",
            "ptq": "quantized after training from calibration audio",
        }[report["quantization"]],
        "budget": budget,
        "budget_ok": all(item["share"] <= 1 for item in budget),
        "parity": parity,
        "parity_ok": not failed,
        "parity_text": f"Parity: {passed} comparisons, 0 differences" if not failed else f"{failed} differ",
        "measured": _measured(measured) if measured else None,
        "not_measured": report["not_measured"],
        "quantizations": report["quantizations"],
        "quantizations_text": report["quantizations_text"],
        "operators": _operators(report["operators"]),
        "cost_text": report["cost_text"],
        "memory": report["memory"],
        "scales": [_scale(item) for item in report["scales"]],
        "scales_text": report["scales_text"],
        "golden": [{**item, "svg": spark_svg(item["probabilities"], report["cutoff"])} for item in report["golden"]],
        "golden_text": report["golden_text"],
        "files": report["files"],
        "next": report["next"],
    }


def _budget(item: Mapping[str, Any]) -> dict[str, Any]:
    share = item["value"] / item["limit"]
    return {
        "name": item["name"],
        "share": share,
        "level": "bad" if share > 1 else "warn" if share > 0.9 else "good",
        "text": quantity(item["value"], item["unit"]),
        "limit_text": quantity(item["limit"], item["unit"]),
    }


def quantity(value: float, unit: str) -> str:
    """A value as a person reads it: bytes with separators, shares in percent."""
    if unit == "B":
        return f"{value:,.0f} B"
    if unit == "%":
        return f"{value:.2f} %"
    return f"{value:,.6g} {unit}".strip()


def _rung(item: Mapping[str, Any]) -> dict[str, Any]:
    level = {"equal": "good", "differs": "bad"}.get(item["verdict"], "warn")
    return {**item, "level": level}


def _operators(operators: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = [key for key in (operators[0] if operators else {}) if key != "note"]
    numeric = {key: all(isinstance(o[key], int | float) for o in operators) for key in keys}
    total = sum(o["cycles"] for o in operators) or 1
    return {
        "columns": [{"name": key.replace("_", " "), "number": numeric[key]} for key in keys],
        "rows": [
            {
                "cells": [f"{o[k]:,}" if numeric[k] else str(o[k]) for k in keys],
                "share": o["cycles"] / total,
            }
            for o in operators
        ],
        "notes": _notes(operators),
    }


def _notes(operators: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each remark once, with the operators that it is about."""
    about: dict[str, dict[str, None]] = {}
    for operator in operators:
        if operator["note"]:
            about.setdefault(operator["note"], {})[operator["operator"]] = None
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]


def _scale(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": item["name"],
        "learned": _range(item["learned"]),
        "read": _range(item["read"]),
        "zero_point": item["zero_point"],
        "equal": item["learned"] == item["read"],
    }


def _range(scales: Sequence[float]) -> str:
    """One scale in full, or the span of per-channel ones."""
    if len(scales) == 1:
        return f"{scales[0]:.9g}"
    return f"{min(scales):.5g} … {max(scales):.5g} ({len(scales)})"


def _measured(measured: Mapping[str, Any]) -> dict[str, Any]:
    figures = measured["summary"]
    recalls = []
    for condition, rates in figures["recall"].items():
        for part, rate in rates.items():
            if rate["value"] is not None:
                name = condition_name(condition) + {
                    "all": "",
                    "without_suspect": ", without doubtful recordings",
                    "suspect": ", doubtful recordings only",
                }.get(part, f", {part}")
                svg = interval_svg(rate["value"], rate["low"], rate["high"], top=1.0)
                recalls.append({**rate, "name": name, "svg": svg})
    return {
        "split": measured["split"],
        "text": measured["text"],
        "recall": recalls,
        "false_accepts": _false_accepts(figures["fa_per_hour"]),
        "det_svg": det_svg(measured["det"], figures["cutoff"]),
    }


def _false_accepts(rates: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = [(name, rate) for name, rate in named_rates(rates) if rate["value"] is not None]
    # The scale follows rates that many hours stand behind; a family of minutes runs off the right edge.
    top = max([1.0, *(rate["high"] for _, rate in kept if rate["hours"] >= 0.5)])
    return [
        {
            **rate,
            "name": name,
            "total": rate is rates["total"],
            "svg": interval_svg(rate["value"], rate["low"], rate["high"], top=top),
        }
        for name, rate in kept
    ]


def named_rates(rates: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rates of false accepts of a summary, families last, each with the name that a person reads."""
    kinds = [(NAMES.get(key, key.replace("_", " ")), rate) for key, rate in rates.items() if key != "families"]
    return kinds + [(f"family {name}", rate) for name, rate in rates["families"].items()]


def condition_name(condition: str) -> str:
    """ "10db" as a person reads it."""
    return f"at {condition.removesuffix('db')} dB SNR" if condition.endswith("db") else condition
