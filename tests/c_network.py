"""A model's generated C as a program, under sanitizers, for tests: features in, the outputs of every layer out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgewake.runtime.network.compiled import compiler
from edgewake.runtime.network.source import Network, network_sources, read_network

Int8Array = npt.NDArray[np.int8]
ESP_NN = Path(__file__).parent / "firmware" / "stubs"
# A source tree of ESP-NN, whose ANSI C is then called instead of the stub.
REAL_ESP_NN = os.environ.get("EDGEWAKE_TEST_ESP_NN")
_ESP_NN_SOURCES = (
    "convolution/esp_nn_conv_ansi",
    "convolution/esp_nn_depthwise_conv_ansi",
    "pooling/esp_nn_avg_pool_ansi",
)
# Every warning that the core's own sources are compiled with.
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1")
_INCLUDED = [f"{REAL_ESP_NN}{folder}" for folder in ("/include", "/src/common", "/src")] if REAL_ESP_NN else [ESP_NN]
_CALLED = ("-DCONFIG_EDGEWAKE_ESP_NN", *(f"-isystem{folder}" for folder in _INCLUDED))
KERNELS = {
    "portable": (),
    "ESP-NN": _CALLED,
    "ESP-NN, depthwise too": (*_CALLED, "-DCONFIG_EDGEWAKE_ESP_NN_DEPTHWISE"),
}
_MAIN = r"""
#include "ew_network.h"

#include <stdio.h>

static ew_network_t network;
static int8_t features[EW_NETWORK_INPUTS] EW_ALIGNED;
static int8_t trace[1 << 16];

int main(void) {
    ew_network_reset(&network, &EW_NETWORK_CONSTANTS);
    while (fread(features, 1, sizeof features, stdin) == sizeof features) {
        network.trace = trace;
        const int8_t logit = ew_network_step(&network, &EW_NETWORK_CONSTANTS, features);
        if (network.trace[-1] != logit) {
            return 1;
        }
        fwrite(trace, 1, (size_t)(network.trace - trace), stdout);
    }
    return 0;
}
"""


def network_files(model: bytes, folder: Path) -> Network:
    """The generated C of a .tflite in a folder."""
    network = read_network(model)
    for name, text in network_sources(network).items():
        (folder / name).write_text(text)
    return network


def layers_in_c(
    model: bytes, features: Int8Array, folder: Path, kernels: str = "portable", options: tuple[str, ...] = SANITIZERS
) -> list[Int8Array]:
    """Outputs of every layer at steps from reset: (steps, inputs) int8 -> (steps, channels) int8 each."""
    network = network_files(model, folder)
    real = _ESP_NN_SOURCES if REAL_ESP_NN and kernels != "portable" else ()
    (folder / "main.c").write_text("".join(f"#include <{name}.c>\n" for name in real) + _MAIN)
    command = compiler()
    assert command, "these tests need a C compiler: apt-get install gcc"
    command += ["-std=c99", *WARNINGS, *options, "-DEW_NETWORK_TRACE", *KERNELS[kernels]]
    command += [str(folder / name) for name in ("ew_network.c", "main.c")] + ["-o", str(folder / "network")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([folder / "network"], input=features.tobytes(), capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr.decode()
    widths = [layer.outputs for layer in network.layers]
    values = np.frombuffer(ran.stdout, np.int8).reshape(len(features), sum(widths))
    return np.split(values, np.cumsum(widths)[:-1], axis=1)
