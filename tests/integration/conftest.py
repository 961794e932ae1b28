"""One small random model, trained by nobody and converted once, behind every test of this folder."""

from __future__ import annotations

import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A build takes longer than all quick tests together: whoever needs it is slow."""
    for item in items:
        if "built" in item.fixturenames:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A model folder as training leaves it: weights and description, no .tflite and no manifest."""
    import torch

    from random_models import random_student

    torch.set_num_threads(1)
    info = {"phrase": "computer", "window": 5, "cutoff_sum": 179_200, "refractory_s": 1.0, "refractory_steps": 33}
    folder = tmp_path_factory.mktemp("models") / "computer"
    random_student().deployed(info).save(folder)
    return folder


@pytest.fixture(scope="session")
def built(model_folder, tmp_path_factory):
    """A build folder of that model."""
    from edgewake.builder.build import build

    out = tmp_path_factory.mktemp("build") / "computer"
    build(model_folder, out)
    return out


@pytest.fixture
def covered_cache(monkeypatch):
    """Kinds of results that the cache was asked for; each key covers every module that ran to make the result."""
    from edgewake.cache import Cache, content_key
    from edgewake.data import store
    from edgewake.fingerprint import closure

    kinds, get, keys = [], Cache.get, {}

    def named(kind, parameters, *, code, inputs=()):
        key = content_key(kind, parameters, code=code, inputs=inputs)
        keys[key] = code
        return key

    def spied(self, kind, parameters, make, *, code, inputs=(), resumable=False):
        ran = set()

        def traced(folder):
            def note(frame, event, argument):
                name = frame.f_globals.get("__name__", "")
                if event == "call" and name.startswith("edgewake."):
                    ran.add(name)

            sys.setprofile(note)
            try:
                return make(folder)
            finally:
                sys.setprofile(None)

        entry = get(self, kind, parameters, traced, code=code, inputs=inputs, resumable=resumable)
        # The function that makes a result by calls into another module may itself lie elsewhere.
        # A key may be part of another one's parameters.
        covering = [*code, *(name for value in parameters.values() for name in keys.get(str(value), ()))]
        lacking = ran - set(closure(covering)) - {make.__module__}
        assert not lacking, f"the key of {kind} does not cover {sorted(lacking)}"
        assert entry.reused or ran, kind
        kinds.append(kind)
        return entry

    monkeypatch.setattr(Cache, "get", spied)
    monkeypatch.setattr(store, "content_key", named)
    return kinds
