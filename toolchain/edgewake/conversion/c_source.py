"""C sources of a model and of its frontend, from templates; equal inputs, equal bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edgewake.config.frontend import FrontendConfig
from edgewake.runtime.frontend.native import members
from edgewake.runtime.frontend.tables import build_tables
from edgewake.runtime.network.source import c_templates

_TEMPLATES = c_templates(Path(__file__).parent / "templates")


def c_array(model: bytes, name: str) -> tuple[str, str]:
    """Source and header, NAME.c and NAME.h, of `const uint8_t NAME[]`, aligned to 16, NAME_SIZE and NAME_SHA256.

    The source is C11 for `alignas`, the header C and C++; `name` is a C identifier.
    """
    rows = [" ".join(f"0x{byte:02x}," for byte in model[start : start + 16]) for start in range(0, len(model), 16)]
    values = {"model": model, "rows": rows, "name": name, "sha256": hashlib.sha256(model).hexdigest()}
    source, header = (_TEMPLATES.get_template(f"array.{kind}.j2").render(values) for kind in "ch")
    return source, header


def frontend_header(config: FrontendConfig | None = None) -> str:
    """C header with the tables of `config`: `static const ew_frontend_tables_t EW_FRONTEND_TABLES`.

    It also defines EW_FRONTEND_HASH (a 64-bit literal, usable in #if), EW_FRONTEND_SAMPLE_RATE,
    EW_FRONTEND_WINDOW_SAMPLES, EW_FRONTEND_STEP_SAMPLES and EW_FRONTEND_CHANNELS.
    """
    config = config or FrontendConfig()
    fields = members(build_tables(config))
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    return _TEMPLATES.get_template("frontend_tables.h.j2").render(config=config, members=fields, arrays=arrays)
