"""Parity check 7: Python's and C's pipeline raise the same events on the same audio, in any chunking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewake.runtime.deployed import DeployedModel, Layer, Quantization
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.pipeline import PipelineParams, derive_quantizer
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.pipeline.reference import ReferencePipeline
from edgewake.runtime.simulator import IntegerModel

SECONDS = 1.2


def audio(seed):
    """Noise bursts, a sweep, silence and full scale: what makes a random model swing."""
    rng = np.random.default_rng(seed)
    n = int(SECONDS * 16000)
    time = np.arange(n) / 16000
    level = np.repeat(rng.choice([0, 30, 900, 12000, 60000], 12), -(-n // 12))[:n]
    sweep = 9000 * np.sin(2 * np.pi * (200 + 2500 * time) * time) * (rng.random() < 0.7)
    return np.clip(rng.standard_normal(n) * level + sweep, -32768, 32767).astype(np.int16)


def random_model(seed, width, kernels):
    rng = np.random.default_rng(seed)

    def activation(high):
        return Quantization(np.float32(high / 255), -128)

    def dense(name, out, inputs, *, relu, output):
        weight = rng.normal(0, 1 / np.sqrt(inputs), (out, inputs)).astype(np.float32)
        return Layer("conv1x1", name, output, weight, rng.normal(0, 0.1, out).astype(np.float32), relu)

    layers = [dense("stem", width, 120, relu=True, output=activation(20.0))]
    for index, kernel in enumerate(kernels):
        weight = rng.normal(0, 0.7, (kernel, width)).astype(np.float32)
        bias = rng.normal(0, 0.1, width).astype(np.float32)
        layers.append(Layer("depthwise", f"depth{index}", activation(20.0), weight, bias, relu=True))
        layers.append(dense(f"point{index}", width, width, relu=True, output=activation(20.0)))
    layers.append(dense("logit", 1, width, relu=False, output=Quantization(np.float32(0.05), 3)))
    return DeployedModel(tuple(layers), Quantization(np.float32(26 / 255), -128)).validate()


def cut(samples, sizes):
    """The samples in chunks whose sizes go round."""
    start, turn = 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        yield samples[start : start + size]
        start, turn = start + size, turn + 1


def run(pipeline, samples, sizes):
    return [step for chunk in cut(samples, sizes) for step in pipeline.process(chunk)]


chunks = st.lists(st.integers(1, 4000), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.sampled_from([8, 16]),
    kernels=st.lists(st.integers(2, 6), min_size=1, max_size=2),
    window=st.integers(1, 64),
    share=st.floats(0.05, 0.95),
    refractory=st.integers(0, 20),
    first=chunks,
    second=chunks,
)
def test_python_and_c_pipelines_raise_the_same_events_at_the_same_sample(
    *, seed, width, kernels, window, share, refractory, first, second
):
    deployed = random_model(seed, width, kernels)
    multiplier, shift = derive_quantizer(deployed.input.scale, deployed.input.zero_point)
    samples = audio(seed)

    def params(cutoff_sum):
        quantizer = multiplier, shift, deployed.input.zero_point
        return PipelineParams(*quantizer, window, cutoff_sum, refractory, deployed.output)

    # A cutoff inside the range of sums that this model reaches, so that events do occur.
    sums = [s.sum for s in NativePipeline(FrontendConfig(), params(1), IntegerModel(deployed).step).process(samples)]
    chosen = params(max(1, int(np.quantile(sums, share))))
    python = run(ReferencePipeline(FrontendConfig(), chosen, IntegerModel(deployed).step), samples, first)
    native = run(NativePipeline(FrontendConfig(), chosen, IntegerModel(deployed).step), samples, second)
    assert python == native
    assert any(step.detected for step in native)


def test_released_model_raises_the_same_events_in_any_chunking(repository: Path):
    from edgewake.runtime.detector import Detector

    folder = repository / "models" / "computer"
    samples = np.concatenate([audio(seed) for seed in range(4)])
    # A cutoff that the model passes now and then on this audio, so that there are events to compare.
    track = Detector(folder).probabilities(samples)
    assert track.max() > 0
    cutoff = float(max(np.quantile(track, 0.7), track[track > 0].min()))
    detector = Detector(folder, cutoff=cutoff)
    model = IntegerModel(DeployedModel.load(folder))
    reference = ReferencePipeline(
        detector.manifest.frontend_config,
        detector.params,
        model.step,
    )
    expected = [
        (step.sample_index / 16000, np.float32(step.sum / (65536 * detector.manifest.window)))
        for step in run(reference, samples, [1600])
        if step.detected
    ]
    assert len(expected) >= 2
    for sizes in ([len(samples)], [1, 7, 480, 33], [160]):
        detector.reset()
        found = [d for chunk in cut(samples, sizes) for d in detector.process(chunk)]
        assert [(d.time_s, np.float32(d.probability)) for d in found] == expected
