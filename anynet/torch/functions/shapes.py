"""Shapes and order: views of a tensor, which write through, and what is made of several tensors."""

from __future__ import annotations

import builtins
import itertools
import math
from typing import Any

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import indexing as ix
from anynet.ops import linalg, selection
from anynet.ops import manipulation as m
from anynet.ops.shapes import axes_of
from anynet.ops.slicing import basic_getitem
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import to_plain, wrap
from anynet.torch.memory import behind, dense, memory_of, settle, shows, variable_below, viewable
from anynet.torch.promotion import cast, result_type
from anynet.torch.table import alias, offered, offered_view
from anynet.torch.tensor import Tensor, adopt


def _lengths(given: tuple[Any, ...]) -> tuple[int, ...]:
    """Lengths of axes that come one by one or as a sequence."""
    if _INTS.issuperset(map(type, given)):
        return given
    if len(given) == 1 and not hasattr(given[0], "__index__"):
        given = tuple(given[0])
    return tuple([int(n) for n in given])


_INTS = frozenset((int,))


def _back(x: Any, new: Any, *_: Any, **__: Any) -> Any:
    """A view of all elements in the same order: what it becomes in the shape of x."""
    return m.reshape(new, x.shape)


@offered_view("x.view(4, 3)", "x.view(-1)", "x.view((2, -1))", "x.view(2, 2, 3)", function=False, put=_back)
def view(self: Any, *shape: Any, dtype: Any = None) -> Any:
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], dtypes.DType)):
        msg = "view: the bytes of a tensor cannot be seen as another dtype; x.to(dtype) converts"
        raise NotImplementedError(msg)
    return m.reshape(self, _lengths(shape))


@offered_view(
    "torch.reshape(x, (4, 3))",
    "x.reshape(-1)",
    "x.reshape(2, -1)",
    "x.t().reshape(12)",
    put=_back,
    fits=viewable,
)
def reshape(input: Any, *shape: Any, **named: Any) -> Any:
    return m.reshape(input, _lengths(shape or (named["shape"],)))


@offered_view("x.view_as(y.view(4, 3))", function=False, put=_back)
def view_as(self: Any, other: Any) -> Any:
    return m.reshape(self, other.shape)


@offered_view("x.reshape_as(y.view(4, 3))", function=False, put=_back, fits=viewable)
def reshape_as(self: Any, other: Any) -> Any:
    return m.reshape(self, other.shape)


@offered_view(
    "torch.flatten(b)",
    "b.flatten(1)",
    "b.flatten(0, 1)",
    "torch.tensor(1.0).flatten()",
    put=_back,
    fits=viewable,
)
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    shape = tuple(input.shape) or (1,)
    first, last = start_dim % len(shape), end_dim % len(shape)
    if first > last:
        msg = "flatten() has invalid args: start_dim cannot come after end_dim"
        raise RuntimeError(msg)
    return m.reshape(input, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


@offered_view("torch.ravel(b)", "b.ravel()", put=_back, fits=viewable)
def ravel(input: Any) -> Any:
    return m.reshape(input, (-1,))


@offered_view("torch.unflatten(x, 1, (2, 2))", "x.unflatten(-1, (-1, 2))", put=_back)
def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    dim %= input.ndim
    return m.reshape(input, (*input.shape[:dim], *_fill(sizes, input.shape[dim]), *input.shape[dim + 1 :]))


def _fill(sizes: Any, whole: int) -> tuple[int, ...]:
    known = math.prod(n for n in sizes if n != -1)
    return tuple(whole // builtins.max(known, 1) if n == -1 else n for n in sizes)


@offered_view(
    "torch.squeeze(x.view(1, 3, 4))",
    "x.view(1, 3, 4).squeeze(0)",
    "x.squeeze(0)",
    "x.view(1, 12, 1).squeeze((0, 2))",
    put=_back,
)
def squeeze(input: Any, dim: Any = None) -> Any:
    shape = input._data.shape
    if dim is None:
        return m.reshape(input, tuple([n for n in shape if n != 1]))
    dims = axes_of(dim if isinstance(dim, int) else tuple(dim), builtins.max(len(shape), 1))
    return m.reshape(input, tuple([n for i, n in enumerate(shape) if n != 1 or i not in dims]))


@offered_view("torch.unsqueeze(x, 0)", "x.unsqueeze(-1)", "x.unsqueeze(1)", put=_back)
def unsqueeze(input: Any, dim: int) -> Any:
    return m.expand_dims(input, axis=dim)


def _permuted_back(x: Any, new: Any, *dims: Any, **named: Any) -> Any:
    order = [d % x.ndim for d in _lengths(dims or (named["dims"],))]
    return m.permute_dims(new, tuple(order.index(i) for i in builtins.range(x.ndim)))


@offered_view(
    "torch.permute(b, (2, 0, 1))",
    "b.permute(2, 0, 1)",
    "b.permute((0, 2, 1))",
    "b.permute(0, -1, 1)",
    put=_permuted_back,
)
def permute(input: Any, *dims: Any, **named: Any) -> Any:
    return m.permute_dims(input, _lengths(dims or (named["dims"],)))


def _swapped(x: Any, a: int, b: int) -> Any:
    order = list(builtins.range(x.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return m.permute_dims(x, tuple(order))


def _swapped_back(x: Any, new: Any, dim0: int, dim1: int) -> Any:
    return _swapped(new, dim0, dim1)


@offered_view("torch.transpose(x, 0, 1)", "b.transpose(1, 2)", "b.transpose(-2, -1)", put=_swapped_back)
def transpose(input: Any, dim0: int, dim1: int) -> Any:
    return _swapped(input, dim0, dim1)


for _name in ("swapaxes", "swapdims"):
    alias(_name, "transpose")


@offered_view("torch.t(x)", "x.t()", "v.t()")
def t(input: Any) -> Any:
    if input.ndim > 2:
        msg = f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D"
        raise RuntimeError(msg)
    return input if input.ndim < 2 else m.permute_dims(input, (1, 0))


@offered_view("torch.movedim(b, 0, 2)", "b.movedim((0, 1), (1, 2))")
def movedim(input: Any, source: Any, destination: Any) -> Any:
    return m.moveaxis(input, source, destination)


alias("moveaxis", "movedim")


def _property(name: str, order: Any) -> None:
    def get(self: Any) -> Any:
        axes = order(self.ndim)
        return shows(adopt(m.permute_dims(self, axes)), self, lambda x: m.permute_dims(x, axes))

    setattr(Tensor, name, property(get))


_property("T", lambda n: tuple(reversed(range(n))))
_property("mT", lambda n: (*range(n - 2), n - 1, n - 2))
_property("H", lambda n: (*range(n - 2), n - 1, n - 2))


@offered_view("x.expand(2, 3, 4)", "v.expand(3, -1)", "x[:, :1].expand(3, 4)", function=False)
def expand(self: Any, *size: Any) -> Any:
    given = _lengths(size)
    more = len(given) - self.ndim
    return m.broadcast_to(self, tuple(self.shape[i - more] if n == -1 else n for i, n in enumerate(given)))


@offered_view("v.expand_as(x)", function=False)
def expand_as(self: Any, other: Any) -> Any:
    return m.broadcast_to(self, other.shape)


@offered_view("torch.broadcast_to(v, (3, 4))")
def broadcast_to(input: Any, size: Any) -> Any:
    return m.broadcast_to(input, tuple(size))


@offered("torch.broadcast_tensors(x, v)", method=False)
def broadcast_tensors(*tensors: Any) -> Any:
    return m.broadcast_arrays(*tensors)


@offered("x.repeat(2, 1)", "x.repeat(2, 1, 2)", "v.repeat(3)", function=False)
def repeat(self: Any, *sizes: Any) -> Any:
    return m.tile(self, _lengths(sizes))


@offered("torch.tile(x, (2,))", "x.tile(2, 1)")
def tile(input: Any, *dims: Any) -> Any:
    return m.tile(input, _lengths(dims))


@offered(
    "torch.repeat_interleave(x, 2)",
    "x.repeat_interleave(2, dim=0)",
    "x.repeat_interleave(torch.tensor([1, 0, 2]), dim=0)",
)
def repeat_interleave(
    input: Any, repeats: Any, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    return ix.repeat(input, repeats, axis=dim)


# ----- parts -----


def _pieces(length: int, sizes: Any) -> list[slice]:
    out, at = [], 0
    for n in sizes:
        out.append(slice(at, at + n))
        at += n
    if at != length:
        msg = f"split: the sizes must sum to the length of the axis, {length}, got {at}"
        raise RuntimeError(msg)
    return out


def _cut(x: Any, dim: int, pieces: list[slice]) -> tuple[Any, ...]:
    before = (slice(None),) * (dim % x.ndim)
    return tuple([basic_getitem(x, key=(*before, piece, ...)) for piece in pieces])


@offered_view("torch.split(x, 2, 1)", "x.split([1, 3], dim=1)", "x.split(2)")
def split(input: Any, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None) -> Any:
    size = split_size if split_size_or_sections is None else split_size_or_sections
    n = input.shape[dim]
    if isinstance(size, int):
        size = [builtins.min(size, n - at) for at in range(0, n, size)] or [0]
    return _cut(input, dim, _pieces(n, size))


@offered_view("torch.chunk(x, 2, 1)", "x.chunk(3, dim=1)", "v.chunk(3)")
def chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    n = input.shape[dim]
    size = builtins.max(-(-n // chunks), 1)
    return _cut(
        input, dim, [slice(at, builtins.min(at + size, n)) for at in range(0, builtins.max(n, 1), size)]
    )


@offered_view("torch.tensor_split(v, 3)", "x.tensor_split((1, 2), dim=1)")
def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> Any:
    return parts_of(input, indices_or_sections, dim)


def parts_of(input: Any, indices_or_sections: Any, dim: int) -> tuple[Any, ...]:
    """Parts of nearly equal length, or between given places."""
    n = input.shape[dim]
    if isinstance(indices_or_sections, int):
        small, more = divmod(n, indices_or_sections)
        marks = [k * small + builtins.min(k, more) for k in range(1, indices_or_sections)]
    else:
        marks = [int(k) for k in indices_or_sections]
    edges = [0, *marks, n]
    return _cut(input, dim, [slice(a, b) for a, b in itertools.pairwise(edges)])


@offered_view("torch.unbind(x)", "x.unbind(1)")
def unbind(input: Any, dim: int = 0) -> Any:
    return m.unstack(input, axis=dim)


@offered_view("torch.narrow(x, 1, 1, 2)", "x.narrow(0, -2, 2)")
def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    whole = input.shape[dim]
    first = int(start) + whole if start < 0 else int(start)
    if not 0 <= first <= first + length <= whole:
        msg = f"narrow: start ({start}) and length ({length}) must lie within the axis, of length {whole}"
        raise RuntimeError(msg)
    return _cut(input, dim, [slice(first, first + length)])[0]


@offered_view("torch.select(x, 1, 2)", "x.select(0, -1)")
def select(input: Any, dim: int, index: int) -> Any:
    return ix.getitem(input, (*(slice(None),) * (dim % input.ndim), int(index), ...))


@offered_view("torch.diagonal(sq)", "b.diagonal(1, 1, 2)")
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return linalg.diagonal(m.moveaxis(input, (dim1, dim2), (-2, -1)), offset=offset)


@offered_view("x.unfold(1, 2, 1)", "b.unfold(2, 3, 2)", function=False)
def unfold(self: Any, dimension: int, size: int, step: int) -> Any:
    return selection.sliding_windows(self, size, axis=dimension, step=step)


# ----- order -----


@offered("torch.flip(x, (0, 1))", "x.flip(1)", "x.flip([0])")
def flip(input: Any, *dims: Any, **named: Any) -> Any:
    return m.flip(input, axis=_lengths(dims or (named["dims"],)))


@offered("torch.fliplr(x)")
def fliplr(input: Any) -> Any:
    return m.flip(input, axis=1)


@offered("torch.flipud(x)")
def flipud(input: Any) -> Any:
    return m.flip(input, axis=0)


@offered("torch.roll(x, 1)", "x.roll(1, 1)", "x.roll((1, 2), (0, 1))", "torch.roll(x, shifts=-1, dims=0)")
def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    return m.roll(input, shifts, axis=None if dims == () else dims)


@offered("torch.rot90(x)", "x.rot90(2, (1, 0))")
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Any:
    a, b = dims
    k %= 4
    if k == 2:
        return m.flip(input, axis=(a, b))
    if k == 0:
        return c.asarray(input, copy=True)
    return _swapped(m.flip(input, axis=b), a, b) if k == 1 else m.flip(_swapped(input, a, b), axis=b)


# ----- joining -----


def _same_type(tensors: Any) -> list[Any]:
    found = list(tensors)
    if found and isinstance(found[0], AnyTensor):
        native = found[0]._data.dtype
        if all([isinstance(x, AnyTensor) and x._data.dtype == native for x in found]):
            return found
    kind = result_type(*found)
    return [cast(x, kind) for x in found]


@offered(
    "torch.cat((x, y))",
    "torch.cat([x, y], 1)",
    "torch.cat([x, i], dim=-1)",
    "torch.cat([torch.tensor([]), v])",
    method=False,
)
def cat(tensors: Any, dim: int = 0) -> Any:
    found = _same_type(tensors)
    kept = [x for x in found if x.shape != (0,)] or found[:1]
    return m.concat(kept, axis=dim)


for _name in ("concat", "concatenate"):
    alias(_name, "cat")


@offered("torch.stack((x, y))", "torch.stack([x, y], dim=1)", "torch.stack([x, y], -1)", method=False)
def stack(tensors: Any, dim: int = 0) -> Any:
    return m.stack(_same_type(tensors), axis=dim)


def _at_least(x: Any, n: int) -> Any:
    return x if x.ndim >= n else m.reshape(x, ((1,) if n == 1 else (1, *x.shape) if x.ndim else (1, 1)))


@offered("torch.hstack((x, y))", "torch.hstack((v, v))", method=False)
def hstack(tensors: Any) -> Any:
    found = [_at_least(x, 1) for x in tensors]
    return cat(found, 0 if found[0].ndim == 1 else 1)


@offered("torch.vstack((x, y))", "torch.vstack((v, v))", method=False)
def vstack(tensors: Any) -> Any:
    return cat([_at_least(x, 2) for x in tensors], 0)


alias("row_stack", "vstack")


@offered("torch.column_stack((v, v))", "torch.column_stack((v, x.t()))", method=False)
def column_stack(tensors: Any) -> Any:
    return cat([m.reshape(x, (-1, 1)) if x.ndim < 2 else x for x in tensors], 1)


@offered("torch.dstack((x, y))", method=False)
def dstack(tensors: Any) -> Any:
    return cat([m.expand_dims(_at_least(x, 2), axis=2) if x.ndim < 3 else x for x in tensors], 2)


@offered("torch.atleast_1d(torch.tensor(1.0))", method=False)
def atleast_1d(*tensors: Any) -> Any:
    out = tuple(_at_least(x, 1) for x in tensors)
    return out[0] if len(out) == 1 else out


@offered("torch.atleast_2d(v)", method=False)
def atleast_2d(*tensors: Any) -> Any:
    out = tuple(_at_least(x, 2) for x in tensors)
    return out[0] if len(out) == 1 else out


@offered("torch.meshgrid(v, v, indexing='ij')", "torch.meshgrid([v, v], indexing='xy')", method=False)
def meshgrid(*tensors: Any, indexing: str = "ij") -> Any:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    return c.meshgrid(*given, indexing=indexing)


@offered("torch.cartesian_prod(v, torch.tensor([1., 2.]))", method=False)
def cartesian_prod(*tensors: Any) -> Any:
    return m.stack([m.reshape(g, (-1,)) for g in c.meshgrid(*tensors, indexing="ij")], axis=-1)


@offered("torch.block_diag(x, sq)", method=False)
def block_diag(*tensors: Any) -> Any:
    found = _same_type(_at_least(x, 2) for x in tensors)
    width = builtins.sum(x.shape[1] for x in found)
    rows, at = [], 0
    for x in found:
        left, right = (
            c.zeros((x.shape[0], n), dtype=x.dtype, device=str(x.device))
            for n in (at, width - at - x.shape[1])
        )
        rows.append(m.concat([left, x, right], axis=1))
        at += x.shape[1]
    return m.concat(rows, axis=0)


# ----- triangles and diagonals -----


@offered(
    "torch.tril(sq)", "x.tril(1)", "torch.tril(torch.ones(3, 3), diagonal=-1)", "torch.tril(i)", in_place=True
)
def tril(input: Any, diagonal: int = 0) -> Any:
    return c.tril(input, k=diagonal)


@offered("torch.triu(sq)", "x.triu(1)", "torch.triu(torch.ones(3, 3), diagonal=1)", in_place=True)
def triu(input: Any, diagonal: int = 0) -> Any:
    return c.triu(input, k=diagonal)


def _triangle(row: int, col: int, offset: int, lower: bool) -> Any:
    places = [
        (a, b) for a in range(row) for b in range(col) if (b - a <= offset if lower else b - a >= offset)
    ]
    return (
        m.reshape(m.permute_dims(c.asarray(places, dtype=dtypes.int64), (1, 0)), (2, -1))
        if places
        else c.zeros((2, 0), dtype=dtypes.int64)
    )


@offered("torch.tril_indices(3, 4)", "torch.tril_indices(3, 3, offset=-1)", method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Any:
    return (
        m.to_device(_triangle(row, col, offset, True), str(device))
        if device is not None
        else _triangle(row, col, offset, True)
    )


@offered("torch.triu_indices(3, 4)", "torch.triu_indices(3, 3, offset=1)", method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Any:
    return (
        m.to_device(_triangle(row, col, offset, False), str(device))
        if device is not None
        else _triangle(row, col, offset, False)
    )


@offered("torch.diag(v)", "sq.diag()", "x.diag(1)")
def diag(input: Any, diagonal: int = 0) -> Any:
    return selection.diag(input, offset=diagonal)


@offered("torch.diag_embed(x)", "x.diag_embed(1)")
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    n = input.shape[-1] + builtins.abs(offset)
    y = linalg.fill_diagonal(input, offset=offset, shape=(*input.shape[:-1], n, n))
    return y if (dim1, dim2) == (-2, -1) else m.moveaxis(y, (-2, -1), (dim1, dim2))


@offered("torch.trace(sq)", "sq.trace()")
def trace(input: Any) -> Any:
    return adopt(linalg.diagonal(input)).sum()


# ----- in place: another shape, the same tensor -----


def _reshaped(name: str) -> None:
    function = getattr(Tensor, name)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (own := memory_of(self)) is not None and own.parent is not None:
            behind(self, lambda old: function(old, *args, **kwargs))
            return self
        y = function(self, *args, **kwargs)
        self._data, edge = y._data, y.edge
        if edge is not self.edge:
            self.edge = edge
        return self

    call.__name__ = call.__qualname__ = f"{name}_"
    call.__doc__ = f"`{name}` in place."
    setattr(Tensor, f"{name}_", call)


for _name in ("squeeze", "unsqueeze", "transpose", "t", "swapaxes"):
    _reshaped(_name)


@offered("x.clone()", "torch.clone(x)")
def clone(input: Any, *, memory_format: Any = None) -> Any:
    if isinstance(input, AnyTensor) and input.edge is not None:
        return m.reshape(input, input.shape, copy=True)
    return c.asarray(input, copy=True)


@offered("x.t().contiguous()", function=False)
def contiguous(self: Any, memory_format: Any = None) -> Any:
    own = memory_of(self)
    if own is None or own.parent is None:
        return self
    y = wrap(self._data, Tensor)
    y.edge = self.edge
    shows(y, self, _itself, lambda _, new: new, fits=dense)
    if variable_below(self):
        settle(y)
        if y._memory.parent is None:
            y._data = to_plain(y._data, copy=True)
    return y


def _itself(x: Any) -> Any:
    return x


@offered("torch.view_as_real(torch.complex(x, y))", method=False, differs="a copy")
def view_as_real(input: Any) -> Any:
    return m.stack([e.real(input), e.imag(input)], axis=-1)


@offered("torch.view_as_complex(torch.stack([x, y], -1))", method=False, differs="a copy")
def view_as_complex(input: Any) -> Any:
    return _complex(input[..., 0], input[..., 1])


@offered("torch.complex(x, y)", method=False)
def complex(real: Any, imag: Any) -> Any:
    return _complex(real, imag)


def _complex(real: Any, imag: Any) -> Any:
    kind = dtypes.complex128 if real.dtype is dtypes.float64 else dtypes.complex64
    return m.astype(real, kind) + 1j * m.astype(imag, kind)


@offered("torch.polar(pos, x)", method=False)
def polar(abs: Any, angle: Any) -> Any:
    return _complex(abs * e.cos(angle), abs * e.sin(angle))
