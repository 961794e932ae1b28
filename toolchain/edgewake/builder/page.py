"""report.html: one page of all that was measured and built, in light, dark and print, that fetches nothing."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from edgewake.evaluation.cutoff import few_hours
from edgewake.evaluation.families import hours_of_real_sound, is_synthetic, joint_recall, with_small_ones_summed
from edgewake.evaluation.rates import Figure, condition_name, count_text, figure_text, named_rates, worst_family_text
from edgewake.evaluation.rooms import ROOMS, rooms_text
from edgewake.targets.budget import quantity

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
PEOPLE, VOICES = "people", "synthesised voices"
# Shares of recordings from which on, and below which, it is said to work or not; with fewer recordings neither is said.
WORKS, FAILS, LEAST_RECORDINGS = 0.9, 0.5, 5
# Hours of real sound below which the page warns.
FEW_HOURS = 1.0
# Rows of tables, and of lists; of tables the others are folded away.
SHOWN, MOST = 10, 12
# Matplotlib's viridis, at even distances.
VIRIDIS = ["440154", "472c7a", "3b518b", "2c718e", "21908d", "27ad81", "5cc863", "aadc32", "fde725"]


def render(report: Mapping[str, Any]) -> str:
    """The page of what report.json holds.

    Args:
        report: with "phrase", "measured" (metrics.json, or None) and "peers" (see `stored_peers`, or None); "budget"
            and the other figures of a build where there is one, and "made", see `making.report`, where `make` made it.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"recordings": count_text, "condition": condition_name, "scales": _scales_text}
    environment.globals |= {"quantity": quantity, "notes": _notes, "figure_text": figure_text}
    measured, peers = report.get("measured"), report.get("peers")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=report,
        m=measured and figures(measured),
        det=measured and own_curves(measured),
        peers=peers and measured and peers_curves(peers, measured),
        example=measured and measured.get("detection") and example_picture(measured["detection"]),
    )


def figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of metrics.json, but for its pictures."""
    summary, families = metrics["summary"], metrics["summary"]["groups"]["family"]
    kinds = {
        kind: {
            condition: joint_recall(each for name, each in found.items() if is_synthetic(name) is synthetic)
            for condition, found in families.items()
        }
        for kind, synthetic in ((PEOPLE, False), (VOICES, True))
    }
    kinds = {kind: found for kind, found in kinds.items() if found["clean"]["total"]}
    who, best = next(iter(kinds.items()))
    conditions = {
        name: [(kind, found[name]) for kind, found in kinds.items()]
        for name in ("clean", *(name for name in families if name != "clean"))
    }
    voices = [
        {"name": name.rpartition("/")[2], "family": (family := name.rpartition("/")[0]), "figure": figure}
        | {"synthetic": is_synthetic(family)}
        for name, figure in sorted(summary["groups"]["speaker"].items(), key=lambda each: (each[1]["value"], each[0]))
    ]
    voices.sort(key=lambda voice: voice["synthetic"])
    rates, near = summary["fa_per_hour"], summary["near"]
    accepted = sorted(
        ((text or "(within a sentence)", figure) for text, figure in near["phrases"].items() if figure["hits"]),
        key=lambda each: (-each[1]["value"], -each[1]["hits"], each[0]),
    )
    kinds_of_sound = [(name, rate) for name, rate in named_rates({**rates, "families": {}}) if rate["hours"]]
    return {
        **{key: metrics[key] for key in ("split", "data", "cutoff")},
        "summary": summary,
        "who": who,
        "clean": best["clean"],
        "tiles": _tiles(metrics, who, best),
        "warnings": _warnings(metrics, PEOPLE in kinds),
        "groups": _groups(who, best, voices),
        "noise": {name: found for name, found in conditions.items() if name not in ROOMS},
        "distance": {name: found for name, found in conditions.items() if name in ("clean", *ROOMS)},
        "rooms": rooms_text(metrics["data"]["rooms"]),
        "kinds": list(kinds),
        "voices": voices,
        "families": {name: [found[name] for found in families.values()] for name in families["clean"]},
        "conditions": list(families),
        "near": {"total": near["total"], "texts": len(near["phrases"]), "accepted": accepted},
        "rates": {"sound": kinds_of_sound, "family": list(with_small_ones_summed(rates["families"]).items())},
        "chosen": _chosen(metrics),
        "worst_family": worst_family_text(rates["families"]),
        "shown": SHOWN,
        "most": MOST,
    }


def _tiles(metrics: Mapping[str, Any], who: str, best: Mapping[str, Figure]) -> list[tuple[str, str, str]]:
    """Value, name and what it is of, of the figures that matter first."""
    summary, tiles = metrics["summary"], list[tuple[str, str, str]]()
    noisy = f"{metrics['snr_db']:g}db"
    for name, title in (("clean", "clean"), (noisy, condition_name(noisy)), ("far_room", "across a room")):
        if figure := best.get(name):
            spread = f"{100 * figure['low']:.0f} to {100 * figure['high']:.0f} %"
            tiles.append((f"{100 * figure['value']:.0f} %", f"recall {title}", f"{spread}, of {who}"))
    rate, near, delay = summary["fa_per_hour"]["total"], summary["near"]["total"], summary.get("latency")
    spread = f"{rate['low']:.2f} to {rate['high']:.2f}, in {rate['hours']:.1f} h"
    tiles.append((f"{rate['value']:.2f}", "false accepts an hour", spread))
    if near["total"]:
        share = f"{100 * near['value']:.1f} %"
        tiles.append((share, "of near phrases accepted", f"{near['hits']:g} of {near['total']:g} clips"))
    if delay:
        most = f"90 % within {delay['p90_s']:.2f} s of the phrase's end"
        tiles.append((f"{delay['median_s']:.2f} s", "median delay", most))
    return tiles


def _warnings(metrics: Mapping[str, Any], people: bool) -> list[tuple[str, str]]:
    """What limits the figures, each as a claim and a remedy."""
    found, families = [], metrics["summary"]["fa_per_hour"]["families"]
    if metrics["split"] != "test":
        found.append((
            f"These are figures of the {metrics['split']} split, and too good",
            "the cutoff or the model was chosen on it. A test needs recordings of people, or voices of flite or "
            "festival, in the test split.",
        ))  # fmt: skip
    if not people:
        found.append((
            "No recording of a person was in the test",
            "recall is that of synthetic speech, and people may be missed more often. Record some (edgewake record), "
            "and measure again.",
        ))  # fmt: skip
    if (hours := hours_of_real_sound(families)) < FEW_HOURS:
        what = f"only {hours:.2f} h of real sound" if hours else "synthetic speech only"
        found.append((
            f"False accepts were measured on {what}",
            "name corpora in wakeword.yaml, or set EDGEWAKE_CORPORA, for a rate that means something.",
        ))  # fmt: skip
    chosen = metrics["validation"] and metrics["validation"]["fa_per_hour"]["total"]
    if chosen and (few := few_hours(chosen["hours"])):
        found.append(("Few hours chose the cutoff", f"{few}."))
    return found


def _chosen(metrics: Mapping[str, Any]) -> str:
    """What the cutoff was chosen for, and on what."""
    cutoff = metrics["cutoff"]
    if not metrics["validation"]:
        return f"The cutoff, {cutoff['value']:.5f}, was given: {cutoff['from']}."
    rates = metrics["validation"]["fa_per_hour"]
    aim = f"The cutoff was chosen on validation for {cutoff['target_fa_per_hour']:g} false accepts an hour, and has "
    return f"{aim}{figure_text(rates['total'])} there. {worst_family_text(rates['families'])}"


def verdict(figure: Figure) -> str:
    """ "works", "partly" or "fails" by the share of recordings that were detected, or "few" of them to tell."""
    if figure["total"] < LEAST_RECORDINGS:
        return "few"
    return "works" if figure["value"] >= WORKS else "partly" if figure["value"] >= FAILS else "fails"


def _groups(who: str, best: Mapping[str, Figure], voices: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Names and figures by verdict: conditions, then voices in the order given."""
    groups: dict[str, list[Any]] = {name: [] for name in ("works", "partly", "fails", "few")}
    people = who == PEOPLE
    for name, figure in best.items():
        groups[verdict(figure)].append((f"{f'{who}, ' if people else ''}{condition_name(name)}", figure))
    for voice in voices:
        name = voice["name"] + (", synthesised" if people and voice["synthetic"] else "")
        groups[verdict(voice["figure"])].append((name, voice["figure"]))
    return groups


def own_curves(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The DET curves of metrics.json, clean and in noise, with its cutoff marked."""
    noisy = condition_name(f"{metrics['snr_db']:g}db")
    curves = {"clean": metrics["det"], noisy: metrics["det_noisy"]}
    return det_chart({name: (det, metrics["cutoff"]["value"]) for name, det in curves.items()})


def peers_curves(peers: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The DET curves of what peers.json compares, a chart a condition, each with the cutoff as shipped."""
    known = peers["peers"]
    conditions = next(iter(known.values()))["det"]
    return {
        "packages": [each["package"] for each in known.values()],
        "recordings": peers["recordings"],
        # Of the test split of the same corpus, in as much audio.
        "same": peers["recordings"].get("corpus") == metrics["data"]["corpus"] and metrics["split"] == "test",
        "charts": {
            condition_name(condition): det_chart(
                {name: (each["det"][condition], each["shipped"]["cutoff"]) for name, each in known.items()}
            )
            for condition in conditions
        },
    }


def det_chart(curves: Mapping[str, tuple[Mapping[str, Any], float]]) -> dict[str, Any]:
    """DET curves (see `det_curve`), by name with the cutoff to mark, in a box of size 1 from its upper left corner.

    Each of "curves" has "name", "path" of an SVG of 1000 by 1000, and "mark" ("at", its place, and both rates), or None
    where no point has the cutoff. "decades" and "levels" are places with their text along the axes: false accepts
    an hour, logarithmic, and missed recordings.
    """
    hours = max(det["hours"] for det, _ in curves.values())
    floor = 0.5 / hours
    marks = {
        name: next((point for point in det["points"] if point["cutoff"] >= cutoff - 1e-7), None)
        for name, (det, cutoff) in curves.items()
    }
    points = [point for det, _ in curves.values() for point in det["points"]]
    highest = max([floor * 10, *(point["fa_per_hour"] for point in points if point["miss_rate"] > 0)])
    raised = [point["miss_rate"] for point in points if point["fa_per_hour"] > 0]
    raised += [point["miss_rate"] for point in marks.values() if point]
    # Five even grid lines divide these into round percents.
    worst = next((s for s in (0.025, 0.05, 0.1, 0.25, 0.5) if s >= 1.2 * max([0.02, *raised])), 1.0)

    def across(rate: float) -> float:
        return min(math.log10(max(rate, floor) / floor) / math.log10(highest / floor), 1.0)

    def place(point: Mapping[str, float]) -> tuple[float, float]:
        return across(point["fa_per_hour"]), 1 - min(point["miss_rate"] / worst, 1.0)

    drawn = []
    for name, (det, cutoff) in curves.items():
        mark = marks[name]
        shown = [place(point) for point in det["points"] if point["miss_rate"] <= worst]
        drawn.append({
            "name": name,
            "cutoff": cutoff,
            "path": steps_path(shown),
            "mark": mark and {"at": place(mark), "miss_rate": mark["miss_rate"], "fa_per_hour": mark["fa_per_hour"]},
        })  # fmt: skip
    decades = range(math.ceil(math.log10(floor)), math.floor(math.log10(highest)) + 1)
    return {
        "curves": drawn,
        "hours": hours,
        "recordings": max(det["recordings"] for det, _ in curves.values()),
        "decades": [(across(10.0**power), f"{10.0**power:g}") for power in decades],
        "levels": [(1 - part / 5, f"{20 * worst * part:g} %") for part in range(6)],
    }


def steps_path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path of horizontal and vertical lines only: between two points there is no measurement."""
    (x, y), *others = points
    return f"M{1000 * x:.1f},{1000 * y:.1f}" + "".join(f"H{1000 * x:.1f}V{1000 * y:.1f}" for x, y in others)


def example_picture(example: Mapping[str, Any]) -> dict[str, Any]:
    """What `example_detection` returned, for drawing; places are shares of width and, from the top, height."""
    seconds, mel, steps = example["seconds"], example["mel"], example["steps"]
    low_high = np.frombuffer(base64.b64decode(example["waveform"]["low_high"]), np.int8).reshape(-1, 2) / 2.0
    low_high *= 0.95 / max(1.0, float(np.abs(low_high).max()))
    xs = np.arange(len(low_high)) * example["waveform"]["column_s"] / seconds
    outline = [*zip(xs, low_high[:, 1], strict=True), *zip(xs[::-1], low_high[::-1, 0], strict=True)]
    values = np.frombuffer(base64.b64decode(mel["values"]), np.uint8).reshape(-1, mel["channels"])
    times = steps["first_s"] + steps["step_s"] * np.arange(len(steps["probabilities"]))
    track = [(time / seconds, 1 - value) for time, value in zip(times, steps["probabilities"], strict=True)]
    begin = example["begin_s"]
    ticks = np.arange(math.ceil(begin / 0.5), math.floor((begin + seconds) / 0.5) + 1) * 0.5
    phrase = example["phrase_s"] and [max(0.0, min(1.0, time / seconds)) for time in example["phrase_s"]]
    return {
        **example,
        "at": example["time_s"] / seconds,
        "phrase": phrase,
        "outline": "M" + "L".join(f"{1000 * x:.1f},{1000 * (0.5 - y / 2):.1f}" for x, y in outline) + "Z",
        "image": png(values.T[::-1]),
        "image_left": (mel["first_s"] - mel["step_s"]) / seconds,
        "image_width": len(values) * mel["step_s"] / seconds,
        "track": steps_path(track),
        "ticks": [((time - begin) / seconds, f"{time:.1f}") for time in ticks.tolist()],
    }


def png(values: npt.NDArray[np.uint8]) -> str:
    """An image, (rows, columns) from the top, in the colours of viridis, as a data URI."""
    rows, columns = values.shape
    anchors = np.array([list(bytes.fromhex(colour)) for colour in VIRIDIS])
    places = np.linspace(0, len(VIRIDIS) - 1, 256)
    palette = np.stack([np.interp(places, range(len(VIRIDIS)), channel) for channel in anchors.T], 1).astype(np.uint8)
    # Each row begins with its filter, of which 0 is none.
    lines = np.pad(values, ((0, 0), (1, 0))).tobytes()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _scales_text(scales: Sequence[float]) -> str:
    """One scale in full, or the span of per-channel ones."""
    if len(scales) == 1:
        return f"{scales[0]:.9g}"
    return f"{min(scales):.5g} … {max(scales):.5g} ({len(scales)})" if scales else "none"


def _notes(operators: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each remark once, with the operators that it is about."""
    about: dict[str, dict[str, None]] = {}
    for operator in operators:
        if operator["note"]:
            about.setdefault(operator["note"], {})[operator["operator"]] = None
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]
