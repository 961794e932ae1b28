"""A teacher hears each clip once: what is kept is checked, shared, bounded, and never of another teacher."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewake.data.clip_array import ClipArray
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.base import Teacher, TeacherOutputs, tensors_fingerprint
from edgewake.training.teacher_cache import TeacherCache

SAMPLES = 1600
Audio = npt.NDArray[np.int16]


class MeanHead(nn.Module):
    """A logit a class along time; the clip's is their mean."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 2)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        along = self.linear(frames)
        return along.mean(1), along


class SmallTeacher(Teacher):
    """One convolution; it counts the clips that it hears, and can be slow or fail."""

    architecture, num_classes, embedding_size, frame_rate = "small", 2, 4, 100.0
    head_trained, source = True, "random"

    def __init__(self, seed: int = 0, head_seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv1d(1, 4, 160, 160)
        torch.manual_seed(head_seed)
        self.head = MeanHead(4)
        self.heard = 0
        self.fail_after = 10**9
        self.seconds_a_batch = 0.0
        self.freeze()

    def embed(self, audio: Tensor) -> Tensor:
        time.sleep(self.seconds_a_batch)
        self.heard += len(audio)
        if self.heard > self.fail_after:
            raise KeyboardInterrupt
        frames: Tensor = self.conv(audio[:, None]).transpose(1, 2)
        return frames

    def fingerprint(self) -> str:
        return tensors_fingerprint(self.conv.state_dict())


class Pair(Teacher):
    """An ensemble of two."""

    architecture, num_classes = "ensemble", 2

    def __init__(self, members: list[SmallTeacher]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def combine(self, parts: list[TeacherOutputs]) -> TeacherOutputs:
        return TeacherOutputs(torch.stack([part.logits for part in parts]).mean(0))


def clips(count: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).integers(-9000, 9000, (count, SAMPLES)).astype(np.int16)


def cache(folder: Path, gigabytes: float = 1.0) -> TeacherCache:
    return TeacherCache(folder, gigabytes, block=8, batch=4)


def blocks(folder: Path, teacher: Teacher) -> list[Path]:
    """Whole blocks; what is being written has a name that begins with a dot."""
    return sorted((folder / teacher.fingerprint()).glob("[!.]*"))


def test_a_hit_gives_bit_equal_values_and_asks_no_teacher(tmp_path: Path) -> None:
    audio, teacher = clips(20), SmallTeacher()
    first = np.asarray(cache(tmp_path).embeddings(teacher, audio))
    teacher.fail_after = 0
    again = cache(tmp_path).embeddings(teacher, audio)
    assert again.shape == (20, 10, 4)
    assert again.dtype == np.float16
    np.testing.assert_array_equal(np.asarray(again), first)
    with torch.no_grad():
        heard = teacher.conv(torch.from_numpy(audio / np.float32(32768))[:, None]).transpose(1, 2)
    np.testing.assert_allclose(first, heard.numpy(), rtol=1e-3, atol=1e-4)


def test_any_choice_and_order_of_known_clips_is_found(tmp_path: Path) -> None:
    audio, teacher = clips(30), SmallTeacher()
    everything = np.asarray(cache(tmp_path).embeddings(teacher, audio))
    heard = teacher.heard
    chosen = np.array([29, 3, 3, 17])
    some = cache(tmp_path).embeddings(teacher, audio[chosen])
    np.testing.assert_array_equal(np.asarray(some), everything[chosen])
    assert teacher.heard == heard


def test_equal_clips_are_heard_once(tmp_path: Path) -> None:
    audio, teacher = clips(3), SmallTeacher()
    found = np.asarray(cache(tmp_path).embeddings(teacher, audio[[0, 1, 0, 2, 1, 0]]))
    np.testing.assert_array_equal(found[0], found[2])
    assert teacher.heard == 1 + 3  # one more, from which the room needed is known


def test_one_changed_sample_misses(tmp_path: Path) -> None:
    audio, teacher = clips(8), SmallTeacher()
    before = np.asarray(cache(tmp_path).embeddings(teacher, audio))
    heard = teacher.heard
    audio[5, 700] += 1
    after = np.asarray(cache(tmp_path).embeddings(teacher, audio))
    assert teacher.heard == heard + 1 + 1
    assert (before[5] != after[5]).any()
    np.testing.assert_array_equal(np.delete(before, 5, 0), np.delete(after, 5, 0))


def test_a_changed_teacher_misses_even_within_one_process(tmp_path: Path) -> None:
    audio, teacher, kept = clips(8), SmallTeacher(), cache(tmp_path)
    before = np.asarray(kept.embeddings(teacher, audio))
    teacher.load_state_dict(SmallTeacher(seed=1).state_dict())
    after = np.asarray(kept.embeddings(teacher, audio))
    assert (before != after).any()
    assert len([path for path in tmp_path.iterdir() if path.name != "locks"]) == 2


def test_signals_are_those_of_the_head_on_kept_embeddings(tmp_path: Path) -> None:
    audio, teacher = clips(20), SmallTeacher()
    stored = cache(tmp_path).outputs(teacher, audio, frames=True)
    chosen = torch.tensor([4, 19, 4])
    signals = stored.of(chosen)
    assert signals.frames is not None
    assert signals.frame_logits is not None
    with torch.no_grad():
        logits, along = teacher.head(signals.frames)
    torch.testing.assert_close(signals.logits, logits, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(signals.frame_logits, along, rtol=1e-6, atol=1e-7)


def test_signals_without_frames_are_read_from_a_small_file_until_the_head_changes(tmp_path: Path) -> None:
    audio, teacher = clips(20), SmallTeacher()
    first = cache(tmp_path).outputs(teacher, audio).of(torch.arange(20))
    for path in blocks(tmp_path, teacher):
        path.unlink()
    teacher.fail_after = 0
    again = cache(tmp_path).outputs(teacher, audio).of(torch.arange(20))
    assert again.frames is None
    assert torch.equal(first.logits, again.logits)
    other = SmallTeacher(head_seed=1)
    assert not torch.equal(cache(tmp_path).outputs(other, audio).of(torch.arange(20)).logits, first.logits)
    assert other.heard > 0


def test_a_live_batch_is_looked_up_by_its_samples(tmp_path: Path) -> None:
    audio, teacher = clips(12), SmallTeacher()
    kept = cache(tmp_path)
    stored = kept.outputs(teacher, audio, frames=True).of(torch.arange(12))
    teacher.fail_after = 0
    live = kept.lookup(teacher, torch.from_numpy(audio[[7, 2]] / np.float32(32768)))
    torch.testing.assert_close(live.logits, stored.logits[[7, 2]], rtol=1e-6, atol=1e-7)
    assert stored.frames is not None
    assert torch.equal(live.frames, stored.frames[[7, 2]])  # type: ignore[arg-type]


def test_a_live_batch_that_is_new_is_kept(tmp_path: Path) -> None:
    teacher, kept = SmallTeacher(), cache(tmp_path)
    batch = torch.from_numpy(clips(4, seed=9) / np.float32(32768))
    first = kept.lookup(teacher, batch)
    teacher.fail_after = 0
    assert torch.equal(cache(tmp_path).lookup(teacher, batch).logits, first.logits)


def test_an_ensemble_is_combined_from_what_is_kept_of_its_members(tmp_path: Path) -> None:
    audio, members = clips(9), [SmallTeacher(seed=1), SmallTeacher(seed=2)]
    pair = Pair(members)
    each = [cache(tmp_path).outputs(member, audio).of(torch.arange(9)).logits for member in members]
    for member in members:
        member.fail_after = 0
    kept = cache(tmp_path)
    together = kept.outputs(pair, audio)
    assert torch.equal(together.of(torch.tensor([3])).logits, (each[0] + each[1])[3:4] / 2)
    assert together.logits.shape == (9, 2)
    live = kept.lookup(pair, torch.from_numpy(audio / np.float32(32768)))
    torch.testing.assert_close(live.logits, (each[0] + each[1]) / 2)
    with pytest.raises(ConfigError, match="members"):
        kept.embeddings(pair, audio)


def test_an_interrupted_computation_goes_on_with_the_next_block(tmp_path: Path) -> None:
    audio, teacher = clips(40), SmallTeacher()
    teacher.fail_after = 1 + 8 + 8 + 4  # in the middle of the third block
    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path).embeddings(teacher, audio)
    assert len(blocks(tmp_path, teacher)) == 2
    other = SmallTeacher()
    cache(tmp_path).embeddings(other, audio)
    assert other.heard == 1 + 24


def _embed_slowly(folder: Path, seconds_a_batch: float, result: str = "") -> None:
    torch.set_num_threads(1)
    teacher = SmallTeacher()
    teacher.seconds_a_batch = seconds_a_batch
    found = np.asarray(cache(folder).embeddings(teacher, clips(40)))
    if result:
        np.save(result, found)
        Path(f"{result}.heard").write_text(str(teacher.heard))


def test_kill_in_the_middle_leaves_only_whole_blocks(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_embed_slowly, args=(tmp_path, 0.2))
    process.start()
    teacher = SmallTeacher()
    assert process.pid is not None
    while not blocks(tmp_path, teacher):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert 1 <= len(blocks(tmp_path, teacher)) < 5
    whole = np.asarray(cache(tmp_path / "other").embeddings(SmallTeacher(), clips(40)))
    found = np.asarray(cache(tmp_path).embeddings(teacher, clips(40)))
    np.testing.assert_array_equal(found, whole)
    assert teacher.heard < 1 + 40


def test_two_processes_at_once_share_the_work_and_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = [str(tmp_path / f"{number}.npy") for number in range(2)]
    processes = [context.Process(target=_embed_slowly, args=(tmp_path / "cache", 0.05, result)) for result in results]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    first, second = (np.load(result) for result in results)
    np.testing.assert_array_equal(first, second)
    heard = sum(int(Path(f"{result}.heard").read_text()) for result in results)
    assert 40 <= heard <= 40 + 2  # each asked once for the room that a clip needs
    assert not list((tmp_path / "cache" / "locks").iterdir())


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header"])
def test_a_damaged_block_is_named_and_computed_again(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    audio, teacher = clips(20), SmallTeacher()
    before = np.asarray(cache(tmp_path).embeddings(teacher, audio))
    victim = blocks(tmp_path, teacher)[1]
    data = bytearray(victim.read_bytes())
    if damage == "flip":
        data[-100] ^= 1
    elif damage == "cut":
        del data[-50:]
    elif damage == "empty":
        data.clear()
    else:
        data[0:8] = (2**40).to_bytes(8, "little")
    victim.write_bytes(data)
    heard = teacher.heard
    after = np.asarray(cache(tmp_path).embeddings(teacher, audio))
    np.testing.assert_array_equal(after, before)
    assert heard < teacher.heard <= heard + 1 + 8
    if damage in ("flip", "cut"):
        assert victim.name in capsys.readouterr().err.replace("\n", "")


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_the_limit_holds_whatever_comes(tmp_path: Path) -> None:
    teacher, limit = SmallTeacher(), 3.5 * folder_bytes_of_one_block(tmp_path / "one")
    kept = cache(tmp_path / "cache", limit / 1e9)
    for seed in range(6):
        kept.embeddings(teacher, clips(8, seed=seed))
        assert folder_bytes(tmp_path / "cache") <= limit
    assert len(blocks(tmp_path / "cache", teacher)) == 3


def age(folder: Path, teacher: Teacher) -> None:
    """Make all blocks there look used a minute ago."""
    for path in blocks(folder, teacher):
        os.utime(path, (time.time() - 60, time.time() - 60))


def folder_bytes_of_one_block(folder: Path) -> int:
    cache(folder).embeddings(SmallTeacher(), clips(8))
    return folder_bytes(folder)


def test_what_was_just_used_outlives_what_was_not(tmp_path: Path) -> None:
    teacher = SmallTeacher()
    each = folder_bytes_of_one_block(tmp_path / "one")
    kept = cache(tmp_path / "cache", 2.5 * each / 1e9)
    first, second, third = (clips(8, seed=seed) for seed in range(3))
    kept.embeddings(teacher, first)
    kept.embeddings(teacher, second)
    age(tmp_path / "cache", teacher)
    kept.embeddings(teacher, first)
    kept.embeddings(teacher, third)
    teacher.fail_after = 0
    fresh = cache(tmp_path / "cache", 2.5 * each / 1e9)
    fresh.embeddings(teacher, first)
    fresh.embeddings(teacher, third)
    with pytest.raises(KeyboardInterrupt):
        fresh.embeddings(teacher, second)


def test_a_call_that_needs_more_than_the_limit_is_refused_before_the_work(tmp_path: Path) -> None:
    teacher = SmallTeacher()
    with pytest.raises(EdgewakeError, match=r"needs 9\.6e-06 GB at once, cache\.limit_gb = 5e-06"):
        cache(tmp_path, 5e-6).embeddings(teacher, clips(100))
    assert teacher.heard == 1


def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    teacher = SmallTeacher()
    with torch.no_grad():
        teacher.conv.weight.fill_(1e9)
    with pytest.raises(EdgewakeError, match="small \\(random\\) gives embeddings that are not finite"):
        cache(tmp_path).embeddings(teacher, clips(4))


def test_audio_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match="float32"):
        cache(tmp_path).embeddings(SmallTeacher(), clips(4).astype(np.float32))  # type: ignore[arg-type]


@settings(max_examples=40)
@given(st.data())
def test_a_choice_of_clips_is_indexed_as_an_array_is(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    parts = [rng.normal(size=(size, 5, 3)).astype(np.float16) for size in (4, 1, 6)]
    block = rng.integers(0, 3, 12)
    row = np.array([rng.integers(0, len(parts[number])) for number in block])
    found = ClipArray(parts, block, row)
    plain = np.stack([parts[b][r] for b, r in zip(block, row, strict=True)])
    index = data.draw(
        st.one_of(
            st.integers(-12, 11),
            st.slices(12),
            st.lists(st.integers(-12, 11), min_size=1, max_size=20).map(np.array),
            st.lists(st.booleans(), min_size=12, max_size=12).map(np.array),
        )
    )
    np.testing.assert_array_equal(found[index], plain[index])
    inner = data.draw(st.slices(5))
    np.testing.assert_array_equal(found[index, inner], plain[index, inner])
    np.testing.assert_array_equal(np.asarray(found.take(np.array([3, 3, 0]))), plain[[3, 3, 0]])
    assert len(found) == len(plain)
    assert found.shape == plain.shape
