"""Dropout in its forms, rearranging channels, products of two inputs.

`inplace` is accepted and changes nothing: the input is never overwritten.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from anynet import dtypes, random
from anynet.ops.convolution import spread_option
from anynet.ops.creation import ones_like
from anynet.ops.dropout import dropout as drop
from anynet.ops.elementwise import where as where_
from anynet.ops.embedding import embedding as lookup
from anynet.ops.indexing import scatter_rows, take
from anynet.ops.linalg import vector_norm
from anynet.ops.linear import matmul
from anynet.ops.manipulation import expand_dims, permute_dims, reshape
from anynet.ops.reductions import max as max_
from anynet.ops.reductions import sum
from anynet.ops.resampling import fold, interpolate, unfold
from anynet.ops.softmax import softmax
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "alpha_dropout", "bilinear", "channel_shuffle", "dropout", "dropout1d", "dropout2d", "dropout3d", "embedding",
    "embedding_bag",
    "feature_alpha_dropout", "fold", "gumbel_softmax", "interpolate", "max_unpool1d", "max_unpool2d", "max_unpool3d", "one_hot", "pdist",
    "pixel_shuffle",
    "pixel_unshuffle", "unfold", "upsample",
]  # fmt: skip


def _channels(where: str, x: Any, axes: int) -> tuple[int, ...]:
    """The shape of a mask with one element a channel."""
    ndim = len(x.shape)
    if ndim not in (axes + 1, axes + 2):
        msg = (
            f"{where}: input has {axes + 2} axes (batch, channels, *spatial) or {axes + 1} without the batch, got shape "
            f"{tuple(x.shape)}"
        )
        raise ValueError(msg)
    return (*x.shape[: ndim - axes], *(1,) * axes)


def dropout(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 − p) (Srivastava et al. 2014). `inplace` is
    accepted and changes nothing.

    >>> import anynet as an
    >>> an.nn.functional.dropout(an.ones(4), 0.0)
    Tensor([1., 1., 1., 1.])
    """
    return drop(input, p, training)


def embedding(
    input: ArrayLike,
    weight: ArrayLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Row weight[input] for each integer: see `anynet.ops.embedding.embedding`.

    >>> import anynet as an
    >>> an.nn.functional.embedding(an.asarray([1, 0]), an.asarray([[0.0, 1.0], [2.0, 3.0]])).tolist()
    [[2.0, 3.0], [0.0, 1.0]]
    """
    return lookup(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)


def dropout1d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (n, c, length) or (c, length) (Tompson et al. 2015).

    >>> import anynet as an
    >>> an.nn.functional.dropout1d(an.ones((1, 1, 4)), 1.0).tolist()
    [[[0.0, 0.0, 0.0, 0.0]]]
    """
    return drop(input, p, training, mask_shape=_channels("dropout1d", input, 1))


def dropout2d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (n, c, h, w) or (c, h, w) (Tompson et al. 2015).

    >>> import anynet as an
    >>> an.nn.functional.dropout2d(an.ones((1, 1, 4, 4)), 0.5).shape
    (1, 1, 4, 4)
    """
    return drop(input, p, training, mask_shape=_channels("dropout2d", input, 2))


def dropout3d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (n, c, d, h, w) or (c, d, h, w) (Tompson et al. 2015).

    >>> import anynet as an
    >>> an.nn.functional.dropout3d(an.ones((1, 1, 4, 4, 4)), 0.5).shape
    (1, 1, 4, 4, 4)
    """
    return drop(input, p, training, mask_shape=_channels("dropout3d", input, 3))


_SATURATION = -1.7580993408473766  # −λα of SELU, its value at −∞


def _alpha(x: Any, p: float, training: bool, mask_shape: tuple[int, ...] | None) -> Tensor:
    if not training or p == 0.0:
        return drop(x, p, False)
    if p == 1.0:
        return x * 0.0  # type: ignore[no-any-return]
    keep = drop(ones_like(x.detach() if hasattr(x, "detach") else x), p, True, mask_shape=mask_shape) * (
        1.0 - p
    )
    scale = ((1.0 - p) * (1.0 + p * _SATURATION**2)) ** -0.5
    return (x * keep + (1.0 - keep) * _SATURATION) * scale - scale * _SATURATION * p  # type: ignore[no-any-return]


def alpha_dropout(input: ArrayLike, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout to SELU's value at −∞ in place of 0, then scaled and shifted so that mean and variance stay
    (Klambauer et al. 2017).

    >>> import anynet as an
    >>> an.nn.functional.alpha_dropout(an.ones((2, 3)), 0.5, training=False).shape
    (2, 3)
    """
    return _alpha(input, p, training, None)


def feature_alpha_dropout(
    input: ArrayLike, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels (axis 1).

    >>> import anynet as an
    >>> an.nn.functional.feature_alpha_dropout(an.ones((2, 3, 4)), 0.5, training=True).shape
    (2, 3, 4)
    """
    if len(input.shape) < 2 and training and p:
        msg = (
            f"feature_alpha_dropout: input has the axes (batch, channels, …), got shape {tuple(input.shape)}"
        )
        raise ValueError(msg)
    return _alpha(input, p, training, (*input.shape[:2], *(1,) * (len(input.shape) - 2)))


def pixel_shuffle(input: ArrayLike, upscale_factor: int) -> Tensor:
    """(…, c r², h, w) → (…, c, h r, w r): channels become places (Shi et al. 2016).

    >>> import anynet as an
    >>> an.nn.functional.pixel_shuffle(an.asarray([[[1]], [[2]], [[3]], [[4]]]), 2).tolist()
    [[[1, 2], [3, 4]]]
    """
    r, shape = upscale_factor, tuple(input.shape)
    if len(shape) < 3 or r < 1 or shape[-3] % (r * r):
        msg = f"pixel_shuffle: input (…, channels, h, w) with channels divisible by {r}², got shape {shape}"
        raise ValueError(msg)
    *lead, c, h, w = shape
    n = len(lead)
    x = reshape(input, (*lead, c // (r * r), r, r, h, w))
    x = permute_dims(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(x, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: ArrayLike, downscale_factor: int) -> Tensor:
    """(…, c, h r, w r) → (…, c r², h, w): the inverse of `pixel_shuffle`.

    >>> import anynet as an
    >>> an.nn.functional.pixel_unshuffle(an.asarray([[[1, 2], [3, 4]]]), 2).tolist()
    [[[1]], [[2]], [[3]], [[4]]]
    """
    r, shape = downscale_factor, tuple(input.shape)
    if len(shape) < 3 or r < 1 or shape[-1] % r or shape[-2] % r:
        msg = f"pixel_unshuffle: input (…, channels, h, w) with h and w divisible by {r}, got shape {shape}"
        raise ValueError(msg)
    *lead, c, h, w = shape
    n = len(lead)
    x = reshape(input, (*lead, c, h // r, r, w // r, r))
    x = permute_dims(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(x, (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: ArrayLike, groups: int) -> Tensor:
    """(n, g k, …) → channels in the order 0, k, 2k, …, 1, k+1, …: one of each group in turn (Zhang et al. 2018).

    >>> import anynet as an
    >>> an.nn.functional.channel_shuffle(an.asarray([[[1], [2], [3], [4]]]), 2).tolist()
    [[[1], [3], [2], [4]]]
    """
    shape = tuple(input.shape)
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        msg = f"channel_shuffle: input (batch, channels, …) with channels divisible by {groups}, got shape {shape}"
        raise ValueError(msg)
    x = reshape(input, (shape[0], groups, shape[1] // groups, *shape[2:]))
    return reshape(permute_dims(x, (0, 2, 1, *range(3, len(shape) + 1))), shape)


def bilinear(
    input1: ArrayLike, input2: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> Tensor:
    """y_k = x₁ᵀ A_k x₂ + b_k: x₁ (…, m), x₂ (…, n), A (out, m, n), b (out,) → (…, out).

    >>> import anynet as an
    >>> an.nn.functional.bilinear(an.asarray([[1.0, 2.0]]), an.asarray([[3.0]]), an.ones((1, 2, 1))).tolist()
    [[9.0]]
    """
    out, m, n = weight.shape
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]) or (input1.shape[-1], input2.shape[-1]) != (m, n):
        msg = (
            f"bilinear: inputs of shapes {tuple(input1.shape)} and {tuple(input2.shape)}, expected (…, {m}) and (…, {n}) "
            f"with equal axes before, for a weight of shape {tuple(weight.shape)}"
        )
        raise ValueError(msg)
    lead = tuple(input1.shape[:-1])
    left = matmul(reshape(input1, (-1, m)), reshape(permute_dims(weight, (1, 0, 2)), (m, out * n)))
    y = sum(reshape(left, (-1, out, n)) * expand_dims(reshape(input2, (-1, n)), axis=1), axis=2)
    y = y if bias is None else y + bias
    return reshape(y, (*lead, out))


def upsample(
    input: ArrayLike,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate`, under its older name.

    >>> import anynet as an
    >>> an.nn.functional.upsample(an.asarray([[[1.0, 2.0]]]), scale_factor=2).tolist()
    [[[1.0, 1.0, 2.0, 2.0]]]
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


def one_hot(tensor: ArrayLike, num_classes: int = -1) -> Tensor:
    """Integers (…) → int64 (…, num_classes) with 1 at each number's place; −1 takes the largest number plus one.

    >>> import anynet as an
    >>> an.nn.functional.one_hot(an.asarray([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    index = to_plain(tensor)
    xp = backend_of(index)
    if not xp.isdtype(index.dtype, "integral"):
        msg = f"one_hot: integers, got {index.dtype}"
        raise TypeError(msg)
    empty = 0 in tuple(index.shape)
    if num_classes == -1:
        if empty:
            msg = "one_hot: num_classes cannot be inferred from no numbers"
            raise ValueError(msg)
        num_classes = int(xp.max(index)) + 1
    if num_classes < 1 or (not empty and (int(xp.min(index)) < 0 or int(xp.max(index)) >= num_classes)):
        msg = f"one_hot: numbers lie between 0 and num_classes − 1, num_classes is {num_classes}"
        raise ValueError(msg)
    places = xp.arange(num_classes, dtype=index.dtype, device=index.device)
    return wrap(xp.astype(xp.equal(xp.expand_dims(index, axis=-1), places), xp.int64))


def pdist(input: ArrayLike, p: float = 2.0) -> Tensor:
    """The distances of all pairs of rows i < j of (n, d), as a vector.

    >>> import anynet as an
    >>> an.nn.functional.pdist(an.asarray([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])).tolist()
    [5.0, 4.0, 3.0]
    """
    if len(input.shape) != 2:
        msg = f"pdist: a matrix of rows, got shape {tuple(input.shape)}"
        raise ValueError(msg)
    n = input.shape[0]
    plain = unwrap(input)
    xp = backend_of(plain)
    first, second = (
        xp.asarray(
            [pair[k] for pair in itertools.combinations(range(n), 2)], dtype=xp.int64, device=plain.device
        )
        for k in (0, 1)
    )
    return vector_norm(take(input, first, axis=0) - take(input, second, axis=0), axis=-1, ord=p)


def gumbel_softmax(
    logits: ArrayLike, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A differentiable draw of a category: softmax((x + G) / τ), G of Gumbel's distribution (Jang et al. 2017).

    With `hard` the value is the one-hot vector of the largest, the gradient that of the soft draw. The numbers come from
    the stream of dropout masks: the same on every backend. `eps` is accepted and unused.

    >>> import anynet as an
    >>> float(an.sum(an.nn.functional.gumbel_softmax(an.zeros(3), hard=True)))
    1.0
    """
    if not tau > 0:
        msg = f"gumbel_softmax: tau is positive, got {tau}"
        raise ValueError(msg)
    plain = unwrap(logits)
    xp = backend_of(plain)
    shape = tuple(logits.shape)
    kind = dtypes.wide(xp, plain.dtype)
    unit = random.next_units(xp, math.prod(shape), kind, xp.device_of(plain))
    unit = xp.minimum(unit + 2.0**-25, 1.0 - 2.0**-24)  # not 0, and not rounded to 1
    gumbel = xp.astype(-xp.log(-xp.log(xp.reshape(unit, shape))), plain.dtype, copy=False)
    soft = softmax((logits + wrap(gumbel)) / tau, axis=dim)
    if not hard:
        return soft
    values = unwrap(soft)
    axis = dim % len(shape)
    place = xp.expand_dims(xp.argmax(values, axis=axis), axis=axis)
    numbers = xp.reshape(xp.arange(shape[axis], dtype=place.dtype, device=place.device),
                         tuple(-1 if i == axis else 1 for i in range(len(shape))))  # fmt: skip
    one = wrap(xp.astype(xp.equal(numbers, place), kind))
    return (one - soft.detach()) + soft if isinstance(soft, Tensor) else one


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

    >>> import anynet as an
    >>> an.nn.functional.embedding_bag(an.asarray([0, 1, 1]), an.asarray([[1.0], [3.0]]), an.asarray([0, 2])).tolist()
    [[2.0], [3.0]]
    """
    where = "embedding_bag"
    if mode not in ("sum", "mean", "max"):
        msg = f"{where}: mode is 'sum', 'mean' or 'max', got {mode!r}"
        raise ValueError(msg)
    if per_sample_weights is not None and mode != "sum":
        msg = f"{where}: per_sample_weights are for mode='sum', not for {mode!r}"
        raise ValueError(msg)
    if per_sample_weights is not None and tuple(per_sample_weights.shape) != tuple(input.shape):
        msg = f"{where}: per_sample_weights have shape {tuple(per_sample_weights.shape)}, expected {tuple(input.shape)}"
        raise ValueError(msg)
    flat = to_plain(input, device=None if hasattr(input, "shape") else weight.device)
    xp = backend_of(flat)
    if len(flat.shape) == 2:
        if offsets is not None:
            msg = f"{where}: offsets are for an input of one axis, got shape {tuple(flat.shape)}"
            raise ValueError(msg)
        bags, longest = flat.shape
        cells = [[i * longest + j for j in range(longest)] for i in range(bags)]
    else:
        if len(flat.shape) != 1 or offsets is None:
            msg = f"{where}: input (bags, n), or a vector with offsets, got shape {tuple(flat.shape)}"
            raise ValueError(msg)
        plain = to_plain(offsets)
        begins = [int(v) for v in backend_of(plain).to_host(plain).tolist()]
        ends = begins[1:] if include_last_offset else [*begins[1:], flat.shape[0]]
        begins = begins[:-1] if include_last_offset else begins
        if (begins and begins[0] != 0) or any(
            not 0 <= a <= b <= flat.shape[0] for a, b in zip(begins, ends, strict=True)
        ):
            msg = f"{where}: offsets begin with 0 and increase up to {flat.shape[0]}"
            raise ValueError(msg)
        longest = max((b - a for a, b in zip(begins, ends, strict=True)), default=0)
        cells = [[*range(a, b), *[-1] * (longest - b + a)] for a, b in zip(begins, ends, strict=True)]
    count = len(cells)
    device, kind = flat.device, dtypes.native(xp, dtypes.of(unwrap(weight).dtype))
    place = xp.reshape(xp.asarray(cells, dtype=xp.int64, device=device), (count, longest))
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
    number = xp.astype(mask, kind)
    total = sum(rows * number, axis=1)
    return total / xp.clip(xp.sum(number, axis=1), 1.0) if mode == "mean" else total


def _unpool(
    where: str, axes: int, x: Any, indices: Any, kernel: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    kernel = spread_option(kernel, axes, "kernel_size", where)
    stride = kernel if stride is None else spread_option(stride, axes, "stride", where)
    padding = spread_option(padding, axes, "padding", where, 0)
    if len(x.shape) not in (axes + 1, axes + 2) or tuple(x.shape) != tuple(indices.shape):
        msg = (
            f"{where}: input and indices of shapes {tuple(x.shape)} and {tuple(indices.shape)}, expected two equal ones of "
            f"{axes + 2} axes (batch, channels, *spatial), or {axes + 1} without the batch"
        )
        raise ValueError(msg)
    lead, spatial = tuple(x.shape[:-axes]), tuple(x.shape[-axes:])
    usual = tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(spatial, stride, padding, kernel, strict=True)
    )
    out = usual if output_size is None else tuple(int(n) for n in output_size)[-axes:]
    if any(not u - s < o < u + s for u, s, o in zip(usual, stride, out, strict=True)):
        msg = f"{where}: output_size {out} lies within a stride {stride} of {usual}"
        raise ValueError(msg)
    plain = unwrap(indices)
    xp = backend_of(plain)
    room, groups = math.prod(out), math.prod(lead)
    flat = xp.reshape(plain, (groups, math.prod(spatial)))

    def in_range(found: Any) -> None:
        if bool(backend_of(found).any((found < 0) | (found >= room))):
            msg = f"{where}: indices lie between 0 and {room - 1}, the places of an output of size {out}"
            raise ValueError(msg)

    xp.check(in_range, flat, within=room)
    begin = xp.reshape(xp.arange(groups, dtype=plain.dtype, device=plain.device) * room, (groups, 1))
    index = xp.reshape(flat + begin, (-1,))
    whole = (groups * room, 1)
    y = scatter_rows(reshape(x, (-1, 1)), index=index, shape=whole)
    if any(s < k for s, k in zip(stride, kernel, strict=True)):  # windows overlap: a place may be named again
        ones = xp.ones((index.shape[0], 1), dtype=unwrap(x).dtype, device=plain.device)
        times = xp.clip(unwrap(scatter_rows(ones, index=index, shape=whole)), 1.0)
        more = (
            unwrap(y) - unwrap(y) / times
        )  # written, not added: the gradient is that of each writing, as PyTorch's
        y = y - wrap(more)
    return reshape(y, (*lead, *out))


def max_unpool1d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The maxima of `max_pool1d` back at their places, zeros elsewhere.

    >>> import anynet as an
    >>> an.nn.functional.max_unpool1d(an.asarray([[[5.0, 7.0]]]), an.asarray([[[1, 2]]]), 2).tolist()
    [[[0.0, 5.0, 7.0, 0.0]]]
    """
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The maxima of `max_pool2d` back at their places, zeros elsewhere.

    >>> import anynet as an
    >>> an.nn.functional.max_unpool2d(an.asarray([[[[5.0]]]]), an.asarray([[[[0]]]]), 2).shape
    (1, 1, 2, 2)
    """
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The maxima of `max_pool3d` back at their places, zeros elsewhere.

    >>> import anynet as an
    >>> an.nn.functional.max_unpool3d(an.asarray([[[[[5.0]]]]]), an.asarray([[[[[0]]]]]), 2).shape
    (1, 1, 2, 2, 2)
    """
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
