"""Sums over processes, as differentiable functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynet.autograd.primitive import primitive
from anynet_backends import Array, Backend
from anynet_backends.concurrency import ThreadStack
from anynet_backends.jit.errors import CompileError, user_line

__all__ = ["all_sum", "statistics_group", "statistics_over"]


@primitive
def all_sum(xp: Backend, x: Array, /, *, group: Any) -> Array:
    """Σ_r x_r over the processes r of `group`, the same in each.

    `group` is any object whose ``allreduce(array)`` returns that sum, such as a communicator of mpi4py. The sum is linear, and
    its own transpose: L = Σ_r L_r depends on x_r through the outputs of all processes, so ∂L/∂x_r = Σ_q ∂L_q/∂y_q. All
    processes must therefore make the same calls in the same order, forward and backward.
    """
    if not xp.eager:
        msg = f"{user_line()}: a sum over processes cannot be part of a compiled function; call it without an.compile"
        raise CompileError(msg)
    return xp.asarray(group.allreduce(x), dtype=x.dtype)


all_sum.vjp(x=lambda g, group: all_sum(g, group=group))


_statistics: ThreadStack[Any] = ThreadStack("statistics_groups")


@contextmanager
def statistics_over(group: Any) -> Iterator[None]:
    """Within the block batch norms in training take the statistics of the batches of all processes of `group`, as `SyncBatchNorm` does."""
    _statistics.append(group)
    try:
        yield
    finally:
        _statistics.remove(group)


def statistics_group() -> Any:
    """The group of `statistics_over`, None outside of it."""
    own = _statistics.own if _statistics else None
    return own[-1] if own else None
