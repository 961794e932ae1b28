"""The report of a made wake word: how good it is, with intervals, what it confuses, and what that was measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from edgewake.evaluation.cutoff import few_hours
from edgewake.evaluation.rates import condition_name, figure_text, named_rates, recall, worst_family_text
from edgewake.evaluation.rooms import ROOMS, rooms_text
from edgewake.io import read_json, write_text
from edgewake.making.clips import SYNTH, SYNTHETIC, TEST
from edgewake.targets.budget import quantity

TEMPLATE = Path(__file__).with_name("report.html.j2")
# Of tables that may be long.
SHOWN = 30
# Hours of speech of people below which the report warns.
FEW_HOURS = 1.0


class ReportPart(NamedTuple):
    """A part of the report: paragraphs, and a table where there are columns."""

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def write_report(folder: Path, effort: str, seconds: Mapping[str, float]) -> None:
    """Write report.md and report.html of what lies in a wake word's folder; `seconds` are those of the stages."""
    metrics = read_json(folder / "model" / "metrics.json", "metrics")
    built = read_json(folder / "build" / "report.json", "report of the build")
    synthesis = {
        place: read_json(path, "report of the synthesis")
        for place in (SYNTH, TEST)
        if (path := folder / place / "synthesis.json").is_file()
    }
    title = f"“{metrics['model']['phrase']}” ({effort})"
    parts = report_parts(metrics, built, synthesis, seconds)
    write_text(folder / "report.md", markdown(title, parts))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write_text(folder / "report.html", page.render(title=title, parts=parts, picture="model/det.png"))


def report_parts(
    metrics: Mapping[str, Any],
    built: Mapping[str, Any],
    synthesis: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
) -> list[ReportPart]:
    """The parts of the report of these figures."""
    summary, test = metrics["summary"], metrics["split"] == "test"
    where = (
        "the test split, whose voices are neither in training nor in validation"
        if test
        else "the validation split, on which the cutoff was chosen: there is no test by other engines, "
        "since neither flite nor festival is installed, and the figures are too good"
    )
    groups = summary["groups"]["family"]
    people = {name: _people(families) for name, families in groups.items()}
    heard = people["clean"]["total"]
    hours = sum(rate["hours"] for name, rate in summary["fa_per_hour"]["families"].items() if _is_real(name))
    warnings = []
    if not heard:
        warnings.append(
            "**No recording of a person was in the test**: recall is that of synthetic speech, and people may be "
            "missed more often. Put recordings into recordings/SPEAKER/ and make it again."
        )
    if hours < FEW_HOURS:
        what = f"only {hours:.2f} h of real sound" if hours else "synthetic speech only"
        warnings.append(
            f"**False accepts were measured on {what}**: name corpora in wakeword.yaml, or set EDGEWAKE_CORPORA, for a "
            "rate that means something."
        )
    total, chosen = summary["fa_per_hour"]["total"], metrics["validation"]["fa_per_hour"]
    if few := few_hours(chosen["total"]["hours"]):
        warnings.append(f"**Few hours chose the cutoff**: {few}.")
    parts = [
        ReportPart(
            "How good it is",
            [
                f"Measured on {where}, at the cutoff {metrics['cutoff']['value']:.5g}. Intervals are 95 %.",
                f"The cutoff was chosen on validation for {metrics['cutoff']['target_fa_per_hour']:g} false accepts an "
                f"hour, and has {figure_text(chosen['total'])} there. {worst_family_text(chosen['families'])}",
                *([rooms_text(metrics["data"]["rooms"])] if set(ROOMS) & summary["recall"].keys() else []),
                *warnings,
            ],
            ("recall", "all", *(["of people"] if heard else [])),
            [
                (condition_name(name), _share(part["all"]), *([_share(people[name])] if heard else []))
                for name, part in summary["recall"].items()
            ],
        ),
        ReportPart(
            "False accepts",
            [
                f"{figure_text(total)}. So many hours show a rate of at most {total['high']:.2g} an hour, no less.",
                worst_family_text(summary["fa_per_hour"]["families"]),
            ],
            ("sound", "rate"),
            [(name, figure_text(rate)) for name, rate in named_rates(summary["fa_per_hour"]) if rate["hours"]],
        ),
        _confusions(summary["near"]),
        ReportPart(
            "Recall by engine and family",
            [] if not test else ["Voices of flite and festival are the cross-engine test: they are never trained on."],
            ("family", *(condition_name(name) for name in groups)),
            [(family, *(_share(groups[name][family]) for name in groups)) for family in sorted(groups["clean"])],
        ),
        _voices(summary["groups"]["speaker"]),
    ]
    if delay := summary.get("latency"):
        text = f"From the end of the phrase to the detection: median {delay['median_s']:.2f} s, 90 % within "
        parts.append(ReportPart("Latency", [f"{text}{delay['p90_s']:.2f} s ({delay['recordings']} recordings)."]))
    parts += [_clips(synthesis), _board(built)]
    rows = [(name, f"{value:,.0f} s") for name, value in seconds.items()]
    return [*parts, ReportPart("Time", [], ("stage", "when it was last made"), rows)]


def short(metrics: Mapping[str, Any]) -> list[str]:
    """The figures in a few lines, for the terminal."""
    summary = metrics["summary"]
    lines = [f"recall {condition_name(name)}: {_share(part['all'])}" for name, part in summary["recall"].items()]
    near = summary["near"]["total"]
    lines.append(f"false accepts: {figure_text(summary['fa_per_hour']['total'])}")
    return [*lines, f"accepted of what sounds like it: {_share(near)}"] if near["total"] else lines


def _people(families: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Recall of recordings that are not synthesised here."""
    real = [figure for name, figure in families.items() if not name.startswith(SYNTHETIC)]
    return recall(sum(figure["hits"] for figure in real), sum(figure["total"] for figure in real))


def _is_real(family: str) -> bool:
    return not family.startswith((*SYNTHETIC, "generated_"))


def _share(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    return f"{figure['value']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}] of {figure['total']:.5g}"


def _confusions(near: Mapping[str, Any]) -> ReportPart:
    """What nearly holds the phrase and was accepted, the most often first."""
    if not near["total"]["total"]:
        return ReportPart("What it confuses", ["No clip of a phrase that sounds like it was in the test."])
    accepted = {text: figure for text, figure in near["phrases"].items() if figure["hits"]}
    ordered = sorted(accepted.items(), key=lambda item: (-item[1]["value"], -item[1]["hits"], item[0]))
    text = [f"Of clips of {len(near['phrases'])} texts that sound like the phrase it accepts {_share(near['total'])}."]
    if len(ordered) > SHOWN:
        text.append(f"The {SHOWN} that are accepted most often, of {len(ordered)}:")
    rows = [(text or "(within a sentence)", _share(figure)) for text, figure in ordered[:SHOWN]]
    return ReportPart("What it confuses", text, ("text", "accepted"), rows)


def _voices(speakers: Mapping[str, Mapping[str, Any]]) -> ReportPart:
    """Recall of each voice, the worst first."""
    ordered = sorted(speakers.items(), key=lambda item: (item[1]["value"], item[0]))
    text = [f"The {SHOWN} with the lowest recall, of {len(ordered)}."] if len(ordered) > SHOWN else []
    return ReportPart(
        "Recall by voice", text, ("voice", "clean"), [(name, _share(each)) for name, each in ordered[:SHOWN]]
    )


def _clips(synthesis: Mapping[str, Mapping[str, Any]]) -> ReportPart:
    rows, text = list[Sequence[str]](), []
    for place, report in synthesis.items():
        for name, cell in report["by_kind_and_split"].items():
            rows.append((place, name, f"{cell['clips']:,}", f"{cell['seconds'] / 3600:.2f}"))
        left = ", ".join(f"{count} {fault}" for fault, count in report["left_out"].items()) or "none"
        text.append(f"{place}: {report['voices']} voices; left out: {left}.")
    return ReportPart("Clips", text, ("folder", "kind and split", "clips", "hours"), rows)


def _board(built: Mapping[str, Any]) -> ReportPart:
    rows = [
        (row["name"], quantity(row["value"], row["unit"]), quantity(row["limit"], row["unit"]))
        for row in built["budget"]
    ]
    text = f"All {len(built['parity'])} parity checks pass. Next: `{built['next']}`. More in build/report.html."
    return ReportPart("On the board", [text], ("what", "value", "limit"), rows)


def markdown(title: str, parts: Iterable[ReportPart]) -> str:
    """The report as Markdown."""
    lines = [f"# {title}", "", "![DET curve](model/det.png)"]
    for part in parts:
        lines += ["", f"## {part.title}"]
        for paragraph in part.text:
            lines += ["", paragraph]
        if part.rows:
            lines += ["", f"| {' | '.join(part.columns)} |", "|---" * len(part.columns) + "|"]
            lines += [f"| {' | '.join(row)} |" for row in part.rows]
    return "\n".join(lines) + "\n"
