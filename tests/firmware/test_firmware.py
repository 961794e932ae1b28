"""The firmware compiles without warnings, runs when the golden vectors agree, and does not start when one differs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tflite
import yaml
from cmake import CMAKE_BIN_DIR

from edgewake.builder.firmware import GENERATED, Golden, c_string, emit_firmware, make_golden
from edgewake.config.defaults import TargetConfig
from edgewake.conversion.c_source import frontend_header
from edgewake.runtime.deployed import Quantization
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.network.source import network_sources, read_network
from edgewake.runtime.pipeline import PipelineParams, derive_quantizer
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.streaming import verify
from edgewake.runtime.tflite_file import Graph, Operator, Tensor, write_tflite
from edgewake.runtime.tflm import TflmModel
from edgewake.targets.firmware import template_dir

HERE = Path(__file__).resolve().parent
DETECTOR = Path("components") / "edgewake_detector"
CONFIG = FrontendConfig()
SCALE = np.float32(26 / 255)
MULTIPLIER, SHIFT = derive_quantizer(SCALE, -128)
OUTPUT = Quantization(np.float32(3 / 32), 0)
PARAMS = PipelineParams(MULTIPLIER, SHIFT, -128, window=3, cutoff_sum=120_000, refractory_steps=8, output=OUTPUT)
OPERATORS = ["CALL_ONCE", "CONV_2D", "VAR_HANDLE", "CONV_2D", "STRIDED_SLICE"]


class FakeModel:
    """The same numbers as host/host_model.c."""

    def __init__(self, model: bytes | None = None) -> None:
        self.state = 1 + sum(model or tiny_tflite()) % 1000

    def __call__(self, step: npt.NDArray[np.int8]) -> int:
        for value in step.tolist():
            self.state = (self.state * 31 + value + 128) % 65521
        return (self.state >> 8) - 128


def tiny_tflite() -> bytes:
    """A valid .tflite with one variable; nothing here runs it."""
    resource = Tensor("", (), tflite.TensorType.RESOURCE)
    handle = Operator(
        tflite.BuiltinOperator.VAR_HANDLE,
        (),
        (0,),
        ("VarHandleOptions", {"Container": "", "SharedName": "0"}),
    )
    return write_tflite([Graph([resource], [handle], (), ())])


def random_audio(seed: int, seconds: float) -> npt.NDArray[np.int16]:
    """Noise in bursts of very different loudness."""
    rng = np.random.default_rng(seed)
    count = int(16000 * seconds)
    loudness = np.repeat(rng.choice([1, 30, 1000, 4000], -(-count // 1600)), 1600)[:count]
    return np.clip(rng.normal(0, 1, count) * loudness, -32768, 32767).astype(np.int16)


def golden_of(
    samples: npt.NDArray[np.int16],
    model: bytes | None = None,
    params: PipelineParams = PARAMS,
    config: FrontendConfig = CONFIG,
) -> Golden:
    steps = NativePipeline(config, params, FakeModel(model)).process(samples)
    return Golden(
        name="test",
        samples=samples,
        features=features(samples, config),
        outputs=np.array([step.output for step in steps], np.int8),
        sums=np.array([step.sum for step in steps], np.uint32),
        detections=np.array([step.detected for step in steps], np.uint8),
    )


def emit(folder: Path, golden: Golden, arena_bytes: int = 20_000) -> Path:
    emit_firmware(
        folder,
        model_bytes=tiny_tflite(),
        frontend_config=CONFIG,
        params=PARAMS,
        golden=golden,
        operators=OPERATORS,
        arena_bytes=arena_bytes,
        phrase='computer "ü"?',
    )
    return folder


@dataclass(frozen=True)
class Toolchain:
    """The host's compilers, with the stubs where ESP-IDF would be."""

    cc: str
    cxx: str
    config: Path
    """The folder of sdkconfig.h."""

    def configured(self, project: Path, folder: Path, *options: str) -> Toolchain:
        """The same with the sdkconfig.h that ESP-IDF's own tool makes in `folder` of the project's Kconfig."""
        folder.mkdir(parents=True, exist_ok=True)
        kconfig = sorted(project.glob("**/Kconfig.projbuild"))
        (folder / "Kconfig").write_text('mainmenu "test"\n' + "".join(f'source "{path}"\n' for path in kconfig))
        (folder / "defaults").write_text("".join(f"CONFIG_{option}\n" for option in options))
        command = [sys.executable, "-m", "kconfgen", "--kconfig", f"{folder}/Kconfig"]
        command += ["--config", f"{folder}/sdkconfig", "--defaults", f"{folder}/defaults"]
        done = run([*command, "--output", "header", f"{folder}/sdkconfig.h"])
        header = (folder / "sdkconfig.h").read_text() if done.returncode == 0 else ""
        lacking = [name for name in (option.partition("=")[0] for option in options) if f"CONFIG_{name} " not in header]
        assert header, done.stdout + done.stderr
        assert lacking == []
        return replace(self, config=folder)

    def includes(self, project: Path) -> list[str]:
        components = project / "components"
        folders = [
            HERE / "stubs",
            HERE / "host",
            self.config,
            project / "main",
            components / "edgewake_detector",
            components / "edgewake_detector" / "include",
            components / "edgewake" / "include",
            components / "edgewake_model" / "generated",
        ]
        return [f"-I{folder}" for folder in folders]

    def check(self, project: Path, source: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Compile one file for its syntax and types alone, with every warning an error."""
        cpp = source.suffix == ".cc"
        command = [self.cxx if cpp else self.cc, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *options]
        command += ["-std=gnu++17" if cpp else "-std=gnu17", "-DTF_LITE_STATIC_MEMORY"]
        return run([*command, *self.includes(project), str(source)])

    def objects(self, project: Path, folder: Path, *options: str) -> list[Path]:
        """The whole firmware but for TFLM and the golden vectors, compiled for the host."""
        sources = sorted((project / "main").glob("*.c"))
        sources += sorted((project / DETECTOR).glob("*.c"))
        sources += sorted((project / "components" / "edgewake" / "src").glob("*.c"))
        sources += sorted((project / GENERATED).glob("ew_model_*.c"))
        sources += sorted((HERE / "host").glob("*.c"))
        if (project / DETECTOR / "network.c").is_file():
            sources = [path for path in sources if path.name != "host_model.c"] + [project / GENERATED / "ew_network.c"]
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            self.cc,
            "-c",
            "-std=gnu17",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pthread",
            *options,
        ]
        done = run([*command, *self.includes(project), *map(str, sources)], folder)
        assert done.returncode == 0, done.stderr
        return sorted(folder.glob("*.o"))

    def program(self, project: Path, objects: list[Path], output: Path, *options: str) -> Path:
        """The firmware with the golden vectors of `project`, as a program of the host."""
        golden = str(project / GENERATED / "ew_golden.c")
        command = [self.cc, "-std=gnu17", "-pthread", *options, *self.includes(project), golden]
        done = run([*command, *map(str, objects), "-lm", "-o", str(output)])
        assert done.returncode == 0, done.stderr
        return output


def run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=folder)


@pytest.fixture(scope="session")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    cc, cxx = shutil.which("gcc") or shutil.which("cc"), shutil.which("g++") or shutil.which("c++")
    assert cc, "the firmware's tests need a C compiler: apt-get install gcc"
    assert cxx, "the firmware's tests need a C++ compiler: apt-get install g++"
    folder = tmp_path_factory.mktemp("config")
    return Toolchain(cc, cxx, folder).configured(template_dir(), folder)


@pytest.fixture(scope="session")
def golden() -> Golden:
    return golden_of(random_audio(1, 0.8))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, golden: Golden) -> Path:
    return emit(tmp_path_factory.mktemp("firmware"), golden)


@pytest.fixture(scope="session")
def objects(project: Path, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return toolchain.objects(project, tmp_path_factory.mktemp("objects"))


OWN = [path for folder in ("main", DETECTOR) for path in (template_dir() / folder).iterdir()]
# network.c is for the other backend, see below.
SOURCES = sorted(
    str(path.relative_to(template_dir())) for path in OWN if path.suffix in (".c", ".cc") and path.name != "network.c"
)


@pytest.mark.parametrize("name", SOURCES)
def test_firmware_compiles_without_warnings(project: Path, toolchain: Toolchain, name: str) -> None:
    done = toolchain.check(project, project / name)
    assert done.returncode == 0, done.stderr


KCONFIG = "".join(path.read_text() for path in sorted(template_dir().glob("**/Kconfig.projbuild")))
CHOICES = [
    *re.findall(r"config (EDGEWAKE_BOARD_\w+)", KCONFIG),
    *re.findall(r"config (EDGEWAKE_MICROPHONE_\w+)", KCONFIG),
    *re.findall(r"config (EDGEWAKE_OUTPUT_\w+)", KCONFIG),
    "EDGEWAKE_I2S_WIDTH_16",
    "EDGEWAKE_I2S_SLOT_RIGHT",
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_kconfig_compiles(project: Path, toolchain: Toolchain, tmp_path: Path, choice: str) -> None:
    chosen = toolchain.configured(project, tmp_path, f"{choice}=y")
    for source in ("main/action.c", DETECTOR / "microphone.c", DETECTOR / "es7210.c"):
        done = chosen.check(project, project / source)
        assert done.returncode == 0, done.stderr


def test_generated_sources_compile_without_warnings(project: Path, toolchain: Toolchain) -> None:
    for source in sorted((project / GENERATED).glob("*.c")):
        done = toolchain.check(project, source, "-Wpedantic", "-Wconversion")
        assert done.returncode == 0, done.stderr


def test_a_wrong_signature_would_not_compile(project: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    source = tmp_path / "microphone.c"
    text = (project / DETECTOR / "microphone.c").read_text()
    source.write_text(text.replace("i2s_channel_enable(channel)", "i2s_channel_enable(&channel)"))
    assert toolchain.check(project, source).returncode != 0


def test_every_source_names_its_licence() -> None:
    files = [path for path in template_dir().rglob("*") if path.suffix in (".c", ".h", ".cc")]
    lacking = [path.name for path in files if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:60]]
    assert files
    assert lacking == []


# The run on the host


SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def program(project: Path, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    compiled = toolchain.objects(project, folder, *SANITIZE)
    return toolchain.program(project, compiled, folder / "firmware", *SANITIZE)


@pytest.mark.parametrize("seed", [7, 8])
def test_firmware_detects_what_the_host_pipeline_detects(program: Path, tmp_path: Path, seed: int) -> None:
    samples = random_audio(seed, 3.0)
    samples.tofile(tmp_path / "audio.s16")
    done = run([str(program), str(tmp_path / "audio.s16")])
    assert done.returncode == 0, done.stdout + done.stderr
    found = [int(s) * 1000 + int(ms) for s, ms in re.findall(r"detected .* at (\d+)\.(\d{3}) s", done.stdout)]
    events = [step for step in NativePipeline(CONFIG, PARAMS, FakeModel()).process(samples) if step.detected]
    assert len(events) > 2
    assert found == [step.sample_index * 1000 // 16000 for step in events]
    shown = [int(a) * 100 + int(b) for a, b in re.findall(r"probability (\d+)\.(\d{2}) %", done.stdout)]
    assert shown == [step.sum * 10_000 // (65536 * PARAMS.window) for step in events]


def test_the_time_of_a_detection_is_right_after_years(
    project: Path, toolchain: Toolchain, objects: list[Path], tmp_path: Path
) -> None:
    seconds = 10 * 365 * 86_400
    sample = seconds * 16_000 + 8_016
    body = "    const ew_wakeword_t wakeword = wakeword_built_in();\n    detection_subscribe(&wakeword, NULL, NULL);\n"
    body += f"    const ew_step_t step = {{.detected = true, .sample_index = {sample}u}};\n"
    source = constructor(
        tmp_path, body + "    detection_report(NULL, &step);\n    exit(0);", "detection.h", "wakeword.h"
    )
    done = run([str(toolchain.program(project, objects, tmp_path / "firmware", source))])
    assert done.returncode == 0, done.stderr
    assert f"at {seconds}.501 s," in done.stdout


def constructor(tmp_path: Path, body: str, *headers: str) -> str:
    """A source whose statements run before main() and end the program."""
    source = tmp_path / "constructor.c"
    lines = [f'#include "{header}"' for header in headers]
    lines += ["#include <stdlib.h>", "__attribute__((constructor)) static void first(void) {", body, "}"]
    source.write_text("\n".join(lines) + "\n")
    return str(source)


def test_detection_switches_the_output_on_for_a_second(program: Path, tmp_path: Path) -> None:
    random_audio(7, 2.0).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    assert [line[-1] for line in output.splitlines() if "(led)" in line][:2] == ["0", "1"]
    assert output.splitlines()[-1].endswith("(led) 38 = 0")
    assert "(timer) 1000000 us" in output


def test_a_timer_that_ends_as_a_detection_starts_it_again_leaves_the_output_on(
    project: Path, toolchain: Toolchain, objects: list[Path], tmp_path: Path
) -> None:
    body = "    action_init();\n    action_detected(NULL, NULL);\n    host_run_timer();\n    exit(0);"
    source = constructor(tmp_path, body, "action.h", "host.h")
    output = run([str(toolchain.program(project, objects, tmp_path / "firmware", source))]).stdout
    assert re.findall(r"\(led\) 38 = (\d)", output) == ["0", "1"]


def test_the_output_may_be_a_pin(project: Path, toolchain: Toolchain, objects: list[Path], tmp_path: Path) -> None:
    pin = toolchain.configured(project, tmp_path, "EDGEWAKE_OUTPUT_GPIO=y", "EDGEWAKE_LED_ACTIVE_LOW=y")
    others = [path for path in objects if path.name != "action.o"]
    body = "    action_init();\n    action_detected(NULL, NULL);\n    exit(0);"
    sources = [constructor(tmp_path, body, "action.h"), str(project / "main" / "action.c")]
    output = run([str(pin.program(project, others, tmp_path / "firmware", *sources))]).stdout
    assert re.findall(r"\((gpio|timer)\) (\d+)", output) == [("gpio", "2"), ("timer", "1000000"), ("gpio", "2")]
    assert re.findall(r"\(gpio\) 2 = (\d)", output) == ["1", "0"]


def test_an_application_gets_an_event_for_each_detection(
    project: Path, toolchain: Toolchain, objects: list[Path], tmp_path: Path
) -> None:
    source = tmp_path / "subscriber.c"
    source.write_text(
        '#include "edgewake.h"\n#include "esp_log.h"\n'
        "static void got(void *argument, esp_event_base_t base, int32_t id, void *data) {\n"
        "    const edgewake_detection_t *detection = data;\n"
        '    ESP_LOGI("subscriber", "%s %d: %u ms", base, (int)(id + (argument != NULL)),\n'
        "             (unsigned)detection->time_ms);\n}\n"
        "__attribute__((constructor)) static void first(void) {\n    esp_event_loop_create_default();\n"
        "    esp_event_handler_register(EDGEWAKE_EVENT, EDGEWAKE_EVENT_DETECTED, got, NULL);\n}\n"
    )
    samples = random_audio(7, 3.0)
    samples.tofile(tmp_path / "audio.s16")
    program = toolchain.program(project, objects, tmp_path / "firmware", str(source))
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    events = [step for step in NativePipeline(CONFIG, PARAMS, FakeModel()).process(samples) if step.detected]
    times = re.findall(r"\(subscriber\) EDGEWAKE_EVENT 0: (\d+) ms", output)
    assert [int(ms) for ms in times] == [step.sample_index * 1000 // 16000 for step in events]
    assert len(times) > 2


def test_tasks_run_on_different_cores_with_capture_first(program: Path, tmp_path: Path) -> None:
    random_audio(7, 0.2).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    tasks = re.findall(r"edgewake_(\w+) stack (\d+) priority (\d+) core (\d)", output)
    (infer, capture) = tasks
    assert (infer[0], capture[0]) == ("infer", "capture")
    assert infer[3] != capture[3]
    assert int(capture[2]) > int(infer[2])


def test_lost_audio_is_counted_and_logged(program: Path, tmp_path: Path) -> None:
    random_audio(7, 3.0).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16"), "flood"]).stdout
    (lost, blocks) = re.findall(r"audio lost since start: (\d+) samples before inference, (\d+) DMA blocks", output)[
        -1
    ]  # Counts grow; a reader that wakes early reports the DMA's loss before there is any other.
    # Inference stands still until all audio came: what fits is one ring and what it had already taken.
    assert 48_000 - 2048 - 800 - 160 <= int(lost) <= 48_000 - 2048
    assert int(blocks) == 1


def test_at_most_one_line_a_second_tells_of_losses(program: Path, tmp_path: Path) -> None:
    random_audio(7, 3.0).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16"), "losses"]).stdout
    blocks = [int(count) for count in re.findall(r"samples before inference, (\d+) DMA blocks", output)]
    assert 3 <= len(blocks) <= 4
    assert blocks[0] <= 2
    assert blocks[-1] >= 190


def test_at_most_one_line_a_second_tells_of_a_driver_that_fails(program: Path, tmp_path: Path) -> None:
    random_audio(7, 2.0).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16"), "no-driver"]).stdout
    assert 2 <= output.count("microphone: ESP_FAIL after 0 of 160 samples") <= 3


@pytest.mark.parametrize("value", [0, -1])
def test_a_microphone_that_sends_one_value_is_warned_of_until_it_changes(
    program: Path, tmp_path: Path, value: int
) -> None:
    wave = np.tile(np.array([1000, -1000], np.int16), 16_000)
    np.concatenate([np.full(48_000, value, np.int16), wave]).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    levels = re.findall(r"[IW] \(microphone\) (every sample of the last second is -?\d+|one second: .*)", output)
    constant = f"every sample of the last second is {value}"
    assert levels == [constant] * 3 + ["one second: peak 1000, RMS 1000 of 32768"]


def test_the_self_test_tells_how_long_it_took(program: Path, golden: Golden, tmp_path: Path) -> None:
    random_audio(7, 0.2).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    # The host's clock counts a millisecond for each inference.
    steps = len(golden.outputs)
    assert f"golden vectors agree: {golden.features.size} features, {steps} steps, in {steps} ms" in output


def test_sixteen_bit_microphone_gives_the_same_samples(project: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    narrow = toolchain.configured(project, tmp_path / "config", "EDGEWAKE_I2S_WIDTH_16=y")
    compiled = narrow.objects(project, tmp_path)
    program = narrow.program(project, compiled, tmp_path / "firmware")
    samples = (random_audio(9, 1.5) >> 3 << 3).astype(np.int16)
    samples.tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    assert "16 bits" in output
    events = sum(step.detected for step in NativePipeline(CONFIG, PARAMS, FakeModel()).process(samples))
    assert events > 1
    assert output.count("detected ") == events


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["EDGEWAKE_BOARD_XIAO_ESP32S3_SENSE=y"], ["(pdm) 16000 Hz, 16 bits, slot 2, pins 42 41"]),
        (["EDGEWAKE_MICROPHONE_PDM=y", "EDGEWAKE_I2S_SLOT_RIGHT=y"], ["(pdm) 16000 Hz, 16 bits, slot 1, pins 4 6"]),
        (
            ["EDGEWAKE_BOARD_BOX_3=y"],
            [
                "(i2s) 16000 Hz, 16 bits, slot 1, pins 2 17 45 16",
                "(i2c) SDA 8, SCL 18",
                "(codec) 16000 Hz, 16 bits, 1 channel",
            ],
        ),
        (
            ["EDGEWAKE_MICROPHONE_SPH0645=y"],
            ["(i2s) 16000 Hz, 32 bits, slot 1, pins -1 4 5 6", "(register) 88 I2S_RX_SD_IN_DM = 2"],
        ),
    ],
)
def test_presets_open_their_microphone_and_detect(
    project: Path, toolchain: Toolchain, tmp_path: Path, options: list[str], lines: list[str]
) -> None:
    preset = toolchain.configured(project, tmp_path / "config", *options)
    program = preset.program(project, preset.objects(project, tmp_path), tmp_path / "firmware")
    wave = np.tile(np.array([1000, -1000], np.int16), 16_000) + np.int16(5000)
    np.concatenate([np.int16(5000) + random_audio(7, 1.0) // 4, wave]).tofile(tmp_path / "audio.s16")
    output = run([str(program), str(tmp_path / "audio.s16")]).stdout
    assert [line for line in lines if line not in output] == []
    assert "detection runs" in output
    (level,) = re.findall(r"one second: peak (\d+), RMS (\d+) of 32768", output)
    # An offset is removed where the preset's microphone has one.
    offset = "CONFIG_EDGEWAKE_REMOVE_DC 1" not in (tmp_path / "config" / "sdkconfig.h").read_text()
    assert (int(level[1]) > 4000) == offset


def flip(values: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
    changed = values.copy()
    changed.reshape(-1)[index] ^= 1
    return changed


@pytest.mark.parametrize(
    "case",
    [
        ("feature", 1234, lambda golden: replace(golden, features=flip(golden.features, 1234))),
        ("feature", 0, lambda golden: replace(golden, features=flip(golden.features, 0))),
        ("model output", 25, lambda golden: replace(golden, outputs=flip(golden.outputs, 25))),
        ("smoothed sum", 7, lambda golden: replace(golden, sums=flip(golden.sums, 7))),
        ("detection", 13, lambda golden: replace(golden, detections=flip(golden.detections, 13))),
        ("count of frames", 0, lambda golden: replace(golden, features=golden.features[:-1])),
        ("count of frames", 1, lambda golden: replace(golden, outputs=golden.outputs[:-1])),
    ],
)
def test_detection_does_not_start_after_one_wrong_byte(
    toolchain: Toolchain,
    objects: list[Path],
    golden: Golden,
    tmp_path: Path,
    case: tuple[str, int, Callable[[Golden], Golden]],
) -> None:
    stage, index, change = case
    program = toolchain.program(emit(tmp_path / "project", change(golden)), objects, tmp_path / "firmware")
    golden.samples.tofile(tmp_path / "audio.s16")
    done = run([str(program), str(tmp_path / "audio.s16")])
    assert done.returncode == 3
    assert re.search(rf"E \(edgewake\) golden vectors differ: {stage}.* {index} is -?\d+, expected -?\d+", done.stdout)
    assert "detection runs" not in done.stdout


def test_golden_vectors_of_nothing_are_refused(
    toolchain: Toolchain, objects: list[Path], golden: Golden, tmp_path: Path
) -> None:
    project = emit(tmp_path / "project", golden)
    source = project / GENERATED / "ew_golden.c"
    source.write_text(re.sub(r"\.step_count = \d+", ".step_count = 0", source.read_text()))
    program = toolchain.program(project, objects, tmp_path / "firmware")
    golden.samples.tofile(tmp_path / "audio.s16")
    assert run([str(program), str(tmp_path / "audio.s16")]).returncode == 3


# The generated parts


def test_other_frontend_tables_do_not_compile(project: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    other = FrontendConfig(upper_hz=7000.0)
    for name in ("ew_model_frontend.c", "ew_model_frontend.h", "ew_model_config.h"):
        (tmp_path / name).write_text((project / GENERATED / name).read_text())
    (tmp_path / "ew_frontend_tables.h").write_text(frontend_header(other))
    done = toolchain.check(project, tmp_path / "ew_model_frontend.c")
    assert done.returncode != 0
    assert "not those that the model was trained with" in done.stderr


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_inputs_give_equal_files(project: Path, golden: Golden, tmp_path: Path) -> None:
    assert contents(emit(tmp_path, golden)) == contents(project)


def test_project_has_every_file_that_idf_needs(project: Path) -> None:
    for name in ("CMakeLists.txt", "sdkconfig.defaults", "partitions.csv", f"{DETECTOR}/Kconfig.projbuild"):
        assert (project / name).is_file()
    manifest = yaml.safe_load((project / DETECTOR / "idf_component.yml").read_text())
    assert manifest["dependencies"] == {
        "idf": ">=5.3",
        "espressif/esp-tflite-micro": "==1.4.0",
        "espressif/esp-nn": "==1.2.3",
        "espressif/esp_codec_dev": "^1.4.0",
    }


def test_operators_are_those_of_the_model_and_no_others(project: Path) -> None:
    text = (project / GENERATED / "ew_model_operators.h").read_text()
    assert re.findall(r"ADD\((\w+)\)", text) == ["AddCallOnce", "AddConv2D", "AddStridedSlice", "AddVarHandle"]
    assert "EW_MODEL_OPERATOR_COUNT 4" in text


def test_phrase_survives_as_a_c_string() -> None:
    assert c_string('say "hé"\\?') == '"say \\042h\\303\\251\\042\\134\\077"'


# What ESP-IDF reads before it compiles anything

# Headers that main includes, and the component of ESP-IDF that has them. Checked in the sources of v5.3, v5.4, v5.5,
# v6.0 and v6.1-beta1. Every component requires log, esp_common, freertos (__COMPONENT_REQUIRES_COMMON in build.cmake).
IDF_HEADERS = {
    "driver/gpio.h": "esp_driver_gpio",
    "driver/i2c_master.h": "esp_driver_i2c",
    "driver/i2s_pdm.h": "esp_driver_i2s",
    "driver/i2s_std.h": "esp_driver_i2s",
    "esp_check.h": "esp_common",
    "esp_codec_dev.h": "esp_codec_dev",
    "esp_codec_dev_defaults.h": "esp_codec_dev",
    "esp_cpu.h": "esp_hw_support",
    "esp_err.h": "esp_common",
    "esp_event.h": "esp_event",
    "esp_log.h": "log",
    "esp_ota_ops.h": "app_update",
    "esp_partition.h": "esp_partition",
    "esp_rom_sys.h": "esp_rom",
    "esp_timer.h": "esp_timer",
    "freertos/FreeRTOS.h": "freertos",
    "freertos/semphr.h": "freertos",
    "freertos/task.h": "freertos",
    "led_strip.h": "led_strip",
    "soc/i2s_reg.h": "soc",
}
IDF_COMMON = {"esp_common", "esp_hw_support", "esp_rom", "freertos", "log", "soc"}


def read_component(folder: Path, output: Path) -> tuple[dict[str, list[str]], str]:
    """What the component in `folder` gives idf_component_register in script mode, by argument; and CMake's errors."""
    script = HERE / "idf_script_mode.cmake"
    output.unlink(missing_ok=True)
    done = run(
        [f"{CMAKE_BIN_DIR}/cmake", f"-DCOMPONENT_DIR={folder}", f"-DOUTPUT={output}", "-P", str(script)], output.parent
    )
    lines = output.read_text().splitlines() if output.is_file() else []
    fields = {
        name: [part for part in values.split(";") if part] for name, _, values in (li.partition("=") for li in lines)
    }
    return fields, done.stderr


def component_faults(project: Path, scratch: Path) -> list[str]:
    """Everything for which ESP-IDF would refuse the project's components before it compiles."""
    folders = [project / "main", *sorted((project / "components").iterdir())]
    manifest = yaml.safe_load((project / DETECTOR / "idf_component.yml").read_text())
    own = {folder.name for folder in folders}
    managed = {name.split("/")[1] for name in manifest["dependencies"] if "/" in name}
    known = own | managed | set(IDF_HEADERS.values())
    faults = []
    for folder in folders:
        fields, errors = read_component(folder, scratch / "registered")
        name = folder.name
        if errors or not fields:
            faults.append(f"{name}: cmake -P: {errors or 'idf_component_register was not reached'}")
            continue
        faults += [f"{name}: unknown argument {word}" for word in fields["UNPARSED"]]
        sources = [folder / source for source in fields.get("SRCS", [])]
        includes = [folder / path for key in ("INCLUDE_DIRS", "PRIV_INCLUDE_DIRS") for path in fields.get(key, [])]
        faults += [] if sources else [f"{name}: no sources"]
        faults += [f"{name}: no file {path}" for path in sources if not path.is_file()]
        unnamed = {path for path in folder.rglob("*.c*") if path.suffix in (".c", ".cc")} - set(sources)
        faults += [f"{name}: {path} is not compiled" for path in sorted(unnamed)]
        faults += [f"{name}: no folder {path}" for path in includes if not path.is_dir()]
        requires = {word for key in ("REQUIRES", "PRIV_REQUIRES") for word in fields.get(key, [])}
        faults += [f"{name}: requires {word}, which nothing provides" for word in sorted(requires - known)]
        included = {
            header
            for path in [*sources, *folder.rglob("*.h")]
            if path.is_file()
            for header in re.findall(r'#include "(.+?)"', path.read_text())
        }
        needed = {IDF_HEADERS[header] for header in included & IDF_HEADERS.keys()}
        faults += [f"{name}: does not require {word}" for word in sorted(needed - requires - IDF_COMMON)]
    return faults


def test_idf_can_read_every_component(project: Path, tmp_path: Path) -> None:
    assert component_faults(project, tmp_path) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "fault"),
    [
        ("components/edgewake", "idf_", "file(GLOB sources CONFIGURE_DEPENDS x)\nidf_", "invalid for script"),
        ("components/edgewake", "idf_component_register", "set", "target_compile_options command is not scriptable"),
        ("components/edgewake", '"src/ew_ring.c"', "", "ew_ring.c is not compiled"),
        ("components/edgewake", '"include"', '"includes"', "no folder"),
        ("main", '"action.c"', '"actions.c"', "no file"),
        ("components/edgewake_detector", "esp_driver_i2s", "driver_i2s", "requires driver_i2s, which nothing provides"),
        ("main", " esp_timer", "", "does not require esp_timer"),
        ("main", "INCLUDE_DIRS", "ESP_TIMER", "no file"),
    ],
)
def test_faults_of_a_component_are_found(
    project: Path, tmp_path: Path, path: str, old: str, new: str, fault: str
) -> None:
    copy = shutil.copytree(project, tmp_path / "project")
    file = copy / path / "CMakeLists.txt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert any(fault in line for line in component_faults(copy, tmp_path))


REPOSITORY = HERE.parents[1]
EXAMPLES = sorted((REPOSITORY / "examples" / "esp-idf").glob("*/main/*.c"))


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda path: path.parts[-3])
def test_examples_compile(project: Path, toolchain: Toolchain, source: Path) -> None:
    options = ['-DCONFIG_EDGEWAKE_MQTT_BROKER=""', '-DCONFIG_EDGEWAKE_MQTT_TOPIC=""']
    done = toolchain.check(project, source, *options)
    assert done.returncode == 0, done.stderr


def test_the_page_of_boards_shows_c_plus_plus_that_compiles(
    project: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    (code,) = re.findall(r"```cpp\n(.*?)```", (REPOSITORY / "docs" / "boards.md").read_text(), re.DOTALL)
    (tmp_path / "main.cc").write_text(code)
    done = toolchain.check(project, tmp_path / "main.cc", "-Wno-unused-parameter")
    assert done.returncode == 0, done.stderr


def test_the_page_of_boards_has_the_pins_of_kconfig(toolchain: Toolchain, tmp_path: Path) -> None:
    rows = re.findall(r"^\|(.*`BOARD_\w+`.*)\|$", (REPOSITORY / "docs" / "boards.md").read_text(), re.MULTILINE)
    boards = {}
    for row in rows:
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) == 9 and (name := re.match(r"`(BOARD_\w+)`", cells[1])):
            boards[f"EDGEWAKE_{name[1]}"] = cells[3:9]
    assert sorted(boards) == sorted(name for name in CHOICES if name.startswith("EDGEWAKE_BOARD_"))
    for board, (clock, word_select, data, mclk, bus, shown) in boards.items():
        preset = toolchain.configured(template_dir(), tmp_path / board, f"{board}=y")
        header = (preset.config / "sdkconfig.h").read_text()
        pins = dict(re.findall(r"define CONFIG_EDGEWAKE_(\w+)_GPIO (\d+)", header))
        expected = {"I2S_BCLK": clock, "I2S_WS": word_select, "I2S_DIN": data, "I2S_MCLK": mclk}
        expected |= dict(zip(("I2C_SDA", "I2C_SCL"), bus.split(", "), strict=False))
        expected["LED"] = shown.rpartition(" ")[2] if "," in shown else ""
        assert pins == {name: pin for name, pin in expected.items() if pin}, board


def test_kconfig_follows_the_rules_of_kconfcheck() -> None:
    files = sorted(path for path in template_dir().rglob("Kconfig*") if path.is_file())
    assert files
    done = run([sys.executable, "-m", "kconfcheck", *map(str, files)])
    assert done.returncode == 0, done.stdout + done.stderr


# Options, defaults and partitions


def test_sources_use_only_options_that_kconfig_defines() -> None:
    files = [path for path in template_dir().rglob("*") if path.is_file()]
    texts = [path.read_text() for path in files if path.name == "Kconfig.projbuild"]
    defined = {name for text in texts for name in re.findall(r"config (EDGEWAKE_\w+)", text)}
    sources = [path.read_text() for path in files if path.suffix in (".c", ".cc", ".h")]
    used = {name for text in sources for name in re.findall(r"CONFIG_(EDGEWAKE_\w+)", text)}
    assert used
    assert used <= defined


def test_defaults_forbid_what_would_change_bits_or_memory() -> None:
    text = (template_dir() / "sdkconfig.defaults").read_text()
    options = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))
    assert options["CONFIG_NN_SKIP_NUDGE"] == "n"
    assert options["CONFIG_NN_OPTIMIZED"] == "y"
    assert "CONFIG_SPIRAM" not in options  # of esp_psram, which is not in the build: the symbol would be unknown
    assert options["CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_240"] == "y"
    assert options["CONFIG_COMPILER_OPTIMIZATION_PERF"] == "y"


def test_partitions_fit_the_flash_without_overlap() -> None:
    rows = [
        [cell.strip() for cell in line.split(",")]
        for line in (template_dir() / "partitions.csv").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    spans = sorted((int(row[3], 16), int(row[3], 16) + int(row[4], 16)) for row in rows)
    assert spans[-1][1] <= 4 * 1024 * 1024
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start


def test_golden_audio_may_end_within_a_step(toolchain: Toolchain, objects: list[Path], tmp_path: Path) -> None:
    odd = golden_of(random_audio(3, 0.5)[:7777])
    assert len(odd.features) % PARAMS.frames_per_step
    program = toolchain.program(emit(tmp_path / "project", odd), objects, tmp_path / "firmware")
    odd.samples.tofile(tmp_path / "audio.s16")
    assert run([str(program), str(tmp_path / "audio.s16")]).returncode == 0


# The second backend: generated C in place of TFLM

NETWORK = (HERE.parents[1] / "models" / "computer" / "model.tflite").read_bytes()
# ESP_PLATFORM: the generated header then takes its options from sdkconfig.h, and ESP-NN from the stub.
NETWORK_OPTIONS = ("-DESP_PLATFORM", *SANITIZE)


@pytest.fixture(scope="session")
def network_params() -> PipelineParams:
    model = verify(NETWORK)
    quantizer = derive_quantizer(model.input.scale, model.input.zero_point)
    params = PipelineParams(*quantizer, model.input.zero_point, 3, 1, 8, model.output)
    sums = [step.sum for step in NativePipeline(CONFIG, params, TflmModel(NETWORK).step).process(random_audio(2, 3.0))]
    return replace(params, cutoff_sum=max(1, int(np.quantile(sums, 0.7))))


@pytest.fixture(scope="session")
def network_project(tmp_path_factory: pytest.TempPathFactory, network_params: PipelineParams) -> Path:
    folder = tmp_path_factory.mktemp("network")
    emit_firmware(
        folder,
        model_bytes=NETWORK,
        frontend_config=CONFIG,
        params=network_params,
        golden=make_golden("test", random_audio(1, 0.8), CONFIG, network_params, NETWORK),
        operators=OPERATORS,
        arena_bytes=0,
        phrase="computer",
        network=read_network(NETWORK),
        limits=TargetConfig(),
    )
    return folder


@pytest.mark.parametrize("options", [(), ("EDGEWAKE_ESP_NN_DEPTHWISE=y", "EDGEWAKE_WEIGHTS_RAM=y")])
def test_the_generated_network_detects_on_the_board_what_tflm_detects(
    network_project: Path,
    network_params: PipelineParams,
    toolchain: Toolchain,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    """From boot on, where the golden vectors of the host's TFLM go through it."""
    configured = toolchain.configured(network_project, tmp_path / "config", *options)
    objects = configured.objects(network_project, tmp_path / "objects", *NETWORK_OPTIONS)
    program = configured.program(network_project, objects, tmp_path / "firmware", *SANITIZE)
    samples = random_audio(2, 3.0)
    samples.tofile(tmp_path / "audio.s16")
    done = run([str(program), str(tmp_path / "audio.s16")])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "golden vectors agree" in done.stdout
    found = [int(s) * 1000 + int(ms) for s, ms in re.findall(r"detected .* at (\d+)\.(\d{3}) s", done.stdout)]
    pipeline = NativePipeline(CONFIG, network_params, TflmModel(NETWORK).step)
    events = [step for step in pipeline.process(samples) if step.detected]
    assert len(events) > 2
    assert found == [step.sample_index * 1000 // 16000 for step in events]


def test_a_wrong_constant_of_the_network_is_found_at_boot(
    network_project: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    project = shutil.copytree(network_project, tmp_path / "project")
    source = project / GENERATED / "ew_network.c"
    text = source.read_text()
    source.write_text(re.sub(r"(\.bias0 = \{\s+)-?\d+", r"\g<1>1000000", text))
    assert source.read_text() != text
    objects = toolchain.objects(project, tmp_path / "objects", "-DESP_PLATFORM")
    random_audio(2, 0.5).tofile(tmp_path / "audio.s16")
    done = run([str(toolchain.program(project, objects, tmp_path / "firmware")), str(tmp_path / "audio.s16")])
    assert done.returncode == 3
    assert "golden vectors differ: model output" in done.stdout


def test_a_project_of_the_generated_network_has_no_tflm(network_project: Path, tmp_path: Path) -> None:
    assert component_faults(network_project, tmp_path) == []
    names = {path.name for path in network_project.rglob("*") if path.is_file()}
    assert names >= {"network.c", "ew_network.c", "ew_network.h", "ew_kernels.h"}
    assert not names & {"model.cc", "ew_model_data.c", "ew_model_operators.h"}
    for folder in (DETECTOR, GENERATED.parent):
        manifest = yaml.safe_load((network_project / folder / "idf_component.yml").read_text())
        assert manifest["dependencies"]["espressif/esp-nn"] == "==1.2.3"
        assert "espressif/esp-tflite-micro" not in manifest["dependencies"]


def test_a_network_beyond_the_targets_limits_does_not_compile(
    network_project: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    network = read_network(NETWORK)
    for name, value in (("model_bytes", network.constant_bytes), ("arena_bytes", network.state_bytes)):
        for limit, status in ((value, 0), (value - 1, 1)):
            for file, text in network_sources(network, TargetConfig(**{name: limit})).items():
                (tmp_path / file).write_text(text)
            done = toolchain.check(network_project, tmp_path / "ew_network.c")
            assert done.returncode == status, done.stderr
