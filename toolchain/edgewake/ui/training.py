"""Panel 3: trainings are started, stopped and resumed here, and followed from what they write to disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from edgewake.errors import EdgewakeError
from edgewake.experiments.run_tables import compare_runs, show_figure, show_setting
from edgewake.ui.chart import WIDTH, Point, chart
from edgewake.ui.common import choices, told
from edgewake.ui.project import RUNS, Project
from edgewake.ui.settings import QUIET, configuration

LOSSES = ("loss", "student_loss", "distillation_loss", "train_loss", "val_loss")
RATIO = "loss_ratio"
SCORES = ("score", "recall_clean", "recall_noisy", "val_f1")
# Of an epoch; the other figures are of a step, and an epoch's line has their means too.
OF_EPOCHS = ("train_loss", "val_loss", *SCORES)
REFRESH_S = 2.0
LOG_LINES = 12
NO_RUNS = "no runs yet"


def curves(lines: Sequence[dict[str, Any]], names: Sequence[str], run: str = "") -> dict[str, list[Point]]:
    """(step, value) of the figures that are among `names`, by name, behind that of the run where there are several."""
    found = {}
    for name in names:
        mine = [line for line in lines if name in line and ("epoch" in line) == (name in OF_EPOCHS)]
        if mine:
            found[f"{run} {name}".strip()] = [(float(line["step"]), float(line[name])) for line in mine]
    return found


def advice(lines: Sequence[dict[str, Any]]) -> str:
    """What the guide advises by the last `loss_ratio`; "" without distillation."""
    ratios = [line[RATIO] for line in lines if RATIO in line]
    if not ratios:
        return ""
    ratio = float(ratios[-1])
    if ratio > 10:
        return f"**loss_ratio {ratio:.3g}** > 10: Student and teacher too different (reduce alpha)"
    if ratio < 0.1:
        return f"**loss_ratio {ratio:.3g}** < 0.1: Teacher not contributing (increase alpha)"
    usual = "" if 0.5 <= ratio <= 2 else "; usual are 0.5 to 2"
    return f"**loss_ratio {ratio:.3g}**: teacher and labels both count{usual}"


def panel(project: Project, page: gr.Blocks, fields: list[gr.components.Component]) -> None:
    """Draw the panel."""
    with gr.Row():
        name = gr.Textbox(label="Name of the run", info="empty: config_name", elem_id="run-name", max_lines=1)
        start = gr.Button("Start", variant="primary", elem_id="start", scale=0)
        stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=0)
    with gr.Row():
        again = gr.Dropdown(label="Run to resume", info="with the settings that it began with", elem_id="resumed")
        resume = gr.Button("Resume", elem_id="resume", scale=0)
    status = gr.Markdown(elem_id="training-status")
    told_ratio = gr.Markdown(elem_id="loss-ratio-advice")
    selected = gr.CheckboxGroup(label="Runs to draw", info="none: the newest", elem_id="runs")
    losses = gr.HTML(elem_id="losses")
    with gr.Row():
        ratio = gr.HTML(elem_id="ratio")
        scores = gr.HTML(elem_id="scores")
    log = gr.Textbox(label="What it prints", lines=LOG_LINES, max_lines=LOG_LINES + 2, elem_id="log", buttons=["copy"])
    with gr.Accordion("Side by side: settings that differ, and figures", open=False):
        comparison = gr.Dataframe(elem_id="comparison", interactive=False)

    def view(runs: list[str] | None) -> list[Any]:
        job, found = project.job(), project.runs()
        drawn = [run for run in runs or found[:1] if run in found]
        lines = {run: project.metrics(run) for run in drawn}
        prefix = {run: run.rpartition("/")[2] if len(drawn) > 1 else "" for run in drawn}

        def plot(title: str, names: Sequence[str], width: int) -> str:
            series: dict[str, list[Point]] = {}
            for run in drawn:
                series |= curves(lines[run], names, prefix[run])
            return chart(title, series, unit="steps", width=width)

        printed = project.log(job.name).rstrip().splitlines() if job else []
        return [
            _state(project, drawn, bool(job and job.running), job.name if job else "", printed[-1:]),
            advice(lines[drawn[0]]) if drawn else "",
            plot("losses", LOSSES, WIDTH),
            plot(RATIO, (RATIO,), WIDTH // 2),
            plot("validation", SCORES, WIDTH // 2),
            "\n".join(printed[-LOG_LINES:]),
        ]

    def lists(chosen: str | None, runs: list[str]) -> list[Any]:
        found = project.runs()
        mine = [run for run in found if run.startswith(f"{RUNS}/")]
        there = [run for run in runs if run in found]
        # More may be selected meanwhile; only where a run is gone is the selection sent.
        value = {} if there == runs else {"value": there}
        return [gr.update(choices=found, **value), choices(mine, chosen)]

    def begin(run: str, *values: Any) -> list[Any]:
        config = configuration(values)
        project.train(config, run.strip() or config.config_name)
        return view(None)

    def go_on(run: str | None) -> list[Any]:
        if not run:
            raise EdgewakeError("no run to resume: start one")
        project.resume(run)
        return view(None)

    def end(runs: list[str] | None) -> list[Any]:
        project.stop()
        return view(runs)

    outputs = [status, told_ratio, losses, ratio, scores, log]
    both, given = [selected, again], [again, selected]
    start.click(told(begin), [name, *fields], outputs, **QUIET).then(lists, given, both, **QUIET)
    resume.click(told(go_on), again, outputs, **QUIET)
    stop.click(told(end), selected, outputs, **QUIET)
    selected.input(told(view), selected, outputs, **QUIET)
    selected.input(told(lambda runs: _compared(project, runs)), selected, comparison, **QUIET)
    gr.Timer(REFRESH_S).tick(told(view), selected, outputs, **QUIET)
    gr.Timer(5 * REFRESH_S).tick(lists, given, both, **QUIET)
    page.load(lists, given, both, **QUIET)
    page.load(told(view), selected, outputs, **QUIET)


def _state(project: Project, drawn: Sequence[str], running: bool, job: str, last: Sequence[str]) -> str:
    """How the training stands, and how the runs that are drawn ended."""
    lines = [f"**{job}** is in progress" if running else f"**{job}** has ended: {''.join(last)}"] if job else []
    for run in drawn:
        record = project.run(run)
        figures = ", ".join(
            f"{name} {show_figure(record.figures[name])}"
            for name in ("best_score", "best_f1")
            if name in record.figures
        )
        lines.append(f"{run}: {record.status}" + (f", {figures}" if figures else ""))
    return "  \n".join(lines) or NO_RUNS


def _compared(project: Project, runs: list[str] | None) -> dict[str, Any]:
    """The table of `edgewake runs RUN RUN ...`."""
    names = runs or []
    if not names:
        return {"headers": [], "data": []}
    found = compare_runs([str(project.inside(name)) for name in names], project.folder)
    rows = [[key, *map(show_setting, row)] for key, row in found["settings"].items()]
    rows += [[key, *map(show_figure, row)] for key, row in found["figures"].items()]
    return {"headers": ["", *names], "data": rows}
