"""edgewake.bin: a wake word in one block of bytes, which a board that was compiled for the same structure takes.

The board reads it by `ew_image.h`, which describes the format and what is checked. A model's structure is everything
but its numbers; each kind of model names their places (`Payload.numbers`), with the range that they may have.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend import FrontendConfig
from edgewake.runtime.frontend.native import members
from edgewake.runtime.frontend.tables import build_tables
from edgewake.runtime.network.source import ALIGNMENT, Network
from edgewake.runtime.pipeline.params import PipelineParams

FILE = "edgewake.bin"
MAGIC, VERSION = b"edgewake", 1
# Of partitions.csv.
PARTITION, PARTITION_BYTES = "edgewake", 0x20000
MAX_PHRASE_BYTES = 128
TFLITE, WEIGHTS = 1, 2
_ALIGNMENT = 16
# Members of ew_image_header_t, in order, without magic and CRC.
_HEADER = struct.Struct("<3I64s32sI2I12I4Ii3I30I")
_BEFORE = struct.Struct("<8sI")
HEADER_BYTES = _BEFORE.size + _HEADER.size
_FRONTEND = (
    "window_samples",
    "step_samples",
    "fft_size",
    "noise_reduction",
    "smoothing_bits",
    "even_smoothing",
    "odd_smoothing",
    "min_signal_remaining",
    "pcan",
    "snr_shift",
    "correction_bits",
    "scale_shift",
)
_PIPELINE = (
    "frames_per_step",
    "channels",
    "multiplier",
    "shift",
    "zero_point",
    "window",
    "cutoff_sum",
    "refractory_steps",
)
_ARRAYS = ("window", "bands", "weights", "unweights", "gain_lut", "log_lut")
# TFLM divides products of scales by each other and shifts by the quotient's exponent: these leave at most 26 bits. A
# bias adds to products of 16 bits.
_ACTIVATION_SCALE, _WEIGHT_SCALE, _BIAS = (2.0**-20, 8.0), (2.0**-126, 8.0), (-(2**30), 2**30)


class Numbers(NamedTuple):
    """`items` numbers from the byte `offset` of a model on: int8 (width 1), or int32 and positive float32 (4)."""

    offset: int
    items: int
    width: int
    low: int
    high: int


@dataclass(frozen=True)
class Payload:
    """The bytes that a kind of firmware takes as its model, and where numbers lie in them, ascending."""

    kind: int
    data: bytes
    numbers: Sequence[Numbers]

    @property
    def table(self) -> bytes:
        """The numbers' section."""
        return b"".join(struct.pack("<3I2i", *entry) for entry in self.numbers)

    @property
    def structure(self) -> bytes:
        """SHA-256 of the numbers' section and of the data without its numbers."""
        digest, position = hashlib.sha256(self.table), 0
        for entry in self.numbers:
            digest.update(self.data[position : entry.offset])
            position = entry.offset + entry.items * entry.width
        digest.update(self.data[position:])
        return digest.digest()


def network_payload(network: Network) -> Payload:
    """The constants of a generated network as `ew_network_constants_t` has them; all but the padding are numbers."""
    data, numbers = bytearray(), list[Numbers]()

    def add(values: Sequence[int], width: int, low: int, high: int) -> None:
        numbers.append(Numbers(len(data), len(values), width, low, high))
        data.extend(np.asarray(values, "<i1" if width == 1 else "<i4").tobytes())
        data.extend(bytes(-len(data) % ALIGNMENT))

    for layer in network.layers:
        if layer.weighted:
            add(layer.levels, 4, -128, 128)
            add(layer.weights, 1, -128, 127)
            add(layer.bias, 4, *_BIAS)
            add(layer.multiplier, 4, 0, 2**31 - 1)
            add(layer.shift, 4, -31, 30)
    for layer in network.rings:
        add(layer.silence, 1, -128, 127)
    return Payload(WEIGHTS, bytes(data) + bytes(network.constant_bytes - len(data)), numbers)


def tflite_payload(model: bytes) -> Payload:
    """A .tflite of edgewake's own: its constants and scales are numbers, its zero points and all else is structure.

    A vector whose values are out of the range of its kind belongs to the structure too.
    """
    places: dict[int, Numbers | None] = {}
    root = tflite.Model.GetRootAs(model, 0)
    for graph in (root.Subgraphs(index) for index in range(root.SubgraphsLength())):
        operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
        biases = {operator.Inputs(2) for operator in operators if operator.InputsLength() == 3}
        for index, tensor in ((index, graph.Tensors(index)) for index in range(graph.TensorsLength())):
            buffer, affine = root.Buffers(tensor.Buffer()), tensor.Quantization()
            constant = buffer.DataLength() > 0
            if affine is not None and affine.ScaleLength():
                bounds = _bits(_WEIGHT_SCALE if constant else _ACTIVATION_SCALE)
                _add(places, model, _vector(affine, 8), affine.ScaleLength(), 4, bounds)
            if constant and tensor.Type() == tflite.TensorType.INT8:
                _add(places, model, _vector(buffer, 4), buffer.DataLength(), 1, (-128, 127))
            elif constant and index in biases:
                _add(places, model, _vector(buffer, 4), buffer.DataLength() // 4, 4, _BIAS)
            elif constant:
                # Where STRIDED_SLICE reads, which may lie in the same place as a bias of equal values.
                places[_vector(buffer, 4)] = None
    return Payload(TFLITE, model, sorted(place for place in places.values() if place is not None))


def _bits(bounds: tuple[float, float]) -> tuple[int, int]:
    low, high = np.array(bounds, np.float32).view(np.int32).tolist()
    return low, high


def _vector(table: object, field: int) -> int:
    """Where the first element of a vector lies: `field` is 4 + 2 times its number in the schema."""
    inner = table._tab  # type: ignore[attr-defined]
    return int(inner.Vector(inner.Offset(field)))


def _add(
    places: dict[int, Numbers | None], model: bytes, offset: int, count: int, width: int, bounds: tuple[int, int]
) -> None:
    """Note a vector; one that also is of another type, or has a value out of bounds, is no number (None)."""
    values = np.frombuffer(model, f"<i{width}", count, offset)
    known = places.get(offset, Numbers(offset, count, width, *bounds))
    if known is not None and known.width == width:
        bounds = max(bounds[0], known.low), min(bounds[1], known.high)
        if values.min() >= bounds[0] and values.max() <= bounds[1]:
            places[offset] = Numbers(offset, count, width, *bounds)
            return
    places[offset] = None


def write_image(
    payload: Payload,
    sha256: str,
    phrase: str,
    config: FrontendConfig,
    params: PipelineParams,
    golden: Sequence[npt.NDArray[Any]],
) -> bytes:
    """The image of a wake word.

    Args:
        sha256: of the .tflite, in hexadecimal digits.
        golden: samples, features, outputs, sums and detections of the types of `ew_golden_t`.

    Raises:
        EdgewakeError: the phrase is no text of a line, or the image does not fit the partition.
    """
    text = phrase.encode() + b"\0"
    if len(text) > MAX_PHRASE_BYTES or not phrase.isprintable() or not phrase:
        raise EdgewakeError(
            f"phrase of {len(text) - 1} bytes: an image holds 1 to {MAX_PHRASE_BYTES - 1} printable ones"
        )
    tables = members(build_tables(config))
    sections = [text, payload.data, payload.table, params.probabilities.astype("<u2").tobytes()]
    sections += [_little(tables[name]) if name != "gain_lut" or tables["pcan"] else b"" for name in _ARRAYS]
    sections += [_little(values) for values in golden]
    body, places, start = bytearray(), [], -(-HEADER_BYTES // _ALIGNMENT) * _ALIGNMENT
    for section in sections:
        places += [start + len(body), len(section)]
        body += section + bytes(-len(section) % _ALIGNMENT)
    hashed = int(config.hash(), 16)
    rest = _HEADER.pack(
        VERSION, payload.kind, start + len(body), sha256.encode(), payload.structure, config.sample_rate,
        hashed & 0xFFFFFFFF, hashed >> 32, *(tables[name] for name in _FRONTEND),
        *(getattr(params, name) for name in _PIPELINE), *places,
    )  # fmt: skip
    rest += bytes(start - HEADER_BYTES) + body
    image = _BEFORE.pack(MAGIC, zlib.crc32(rest)) + rest
    if len(image) > PARTITION_BYTES:
        raise EdgewakeError(
            f"{FILE} has {len(image):,} B, its partition {PARTITION_BYTES:,} B: build with shorter golden audio, "
            "or a smaller model"
        )
    return image


def _little(values: object) -> bytes:
    array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


class Header(NamedTuple):
    """What names an image: `structure` says which firmware takes it."""

    bytes: int
    kind: int
    sha256: str
    structure: str
    phrase: str


def read_header(data: bytes) -> Header | None:
    """What the beginning of an image says, or None where there is none; the phrase is "" where it is cut off.

    Raises:
        EdgewakeError: the image is of another version.
    """
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        return None
    fields = _HEADER.unpack_from(data, _BEFORE.size)
    version, kind, size, sha256, structure = fields[:5]
    if version != VERSION:
        raise EdgewakeError(f"an image of version {version}, this edgewake reads version {VERSION}: use its edgewake")
    offset, count = fields[-30:-28]
    phrase = data[offset : offset + count].rstrip(b"\0").decode(errors="replace")
    return Header(size, kind, sha256.decode("ascii", "replace"), structure.hex(), phrase)


def check_image(path: Path) -> tuple[bytes, Header]:
    """The bytes of an image and what they are, whole and unchanged since they were written.

    Raises:
        EdgewakeError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise EdgewakeError(f"{path} is missing: run edgewake build")
    data = path.read_bytes()
    header = read_header(data)
    if header is None or header.bytes != len(data) or zlib.crc32(data[12:]) != _BEFORE.unpack_from(data)[1]:
        raise EdgewakeError(f"{path} is no whole image: run edgewake build again")
    return data, header
