"""The ESP-IDF project of one model: checked-in sources, and a folder of generated ones with golden vectors.

Golden vectors are audio, and all that the host computed from it, which the board reproduces byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.builder.image import FILE, network_payload, tflite_payload, write_image
from edgewake.calibration import array_sha256
from edgewake.config.defaults import TargetConfig
from edgewake.conversion.c_source import c_array, frontend_header
from edgewake.errors import EdgewakeError
from edgewake.io import write_bytes
from edgewake.runtime.events import as_probability
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.network.source import Network, c_templates, network_sources, render
from edgewake.runtime.pipeline.native import NativePipeline, selftest_bytes
from edgewake.runtime.pipeline.params import PipelineParams
from edgewake.runtime.tflm import TflmModel
from edgewake.targets.firmware import MEMORY_HEADER, template_dir, template_files
from edgewake.targets.operators import TFLM_METHODS, count_variables

GENERATED = Path("components") / "edgewake_model" / "generated"
# In the root of the project.
IMAGE = Path(FILE)
DETECTOR, MANIFEST = MEMORY_HEADER.parent, "idf_component.yml"
DATA_NAME = "ew_model_data"
_TEMPLATES = c_templates(Path(__file__).parent / "templates" / "generated")


@dataclass(frozen=True)
class Golden:
    """One stretch of audio from reset, and what frontend, model and pipeline make of it.

    Attributes:
        name: for reports.
        samples: (n,) int16; the last one completes the last step.
        features: (steps * frames_per_step, channels) uint16.
        outputs: (steps,) int8, the model's logits.
        sums: (steps,) uint32, smoothed.
        detections: (steps,) uint8, 1 where an event starts.
    """

    name: str
    samples: npt.NDArray[np.int16]
    features: npt.NDArray[np.uint16]
    outputs: npt.NDArray[np.int8]
    sums: npt.NDArray[np.uint32]
    detections: npt.NDArray[np.uint8]

    def json(self, window: int) -> dict[str, Any]:
        """What a report shows of it."""
        counts = {"samples": len(self.samples), "frames": len(self.features), "steps": len(self.outputs)}
        probabilities = as_probability(self.sums, window).tolist()
        return {"name": self.name, **counts, "sha256": array_sha256(self.features), "probabilities": probabilities}


def make_golden(
    name: str, audio: npt.NDArray[np.int16], config: FrontendConfig, params: PipelineParams, model: bytes
) -> Golden:
    """Run audio through the C pipeline with TFLM behind it, cut to whole steps."""
    done = NativePipeline(config, params, TflmModel(model).step).process(audio)
    if not done:
        raise EdgewakeError(f"golden audio of {len(audio)} samples completes no step: give a longer one")
    samples = np.ascontiguousarray(audio[: done[-1].sample_index])
    return Golden(
        name=name,
        samples=samples,
        features=features(samples, config),
        outputs=np.array([step.output for step in done], np.int8),
        sums=np.array([step.sum for step in done], np.uint32),
        detections=np.array([step.detected for step in done], np.uint8),
    )


def emit_firmware(
    out_dir: Path,
    *,
    model_bytes: bytes,
    frontend_config: FrontendConfig,
    params: PipelineParams,
    golden: Golden,
    operators: Iterable[str],
    arena_bytes: int,
    phrase: str,
    network: Network | None = None,
    limits: TargetConfig | None = None,
) -> list[Path]:
    """Write the project to `out_dir`, the folder for `idf.py`; equal inputs give equal bytes.

    `operators` are builtin names that the model uses, in all subgraphs. With a `network`, read from `model_bytes`,
    generated C, whose asserts hold `limits`, is in the place of TFLM and the .tflite. Returns all files, sorted.
    """
    arrays = [(name, value) for name, value in vars(golden).items() if isinstance(value, np.ndarray)]
    payload = network_payload(network) if network else tflite_payload(model_bytes)
    sha256 = hashlib.sha256(model_bytes).hexdigest()
    values = {
        "phrase": c_string(phrase),
        "frontend": frontend_config,
        "params": params,
        "probabilities": params.probabilities.tolist(),
        "kind": payload.kind,
        "structure": list(payload.structure),
        "network": network,
        "arena_bytes": -(-arena_bytes // 16) * 16,
        "variables": count_variables(model_bytes),
        "work_bytes": selftest_bytes(frontend_config, params),
        "methods": [TFLM_METHODS[name] for name in sorted(set(operators))],
        "golden": golden,
        "arrays": [(f"{value.dtype}_t", name, value.reshape(-1).tolist()) for name, value in arrays],
    }
    texts = {
        name.removesuffix(".j2"): _TEMPLATES.get_template(name).render(values) for name in _TEMPLATES.list_templates()
    }
    texts["ew_frontend_tables.h"] = frontend_header(frontend_config)
    contents = {path: (template_dir() / path).read_bytes() for path in template_files()}
    if network:
        del contents[DETECTOR / "model.cc"], texts["ew_model_operators.h"]
        texts |= network_sources(network, limits) | {f"{DATA_NAME}.h": render(f"{DATA_NAME}.h", network)}
        # Without TFLM; of ESP-NN's headers ew_kernels.h has need.
        lines = contents[DETECTOR / MANIFEST].splitlines(keepends=True)
        without = b"".join(line for line in lines if b"esp-tflite-micro" not in line)
        contents |= {DETECTOR / MANIFEST: without, GENERATED.parent / MANIFEST: without}
    else:
        del contents[DETECTOR / "network.c"]
        texts[f"{DATA_NAME}.c"], texts[f"{DATA_NAME}.h"] = c_array(model_bytes, DATA_NAME)
    contents |= {GENERATED / name: text.encode() for name, text in texts.items()}
    vectors = [value for _, value in arrays]
    contents[IMAGE] = write_image(payload, sha256, phrase, frontend_config, params, vectors)
    for path, data in contents.items():
        write_bytes(Path(out_dir) / path, data)
    return sorted(contents)


def c_string(text: str) -> str:
    """A C string literal of UTF-8 text; whatever is not printable ASCII becomes octal escapes."""
    escaped = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{escaped}"'
