"""Events, rates, the cutoff rule and the DET curve are what their definitions say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.data.manifest import Entry
from edgewake.errors import EdgewakeError
from edgewake.evaluation.checkpoints import recording_figures
from edgewake.evaluation.cutoff import FAMILY_FACTOR, RECALL_SLACK, choose_cutoff
from edgewake.evaluation.rates import (
    det_curve,
    event_rate,
    figure_text,
    latency,
    plot_det,
    poisson_interval,
    recall,
    summarise,
)
from edgewake.evaluation.tracks import SplitTracks, Track, weighted_hits, weights
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.events import EventCounter, find_events, probabilities, probability_table, smooth

WINDOW = 5
OUTPUT = Quantization(np.float32(3 / 32), 0)


def stepwise_events(track, cutoff, refractory):
    """The rule in its plainest form: one step after the other."""
    found, last = [], None
    for step, value in enumerate(track):
        if value >= cutoff and (last is None or step - last >= refractory):
            found.append(step)
            last = step
    return found


def entry(kind="negative", **known):
    return Entry(path="a", kind=kind, label=int(kind == "positive"), split="val", seconds=1.0, **known)


def negative(values, seconds=None):
    track = np.asarray(values, np.float32)
    return Track(entry(), track, len(track) * 0.03 if seconds is None else seconds)


def positive(peak, group="", **known):
    return Track(entry("positive", **known), np.array([0, peak, 0], np.float32), 0.09, group)


@given(st.lists(st.integers(0, 20), max_size=200), st.integers(0, 21), st.integers(0, 40))
def test_events_equal_the_stepwise_rule(values, cutoff, refractory):
    track = np.asarray(values, np.int64)
    assert find_events(track, cutoff, refractory).tolist() == stepwise_events(values, cutoff, refractory)


@given(st.lists(st.integers(-128, 127), max_size=200), st.integers(1, 64), st.data())
def test_float_probabilities_and_integer_sums_raise_the_same_events(outputs, window, data):
    outputs = np.asarray(outputs, np.int8)
    sums = smooth(outputs, OUTPUT, window)
    cutoff_sum = data.draw(st.integers(1, 65535 * window) | st.sampled_from([*sums[sums > 0].tolist(), 1]))
    by_sum = find_events(sums, cutoff_sum, 7)
    by_probability = find_events(probabilities(outputs, OUTPUT, window), cutoff_sum / (65536 * window), 7)
    assert by_sum.tolist() == by_probability.tolist()


@given(st.lists(st.integers(-128, 127), max_size=100), st.integers(1, 64))
def test_smoothing_starts_from_zeros(outputs, window):
    steps = [int(probability_table(OUTPUT)[value + 128]) for value in outputs]
    expected = [sum(steps[max(0, i - window + 1) : i + 1]) for i in range(len(steps))]
    assert smooth(np.asarray(outputs, np.int8), OUTPUT, window).tolist() == expected


TRACKS = st.lists(st.lists(st.integers(0, 9), max_size=60), min_size=1, max_size=4)


def by_the_rule(tracks, cutoff, refractory):
    return sum(len(stepwise_events(track, np.float32(cutoff), refractory)) for track in tracks)


@given(TRACKS, st.integers(0, 12), st.integers(0, 20))
def test_the_lowest_cutoff_for_a_count_equals_that_of_a_scan(values, refractory, allowed):
    tracks = [np.asarray(track, np.float32) / 10 for track in values]
    counter = EventCounter(tracks, refractory)
    levels = np.unique(np.concatenate([np.zeros(1, np.float32), *tracks]))
    for level in levels[1:]:
        assert counter.count(level) == by_the_rule(tracks, level, refractory)
    # What lies between two values counts as the upper one does: the candidates are just above each value.
    candidates = np.nextafter(levels, np.float32(np.inf))
    scanned = next(c for c in candidates if by_the_rule(tracks, c, refractory) <= allowed)
    assert counter.lowest_cutoff(allowed + 0.7) == scanned
    # So is every higher one.
    assert all(by_the_rule(tracks, c, refractory) <= allowed for c in candidates[candidates >= scanned])


@given(TRACKS, st.integers(0, 12), st.integers(1, 30))
def test_a_height_is_the_highest_cutoff_with_so_many_events(values, refractory, rank):
    tracks = [np.asarray(track, np.float32) for track in values]
    height = EventCounter(tracks, refractory).height(rank)
    reached = [level for level in range(1, 10) if by_the_rule(tracks, level, refractory) >= rank]
    assert height == max(reached, default=0)


def test_two_peaks_within_the_refractory_time_are_one_event_wherever_blocks_would_end():
    """Maxima of blocks of 10 steps see two events, at steps 9 and 11; a board raises one."""
    track = np.zeros(40, np.float32)
    track[[9, 11, 30]] = [0.9, 0.8, 0.3]
    tracks = SplitTracks(
        {"clean": [positive(0.75)], "10db": [positive(0.75)]}, [negative(track, seconds=3600)], refractory_steps=10
    )
    assert tracks.events.count(0.8) == len(find_events(track, 0.8, 10)) == 1
    # One false accept an hour is allowed, so that the phrase at 0.75 is found.
    figures = recording_figures(tracks, 1.0)
    assert figures["recall_clean"] == 1.0
    assert figures["cutoff"] == np.nextafter(np.float32(0.3), np.float32(1))


def test_peaks_a_refractory_time_apart_are_all_counted():
    """Of 0.5, 0.9, 0.5, each 10 steps after the last, suppression of lower neighbours would leave one."""
    track = np.zeros(40, np.float32)
    track[[5, 15, 25]] = [0.5, 0.9, 0.5]
    assert EventCounter([track], 10).count(0.5) == len(find_events(track, 0.5, 10)) == 3


def test_figures_are_those_counted_by_hand():
    clean = [positive(0.9), *(positive(0.5) for _ in range(3))]
    noisy = [positive(0.7), *(positive(0.2) for _ in range(3))]
    heights = np.zeros(30, np.float32)
    heights[[0, 10, 20]] = [0.8, 0.6, 0.1]
    figures = recording_figures(SplitTracks({"clean": clean, "10db": noisy}, [negative(heights, 3600)], 10), 0.5)
    # None may pass at 0.5 an hour, which 0.8 would; two at 2, leaving 0.1; all at 8.
    assert figures["recall_clean"] == figures["recall_clean_at_0.5"] == pytest.approx(0.25)
    assert figures["recall_noisy"] == 0.0
    assert figures["cutoff"] == figures["cutoff_at_0.5"] == pytest.approx(0.8)
    assert figures["recall_clean_at_2"] == figures["recall_noisy_at_2"] == 1.0
    assert figures["cutoff_at_2"] == pytest.approx(0.1)
    assert figures["cutoff_at_8"] == pytest.approx(0, abs=1e-30)
    assert figures["recall_mean"] == pytest.approx((0.25 + 0 + 4) / 6)
    assert figures["score"] == pytest.approx((0.125 + 1 + 1) / 3 + 0.01 * np.log1p(0.2))
    assert (figures["recordings"], figures["hours"]) == (4.0, 1.0)


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
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_no_events_still_have_an_upper_limit():
    rate = event_rate(0, 2.0)
    assert rate["value"] == rate["low"] == 0
    assert rate["high"] == pytest.approx(3.688879 / 2, rel=1e-6)  # -ln(0.025), Garwood


def test_rates_without_data_have_no_value():
    assert recall(0, 0)["value"] is event_rate(0, 0)["value"] is None
    assert (figure_text(recall(0, 0)), figure_text(event_rate(0, 0))) == ("no recordings", "no audio")


def test_copies_of_one_recording_weigh_as_one():
    tracks = [positive(0.9), positive(0.9, group="d"), positive(0.1, group="d")]
    assert weights(tracks).tolist() == [1, 0.5, 0.5]
    assert weighted_hits(tracks, 0.5) == (1.5, 2)


def random_split(rng, count=6, steps=2000):
    quiet = [rng.integers(-128, -12, steps) for _ in range(count)]
    for track in quiet:
        for start in rng.integers(0, steps - 10, 6):
            track[start : start + 8] = rng.integers(-12, 23)
    negatives = [negative(probabilities(t.astype(np.int8), OUTPUT, WINDOW)) for t in quiet]
    return SplitTracks({"clean": [positive(p) for p in rng.uniform(0.8, 0.99, 40)], "10db": []}, negatives, 30)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", [0.5, 30.0, 120.0])
def test_chosen_cutoff_meets_the_target_on_validation(seed, target):
    tracks = random_split(np.random.default_rng(seed))
    chosen = choose_cutoff(tracks, target, window=WINDOW, lowest_recall=0)
    assert chosen.hours < 1
    assert chosen.events <= target * chosen.hours
    assert chosen.cutoff == np.float32(chosen.cutoff_sum / (65536 * WINDOW))
    # One sum below `counted` breaks the target: the rule is not stricter than it says.
    below = round(chosen.counted * 65536 * WINDOW) - 1
    assert tracks.events.count(below / (65536 * WINDOW)) > target * chosen.hours


def test_thin_validation_gets_a_margin_above_its_highest_peak():
    tracks = random_split(np.random.default_rng(1))
    tracks = replace(tracks, positives={"clean": [positive(0.9961)] * 40})
    chosen = choose_cutoff(tracks, 0.5, window=WINDOW, lowest_recall=0)
    assert chosen.bound_by == "tail"
    assert chosen.cutoff > chosen.counted


def test_the_margin_never_costs_more_recall_than_the_slack():
    tracks = random_split(np.random.default_rng(2))
    chosen = choose_cutoff(tracks, 0.5, window=WINDOW, lowest_recall=0)
    assert chosen.recall_before - chosen.recall_after <= RECALL_SLACK + 1e-9


def test_the_margin_leaves_the_least_recall_that_is_asked_for():
    tracks = random_split(np.random.default_rng(2))
    before = choose_cutoff(tracks, 0.5, window=WINDOW, lowest_recall=0).recall_before
    chosen = choose_cutoff(tracks, 0.5, window=WINDOW, lowest_recall=before)
    assert chosen.recall_after == before


def test_a_cutoff_that_most_recordings_of_the_phrase_miss_is_an_error_with_the_curve():
    loud = np.zeros(200, np.float32)
    loud[[0, 100]] = [0.999, 0.7]
    # At no false accept in 0.5 h the one recording in four that reaches 0.9995 is left; at 2 an hour all but one.
    clean = [positive(peak) for peak in (0.9995, 0.9, 0.8, 0.2)]
    tracks = SplitTracks({"clean": clean, "10db": []}, [negative(loud, 1800)], 30)
    with pytest.raises(EdgewakeError) as caught:
        choose_cutoff(tracks, 0.1, window=WINDOW)
    said = str(caught.value)
    assert "no usable cutoff for 0.1 false accepts an hour" in said
    assert "validation recall is 25.0%, below the 50% of evaluation.lowest_recall" in said
    assert "25.0% at 0.1, 25.0% at 0.5, 25.0% at 1, 75.0% at 2, 100.0% at 5, 100.0% at 10 false accepts" in said
    assert "0.50 h" in said
    assert choose_cutoff(tracks, 0.1, window=WINDOW, lowest_recall=0.25).recall_after == 0.25
    assert choose_cutoff(tracks, 2.0, window=WINDOW).recall_after == 0.75


def test_what_short_validation_allows_is_whole_events_and_its_bound_is_stated():
    loud = np.zeros(300, np.float32)
    loud[[0, 100, 200]] = [0.9, 0.7, 0.5]
    tracks = SplitTracks({"clean": [positive(0.7)] * 40, "10db": []}, [negative(loud, 3600 * 5)], 30)
    # 0.1 an hour in 5 h is half an event: one is allowed; 0.5 an hour allows two.
    assert choose_cutoff(tracks, 0.1, window=WINDOW, lowest_recall=0).counted == pytest.approx(0.7, abs=1e-5)
    assert choose_cutoff(tracks, 0.5, window=WINDOW).counted == pytest.approx(0.5, abs=1e-5)
    said = str(choose_cutoff(tracks, 0.5, window=WINDOW))
    assert "2 false accepts in 5.00 h (95 %: at most 1.44/h; families: 1, most in (no family): 2 in 5.00 h)" in said
    assert "few for a cutoff" not in said
    # Less than several hours: the line says what to add.
    fewer = SplitTracks(tracks.positives, [negative(loud, 3600 * 4.5)], 30)
    assert "4.50 h of validation without the phrase are few for a cutoff" in str(
        choose_cutoff(fewer, 0.5, window=WINDOW)
    )


FAMILIES = st.lists(st.tuples(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 200)), min_size=1, max_size=6)


def split_of_families(families, peaks=(1.0,)):
    """A family for each list of peaks, a second and more apart, and its tenths of hours."""
    negatives = []
    for number, (heights, tenths) in enumerate(families):
        track = np.zeros(40 * len(heights) + 1, np.float32)
        track[: 40 * len(heights) : 40] = np.asarray(heights, np.float32) / 50
        negatives.append(Track(entry(family=f"f{number}"), track, 360 * tenths))
    return SplitTracks({"clean": [positive(peak) for peak in peaks], "10db": []}, negatives, 30)


def counts_over_limits(tracks, cutoff, target):
    """Whether a family, or all short ones together, raises more than its limit; and events and hours by family."""
    found = {t.entry.family: (int((t.probabilities >= np.float32(cutoff)).sum()), t.seconds / 3600) for t in tracks}
    short = [each for each in found.values() if FAMILY_FACTOR * target * each[1] < 1]
    groups = [*found.values(), (sum(events for events, _ in short), sum(hours for _, hours in short))]
    return any(events > max(1, FAMILY_FACTOR * target * hours) for events, hours in groups), found


@given(FAMILIES, st.sampled_from([0.02, 0.1, 0.5, 2.0]))
def test_no_family_raises_more_than_its_limit_and_the_lowest_cutoff_for_that_is_taken(families, target):
    tracks = split_of_families(families)
    chosen = choose_cutoff(tracks, target, window=WINDOW, lowest_recall=0)
    over, found = counts_over_limits(tracks.negatives, chosen.cutoff, target)
    assert not over
    assert (chosen.events, chosen.families) == (sum(events for events, _ in found.values()), len(families))
    assert chosen.worst_events == max(events for events, _ in found.values())
    assert found[chosen.worst] == (chosen.worst_events, chosen.worst_hours)
    assert chosen.cutoff == np.float32(max(chosen.counted, chosen.tail, chosen.by_family))
    # One sum below it, a family is over its limit.
    below = (round(chosen.by_family * 65536 * WINDOW) - 1) / (65536 * WINDOW)
    assert below == 0 or counts_over_limits(tracks.negatives, below, target)[0]


@given(
    FAMILIES, st.lists(st.integers(1, 49), min_size=1, max_size=20), st.sampled_from([0.1, 0.5, 2.0]), st.floats(0, 1)
)
def test_no_family_costs_more_recall_than_the_slack_nor_recall_below_the_least(families, peaks, target, least):
    tracks = split_of_families(families, [peak / 50 for peak in peaks])
    if choose_cutoff(tracks, target, window=WINDOW, lowest_recall=0).recall_before < least - 1e-9:
        with pytest.raises(EdgewakeError, match="no usable cutoff"):
            choose_cutoff(tracks, target, window=WINDOW, lowest_recall=least)
        return
    chosen = choose_cutoff(tracks, target, window=WINDOW, lowest_recall=least)
    assert chosen.recall_before - chosen.recall_after <= RECALL_SLACK + 1e-9
    assert chosen.recall_after >= least - 1e-9
    if chosen.bound_by == "recall":
        assert chosen.cutoff < np.float32(max(chosen.tail, chosen.by_family))
    else:
        assert not counts_over_limits(tracks.negatives, chosen.cutoff, target)[0]


def test_easy_hours_do_not_pay_for_a_family_that_raises_most_events():
    # 40 h allow four events at 0.1 an hour, and 0.4 h of one family would raise them all.
    tracks = split_of_families([([40, 38, 36, 34, 32], 4), ([10], 396)], [0.99] * 20)
    chosen = choose_cutoff(tracks, 0.1, window=WINDOW)
    assert chosen.counted == pytest.approx(32 / 50, abs=1e-4)
    assert chosen.by_family == pytest.approx(38 / 50, abs=1e-4)
    assert (chosen.bound_by, chosen.cutoff) == ("family", np.float32(chosen.by_family))


def test_a_cutoff_without_negatives_is_refused():
    with pytest.raises(EdgewakeError, match="with and without the phrase"):
        choose_cutoff(SplitTracks({"clean": [positive(0.9)]}, [], 30), 0.5, window=WINDOW)


def test_det_points_equal_direct_counts():
    tracks = random_split(np.random.default_rng(3))
    positives, negatives = tracks.positives["clean"], tracks.negatives
    curve = det_curve(tracks, "clean")
    points = curve["points"]
    assert (np.diff([point["miss_rate"] for point in points]) >= 0).all()
    hours = sum(t.seconds for t in negatives) / 3600
    for point in (points[0], points[len(points) // 2], points[-1]):
        cutoff = point["cutoff"]
        missed = np.mean([p.peak < np.float32(cutoff) for p in positives])
        raised = sum(len(stepwise_events(t.probabilities, np.float32(cutoff), 30)) for t in negatives)
        assert point["miss_rate"] == pytest.approx(missed)
        assert point["fa_per_hour"] == pytest.approx(raised / hours)


def test_det_curve_is_written_as_json_and_png(tmp_path):
    pytest.importorskip("matplotlib")
    curve = det_curve(random_split(np.random.default_rng(4)), "clean")
    plot_det(curve, tmp_path / "det.png", title="test", chosen=0.8)
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(curve)) == curve


def test_summary_splits_false_accepts_by_kind_language_and_family():
    hit = np.array([0.9] + [0] * 10, np.float32)
    negatives = [
        Track(entry("negative", family="commands", language="en"), hit, 3600),
        Track(entry("negative", family="fish_cs", language="cs"), hit, 1800),
        Track(entry("noise", family="ambience", language=""), hit * 0, 3600),
        Track(entry("music", family="music_x", language=""), hit, 900),
    ]
    known = summarise(SplitTracks({"clean": [positive(0.9), positive(0.1, quality="suspect")]}, negatives, 30), 0.5)
    rates = known["fa_per_hour"]
    assert (rates["total"]["events"], rates["total"]["hours"]) == (3, 2.75)
    assert rates["speech_en"]["value"] == 1
    assert rates["speech_foreign"]["value"] == 2
    assert rates["noise"]["value"] == 0
    assert rates["music"]["value"] == 4
    assert rates["families"]["fish_cs"]["hours"] == 0.5
    assert known["recall"]["clean"]["all"]["total"] == 2
    assert known["recall"]["clean"]["without_suspect"]["value"] == 1


def test_summary_has_what_nearly_holds_the_phrase_apart_and_recall_by_family_and_speaker():
    hit, quiet = np.array([0.9, 0, 0], np.float32), np.zeros(3, np.float32)
    near = [
        Track(entry(family="near_x", phrase=text), track, 1) for text, track in (("a", hit), ("a", quiet), ("b", quiet))
    ]
    spoken = [
        positive(0.9, family="f", speaker="f/1"),
        positive(0.1, family="g", speaker="g/2"),
        positive(0.9, family="g"),
    ]
    found = summarise(SplitTracks({"clean": spoken}, [negative(quiet, 3600)], 30, near), 0.5)
    assert (found["fa_per_hour"]["total"]["events"], found["fa_per_hour"]["total"]["hours"]) == (0, 1)
    assert (found["near"]["total"]["hits"], found["near"]["total"]["total"]) == (1, 3)
    assert {text: each["value"] for text, each in found["near"]["phrases"].items()} == {"a": 0.5, "b": 0}
    assert {name: each["value"] for name, each in found["groups"]["family"]["clean"].items()} == {"f": 1, "g": 0.5}
    assert {name: each["value"] for name, each in found["groups"]["speaker"].items()} == {
        "f/1": 1,
        "g/2": 0,
        "unknown": 1,
    }


def test_latency_is_from_the_end_of_the_phrase_to_the_step_that_detects():
    def spoken(step, end):
        known = {} if end is None else {"phrase_start": 0.1, "phrase_end": end}
        values = np.zeros(40, np.float32)
        values[step:] = 0.9
        return Track(entry("positive", **known), values, 1.2)

    # A step lasts 30 ms and is known at its end: the 20th ends at 0.6 s.
    found = latency([spoken(19, 0.4), spoken(19, 0.5), spoken(19, None), spoken(40, 0.3)], 0.5, 0.03)
    assert found["recordings"] == 2
    assert found["median_s"] == pytest.approx(0.15)
    assert latency([spoken(19, None)], 0.5, 0.03) is None
