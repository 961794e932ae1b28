"""Two processes train as one does: the same losses from the same global batches, one writer, one message."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from edgewake.errors import EdgewakeError
from edgewake.training import distributed
from edgewake.training.distributed import Processes, SlicedBatches, processes, sliced

torch.set_num_threads(1)
SCRIPT = Path(__file__).with_name("two_processes.py")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that two processes did, started by Accelerate as a user would start them."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("first", "second", "bug", "nan"):
        (folder / name).mkdir()
    began = script.make_trainer(folder / "from_one")
    script.interrupt(began)
    began.metrics.close()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(free_port()), str(SCRIPT), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
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


def losses(folder: Path, name: str = "loss") -> dict[int, float]:
    """A figure of every step, from metrics.jsonl."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if "loss" in line}


def close(found: dict[int, float], expected: dict[int, float], rel: float = 1e-5, start: int = 0) -> None:
    wanted = {step: value for step, value in expected.items() if step >= start}
    assert found == pytest.approx(wanted, rel=rel)


def test_two_processes_have_the_loss_curve_of_one(two: Path, one: dict[str, Any]) -> None:
    # 24 steps, float then QAT; batches of 9 are shared as 4 and 5.
    close(losses(two / "sampler"), one["sampler"]["losses"])
    close(losses(two / "single"), one["single"]["losses"], rel=1e-4)
    assert len(one["sampler"]["losses"]) == 24


def test_a_shuffling_loader_and_its_short_last_batch_are_shared_too(two: Path, one: dict[str, Any]) -> None:
    found, expected = losses(two / "shuffled"), one["shuffled"]["losses"]
    assert len(expected) == 20
    # The fifth batch of the first epoch is one clip, which goes to both, with other masks: equal until then.
    close({step: value for step, value in found.items() if step < 4}, dict(list(expected.items())[:4]))
    assert found == pytest.approx(expected, rel=0.3)


def test_the_parts_of_a_loss_are_those_of_the_whole_batch(two: Path) -> None:
    assert losses(two / "sampler", "student_loss") == pytest.approx(losses(two / "sampler"), rel=1e-6)


def test_weights_average_optimizer_and_random_state_are_equal_in_both(two: Path, one: dict[str, Any]) -> None:
    first, second = torch.load(two / "sampler" / "states.pt", weights_only=False)
    for name in ("model", "raw_model"):
        for key, value in first[name].items():
            assert torch.equal(value, second[name][key]), key
            expected = one["sampler"]["state"][name][key]
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert first["optimizer"]["state"].keys() == one["sampler"]["state"]["optimizer"]["state"].keys()
    assert torch.equal(first["loader"]["weights"], second["loader"]["weights"])
    assert torch.equal(first["loader"]["hard"], one["sampler"]["state"]["loader"]["hard"])
    assert torch.equal(first["epoch_rng"]["torch"], second["epoch_rng"]["torch"])
    assert torch.equal(first["epoch_rng"]["torch"], one["sampler"]["state"]["epoch_rng"]["torch"])


def test_validation_and_mining_give_the_figures_of_one_process(two: Path, one: dict[str, Any]) -> None:
    found = torch.load(two / "sampler" / "states.pt", weights_only=False)[1]["history"]
    expected = one["sampler"]["state"]["history"]
    assert [epoch.keys() for epoch in found] == [epoch.keys() for epoch in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-5)
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-5)
        assert ours["hard_negatives"] == theirs["hard_negatives"]


def test_two_processes_continue_what_one_began(two: Path, one: dict[str, Any]) -> None:
    close(losses(two / "from_one"), one["sampler"]["losses"], start=5)


def test_one_process_continues_what_two_began(two: Path, one: dict[str, Any]) -> None:
    assert (two / "from_two" / "interrupted").exists()
    before = losses(two / "from_two")
    close(before, dict(list(one["sampler"]["losses"].items())[:5]))
    trainer = script.make_trainer(two / "from_two")
    trainer.resume()
    assert trainer.progress.step == 5
    trainer.train()
    trainer.metrics.close()
    close(losses(two / "from_two"), one["sampler"]["losses"], start=5)


@pytest.mark.parametrize("shape", script.SHAPES)
def test_synced_batch_norm_is_batch_norm_of_the_whole_batch(two: Path, shape: str) -> None:
    found = torch.load(two / "layers.pt")[shape]
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
    expected = {
        "output": output.detach(),
        "gradient": value.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        **norm.state_dict(prefix="state."),
    }
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)


def test_dropout_draws_for_the_whole_batch_in_every_process(two: Path) -> None:
    found = torch.load(two / "layers.pt")
    torch.manual_seed(3)
    assert torch.equal(found["dropout"], nn.Dropout1d(0.4)(torch.ones(8, 6, 7)))
    assert torch.equal(found["dropout of steps"], nn.Dropout(0.4)(torch.ones(16, 6)))
    assert torch.equal(found["next number"], torch.rand(1).expand(2, 1))


def test_only_the_main_process_shows_anything(two: Path) -> None:
    shown = (two / "stdout.txt").read_text()
    assert shown.count("float epoch 1 ") == 4  # one line for each training that reached it
    assert shown.count("interrupted: epoch 1, batch 5") == 1


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("first", ["EdgewakeError", "ReportedError"], "the disk has gone"),
        ("second", ["EdgewakeError", "ReportedError"], "process 2 of 2: the disk has gone"),
        ("bug", ["ReportedError", "ZeroDivisionError"], "the disk has gone"),
    ],
)
def test_a_failure_of_one_process_ends_all_with_one_message(
    two: Path, name: str, kinds: list[str], message: str
) -> None:
    lines = torch.load(two / name / "failure.pt", weights_only=False)
    assert [line[0] for line in lines] == kinds
    assert lines[0][1] == message
    assert sum(line[2] for line in lines) == (0 if name == "bug" else 1)


def test_a_loss_that_is_not_finite_in_one_process_stops_all_before_the_step(two: Path) -> None:
    (first, message), (second, _) = torch.load(two / "nan" / "failure.pt", weights_only=False)
    assert (first, second) == ("EdgewakeError", "ReportedError")
    assert "loss is nan in epoch 1, batch 0 (inputs nan..nan)" in message


def test_work_of_the_main_process_reaches_all(two: Path) -> None:
    (first, made), (second, found) = torch.load(two / "work.pt", weights_only=False)
    assert first == second
    assert (made, found) == (None, True)  # the main process made the folder before the other one looked


@pytest.mark.parametrize(("size", "count"), [(8, 2), (9, 2), (10, 4), (3, 3), (2, 3)])
def test_slices_of_a_batch_cover_it_evenly(size: int, count: int) -> None:
    whole = BatchSampler(range(size + 1), size, drop_last=True)
    parts = [next(iter(SlicedBatches(whole, index, count))) for index in range(count)]
    if size >= count:
        assert [clip for part in parts for clip in part] == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    else:
        assert parts == [list(range(size))] * count


def test_a_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_processes", None)
    group = processes()
    assert group.alone
    assert group.main
    assert not torch.distributed.is_initialized()
    loader = DataLoader(script.Store(6), batch_size=2)
    assert sliced(loader, group) is loader
    assert list(group.together(iter([1, 2]), float)) == [1, 2]
    assert group.main_only(lambda: 3) == group.main_first(lambda: 3) == 3
    with pytest.raises(EdgewakeError, match="full"):
        group.main_only(lambda: (_ for _ in ()).throw(EdgewakeError("full")))


def test_a_trainer_takes_an_accelerator_of_the_caller() -> None:
    from accelerate import Accelerator

    group = Processes(Accelerator(cpu=True))
    assert group.alone
    assert group.accelerator is not None


def test_a_lost_process_is_told_from_a_bug() -> None:
    assert distributed.lost(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert not distributed.lost(RuntimeError("The size of tensor a (3) must match"))
