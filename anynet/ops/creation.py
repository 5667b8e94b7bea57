"""New arrays. Python floats become float32 (`anynet.dtypes.set_default_float`), and `device=None` is the default device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.ops.data_types import result_type
from anynet.ops.elementwise import where
from anynet.ops.manipulation import broadcast_arrays, expand_dims, permute_dims, reshape, stack, to_device
from anynet.ops.shapes import as_shape
from anynet.tensor import Tensor, is_batched_array, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import TYPES, backend_of, resolve
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.tracer import COMPILING, TracedArray

__all__ = [
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace", "meshgrid",
    "ones", "ones_like", "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip


def asarray(
    obj: Any,
    /,
    *,
    dtype: Any = None,
    device: str | None = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor from a Tensor, an array of any backend, a Python scalar or nested lists.

    An array stays where it is unless `device` says otherwise; lists go to the default device. A Tensor keeps its place
    in the graph, in a list too: that is `stack`, on the device of the first Tensor in it. `requires_grad=True` makes
    the result a variable.

    >>> import anynet as an
    >>> an.asarray([[1, 2], [3, 4]]).dtype
    anynet.int64
    """
    if isinstance(obj, (list, tuple)) and _holds_tensors(obj):
        if copy is False:
            msg = f"asarray: copy must not be False for a {type(obj).__name__}, which is always copied into a new array"
            raise ValueError(msg)
        obj, copy = _stacked(obj, dtype, device), None
    recorded = isinstance(obj, Tensor) and (
        (obj.edge is not None and this_thread.recording) or is_batched_array(obj._data)
    )
    if recorded and not requires_grad:  # or batched by vmap
        out = obj if device is None else to_device(obj, device)
        if dtype is not None and dtypes.of(dtype) is not out.dtype:
            if copy is False:
                msg = f"asarray: copy must not be False where {out.dtype} is converted to {dtypes.of(dtype)}, which copies"
                raise ValueError(msg)
            return cast_to(out, dtype=dtypes.of(dtype))
        if copy:
            new = reshape(out, out.shape)
            new._data = to_plain(out._data, copy=True)
            return new
        return out
    data = to_plain(obj, dtype=dtype, device=device, copy=copy)
    if isinstance(obj, Tensor) and data is obj._data and not requires_grad:
        return obj
    out = wrap(data)
    return out.requires_grad_() if requires_grad else out


_NUMBERS: Final = frozenset((bool, int, float, complex))


def _holds_tensors(obj: Any) -> bool:
    """Whether nested lists hold Tensors."""
    if _NUMBERS.issuperset(map(type, obj)):  # before each number is looked at
        return False
    return any(isinstance(leaf, Tensor) for leaf in _leaves(obj))


def _leaves(obj: Any) -> Iterator[Any]:
    """What nested lists hold."""
    for item in obj:
        if isinstance(item, (list, tuple)):
            yield from _leaves(item)
        else:
            yield item


def _stacked(obj: Any, dtype: Any, device: str | None) -> Tensor:
    """Nested lists with Tensors in them as one Tensor, recorded."""
    leaves = list(_leaves(obj))
    first = leaves[0]
    if dtype is None and device is None and len(leaves) == len(obj) and isinstance(first, Tensor):
        kind, where = first.dtype, first.device
        if all(isinstance(leaf, Tensor) and leaf.dtype is kind and leaf.device == where for leaf in leaves):
            return stack(leaves)
    if dtype is None:
        dtype = result_type(
            *(leaf if isinstance(leaf, (bool, int, float, complex)) else asarray(leaf) for leaf in leaves)
        )
    if device is None:
        device = next(leaf.device for leaf in leaves if isinstance(leaf, Tensor))

    def build(item: Any) -> Tensor:
        if not isinstance(item, (list, tuple)):
            return asarray(item, dtype=dtype, device=device)
        return stack([build(i) for i in item]) if item else zeros(0, dtype=dtype, device=device)

    return build(obj)


def _place(device: str | None) -> tuple[Any, Any]:
    xp, name = resolve(device)
    if COMPILING and COMPILING.own and xp.compiles:  # new at each replay
        xp = TYPES[TracedArray]
    return xp, xp.native_device(name)


def _float(dtype: Any) -> Any:
    return dtypes.default_float() if dtype is None else dtype


def zeros(shape: int | Sequence[int], *, dtype: Any = None, device: str | None = None) -> Tensor:
    """An array of zeros."""
    xp, where = _place(device)
    return wrap(xp.zeros(as_shape(shape), dtype=dtypes.native(xp, _float(dtype)), device=where))


def ones(shape: int | Sequence[int], *, dtype: Any = None, device: str | None = None) -> Tensor:
    """An array of ones."""
    xp, where = _place(device)
    return wrap(xp.ones(as_shape(shape), dtype=dtypes.native(xp, _float(dtype)), device=where))


def empty(shape: int | Sequence[int], *, dtype: Any = None, device: str | None = None) -> Tensor:
    """An array whose elements are not set."""
    xp, where = _place(device)
    return wrap(xp.empty(as_shape(shape), dtype=dtypes.native(xp, _float(dtype)), device=where))


def full(
    shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: str | None = None
) -> Tensor:
    """An array filled with one value, whose type gives the dtype."""
    xp, where = _place(device)
    dtype = type(fill_value) if dtype is None else dtype
    return wrap(xp.full(as_shape(shape), fill_value, dtype=dtypes.native(xp, dtype), device=where))


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: str | None = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    xp, where = _place(device)
    return wrap(xp.eye(n_rows, n_cols, k=k, dtype=dtypes.native(xp, _float(dtype)), device=where))


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """Numbers from start (included) to stop (excluded) by step; ints give int64."""
    xp, where = _place(device)
    if dtype is None:
        dtype = int if all(v is None or isinstance(v, int) for v in (start, stop, step)) else float
    return wrap(xp.arange(start, stop, step, dtype=dtypes.native(xp, dtype), device=where))


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: str | None = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` evenly spaced numbers from start to stop, which is included with `endpoint`."""
    xp, where = _place(device)
    if dtype is None:
        dtype = complex if isinstance(start, complex) or isinstance(stop, complex) else float
    return wrap(
        xp.linspace(start, stop, num, dtype=dtypes.native(xp, dtype), device=where, endpoint=endpoint)
    )


def _like(name: str, x: Any, dtype: Any, device: str | None, *args: Any) -> Tensor:
    data = unwrap(x)
    xp = backend_of(data)
    if device is None:
        where = xp.native_device(xp.device_of(data))
    else:
        other, where = _place(device)
        if other is not xp:
            like = {"zeros_like": zeros, "ones_like": ones, "empty_like": empty, "full_like": full}[name]
            kind = dtypes.of(data.dtype) if dtype is None else dtype
            return like(tuple(data.shape), *args, dtype=kind, device=device)  # type: ignore[operator, no-any-return]
    native = data.dtype if dtype is None else dtypes.native(xp, dtype)
    if is_batched_array(data):
        data = xp.empty(data.shape, dtype=native, device=where)
    return wrap(getattr(xp, name)(data, *args, dtype=native, device=where))


def zeros_like(x: ArrayLike, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """Zeros with the shape, dtype and device of x."""
    return _like("zeros_like", x, dtype, device)


def ones_like(x: ArrayLike, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """Ones with the shape, dtype and device of x."""
    return _like("ones_like", x, dtype, device)


def empty_like(x: ArrayLike, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """An array with the shape, dtype and device of x whose elements are not set."""
    return _like("empty_like", x, dtype, device)


def full_like(x: ArrayLike, /, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """One value with the shape, dtype and device of x."""
    return _like("full_like", x, dtype, device, fill_value)


def constant_like(x: ArrayLike, shape: Sequence[int], value: complex) -> Any:
    """One value in any shape, of the dtype and on the device of x; a plain array where x is one.

    For a gradient or a part of a result that does not depend on x: x · 0 would be NaN where x is not finite.
    """
    plain = unwrap(x)
    made = full(shape, value, dtype=dtypes.of(plain.dtype), device=backend_of(plain).device_of(plain))
    return made if isinstance(x, Tensor) else made._data


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """The data of any object that speaks DLPack, shared where possible: a CPU array becomes one of the CPU backend.

    A Tensor keeps its place in the graph.
    """
    if isinstance(x, Tensor):
        return asarray(x, device=device, copy=copy)
    kind = int(x.__dlpack_device__()[0])
    xp, _ = resolve("cuda" if kind == 2 else None)
    if kind == 1 and xp is not resolve("cpu")[0]:
        try:
            return asarray(wrap(xp.from_dlpack(x)), device=device, copy=copy)
        except (TypeError, ValueError, RuntimeError, BufferError):
            xp, _ = resolve("cpu")
    return asarray(wrap(xp.from_dlpack(x)), device=device, copy=copy)


def meshgrid(*arrays: ArrayLike, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinate arrays from 1-d arrays; 'xy' swaps the first two axes, 'ij' keeps the order of the arguments."""
    if indexing not in ("xy", "ij"):
        msg = f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}"
        raise ValueError(msg)
    n = len(arrays)
    if any(len(a.shape) > 1 for a in arrays):
        msg = f"meshgrid: arrays must be 1-d, got shapes {', '.join(str(tuple(a.shape)) for a in arrays)}"
        raise ValueError(msg)
    wide = [
        expand_dims(reshape(a, (-1,)), axis=tuple(d for d in range(n) if d != i))
        for i, a in enumerate(arrays)
    ]
    out = broadcast_arrays(*wide)
    if indexing == "xy" and n > 1:
        out = tuple(permute_dims(a, (1, 0, *range(2, n))) for a in out)
    return out


def _triangle(x: Any, k: int, upper: bool) -> Tensor:
    data = unwrap(x)
    xp = backend_of(data)
    if len(data.shape) < 2:
        msg = f"{'triu' if upper else 'tril'}: x must be a matrix or a stack of matrices, got shape {tuple(data.shape)}"
        raise ValueError(msg)
    if not xp.isdtype(data.dtype, ("real floating", "complex floating")):
        out = (xp.triu if upper else xp.tril)(data, k=k)
        return wrap(out) if isinstance(x, Tensor) else out
    rows, cols = data.shape[-2:]
    device = xp.native_device(xp.device_of(data))
    i = xp.reshape(xp.arange(rows, device=device), (rows, 1))
    j = xp.reshape(xp.arange(cols, device=device), (1, cols))
    return where(j - i >= k if upper else j - i <= k, x, 0.0)


def tril(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The lower triangle: elements above the k-th diagonal are set to zero."""
    return _triangle(x, k, upper=False)


def triu(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The upper triangle: elements below the k-th diagonal are set to zero."""
    return _triangle(x, k, upper=True)
