"""A folder of clips from a plan: in several processes, resumable, the same bytes for the same plan.

Each clip is a FLAC file named by the hash of its settings and of the code, with its record in the file's comment. It is
written whole or not at all: a run that was killed goes on where it was, and a larger count adds to what is there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from edgewake.console import bar
from edgewake.errors import EdgewakeError
from edgewake.fingerprint import code_fingerprint
from edgewake.io import atomic_path, check_output_folder, write_json, write_text
from edgewake.processes import process_pool
from edgewake.synthesis.plan import Line, Plan, Planned, planned
from edgewake.synthesis.recogniser import Model, recogniser
from edgewake.synthesis.render import Rendered, render
from edgewake.synthesis.speech import SAMPLE_RATE

MANIFEST, REPORT, CLIPS = "manifest.csv", "synthesis.json", "clips"
BATCH = 8
AROUND_S = 0.05  # of other speech that the recogniser gets with a phrase
# Clips that are left out are replaced by others; a phrase that no voice can say is not tried for ever.
ROUNDS = 4
# Deviations of the logarithm of the seconds a symbol, in those of a normal distribution (1.4826 times the median's).
LARGEST_DEVIATION, FEWEST = 4.5, 20
COLUMNS = (
    "path", "kind", "phrase", "family", "speaker", "language", "seconds", "split", "quality", "license", "source",
    "text", "phonemes", "voice", "engine", "style", "speed", "change", "phrase_start", "phrase_end",
    "margin", "heard", "settings",
)  # fmt: skip
PACKAGES = {"render": ("onnxruntime", "praat-parselmouth", "hibari-tts"), "recogniser": ("ctranslate2",)}
IMPORTED = {"praat-parselmouth": "parselmouth", "hibari-tts": "hibari"}
LICENCES = {"kokoro": "Apache-2.0", "hibari": "Apache-2.0", "flite": "BSD-like", "festival": "BSD-like"}


@dataclass(frozen=True)
class Made:
    """A clip that is there, and its record: seconds, place of the phrase, and why it is left out, or ""."""

    planned: Planned
    path: str
    record: dict[str, Any]
    fault: str = ""


def synthesize(plan: Plan, out: Path, *, workers: int | None = None) -> dict[str, Any]:
    """Make the clips of a plan in a folder, with manifest.csv and synthesis.json, and return the report.

    Args:
        workers: processes on this machine, by default one for each core.
    """
    check_output_folder(out, (MANIFEST, CLIPS), "folder of synthesised clips")
    (out / CLIPS).mkdir(parents=True, exist_ok=True)
    made: dict[Line, list[Made]] = {line: [] for line in plan.lines}
    workers = workers or os.cpu_count() or 1
    pool = process_pool(workers if workers > 1 else 0, partial, _make, out, plan.recogniser, code=[__name__])
    with (
        pool as (make, run),
        bar("synthesis", sum(line.count for line in plan.lines)) as moved,
    ):
        for _ in range(ROUNDS):
            lacking = {line: line.count - sum(not clip.fault for clip in made[line]) for line in plan.lines}
            wanted = [
                planned(plan, line, index)
                for line, count in lacking.items()
                for index in range(len(made[line]), len(made[line]) + count)
            ]
            if not wanted:
                break
            # Piper loads a voice anew for each speaker.
            wanted.sort(key=lambda each: each.clip.voice if each.clip.voice.startswith("piper:") else "")
            batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
            for batch in run(make, batches):
                for clip in batch:
                    made[clip.planned.line].append(clip)
                    moved(not clip.fault)
            made = _without_outliers(made)
    clips = [clip for line in plan.lines for clip in made[line]]
    kept = [clip for clip in clips if not clip.fault]
    if not kept:
        faults = Counter(clip.fault for clip in clips).most_common(1) or [("the plan has no clip", 0)]
        raise EdgewakeError(f"no clip of {plan.phrase!r} can be used: {faults[0][0]}; try other voices")
    report = _report(plan, clips)
    _write_manifest(out / MANIFEST, plan, kept)
    write_json(out / REPORT, report)
    return report


def _make(out: Path, model: Model | None, wanted: Sequence[Planned]) -> list[Made]:
    """The clips of a batch, made or found; those of the phrase with the recogniser's verdict."""
    made = {number: found for number, each in enumerate(wanted) if (found := _found(out, each, model))}
    new = {number: (each, render(each.clip)) for number, each in enumerate(wanted) if number not in made}
    verdicts = _verdicts({number: pair for number, pair in new.items() if pair[0].line.kind == "positive"}, model)
    for number, (each, rendered) in new.items():
        if rendered is None:
            made[number] = Made(each, "", {}, "silent")
            continue
        record = {
            "crc32": zlib.crc32(rendered.samples.tobytes()),
            "seconds": round(len(rendered.samples) / SAMPLE_RATE, 4),
            "phrase_start": rendered.start,
            "phrase_end": rendered.end,
            **verdicts.get(number, {}),
        }
        path = _path(each, model)
        with atomic_path(out / path) as temporary, sf.SoundFile(temporary, "w", SAMPLE_RATE, 1, format="FLAC") as file:
            file.comment = json.dumps(record)
            file.write(rendered.samples)
        made[number] = _judged(each, path, record)
    return [made[number] for number in range(len(wanted))]


def _found(out: Path, each: Planned, model: Model | None) -> Made | None:
    path = _path(each, model)
    record = _record(out / path)
    return None if record is None else _judged(each, path, record)


def _judged(each: Planned, path: str, record: dict[str, Any]) -> Made:
    return Made(each, path, record, "" if record.get("recognised", True) else "not recognised")


def _verdicts(clips: dict[int, tuple[Planned, Rendered | None]], model: Model | None) -> dict[int, dict[str, Any]]:
    """What the recogniser says of clips, by number; of each it gets the phrase with little around it."""
    found: dict[int, dict[str, Any]] = {}
    for phrase in {each.line.text for each, _ in clips.values()} if model else ():
        audio = {
            number: rendered.samples[
                max(0, round((rendered.start - AROUND_S) * SAMPLE_RATE)) : round(
                    (rendered.end + AROUND_S) * SAMPLE_RATE
                )
            ].astype(np.float32)
            / np.float32(32768)
            for number, (each, rendered) in clips.items()
            if each.line.text == phrase and rendered
        }
        if audio:
            verdicts = recogniser(model).judge(list(audio.values()), phrase)
            for number, verdict in zip(audio, verdicts, strict=True):
                about = {"recognised": verdict.held, "margin": verdict.margin, "heard": verdict.text}
                found[number] = about
    return found


def _record(path: Path) -> dict[str, Any] | None:
    """What a clip's file says of it; None where there is none, or it is damaged."""
    try:
        with sf.SoundFile(path) as file:
            found = json.loads(file.comment)
            return dict(found) if zlib.crc32(file.read(dtype="int16").tobytes()) == found["crc32"] else None
    except (sf.LibsndfileError, ValueError, KeyError, TypeError):
        return None


def _path(each: Planned, model: Model | None) -> str:
    """The place of a clip, by the hash of all that decides it."""
    about = [each.clip.to_json(), _code("render")]
    if model and each.line.kind == "positive":
        about += [each.line.text, model, _code("recogniser")]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return f"{CLIPS}/{key[:2]}/{key[:24]}.flac"


@lru_cache(maxsize=2)
def _code(module: str) -> list[str]:
    """What decides a result beside its settings: the code, and packages that it loads by name."""
    installed = [f"{name}=={version(name)}" for name in PACKAGES[module] if find_spec(IMPORTED.get(name, name))]
    return [code_fingerprint(f"edgewake.synthesis.{module}"), *installed]


# ---- which clips are used ---------------------------------------------------------------------------------


def _without_outliers(made: dict[Line, list[Made]]) -> dict[Line, list[Made]]:
    """Clips whose phrase lasts much longer or shorter than its like get a fault: silence, babble, a word left out."""
    paces: dict[tuple[str, str], list[float]] = defaultdict(list)
    every = [clip for clips in made.values() for clip in clips]
    for clip in every:
        if clip.fault in ("", "duration"):
            paces[_group(clip)].append(_pace(clip))
    limits = {}
    for group, values in paces.items():
        centre = float(np.median(values))
        spread = max(1.4826 * float(np.median(np.abs(np.array(values) - centre))), 0.05)
        limits[group] = (centre, spread * LARGEST_DEVIATION if len(values) >= FEWEST else np.inf)

    def judged(clip: Made) -> Made:
        if clip.fault not in ("", "duration"):
            return clip
        centre, largest = limits[_group(clip)]
        return Made(clip.planned, clip.path, clip.record, "duration" if abs(_pace(clip) - centre) > largest else "")

    return {line: [judged(clip) for clip in clips] for line, clips in made.items()}


def _group(clip: Made) -> tuple[str, str]:
    each = clip.planned
    return each.clip.voice.partition(":")[0], each.line.text if each.line.count >= FEWEST else ""


def _pace(clip: Made) -> float:
    each = clip.planned.clip
    symbols = (each.phrase[1] - each.phrase[0]) or len(each.text)
    seconds = clip.record["phrase_end"] - clip.record["phrase_start"]
    return float(np.log(seconds * each.speed / each.change.duration / symbols))


# ---- what is written --------------------------------------------------------------------------------------


def _write_manifest(path: Path, plan: Plan, clips: Sequence[Made]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(plan, clip) for clip in clips)
    write_text(path, text.getvalue())


def _row(plan: Plan, made: Made) -> dict[str, Any]:
    each, clip = made.planned, made.planned.clip
    name, _, speaker = clip.voice.partition(":")
    whole = each.style not in ("command", "after", "between") and each.line.styled
    return {
        "path": made.path,
        "kind": each.line.kind,
        "phrase": plan.phrase if each.line.kind == "positive" else each.line.text if whole else "",
        "family": f"{each.line.family}_{name.replace('-', '_')}",
        "speaker": speaker,
        "language": plan.language,
        "seconds": made.record["seconds"],
        "split": each.split,
        "quality": "ok",
        "license": LICENCES.get(name, ""),
        "source": f"edgewake synth, {name}",
        "text": clip.text,
        "phonemes": clip.phonemes,
        "voice": clip.voice,
        "engine": name,
        "style": each.style,
        "speed": clip.speed,
        "change": json.dumps(clip.change.to_json()),
        "phrase_start": made.record["phrase_start"],
        "phrase_end": made.record["phrase_end"],
        "margin": made.record.get("margin", ""),
        "heard": made.record.get("heard", ""),
        "settings": json.dumps({"around": clip.around, "level": clip.level, "seed": clip.seed}),
    }


def _report(plan: Plan, clips: Sequence[Made]) -> dict[str, Any]:
    """Counts and seconds by kind and split, what was left out and why, and the share kept by voice."""
    kept = [clip for clip in clips if not clip.fault]
    table: dict[str, dict[str, Any]] = {}
    for clip in kept:
        cell = table.setdefault(f"{clip.planned.line.kind} {clip.planned.split}", {"clips": 0, "seconds": 0.0})
        cell["clips"] += 1
        cell["seconds"] = round(cell["seconds"] + clip.record["seconds"], 3)
    voices: dict[str, list[bool]] = defaultdict(list)
    for clip in clips:
        voices[clip.planned.clip.voice].append(not clip.fault)
    return {
        "phrase": plan.phrase,
        "clips": len(kept),
        "hours": round(sum(clip.record["seconds"] for clip in kept) / 3600, 4),
        "voices": len({clip.planned.clip.voice for clip in kept}),
        "by_kind_and_split": dict(sorted(table.items())),
        "left_out": dict(sorted(Counter(clip.fault for clip in clips if clip.fault).items())),
        "kept_by_voice": {voice: [sum(kept), len(kept)] for voice, kept in sorted(voices.items())},
        "plan": plan.model_dump(mode="json"),
    }
