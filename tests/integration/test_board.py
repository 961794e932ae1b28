"""A board gets what fits it, by esptool, and keeps what it has otherwise; its log is read as events."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import sys
import tty
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgewake.builder.board_log import event_of
from edgewake.builder.firmware import IMAGE
from edgewake.builder.flash import find_partition
from edgewake.builder.image import PARTITION_BYTES, Numbers, check_image, read_header, tflite_payload, write_image
from edgewake.cli import main
from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.pipeline import PipelineParams, derive_quantizer
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import write_tflite
from edgewake.targets.firmware import template_dir
from random_models import random_model
from rom_loader import RomLoader, wait_for_reader

ROOT = Path(__file__).resolve().parents[2]
PLACE = 0x3B0000
SCALE = np.float32(26 / 255)
PARAMS = PipelineParams(
    *derive_quantizer(SCALE, -128), -128, window=3, cutoff_sum=100_000, refractory_steps=8,
    output=Quantization(np.float32(3 / 32), 0),
)  # fmt: skip


def image_of(model: bytes, phrase: str = "hey atlas") -> bytes:
    samples = np.arange(480 + 160 * 5, dtype=np.int16)
    frames = features(samples)
    golden = [samples, frames, np.zeros(2, np.int8), np.zeros(2, np.uint32), np.zeros(2, np.uint8)]
    return write_image(tflite_payload(model), "ab" * 32, phrase, FrontendConfig(), PARAMS, golden)


def partition_table(csv: str) -> bytes:
    """The table as ESP-IDF's gen_esp32part.py writes it, but for the MD5 at its end."""
    types, subtypes = {"app": 0, "data": 1}, {"ota": 0, "phy": 1, "nvs": 2, "ota_0": 0x10, "ota_1": 0x11}
    table = b""
    for row in (line.split(",") for line in csv.splitlines() if line and not line.startswith("#")):
        label, kind, subtype, offset, size = (cell.strip() for cell in row)
        number = subtypes[subtype] if subtype in subtypes else int(subtype, 0)
        places = int(offset, 0), int(size, 0)
        table += struct.pack("<2sBBII16sI", b"\xaa\x50", types[kind], number, *places, label.encode(), 0)
    return table.ljust(0xC00, b"\xff")


TABLE = partition_table((template_dir() / "partitions.csv").read_text())


@pytest.fixture(scope="module")
def model() -> bytes:
    return (ROOT / "models" / "computer" / "model.tflite").read_bytes()


@pytest.fixture
def build(tmp_path: Path, model: bytes) -> Path:
    """As much of a build folder as flash reads."""
    image = tmp_path / "build" / "firmware" / IMAGE
    image.parent.mkdir(parents=True)
    image.write_bytes(image_of(model))
    return tmp_path / "build"


@pytest.fixture
def board() -> Iterator[RomLoader]:
    with RomLoader() as rom:
        rom.flash[0x8000 : 0x8000 + len(TABLE)] = TABLE
        yield rom


def flash(build: Path, board: RomLoader, *options: str) -> Any:
    return CliRunner().invoke(main, ["flash", str(build), "--port", board.port, "--no-stub", *options])


@pytest.mark.slow
def test_a_wake_word_is_written_where_the_boards_table_has_its_partition(build: Path, board: RomLoader) -> None:
    before = bytes(board.flash)
    done = flash(build, board, "--model-only", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["phrase"] == "hey atlas"
    image = (build / "firmware" / IMAGE).read_bytes()
    assert board.flash[PLACE : PLACE + len(image)] == image
    assert board.flash[:PLACE] == before[:PLACE]
    assert board.flash[PLACE + PARTITION_BYTES :] == before[PLACE + PARTITION_BYTES :]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["no table", "no partition", "another structure", "too small"])
def test_what_does_not_fit_the_board_is_not_written(build: Path, board: RomLoader, model: bytes, case: str) -> None:
    if case == "no table":
        board.flash[0x8000:0x9000] = b"\xff" * 4096
    elif case == "no partition":
        board.flash[0x8000:0x9000] = TABLE.replace(b"edgewake", b"somethin").ljust(4096, b"\xff")
    elif case == "too small":
        board.flash[0x8000:0x9000] = TABLE.replace(struct.pack("<II", PLACE, 0x20000), struct.pack("<II", PLACE, 4096))
    else:
        other = image_of(write_tflite(streaming_graphs(random_model(1))))
        board.flash[PLACE : PLACE + len(other)] = other
    before = bytes(board.flash)
    done = flash(build, board, "--model-only")
    assert done.exit_code == 1
    assert "flash the whole firmware once" in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert board.flash == before


def test_a_damaged_image_and_a_missing_build_are_refused_before_the_board_is_asked(build: Path, tmp_path: Path) -> None:
    image = build / "firmware" / IMAGE
    whole = image.read_bytes()
    for data in (whole[:-16], whole[:5000] + b"?" + whole[5001:], b"", b"edgewake" + bytes(5000)):
        image.write_bytes(data)
        for option in ([], ["--model-only"]):
            done = CliRunner().invoke(main, ["flash", str(build), "--port", "/dev/none", *option])
            assert done.exit_code == 1
            assert "image" in done.output
    image.write_bytes(whole)
    done = CliRunner().invoke(main, ["flash", str(build), "--port", "/dev/none"])
    assert "run idf.py set-target esp32s3 build" in done.output
    done = CliRunner().invoke(main, ["flash", str(tmp_path / "none"), "--port", "/dev/none", "--model-only"])
    assert "run edgewake build" in done.output


@pytest.mark.slow
def test_a_port_without_a_board_is_one_line(build: Path) -> None:
    done = CliRunner().invoke(main, ["flash", str(build), "--port", "/dev/none", "--model-only"])
    assert done.exit_code == 1
    assert len(done.output.strip().splitlines()) == 1
    assert "/dev/none" in done.output


def built_by_idf(build: Path, **changes: Any) -> dict[str, bytes]:
    """The folder that idf.py leaves, with what flash reads of it."""
    files = {"bootloader.bin": b"boot" * 100, "table.bin": TABLE, "ota.bin": b"\xff" * 8192, "app.bin": b"app!" * 5000}
    folder = build / "firmware" / "build"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    places = {"0x0": "bootloader.bin", "0x8000": "table.bin", "0xd000": "ota.bin", "0x10000": "app.bin"}
    options = ["--flash_mode", "dio", "--flash_size", "4MB", "--flash_freq", "80m"]
    given = {"write_flash_args": options, "flash_files": places, "extra_esptool_args": {"chip": "esp32s3"}} | changes
    (folder / "flasher_args.json").write_text(json.dumps(given))
    return files


@pytest.mark.slow
def test_the_whole_firmware_is_what_idf_built_and_the_wake_word(build: Path, board: RomLoader) -> None:
    files = built_by_idf(build)
    board.flash[0x8000:0x9000] = b"\xff" * 4096
    done = flash(build, board)
    assert done.exit_code == 0, done.output
    for place, name in ((0, "bootloader.bin"), (0x8000, "table.bin"), (0xD000, "ota.bin"), (0x10000, "app.bin")):
        assert board.flash[place : place + len(files[name])] == files[name]
    image = (build / "firmware" / IMAGE).read_bytes()
    assert board.flash[PLACE : PLACE + len(image)] == image


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra_esptool_args": {"chip": "esp32"}}, "was built for esp32"),
        ({"flash_files": {"0x8000": "none.bin"}}, "none.bin is missing"),
        ({"flash_files": {"0x0": "app.bin"}}, "has nothing at 0x8000"),
        ({"flash_files": ["app.bin"]}, "is not of idf.py"),
        ({"flash_files": {"0x8000": "app.bin"}}, "no partition table"),
    ],
)
def test_a_build_of_idf_that_cannot_be_is_refused(build: Path, changes: dict[str, Any], message: str) -> None:
    built_by_idf(build, **changes)
    done = CliRunner().invoke(main, ["flash", str(build), "--port", "/dev/none"])
    assert done.exit_code == 1
    assert message in done.output


@pytest.mark.slow
def test_esptool_merges_the_image_and_takes_it_for_no_application(build: Path, tmp_path: Path) -> None:
    image, table, merged = build / "firmware" / IMAGE, tmp_path / "table.bin", tmp_path / "merged.bin"
    table.write_bytes(TABLE)
    esptool = [sys.executable, "-m", "esptool", "--chip", "esp32s3"]
    command = [*esptool, "merge-bin", "--output", str(merged), "0x8000", str(table), hex(PLACE), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert merged.read_bytes()[PLACE:] == image.read_bytes()
    assert merged.read_bytes()[0x8000 : 0x8000 + len(TABLE)] == TABLE
    done = subprocess.run([*esptool, "image-info", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode != 0


@pytest.mark.skipif(not os.environ.get("IDF_PATH"), reason="IDF_PATH names no ESP-IDF, whose tool makes the table")
def test_the_table_is_the_one_of_esp_idf(tmp_path: Path) -> None:
    tool = Path(os.environ["IDF_PATH"]) / "components" / "partition_table" / "gen_esp32part.py"
    command = [sys.executable, str(tool), "--flash-size", "4MB", str(template_dir() / "partitions.csv")]
    done = subprocess.run([*command, str(tmp_path / "table.bin")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = (tmp_path / "table.bin").read_bytes()
    entries = len(TABLE.rstrip(b"\xff"))
    assert made[:entries] == TABLE[:entries]
    assert find_partition(made) == (PLACE, PARTITION_BYTES)


# The image


def test_released_models_are_of_one_structure_and_fit_the_same_firmware() -> None:
    found = {tflite_payload(path.read_bytes()).structure for path in (ROOT / "models").glob("*/model.tflite")}
    assert len(found) == 1


def test_only_numbers_may_differ_within_a_structure(model: bytes) -> None:
    payload = tflite_payload(model)
    numbers = np.zeros(len(model), bool)
    for place in payload.numbers:
        numbers[place.offset : place.offset + place.items * place.width] = True
    rng = np.random.default_rng(1)
    for index in rng.choice(len(model), 300, replace=False).tolist():
        changed = bytearray(model)
        changed[index] ^= 1
        same = replace(payload, data=bytes(changed)).structure == payload.structure
        assert same == numbers[index]
    assert numbers.sum() > 0.9 * len(model)


def test_places_of_numbers_hold_the_models_own_weights_scales_and_biases(model: bytes) -> None:
    deployed = DeployedModel.load(ROOT / "models" / "computer")
    payload = tflite_payload(model)

    def count(width: int, low: int) -> int:
        return sum(place.items for place in payload.numbers if (place.width, place.low) == (width, low))

    weights = [layer.weight for layer in deployed.layers if layer.weight is not None]
    assert count(1, -128) > sum(weight.size for weight in weights)  # and states
    assert count(4, -(2**30)) == sum(len(layer.bias) for layer in deployed.layers if layer.bias is not None)


def test_a_bias_that_shares_its_bytes_with_a_slice_is_no_number() -> None:
    graphs = streaming_graphs(random_model(3, width=4, kernels=(3,)))
    tensors, end = graphs[0].tensors, struct.pack("<4i", 1, 3, 1, 4)
    assert any(tensor.data == end for tensor in tensors)  # where STRIDED_SLICE ends
    bias = max(index for index, tensor in enumerate(tensors) if tensor.shape == (4,))
    before = tflite_payload(write_tflite(graphs))
    tensors[bias] = replace(tensors[bias], data=end)
    data = write_tflite(graphs)
    after = tflite_payload(data)
    places = {found.start() for found in re.finditer(re.escape(end), data)}  # equal buffers are stored once
    assert not places & {numbers.offset for numbers in after.numbers}
    assert len(after.numbers) == len(before.numbers) - 1


def test_an_image_names_itself(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "edgewake.bin"
    path.write_bytes(image_of(model))
    data, header = check_image(path)
    assert (header.phrase, header.bytes, header.kind) == ("hey atlas", len(data), 1)
    assert header.structure == tflite_payload(model).structure.hex()
    assert zlib.crc32(data[12:]) == int.from_bytes(data[8:12], "little")
    assert read_header(b"\xff" * 4096) is None
    with pytest.raises(EdgewakeError, match="version 9"):
        read_header(data[:12] + b"\x09" + data[13:])


def test_a_phrase_that_no_line_holds_and_an_image_larger_than_its_partition_are_refused(model: bytes) -> None:
    for phrase in ("", "a\nb", "x" * 128):
        with pytest.raises(EdgewakeError, match="printable"):
            image_of(model, phrase)
    large = tflite_payload(model + bytes(PARTITION_BYTES))
    with pytest.raises(EdgewakeError, match="its partition 131,072 B"):
        write_image(large, "ab" * 32, "hey", FrontendConfig(), PARAMS, [np.zeros(1, np.int16)] * 5)
    assert Numbers(0, 1, 1, -128, 127) not in large.numbers


# The log

LINES = {
    'I (312) edgewake: phrase "hey atlas", model 1b167b3ce60e, 56928 bytes, of the partition': {
        "event": "wakeword", "ms": 312, "phrase": "hey atlas", "model": "1b167b3ce60e", "bytes": 56928,
        "built_in": False,
    },
    "W (300) wakeword: the wake word of the partition is refused: its checksum differs": {
        "event": "refused", "ms": 300, "reason": "its checksum differs",
    },
    "I (900) edgewake: golden vectors agree: 3840 features, 32 steps, in 512 ms": {
        "event": "self_test", "ms": 900, "passed": True, "features": 3840, "steps": 32, "took_ms": 512,
    },
    "E (900) edgewake: golden vectors differ: feature 3 is 87, expected 86": {
        "event": "self_test", "ms": 900, "passed": False, "difference": "feature 3 is 87, expected 86",
    },
    '\x1b[0;32mI (9000) edgewake: detected "say "a"" at 8.100 s, probability 97.25 %\x1b[0m': {
        "event": "detection", "ms": 9000, "phrase": 'say "a"', "time_s": 8.1, "probability": 0.9725,
    },
    "W (9100) detector: audio lost since start: 320 samples before inference, 2 DMA blocks": {
        "event": "loss", "ms": 9100, "samples": 320, "dma_blocks": 2,
    },
    "I (60000) timing: frontend 96000 cycles a frame (48000 to 120000), step 480000 cycles (240000 to 720000), "
    "2000 steps at 240 MHz": {
        "event": "timing", "ms": 60000, "steps": 2000, "mhz": 240,
        "frame": {"cycles": {"min": 48000, "mean": 96000, "max": 120000}, "ms": {"min": 0.2, "mean": 0.4, "max": 0.5}},
        "step": {"cycles": {"min": 240000, "mean": 480000, "max": 720000}, "ms": {"min": 1, "mean": 2, "max": 3}},
    },
    "I (60001) detector: stacks: 1200 of 3072 B of capture, 2400 of 6144 B of inference were never used": {
        "event": "stacks", "ms": 60001, "unused": {"capture": 1200, "inference": 2400},
        "bytes": {"capture": 3072, "inference": 6144},
    },
    "E (1) microphone: ESP_ERR_TIMEOUT after 3 of 160 samples": {
        "event": "message", "ms": 1, "level": "error", "tag": "microphone",
        "text": "ESP_ERR_TIMEOUT after 3 of 160 samples",
    },
    "I (28) boot: ESP-IDF v5.5 2nd stage bootloader": None,
    "ESP-ROM:esp32s3-20210327": None,
    "I (99999999999999999999) \udcff": None,
    "": None,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_log_is_an_event(line: str) -> None:
    assert event_of(line) == LINES[line]


def monitored(lines: list[str], *options: str) -> Any:
    """What edgewake monitor makes of the lines that a board writes."""
    master, slave = pty.openpty()
    tty.setraw(slave)

    def write() -> None:
        wait_for_reader(slave)
        os.write(master, "".join(f"{line}\r\n" for line in lines).encode(errors="surrogateescape"))

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        done = CliRunner().invoke(main, ["monitor", "--port", os.ttyname(slave), "--seconds", "2", *options])
        written.result()
    os.close(master)
    os.close(slave)
    return done


@pytest.mark.parametrize("passed", [True, False])
def test_monitor_ends_with_1_where_the_self_test_failed(passed: bool) -> None:
    shown = [line for line in LINES if ("differ:" in line) != passed or "golden" not in line]
    done = monitored(shown, "--no-reset", "--json")
    assert done.exit_code == (0 if passed else 1), done.output
    assert [json.loads(line) for line in done.stdout.splitlines()] == [LINES[line] for line in shown if LINES[line]]
    assert "1 detections" in done.stderr


def test_monitor_shows_every_event_as_a_line() -> None:
    done = monitored(list(LINES))
    assert len(done.stdout.splitlines()) == sum(event is not None for event in LINES.values())
    assert "step 2.000 ms (1.000 to 3.000)" in done.stdout
    assert "self-test FAILED: feature 3 is 87" in done.stdout


def test_monitor_without_a_board_is_one_line() -> None:
    done = CliRunner().invoke(main, ["monitor", "--port", "/dev/none"])
    assert done.exit_code == 1
    assert done.output.startswith("error: /dev/none")
    assert len(done.output.strip().splitlines()) == 1
