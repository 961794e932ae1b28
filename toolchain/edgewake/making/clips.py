"""The clips of a wake word's folder, as `edgewake make` and `edgewake synth FOLDER` make them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewake.console import error_console
from edgewake.making.efforts import Effort
from edgewake.synthesis.languages import usual_voices, voices_for_tests
from edgewake.synthesis.plans import found_voices, usable_voices, wakeword_plan
from edgewake.synthesis.synthesize import MANIFEST, synthesize
from edgewake.synthesis.wakeword import Wakeword, read_wakeword

# To train and validate on, and by engines that are kept for tests.
SYNTH, TEST = "synth", "synth-test"


def voices_of(word: Wakeword) -> dict[str, dict[str, float]]:
    """Sources of voices by the folder that their clips go to: the word's that are here, and those kept for tests.

    Raises:
        EdgewakeError: none can be used.
    """
    tests, missing = found_voices(voices_for_tests(word.language))
    if not tests:
        error_console.print(f"no clips for a test by other engines: {'; '.join(missing)}", soft_wrap=True)
    usual = word.voices == usual_voices(word.language)
    return {SYNTH: usable_voices(word.language) if usual else dict(word.voices)} | ({TEST: tests} if tests else {})


def synthesize_word(
    folder: Path, effort: Effort, voices: Mapping[str, Mapping[str, float]] | None = None, *, workers: int | None = None
) -> dict[str, dict[str, Any]]:
    """Make the clips of a word's folder: to train and validate on, and by other engines, of other texts, to test.

    `voices` are those of `voices_of`.

    Returns:
        What `synthesize` returns, by the folder that holds the clips, `SYNTH` and (where an engine is here) `TEST`.
    """
    word, counts = read_wakeword(folder), {SYNTH: effort.clips, TEST: effort.test}
    reports = {}
    for place, found in (voices or voices_of(word)).items():
        plan = wakeword_plan(word, counts[place], found if place == TEST else None, seed=word.seed + (place == TEST))
        reports[place] = synthesize(plan, folder / place, workers=workers)
    return reports


def clips_are_there(folder: Path) -> bool:
    """Whether a folder of clips has all that its manifest.csv lists."""
    if not (folder / MANIFEST).is_file():
        return False
    with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
        return all((folder / row["path"]).is_file() for row in csv.DictReader(file))
