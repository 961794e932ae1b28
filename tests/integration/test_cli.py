"""The command line is fast, prints a failure as one line, and keeps its exit codes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgewake import __version__
from edgewake.cache import Cache
from edgewake.cli import COMMANDS, Commands, main
from edgewake.errors import EdgewakeError

HEAVY = (
    "torch",
    "tensorflow",
    "matplotlib",
    "scipy",
    "onnx",
    "tflite_micro",
    "numpy",
    "pydantic",
    "rich",
    "soundfile",
)


def call(*arguments, **options):
    return CliRunner().invoke(main, [str(a) for a in arguments], **options)


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from edgewake.cli import main\n"
        "for arguments in (['--help'], ['--version']):\n"
        "    assert CliRunner().invoke(main, arguments).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_importing_the_configuration_is_light():
    code = (
        "import sys; from edgewake.config import WakewordConfig; WakewordConfig(); "
        "sys.exit(bool({'torch', 'tensorflow', 'scipy', 'matplotlib', 'soundfile'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_need_no_extra():
    code = (
        "import sys\n"
        "for name in ('torch', 'tensorflow', 'matplotlib', 'scipy', 'onnx'): sys.modules[name] = None\n"
        "import edgewake\n"
        "for name in edgewake.__all__: getattr(edgewake, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_base_install_names_what_to_install_and_runs_the_rest():
    """Without the packages of the extras, every command explains itself, and what needs none of them runs."""
    absent = ("torch", "tensorflow", "matplotlib", "scipy", "onnx", "onnx2tf", "transformers", "accelerate", "hibari")
    absent += ("sounddevice", "esptool", "serial")
    code = (
        "import sys, importlib.util\n"
        f"absent = {absent!r}\n"
        "for name in absent: sys.modules[name] = None\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name in absent else find(name)\n"
        "from click.testing import CliRunner\n"
        "from edgewake.cli import COMMANDS, main\n"
        "for name, command in COMMANDS.items():\n"
        "    done = CliRunner().invoke(main, [name, '--help'])\n"
        "    assert done.exit_code == 0, (name, done.output, done.exception)\n"
        "    assert ('pip install' in ' '.join(done.output.split())) == bool(command.extras), done.output\n"
        "done = CliRunner().invoke(main, ['train', 'smoke', '--resume'])\n"
        "print(done.exit_code, done.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("1 error: edgewake train needs torch, scipy, not installed: pip install")


def test_the_list_of_commands_is_the_commands(tmp_path):
    listed = call("--help").output.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == list(COMMANDS)
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert isinstance(command, click.Command)
        assert "..." not in call(name, "--help").output.partition("Commands:")[2]


def test_the_module_is_the_command():
    found = subprocess.run([sys.executable, "-m", "edgewake", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"edgewake, version {__version__}"


@pytest.mark.parametrize(
    "command", ["build", "convert", "parity", "detect", "evaluate", "train", "corpus import", "config show"]
)
def test_every_command_explains_itself(command):
    found = call(*command.split(), "--help")
    assert found.exit_code == 0
    assert "Usage:" in found.output


@pytest.mark.parametrize("arguments", [["nonsense"], ["detect"], ["build", "--quantization", "int4"]])
def test_wrong_usage_exits_with_2(arguments):
    assert call(*arguments).exit_code == 2


@click.group(cls=Commands)
def failing():
    pass


@failing.command()
@click.argument("how")
def fail(how):
    raise {
        "expected": EdgewakeError("first\nsecond"),
        "bug": ZeroDivisionError(),
        "stop": KeyboardInterrupt(),
        "full": OSError(errno.ENOSPC, "No space left on device", "build/x"),
        "file": FileNotFoundError(errno.ENOENT, "No such file", "x"),
        "path": NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.txt/x"),
    }[how]


def test_expected_failures_are_one_line_on_stderr_and_exit_1():
    found = CliRunner().invoke(failing, ["fail", "expected"])
    assert (found.exit_code, found.stdout, found.stderr) == (1, "", "error: first second\n")


def test_ctrl_c_exits_with_130():
    found = CliRunner().invoke(failing, ["fail", "stop"])
    assert (found.exit_code, found.stderr) == (130, "interrupted\n")


def test_a_full_disk_is_one_line():
    found = CliRunner().invoke(failing, ["fail", "full"])
    assert found.exit_code == 1
    assert found.stderr == ("error: build/x: No space left on device; free space or choose another folder\n")


def test_a_path_through_a_file_is_one_line():
    found = CliRunner().invoke(failing, ["fail", "path"])
    assert found.exit_code == 1
    assert found.stderr == "error: a.txt/x: Not a directory; free space or choose another folder\n"


@pytest.mark.parametrize(("how", "kind"), [("bug", ZeroDivisionError), ("file", FileNotFoundError)])
def test_a_bug_keeps_its_traceback(how, kind):
    assert isinstance(CliRunner().invoke(failing, ["fail", how]).exception, kind)


def test_missing_packages_are_named_with_the_pip_command(monkeypatch, tmp_path):
    monkeypatch.setattr("edgewake.commands.common.find_spec", lambda name: None if name == "scipy" else object())
    found = call("sweep", "smoke", "--out", tmp_path)
    assert found.exit_code == 1
    assert found.stderr == "error: edgewake sweep needs scipy, not installed: pip install 'edgewake[train]'\n"


def test_what_is_cached_is_shown_and_cleared(tmp_path):
    kept = Cache(tmp_path / "cache")
    kept.get("clips", {"seed": 0}, lambda folder: (folder / "a").write_bytes(bytes(2000)) and {}, code=[])
    kept.get("scans", {"seed": 0}, lambda folder: {}, code=[])
    place = ("--folder", tmp_path / "cache")
    shown = json.loads(call("cache", "show", *place, "--json").stdout)
    assert {kind: values["entries"] for kind, values in shown["kinds"].items()} == {"clips": 1, "scans": 1}
    assert shown["bytes"] > 2000
    assert "clips" in call("cache", "show", *place).stdout
    refused = call("cache", "clear", *place, input="n\n")
    assert (refused.exit_code, bool(kept.usage())) == (1, True)
    assert call("cache", "clear", "clip", *place, "--yes").exit_code == 1
    cleared = json.loads(call("cache", "clear", "clips", *place, "--yes", "--json").stdout)
    assert cleared["freed_bytes"] > 2000
    assert list(kept.usage()) == ["scans"]
    assert "freed" in call("cache", "clear", *place, input="y\n").stdout
    assert not kept.usage()


def test_presets_are_listed_and_shown():
    names = json.loads(call("config", "presets", "--json").stdout)
    assert "esp32_no_psram" in names
    shown = json.loads(call("config", "show", "esp32_no_psram", "--set", "training.epochs=5", "--json").stdout)
    assert shown["training"]["epochs"] == 5
    assert "model:" in call("config", "show", "esp32_no_psram").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config", "show", "esp32"], "neither a YAML file nor a preset"),
        (["config", "show", "gone.yaml"], "gone.yaml"),
        (["config", "show", "default", "--set", "training.epoch=5"], "epochs"),
        (["train", "gone.yaml"], "gone.yaml"),
        (["detect", "x.wav", "--model", "gone"], "gone does not exist"),
        (["build", "--model", "gone"], "gone"),
        (["corpus", "scan", "gone.json"], "gone.json does not exist: check the path"),
        (["corpus", "scan", sys.executable], "is not JSON: it is not even text; check the path"),
    ],
)
def test_what_is_not_there_is_named(arguments, message):
    found = call(*arguments)
    assert found.exit_code == 1, found.output
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
    assert message in found.stderr


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16000)


def test_a_folder_of_classes_becomes_a_manifest_that_scans_clean(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("hey atlas", "other"):
        for number in range(4):
            write(tmp_path / "audio" / label / f"{number}.wav", rng.normal(0, 0.1, 8000))
    (tmp_path / "audio" / "other" / "broken.wav").write_bytes(b"RIFF nonsense")
    out = tmp_path / "corpus.json"
    found = call("corpus", "import", tmp_path / "audio", "--phrase", "hey atlas", "--out", out)
    assert found.exit_code == 0, found.stderr
    assert "8 recordings" in found.stdout.replace("\n", "")
    assert "left out:" in found.stderr
    assert "broken.wav" in found.stderr
    report = json.loads(call("corpus", "scan", out, "--json").stdout)
    assert (report["kept"], report["left_out"]) == (8, 0)
    strict = call("corpus", "import", tmp_path / "audio", "--phrase", "hey atlas", "--out", out, "--strict")
    assert strict.exit_code == 1


def test_a_cutoff_that_is_no_number_is_a_usage_error(tmp_path):
    (tmp_path / "manifest.csv").write_text("")
    for cutoff in ("high", "1.5", "0"):
        found = call("evaluate", "--model", tmp_path, "--corpora", tmp_path, "--cutoff", cutoff)
        assert found.exit_code == 2, found.output
