"""The serial loader in an ESP32-S3's ROM, on a pseudo-terminal, in front of a flash of 4 MB: what esptool talks to.

Protocol: https://docs.espressif.com/projects/esptool/en/latest/esp32s3/advanced-topics/serial-protocol.html. Without
esptool's own loader (--no-stub), which is code for the chip. As in flash, writing clears bits, and erasing goes by
sectors.
"""

from __future__ import annotations

import hashlib
import os
import pty
import select
import struct
import termios
import threading
import time
import tty
from types import TracebackType

SECTOR = 4096
FLASH_BYTES = 4 << 20
SPI = 0x60002000
SPI_USR2, SPI_W0, SPI_USER_COMMAND, READ_ID = SPI + 0x20, SPI + 0x58, 1 << 18, 0x9F
CHIP_ID = 9
FAILED = b"\x01\x06\0\0"  # an error, "the data was wrong"


class RomLoader:
    """A board that waits for esptool, in a thread; `port` is its terminal, `flash` what is in it."""

    def __init__(self) -> None:
        self.flash = bytearray(b"\xff" * FLASH_BYTES)
        self.commands: list[int] = []
        self._registers: dict[int, int] = {}
        self._begun = (0, 0)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RomLoader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        pending = b""
        while not self._ends.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            pending += os.read(self._master, 65536)
            *packets, pending = pending.split(b"\xc0")
            for packet in filter(None, packets):
                self._answer(packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb"))

    def _answer(self, packet: bytes) -> None:
        direction, command, size, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        assert (direction, size) == (0, len(data))
        self.commands.append(command)
        value, result = self._run(command, data, checksum)
        answer = struct.pack("<BBHI", 1, command, len(result), value) + result
        escaped = answer.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
        # The ROM answers a synchronization eight times.
        os.write(self._master, (b"\xc0" + escaped + b"\xc0") * (8 if command == 0x08 else 1))

    def _run(self, command: int, data: bytes, checksum: int) -> tuple[int, bytes]:
        """The value and the data of an answer, which end with the status."""
        value, result = 0x20120707, b""
        match command:
            case 0x08 | 0x0B | 0x0D | 0x0F | 0x04:  # synchronize, flash parameters, attach, baud rate, end
                pass
            case 0x14:  # security
                result = struct.pack("<I8BII", 0, *bytes(8), CHIP_ID, 0)
            case 0x0A:  # read a register
                value = self._registers.get(struct.unpack("<I", data)[0], 0)
            case 0x09:  # write registers
                for start in range(0, len(data), 16):
                    place, given, _, _ = struct.unpack_from("<4I", data, start)
                    self._registers[place] = given
                    if place == SPI:
                        # A command to the flash chip, done at once.
                        self._registers[SPI] = 0
                        assert given == SPI_USER_COMMAND
                        if self._registers[SPI_USR2] & 0xFF == READ_ID:
                            self._registers[SPI_W0] = 0x1640EF
            case 0x0E:  # read 64 bytes
                offset, size = struct.unpack("<II", data)
                result = bytes(self.flash[offset : offset + size]).ljust(64, b"\0")
            case 0x02:  # begin: erase
                erased, _, block, offset, _ = struct.unpack("<5I", data)
                first, end = offset // SECTOR * SECTOR, -(-(offset + erased) // SECTOR) * SECTOR
                self.flash[first:end] = b"\xff" * (end - first)
                self._begun = offset, block
            case 0x03:  # a block
                size, number, _, _ = struct.unpack_from("<4I", data)
                block = data[16:]
                parity = 0xEF
                for byte in block:
                    parity ^= byte
                if parity != checksum or len(block) != size:
                    return value, FAILED
                offset = self._begun[0] + number * self._begun[1]
                self.flash[offset : offset + size] = bytes(
                    a & b for a, b in zip(self.flash[offset : offset + size], block, strict=True)
                )
            case 0x13:  # MD5
                offset, size, _, _ = struct.unpack("<4I", data)
                result = hashlib.md5(self.flash[offset : offset + size]).hexdigest().encode()
            case _:
                return value, b"\x01\x05\0\0"  # an unknown command
        return value, result + bytes(4)


def wait_for_reader(terminal: int) -> None:
    """Until edgewake monitor has opened a pseudo-terminal, and thrown away what was in it before."""
    while termios.tcgetattr(terminal)[4] != termios.B115200:
        time.sleep(0.02)
    time.sleep(0.3)
