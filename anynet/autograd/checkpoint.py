"""checkpoint: recompute instead of store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet import random
from anynet.autograd.backward import backprop
from anynet.autograd.graph import GradientError, OutputEdge, custom_node, walk
from anynet.autograd.pytree import flatten, unflatten
from anynet.autograd.vmap import active_levels, levels_of, rebatch, running, strip
from anynet.tensor import Leaf, Tensor, clock, mode, wrap

__all__ = ["checkpoint"]


def checkpoint(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``f(*args, **kwargs)``, of which only the results are kept: the backward pass computes f once more.

    Trades time (one more forward pass of f) for memory (what f's operations keep is not held between the passes).
    Gradients flow to the arguments and to every variable that f uses, such as the parameters of a Module, to any
    order. Random numbers (dropout) are the same both times. f must otherwise be a function of its arguments: what it
    writes, such as running statistics, is written twice.

    Source: Chen, Xu, Zhang, Guestrin, Training deep nets with sublinear memory cost, 2016.

    >>> import anynet as an
    >>> from anynet.autograd.checkpoint import checkpoint
    >>> x = an.asarray([1.0, 2.0], requires_grad=True)
    >>> an.sum(checkpoint(lambda x: an.exp(an.sin(x)), x)).backward()
    >>> bool(an.all(an.abs(x.grad - an.exp(an.sin(x)) * an.cos(x)) < 1e-6))
    True
    """
    if not mode.recording:
        return f(*args, **kwargs)
    with random.apart() as state:
        start = clock()
        leaves, structure = flatten(f(*args, **kwargs))
    inside = [
        k
        for k, y in enumerate(leaves)
        if isinstance(y, Tensor) and (e := strip(y).edge) is not None and e.seq > start
    ]
    # the edges at which what f computed meets what was there before
    boundary: dict[Any, None] = {}
    for edge in walk([strip(leaves[k]).edge for k in inside], start):
        if type(edge) is not Leaf:
            boundary.update((p, None) for p in edge.parents if p is not None and p.seq < start)
    if not inside or not boundary:
        return unflatten(structure, leaves)
    targets = list(boundary)
    levels = active_levels()
    name = f"checkpoint({getattr(f, '__name__', None) or type(f).__name__})"

    def rule(g: Any, differentiable: bool) -> list[Any]:
        for edge in targets:
            if type(edge) is Leaf and edge.written > node.seq:
                msg = (
                    f"a variable{f' ({edge.name})' if edge.name else ''} that {name} has to compute with again was "
                    "overwritten after the forward pass (by optimizer.step() or assign_); call backward() before"
                )
                raise GradientError(msg)
        recording = mode.recording
        mode.recording = True
        try:
            with running(levels), random.fork_rng():
                random.rewind(state)
                again = flatten(f(*args, **kwargs))[0]
        finally:
            mode.recording = recording
        gs = g if isinstance(g, tuple) else (g,)
        roots = [(strip(again[k]).edge, gi) for k, gi in zip(inside, gs, strict=True)]
        if any(edge is None for edge, _ in roots):
            msg = f"{name}: computed again, a result does not depend on the variables; f must do the same every time"
            raise GradientError(msg)
        grads = backprop(roots, targets=targets, create_graph=differentiable, retain_graph=differentiable)
        return grads or []

    physical = [strip(leaves[k])._data for k in inside]
    node = custom_node(name, physical[0] if len(physical) == 1 else tuple(physical), targets, rule)
    for i, (k, data) in enumerate(zip(inside, physical, strict=True)):
        new = wrap(data)
        new.edge = OutputEdge(node, i) if node.count else node
        leaves[k] = rebatch(new, levels_of(leaves[k]))
    return unflatten(structure, leaves)
