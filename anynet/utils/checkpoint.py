"""Recompute instead of store, under PyTorch's path, names and arguments (torch.utils.checkpoint)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynet.autograd.checkpoint import checkpoint as _checkpoint
from anynet.nn.containers import Sequential

__all__ = ["checkpoint", "checkpoint_sequential"]


def checkpoint(
    function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """``function(*args, **kwargs)`` whose intermediate arrays are computed again in the backward pass instead of being kept.

    `use_reentrant` chooses between PyTorch's two ways of doing so; there is one here, and both words are taken.

    >>> import anynet as an
    >>> x = an.asarray([1.0, 2.0], requires_grad=True)
    >>> an.sum(an.utils.checkpoint.checkpoint(lambda v: an.exp(v * v), x, use_reentrant=False)).backward()

    Source: Chen et al.: Training deep nets with sublinear memory cost (2016).
    """
    return _checkpoint(function, *args, **kwargs)


def checkpoint_sequential(
    functions: Sequential | Sequence[Callable[[Any], Any]],
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
) -> Any:
    """Functions one after the other in `segments` parts of equal length; of all parts but the last only the input is kept.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(3, 3), an.nn.Tanh(), an.nn.Linear(3, 1))
    >>> an.utils.checkpoint.checkpoint_sequential(net, 2, an.ones((4, 3))).shape
    (4, 1)
    """
    steps: list[Callable[[Any], Any]] = list(functions)
    if not 1 <= segments <= max(len(steps), 1):
        msg = f"checkpoint_sequential: segments must be between 1 and {len(steps)}, the number of functions, got {segments}"
        raise ValueError(msg)

    def part(run: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            for f in run:
                x = f(x)
            return x

        return forward

    size = len(steps) // segments
    for start in range(0, size * (segments - 1), size):
        input = _checkpoint(part(steps[start : start + size]), input)
    return part(steps[size * (segments - 1) :])(input)
