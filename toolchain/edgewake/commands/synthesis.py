"""`edgewake say` and `edgewake synth`: speech to listen to, and folders of clips to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgewake.commands.common import FILE, OUT_FOLDER, SEED, Number, json_option, print_json
from edgewake.console import table, working
from edgewake.making.clips import synthesize_word
from edgewake.making.efforts import EFFORTS
from edgewake.synthesis.engines import ENGINES
from edgewake.synthesis.languages import LANGUAGES
from edgewake.synthesis.plan import Plan
from edgewake.synthesis.plans import Counts, make_plan
from edgewake.synthesis.say import say as run_say
from edgewake.synthesis.synthesize import synthesize
from edgewake.synthesis.wakeword import FILE as WAKEWORD

PHONEMES = click.option(
    "--phonemes", multiple=True, help="A pronunciation in Kokoro's alphabet instead of the usual ones; may be repeated."
)
LANGUAGE = click.option(
    "--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of the text."
)


@click.command()
@click.argument("text")
@click.option("--voice", "voices", multiple=True, help="As kokoro:af_heart or hibari:heart; may be repeated.")
@click.option("--engine", "engine_name", type=click.Choice(ENGINES), help="Its voices.  [default: the best one here]")
@click.option("--speed", type=Number(0.5, 2), default=1.0, show_default=True, help="Factor of the speed.")
@PHONEMES
@LANGUAGE
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Voices of the engine.")
@click.option("--out", type=OUT_FOLDER, default=Path("samples"), show_default=True, help="Folder for the WAV files.")
def say(*, text: str, out: Path, **options: Any) -> None:
    """Write samples of TEXT to listen to."""
    samples = run_say(text, out, **options)
    while True:
        with working("speaking"):
            made = next(samples, None)
        if made is None:
            return
        click.echo(f"{made[0]}  {made[1]}".rstrip())


@click.command()
@click.argument("what", metavar="PHRASE|FOLDER", required=False)
@click.option("--plan", "plan_file", type=FILE, help="Plan of clips (JSON), instead of a phrase or folder.")
@click.option("--out", type=OUT_FOLDER, help="Folder to write to.  [default: synth and synth-test in FOLDER]")
@click.option(
    "--effort", type=click.Choice(list(EFFORTS)), metavar="quick|best", default="quick", help="Sets the counts."
)
@click.option("--positives", type=click.IntRange(0), help="Clips of the phrase.  [default: by effort]")
@click.option("--near", type=click.IntRange(0), help="Clips of phrases that sound like it.  [default: by effort]")
@click.option("--sentences", type=click.IntRange(0), help="Sentences without the phrase.  [default: by effort]")
@PHONEMES
@LANGUAGE
@click.option("--voice", "voices", multiple=True, help="An engine, a voice, kokoro:blend or kokoro:sample; repeated.")
@click.option("--seed", type=SEED, metavar="N", default=0, show_default=True, help="Seed of all that is drawn.")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@json_option("Print the report as JSON.")
def synth(
    *, what: str | None, plan_file: Path | None, out: Path | None, workers: int | None, as_json: bool, **options: Any
) -> None:
    """Synthesise a phrase by many speakers, what sounds like it, and sentences: a folder that is a corpus.

    FOLDER has a wakeword.yaml, as edgewake new makes it; its pronunciations, near phrases, voices and seed count.
    """
    if (what is None) == (plan_file is None):
        raise click.UsageError("give a PHRASE, a FOLDER or a --plan")
    effort, given = (
        EFFORTS[options.pop("effort")],
        {name: options.pop(name) for name in Counts._fields if name in options},
    )
    counts = effort.clips._replace(**{name: count for name, count in given.items() if count is not None})
    if folder := Path(what) if what and (Path(what) / WAKEWORD).is_file() else None:
        if out or any((options | {"language": options["language"] != "en"}).values()):
            raise click.UsageError(
                f"--phonemes, --language, --voice, --seed and --out are decided by {folder / WAKEWORD}"
            )
        reports = synthesize_word(folder, effort._replace(clips=counts), workers=workers)
    elif out is None:
        raise click.UsageError("--out is missing: name the folder to write to")
    else:
        with working("planning clips"):
            plan = Plan.load(plan_file) if plan_file else make_plan(what or "", counts, **options)
        reports = {str(out): synthesize(plan, out, workers=workers)}
    if as_json:
        print_json(*reports.values())
    else:
        for report in reports.values():
            _print_report(report)


def _print_report(report: dict[str, Any]) -> None:
    rows = [
        (name, f"{cell['clips']:,}", f"{cell['seconds'] / 3600:.2f}")
        for name, cell in report["by_kind_and_split"].items()
    ]
    table(f"clips of {report['phrase']!r}", ("kind and split", ">clips", ">hours"), rows)
    left_out = ", ".join(f"{count} {fault}" for fault, count in report["left_out"].items())
    click.echo(f"{report['voices']} voices; left out: {left_out or 'none'}")
