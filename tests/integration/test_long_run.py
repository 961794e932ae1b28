"""An hour of audio through the C pipeline and TFLM, as `python tests/long_run.py` does with a day."""

from __future__ import annotations

from pathlib import Path

import pytest

from long_run import run


@pytest.mark.slow
def test_an_hour_of_audio_drifts_nowhere_and_a_restart_ends_in_the_same_state(repository: Path) -> None:
    record = run(repository / "models" / "computer", hours=1.0, restarts=8)
    assert record["steps"] == 119_999  # of 30 ms; the first one is complete after 50 ms
    assert record["events"] > 100
    assert len(record["settled_s"]) == 8
    assert max(record["settled_s"]) < 30
    assert record["memory_mb"][1] < record["memory_mb"][0] + 30
