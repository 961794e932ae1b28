"""A teacher embeds each block of clips once: what is kept is checked, shared, and never of another teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewake.cache import Cache
from edgewake.data.clips import ClipArray
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.teachers.base import Teacher, tensors_fingerprint
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.training import teacher_outputs
from edgewake.training.teacher_outputs import TeacherCache

SAMPLES = 1600
Audio = npt.NDArray[np.int16]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_outputs, "BLOCK", 8)
    monkeypatch.setattr(teacher_outputs, "BATCH", 4)


class MeanHead(nn.Module):
    """A logit a class along time; the clip's is their mean."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 2)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        along = self.linear(frames)
        return along.mean(1), along


class SmallTeacher(Teacher):
    """One convolution; it counts its clips, and can fail."""

    architecture, num_classes, embedding_size, frame_rate = "small", 2, 4, 100.0
    head_trained, source = True, "random"

    def __init__(self, seed: int = 0, head_seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv1d(1, 4, 160, 160)
        torch.manual_seed(head_seed)
        self.head = MeanHead(4)
        self.embedded = 0
        self.fail_after = 10**9
        self.freeze()

    def embed(self, audio: Tensor) -> Tensor:
        self.embedded += len(audio)
        if self.embedded > self.fail_after:
            raise KeyboardInterrupt
        frames: Tensor = self.conv(audio[:, None]).transpose(1, 2)
        return frames

    def fingerprint(self) -> str:
        return tensors_fingerprint(self.conv.state_dict())


def clips(count: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).integers(-9000, 9000, (count, SAMPLES)).astype(np.int16)


def cached(folder: Path, teacher: Teacher, gigabytes: float = 1.0) -> TeacherCache:
    return TeacherCache(teacher, Cache(folder, gigabytes))


def blocks(folder: Path) -> list[Path]:
    return [path for path in (folder / "embeddings").iterdir() if not path.name.startswith(".")]


def test_a_hit_gives_bit_equal_values_and_does_not_run_the_teacher(tmp_path: Path) -> None:
    audio, teacher = clips(20), SmallTeacher()
    first = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    teacher.fail_after = 0
    again = cached(tmp_path, teacher).embeddings(audio)
    assert again.shape == (20, 10, 4)
    assert again.dtype == np.float16
    np.testing.assert_array_equal(np.asarray(again), first)
    with torch.no_grad():
        expected = teacher.conv(torch.from_numpy(audio / np.float32(32768))[:, None]).transpose(1, 2)
    np.testing.assert_allclose(first, expected.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(TeacherCache(SmallTeacher(), None).embeddings(audio)), first)


def test_a_choice_of_a_stores_clips_shares_the_stores_blocks(tmp_path: Path) -> None:
    audio, teacher = clips(30), SmallTeacher()
    everything = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    teacher.fail_after = 0
    chosen = np.array([29, 3, 3, 17])
    some = cached(tmp_path, teacher).embeddings(ClipArray.whole([audio]).chosen(chosen))
    np.testing.assert_array_equal(np.asarray(some), everything[chosen])


def test_one_changed_sample_misses_in_its_block_alone(tmp_path: Path) -> None:
    audio, teacher = clips(24), SmallTeacher()
    before = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    audio[5, 700] += 1
    after = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    assert teacher.embedded == 24 + 8
    assert (before[5] != after[5]).any()
    np.testing.assert_array_equal(np.delete(before, 5, 0), np.delete(after, 5, 0))


def test_only_what_is_made_of_embeddings_is_kept_under_a_key_of_its_own(tmp_path: Path) -> None:
    audio, teacher = clips(8), SmallTeacher()
    whole = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    kept = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        reduce = nn.Sequential(nn.Linear(4, 2), nn.Softmax(2)).requires_grad_(False)
        reduced = TeacherCache(teacher, Cache(tmp_path, 1.0), reduce)
        kept.append(np.asarray(reduced.embeddings(audio)))
        assert kept[-1].shape == (8, 10, 2)
        np.testing.assert_allclose(kept[-1], reduce(torch.from_numpy(whole).float()).numpy(), atol=1e-3)
    assert (kept[0] != kept[1]).any()
    assert len(blocks(tmp_path)) == 3
    teacher.fail_after = 0
    np.testing.assert_array_equal(np.asarray(reduced.embeddings(audio)), kept[1])


def test_another_teacher_misses(tmp_path: Path) -> None:
    audio = clips(8)
    first, second = (np.asarray(cached(tmp_path, SmallTeacher(seed)).embeddings(audio)) for seed in (0, 1))
    assert (first != second).any()


def test_outputs_are_those_of_the_head_on_kept_embeddings(tmp_path: Path) -> None:
    audio, teacher = clips(20), SmallTeacher()
    stored = cached(tmp_path, teacher).outputs(audio, frames=True)
    outputs = stored.of(torch.tensor([4, 19, 4]))
    assert outputs.frames is not None
    assert outputs.frame_logits is not None
    with torch.no_grad():
        logits, along = teacher.head(outputs.frames)
    torch.testing.assert_close(outputs.logits, logits, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(outputs.frame_logits, along, rtol=1e-6, atol=1e-7)
    other = SmallTeacher(head_seed=1)
    other.fail_after = 0
    assert not torch.equal(cached(tmp_path, other).outputs(audio).logits, stored.logits)


def test_an_ensemble_is_combined_from_what_is_kept_of_its_members(tmp_path: Path) -> None:
    audio, members = clips(9), [SmallTeacher(seed=1), SmallTeacher(seed=2)]
    pair = EnsembleTeacher(members, mean="logits")
    each = [cached(tmp_path, member).outputs(audio).logits for member in members]
    for member in members:
        member.fail_after = 0
    together = cached(tmp_path, pair).outputs(audio)
    torch.testing.assert_close(together.of(torch.tensor([3])).logits, (each[0] + each[1])[3:4] / 2)
    assert together.logits.shape == (9, 2)
    with pytest.raises(ConfigError, match="members"):
        cached(tmp_path, pair).embeddings(audio)


def test_an_interrupted_computation_goes_on_with_the_next_block(tmp_path: Path) -> None:
    audio, teacher = clips(40), SmallTeacher()
    teacher.fail_after = 8 + 8 + 4  # in the middle of the third block
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, teacher).embeddings(audio)
    assert len(blocks(tmp_path)) == 2
    other = SmallTeacher()
    cached(tmp_path, other).embeddings(audio)
    assert other.embedded == 24


def test_a_damaged_block_is_named_and_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio, teacher = clips(20), SmallTeacher()
    before = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    victim = blocks(tmp_path)[1]
    victim.joinpath("frames.npy").write_bytes(b"no array")
    after = np.asarray(cached(tmp_path, teacher).embeddings(audio))
    np.testing.assert_array_equal(after, before)
    assert 20 < teacher.embedded <= 20 + 8
    assert victim.name in capsys.readouterr().err.replace("\n", "")


def test_a_call_that_needs_more_than_the_limit_is_refused_in_its_first_block(tmp_path: Path) -> None:
    teacher = SmallTeacher()
    with pytest.raises(EdgewakeError, match=r"keeping small's embeddings takes .*store_outputs: false"):
        cached(tmp_path, teacher, 5e-6).embeddings(clips(100))
    assert teacher.embedded <= 8


def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    teacher = SmallTeacher()
    with torch.no_grad():
        teacher.conv.weight.fill_(1e9)
    with pytest.raises(EdgewakeError, match="small \\(random\\) gives embeddings that are not finite"):
        cached(tmp_path, teacher).embeddings(clips(4))


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
    assert len(found) == len(plain)
    assert found.shape == plain.shape
