"""What this machine has of all that edgewake can use: each finding with its state, and what to do about what lacks."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.message import Message
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from edgewake import _native
from edgewake.assets.catalogue import ASSETS
from edgewake.assets.store import assets_folder, look_up
from edgewake.cache import Cache
from edgewake.console import console, steps
from edgewake.data.microphone import microphones
from edgewake.errors import EdgewakeError
from edgewake.synthesis.engines import TEST_ONLY
from edgewake.targets.operators import ESP_NN, ESP_TFLITE_MICRO
from edgewake.training.runs import code_version

State = Literal["ok", "optional", "wrong"]
# What firmware/esp32s3/components/edgewake_detector/idf_component.yml asks for.
OLDEST_IDF = Version("5.3")
# A quick `edgewake make` fits in these, and the packages of its extras with it.
LEAST_DISK_GB, LEAST_MEMORY_GB = 10.0, 4.0
_PORTS = ("ttyUSB*", "ttyACM*", "cu.usb*", "cu.wch*", "cu.SLAB*")
# Those that decide what models compute, for reports of faults.
_VERSIONS = (
    "numpy",
    "tflite-micro",
    "soundfile",
    "soxr",
    "torch",
    "tensorflow",
    "onnx2tf",
    "onnxruntime",
    "transformers",
)
_SHOWN = 5


class Finding(NamedTuple):
    """One finding: "optional" lacks, but only some commands need it; "wrong" must be mended. `remedy` may be empty."""

    name: str
    state: State
    found: str
    remedy: str = ""


def constraints_file() -> Path:
    """constraints.txt of the checkout where the package lies in one, else the copy installed with the package."""
    package = Path(__file__).resolve().parent
    candidates = (package.parents[1] / "constraints.txt", package / "_constraints.txt")
    for path in candidates:
        if path.is_file():
            return path
    raise EdgewakeError(f"neither {candidates[0]} nor {candidates[1].name} beside the package: reinstall edgewake")


def examine() -> list[Finding]:
    """Look at everything, with progress on stderr; takes seconds, since assets are hashed and torch is loaded."""
    found: list[Finding] = []
    with steps(list(_EXAMINED)) as done:
        for look in _EXAMINED.values():
            found += look()
            done()
    return found


def versions() -> dict[str, str]:
    """What a report of a fault should name: edgewake and its commit, the machine, the C core, other packages."""
    found = {name: value for name, value in code_version().items() if name != "edgewake"}
    found |= {"python": f"{platform.python_version()} {sys.executable}", "platform": platform.platform()}
    with suppress(EdgewakeError):
        found["C core"] = f"{_native.library_path()}, SHA-256 {_native.library_sha256()[:16]}"
    for name in _VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"for the board": f"esp-tflite-micro {ESP_TFLITE_MICRO}, ESP-NN {ESP_NN}"}


# ---- Python and packages ---------------------------------------------------------------------------------


def _python() -> Iterator[Finding]:
    wanted = SpecifierSet(_metadata().get("Requires-Python", ""))
    right = wanted.contains(platform.python_version())
    remedy = "" if right else f"install Python {wanted} and make a new environment with it"
    yield Finding("python", "ok" if right else "wrong", f"{platform.python_version()}, {sys.executable}", remedy)
    try:
        _native.load()
        yield Finding("C core", "ok", str(_native.library_path()))
    except (EdgewakeError, OSError) as error:
        yield Finding("C core", "wrong", str(error), "pip install --force-reinstall --no-deps edgewake")


def _packages() -> Iterator[Finding]:
    """Each extra against what the metadata asks for, and everything that is installed against constraints.txt."""
    file = constraints_file()
    checkout = (file.parent / "pyproject.toml").is_file()
    groups: dict[str, list[Requirement]] = defaultdict(list)
    asked = _metadata().get_all("Requires-Dist", [])
    if not asked:
        yield Finding("packages", "wrong", "edgewake runs from a folder and is not installed", "pip install edgewake")
    for requirement in map(Requirement, asked):
        marker = re.search(r"extra == ['\"](\w+)['\"]", str(requirement.marker or ""))
        groups[marker[1] if marker else ""].append(requirement)
    if not checkout:
        groups.pop("dev", None)
    for extra, requirements in groups.items():
        name, what = f"extra {extra}" if extra else "packages", f"[{extra}]" if extra else ""
        place = f"{file.parent}{what}" if checkout else f"edgewake{what}"
        remedy = shlex.join(["pip", "install", "-c", str(file), *(["-e"] if checkout else []), place])
        have = {one.name: _version(one.name) for one in requirements}
        lacking = [name for name, version in have.items() if not version]
        unfit = [
            f"{one.name} {have[one.name]}, not {one.specifier}"
            for one in requirements
            if (version := have[one.name]) and not one.specifier.contains(version, prereleases=True)
        ]
        if unfit or (lacking and not extra):
            yield Finding(name, "wrong", _listed([*unfit, *(f"{one}: not installed" for one in lacking)]), remedy)
        elif lacking:
            yield Finding(name, "optional", f"not installed: {_listed(lacking)}", remedy)
        else:
            yield Finding(name, "ok", _count(len(requirements), "package"))
    pins = [line.split("==") for line in file.read_text(encoding="utf-8").splitlines() if "==" in line]
    installed = [(name, pinned, found) for name, pinned in pins if (found := _version(name))]
    other = [f"{name} {found}, tested with {pinned}" for name, pinned, found in installed if found != pinned]
    text = f"{len(installed) - len(other)} of {_count(len(installed), 'package')} as in {file}"
    if other:
        again = shlex.join(
            ["pip", "install", "-c", str(file), *(name for name, pin, found in installed if found != pin)]
        )
        yield Finding("constraints", "optional", f"{text}; {_listed(other)}", again)
    else:
        yield Finding("constraints", "ok", text)


def _metadata() -> Message:
    try:
        return metadata.distribution("edgewake").metadata  # type: ignore[return-value]
    except metadata.PackageNotFoundError:
        return Message()


def _version(name: str) -> str:
    try:
        return metadata.version(canonicalize_name(name))
    except metadata.PackageNotFoundError:
        return ""


# ---- tools and the board ---------------------------------------------------------------------------------


def _compiler() -> Iterator[Finding]:
    name = os.environ.get("CC") or "cc"
    version = _first_line([*shlex.split(name), "--version"])
    remedy = "" if version else "to build edgewake from source: apt-get install gcc libc6-dev, or set CC"
    yield Finding("compiler", "ok" if version else "optional", version or f"{name} does not run", remedy)


def _idf() -> Iterator[Finding]:
    place = os.environ.get("IDF_PATH")
    export = ". ~/esp/esp-idf/export.sh in this shell, after ESP-IDF was installed"
    if not place:
        remedy = f"to flash a board: {export} ({OLDEST_IDF} or newer)"
        yield Finding("ESP-IDF", "optional", "IDF_PATH is not set", remedy)
        return
    file = Path(place) / "tools" / "cmake" / "version.cmake"
    numbers = re.findall(r"set\(IDF_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)\)", _text(file))
    if len(numbers) != 3:
        yield Finding("ESP-IDF", "wrong", f"IDF_PATH={place} has no {file.relative_to(place)}", export)
        return
    version = Version(".".join(numbers))
    if version < OLDEST_IDF:
        remedy = (
            f"the firmware needs {OLDEST_IDF} or newer: git -C {shlex.quote(place)} checkout v{OLDEST_IDF}, install.sh"
        )
        yield Finding("ESP-IDF", "wrong", f"{version} in {place}", remedy)
        return
    there = shutil.which("idf.py") is not None
    text = f"{version} in {place}" + ("" if there else ", but idf.py is not on the PATH")
    yield Finding("ESP-IDF", "ok" if there else "optional", text, "" if there else f". {shlex.quote(place)}/export.sh")


def _ports() -> Iterator[Finding]:
    found = sorted(path for pattern in _PORTS for path in Path("/dev").glob(pattern))
    if not found:
        remedy = "to flash a board: connect it with a cable that carries data, not power alone"
        yield Finding("serial ports", "optional", "none", remedy)
    for path in found:
        allowed = os.access(path, os.R_OK | os.W_OK)
        remedy = "" if allowed else "sudo usermod -aG dialout $USER, then log in again"
        yield Finding(
            "serial ports", "ok" if allowed else "wrong", f"{path}" + ("" if allowed else ": no access"), remedy
        )


def _microphone() -> Iterator[Finding]:
    if find_spec("sounddevice") is None:
        yield Finding("microphone", "optional", "sounddevice is not installed", "pip install 'edgewake[mic]'")
        return
    try:
        found = microphones()
    except EdgewakeError as error:
        yield Finding("microphone", "optional", str(error), "apt-get install libportaudio2")
        return
    remedy = "" if found else "for edgewake listen and record: connect one; a container needs /dev/snd"
    yield Finding("microphone", "ok" if found else "optional", "; ".join(found) or "none", remedy)


def _voices() -> Iterator[Finding]:
    absent = [name for name in TEST_ONLY if shutil.which(name) is None]
    text = f"not installed: {', '.join(absent)}" if absent else ", ".join(TEST_ONLY)
    remedy = f"for a test by other voices: apt-get install {' '.join(absent)}" if absent else ""
    yield Finding("test voices", "optional" if absent else "ok", text, remedy)


def _assets() -> Iterator[Finding]:
    for asset in ASSETS:
        state, folder, fault = look_up(asset)
        found: State = "optional" if state in ("absent", "incomplete") else "wrong" if fault else "ok"
        text = fault or str(folder)
        yield Finding(f"asset {asset.name}", found, text, f"edgewake assets get {asset.name}" if fault else "")


# ---- the machine -----------------------------------------------------------------------------------------


def _disk() -> Iterator[Finding]:
    places = {"this folder": Path.cwd(), "cache": Cache().folder, "assets": assets_folder()}
    for name, place in places.items():
        there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
        free, writable = shutil.disk_usage(there).free / 1e9, os.access(there, os.W_OK)
        enough = writable and free >= LEAST_DISK_GB
        text = f"{free:.1f} GB free in {place}" + ("" if writable else ", which cannot be written")
        remedy = (
            "" if enough else f"edgewake cache clear, or another disk (EDGEWAKE_CACHE); make wants {LEAST_DISK_GB:g} GB"
        )
        if not writable:
            remedy = "change its permissions, or name another folder in EDGEWAKE_CACHE"
        yield Finding(f"disk, {name}", "ok" if enough else "wrong" if not writable else "optional", text, remedy)


def _memory() -> Iterator[Finding]:
    known = dict(re.findall(r"^(\w+): +(\d+) kB$", _text(Path("/proc/meminfo")), re.MULTILINE))
    if "MemTotal" in known:
        total, free = (int(known[name]) * 1024 / 1e9 for name in ("MemTotal", "MemAvailable"))
        text = f"{free:.1f} GB available of {total:.1f} GB"
    elif hasattr(os, "sysconf"):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        text = f"{free:.1f} GB"
    else:
        yield Finding("memory", "ok", "not known on this system")
        return
    remedy = (
        ""
        if free >= LEAST_MEMORY_GB
        else f"training wants {LEAST_MEMORY_GB:g} GB: end other programs, take fewer --workers"
    )
    yield Finding("memory", "optional" if remedy else "ok", f"{text}; {_count(os.cpu_count() or 1, 'core')}", remedy)


def _gpu() -> Iterator[Finding]:
    cards = _first_line(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    if not cards:
        yield Finding("GPU", "ok", "none, and none is needed")
        return
    if find_spec("torch") is None:
        yield Finding("GPU", "optional", f"{cards}; torch is not installed", "pip install 'edgewake[train]'")
        return
    import torch

    if torch.cuda.is_available():
        yield Finding("GPU", "ok", f"{cards}; torch {torch.__version__} uses it")
    else:
        remedy = "install the build of torch that fits the driver, see pytorch.org; training runs on the CPU until then"
        yield Finding("GPU", "optional", f"{cards}; torch {torch.__version__} does not find it", remedy)


def _terminal() -> Iterator[Finding]:
    unicode = console.encoding.startswith("utf")
    remedy = "" if unicode else "export LC_ALL=C.UTF-8; until then signs that it lacks are printed escaped"
    yield Finding("terminal", "ok" if unicode else "optional", console.encoding, remedy)


def _first_line(command: Sequence[str]) -> str:
    """What a program prints first; "" where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _text(path: Path) -> str:
    """A file's text; "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_EXAMINED: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": _python,
    "packages": _packages,
    "compiler": _compiler,
    "ESP-IDF": _idf,
    "serial ports": _ports,
    "microphone": _microphone,
    "voices": _voices,
    "assets": _assets,
    "disk": _disk,
    "memory": _memory,
    "GPU": _gpu,
    "terminal": _terminal,
}
