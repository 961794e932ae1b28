"""`edgewake make`: each stage is the function of its own command, and is made again only when its inputs changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from edgewake.builder.build import build
from edgewake.builder.release import PARTS, release
from edgewake.builder.report import PEERS
from edgewake.builder.user_files import PAGE, REPORT
from edgewake.config import WakewordConfig
from edgewake.console import error_console
from edgewake.data.manifest import CorpusManifest, Split
from edgewake.data.scanning import usable_corpus
from edgewake.experiments.trials import locked
from edgewake.fingerprint import code_fingerprint
from edgewake.io import known_sha256
from edgewake.making.clips import SYNTH, TEST, clips_are_there, synthesize_word, voices_of
from edgewake.making.corpus import CORPUS, corpus_state, csv_files, word_corpus
from edgewake.making.efforts import EFFORTS, recipe
from edgewake.making.report import BUILD, METRICS, MODEL, write_report
from edgewake.making.stages import Stages, named
from edgewake.synthesis.plans import usable_recogniser
from edgewake.synthesis.wakeword import Wakeword, name_of, read_wakeword
from edgewake.training.checkpoint_manager import LAST
from edgewake.training.run import FREE, train_command
from edgewake.training.runs import flatten
from edgewake.training.students import RELEASED, TRUNK_WEIGHTS, trunk_folder

STAGES = ("synth", "corpus", "train", "evaluate", "build", "report")
RUN = "run"


def make(folder: Path, effort: str = "quick", *, workers: int | None = None) -> dict[str, Any]:
    """Make firmware and a report of the folder of a wake word, from what an earlier call left.

    The folder gets synth/ and synth-test/ (clips), noise/, corpus.json, run/ (trainings), model/ (a released model),
    build/ (as `edgewake build` makes it), report.html, make.json and make.log.

    Args:
        effort: a row of `EFFORTS`.
        workers: processes that synthesise, by default one for each core.

    Returns:
        What make.json holds.

    Raises:
        EdgewakeError: a stage fails, which is named; or another process works on the folder.
    """
    word, row = read_wakeword(folder), EFFORTS[effort]
    # Runs hold the place of their corpus, wherever they are begun from.
    folder = Path(folder).resolve()
    minutes = {name: row.minutes.get(name, 0.0) for name in STAGES}
    with locked(folder, "wake word"):
        stages = Stages(folder, minutes, phrase=word.phrase, effort=effort)
        with stages.shown(f"making {word.phrase!r}"):
            with named("synth"):
                _synth(stages, word, effort, workers)
            with named("corpus"):
                _corpus(stages, word)
            with named("train"):
                run = _train(stages, word, effort)
            with named("evaluate"):
                _evaluate(stages, run, word, effort)
            with named("build"):
                _build(stages, word)
            with named("report"):
                _report(stages, effort)
    return stages.record


def _synth(stages: Stages, word: Wakeword, effort: str, workers: int | None) -> None:
    folder, row = stages.folder, EFFORTS[effort]
    voices = voices_of(word)
    about = {name: getattr(word, name) for name in ("phrase", "pronunciations", "near_phrases", "seed")}
    code = code_fingerprint("edgewake.synthesis.plans", "edgewake.synthesis.synthesize")
    places = list(voices)
    stages.run(
        "synth",
        [about, row.clips, row.test, voices, usable_recogniser(), code],
        lambda: [folder / place / name for place in places for name in ("manifest.csv", "synthesis.json")],
        lambda: synthesize_word(folder, row, voices, workers=workers),
        lambda: all(clips_are_there(folder / place) for place in places),
    )
    if TEST not in voices:
        # Of an earlier time, when an engine was there.
        shutil.rmtree(folder / TEST, ignore_errors=True)


def _corpus(stages: Stages, word: Wakeword) -> None:
    folder = stages.folder
    recordings = folder / word.recordings
    people = [
        (path.relative_to(recordings).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(recordings.rglob("*"))
        if path.is_file()
    ]
    tables = [
        (str(path.relative_to(folder) if path.is_relative_to(folder) else path), known_sha256(path))
        for path in csv_files(folder, word)
    ]

    def work() -> None:
        manifest = word_corpus(
            folder, lambda fault: error_console.print(f"left out: {fault}", soft_wrap=True, markup=False)
        )
        manifest.save(folder / CORPUS)

    inputs = [word.phrase, word.text_alone, people, tables, code_fingerprint("edgewake.making.corpus")]
    stages.run("corpus", inputs, lambda: [folder / CORPUS], work)


def _train(stages: Stages, word: Wakeword, effort: str) -> Path:
    """Train, and return the run."""
    folder, row = stages.folder, EFFORTS[effort]
    manifest = folder / CORPUS
    corpus = CorpusManifest.load(manifest)
    about = [known_sha256(manifest), corpus_state(folder, corpus), code_fingerprint("edgewake.training.run")]
    trunk = trunk_folder(RELEASED) / TRUNK_WEIGHTS
    start = RELEASED if row.trunk and trunk.is_file() else ""
    if start:
        about.append(known_sha256(trunk))

    config = recipe(word, row, manifest, start)
    settings = flatten(config.model_dump(mode="json"))
    # Places change when the folder is moved; what lies there is in `about`.
    decide = {key: value for key, value in settings.items() if key not in FREE | {"data.manifest"}}
    key = hashlib.sha256(json.dumps([decide, *about], sort_keys=True, default=str).encode()).hexdigest()
    # Another corpus, recipe or version has another folder, so that any of them goes on.
    run = folder / RUN / f"{effort}-{key[:8]}"

    def work() -> None:
        if (run / "result.json").is_file():
            return
        if (run / "config.yaml").is_file():  # of the place before
            config.save(run / "config.yaml")
        train_command(config, run, resume=(run / "checkpoints" / LAST).is_file())

    stages.run("train", run.name, lambda: _parts(run), work)
    return run


def _parts(run: Path) -> list[Path]:
    return [run / "model" / name for name in PARTS]


def _evaluate(stages: Stages, run: Path, word: Wakeword, effort: str) -> None:
    """Build the model, measure it on clips of other engines and on recordings, and describe it in a card."""
    folder = stages.folder
    corpus = CorpusManifest.load(folder / CORPUS)
    settings = {
        "evaluation.target_fa_per_hour": word.target_fa,
        "evaluation.lowest_recall": EFFORTS[effort].lowest_recall,
    }

    def work() -> None:
        usable = usable_corpus(WakewordConfig.load(run / "config.yaml"))
        begin = f'edgewake new "{word.phrase}" --seed {word.seed}'
        again = (begin, f"edgewake make {name_of(word.phrase)} --effort {effort}")
        split = split_to_report(corpus)
        release(run, folder / MODEL, usable, target=word.target, split=split, commands=again, settings=settings)

    about = [known_sha256(path) for path in (*_parts(run), folder / CORPUS)]
    inputs = [about, settings, corpus_state(folder, corpus), code_fingerprint("edgewake.builder.release")]
    stages.run("evaluate", inputs, lambda: _files(folder / MODEL), work)


def split_to_report(corpus: CorpusManifest) -> Split:
    """`test`; without an engine for tests, recordings of people or another corpus in it, `val`."""
    negatives = [entry for entry in corpus.select(split="test", kind="negative") if not entry.near]
    return "test" if negatives and corpus.select(split="test", label=1) else "val"


def _build(stages: Stages, word: Wakeword) -> None:
    folder = stages.folder
    inputs = [[(path.name, known_sha256(path)) for path in _files(folder / MODEL)], word.target]
    inputs.append(code_fingerprint("edgewake.builder.build"))
    outputs = [folder / BUILD / name for name in (REPORT, "model.tflite", "manifest.json")]
    stages.run("build", inputs, lambda: outputs, lambda: build(folder / MODEL, folder / BUILD, target=word.target))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _report(stages: Stages, effort: str) -> None:
    folder = stages.folder
    used = [folder / MODEL / METRICS, folder / MODEL / PEERS, folder / BUILD / REPORT]
    used += [folder / place / "synthesis.json" for place in (SYNTH, TEST)]
    known = [known_sha256(path) for path in used if path.is_file()]
    inputs = [effort, known, code_fingerprint("edgewake.making.report")]
    stages.run("report", inputs, lambda: [folder / PAGE], lambda: write_report(folder))
