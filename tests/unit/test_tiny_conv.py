"""Fake quantization computes what the deploy form describes: same scales, same rounding, foldable norms."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewake.errors import ConfigError, EdgewakeError
from edgewake.models import create_model
from edgewake.models.fake_quantization import ActivationRange, fake_quantize_weight
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.frontend import FEATURE_SCALE
from edgewake.runtime.simulator import IntegerModel, model_input
from random_models import random_model


def small_model(seed: int = 0, **options: object) -> TinyConv:
    torch.manual_seed(seed)
    model = create_model("tiny_conv", width=16, kernel_sizes=(3, 4), **options)
    assert isinstance(model, TinyConv)
    return model


def quantized_model(seed: int = 0, **options: object) -> TinyConv:
    model = small_model(seed, **options)
    for layer in model.layers:
        layer.norm.running_mean.normal_()
        layer.norm.running_var.uniform_(0.5, 2)
    model.eval()
    model.fold_batch_norm()
    model.observe = True
    model(torch.rand(8, 60, 40) * 20)
    model.observe, model.quantize = False, True
    return model


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 1e3))
def test_fake_quantized_weights_are_integers_times_the_channel_scale(seed: int, size: float) -> None:
    weight = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)) * size
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    levels = fake_quantize_weight(weight, axis=1) / scale
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert levels.abs().max() <= 127.001
    assert ((fake_quantize_weight(weight, 1) - weight).abs() <= scale * 0.501).all()


def test_a_weight_row_of_zeros_stays_zero_and_has_a_gradient() -> None:
    weight = torch.zeros(2, 3, requires_grad=True)
    quantized = fake_quantize_weight(weight, 1)
    quantized.sum().backward()
    assert torch.equal(quantized, torch.zeros(2, 3))
    assert torch.isfinite(weight.grad).all()


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 10), st.integers(-128, 127))
def test_activation_range_equals_the_affine_formula(seed: int, scale: float, zero_point: int) -> None:
    fixed = Quantization(np.float32(scale), zero_point)
    value = torch.randn(64, generator=torch.Generator().manual_seed(seed)) * 50 * scale
    level = np.clip(np.rint(value.numpy() / fixed.scale) + zero_point, -128, 127)
    expected = (level - zero_point).astype(np.float32) * fixed.scale
    np.testing.assert_array_equal(ActivationRange(fixed=fixed)(value).numpy(), expected)


def test_ranges_learn_by_gradient_and_fixed_ones_do_not() -> None:
    learned = ActivationRange()
    learned(torch.rand(4, 10) * 500).sum().backward()
    assert learned.scale.grad is not None
    assert learned.scale.grad.abs() > 0
    assert not list(ActivationRange(fixed=Quantization(np.float32(0.1), 0)).parameters())


def test_observation_sets_the_scale_from_a_high_quantile() -> None:
    watched = ActivationRange()
    value = torch.linspace(0, 10, 10001)
    watched.observe(value, quantile=0.9995)
    assert watched.scale.item() == pytest.approx(10 * 0.9995 / 255, rel=1e-3)


def test_folding_batch_norm_leaves_the_function_unchanged() -> None:
    model = small_model(3)
    for layer in model.layers:
        layer.norm.running_mean.normal_()
        layer.norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(layer.norm.weight)
        torch.nn.init.normal_(layer.norm.bias)
    model.eval()
    features = torch.rand(4, 60, 40) * 20
    before = model.step_logits(features)
    model.fold_batch_norm()
    torch.testing.assert_close(model.step_logits(features), before, rtol=1e-4, atol=1e-4)


def test_what_is_exported_before_folding_is_refused() -> None:
    with pytest.raises(ConfigError, match="not folded"):
        small_model().deployed()


def test_deploy_form_survives_saving_bit_for_bit(tmp_path: Path) -> None:
    deployed = quantized_model(5).deployed({"phrase": "hey"})
    deployed.save(tmp_path)
    loaded = DeployedModel.load(tmp_path)
    assert loaded.info == deployed.info
    assert loaded.input == deployed.input
    for ours, theirs in zip(deployed.layers, loaded.layers, strict=True):
        assert (ours.kind, ours.name, ours.relu, ours.output) == (
            theirs.kind,
            theirs.name,
            theirs.relu,
            theirs.output,
        )
        for part in ("weight", "bias"):
            if getattr(ours, part) is not None:
                np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))


@pytest.mark.parametrize("damage", ["missing", "truncated", "key"])
def test_a_damaged_model_folder_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    quantized_model().deployed().save(tmp_path)
    description = tmp_path / "model.json"
    if damage == "missing":
        description.unlink()
    elif damage == "truncated":
        weights = tmp_path / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        description.write_text(description.read_text().replace('"relu"', '"rule"'))
    with pytest.raises(EdgewakeError) as caught:
        DeployedModel.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("version", ["1", "99", "null"])
def test_a_model_of_another_version_names_the_remedy(tmp_path: Path, version: str) -> None:
    """Version 1 ended with LOGISTIC: its output is no logit."""
    quantized_model().deployed().save(tmp_path)
    description = tmp_path / "model.json"
    description.write_text(description.read_text().replace('"version": 2', f'"version": {version}'))
    with pytest.raises(EdgewakeError, match=r"this edgewake reads 2 .*: export it again with edgewake train"):
        DeployedModel.load(tmp_path)


def test_a_model_that_does_not_end_with_one_logit_is_refused() -> None:
    deployed = quantized_model().deployed()
    for layers in (deployed.layers[:-1], (*deployed.layers[:-1], replace(deployed.layers[-1], relu=True)), ()):
        with pytest.raises(EdgewakeError, match="must end with a conv1x1 without ReLU to one logit"):
            replace(deployed, layers=layers).validate()


def test_streaming_from_silence_equals_the_window_with_silent_steps_before() -> None:
    model = quantized_model(7)
    features = torch.rand(1, 30, 40) * 20
    padded = torch.cat([torch.zeros(1, 3 * (model.receptive_field_steps - 1), 40), features], dim=1)
    torch.testing.assert_close(
        model.step_logits(features, silence_before=True), model.step_logits(padded), rtol=0, atol=0
    )


@pytest.mark.parametrize("pool", [0, 3])
def test_a_deploy_form_is_the_trained_network_again(tmp_path: Path, pool: int) -> None:
    model = quantized_model(8, pool=pool, smoothing=2)
    model.deployed({"window": 2}).save(tmp_path)
    again = TinyConv.from_deployed(DeployedModel.load(tmp_path))
    features = torch.rand(2, 60, 40) * 24
    assert torch.equal(again(features), model(features))
    assert torch.equal(
        again.step_logits(features, silence_before=True), model.step_logits(features, silence_before=True)
    )
    model.quantize = again.quantize = False
    assert torch.equal(again.step_logits(features), model.step_logits(features))


@pytest.mark.parametrize(("seed", "pool"), [(0, 0), (1, 3)])
def test_the_network_of_a_deploy_form_computes_what_int8_computes(seed: int, pool: int) -> None:
    """Up to the rounding of sums: logits differ by few levels."""
    deployed = random_model(seed, kernels=(3, 5), pool=pool)
    features = np.random.default_rng(seed).integers(0, 500, (600, 40)).astype(np.uint16)
    levels = IntegerModel(deployed).activations(model_input(deployed, features))["logit"][:, 0]
    logit = deployed.output
    real = torch.from_numpy(features.astype(np.float32) * np.float32(FEATURE_SCALE))[None]
    with torch.no_grad():
        found = TinyConv.from_deployed(deployed).step_logits(real, silence_before=True)[0].numpy()
    assert np.abs(found / logit.scale + logit.zero_point - levels).max() < 3


def test_a_deploy_form_of_other_layers_is_refused() -> None:
    deployed = random_model(0, kernels=(3,))
    other = dataclasses.replace(deployed, layers=deployed.layers[1:])
    with pytest.raises(EdgewakeError, match="not those of a tiny_conv"):
        TinyConv.from_deployed(other)


def test_a_clips_softmax_is_its_largest_smoothed_probability() -> None:
    model = small_model(2)
    model.eval()
    features = torch.rand(3, 60, 40) * 20
    smoothed = torch.sigmoid(model.step_logits(features)).unfold(1, model.smoothing, 1).mean(dim=2)
    logits = model(features)
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], smoothed.amax(dim=1))
    assert torch.equal(logits[:, 0], torch.zeros(3))


def test_image_shaped_features_give_the_same_logits() -> None:
    model = small_model(4)
    model.eval()
    features = torch.rand(2, 45, 40)
    torch.testing.assert_close(model(features.transpose(1, 2).unsqueeze(1)), model(features))


@pytest.mark.parametrize(("options", "message"), [({"width": 40}, "multiple of 16"), ({"num_classes": 3}, "2 classes")])
def test_shapes_that_the_target_cannot_accelerate_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("tiny_conv", **options)


def test_an_unknown_architecture_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="tiny_conv"):
        create_model("huge_conv")
