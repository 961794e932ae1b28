"""What two processes do that learn from one teacher together, for test_distillation_trainer.py."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any


def tests() -> Any:
    """The module of tests, whose trainer is used."""
    path = Path(__file__).with_name("test_distillation_trainer.py")
    spec = importlib.util.spec_from_file_location("distillation_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(folder: Path) -> None:
    """Train by each kind of teacher; the main process writes the histories."""
    module = tests()
    for teacher in ("wav2vec2", "self"):
        trainer = module.precise(folder / teacher, teacher)
        history = trainer.train()["history"]
        if trainer.processes.main:
            (folder / f"{teacher}.json").write_text(json.dumps([trainer.processes.count, history]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
