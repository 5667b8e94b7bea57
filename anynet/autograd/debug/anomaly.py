"""Report the operation that produced the first NaN or Inf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anynet.autograd.backward import observer
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.graph import Node, OutputEdge
from anynet.autograd.location import location, watching
from anynet.autograd.primitive import Primitive
from anynet.autograd.vmap import Batched, handle_batched
from anynet.tensor import Tensor, unwrap
from anynet_backends import backend_of, resolve

__all__ = ["AnomalyError", "anomaly"]


class AnomalyError(ArithmeticError):
    """A NaN or Inf appeared where there was none before."""


@contextmanager
def anomaly() -> Iterator[None]:
    """Within the block each operation and each gradient of this thread is checked; the first NaN or Inf raises `AnomalyError`.

    The message names the operation, the shapes of its inputs and the layer. An Inf that was there before (a mask of
    -inf, say) is not reported, a NaN always is. Every operation is read back, which is slow: for looking for a fault.

    >>> import anynet as an
    >>> from anynet.autograd import anomaly
    >>> with anomaly():
    ...     an.log(an.asarray([1.0, -1.0]))
    Traceback (most recent call last):
    anynet.autograd.debug.anomaly.AnomalyError: log(x: float32(2,)) gave NaN (1 of 2 elements)
    """

    watch = _Watch()

    def handle(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if any(isinstance(x, Tensor) and isinstance(x._data, Batched) for x in args):
            return handle_batched(prim, args, meta)
        if watch.node is not None:  # a part of a gradient rule, whose result is looked at
            return prim.bind(args, meta)
        xp = next((backend_of(d) for x in args if hasattr(d := unwrap(x), "dtype")), None)
        if xp is None:
            return prim.bind(args, meta)
        with xp.errstate():
            out = prim.bind(args, meta)
        for y in out if isinstance(out, tuple) else (out,):
            if isinstance(y, Tensor) and y.edge is not None:
                node = y.edge.node if type(y.edge) is OutputEdge else y.edge
                if isinstance(node, Node):
                    node.where = location()
            problem = _problem(y)
            if problem is None or (problem[0] == "Inf" and any(_problem(x) is not None for x in args)):
                continue
            names = (*prim.inputs, *(f"{prim.variadic}[{i}]" for i in range(len(args))))
            inputs = ", ".join(f"{n}: {_describe(x)}" for n, x in zip(names, args, strict=False))
            before = [
                n
                for n, x in zip(names, args, strict=False)
                if (p := _problem(x)) is not None and p[0] == "NaN"
            ]
            origin = f"; its input {before[0]} had NaN already: look at the data" if before else ""
            msg = f"{_place()}{prim.name}({inputs}) gave {_counted(problem)}{origin}"
            raise AnomalyError(msg)
        return out

    INTERCEPT.append(handle)
    observer.append(watch)
    try:
        with watching(), resolve("cpu")[0].errstate():  # the error says more than NumPy's warning
            yield
    finally:
        observer.remove(watch)
        INTERCEPT.remove(handle)


class _Watch:
    node: Node | None = None  # whose rule runs

    def before(self, node: Node, g: Any) -> None:
        self.node = node

    def after(self, node: Node, grads: Sequence[Any]) -> None:
        self.node = None
        for i, g in enumerate(grads):
            problem = _problem(g)
            if problem is not None:
                where = getattr(node, "where", "")
                msg = (
                    f"{f'in {where}: ' if where else ''}the gradient of {node.label} for its input {i} has "
                    f"{_counted(problem)}, shape {tuple(g.shape)}"
                )
                raise AnomalyError(msg)


def _place() -> str:
    layer = location()
    return f"in {layer}: " if layer else ""


def _describe(x: Any) -> str:
    d = unwrap(x)
    if hasattr(d, "dtype") and hasattr(d, "shape"):
        return f"{backend_of(d).dtype_name(d.dtype)}{tuple(d.shape)}"
    return repr(x)[:40]


def _problem(x: Any) -> tuple[str, int, int] | None:
    """("NaN" | "Inf", how many, of how many), or None for a finite or non-floating x."""
    d = unwrap(x)
    if isinstance(d, float):
        return ("NaN", 1, 1) if d != d else ("Inf", 1, 1) if d in (float("inf"), float("-inf")) else None
    if not hasattr(d, "dtype") or isinstance(d, Batched):
        return None
    xp = backend_of(d)
    if not xp.isdtype(d.dtype, ("real floating", "complex floating")) or bool(xp.all(xp.isfinite(d))):
        return None
    size = 1
    for n in d.shape:
        size *= n
    nans = int(xp.count_nonzero(xp.isnan(d)))
    return ("NaN", nans, size) if nans else ("Inf", int(xp.count_nonzero(xp.isinf(d))), size)


def _counted(problem: tuple[str, int, int]) -> str:
    kind, count, size = problem
    return f"{kind} ({count} of {size} elements)"
