"""Rows of a table by integer index, in bags too, and one-hot vectors."""

from __future__ import annotations

import itertools
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to, widened
from anynet.equations import equation
from anynet.nn.functional._common import check_values
from anynet.ops.elementwise import where as where_
from anynet.ops.embedding import embedding as lookup
from anynet.ops.indexing import scatter_rows
from anynet.ops.manipulation import expand_dims
from anynet.ops.reductions import max as max_
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, backend_of

__all__ = ["embedding", "embedding_bag", "one_hot"]


@equation(
    "y[..., d] = W[i, d]",
    where="i = input; W[V, D] = weight; π = padding_idx or inf",
    gradient="dW[v: V, d] = sum[...]([i == v and v != π and v != π + V] * dy[..., d])",
)
def embedding(
    input: ArrayLike,
    weight: ArrayLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Row weight[input] for each integer: (…) → (…, width). The row `padding_idx` receives no gradient.

    `max_norm`: first, and in place, each row that is looked up and whose `norm_type`-norm is larger is scaled to that norm.
    `scale_grad_by_freq` divides the gradient of each row by the number of times that it occurs in `input`. With `sparse` the gradient
    of a variable `weight` is `anynet.SparseRows`, the rows that were looked up; where weight is a result, and for gradients that are
    differentiated again, it is an array.

    Errors: IndexError for an index outside of [0, rows − 1] (negative ones do not count from the end), ValueError for a weight
    that is no matrix and for `sparse` with `scale_grad_by_freq`, CompileError for the gradient with `sparse` in a compiled function.

    Equation:
      y[d] = W[i, d]
      (i: input; W: weight (V, D); π: padding_idx or inf)

    >>> import anynet as an
    >>> an.nn.functional.embedding(an.asarray([1, 0]), an.asarray([[0.0, 1.0], [2.0, 3.0]])).tolist()
    [[2.0, 3.0], [0.0, 1.0]]
    """
    return lookup(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)


@equation("K = max(i) + 1 if C == -1 else C", "y[..., c: K] = [i == c]", where="i = tensor; C = num_classes")
def one_hot(tensor: ArrayLike, num_classes: int = -1) -> Tensor:
    """Integers (…) → int64 (…, num_classes) with 1 at each number's place; −1 takes the largest number plus one.

    Equation:
      K = max(i) + 1 if C = −1, else C
      y[c] = [i = c]  for 0 ≤ c < K
      (i: tensor; C: num_classes)

    >>> import anynet as an
    >>> an.nn.functional.one_hot(an.asarray([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    index = to_plain(tensor)
    xp = backend_of(index)
    if not xp.isdtype(index.dtype, "integral"):
        msg = f"one_hot: tensor must hold integers, got {dtypes.of(index.dtype)}"
        raise TypeError(msg)
    empty = 0 in tuple(index.shape)
    if num_classes == -1:
        if empty:
            msg = "one_hot: num_classes must be given for an empty tensor: it cannot be inferred from no numbers"
            raise ValueError(msg)
        num_classes = int(xp.max(index)) + 1

    def in_range(found: Array) -> None:
        here = backend_of(found)
        if num_classes < 1 or (
            not empty and (int(here.min(found)) < 0 or int(here.max(found)) >= num_classes)
        ):
            msg = f"one_hot: each number must be in [0, num_classes − 1], got num_classes={num_classes}"
            raise ValueError(msg)

    if empty or num_classes < 1:
        in_range(index)
    else:
        check_values(in_range, index, within=num_classes)
    places = xp.arange(num_classes, dtype=index.dtype, device=index.device)
    return wrap(xp.astype(xp.equal(xp.expand_dims(index, axis=-1), places), xp.int64))


@equation(
    """
        K = R if r == 2 else O - include_last_offset
        a[n: N] = n // (N // R) if r == 2 else sum[k]([o[k] <= n]) - 1
        m[b: K, n: N] = [a[n] == b and i[n] != π and i[n] != π + V]
        c[b] = sum[n](m[b, n])
        S[b: K, d] = sum[n, m[b, n] > 0](s[n] * W[i[n], d]) / (max(c[b], 1) if mode == "mean" else 1)
        y[b: K, d] = S[b, d] if mode != "max" else max[n, m[b, n] > 0](W[i[n], d]) if c[b] > 0 else 0
    """,
    where="""
        i[N*] = input
        r = input.ndim
        R = input.shape[0]
        o[O] = offsets or 0
        include_last_offset
        W[V, D] = weight
        s[N*] = per_sample_weights or 1
        π = padding_idx or inf
        mode
    """,
)
def embedding_bag(
    input: ArrayLike,
    weight: ArrayLike,
    offsets: ArrayLike | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: ArrayLike | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum ("sum", "mean", "max") of the rows of `weight` that each bag names; 0 of an empty bag.

    input (bags, n), or one vector cut into bags at `offsets` (with `include_last_offset` the last is its length). Numbers
    equal to `padding_idx` count for nothing. `per_sample_weights`, of the shape of input, multiply the rows ("sum" only).

    Equation:
      K = R if r = 2, else O − include_last_offset
      a[n] = ⌊n / ⌊N / R⌋⌋ if r = 2, else Σ_k [oₖ ≤ n] − 1  for 0 ≤ n < N
      m[b, n] = [aₙ = b and iₙ ≠ π and iₙ ≠ π + V]  for 0 ≤ b < K, 0 ≤ n < N
      c[b] = Σ_n m[b, n]
      S[b, d] = Σ_{n, m[b, n] > 0} sₙ W[iₙ, d] / (max(c[b], 1) if mode = "mean", else 1)  for 0 ≤ b < K
      y[b, d] = S[b, d] if mode ≠ "max", max_{n, m[b, n] > 0}(W[iₙ, d]) if c[b] > 0, else 0  for 0 ≤ b < K
      (i: input (N); r: input.ndim; R: input.shape[0]; o: offsets or 0 (O); include_last_offset; W: weight (V, D); s:
      per_sample_weights or 1 (N); π: padding_idx or inf; mode)

    >>> import anynet as an
    >>> an.nn.functional.embedding_bag(an.asarray([0, 1, 1]), an.asarray([[1.0], [3.0]]), an.asarray([0, 2])).tolist()
    [[2.0], [3.0]]
    """
    where = "embedding_bag"
    index = to_plain(input, device=None if hasattr(input, "shape") else weight.device)
    _check_bags(where, tuple(index.shape), offsets, mode, per_sample_weights)
    if sparse and mode == "max":
        msg = f"{where}: mode must be 'sum' or 'mean' with sparse=True, as in PyTorch, got 'max'"
        raise ValueError(msg)
    bags = None if len(index.shape) == 2 else _Bags(where, index, offsets, include_last_offset)
    there = None
    if bags is not None and mode == "max":
        index, there = bags.table(index)
    xp = backend_of(index)
    rows = lookup(wrap(index), weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if padding_idx is not None:
        other = index != padding_idx % weight.shape[0]
        there = other if there is None else there & other
    if mode == "max" and index.shape[1]:
        return _largest(rows, there)
    if per_sample_weights is not None:
        rows = rows * expand_dims(per_sample_weights, axis=-1)
    rows = widened(rows)
    if there is not None:
        there = xp.astype(xp.expand_dims(there, axis=-1), unwrap(rows).dtype)
        rows = rows * there
    add_up = bags.sums if bags is not None and mode != "max" else _row_sums
    total = add_up(rows)
    if mode == "mean":
        ones = xp.ones((*index.shape, 1), dtype=unwrap(rows).dtype, device=index.device)
        total = total / xp.clip(unwrap(add_up(ones if there is None else there)), 1.0)
    kind = dtypes.of(unwrap(weight).dtype)
    return total if dtypes.of(unwrap(total).dtype) == kind else cast_to(total, dtype=kind)


def _row_sums(x: Any) -> Any:
    return sum(x, axis=1)


def _largest(rows: Tensor, there: Array | None) -> Tensor:
    """The largest of the rows of each bag that are there, and 0 where none is."""
    if there is None:
        return max_(rows, axis=1)
    xp = backend_of(there)
    largest = max_(where_(wrap(xp.expand_dims(there, axis=2)), rows, float("-inf")), axis=1)
    return where_(wrap(xp.any(there, axis=1, keepdims=True)), largest, 0.0)


class _Bags:
    """A vector of numbers that offsets cut into bags."""

    def __init__(self, where: str, index: Array, offsets: Any, include_last_offset: bool) -> None:
        n = index.shape[0]
        plain = to_plain(offsets, device=backend_of(index).device_of(index))
        xp = backend_of(plain)

        def check(found: Array) -> None:
            edges = [int(v) for v in backend_of(found).to_host(found).tolist()]
            edges = edges if include_last_offset else [*edges, n]
            pairs = list(itertools.pairwise(edges))
            if edges[:1] != [0] or any(a > b for a, b in pairs) or edges[-1] > n:
                msg = f"{where}: offsets must begin with 0 and increase up to {n}, got {edges[:8]}"
                raise ValueError(msg)

        xp.check(check, plain)
        self.edges = xp.astype(plain, xp.int64)
        if not include_last_offset:
            self.edges = xp.concat([self.edges, xp.full((1,), n, dtype=xp.int64, device=plain.device)])
        self.count, self.rest = self.edges.shape[0] - 1, int(include_last_offset)

    def sums(self, x: Any) -> Any:
        """The sum of the rows of each bag. Those behind the last offset are of one more, which is left out."""
        xp = backend_of(self.edges)
        places = xp.arange(x.shape[0], dtype=xp.int64, device=self.edges.device)
        bag = xp.searchsorted(self.edges, places, side="right") - 1
        total = scatter_rows(x, index=xp.astype(bag, xp.int64), shape=(self.count + self.rest, *x.shape[1:]))
        return total[: self.count, ...] if self.rest else total

    def table(self, index: Array) -> tuple[Array, Array]:
        """The numbers as a matrix with a row for each bag, and whether there is one at each place."""
        xp = backend_of(index)
        lengths = self.edges[1:] - self.edges[:-1]
        longest = int(xp.max(lengths)) if self.count else 0
        along = xp.arange(longest, dtype=xp.int64, device=index.device)
        there = along < xp.expand_dims(lengths, axis=1)
        places = xp.where(there, xp.expand_dims(self.edges[:-1], axis=1) + along, 0)
        return xp.reshape(xp.take(index, xp.reshape(places, (-1,)), axis=0), tuple(places.shape)), there


def _check_bags(
    where: str,
    shape: tuple[int, ...],
    offsets: ArrayLike | None,
    mode: str,
    per_sample_weights: ArrayLike | None,
) -> None:
    if len(shape) == 2 and offsets is not None:
        msg = f"{where}: offsets need an input of one axis, got shape {shape}; leave them out"
        raise ValueError(msg)
    if len(shape) != 2 and (len(shape) != 1 or offsets is None):
        msg = f"{where}: input must be (bags, n), or a vector with offsets, got shape {shape}"
        raise ValueError(msg)
    if mode not in ("sum", "mean", "max"):
        msg = f"{where}: mode must be 'sum', 'mean' or 'max', got {mode!r}"
        raise ValueError(msg)
    if per_sample_weights is None:
        return
    if mode != "sum":
        msg = f"{where}: per_sample_weights need mode 'sum', got {mode!r}"
        raise ValueError(msg)
    if tuple(per_sample_weights.shape) != shape:
        msg = f"{where}: per_sample_weights must have the shape of input, {shape}, got {tuple(per_sample_weights.shape)}"
        raise ValueError(msg)
