"""A configuration is valid at every moment, names what is wrong, and does not change during a run."""

from __future__ import annotations

import pickle
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewake.config import (
    AugmentationConfig,
    DataConfig,
    DistillationConfig,
    ModelConfig,
    OptimizerConfig,
    QATConfig,
    TargetConfig,
    TrainingConfig,
    WakewordConfig,
    get_esp32_no_psram_preset,
    get_preset,
    list_presets,
)
from edgewake.config.base import Section, warn
from edgewake.errors import ConfigError

# From the guide, Method 1, step 1.
GUIDE_YAML = (Path(__file__).parents[1] / "data" / "guide_method_1.yaml").read_text()


def leaves(config: WakewordConfig) -> dict[str, Any]:
    """Every key's full path with its value."""
    found: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, Section):
            found |= {f"{name}.{key}": inner for key, inner in value}
        else:
            found[name] = value
    return found


class TestGuide:
    def test_yaml_of_method_1_loads_unchanged(self, tmp_path: Path) -> None:
        path = tmp_path / "distillation_config.yaml"
        path.write_text(GUIDE_YAML)
        config = WakewordConfig.load(path)
        assert config.config_name == "distillation_mobilenet"
        assert config.distillation.enabled
        assert config.distillation.temperature == 3.0
        assert config.model.architecture == "mobilenetv3"
        assert config.data.n_mels == 64
        config.freeze()
        assert config == get_preset("distillation_mobilenet")

    def test_defaults_are_those_of_the_guide(self) -> None:
        assert DistillationConfig() == DistillationConfig(
            enabled=False,
            teacher_model_path="",
            teacher_architecture="wav2vec2",
            temperature=2.0,
            alpha=0.5,
        )
        assert OptimizerConfig().mixed_precision is True

    def test_names_are_where_the_guide_imports_them(self) -> None:
        from edgewake.config import defaults, presets

        assert defaults.WakewordConfig is WakewordConfig
        assert defaults.DistillationConfig is DistillationConfig
        assert presets.get_esp32_no_psram_preset is get_esp32_no_psram_preset


class TestErrors:
    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda: WakewordConfig(modle={}), ["'modle'", "'model'"]),
            (lambda: WakewordConfig(model={"widht": 64}), ["'model.widht'", "'model.width'"]),
            (lambda: WakewordConfig(frontend={"chanels": 40}), ["'frontend.chanels'", "'frontend.channels'"]),
            (lambda: DistillationConfig(tempreature=2.0), ["'distillation.tempreature'", "temperature'"]),
            (lambda: WakewordConfig(model={"width": 17}), ["model.width = 17", "multiple of 16"]),
            (lambda: WakewordConfig(model={"width": "64"}), ["model.width = '64'", "integer"]),
            (lambda: WakewordConfig(training={"epochs": True}), ["training.epochs = True", "integer"]),
            (lambda: WakewordConfig(training={"epochs": 3.0}), ["training.epochs = 3.0", "integer"]),
            (
                lambda: WakewordConfig(training={"epochs": 0}),
                ["training.epochs = 0", "greater than or equal to 1"],
            ),
            (lambda: WakewordConfig(data={"strict": 1}), ["data.strict = 1", "boolean"]),
            (lambda: WakewordConfig(data={"sample_rate": 8000}), ["data.sample_rate = 8000", "16000"]),
            (lambda: WakewordConfig(model=3), ["model = 3", "ModelConfig"]),
            (lambda: DistillationConfig(alpha=1.5), ["distillation.alpha = 1.5", "less than or equal to 1"]),
            (lambda: DistillationConfig(temperature=float("nan")), ["distillation.temperature", "finite"]),
            (
                lambda: ModelConfig(architecture="tinyconv"),
                ["model.architecture = 'tinyconv'", "'tiny_conv'?"],
            ),
            (lambda: ModelConfig(kernel_sizes=[3, 1]), ["model.kernel_sizes.1 = 1", "2"]),
            (lambda: ModelConfig(kernel_sizes=[]), ["model.kernel_sizes", "at least 1"]),
            (lambda: AugmentationConfig(snr_db=[9, 1]), ["augmentation.snr_db = [9, 1]", "[1.0, 9.0]"]),
            (lambda: AugmentationConfig(codecs=["mp4"]), ["augmentation.codecs.0 = 'mp4'", "'mp3'?"]),
            (lambda: QATConfig(backend="fbgemm"), ["qat.backend = 'fbgemm'", "'qnnpack'"]),
            (lambda: TargetConfig(arena_bytes=40961), ["target.arena_bytes = 40961", "40960"]),
            (lambda: TargetConfig(model_bytes=65537), ["target.model_bytes = 65537", "65536"]),
            (lambda: WakewordConfig(frontend={"step_ms": 40}), ["frontend", "step_ms 40", "window_ms 30"]),
            (lambda: WakewordConfig().set("training.epcohs", 3), ["'training.epcohs'", "'training.epochs'"]),
            (lambda: WakewordConfig().set("trainin.epochs", 3), ["'trainin.epochs'", "'training.epochs'"]),
            (lambda: WakewordConfig().set("training.epochs.x", 3), ["'training.epochs.x'"]),
            (lambda: WakewordConfig().override(["training.epochs"]), ["key=value"]),
            (lambda: get_preset("esp32_psram"), ["'esp32_psram'", "'esp32_no_psram'?"]),
        ],
    )
    def test_message_has_path_value_and_what_is_allowed(self, make: Any, expected: list[str]) -> None:
        with pytest.raises(ConfigError) as caught:
            make()
        message = str(caught.value)
        assert "\n" not in message
        for part in expected:
            assert part in message

    def test_every_key_refuses_a_wrong_type_by_its_full_path(self) -> None:
        for path in leaves(WakewordConfig()):
            config = WakewordConfig()
            with pytest.raises(ConfigError, match=rf"^{path}(\.0)? = "):
                config.set(path, object())

    def test_every_section_names_the_path_of_an_unknown_key(self) -> None:
        for name, value in WakewordConfig():
            if isinstance(value, Section):
                with pytest.raises(ConfigError, match=rf"unknown key '{name}\.no_such_key' = 1; known keys: "):
                    value.no_such_key = 1

    def test_an_unknown_section_is_named_with_the_whole_key_that_is_near(self) -> None:
        with pytest.raises(ConfigError) as caught:
            WakewordConfig().override(["traning.epochs=3"])
        assert str(caught.value).startswith(
            "unknown key 'traning.epochs' = 3; did you mean 'training.epochs'? known keys: config_name, "
        )

    def test_refused_value_leaves_the_section_as_it_was(self) -> None:
        config = WakewordConfig()
        for path, value in (("model.width", 17), ("frontend.step_ms", 40), ("augmentation.snr_db", [3, 1])):
            with pytest.raises(ConfigError):
                config.set(path, value)
        assert config == WakewordConfig()


class TestWhole:
    @pytest.mark.parametrize(
        ("overrides", "expected"),
        [
            (["data.n_mels=64"], ["data.n_mels = 64", "frontend.channels = 40"]),
            (["frontend.channels=32"], ["data.n_mels = 40", "frontend.channels = 32"]),
            (["data.hop_length=320"], ["data.hop_length = 320", "frontend.step_ms = 10"]),
            (["data.hop_length=100"], ["data.hop_length = 100", "multiple of 16"]),
            (["frontend.sample_rate=48000"], ["frontend.sample_rate = 48000", "16000"]),
            (["model.num_classes=3"], ["model.num_classes = 3", "set 2"]),
            (
                ["frontend.channels=20", "data.n_mels=20", "model.frames_per_step=1"],
                ["= 20", "multiples of 8"],
            ),
            (["model.pretrained=true"], ["model.pretrained = True", "'tiny_conv'"]),
            (["qat.enabled=true", "model.architecture=gru"], ["qat.enabled = True", "'gru'"]),
            (["training.averaged_runs=3"], ["training.averaged_runs = 3", "80 of the epochs"]),
            (["training.near_share=0.7"], ["training.negatives_per_positive", "leave -0.05"]),
            (["data.negative_crop=2", "model.architecture=gru"], ["data.negative_crop = 2.0", "only tiny_conv"]),
            (["data.negative_crop=2", "distillation.enabled=true"], ["data.negative_crop = 2.0", "without a teacher"]),
            (["training.class_weights=[1.0, 2.0, 3.0]"], ["3 values", "model.num_classes is 2"]),
            (
                ["distillation.enabled=true", "data.use_precomputed_features_for_training=true"],
                ["data.use_precomputed_features_for_training = True", "raw audio"],
            ),
            (
                ["distillation.enabled=true", "data.fallback_to_audio=false"],
                ["data.fallback_to_audio = False", "raw audio"],
            ),
        ],
    )
    def test_contradiction_between_keys_stops_freeze_save_and_load(
        self, overrides: list[str], expected: list[str], tmp_path: Path
    ) -> None:
        config = WakewordConfig().override(overrides)
        for act in (
            config.freeze,
            lambda: config.save(tmp_path / "c.yaml"),
            lambda: WakewordConfig.from_mapping(config.model_dump()),
        ):
            with pytest.raises(ConfigError) as caught:
                act()
            for part in expected:
                assert part in str(caught.value)
        assert not (tmp_path / "c.yaml").exists()

    @pytest.mark.parametrize("name", list_presets())
    def test_every_preset_is_consistent_fresh_and_described(self, name: str, tmp_path: Path) -> None:
        first, second = get_preset(name), get_preset(name)
        assert list_presets()[name]
        first.training.epochs += 1
        assert first != second
        second.save(tmp_path / "preset.yaml")
        assert WakewordConfig.load(tmp_path / "preset.yaml") == second

    def test_options_build_the_student(self) -> None:
        from edgewake.models import create_model

        model = get_preset("smoke").model
        student = create_model("tiny_conv", 2, 40, **model.options())
        assert student.architecture()["kernel_sizes"] == [3, 3]  # type: ignore[operator]


class TestFrozen:
    def test_frozen_configuration_refuses_every_key(self) -> None:
        frozen = WakewordConfig().freeze()
        for path, value in leaves(frozen).items():
            with pytest.raises(ConfigError, match=rf"^{path} is frozen"):
                frozen.set(path, value)
        with pytest.raises(ConfigError, match=r"^model is frozen"):
            frozen.model = ModelConfig()

    def test_later_changes_do_not_reach_the_frozen_copy(self) -> None:
        config = WakewordConfig()
        frozen = config.freeze()
        config.model.width = 32
        config.model.kernel_sizes = [3, 5]
        assert frozen == WakewordConfig() != config

    def test_values_hold_nothing_that_can_change(self) -> None:
        config = WakewordConfig(model={"kernel_sizes": [3, 5]})
        for value in leaves(config).values():
            hash(value)

    def test_copy_of_a_frozen_one_can_be_changed(self) -> None:
        frozen = WakewordConfig().freeze()
        copy = frozen.model_copy()
        copy.model.width = 32
        assert (frozen.model.width, copy.model.width) == (112, 32)
        assert frozen.model.model_copy(update={"width": 48}).width == 48
        with pytest.raises(ConfigError, match=r"model\.width = 7"):
            frozen.model.model_copy(update={"width": 7})

    def test_section_of_a_frozen_one_is_taken_as_a_copy(self) -> None:
        frozen = WakewordConfig().freeze()
        config = WakewordConfig(model=frozen.model)
        config.training = frozen.training
        config.model.width, config.training.epochs = 32, 3
        assert frozen == WakewordConfig()

    def test_frozen_survives_pickling(self) -> None:
        frozen = pickle.loads(pickle.dumps(get_esp32_no_psram_preset().freeze()))
        assert frozen == get_esp32_no_psram_preset()
        with pytest.raises(ConfigError, match="frozen"):
            frozen.model.width = 32

    def test_hash_follows_settings_and_not_names(self) -> None:
        config, named = WakewordConfig(), WakewordConfig(config_name="x", description="y")
        assert config.hash() == named.hash() == config.freeze().hash()
        for path, value in leaves(config).items():
            changed = config.model_copy()
            if isinstance(value, bool):
                changed.set(path, not value)
            elif path in ("training.epochs", "evaluation.window", "training.seed"):
                changed.set(path, value + 1)
            else:
                continue
            assert changed.hash() != config.hash(), path


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def ordered(low: float, high: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high), min_size=2, max_size=2).map(sorted)


@st.composite
def configurations(draw: st.DrawFn) -> WakewordConfig:
    config = WakewordConfig(config_name=draw(TEXT), description=draw(TEXT))
    config.data = DataConfig(
        phrase=draw(TEXT.filter(bool)),
        manifest=draw(TEXT),
        strict=draw(st.booleans()),
        max_file_seconds=draw(st.floats(1e-300, 1e300)),
        audio_duration=draw(st.floats(0.2, 30)),
    )
    config.model.width = draw(st.integers(1, 16)) * 16
    config.model.kernel_sizes = draw(st.lists(st.integers(2, 63), min_size=1, max_size=16))
    config.model.dropout = draw(st.floats(0, 1, exclude_max=True))
    config.training.seed = draw(st.integers(0, 2**32 - 1))
    config.training.learning_rate = draw(st.floats(1e-30, 10))
    config.training.class_weights = draw(st.none() | st.lists(st.floats(0, 1e9), min_size=2, max_size=2))
    config.augmentation.snr_db = draw(ordered(-30, 80))
    config.augmentation.rt60_s = draw(ordered(1e-6, 5))
    config.augmentation.codecs = draw(st.lists(st.sampled_from(["vorbis", "mp3", "opus"]), max_size=3))
    config.distillation.teacher_model_path = draw(TEXT)
    config.evaluation.refractory_s = draw(st.floats(0, 60))
    return config


class TestYaml:
    @given(configurations())
    def test_round_trip_is_exact(self, config: WakewordConfig) -> None:
        from edgewake.config import yaml_text

        text = yaml_text.dump(config.model_dump())
        read = yaml_text.parse_mapping(text.encode().decode(), "text")
        assert WakewordConfig.from_mapping(read).model_dump() == config.model_dump()

    @given(st.dictionaries(TEXT.filter(bool), FINITE | TEXT | st.integers() | st.booleans() | st.none(), max_size=5))
    def test_scalars_keep_their_type(self, values: dict[str, Any]) -> None:
        from edgewake.config import yaml_text

        read = yaml_text.parse_mapping(yaml_text.dump(values), "text")
        assert read == values
        assert {k: type(v) for k, v in read.items()} == {k: type(v) for k, v in values.items()}

    def test_file_round_trip(self, tmp_path: Path) -> None:
        config = get_esp32_no_psram_preset()
        config.data.phrase = "on"
        config.description = "1e3: # not a comment\n- nor a list\u2028"
        config.save(tmp_path / "deep" / "c.yaml")
        assert WakewordConfig.load(tmp_path / "deep" / "c.yaml") == config

    def test_scalars_are_what_people_expect(self, tmp_path: Path) -> None:
        path = tmp_path / "c.yaml"
        path.write_text("training: {learning_rate: 1e-3, epochs: 010}\ndata: {phrase: on}\nqat:\n  # none\n")
        config = WakewordConfig.load(path)
        assert (config.training.learning_rate, config.training.epochs) == (0.001, 10)
        assert config.data.phrase == "on"
        assert config.qat == QATConfig()

    def test_empty_file_is_all_defaults(self, tmp_path: Path) -> None:
        path = tmp_path / "c.yaml"
        path.write_text("# nothing\n")
        assert WakewordConfig.load(path) == WakewordConfig()

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"model:\n  width: 32\n  width: 64\n", ["line 3", "'width'", "twice"]),
            (b"model: {}\nmodel: {}\n", ["line 2", "'model'", "twice"]),
            (b"- a\n- b\n", ["mapping", "['a', 'b']"]),
            (b"just text\n", ["mapping", "'just text'"]),
            (b"model: [1\n", ["line 2"]),
            (b"model: !!python/object/apply:os.system ['true']\n", ["line 1"]),
            (b"model:\n\twidth: 3\n", ["line 2"]),
            (b"\xff\xfe\x00", ["cannot be read"]),
            (b"1: 2\n", ["line 1: key '1' must be text"]),
            (b"model: {1: 2}\n", ["line 1: key '1' must be text"]),
            (b"[a]: 2\n", ["line 1"]),
            (b"model: {widht: 2}\n", ["'model.widht'", "'model.width'"]),
            (b"training: {epochs: '80'}\n", ["training.epochs = '80'"]),
            (b"training: {epochs: null}\n", ["training.epochs = None"]),
            (b"a: &x {b: *x}\n", ["a"]),
            (b"model: {width: !!bool maybe}\n", ["line 1", "'maybe' is not a value of type bool"]),
            (b"model: {width: !!int 64.5}\n", ["'64.5' is not a value of type int"]),
            (b"data: {phrase: !!timestamp soon}\n", ["not a value of type timestamp"]),
            (b"training: {epochs: " + b"9" * 5000 + b"}\n", ["is not a value of type int"]),
            (b"model: " + b"[" * 5000, ["nests too deeply"]),
            (b"- " * 5000, ["nests too deeply"]),
        ],
    )
    def test_bad_file_is_one_line_with_its_name(self, content: bytes, expected: list[str], tmp_path: Path) -> None:
        path = tmp_path / "bad.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            WakewordConfig.load(path)
        message = str(caught.value)
        assert "\n" not in message
        for part in (str(path), *expected):
            assert part in message

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.yaml does not exist") as caught:
            WakewordConfig.load(tmp_path / "none.yaml")
        assert "`edgewake config show PRESET`" in str(caught.value)

    def test_overrides_are_read_as_yaml(self) -> None:
        config = WakewordConfig()
        changed = config.override(
            ["training.learning_rate=1e-4", "model.kernel_sizes=[3, 5]", "data.phrase=view glass"]
        )
        assert changed.training.learning_rate == 1e-4
        assert changed.model.kernel_sizes == (3, 5)
        assert changed.data.phrase == "view glass"
        assert config == WakewordConfig()


class TestDocumentation:
    def test_every_key_is_documented_with_its_default(self, repository: Path) -> None:
        made = runpy.run_path(str(repository / "docs" / "make_configuration.py"))
        text = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")
        found = text.split(made["BEGIN"])[1].split(made["END"])[0].strip()
        assert found == made["tables"](), "run: python docs/make_configuration.py"

    def test_every_key_has_a_meaning(self) -> None:
        for name, value in WakewordConfig():
            holder = type(value) if isinstance(value, Section) else WakewordConfig
            fields = holder.model_fields if isinstance(value, Section) else {name: holder.model_fields[name]}
            for key, field in fields.items():
                assert field.description, f"{name}.{key}"

    def test_every_preset_is_documented(self, repository: Path) -> None:
        text = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")
        for name in list_presets():
            assert f"| `{name}` |" in text


def test_positive_share_is_one_of_all() -> None:
    assert TrainingConfig(negatives_per_positive=3.0).positive_share == 0.25


class TestRenamedKeys:
    """Keys of the release before act under their new names, with one line of warning each."""

    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        warn.cache_clear()

    def test_in_yaml(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "old.yaml"
        path.write_text('training: {cache: a}\ndistillation: {cache: "", cache_gb: 60.0}\n')
        config = WakewordConfig.load(path)
        assert (config.cache.folder, config.cache.limit_gb, config.distillation.store_outputs) == ("a", 60.0, False)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 3
        assert "warning: training.cache is now cache.folder; the old name ends with the next release" in lines

    def test_the_new_key_counts_where_both_are_given(self) -> None:
        config = WakewordConfig.from_mapping({"training": {"cache": "a"}, "cache": {"folder": "b"}})
        assert config.cache.folder == "b"

    def test_in_overrides(self, capsys: pytest.CaptureFixture[str]) -> None:
        config = WakewordConfig().override(["training.cache=a", "distillation.cache=build/teachers"])
        assert config.cache.folder == "a"
        assert config.distillation.store_outputs
        assert "where outputs are stored is cache.folder" in capsys.readouterr().err

    def test_in_python_an_error_gives_the_new_name(self) -> None:
        for use in (lambda: TrainingConfig(cache="a"), lambda: setattr(TrainingConfig(), "cache", "a")):
            with pytest.raises(ConfigError, match=r"training\.cache is now cache\.folder"):
                use()

    def test_a_new_section_without_keys_takes_an_old_one(self) -> None:
        assert WakewordConfig.from_mapping({"training": {"cache": "a"}, "cache": None}).cache.folder == "a"
