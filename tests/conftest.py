"""Tests behave alike anywhere: one thread a process, no deadlines, a stated reason where data is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

# Before any library starts its threads: two workers with many threads each would fight over two cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

settings.register_profile("edgewake", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "edgewake")

_CORPORA = "EDGEWAKE_CORPORA"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `corpora` where the shared audio corpora are not there."""
    root = os.environ.get(_CORPORA)
    if root and (Path(root) / "manifest.csv").is_file():
        return
    missing = f"{_CORPORA} is not set" if not root else f"{_CORPORA}={root} has no manifest.csv"
    for item in items:
        if item.get_closest_marker("corpora"):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep their results where no command of a user finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWAKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the shared audio corpora; tests that use it carry the marker `corpora`."""
    return Path(os.environ[_CORPORA])


@pytest.fixture(scope="session")
def asset() -> Callable[[str], Path]:
    """Gives the folder of an asset by its name, fetched where it is not here; skips where nothing has it."""
    from edgewake.assets import get_asset
    from edgewake.errors import EdgewakeError

    def get(name: str) -> Path:
        try:
            return get_asset(name)
        except EdgewakeError as error:
            pytest.skip(str(error))

    return get


@pytest.fixture(scope="session")
def tones() -> Callable[..., None]:
    """Writes recordings by label and split: rising tones are the phrase "hey", falling ones are not."""
    import numpy as np

    from edgewake.data.importing import import_folder
    from edgewake.data.reading import write_audio

    def write(
        root: Path,
        splits: Sequence[str] = ("train", "train", "val", "test"),
        *,
        seconds: float = 1.0,
        active: tuple[float, float] = (0.3, 0.8),
        manifest: bool = True,
    ) -> None:
        time = np.arange(round(16000 * seconds)) / 16000
        for label, slope in (("hey", 900.0), ("other", -900.0)):
            for index, split in enumerate(splits):
                tone = 6000 * np.sin(2 * np.pi * (900 + 60 * index + slope * time / 2) * time)
                path = root / label / split / f"v{label}{index}_a.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_audio(path, (tone * ((time > active[0]) & (time < active[1]))).astype(np.int16))
        if manifest:
            import_folder(root, "hey", speaker_pattern=r"(?P<speaker>v\w+\d)_").save(root / "manifest.json")

    return write


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that neither has weights nor reaches the hub; no test asks a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
