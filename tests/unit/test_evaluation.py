"""Events, rates, the cutoff rule and the DET curve are what their definitions say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.errors import EdgewakeError
from edgewake.evaluation.cutoff import choose_cutoff
from edgewake.evaluation.det import det_curve, plot_det
from edgewake.evaluation.metrics import measured_recall, summarise
from edgewake.evaluation.rates import event_rate, poisson_interval, recall
from edgewake.evaluation.tracks import Track, count_events, weights
from edgewake.runtime.events import find_events, peaks, probabilities, smooth

WINDOW = 5


def stepwise_events(track, cutoff, refractory):
    """The rule in its plainest form: one step after the other."""
    found, last = [], None
    for step, value in enumerate(track):
        if value >= cutoff and (last is None or step - last >= refractory):
            found.append(step)
            last = step
    return found


def negative(values, seconds=None, **known):
    track = np.asarray(values, np.float32)
    return Track("n", "negative", track, len(track) * 0.03 if seconds is None else seconds, **known)


def positive(peak, **known):
    return Track("p", "positive", np.array([0, peak, 0], np.float32), 0.09, **known)


@given(st.lists(st.integers(0, 20), max_size=200), st.integers(0, 21), st.integers(0, 40))
def test_events_equal_the_stepwise_rule(values, cutoff, refractory):
    track = np.asarray(values, np.int64)
    assert find_events(track, cutoff, refractory).tolist() == stepwise_events(values, cutoff, refractory)


@given(st.lists(st.integers(-128, 127), max_size=200), st.integers(1, 64), st.data())
def test_float_probabilities_and_integer_sums_raise_the_same_events(outputs, window, data):
    outputs = np.asarray(outputs, np.int8)
    sums = smooth(outputs, window)
    cutoff_sum = data.draw(st.integers(1, 255 * window))
    by_sum = find_events(sums, cutoff_sum, 7)
    by_probability = find_events(probabilities(outputs, window), cutoff_sum / (256 * window), 7)
    assert by_sum.tolist() == by_probability.tolist()


@given(st.lists(st.integers(-128, 127), max_size=100), st.integers(1, 64))
def test_smoothing_starts_from_zeros(outputs, window):
    lifted = [value + 128 for value in outputs]
    expected = [sum(lifted[max(0, i - window + 1) : i + 1]) for i in range(len(lifted))]
    assert smooth(np.asarray(outputs, np.int8), window).tolist() == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=150), st.integers(1, 12))
def test_a_cutoff_at_the_nth_peak_raises_at_least_n_events(values, refractory):
    track = np.asarray(values, np.int64)
    heights = np.sort(peaks(track, refractory))[::-1]
    assert heights[0] == track.max()
    for n, height in enumerate(heights, start=1):
        assert len(find_events(track, height, refractory)) >= n


def test_events_of_two_dimensions_are_refused():
    with pytest.raises(EdgewakeError, match="one recording at a time"):
        find_events(np.zeros((2, 3)), 0.5, 1)


@given(st.integers(0, 400), st.floats(0.5, 0.999))
@settings(max_examples=60, deadline=None)
def test_poisson_interval_equals_garwood_by_chi_square(events, confidence):
    stats = pytest.importorskip("scipy.stats")
    tail = (1 - confidence) / 2
    low, high = poisson_interval(events, confidence)
    expected = 0.0 if events == 0 else stats.chi2.ppf(tail, 2 * events) / 2
    assert low == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert high == pytest.approx(stats.chi2.ppf(1 - tail, 2 * events + 2) / 2, rel=1e-7)


@given(st.integers(1, 500), st.data())
@settings(max_examples=60, deadline=None)
def test_recall_interval_equals_wilson_by_scipy(total, data):
    stats = pytest.importorskip("scipy.stats")
    hits = data.draw(st.integers(0, total))
    ours = recall(hits, total)
    theirs = stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_no_events_still_have_an_upper_limit():
    rate = event_rate(0, 2.0)
    assert rate.value == 0
    assert rate.low == 0
    assert rate.high == pytest.approx(3.688879 / 2, rel=1e-6)  # -ln(0.025), Garwood


def test_rates_without_data_have_no_value():
    assert recall(0, 0).value is None
    assert event_rate(0, 0).value is None
    assert str(recall(0, 0)) == "no recordings"


@pytest.mark.parametrize(("hits", "total"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(hits, total):
    with pytest.raises(EdgewakeError, match=r"hits must lie in"):
        recall(hits, total)


def test_copies_of_one_recording_weigh_as_one():
    tracks = [positive(0.9), positive(0.9, duplicate_group="d"), positive(0.1, duplicate_group="d")]
    assert weights(tracks).tolist() == [1, 0.5, 0.5]
    assert (measured_recall(tracks, 0.5).hits, measured_recall(tracks, 0.5).total) == (1.5, 2)


def random_split(rng, count=6, steps=2000):
    quiet = [rng.integers(0, 60, steps) for _ in range(count)]
    for track in quiet:
        for start in rng.integers(0, steps - 10, 6):
            track[start : start + 8] = rng.integers(60, 230)
    negatives = [negative(probabilities((t - 128).astype(np.int8), WINDOW)) for t in quiet]
    return [positive(p) for p in rng.uniform(0.8, 0.99, 40)], negatives


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", [0.5, 30.0, 120.0])
def test_chosen_cutoff_meets_the_target_on_validation(seed, target):
    positives, negatives = random_split(np.random.default_rng(seed))
    chosen = choose_cutoff(positives, negatives, target, window=WINDOW, refractory_steps=30)
    assert chosen.events / chosen.hours <= target
    assert chosen.cutoff == np.float32(chosen.cutoff_sum / (256 * WINDOW))
    # One sum below `counted` breaks the target: the rule is not stricter than it says.
    below = round(chosen.counted * 256 * WINDOW) - 1
    assert count_events(negatives, below / (256 * WINDOW), 30) / chosen.hours > target


def test_thin_validation_gets_a_margin_above_its_highest_peak():
    rng = np.random.default_rng(1)
    positives, negatives = random_split(rng)
    positives = [positive(0.9961) for _ in positives]
    chosen = choose_cutoff(positives, negatives, 0.5, window=WINDOW, refractory_steps=30)
    assert chosen.bound_by == "tail"
    assert chosen.cutoff > chosen.counted


def test_the_margin_never_costs_more_recall_than_the_slack():
    positives, negatives = random_split(np.random.default_rng(2))
    chosen = choose_cutoff(positives, negatives, 0.5, window=WINDOW, refractory_steps=30, recall_slack=0.05)
    assert chosen.recall_before - chosen.recall_after <= 0.05 + 1e-9


def test_a_cutoff_without_negatives_is_refused():
    with pytest.raises(EdgewakeError, match="with and without the phrase"):
        choose_cutoff([positive(0.9)], [], 0.5, window=WINDOW, refractory_steps=30)


def test_det_points_equal_direct_counts():
    positives, negatives = random_split(np.random.default_rng(3))
    curve = det_curve(positives, negatives, 30)
    assert (np.diff(curve.miss_rate) >= 0).all()
    hours = sum(t.seconds for t in negatives) / 3600
    for at in (0, len(curve.cutoffs) // 2, -1):
        cutoff = curve.cutoffs[at]
        missed = np.mean([p.peak < np.float32(cutoff) for p in positives])
        raised = sum(len(stepwise_events(t.probabilities, np.float32(cutoff), 30)) for t in negatives)
        assert curve.miss_rate[at] == pytest.approx(missed)
        assert curve.fa_per_hour[at] == pytest.approx(raised / hours)


def test_det_curve_is_written_as_json_and_png(tmp_path):
    pytest.importorskip("matplotlib")
    curve = det_curve(*random_split(np.random.default_rng(4)), 30)
    plot_det(curve, tmp_path / "det.png", title="test", chosen=0.8)
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(curve.json()))["points"][0]["cutoff"] == pytest.approx(curve.cutoffs[0])


def test_summary_splits_false_accepts_by_kind_language_and_family():
    hit = np.array([0.9] + [0] * 10, np.float32)
    negatives = [
        Track("a", "negative", hit, 3600, "commands", "en"),
        Track("b", "negative", hit, 1800, "fish_cs", "cs"),
        Track("c", "noise", hit * 0, 3600, "ambience", ""),
        Track("d", "music", hit, 900, "music_x", ""),
    ]
    known = summarise({"clean": [positive(0.9), positive(0.1, suspect=True)]}, negatives, 0.5, 30)
    rates = known["fa_per_hour"]
    assert (rates["total"]["events"], rates["total"]["hours"]) == (3, 2.75)
    assert rates["speech_en"]["value"] == 1
    assert rates["speech_foreign"]["value"] == 2
    assert rates["noise"]["value"] == 0
    assert rates["music"]["value"] == 4
    assert rates["wide_band"]["events"] == 1
    assert rates["families"]["fish_cs"]["hours"] == 0.5
    assert known["recall"]["clean"]["all"]["total"] == 2
    assert known["recall"]["clean"]["without_suspect"]["value"] == 1
