"""A deeply nested file is one line, even in a process whose recursion limit another package has lifted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewake.config import WakewordConfig
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import read_json


@pytest.fixture
def lifted_limit() -> Iterator[None]:
    """As importing onnx2tf leaves it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(2**31 - 1)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("lifted_limit")
def test_json(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(EdgewakeError, match=r"nests too deeply"):
        read_json(path, "manifest")
    assert sys.getrecursionlimit() == 2**31 - 1


@pytest.mark.usefixtures("lifted_limit")
def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 5_000)
    with pytest.raises(ConfigError, match=r"nests too deeply"):
        WakewordConfig.load(path)
