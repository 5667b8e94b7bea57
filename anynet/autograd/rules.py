"""Gradient rules: what each keeps of the forward pass, how it is run, and how its gradients are fitted to the inputs.

A rule keeps what it names: for each choice of inputs that require a gradient a `Plan` says what is held from the forward
pass, and calls the rules with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anynet_backends import Array, Backend, backend_of

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = ["Plan", "fit", "plain_cast", "plain_sum_to"]


class Plan:
    """For one choice of inputs that require a gradient: what to keep, and which rules to run on it."""

    __slots__ = ("inputs", "keep", "output", "rules")

    def __init__(self, prim: Primitive[...], mask: tuple[bool, ...]) -> None:
        positions = prim.positions(len(mask))
        wanted = {name for name, at in positions.items() if any(mask[i] for i in at)}
        slots: dict[str, str] = {}
        self.inputs: list[
            tuple[int, int]
        ] = []  # (slot, input) of the kept inputs: Tensors when differentiated again
        self.output: int | None = None  # the slot of the kept output
        calls: list[tuple[tuple[int, ...], Callable[[Any, Any], Any], bool]] = []
        for rule in prim.rules:
            if not wanted.intersection(rule.inputs):
                continue
            args = ["g"]
            for name in rule.names:
                if name == "need":
                    flags = tuple(any(mask[i] for i in positions.get(n, ())) for n in rule.inputs)
                    args.append(
                        repr(flags if rule.single is None else tuple(mask[i] for i in positions[rule.single]))
                    )
                    continue
                if name not in slots:
                    slot = len(slots)
                    slots[name] = prim.extractor(name, len(mask))
                    if name == "y":
                        self.output = slot
                    elif name in positions:
                        self.inputs.append((slot, -1 if name == prim.variadic else positions[name][0]))
                args.append(f"s[{list(slots).index(name)}]")
            targets = tuple(i for n in rule.inputs for i in (positions.get(n) or (-1,)))
            call = eval(f"lambda g, s: rule({', '.join(args)})", {"rule": rule.function})  # noqa: S307
            calls.append((targets, call, rule.joint))
        self.rules = tuple(calls)
        source = f"lambda y, d, m: ({''.join(code + ', ' for code in slots.values())})"
        scope = {"shape": _shape, "dtype": _dtype, "defaults": prim.defaults}
        self.keep: Callable[[Any, Any, Any], tuple[Any, ...]] = eval(source, scope)  # noqa: S307


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if hasattr(x, "shape") else ()


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else type(x)


class _Rule:
    __slots__ = ("function", "inputs", "joint", "names", "single")

    def __init__(
        self, function: Callable[..., Any], inputs: tuple[str, ...], joint: bool, single: str | None
    ) -> None:
        self.function = function
        self.inputs = inputs
        self.joint = joint
        self.single = single
        self.names = tuple(inspect.signature(function).parameters)[1:]


def _run_rules(plan: Any, g: Any, saved: tuple[Any, ...]) -> list[tuple[int, Any]]:
    out: list[tuple[int, Any]] = []
    for where, rule, joint in plan.rules:
        got = rule(g, saved)
        if joint:
            out.extend((i, gi) for i, gi in zip(where, got, strict=True) if i >= 0)
        else:
            out.append((where[0], got))
    return out


def fit(g: Array, spec: Any) -> Array:
    """Sum a gradient over broadcast axes to the shape of `spec`, and take its dtype."""
    xp = backend_of(g)
    if tuple(g.shape) != tuple(spec.shape):
        g = plain_sum_to(xp, g, tuple(spec.shape))
    return g if g.dtype == spec.dtype else plain_cast(xp, g, spec.dtype)


def plain_sum_to(xp: Backend, g: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which `shape` was broadcast to the shape of `g`."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1
    )
    if axes:
        g = xp.sum(g, axis=axes, keepdims=True, dtype=g.dtype)
    return g if tuple(g.shape) == shape else xp.reshape(g, shape)


def plain_cast(xp: Backend, x: Array, dtype: Any) -> Array:
    """Convert to a native dtype; complex to real takes the real part."""
    if xp.isdtype(x.dtype, "complex floating") and not xp.isdtype(dtype, "complex floating"):
        x = xp.real(x)
    return xp.astype(x, dtype)
