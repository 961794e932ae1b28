"""Corpora by name, from a server of this machine: interrupted, damaged and hostile ones, and what their rules list."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from corpus_server import Server
from edgewake.assets import corpora
from edgewake.assets.archives import download, unpack
from edgewake.assets.corpora import CORPORA, Archive, ArchiveFile, Corpus, Rule
from edgewake.cli import main
from edgewake.data import fetching
from edgewake.data.fetching import get_corpus, list_recordings
from edgewake.data.importing import corpus_entries, join_entries
from edgewake.data.reading import write_audio
from edgewake.errors import ConfigError, EdgewakeError
from killed import killed

PAGE = "https://example.org/corpus"
RULE = Rule(pattern=r"corpus/(?P<speaker>\w+)/[^/]+\.wav$", kind="negative", language="en")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def wav(seconds: float = 0.1) -> bytes:
    from soundfile import write

    out = io.BytesIO()
    write(out, np.arange(round(16000 * seconds), dtype=np.int16), 16000, format="WAV")
    return out.getvalue()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


SPOKEN = {f"corpus/{speaker}/{number}.wav": wav() for speaker in ("ann", "bob", "eve") for number in range(2)}
Catalogue = Callable[..., Corpus]


@pytest.fixture
def catalogue(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Catalogue:
    """Puts one corpus, `sample`, in place of all, with an archive of the server, and gives it."""
    monkeypatch.setenv("EDGEWAKE_CACHE", str(tmp_path / "cache"))

    def put(content: bytes, checksum: str | None = None, name: str = "sample.tar.gz") -> Corpus:
        server.files[name] = content
        published = f"md5:{hashlib.md5(content).hexdigest()}" if checksum is None else checksum
        archive = Archive("all", (ArchiveFile(server.url(name), len(content) / 1e9, published),))
        made = Corpus("sample", "three people", "CC0-1.0", "no", PAGE, (archive,), (RULE,))
        monkeypatch.setattr(corpora, "CORPORA", (made,))
        return made

    return put


# The catalogue


def test_every_corpus_has_licence_mark_page_and_well_formed_checksums() -> None:
    assert len({corpus.name for corpus in CORPORA}) == len(CORPORA)
    for corpus in CORPORA:
        assert corpus.licence
        assert corpus.page.startswith("http")
        assert corpus.non_commercial in ("yes", "no", "partly", "unknown")
        assert ("NC" in corpus.licence) == (corpus.non_commercial in ("yes", "partly"))
        assert not corpus.details or corpus.details in fetching._DETAILS
        for archive in corpus.archives:
            for file in archive.files:
                algorithm, _, digest = file.checksum.partition(":")
                assert (algorithm, len(bytes.fromhex(digest))) in (("md5", 16), ("sha256", 32), ("", 0))
    marked = {corpus.name for corpus in CORPORA if corpus.non_commercial == "yes"}
    assert marked == {"esc50", "wham"}


def test_corpora_are_listed_and_documented(repository: Path) -> None:
    shown = CliRunner().invoke(main, ["corpus", "get", "--json"])
    assert {corpus["name"] for corpus in json.loads(shown.stdout)} == {corpus.name for corpus in CORPORA}
    text = (repository / "docs" / "corpus.md").read_text()
    for corpus in CORPORA:
        assert f"| `{corpus.name}` |" in text
        assert corpus.page in text
    table = CliRunner().invoke(main, ["corpus", "get"]).stdout
    assert re.search(r"esc50 .*CC BY-NC 3.0 +yes", table)


PATHS = {
    "librispeech": {
        "dev-clean/LibriSpeech/dev-clean/84/121123/84-121123-0000.flac": ("negative", "val", "84"),
        "train-clean-100/LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac": ("negative", "train", "103"),
        "test-clean/LibriSpeech/test-clean/61/70968/61-70968-0000.flac": ("negative", "test", "61"),
    },
    "musan": {
        "musan/musan/noise/free-sound/noise-free-sound-0000.wav": ("noise", None, ""),
        "musan/musan/music/fma/music-fma-0000.wav": ("music", None, ""),
        "musan/musan/speech/librivox/speech-librivox-0000.wav": ("negative", None, ""),
    },
    "dipco": {"dipco/DipCo/audio/dev/S02_U01.CH1.wav": ("negative", "val", "")},
    "voices": {
        "devkit/VOiCES_devkit/distant-16k/speech/train/rm1/babb/sp0032/"
        "Lab41-SRI-VOiCES-rm1-babb-sp0032-ch004137-sg0007-mc01-stu-clo-dg150.wav": ("negative", None, "0032")
    },
    "mit_rirs": {"survey/Audio/h001_Bedroom_65txts.wav": ("rir", "train", "")},
    "esc50": {"esc50/ESC-50-master/audio/4-100032-A-0.wav": ("noise", "val", "")},
    "wham": {"noise/wham_noise/tt/40na010x_1.9857_01xo031a_-1.9857.wav": ("noise", "test", "")},
}
OTHERS = {
    "librispeech": "dev-clean/LibriSpeech/SPEAKERS.TXT",
    "musan": "musan/musan/noise/free-sound/LICENSE",
    "dipco": "dipco/DipCo/audio/dev/S02_U01.CH2.wav",
    "voices": "devkit/VOiCES_devkit/source-16k/train/sp0307/Lab41-SRI-VOiCES-src-sp0307-ch127535-sg0042.wav",
    "mit_rirs": "survey/__MACOSX/Audio/h001_Bedroom_65txts.wav",
    "esc50": "esc50/ESC-50-master/meta/esc50.csv",
    "wham": "noise/wham_noise/metadata/noise_meta_tr.csv",
}


@pytest.mark.parametrize("name", PATHS)
def test_rules_give_kind_split_and_speaker_of_the_corpus_own_paths(name: str, tmp_path: Path) -> None:
    for path in (*PATHS[name], OTHERS[name]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(wav())
    rows = {row["path"]: row for row in list_recordings(corpora.find_corpus(name), tmp_path, pytest.fail)}
    assert set(rows) == set(PATHS[name])
    for path, (kind, split, speaker) in PATHS[name].items():
        row = rows[path]
        assert (row["kind"], row["speaker"]) == (kind, speaker)
        assert row["split"] == split if split else row["split"] in ("train", "val", "test")
        assert row["seconds"] == 0.1
        assert row["license"] == corpora.find_corpus(name).licence


def test_fsd50k_is_listed_by_class_with_its_own_licences(tmp_path: Path) -> None:
    for clip in (1, 2, 3):
        write_audio(tmp_path / f"dev/FSD50K.dev_audio/{clip}.wav", np.ones(1600, np.int16))
    write_audio(tmp_path / "eval/FSD50K.eval_audio/4.wav", np.ones(1600, np.int16))
    truth = tmp_path / "ground_truth" / "FSD50K.ground_truth"
    truth.mkdir(parents=True)
    dev = 'fname,labels,mids,split\n1,"Bark,Dog",m,train\n2,"Music",m,val\n3,"Speech,Human_voice",m,train\n'
    (truth / "dev.csv").write_text(dev)
    (truth / "eval.csv").write_text("fname,labels,mids\n4,Rain,m\n")
    (tmp_path / "metadata").mkdir()
    licences = {"1": {"license": "http://creativecommons.org/licenses/by-nc/3.0/"}}
    (tmp_path / "metadata" / "dev_clips_info_FSD50K.json").write_text(json.dumps(licences))
    rows = list_recordings(corpora.find_corpus("fsd50k"), tmp_path, pytest.fail)
    found = [(row["kind"], row["split"]) for row in rows]
    assert found == [("noise", "train"), ("music", "val"), ("negative", "train"), ("noise", "test")]
    assert "by-nc" in rows[0]["license"]


def test_common_voice_keeps_its_splits_and_leaves_out_what_nobody_validated(tmp_path: Path) -> None:
    rows = {"train.tsv": [("c" * 64, "a.mp3")], "dev.tsv": [("d" * 64, "b.mp3")], "other.tsv": [("f" * 64, "z.mp3")]}
    rows["validated.tsv"] = [*rows["train.tsv"], *rows["dev.tsv"], ("e" * 64, "c.mp3"), ("d" * 64, "d.mp3")]
    folder = "cv-corpus-1.0/tr"
    files = {f"{folder}/clips/{clip}.mp3": b"not read, since its duration is known" for clip in "abcdz"}
    for name, lines in rows.items():
        text = "client_id\tpath\tsentence\n" + "".join(f'{who}\t{clip}\tsay "it\n' for who, clip in lines)
        files[f"{folder}/{name}"] = text.encode()
    durations = "clip\tduration[ms]\n" + "".join(f"{clip}.mp3\t1500\n" for clip in "abcdz")
    files[f"{folder}/clip_durations.tsv"] = durations.encode()
    archive = tmp_path / "cv-corpus-1.0-tr.tar.gz"
    archive.write_bytes(tar_of(files))
    with pytest.raises(ConfigError, match=r"common_voice cannot be downloaded without an account.*--archive FILE"):
        get_corpus("common_voice", tmp_path / "out")
    found = get_corpus("common_voice", tmp_path / "out", archives=[archive])
    assert archive.is_file()
    assert found.digests == {archive.name: sha256(archive.read_bytes())}
    entries = corpus_entries(tmp_path / "out" / "manifest.csv", "hey atlas")
    assert [Path(entry.path).stem for entry in entries] == ["a", "b", "c", "d"]
    assert [entry.split for entry in entries][:2] == ["train", "val"]
    assert entries[3].split == "val"  # as the other recording of that speaker
    assert {entry.language for entry in entries} == {"tr"}
    assert {entry.seconds for entry in entries} == {1.5}


# Fetching


def test_a_corpus_is_fetched_verified_unpacked_and_listed(catalogue: Catalogue, server: Server, tmp_path: Path) -> None:
    catalogue(tar_of(SPOKEN))
    done = CliRunner().invoke(main, ["corpus", "get", "sample"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "cache" / "corpora" / "sample"
    assert f"{folder / 'manifest.csv'}: 6 recordings" in done.stdout.replace("\n", "")
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "all",
        "fetched.json",
        "manifest.csv",
    ]
    entries = corpus_entries(folder / "manifest.csv", "hey atlas")
    assert {entry.kind for entry in entries} == {"negative"}
    assert {entry.speaker for entry in entries} == {"sample/ann", "sample/bob", "sample/eve"}
    assert {entry.split for entry in entries} == {"train", "val", "test"}
    assert all((folder / entry.path).is_file() for entry in entries)
    assert not join_entries("hey atlas", entries, root=folder, folder=folder).shared_speakers
    # What is there is not fetched again.
    get_corpus("sample")
    assert server.ranges == [None]


def test_a_download_that_breaks_off_goes_on_where_it_was(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50)
    catalogue(tar_of(SPOKEN))
    server.cut = 100
    assert get_corpus("sample").recordings == 6
    assert server.ranges == [None, "bytes=100-"]


def test_a_download_that_was_killed_goes_on_where_it_was(catalogue: Catalogue, server: Server, tmp_path: Path) -> None:
    content = tar_of(SPOKEN)
    catalogue(content)
    begun = tmp_path / "out" / "archives" / "sample.tar.gz.part"
    for kept, asked in ((200, "bytes=200-"), (len(content), f"bytes={len(content)}-")):
        begun.parent.mkdir(parents=True)
        begun.write_bytes(content[:kept])
        assert get_corpus("sample", tmp_path / "out").recordings == 6
        assert server.ranges.pop() == asked
        shutil.rmtree(tmp_path / "out")


def test_wherever_a_fetch_is_killed_the_next_leaves_what_an_undisturbed_one_does(
    catalogue: Catalogue, server: Server, tmp_path: Path
) -> None:
    catalogue(tar_of(SPOKEN), checksum="")

    def files(root: Path) -> dict[Path, bytes]:
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    get_corpus("sample", tmp_path / "whole")
    was_killed = True
    for step in range(1, 20):
        out = tmp_path / f"killed at {step}"

        def action(begin: Callable[[], None], out: Path = out) -> None:
            begin()
            get_corpus("sample", out)

        was_killed = killed(action, ("replace", "rename", "unlink"), step)
        get_corpus("sample", out)
        assert files(out) == files(tmp_path / "whole"), step
        if not was_killed:
            break
    assert not was_killed
    assert step > 4  # renamed: download, record, folder, manifest


def test_a_server_without_ranges_gives_the_whole_again(catalogue: Catalogue, server: Server, tmp_path: Path) -> None:
    content = tar_of(SPOKEN)
    file = catalogue(content).archives[0].files[0]
    server.resumes = False
    (tmp_path / "sample.tar.gz.part").write_bytes(b"x" * 77)
    assert download(file, tmp_path, PAGE).read_bytes() == content


def test_a_wrong_checksum_is_refused_and_the_file_removed(catalogue: Catalogue, server: Server, tmp_path: Path) -> None:
    catalogue(tar_of(SPOKEN), checksum="md5:" + "0" * 32)
    with pytest.raises(EdgewakeError, match=rf"has MD5 \w{{32}}, published is 0{{32}}; it was removed.*{PAGE}"):
        get_corpus("sample", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != ".lock"]
    mine = tmp_path / "sample.tar.gz"
    mine.write_bytes(tar_of(SPOKEN))
    with pytest.raises(EdgewakeError, match="published is"):
        get_corpus("sample", tmp_path / "out", archives=[mine])
    assert mine.is_file()


def test_without_a_published_checksum_a_second_fetch_is_compared(
    catalogue: Catalogue, server: Server, tmp_path: Path
) -> None:
    content, out = tar_of(SPOKEN), tmp_path / "out"
    catalogue(content, checksum="")
    done = CliRunner().invoke(main, ["corpus", "get", "sample", "--out", str(out)])
    assert f"sample.tar.gz: SHA-256 {sha256(content)}; no checksum is published" in done.stdout
    shutil.rmtree(out / "all")
    get_corpus("sample", out)
    shutil.rmtree(out / "all")
    server.files["sample.tar.gz"] = tar_of({**SPOKEN, "corpus/mallory/0.wav": wav()})
    with pytest.raises(EdgewakeError, match=f"the fetch before had {sha256(content)}"):
        get_corpus("sample", out)
    assert not (out / "all").exists()


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_an_archive_with_a_path_outside_the_folder_is_refused(
    pack: Callable[[Mapping[str, bytes]], bytes], catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue(pack({"corpus/ann/0.wav": wav(), "../../../stray.wav": wav()}), name="sample.bin")
    with pytest.raises(EdgewakeError, match=r"sample.bin is not unpacked: .*stray.wav' would be .*outside the dest"):
        get_corpus("sample", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("stray.wav"))
    assert not (tmp_path / "deep" / "out" / "all").exists()


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("inside")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(member)
    with pytest.raises(EdgewakeError, match="is not unpacked"):
        unpack([path], tmp_path / "out")


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_damaged_archive_leaves_nothing(
    pack: Callable[[Mapping[str, bytes]], bytes], share: float, tmp_path: Path
) -> None:
    path, whole = tmp_path / "a.tar.gz", pack({"a.wav": wav(3.0)})
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(EdgewakeError, match="is damaged, or no zip or tar"):
        unpack([path], tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.skipif(not shutil.which("zip"), reason="zip is not installed")
def test_a_zip_in_several_files_is_joined(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 20_000), dtype=np.uint8)
    for number, content in enumerate(noise):
        (tmp_path / f"{number}.bin").write_bytes(content.tobytes())
    command = ["zip", "-q", "-s", "64k", "noise.zip", *(f"{number}.bin" for number in range(10))]
    subprocess.run(command, cwd=tmp_path, check=True)
    parts = sorted(tmp_path.glob("noise.z*"))  # z01, z02, ..., zip
    assert len(parts) == 4
    unpack(parts, tmp_path / "out")
    for number, content in enumerate(noise):
        assert (tmp_path / "out" / f"{number}.bin").read_bytes() == content.tobytes()


# What is wrong is named


def test_errors_name_the_value_and_the_remedy(catalogue: Catalogue, server: Server, tmp_path: Path) -> None:
    made = catalogue(tar_of(SPOKEN))
    with pytest.raises(ConfigError, match="there is no corpus 'smaple': there are sample"):
        get_corpus("smaple")
    with pytest.raises(ConfigError, match="sample has no part 'some': it has all"):
        get_corpus("sample", parts=["some"])
    with pytest.raises(ConfigError, match=r"--archive .*gone.tar does not exist"):
        get_corpus("sample", archives=[tmp_path / "gone.tar"])
    (tmp_path / "other.tar").touch()
    with pytest.raises(ConfigError, match=r"other.tar is no file of sample: they are sample.tar.gz"):
        get_corpus("sample", archives=[tmp_path / "other.tar"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(EdgewakeError, match="holds other files than a fetched corpus"):
        get_corpus("sample", tmp_path / "full")
    del server.files["sample.tar.gz"]
    with pytest.raises(EdgewakeError, match=rf"404.*0.0 MB are kept.*see {PAGE}.*--archive"):
        get_corpus("sample")
    large = Archive("all", (ArchiveFile(server.url("sample.tar.gz"), 1e9, ""),))
    with pytest.raises(EdgewakeError, match=r"takes about 2000000000.0 GB, .* GB free: free space"):
        fetching._check_room(tmp_path, large.files)
    assert made.parts() == made.archives


def test_files_that_cannot_be_read_are_left_out(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue(tar_of({**SPOKEN, "corpus/ann/9.wav": b"RIFF"}))
    found = get_corpus("sample", tmp_path / "out")
    assert (found.recordings, len(found.left_out)) == (6, 1)
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
