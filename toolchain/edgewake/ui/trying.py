"""Panel 4: a model on a file or the browser's microphone, by the C pipeline that the board runs."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import soxr

from edgewake.data.microphone import LOWEST_DBFS, level_dbfs
from edgewake.data.reading import SAMPLE_RATE, Samples, read_audio, to_float, to_int16
from edgewake.errors import EdgewakeError
from edgewake.io import read_json
from edgewake.runtime.detector import Detector, DetectorStep
from edgewake.ui.chart import chart
from edgewake.ui.common import choices, told
from edgewake.ui.project import Project
from edgewake.ui.settings import QUIET

LONGEST_FILE_S = 600.0
# What is drawn of a microphone.
SHOWN_S = 10.0
STREAM_S = 0.3
LONGEST_STREAM_S = 3600


def measured(folder: Path, cutoff: float) -> str:
    """Recall and false accepts an hour on the split of metrics.json at a cutoff, from det.json beside a model."""
    if not (folder / "det.json").is_file():
        return "no det.json beside this model: edgewake evaluate --out writes it"
    det = read_json(folder / "det.json", "DET curve")
    points = sorted(det["points"], key=lambda point: float(point["cutoff"]))
    # The rates hold from a point's cutoff up to the next one's.
    point = points[max(0, bisect_right([float(one["cutoff"]) for one in points], cutoff) - 1)]
    split = read_json(folder / "metrics.json", "metrics")["split"] if (folder / "metrics.json").is_file() else "?"
    return (
        f"at {cutoff:.4f} on {split}: **recall {1 - point['miss_rate']:.1%}** of {det['recordings']:.0f} recordings, "
        f"**{point['fa_per_hour']:.2f} false accepts an hour** in {det['hours']:.1f} h"
    )


def track(steps: Sequence[DetectorStep], detector: Detector, begin: float, end: float) -> str:
    """The smoothed probability over time, s, with the cutoff as a level and detections as marks."""
    marks = [step.time_s for step in steps if step.detected]
    return chart(
        f"{detector.phrase}: smoothed probability, cutoff {detector.cutoff:.4f}, {len(marks)} detections",
        {"smoothed probability": [(step.time_s, step.probability) for step in steps]},
        x=(begin, end), y=(0.0, 1.0), unit="s", limit=detector.cutoff, marks=marks,
    )  # fmt: skip


class Live:
    """The detector on a browser's microphone, whose rate is the browser's; blocks come in any size."""

    def __init__(self, model: Path, cutoff: float, rate: int) -> None:
        self.rate = rate
        self._detector = Detector(model, cutoff=cutoff)
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
        self._recent: deque[DetectorStep] = deque(maxlen=round(SHOWN_S / self._detector.step_s))
        self._taken, self._found, self._level = 0, list[float](), LOWEST_DBFS

    def take(self, block: Samples) -> None:
        """Process a block, (n,) or (n, channels) int16 at `rate`."""
        samples = block
        if block.ndim > 1 or self._resampler is not None:
            mono = to_float(block if block.ndim == 1 else block.mean(axis=1).astype(np.int16))
            samples = to_int16(mono if self._resampler is None else self._resampler.resample_chunk(mono))
        steps = self._detector.steps(samples)
        self._recent += steps
        self._taken += len(samples)
        self._found += [step.time_s for step in steps if step.detected]
        self._level = level_dbfs(samples)

    def shown(self) -> tuple[str, str]:
        """The picture, and the level and the detections in words."""
        end = max(self._taken / SAMPLE_RATE, SHOWN_S)
        picture = track(self._recent, self._detector, end - SHOWN_S, end)
        times = ", ".join(f"{time:.1f} s" for time in self._found[-8:])
        return picture, f"level {self._level:.0f} dBFS; {len(self._found)} detections" + (
            f", at {times}" if times else ""
        )


def on_file(model: Path, cutoff: float, samples: Samples) -> tuple[str, str]:
    """The picture of a recording, and the detections in words."""
    detector = Detector(model, cutoff=cutoff)
    steps = detector.steps(samples)
    seconds = len(samples) / SAMPLE_RATE
    found = [f"{step.time_s:.2f} s ({step.probability:.4f})" for step in steps if step.detected]
    words = f"{len(found)} detections in {seconds:.2f} s"
    return track(steps, detector, 0.0, seconds), ": ".join(filter(None, (words, ", ".join(found))))


def panel(project: Project, page: gr.Blocks) -> None:
    """Draw the panel."""
    with gr.Row():
        model = gr.Dropdown(label="Model", info="folders with a manifest.json", elem_id="model")
        cutoff = gr.Slider(
            0.0001, 0.9999, 0.5, step=0.0001, label="Cutoff", elem_id="cutoff",
            info="smallest smoothed probability that is a detection",
        )  # fmt: skip
    rates = gr.Markdown(elem_id="rates")
    with gr.Row():
        microphone = gr.Audio(
            sources=["microphone"],
            streaming=True,
            type="numpy",
            label="Microphone",
            elem_id="microphone",
            buttons=["download"],
        )
        file = gr.Audio(sources=["upload"], type="filepath", label="File", elem_id="file", buttons=["download"])
    picture = gr.HTML(elem_id="probability")
    words = gr.Markdown(elem_id="detections")
    given = gr.Audio(
        label="What the board would be given: 16 kHz, one channel",
        interactive=False,
        elem_id="given",
        buttons=["download"],
    )
    live: gr.State = gr.State(None)

    def folder_of(name: str | None) -> Path:
        if not name:
            raise EdgewakeError(f"no model in {project.folder}: train one, or edgewake make a wake word")
        return project.inside(name)

    def models(chosen: str | None) -> Any:
        return choices(project.models(), chosen)

    def own(name: str | None) -> tuple[Any, str]:
        """The cutoff of a model, and what it gives."""
        if not name:
            return gr.skip(), ""
        value = Detector(folder_of(name)).cutoff
        return value, measured(folder_of(name), value)

    def take(state: Live | None, name: str, value: float, block: tuple[int, Samples] | None) -> tuple[Any, ...]:
        if block is None:
            return gr.skip(), gr.skip(), gr.skip()
        rate, samples = block
        if state is None or state.rate != rate:
            state = Live(folder_of(name), value, rate)
        state.take(samples)
        return state, *state.shown()

    def try_file(name: str, value: float, path: str | None) -> tuple[Any, ...]:
        if path is None:
            return "", "", None
        samples = read_audio(Path(path), max_seconds=LONGEST_FILE_S)
        return *on_file(folder_of(name), value, samples), project.playable(samples)

    def moved(name: str, value: float, path: str | None) -> tuple[Any, ...]:
        text = measured(folder_of(name), value)
        return (text, gr.skip(), gr.skip()) if path is None else (text, *try_file(name, value, path)[:2])

    page.load(models, model, model, **QUIET).then(told(own), model, [cutoff, rates], **QUIET)
    model.focus(models, model, model, **QUIET)
    model.input(told(own), model, [cutoff, rates], **QUIET)
    cutoff.change(told(moved), [model, cutoff, file], [rates, picture, words], trigger_mode="always_last", **QUIET)
    # A cutoff that was moved counts from the next recording on.
    microphone.start_recording(lambda: None, None, live, **QUIET)
    microphone.stream(
        told(take), [live, model, cutoff, microphone], [live, picture, words],
        stream_every=STREAM_S, time_limit=LONGEST_STREAM_S, concurrency_limit=4, **QUIET,
    )  # fmt: skip
    file.change(told(try_file), [model, cutoff, file], [picture, words, given], **QUIET)
