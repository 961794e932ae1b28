"""The C core suits a small processor: integers, no allocation, no globals; emitted tables are the host's."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from edgewake._native import FrontendTables
from edgewake.conversion.c_source import frontend_header
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.frontend.native import native_tables

CORE = Path("firmware/esp32s3/components/edgewake")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
# All that the core may take from a C library; compilers call these by themselves.
ALLOWED = {"memcpy", "memmove", "memset", "memcmp"}
STRING_H = """
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
"""


def compiler() -> str:
    found = shutil.which("gcc") or shutil.which("cc")
    assert found, "the tests of the C core need a C compiler: apt-get install gcc"
    return found


def build(*arguments: str | Path) -> None:
    done = subprocess.run([compiler(), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def symbols(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(kind, name) of all symbols of the core, compiled for 32 bits without C library or float registers."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "string.h").write_text(STRING_H, encoding="utf-8")
    freestanding = subprocess.run(
        [compiler(), "-print-file-name=include"], capture_output=True, text=True, check=True
    ).stdout.strip()
    target_flags = ["-O2", "-m32", "-mgeneral-regs-only", "-ffreestanding", "-fno-pic", "-nostdinc"]
    include = ["-isystem", freestanding, "-I", folder, "-I", repository / CORE / "include"]
    sources = sorted((repository / CORE / "src").glob("*.c"))
    assert sources
    found = []
    for source in sources:
        target = folder / f"{source.stem}.o"
        build(*STRICT, *target_flags, *include, "-c", source, "-o", target)
        listed = subprocess.run(["nm", target], capture_output=True, text=True, check=True).stdout
        found += [(line.split()[-2], line.split()[-1]) for line in listed.splitlines()]
    return found


def test_core_calls_no_allocation_no_float_and_no_wide_division(symbols: list[tuple[str, str]]) -> None:
    defined = {name for kind, name in symbols if kind != "U"}
    assert "ew_frontend_process" in defined
    foreign = {name for kind, name in symbols if kind == "U"} - defined
    assert foreign <= ALLOWED


def test_core_has_no_mutable_globals(symbols: list[tuple[str, str]]) -> None:
    assert [name for kind, name in symbols if kind in "BbCDdGgSs"] == []


CONFIGS = {
    "default": {},
    "step_20_ms": {"step_ms": 20},
    "without_pcan": {"pcan": False},
    "fft_1024": {"window_ms": 64, "channels": 64},
    "fft_64": {"sample_rate": 8_000, "window_ms": 5, "step_ms": 5, "upper_hz": 3_500.0, "channels": 4},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_emitted_tables_are_the_run_time_tables(name: str, repository: Path, tmp_path: Path) -> None:
    config = FrontendConfig(**CONFIGS[name])
    (tmp_path / "tables.h").write_text(frontend_header(config), encoding="utf-8")
    (tmp_path / "tables.c").write_text(
        '#include "tables.h"\n'
        f"#if EW_FRONTEND_HASH != 0x{config.hash()}ULL\n#error another configuration\n#endif\n"
        "const ew_frontend_tables_t *tables(void);\n"
        "const ew_frontend_tables_t *tables(void) { return &EW_FRONTEND_TABLES; }\n",
        encoding="utf-8",
    )
    library = tmp_path / "tables.so"
    build(*STRICT, "-shared", "-fPIC", "-I", repository / CORE / "include", tmp_path / "tables.c", "-o", library)
    function = ctypes.CDLL(str(library)).tables
    function.restype = ctypes.POINTER(FrontendTables)
    emitted = function().contents
    expected = native_tables(config)
    for field, kind in FrontendTables._fields_:
        if kind is ctypes.c_void_p:
            array = getattr(expected.tables, field)
            assert ctypes.string_at(getattr(emitted, field), array.nbytes) == array.tobytes(), field
        else:
            assert getattr(emitted, field) == getattr(expected.struct, field), field
    assert emitted.hash == int(config.hash(), 16)


def test_emitted_header_is_valid_cpp(repository: Path, tmp_path: Path) -> None:
    cpp = shutil.which("g++") or shutil.which("c++")
    assert cpp, "the tests of the C core need a C++ compiler: apt-get install g++"
    (tmp_path / "tables.h").write_text(frontend_header(), encoding="utf-8")
    source = tmp_path / "tables.cc"
    source.write_text('#include "tables.h"\nsize_t size() { return ew_frontend_size(&EW_FRONTEND_TABLES); }\n')
    include = str(repository / CORE / "include")
    command = [cpp, "-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", include]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_emission_is_deterministic_and_of_integers() -> None:
    header = frontend_header()
    assert "float" not in header
    assert header == frontend_header(FrontendConfig())
    assert header.count("static const int16_t") == 4
