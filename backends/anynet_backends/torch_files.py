"""PyTorch's files of weights (.pt, .pth), read without PyTorch and without running what is in them.

Such a file is a pickle, and unpickling runs whatever it names. Here a reader of its own goes through the instructions: it knows containers,
numbers, texts, and the few functions with which PyTorch puts tensors together (`_BUILT`), each in a form of its own that makes an
array and nothing else. Every other name, and every instruction that is not in the table, is an error. Nothing in a file decides how much
memory is taken beyond a few times the size of the file: entries that are compressed, storages that are not there, tensors larger than
their storage are refused, and so are more objects, or more numbers in tensors that share a storage, than any network's state has. What a
file nests is never written out or compared, since parts that stand in it once may be in one another millions of times.

Both formats: the zip archive (since PyTorch 1.6, 2020), and the older one, pickles in a row.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TorchFileError", "is_torch_file", "read"]

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32", "Short": "int16",
    "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
_NAMES = {
    "float32", "float", "float64", "double", "float16", "half", "bfloat16", "int64", "long", "int32", "int", "int16", "short", "int8",
    "uint8", "bool", "complex64", "complex128",
}  # fmt: skip
_OTHER_WORDS = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}


class TorchFileError(ValueError):
    """A file that is no file of PyTorch's, is damaged, or holds something else than data."""


class _Storage(NamedTuple):
    """The numbers of one storage: a flat array, or None while only the length is known."""

    array: Any
    length: int


class _Name(NamedTuple):
    """A function or class that the file names."""

    module: str
    name: str


_MARK = object()
_OBJECTS = 1 << 23  # instructions, and elements that functions copy
_PROGRAM = 1 << 28  # bytes of a pickle that puts tensors together
_SHARES = 32  # how many times a file's size its tensors may have together
# what a damaged file leads to, here and in zipfile
_DAMAGE = (
    zipfile.BadZipFile, struct.error, LookupError, ValueError, TypeError, AttributeError, EOFError, ArithmeticError, RuntimeError,
)  # fmt: skip
_KINDS = {("torch.nn.parameter", "Parameter"), ("torch", "Tensor"), ("torch._tensor", "Tensor")}


def is_torch_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as PyTorch's do: a zip archive, or the older format's number."""
    with open(path, "rb") as file:
        start = file.read(14)
    return start[:4] == b"PK\x03\x04" or start[2:] == b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def read(path: str | os.PathLike[str], make: Callable[[Any, bool], Any]) -> Any:
    """What a file holds. `make(array, requires_grad)` makes a tensor of an array of NumPy's.

    `TorchFileError` for what is damaged, and for every object that is neither data nor a tensor, by its name.
    """
    try:
        if zipfile.is_zipfile(path):
            return _from_archive(path, make)
        with open(path, "rb") as file:  # mapped: of a large file no more is read than is looked at
            return _from_legacy(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), make)
    except TorchFileError as error:
        raise TorchFileError(f"{os.fspath(path)}: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # of the system; a place before the beginning is the file's fault
            raise
        raise TorchFileError(f"{os.fspath(path)} is damaged: {error}") from None
    except _DAMAGE as error:
        msg = f"{os.fspath(path)} is damaged or no file of PyTorch's ({type(error).__name__}: {error!s:.200})"
        raise TorchFileError(msg) from None


# ----- the archive -----


def _from_archive(path: str | os.PathLike[str], make: Callable[[Any, bool], Any]) -> Any:
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        for info in entries.values():
            if info.compress_type != zipfile.ZIP_STORED:
                msg = f"the entry {info.filename!r} is compressed, which PyTorch's are not"
                raise TorchFileError(msg)
        if sum(info.file_size for info in entries.values()) > size:
            msg = "its entries are longer than the file"
            raise TorchFileError(msg)
        main = [name for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(main) != 1:
            what = (
                "a TorchScript archive, a program"
                if any(n.endswith("constants.pkl") for n in entries)
                else f"no data.pkl, or several ({len(main)})"
            )
            raise TorchFileError(f"it has {what}")
        folder = main[0].removesuffix("data.pkl")
        order = archive.read(entries[f"{folder}byteorder"]) if f"{folder}byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            raise TorchFileError("its byte order is unknown")
        held: dict[str, bytearray] = {}
        whole: dict[tuple[str, str], _Storage] = {}

        def storage(kind: str, key: str, length: int) -> _Storage:
            if key not in held:
                held[key] = bytearray(archive.read(entries[f"{folder}data/{key}"]))
            if (key, kind) not in whole:  # once for all tensors that share it
                whole[key, kind] = _storage(held[key], kind, len(held[key]) // _width(kind), order.decode())
            found = whole[key, kind]
            if not 0 <= length <= found.length:
                raise TorchFileError(f"a storage of {length} numbers of {kind} has {len(held[key])} bytes")
            return _Storage(found.array[:length], length)

        if entries[main[0]].file_size > _PROGRAM:
            raise TorchFileError(f"its data.pkl must have at most {_PROGRAM:,} bytes")
        return _Reader(archive.read(entries[main[0]]), storage, make, size=size).run()


def _width(kind: str) -> int:
    """The bytes of a number."""
    return {"bfloat16": 2, "untyped": 1}.get(kind) or int(np.dtype(kind).itemsize)


def _storage(data: bytearray, kind: str, length: int, order: str = "little") -> _Storage:
    size = _width(kind)
    if length < 0 or length * size > len(data):
        msg = f"a storage of {length} numbers of {kind} has {len(data)} bytes"
        raise TorchFileError(msg)
    stored = np.dtype({"bfloat16": "uint16", "untyped": "uint8"}.get(kind, kind)).newbyteorder(
        "<" if order == "little" else ">"
    )
    array = np.frombuffer(data, dtype=stored, count=length)
    return _Storage(_native(array, kind), length)


def _native(array: Any, kind: str) -> Any:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if kind == "bfloat16":  # NumPy has no such type: float32, of which it is a part
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


# ----- the older format -----


def _from_legacy(data: bytes | mmap.mmap, make: Callable[[Any, bool], Any]) -> Any:
    at = 0
    for expected in (_MAGIC, 1001):
        reader = _Reader(data, _no_storage, make, at)
        if reader.run() != expected:
            raise TorchFileError("it is neither a zip archive nor a file of PyTorch's older format")
        at = reader.at
    reader = _Reader(data, _no_storage, make, at)
    information = reader.run()
    order = "little" if not isinstance(information, dict) or information.get("little_endian", True) else "big"
    found: dict[str, tuple[str, int]] = {}

    def expected_storage(kind: str, key: str, length: int) -> _Storage:
        found[key] = kind, length
        return _Storage(None, length)

    begin = reader.at
    reader = _Reader(data, expected_storage, _nothing, begin)
    reader.run()
    reader = _Reader(data, _no_storage, make, reader.at)
    keys = reader.run()
    at = reader.at
    held: dict[str, _Storage] = {}
    for key in keys:
        kind, length = found[_text(key)]
        (count,) = struct.unpack_from("<q" if order == "little" else ">q", data, at)
        size = _width(kind)
        if count != length or at + 8 + count * size > len(data):
            raise TorchFileError(f"the storage {key!r:.40} has {count} numbers, expected {length}")
        held[key] = _storage(bytearray(data[at + 8 : at + 8 + count * size]), kind, count, order)
        at += 8 + count * size
    return _Reader(data, lambda kind, key, length: held[key], make, begin).run()


def _no_storage(kind: str, key: str, length: int) -> _Storage:
    raise TorchFileError("a storage stands where none is expected")


def _nothing(array: Any, requires_grad: bool) -> Any:
    return None


# ----- the instructions -----


class _Reader:
    """Goes through one pickle, from a place in the data to its end."""

    def __init__(
        self,
        data: bytes | mmap.mmap,
        storage: Callable[[str, str, int], _Storage],
        make: Callable[[Any, bool], Any],
        at: int = 0,
        size: int = 0,
    ) -> None:
        self.data, self.at = data, at
        self.objects, self.room = _OBJECTS, _SHARES * max(size, len(data))
        self.storage, self.make = storage, make
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise TorchFileError("it ends in the middle of an instruction")
        self.at += count
        return self.data[self.at - count : self.at]

    def spend(self, count: int) -> None:
        """Count objects that are made."""
        self.objects -= count
        if self.objects < 0:
            raise TorchFileError(f"it has more than {_OBJECTS:,} objects")

    def skip(self, count: int) -> None:
        self.take(count)

    def drop(self) -> None:
        self.stack.pop()

    def line(self) -> str:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise TorchFileError("it ends in the middle of a line")
        text = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return text

    def since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise TorchFileError("an end without a beginning")

    def run(self) -> Any:
        while True:
            self.spend(1)
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise TorchFileError(f"it has the instruction {code!r}, which no state of a network needs")
            step(self)

    # what instructions do

    def number(self, form: str) -> int:
        return int(struct.unpack("<" + form, self.take(struct.calcsize(form)))[0])

    def text(self, form: str) -> str:
        return self.take(self.number(form)).decode("utf-8", "surrogatepass")

    def put_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TorchFileError("items for what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int, float)) and key is not None:
                raise TorchFileError(
                    f"a dict has a key that is neither text nor number: {type(key).__name__}"
                )
            target[key] = value

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TorchFileError("elements for what is no list")
        self.stack[-1].extend(items)

    def build(self) -> None:
        self.stack.pop()  # attributes of a dict (its _metadata); nothing that is built here has others

    def persistent(self) -> None:
        what = self.stack.pop()
        if not isinstance(what, tuple) or len(what) < 5 or what[0] != "storage":
            raise TorchFileError("it refers to something that is no storage")
        kind = what[1]
        name = kind.name.removesuffix("Storage") if isinstance(kind, _Name) else ""
        if name not in _DTYPES and name != "Untyped":
            raise TorchFileError(f"a storage of an unknown type, {name or type(kind).__name__:.40}")
        key, length = _text(what[2]), int(what[4])
        self.stack.append(
            (_DTYPES.get(name, "untyped"), self.storage(_DTYPES.get(name, "untyped"), key, length))
        )

    def call(self) -> None:
        given, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(given, tuple):
            raise TorchFileError("it calls something that is no function")
        built = _BUILT.get((function.module, function.name))
        if built is None:
            raise TorchFileError(_refused(function))
        self.stack.append(built(self, *given))

    def name(self, module: str, name: str) -> None:
        if module == "torch" and name in _NAMES:
            self.stack.append(_OTHER_WORDS.get(name, name))
        elif (
            (module, name) in _BUILT
            or (module in ("torch", "torch.storage") and name.endswith("Storage"))
            or (module, name) == ("torch.nn.parameter", "Parameter")
            or (module, name) in (("torch", "Tensor"), ("torch._tensor", "Tensor"))
        ):
            self.stack.append(_Name(module, name))
        else:
            raise TorchFileError(_refused(_Name(module, name)))


def _text(x: Any) -> str:
    """A name or a number of a storage: what is nested is not written out."""
    if not isinstance(x, (str, int)):
        raise TorchFileError(f"a name is a {type(x).__name__}")
    return str(x)


def _refused(name: _Name) -> str:
    whole = (
        "a whole object was saved; save its state_dict() instead"
        if not name.module.startswith(("torch", "collections", "numpy"))
        else ""
    )
    return (
        f"it names {name.module}.{name.name}, which is no data and is not run{'; ' + whole if whole else ''}"
    )


def _push(make: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda r: r.stack.append(make(r))


def _remember(form: str) -> Callable[[_Reader], None]:
    def step(r: _Reader) -> None:
        r.memo[r.number(form)] = r.stack[-1]

    return step


def _memoize(r: _Reader) -> None:
    r.memo[len(r.memo)] = r.stack[-1]


def _tuple(count: int) -> Callable[[_Reader], None]:
    def step(r: _Reader) -> None:
        if count > len(r.stack):
            raise TorchFileError("a tuple of more than there is")
        items = r.stack[len(r.stack) - count :]
        del r.stack[len(r.stack) - count :]
        r.stack.append(tuple(items))

    return step


def _long(form: str) -> Callable[[_Reader], Any]:
    return lambda r: int.from_bytes(r.take(r.number(form)), "little", signed=True)


def _set_item(r: _Reader) -> None:
    value, key = r.stack.pop(), r.stack.pop()
    r.put_items([key, value])


def _append(r: _Reader) -> None:
    value = r.stack.pop()
    r.append([value])


def _append_all(r: _Reader) -> None:
    items = r.since_mark()
    r.append(items)


def _set_items(r: _Reader) -> None:
    items = r.since_mark()
    r.put_items(items)


def _new_dict(r: _Reader) -> None:
    items = r.since_mark()
    r.stack.append({})
    r.put_items(items)


def _named_on_stack(r: _Reader) -> None:
    name, module = _text(r.stack.pop()), _text(r.stack.pop())
    r.name(module, name)


_STEPS: dict[bytes, Callable[[_Reader], None]] = {
    b"\x80": lambda r: r.skip(1),  # protocol
    b"\x95": lambda r: r.skip(8),  # frame
    b"(": _push(lambda r: _MARK),
    b"0": lambda r: r.drop(),
    b"N": _push(lambda r: None),
    b"\x88": _push(lambda r: True),
    b"\x89": _push(lambda r: False),
    b"I": _push(lambda r: _whole(r.line())),
    b"J": _push(lambda r: r.number("i")),
    b"K": _push(lambda r: r.number("B")),
    b"M": _push(lambda r: r.number("H")),
    b"\x8a": _push(_long("B")),
    b"\x8b": _push(_long("i")),
    b"G": _push(lambda r: struct.unpack(">d", r.take(8))[0]),
    b"X": _push(lambda r: r.text("I")),
    b"\x8c": _push(lambda r: r.text("B")),
    b"\x8d": _push(lambda r: r.text("Q")),
    b"U": _push(lambda r: r.take(r.number("B")).decode("latin-1")),
    b"T": _push(lambda r: r.take(r.number("i")).decode("latin-1")),
    b"B": _push(lambda r: r.take(r.number("I"))),
    b"C": _push(lambda r: r.take(r.number("B"))),
    b"]": _push(lambda r: []),
    b"}": _push(lambda r: {}),
    b")": _push(lambda r: ()),
    b"l": lambda r: r.stack.append(r.since_mark()),
    b"t": lambda r: r.stack.append(tuple(r.since_mark())),
    b"d": _new_dict,
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": _append,
    b"e": _append_all,
    b"s": _set_item,
    b"u": _set_items,
    b"q": _remember("B"),
    b"r": _remember("I"),
    b"\x94": _memoize,
    b"h": _push(lambda r: r.memo[r.number("B")]),
    b"j": _push(lambda r: r.memo[r.number("I")]),
    b"c": lambda r: r.name(r.line(), r.line()),
    b"\x93": _named_on_stack,
    b"Q": _Reader.persistent,
    b"R": _Reader.call,
    b"b": _Reader.build,
}


def _whole(text: str) -> Any:
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


# ----- what may be built -----


def _tensor(
    r: _Reader,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    *rest: Any,
) -> Any:
    kind, held = storage
    if (
        rest and isinstance(rest[0], str) and kind == "untyped"
    ):  # a storage of bytes, whose type the tensor names
        kind = rest[0]
        if kind not in _DTYPES.values():
            raise TorchFileError(f"a tensor of an unknown type, {kind:.40}")
        width = _width(kind)
        if held.array is not None:
            raw = held.array[: held.length // width * width].view("uint16" if kind == "bfloat16" else kind)
            held = _Storage(_native(raw, kind), held.length // width)
        else:
            held = _Storage(None, held.length // width)
    if not all(isinstance(x, (tuple, list)) and len(x) <= 64 for x in (size, stride)):
        raise TorchFileError("a tensor has at most 64 axes")
    shape, steps = tuple(int(n) for n in size), tuple(int(n) for n in stride)
    if len(shape) != len(steps) or min((*shape, *steps, int(offset)), default=0) < 0:
        raise TorchFileError(f"a tensor of shape {shape} has steps {steps}")
    count = math.prod(shape)
    last = int(offset) + sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) if count else 0
    if count > held.length or last >= max(held.length, 1):
        raise TorchFileError(f"a tensor of shape {shape} is larger than its storage of {held.length} numbers")
    if held.array is None:
        return None
    r.room -= count * held.array.itemsize
    if r.room < 0:
        raise TorchFileError(f"its tensors share storages and have more than {_SHARES} times its size")
    flat = held.array[int(offset) :]
    view = (
        np.lib.stride_tricks.as_strided(flat, shape, tuple(s * flat.itemsize for s in steps))
        if count
        else np.empty(shape, flat.dtype)
    )
    return r.make(view, bool(requires_grad))


def _parameter(r: _Reader, data: Any, requires_grad: Any = True, hooks: Any = None, *rest: Any) -> Any:
    return data


def _typed(r: _Reader, function: Any, kind: Any, given: Any, state: Any) -> Any:
    built = _BUILT.get((function.module, function.name)) if isinstance(function, _Name) else None
    if built is None:
        raise TorchFileError("a tensor of an unknown kind")
    return built(r, *given)


def _ordered(r: _Reader, items: Any = ()) -> Any:
    made: OrderedDict[Any, Any] = OrderedDict()
    r.stack.append(made)
    r.spend(4 * len(items))
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in items):
        raise TorchFileError("a dict of what are no pairs")
    r.put_items([x for pair in items for x in pair])
    return r.stack.pop()


_BUILT: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _typed,
    ("collections", "OrderedDict"): _ordered,
    ("torch", "Size"): lambda r, size=(): r.spend(len(size)) or tuple(size),
    ("torch", "device"): lambda r, *parts: ":".join(_text(p) for p in parts[:2]),
}
