"""Precision of products: float32 numbers whose products are computed in fewer bits.

Within a block of `precision` the operands of matrix products, linear layers, convolutions and attention are rounded, and everything else
(sums, normalization, softmax, losses, what is added and multiplied element by element, the steps of recurrent layers, optimizers) stays
in float32.
Parameters are float32 and so are their gradients; a gradient that flows back into a product is rounded as its operands are.

| name | operands | result | bits of the mantissa | largest number |
| --- | --- | --- | --- | --- |
| float32 | as they are | float32 | 24 | 3.4e38 |
| tf32 | nearest, ties away from zero | float32 | 11 | 3.4e38 |
| mixed-bf16 | nearest, ties to even | rounded as well | 8 | 3.4e38 |
| mixed-fp16 | nearest, ties to even | rounded as well | 11 | 65,504 |

A backend that multiplies in 16 bits itself (`Backend.short_products`) does so. Everywhere else the operands are rounded in place and the
product is taken in float32: the numbers of a tensor core, which adds up in float32. A backend may then use one (`Backend.computing`):
cuBLASLt, of linear layers forward and backward, and of other products forward. Attention is computed in 16 bits where the backend has a
kernel for it (cuDNN, of long sequences), which rounds the weights, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from anynet import dtypes
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import Primitive, primitive
from anynet.ops.manipulation import astype
from anynet.tensor import Tensor, unwrap
from anynet_backends import Array, Backend, backend_of
from anynet_backends.concurrency import ThreadStack

__all__ = ["ROUNDED", "SHORT", "current", "precision", "rounds"]

SHORT = {"tf32": "tf32", "mixed-bf16": "bfloat16", "mixed-fp16": "float16"}
"""The number format of the products of each precision that is not float32."""

ROUNDED = ("linear", "matmul", "conv", "conv_transpose", "attention")
"""The primitives whose operands are rounded."""

_MODES: ThreadStack[str] = ThreadStack("precisions")


@primitive
def rounded(xp: Backend, x: Array, /, *, forward: str | None, backward: str | None) -> Array:
    """float32 numbers rounded to the format `forward`, and their gradient to `backward`; None: as they are."""
    if forward is None:
        return xp.asarray(x, copy=True)
    # one instruction of a compiled program: while it is traced there are no bits to look at
    return xp.call(functools.partial(_round, forward), x)


def _round(kind: str, x: Array) -> Array:
    return backend_of(x).rounded(x, kind)


rounded.vjp(x=lambda g, forward, backward: rounded(g, forward=backward, backward=forward))
rounded.elementwise = True
rounded.compilable = rounded.blockable = False


def current() -> str:
    """The precision of products here: that of the innermost block of `precision`."""
    return _MODES.own[-1] if _MODES and _MODES.own else "float32"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Within the block products of float32 are computed in the precision `name`; nested, the innermost block counts.

    "tf32" and "mixed-bf16", "mixed-fp16" (mixed precision) round the operands of matrix products, linear layers, convolutions and
    attention, and of the products of recurrent layers with their inputs; "float32" switches that off. Sums, normalization, softmax, losses,
    the steps of recurrent layers and all else are in float32. Arrays of other dtypes are as without it. The backward pass stands outside of
    the block; "mixed-fp16" needs a loss that is scaled, so that small gradients are not 0: `fit(precision="mixed-fp16")` does that, and
    skips updates whose gradients overflow.

    Where the backend has no products in 16 bits (NumPy) the numbers are those, but not the speed: operands are rounded, and the product
    is taken in float32. A compiled function (`anynet.compile`) that is called within the block runs as it is.

    >>> import anynet as an
    >>> x = an.asarray([[1.0 + 2.0**-9]])
    >>> with an.precision("mixed-bf16"):
    ...     an.matmul(x, an.ones((1, 1)))
    Tensor([[1.]])
    >>> an.matmul(x, an.ones((1, 1)))
    Tensor([[1.0019531]])

    Errors: ValueError for another name; a model in float64 is made by `model.to("float64")`.

    Source: Micikevicius et al., Mixed precision training (ICLR 2018).
    """
    if name != "float32" and name not in SHORT:
        known = ", ".join(repr(n) for n in ("float32", *SHORT))
        msg = f"precision: name must be one of {known}, got {name!r}"
        raise ValueError(msg)
    _MODES.append(name)
    try:
        if name == "float32":
            yield
            return
        handle = _Products(name)
        INTERCEPT.append(handle)
        try:
            yield
        finally:
            INTERCEPT.remove(handle)
    finally:
        _MODES.pop()


def rounds() -> bool:
    """Whether this thread is in a block whose products are rounded."""
    return bool(_MODES) and bool(_MODES.own) and _MODES.own[-1] != "float32"


class _Products:
    """The interceptor of a block."""

    changes_values = True
    """A compiled program would not notice it."""

    def __init__(self, name: str) -> None:
        self.name, self.kind = name, SHORT[name]
        self.depth = len(_MODES.own)
        self.below: Callable[..., Any] = INTERCEPT.own[-1] if INTERCEPT and INTERCEPT.own else Primitive.bind

    def __call__(self, prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if prim.name not in ROUNDED or len(_MODES.own) != self.depth:  # or a block within this one counts
            return self.below(prim, args, meta)
        real = [x for x in args if isinstance(x, Tensor) and x.dtype.is_floating]
        if not real or any(x.dtype is not dtypes.float32 for x in real):
            return self.below(prim, args, meta)
        xp = backend_of(unwrap(real[0]))
        need = tuple([isinstance(x, Tensor) and x.edge is not None for x in args])
        short = xp.multiplies_short(
            self.kind, prim.name, *map(unwrap, args), need=need if any(need) else None, **meta
        )
        operands = tuple([self._operand(x, short) for x in args])
        # within attention there are products of what was not rounded
        with nullcontext() if prim.name == "attention" else xp.computing(self.kind):
            y = self.below(prim, operands, meta)
        return self._result(y, short)

    def _operand(self, x: Any, short: bool) -> Any:
        if not (isinstance(x, Tensor) and x.dtype is dtypes.float32):
            return x
        if short:
            return astype(x, self.kind)
        back = None if self.kind == "tf32" else self.kind
        return self.below(rounded, (x,), {"forward": self.kind, "backward": back})

    def _result(self, y: Any, short: bool) -> Any:
        if short:
            return astype(y, dtypes.float32)
        forward = None if self.kind == "tf32" else self.kind
        return self.below(rounded, (y,), {"forward": forward, "backward": self.kind})
