"""Checkpointing: recompute instead of store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet import streams
from anynet.autograd.backward import backprop
from anynet.autograd.graph import GradientError, walk
from anynet.autograd.pytree import flatten, unflatten
from anynet.autograd.vmap import active_levels, recorded, running, strip
from anynet.tensor import Leaf, Tensor, clock
from anynet_backends.concurrency import this_thread

__all__ = ["checkpoint"]


def checkpoint(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``f(*args, **kwargs)``, of which only the results are kept: the backward pass computes f once more.

    Trades time (one more forward pass of f) for memory (what f's operations keep is not held between the passes).
    Gradients flow to the arguments and to every variable that f uses, such as the parameters of a Module, to any
    order. Random numbers (dropout) are the same both times. f must otherwise be a function of its arguments: what it
    writes, such as running statistics, is written twice.

    Source: Chen, Xu, Zhang, Guestrin, Training deep nets with sublinear memory cost, 2016.

    >>> import anynet as an
    >>> from anynet.autograd import checkpoint
    >>> x = an.asarray([1.0, 2.0], requires_grad=True)
    >>> an.sum(checkpoint(lambda x: an.exp(an.sin(x)), x)).backward()
    >>> bool(an.all(an.abs(x.grad - an.exp(an.sin(x)) * an.cos(x)) < 1e-6))
    True
    """
    if not this_thread.recording:
        return f(*args, **kwargs)
    with streams.isolated() as state:
        start = clock()
        leaves, structure = flatten(f(*args, **kwargs))
    # the results that f has computed, and the edges at which they depend on what was there before
    inside = [
        k
        for k, y in enumerate(leaves)
        if isinstance(y, Tensor) and (e := strip(y).edge) is not None and e.seq > start
    ]
    targets = _boundary([strip(leaves[k]).edge for k in inside], start)
    if not inside or not targets:
        return unflatten(structure, leaves)
    again = _Recomputation(f, args, kwargs, state, inside, targets)
    again.made = clock()
    for k, y in zip(
        inside, recorded(again.name, [leaves[k] for k in inside], targets, again.gradients), strict=True
    ):
        leaves[k] = y
    return unflatten(structure, leaves)


def _boundary(edges: list[Any], start: int) -> list[Any]:
    """The edges made before `start` on which those made since depend directly."""
    found: dict[Any, None] = {}
    for edge in walk(edges, start):
        if type(edge) is not Leaf:
            found.update((p, None) for p in edge.parents if p is not None and p.seq < start)
    return list(found)


class _Recomputation:
    """The gradient rule of a checkpoint: compute f again, and walk back from its results to `targets`."""

    made = 0  # when the node was made

    def __init__(
        self, f: Callable[..., Any], args: Any, kwargs: Any, state: Any, inside: list[int], targets: list[Any]
    ) -> None:
        self.f, self.args, self.kwargs, self.state = f, args, kwargs, state
        self.inside, self.targets = inside, targets
        self.levels = active_levels()
        self.name = f"checkpoint({getattr(f, '__name__', None) or type(f).__name__})"

    def gradients(self, g: Any, differentiable: bool) -> list[Any]:
        """Those of `targets`, from those of the results."""
        self._check_unwritten()
        again = self._computed_again()
        gs = g if isinstance(g, tuple) else (g,)
        roots = [(strip(again[k]).edge, gi) for k, gi in zip(self.inside, gs, strict=True)]
        if any(edge is None for edge, _ in roots):
            msg = (
                f"{self.name}: computed again, a result does not depend on the variables; f must do the same "
                "every time"
            )
            raise GradientError(msg)
        grads = backprop(
            roots,
            targets=self.targets,
            create_graph=differentiable,
            retain_graph=differentiable,
            rows=not differentiable,
        )
        return grads or []

    def _check_unwritten(self) -> None:
        for edge in self.targets:
            if type(edge) is Leaf and edge.written > self.made:
                msg = (
                    f"a variable{f' ({edge.name})' if edge.name else ''} that {self.name} has to compute with again was "
                    "overwritten after the forward pass (by optimizer.step() or assign_); call backward() before"
                )
                raise GradientError(msg)

    def _computed_again(self) -> list[Any]:
        """The leaves of f's result, recorded, with the same random numbers."""
        recording = this_thread.recording
        this_thread.recording = True
        try:
            with running(self.levels), streams.fork_rng():
                streams.rewind(self.state)
                return flatten(self.f(*self.args, **self.kwargs))[0]
        finally:
            this_thread.recording = recording
