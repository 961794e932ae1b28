"""The documentation builds strictly and loads nothing from elsewhere; the tutorial's commands run as they stand."""

from __future__ import annotations

import csv
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    loading = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    assert len(pages) > 30
    assert not [(page.name, tag) for page in pages for tag in loading.findall(page.read_text(encoding="utf-8"))]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_reference_has_every_command_and_the_public_names(site: Path) -> None:
    from edgewake.cli import COMMANDS

    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert not [name for name in COMMANDS if f'id="edgewake-{name}"' not in commands]
    names = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("runtime.detector.Detector", "config.defaults.WakewordConfig", "training.trainer.Trainer"):
        assert f'id="edgewake.{name}"' in names


def test_commands_in_the_documents_have_the_options_that_are_written(repository: Path) -> None:
    from edgewake.cli import main

    pages = [repository / "README.md", *(repository / "docs").rglob("*.md")]
    code = re.compile(r"```sh\n(.*?)```|((?:^    .*\n)+)", re.MULTILINE | re.DOTALL)
    written = [
        (page.name, line)
        for page in pages
        for block in code.findall(page.read_text(encoding="utf-8"))
        for line in re.findall(r"^ *(edgewake .*)$", "".join(block), re.MULTILINE)
    ]
    assert len(written) > 50
    wrong = []
    for page, line in written:
        words = re.split(r"\s[#|>]", line)[0].replace("\\", "").split()[1:]
        command: click.Command = main
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words.pop(0))
            if found is None:
                break
            command = found
        known = {option for each in (*main.params, *command.params) for option in (*each.opts, *each.secondary_opts)}
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        if found is None or options - known - {"--help", "-h"}:
            wrong.append(f"{page}: {line}")
    assert not wrong


def test_commands_of_the_example_in_spanish_run(
    repository: Path, tmp_path: Path, asset: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("the program espeak-ng is not installed")
    asset("kokoro")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    tutorial = runpy.run_path(str(repository / "docs" / "follow_tutorial.py"))
    blocks = tutorial["blocks"](repository / "docs" / "howto" / "languages.md")
    commands = [block.commands for block in blocks if not block.takes]
    commands += ["edgewake synth hola_atlas --positives 4 --near 2 --sentences 2 --effort smoke --workers 1"]
    for command in commands:
        subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "samples").glob("hola_atlas_kokoro_*.wav"))) == 5
    for folder, engine in (("synth", "kokoro"), ("synth-test", "espeak-ng")):
        with (tmp_path / "hola_atlas" / folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {(row["language"], row["engine"]) for row in rows} == {("es", engine)}
        assert folder == "synth-test" or "ˈola ˈatlas" in rows[0]["phonemes"]


def test_commands_of_the_tutorial_run_up_to_the_training(
    repository: Path, tmp_path: Path, asset: Callable[[str], Path]
) -> None:
    for name in ("kokoro", "whisper-tiny.en"):
        asset(name)
    tutorial = runpy.run_path(str(repository / "docs" / "follow_tutorial.py"))
    assert [block.takes for block in tutorial["blocks"]()].count("") >= 5
    # A new environment that sees the packages of this one, so that pip finds all it needs without the network.
    environment = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    assert tutorial["follow"](tmp_path / "edgewake", {""}, environment=environment) == 0
    assert len(list((tmp_path / "edgewake" / "samples").glob("*.wav"))) == 3
    assert (tmp_path / "edgewake" / "hey_atlas" / "wakeword.yaml").is_file()
