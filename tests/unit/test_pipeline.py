"""The C pipeline is the Python specification, for any parameters and chunking; the quantizer is exact."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewake.errors import AudioError, ConfigError, EdgewakeError
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.events import as_probability, find_events, probability_table, refractory_steps, smooth
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.pipeline import PipelineParams, Step, derive_quantizer, pipeline_params
from edgewake.runtime.pipeline.native import NativePipeline, pipeline_bytes, selftest_bytes
from edgewake.runtime.pipeline.params import FEATURES, quantize, sum_of_cutoff
from edgewake.runtime.pipeline.reference import ReferencePipeline, Smoother

CONFIG = FrontendConfig()
MULTIPLIER, SHIFT = derive_quantizer(np.float32(26 / 255), -128)
OUTPUT = Quantization(np.float32(3 / 32), 0)
PARAMS = PipelineParams(MULTIPLIER, SHIFT, -128, window=5, cutoff_sum=180_000, refractory_steps=4, output=OUTPUT)


class Remembering:
    """A model whose output depends on every feature that it ever saw."""

    def __init__(self) -> None:
        self.state = 7

    def __call__(self, step: npt.NDArray[np.int8]) -> int:
        self.state = hash((self.state, step.tobytes())) & 0xFFFF
        return (self.state >> 5) % 256 - 128


def noise(seed: int, samples: int) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.choice([0, 20, 800, 9000, 60000], -(-samples // 700)), 700)[:samples]
    return np.clip(rng.normal(0, 1, samples) * loudness, -32768, 32767).astype(np.int16)


# Quantizer

SCALES = st.one_of(
    st.floats(2.0**-12, 2.0**14, width=32),
    st.floats(0, float(np.finfo(np.float32).max), width=32, exclude_min=True),
    st.sampled_from([2.0**-149, 2.0**-126, 0.0390625, 0.078125, 0.15625, 26 / 255, 10.03, 3e38]),
)


@settings(max_examples=60)
@given(scale=SCALES, zero_point=st.integers(-128, 127))
@example(scale=0.078125, zero_point=-128)
@example(scale=float(np.float32(26 / 255)), zero_point=-128)
def test_quantizer_rounds_as_the_rational_number_does(scale: float, zero_point: int) -> None:
    multiplier, shift = derive_quantizer(np.float32(scale), zero_point)
    assert 0 <= multiplier < 2**32
    assert 1 <= shift <= 62
    got = quantize(np.arange(FEATURES, dtype=np.uint16), multiplier, shift, zero_point)
    ratio = Fraction(10, 256) / Fraction(float(np.float32(scale)))
    for feature in (*range(64), *range(64, FEATURES, 997), 32767, 32768, FEATURES - 1):
        exact = feature * ratio
        rounded = int(exact + Fraction(1, 2))  # toward zero, hence half away from zero for what is not negative
        assert got[feature] == min(max(rounded + zero_point, -128), 127), feature
    assert (np.diff(got.astype(np.int64)) >= 0).all()


def test_ties_go_away_from_zero() -> None:
    multiplier, shift = derive_quantizer(np.float32(0.078125), -128)
    got = quantize(np.arange(6, dtype=np.uint16), multiplier, shift, -128)
    assert got.tolist() == [-128, -127, -127, -126, -126, -125]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_quantization_is_refused(scale: float) -> None:
    with pytest.raises(EdgewakeError, match="scale"):
        derive_quantizer(np.float32(scale), 0)


@pytest.mark.parametrize("zero_point", [-129, 128])
def test_a_zero_point_outside_int8_is_refused(zero_point: int) -> None:
    with pytest.raises(EdgewakeError, match="zero point"):
        derive_quantizer(np.float32(0.1), zero_point)


# C equals Python


outputs = st.builds(Quantization, st.floats(2.0**-30, 2.0**30, width=32), st.integers(-128, 127))


@st.composite
def parameters(draw: st.DrawFn) -> tuple[FrontendConfig, PipelineParams]:
    config = FrontendConfig(
        step_ms=draw(st.sampled_from([10, 20, 30])),
        channels=draw(st.sampled_from([1, 8, 40])),
        noise_reduction=draw(st.booleans()),
        pcan=draw(st.booleans()),
    )
    zero_point = draw(st.integers(-128, 127))
    multiplier, shift = derive_quantizer(np.float32(draw(st.floats(2.0**-10, 5.0, width=32))), zero_point)
    window = draw(st.integers(1, 64))
    params = PipelineParams(
        multiplier,
        shift,
        zero_point,
        window,
        cutoff_sum=draw(st.integers(0, 65535 * window)),
        refractory_steps=draw(st.integers(0, 12)),
        output=draw(outputs),
        frames_per_step=draw(st.integers(1, 16)),
        channels=config.channels,
    )
    return config, params


@settings(max_examples=25)
@given(
    both=parameters(),
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 900), min_size=1, max_size=8).filter(any),
)
def test_c_pipeline_equals_the_specification_in_any_chunking(
    both: tuple[FrontendConfig, PipelineParams], seed: int, sizes: list[int]
) -> None:
    config, params = both
    samples = noise(seed, 9_000)
    expected = ReferencePipeline(config, params, Remembering()).process(samples)
    pipeline = NativePipeline(config, params, Remembering())
    got: list[Step] = []
    position, turn = 0, 0
    while position < len(samples):
        size = sizes[turn % len(sizes)]
        got += pipeline.process(samples[position : position + size])
        position, turn = position + size, turn + 1
    assert got == expected
    assert len(got) == config.frames(len(samples)) // params.frames_per_step


@settings(max_examples=60)
@given(
    logits=st.lists(st.integers(-128, 127), max_size=80),
    window=st.integers(1, 64),
    cutoff=st.integers(0, 65535 * 64),
    refractory=st.integers(0, 20),
)
def test_events_are_those_of_the_evaluation(logits: list[int], window: int, cutoff: int, refractory: int) -> None:
    smoother = Smoother(window, cutoff, refractory)
    pushed = [smoother.push(int(probability_table(OUTPUT)[logit + 128])) for logit in logits]
    sums = smooth(np.array(logits, np.int8), OUTPUT, window)
    assert [total for total, _ in pushed] == sums.tolist()
    events = [step for step, (_, detected) in enumerate(pushed) if detected]
    assert events == find_events(sums, cutoff, refractory).tolist()


def test_sample_index_of_step_s_is_when_its_last_frame_ends() -> None:
    steps = NativePipeline(CONFIG, PARAMS, Remembering()).process(noise(1, 16_000))
    assert [step.sample_index for step in steps] == [480 + 160 * (3 * s + 2) for s in range(len(steps))]


def test_model_gets_frames_oldest_first_and_keeps_its_copy() -> None:
    seen: list[npt.NDArray[np.int8]] = []

    def infer(step: npt.NDArray[np.int8]) -> int:
        seen.append(step)
        return 0

    samples = noise(2, 8_000)
    NativePipeline(CONFIG, PARAMS, infer).process(samples)
    from edgewake.runtime.frontend import features

    frames = quantize(features(samples, CONFIG), MULTIPLIER, SHIFT, -128)
    whole = len(frames) // 3
    assert np.array_equal(np.stack(seen), frames[: 3 * whole].reshape(whole, 120))


def test_reset_restores_the_first_state() -> None:
    samples = noise(3, 20_000)
    pipeline = NativePipeline(CONFIG, PARAMS, lambda step: int(step[5]))
    first = pipeline.process(samples)
    pipeline.reset()
    assert pipeline.process(samples) == first


def test_two_pipelines_share_no_state() -> None:
    one, two = (NativePipeline(CONFIG, PARAMS, lambda step: int(step[9])) for _ in range(2))
    samples, other = noise(4, 9_000), noise(5, 9_000)
    mixed: list[Step] = []
    for start in range(0, 9_000, 300):
        mixed += one.process(samples[start : start + 300])
        two.process(other[start : start + 300])
    assert mixed == NativePipeline(CONFIG, PARAMS, lambda step: int(step[9])).process(samples)


# Failures


class TooLoudError(Exception):
    """What a model of a test raises."""


def test_exceptions_of_the_model_come_through_and_stop_the_pipeline() -> None:
    calls = 0

    def infer(_: npt.NDArray[np.int8]) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise TooLoudError("at step 3")
        return 0

    pipeline = NativePipeline(CONFIG, PARAMS, infer)
    with pytest.raises(TooLoudError, match="at step 3"):
        pipeline.process(noise(6, 16_000))
    with pytest.raises(EdgewakeError, match="reset"):
        pipeline.process(noise(6, 16_000))
    pipeline.reset()
    assert len(pipeline.process(noise(6, 16_000))) == 32


@pytest.mark.parametrize("output", [-129, 128, 1000])
def test_a_model_output_outside_int8_is_refused(output: int) -> None:
    with pytest.raises(EdgewakeError, match="int8"):
        NativePipeline(CONFIG, PARAMS, lambda _: output).process(noise(7, 4_000))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 0),
        ("window", 65),
        ("shift", 0),
        ("shift", 63),
        ("zero_point", 128),
        ("frames_per_step", 17),
    ],
)
def test_parameters_out_of_range_are_named(name: str, value: int) -> None:
    values = {**vars(PARAMS), name: value}
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        PipelineParams(**values)


@pytest.mark.parametrize("kind", [NativePipeline, ReferencePipeline])
def test_a_frontend_with_other_channels_is_refused(
    kind: type[NativePipeline] | type[ReferencePipeline],
) -> None:
    with pytest.raises(EdgewakeError, match="40 features a frame, the frontend gives 32"):
        kind(FrontendConfig(channels=32), PARAMS, Remembering())


def test_samples_that_are_not_int16_are_refused() -> None:
    with pytest.raises(AudioError, match="float64"):
        NativePipeline(CONFIG, PARAMS, Remembering()).process(np.zeros(10))  # type: ignore[arg-type]


def test_self_test_needs_a_pipeline_and_one_frame() -> None:
    assert 0 < selftest_bytes(CONFIG, PARAMS) - pipeline_bytes(CONFIG, PARAMS) < 2 * 40 + 32


@given(value=st.integers(0, 65535 * 5))
def test_cutoff_is_the_sum_over_the_window(value: int) -> None:
    assert PipelineParams(1, 1, 0, 5, value, 0, OUTPUT).cutoff == value / (5 * 65536)


@given(window=st.integers(1, 64), data=st.data())
def test_a_cutoff_that_was_rounded_to_float32_finds_its_own_sum_again(window: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 65535 * window))
    assert sum_of_cutoff(total / (65536 * window), window) == total
    assert sum_of_cutoff(float(as_probability(total, window)), window) == total
    # One that lies between two sums is reached by the upper one.
    assert sum_of_cutoff((total - 0.4) / (65536 * window), window) == total


@settings(max_examples=300)
@given(output=outputs)
@example(output=OUTPUT)
def test_the_table_of_probabilities_rises_with_the_logit_and_is_that_of_the_formula(output: Quantization) -> None:
    table = probability_table(output)
    assert (table.shape, table.dtype) == ((256,), np.dtype(np.uint16))
    assert (np.diff(table.astype(np.int64)) >= 0).all()
    for level in range(-128, 128):
        logit = float(output.scale) * (level - output.zero_point)
        exact = 65536 / (1 + math.exp(-logit)) if logit > -700 else 0.0
        assert abs(int(table[level + 128]) - min(exact, 65535)) <= 0.5 + 1e-9, level


def test_logits_that_an_int8_probability_would_not_tell_apart_are_told_apart() -> None:
    """Of 8 bits, a probability ends at 255/256, from logit 5.5 on."""
    table = probability_table(OUTPUT)
    logits = (np.arange(-128, 128) - OUTPUT.zero_point) * float(OUTPUT.scale)
    confident = table[(logits >= 6) & (logits <= 10)].astype(np.int64)
    assert len(np.unique(np.minimum(confident // 256, 255))) == 1
    assert len(confident) > 40
    assert (np.diff(confident[:27]) >= 1).all()
    low, high = (int(np.argmin(abs(logits - value))) - 128 for value in (6.5, 7.5))
    smoother = Smoother(1, int(table[high + 128]), 0)
    assert [smoother.push(int(table[level + 128]))[1] for level in (low, high)] == [False, True]


def test_the_c_pipeline_gives_the_entry_of_the_table_for_every_logit() -> None:
    every = iter(range(-128, 128))
    params = replace(PARAMS, window=1, refractory_steps=0, cutoff_sum=int(probability_table(OUTPUT)[200]))
    steps = NativePipeline(CONFIG, params, lambda _: next(every)).process(noise(8, 480 + 160 * (3 * 256 - 1)))
    assert [step.output for step in steps] == list(range(-128, 128))
    assert [step.sum for step in steps] == probability_table(OUTPUT).tolist()
    assert next(step.output for step in steps if step.detected) == 72


@pytest.mark.parametrize(
    ("seconds", "step_s", "steps"),
    [
        (1.5, 0.03, 50),
        (0.3, 0.03, 10),
        (0.301, 0.03, 11),
        (1.0, 0.03, 34),
        (0.2, 0.03, 7),
        (0, 0.03, 1),
        (1.0, 0.1, 10),
    ],
)
def test_refractory_time_is_rounded_up_whatever_float64_makes_of_the_ratio(
    seconds: float, step_s: float, steps: int
) -> None:
    assert refractory_steps(seconds, step_s) == steps


@given(st.integers(1, 5000), st.integers(1, 16))
def test_a_whole_number_of_steps_stays_that_number(steps: int, frames: int) -> None:
    step_s = frames * 10 / 1000
    assert refractory_steps(steps * step_s, step_s) == refractory_steps(round(steps * step_s, 2), step_s) == steps


SETTINGS: dict[str, Any] = {"window": 5, "cutoff_sum": 230_000, "refractory_s": 0.2}
INPUT = Quantization(np.float32(26 / 255), -128)


def test_stored_steps_count_and_seconds_are_rounded_only_without_them() -> None:
    assert pipeline_params(INPUT, OUTPUT, SETTINGS, CONFIG, 3).refractory_steps == 7
    assert pipeline_params(INPUT, OUTPUT, SETTINGS | {"refractory_steps": 6}, CONFIG, 3).refractory_steps == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": "four"}, "window = 'four'"),
        ({"window": 4.5}, "window = 4.5"),
        ({"cutoff_sum": True}, "cutoff_sum = True"),
        ({"refractory_s": -3}, "refractory_s = -3"),
        ({"refractory_s": math.nan}, "refractory_s = nan"),
        ({"refractory_s": None}, "refractory_s = None"),
        ({"refractory_steps": -1}, "refractory_steps = -1"),
    ],
)
def test_settings_of_the_wrong_kind_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgewakeError, match=message):
        pipeline_params(INPUT, OUTPUT, SETTINGS | change, CONFIG, 3)
