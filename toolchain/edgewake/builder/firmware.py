"""The ESP-IDF project of one model: checked-in sources and a folder of generated ones; equal inputs, equal bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgewake.builder.golden import Golden
from edgewake.config.frontend import FrontendConfig
from edgewake.conversion.c_source import c_array, c_templates, frontend_header
from edgewake.io import write_bytes
from edgewake.runtime.pipeline.native import selftest_bytes
from edgewake.runtime.pipeline.params import PipelineParams
from edgewake.targets.firmware import template_dir, template_files
from edgewake.targets.operators import TFLM_METHODS, count_variables

GENERATED = Path("components") / "edgewake_model" / "generated"
DATA_NAME = "ew_model_data"
_TEMPLATES = c_templates(Path(__file__).parent / "templates" / "generated")


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
) -> list[Path]:
    """Write the project to `out_dir`, the folder for `idf.py`.

    Args:
        operators: builtin names that the model uses, in all subgraphs; all of `TFLM_METHODS`.
        phrase: for log lines.

    Returns:
        All files of the project, relative to `out_dir`, sorted.
    """
    values = {
        "phrase": c_string(phrase),
        "frontend": frontend_config,
        "params": params,
        "arena_bytes": -(-arena_bytes // 16) * 16,
        "variables": count_variables(model_bytes),
        "work_bytes": selftest_bytes(frontend_config, params),
        "methods": [TFLM_METHODS[name] for name in sorted(set(operators))],
        "golden": golden,
        "arrays": [
            ("int16_t", "samples", golden.samples.tolist()),
            ("uint16_t", "features", golden.features.reshape(-1).tolist()),
            ("int8_t", "outputs", golden.outputs.tolist()),
            ("uint32_t", "sums", golden.sums.tolist()),
            ("uint8_t", "detections", golden.detections.tolist()),
        ],
    }
    texts = {
        name.removesuffix(".j2"): _TEMPLATES.get_template(name).render(values) for name in _TEMPLATES.list_templates()
    }
    texts["ew_frontend_tables.h"] = frontend_header(frontend_config)
    texts[f"{DATA_NAME}.c"], texts[f"{DATA_NAME}.h"] = c_array(model_bytes, DATA_NAME)
    contents = {path: (template_dir() / path).read_bytes() for path in template_files()}
    contents |= {GENERATED / name: text.encode() for name, text in texts.items()}
    for path, data in contents.items():
        write_bytes(Path(out_dir) / path, data)
    return sorted(contents)


def c_string(text: str) -> str:
    """A C string literal of UTF-8 text; whatever is not printable ASCII becomes octal escapes."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{escaped}"'
