"""Writes the tables of one configuration and what the numpy reference makes of a stimulus, as C headers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewake.config.frontend import FrontendConfig
from edgewake.conversion.c_source import frontend_header
from edgewake.io import write_text
from edgewake.runtime.frontend.reference import ReferenceFrontend

CONFIGS: dict[str, FrontendConfig] = {
    "default": FrontendConfig(),
    "step_20_ms": FrontendConfig(step_ms=20),
    "plain": FrontendConfig(pcan=False, noise_reduction=False),
    "fft_1024": FrontendConfig(window_ms=64, step_ms=30, channels=64),
    "fft_64": FrontendConfig(sample_rate=8_000, window_ms=5, step_ms=5, upper_hz=3_500.0, channels=4),
    "gain_that_wraps": FrontendConfig(pcan_strength=0.3, pcan_gain_bits=23),
}


def stimulus() -> NDArray[np.int16]:
    """Silence, a run of INT16_MIN, noise of all levels, a full-scale square wave and a sweep."""
    random = np.random.default_rng(20)
    level = np.exp(random.uniform(0, np.log(32768), 20)).repeat(100)
    return np.concatenate(
        [
            np.zeros(300, np.int16),
            np.full(600, -32768, np.int16),
            (random.uniform(-1, 1, len(level)) * level).astype(np.int16),
            np.where(np.arange(1_000) // 9 % 2, 32767, -32768).astype(np.int16),
            (32767 * np.sin(np.cumsum(np.linspace(0.01, 3.1, 1_000)))).astype(np.int16),
        ]
    )


def vectors(config: FrontendConfig) -> str:
    """C header with SAMPLES and the FEATURES that they have from the reset state."""
    samples = stimulus()
    features = ReferenceFrontend(config).process(samples)
    rows = ",\n".join("    {" + ", ".join(map(str, row)) + "}" for row in features.tolist())
    return (
        "#include <stdint.h>\n\n"
        f"#define VECTOR_SAMPLES ((size_t){len(samples)})\n"
        f"#define VECTOR_FRAMES ((size_t){len(features)})\n\n"
        f"static const int16_t SAMPLES[{len(samples)}] = {{{', '.join(map(str, samples.tolist()))}}};\n\n"
        f"static const uint16_t FEATURES[{len(features)}][{config.channels}] = {{\n{rows}}};\n"
    )


def main(name: str, folder: Path) -> None:
    """Write frontend_tables.h and frontend_vectors.h of the configuration `name` into `folder`."""
    config = CONFIGS[name]
    write_text(folder / "frontend_tables.h", frontend_header(config))
    write_text(folder / "frontend_vectors.h", vectors(config))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
