"""Sessions of the page over HTTP, as its script holds them: many at once, with damaged uploads, and trainings at once.

As a program: `python tests/page_sessions.py --sessions 50 --rounds 4 --trainings 10 --json page.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile as sf

MODELS = Path(__file__).resolve().parents[1] / "models"
PHRASES = ("computer", "hey atlas", "alexa", "yes", "", "ok 7", "h€y", "snowboy\0")
# Seconds by action.
Times = dict[str, list[float]]


def sound(seconds: float = 2.0, rate: int = 16000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """A file of a tone."""
    samples = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.1)
    file = io.BytesIO()
    sf.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


@cache
def damaged() -> dict[str, bytes]:
    """Files by name that are no recording, or none that the page takes."""
    random_bytes = np.random.default_rng(0).bytes
    wav, flac = sound(), sound(kind="FLAC")
    return {
        "empty.wav": b"",
        "text.wav": b"no sound\n" * 50,
        "random.wav": random_bytes(20_000),
        "random.mp3": b"\xff\xfb\x90\x00" + random_bytes(20_000),
        "random.ogg": b"OggS" + random_bytes(20_000),
        "header.wav": wav[:44],
        "half-header.wav": wav[:20],
        "long-header.wav": wav[:4] + b"\xff\xff\xff\x7f" + wav[8:40] + b"\xff\xff\xff\x7f",
        "no-channels.wav": wav[:22] + b"\0\0" + wav[24:],
        "many-channels.wav": wav[:22] + b"\xff\xff" + wav[24:],
        "no-rate.wav": wav[:24] + b"\0" * 4 + wav[28:],
        "fast.wav": wav[:24] + b"\xff" * 4 + wav[28:],
        "half.flac": flac[: len(flac) // 2],
        "flipped.flac": flac[:200] + random_bytes(200) + flac[400:],
        "hours.flac": silence(),
        "nan.wav": not_numbers(),
        "page.html": b"<script>alert(1)</script>",
        "picture.png": b"\x89PNG\r\n\x1a\n" + random_bytes(1000),
    }


def silence() -> bytes:
    """Two hours in a small file."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 16000, 1, format="FLAC") as out:
        for _ in range(12):
            out.write(np.zeros(10 * 60 * 16000, np.int16))
    return file.getvalue()


def not_numbers() -> bytes:
    """Samples that are no numbers."""
    file = io.BytesIO()
    sf.write(file, np.full(16000, np.nan, np.float32), 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Refused(Exception):
    """The page showed an error."""


class Session:
    """One visit: what the page's script asks the server."""

    def __init__(self, client: httpx.AsyncClient, took: Times) -> None:
        self._client, self._took, self.hash = client, took, secrets.token_hex(6)
        self.config: dict[str, Any] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Session]:
        """Within, the page is open."""
        begin = time.perf_counter()
        (await self._client.get("/")).raise_for_status()
        self.config = (await self._client.get("/config")).raise_for_status().json()
        self._took["open"].append(time.perf_counter() - begin)
        heart = asyncio.create_task(self._beat())
        try:
            yield self
        finally:
            heart.cancel()

    async def _beat(self) -> None:
        async with self._client.stream("GET", f"/gradio_api/heartbeat/{self.hash}", timeout=None) as answer:
            async for _ in answer.aiter_lines():
                pass

    def _event(self, element: str, event: str) -> dict[str, Any]:
        """The first action that the event of an element, or the load of the page with it as an output, has."""
        ids = {one["id"] for one in self.config["components"] if one["props"].get("elem_id") == element}
        for action in self.config["dependencies"]:
            for target, name in action["targets"]:
                if name == event and (target in ids or (event == "load" and ids & set(action["outputs"]))):
                    return dict(action)
        raise KeyError(f"{element} has no {event}")

    def place(self, element: str, event: str, wanted: str) -> int:
        """Which of an action's inputs an element is."""
        names = {one["id"]: one["props"].get("elem_id") for one in self.config["components"]}
        return [names.get(one) for one in self._event(element, event)["inputs"]].index(wanted)

    async def act(self, element: str, event: str, *data: Any) -> list[Any]:
        """What an event gives; Refused with the message that the page shows otherwise."""
        action = self._event(element, event)
        begin = time.perf_counter()
        body = {"data": list(data), "fn_index": action["id"], "session_hash": self.hash, "event_data": None}
        number = (await self._client.post("/gradio_api/queue/join", json=body)).raise_for_status().json()["event_id"]
        where = f"/gradio_api/queue/data?session_hash={self.hash}"
        async with self._client.stream("GET", where, timeout=None) as answer:
            async for line in answer.aiter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed" and message["event_id"] == number:
                    self._took[f"{element} {event}"].append(time.perf_counter() - begin)
                    if not message["success"]:
                        raise Refused(str(message["output"].get("error")))
                    return list(message["output"]["data"])
        raise ConnectionError("the answer ended early")

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """An uploaded file, as it is given to an action."""
        answer = await self._client.post("/gradio_api/upload", files={"files": (name, content)})
        (path,) = answer.raise_for_status().json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


async def visit(client: httpx.AsyncClient, took: Times, rng: random.Random, files: Sequence[str]) -> Counter[str]:
    """One person's visit to all panels; what was taken and what was refused, with its message."""
    seen: Counter[str] = Counter()

    async def attempt(what: str, fails: bool, *given: Any) -> None:
        try:
            await session.act(*given)
            seen[f"taken: {what}"] += 1
            if fails:
                seen[f"WRONG: {what} was taken"] += 1
        except Refused as error:
            line = str(error)
            seen[f"refused: {what}"] += 1
            if not fails or line in ("None", "") or "Traceback" in line or "\n" in line:
                seen[f"WRONG: {what}: {line:.200}"] += 1

    async with Session(client, took).open() as session:
        _, *values = (await session.act("preset", "load"))[:-2]
        await session.act("training-status", "load", [])
        bad = rng.random() < 0.3
        values[session.place("setting-training-epochs", "input", "setting-distillation-alpha")] = 7 if bad else 0.5
        _, text = await session.act("setting-training-epochs", "input", *values)
        if ("wrong" in text) != bad:
            seen[f"WRONG: alpha, {text:.200}"] += 1
        await session.act("model", "load", None)
        phrase = rng.choice(PHRASES)
        await attempt(f"phrase {phrase:.12}", phrase in PHRASES[4:], "assess", "click", phrase)
        await attempt("cutoff", False, "cutoff", "change", "computer", rng.random(), None)
        await attempt("cutoff", False, "cutoff", "change", "computer", rng.random(), None)
        for name in files:
            await attempt(name, True, "file", "change", "computer", 0.5, await session.upload(name, damaged()[name]))
        await attempt("a tone", False, "file", "change", "computer", 0.5, await session.upload("a.wav", sound()))
        # A file of the machine that nobody uploaded.
        outside = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
        await attempt("/etc/passwd", True, "file", "change", "computer", 0.5, outside)
        await attempt("../model", True, "model", "input", "../computer")
    return seen


async def damaged_requests(client: httpx.AsyncClient) -> list[str]:
    """Requests that no page sends; those that get another answer than they should."""
    join, upload = "/gradio_api/queue/join", "/gradio_api/upload"
    form = {"content-type": "multipart/form-data; boundary=x"}
    answers = {
        "no parts": (400, await client.post(upload, content=b"--x\r\n\r\n" + b"\0" * 1000, headers=form)),
        "no form": (400, await client.post(upload, content=b"a=b")),
        "too large": (413, await client.post(upload, files={"files": ("a.wav", b"\0" * (65 << 20))})),
        "no JSON": (422, await client.post(join, content=b"{")),
        "no number": (422, await client.post(join, json={"data": [], "fn_index": "x", "session_hash": "a"})),
        "a path up": (404, await client.get("/gradio_api/file=../../etc/passwd")),
        "a path elsewhere": (403, await client.get("/gradio_api/file=/etc/passwd")),
        "another host": (400, await client.get("/", headers={"host": "attacker.example"})),
    }
    return [f"{what}: {got.status_code}" for what, (status, got) in answers.items() if got.status_code != status]


async def at_once(client: httpx.AsyncClient, folder: Path, took: Times, number: int) -> list[str]:
    """Two tabs press Start at the same time; the names that began. The training is stopped again."""
    async with Session(client, took).open() as one, Session(client, took).open() as other:
        tabs = {f"a{number}": one, f"b{number}": other}
        _, *values = (await one.act("preset", "load"))[:-2]
        answers = await asyncio.gather(
            *(tab.act("start", "click", name, *values) for name, tab in tabs.items()), return_exceptions=True
        )
        refused = [str(answer) for answer in answers if isinstance(answer, Refused)]
        began = [name for name, answer in zip(tabs, answers, strict=True) if not isinstance(answer, Exception)]
        if not all("one at a time" in text or "another page starts" in text for text in refused):
            raise AssertionError(refused)
        job = json.loads((folder / ".ui" / "job.json").read_text())
        assert job["name"] in began
        while psutil.pid_exists(job["process"]["id"]):
            # The first may come before the process takes it.
            with_stop = await asyncio.gather(one.act("stop", "click", []), return_exceptions=True)
            del with_stop
            await asyncio.sleep(0.5)
    return began


def running(server: psutil.Process) -> int:
    """How many trainings are in progress below the server."""
    found = 0
    for child in server.children():
        try:
            found += "train" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            continue
    return found


async def most_at_once(server: psutil.Process, seen: list[int]) -> None:
    """Notes the largest number of trainings that were in progress at the same time."""
    while True:
        seen[0] = max(seen[0], running(server))
        await asyncio.sleep(0.05)


def memory_mb(server: psutil.Process) -> float:
    """The server's own memory."""
    return round(float(server.memory_info().rss) / 2**20, 1)


async def soak(address: str, server: psutil.Process, folder: Path, sessions: int, rounds: int, trainings: int) -> Any:
    """Rounds of sessions that are all open at once, then trainings that two tabs start at once."""
    took: Times = defaultdict(list)
    seen: Counter[str] = Counter()
    # A connection that the server closes while a request is on its way is no failure; a browser asks again.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=600) as client:
        names = list(damaged())
        await visit(client, defaultdict(list), random.Random(0), names)
        memory, begin = [memory_mb(server)], time.monotonic()
        for turn in range(rounds):
            numbers = range(turn * sessions, (turn + 1) * sessions)
            draws = {number: random.Random(number) for number in numbers}
            visits = await asyncio.gather(*(visit(client, took, rng, rng.sample(names, 5)) for rng in draws.values()))
            seen += sum(visits, Counter())
            memory.append(memory_mb(server))
            print(f"round {turn + 1}: {memory[-1]} MB, {server.num_threads()} threads, {server.num_fds()} files")
        minutes = (time.monotonic() - begin) / 60
        others = await damaged_requests(client)
        most = [0]
        watch = asyncio.create_task(most_at_once(server, most))
        began = [await at_once(client, folder, took, number) for number in range(trainings)]
        watch.cancel()
        (await client.get("/")).raise_for_status()
    slow = {name: [round(float(np.percentile(times, p)), 2) for p in (50, 95, 100)] for name, times in took.items()}
    return {
        "sessions": sessions * rounds, "at_once": sessions, "minutes": round(minutes, 1),
        "actions": sum(map(len, took.values())), "memory_mb": memory, "threads": server.num_threads(),
        "files": server.num_fds(), "seconds_p50_p95_max": slow, "wrong_requests": others,
        "trainings_begun": list(map(len, began)), "most_trainings_at_once": most[0],
        "answers": dict(sorted(seen.items())), "wrong": sum(n for name, n in seen.items() if name.startswith("WRONG")),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a project, soak it, and print what came of it; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=50, help="at once")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--trainings", type=int, default=10, help="times that two tabs start one at once")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(MODELS / "computer", folder / "computer")
        log = folder / "server.log"
        command = [sys.executable, "-P", "-m", "edgewake", "ui", name, "--port", "0"]
        with log.open("w") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().decode().split()[0]
                process = psutil.Process(server.pid)
                found = asyncio.run(soak(address, process, folder, given.sessions, given.rounds, given.trainings))
            finally:
                if server.poll() is not None:
                    print(f"the server ended: {server.returncode}\n{log.read_text()[-5000:]}", file=sys.stderr)
                server.terminate()
        # What Gradio prints of a failure that it does not expect; the last line names it.
        ends = re.findall(r"^Traceback (?:.*\n)(?:[ |+].*\n|\n)*(\S.*)$", log.read_text(), re.MULTILINE)
        found["tracebacks"] = dict(Counter(re.sub(r"/\S+", "PATH", line)[:120] for line in ends))
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")
    right = (
        not found["wrong"]
        and set(found["trainings_begun"]) <= {1}
        and found["most_trainings_at_once"] <= 1
        and not found["wrong_requests"]
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
