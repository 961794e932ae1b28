"""A board gets the firmware that idf.py built, or a wake word alone, by esptool; nothing is written that does not fit.

esptool runs as a program of its own. Its partition tables are ESP-IDF's: 32 bytes an entry, at 0x8000.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgewake.builder.firmware import IMAGE
from edgewake.builder.image import HEADER_BYTES, PARTITION, Header, check_image, read_header
from edgewake.builder.user_files import FIRMWARE
from edgewake.errors import EdgewakeError
from edgewake.io import read_json

CHIP = "esp32s3"
TABLE_AT, TABLE_BYTES = 0x8000, 0xC00
# What idf.py build leaves in its folder.
ARGUMENTS = "flasher_args.json"
_ENTRY = struct.Struct("<2sBBII16sI")
_DATA, _SUBTYPE = 1, 0x40
_WHOLE = "flash the whole firmware once, without --model-only"


class Place(NamedTuple):
    """A partition: its address in flash, and its size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Board:
    """A board at a serial port, as esptool reaches it.

    Attributes:
        stub: run esptool's own loader on the chip; without it the one in its ROM is used, which is slower.
    """

    port: str
    baud: int = 460_800
    stub: bool = True

    def esptool(self, *arguments: str, reset: bool) -> None:
        """Run one command of esptool; `reset` starts the firmware afterwards."""
        command = [sys.executable, "-m", "esptool", "--chip", CHIP, "--port", self.port, "--baud", str(self.baud)]
        command += ["--after", "hard-reset" if reset else "no-reset", *([] if self.stub else ["--no-stub"])]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()]
            reason = said[-1].strip() if said else f"exit code {done.returncode}"
            raise EdgewakeError(f"esptool at {self.port}: {reason}; hold BOOT while you press RESET, and try again")

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the flash."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "flash"
            self.esptool("read-flash", hex(offset), hex(size), str(path), reset=False)
            return path.read_bytes()

    def write(self, files: Sequence[tuple[int, Path]], options: Sequence[str] = ()) -> None:
        """Files at their addresses, checked by esptool; then the firmware starts."""
        places = [part for offset, path in sorted(files) for part in (hex(offset), str(path))]
        self.esptool("write-flash", *options, *places, reset=True)


def find_partition(table: bytes) -> Place:
    """Where a partition table has that of wake words.

    Raises:
        EdgewakeError: there is no table, or no such partition in it.
    """
    names = []
    for start in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, subtype, offset, size, label, _ = _ENTRY.unpack_from(table, start)
        if magic != b"\xaa\x50":
            break
        names.append(label.rstrip(b"\0").decode(errors="replace"))
        if (kind, subtype, names[-1]) == (_DATA, _SUBTYPE, PARTITION):
            return Place(offset, size)
    if not names:
        raise EdgewakeError(f"the board has no partition table at {TABLE_AT:#x}: {_WHOLE}")
    raise EdgewakeError(f"the board has no partition {PARTITION!r}, only {', '.join(names)}: {_WHOLE}")


def flash_wakeword(board: Board, build: Path) -> Header:
    """Write the image of a build folder to the partition of a board that runs edgewake; returns what it is.

    Raises:
        EdgewakeError: there is no image or it is damaged, the board's firmware takes no such one, or esptool fails.
    """
    path = build / FIRMWARE / IMAGE
    data, header = check_image(path)
    place = find_partition(board.read(TABLE_AT, TABLE_BYTES))
    if len(data) > place.size:
        raise EdgewakeError(f"{path} has {len(data):,} B, the board's partition {place.size:,} B: {_WHOLE}")
    # What was flashed with the firmware says which structure it takes.
    before = read_header(board.read(place.offset, -(-HEADER_BYTES // 4096) * 4096))
    if before is not None and (before.kind, before.structure) != (header.kind, header.structure):
        raise EdgewakeError(
            f"the board's firmware takes models of structure {before.structure[:12]}, {path} is of "
            f"{header.structure[:12]}: {_WHOLE}"
        )
    board.write([(place.offset, path)])
    return header


def flash_firmware(board: Board, build: Path) -> Header:
    """Write everything that idf.py built in a build folder, and its wake word; returns what that is.

    Raises:
        EdgewakeError: idf.py has not built it, it is for another chip, or esptool fails.
    """
    image = build / FIRMWARE / IMAGE
    _, header = check_image(image)
    folder = build / FIRMWARE / "build"
    if not (folder / ARGUMENTS).is_file():
        raise EdgewakeError(
            f"{folder / ARGUMENTS} is missing: run idf.py set-target {CHIP} build in {build / FIRMWARE}, or give "
            "--model-only where the board already runs edgewake"
        )
    options, files = _what_idf_built(folder)
    table = next((path for offset, path in files if offset == TABLE_AT), None)
    if table is None:
        raise EdgewakeError(f"{folder / ARGUMENTS} has nothing at {TABLE_AT:#x}: keep the table's default offset")
    place = find_partition(table.read_bytes())
    # Also where idf.py ran before edgewake build made another image.
    board.write([*(item for item in files if item[0] != place.offset), (place.offset, image)], options)
    return header


def _what_idf_built(folder: Path) -> tuple[list[str], list[tuple[int, Path]]]:
    """esptool's options, and files by address."""
    given: Any = read_json(folder / ARGUMENTS, "list of what to flash")
    try:
        chip = given["extra_esptool_args"]["chip"]
        # esptool's options have been spelled with hyphens since its version 5.
        options = [str(part).replace("_", "-") if part.startswith("--") else part for part in given["write_flash_args"]]
        files = [(int(offset, 0), folder / name) for offset, name in given["flash_files"].items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EdgewakeError(f"{folder / ARGUMENTS} is not of idf.py: build again") from error
    if chip != CHIP:
        raise EdgewakeError(f"{folder} was built for {chip}: run idf.py set-target {CHIP} build")
    if lacking := [path for _, path in files if not path.is_file()]:
        raise EdgewakeError(f"{lacking[0]} is missing: run idf.py build again")
    return options, files
