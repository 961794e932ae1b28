"""Each default of a configured ESP-IDF project has its value, and each source of the project compiles for its types."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

OWN = ("main", "components/edgewake", "components/edgewake_detector", "components/edgewake_model")


def unmet_defaults(project: Path, sdkconfig: Path) -> list[str]:
    """Lines of sdkconfig.defaults whose symbol is unknown or has another value."""
    text = sdkconfig.read_text()
    values = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))
    values |= dict.fromkeys(re.findall(r"^# (CONFIG_\w+) is not set$", text, re.MULTILINE), "n")
    asked = re.findall(r"^(CONFIG_\w+)=(.*)$", (project / "sdkconfig.defaults").read_text(), re.MULTILINE)
    return [f"{name}={value}, not {values.get(name, 'known')}" for name, value in asked if values.get(name) != value]


def own_commands(project: Path, build: Path) -> list[dict[str, str]]:
    """The compile commands of the project's own sources."""
    commands = json.loads((build / "compile_commands.json").read_text())
    folders = [(project / folder).resolve() for folder in OWN]
    return [entry for entry in commands if any(Path(entry["file"]).is_relative_to(folder) for folder in folders)]


def compile_errors(entry: dict[str, str], newlib: Path, cxx: Path) -> str:
    """What the compiler says about one source, "" when it is right."""
    words = shlex.split(entry["command"])
    kept = [word for i, word in enumerate(words) if word not in ("-c", "-o") and words[i - 1] != "-o"]
    # Espressif's C library is configured with small reentrancy structures, which are a part of each task.
    headers = ["-D_REENT_SMALL", "-D_RETARGETABLE_LOCKING", f"-isystem{newlib}", "-fdiagnostics-color=never"]
    if not entry["file"].endswith(".c"):
        headers = ["-nostdinc++", *(f"-isystem{folder}" for folder in (cxx, cxx / "arm-none-eabi")), *headers]
    done = subprocess.run(
        [*kept, *headers, "-fsyntax-only", "-Werror"],
        cwd=entry["directory"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def main(project: Path, build: Path, sdkconfig: Path, newlib: Path, cxx: Path) -> int:
    """Print what is wrong; 0 when nothing is."""
    faults = [f"sdkconfig: {line}" for line in unmet_defaults(project, sdkconfig)]
    commands = own_commands(project, build)
    compiled = {Path(entry["file"]).resolve() for entry in commands}
    sources = {
        path.resolve() for folder in OWN for path in (project / folder).glob("**/*.c*") if path.suffix in (".c", ".cc")
    }
    faults += [f"{path} is not compiled" for path in sorted(sources - compiled)]
    for entry in commands:
        if errors := compile_errors(entry, newlib, cxx):
            faults.append(f"{entry['file']}:\n{errors}")
    print("\n".join(faults))
    print(f"{len(commands)} sources, {len(faults)} faults", flush=True)
    return 1 if faults or not sources else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:6])))
