"""A manifest that was read is consistent: labels fit, files come once, and no voice is in two splits."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.config import WakewordConfig
from edgewake.data import CorpusManifest, Entry, import_corpora, import_folder, read_audio, scan, write_audio
from edgewake.data.importing import _deal
from edgewake.data.manifest import ManifestError, content_of, recording_weights
from edgewake.data.reading import RecordingError
from edgewake.data.scanning import usable_corpus
from edgewake.errors import AudioError, EdgewakeError

HEADER = "path,kind,phrase,family,speaker,language,seconds,split,quality,duplicate_group,note,license,source\n"


def entry(path: str, **changes: Any) -> Entry:
    fields: dict[str, Any] = {"kind": "negative", "label": 0, "split": "train", "seconds": 1.0}
    return Entry(path=path, **fields | changes)


def positive(path: str, **changes: Any) -> Entry:
    return entry(path, kind="positive", label=1, phrase="computer", **changes)


def noise(samples: int = 8000, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.random.default_rng(seed).integers(-5000, 5000, samples).astype(np.int16)


def raw(**changes: Any) -> dict[str, Any]:
    first = {"path": "a.wav", "kind": "positive", "label": 1, "split": "train", "seconds": 1.0}
    return {"version": 1, "phrase": "computer", "entries": [first | changes]}


class TestReading:
    def test_round_trip_keeps_every_entry(self, tmp_path: Path) -> None:
        entries = [
            positive("p/a.wav", speaker="s1", duplicate_group="g", licence="CC0", source="x", note="n"),
            positive("p/b.wav", phrase_start=0.25, phrase_end=1.0),
            entry("n/b.wav", quality="suspect", language="en", family="f"),
            entry("r/c.wav", kind="rir", label=None),
        ]
        CorpusManifest.build("computer", entries, shared_speakers={"v": "why"}).save(tmp_path / "m.json")
        read = CorpusManifest.load(tmp_path / "m.json")
        assert read.entries == tuple(entries)
        assert (read.phrase, read.version, read.shared_speakers) == ("computer", 1, {"v": "why"})

    def test_written_entries_have_the_keys_that_were_asked_for(self, tmp_path: Path) -> None:
        CorpusManifest.build("computer", [positive("a.wav")]).save(tmp_path / "m.json")
        written = json.loads((tmp_path / "m.json").read_text())["entries"][0]
        assert {"path", "label", "speaker", "split", "seconds", "licence", "source"} <= written.keys()

    def test_relative_paths_start_at_the_manifests_folder(self, tmp_path: Path) -> None:
        CorpusManifest.build("computer", [positive("x/a.wav")]).save(tmp_path / "deep" / "m.json")
        read = CorpusManifest.load(tmp_path / "deep" / "m.json")
        assert read.path_of(read.entries[0]) == tmp_path / "deep" / "x" / "a.wav"

    def test_root_may_be_relative_absolute_or_a_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_CORPUS", "/data/corpus")
        for root, expected in (
            ("../audio", tmp_path / "m" / "../audio"),
            ("/x", "/x"),
            ("$SOME_CORPUS", "/data/corpus"),
        ):
            CorpusManifest.build("computer", [positive("a.wav")], root=root).save(tmp_path / "m" / "m.json")
            read = CorpusManifest.load(tmp_path / "m" / "m.json")
            assert read.path_of(read.entries[0]) == Path(expected) / "a.wav"
        monkeypatch.delenv("SOME_CORPUS")
        with pytest.raises(ManifestError, match=r"SOME_CORPUS.*not set"):
            _ = read.folder

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (raw() | {"version": 2}, ["version 2", "version 1"]),
            ([], ["version None"]),
            (raw(label=0), ["entry 0 (a.wav)", "label 0", "'positive'", "1"]),
            (raw(kind="rir"), ["entry 0 (a.wav)", "label 1", "None"]),
            (raw(split="dev"), ["entry 0 (a.wav).split", "'dev'", "'val'"]),
            (raw(seconds=0), ["entry 0 (a.wav).seconds", "0", "greater than 0"]),
            (raw(seconds="1"), ["entry 0 (a.wav).seconds", "'1'"]),
            (raw(speaker=""), ["entry 0 (a.wav).speaker"]),
            (raw(phrase_start=0.2), ["entry 0 (a.wav)", "give both or neither"]),
            (raw(phrase_start=0.5, phrase_end=0.5), ["entry 0 (a.wav)", "phrase_start 0.5", "after the start"]),
            (raw(phrase_start=0.5, phrase_end=1.1), ["entry 0 (a.wav)", "phrase_end 1.1", "of 1.0 s"]),
            (raw(phrase_start=-0.1, phrase_end=0.5), ["entry 0 (a.wav).phrase_start", "-0.1", "equal to 0"]),
            (raw(phrase_start=float("inf"), phrase_end=0.5), ["entry 0 (a.wav).phrase_start", "inf"]),
            (raw(phrase_start=0.5, phrase_end=float("nan")), ["entry 0 (a.wav).phrase_end", "nan"]),
            (raw(colour="red"), ["entry 0 (a.wav).colour is not a known key"]),
            (raw() | {"entries": 3}, ["entries", "3"]),
            (raw() | {"phrase": ""}, ["phrase"]),
            ({"version": 1, "phrase": "x", "entries": [{"kind": "noise"}]}, ["entry 0"]),
            ({"version": 1, "phrase": "x", "entries": ["a"]}, ["entry 0"]),
        ],
    )
    def test_wrong_entry_is_named_with_its_key(self, content: Any, expected: list[str], tmp_path: Path) -> None:
        (tmp_path / "m.json").write_text(json.dumps(content))
        with pytest.raises(ManifestError) as caught:
            CorpusManifest.load(tmp_path / "m.json")
        message = str(caught.value)
        assert "\n" not in message
        for part in (str(tmp_path / "m.json"), *expected):
            assert part in message

    def test_missing_or_broken_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(EdgewakeError, match="does not exist"):
            CorpusManifest.load(tmp_path / "none.json")
        (tmp_path / "m.json").write_text("{")
        with pytest.raises(EdgewakeError, match="not JSON"):
            CorpusManifest.load(tmp_path / "m.json")
        for content in ("[" * 100_000, json.dumps(raw()).replace("1.0", "1" * 5000)):
            (tmp_path / "m.json").write_text(content)
            with pytest.raises(EdgewakeError, match=r"m\.json nests too deeply or holds too long a number"):
                CorpusManifest.load(tmp_path / "m.json")


class TestSplits:
    def test_speaker_in_two_splits_is_named(self) -> None:
        with pytest.raises(ManifestError, match=r"speaker 'ann' is in split train \(a\.wav\).*test \(b\.wav\)"):
            CorpusManifest.build(
                "computer", [positive("a.wav", speaker="ann"), entry("b.wav", speaker="ann", split="test")]
            )

    def test_unknown_speakers_may_be_in_every_split(self) -> None:
        entries = [entry(f"{split}.wav", split=split) for split in ("train", "val", "test")]
        assert len(CorpusManifest.build("computer", entries).entries) == 3

    def test_shared_voice_must_be_declared_and_must_not_say_the_phrase(self) -> None:
        entries = [entry("a.wav", speaker="v"), entry("b.wav", speaker="v", split="val")]
        assert CorpusManifest.build("computer", entries, shared_speakers={"v": "one voice"})
        with pytest.raises(ManifestError, match=r"'v' speaks the phrase"):
            CorpusManifest.build(
                "computer", [*entries, positive("c.wav", speaker="v")], shared_speakers={"v": "one voice"}
            )

    def test_copies_of_one_recording_lie_in_one_split(self) -> None:
        with pytest.raises(ManifestError, match=r"duplicate_group 'g' is in split train"):
            CorpusManifest.build(
                "computer",
                [positive("a.wav", duplicate_group="g"), positive("b.wav", duplicate_group="g", split="val")],
            )

    def test_file_may_be_listed_once(self) -> None:
        with pytest.raises(ManifestError, match=r"x/\.\./a\.wav is listed twice"):
            CorpusManifest.build("computer", [entry("a.wav"), entry("x/../a.wav", split="val")])

    def test_select_takes_every_condition(self) -> None:
        entries = [positive("a.wav"), entry("b.wav", split="val"), entry("c.wav", kind="noise", family="f")]
        manifest = CorpusManifest.build("computer", entries)
        assert [e.path for e in manifest.select(split="train")] == ["a.wav", "c.wav"]
        assert [e.path for e in manifest.select(kind=("noise", "negative"))] == ["b.wav", "c.wav"]
        assert [e.path for e in manifest.select(label=0, kind="noise")] == ["c.wav"]
        assert [e.path for e in manifest.with_entries(entries[:1]).entries] == ["a.wav"]

    def test_group_of_copies_weighs_as_one_recording(self) -> None:
        entries = [positive("a.wav"), *(positive(f"{n}.wav", duplicate_group="g") for n in range(4))]
        assert recording_weights(entries).tolist() == [1.0, 0.25, 0.25, 0.25, 0.25]


class TestImportFolder:
    def make(self, root: Path, names: list[str]) -> None:
        for index, name in enumerate(names):
            write_audio(root / name, noise(1600, index))

    def test_classes_become_kinds_and_labels(self, tmp_path: Path) -> None:
        self.make(tmp_path, ["hey_atlas/1.wav", "yes/2.wav", "noise/3.flac", "music/4.ogg", "rir/5.wav"])
        manifest = import_folder(tmp_path, "hey atlas")
        found = {e.path: (e.kind, e.label, e.phrase) for e in manifest.entries}
        assert found == {
            "hey_atlas/1.wav": ("positive", 1, "hey atlas"),
            "yes/2.wav": ("negative", 0, "yes"),
            "noise/3.flac": ("noise", 0, ""),
            "music/4.ogg": ("music", 0, ""),
            "rir/5.wav": ("rir", None, ""),
        }
        assert {e.seconds for e in manifest.entries} == {0.1}
        manifest.save(tmp_path / "m.json")
        assert CorpusManifest.load(tmp_path / "m.json").entries == manifest.entries

    def test_no_speaker_is_in_two_splits_and_shares_are_near(self, tmp_path: Path) -> None:
        names = [
            f"{label}/{speaker:02d}_nohash_{take}.wav"
            for label in ("go", "stop")
            for speaker in range(20)
            for take in range(3)
        ]
        self.make(tmp_path, names)
        manifest = import_folder(tmp_path, "go", speaker_pattern=r"(?P<speaker>[^/]+)_nohash_")
        assert {e.speaker for e in manifest.entries} == {f"{speaker:02d}" for speaker in range(20)}
        for label in (0, 1):
            counts = [len(manifest.select(split=split, label=label)) for split in ("train", "val", "test")]
            assert counts == [42, 9, 9]

    def test_same_seed_same_splits_other_seed_others(self, tmp_path: Path) -> None:
        self.make(tmp_path, [f"go/{n}.wav" for n in range(20)])
        splits = [[e.split for e in import_folder(tmp_path, "go", seed=seed).entries] for seed in (0, 0, 1)]
        assert splits[0] == splits[1] != splits[2]

    @given(
        st.lists(st.tuples(st.integers(0, 12), st.sampled_from("ab")), min_size=1, max_size=60),
        st.integers(0, 5),
    )
    def test_deal_gives_every_group_one_split(self, draws: list[tuple[int, str]], seed: int) -> None:
        files = [(f"speaker s{who}", label) for who, label in draws]
        dealt = _deal(files, seed)
        assert set(dealt) == {f"speaker s{who}" for who, _ in draws}
        assert "train" in dealt.values()
        assert _deal(files[::-1], seed) == dealt

    def test_split_folders_are_kept(self, tmp_path: Path) -> None:
        self.make(tmp_path, ["go/test/1.wav", "val/go/2.wav", "go/train/deep/3.wav"])
        found = {e.path: e.split for e in import_folder(tmp_path, "go").entries}
        assert found == {"go/test/1.wav": "test", "val/go/2.wav": "val", "go/train/deep/3.wav": "train"}

    def test_unreadable_file_stops_or_is_told(self, tmp_path: Path) -> None:
        self.make(tmp_path, ["go/1.wav"])
        (tmp_path / "go" / "bad.wav").write_text("x" * 99)
        with pytest.raises(RecordingError, match=r"bad\.wav"):
            import_folder(tmp_path, "go")
        told: list[AudioError] = []
        assert len(import_folder(tmp_path, "go", on_fault=told.append).entries) == 1
        assert len(told) == 1

    def test_a_file_whose_name_is_not_utf_8_is_left_out_with_its_name(self, tmp_path: Path) -> None:
        self.make(tmp_path, ["go/1.wav", "日本/2.wav", "go/3.wav"])
        (tmp_path / "go" / "3.wav").rename(tmp_path / "go" / os.fsdecode(b"caf\xe9.wav"))
        told: list[str] = []
        manifest = import_folder(tmp_path, "go", on_fault=lambda error: told.append(str(error)))
        assert [entry.path for entry in manifest.entries] == ["go/1.wav", "日本/2.wav"]
        assert told == [f"{tmp_path}/go/caf\\xe9.wav: its name is not UTF-8; rename it"]
        manifest.save(tmp_path / "m.json")
        with pytest.raises(RecordingError, match="not UTF-8"):
            import_folder(tmp_path, "go")

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"phrase": "stop"}, r"no class folder 'stop'.*go"),
            ({"speaker_pattern": "("}, "not a regular expression"),
            ({"speaker_pattern": "x"}, "no group"),
            ({"speaker_pattern": "(zz)"}, r"does not match .*1\.wav"),
        ],
    )
    def test_wrong_argument_is_one_clear_error(self, arguments: dict[str, Any], expected: str, tmp_path: Path) -> None:
        self.make(tmp_path, ["go/1.wav"])
        with pytest.raises(ManifestError, match=expected):
            import_folder(tmp_path, **{"phrase": "go"} | arguments)

    def test_folder_without_audio_or_classes_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="holds no audio"):
            import_folder(tmp_path, "go")
        self.make(tmp_path, ["1.wav"])
        with pytest.raises(ManifestError, match="in no class folder"):
            import_folder(tmp_path, "go")


class TestImportCorpora:
    ROWS = (
        "p/a.ogg,positive,computer,pico,p1,en,1.5,train,ok,g1,,Apache-2.0,Pico\n"
        "p/b.ogg,positive,view glass,pico,p2,en,1.5,val,suspect,,accent,Apache-2.0,Pico\n"
        "n/c.ogg,negative,,prompts_fr,voice,fr,1.5,train,ok,,,CC,Debian\n"
        "n/d.ogg,negative,,prompts_fr,voice,fr,1.5,test,ok,,,CC,Debian\n"
        "n/e.ogg,negative,,prompts_es,voice,es,1.5,train,ok,,,CC,Debian\n"
        "n/f.ogg,negative,,commands,unknown,en,1.5,train,ok,,,CC,Debian\n"
        "n/g.ogg,negative,,commands,unknown,en,1.5,test,ok,,,CC,Debian\n"
        "r/h.flac,rir,,rir,,-,1.5,train,ok,,,CC,Debian\n"
    )

    def write(self, folder: Path, rows: str) -> Path:
        (folder / "manifest.csv").write_text(HEADER + rows)
        return folder

    def test_other_phrases_are_negatives_that_keep_their_family(self, tmp_path: Path) -> None:
        manifest = import_corpora(self.write(tmp_path, self.ROWS), "Computer")
        found = {e.path: e for e in manifest.entries}
        assert (found["p/a.ogg"].kind, found["p/a.ogg"].label, found["p/a.ogg"].duplicate_group) == (
            "positive",
            1,
            "g1",
        )
        other = found["p/b.ogg"]
        assert (other.kind, other.label, other.phrase, other.family) == ("negative", 0, "view glass", "pico")
        assert (other.split, other.quality, other.note, other.licence) == (
            "val",
            "suspect",
            "accent",
            "Apache-2.0",
        )
        assert (found["r/h.flac"].label, found["r/h.flac"].language) == (None, "")

    def test_a_csv_of_synthesised_clips_gives_the_place_of_the_phrase_and_what_is_near_it(self, tmp_path: Path) -> None:
        columns = "path,kind,phrase,family,speaker,language,seconds,split,quality,phrase_start,phrase_end"
        rows = (
            "a.flac,positive,computer,synth_kokoro,v1,en,2.5,train,ok,0.31,1.02",
            "b.flac,negative,,near_kokoro,v1,en,1.5,train,ok,0.1,0.9",
            "c.flac,negative,,nearly_kokoro,v1,en,1.5,train,ok,,",
        )
        (tmp_path / "manifest.csv").write_text("\n".join((columns, *rows)))
        entries = import_corpora(tmp_path, "computer").entries
        places = [(e.phrase_start, e.phrase_end, e.near) for e in entries]
        assert places == [(0.31, 1.02, False), (0.1, 0.9, True), (None, None, False)]

    def test_speakers_are_named_by_family_and_unknown_is_none(self, tmp_path: Path) -> None:
        manifest = import_corpora(self.write(tmp_path, self.ROWS), "computer")
        found = {e.path: e.speaker for e in manifest.entries}
        assert (found["n/c.ogg"], found["n/e.ogg"]) == ("prompts_fr/voice", "prompts_es/voice")
        assert found["n/f.ogg"] is found["r/h.flac"] is None
        assert list(manifest.shared_speakers) == ["prompts_fr/voice"]

    def test_voice_of_the_phrase_in_two_splits_is_refused(self, tmp_path: Path) -> None:
        rows = self.ROWS + "p/z.ogg,positive,view glass,pico,p1,en,1.5,test,ok,,,CC,Pico\n"
        with pytest.raises(ManifestError, match="'pico/p1' is in split train"):
            import_corpora(self.write(tmp_path, rows), "computer")

    def test_a_root_with_a_variable_makes_a_manifest_for_every_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write(tmp_path, self.ROWS)
        made = import_corpora(tmp_path, "computer").model_copy(update={"root": "$EDGEWAKE_CORPORA"})
        made.save(tmp_path / "x" / "m.json")
        assert str(tmp_path) not in (tmp_path / "x" / "m.json").read_text()
        monkeypatch.setenv("EDGEWAKE_CORPORA", str(tmp_path))
        read = CorpusManifest.load(tmp_path / "x" / "m.json")
        assert read.path_of(read.entries[0]) == tmp_path / "p" / "a.ogg"

    @pytest.mark.parametrize(
        ("rows", "phrase", "expected"),
        [
            (ROWS, "hey atlas", r"no recording of 'hey atlas'.*computer, view glass"),
            (ROWS.replace("1.5,train,ok,g1", "x,train,ok,g1"), "computer", r"line 2 \(p/a\.ogg\)"),
            (ROWS.replace("val,suspect", "dev,suspect"), "computer", r"line 3 \(p/b\.ogg\): split"),
        ],
    )
    def test_wrong_row_is_named_with_its_line(self, rows: str, phrase: str, expected: str, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match=expected):
            import_corpora(self.write(tmp_path, rows), phrase)

    def test_missing_csv_or_column_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="EDGEWAKE_CORPORA"):
            import_corpora(tmp_path, "computer")
        (tmp_path / "manifest.csv").write_text("path,kind\na.wav,noise\n")
        with pytest.raises(ManifestError, match="line 2: has no value for phrase"):
            import_corpora(tmp_path, "computer")

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"\xff\xfe\x00" * 99, "line 2 is not CSV text"),
            ((HEADER + ROWS).encode() + b"n/\xe9.ogg,negative\n", "is not CSV text"),
            ((HEADER + ROWS).encode() + b"n/z.ogg,negative,,x\n", "line 10: has no value for speaker, language"),
            ((HEADER + ROWS + "n" * 200_000).encode(), "line 10 is not CSV text .*larger than field limit"),
        ],
    )
    def test_damaged_csv_is_one_line(self, content: bytes, expected: str, tmp_path: Path) -> None:
        (tmp_path / "manifest.csv").write_bytes(content)
        with pytest.raises(ManifestError, match=expected):
            import_corpora(tmp_path, "computer")

    @pytest.mark.corpora
    def test_shared_corpora_agree_with_their_own_manifest(self, corpora: Path) -> None:
        with (corpora / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        phrases = Counter(row["phrase"].casefold() for row in rows if row["kind"] == "positive")
        assert phrases
        for phrase in sorted(phrases):
            manifest = import_corpora(corpora, phrase)
            assert len(manifest.entries) == len(rows)
            assert len(manifest.select(label=1)) == phrases[phrase]
            assert [entry.split for entry in manifest.entries] == [row["split"] for row in rows]
            splits: dict[str, set[str]] = {}
            for entry in manifest.entries:
                assert manifest.path_of(entry).is_file()
                if entry.speaker:
                    splits.setdefault(entry.speaker, set()).add(entry.split)
            assert {name for name, found in splits.items() if len(found) > 1} == set(manifest.shared_speakers)
            assert not {entry.speaker for entry in manifest.select(label=1)} & set(manifest.shared_speakers)

    @pytest.mark.corpora
    @pytest.mark.slow
    def test_shared_recordings_decode_to_the_length_that_the_csv_gives(self, corpora: Path) -> None:
        manifest = import_corpora(corpora, "computer")
        report = scan(manifest.with_entries(manifest.entries[::97]), strict=True)
        assert not report.findings
        assert report.seconds == pytest.approx(sum(e.seconds for e in report.kept), rel=1e-3)


class TestScan:
    @pytest.fixture
    def manifest(self, tmp_path: Path) -> CorpusManifest:
        write_audio(tmp_path / "good.wav", noise())
        write_audio(tmp_path / "silent.wav", np.zeros(8000, np.int16))
        write_audio(tmp_path / "long.wav", noise(32_000))
        write_audio(tmp_path / "short.wav", noise(2000))
        write_audio(tmp_path / "empty.wav", np.zeros(0, np.int16))
        (tmp_path / "corrupt.wav").write_text("x" * 99)
        names = ("good", "silent", "long", "short", "empty", "corrupt", "missing")
        entries = [entry(f"{name}.wav", seconds=2.0 if name == "long" else 0.5) for name in names]
        return CorpusManifest.build("computer", entries, folder=tmp_path)

    def test_every_fault_is_named_and_counted(self, manifest: CorpusManifest) -> None:
        report = scan(manifest, max_seconds=1.0)
        assert [e.path for e in report.kept] == ["good.wav"]
        assert {f.path: f.fault for f in report.findings} == {
            "silent.wav": "silent",
            "long.wav": "too long",
            "short.wav": "wrong length",
            "empty.wav": "empty",
            "corrupt.wav": "corrupt",
            "missing.wav": "missing",
        }
        assert report.counts == dict.fromkeys(("silent", "too long", "wrong length", "empty", "corrupt", "missing"), 1)
        for finding in report.findings:
            assert finding.path in finding.message

    def test_strict_stops_at_the_first(self, manifest: CorpusManifest) -> None:
        with pytest.raises(AudioError, match=r"silent\.wav.*strict"):
            scan(manifest, strict=True)

    def test_strict_passes_what_is_sound(self, manifest: CorpusManifest) -> None:
        sound = manifest.with_entries(e for e in manifest.entries if e.path in ("good.wav", "long.wav"))
        report = scan(sound, strict=True)
        assert report.seconds == 2.5
        assert report.summary() == "2 of 2 recordings, 0.00 h; none left out"

    def test_report_is_plain_json_and_a_table(
        self, manifest: CorpusManifest, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = scan(manifest, max_seconds=1.0)
        written = json.loads(json.dumps(report.to_json()))
        assert (written["kept"], written["left_out"], written["counts"]["corrupt"]) == (1, 6, 1)
        report.show()
        out, err = capsys.readouterr()
        assert "left out 6" in out
        for name in ("corrupt.wav", "missing.wav"):
            assert f"{name}: " in err


class TestUsableCorpus:
    @pytest.fixture
    def config(self, tmp_path: Path) -> WakewordConfig:
        for name in ("a", "b"):
            write_audio(tmp_path / f"{name}.wav", noise(16_000))
        config = WakewordConfig()
        config.data.manifest, config.cache.folder = str(tmp_path / "m.json"), str(tmp_path / "cache")
        return config

    def write(self, folder: Path, seconds: float) -> None:
        entries = [entry("a.wav", seconds=seconds), entry("b.wav", seconds=1.0)]
        CorpusManifest.build("computer", entries, folder=folder).save(folder / "m.json")

    def test_a_mended_manifest_brings_a_recording_back(
        self, config: WakewordConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write(tmp_path, 5.0)
        assert [e.path for e in usable_corpus(config).entries] == ["b.wav"]
        shown = capsys.readouterr().err
        assert "left out (wrong length)" in shown
        assert "1 of 2 recordings left out" in shown
        self.write(tmp_path, 1.0)
        assert [e.path for e in usable_corpus(config, tmp_path).entries] == ["a.wav", "b.wav"]
        assert json.loads((tmp_path / "scan.json").read_text())["kept_paths"] == ["a.wav", "b.wav"]

    def test_recordings_are_decoded_again_only_when_a_file_changed(
        self, config: WakewordConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[str] = []

        def count(path: Path, **settings: Any) -> Any:
            decoded.append(path.name)
            return read_audio(path, **settings)

        monkeypatch.setattr("edgewake.data.scanning.read_audio", count)
        self.write(tmp_path, 1.0)
        for _ in range(2):
            assert len(usable_corpus(config).entries) == 2
        assert decoded == ["a.wav", "b.wav"]
        (tmp_path / "b.wav").unlink()
        assert [e.path for e in usable_corpus(config).entries] == ["a.wav"]
        assert len(decoded) == 4

    def test_samples_of_a_scan_are_kept_and_serve_any_process(
        self, config: WakewordConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write(tmp_path, 5.0)
        wanted = read_audio(tmp_path / "b.wav")
        corpus = usable_corpus(config)
        elsewhere = pickle.loads(pickle.dumps(corpus.with_entries(corpus.entries)))
        with monkeypatch.context() as patched:
            patched.setattr("edgewake.data.manifest.read_audio", None)
            for each in (corpus, elsewhere, usable_corpus(config)):
                assert np.array_equal(each.read(each.entries[0]), wanted)
        assert elsewhere.content(elsewhere.entries[0]) == content_of(wanted)
        shutil.rmtree(tmp_path / "cache")
        fresh = pickle.loads(pickle.dumps(corpus))
        assert np.array_equal(fresh.read(fresh.entries[0]), wanted)

    def test_a_corpus_that_the_cache_has_no_room_for_is_decoded_when_it_is_read(
        self, config: WakewordConfig, tmp_path: Path
    ) -> None:
        self.write(tmp_path, 1.0)
        config.cache.limit_gb = 0.0002
        corpus = usable_corpus(config)
        assert sum(path.stat().st_size for path in tmp_path.rglob("samples.bin")) == 0
        assert np.array_equal(corpus.read(corpus.entries[1]), read_audio(tmp_path / "b.wav"))

    def test_a_strict_configuration_stops_at_a_recording_that_is_known_to_be_unusable(
        self, config: WakewordConfig, tmp_path: Path
    ) -> None:
        self.write(tmp_path, 5.0)
        assert len(usable_corpus(config).entries) == 1
        config.data.strict = True
        for _ in range(2):
            with pytest.raises(AudioError, match=r"a\.wav.*5\.00 s"):
                usable_corpus(config)
