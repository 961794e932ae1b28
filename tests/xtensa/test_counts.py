"""The instructions of a frame that the cycle model is made of are those that the emulator executes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewake.calibration import load_golden
from edgewake.targets.frontend import MEASURED
from xtensa.counts import PARTS, frame_counts
from xtensa.emulator import COMPILER, missing, version

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# The aim of the frontend's code, in every frame.
MOST = 60_000


def test_a_frame_takes_the_instructions_that_the_target_states_and_at_most_60_000_in_code_for_the_s3(
    tmp_path: Path,
) -> None:
    counts = frame_counts(load_golden()[0], tmp_path)
    assert counts.s3.sum(axis=1).max() <= MOST
    assert (counts.s3 <= counts.lx106).all()
    assert list(MEASURED["frame"]) == list(PARTS)
    # Another version of the compiler may choose a few other instructions: benchmarks/xtensa.py --keep.
    tolerance = 0 if version(COMPILER) == MEASURED["compiler"] else 0.05
    for part, found in enumerate(PARTS):
        means = {"lx106": counts.lx106[:, part].mean(), "s3": counts.s3[:, part].mean()}
        stated = MEASURED["frame"][found]
        assert stated == pytest.approx({core: round(mean) for core, mean in means.items()}, rel=tolerance), found
