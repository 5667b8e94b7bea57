"""custom_vjp: a function with a gradient rule of one's own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from anynet.autograd.graph import GradientError, reached
from anynet.autograd.pytree import flatten, unflatten
from anynet.autograd.vmap import (
    VmapError,
    active_levels,
    from_levels,
    is_batched,
    levels_of,
    rebatch,
    recorded,
    running,
    strip,
)
from anynet.tensor import Leaf, Tensor, clock, wrap
from anynet_backends.concurrency import this_thread

__all__ = ["custom_vjp"]


def _captured(outputs: list[Any], given: list[Any], start: int) -> str:
    """What `outputs`, recorded since `start`, depend on besides the edges `given`: its label, or ""."""
    found = next((edge for edge in reached(outputs, set(given)) if edge.seq <= start), None)
    if found is None:
        return ""
    return f"of shape {tuple(found.shape)}" if isinstance(found, Leaf) else f"the result of {found.label}"


class custom_vjp:
    """Give a function a gradient rule of its own (JAX's interface).

    ``f.defvjp(fwd, bwd)``: ``fwd(*args)`` returns ``(y, residuals)``; ``bwd(residuals, g)`` returns a tuple with the
    gradient of each argument, in its structure, or None for no gradient. The arguments at `nondiff_argnums` are not
    differentiated; `bwd` receives them first: ``bwd(*nondiff, residuals, g)``.

    Higher orders differentiate `bwd`, and `fwd` through the residuals. A variable that `fwd` uses without being given it
    as an argument would receive no gradient: that is refused.

    >>> import anynet as an
    >>> from anynet.autograd import custom_vjp
    >>> from anynet.autograd import grad
    >>> @custom_vjp
    ... def log1pexp(x):
    ...     return an.log(1.0 + an.exp(x))
    >>> log1pexp.defvjp(
    ...     lambda x: (log1pexp(x), x),
    ...     lambda x, g: (g / (1.0 + an.exp(-x)),),  # where exp(x) / (1 + exp(x)) would be inf / inf
    ... )
    >>> grad(log1pexp)(0.0)
    Tensor(0.5)
    """

    def __init__(self, f: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        self.f = f
        self.nondiff = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None
        self._running = threading.local()
        functools.update_wrapper(self, f)

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the forward function, which also gives what the backward function needs, and the backward function."""
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        name = getattr(self.f, "__name__", "custom_vjp")
        if self.fwd is None or self.bwd is None:
            msg = f"{name}: no gradient rule was given; call {name}.defvjp(fwd, bwd) first"
            raise GradientError(msg)
        if getattr(self._running, "inside", False):
            return self.f(*args)
        fixed = {i % len(args) for i in self.nondiff} if args else set()
        chosen = [x for i, x in enumerate(args) if i not in fixed]
        leaves = flatten(chosen)[0]
        traced = [isinstance(x, Tensor) and x.edge is not None for x in leaves]
        if not this_thread.recording or not any(traced):
            return self.f(*args)
        # fwd is recorded, so that the residuals can be differentiated; a call of this function in it computes f
        start = clock()
        self._running.inside = True
        try:
            result = self.fwd(*args)
        finally:
            self._running.inside = False
        outs, structure, residuals = _checked(name, result)
        given = [strip(x).edge for x in flatten(list(args))[0] if isinstance(x, Tensor)]
        if stranger := _captured([strip(y).edge for y in outs], given, start):
            msg = (
                f"{name}: fwd uses a variable that is no argument ({stranger}), which would receive no gradient; "
                "pass it as an argument, or use its detach()"
            )
            raise GradientError(msg)
        bwd = functools.partial(self.bwd, *[args[i] for i in sorted(fixed)], residuals)
        rule = _Rule(name, bwd, chosen, traced, [levels_of(y) for y in outs], structure)
        parents = [strip(x).edge if hit else None for x, hit in zip(leaves, traced, strict=True)]
        return unflatten(structure, recorded(name, outs, parents, rule.gradients))


def _checked(name: str, result: Any) -> tuple[list[Tensor], Any, Any]:
    """The outputs of fwd, their structure, and the residuals."""
    if not isinstance(result, tuple) or len(result) != 2:
        msg = f"{name}: fwd must return (y, residuals), got {type(result).__name__}"
        raise TypeError(msg)
    outs, structure = flatten(result[0])
    for y in outs:
        if not isinstance(y, Tensor):
            msg = f"{name}: fwd must return Tensors, got {type(y).__name__}"
            raise TypeError(msg)
    return outs, structure, result[1]


class _Rule:
    """The gradient rule of one call: `bwd`, which takes the gradient of the outputs, as the engine calls it."""

    def __init__(
        self, name: str, bwd: Callable[[Any], Any], chosen: list[Any], traced: list[bool], out_levels: list[Any],
        structure: Any
    ) -> None:  # fmt: skip
        self.name, self.bwd = name, bwd
        self.chosen = chosen  # the arguments that may be differentiated
        self.leaves, self.traced = flatten(chosen)[0], traced  # which of their leaves are
        self.levels = active_levels()
        self.structure = structure
        self.out_levels = out_levels

    def gradients(self, g: Any, differentiable: bool) -> list[Any]:
        """Those of the leaves of the arguments, from those of the outputs."""
        gs = g if isinstance(g, tuple) else (g,)
        if is_batched(*gs):
            msg = (
                f"{self.name}: vmap over a pullback through custom_vjp is not supported; call vjp inside vmap"
            )
            raise VmapError(msg)
        boxed = [
            rebatch(x if isinstance(x, Tensor) else wrap(x), at)
            for x, at in zip(gs, self.out_levels, strict=True)
        ]
        with running(self.levels):
            flat = self._flat(self.bwd(unflatten(self.structure, boxed)))
            return [
                _fitted(gi, x, self.name, differentiable) if hit else None
                for gi, x, hit in zip(flat, self.leaves, self.traced, strict=True)
            ]

    def _flat(self, got: Any) -> list[Any]:
        """The gradients that bwd gave, one for each leaf of the arguments."""
        if not isinstance(got, tuple) or len(got) != len(self.chosen):
            what = f"{len(got)} of them" if isinstance(got, tuple) else type(got).__name__
            msg = f"{self.name}: bwd must return a tuple of {len(self.chosen)} gradients, got {what}"
            raise GradientError(msg)
        flat: list[Any] = []
        for given, arg in zip(got, self.chosen, strict=True):
            n = len(flatten(arg)[0])
            parts = [None] * n if given is None else flatten(given)[0]
            if len(parts) != n:
                msg = f"{self.name}: bwd returned {len(parts)} gradients for an argument of {n} arrays"
                raise GradientError(msg)
            flat += parts
        return flat


def _fitted(g: Any, x: Tensor, name: str, differentiable: bool) -> Any:
    if g is None:
        return None
    if not isinstance(g, Tensor):
        g = wrap(g) if hasattr(g, "shape") else Tensor(g, dtype=x.dtype, device=x.device)
    if tuple(g.shape) != tuple(x.shape):
        msg = (
            f"{name}: bwd gave a gradient of shape {tuple(g.shape)} for an argument of shape {tuple(x.shape)}"
        )
        raise GradientError(msg)
    g = from_levels(g, levels_of(x))
    return g if differentiable else g._data
