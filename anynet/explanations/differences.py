"""Finite differences of one operation, in double precision, beside its gradient rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynet.autograd.backward import node_gradients
from anynet.autograd.rules import fit
from anynet.explanations.explanation import Check
from anynet.explanations.recording import Operation
from anynet.tensor import Tensor, wrap
from anynet_backends import backend_of, philox

__all__ = [
    "agree", "agree_where_finite", "close", "compared", "directional", "elementwise_slope", "filled", "jacobian", "rule_gradients",
]  # fmt: skip

_STEPS = (6e-6, 1e-4, 1e-7)
_RTOL = 2e-6


def _host(x: Any) -> Any:
    return (x if isinstance(x, Tensor) else wrap(x)).numpy()


def _moved(x: Tensor, values: Any) -> Tensor:
    return wrap(backend_of(x._data).from_host(values.astype("float64"), x.device))


def close(a: Any, b: Any, rtol: float = _RTOL) -> bool:
    """Whether two host arrays agree, to `rtol` of the largest element."""
    if a.shape != b.shape:
        return False
    if not a.size:
        return True
    a, b = a.reshape(-1), b.reshape(-1)
    same = (a == b) | ((a != a) & (b != b))
    finite = abs(b)[abs(b) < math.inf]
    scale = float(finite.max()) if finite.size else 0.0
    return bool((same | (abs(a - b) <= rtol * max(scale, 1e-3))).all())


def agree(a: Any, b: Any, rtol: float = _RTOL) -> Check:
    """A check of two host arrays."""
    ok = close(a, b, rtol)
    if ok or a.shape != b.shape:
        return Check(ok, "" if ok else f"shapes {a.shape} and {b.shape}")
    gap = abs(a - b)
    at = int(gap.reshape(-1).argmax())
    return Check(False, f"{a.reshape(-1)[at]:.8g} against {b.reshape(-1)[at]:.8g}")


def filled(a: Any, b: Any) -> Any:
    """a, with the elements of b where a is not finite and b is."""
    out = a.copy()
    odd = ~(abs(a) < math.inf) & (abs(b) < math.inf)
    out[odd] = b[odd]
    return out


def agree_where_finite(a: Any, b: Any, rtol: float) -> Check:
    """`agree`, where b is a formula that may have no finite value although a has one: there nothing is compared."""
    if a.shape != b.shape or not bool((odd := ~(abs(b) < math.inf) & (abs(a) < math.inf)).any()):
        return agree(a, b, rtol)
    rest = agree(a[~odd], b[~odd], rtol)
    return rest if rest.ok is False else Check(None, "the formula has no finite value here")


def rule_gradients(operation: Operation, g: Any) -> dict[int, Any]:
    """What the rules give for the gradient g of the result (or a tuple of them): by argument, before sums over broadcast axes."""
    return {i: gi for i, gi in node_gradients(operation.node, g, False) if gi is not None}


def fitted(g: Any, x: Tensor) -> Any:
    """A gradient in the shape of its input, as a host array."""
    return _host(fit(g, x._data))


def elementwise_slope(operation: Operation, i: int, expected: Any) -> tuple[Any, Check]:
    """The central difference of each element of an element-wise operation in its input `i`, and whether it is what is expected.

    Where both sides differ (a kink), anything between the two is a subgradient.
    """
    x = operation.args[i]
    base, y = _host(x), _host(operation.outputs[0])

    def at(h: Any) -> Any:
        args = list(operation.args)
        args[i] = _moved(x, base + h)
        return _host(operation.again(args)[0])

    first: Any = None
    size = abs(base)
    for h in (
        _STEPS[0] * size.clip(1.0, None),
        _STEPS[1] * size.clip(1.0, None),
        1e-5 * size.clip(1e-300, None),
    ):
        slope = (at(h) - at(-h)) / (2 * _spread(h, y.shape))
        if first is None:
            first = slope
        if close(expected, slope):
            sides = _sides(at, y, h)
            return slope, Check(None, sides, "∠") if sides else Check(True)
    h = 1e-7 * abs(base).clip(1.0, None)
    wide = _spread(h, y.shape)
    infinite = ~(abs(expected) < math.inf)
    if bool(infinite.any()):
        narrow = (at(1e-3 * h) - at(-1e-3 * h)) / (2e-3 * wide)
        wide_slope = (at(h) - at(-h)) / (2 * wide)
        # it grows, or is not finite itself, or there is no value to begin with
        grows = ~(abs(narrow) <= 2 * abs(wide_slope)) | ~(abs(y) < math.inf)
        rest = agree(expected[~infinite], first[~infinite])
        if rest.ok and bool(grows[infinite].all()):
            return first, Check(None, "no finite derivative at this point")
        return first, rest if not rest.ok else agree(expected, first)
    right, left = (at(h) - y) / wide, (y - at(-h)) / wide
    low, high = _least(left, right), _most(left, right)
    smooth = (abs(first) < math.inf) & (abs(expected - first) <= 1e-5 * (1 + abs(first)))
    between = (expected >= low - 1e-5) & (expected <= high + 1e-5)
    if bool((smooth | between).all()):
        k = int((~smooth).reshape(-1).argmax())
        a, b = float(left.reshape(-1)[k]), float(right.reshape(-1)[k])
        return first, Check(None, f"a kink: {a:.4g} from the left, {b:.4g} from the right", "∠")
    if not bool((abs(first) < math.inf).all()):
        return first, Check(None, "not finite beside this point")
    if not bool((abs(y) < math.inf).all()):
        return first, Check(None, "not finite at this point")
    narrow = (at(1e-3 * h) - at(-1e-3 * h)) / (2e-3 * wide)
    wrong = ~(smooth | between)
    if bool(
        (abs(narrow) > 100 * abs(first))[wrong].all()
    ):  # a step: the smaller the step of the difference, the larger it is
        return first, Check(None, "no finite derivative at this point")
    return first, agree(expected, first)


def _sides(at: Callable[[Any], Any], y: Any, h: Any) -> str:
    """Both slopes, in words, where an element has two: their difference does not become smaller with the step."""
    gaps = []
    for step in (h, h / 10):
        wide = _spread(step, y.shape)
        right, left = (at(step) - y) / wide, (y - at(-step)) / wide
        gaps.append((abs(right - left).reshape(-1), left.reshape(-1), right.reshape(-1)))
    (wide_gap, left, right), (narrow_gap, _, _) = gaps
    kinks = (wide_gap > 1e-2 * (abs(left) + abs(right)).clip(1e-3, None)) & (narrow_gap > 0.5 * wide_gap)
    if not bool(kinks.any()):
        return ""
    k = int(kinks.argmax())
    return f"a kink: {left[k]:.4g} from the left, {right[k]:.4g} from the right"


def _least(a: Any, b: Any) -> Any:
    return a * (a <= b) + b * (b < a)


def _most(a: Any, b: Any) -> Any:
    return a * (a > b) + b * (b >= a)


def _spread(h: Any, shape: tuple[int, ...]) -> Any:
    return _host(_broadcast(wrap(backend_of(h).asarray(h)), shape)) if tuple(h.shape) != tuple(shape) else h


def _broadcast(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return wrap(backend_of(x._data).broadcast_to(x._data, shape))


def jacobian(f: Callable[[Any], Sequence[Any]], x: Tensor) -> Any:
    """∂(all results)/∂x by central differences, as rows of results and columns of inputs."""
    base = _host(x)
    columns = []
    for k in range(base.size):
        h = 6e-6 * max(1.0, abs(float(base.reshape(-1)[k])))
        sides = []
        for sign in (1, -1):
            moved = base.copy()
            moved.reshape(-1)[k] += sign * h
            sides.append([_host(y).reshape(-1) for y in f(_moved(x, moved))])
        columns.append([float(v) / (2 * h) for up, down in zip(*sides, strict=True) for v in up - down])
    return columns


def directional(
    f: Callable[[Any], Sequence[Any]], x: Tensor, upstream: Sequence[Any], gradient: Any, count: int = 2
) -> Check:
    """⟨upstream, f(x + h d) − f(x − h d)⟩ / 2h against ⟨gradient, d⟩, for random directions d."""
    base, grad = _host(x), gradient
    if not base.size:
        return Check(None, "empty")
    worst = Check(True)
    for seed in range(count):
        words = philox.philox_words(seed, 77, 0, base.size) / 2.0**31 - 1.0
        d = words.reshape(base.shape)
        tried = []
        right = float((grad * d).sum())
        scale = float((abs(grad) * abs(d)).sum())
        for step in _STEPS:
            h = step * max(1.0, float(abs(base).max()))
            up, down = f(_moved(x, base + h * d)), f(_moved(x, base - h * d))
            left = sum(
                float((g * ((_host(a) - _host(b)) / (2 * h))).sum())
                for g, a, b in zip(upstream, up, down, strict=True)
            )
            tried.append(left)
            noise = sum(
                float((abs(g) * (abs(_host(a)) + abs(_host(b)))).sum())
                for g, a, b in zip(upstream, up, down, strict=True)
            )
            finite = math.isfinite(left) and math.isfinite(right)
            if (
                finite
                and abs(left - right) <= 1e-5 * max(abs(right), 0.01 * scale) + 1e-14 * noise / h + 1e-9
            ):
                break
        else:
            if not math.isfinite(tried[0]):
                return Check(None, "not finite beside this point")
            if not math.isfinite(right) and abs(tried[2]) > 4 * abs(
                tried[1]
            ):  # the smallest step and the largest
                return Check(None, "no finite derivative at this point")
            low, high = _one_sided(f, x, base, d, upstream)
            if not math.isfinite(right) and not high - low <= 1e-2 * (abs(low) + abs(high)):
                worst = Check(None, f"a kink: slopes {low:.4g} and {high:.4g} on its two sides", "∠")
                continue
            if low - 1e-5 * scale <= right <= high + 1e-5 * scale:
                worst = Check(None, f"a kink: slopes {low:.4g} and {high:.4g} on its two sides", "∠")
                continue
            worst = Check(False, f"{tried[0]:.8g} against {right:.8g} in a random direction")
    return worst


def _one_sided(
    f: Callable[[Any], Sequence[Any]], x: Tensor, base: Any, d: Any, upstream: Sequence[Any]
) -> tuple[float, float]:
    """The slopes along d to either side, the smaller one first: for each result apart, as each may have a kink."""
    h = 1e-6 * max(1.0, float(abs(base).max()))
    low = high = 0.0
    for g, a, y, b in zip(
        upstream, f(_moved(x, base - h * d)), f(_moved(x, base)), f(_moved(x, base + h * d)), strict=True
    ):
        left, right = g * ((_host(y) - _host(a)) / h), g * ((_host(b) - _host(y)) / h)
        low += float(_least(left, right).sum())
        high += float(_most(left, right).sum())
    return low, high


def compared(operation: Operation, i: int, upstream: Sequence[Any], gradient: Any) -> Check:
    """`directional` for the argument `i` of an operation."""

    def f(moved: Tensor) -> Sequence[Any]:
        args = list(operation.args)
        args[i] = moved
        return operation.again(args)

    return directional(f, operation.args[i], upstream, gradient)
