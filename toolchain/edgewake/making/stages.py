"""Stages of a folder, each made again only when its inputs changed; make.json tells what each took and how it ended."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgewake.console import bar, error_console
from edgewake.errors import EdgewakeError
from edgewake.io import known_sha256, read_json, write_json

RECORD, LOG = "make.json", "make.log"
TICK_S = 5.0


class Stages:
    """The stages of one run in a folder, shown on stderr; what they print themselves goes to make.log.

    Args:
        minutes: that the stages take on the whole, by name and in order, for the time that is left.
    """

    def __init__(self, folder: Path, minutes: Mapping[str, float], **about: Any) -> None:
        self.folder, self._minutes = folder, minutes
        before = read_json(folder / RECORD, "record of make") if (folder / RECORD).exists() else {}
        self.record: dict[str, Any] = {**about, "stages": before.get("stages", {})}
        self._made: dict[str, float] = {}
        self._advance: Callable[..., None] = lambda *_: None
        self._now, self._began = "", 0.0

    @contextmanager
    def shown(self, title: str) -> Iterator[None]:
        """Show the progress of all stages meanwhile."""
        done = threading.Event()

        def tick() -> None:
            while not done.wait(TICK_S):
                self._show()

        with bar(title, len(self._minutes)) as self._advance:
            thread = threading.Thread(target=tick, daemon=True)
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()

    def run(
        self,
        name: str,
        inputs: Any,
        outputs: Callable[[], Sequence[Path]],
        work: Callable[[], object],
        intact: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Do the work of a stage, unless it was done on the same `inputs` and its `outputs` are as it left them.

        Args:
            inputs: JSON values, which name all that decides the outputs.
            outputs: files; called once the work is done.
            intact: what else must hold for the stage to be reused.

        Returns:
            Whether it was reused.
        """
        key = hashlib.sha256(json.dumps([name, inputs], sort_keys=True, default=str).encode()).hexdigest()
        known = self.record["stages"].get(name, {})
        place = f"[{list(self._minutes).index(name) + 1}/{len(self._minutes)}] {name}"
        if known.get("key") == key and self._unchanged(known["outputs"]) and intact():
            self._note(name, **known | {"reused": True})
            self._tell(f"{place}: reused, nothing changed")
            return True
        self._now, self._began = name, time.monotonic()
        self._tell(f"{place} ...", done=False)
        self._show()
        self._note(name, outcome="running", began=_now())
        try:
            with (self.folder / LOG).open("a", encoding="utf-8") as log, redirect_stdout(log):
                log.write(f"---- {_now()} {name}\n")
                work()
        except BaseException as error:
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self._note(name, outcome=outcome, seconds=self._seconds(), error=str(error))
            if outcome == "interrupted":
                self._tell(f"{place}: interrupted; the same command goes on", done=False)
            raise
        seconds = self._seconds()
        self._made[name] = seconds
        found = {path.relative_to(self.folder).as_posix(): known_sha256(path) for path in outputs()}
        self._note(name, outcome="made", key=key, seconds=seconds, reused=False, ended=_now(), outputs=found)
        self._tell(f"{place}: {_duration(seconds)}")
        return False

    def _unchanged(self, outputs: Mapping[str, str]) -> bool:
        return all(
            (self.folder / path).is_file() and known_sha256(self.folder / path) == sha for path, sha in outputs.items()
        )

    def _note(self, name: str, **about: Any) -> None:
        self.record["stages"][name] = about
        self.record["updated"] = _now()
        write_json(self.folder / RECORD, self.record)

    def _tell(self, text: str, *, done: bool = True) -> None:
        error_console.print(text, soft_wrap=True, markup=False)
        self._advance(int(done))

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 1)

    def _show(self) -> None:
        left = self.left()
        self._advance(0, f"{self._now}, about {_duration(left)} left" if left else self._now)

    def left(self) -> float:
        """Seconds that the present stage and those after it may take, judged by those that were made."""
        usual = {name: 60 * minutes for name, minutes in self._minutes.items()}
        expected = sum(usual[name] for name in self._made)
        factor = sum(self._made.values()) / expected if expected >= 60 else 1.0
        names = list(usual)
        after = names[names.index(self._now) + 1 :] if self._now else names
        rest = max(0.0, usual.get(self._now, 0.0) * factor - (time.monotonic() - self._began)) if self._now else 0.0
        return rest + factor * sum(usual[name] for name in after)


@contextmanager
def named(stage: str) -> Iterator[None]:
    """Expected failures within have the stage's name."""
    try:
        yield
    except EdgewakeError as error:
        raise EdgewakeError(f"stage {stage}: {error}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
