"""Kernels: what computes a primitive on one kind of arrays, as records in tables by the name of the primitive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Kernel", "KernelTable", "lowers", "register_in"]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of a primitive: ``forward(xp, *arrays, **metadata)`` gives its result, or NotImplemented, and the `fallback` runs.

    `takes`: ``takes(dtype, *arrays, need=…, **metadata)``, whether it computes arrays of these shapes if they are of the dtype of that
    name, where that matters before it is called: to programs, which have the reference in its place otherwise, and to `precision`.
    `vjp`: whether it takes `need`, too, and gives ``(y, pullback)`` where that is not None. `traceable`: it runs on traced arrays: it
    creates arrays with `xp` and `xp.call` alone, and writes into none. `lower`: ``lower(target, *arrays, **metadata)`` gives the calls
    that write its result into a place of a compiled program, or None. `min_bytes`, `min_batch`: from which size of arrays, or number of
    samples, it is quicker than what there is without it.
    """

    forward: Callable[..., Any]
    vjp: bool = False
    traceable: bool = False
    lower: Callable[..., Any] | None = None
    takes: Callable[..., bool] | None = None
    min_bytes: int = 0
    min_batch: int = 1
    fallback: Kernel | None = None

    def before(self, other: Kernel | None) -> Kernel:
        """This kernel, and `other` where it and its fallbacks do not take the arguments. Both have gradients."""
        if other is None:
            return self
        return dataclasses.replace(
            self, fallback=other if self.fallback is None else self.fallback.before(other)
        )

    def alternatives(self) -> tuple[Kernel, ...]:
        """It and its fallbacks, each by itself, in the order in which they are asked."""
        alone = dataclasses.replace(self, fallback=None)
        return (alone,) if self.fallback is None else (alone, *self.fallback.alternatives())

    def function(self) -> Callable[..., Any]:
        """It and its fallbacks as one function."""
        first = self.forward
        if self.fallback is None:
            return first
        second = self.fallback.function()

        def run(xp: Any, *data: Any, **meta: Any) -> Any:
            y = first(xp, *data, **meta)
            return second(xp, *data, **meta) if y is NotImplemented else y

        return run

    def __call__(self, xp: Any, *data: Any, **meta: Any) -> Any:
        return self.function()(xp, *data, **meta)


KernelTable = dict[str, Kernel]
"""By the name of the primitive."""


class _Register:
    """The decorator that `register_in` gives."""

    def __init__(self, table: KernelTable, shared: dict[str, Any]) -> None:
        self.table, self.shared = table, shared

    def __call__(self, function: _F) -> _F:
        """Register the function."""
        self.table[function.__name__] = Kernel(function, vjp=True, **self.shared)
        return function

    def having(self, **options: Any) -> _Register:
        """The decorator for kernels that have these, too."""
        return _Register(self.table, {**self.shared, **options})


def register_in(table: KernelTable, **shared: Any) -> _Register:
    """A decorator that registers kernels with gradients in a table, by their names: ``@kernel``, or ``@kernel.having(min_bytes=4096)`` with
    what `Kernel` has. `shared`: the same for all."""
    return _Register(table, shared)


def lowers(table: KernelTable, name: str) -> Callable[[_F], _F]:
    """A decorator for the function that `lower` of a kernel is to be."""

    def enter(function: _F) -> _F:
        table[name] = dataclasses.replace(table[name], lower=function)
        return function

    return enter
