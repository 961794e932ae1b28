"""Panel 1: a phrase is assessed, spoken by several voices, recorded by people, and made into a wake word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from edgewake.data.reading import read_audio
from edgewake.data.takes import describe, save_take, speaker_folder, trimmed
from edgewake.errors import AudioError, EdgewakeError
from edgewake.synthesis.assessment import Assessment, assess
from edgewake.synthesis.near import Neighbour
from edgewake.synthesis.phrases import check_phrase
from edgewake.synthesis.say import say
from edgewake.synthesis.wakeword import begin_wakeword, name_of, read_wakeword
from edgewake.ui.common import choices, told
from edgewake.ui.project import Project
from edgewake.ui.settings import QUIET

VOICES = 4
LONGEST_TAKE_S = 30.0
SECONDS = 2.5
# The efforts that are for people.
EFFORTS = ("quick", "best")
# Counts down, presses the recorder's own buttons, and shows the level meanwhile.
RECORD = """
async () => {
  const place = document.querySelector('#countdown'), recorder = document.querySelector('#take')
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  const press = async (name) => {
    for (let tries = 0; tries < 50; tries++) {
      const button = recorder.querySelector(name)
      if (button) { button.click(); return }
      await wait(50)
    }
  }
  const clear = recorder.querySelector('[aria-label="Clear"]')
  if (clear) clear.click()  // the take before
  let stream
  try {
    stream = await navigator.mediaDevices.getUserMedia({audio: true})
  } catch (error) {
    place.textContent = 'no microphone: ' + (navigator.mediaDevices ? error.message
      : 'a browser gives it to https:// and to this machine alone; see ssh -L in the documentation of the page')
    return
  }
  for (const left of [3, 2, 1]) { place.textContent = left + ' ...'; await wait(500) }
  const context = new AudioContext(), meter = context.createAnalyser()
  context.createMediaStreamSource(stream).connect(meter)
  const samples = new Float32Array(meter.fftSize)
  await press('.record-button')
  const end = Date.now() + SECONDS * 1000
  while (Date.now() < end) {
    meter.getFloatTimeDomainData(samples)
    const level = 10 * Math.log10(samples.reduce((sum, x) => sum + x * x, 0) / samples.length + 1e-10)
    const bars = Math.max(0, Math.round((level + 60) / 3))
    const meterText = '#'.repeat(bars).padEnd(20, '.')
    place.textContent = `say it now  ${meterText} ${Math.round(level)} dBFS`
    await wait(50)
  }
  await press('.stop-button')
  stream.getTracks().forEach((track) => track.stop())
  context.close()
  place.textContent = ''
}
""".replace("SECONDS", str(SECONDS))


def described(found: Assessment) -> str:
    """What is thought of a phrase, in Markdown."""
    lines = [f"## {found.phrase}: {found.verdict}", *(f"- {one}" for one in found.advice)]
    lines += ["", "| phonemes | syllables | phonemes in all |", "|---|--:|--:|"]
    lines += [f"| {one.phonemes} | {one.syllables} | {one.phoneme_count} |" for one in found.pronunciations]
    lines += _neighbours("Nearest words and pairs of words", found.near)
    lines += _neighbours("Speech that holds what sounds like it", found.inside)
    return "\n".join(lines)


def _neighbours(title: str, found: Sequence[Neighbour]) -> list[str]:
    rows = [f"| {one.text} | {one.distance:.2f} | {one.per_million:,.2f} |" for one in found]
    head = ["", f"| {title} | phonemes apart | in a million words |", "|---|--:|--:|"]
    return [*head, *rows] if rows else []


def panel(project: Project, page: gr.Blocks) -> None:
    """Draw the panel."""
    with gr.Row():
        text = gr.Textbox(label="Wake phrase", placeholder="hey atlas", max_lines=1, elem_id="phrase")
        judge = gr.Button("Assess", variant="primary", elem_id="assess", scale=0)
        speak = gr.Button("Listen", elem_id="speak", scale=0)
    assessment = gr.Markdown(elem_id="assessment")
    with gr.Row():
        samples = [
            gr.Audio(visible=False, interactive=False, elem_id=f"sample-{n}", buttons=["download"])
            for n in range(VOICES)
        ]
    with gr.Row():
        create = gr.Button("Begin this wake word", elem_id="create", scale=0)
        word = gr.Dropdown(label="Wake word", info="folders that hold a wakeword.yaml", elem_id="word")
        effort = gr.Dropdown(EFFORTS, label="Effort", elem_id="effort", scale=0)
        make = gr.Button("Make it: clips to firmware", variant="primary", elem_id="make", scale=0)
    made = gr.Markdown(elem_id="made")
    with gr.Row():
        speaker = gr.Textbox(label="Who speaks", placeholder="anna", max_lines=1, elem_id="speaker")
        record = gr.Button(f"Record: 3, 2, 1, then {SECONDS} s", elem_id="record", scale=0)
        add = gr.UploadButton("Add recordings", file_count="multiple", file_types=["audio"], elem_id="add", scale=0)
    gr.HTML('<div id="countdown" style="font-family: ui-monospace, monospace; min-height: 1.5em"></div>')
    with gr.Row():
        take = gr.Audio(
            sources=["microphone"],
            type="filepath",
            format=None,
            label="Recording",
            elem_id="take",
            buttons=[],
        )
        kept = gr.Audio(label="As it is kept", interactive=False, elem_id="kept", buttons=[])
    saved = gr.Markdown(elem_id="saved")

    def show(phrase: str) -> str:
        return described(assess(check_phrase(phrase)))

    def spoken(phrase: str) -> list[Any]:
        out = project.samples / name_of(check_phrase(phrase))
        files = [path for path, _ in say(check_phrase(phrase), out, count=VOICES)]
        if len(files) < VOICES:
            gr.Info("other voices are not here: edgewake assets get kokoro fetches 54 and a mixer of more")
        shown = [gr.update(value=path, label=path.stem, visible=True) for path in files]
        return shown + [gr.update(visible=False)] * (VOICES - len(shown))

    def begin(phrase: str) -> list[Any]:
        phrase = check_phrase(phrase)
        folder = project.folder / name_of(phrase)
        found = begin_wakeword(folder, phrase)
        name = project.shown(folder)
        return [
            gr.update(choices=project.words(), value=name),
            described(found),
            f"{name}/wakeword.yaml: look through it, then make it",
        ]

    def start(name: str | None, how: str) -> str:
        if not name:
            raise EdgewakeError("no wake word yet: type a phrase and begin it")
        project.make(name, how)
        return f"making {name}: follow it in the panel Training"

    def keep(path: str | None, name: str | None, who: str) -> tuple[Any, Any]:
        return (gr.skip(), gr.skip()) if path is None else keep_all([path], name, who)

    def keep_all(paths: list[str], name: str | None, who: str) -> tuple[Any, Any]:
        """Each recording is kept or refused; an error where all are."""
        if not name:
            raise EdgewakeError("no wake word yet: recordings are kept with one; type a phrase and begin it")
        folder = project.inside(name)
        place = speaker_folder(project.inside(folder / read_wakeword(folder).recordings), who)
        lines, last = [], None
        for path in map(Path, paths):
            try:
                audio, fault = trimmed(read_audio(path, max_seconds=LONGEST_TAKE_S))
                if fault:
                    raise AudioError(f"again: {fault}")
            except EdgewakeError as error:
                lines.append(f"{path.name}: " + str(error).replace(f"{path}: ", ""))
                continue
            about = describe(save_take(place, audio), audio)
            shown, last = project.shown(Path(about["file"])), project.playable(audio)
            lines.append(f"**{shown}**: {about['seconds']:.2f} s, {about['dbfs']:.0f} dBFS")
        if last is None:
            raise AudioError("; ".join(lines))
        return "\n\n".join(lines), last

    def words(chosen: str | None) -> Any:
        return choices(project.words(), chosen)

    judge.click(told(show), text, assessment, api_visibility="private")
    text.submit(told(show), text, assessment, api_visibility="private")
    speak.click(told(spoken), text, samples, api_visibility="private")
    create.click(told(begin), text, [word, assessment, made], api_visibility="private")
    make.click(told(start), [word, effort], made, **QUIET)
    record.click(None, None, None, js=RECORD, **QUIET)
    take.stop_recording(told(keep), [take, word, speaker], [saved, kept], **QUIET)
    add.upload(told(keep_all), [add, word, speaker], [saved, kept], **QUIET)
    page.load(words, word, word, **QUIET)
