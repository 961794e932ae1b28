"""TFLM and generated C of one model: flash, RAM, cycles by the model, time a step here, and instructions on Xtensa.

    python benchmarks/backends.py --model models/computer --out backends.json

Instructions and bytes of code are those of the portable kernels, compiled by Debian's GCC for the lx106 and run in QEMU
(tests/xtensa); without these tools they are left out. `--tflm PATH`, a source tree of esp-tflite-micro, compiles its
reference kernels in the same way (minutes), and links both behind the firmware's function pointer.
Times of the two are taken in turns in the same run.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.builder.firmware import emit_firmware, make_golden
from edgewake.calibration import load_golden
from edgewake.io import write_json
from edgewake.runtime.model_manifest import load_model
from edgewake.runtime.network.compiled import CompiledModel, CompiledNetwork, usable
from edgewake.runtime.network.source import network_sources, read_network
from edgewake.runtime.tflm import TflmModel
from edgewake.targets.budget import static_ram
from edgewake.targets.esp32s3 import CACHE_LINE_BYTES, FLASH_LINE, analyse, network_costs
from edgewake.targets.frontend import frontend_cycles, frontend_flash_bytes
from edgewake.targets.operators import operators_from_bytes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from xtensa import tflm
from xtensa.emulator import COMPILER, FLAGS, HERE, build, instructions, missing, run

STEPS, ROUNDS = 200, 15


def host_us(model: bytes) -> dict[str, float]:
    """Microseconds of a step, the fastest round of each."""
    engines: dict[str, Any] = {"tflm": TflmModel(model)}
    if usable("c") == "c":
        engines["c"] = CompiledModel(CompiledNetwork(model))
    steps = np.random.default_rng(0).integers(-128, 128, (STEPS, read_network(model).width), dtype=np.int8)
    spent: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            began = time.process_time()
            engine.run(steps)
            spent[name].append(time.process_time() - began)
    return {name: round(1e6 * min(times) / STEPS, 2) for name, times in spent.items()}


def on_xtensa(model: bytes) -> dict[str, Any]:
    """Bytes of code, and instructions of a step of the generated C: the most of 30 on random features."""
    if missing():
        return {"missing": missing()}
    network = read_network(model)
    features = np.random.default_rng(0).integers(-128, 128, (30, network.width), dtype=np.int8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in network_sources(network).items():
            (folder / file).write_text(text)
        program = build(folder / "network.elf", [HERE / "network.c", folder / "ew_network.c"], include=[folder])
        rows = np.frombuffer(run(program, struct.pack("<I", 30) + features.tobytes()), np.int32).reshape(-1, 2)
        line = [COMPILER, *FLAGS, f"-I{HERE / 'include'}", "-c", folder / "ew_network.c", "-o", folder / "network.o"]
        subprocess.run([*map(str, line)], check=True)
        size = subprocess.run(
            ["xtensa-lx106-elf-size", "-A", folder / "network.o"], check=True, capture_output=True, text=True
        )
    sections = [row.split() for row in size.stdout.splitlines() if row.startswith((".text", ".literal"))]
    return {
        "code_bytes": sum(int(row[1]) for row in sections),
        "instructions_per_step": max(instructions(int(ticks)) for ticks in rows[:, 1]),
    }


def both_on_xtensa(folder: Path, tree: Path) -> dict[str, dict[str, Any]]:
    """Of each backend behind a firmware's function pointer: whether it is right, code, instructions of a step."""
    manifest, model = load_model(folder)
    config, params, network = manifest.frontend_config, manifest.pipeline_params(), read_network(model)
    golden = make_golden("golden", load_golden()[0][:16_000], config, params, model)
    names = [layer.op for layer in operators_from_bytes(model)]
    features = np.random.default_rng(0).integers(-128, 128, (30, network.width), dtype=np.int8)
    results = {}
    for name, given in (("tflm", None), ("c", network)):
        with tempfile.TemporaryDirectory() as where:
            work = Path(where)
            emit_firmware(work / "firmware", model_bytes=model, frontend_config=config, params=params, golden=golden,
                          operators=names, arena_bytes=manifest.arena.total_bytes, phrase="phrase",
                          network=given)  # fmt: skip
            found = tflm.measure(work / "firmware", features, work, None if given else tree)
        right = found.golden == 0 and bool((found.logits == TflmModel(model).run(features)).all())
        results[name] = {"linked_is_right": right, "linked_code_bytes": found.code_bytes,
                         "linked_instructions_per_step": max(found.counts)}  # fmt: skip
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/computer"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tflm", type=Path, help="a source tree of esp-tflite-micro, to compile for Xtensa")
    given = parser.parse_args()
    manifest, model = load_model(given.model)
    network, config, params = read_network(model), manifest.frontend_config, manifest.pipeline_params()
    operators, times = operators_from_bytes(model), host_us(model)
    costs = {"tflm": analyse(operators), "c": network_costs(operators, frontend_flash_bytes(config))}
    results = {}
    for name, found in costs.items():
        main_graph = [cost for cost in found if cost.layer.subgraph == 0]
        c = name == "c"
        flash = sum(cost.layer.weight_bytes + 8 * cost.layer.output_shape[-1] * c for cost in main_graph
                    if cost.layer.op in ("CONV_2D", "DEPTHWISE_CONV_2D"))  # fmt: skip
        ram = static_ram(config, params, manifest.arena.total_bytes, None, network if c else None)
        results[name] = {
            "model_bytes": network.constant_bytes if c else len(model),
            "static_ram_bytes": sum(line.bytes for line in ram),
            "memory": {line.name: line.bytes for line in ram},
            "cycles_without_flash": sum(cost.dispatch + cost.kernel_cycles for cost in main_graph),
            "flash_read_bytes": flash,
            "flash_cycles_when_not_cached": -(-flash // CACHE_LINE_BYTES) * FLASH_LINE,
            "host_us_per_step": times.get(name),
        }
    results["c"] |= on_xtensa(model)
    if given.tflm:
        if lacking := missing() or tflm.missing():
            raise SystemExit(lacking)
        for name, found in both_on_xtensa(given.model, given.tflm).items():
            results[name] |= found
    frontend = {"flash_bytes": frontend_flash_bytes(config), "cycles_per_frame": frontend_cycles(config)}
    record = {"model": str(given.model), "frontend": frontend, "backends": results}
    if given.out:
        write_json(given.out, record)
    for name, values in results.items():
        print(name)
        for key, value in values.items():
            print(f"    {key:32} {value}")


if __name__ == "__main__":
    main()
