"""Every recording is read or accounted for: what is left out is named, with its fault, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.data.reading import DEFAULT_MAX_SECONDS, SAMPLE_RATE, Fault, RecordingError, Samples, read_audio

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# A decoder may keep or drop a codec frame at the end; more than this is a cut-off or another file.
_LENGTH_SLACK_S = 0.25


@dataclass(frozen=True)
class Finding:
    """A recording that is left out.

    Attributes:
        path: as in the manifest.
        fault: missing, corrupt, empty, silent, too long or wrong length.
        message: one line with the remedy.
    """

    path: str
    fault: Fault
    message: str


@dataclass
class ScanReport:
    """What a pass over recordings found.

    Attributes:
        phrase: of the manifest.
        kept: entries that can be used, in order.
        findings: those that cannot.
        seconds: duration of what is kept, as decoded.
    """

    phrase: str
    kept: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Findings by fault."""
        return dict(Counter(finding.fault for finding in self.findings))

    def summary(self) -> str:
        """One line: how many are used and how many are left out, by fault."""
        total = len(self.kept) + len(self.findings)
        faults = ", ".join(f"{count} {fault}" for fault, count in sorted(self.counts.items()))
        left_out = f"; left out {len(self.findings)}: {faults}" if self.findings else "; none left out"
        return f"{len(self.kept)} of {total} recordings, {self.seconds / 3600:.2f} h{left_out}"

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "phrase": self.phrase,
            "kept": len(self.kept),
            "hours": round(self.seconds / 3600, 4),
            "left_out": len(self.findings),
            "counts": self.counts,
            "findings": [vars(finding) for finding in self.findings],
        }

    def tables(self) -> list[Table]:
        """Hours by split and kind, and the findings if there are any."""
        from rich.table import Table

        kept = Table(title=f"corpus of {self.phrase!r}: {self.summary()}")
        for column in ("kind", "train", "val", "test"):
            kept.add_column(column, justify="left" if column == "kind" else "right")
        for kind in sorted({entry.kind for entry in self.kept}):
            cells = []
            for split in ("train", "val", "test"):
                chosen = [entry for entry in self.kept if (entry.kind, entry.split) == (kind, split)]
                hours = sum(entry.seconds for entry in chosen) / 3600
                cells.append(f"{len(chosen)} ({hours:.2f} h)" if chosen else "-")
            kept.add_row(kind, *cells)
        if not self.findings:
            return [kept]
        left_out = Table(title="left out")
        for column in ("fault", "path", "what to do"):
            left_out.add_column(column, overflow="fold")
        for finding in self.findings:
            left_out.add_row(finding.fault, finding.path, finding.message)
        return [kept, left_out]


def read_entries(
    manifest: CorpusManifest,
    entries: Iterable[Entry],
    report: ScanReport,
    *,
    strict: bool = False,
    max_seconds: float | None = DEFAULT_MAX_SECONDS,
) -> Iterator[tuple[Entry, Samples]]:
    """Yield every usable recording; the others go to `report`, or with `strict` the first stops the run.

    Raises:
        AudioError: `strict`, and a recording cannot be used.
    """
    for entry in entries:
        try:
            samples = read_audio(manifest.path_of(entry), max_seconds=max_seconds, allow_silent=False)
            _check_length(manifest, entry, len(samples) / SAMPLE_RATE)
        except RecordingError as error:
            if strict:
                raise type(error)(f"{error} (--strict: no recording may be left out)") from error
            report.findings.append(Finding(entry.path, error.fault, str(error)))
            continue
        report.kept.append(entry)
        report.seconds += len(samples) / SAMPLE_RATE
        yield entry, samples


class WrongLengthError(RecordingError):
    """The file is sound, and not the one that the manifest describes."""

    fault = "wrong length"


def scan(
    manifest: CorpusManifest,
    strict: bool = False,
    *,
    max_seconds: float | None = DEFAULT_MAX_SECONDS,
    console: Console | None = None,
) -> ScanReport:
    """Decode every recording of `manifest` once and report what can be used.

    Args:
        strict: stop at the first recording that cannot.
        max_seconds: a longer one is left out.
        console: shows a progress bar, if it is a terminal.

    Raises:
        AudioError: `strict`, and a recording cannot be used.
    """
    report = ScanReport(manifest.phrase)
    entries: Iterable[Entry] = manifest.entries
    if console is not None and console.is_terminal:
        from rich.progress import track

        entries = track(manifest.entries, "scanning", console=console, transient=True)
    for _ in read_entries(manifest, entries, report, strict=strict, max_seconds=max_seconds):
        pass
    return report


def _check_length(manifest: CorpusManifest, entry: Entry, seconds: float) -> None:
    slack = max(_LENGTH_SLACK_S, 0.02 * entry.seconds)
    if abs(seconds - entry.seconds) > slack:
        raise WrongLengthError(
            f"{manifest.path_of(entry)}: {seconds:.2f} s, but the manifest says {entry.seconds:.2f} s; "
            "import the corpus again"
        )
