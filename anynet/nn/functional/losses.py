"""Losses: how far an output is from its target.

Shapes that would broadcast are refused: the classic bug of (n, 1) against (n,) gives an error, not a wrong number.
"""

from __future__ import annotations

from typing import Any

from anynet import dtypes
from anynet.autograd.fitting import cast_to
from anynet.autograd.primitive import DeviceError
from anynet.autograd.vmap import each, is_batched
from anynet.ops import elementwise as e
from anynet.ops.manipulation import moveaxis, reshape
from anynet.ops.neural import (
    binary_cross_entropy_,
    cross_entropy_rows,
    huber,
    log_softmax,
    logit_cross_entropy,
    nll_rows,
    squared_error,
)  # fmt: skip
from anynet.ops.reductions import mean, sum
from anynet.tensor import to_plain, unwrap
from anynet_backends import backend_of

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "l1_loss", "mse_loss",
    "nll_loss", "smooth_l1_loss",
]  # fmt: skip


def _reduce(x: Any, reduction: str) -> Any:
    if reduction == "mean":
        return mean(x)
    if reduction == "sum":
        return sum(x)
    if reduction == "none":
        return x
    msg = f"reduction is 'mean', 'sum' or 'none', got {reduction!r}"
    raise ValueError(msg)


def _device(x: Any) -> str:
    plain = unwrap(x)
    return backend_of(plain).device_of(plain)


def _readable(x: Any) -> bool:
    """Whether values may be looked at: not on a GPU, where that would wait for it, nor inside vmap."""
    xp = backend_of(x)
    return xp.eager and xp.name != "cupy" and isinstance(x, xp.array_types)


def _target(name: str, input: Any, target: Any) -> Any:
    """The target in the dtype of the input, where the shapes are equal."""
    if not hasattr(target, "shape"):
        target = to_plain(target, device=_device(input))
    if tuple(input.shape) != tuple(target.shape):
        msg = (
            f"{name}: input has shape {tuple(input.shape)}, target {tuple(target.shape)}; they must be equal, "
            "nothing is broadcast (reshape one of them)"
        )
        raise ValueError(msg)
    kind, want = dtypes.of(unwrap(target).dtype), dtypes.of(unwrap(input).dtype)
    if not want.is_floating:
        msg = f"{name}: the input is of a floating-point type, got {want}"
        raise TypeError(msg)
    return target if kind is want or kind.kind == "complex" else cast_to(target, dtype=want)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """The squared error (x − t)², averaged. Shapes equal.

    >>> import anynet as an
    >>> an.nn.functional.mse_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, 4.0])).item()
    2.0
    """
    return _reduce(squared_error(input, _target("mse_loss", input, target)), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """The absolute error |x − t|, averaged. Shapes equal."""
    return _reduce(e.abs(input - _target("l1_loss", input, target)), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """½ d² where |d| ≤ δ, else δ (|d| − ½ δ), with d = x − t (Huber 1964)."""
    if not delta > 0:
        msg = f"huber_loss: delta is positive, got {delta}"
        raise ValueError(msg)
    return _reduce(huber(input, _target("huber_loss", input, target), delta=float(delta)), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """½ d²/β where |d| < β, else |d| − ½ β, with d = x − t (Girshick 2015). β = 0 is `l1_loss`."""
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
    flat = xp.astype(xp.reshape(plain, (-1,)), xp.int64)
    if _readable(flat) and 0 not in flat.shape and not 0 <= ignore_index < classes:
        if int(xp.min(flat)) >= 0 and int(xp.max(flat)) < classes:
            return flat, True
    ignored = flat == ignore_index
    wrong = xp.logical_and(xp.logical_not(ignored), xp.logical_or(flat < 0, flat >= classes))
    if _readable(flat) and bool(xp.any(wrong)):
        bad = int(flat[xp.argmax(xp.astype(wrong, xp.int64))])
        msg = f"{name}: class index {bad} is out of range for {classes} classes"
        raise IndexError(msg)
    return xp.where(ignored, xp.full_like(flat, -1), flat), False


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """−Σ_c q_c w_c ln softmax(x)_c.

    input: scores (n, classes), (n, classes, d1, …) or (classes,). target: class indices (n, d1, …), or probabilities
    of the input's shape. `weight` (classes,) weighs the classes; indices equal to `ignore_index` count nothing. With
    `label_smoothing` s, q = (1 − s) q + s / classes (Szegedy et al. 2016). The mean is over the weights of the targets.
    """
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
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    """−w_t x_t: the negative log-likelihood of class indices t under log-probabilities x (n, classes, d1, …)."""
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


def _weighted(loss: Any, weight: Any, reduction: str) -> Any:
    return _reduce(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """−(t ln p + (1 − t) ln(1 − p)), the logarithms limited to −100 from below as in PyTorch. Shapes equal."""
    target = _target("binary_cross_entropy", input, target)
    p = unwrap(input)
    xp = backend_of(p)
    if _readable(p) and bool(xp.any(xp.logical_or(p < 0, p > 1))):
        msg = (
            "binary_cross_entropy: the input are probabilities between 0 and 1, got "
            f"{float(xp.min(p)):.4g} to {float(xp.max(p)):.4g}; for logits use binary_cross_entropy_with_logits"
        )
        raise ValueError(msg)
    return _weighted(binary_cross_entropy_(input, target), weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Binary cross-entropy of σ(x), computed from the logits x without overflow:

    (1 − t) x + (1 + (p − 1) t) ln(1 + e^{−x}), with p = `pos_weight`, the weight of positive targets. Shapes equal.
    """
    target = _target("binary_cross_entropy_with_logits", input, target)
    loss = (
        logit_cross_entropy(input, target)
        if pos_weight is None
        else logit_cross_entropy(input, target, pos_weight)
    )
    return _weighted(loss, weight, reduction)
