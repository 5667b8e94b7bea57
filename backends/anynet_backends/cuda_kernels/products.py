"""Products of matrices by cuBLASLt: no operand is copied that lies by rows or by columns, nothing is allocated but results (and the
workspace of a stream, once), and a product may be captured in a graph.

float32 is computed in full, unless `computing` says otherwise: what the operands have been rounded to is the caller's choice, never the
library's. What cuBLASLt does not take (integers, arrays of several dtypes) or a machine without it, CuPy multiplies.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from anynet_backends.array_api import Array
from anynet_backends.cuda_kernels.cublaslt import COMPUTE, LIBRARY, Operand, Plan, Product
from anynet_backends.cuda_kernels.launch import FLOATS

__all__ = [
    "MOST_PLANS",
    "accumulate",
    "computing",
    "current",
    "format_of",
    "formats",
    "functions",
    "info",
    "product_and_sums",
]

MOST_PLANS: Final = 1024
"""Products whose algorithms are kept, of each device; beyond, the one that was not used for the longest time is forgotten."""
_ALIGNED: Final = 16
"""Bytes from which on it is all the same how an address is aligned, so that a product has few algorithms, whatever memory it is given."""
_LETTERS: Final = frozenset("eEfdFD")
_own = threading.local()


@contextmanager
def computing(kind: str) -> Iterator[None]:
    """Within the block this thread's products of float32 numbers, which the caller has rounded to "tf32" or "bfloat16", may be computed in
    that format, and added up in float32."""
    before, _own.kind = current(), kind if kind in COMPUTE else None
    try:
        yield
    finally:
        _own.kind = before


# ----- how arrays lie -----


class _Way(NamedTuple):
    """How a product of a shape is computed here: by a plan; without one it is 0, or nothing. `copied`: which operands are copied before,
    since they lie neither by rows nor by columns."""

    shape: tuple[int, ...]
    plan: Plan | None = None
    copied: tuple[bool, bool] = (False, False)


def _matrix(
    shape: tuple[int, ...], strides: tuple[int, ...], size: int, lead: tuple[int, ...]
) -> Operand | None:
    """How the matrices of an array lie, and those of a batch of the shape `lead`; None where they would have to be copied."""
    (rows, columns), (down, right) = shape[-2:], (s // size for s in strides[-2:])
    if any(s % size for s in strides):
        return None
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        transposed, ld = False, max(down, columns)
    elif (down == 1 or rows == 1) and (right >= rows or columns == 1):
        transposed, ld = True, max(right, rows)
    else:
        return None
    steps = [s // size for s in strides[:-2]]
    have = [*[1] * (len(lead) - len(steps)), *shape[:-2]]
    steps = [0] * (len(lead) - len(steps)) + steps
    stride, inner = 0, 1  # of the axes that were seen, from the last: where they are as one
    for n, length, step in zip(lead[::-1], have[::-1], steps[::-1], strict=True):
        step = 0 if length == 1 else step
        if n == 1:
            continue
        if inner == 1:
            stride = step
        elif step != stride * inner:
            return None
        inner *= n
    return None if stride < 0 else Operand(transposed, ld, stride)


def _aligned(address: int) -> int:
    address %= _ALIGNED
    return _ALIGNED if address == 0 else address & -address


class _Products:
    """The products on one device."""

    def __init__(self, cupy: Any, device: int) -> None:
        self.cupy, self.device = cupy, device
        self.ways: OrderedDict[Any, _Way | None] = OrderedDict()  # None: not here
        self.workspaces: dict[int, Any] = {}
        # what NVIDIA recommends: 32 MiB from compute capability 9.0 on, 4 MiB before
        self.room = (32 if int(cupy.cuda.Device(device).compute_capability) >= 90 else 4) << 20

    def workspace(self, stream: int) -> int:
        """Memory of a stream, whose products come one after the other."""
        found = self.workspaces.get(stream)
        if found is None:
            # not of a pool that belongs to a graph: other products of the stream use it, too
            found = self.workspaces[stream] = self.cupy.get_default_memory_pool().malloc(self.room)
        return int(found.ptr)

    def __call__(
        self, a: Array, b: Array, beside: str = "", vector: Array | None = None, out: Array | None = None
    ) -> Any:
        """a b, or NotImplemented. `beside` and `vector` as in `Product`; `out`: a matrix by rows, to which the product is added."""
        kind = format_of(a.dtype.char)
        at, bt = a.data.ptr, b.data.ptr
        v = 0 if vector is None else vector.data.ptr
        key = (
            a.dtype.char, a.shape, a.strides, at % _ALIGNED, b.shape, b.strides, bt % _ALIGNED, kind, beside, v % _ALIGNED,
            None if out is None else (out.strides, out.data.ptr % _ALIGNED),
        )  # fmt: skip
        way = self.ways.get(key, _UNKNOWN)
        if way is _UNKNOWN:
            way = self._remember(key, self._way(a, b, kind, beside, v, out))
        elif len(self.ways) > MOST_PLANS // 2:
            with suppress(KeyError):  # another thread may have forgotten it
                self.ways.move_to_end(key)
        if way is None:
            return NotImplemented
        if way.copied != (False, False):
            a, b = [self._copy(x, way) if copied else x for x, copied in zip((a, b), way.copied, strict=True)]
            return self(a, b, beside, vector, out)
        y = self.cupy.empty(way.shape, a.dtype) if out is None else out
        plan = way.plan
        if plan is None:
            if out is None:
                y.fill(0)  # a sum of nothing, or nothing at all
            return y
        stream = self.cupy.cuda.get_current_stream().ptr
        workspace = self.workspace(stream) if plan.workspace else 0
        plan.run(at, bt, y.data.ptr, v, out is not None, workspace, stream)
        return y

    def _copy(self, x: Array, way: _Way) -> Array:
        """By rows; what is so already is repeated for the axes of a batch over which it is broadcast, since a batch has one stride."""
        if x.flags.c_contiguous:
            x = self.cupy.broadcast_to(x, (*way.shape[:-2], *x.shape[-2:]))
        return self.cupy.array(x, order="C")

    def _remember(self, key: Any, way: _Way | None) -> _Way | None:
        self.ways[key] = way
        while len(self.ways) > MOST_PLANS:
            with suppress(KeyError):
                self.ways.popitem(last=False)
        return way

    def _way(
        self, a: Array, b: Array, kind: str | None, beside: str, vector: int, out: Array | None
    ) -> _Way | None:
        lead: tuple[int, ...] = ()
        if a.ndim > 2 or b.ndim > 2:
            lead = tuple(self.cupy.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        if b.shape[-2] != k:
            return None  # an error, which CuPy raises
        size, batch, shape = a.itemsize, math.prod(lead), (*lead, m, n)
        form: Operand | None = Operand(False, max(n, 1), m * n)
        if out is not None:
            form = _matrix(out.shape, out.strides, size, lead) if out.shape == shape else None
        if form is None or form.transposed:
            return None
        if not batch * m * n or not k:
            return None if beside else _Way(shape)
        how_a, how_b = (_matrix(x.shape, x.strides, size, lead) for x in (a, b))
        if how_a is None or how_b is None:
            return _Way(shape, None, (how_a is None, how_b is None))
        one = how_b.stride == 0 and not how_a.transposed and not beside
        if one and (how_a.stride, form.stride) == (m * how_a.ld, m * form.ld):
            m, batch = m * batch, 1  # the same matrix for all of a batch, whose rows are as those of one
        at = (a.data.ptr, b.data.ptr, 0 if out is None else out.data.ptr, vector)
        aligned = _aligned(at[0]), _aligned(at[1]), _aligned(at[2]), _aligned(at[3])
        product = Product(a.dtype.char, m, n, k, batch, how_a, how_b, form, kind, beside, aligned)
        plan = Plan(product, self.device, self.room)
        return _Way(shape, plan) if plan.found else None


_UNKNOWN: Final = _Way(())
_TF32: Final = os.environ.get("CUPY_TF32", "0") not in ("", "0")  # as CuPy itself reads it, once
_on: dict[int, _Products] = {}


def _product(cupy: Any, a: Any, b: Any, beside: str = "", vector: Any = None, out: Any = None) -> Any:
    """`_Products.__call__` on the device of a, which is the current one; NotImplemented for what is not of one floating dtype."""
    kind = cupy.ndarray
    if (
        not isinstance(a, kind)
        or not isinstance(b, kind)
        or a.dtype != b.dtype
        or a.dtype.char not in _LETTERS
    ):
        return NotImplemented
    if a.ndim < 2 or b.ndim < 2 or LIBRARY.functions is None or a.data.device_id != b.data.device_id:
        return NotImplemented
    if vector is not None and (
        vector.dtype != a.dtype or a.dtype.char not in FLOATS or not vector.flags.c_contiguous
    ):
        return NotImplemented
    device = a.data.device_id
    found = _on.get(device)
    if found is None:
        found = _on.setdefault(device, _Products(cupy, device))
    return found(a, b, beside, vector, out)


# ----- what the backend has of them -----


def functions(cupy: Any, matmul: Callable[..., Array]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """`matmul` and `affine` of the backend; `matmul` is CuPy's, for what is not taken here."""

    def product(a: Array, b: Array, /) -> Array:
        if getattr(a, "ndim", 0) == 1 and getattr(b, "ndim", 0) >= 1:
            y = _product(cupy, a[None], b[:, None] if b.ndim == 1 else b)
            y = y if y is NotImplemented else y[..., 0, 0] if b.ndim == 1 else y[..., 0, :]
        elif getattr(b, "ndim", 0) == 1 and getattr(a, "ndim", 0) > 1:
            y = _product(cupy, a, b[:, None])
            y = y if y is NotImplemented else y[..., 0]
        else:
            y = _product(cupy, a, b)
        return matmul(a, b) if y is NotImplemented else y

    def affine(a: Array, b: Array, c: Array, /) -> Array:
        y = _product(cupy, a, b, "bias", c)
        if y is NotImplemented:
            y = product(a, b)
            y += c
        return y

    return product, affine


def product_and_sums(cupy: Any, a: Array, b: Array) -> tuple[Array, Array] | None:
    """As `Backend.product_and_sums`, where one product has both; else None."""
    sums = cupy.empty(a.shape[1:], a.dtype)
    y = _product(cupy, a.T, b, "sums", sums)
    return None if y is NotImplemented else (y, sums)


def formats() -> frozenset[str]:
    """Those of `computing` in which the library computes."""
    return frozenset(COMPUTE if LIBRARY.functions is not None else ())


def current() -> str | None:
    """The format of the block of `computing` that this thread is in."""
    return getattr(_own, "kind", None)


def format_of(letter: str) -> str | None:
    """The shorter format in which this thread's products of a dtype may be computed, None for in full."""
    return (current() or ("tf32" if _TF32 else None)) if letter == "f" else None


def accumulate(cupy: Any, matmul: Callable[..., Array], a: Array, b: Array, out: Array) -> None:
    """out += a b, a matrix or a batch of them by rows; no array is made for the product."""
    if out.dtype != a.dtype or _product(cupy, a, b, out=out) is NotImplemented:
        out += matmul(a, b)


def info() -> dict[str, Any]:
    """What there is to say of the library."""
    if LIBRARY.functions is None:
        return {
            "name": "cuBLAS",
            "cuBLASLt": f"not used, products are CuPy's ({LIBRARY.problem})",
            "tf32": _TF32,
        }
    return {"name": "cuBLASLt", "version": LIBRARY.version(), "tf32": _TF32}
