"""Tables of kernels, by the name of the primitive they replace, and fallback from one kernel to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["first_supported", "register_in"]


def register_in(
    table: dict[str, Callable[..., Any]], *, traceable: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that registers kernels with gradients in a table, by their names. Those that are `traceable` run on traced arrays,
    too: they create arrays with `xp` and `xp.call` alone, and write into none."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        function.vjp, function.traceable = True, traceable  # type: ignore[attr-defined]
        table[function.__name__] = function
        return function

    return enter


def first_supported(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that tries `first`, and `second` where `first` does not support the arguments. Both have gradients."""

    def kernel(xp: Any, *data: Any, **meta: Any) -> Any:
        y = first(xp, *data, **meta)
        return second(xp, *data, **meta) if y is NotImplemented else y

    kernel.vjp = True  # type: ignore[attr-defined]
    kernel.first, kernel.second = first, second  # type: ignore[attr-defined]
    return kernel
