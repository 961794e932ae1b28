"""The command line parses, calls one function and prints; nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewake import __version__
from edgewake.errors import AudioError, ConfigError, EdgewakeError, MissingDependencyError, ReportedError

if TYPE_CHECKING:
    from edgewake.config import WakewordConfig
    from edgewake.data.manifest import CorpusManifest

TARGET = "esp32s3-nopsram"
CORPORA = "EDGEWAKE_CORPORA"
# Failures of the machine, or of a path that was given, and not of the program.
NO_ACCESS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR,
    errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip
EXTRAS = {
    "train": ("torch", "scipy"),
    "teachers": ("torch", "scipy", "transformers"),
    "convert": ("torch", "tensorflow", "onnx2tf", "onnx", "ai_edge_quantizer"),
    "report": ("jinja2", "matplotlib"),
}
FILE = click.Path(path_type=Path)
MODEL = click.option(
    "--model",
    type=FILE,
    default=Path("models/computer"),
    show_default=True,
    help="Build folder, model folder or manifest.json.",
)
SET = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. qat.enabled=true."
)


class Commands(click.Group):
    """Turns expected failures into one line and exit code 1, Ctrl-C into 130; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ReportedError:
            ctx.exit(1)
        except EdgewakeError as error:
            fail(error)
            ctx.exit(1)
        except OSError as error:
            if error.errno not in NO_ACCESS:
                raise
            what = f"{error.filename}: " if error.filename else ""
            fail(EdgewakeError(f"{what}{error.strerror}; free space or choose another folder"))
            ctx.exit(1)
        except KeyboardInterrupt:
            if os.environ.get("RANK", "0") == "0":  # of processes that train together one says it
                click.secho("interrupted", fg="yellow", err=True)
            ctx.exit(130)


def fail(error: EdgewakeError) -> None:
    """Show an expected failure."""
    line = " ".join(str(error).split())
    click.secho(f"error: {line}", fg="red", err=True)


def need(extra: str) -> None:
    """Check that an extra's packages are installed, before any of them is imported.

    Raises:
        MissingDependencyError: with the pip command that installs it.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"this command needs {', '.join(missing)}, not installed: pip install 'edgewake[{extra}]'"
        )


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgewake")
def main() -> None:
    """From a wake phrase and some audio to an ESP32-S3 without PSRAM that wakes on it.

    What is tested here is, bit for bit, what the board computes.
    """


# ---- from weights to a board ---------------------------------------------------------------------


@main.command()
@click.option("--target", default=TARGET, show_default=True, help="The chip.")
@click.option("--model", type=FILE, default=Path("models/computer"), show_default=True, help="Model folder.")
@click.option("--out", type=FILE, help="Output folder.  [default: build/<name of the model folder>]")
@click.option(
    "--quantization", type=click.Choice(["qat", "ptq"]), default="qat", show_default=True,
    help="Scales learned in training, or set afterwards from calibration audio.",
)  # fmt: skip
@click.option("--calibration", type=FILE, help="Folder with calibration audio.  [default: calibration]")
@click.option("--release", is_flag=True, help="Write model.tflite and manifest.json into the model folder too.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of the table.")
def build(
    *,
    target: str,
    model: Path,
    out: Path | None,
    quantization: str,
    calibration: Path | None,
    release: bool,
    as_json: bool,
) -> None:
    """Convert a model, check its budget, climb the parity ladder, and write the board's files."""
    need("convert")
    need("report")
    from edgewake.builder.build import build as run
    from edgewake.builder.facts import print_summary

    folder = out or Path("build") / model.resolve().name
    report = run(model, folder, target=target, quantization=quantization, calibration=calibration, release=release)
    if as_json:
        print_json(report)
    else:
        print_summary(report, folder)


@main.command()
@click.argument("model", type=FILE)
@click.option("--out", type=FILE, help="Output folder.  [default: build/conversion/<name of the model folder>]")
@click.option("--quantization", type=click.Choice(["qat", "ptq"]), default="qat", show_default=True)
@click.option("--calibration", type=FILE, help="Folder with calibration audio.  [default: calibration]")
@click.option("--json", "as_json", is_flag=True, help="Print the record of the conversion.")
def convert(model: Path, out: Path | None, quantization: str, calibration: Path | None, as_json: bool) -> None:
    """Turn a model folder's weights into a streaming int8 .tflite that keeps the learned scales."""
    need("convert")
    from edgewake.builder.converting import run_conversion
    from edgewake.console import table

    folder = out or Path("build/conversion") / model.resolve().name
    record = run_conversion(model, folder, quantization=quantization, calibration=calibration)
    if as_json:
        print_json(record)
        return
    rows = [(path.name, f"{path.stat().st_size:,}") for path in sorted(folder.iterdir()) if path.is_file()]
    table(f"{model} ({quantization}) in {folder}", ("file", ">bytes"), rows)


@main.command()
@MODEL
@click.option("--calibration", type=FILE, help="Folder with calibration audio.  [default: calibration]")
@click.option("--json", "as_json", is_flag=True, help="One object a rung.")
def parity(model: Path, calibration: Path | None, as_json: bool) -> None:
    """Climb the ladder of equalities: what was trained, what was tested, what the board computes."""
    from edgewake.builder.climbing import check_rungs, climb_ladder, print_ladder

    rungs = climb_ladder(model, calibration=calibration)
    if as_json:
        for rung in rungs:
            print_json(rung)
    else:
        print_ladder(rungs)
    check_rungs(rungs)


# ---- running and judging -------------------------------------------------------------------------


@main.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@MODEL
@click.option("--cutoff", type=float, help="Another cutoff than the model's own.")
@click.option("--trace", is_flag=True, help="Print the smoothed probability of every step as well.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def detect(files: tuple[Path, ...], model: Path, cutoff: float | None, trace: bool, as_json: bool) -> None:
    """Find the phrase in audio FILES of any rate, channel count and length, by the board's own path.

    Each file is judged from silence. A file that cannot be read is named, the others are still
    processed, and the exit code is 1.
    """
    from edgewake.data.reading import read_audio
    from edgewake.runtime.detector import Detector

    detector = Detector(model, cutoff=cutoff)
    failed = False
    for path in files:
        try:
            samples = read_audio(path, max_seconds=None)
        except AudioError as error:
            fail(error)
            failed = True
            continue
        detector.reset()
        if trace:
            for step, probability in enumerate(detector.probabilities(samples)):
                time = detector.sample_index(step) / 16000
                _print_point(path, "step", time, float(probability), as_json)
        found = detector.process(samples)
        for detection in found:
            _print_point(path, detector.phrase, detection.time_s, detection.probability, as_json)
        if not found and not as_json:
            click.echo(f"{path}: nothing heard in {len(samples) / 16000:.2f} s")
    if failed:
        sys.exit(1)


def _print_point(path: Path, what: str, time_s: float, probability: float, as_json: bool) -> None:
    if as_json:
        kind = "step" if what == "step" else "event"
        print_json({"file": str(path), "kind": kind, "time_s": round(time_s, 4), "probability": probability})
    else:
        click.echo(f"{path}: {time_s:8.2f} s  {what}  {probability:.4f}")


@main.command()
@MODEL
@click.option("--manifest", type=FILE, help="Corpus manifest (JSON), as edgewake corpus import writes it.")
@click.option("--corpora", type=FILE, envvar=CORPORA, help=f"Folder with manifest.csv.  [default: ${CORPORA}]")
@click.option("--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True)
@click.option(
    "--engine", type=click.Choice(["simulator", "tflm"]), default="simulator", show_default=True,
    help="The integer simulator (a sample is confirmed by TFLM), or TFLM everywhere.",
)  # fmt: skip
@click.option("--target-fa", type=float, default=0.5, show_default=True, help="False accepts an hour to aim at.")
@click.option(
    "--cutoff",
    default="val",
    show_default=True,
    help="val: chosen on validation; shipped: the model's; or a number.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@click.option("--out", type=FILE, help="Where metrics.json, det.json and det.png go.")
@click.option("--apply", "apply_cutoff", is_flag=True, help="Write cutoff and figures into the model folder.")
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw det.png.")
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of tables.")
def evaluate(
    *,
    model: Path,
    manifest: Path | None,
    corpora: Path | None,
    split: str,
    engine: str,
    target_fa: float,
    cutoff: str,
    seed: int,
    out: Path | None,
    apply_cutoff: bool,
    plot: bool,
    as_json: bool,
) -> None:
    """Recall and false accepts an hour over whole recordings, at a cutoff that validation chose."""
    if plot and find_spec("matplotlib") is None:
        raise MissingDependencyError(
            "det.png needs matplotlib, not installed: pip install 'edgewake[report]', or add --no-plot"
        )
    from edgewake.evaluation.command import run_evaluation
    from edgewake.runtime.model_manifest import load_manifest

    chosen = _cutoff_option(cutoff)
    corpus = _corpus(manifest, corpora, load_manifest(model).phrase)
    metrics = run_evaluation(
        model,
        corpus,
        split=split,  # type: ignore[arg-type]
        engine=engine,  # type: ignore[arg-type]
        target_fa_per_hour=target_fa,
        cutoff=chosen,
        seed=seed,
        out=out,
        apply=apply_cutoff,
        plot=plot,
        quiet=as_json,
    )
    if as_json:
        print_json(metrics)


def _cutoff_option(text: str) -> Any:
    if text in ("val", "shipped"):
        return text
    try:
        value = float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not val, shipped or a number", param_hint="--cutoff") from None
    if not 0 < value <= 255 / 256:
        raise click.BadParameter(f"{value} is not in (0, 0.99609]", param_hint="--cutoff")
    return value


def _corpus(manifest: Path | None, corpora: Path | None, phrase: str) -> CorpusManifest:
    from edgewake.data.importing import import_corpora
    from edgewake.data.manifest import CorpusManifest

    if manifest is not None:
        return CorpusManifest.load(manifest)
    if corpora is None:
        raise click.UsageError(f"give --manifest or --corpora, or set {CORPORA}")
    return import_corpora(corpora, phrase)


# ---- training ------------------------------------------------------------------------------------


@main.command()
@click.argument("config")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in --out.")
@click.option("--out", type=FILE, help="Output folder.  [default: runs/<name of the configuration>]")
@click.option("--check", is_flag=True, help="Look at every point of the checklist, and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --check: print the list as JSON.")
@SET
def train(
    *, config: str, resume: bool, out: Path | None, check: bool, as_json: bool, assignments: tuple[str, ...]
) -> None:
    """Train what CONFIG says: a YAML file, or the name of a preset (see edgewake config presets)."""
    need("train")
    from edgewake.console import table
    from edgewake.training.run import train_command

    settings, name = _config(config, check=not check)
    settings = settings.override(assignments)
    if check:
        _checklist(settings, (out or Path("runs") / name) / "check.json", as_json)
        return
    result = train_command(settings, out or Path("runs") / name, resume)
    table(
        "training",
        ("what", "value"),
        [(key, value) for key, value in result.items() if not isinstance(value, dict | list)],
    )


@main.command()
@click.argument("run", type=FILE)
@click.argument("folder", type=FILE)
@click.option("--manifest", type=FILE, help="Corpus to tune and report on.")
@click.option("--corpora", type=FILE, envvar=CORPORA, help=f"Shared corpora, in place of --manifest.  [env: {CORPORA}]")
def release(run: Path, folder: Path, manifest: Path | None, corpora: Path | None) -> None:
    """Make the released model FOLDER of a trained RUN: built, judged on test once, with a model card."""
    need("convert")
    need("report")
    from edgewake.builder.release import release as make
    from edgewake.runtime.deployed import DeployedModel

    phrase = str(DeployedModel.load(run / "model").info["phrase"])
    make(run, folder, _corpus(manifest, corpora, phrase))
    click.echo(f"next: edgewake build --model {folder}")


# ---- experiments ---------------------------------------------------------------------------------

SPLIT = click.Choice(["val", "test"])
JOBS = click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True,
    help="Trainings at a time; with more than one each has one thread.",
)  # fmt: skip


@main.command()
@click.argument("config")
@click.option(
    "--teacher", "teachers", multiple=True, metavar="TEACHER",
    help="ARCHITECTURE, ARCHITECTURE:PATH, NAME=PATH or ensemble:A,B; repeat it.  [default: CONFIG's own]",
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Trainings of each condition.")
@click.option(
    "--fraction", "fractions", type=click.FloatRange(0, 1, min_open=True), multiple=True, default=(1.0,),
    show_default=True, help="Share of the phrase's recordings to learn from; repeat it.",
)  # fmt: skip
@SET
@click.option(
    "--set-distilled", "distilled", multiple=True, metavar="KEY=VALUE",
    help="As --set, for the conditions with a teacher only.",
)  # fmt: skip
@click.option(
    "--split", "splits", type=SPLIT, multiple=True, default=("val",), show_default=True,
    help="Whole recordings to judge every run on; repeat it.",
)  # fmt: skip
@JOBS
@click.option("--out", type=FILE, help="Output folder.  [default: runs/<name of the configuration>-ablation]")
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw PNG pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of tables.")
def ablate(
    *,
    config: str,
    teachers: tuple[str, ...],
    seeds: int,
    fractions: tuple[float, ...],
    assignments: tuple[str, ...],
    distilled: tuple[str, ...],
    splits: tuple[str, ...],
    jobs: int,
    out: Path | None,
    plot: bool,
    as_json: bool,
) -> None:
    """Does a teacher help? Train CONFIG with and without, over seeds, everything else equal.

    The same command goes on where it was interrupted, or with more seeds, shares or teachers.
    """
    need("train")
    if plot:
        need_plots()
    from edgewake.experiments.ablate import ablate as run
    from edgewake.experiments.markdown import print_ablation

    settings, name = _config(config)
    folder = out or Path("runs") / f"{name}-ablation"
    results = run(
        settings.override(assignments),
        folder,
        teachers=teachers,
        seeds=seeds,
        fractions=fractions,
        distilled=distilled,
        splits=splits,
        jobs=jobs,
        plot=plot,
    )
    _show_results(results, folder, as_json, print_ablation)


@main.command()
@click.argument("config")
@click.option(
    "--set", "assignments", multiple=True, required=True, metavar="KEY=VALUE,VALUE",
    help="Values to try, all combinations; commas in brackets belong to a value: [3,3],[5,5].",
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each combination.")
@click.option(
    "--split", "splits", type=SPLIT, multiple=True, default=("val",), show_default=True,
    help="Whole recordings to judge every run on; repeat it.",
)  # fmt: skip
@JOBS
@click.option("--out", type=FILE, help="Output folder.  [default: runs/<name of the configuration>-sweep]")
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of the table.")
def sweep(
    *,
    config: str,
    assignments: tuple[str, ...],
    seeds: int,
    splits: tuple[str, ...],
    jobs: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train every combination of settings, and say which did best.

    The same command goes on where it was interrupted, or with more values; a point that fails ends nothing.
    """
    need("train")
    from edgewake.experiments.markdown import print_sweep
    from edgewake.experiments.sweep import sweep as run

    settings, name = _config(config)
    folder = out or Path("runs") / f"{name}-sweep"
    results = run(settings, folder, assignments, seeds=seeds, jobs=jobs, splits=splits)
    _show_results(results, folder, as_json, print_sweep)


@main.command()
@click.argument("teacher")
@click.argument("student", type=FILE)
@click.option("--split", type=SPLIT, default="val", show_default=True, help="Whose clips and recordings.")
@SET
@click.option(
    "--out", type=FILE, help="Where comparison-SPLIT.json goes.  [default: the run, or build/comparison/NAME]"
)
@click.option("--json", "as_json", is_flag=True, help="Print comparison-SPLIT.json instead of the table.")
def compare(
    *, teacher: str, student: Path, split: str, assignments: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """TEACHER and STUDENT side by side on the same clips and whole recordings.

    TEACHER is a teacher.pt, a run that has one, or a configuration; STUDENT is a run, a model folder, or a
    run's checkpoint, and its settings say what to judge both on.
    """
    need("teachers")
    from edgewake.experiments.compare import compare as run
    from edgewake.experiments.compare import load_teacher_of, print_comparison
    from edgewake.experiments.teachers import default_folder

    found = load_teacher_of(teacher)
    folder = None
    if found is None:
        settings, name = _config(teacher)
        folder = default_folder(name)
    result = run(
        found or settings,
        student,
        split=split,  # type: ignore[arg-type]
        assignments=assignments,
        teacher_folder=folder,
        out=out,
    )
    if as_json:
        print_json(result)
    else:
        print_comparison(result)


def need_plots() -> None:
    """Check that pictures can be drawn, before any work.

    Raises:
        MissingDependencyError: with the pip command that installs matplotlib.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError(
            "plots need matplotlib, not installed: pip install 'edgewake[report]', or add --no-plot"
        )


def _show_results(results: dict[str, Any], folder: Path, as_json: bool, show: Any) -> None:
    """Results as asked for; exit code 1 where points failed."""
    if as_json:
        print_json(results)
    else:
        show(results)
        click.echo(f"results.json and results.md are in {folder}")
    if results["failed"]:
        sys.exit(1)


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--root", type=FILE, default=Path("runs"), show_default=True, help="Folder of the runs.")
@click.option("--json", "as_json", is_flag=True, help="One object a run, or the comparison.")
def runs(names: tuple[str, ...], root: Path, as_json: bool) -> None:
    """List the runs, or put those NAMEd side by side: what differs, and what came out."""
    from dataclasses import asdict

    from edgewake.console import console
    from edgewake.training.runs import compare_runs, list_runs, print_comparison, print_runs

    if names:
        comparison = compare_runs(names, root)
        if as_json:
            print_json(comparison)
        else:
            print_comparison(comparison)
        return
    found = list_runs(root)
    if as_json:
        for run in found:
            print_json(asdict(run))
    elif found:
        print_runs(found, root)
    else:
        console.print(f"no runs in {root}; edgewake train makes one")


def _checklist(settings: WakewordConfig, path: Path, as_json: bool) -> None:
    """Show the checklist and write it to `path`; exit code 1 where a point failed."""
    from edgewake.io import write_json
    from edgewake.training.checklist import check_command, print_checklist

    record = check_command(settings)
    write_json(path, record)
    if as_json:
        print_json(record)
    else:
        print_checklist(record)
    if not record["ok"]:
        sys.exit(1)


def _config(text: str, *, check: bool = True) -> tuple[WakewordConfig, str]:
    """A configuration from a path or a preset's name, and what to call it.

    Args:
        check: that the settings of a file fit together.
    """
    from edgewake.config import WakewordConfig, get_preset, list_presets

    path = Path(text)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return WakewordConfig.load(path, check=check), path.stem
    if text not in list_presets():
        raise ConfigError(f"{text!r} is neither a YAML file nor a preset: there are {', '.join(list_presets())}")
    return get_preset(text), text


# ---- teachers ------------------------------------------------------------------------------------


@main.group()
def teacher() -> None:
    """Fit a teacher to the phrase, and see whether it is worth learning from."""


@teacher.command("train")
@click.argument("config")
@click.option("--out", type=FILE, help="Output folder.  [default: runs/<name>-teacher]")
@click.option("--resume", is_flag=True, help="Continue an interrupted training in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print result.json instead of the table.")
@SET
def teacher_train(config: str, out: Path | None, resume: bool, as_json: bool, assignments: tuple[str, ...]) -> None:
    """Fit the teacher of CONFIG: its head, its last layers, or a small network from scratch (teacher.*)."""
    need("teachers")
    from edgewake.experiments.teachers import default_folder, print_training, train_teacher

    settings, name = _config(config)
    result = train_teacher(settings.override(assignments), out or default_folder(name), resume=resume)
    if as_json:
        print_json(result)
    else:
        print_training(result)


@teacher.command("evaluate")
@click.argument("teacher", metavar="CONFIG_OR_TEACHER.pt")
@click.option("--split", type=click.Choice(["val", "test", "train"]), default="val", show_default=True)
@click.option("--out", type=FILE, help="Where evaluation-SPLIT.json goes.  [default: beside the teacher]")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation-SPLIT.json instead of the table.")
@SET
def teacher_evaluate(teacher: str, split: str, out: Path | None, as_json: bool, assignments: tuple[str, ...]) -> None:
    """Judge a fitted teacher on clips, and by recall at fixed false accepts an hour on whole recordings.

    A teacher.pt is judged on the recordings of the config.yaml beside it, or of the run that keeps it.
    """
    need("teachers")
    from edgewake.experiments.teachers import (
        default_folder,
        evaluate_teacher,
        find_teacher,
        print_evaluation,
        settings_of,
    )
    from edgewake.teachers.registry import load_teacher

    path = Path(teacher)
    if path.suffix == ".pt":
        settings = settings_of(path).override(assignments)
        folder, found = path.parent, load_teacher(path)
    else:
        settings, name = _config(teacher)
        settings, folder = settings.override(assignments), default_folder(name)
        found = find_teacher(settings, folder)
    result = evaluate_teacher(found, settings, out or folder, split)  # type: ignore[arg-type]
    if as_json:
        print_json(result)
    else:
        print_evaluation(result)


# ---- corpus --------------------------------------------------------------------------------------


@main.group()
def corpus() -> None:
    """Import recordings and check them."""


@corpus.command("import")
@click.argument("folder", type=FILE, required=False, envvar=CORPORA)
@click.option("--phrase", required=True, help="The wake phrase.")
@click.option("--out", type=FILE, default=Path("corpus.json"), show_default=True, help="The manifest to write.")
@click.option("--speaker-pattern", help="Regular expression whose group is the speaker, for class folders.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the deal of speakers to splits.")
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be used.")
def corpus_import(
    *, folder: Path | None, phrase: str, out: Path, speaker_pattern: str | None, seed: int, strict: bool
) -> None:
    """Make a manifest of FOLDER: the shared corpora (with manifest.csv), or one folder a class."""
    from edgewake.console import console
    from edgewake.data.importing import import_corpora, import_folder

    if folder is None:
        raise click.UsageError(f"give a FOLDER, or set {CORPORA}")
    left_out: list[AudioError] = []
    if (folder / "manifest.csv").is_file():
        manifest = import_corpora(folder, phrase)
    else:
        manifest = import_folder(
            folder,
            phrase,
            speaker_pattern=speaker_pattern,
            seed=seed,
            on_fault=None if strict else left_out.append,
        )
    manifest.save(out)
    for error in left_out:
        click.secho(f"left out: {error}", fg="yellow", err=True)
    hours = sum(entry.seconds for entry in manifest.entries) / 3600
    console.print(f"{out}: {len(manifest.entries)} recordings, {hours:.2f} h; left out {len(left_out)}")


@corpus.command()
@click.argument("manifest", type=FILE)
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def scan(manifest: Path, strict: bool, as_json: bool) -> None:
    """Decode every recording of MANIFEST once, and name what cannot be used."""
    from edgewake.console import console, error_console
    from edgewake.data.manifest import CorpusManifest
    from edgewake.data.scanning import scan as run

    report = run(CorpusManifest.load(manifest), strict, console=error_console)
    if as_json:
        print_json(report.to_json())
        return
    for shown in report.tables():
        console.print(shown)


@corpus.command("pack")
@click.argument("manifest", type=FILE)
@click.argument("out", type=FILE)
@click.option("--shard-mb", type=float, default=500.0, show_default=True, help="Size of a shard, 1e6 B.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def corpus_pack(manifest: Path, out: Path, shard_mb: float, as_json: bool) -> None:
    """Copy the recordings of MANIFEST into tar shards in OUT (WebDataset), with a manifest of them."""
    need("train")
    from edgewake.console import console
    from edgewake.data.manifest import CorpusManifest
    from edgewake.data.shards import pack

    packed = pack(CorpusManifest.load(manifest), out, shard_mb)
    shards = sorted(out.glob("*.tar"))
    record = {
        "manifest": str(out / "manifest.json"),
        "recordings": len(packed.entries),
        "shards": len(shards),
        "bytes": sum(shard.stat().st_size for shard in shards),
    }
    if as_json:
        print_json(record)
    else:
        console.print(
            f"{record['manifest']}: {record['recordings']} recordings in {record['shards']} shards, "
            f"{record['bytes']:,} B"
        )


# ---- pretrained weights --------------------------------------------------------------------------


@main.group()
def assets() -> None:
    """List and fetch pretrained teachers and voices; every one of them is optional."""


@assets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Also files, checksums and sources.")
def assets_list(as_json: bool) -> None:
    """List assets with licence and size, and whether they are on this machine."""
    from edgewake.assets import list_assets
    from edgewake.console import table

    found = list_assets()
    if as_json:
        print_json(found)
        return
    rows = [
        (asset["name"], asset["kind"], f"{asset['bytes'] / 1e6:,.1f}", asset["state"], asset["licence"])
        for asset in found
    ]
    table("assets", ("name", "kind", ">MB", "state", "licence"), rows)


@assets.command("get")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def assets_get(names: tuple[str, ...]) -> None:
    """Fetch assets by NAME into the user's cache, verify them, and print their folders."""
    from edgewake.assets import get_asset
    from edgewake.assets.catalogue import find_asset
    from edgewake.console import error_console

    for asset in [find_asset(name) for name in names]:
        with error_console.status(f"{asset.name}: fetching up to {asset.size / 1e6:,.1f} MB"):
            folder = get_asset(asset.name, report=lambda line: click.echo(f"  {line}", err=True))
        click.echo(folder)


@assets.command("path")
@click.argument("name")
def assets_path(name: str) -> None:
    """Print the folder with an asset's verified files; fetch nothing."""
    from edgewake.assets import asset_path

    click.echo(asset_path(name))


# ---- configuration -------------------------------------------------------------------------------


@main.group()
def config() -> None:
    """Look at configurations."""


@config.command()
@click.argument("config", metavar="CONFIG", default="default")
@SET
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
def show(config: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Print the whole of CONFIG, a YAML file or a preset, as edgewake understands it."""
    from edgewake.config import yaml_text

    settings, _ = _config(config)
    settings = settings.override(assignments)
    settings.check()
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        click.echo(yaml_text.dump(settings.to_mapping()), nl=False)


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One object.")
def presets(as_json: bool) -> None:
    """List the presets."""
    from edgewake.config import list_presets
    from edgewake.console import table

    if as_json:
        print_json(list_presets())
    else:
        table("presets", ("name", "what for"), list_presets().items())
