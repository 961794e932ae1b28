"""Two processes train as one does: the same losses from the same global batches, one writer, one message."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler

from edgewake.errors import EdgewakeError
from edgewake.training.distributed import Processes, lost

torch.set_num_threads(1)
pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("two_processes.py")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def launch(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Two processes, started by Accelerate as a user would start them."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", str(SCRIPT), str(folder), what]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that two processes did."""
    folder = tmp_path_factory.mktemp("two")
    began = script.make_trainer(folder / "from_one")
    script.interrupt(began)
    began.metrics.close()
    done = launch(folder, "main")
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same trainings, by this process alone."""
    folder = tmp_path_factory.mktemp("one")
    runs = {}
    for name, options in script.RUNS.items():
        trainer = script.make_trainer(folder / name, **options)
        trainer.train()
        trainer.metrics.close()
        runs[name] = {"losses": losses(folder / name), "state": trainer.state()}
    return runs


def each(folder: Path, name: str) -> tuple[Any, Any]:
    """What `script.collect` kept of both processes."""
    first, second = (torch.load(folder / f"{name}-{index}.pt", weights_only=False) for index in range(2))
    return first, second


def losses(folder: Path, name: str = "loss") -> dict[int, float]:
    """A figure of every step, from metrics.jsonl."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if "loss" in line}


def close(found: dict[int, float], expected: dict[int, float], rel: float = 1e-5, start: int = 0) -> None:
    wanted = {step: value for step, value in expected.items() if step >= start}
    assert found == pytest.approx(wanted, rel=rel)


def test_two_processes_have_the_loss_curve_of_one(two: Path, one: dict[str, Any]) -> None:
    # 24 steps, float then QAT.
    close(losses(two / "precise"), one["precise"]["losses"])
    assert len(one["precise"]["losses"]) == 24
    # In single precision a sum may round to the other level of an int8 range; then one of the batch's logits moves.
    found, alone = losses(two / "single"), one["single"]["losses"]
    for steps, rel in ((range(12), 1e-4), (range(12, 24), 5e-3)):
        close({step: found[step] for step in steps}, {step: alone[step] for step in steps}, rel=rel)
    assert found.keys() == alone.keys()


def test_figures_that_a_loss_logs_are_those_of_the_whole_batch(two: Path) -> None:
    assert losses(two / "precise", "student_loss") == pytest.approx(losses(two / "precise"), rel=1e-6)


def test_weights_average_and_mined_clips_are_equal_in_both(two: Path, one: dict[str, Any]) -> None:
    first, second = each(two / "precise", "state")
    alone = one["precise"]["state"]
    for name in ("model", "raw_model"):
        for key, value in first[name].items():
            torch.testing.assert_close(value, second[name][key], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(value, alone[name][key], rtol=1e-5, atol=1e-6)
    assert torch.equal(first["loader"]["weights"], second["loader"]["weights"])
    assert torch.equal(first["loader"]["hard"], alone["loader"]["hard"])
    for ours, theirs in zip(second["history"], alone["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_two_processes_continue_what_one_began(two: Path, one: dict[str, Any]) -> None:
    close(losses(two / "from_one"), one["precise"]["losses"], start=5)


def test_one_process_continues_what_two_began(two: Path, one: dict[str, Any]) -> None:
    assert (two / "from_two" / "interrupted").exists()
    close(losses(two / "from_two"), dict(list(one["precise"]["losses"].items())[:5]))
    trainer = script.make_trainer(two / "from_two")
    trainer.resume()
    assert trainer.progress.step == 5
    trainer.train()
    trainer.metrics.close()
    close(losses(two / "from_two"), one["precise"]["losses"], start=5)


@pytest.mark.parametrize("shape", script.SHAPES)
def test_synced_batch_norm_is_batch_norm_of_the_whole_batch(two: Path, shape: str) -> None:
    parts = each(two, shape)
    size = script.SHAPES[shape]
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(size, generator=generator) * 3 + 20
    slope = torch.randn(size, generator=generator)
    norm = (nn.BatchNorm2d if len(size) == 4 else nn.BatchNorm1d)(6)
    nn.init.uniform_(norm.weight, generator=generator)
    for _ in range(2):
        value = whole.clone().requires_grad_()
        output = norm(value)
        (output * slope).sum().backward()
    expected = {"weight": norm.weight.grad, "bias": norm.bias.grad, **norm.state_dict(prefix="state.")}
    for index, wanted in enumerate((output.detach(), value.grad)):
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), wanted, rtol=1e-4, atol=1e-4)
    for found in (part[2] for part in parts):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_only_the_main_process_prints(two: Path) -> None:
    shown = (two / "stdout.txt").read_text()
    assert shown.count("float epoch 1 ") == 3  # one line for each training that ended that epoch
    assert shown.count("interrupted: epoch 1, batch 5") == 1


def test_a_loss_that_is_not_finite_in_one_process_stops_all_with_one_message(two: Path) -> None:
    found = dict(each(two, "nan"))
    assert set(found) == {"EdgewakeError", "ReportedError"}
    assert "loss is nan in epoch 1, batch 0 (inputs nan..nan)" in found["EdgewakeError"]


def test_work_of_the_main_process_reaches_all(two: Path) -> None:
    (first, made), (second, found) = each(two, "work")
    assert first == second
    assert (made, found) == (None, True)  # the main process made the folder before the other one looked


def test_a_failure_of_one_process_ends_all_with_one_message(tmp_path: Path) -> None:
    done = launch(tmp_path, "fail")
    assert done.returncode != 0
    assert each(tmp_path, "failure")[1] == ("EdgewakeError", "the disk is full")
    assert each(tmp_path, "failure")[0][0] == "ReportedError"


def sharing(index: int, count: int) -> Processes:
    group = Processes()
    group.index, group.count = index, count
    return group


def test_slices_of_a_batch_cover_it() -> None:
    loader = script.Store(8).loader(BatchSampler(range(8), 4, drop_last=False))
    found = [[batch[3].tolist() for batch in sharing(index, 2).slices(loader)] for index in range(2)]
    assert found == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert [batch[3].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(EdgewakeError, match=r"batches of 4 clips.*multiple of 3"):
        sharing(0, 3).slices(loader)
    with pytest.raises(EdgewakeError, match="map-style"):
        sharing(0, 2).slices([])  # type: ignore[arg-type]


def test_a_process_alone_exchanges_nothing() -> None:
    group = Processes()
    loader = script.Store(6).loader(batch_size=2)
    assert group.slices(loader) is loader
    assert group.main_only(lambda: 3) == group.main_first(lambda: 3) == 3
    with pytest.raises(EdgewakeError, match="full"), group.one_message():
        raise EdgewakeError("full")


def test_a_lost_process_is_told_from_a_bug() -> None:
    assert lost(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert not lost(RuntimeError("The size of tensor a (3) must match"))
