"""Rows of a table by integer index, and the scatter-add that is its gradient."""

from __future__ import annotations

from typing import Any

from anynet.autograd.primitive import primitive
from anynet.autograd.vmap import each, is_batched
from anynet.ops.indexing import check_index, scatter_rows
from anynet.ops.manipulation import reshape
from anynet.tensor import Leaf, Tensor, no_grad, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of
from anynet_backends.memory.rows import Rows

__all__ = ["embedding"]


@primitive(name="embedding")
def _embedding(
    xp: Backend,
    weight: Array,
    index: Array,
    /,
    *,
    padding: int | None,
    by_frequency: bool,
    sparse: bool = False,
) -> Array:
    if len(index.shape) == 1:
        return xp.take(weight, index, axis=0)
    rows = xp.take(weight, xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(rows, (*index.shape, *weight.shape[1:]))


def _embedding_rule(
    g: Any, weight_shape: tuple[int, ...], index: Any, padding: int | None, by_frequency: bool, sparse: bool
) -> Any:
    index = unwrap(index)
    xp = backend_of(index)
    if len(index.shape) != 1:
        index, g = xp.reshape(index, (-1,)), reshape(g, (-1, *weight_shape[1:]))
    if sparse and not isinstance(g, Tensor):  # a gradient that is differentiated again is an array
        return _rows(xp, g, weight_shape, index, padding)
    if padding is not None:
        g = g * xp.astype(xp.expand_dims(index, axis=1) != padding, unwrap(g).dtype)
    if by_frequency:
        ones = xp.ones((index.shape[0], 1), dtype=unwrap(g).dtype, device=index.device)
        counts = scatter_rows(ones, index=index, shape=(weight_shape[0], 1))
        g = g / xp.take(unwrap(counts), index, axis=0)
    return scatter_rows(g, index=index, shape=weight_shape)


_embedding.vjp(weight=_embedding_rule)
_embedding.blockable = False


def _rows(xp: Backend, g: Array, shape: tuple[int, ...], index: Array, padding: int | None) -> Rows:
    """The gradient as rows, those of `padding` left out; while tracing, where how many there are must not depend on values, they are 0."""
    index = xp.astype(index, xp.int64)
    if padding is not None and not xp.eager:
        g = g * xp.astype(xp.expand_dims(index, axis=1) != padding, g.dtype)
    elif padding is not None:
        kept = index != padding
        index, places = index[kept], xp.nonzero(kept)[0]
        g = xp.take(g, places, axis=0)
    return Rows(xp, index, xp.asarray(g, copy=True), shape, sparse=True)


def _shorten(weight: Any, index: Array, max_norm: float, norm_type: float) -> None:
    """Scale the rows of weight that `index` names and that are longer than max_norm, in place."""
    w = unwrap(weight)
    xp = backend_of(w)
    ones = xp.ones((index.shape[0], 1), dtype=w.dtype, device=w.device)
    used = unwrap(scatter_rows(ones, index=index, shape=(w.shape[0], 1))) > 0
    length = xp.linalg.vector_norm(w, axis=1, keepdims=True, ord=norm_type)
    factor = xp.where(used & (length > max_norm), max_norm / (length + 1e-7), xp.ones_like(length))
    with no_grad():
        weight.assign_(w * factor)


def embedding(
    index: ArrayLike,
    weight: ArrayLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Row weight[index] for each integer: (…) → (…, width). The row `padding_idx` receives no gradient. An index outside of
    0 … rows − 1 is an IndexError (negative ones do not count from the end).

    `max_norm`: first, and in place, each row that is looked up and whose `norm_type`-norm is larger is scaled to that
    norm (by max_norm / (‖row‖ + 1e-7)). `scale_grad_by_freq` divides the gradient of each row by the number of times
    that it occurs in `index`. `sparse`: the gradient of a variable `weight` is `SparseRows`, the rows that were looked up.
    """
    if sparse and scale_grad_by_freq:
        msg = "embedding: scale_grad_by_freq must be False with sparse=True, as in PyTorch; set one of them"
        raise ValueError(msg)
    if is_batched(index):  # inside vmap
        return each(embedding, index, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if len(weight.shape) != 2:
        msg = f"embedding: weight must be (rows, width), got shape {tuple(weight.shape)}"
        raise ValueError(msg)
    plain = to_plain(index, device=None if hasattr(index, "shape") else weight.device)
    index = check_index(plain, weight.shape[0], "embedding", negative=False)
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            msg = f"embedding: padding_idx must be in [{-weight.shape[0]}, {weight.shape[0] - 1}], got {padding_idx}"
            raise IndexError(msg)
        padding_idx %= weight.shape[0]
    if max_norm is not None:
        if not (isinstance(weight, Tensor) and weight.is_leaf):
            got = "a result" if isinstance(weight, Tensor) else type(weight).__name__
            msg = (
                "embedding: with max_norm weight must be a Parameter or another Tensor that is not a result, since its rows are "
                f"scaled in place; got {got}"
            )
            raise TypeError(msg)
        _shorten(weight, reshape(index, (-1,)), max_norm, norm_type)
    if sparse and isinstance(weight, Tensor) and type(weight.edge) is Leaf:
        weight.edge.table = True
    return _embedding(weight, index, padding=padding_idx, by_frequency=scale_grad_by_freq, sparse=sparse)
