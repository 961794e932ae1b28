"""The firmware takes a whole, fitting image of its partition, else the built-in wake word; an update replaces it."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import tty
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgewake.builder.firmware import Golden, emit_firmware
from edgewake.builder.image import HEADER_BYTES, PARTITION_BYTES, tflite_payload, write_image
from edgewake.cli import main
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.pipeline import PipelineParams
from edgewake.runtime.pipeline.native import NativePipeline
from firmware.test_firmware import (
    CONFIG,
    OPERATORS,
    PARAMS,
    SANITIZE,
    FakeModel,
    Toolchain,
    golden_of,
    random_audio,
    toolchain,
)
from rom_loader import wait_for_reader

__all__ = ["toolchain"]
ROOT = Path(__file__).resolve().parents[2]
# Of ew_image_header_t: where a section's offset and size are.
SECTIONS = HEADER_BYTES - 8 * 15
MODEL, NUMBERS, WINDOW, BANDS, WEIGHTS, FEATURES, OUTPUTS = 1, 2, 4, 5, 6, 11, 12


def released(name: str) -> bytes:
    return (ROOT / "models" / name / "model.tflite").read_bytes()


@dataclass(frozen=True)
class Wakeword:
    """One that the firmware was not built with: another phrase, weights, window, cutoff and frontend."""

    model: bytes
    params: PipelineParams
    config: FrontendConfig
    golden: Golden

    def image(self, **changes: Any) -> bytes:
        golden = changes.get("golden", self.golden)
        arrays = [value for value in vars(golden).values() if isinstance(value, np.ndarray)]
        model = changes.get("model", self.model)
        return write_image(tflite_payload(model), "cd" * 32, "alexa", self.config, self.params, arrays)


@pytest.fixture(scope="module")
def other() -> Wakeword:
    params, config = replace(PARAMS, window=5, cutoff_sum=180_000), FrontendConfig(upper_hz=7000.0)
    golden = golden_of(random_audio(5, 0.8), released("alexa"), params, config)
    return Wakeword(released("alexa"), params, config, golden)


@pytest.fixture(scope="module")
def program(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware with the model `computer` built in, which reports each second, as a program of the host."""
    folder = tmp_path_factory.mktemp("wakeword")
    emit_firmware(
        folder / "project", model_bytes=released("computer"), frontend_config=CONFIG, params=PARAMS,
        golden=golden_of(random_audio(1, 0.8), released("computer")), operators=OPERATORS,
        arena_bytes=20_000, phrase="computer",
    )  # fmt: skip
    configured = toolchain.configured(folder / "project", folder / "config", "EDGEWAKE_REPORT_SECONDS=1")
    compiled = configured.objects(folder / "project", folder / "objects", *SANITIZE)
    return configured.program(folder / "project", compiled, folder / "firmware", *SANITIZE)


def start(program: Path, folder: Path, image: bytes | None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the firmware on three seconds of audio, with an image in its partition, or no partition."""
    random_audio(7, 3.0).tofile(folder / "audio.s16")
    if image is not None:
        (folder / "partition").write_bytes(image)
        environment["HOST_PARTITION"] = str(folder / "partition")
    command = [str(program), str(folder / "audio.s16")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the application is valid" in done.stdout
    return done


def detections(output: str) -> list[str]:
    return re.findall(r'detected "(.*?)" at ([\d.]+) s, probability ([\d.]+) %', output)


def expected(phrase: str, params: PipelineParams, config: FrontendConfig, model: bytes) -> list[tuple[str, str, str]]:
    steps = NativePipeline(config, params, FakeModel(model)).process(random_audio(7, 3.0))
    found = [step for step in steps if step.detected]
    shares = [step.sum * 10_000 // (65536 * params.window) for step in found]
    return [
        (phrase, f"{step.sample_index * 1000 // 16000 / 1000:.3f}", f"{share / 100:.2f}")
        for step, share in zip(found, shares, strict=True)
    ]


BUILT_IN = ("computer", PARAMS, CONFIG, released("computer"))


def test_the_wake_word_of_the_partition_runs_instead_of_the_built_in_one(
    program: Path, other: Wakeword, tmp_path: Path
) -> None:
    done = start(program, tmp_path, other.image())
    assert f'phrase "alexa", model cdcdcdcdcdcd, {len(other.model)} bytes, of the partition' in done.stdout
    wanted = expected("alexa", other.params, other.config, other.model)
    assert len(wanted) > 2
    assert detections(done.stdout) == wanted
    assert wanted != expected(*BUILT_IN)


@pytest.mark.parametrize("image", [None, b"", b"\0" * 100, b"edgewake"])
def test_without_a_wake_word_in_the_partition_the_built_in_one_runs(
    program: Path, tmp_path: Path, image: bytes | None
) -> None:
    done = start(program, tmp_path, image)
    assert "built in" in done.stdout
    assert ("refused" in done.stdout) == (image not in (None, b""))
    assert ("no partition" in done.stdout) == (image is None)
    assert detections(done.stdout) == expected(*BUILT_IN)


def sealed(image: bytes) -> bytes:
    """With the checksum that it would have."""
    return image[:8] + struct.pack("<I", zlib.crc32(image[12:])) + image[12:]


def patched(image: bytes, offset: int, data: bytes) -> bytes:
    return sealed(image[:offset] + data + image[offset + len(data) :])


def section(image: bytes, which: int) -> int:
    return int(struct.unpack_from("<I", image, SECTIONS + 8 * which)[0])


def word(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def nan_scale(image: bytes) -> bytes:
    """The first scale of the model is no number."""
    place = next(p for p in tflite_payload(released("alexa")).numbers if p.width == 4 and p.low > 0)
    return patched(image, section(image, MODEL) + place.offset, word(0x7FC00000))


CASES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a flipped bit": (lambda i: i[:9000] + bytes([i[9000] ^ 1]) + i[9001:], "its checksum differs"),
    "cut off": (lambda i: i[:-100], "its checksum differs"),
    "longer than the partition": (lambda i: patched(i, 20, word(PARTITION_BYTES + 16)), "it is cut off"),
    "another version": (lambda i: patched(i, 12, word(2)), "another version"),
    "another kind": (lambda i: patched(i, 16, word(2)), "for the other backend"),
    "another structure": (lambda i: patched(i, 24 + 64, b"?"), "other layers"),
    "an operator": (lambda i: patched(i, section(i, MODEL) + 56_000, b"\x11\x22\x33\x44\x55"), "other layers"),
    "a place of numbers": (lambda i: patched(i, section(i, NUMBERS) + 4, word(9)), "other layers"),
    "places beyond the model": (lambda i: patched(i, section(i, NUMBERS) + 4, word(-1)), "a number of the model"),
    "a scale that is no number": (nan_scale, "a number of the model is out of range"),
    "more samples a second": (lambda i: patched(i, 24 + 96, word(48_000)), "takes other audio, or more time"),
    "frames every sample": (lambda i: patched(i, 24 + 96 + 4 + 8 + 4, word(1)), "takes other audio, or more time"),
    "a section outside": (lambda i: patched(i, SECTIONS + 8 * FEATURES, word(0xFFFFFFF0)), "a section is not inside"),
    "bands that descend": (lambda i: patched(i, section(i, BANDS) + 2, b"\xff\xff"), "a table of the frontend"),
    "a window above 1": (lambda i: patched(i, section(i, WINDOW) + 3, b"\x7f"), "a table of the frontend"),
    "a weight above 1": (lambda i: patched(i, section(i, WEIGHTS) + 1, b"\x7f"), "a table of the frontend"),
    "an escape sequence": (lambda i: patched(i, section(i, 0), b"\x1b[2J"), "no text"),
    "a cutoff of zero": (lambda i: patched(i, SECTIONS - 8, word(0)), "a setting of the detection"),
    "no steps": (lambda i: patched(i, SECTIONS + 8 * OUTPUTS + 4, word(0)), "golden vectors are incomplete"),
    "another golden value": (
        lambda i: patched(i, section(i, OUTPUTS) + 3, bytes([i[section(i, OUTPUTS) + 3] ^ 1])),
        "it does not give its golden vectors",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_image_that_is_damaged_or_does_not_fit_is_refused_with_its_reason(
    program: Path, other: Wakeword, tmp_path: Path, case: str
) -> None:
    change, reason = CASES[case]
    done = start(program, tmp_path, change(other.image()))
    (line,) = re.findall(r"W \(\w+\) (the wake word of the partition is refused: .*)", done.stdout)
    assert reason in line
    assert 'phrase "computer"' in done.stdout
    assert detections(done.stdout) == expected(*BUILT_IN)


def test_images_of_any_bytes_leave_the_built_in_wake_word(program: Path, other: Wakeword, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = np.frombuffer(other.image(), np.uint8)
    for _ in range(8):
        image = whole.copy()
        places = rng.integers(12, len(image) if rng.integers(2) else HEADER_BYTES, rng.integers(1, 20))
        image[places] = rng.integers(0, 256, len(places), np.uint8)
        assert detections(start(program, tmp_path, sealed(image.tobytes())).stdout)


# An update by the application

UPDATE = """
#include <stdio.h>
#include <stdlib.h>
#include "edgewake.h"

static int read_file(void *context, void *buffer, size_t size) {
    /* In pieces of any size, as a network gives them. */
    return (int)fread(buffer, 1, size > 300 ? 300 : size, context);
}

__attribute__((constructor)) static void update(void) {
    const char *path = getenv("TEST_UPDATE");
    FILE *file = path != NULL ? fopen(path, "rb") : NULL;
    if (file != NULL) {
        const esp_err_t error = edgewake_update(read_file, file);
        printf("update: 0x%x\\n", (unsigned)error);
        fflush(stdout);
        _Exit(0);
    }
}
"""


@pytest.fixture(scope="module")
def updating(program: Path, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same firmware, whose application updates the wake word at its start where a file is given."""
    folder = tmp_path_factory.mktemp("updating")
    (folder / "update.c").write_text(UPDATE)
    configured = replace(toolchain, config=program.parent / "config")
    objects = sorted((program.parent / "objects").glob("*.o"))
    options = [*SANITIZE, str(folder / "update.c")]
    return configured.program(program.parent / "project", objects, folder / "firmware", *options)


def update(updating: Path, folder: Path, image: bytes) -> str:
    (folder / "new").write_bytes(image)
    environment = {"HOST_PARTITION": str(folder / "partition"), "TEST_UPDATE": str(folder / "new")}
    done = subprocess.run(
        [str(updating), "-"], capture_output=True, text=True, check=False, timeout=600, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_update_runs_after_a_restart(updating: Path, other: Wakeword, tmp_path: Path) -> None:
    (tmp_path / "partition").write_bytes(b"\0" * PARTITION_BYTES)
    output = update(updating, tmp_path, other.image())
    assert "update: 0x0" in output
    assert 'wake word "alexa", model cdcdcdcdcdcd, is in the partition; it runs after a restart' in output
    done = start(updating, tmp_path, (tmp_path / "partition").read_bytes())
    assert detections(done.stdout) == expected("alexa", other.params, other.config, other.model)


@pytest.mark.parametrize(
    ("change", "code", "kept"),
    [
        (lambda i: i[:100], 0x104, True),
        (lambda i: b"?" + i[1:], 0x102, True),
        (lambda i: patched(i, 24 + 64, b"?"), 0x102, True),
        (lambda i: i[:50_000], 0x104, False),
        (lambda i: i[:50_000] + b"?" + i[50_001:], 0x109, False),
    ],
)
def test_a_bad_update_keeps_the_old_one_where_its_beginning_shows_it_and_never_runs(
    updating: Path, other: Wakeword, tmp_path: Path, change: Callable[[bytes], bytes], code: int, kept: bool
) -> None:
    old = other.image().ljust(PARTITION_BYTES, b"\xff")
    (tmp_path / "partition").write_bytes(old)
    assert f"update: 0x{code:x}" in update(updating, tmp_path, change(other.image()))
    now = (tmp_path / "partition").read_bytes()
    assert (now == old) == kept
    assert ('phrase "alexa"' in start(updating, tmp_path, now).stdout) == kept


# edgewake monitor


def test_monitor_reads_a_running_firmware(program: Path, other: Wakeword, tmp_path: Path) -> None:
    random_audio(7, 3.0).tofile(tmp_path / "audio.s16")
    (tmp_path / "partition").write_bytes(other.image())
    master, slave = pty.openpty()
    tty.setraw(slave)
    environment = os.environ | {"HOST_PARTITION": str(tmp_path / "partition"), "HOST_IDF_LOG": "1"}

    def board() -> None:
        wait_for_reader(slave)
        subprocess.run([str(program), str(tmp_path / "audio.s16")], stdout=master, env=environment, check=True)

    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(board)
        done = CliRunner().invoke(main, ["monitor", "--port", os.ttyname(slave), "--seconds", "15", "--json"])
        ran.result()
    os.close(master)
    os.close(slave)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    named = {name: [event for event in events if event["event"] == name] for name in {e["event"] for e in events}}
    assert done.exit_code == 0
    assert named["wakeword"][0]["phrase"] == "alexa"
    assert named["self_test"][0]["passed"]
    wanted = expected("alexa", other.params, other.config, other.model)
    assert [event["time_s"] for event in named["detection"]] == [float(time) for _, time, _ in wanted]
    assert [event["probability"] for event in named["detection"]] == [
        pytest.approx(float(share) / 100, abs=1e-4) for *_, share in wanted
    ]
    # Three seconds of audio, a report each.
    assert len(named["timing"]) == len(named["stacks"]) == 2
    for figure in (named["timing"][0]["frame"], named["timing"][0]["step"]):
        assert 0 < figure["cycles"]["min"] <= figure["cycles"]["mean"] <= figure["cycles"]["max"]
    assert named["timing"][0]["mhz"] == 240
