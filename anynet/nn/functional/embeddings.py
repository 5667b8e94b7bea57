"""Rows of a table by integer index, in bags too, and one-hot vectors."""

from __future__ import annotations

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to, widened
from anynet.equations import equation
from anynet.ops.elementwise import where as where_
from anynet.ops.embedding import embedding as lookup
from anynet.ops.indexing import take
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import max as max_
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

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
    if num_classes < 1 or (not empty and (int(xp.min(index)) < 0 or int(xp.max(index)) >= num_classes)):
        msg = f"one_hot: each number must be in [0, num_classes − 1], got num_classes={num_classes}"
        raise ValueError(msg)
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
    _check_bags(where, input, mode, per_sample_weights)
    if sparse and mode == "max":
        msg = f"{where}: mode must be 'sum' or 'mean' with sparse=True, as in PyTorch, got 'max'"
        raise ValueError(msg)
    flat = to_plain(input, device=None if hasattr(input, "shape") else weight.device)
    cells = _cells(where, tuple(flat.shape), offsets, include_last_offset)
    count, longest = len(cells), max(map(len, cells), default=0)
    xp = backend_of(flat)
    kind = dtypes.native(xp, dtypes.of(unwrap(weight).dtype))
    padded = [[*row, *[-1] * (longest - len(row))] for row in cells]
    place = xp.reshape(xp.asarray(padded, dtype=xp.int64, device=flat.device), (count, longest))
    there = place >= 0
    place = xp.where(there, place, xp.zeros_like(place))
    flat = xp.reshape(flat, (-1,))
    chosen = xp.reshape(xp.take(flat, xp.reshape(place, (-1,)), axis=0), tuple(place.shape))
    if padding_idx is not None:
        there = xp.logical_and(there, chosen != padding_idx % weight.shape[0])
    rows = lookup(wrap(chosen), weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    mask = xp.expand_dims(there, axis=2)
    if mode == "max" and longest:
        largest = max_(where_(wrap(mask), rows, float("-inf")), axis=1)
        some = xp.any(mask, axis=1)
        return where_(wrap(some), largest, 0.0)
    if per_sample_weights is not None:
        scale = take(reshape(per_sample_weights, (-1,)), wrap(xp.reshape(place, (-1,))), axis=0)
        rows = rows * reshape(scale, (count, longest, 1))
    rows = widened(rows)
    number = xp.astype(mask, unwrap(rows).dtype)
    total = sum(rows * number, axis=1)
    if mode == "mean":
        total = total / xp.clip(xp.sum(number, axis=1), 1.0)
    return total if unwrap(total).dtype == kind else cast_to(total, dtype=dtypes.of(kind))


def _check_bags(where: str, input: ArrayLike, mode: str, per_sample_weights: ArrayLike | None) -> None:
    if mode not in ("sum", "mean", "max"):
        msg = f"{where}: mode must be 'sum', 'mean' or 'max', got {mode!r}"
        raise ValueError(msg)
    if per_sample_weights is None:
        return
    if mode != "sum":
        msg = f"{where}: per_sample_weights need mode 'sum', got {mode!r}"
        raise ValueError(msg)
    if tuple(per_sample_weights.shape) != tuple(input.shape):
        msg = (
            f"{where}: per_sample_weights must have the shape of input, {tuple(input.shape)}, got "
            f"{tuple(per_sample_weights.shape)}"
        )
        raise ValueError(msg)


def _cells(
    where: str, shape: tuple[int, ...], offsets: ArrayLike | None, include_last_offset: bool
) -> list[list[int]]:
    """For each bag the positions of its numbers in the flat input."""
    if len(shape) == 2:
        if offsets is not None:
            msg = f"{where}: offsets need an input of one axis, got shape {shape}; leave them out"
            raise ValueError(msg)
        bags, longest = shape
        return [[*range(i * longest, (i + 1) * longest)] for i in range(bags)]
    if len(shape) != 1 or offsets is None:
        msg = f"{where}: input must be (bags, n), or a vector with offsets, got shape {shape}"
        raise ValueError(msg)
    plain = to_plain(offsets)
    begins = [int(v) for v in backend_of(plain).to_host(plain).tolist()]
    ends = begins[1:] if include_last_offset else [*begins[1:], shape[0]]
    begins = begins[:-1] if include_last_offset else begins
    if (begins and begins[0] != 0) or any(
        not 0 <= a <= b <= shape[0] for a, b in zip(begins, ends, strict=True)
    ):
        msg = f"{where}: offsets must begin with 0 and increase up to {shape[0]}, got {begins[:8]}"
        raise ValueError(msg)
    return [[*range(a, b)] for a, b in zip(begins, ends, strict=True)]
