"""Names that few scripts use."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet import dtypes, special
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
    powers = [e.pow(x, k) for k in (builtins.range(n) if increasing else reversed(builtins.range(n)))]
    return m.stack(powers, axis=-1)


@offered("torch.combinations(v)", "torch.combinations(v, 3)", method=False)
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    chosen = (itertools.combinations_with_replacement if with_replacement else itertools.combinations)(
        builtins.range(input.shape[0]), r
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
    axes = (
        *builtins.range(more),
        *(more + k for k, n in enumerate(wanted) if n == 1 != self.shape[more + k]),
    )
    return m.reshape(r.sum(self, axis=axes), wanted) if axes else self


@offered("torch.qr(x)[1].abs()")
def qr(input: Any, some: bool = True) -> Any:
    return tuple(la.qr(input, mode="reduced" if some else "complete"))


@offered(
    "torch.atleast_3d(torch.tensor(1.0))",
    "torch.atleast_3d(v)",
    "torch.atleast_3d(x)",
    "torch.atleast_3d(b)",
    method=False,
)
def atleast_3d(*tensors: Any) -> Any:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    made = []
    for x in given:
        shape = (1, *x.shape, 1) if x.ndim == 1 else (*x.shape, *(1,) * (3 - x.ndim))
        made.append(x if x.ndim > 2 else m.reshape(x, shape))
    return made[0] if len(tensors) == 1 and given is tensors else tuple(made)


@offered("torch.fill(x, 3)", method=False)
def fill(input: Any, value: Any) -> Any:
    return c.full_like(input, value)


@offered(
    "torch.cumulative_trapezoid(x)",
    "torch.cumulative_trapezoid(x, v.sort().values)",
    "torch.cumulative_trapezoid(x, dx=0.5, dim=0)",
    method=False,
)
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Any:  # fmt: skip
    y = m.moveaxis(as_float(y), dim, -1)
    step = dx if x is None else r.diff(as_float(x), axis=-1)
    return m.moveaxis(r.cumulative_sum(0.5 * (y[..., 1:] + y[..., :-1]) * step, axis=-1), -1, dim)


def _power_of_two(x: Any) -> Any:
    return e.pow(c.full_like(x, 2.0), x)


class frexp_return(NamedTuple):
    """What `frexp` returns: x = mantissa · 2^exponent, the mantissa in [1/2, 1)."""

    mantissa: Any
    exponent: Any


@offered("torch.frexp(x.detach())", "torch.frexp(torch.tensor([0.0, 8.0, -0.3]))")
def frexp(input: Any) -> Any:
    known = e.logical_and(e.isfinite(input), e.not_equal(input, 0))
    size = e.abs(e.where(known, input.detach(), 1.0))
    power = e.floor(e.log2(size)) + 1.0
    part = size * _power_of_two(-power)  # log2 may be off by one in the last place
    power = power + e.where(e.greater_equal(part, 1.0), 1.0, 0.0) - e.where(e.less(part, 0.5), 1.0, 0.0)
    power = e.where(known, power, 0.0)
    return frexp_return(input * _power_of_two(-power), m.astype(power, dtypes.int32))


@offered("torch.mvlgamma(pos + 3, 3)", "torch.mvlgamma(pos + 3, 1)", in_place=True)
def mvlgamma(input: Any, p: int) -> Any:
    return special.multigammaln(as_float(input), p)


@offered("torch.polygamma(1, pos)", "torch.polygamma(2, pos)", method=False)
def polygamma(n: int, input: Any) -> Any:
    return special.polygamma(n, as_float(input))


def _polygamma(self: Any, n: int) -> Any:
    return polygamma(n, self)


for _name, _of in {"igamma": special.gammainc, "igammac": special.gammaincc}.items():
    offered(f"torch.{_name}(pos.detach(), pos.detach() + 0.5)", name=_name, in_place=True)(
        (lambda function: lambda input, other: function(as_float(input), as_float(other)))(_of)
    )


@offered(
    "torch.nanmedian(special)",
    "torch.nanmedian(torch.stack([special, special.flip(0)]), 1)",
    "x.nanmedian(0, keepdim=True)",
)
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        kept = e.logical_not(e.isnan(input))
        flat = m.reshape(input, (-1,))[m.reshape(kept, (-1,))]
        return reductions.median(flat) if flat.shape[0] else input.sum() * math.nan
    x = m.moveaxis(input, dim, -1)
    order = s.argsort(
        e.where(e.isnan(x), math.inf, x), axis=-1
    )  # those that are no numbers behind all that are
    rank = s.argsort(order, axis=-1)
    count = r.sum(m.astype(e.logical_not(e.isnan(x)), dtypes.int64), axis=-1, keepdims=True)
    middle = e.maximum((count - 1) // 2, 0)
    at = r.argmax(m.astype(e.equal(rank, middle), dtypes.int64), axis=-1, keepdims=True)
    parts = [m.moveaxis(v, -1, dim) for v in (indexing.take_along_dim(x, at, -1), at)]
    return reductions.median_return(*(parts if keepdim else [m.squeeze(v, axis=dim) for v in parts]))


@offered(
    "torch.put(x, torch.tensor([1, 5]), torch.tensor([7., 8.]))",
    "x.put(i[:1, :2], torch.tensor([[1., 2.]]), accumulate=True)",
    in_place=True,
)
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:  # fmt: skip
    flat, at, new = (m.reshape(v, (-1,)) for v in (input, index, source))
    made = indexing.index_add(flat, 0, at, new) if accumulate else indexing.index_copy(flat, 0, at, new)
    return m.reshape(made, input.shape)


@offered("torch.range(0, 4)", "torch.range(1, 2, 0.5)", method=False)
def range(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    start, end = (0, start) if end is None else (start, end)
    count = math.floor((end - start) / step) + 1
    y = start + step * c.arange(
        count, dtype=dtypes.default_float() if dtype is None else dtype, device=place(device)
    )
    return y.requires_grad_() if requires_grad else y


@offered("torch.unravel_index(torch.tensor([0, 5, 11]), (3, 4))", method=False)
def unravel_index(indices: Any, shape: Any) -> Any:
    found, rest = [], indices
    for n in reversed((shape,) if isinstance(shape, int) else tuple(shape)):
        found.append(rest % n)
        rest = rest // n
    return tuple(reversed(found))


class histogram_return(NamedTuple):
    """What `histogram` returns."""

    hist: Any
    bin_edges: Any


@offered(
    "torch.histogram(x.detach(), 4)",
    "torch.histogram(x.detach(), 3, range=(-1., 1.), density=True)",
    "torch.histogram(x.detach(), torch.tensor([-1., 0., 0.5, 2.]), weight=pos.detach())",
)
def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False) -> Any:  # fmt: skip
    x = m.reshape(input, (-1,))
    found, (edges,) = _histogram(
        [x], [bins], [range], None if weight is None else m.reshape(weight, (-1,)), density
    )
    return histogram_return(found, edges)


class histogramdd_return(NamedTuple):
    """What `histogramdd` returns."""

    hist: Any
    bin_edges: Any


@offered(
    "torch.histogramdd(x.detach(), [2, 3, 1, 2])",
    "torch.histogramdd(sq.detach(), 2, range=[-1., 1., -2., 0., 0., 1.], density=True)",
    "torch.histogramdd(sq.detach()[:, :2], (torch.tensor([-1., 0., 2.]), torch.tensor([-3., 3.])), weight=pos.detach()[:, 0])",
    method=False,
)
def histogramdd(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Any:
    if input.ndim < 2:
        msg = f"histogramdd: input must have at least 2 axes, points and their coordinates, got shape {tuple(input.shape)}"
        raise RuntimeError(msg)
    points = m.reshape(input, (-1, input.shape[-1]))
    n = points.shape[1]
    bins = [bins] * n if isinstance(bins, int) else list(bins)
    spans: Any = [None] * n if range is None else list(zip(range[::2], range[1::2], strict=True))
    if len(bins) != n or len(spans) != n:
        msg = f"histogramdd: bins must be one for each of {n} coordinates, range two numbers; got {len(bins)} and {len(range or ())}"
        raise RuntimeError(msg)
    weight = None if weight is None else m.reshape(weight, (-1,))
    return histogramdd_return(
        *_histogram([points[:, k] for k in builtins.range(n)], bins, spans, weight, density)
    )


def _histogram(
    columns: Any, bins: Any, spans: Any, weight: Any, density: bool
) -> tuple[Any, tuple[Any, ...]]:
    """How many points, or what weight of them, each bin has, and the edges along each coordinate; the last bin has both its edges."""
    at: Any = 0
    inside: Any = True
    volume: Any = None
    edges: list[Any] = []
    for x, b, span in zip(columns, bins, spans, strict=True):
        if isinstance(b, int):
            low, high = (
                (float(r.min(x)), float(r.max(x))) if span is None else (float(span[0]), float(span[1]))
            )
            low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
            b = c.linspace(low, high, b + 1, dtype=x.dtype, device=place(x.device))  # noqa: PLW2901 - edges from here on
        edges.append(b)
        count = b.shape[0] - 1
        here = e.where(e.equal(x, b[-1]), count - 1, s.searchsorted(b, x, side="right") - 1)
        inside = e.logical_and(e.greater_equal(here, 0), e.less(here, count)) & inside
        at = at * count + here
        volume = r.diff(b) if volume is None else m.reshape(m.reshape(volume, (-1, 1)) * r.diff(b), (-1,))
    x = columns[0]
    counts = [b.shape[0] - 1 for b in edges]
    found = indexing.index_add(
        c.zeros(math.prod(counts), dtype=x.dtype, device=place(x.device)), 0, e.where(inside, at, 0),
        e.where(inside, c.ones_like(x) if weight is None else weight, 0.0),
    )  # fmt: skip
    found = m.reshape(found, counts)
    return found / r.sum(found) / m.reshape(volume, counts) if density else found, tuple(edges)


@offered("torch.select_scatter(x, v, 0, 1)", "x.select_scatter(y[:, 0], 1, -1)")
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    return _with(input, src, lambda z: z.select(dim, index))


@offered("torch.slice_scatter(x, y[:, :2], 1, 1, 3)", "x.slice_scatter(y[:2], start=1)")
def slice_scatter(
    input: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    key = (*[slice(None)] * (dim % input.ndim), slice(start, end, step))
    return _with(input, src, lambda z: z[key])


@offered("torch.diagonal_scatter(sq, v[:3])", "sq.diagonal_scatter(v[:2], 1)")
def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return _with(input, src, lambda z: z.diagonal(offset, dim1, dim2))


def _with(input: Any, src: Any, part: Callable[[Any], Any]) -> Any:
    """A copy of a tensor, another in the place of a part."""
    y = input.clone()
    part(y).copy_(src)
    return y


@offered(
    "torch.gradient(x)",
    "torch.gradient(x, spacing=2.0, dim=1)",
    "torch.gradient(v, spacing=(v.detach().sort()[0],))",
    method=False,
)
def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> Any:
    if edge_order != 1:
        msg = f"gradient: edge_order must be 1, got {edge_order}"
        raise NotImplementedError(msg)
    axes = (
        tuple(builtins.range(input.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    )
    steps = [spacing] * len(axes) if not isinstance(spacing, (list, tuple)) else list(spacing)
    return tuple(_slope(input, axis, step) for axis, step in zip(axes, steps, strict=True))


def _slope(input: Any, axis: int, step: Any) -> Any:
    x = m.moveaxis(as_float(input), axis, -1)
    gaps = (
        r.diff(step)
        if isinstance(step, Tensor) and step.ndim
        else step * c.ones(x.shape[-1] - 1, dtype=x.dtype, device=place(x.device))
    )
    d = r.diff(x, axis=-1) / gaps
    left, right = gaps[:-1], gaps[1:]
    inner = (right * d[..., :-1] + left * d[..., 1:]) / (left + right)
    return m.moveaxis(m.concat((d[..., :1], inner, d[..., -1:]), axis=-1), -1, axis)


def _no(self: Any) -> bool:
    """Never, here."""
    return False


for _name in ("is_conj", "is_neg", "is_inference", "is_distributed"):
    setattr(Tensor, _name, _no)
Tensor.polygamma = _polygamma  # type: ignore[attr-defined]
Tensor.swapdims_ = Tensor.swapaxes_  # type: ignore[attr-defined]
Tensor.is_sparse_csr = Tensor.is_nested = Tensor.is_xpu = Tensor.is_mkldnn = False  # type: ignore[attr-defined]


def _post_accumulate(self: Any, hook: Any) -> Any:
    """Refused: gradients are added when the whole backward pass is done."""
    msg = "register_post_accumulate_grad_hook: not offered; register_hook is called with the gradient before it is added"
    raise NotImplementedError(msg)


Tensor.register_post_accumulate_grad_hook = _post_accumulate  # type: ignore[attr-defined]
Tensor.mH = property(lambda self: adjoint(self))  # type: ignore[attr-defined]
Tensor.retains_grad = property(lambda self: not self.is_leaf and self.grad is not None)  # type: ignore[attr-defined]
