"""edgewake, microWakeWord and openWakeWord on the same audio: DET curves, and what each costs in the same TFLM."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import best_microseconds, detect, step, stimulus
from edgewake.builder.report import PEERS
from edgewake.config import FrontendConfig
from edgewake.console import console, error_console, table
from edgewake.data.augment import synthetic_noise
from edgewake.data.importing import AUDIO_SUFFIXES
from edgewake.data.manifest import LABELS, CorpusManifest, Entry, Kind, Split
from edgewake.data.reading import SAMPLE_RATE, RecordingError, Samples, read_duration
from edgewake.data.scanning import scan
from edgewake.errors import EdgewakeError
from edgewake.evaluation.rates import condition_name, det_curve, event_rate, figure_text, picture, recall
from edgewake.evaluation.recordings import CLEAN, NEGATIVE, Noise, SplitRecordings
from edgewake.evaluation.tracks import Int8Scorer, Probabilities, Scorer, score_split, weighted_hits
from edgewake.experiments.plots import COLOURS, MARKERS
from edgewake.experiments.tables import Table
from edgewake.io import atomic_path, write_json
from edgewake.runtime.detector import Detector
from edgewake.runtime.events import refractory_steps
from edgewake.runtime.model_manifest import find_manifest, load_manifest, load_model
from edgewake.runtime.tflm import measure_arena
from edgewake.targets.arena import arena_json

REFRACTORY_S = 1.0
# False accepts an hour at which misses are compared.
RATES = (0.0, 0.5, 1.0, 2.0)
SPLIT: Split = "test"
# openWakeWord: a step of 80 ms, and the threshold of its own command.
CHUNK, OPEN_CUTOFF = 1280, 0.5
LARGEST_ARENA = 1 << 24
TIMED_STEPS = 100
STYLES = ("-", "--", "-.")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A .tflite that runs once a step; `shape` is that which the client gives its input, None: the file's own."""

    data: bytes
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Peer:
    """A detector of the word: `cutoff` is the lowest float32 that its package, as it ships, takes for a detection.

    `client` runs the whole detector, as the package does, over int16 samples.
    """

    package: str
    scorer: Scorer
    step_s: float
    cutoff: float
    networks: Mapping[str, Network]
    client: Callable[[Samples], None]


class MicroScorer:
    """pymicro-wakeword's own client; a probability is its mean over the last steps, and 0 until there are as many."""

    frontend: FrontendConfig | None = None

    def __init__(self, features: Any, word: Any, step_s: float) -> None:
        self._features, self._word = features, word
        self.refractory_steps = refractory_steps(REFRACTORY_S, step_s)

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """See `Scorer`."""
        return [self._track(samples) for samples in recordings]

    def _track(self, samples: Samples) -> Probabilities:
        self._features.reset()
        self._word.reset()
        given = self._features.process_streaming(samples.tobytes())
        found = [self._word.process_streaming_prob(features) for features in given]
        # It runs the model at each third frame; what it gives at the others is no result.
        return np.array(found[self._word.stride - 1 :: self._word.stride], np.float32)


class OpenScorer:
    """pyopen-wakeword's own client, after the 8 s of silence with which each of its streams starts."""

    frontend: FrontendConfig | None = None

    def __init__(self, features: Any, word: Any, step_s: float) -> None:
        self._features, self._word = features, word
        self.refractory_steps = refractory_steps(REFRACTORY_S, step_s)
        # That silence costs as much as some recordings: it runs once, with its last step given as audio.
        features.new_audio_samples -= CHUNK
        list(self._steps(np.zeros(CHUNK, np.int16)))
        self._start = [_state(part) for part in (features, word)]

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """See `Scorer`. A probability that rounds to 1 is the float32 below it: at 1 a curve has no detections."""
        return [self._track(samples) for samples in recordings]

    def _track(self, samples: Samples) -> Probabilities:
        for part, start in zip((self._features, self._word), self._start, strict=True):
            vars(part).update(deepcopy(start))
        found = np.array(list(self._steps(samples)), np.float32)
        return np.minimum(found, np.nextafter(np.float32(1), np.float32(0)))

    def _steps(self, samples: Samples) -> Iterator[float]:
        for start in range(0, len(samples), CHUNK):
            for embeddings in self._features.process_streaming(samples[start : start + CHUNK].tobytes()):
                yield from self._word.process_streaming(embeddings)


def _state(part: Any) -> dict[str, Any]:
    """What a client's object keeps of earlier audio."""
    return {name: deepcopy(value) for name, value in vars(part).items() if isinstance(value, int | np.ndarray)}


def edgewake_peer(folder: Path, word: str, *, compared: bool) -> Peer:
    """The model of a folder; for a comparison on recordings it must be of the word."""
    manifest, tflite = load_model(folder)
    if compared and manifest.phrase.casefold().replace(" ", "_") != word:
        raise EdgewakeError(f"{folder} detects {manifest.phrase!r}, the peers {word!r}: give --model or --word")
    steps = refractory_steps(REFRACTORY_S, manifest.step_s)
    scorer = replace(Int8Scorer.of_model(folder), refractory_steps=steps)
    detector = Detector(folder)
    package, networks = f"edgewake {version('edgewake')}", {manifest.model.file: Network(tflite)}
    return Peer(package, scorer, manifest.step_s, manifest.cutoff, networks, lambda samples: detect(detector, samples))


def micro_peer(word: str) -> Peer:
    """microWakeWord's model of the word; an EdgewakeError where there is none."""
    package, model = _packaged("pymicro_wakeword", word)
    found = package.MicroWakeWord.from_builtin(model)
    step_s = found.stride * 0.01
    scorer = MicroScorer(package.MicroWakeWordFeatures(), found, step_s)
    networks = {f"{word}.tflite": Network(_file("pymicro_wakeword", word))}
    return _peer("pymicro-wakeword", scorer, step_s, found.probability_cutoff, networks)


def open_peer(word: str) -> Peer:
    """openWakeWord's model of the word, with the two that it shares with all words; an EdgewakeError as above."""
    package, model = _packaged("pyopen_wakeword", word)
    shapes = package.openwakeword.MEL_SHAPE, package.openwakeword.EMB_SHAPE, None
    names = "melspectrogram", "embedding_model", word
    networks = {
        f"{name}.tflite": Network(_file("pyopen_wakeword", name), shape)
        for name, shape in zip(names, shapes, strict=True)
    }
    step_s = CHUNK / SAMPLE_RATE
    features, found = package.OpenWakeWordFeatures.from_builtin(), package.OpenWakeWord.from_builtin(model)
    return _peer("pyopen-wakeword", OpenScorer(features, found, step_s), step_s, OPEN_CUTOFF, networks)


def _packaged(module: str, word: str) -> tuple[Any, Any]:
    """A package and its name for the word."""
    try:
        package = import_module(module)
    except ImportError:
        raise EdgewakeError(f"{module.replace('_', '-')} is not installed: pip install it") from None
    known = [model.value for model in package.Model]
    if word not in known:
        raise EdgewakeError(f"{module.replace('_', '-')} has no model of {word!r}, but of {', '.join(known)}")
    return package, package.Model(word)


def _file(module: str, name: str) -> bytes:
    return files(module).joinpath("models", f"{name}.tflite").read_bytes()


def _peer(package: str, scorer: Scorer, step_s: float, cutoff: float, networks: Mapping[str, Network]) -> Peer:
    # Both clients detect above their cutoff, and edgewake from its cutoff on.
    lowest = float(np.nextafter(np.float32(cutoff), np.float32(1)))

    def client(samples: Samples) -> None:
        scorer.score([samples])

    return Peer(f"{package} {version(package)}", scorer, step_s, lowest, networks, client)


def find_peers(model: Path, word: str, *, compared: bool) -> dict[str, Peer]:
    """edgewake's model and those of the peers that are here and have the word; the others are named in a line."""
    found = {"edgewake": edgewake_peer(model, word, compared=compared)}
    for name, make in (("microWakeWord", micro_peer), ("openWakeWord", open_peer)):
        try:
            found[name] = make(word)
        except EdgewakeError as error:
            error_console.print(f"{name} is left out: {error}", soft_wrap=True)
    return found


def corpus_of(word: str, folders: Mapping[Kind, Path]) -> CorpusManifest:
    """The audio below one folder a kind, all of it for testing; what cannot be read is named and left out.

    Paths, which decide the noise, are relative to what the folders have in common.
    """
    given = {kind: folder.resolve() for kind, folder in folders.items()}
    root, entries = Path(os.path.commonpath(given.values())), list[Entry]()
    for kind, folder in given.items():
        if not folder.is_dir():
            raise EdgewakeError(f"{folders[kind]} is not a folder; give one of audio files")
        for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
            try:
                seconds, path = read_duration(file), file.relative_to(root).as_posix()
            except RecordingError as error:
                error_console.print(f"left out ({error.fault}): {error}", markup=False, soft_wrap=True)
                continue
            entries.append(Entry(path=path, kind=kind, label=LABELS[kind], split=SPLIT, seconds=seconds))
    manifest = CorpusManifest.build(word, entries, root=root)
    report = scan(manifest)
    report.show_findings()
    return manifest.with_entries(report.kept)


def compare(peer: Peer, recordings: SplitRecordings) -> Figures:
    """Curves, and recalls with false accepts an hour: at fixed rates, and at the cutoff that the package ships."""
    tracks = score_split(peer.scorer, recordings)

    def at(cutoff: float) -> Figures:
        found = {name: recall(*weighted_hits(each, cutoff)) for name, each in tracks.positives.items()}
        rate = event_rate(tracks.events.count(cutoff), tracks.hours)
        return {"cutoff": cutoff, "recall": found, "fa_per_hour": rate}

    return {
        "refractory_steps": tracks.refractory_steps,
        "at_rate": {f"{rate:g}": at(tracks.events.lowest_cutoff(rate * tracks.hours)) for rate in RATES},
        "shipped": at(peer.cutoff),
        "det": {condition: det_curve(tracks, condition) for condition in tracks.positives},
    }


def costs(peer: Peer, rounds: int) -> Figures:
    """Bytes and times by network, in TFLM where it runs as its client runs it, and the time of the whole client."""
    networks = {name: _network_costs(network, rounds) for name, network in peer.networks.items()}
    audio = stimulus()
    client = best_microseconds({"client": lambda: peer.client(audio)}, max(1, rounds // 10))["client"]
    return {
        "step_ms": 1000 * peer.step_s,
        "model_bytes": sum(len(network.data) for network in peer.networks.values()),
        "networks": networks,
        "client_us_per_audio_second": round(client / (len(audio) / SAMPLE_RATE), 1),
    }


def _network_costs(network: Network, rounds: int) -> Figures:
    from tflite_micro.python.tflite_micro import runtime

    found: Figures = {"bytes": len(network.data)}
    given = runtime.Interpreter.from_bytes(network.data, arena_size=LARGEST_ARENA).get_input_details(0)
    shape, int8 = tuple(given["shape"].tolist()), given["dtype"] == np.int8
    if network.shape not in (None, shape):
        return found | {"not_in_tflm": f"its client resizes the input from {shape} to {network.shape}; TFLM cannot"}
    host = measure_arena(network.data, LARGEST_ARENA, invoke=int8)
    run = step(network.data, TIMED_STEPS, LARGEST_ARENA)
    # Steps in float take milliseconds.
    time = best_microseconds({"step": run}, rounds if int8 else max(1, rounds // 10))["step"] / TIMED_STEPS
    # ESP-NN's kernels are for int8.
    arena = arena_json(network.data, host) if int8 else {"host_bytes": host}
    return found | {"arena": arena, "step_us": round(time, 2)}


def draw(peers: Mapping[str, Figures], path: Path, title: str) -> None:
    """DET curves, a panel a condition and a line a peer; a ring is the cutoff that the package ships."""
    figures = {name: peer["figures"] for name, peer in peers.items()}
    first = next(iter(figures.values()))["det"]
    hours = first[CLEAN]["hours"]
    floor = 0.5 / hours
    with picture(path, 9.6, 4.6) as figure:
        axes = figure.subplots(1, len(first), sharey=True, squeeze=False)[0]
        for axis, condition in zip(axes, first, strict=True):
            for index, (name, found) in enumerate(figures.items()):
                points = found["det"][condition]["points"]
                missed = [100 * point["miss_rate"] for point in points]
                raised = [max(floor, point["fa_per_hour"]) for point in points]
                look: dict[str, Any] = {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": STYLES[index]}
                # Markers that are some way apart on the page, and not at the same places in each line.
                look |= {"markevery": (0.02 * index, 0.12), "markersize": 5, "linewidth": 1.6, "clip_on": False}
                axis.plot(raised, missed, drawstyle="steps-post", label=name, **look)
                shipped = found["shipped"]
                place = max(floor, shipped["fa_per_hour"]["value"]), 100 * (1 - shipped["recall"][condition]["value"])
                ring = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.8, "clip_on": False}
                axis.plot(*place, "o", color=COLOURS[index], **ring)
            axis.plot([], [], "o", color="#555555", markersize=12, markerfacecolor="none", label="cutoff as shipped")
            axis.set_xscale("log")
            axis.set_xlim(left=floor)
            axis.set_ylim(0, 100)
            axis.set_title(condition_name(condition), fontsize=10)
            axis.set_xlabel(f"false accepts an hour, over {hours:.2f} h (left edge: none)", fontsize=9)
            axis.grid(alpha=0.3, which="both", linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel(f"missed, % of {first[CLEAN]['recordings']:.6g} recordings")
        figure.suptitle(title, fontsize=11)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)


def cost_table(peers: Mapping[str, Figures]) -> Table:
    """What each needs, a column a peer; "≥" where a network is missing from a sum, since TFLM does not run it."""

    def column(cost: Figures) -> list[str]:
        networks = cost["networks"].values()
        ran = [network for network in networks if "arena" in network]
        least = "" if len(ran) == len(networks) else "≥ "
        host, us = sum(each["arena"]["host_bytes"] for each in ran), sum(each["step_us"] for each in ran)
        boards = [each["arena"]["total_bytes"] for each in ran if "total_bytes" in each["arena"]]
        return [
            f"{cost['model_bytes']:,}",
            f"{least}{host:,}",
            f"{sum(boards):,}" if len(boards) == len(networks) else "-",
            f"{cost['step_ms']:g}",
            f"{least}{us:,.1f}",
            f"{least}{us * 1000 / cost['step_ms']:,.0f}",
            f"{cost['client_us_per_audio_second']:,.0f}",
        ]

    names = (
        "bytes of the models",
        "arena in TFLM on the host, bytes",
        "arena with ESP-NN's scratch, at most, bytes",
        "a step lasts, ms",
        "a step in TFLM, µs",
        "steps of a second of audio in TFLM, µs",
        "its whole client on a second of audio, µs",
    )
    rows = list(zip(names, *(column(peer["costs"]) for peer in peers.values()), strict=True))
    return Table("what a detector needs", ["", *(f">{name}" for name in peers)], rows)


def miss_table(peers: Mapping[str, Figures]) -> Table:
    """Misses with 95 % intervals at fixed false accepts an hour, and both at the shipped cutoff; a column a peer."""

    def missed(recalls: Mapping[str, Any], condition: str) -> str:
        value, low, high = (1 - recalls[condition][name] for name in ("value", "high", "low"))
        return f"{value:.1%} [{low:.1%}, {high:.1%}]"

    figures = [peer["figures"] for peer in peers.values()]
    rows = []
    for condition in figures[0]["det"]:
        name = f"missed, {condition_name(condition)}"
        for rate in figures[0]["at_rate"]:
            found = (missed(each["at_rate"][rate]["recall"], condition) for each in figures)
            rows.append((f"{name}, at {rate}/h", *found))
        rows.append((f"{name}, as shipped", *(missed(each["shipped"]["recall"], condition) for each in figures)))
    rates = (each["shipped"]["fa_per_hour"] for each in figures)
    rows.append(("false accepts, as shipped", *(figure_text(rate) for rate in rates)))
    return Table("missed recordings and false accepts an hour [95 %]", ["", *(f">{name}" for name in peers)], rows)


def notes(peers: Mapping[str, Figures]) -> list[str]:
    """What was the same for all, and what was not."""
    said = [
        "All get the same samples: each recording from reset, with the phrase and 0.5 s of silence after it, and the "
        f"same draws of noise. Refractory time: {REFRACTORY_S:g} s, in steps of each.",
        "Streams start differently: edgewake's as after endless silence; microWakeWord's with zeros as state, and a "
        "probability of 0 until its window is full; openWakeWord's after 8 s of silence, which is not timed.",
        "Below one false accept in the hours measured, all rates are the column of 0/h.",
    ]
    said += [
        f"{name}, {file}: {network['not_in_tflm']}."
        for name, peer in peers.items()
        for file, network in peer["costs"]["networks"].items()
        if "not_in_tflm" in network
    ]
    return said


def report(results: Mapping[str, Any], out: Path) -> None:
    """Print the tables, and write peers.json, peers.md and, where recordings were given, peers.png."""
    peers, about = results["peers"], results["recordings"]
    title = f"“{results['word'].replace('_', ' ')}”"
    tables = [*([miss_table(peers)] if about else []), cost_table(peers)]
    lines = [f"# {title}: {', '.join(peer['package'] for peer in peers.values())}", ""]
    if about:
        lines += [f"{about['positives']} recordings with the phrase, {about['hours']:.2f} h without it.", ""]
        lines += ["![DET curves](peers.png)", ""]
        draw(peers, out / "peers.png", title)
    for each in tables:
        table(*each)
        lines += [each.markdown(), ""]
    lines += [f"- {note}" for note in notes(peers)]
    with atomic_path(out / "peers.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(out / "peers.json", results)
    console.print(f"written to {out}", soft_wrap=True)


def measure(
    model: Path,
    word: str,
    given: Mapping[Kind, Path] | CorpusManifest,
    *,
    snr_db: float = 10.0,
    rounds: int = 30,
) -> dict[str, Any]:
    """What peers.json holds: on the audio below folders, or the test split of a corpus; without any, only the costs."""
    peers = find_peers(model, word, compared=bool(given))
    shown: dict[str, Figures] = {name: {"package": peer.package} for name, peer in peers.items()}
    about: Figures | None = None
    if given:
        corpus = given if isinstance(given, CorpusManifest) else corpus_of(word, given)
        generated = not corpus.select(split=SPLIT, kind="noise")
        noise = Noise(snr_db, synthetic=synthetic_noise if generated else None)
        recordings = SplitRecordings(corpus, SPLIT, noise)
        for name, peer in peers.items():
            shown[name]["figures"] = compare(peer, recordings)
        hours = sum(job.entry.seconds for job in recordings.jobs[NEGATIVE]) / 3600
        about = {"positives": len(recordings.jobs[CLEAN]), "negatives": len(recordings.jobs[NEGATIVE]), "hours": hours}
        about |= {"corpus": corpus.folder.resolve().name if corpus is given else ""}
        about |= {"snr_db": snr_db, "noise_draws": recordings.noise.draws, "generated_noise": generated}
    for name, peer in peers.items():
        shown[name]["costs"] = costs(peer, rounds)
    machine = f"{platform.machine()}, {platform.system()}"
    known = {"word": word, "model_sha256": load_manifest(model).model.sha256, "machine": machine}
    return known | {"refractory_s": REFRACTORY_S, "recordings": about, "peers": shown}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("models/computer"), help="a build or model folder of edgewake"
    )
    parser.add_argument("--word", default="alexa", help="which model of the peers, such as 'hey jarvis'")
    parser.add_argument("--positives", type=Path, help="folder of recordings with the phrase; none: costs alone")
    parser.add_argument("--negatives", type=Path, help="folder of recordings without it")
    parser.add_argument(
        "--noise", type=Path, help="folder of backgrounds, which also count as negatives; none: generated"
    )
    parser.add_argument("--manifest", type=Path, help="corpus whose test split to measure on, in place of folders")
    parser.add_argument("--apply", action="store_true", help="write peers.json into the model's folder, for its report")
    parser.add_argument("--snr", type=float, default=10.0, help="dB of the noisy condition")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of which the best time counts")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/peers"))
    given = parser.parse_args()
    if (given.positives is None) != (given.negatives is None) or (given.noise and not given.positives):
        parser.error("--positives and --negatives go together, and --noise with them")
    if given.manifest and given.positives:
        parser.error("--manifest names all recordings: leave --positives out")
    if given.apply and not (given.manifest or given.positives):
        parser.error("--apply needs recordings: --manifest, or --positives and --negatives")
    folders: dict[Kind, Path] = {"positive": given.positives, "negative": given.negatives, "noise": given.noise}
    word = given.word.casefold().replace(" ", "_")
    try:
        chosen: Mapping[Kind, Path] | CorpusManifest = {kind: folder for kind, folder in folders.items() if folder}
        if given.manifest:
            chosen = CorpusManifest.load(given.manifest)
        results = measure(given.model, word, chosen, snr_db=given.snr, rounds=given.rounds)
        report(results, given.out)
        if given.apply:
            write_json(find_manifest(given.model).parent / PEERS, results)
    except EdgewakeError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
