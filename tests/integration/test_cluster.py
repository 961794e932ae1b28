"""A cluster of two worker processes, one of them killed on the way, gives the bytes that this machine gives alone."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edgewake.cache import Cache
from edgewake.config import TeacherConfig
from edgewake.config.presets import get_preset
from edgewake.data.importing import import_folder
from edgewake.data.reading import write_audio
from edgewake.data.store import build_store
from edgewake.errors import EdgewakeError
from edgewake.processes import CLUSTER, process_pool
from edgewake.synthesis.plan import Line, Plan
from edgewake.synthesis.synthesize import synthesize
from edgewake.training import teacher_outputs
from edgewake.training.phonemes import PhonemeHead
from edgewake.training.teacher_outputs import TeacherCache
from pieces import dying, marked, pausing

dask = pytest.importorskip("dask", reason="Dask is not installed: pip install 'edgewake[cluster]'")
distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'edgewake[cluster]'")
pytestmark = pytest.mark.slow
CODE = ["edgewake.io"]


class DaskCluster:
    """A scheduler and worker processes, as `dask scheduler` and `dask worker` start them, in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workers = folder, list[subprocess.Popen[bytes]]()
        self.file = folder / "scheduler.json"
        self.scheduler = self._dask(
            "scheduler", "--port", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"
        )
        wait_until(lambda: self.file.exists() and self.file.read_text().rstrip().endswith("}"))
        self.address: str = json.loads(self.file.read_text())["address"]

    def _dask(self, *arguments: str, imports: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard", "--scheduler-file", str(self.file)]
        place = self.folder / str(len(self.workers))
        place.mkdir(exist_ok=True)
        # Workers know nothing of this process but the scheduler's file.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWAKE_")}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, [*filter(None, [imports]), Path(__file__).parents[1]]))
        with (place / "log").open("ab") as log:
            return subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)

    def join(self, first_imports: Path | None = None) -> subprocess.Popen[bytes]:
        """Start another worker, which is not started again when it ends, and wait for it."""
        count = sum(worker.poll() is None for worker in self.workers)
        self.workers.append(self._dask("worker", "--no-nanny", "--nthreads", "1", imports=first_imports))
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count + 1, timeout=200)
        return self.workers[-1]

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    found = DaskCluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.end()


@pytest.fixture
def cluster(started: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> DaskCluster:
    """A cluster of two workers, which $EDGEWAKE_CLUSTER names."""
    alive = [worker for worker in started.workers if worker.poll() is None]
    for worker in alive[2:]:
        end(worker)
    for _ in range(2 - len(alive)):
        started.join()
    monkeypatch.setenv(CLUSTER, started.address)
    return started


def with_one_killed(cluster: DaskCluster, made: Callable[[], int], action: Callable[[], object]) -> None:
    """Run `action`, and kill a worker that is at work once `made()` things are there and more are to come."""
    lost: list[int] = []

    def kill() -> None:
        with distributed.Client(cluster.address, set_as_default=False) as client:
            ids = client.run(os.getpid)
            wait_until(lambda: made() >= 3)
            lost.extend(ids[address] for address, tasks in client.processing().items() if tasks)
            end(next(worker for worker in cluster.workers if worker.pid == lost[0]))

    killer = threading.Thread(target=kill)
    killer.start()
    action()
    killer.join()
    # Both were at work when one was killed.
    assert len(lost) == 2


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count(folder: Path, pattern: str) -> Callable[[], int]:
    return lambda: len(list(folder.glob(pattern)))


def test_synthesis(cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("the program espeak-ng is not installed")
    lines = (Line(text="hey atlas", kind="positive", count=48), Line(text="hey alice", kind="negative", count=24))
    plan = Plan(phrase="hey atlas", lines=lines, voices={"espeak-ng": 1.0}, recogniser=None)
    monkeypatch.chdir(tmp_path)  # a relative path is that of this process, on workers too
    with_one_killed(cluster, count(tmp_path / "there", "clips/*/*.flac"), lambda: synthesize(plan, Path("there")))
    monkeypatch.delenv(CLUSTER)
    synthesize(plan, Path("here"), workers=2)
    assert len(files(Path("here"))) == 72 + 2
    assert files(Path("there")) == files(Path("here"))


def test_rendering(cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for kind, number in itertools.product(("hey", "others"), range(6)):
        path = tmp_path / "recordings" / "train" / kind / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, rng.normal(0, 3000, 16000).astype(np.int16))
    manifest = import_folder(tmp_path / "recordings", "hey")
    monkeypatch.setattr("edgewake.data.store.CHUNK_CLIPS", 1)  # a chunk for every recording and pass
    monkeypatch.chdir(tmp_path)
    config = get_preset("smoke")
    config.data.positive_renders, config.training.workers, config.cache.folder = 32, 0, "there"
    with_one_killed(
        cluster,
        count(tmp_path / "there", "clips/[!.]*"),
        lambda: build_store(manifest, "train", config, audio=True),
    )
    monkeypatch.delenv(CLUSTER)
    config.cache.folder = "here"
    build_store(manifest, "train", config, audio=True)
    assert count(tmp_path / "here", "clips/*")() > 20
    assert files(Path("there", "clips")) == files(Path("here", "clips"))


def test_teacher_embeddings(cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface = pytest.importorskip("edgewake.teachers.huggingface")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'edgewake[teachers]'")
    monkeypatch.setattr(teacher_outputs, "BLOCK", 4)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = huggingface.teacher_from_scratch("wav2vec2", 2, TeacherConfig(layers=2, width=16)).freeze()
    reduce = torch.nn.Sequential(PhonemeHead(teacher.embedding_size), torch.nn.Softmax(2)).eval()
    clips = np.random.default_rng(1).integers(-9000, 9000, (160, 16000)).astype(np.int16)
    made = count(tmp_path / "there", "embeddings/[!.]*")
    with_one_killed(cluster, made, lambda: TeacherCache(teacher, Cache("there"), reduce).embeddings(clips))
    monkeypatch.delenv(CLUSTER)
    TeacherCache(teacher, Cache("here"), reduce).embeddings(clips)
    assert count(tmp_path / "here", "embeddings/*")() == 40
    assert files(Path("there", "embeddings")) == files(Path("here", "embeddings"))


def test_each_process_starts_once_for_a_pool_also_one_that_joins_later(
    cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for pool in ("first", "second"):
        (tmp_path / pool).mkdir()
        with process_pool(0, marked, Path(pool), code=CODE) as (run, many):
            places = set(many(run, [0.05] * 20))
            assert places == {f"{worker.pid} in {tmp_path}" for worker in cluster.workers if worker.poll() is None}
            if pool == "second":
                cluster.join()
                until = time.monotonic() + 200
                while len(places) < 3 and time.monotonic() < until:
                    places |= set(many(run, [0.05] * 10))
        assert len(places) == len(list((tmp_path / pool).iterdir())) == 2 + (pool == "second")


def test_an_error_of_a_piece_is_raised_here_and_cancels_what_has_not_begun(cluster: DaskCluster) -> None:
    begun = time.monotonic()
    with pytest.raises(TypeError), process_pool(0, pausing, code=CODE) as (run, many):
        list(many(run, ["no number", *[1.0] * 60]))
    assert time.monotonic() - begun < 20


def refused(match: str, *pieces: float, start: Callable[..., object] = pausing, code: Sequence[str] = CODE) -> None:
    """The error of a pool, or of its pieces, is one line."""
    with pytest.raises(EdgewakeError, match=match) as error, process_pool(0, start, code=code) as (run, many):
        list(many(run, pieces))
    assert "\n" not in str(error.value)


def test_a_cluster_with_other_code_is_refused(
    cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = "tcp://.* of the cluster has another edgewake.*here [0-9a-f]{12}.*constraints.txt"
    (tmp_path / "sitecustomize.py").write_text("import edgewake.fingerprint as f; f.library_sha256 = lambda: ''")
    code = ["edgewake.runtime.frontend"]
    with process_pool(0, pausing, code=code) as (run, many):
        worker = cluster.join(tmp_path)
        with pytest.raises(EdgewakeError, match=other):
            list(many(run, [0.02] * 3000))
    refused(other, code=code)
    end(worker)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['edgewake'] = None")
    worker = cluster.join(tmp_path)
    refused("of the cluster has another edgewake.*No module named")
    end(worker)


def test_a_worker_that_runs_pieces_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with distributed.LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as local:
        monkeypatch.setenv(CLUSTER, local.scheduler_address)
        refused("runs 2 pieces at once in one process, and 1 is allowed: start it with --nthreads 1 --nworkers 2", 0)


SOON = {"distributed.comm.timeouts.connect": "2s"}


def test_without_a_scheduler_or_dask_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLUSTER, "tcp://127.0.0.1:1")
    with dask.config.set(SOON):
        refused("no Dask scheduler at EDGEWAKE_CLUSTER=tcp://127.0.0.1:1 .*start one by `dask scheduler`")
    monkeypatch.setenv(CLUSTER, "nowhere")
    refused("no Dask scheduler at EDGEWAKE_CLUSTER=nowhere")
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(r"takes Dask, not installed: pip install 'edgewake\[cluster\]'")


def test_a_scheduler_that_is_lost_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = DaskCluster(tmp_path)
    started.join()
    monkeypatch.setenv(CLUSTER, started.address)
    with dask.config.set(SOON), process_pool(0, pausing, code=CODE) as (run, _):
        run(0)
        threading.Timer(1, started.scheduler.kill).start()
        with pytest.raises(EdgewakeError, match=r"the scheduler at tcp://.* was lost: start it again and repeat the"):
            run(60)
    started.end()


def test_a_piece_that_ends_its_workers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as local,
    ):
        monkeypatch.setenv(CLUSTER, local.scheduler_address)
        refused("lost 1 workers at one piece of work", signal.SIGKILL, start=dying)
