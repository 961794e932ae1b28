"""Each default of a configured ESP-IDF project has its value, and each source compiles for its types in each preset."""

from __future__ import annotations

import json
import os
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


def preset_names(project: Path) -> list[str]:
    """The symbols of Kconfig's choices of a board, a microphone and an output."""
    text = "".join(path.read_text() for path in sorted(project.glob("**/Kconfig.projbuild")))
    return re.findall(r"^ *config (EDGEWAKE_(?:BOARD|MICROPHONE|OUTPUT)_\w+)$", text, re.MULTILINE)


def configure_preset(project: Path, build: Path, name: str) -> Path:
    """A folder with the sdkconfig.h of a preset, from the tool and the environment by which ESP-IDF makes its own."""
    folder, idf = build / "presets" / name, Path(os.environ["IDF_PATH"])
    folder.mkdir(parents=True)
    defaults = folder / "sdkconfig.defaults"
    defaults.write_text((project / "sdkconfig.defaults").read_text() + f"CONFIG_{name}=y\n")
    command = f"{sys.executable} -m kconfgen --list-separator=semicolon --kconfig {idf}/Kconfig"
    command += f" --sdkconfig-rename {idf}/sdkconfig.rename"
    command += f" --config {folder}/sdkconfig --defaults {defaults} --env IDF_MINIMAL_BUILD=n"
    command += f" --env-file {build}/config.env --output header {folder}/sdkconfig.h"
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode or f"#define CONFIG_{name} 1\n" not in (folder / "sdkconfig.h").read_text():
        raise SystemExit(f"{name} cannot be chosen:\n{done.stderr}")
    return folder


def compile_errors(entry: dict[str, str], newlib: Path, cxx: Path, config: Path | None = None) -> str:
    """What the compiler says about one source, "" when it is right; `config` is the folder of another sdkconfig.h."""
    words = shlex.split(entry["command"])
    if config is not None:
        words.insert(1, f"-I{config}")
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
    presets = preset_names(project)
    dependent = [entry for entry in commands if "CONFIG_EDGEWAKE" in Path(entry["file"]).read_text()]
    for name in presets:
        config = configure_preset(project, build, name)
        for entry in dependent:
            if errors := compile_errors(entry, newlib, cxx, config):
                faults.append(f"{name}, {entry['file']}:\n{errors}")
    print("\n".join(faults))
    print(
        f"{len(commands)} sources, {len(dependent)} of them for each of {len(presets)} presets, {len(faults)} faults",
        flush=True,
    )
    return 1 if faults or not sources else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:6])))
