"""`edgewake new`: a folder for a wake word, and what is thought of the phrase."""

from __future__ import annotations

from pathlib import Path

import click

from edgewake.commands.common import OUT_FOLDER, SEED, json_option, print_json
from edgewake.console import console, table, working
from edgewake.synthesis.assessment import Assessment
from edgewake.synthesis.languages import LANGUAGES, Language
from edgewake.synthesis.near import Neighbour
from edgewake.synthesis.phrases import check_phrase
from edgewake.synthesis.wakeword import FILE, NEAR_PHRASES, begin_wakeword, json_of, name_of

_COLOURS = {"good": "green", "fair": "yellow", "poor": "red"}


@click.command()
@click.argument("phrase")
@click.option("--out", type=OUT_FOLDER, help="The folder to make.  [default: the phrase, as hey_atlas]")
@click.option(
    "--phonemes", multiple=True, metavar="PHONEMES", help="How it is said, in Kokoro's phonemes; may be repeated."
)
@click.option(
    "--near",
    type=click.IntRange(0, 1000),
    default=NEAR_PHRASES,
    show_default=True,
    help="Near phrases to train against.",
)
@click.option(
    "--seed", type=SEED, metavar="N", default=0, show_default=True, help="Seed of the near phrases and of training."
)
@click.option("--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of the phrase.")
@json_option("Print the assessment as JSON.")
def new(
    *,
    phrase: str,
    out: Path | None,
    phonemes: tuple[str, ...],
    near: int,
    seed: int,
    language: Language,
    as_json: bool,
) -> None:
    """Begin a wake word: make a folder for PHRASE, and say what is thought of it.

    The folder holds wakeword.yaml, to be looked through before edgewake make, and recordings/, which may stay empty.
    """
    phrase = check_phrase(phrase)
    folder = out or Path(name_of(phrase))
    with working("assessing the phrase"):
        assessment = begin_wakeword(folder, phrase, phonemes, near, seed, language)
    if as_json:
        print_json(json_of(assessment) | {"folder": str(folder)})
        return
    _show(assessment)
    console.print(f"{folder / FILE}: look through it, then edgewake make {folder}", soft_wrap=True, markup=False)


def _show(assessment: Assessment) -> None:
    ways = [(one.phonemes, one.syllables, one.phoneme_count) for one in assessment.pronunciations]
    table("Pronunciations", ("phonemes", ">syllables", ">count"), ways)
    _neighbours("Nearest words and pairs of words", assessment.near)
    _neighbours("Speech that holds what sounds like it", assessment.inside)
    colour = _COLOURS[assessment.verdict]
    console.print(f"[bold]{assessment.phrase}[/bold]: [bold {colour}]{assessment.verdict}[/]")
    for advice in assessment.advice:
        console.print(f"  {advice}", soft_wrap=True, markup=False)


def _neighbours(title: str, found: tuple[Neighbour, ...]) -> None:
    if found:
        rows = [(one.text, f"{one.distance:.2f}", f"{one.per_million:,.2f}") for one in found]
        table(title, ("text", ">phonemes apart", ">in a million words"), rows)
