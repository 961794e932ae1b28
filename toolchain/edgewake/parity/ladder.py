"""Each rung compares two things that must be equal, and says how much was compared and what differed.

Rungs 2 and 8 need a compiler for the board or the board itself, and live with the firmware.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from edgewake.conversion.direct import windowed_tflite
from edgewake.parity.scales import Scale, learned_scales, stored_scales
from edgewake.parity.signals import Samples, chunks, signals
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FEATURE_SCALE, FrontendConfig, features_batch
from edgewake.runtime.frontend.native import NativeFrontend
from edgewake.runtime.frontend.reference import ReferenceFrontend
from edgewake.runtime.pipeline import PipelineParams, Step, pipeline_params
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.pipeline.reference import ReferencePipeline
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.tflm import TflmModel

Features = npt.NDArray[np.uint16]
Int8Array = npt.NDArray[np.int8]
FloatModel = Callable[[Features], npt.NDArray[np.float64]]

RANDOM_STEPS = 300
# Of a model whose cutoff was not chosen yet.
UNTUNED = {"window": 1, "cutoff_sum": 128, "refractory_s": 1.0}


@dataclass(frozen=True)
class RungResult:
    """What one rung found.

    Attributes:
        rung: its number in the ladder.
        name: what is compared with what.
        compared: how many values were.
        differences: how many of them differ.
        max_difference: the largest difference, in the unit that `detail` names.
        ok: nothing differs.
        detail: what the values are, and the first difference.
        reported: the rung is for the record; a difference is no fault of the build.
    """

    rung: int
    name: str
    compared: int
    differences: int
    max_difference: float
    ok: bool
    detail: str
    reported: bool = False


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

    def result(self, rung: int, name: str, what: str, *, reported: bool = False) -> RungResult:
        """The rung's result; nothing compared is not ok."""
        ok = self.compared > 0 and self.differences == 0
        detail = f"{what}; first difference: {self.first}" if self.first else what
        return RungResult(rung, name, self.compared, self.differences, self.largest, ok, detail, reported=reported)


def rung_1(config: FrontendConfig | None = None, recordings: Iterable[Samples] | None = None) -> list[RungResult]:
    """Rung 1: the numpy frontend against the C one in random chunks, and against pymicro-features.

    The second comparison is there when that package is installed and the configuration is its own.

    Args:
        config: of the frontend; default the defaults.
        recordings: int16 at the frontend's rate; default `signals()`.
    """

    config = config or FrontendConfig()
    recordings = list(recordings if recordings is not None else signals().values())
    numpy_tally, oracle_tally = _Tally(), _Tally()
    oracle = find_spec("pymicro_features") is not None and config == FrontendConfig()
    for index, samples in enumerate(recordings):
        native = NativeFrontend(config)
        streamed = [native.process(part) for part in chunks(samples, index)]
        found = np.concatenate(streamed) if streamed else np.zeros((0, config.channels), np.uint16)
        numpy_tally.add(f"signal {index}", ReferenceFrontend(config).process(samples), found)
        if oracle:
            oracle_tally.add(f"signal {index}", _pymicro(samples), found)
    what = f"features of {len(recordings)} signals, in units of a feature"
    results = [numpy_tally.result(1, "numpy frontend = C frontend", what)]
    if oracle:
        results.append(oracle_tally.result(1, "pymicro-features = C frontend", what))
    return results


def _pymicro(samples: Samples) -> npt.NDArray[np.int64]:
    from pymicro_features import MicroFrontend

    frontend, data = MicroFrontend(), samples.astype("<i2").tobytes()
    frames = []
    step = 2 * FrontendConfig().step_samples
    for start in range(0, len(data) - step + 1, step):
        made = frontend.process_samples(data[start : start + step])
        if made.features:
            frames.append(np.rint(np.array(made.features) / FEATURE_SCALE).astype(np.int64))
    return np.array(frames, np.int64)


def rung_3(model: DeployedModel, tflite: bytes, name: str = "streaming") -> RungResult:
    """Rung 3: every scale and zero point that training learned against those read back from a .tflite.

    Exact in float32. Weights, biases and activations; a scale that the file leaves out (biases of the
    streaming model) is not compared, as no kernel reads it.
    """
    wanted, found = learned_scales(model), stored_scales(tflite)
    tally = _Tally()
    for tensor, scale in wanted.items():
        stored = found.get(tensor)
        if stored is None:
            if not tensor.endswith("/bias"):
                tally.add(tensor, scale.scale, ())
            continue
        tally.add(f"{tensor} scale", scale.scale, stored.scale)
        tally.add(f"{tensor} zero point", _spread(scale), _spread(stored))
    return tally.result(3, f"learned scales = {name} .tflite", "scales and zero points, float32")


def _spread(scale: Scale) -> npt.NDArray[np.int64]:
    """One zero point for each scale; files may hold one for all."""
    return np.broadcast_to(scale.zero_point, scale.scale.shape)


def rung_4(model: DeployedModel, streaming: bytes, features: Sequence[Features], seed: int = 0) -> RungResult:
    """Rung 4: the integer simulator against TFLM from reset on, on given features and on random bytes."""
    tally = _Tally()
    integer = IntegerModel(model)
    for index, steps in enumerate(_inputs(model, features, seed)):
        tally.add(f"input {index}, step", integer.windowed(steps), TflmModel(streaming).run(steps))
    return tally.result(4, "integer simulator = TFLM", "int8 probabilities, in LSB")


def rung_5(
    model: DeployedModel, streaming: bytes, windowed: bytes, features: Sequence[Features], seed: int = 0
) -> RungResult:
    """Rung 5, in TFLM: the windowed model slid over silence and the input, the streaming one from reset."""
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
    return tally.result(5, "windowed = streaming", "int8 probabilities, in LSB")


def _inputs(model: DeployedModel, features: Sequence[Features], seed: int) -> list[Int8Array]:
    noise = np.random.default_rng(seed).integers(-128, 128, (RANDOM_STEPS, model.input_width), dtype=np.int8)
    given = (model_input(model, recording) for recording in features)
    return [*(steps for steps in given if len(steps)), noise]


def rung_6(
    model: DeployedModel,
    float_model: FloatModel,
    features: Sequence[Features],
    window: int = 1,
    cutoff: float = 0.5,
) -> RungResult:
    """Rung 6, reported: decisions of the QAT model in floating point against those of the int8 model.

    Args:
        model: the deploy form.
        float_model: features of a recording -> logit of every step from reset, (steps,); for instance
            `edgewake.parity.qat.qat_logits`.
        features: recordings.
        window: steps of smoothing.
        cutoff: smoothed probability that decides.
    """
    tally, gaps = _Tally(), [np.zeros(1)]
    integer, logit, probability = IntegerModel(model), model.layers[-2], model.layers[-1]
    for index, recording in enumerate(features):
        values = integer.activations(model_input(model, recording))
        if not values:
            continue
        wanted = np.asarray(float_model(recording), np.float64)
        level = values[logit.name][:, 0].astype(np.float64)
        gaps.append(np.abs((level - logit.output.zero_point) - wanted / float(logit.output.scale)))
        int8 = (values[probability.name][:, 0].astype(np.float64) + 128) / 256
        decided = (_smooth(1 / (1 + np.exp(-wanted)), window) >= cutoff, _smooth(int8, window) >= cutoff)
        tally.add(f"recording {index}, step", *decided)
    gap = np.concatenate(gaps)
    what = f"decisions of steps; logits differ by {gap.mean():.2f} LSB on average, {gap.max():.2f} at most"
    return tally.result(6, "QAT in floating point ~ int8", what, reported=True)


def _smooth(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    total = np.cumsum(np.concatenate([np.zeros(window), values]))
    return np.asarray((total[window:] - total[:-window]) / window, np.float64)


def rung_7(
    model: DeployedModel,
    streaming: bytes,
    params: PipelineParams,
    *,
    config: FrontendConfig | None = None,
    recordings: Iterable[Samples] | None = None,
    seed: int = 0,
) -> RungResult:
    """Rung 7: Python's pipeline with the simulator against C's with TFLM, the latter in random chunks.

    Every step is compared: sum, event, sample index and output. Each recording runs with the given cutoff,
    and with its own median as cutoff, so that events occur whatever the model.
    """
    config = config or FrontendConfig()
    tally, events = _Tally(), 0
    for index, samples in enumerate(recordings if recordings is not None else signals(seed).values()):
        expected = _reference_steps(model, params, config, samples)
        median = int(np.median([step.sum for step in expected])) if expected else 0
        for setting in (params, replace(params, cutoff_sum=median)):
            left = _reference_steps(model, setting, config, samples)
            pipeline = NativePipeline(config, setting, TflmModel(streaming).step)
            right = [step for part in chunks(samples, seed + index) for step in pipeline.process(part)]
            tally.add(f"recording {index}", _table(left), _table(right))
            events += sum(step.detected for step in left)
    what = f"steps' sums, events, sample indices and outputs; {events} events"
    return tally.result(7, "Python pipeline = C pipeline", what)


def _reference_steps(
    model: DeployedModel, params: PipelineParams, config: FrontendConfig, samples: Samples
) -> list[Step]:

    integer = IntegerModel(model)
    return ReferencePipeline(config, params, integer.step).process(samples)


def _table(steps: list[Step]) -> list[tuple[int, bool, int, int]]:
    return [(step.sum, step.detected, step.sample_index, step.output) for step in steps]


def climb(
    model: DeployedModel,
    streaming: bytes,
    *,
    windowed: bytes | None = None,
    config: FrontendConfig | None = None,
    params: PipelineParams | None = None,
    features: Sequence[Features] | None = None,
    float_model: FloatModel | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[RungResult]:
    """Climb rungs 1, 3, 4, 5, 7, and 6 when a float model is given.

    Args:
        model: the deploy form that `streaming` was converted from.
        streaming: the .tflite that the board runs.
        windowed: the windowed .tflite of the conversion; None builds it without converters.
        config: of the frontend; default the defaults.
        params: of the pipeline; default from the model's `info`.
        features: recordings, (frames, channels) uint16; default the features of `signals()`.
        float_model: see `rung_6`.
        progress: called with each rung's name as it begins.

    Returns:
        A result for each comparison; it is for the caller to refuse one that is neither ok nor reported.
    """
    config = config or FrontendConfig()
    say = progress or (lambda name: None)
    recordings = list(signals().values())
    if features is None:
        features = features_batch(recordings, config)
    if windowed is None:
        windowed = windowed_tflite(model)
    params = params or pipeline_params(model.input, UNTUNED | model.info, config, model.frames_per_step)

    say("rung 1: frontends")
    results = rung_1(config, recordings)
    say("rung 3: scales")
    results += [rung_3(model, windowed, "windowed"), rung_3(model, streaming, "streaming")]
    say("rung 4: simulator and TFLM")
    results.append(rung_4(model, streaming, features))
    say("rung 5: windowed and streaming")
    results.append(rung_5(model, streaming, windowed, features))
    if float_model is not None:
        say("rung 6: floating point and int8")
        results.append(rung_6(model, float_model, features, params.window, params.cutoff))
    say("rung 7: pipelines")
    results.append(rung_7(model, streaming, params, config=config, recordings=recordings))
    return results
