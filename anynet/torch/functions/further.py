"""Names that few scripts use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes
from anynet.nn import functional as F
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import linalg as la
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops import searching as s
from anynet.ops import selection
from anynet.ops.linear import matrix_transpose
from anynet.ops.shapes import broadcast_shapes as _broadcast_shapes
from anynet.torch.functions import indexing, reductions, shapes
from anynet.torch.functions.creation import place
from anynet.torch.promotion import as_float, prepared
from anynet.torch.sizes import Size
from anynet.torch.table import alias, offered, offered_view
from anynet.torch.tensor import Tensor


@offered("torch.positive(x)", "x.positive()")
def positive(input: Any) -> Any:
    return input


@offered("torch.isreal(x)")
def isreal(input: Any) -> Any:
    return (
        e.equal(e.imag(input), 0)
        if input.dtype.kind == "complex"
        else e.equal(input, input) | e.not_equal(input, input)
    )


@offered("torch.logaddexp2(x, y)")
def logaddexp2(input: Any, other: Any) -> Any:
    return e.logaddexp(input * math.log(2.0), other * math.log(2.0)) / math.log(2.0)


@offered("torch.ldexp(x, torch.tensor([2]))", in_place=True)
def ldexp(input: Any, other: Any) -> Any:
    return as_float(input) * e.pow(2.0 + 0.0 * as_float(other), as_float(other))


def _whole(name: str, function: Callable[[int, int], int]) -> None:
    def call(input: Any, other: Any) -> Any:
        a, b = prepared(input, other)
        a, b = m.broadcast_arrays(a, b)
        made = [
            function(int(p), int(q))
            for p, q in zip(m.reshape(a, (-1,)).tolist(), m.reshape(b, (-1,)).tolist(), strict=True)
        ]
        return m.reshape(c.asarray(made, dtype=a.dtype, device=place(a.device)), a.shape)

    offered(f"torch.{name}(i + 4, i + 2)", name=name, in_place=True)(call)


_whole("gcd", math.gcd)
_whole("lcm", math.lcm)


@offered("torch.hardshrink(x)", "x.hardshrink(0.2)")
def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    return F.hardshrink(input, lambd)


@offered("torch.prelu(x, torch.tensor([0.2]))")
def prelu(input: Any, weight: Any) -> Any:
    return F.prelu(input, weight)


@offered("torch.mode(i, 1)")
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    x = m.moveaxis(input, dim, -1)
    same = e.equal(m.expand_dims(x, axis=-1), m.expand_dims(x, axis=-2))
    often = r.sum(m.astype(same, dtypes.int64), axis=-1)
    most = e.equal(often, r.max(often, axis=-1, keepdims=True))
    n = x.shape[-1]
    order = s.argsort(x, axis=-1)
    rank = s.argsort(order, axis=-1)
    first = r.argmin(e.where(most, rank, n), axis=-1, keepdims=True)  # the smallest of the most frequent
    value = indexing.take_along_dim(x, first, -1)
    place_of = (
        n - 1 - r.argmax(m.flip(m.astype(e.equal(x, value), dtypes.int64), axis=-1), axis=-1, keepdims=True)
    )
    parts = [m.moveaxis(v, -1, dim) for v in (value, place_of)]
    return reductions.median_return(*(parts if keepdim else [m.squeeze(v, axis=dim) for v in parts]))


@offered(
    "torch.trapezoid(x)", "torch.trapezoid(x, dx=0.5)", "torch.trapezoid(x, v.sort().values)", method=False
)
def trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Any:
    y = m.moveaxis(as_float(y), dim, -1)
    step = dx if x is None else r.diff(as_float(x), axis=-1)
    return r.sum(0.5 * (y[..., 1:] + y[..., :-1]) * step, axis=-1)


alias("trapz", "trapezoid")


@offered("torch.cov(x)", "torch.cov(x, correction=0)")
def cov(input: Any, *, correction: int = 1) -> Any:
    rows = as_float(m.expand_dims(input, axis=0) if input.ndim < 2 else input)
    centred = rows - r.mean(rows, axis=1, keepdims=True)
    found = centred @ matrix_transpose(centred) / (rows.shape[1] - correction)
    return m.reshape(found, ()) if input.ndim < 2 else found


@offered("torch.corrcoef(x)")
def corrcoef(input: Any) -> Any:
    found = cov(input)
    spread = e.sqrt(la.diagonal(found))
    return found / m.expand_dims(spread, axis=0) / m.expand_dims(spread, axis=1)


@offered("torch.vander(v.detach())", "torch.vander(v.detach(), 3, increasing=True)", method=False)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    n = x.shape[0] if N is None else N
    powers = [e.pow(x, k) for k in (range(n) if increasing else reversed(range(n)))]
    return m.stack(powers, axis=-1)


@offered("torch.combinations(v)", "torch.combinations(v, 3)", method=False)
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    chosen = (itertools.combinations_with_replacement if with_replacement else itertools.combinations)(
        range(input.shape[0]), r
    )
    at = c.asarray(list(chosen), dtype=dtypes.int64)
    return m.reshape(indexing.take(input, m.reshape(at, (-1,))), (-1, r))


def _along(name: str, dim: int) -> None:
    def call(input: Any, indices_or_sections: Any) -> Any:
        return shapes.parts_of(input, indices_or_sections, 0 if name == "hsplit" and input.ndim == 1 else dim)

    offered_view(f"torch.{name}({'b' if dim == 2 else 'x[:2]'}, 2)", name=name)(call)


_along("hsplit", 1)
_along("vsplit", 0)
_along("dsplit", 2)


@offered_view("torch.split_with_sizes(x, [1, 3], 1)")
def split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> Any:
    return shapes._cut(input, dim, shapes._pieces(input.shape[dim], split_sizes))


@offered("torch.adjoint(sq)")
def adjoint(input: Any) -> Any:
    return e.conj(matrix_transpose(input)) if input.dtype.kind == "complex" else matrix_transpose(input)


@offered("torch.diagflat(x)")
def diagflat(input: Any, offset: int = 0) -> Any:
    return selection.diag(m.reshape(input, (-1,)), offset=offset)


@offered("torch.resolve_conj(x)", method=True)
def resolve_conj(input: Any) -> Any:
    return input


@offered("torch.scalar_tensor(3.0)", method=False)
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return c.asarray(float(s), dtype=dtype, device=place(device))


@offered("torch.broadcast_shapes((2, 1), (3,))", method=False)
def broadcast_shapes(*shapes: Any) -> Any:
    return Size(_broadcast_shapes(*shapes))


@offered("torch.is_same_size(x, y)", "torch.is_same_size(x, v)")
def is_same_size(input: Any, other: Any) -> bool:
    return tuple(input.shape) == tuple(other.shape)


@offered("torch.hann_window(5)", "torch.hann_window(4, periodic=False)", method=False)
def hann_window(window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None) -> Any:
    return _window(window_length, periodic, 0.5, dtype, device)


@offered("torch.hamming_window(5)", method=False)
def hamming_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None
) -> Any:
    return _window(window_length, periodic, 0.54, dtype, device)


def _window(n: int, periodic: bool, a: float, dtype: Any, device: Any) -> Any:
    if n < 2:
        return c.ones(n, dtype=dtype, device=place(device))
    at = c.arange(n, dtype=dtypes.default_float() if dtype is None else dtype, device=place(device))
    return a - (1.0 - a) * e.cos(2.0 * math.pi * at / (n if periodic else n - 1))


@offered("x.new(2, 3).shape", function=False)
def new(self: Any, *size: Any) -> Any:
    if len(size) == 1 and isinstance(size[0], (list, tuple)) and not isinstance(size[0], Size):
        return c.asarray(size[0], dtype=self.dtype, device=place(self.device))
    given = tuple(size[0]) if len(size) == 1 and isinstance(size[0], Size) else size or (0,)
    return c.empty(given, dtype=self.dtype, device=place(self.device))


@offered("x.sum_to_size(3, 1)", "x.sum_to_size(4)", function=False)
def sum_to_size(self: Any, *size: Any) -> Any:
    wanted = shapes._lengths(size)
    more = self.ndim - len(wanted)
    axes = (*range(more), *(more + k for k, n in enumerate(wanted) if n == 1 != self.shape[more + k]))
    return m.reshape(r.sum(self, axis=axes), wanted) if axes else self


@offered("torch.qr(x)[1].abs()")
def qr(input: Any, some: bool = True) -> Any:
    return tuple(la.qr(input, mode="reduced" if some else "complete"))


def _post_accumulate(self: Any, hook: Any) -> Any:
    """Refused: gradients are added when the whole backward pass is done."""
    msg = "register_post_accumulate_grad_hook: not offered; register_hook is called with the gradient before it is added"
    raise NotImplementedError(msg)


Tensor.register_post_accumulate_grad_hook = _post_accumulate  # type: ignore[attr-defined]
Tensor.mH = property(lambda self: adjoint(self))  # type: ignore[attr-defined]
Tensor.retains_grad = property(lambda self: not self.is_leaf and self.grad is not None)  # type: ignore[attr-defined]
