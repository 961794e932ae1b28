"""Clips, batches and their variation are functions of a seed; a batch has its share of positives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.config import AugmentationConfig, WakewordConfig
from edgewake.data.augment import Augmenter, NoisePool, RirPool
from edgewake.data.clips import BalancedBatchSampler
from edgewake.data.manifest import Entry
from edgewake.data.mixing import active_region
from edgewake.data.rendering import (
    KINDS,
    PHRASE_BELOW_DB,
    PHRASE_BLOCK,
    RenderPlan,
    clip_features,
    excerpt,
    fragment,
    place,
    render,
    span_of,
    splice,
)
from edgewake.evaluation.clips import f1_score
from edgewake.runtime.events import smooth_probabilities
from edgewake.runtime.frontend import features
from edgewake.training.feature_augment import spec_augment, warp
from edgewake.training.losses import clip_loss, clip_weights

PLAN = RenderPlan(WakewordConfig().frontend, frames=60, lead_in=4000)
SPAN = (6000, 14000)  # of the phrase in `word()`


def word(length: int = 8000, before: int = 6000, after: int = 5000) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([np.zeros(before), rng.normal(0, 6000, length), np.zeros(after)]).astype(np.int16)


def augmenter() -> Augmenter:
    noise = np.random.default_rng(1).normal(0, 1000, 40000).astype(np.int16)
    return Augmenter(WakewordConfig().augmentation, NoisePool([noise]), RirPool([]))


def test_active_region_finds_the_loud_part() -> None:
    begin, end = active_region(word(), PHRASE_BLOCK, PHRASE_BELOW_DB)
    assert abs(begin - 6000) <= 160
    assert abs(end - 14000) <= 160


@pytest.mark.parametrize("samples", [np.zeros(3000, np.int16), np.zeros(0, np.int16)])
def test_active_region_of_silence_is_everything(samples: np.ndarray) -> None:
    assert active_region(samples) == (0, len(samples))


@given(st.integers(9000, 30000), st.integers(0, 2**31))
def test_the_phrase_ends_where_it_was_placed(end: int, seed: int) -> None:
    length = 32000
    placed = place(word(), SPAN, length, end, None, np.random.default_rng(seed))
    assert len(placed) == length
    assert abs(active_region(placed, PHRASE_BLOCK, PHRASE_BELOW_DB)[1] - end) <= 320


def test_a_recording_keeps_its_own_surroundings() -> None:
    recording = word()
    recording[15000:18000] = 40  # a faint decay, far below the phrase
    placed = place(recording, SPAN, 32000, 25000, None, np.random.default_rng(0))
    assert (placed[26100:28900] == 40).all()


def test_context_comes_before_the_phrase_and_not_within_it() -> None:
    context = np.full(32000, 77, np.int16)
    placed = place(word(), SPAN, 32000, 25000, context, np.random.default_rng(3))
    quiet = place(word(), SPAN, 32000, 25000, None, np.random.default_rng(3))
    assert (placed[400:4000] == 77).all()
    np.testing.assert_array_equal(placed[17000:25000], quiet[17000:25000])


def test_surroundings_fade_so_that_no_step_marks_them() -> None:
    recording = np.clip(word().astype(int) + 300, -32768, 32767).astype(np.int16)
    context = np.full(32000, 300, np.int16)
    placed = place(recording, SPAN, 32000, 25000, context, np.random.default_rng(5)).astype(int)
    quiet = np.r_[placed[:16000], placed[26000:]]
    assert np.abs(np.diff(quiet)).max() <= 310 // 2


@given(st.integers(0, 2**31), st.integers(1, 20000), st.integers(10, 9000), st.integers(1, 20000))
def test_a_fragment_is_never_the_whole_phrase_and_its_rest_is_where_it_says(
    seed: int, before: int, length: int, after: int
) -> None:
    """Whatever else the recording holds: the phrase's samples are numbered here, other speech is -1."""
    whole = np.concatenate([np.full(before, -1), np.arange(1, length + 1), np.full(after, -1)]).astype(np.int16)
    part, (first, last) = fragment(whole, (before, before + length), np.random.default_rng(seed))
    kept = part[part > 0]
    np.testing.assert_array_equal(part[first:last], kept)
    backwards = np.array_equal(part[::-1], whole)
    assert backwards or 0 < len(kept) < 0.5 * length + 1


class Marked(Augmenter):
    """Changes nothing but the speed."""

    def __call__(self, samples: np.ndarray, rng: np.random.Generator, **_: object) -> np.ndarray:
        return samples


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.5, 2.0), st.integers(0, 30000), st.sampled_from(["positive", "near"]))
def test_the_phrase_ends_at_the_planned_frame_at_any_speed(seed: int, speed: float, follows: int, kind: str) -> None:
    """A known place counts, whatever louder speech follows: here silence after the phrase begins where it ends."""
    noise = np.random.default_rng(seed)
    recording = np.zeros(12000 + follows, np.int16)
    recording[4000:12000] = noise.normal(0, 3000, 8000)
    recording[12000 + 1000 :] = 9000  # louder
    entry = Entry(path="a.wav", kind="positive", label=1, split="train", seconds=9, phrase_start=0.25, phrase_end=0.75)
    assert span_of(entry, recording) == (4000, 12000)
    plan = replace(PLAN, tail_frames=(20, 20), context=0.0, from_reset=0.0)
    config = AugmentationConfig(speed_prob=1.0, speed=(speed, speed))
    made = Marked(config, NoisePool([]), RirPool([]))
    _, audio = render(kind, recording, span_of(entry, recording), None, plan, made, (seed,))
    end = plan.clip_samples - 20 * plan.frontend.step_samples
    assert np.abs(audio[end - 200 : end - 10].astype(int)).max() > 2000
    # The resampler rings for some samples, longer where speech is slower.
    gap = audio[end + 100 : end + min(int(1000 / speed) - 20, 3000)]
    assert np.abs(gap.astype(int)).max(initial=0) < 300


def test_without_a_known_place_the_phrase_is_where_it_is_loud() -> None:
    entry = Entry(path="a.wav", kind="positive", label=1, split="train", seconds=2)
    assert np.abs(np.subtract(span_of(entry, word()), SPAN)).max() <= 160


@given(st.integers(0, 2**31), st.integers(1, 60000))
def test_spliced_speech_has_its_length_and_pieces_of_several_recordings(seed: int, length: int) -> None:
    recordings = [np.full(size, value, np.int16) for size, value in ((20000, 100), (9000, 3000), (50000, 800), (30, 5))]
    joined = splice(recordings, length, np.random.default_rng(seed))
    assert (len(joined), joined.dtype) == (length, np.int16)
    assert joined.max() < 3100  # the level of the first piece
    if length > 48000:
        assert (joined == 0).sum() >= 6  # at the joints, which a second has at least one of


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_an_excerpt_has_the_length_asked_for(have: int, want: int) -> None:
    samples = np.arange(1, have + 1, dtype=np.int16)
    cut = excerpt(samples, want, np.random.default_rng(have))
    assert len(cut) == want
    assert (cut > 0).sum() == min(have, want)


def test_clip_features_are_those_of_a_running_frontend() -> None:
    config = WakewordConfig().frontend
    plan = RenderPlan(config, frames=60, lead_in=4000, from_reset=0.0)
    samples = np.random.default_rng(2).normal(0, 3000, plan.samples).astype(np.int16)
    clip, audio = clip_features(samples, plan, np.random.default_rng(0))
    np.testing.assert_array_equal(clip, features(samples, config)[-60:])
    np.testing.assert_array_equal(audio, samples[-(59 * 160 + 480) :])


def test_a_clip_from_reset_begins_with_silence_and_goes_on_with_a_fresh_frontend() -> None:
    config = WakewordConfig().frontend
    plan = RenderPlan(config, frames=60, lead_in=4000, from_reset=1.0)
    samples = np.random.default_rng(2).normal(0, 3000, plan.samples).astype(np.int16)
    clip, audio = clip_features(samples, plan, np.random.default_rng(4))
    active = int((clip.sum(axis=1) > 0).sum())
    assert 30 <= active <= 60
    assert clip[: 60 - active].sum() == 0
    fresh = features(samples[-((active - 1) * 160 + 480) :], config)
    np.testing.assert_array_equal(clip[-active:], fresh)
    np.testing.assert_array_equal(features(audio[-((active - 1) * 160 + 480) :], config), fresh)
    assert not audio[: -((active - 1) * 160 + 480)].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_render_repeats_from_its_seed_and_differs_from_others(kind: str) -> None:
    source = word() if kind != "negative" else np.tile(word(), 3)
    make = lambda seed: render(kind, source, SPAN, np.tile(word(), 3), PLAN, augmenter(), (seed,))  # noqa: E731
    (first, active), (again, heard_again), (other, _) = make(1), make(1), make(2)
    assert first.shape == (60, 40)
    assert active.shape == (PLAN.clip_samples,)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(active, heard_again)
    assert not np.array_equal(first, other)


def test_batches_repeat_from_seed_and_epoch() -> None:
    labels = np.array([1] * 10 + [0] * 50)
    make = lambda: BalancedBatchSampler(labels != 1, np.ones(60), 8, [0.25], 20, seed=3)  # noqa: E731
    sampler, again = make(), make()
    sampler.set_epoch(4)
    whole = list(sampler)
    again.set_epoch(4)
    assert list(again) == whole
    assert len(again) == 20
    sampler.set_epoch(5)
    assert list(sampler) != whole


@given(st.integers(2, 40), st.floats(0.05, 0.9))
def test_every_batch_has_the_share_of_positives(size: int, share: float) -> None:
    labels = np.array([1] * 7 + [0] * 33)
    sampler = BalancedBatchSampler(labels != 1, np.ones(40), size, [share], 5, seed=0)
    expected = min(size - 1, max(1, round(size * share)))
    for batch in sampler:
        assert len(batch) == size
        assert sum(labels[batch]) == expected


@given(st.integers(2, 80), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(0, 15))
def test_every_group_has_its_share_of_a_batch_and_the_last_fills_up(
    size: int, shares: list[float], absent: int
) -> None:
    groups = np.array([group for group in (0, 1, 2, 3) for _ in range(5) if group == 3 or not absent >> group & 1])
    shares = [share / 3.1 for share in shares]
    sampler = BalancedBatchSampler(groups, np.ones(len(groups)), size, shares, 4, seed=1)
    for batch in sampler:
        counts = np.bincount(groups[batch], minlength=4)
        assert counts.sum() == size
        assert counts[3] >= 1
        for group, share in enumerate(shares):
            wanted = max(round(share * size), group == 0) if (groups == group).any() else 0
            assert counts[group] == min(wanted, size - 1 - counts[:group].sum())


def test_candidates_come_at_the_end_of_a_batch_and_are_of_the_last_group() -> None:
    groups = np.array([0] * 10 + [1] * 10 + [2] * 40)
    sampler = BalancedBatchSampler(groups, np.ones(60), 8, [0.25, 0.25], 6, seed=2, more=5)
    for batch in sampler:
        assert groups[batch].tolist() == [0, 0, 1, 1] + [2] * 9


def test_heavier_negatives_come_up_as_often_as_their_weight() -> None:
    labels = np.array([1] + [0] * 10)
    weights = np.ones(11)
    weights[3] = 10.0
    sampler = BalancedBatchSampler(labels != 1, weights, 20, [0.05], 100, seed=0)
    counts = np.bincount(np.concatenate([np.array(batch) for batch in sampler]), minlength=11)
    assert counts[3] / counts[4] == pytest.approx(10, rel=0.1)
    assert counts[1:].min() > 0


def test_warp_is_the_identity_without_range_and_repeats_from_its_generator() -> None:
    clip = torch.rand(3, 60, 40) * 20
    still, moving = (AugmentationConfig(mel_warp_channels=mel, tempo_warp=tempo) for mel, tempo in ((0, 0), (2, 0.1)))
    torch.testing.assert_close(warp(clip, torch.Generator().manual_seed(0), still), clip, atol=1e-4, rtol=1e-4)
    make = lambda: warp(clip, torch.Generator().manual_seed(7), moving)  # noqa: E731
    assert torch.equal(make(), make())
    assert not torch.allclose(make(), clip)


def test_tempo_keeps_the_end_of_the_clip_in_place() -> None:
    clip = torch.zeros(8, 60, 40)
    clip[:, -1] = 10.0
    warped = warp(clip, torch.Generator().manual_seed(1), AugmentationConfig(mel_warp_channels=0, tempo_warp=0.3))
    torch.testing.assert_close(warped[:, -1], clip[:, -1])


def test_spec_augment_fills_bands_with_the_mean_and_touches_nothing_else() -> None:
    clip = torch.rand(16, 60, 40)
    always, never = AugmentationConfig(spec_augment_prob=1.0), AugmentationConfig(spec_augment_prob=0.0)
    masked = spec_augment(clip, torch.Generator().manual_seed(2), always)
    changed = masked != clip
    assert changed.any()
    mean = clip.mean(dim=(1, 2), keepdim=True).expand_as(clip)
    torch.testing.assert_close(masked[changed], mean[changed])
    assert torch.equal(spec_augment(clip, torch.Generator(), never), clip)


def test_loss_weighs_classes_and_hard_negatives_as_computed_by_hand() -> None:
    outputs = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, np.log(3.0)]])
    targets = torch.tensor([1, 0, 0])
    plain = [np.log(2), np.log(2), np.log(4)]
    assert clip_loss(outputs, targets).item() == pytest.approx(np.mean(plain))
    weighted = clip_loss(
        outputs,
        targets,
        clip_weights(
            targets,
            class_weights=(1.0, 4.0),
            is_hard_negative=torch.tensor([False, False, True]),
            hard_negative_weight=3.0,
        ),
    )
    expected = (4 * plain[0] + plain[1] + 3 * plain[2]) / 8
    assert weighted.item() == pytest.approx(expected)


def test_f1_equals_the_textbook_on_a_small_example() -> None:
    scores = f1_score(np.array([0.9, 0.4, 0.6, 0.2], np.float32), np.array([1, 1, 0, 0]))
    assert scores == pytest.approx({"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5})


def test_smoothing_is_the_mean_of_the_last_steps_with_zeros_before() -> None:
    np.testing.assert_allclose(smooth_probabilities(np.array([1, 0, 1, 1], np.float32), 2), [0.5, 0.5, 0.5, 1.0])
