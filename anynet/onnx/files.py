"""ONNX files: what is in them, checked before anything is made of it. Nothing in a file is run, and nothing outside its folder is read."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

import anynet as an
from anynet._optional import optional
from anynet.onnx.operators.calling import DTYPES

__all__ = ["ONNXError", "library", "read", "tensor"]

_LIMIT = (
    1 << 31
)  # bytes of the file itself, as everywhere with protocol buffers; weights beyond it are in files beside it
_FIELDS = {
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "uint64": "uint64_data",
    "uint32": "uint64_data",
}


class ONNXError(ValueError):
    """A file that is not ONNX, is damaged, asks for what it may not, or has what anynet has no counterpart for; the message names the node.

    >>> import anynet as an
    >>> issubclass(an.onnx.ONNXError, ValueError)
    True
    """


def library(part: str = "onnx") -> Any:
    """The library, or a module of it."""
    return optional(part, "onnx", "onnx.load")


def read(path: str | os.PathLike[str]) -> Any:
    """The file as ONNX's `ModelProto`."""
    if os.path.getsize(path) > _LIMIT:
        raise ONNXError(f"it must be smaller than {_LIMIT:,} bytes")
    model = library().ModelProto()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except library("google.protobuf.message").DecodeError as error:
        raise ONNXError(f"it is damaged or not an ONNX file ({error})") from None
    if not model.graph.output:
        raise ONNXError("it has no graph, or one without outputs")
    return model


def _external(entries: dict[str, str], folder: Path, size: int) -> bytes:
    """`size` bytes of a file beside the model."""
    location = entries.get("location", "")
    place = folder / location
    parts = PurePosixPath(location).parts
    if not parts or not parts[0].strip("/.") or {"..", "\0"} & {*parts, *location} or "\\" in location or ":" in location \
            or place.resolve() != folder.resolve().joinpath(*parts) or not place.is_file():  # fmt: skip
        raise ONNXError(
            f"its data must be a file in the folder of the model, and no link, got {location!r:.200}"
        )
    offset, length = entries.get("offset", "0"), entries.get("length", str(size))
    if not all(v.isascii() and v.isdigit() and len(v) < 20 for v in (offset, length)) or int(length) != size \
            or int(offset) + size > place.stat().st_size:  # fmt: skip
        raise ONNXError(
            f"its {size} bytes must be in {location!r:.200}, got {length!r:.30} at {offset!r:.30}"
        )
    with place.open("rb") as file:
        file.seek(int(offset))
        return file.read(size)


def tensor(proto: Any, folder: Path) -> Any:
    """A `TensorProto` as a Tensor on the host; ONNXError where its size is not that of its data."""
    name, shape, where = DTYPES.get(proto.data_type), tuple(proto.dims), f"the tensor {proto.name!r:.200}"
    if name is None or proto.HasField("segment") or len(shape) > 32 or min(shape, default=0) < 0:
        kinds = ", ".join(DTYPES.values())
        raise ONNXError(
            f"{where} must be one of {kinds}, of sizes ≥ 0, got ONNX's {proto.data_type} and {shape!r:.200}"
        )
    itemsize = 1 if name == "bool" else int("".join(c for c in name if c.isdigit())) // 8
    size, found = math.prod(shape) * itemsize, len(proto.raw_data)
    if proto.data_location == proto.EXTERNAL:
        try:
            data = _external({e.key: e.value for e in proto.external_data}, folder, size)
        except ONNXError as error:
            raise ONNXError(f"{where}: {error}") from None
        proto, found = type(proto)(data_type=proto.data_type, dims=shape, raw_data=data), len(data)
    elif not proto.HasField("raw_data"):
        found = itemsize * len(getattr(proto, _FIELDS.get(name, "int32_data")))
    if found != size:
        raise ONNXError(f"{where} of shape {shape!r:.200} takes {size} bytes, got {found}")
    return an.asarray(library("onnx.numpy_helper").to_array(proto), device="cpu", copy=True)
