"""Each parity check compares two computations that must agree, and reports how much was compared and what differed.

Checks 2 and 8 need a compiler for the board or the board itself: tests/firmware and the firmware's self-test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake import models
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import probabilities, smooth_probabilities
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, features_batch
from edgewake.runtime.frontend.native import NativeFrontend
from edgewake.runtime.frontend.reference import ReferenceFrontend
from edgewake.runtime.integers import integer_layers
from edgewake.runtime.network.compiled import CompiledModel, CompiledNetwork, compiler
from edgewake.runtime.pipeline import PipelineParams
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.pipeline.reference import ReferencePipeline
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.streaming import affine, windowed_tflite
from edgewake.runtime.tflite_file import Affine, Tensor, read_tflite
from edgewake.runtime.tflm import TflmModel

Samples = npt.NDArray[np.int16]
Features = npt.NDArray[np.uint16]
Int8Array = npt.NDArray[np.int8]

RANDOM_STEPS = 300
RATE = 16000
FULL_SCALE = 32767
# Of check 6: what the roundings of sums may cost, about twice of what trained and random networks show (0.5 LSB on
# average, 3 LSB at most, 1.4 % of decisions). A dropped channel, scale or bias shows 10 to 100 LSB.
MEAN_LSB, LARGEST_LSB, DECISIONS = 1.0, 6.0, 0.02


@dataclass(frozen=True)
class CheckResult:
    """What one comparison found: of `compared` values, `differences` differ, by `max_difference` at most.

    Attributes:
        check: number of the parity check.
        name: what is compared with what.
        ok: nothing differs or, where the check has bounds, differences are within them.
        detail: what the values are and their unit, and the first difference.
        bounded: differences within stated bounds are allowed.
    """

    check: int
    name: str
    compared: int
    differences: int
    max_difference: float
    ok: bool
    detail: str
    bounded: bool = False

    @property
    def verdict(self) -> str:
        """ "equal", "within bounds" or "differs"."""
        return "differs" if not self.ok else "within bounds" if self.bounded else "equal"


class _Tally:
    """Counts values and differences of pairs of arrays, and remembers the first difference."""

    def __init__(self) -> None:
        self.compared = self.differences = 0
        self.largest = 0.0
        self.first = ""

    def add(self, name: str, left: npt.ArrayLike, right: npt.ArrayLike) -> None:
        """Compare two arrays; different lengths differ in every value that one of them lacks."""
        one, two = np.asarray(left, np.float64).ravel(), np.asarray(right, np.float64).ravel()
        common = min(len(one), len(two))
        missing = abs(len(one) - len(two))
        gap = np.abs(one[:common] - two[:common])
        wrong = np.flatnonzero(one[:common] != two[:common])
        self.compared += common + missing
        self.differences += len(wrong) + missing
        if missing:
            self.largest = math.inf
            self.first = self.first or f"{name}: {len(one)} values against {len(two)}"
        if len(wrong):
            self.largest = max(self.largest, float(gap.max()))
            at = int(wrong[0])
            self.first = self.first or f"{name}[{at}]: {one[at]:g} against {two[at]:g}"

    def result(self, check: int, name: str, what: str) -> CheckResult:
        """The check's result; nothing compared is not ok."""
        ok = self.compared > 0 and self.differences == 0
        detail = f"{what}; first difference: {self.first}" if self.first else what
        return CheckResult(check, name, self.compared, self.differences, self.largest, ok, detail)


def check_1(config: FrontendConfig, recordings: Sequence[Samples]) -> list[CheckResult]:
    """Check 1: the numpy frontend against the C one in random chunks, and against pymicro-features.

    The second comparison is there when that package is installed and the configuration is its own. Recordings are
    int16 at the frontend's rate.
    """
    others: dict[str, Callable[[Samples], npt.NDArray[Any]]]
    others = {"numpy frontend": lambda samples: ReferenceFrontend(config).process(samples)}
    if find_spec("pymicro_features") and config == FrontendConfig():
        others["pymicro-features"] = _pymicro
    tallies = {name: _Tally() for name in others}
    for index, samples in enumerate(recordings):
        native = NativeFrontend(config)
        streamed = [native.process(part) for part in chunks(samples, index)]
        found = np.concatenate([np.zeros((0, config.channels), np.uint16), *streamed])
        for name, tally in tallies.items():
            tally.add(f"signal {index}", others[name](samples), found)
    what = f"features of {len(recordings)} signals, in units of a feature"
    return [tally.result(1, f"{name} = C frontend", what) for name, tally in tallies.items()]


def _pymicro(samples: Samples) -> npt.NDArray[np.int64]:
    from pymicro_features import MicroFrontend

    frontend, data, step = MicroFrontend(), samples.astype("<i2").tobytes(), 2 * FrontendConfig().step_samples
    made = [frontend.process_samples(data[start : start + step]) for start in range(0, len(data) - step + 1, step)]
    frames = [np.rint(np.array(part.features) / FEATURE_SCALE) for part in made if part.features]
    return np.array(frames, np.int64)


def learned_scales(model: DeployedModel) -> dict[str, Affine]:
    """What every tensor must have: "features", LAYER, LAYER/weight and LAYER/bias."""
    scales = {"features": affine(model.input)}
    for numbers in integer_layers(model):
        name = numbers.layer.name
        scales[name] = affine(numbers.layer.output)
        if numbers.weight_scale is not None:
            zeros = np.zeros(numbers.weight_scale.size, np.int64)
            scales[f"{name}/weight"], scales[f"{name}/bias"] = (
                Affine(scale, zeros) for scale in (numbers.weight_scale, numbers.bias_scale)
            )
    return scales


def stored_scales(data: bytes) -> dict[str, Affine]:
    """What a .tflite's main graph holds, under the same names; tensors without a scale are left out.

    Activations go by their own name; weights and biases by the layer whose operator takes them, so that
    it does not matter whether a file names them.
    """
    graph = read_tflite(data)[0]
    named: dict[str, Tensor] = {tensor.name: tensor for tensor in graph.tensors if tensor.name}
    for operator in graph.operators:
        if len(operator.inputs) == 3 and (layer := graph.tensors[operator.outputs[0]].name):
            named |= {f"{layer}/{role}": graph.tensors[operator.inputs[i]] for i, role in ((1, "weight"), (2, "bias"))}
    return {name: tensor.quantization for name, tensor in named.items() if tensor.quantization is not None}


def check_3(model: DeployedModel, tflite: bytes, name: str = "streaming") -> CheckResult:
    """Check 3: every scale and zero point that training learned against those read back from a .tflite, exactly.

    A scale that the file leaves out (biases of the streaming model) is not compared, as no kernel reads it.
    """
    wanted, found = learned_scales(model), stored_scales(tflite)
    tally = _Tally()
    for tensor, scale in wanted.items():
        stored = found.get(tensor)
        if stored is not None:
            tally.add(f"{tensor} scale", scale.scale, stored.scale)
            tally.add(f"{tensor} zero point", scale.zero_point, stored.zero_point)
        elif not tensor.endswith("/bias"):
            tally.add(tensor, scale.scale, ())
    return tally.result(3, f"learned scales = {name} .tflite", "scales and zero points, float32")


def check_4(model: DeployedModel, streaming: bytes, features: Sequence[Features], seed: int = 0) -> CheckResult:
    """Check 4: the integer simulator against TFLM from reset on, on given features and on random bytes."""
    tally = _Tally()
    integer = IntegerModel(model)
    for index, steps in enumerate(_inputs(model, features, seed)):
        tally.add(f"input {index}, step", integer.windowed(steps), TflmModel(streaming).run(steps))
    return tally.result(4, "integer simulator = TFLM", "int8 logits, in LSB")


def check_4_c(model: DeployedModel, streaming: bytes, features: Sequence[Features], seed: int = 0) -> CheckResult:
    """Check 4 of the second backend: the integer simulator against the C that is generated from the .tflite."""
    tally, integer, generated = _Tally(), IntegerModel(model), CompiledModel(CompiledNetwork(streaming))
    for index, steps in enumerate(_inputs(model, features, seed)):
        tally.add(f"input {index}, step", integer.windowed(steps), generated.windowed(steps))
    return tally.result(4, "integer simulator = generated C", "int8 logits, in LSB")


def check_5(
    model: DeployedModel, streaming: bytes, windowed: bytes, features: Sequence[Features], seed: int = 0
) -> CheckResult:
    """Check 5, in TFLM: the windowed model slid over silence and the input, the streaming one from reset."""
    tally = _Tally()
    window = TflmModel(windowed)
    silence = np.full((window.steps - 1, model.input_width), model.input.zero_point, np.int8)
    outputs = window.steps - model.receptive_field_steps + 1
    for index, steps in enumerate(_inputs(model, features, seed)):
        whole = np.concatenate([silence, steps])
        slid = np.empty(len(steps) + outputs - 1, np.int8)
        for start in (*range(0, len(steps), outputs), len(steps) - 1):
            slid[start : start + outputs] = window.invoke(whole[start : start + window.steps])
        tally.add(f"input {index}, step", slid[outputs - 1 :], TflmModel(streaming).run(steps))
    return tally.result(5, "windowed = streaming", "int8 logits, in LSB")


def _inputs(model: DeployedModel, features: Sequence[Features], seed: int) -> list[Int8Array]:
    noise = np.random.default_rng(seed).integers(-128, 128, (RANDOM_STEPS, model.input_width), dtype=np.int8)
    given = (model_input(model, recording) for recording in features)
    return [*(steps for steps in given if len(steps)), noise]


def check_6(model: DeployedModel, features: Sequence[Features], params: PipelineParams) -> CheckResult:
    """Check 6: the trained network in torch, with its own fake quantization, against the int8 model.

    Both round weights and activations alike; int8 also rounds the sums. On average over all steps the logits
    may differ by 1 LSB, at one step by 6, and 2 % of the steps may be on another side of the cutoff.

    `model` is the deploy form of a tiny_conv; `params` give window and cutoff.
    """
    import torch

    student, integer = models.TinyConv.from_deployed(model), IntegerModel(model)
    logit = model.layers[-1]
    gaps, decisions = [np.zeros(0)], [np.zeros((2, 0), np.bool_)]
    for recording in features:
        values = integer.activations(model_input(model, recording))
        if not values:
            continue
        with torch.no_grad():
            real = torch.from_numpy(recording.astype(np.float32) * np.float32(FEATURE_SCALE))
            trained = student.step_logits(real[None], silence_before=True)[0].double().numpy()
        level = values[logit.name][:, 0].astype(np.float64) - logit.output.zero_point
        gaps.append(np.abs(level - trained / float(logit.output.scale)))
        tracks = (
            smooth_probabilities(1 / (1 + np.exp(-trained)), params.window),
            probabilities(values[logit.name][:, 0], logit.output, params.window),
        )
        decisions.append(np.array([track >= np.float32(params.cutoff) for track in tracks]))
    gap, decided = np.concatenate(gaps), np.concatenate(decisions, axis=1)
    count, differ = len(gap), int((decided[0] != decided[1]).sum())
    mean, largest = (float(gap.mean()), float(gap.max())) if count else (0.0, 0.0)
    ok = count > 0 and mean <= MEAN_LSB and largest <= LARGEST_LSB and differ <= DECISIONS * count
    detail = (
        f"decisions of steps, of which {DECISIONS:.0%} may differ; logits differ by {mean:.2f} LSB on average "
        f"({MEAN_LSB:g} allowed) and {largest:.2f} at most ({LARGEST_LSB:g} allowed)"
    )
    return CheckResult(6, "trained network in torch ~ int8 model", count, differ, largest, ok, detail, bounded=True)


def check_7(
    model: DeployedModel,
    streaming: bytes,
    params: PipelineParams,
    config: FrontendConfig,
    recordings: Sequence[Samples],
) -> CheckResult:
    """Check 7: Python's pipeline with the simulator against C's with TFLM, the latter in random chunks.

    Every step is compared: sum, event, sample index and output. Each recording runs with the given cutoff,
    and with its own median as cutoff, so that events occur whatever the model.
    """
    tally, events = _Tally(), 0
    for index, samples in enumerate(recordings):
        sums = [step.sum for step in ReferencePipeline(config, params, IntegerModel(model).step).process(samples)]
        for setting in (params, replace(params, cutoff_sum=int(np.median(sums)) if sums else 0)):
            left = ReferencePipeline(config, setting, IntegerModel(model).step).process(samples)
            pipeline = NativePipeline(config, setting, TflmModel(streaming).step)
            right = [step for part in chunks(samples, index) for step in pipeline.process(part)]
            tally.add(f"recording {index}", [astuple(step) for step in left], [astuple(step) for step in right])
            events += sum(step.detected for step in left)
    what = f"steps' sums, events, sample indices and outputs; {events} events"
    return tally.result(7, "Python pipeline = C pipeline", what)


def run_checks(
    model: DeployedModel,
    streaming: bytes,
    params: PipelineParams,
    config: FrontendConfig,
    *,
    windowed: bytes | None = None,
    features: Sequence[Features] = (),
) -> list[CheckResult]:
    """Checks 1, 3, 4, 5, 6 (where torch is installed) and 7, on test signals and on given recordings.

    Check 4 is of the generated C too, where there is a C compiler.

    Args:
        model: the deploy form that `streaming`, the .tflite of the board, was converted from.
        windowed: the windowed .tflite of the conversion; None builds it without converters.
        features: of further recordings, (frames, channels) uint16.

    Returns:
        A result for each comparison; it is for the caller to refuse one that is not ok.
    """
    recordings = list(signals().values())
    features = [*features_batch(recordings, config), *features]
    windowed = windowed or windowed_tflite(model)
    return [
        *check_1(config, recordings),
        check_3(model, windowed, "windowed"),
        check_3(model, streaming, "streaming"),
        check_4(model, streaming, features),
        *([check_4_c(model, streaming, features)] if compiler() else []),
        check_5(model, streaming, windowed, features),
        *([check_6(model, features, params)] if find_spec("torch") else []),
        check_7(model, streaming, params, config, recordings),
    ]


def signals(seed: int = 0, seconds: float = 1.0) -> dict[str, Samples]:
    """Named int16 signals at 16 kHz, each of `seconds`; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    time = np.arange(count) / RATE
    noise = rng.standard_normal(count)
    syllables = np.clip(np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6)), 0, 1)
    formants = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(200, 3500, 4))
    clicks = np.zeros(count)
    clicks[rng.integers(0, count, 12)] = rng.choice([-1, 1], 12)
    shapes = {
        "silence": np.zeros(count),
        "constant": np.full(count, 0.2),
        "hiss": noise * 1e-4,
        "noise": noise * 0.1,
        "clipped noise": noise,
        "square": np.sign(np.sin(2 * np.pi * 440 * time)),
        "sweep": 0.5 * np.sin(2 * np.pi * (50 * time + 3900 * time**2 / seconds)),
        "clicks": clicks,
        "speech-like": syllables * (0.15 * formants + 0.02 * noise),
        "onset": np.where(time > seconds / 2, noise * 0.3, 0),
    }
    scaled = {name: np.clip(np.rint(shape * FULL_SCALE), -32768, 32767) for name, shape in shapes.items()}
    return {name: values.astype(np.int16) for name, values in scaled.items()}


def chunks(samples: Samples, seed: int, largest: int = 2000) -> Iterator[Samples]:
    """The signal cut at random, one sample to `largest` at a time."""
    rng = np.random.default_rng(seed)
    start = 0
    while start < len(samples):
        size = int(rng.integers(1, largest + 1)) if rng.random() < 0.9 else 1
        yield samples[start : start + size]
        start += size
