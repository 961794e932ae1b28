"""What quantization costs is measured against the network that training left, to float rounding."""

from __future__ import annotations

import numpy as np
import pytest

from edgewake.builder import convert
from edgewake.runtime.frontend import FEATURE_SCALE
from edgewake.runtime.simulator import float_probabilities
from random_models import random_model

torch = pytest.importorskip("torch")


def student(pool):
    from edgewake.models import create_model

    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = create_model("tiny_conv", width=16, kernel_sizes=(3, 4), **({"pool": pool} if pool else {}))
    model.observe = model.quantize = True
    model.train()
    model(torch.rand(8, 120, 40) * 20)
    model.observe = False
    model.fold_batch_norm()
    return model.eval()


@pytest.mark.parametrize("pool", [0, 3])
def test_float_probabilities_are_those_of_the_student(pool):
    model = student(pool)
    deployed = model.deployed({"phrase": "x", "window": 1, "cutoff_sum": 1, "refractory_s": 1.0})
    features = np.random.default_rng(0).integers(0, 500, (100, 40)).astype(np.uint16)
    model.quantize = False
    with torch.no_grad():
        value = torch.from_numpy(features[:99].astype(np.float32) * np.float32(FEATURE_SCALE))[None]
        expected = torch.sigmoid(model.step_logits(value, silence_before=True))[0].numpy()
    assert np.allclose(float_probabilities(deployed, features), expected, atol=1e-5)


def test_cost_counts_differences_of_smoothed_probability(tmp_path):
    model = random_model(4, kernels=(3, 5))
    model.info.update(window=5, cutoff_sum=153_600)
    features = np.random.default_rng(1).integers(0, 500, (600, 40)).astype(np.uint16)
    converted = convert.Conversion(model, tmp_path)
    (tmp_path / "model.tflite").write_bytes(b"x" * 1000)
    cost = convert.cost_of_quantization("qat", converted, features)
    assert (cost["steps"], cost["bytes"]) == (200, 1000)
    assert 0 < cost["mean"] <= cost["largest"] <= 1
    assert 0 <= cost["decisions"] <= 200
