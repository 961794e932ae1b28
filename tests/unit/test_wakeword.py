"""`edgewake new` makes a folder that is read back as it was written, and every mistake in it is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgewake.cli import main
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.synthesis import wakeword
from edgewake.synthesis.assessment import Assessment, Pronunciation, assess
from edgewake.synthesis.near import NearPhrase, near_phrases
from edgewake.synthesis.wakeword import create_wakeword, name_of, read_wakeword, spoken

GIVEN = "phrase: hey atlas\nname: hey_atlas\npronunciations: [hˈA ˈætləs]\n"


def new(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["new", *map(str, arguments)])


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "wakeword.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.slow
def test_new_makes_a_folder_that_is_read_back(tmp_path: Path):
    folder = tmp_path / "hey_atlas"
    result = new("Hey Atlas", "--out", folder, "--near", 30, "--seed", 4)
    assert result.exit_code == 0, result.output
    assert "hey atlas: good" in result.output
    word = read_wakeword(folder)
    with pytest.raises(ConfigError, match="frozen"):
        word.seed = 5
    assert (word.phrase, word.name, word.seed) == ("hey atlas", "hey_atlas", 4)
    assert word.pronunciations == ("hˈA ˈætləs",)
    expected = near_phrases("hey atlas", 30, 4)
    assert [spoken(one)[0] for one in word.near_phrases] == [one.text for one in expected]
    assert all(spoken(one)[1] in ("", near.phonemes) for one, near in zip(word.near_phrases, expected, strict=True))
    kept = json.loads((folder / "assessment.json").read_text("utf-8"))
    assert (kept["verdict"], kept["pronunciations"][0]["syllables"]) == ("good", 3)
    assert "recordings/<speaker>/*.wav" in (folder / "recordings" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["hey_atlas"]


def test_new_takes_own_phonemes_and_prints_json(tmp_path: Path):
    result = new("gif", "--out", tmp_path / "gif", "--phonemes", "ʤˈɪf", "--near", 0, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pronunciations"] == [{"phonemes": "ʤˈɪf", "syllables": 1, "phoneme_count": 3}]
    assert read_wakeword(tmp_path / "gif").near_phrases == ()


def test_new_refuses_a_folder_that_exists(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    result = new("hey atlas", "--out", tmp_path / "mine")
    assert result.exit_code == 1
    assert "mine exists: remove it, or choose another folder with --out" in result.output
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(
    "arguments", [("",), ("call 911",), ("a" * 61,), ("hey atlas", "--phonemes", "hg"), ("hey atlas", "--phonemes", "")]
)
def test_new_leaves_nothing_behind_where_it_fails(tmp_path: Path, arguments: tuple[str, ...]):
    result = new(*arguments, "--out", tmp_path / "made")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wakeword, "write_json", full)
    with pytest.raises(EdgewakeError, match=r"cannot make .*No space left"):
        create_wakeword(tmp_path / "made", assess("hey atlas"), [], 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["on", "no", "null", "true", "o'clock", "e-mail"])
def test_any_text_is_written_so_that_yaml_reads_it(tmp_path: Path, text: str):
    about = Assessment("off", "good", (), (Pronunciation("ˈɔf", 1, 2),), 0, 0, (), ())
    create_wakeword(tmp_path / "made", about, [NearPhrase(text, "ˈɔn", "part", 1), NearPhrase(text, "", "word", 1)], 0)
    assert read_wakeword(tmp_path / "made").near_phrases == (f"{text} /ˈɔn/", text)


def test_names_are_for_files():
    assert [name_of(phrase) for phrase in ("Hey Atlas", "o'clock", "café-bar")] == ["hey_atlas", "oclock", "cafe_bar"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("phrase: hey 2", ("phrase", "'2'")),
        ("seed: soon", ("seed = 'soon'", "integer")),
        ("seed: -1", ("seed = -1", "greater than or equal to 0")),
        ("sed: 1", ("unknown key 'sed' = 1", "did you mean 'seed'?")),
        ("name: Hey Atlas", ("name = 'Hey Atlas'", "pattern")),
        ("pronunciations: []", ("pronunciations", "at least 1")),
        ("pronunciations: hˈA", ("pronunciations = 'hˈA'", "tuple")),
        ("pronunciations: [hˈA gˈO]", ("pronunciations.0", "'g' at position 5", "ɡ (U+0261)")),
        ("near_phrases: [hey atlas]", ("near_phrases hold the phrase 'hey atlas' itself", "remove")),
        ("near_phrases: [hay /pst/]", ("near_phrases.0", "no vowel")),
        ("voices: {flite: 1}", ("voices", "'flite'", "kokoro, hibari, piper, espeak-ng")),
        ("voices: {kokoro: 0}", ("voices", "no voice has a weight above 0")),
        ("voices: {kokoro: -1}", ("voices.kokoro = -1",)),
        ("target_fa: 0", ("target_fa = 0", "greater than 0")),
        ("target: esp8266", ("target = 'esp8266'", "esp32s3-nopsram")),
    ],
)
def test_a_mistake_in_the_file_is_one_line(written, more: str, words: tuple[str, ...]):
    key = more.partition(":")[0]
    kept = "\n".join(line for line in GIVEN.splitlines() if not line.startswith(f"{key}:"))
    with pytest.raises(ConfigError) as error:
        read_wakeword(written(f"{kept}\n{more}\n"))
    assert "\n" not in str(error.value)
    for word in ("wakeword.yaml", *words):
        assert word in str(error.value)


def test_a_missing_file_or_key_is_named(written, tmp_path: Path):
    with pytest.raises(ConfigError, match="edgewake new PHRASE makes such a folder"):
        read_wakeword(tmp_path)
    with pytest.raises(ConfigError, match="phrase"):
        read_wakeword(written("name: hey_atlas\npronunciations: [hˈA]\n"))


def test_what_the_file_leaves_out_has_defaults(written):
    word = read_wakeword(written(GIVEN))
    assert (word.target_fa, word.target, word.recordings, word.near_phrases) == (
        0.1,
        "esp32s3-nopsram",
        "recordings",
        (),
    )
