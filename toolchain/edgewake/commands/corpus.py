"""`edgewake corpus`: corpora by name, manifests, their check, shards; and the corpus options of other commands."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edgewake.assets.corpora import CORPORA, find_corpus
from edgewake.commands.common import FILE, OUT_FILE, OUT_FOLDER, SEED, Number, json_option, missing, show, suggest
from edgewake.console import table, working
from edgewake.data.fetching import get_corpus
from edgewake.data.importing import CORPORA_VARIABLE, CSV, import_corpora, import_folder
from edgewake.data.manifest import CorpusManifest
from edgewake.data.scanning import scan as run_scan
from edgewake.data.shards import pack as run_pack
from edgewake.errors import AudioError, MissingDependencyError
from edgewake.synthesis.wakeword import FILE as WAKEWORD

MANIFEST = click.option("--manifest", type=FILE, help="Corpus manifest (JSON), as edgewake corpus import writes it.")
_CORPORA = f"Folder with manifest.csv.  [default: ${CORPORA_VARIABLE}]"
CORPORA_OPTION = click.option("--corpora", type=FILE, envvar=CORPORA_VARIABLE, help=_CORPORA)


@click.group()
def corpus() -> None:
    """Fetch and import recordings, check them, and pack them."""


@corpus.command()
@click.argument("name", required=False, shell_complete=suggest([corpus.name for corpus in CORPORA]))
@click.option("--out", type=OUT_FOLDER, help="Where to unpack it.  [default: corpora/NAME in the user's cache]")
@click.option("--part", "parts", multiple=True, metavar="PART", help="Of a corpus in parts, this one; repeatable.")
@click.option("--archive", "archives", multiple=True, type=FILE, help="A file that is here already; repeatable.")
@json_option("One object.")
def get(name: str | None, out: Path | None, parts: tuple[str, ...], archives: tuple[Path, ...], as_json: bool) -> None:
    """Fetch a corpus by NAME, or list those that there are.

    Its archives are downloaded, checked and unpacked, and its manifest.csv is written, which the `corpora` of a
    wakeword.yaml take. A fetch that broke off goes on.
    """
    if name is None:
        columns = ("name", "what it is", "licence", "non-commercial", ">GB")
        rows = [(c.name, c.title, c.licence, c.non_commercial, _gigabytes(c.name)) for c in CORPORA]
        show([asdict(c) for c in CORPORA], as_json, lambda _: table("corpora", columns, rows))
        return
    found = get_corpus(name, out, parts, archives)
    for error in found.left_out:
        click.secho(f"left out: {error}", fg="yellow", err=True)
    hours = found.seconds / 3600
    about = {key: getattr(found.corpus, key) for key in ("name", "licence", "non_commercial", "page")}
    record: dict[str, Any] = about | {"folder": str(found.folder), "parts": found.parts}
    record |= {"sha256": found.digests, "unpublished": found.unpublished}
    record |= {"recordings": found.recordings, "hours": round(hours, 4), "left_out": len(found.left_out)}

    def text(_: object) -> None:
        for file in found.unpublished:
            click.echo(f"{file}: SHA-256 {found.digests[file]}; no checksum is published, a second fetch is compared")
        if found.recordings:
            listed = f"{found.recordings} recordings, {hours:.2f} h; left out {len(found.left_out)}"
            click.echo(f"{found.folder / CSV}: {listed}")
        else:
            click.echo("\n".join(str(found.folder / part) for part in found.parts))
        click.echo(f"licence: {found.corpus.licence}; non-commercial: {found.corpus.non_commercial}")

    show(record, as_json, text)


def _gigabytes(name: str) -> str:
    """Of what is fetched where no part is named; "?" where a size is not known, or nothing can be downloaded."""
    sizes = [file.gb for archive in find_corpus(name).parts() for file in archive.files]
    return f"{sum(sizes):.1f}" if sizes and all(sizes) else "?"


@corpus.command("import")
@click.argument("folder", type=FILE, required=False, envvar=CORPORA_VARIABLE)
@click.option("--phrase", help="The wake phrase.  [default: that of FOLDER's wakeword.yaml]")
@click.option("--out", type=OUT_FILE, help="The manifest to write.  [default: corpus.json]")
@click.option("--speaker-pattern", help="Regular expression whose group is the speaker, for class folders.")
@click.option("--seed", type=SEED, metavar="N", default=0, help="Seed of the random split.")
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be used.")
def import_recordings(
    *, folder: Path | None, phrase: str | None, out: Path | None, speaker_pattern: str | None, seed: int, strict: bool
) -> None:
    """Write a manifest of the recordings in FOLDER.

    FOLDER has a manifest.csv, as the shared corpora have, or one folder of audio a class; or it is that of a wake word,
    whose clips, recordings and other corpora are joined.
    """
    if folder is None:
        raise click.UsageError(f"give a FOLDER, or set {CORPORA_VARIABLE}")
    left_out: list[AudioError] = []
    if (folder / WAKEWORD).is_file() and not phrase:
        if lacking := missing(("synthesis", "train")):
            raise MissingDependencyError(f"the corpus of a wake word {lacking}")
        word_corpus = import_module("edgewake.making.corpus").word_corpus
        with working("joining recordings"):
            manifest = word_corpus(folder, left_out.append)
        out = out or folder / "corpus.json"
    elif not phrase:
        raise click.UsageError("give the --phrase")
    elif (folder / "manifest.csv").is_file():
        with working(f"reading {folder / CSV}"):
            manifest = import_corpora(folder, phrase)
    else:
        on_fault = None if strict else left_out.append
        manifest = import_folder(folder, phrase, speaker_pattern=speaker_pattern, seed=seed, on_fault=on_fault)
    out = out or Path("corpus.json")
    manifest.save(out)
    for error in left_out:
        click.secho(f"left out: {error}", fg="yellow", err=True)
    hours = sum(entry.seconds for entry in manifest.entries) / 3600
    click.echo(f"{out}: {len(manifest.entries)} recordings, {hours:.2f} h; left out {len(left_out)}")


@corpus.command()
@click.argument("manifest", type=FILE)
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be used.")
@json_option("Print the report as JSON.")
def scan(manifest: Path, strict: bool, as_json: bool) -> None:
    """Decode every recording, and name what cannot be used."""
    report = run_scan(CorpusManifest.load(manifest), strict)
    show(report.to_json(), as_json, lambda _: report.show())


@corpus.command()
@click.argument("manifest", type=FILE)
@click.argument("out", type=OUT_FOLDER)
@click.option("--shard-mb", type=Number(0, min_open=True), default=500.0, help="Size of a shard, 1e6 B.")
@json_option("Print what was written as JSON.")
def pack(manifest: Path, out: Path, shard_mb: float, as_json: bool) -> None:
    """Copy recordings into tar shards (WebDataset).

    The recordings of MANIFEST go to OUT, with a manifest of the shards.
    """
    packed = run_pack(CorpusManifest.load(manifest), out, shard_mb)
    shards = sorted(out.glob("*.tar"))
    size = sum(shard.stat().st_size for shard in shards)
    record = {"manifest": str(out / "manifest.json"), "recordings": len(packed.entries), "shards": len(shards)}
    text = f"{record['manifest']}: {record['recordings']} recordings in {record['shards']} shards, {size:,} B"
    show(record | {"bytes": size}, as_json, lambda _: click.echo(text))
