"""Losses: how far an output is from its target.

Shapes that would broadcast are refused: the classic bug of (n, 1) against (n,) gives an error, not a wrong number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from anynet import dtypes
from anynet.autograd.fitting import cast_to
from anynet.autograd.primitive import DeviceError
from anynet.autograd.vmap import each, is_batched
from anynet.autograd.whole import whole
from anynet.ops import elementwise as e
from anynet.ops.activations import relu, softplus
from anynet.ops.creation import asarray
from anynet.ops.indexing import take_along_axis
from anynet.ops.linalg import vector_norm
from anynet.ops.linear import linear
from anynet.ops.losses import (
    binary_cross_entropy_,
    cross_entropy_rows,
    huber,
    logit_cross_entropy,
    nll_rows,
    squared_error,
)
from anynet.ops.manipulation import broadcast_to, concat, moveaxis, reshape
from anynet.ops.reductions import any as any_over
from anynet.ops.reductions import mean, sum
from anynet.ops.shapes import broadcast_shapes
from anynet.ops.softmax import log_softmax, logsumexp
from anynet.tensor import Tensor, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "binary_focal_loss", "circle_loss",
    "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "ctc_loss", "dice_loss", "focal_loss",
    "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "linear_cross_entropy",
    "log_cosh_loss", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "nll_loss", "pairwise_distance", "poisson_nll_loss", "smooth_l1_loss",
    "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss", "tversky_loss",
]  # fmt: skip


def _reduce(x: Any, reduction: str) -> Tensor:
    if reduction == "mean":
        return mean(x)
    if reduction == "sum":
        return sum(x)
    if reduction == "none":
        return x  # type: ignore[no-any-return]
    msg = f"reduction is 'mean', 'sum' or 'none', got {reduction!r}"
    raise ValueError(msg)


def _device(x: Any) -> str:
    plain = unwrap(x)
    return backend_of(plain).device_of(plain)


def _readable(x: Any) -> bool:
    """Whether values are there to be looked at: not on a GPU, where that would wait for it, nor inside vmap or while a
    program is recorded."""
    xp = backend_of(x)
    return xp.eager and xp.name != "cupy" and isinstance(x, xp.array_types)


def _check(function: Callable[[Any], None], x: Any, within: int | None = None) -> None:
    """Have a function look at the values of a plain array, which raises where they cannot be right; not inside vmap."""
    xp = backend_of(x)
    if isinstance(x, xp.array_types):
        xp.check(function, x, within=within)


def _target(name: str, input: Any, target: Any) -> Tensor:
    """The target in the dtype of the input, where the shapes are equal."""
    if not hasattr(target, "shape"):
        target = to_plain(target, device=_device(input))
    x, t = unwrap(input), unwrap(target)
    if tuple(x.shape) != tuple(t.shape):
        msg = (
            f"{name}: input has shape {tuple(x.shape)}, target {tuple(t.shape)}; they must be equal, "
            "nothing is broadcast (reshape one of them)"
        )
        raise ValueError(msg)
    kind, want = dtypes.of(t.dtype), dtypes.of(x.dtype)
    if not want.is_floating:
        msg = f"{name}: the input is of a floating-point type, got {want}"
        raise TypeError(msg)
    return target if kind is want or kind.kind == "complex" else cast_to(target, dtype=want)


def _weighed(where: str, losses: Any, weight: Any, reduction: str, over_weights: bool = True) -> Tensor:
    """Σ w l, for "mean" over Σ w, or over the number of elements."""
    if weight is None:
        return _reduce(losses, reduction)
    if tuple(weight.shape) != tuple(losses.shape):
        msg = (
            f"{where}: weight has the shape of the input, got {tuple(weight.shape)} and {tuple(losses.shape)}"
        )
        raise ValueError(msg)
    if reduction == "mean" and over_weights:
        return sum(losses * weight) / sum(weight)
    return _reduce(losses * weight, reduction)


@whole(2)
def mse_loss(
    input: ArrayLike, target: ArrayLike, reduction: str = "mean", weight: ArrayLike | None = None
) -> Tensor:
    """The squared error (x − t)², averaged, with `weight` by its weights. Shapes equal.

    >>> import anynet as an
    >>> an.nn.functional.mse_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, 4.0])).item()
    2.0
    """
    return _weighed("mse_loss", squared_error(input, _target("mse_loss", input, target)), weight, reduction)


@whole(2)
def l1_loss(
    input: ArrayLike, target: ArrayLike, reduction: str = "mean", weight: ArrayLike | None = None
) -> Tensor:
    """The absolute error |x − t|, averaged, with `weight` by its weights. Shapes equal.

    >>> import anynet as an
    >>> an.nn.functional.l1_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]))
    Tensor(1.5)
    """
    return _weighed("l1_loss", e.abs(input - _target("l1_loss", input, target)), weight, reduction)


@whole(2)
def huber_loss(
    input: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: ArrayLike | None = None,
) -> Tensor:
    """½ d² where |d| ≤ δ, else δ (|d| − ½ δ), with d = x − t (Huber 1964), averaged. With `weight` w l is averaged (as in
    PyTorch, over the number of elements, not over Σ w as `mse_loss` does).

    >>> import anynet as an
    >>> an.nn.functional.huber_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]))
    Tensor(1.)
    """
    if not delta > 0:
        msg = f"huber_loss: delta is positive, got {delta}"
        raise ValueError(msg)
    losses = huber(input, _target("huber_loss", input, target), delta=float(delta))
    return _weighed("huber_loss", losses, weight, reduction, over_weights=False)


@whole(2)
def smooth_l1_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½ d²/β where |d| < β, else |d| − ½ β, with d = x − t (Girshick 2015). β = 0 is `l1_loss`.

    >>> import anynet as an
    >>> an.nn.functional.smooth_l1_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]))
    Tensor(1.)
    """
    if not beta >= 0:
        msg = f"smooth_l1_loss: beta is not negative, got {beta}"
        raise ValueError(msg)
    if beta == 0:
        return l1_loss(input, target, reduction)
    losses = huber(input, _target("smooth_l1_loss", input, target), delta=float(beta))
    return _reduce(losses if beta == 1 else losses / float(beta), reduction)


def _rows(x: Any) -> Any:
    """(n, classes, d1, …) → (n · d1 · …, classes); (classes,) → (1, classes)."""
    if len(x.shape) == 1:
        return reshape(x, (1, x.shape[0]))
    return x if len(x.shape) == 2 else reshape(moveaxis(x, 1, -1), (-1, x.shape[1]))


def _class_weight(name: str, weight: Any, input: Any, classes: int) -> Any:
    if weight is None:
        return None
    weight = unwrap(weight)
    if tuple(weight.shape) != (classes,):
        msg = f"{name}: weight has shape {tuple(weight.shape)}, expected ({classes},), one number a class"
        raise ValueError(msg)
    xp = backend_of(weight)
    return xp.astype(weight, dtypes.native(xp, unwrap(input).dtype))


def _indices(
    name: str, target: Any, shape: tuple[int, ...], classes: int, ignore_index: int, device: str
) -> tuple[Any, bool]:
    """Class indices as a flat plain array, checked, with −1 for those to ignore; and whether none is known to be."""
    plain = to_plain(target, device=None if hasattr(target, "shape") else device)
    xp = backend_of(plain)
    if xp.device_of(plain) != device:
        msg = f"{name}: input on {device!r}, target on {xp.device_of(plain)!r}; move one with .to(device)"
        raise DeviceError(msg)
    expected = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    if tuple(plain.shape) != expected:
        msg = f"{name}: input {shape} takes class indices of shape {expected}, got {tuple(plain.shape)}"
        raise ValueError(msg)
    if not xp.isdtype(plain.dtype, "integral"):
        got = dtypes.of(plain.dtype)
        msg = f"{name}: class indices are integers, got {got}; probabilities have the shape of the input, {shape}"
        raise TypeError(msg)
    flat = xp.astype(xp.reshape(plain, (-1,)), xp.int64, copy=False)
    if _readable(flat) and 0 not in flat.shape and not 0 <= ignore_index < classes:
        if int(xp.min(flat)) >= 0 and int(xp.max(flat)) < classes:
            return flat, True

    def in_range(found: Any) -> None:
        here = backend_of(found)
        wrong = here.logical_and(found != ignore_index, here.logical_or(found < 0, found >= classes))
        if bool(here.any(wrong)):
            bad = int(found[here.argmax(here.astype(wrong, here.int64))])
            msg = f"{name}: class index {bad} is out of range for {classes} classes"
            raise IndexError(msg)

    _check(in_range, flat, classes)
    ignored = flat == ignore_index
    return xp.where(ignored, xp.full_like(flat, -1), flat), False


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−Σ_c q_c w_c ln softmax(x)_c.

    input: scores (n, classes), (n, classes, d1, …) or (classes,). target: class indices (n, d1, …), or probabilities
    of the input's shape. `weight` (classes,) weighs the classes; indices equal to `ignore_index` count nothing. With
    `label_smoothing` s, q = (1 − s) q + s / classes (Szegedy et al. 2016). The mean is over the weights of the targets.

    >>> import anynet as an
    >>> an.nn.functional.cross_entropy(an.asarray([[0.0, 0.0]]), an.asarray([1]))
    Tensor(0.6931472)
    """
    if not dtypes.of(input.dtype).is_floating:
        msg = f"cross_entropy: the input must be floating-point scores, got {dtypes.of(input.dtype)}; use anynet.astype(x, anynet.float32)"
        raise TypeError(msg)
    if is_batched(target) and not target.dtype.is_floating:  # inside vmap
        return each(cross_entropy, input, target, weight, ignore_index, reduction, label_smoothing)
    shape = tuple(input.shape)
    if not shape:
        msg = "cross_entropy: input is (classes,), (n, classes) or (n, classes, d1, …), got a scalar"
        raise ValueError(msg)
    if not 0.0 <= label_smoothing <= 1.0:
        msg = f"cross_entropy: label_smoothing is between 0 and 1, got {label_smoothing}"
        raise ValueError(msg)
    classes = shape[1] if len(shape) > 1 else shape[0]
    w = _class_weight("cross_entropy", weight, input, classes)
    rows = _rows(input)
    if not hasattr(target, "shape"):
        target = to_plain(target, device=_device(input))
    kind = dtypes.of(unwrap(target).dtype)
    if tuple(target.shape) == shape and kind.is_floating:
        if ignore_index >= 0:
            msg = (
                f"cross_entropy: ignore_index={ignore_index} is for class indices, but the target holds probabilities; "
                "give such rows a weight of 0 in reduction='none'"
            )
            raise ValueError(msg)
        q = _rows(_target("cross_entropy", input, target))
        if label_smoothing:
            q = q * (1 - label_smoothing) + label_smoothing / classes
        if w is not None:
            q = q * w
        losses = -sum(q * log_softmax(rows, axis=1), axis=1)
    else:
        index, all_count = _indices("cross_entropy", target, shape, classes, ignore_index, _device(input))
        losses = cross_entropy_rows(rows, *_given(index, w), smoothing=float(label_smoothing))
        if reduction == "mean":
            return mean(losses) if all_count and w is None else _weighted_mean(losses, index, w)
    if reduction == "none":
        return reshape(losses, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    return _reduce(losses, reduction)


def _weighted_mean(losses: Any, index: Any, weight: Any) -> Any:
    xp = backend_of(index)
    if weight is None:
        live = xp.astype(index >= 0, unwrap(losses).dtype)
    else:
        safe = xp.where(index < 0, xp.zeros_like(index), index)
        live = xp.where(
            index < 0, xp.zeros_like(xp.take(weight, safe, axis=0)), xp.take(weight, safe, axis=0)
        )
    total = xp.sum(live)
    total = xp.where(
        total == 0, xp.full_like(total, float("nan")), total
    )  # nothing counted: NaN, without a warning
    return sum(losses) / (total if type(total) is xp.array_type else xp.asarray(total))


def _given(index: Any, weight: Any) -> tuple[Any, ...]:
    return (index,) if weight is None else (index, weight)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """−w_t x_t: the negative log-likelihood of class indices t under log-probabilities x (n, classes, d1, …).

    >>> import anynet as an
    >>> an.nn.functional.nll_loss(an.asarray([[-1.0, -2.0]]), an.asarray([1]))
    Tensor(2.)
    """
    if is_batched(target):  # inside vmap
        return each(nll_loss, input, target, weight, ignore_index, reduction)
    shape = tuple(input.shape)
    if not shape:
        msg = "nll_loss: input is (classes,), (n, classes) or (n, classes, d1, …), got a scalar"
        raise ValueError(msg)
    classes = shape[1] if len(shape) > 1 else shape[0]
    w = _class_weight("nll_loss", weight, input, classes)
    index, all_count = _indices("nll_loss", target, shape, classes, ignore_index, _device(input))
    losses = nll_rows(_rows(input), *_given(index, w))
    if reduction == "mean":
        return mean(losses) if all_count and w is None else _weighted_mean(losses, index, w)
    if reduction == "none":
        return reshape(losses, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    return _reduce(losses, reduction)


def _weighted(loss: Any, weight: Any, reduction: str) -> Tensor:
    return _reduce(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, reduction: str = "mean"
) -> Tensor:
    """−(t ln p + (1 − t) ln(1 − p)), the logarithms limited to −100 from below as in PyTorch. Shapes equal.

    >>> import anynet as an
    >>> an.nn.functional.binary_cross_entropy(an.asarray([0.5, 0.5]), an.asarray([1.0, 0.0]))
    Tensor(0.6931472)
    """
    target = _target("binary_cross_entropy", input, target)

    def probabilities(found: Any) -> None:
        here = backend_of(found)
        if not bool(here.all(here.logical_and(found >= 0, found <= 1))):
            msg = (
                "binary_cross_entropy: the input are probabilities between 0 and 1, got "
                f"{float(here.min(found)):.4g} to {float(here.max(found)):.4g}; for logits use "
                "binary_cross_entropy_with_logits"
            )
            raise ValueError(msg)

    _check(probabilities, unwrap(input))
    return _weighted(binary_cross_entropy_(input, target), weight, reduction)


@whole(2)
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Tensor:
    """Binary cross-entropy of σ(x), computed from the logits x without overflow:

    (1 − t) x + (1 + (p − 1) t) ln(1 + e^{−x}), with p = `pos_weight`, the weight of positive targets. Shapes equal.

    >>> import anynet as an
    >>> an.nn.functional.binary_cross_entropy_with_logits(an.zeros(2), an.asarray([1.0, 0.0]))
    Tensor(0.6931472)
    """
    target = _target("binary_cross_entropy_with_logits", input, target)
    loss = (
        logit_cross_entropy(input, target)
        if pos_weight is None
        else logit_cross_entropy(input, target, pos_weight)
    )
    return _weighted(loss, weight, reduction)


# ----- distances -----


def cosine_similarity(x1: ArrayLike, x2: ArrayLike, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁ · x₂ / (max(‖x₁‖, ε) max(‖x₂‖, ε)) along `dim`; the arguments are broadcast.

    >>> import anynet as an
    >>> an.nn.functional.cosine_similarity(an.asarray([[1.0, 0.0]]), an.asarray([[2.0, 0.0]]))
    Tensor([1.])
    """
    shape = broadcast_shapes(
        tuple(x1.shape), tuple(x2.shape)
    )  # a single number along `dim` is one of many equal ones
    x1, x2 = broadcast_to(x1, shape), broadcast_to(x2, shape)
    axis = () if not shape and dim in (0, -1) else dim  # a number is an axis of one number
    dot, first, second = (sum(a * b, axis=axis) for a, b in ((x1, x2), (x1, x1), (x2, x2)))
    low = eps * eps
    return dot / (e.sqrt(e.clip(first, low)) * e.sqrt(e.clip(second, low)))


def pairwise_distance(
    x1: ArrayLike, x2: ArrayLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x₁ − x₂ + ε‖_p over the last axis; the arguments are broadcast. Where it is 0 the gradient is 0.

    >>> import anynet as an
    >>> an.nn.functional.pairwise_distance(an.asarray([0.0, 3.0]), an.asarray([4.0, 0.0]), eps=0.0).item()
    5.0
    """
    return vector_norm(x1 - x2 + eps, axis=-1, keepdims=keepdim, ord=p)


# ----- probabilities -----


def kl_div(input: ArrayLike, target: ArrayLike, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence t (ln t − x) of probabilities t from logarithms of probabilities x, 0 (and without
    gradient) where t is 0; with `log_target` the target is a logarithm too: eᵗ (t − x). ``reduction="batchmean"`` is the
    sum over the length of the first axis, the divergence of the definition; "mean" is over all elements.

    >>> import anynet as an
    >>> an.nn.functional.kl_div(an.log(an.asarray([[0.5, 0.5]])), an.asarray([[1.0, 0.0]]), reduction="batchmean")
    Tensor(0.6931472)
    """
    target = _target("kl_div", input, target)
    none = e.equal(
        target, float("-inf") if log_target else 0.0
    )  # a probability of 0, whatever its logarithm is
    target, input = e.where(none, 0.0 if log_target else 1.0, target), e.where(none, 0.0, input)
    loss = e.exp(target) * (target - input) if log_target else target * (e.log(target) - input)
    loss = e.where(none, 0.0, loss)
    if reduction == "batchmean":
        return sum(loss) / (input.shape[0] if len(input.shape) else 1)
    return _reduce(loss, reduction)


def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """−ln P(t) of a Poisson variable with rate eˣ (or x with ``log_input=False``), without ln t!; with `full` Stirling's
    approximation of it, t ln t − t + ½ ln 2πt, is added where t > 1.

    >>> import anynet as an
    >>> round(an.nn.functional.poisson_nll_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0])).item(), 4)
    1.0537
    """
    target = _target("poisson_nll_loss", input, target)
    loss = e.exp(input) - target * input if log_input else input - target * e.log(input + eps)
    if full:
        large = e.greater(target, 1.0)
        t = e.where(large, target, 1.0)
        loss = loss + e.where(large, t * e.log(t) - t + 0.5 * e.log(6.283185307179586 * t), 0.0)
    return _reduce(loss, reduction)


def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """½ (ln σ² + (x − t)² / σ²), σ² = max(var, ε); with `full` ½ ln 2π is added. `var` has the shape of x, or 1 in place
    of one axis, or nothing in place of the last, or is one number. The gradient of `var` is that of the formula, also
    where ε holds (Nix, Weigend 1994).

    >>> import anynet as an
    >>> an.nn.functional.gaussian_nll_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]), an.ones(2))
    Tensor(1.25)
    """
    target = _target("gaussian_nll_loss", input, target)
    shape = tuple(input.shape)
    if not hasattr(var, "shape"):
        var = asarray(var, dtype=dtypes.of(unwrap(input).dtype), device=_device(input))
    given = tuple(var.shape)
    if given != shape and given == shape[:-1]:
        var = reshape(var, (*given, 1))
    elif given not in (shape, ()) and (
        len(given) != len(shape) or [a for a, b in zip(given, shape, strict=True) if a != b] != [1]
    ):
        msg = (
            f"gaussian_nll_loss: var has shape {given}, expected {shape}, the same with 1 in place of one axis, or "
            f"{shape[:-1]}"
        )
        raise ValueError(msg)

    def not_negative(found: Any) -> None:
        if bool(backend_of(found).any(found < 0)):
            msg = "gaussian_nll_loss: var has negative entries"
            raise ValueError(msg)

    _check(not_negative, unwrap(var))
    lift = e.where(e.less(var, eps), eps - (var.detach() if hasattr(var, "detach") else var), 0.0)
    var = var + (lift.detach() if hasattr(lift, "detach") else lift)
    loss = 0.5 * (e.log(var) + (input - target) ** 2 / var)
    return _reduce(loss + 0.9189385332046727 if full else loss, reduction)


# ----- margins -----


def _above(x: Any) -> Tensor:
    """max(x, 0) with gradient 1 at 0, as PyTorch's clamp_min: a subgradient."""
    return e.where(e.less(x, 0.0), 0.0, x)


def hinge_embedding_loss(
    input: ArrayLike, target: ArrayLike, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """x where t = 1, max(0, margin − x) where t = −1.

    >>> import anynet as an
    >>> an.nn.functional.hinge_embedding_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, -1.0]))
    Tensor(0.5)
    """
    target = _target("hinge_embedding_loss", input, target)
    apart = e.where(e.not_equal(target, 1.0), _above(margin - input), 0.0)
    return _reduce(apart + e.where(e.not_equal(target, -1.0), input, 0.0), reduction)


@whole(2)
def soft_margin_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """ln(1 + e^{−t x}), t = ±1.

    >>> import anynet as an
    >>> an.nn.functional.soft_margin_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, -1.0]))
    Tensor(1.2200949)
    """
    target = _target("soft_margin_loss", input, target)
    return _reduce(softplus(-target * input, threshold=float("inf")), reduction)


def margin_ranking_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, −t (x₁ − x₂) + margin): t = 1 says that x₁ is to be larger.

    >>> import anynet as an
    >>> an.nn.functional.margin_ranking_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]), an.asarray([1.0, 1.0]))
    Tensor(1.)
    """
    target = _target("margin_ranking_loss", input1, target)
    return _reduce(
        _above(-target * (input1 - _target("margin_ranking_loss", input1, input2)) + margin), reduction
    )


def cosine_embedding_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 − cos(x₁, x₂) where t = 1, max(0, cos(x₁, x₂) − margin) where t = −1: x (n, d), t (n,), or x (d,), t ().

    >>> import anynet as an
    >>> an.nn.functional.cosine_embedding_loss(an.asarray([[1.0, 0.0]]), an.asarray([[0.0, 1.0]]), an.asarray([1.0]))
    Tensor(1.)
    """
    if len(input1.shape) not in (1, 2) or tuple(input1.shape) != tuple(input2.shape):
        msg = (
            f"cosine_embedding_loss: the inputs have shapes {tuple(input1.shape)} and {tuple(input2.shape)}, expected two "
            "of the same shape (n, d) or (d,)"
        )
        raise ValueError(msg)
    tiny = 1e-12  # as in PyTorch, added to the squared lengths
    dot = sum(input1 * input2, axis=-1)
    lengths = (sum(input1 * input1, axis=-1) + tiny) * (sum(input2 * input2, axis=-1) + tiny)
    cosine = dot / e.sqrt(lengths)
    target = _target("cosine_embedding_loss", cosine, target)
    near = e.where(e.equal(target, 1.0), 1.0 - cosine, 0.0)
    return _reduce(near + e.where(e.equal(target, -1.0), _above(cosine - margin), 0.0), reduction)


def _class_indices(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Rows of scores and the index of each row's class, checked."""
    single = len(input.shape) < 2
    rows = reshape(input, (1, -1)) if single else input
    index = to_plain(target, device=_device(input))
    xp = backend_of(index)
    if len(rows.shape) != 2 or tuple(index.shape) != (() if single else rows.shape[:1]):
        if not (single and tuple(index.shape) == (1,)):
            msg = f"{name}: input has shape {tuple(input.shape)}, target {tuple(index.shape)}; expected (n, classes) and (n,)"
            raise ValueError(msg)
    index = xp.reshape(index, (rows.shape[0], 1))
    if not xp.isdtype(index.dtype, "integral"):
        msg = f"{name}: the target holds class indices, got {index.dtype}"
        raise TypeError(msg)

    def in_range(found: Any) -> None:
        if bool(backend_of(found).any((found < 0) | (found >= rows.shape[1]))):
            msg = f"{name}: the target has a class outside of 0 … {rows.shape[1] - 1}"
            raise IndexError(msg)

    _check(in_range, index, rows.shape[1])
    return rows, index


def multi_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    p: int = 1,
    margin: float = 1.0,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_{j ≠ t} w_t max(0, margin − x_t + x_j)ᵖ / classes: the hinge loss of several classes; x (n, classes) or (classes,),
    t (n,) or () (Crammer, Singer 2001).

    >>> import anynet as an
    >>> an.nn.functional.multi_margin_loss(an.asarray([[0.5, 0.0]]), an.asarray([0]))
    Tensor(0.25)
    """
    if p not in (1, 2):
        msg = f"multi_margin_loss: p is 1 or 2, got {p}"
        raise ValueError(msg)
    rows, index = _class_indices("multi_margin_loss", input, target)
    xp = backend_of(index)
    classes = rows.shape[1]
    weight = _class_weight("multi_margin_loss", weight, input, classes)
    own = take_along_axis(rows, index, axis=1)
    gap = relu(margin - own + rows)
    if p == 2:
        gap = gap * gap
    if weight is not None:
        gap = gap * xp.reshape(xp.take(weight, xp.reshape(index, (-1,)), axis=0), (-1, 1))
    places = xp.reshape(xp.arange(classes, dtype=index.dtype, device=index.device), (1, classes))
    other = xp.astype(xp.not_equal(places, index), dtypes.native(xp, dtypes.of(unwrap(rows).dtype)))
    loss = sum(gap * other, axis=1) / classes
    return _reduce(loss if len(input.shape) == 2 else reshape(loss, ()), reduction)


def multilabel_margin_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """Σ max(0, 1 − (x_i − x_j)) / classes over the classes i that a row of `target` lists (up to the first −1) and the
    classes j that it does not: x and t (n, classes) or (classes,).

    >>> import anynet as an
    >>> an.nn.functional.multilabel_margin_loss(an.asarray([[0.5, 0.0]]), an.asarray([[0, -1]]))
    Tensor(0.25)
    """
    index = to_plain(target, device=_device(input))
    xp = backend_of(index)
    if tuple(input.shape) != tuple(index.shape) or len(input.shape) > 2:
        msg = (
            f"multilabel_margin_loss: input has shape {tuple(input.shape)}, target {tuple(index.shape)}; expected two of "
            "the same shape (n, classes) or (classes,)"
        )
        raise ValueError(msg)
    if not xp.isdtype(index.dtype, "integral"):
        msg = f"multilabel_margin_loss: the target holds class indices, got {index.dtype}"
        raise TypeError(msg)
    single = len(input.shape) < 2
    rows = reshape(input, (1, -1)) if single else input
    n, classes = rows.shape
    index = xp.reshape(index, (n, classes))
    kind = dtypes.native(xp, dtypes.of(unwrap(rows).dtype))
    ended = xp.cumulative_sum(xp.astype(index < 0, xp.int64), axis=1) > 0
    listed = xp.astype(xp.logical_not(ended), kind)
    index = xp.where(ended, xp.zeros_like(index), index)

    def in_range(found: Any) -> None:
        if bool(backend_of(found).any(found >= classes)):
            msg = f"multilabel_margin_loss: the target has a class outside of 0 … {classes - 1}"
            raise IndexError(msg)

    _check(in_range, index, classes)
    places = xp.reshape(xp.arange(classes, dtype=index.dtype, device=index.device), (1, 1, classes))
    hit = xp.astype(xp.equal(xp.expand_dims(index, axis=2), places), kind) * xp.expand_dims(listed, axis=2)
    among = xp.max(hit, axis=1) if classes else xp.zeros((n, 0), dtype=kind, device=index.device)
    own = take_along_axis(rows, index, axis=1)
    gap = relu(1.0 - (reshape(own, (n, classes, 1)) - reshape(rows, (n, 1, classes))))
    both = xp.expand_dims(listed, axis=2) * xp.expand_dims(1.0 - among, axis=1)
    loss = sum(gap * both, axis=(1, 2)) / (classes or 1)
    return _reduce(reshape(loss, ()) if single else loss, reduction)


def multilabel_soft_margin_loss(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, reduction: str = "mean"
) -> Tensor:
    """−Σ w (t ln σ(x) + (1 − t) ln σ(−x)) / classes over the last axis, t of 0 and 1.

    >>> import anynet as an
    >>> an.nn.functional.multilabel_soft_margin_loss(an.zeros((1, 2)), an.asarray([[1.0, 0.0]]))
    Tensor(0.6931472)
    """
    target = _target("multilabel_soft_margin_loss", input, target)
    loss = target * softplus(-input, threshold=float("inf")) + (1 - target) * softplus(
        input, threshold=float("inf")
    )
    if weight is not None:
        loss = loss * weight
    return _reduce(mean(loss, axis=-1), reduction)


def triplet_margin_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) − d(a, n) + margin), d the `pairwise_distance`; with `swap` the smaller of d(a, n) and d(p, n)
    (Balntas et al. 2016).

    >>> import anynet as an
    >>> an.nn.functional.triplet_margin_loss(an.asarray([[0.0]]), an.asarray([[1.0]]), an.asarray([[3.0]]), margin=4.0, eps=0.0)
    Tensor(2.)
    """
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=lambda x, y: pairwise_distance(x, y, p, eps), margin=margin,
        swap=swap, reduction=reduction,
    )  # fmt: skip


def triplet_margin_with_distance_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    distance_function: Any = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) − d(a, n) + margin) with a distance of one's own, `pairwise_distance` unless given.

    >>> import anynet as an
    >>> an.nn.functional.triplet_margin_with_distance_loss(an.asarray([[0.0]]), an.asarray([[1.0]]), an.asarray([[3.0]]), margin=4.0)
    Tensor(2.)
    """
    if not margin > 0:
        msg = f"triplet_margin_loss: margin is positive, got {margin}"
        raise ValueError(msg)
    distance = pairwise_distance if distance_function is None else distance_function
    far = distance(anchor, negative)
    if swap:
        far = e.minimum(far, distance(positive, negative))
    return _reduce(_above(distance(anchor, positive) - far + margin), reduction)


# ----- sequences -----

_NEVER = -1e30  # the logarithm of a probability of 0: finite, so that its gradient is 0 and not nan


def ctc_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike,
    target_lengths: ArrayLike,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """−ln of the probability that a sequence of labels with blanks and repetitions between them gives the target
    (connectionist temporal classification, Graves et al. 2006).

    log_probs (steps, n, classes), or (steps, classes) without a batch: logarithms of probabilities. targets (n, longest), or
    all targets one after the other. `input_lengths` and `target_lengths` (n,). Over the target with blanks around each
    label, a_t(s) = p_t(l_s) (a_{t−1}(s) + a_{t−1}(s−1) + [l_s ≠ blank, l_s ≠ l_{s−2}] a_{t−1}(s−2)), in logarithms.

    "mean" divides each loss by the length of its target and takes the mean. A target that does not fit (no frames fit
    none but the empty one) has an infinite loss, with `zero_infinity` a loss of 0, and in both cases no gradient.

    >>> import anynet as an
    >>> an.nn.functional.ctc_loss(an.log(an.full((2, 1, 2), 0.5)), an.asarray([[1]]), [2], [1])
    Tensor(0.2876821)
    """
    single = len(log_probs.shape) == 2
    x = reshape(log_probs, (log_probs.shape[0], 1, log_probs.shape[1])) if single else log_probs
    if len(x.shape) != 3:
        msg = f"ctc_loss: log_probs has shape {tuple(log_probs.shape)}, expected (steps, n, classes) or (steps, classes)"
        raise ValueError(msg)
    steps, n, classes = x.shape
    inputs, lengths = ([int(i) for i in _listed(v)] for v in (input_lengths, target_lengths))
    if (
        len(inputs) != n
        or len(lengths) != n
        or max(inputs, default=0) > steps
        or min(inputs + lengths, default=0) < 0
    ):
        msg = f"ctc_loss: input_lengths (at most {steps}) and target_lengths are {n} numbers each, got {inputs[:8]}, {lengths[:8]}"
        raise ValueError(msg)
    if not n or not steps:
        msg = f"ctc_loss: log_probs has shape {tuple(log_probs.shape)}, expected at least one sequence of one step"
        raise ValueError(msg)
    if not 0 <= blank < classes:
        msg = f"ctc_loss: blank is one of {classes} classes, got {blank}"
        raise ValueError(msg)
    plain = to_plain(targets)
    shape = tuple(plain.shape)
    rows = _listed(plain)
    if len(shape) == 2 and not single:
        labels = [[int(v) for v in row[:k]] for row, k in zip(rows, lengths, strict=True)]
    else:
        begins = [0]
        for k in lengths:
            begins.append(begins[-1] + k)
        labels = [[int(v) for v in rows[a:b]] for a, b in itertools.pairwise(begins)]
    if any(len(row) != k for row, k in zip(labels, lengths, strict=True)) or any(
        not 0 <= v < classes or v == blank for row in labels for v in row
    ):
        msg = f"ctc_loss: targets of the lengths {lengths[:8]} hold classes from 0 to {classes - 1} other than blank={blank}"
        raise ValueError(msg)
    width = 2 * max(lengths, default=0) + 1
    path = [[blank, *(v for label in row for v in (label, blank))] for row in labels]
    path = [row + [blank] * (width - len(row)) for row in path]
    skip = [[s > 1 and row[s] != blank and row[s] != row[s - 2] for s in range(width)] for row in path]
    device, dtype = _device(x), dtypes.of(unwrap(x).dtype)
    index = asarray(path, dtype=dtypes.int64, device=device)
    may = asarray(skip, dtype=dtypes.bool, device=device)
    never = asarray([[_NEVER] * 2] * n, dtype=dtype, device=device)
    first = asarray(
        [[0.0, 0.0 if k else _NEVER] + [_NEVER] * (width - 2) for k in lengths], dtype=dtype, device=device
    )[:, :width]
    # before the first frame only the empty target is possible; the sum over no frames joins x to the graph
    nothing = asarray([[0.0] + [_NEVER] * (width - 1)] * n, dtype=dtype, device=device)
    alpha = nothing + reshape(sum(x[:0, :, :], axis=(0, 2)), (n, 1))
    for t in range(max(inputs)):
        emitted = take_along_axis(x[t, ...], index, axis=1)
        if t == 0:
            new = first + emitted
        else:
            behind = concat([never, alpha], axis=1)
            both = e.logaddexp(alpha, behind[:, 1 : width + 1])
            new = e.where(may, e.logaddexp(both, behind[:, :width]), both) + emitted
        running = [t < k for k in inputs]
        if all(running):
            alpha = new
        else:
            alpha = e.where(reshape(asarray(running, device=device), (n, 1)), new, alpha)
    ends = asarray([[2 * k, max(2 * k - 1, 0)] for k in lengths], dtype=dtypes.int64, device=device)
    last = take_along_axis(alpha, ends, axis=1)
    lost = asarray([[False, k == 0] for k in lengths], dtype=dtypes.bool, device=device)
    last = e.where(lost, _NEVER, last)
    loss = -e.logaddexp(last[:, 0], last[:, 1])
    impossible = e.greater(loss, -_NEVER / 10)
    loss = e.where(impossible, 0.0 if zero_infinity else float("inf"), loss)
    if reduction == "mean":
        return mean(loss / asarray([float(k or 1) for k in lengths], dtype=dtype, device=device))
    return _reduce(reshape(loss, ()) if single and reduction == "none" else loss, reduction)


def _listed(values: Any) -> list[Any]:
    """Numbers or lists of numbers, from whatever holds them."""
    if isinstance(values, (list, tuple)):
        return list(values)
    if isinstance(values, int):
        return [values]
    plain = to_plain(values)
    found = backend_of(plain).to_host(plain).tolist()
    return found if isinstance(found, list) else [found]


# ----- of Keras and others -----


def _alike(where: str, input: Any, target: Any) -> None:
    if tuple(input.shape) != tuple(target.shape):
        msg = (
            f"{where}: input and target have equal shapes, got {tuple(input.shape)} and {tuple(target.shape)}"
        )
        raise ValueError(msg)


def dice_loss(
    input: ArrayLike, target: ArrayLike, dim: Any = None, smooth: float = 1e-7, reduction: str = "mean"
) -> Tensor:
    """1 − (2 Σ p t + ε) / (Σ p + Σ t + ε) for probabilities p and targets t of one shape, summed over the axes `dim` (all
    of them unless given); ε is `smooth` (Milletari et al. 2016).

    >>> import anynet as an
    >>> round(an.nn.functional.dice_loss(an.asarray([1.0, 0.0]), an.asarray([1.0, 1.0]), smooth=0.0).item(), 4)
    0.3333
    """
    _alike("dice_loss", input, target)
    both = sum(input * target, axis=dim)
    return _reduce(
        1.0 - (2.0 * both + smooth) / (sum(input, axis=dim) + sum(target, axis=dim) + smooth), reduction
    )


def tversky_loss(
    input: ArrayLike,
    target: ArrayLike,
    alpha: float = 0.5,
    beta: float = 0.5,
    dim: Any = None,
    smooth: float = 1e-7,
    reduction: str = "mean",
) -> Tensor:
    """1 − (TP + ε) / (TP + α FP + β FN + ε) with TP = Σ p t, FP = Σ p (1 − t), FN = Σ (1 − p) t over the axes `dim` (Salehi
    et al. 2017); α = β = ½ is the Dice loss.

    >>> import anynet as an
    >>> an.nn.functional.tversky_loss(an.asarray([1.0, 0.0]), an.asarray([1.0, 1.0]), beta=1.0, smooth=0.0).item()
    0.5
    """
    _alike("tversky_loss", input, target)
    hits = sum(input * target, axis=dim)
    false = sum(input * (1.0 - target), axis=dim)
    missed = sum((1.0 - input) * target, axis=dim)
    return _reduce(1.0 - (hits + smooth) / (hits + alpha * false + beta * missed + smooth), reduction)


def binary_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    alpha: float | None = None,
    gamma: float = 2.0,
    reduction: str = "mean",
) -> Tensor:
    """−(1 − p_t)^γ log p_t from logits x, p = σ(x), p_t = p where the target is 1, 1 − p where it is 0, and between for
    targets between; `alpha` weighs the two classes with α and 1 − α (Lin et al. 2017).

    >>> import anynet as an
    >>> round(an.nn.functional.binary_focal_loss(an.asarray([0.0]), an.asarray([1.0])).item(), 6)  # log 2 / 4
    0.173287
    """
    _alike("binary_focal_loss", input, target)
    p = 1.0 / (1.0 + e.exp(-input))
    right = p * target + (1.0 - p) * (1.0 - target)
    loss = logit_cross_entropy(input, target) * (1.0 - right) ** gamma
    if alpha is not None:
        loss = loss * (alpha * target + (1.0 - alpha) * (1.0 - target))
    return _reduce(loss, reduction)


def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    alpha: Any = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """−α_t (1 − p_t)^γ log p_t with p = softmax(x), x (n, classes, …), target (n, …) of classes; `alpha` a weight for each class
    (Lin et al. 2017). Targets of `ignore_index` count for nothing; the mean is over the others.

    >>> import anynet as an
    >>> x = an.asarray([[0.0, 0.0]])
    >>> round(an.nn.functional.focal_loss(x, an.asarray([1])).item(), 6)
    0.173287
    """
    if reduction not in ("mean", "sum", "none"):
        _reduce(input, reduction)
    plain = cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
    weighted = plain if alpha is None else cross_entropy(
        input, target, weight=alpha, ignore_index=ignore_index, reduction="none"
    )  # fmt: skip
    loss = weighted * (1.0 - e.exp(-plain)) ** gamma
    if reduction != "mean":
        return _reduce(loss, reduction)
    count = sum(cast_to(e.not_equal(target, ignore_index), dtype=dtypes.of(unwrap(loss).dtype)))
    return sum(loss) / count


@whole(2)
def log_cosh_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """log cosh(x − t) = |d| + log(1 + e^{−2|d|}) − log 2: ½ d² near 0, |d| − log 2 far away.

    >>> import anynet as an
    >>> round(an.nn.functional.log_cosh_loss(an.asarray([1.0]), an.asarray([0.0])).item(), 6)
    0.433781
    """
    _alike("log_cosh_loss", input, target)
    d = input - target
    return _reduce(d + softplus(-2.0 * d, beta=1.0, threshold=1e4) - 0.6931471805599453, reduction)


def circle_loss(
    input: ArrayLike, target: ArrayLike, gamma: float = 80.0, margin: float = 0.4, reduction: str = "mean"
) -> Tensor:
    """log(1 + Σ_n exp(γ α_n (s_n − m)) · Σ_p exp(−γ α_p (s_p − 1 + m))) for each row of `input` (n, features), with s the cosine
    to the other rows of its class (p) and of other classes (n), α_p = max(1 + m − s_p, 0), α_n = max(s_n + m, 0) held constant
    (Sun et al. 2020, equation 6). `target` (n,) holds classes; rows without a p or an n give 0.

    >>> import anynet as an
    >>> x = an.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> an.nn.functional.circle_loss(x, an.asarray([0, 0, 1])).item() < 1e-3
    True
    """
    if len(input.shape) != 2 or tuple(target.shape) != tuple(input.shape[:1]):
        msg = f"circle_loss: input is (n, features) and target (n,), got {tuple(input.shape)} and {tuple(target.shape)}"
        raise ValueError(msg)
    unit = input / e.maximum(vector_norm(input, axis=1, keepdims=True), 1e-12)
    s = unit @ unit.T
    n = input.shape[0]
    same = e.equal(reshape(target, (n, 1)), reshape(target, (1, n)))
    index = asarray(list(range(n)), device=_device(input))
    others = e.not_equal(reshape(index, (n, 1)), reshape(index, (1, n)))
    positive, negative = e.logical_and(same, others), e.logical_not(same)
    fixed = s.detach()
    low = float("-inf")
    p = e.where(positive, -gamma * e.maximum(1.0 + margin - fixed, 0.0) * (s - (1.0 - margin)), low)
    q = e.where(negative, gamma * e.maximum(fixed + margin, 0.0) * (s - margin), low)
    some = e.logical_and(any_over(positive, axis=1), any_over(negative, axis=1))
    total = logsumexp(e.where(reshape(some, (n, 1)), p, 0.0), axis=1)
    total = total + logsumexp(e.where(reshape(some, (n, 1)), q, 0.0), axis=1)
    return _reduce(e.where(some, softplus(total), 0.0), reduction)


def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: None = None,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target): logits and loss in one call.

    linear_weight (classes, in), or (classes, d1, …, in) for logits (n, classes, d1, …), linear_bias (classes, d1, …).
    `options` is there for PyTorch's signature: chunks are not offered, only None is taken.

    >>> import anynet as an
    >>> x, w = an.ones((2, 3)), an.zeros((4, 3))
    >>> round(an.nn.functional.linear_cross_entropy(x, w, an.asarray([0, 3])).item(), 6)  # log 4
    1.386294
    """
    if options is not None:
        msg = "linear_cross_entropy: options chooses PyTorch's way of working in chunks, which is not offered; leave it out"
        raise NotImplementedError(msg)
    form = tuple(linear_weight.shape)
    if len(form) > 2:
        if len(input.shape) != 2:
            msg = f"linear_cross_entropy: a weight of shape {form} takes an input (n, {form[-1]}), got {tuple(input.shape)}"
            raise ValueError(msg)
        linear_weight = reshape(linear_weight, (-1, form[-1]))
        linear_bias = None if linear_bias is None else reshape(linear_bias, (-1,))
    logits = linear(input, linear_weight, linear_bias)
    if len(form) > 2:
        logits = reshape(logits, (input.shape[0], *form[:-1]))
    elif len(logits.shape) > 2:
        logits = moveaxis(logits, -1, 1)
    return cross_entropy(
        logits, target, weight=weight, ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction, label_smoothing=label_smoothing,
    )  # fmt: skip
