"""Every recording is read or accounted for: what is left out is named, with its fault, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from edgewake.config import WakewordConfig
from edgewake.console import bar, console, error_console, table, track
from edgewake.data.importing import open_corpus
from edgewake.data.manifest import SPLITS, CorpusManifest, Entry, Place, content_of
from edgewake.data.reading import DEFAULT_MAX_SECONDS, SAMPLE_RATE, Fault, RecordingError, Samples, file_of, read_audio
from edgewake.errors import AudioError
from edgewake.io import write_json

# A decoder may keep or drop a codec frame at the end; more than this is a cut-off or another file.
_LENGTH_SLACK_S = 0.25
# Of many findings these are printed; scan.json has all.
SHOWN_FINDINGS = 20
SAMPLES = "samples.bin"
_STRICT = "(strict: no recording may be left out)"


class Finding(NamedTuple):
    """A recording that is left out: its path in the manifest, the fault, and one line with the remedy."""

    path: str
    fault: Fault
    message: str


@dataclass
class ScanReport:
    """What a pass over recordings found: entries that can be used, findings on the others, seconds as decoded."""

    phrase: str
    kept: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Findings by fault."""
        return dict(sorted(Counter(finding.fault for finding in self.findings).items()))

    def summary(self) -> str:
        """One line: how many are used and how many are left out, by fault."""
        left_out = ", ".join(f"{count} {fault}" for fault, count in self.counts.items())
        left_out = f"left out {len(self.findings)}: {left_out}" if left_out else "none left out"
        total = len(self.kept) + len(self.findings)
        return f"{len(self.kept)} of {total} recordings, {self.seconds / 3600:.2f} h; {left_out}"

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        found = [finding._asdict() for finding in self.findings]
        about = {"phrase": self.phrase, "kept": len(self.kept), "hours": round(self.seconds / 3600, 4)}
        return about | {"left_out": len(found), "counts": self.counts, "findings": found}

    def show(self) -> None:
        """Print recordings and hours by kind and split to stdout, and the findings to stderr."""
        rows = []
        for kind in sorted({entry.kind for entry in self.kept}):
            found = [[e.seconds for e in self.kept if (e.kind, e.split) == (kind, split)] for split in SPLITS]
            rows.append((kind, *(f"{len(each)} ({sum(each) / 3600:.2f} h)" if each else "-" for each in found)))
        table(f"corpus of {self.phrase!r}", ("kind", *(f">{split}" for split in SPLITS)), rows)
        console.print(self.summary(), soft_wrap=True)
        self.show_findings()

    def show_findings(self, limit: int | None = None) -> None:
        """Print a line for each finding to stderr."""
        for finding in self.findings[:limit]:
            error_console.print(f"left out ({finding.fault}): {finding.message}", markup=False, soft_wrap=True)


def read_entries(
    manifest: CorpusManifest,
    entries: Iterable[Entry],
    report: ScanReport,
    *,
    strict: bool = False,
    max_seconds: float = DEFAULT_MAX_SECONDS,
) -> Iterator[tuple[Entry, Samples]]:
    """Yield every usable recording; the others go to `report`, or with `strict` the first raises."""
    for entry in entries:
        try:
            path = manifest.path_of(entry)
            samples = read_audio(path, max_seconds=max_seconds)
            if not samples.any():
                what = f"all {len(samples)} samples are 0"
                raise RecordingError("silent", f"{path}: {what}; check the microphone or the export")
            seconds = len(samples) / SAMPLE_RATE
            if abs(seconds - entry.seconds) > max(_LENGTH_SLACK_S, 0.02 * entry.seconds):
                what = f"{seconds:.2f} s, the manifest has {entry.seconds:.2f} s"
                raise RecordingError("wrong length", f"{path}: {what}; import the corpus again")
        except RecordingError as error:
            if strict:
                raise RecordingError(error.fault, f"{error} {_STRICT}") from error
            report.findings.append(Finding(entry.path, error.fault, str(error)))
            continue
        report.kept.append(entry)
        report.seconds += seconds
        yield entry, samples


def scan(manifest: CorpusManifest, strict: bool = False, *, max_seconds: float = DEFAULT_MAX_SECONDS) -> ScanReport:
    """Decode every recording of `manifest` once and report what can be used; arguments as in `read_entries`."""
    report, entries = ScanReport(manifest.phrase), track(manifest.entries, "scanning")
    for _ in read_entries(manifest, entries, report, strict=strict, max_seconds=max_seconds):
        pass
    return report


def usable_corpus(config: WakewordConfig, out: Path | None = None) -> CorpusManifest:
    """The recordings that a configuration names, without those that cannot be used, which are named and counted.

    All are decoded once: their samples (115 MB an hour) and the report stay in the cache, folder by folder, while the
    files of a folder (path, size, time), their durations in the manifest and `data.max_file_seconds` are the same. Of a
    corpus that would take more than a quarter of the cache or of the free disk only the report stays, and
    recordings are decoded when they are read.

    `out` is the folder that gets scan.json. With `data.strict`, a recording that cannot be used is an AudioError.
    """
    manifest, data = open_corpus(config.data.manifest, config.data.phrase), config.data
    cache = config.cache.open()
    roomy = 4 * 2 * SAMPLE_RATE * sum(entry.seconds for entry in manifest.entries) < cache.room()
    folders: dict[Path, list[Entry]] = {}
    for entry in manifest.entries:
        # Of what is sorted into folders by speaker or class, all together.
        folders.setdefault(file_of(manifest.path_of(entry)).parent.parent, []).append(entry)
    report, places, contents = ScanReport(manifest.phrase), dict[str, Place](), dict[str, str]()
    with bar("scanning", len(manifest.entries)) as advance:
        for entries in folders.values():
            found = cache.get(
                "decoded",
                {"files": [_state(manifest, entry) for entry in entries], "max_seconds": data.max_file_seconds},
                partial(_decode, manifest, entries, data.max_file_seconds, roomy, advance),
                code=["edgewake.data.scanning"],
            )
            known = {entry.path: entry for entry in entries}
            report.kept += [known[path] for path in found.record["contents"]]
            report.findings += [Finding(*each) for each in found.record["findings"]]
            report.seconds += found.record["seconds"]
            contents |= found.record["contents"]
            places |= {path: (found.folder / SAMPLES, *place) for path, place in found.record["places"].items()}
    if report.findings:
        if data.strict:
            raise AudioError(f"{report.findings[0].message} {_STRICT}")
        where = f" ({out / 'scan.json'})" if out else ""
        left_out = f"{len(report.findings)} of {len(manifest.entries)} recordings left out{where}"
        error_console.print(left_out, soft_wrap=True)
    if out is not None:
        kept = [entry.path for entry in manifest.entries if entry.path in contents]
        write_json(out / "scan.json", {**report.to_json(), "kept_paths": kept})
    return manifest.with_decoded(places, contents)


def _state(manifest: CorpusManifest, entry: Entry) -> tuple[Any, ...]:
    """What tells that a recording has changed."""
    file = file_of(manifest.path_of(entry))
    status = file.stat() if file.is_file() else None
    return (entry.path, entry.seconds, *((status.st_size, status.st_mtime_ns) if status else ()))


def _decode(
    manifest: CorpusManifest,
    entries: Sequence[Entry],
    max_seconds: float,
    keep: bool,
    advance: Callable[..., None],
    folder: Path,
) -> dict[str, Any]:
    """Decode recordings, with `keep` into a file in `folder`: where each lies there, what names it, and faults."""
    places, contents, report = dict[str, tuple[int, int]](), dict[str, str](), ScanReport(manifest.phrase)

    def counted() -> Iterator[Entry]:
        for entry in entries:
            yield entry
            advance(1)

    with (folder / SAMPLES).open("wb") as file:
        for entry, samples in read_entries(manifest, counted(), report, max_seconds=max_seconds):
            contents[entry.path] = content_of(samples)
            if keep:
                places[entry.path] = (file.tell() // 2, len(samples))
                samples.tofile(file)
    report.show_findings(SHOWN_FINDINGS)
    return {"places": places, "contents": contents, "findings": report.findings, "seconds": report.seconds}
