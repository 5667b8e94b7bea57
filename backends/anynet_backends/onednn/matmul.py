"""Matrix products."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from anynet_backends import products as numpy_products
from anynet_backends.array_api import Array
from anynet_backends.onednn.layouts import FLOAT32, Ints, contiguous_strides
from anynet_backends.onednn.library import MAX_DIMS, OneDNNError
from anynet_backends.onednn.primitive import DescriptorOwner, PlanCache, Step

LARGE: Final = 1 << 18
"""The least number of multiplications from which on oneDNN is used."""


def element_strides(shape: Ints, strides: Ints) -> Ints | None:
    """The strides, in elements, of a stack of row-major or column-major matrices; None for other arrays."""
    (*stack, rows, cols), (*outer, down, right) = shape, strides
    if right == 4 and down >= 4 * cols and down % 4 == 0:
        inner = (down // 4 if rows > 1 else cols, 1)
        extent = rows * inner[0]
    elif down == 4 and right >= 4 * rows and right % 4 == 0:
        inner = (1, right // 4 if cols > 1 else rows)
        extent = cols * inner[1]
    else:
        return None
    steps: list[int] = []
    for n, step in zip(reversed(stack), reversed(outer), strict=True):
        if n > 1 and (step <= 0 or step % 4):
            return None
        steps.append(step // 4 if n > 1 else extent)
        extent = max(extent, n * steps[-1])
    return (*reversed(steps), *inner)


class Product(DescriptorOwner):
    """Products of matrices, one or a stack: ``a b``, or ``a b`` with a vector added to each row."""

    def __init__(
        self,
        a: Ints,
        a_steps: Ints,
        b: Ints,
        b_steps: Ints,
        steps: Ints | None,
        plus: bool,
    ) -> None:
        super().__init__()
        self.shape = (*a[:-1], b[-1])
        each = (*(1,) * (len(a) - 1), b[-1])
        layouts: dict[str, Any] = {
            "src": self.layout(a, a_steps),
            "weights": self.layout(b, b_steps),
            "dst": self.layout(self.shape, steps or contiguous_strides(self.shape)),
        }
        if plus:
            layouts["bias"] = self.layout(each, contiguous_strides(each))
        src, weights, dst, bias = (layouts.get(name) for name in ("src", "weights", "dst", "bias"))
        pd = self.described("matmul", src, weights, bias, dst)
        if self.dnnl.is_reference(pd):
            msg = "oneDNN has only its reference implementation for this product"
            raise OneDNNError(msg)
        self.step = Step(self.dnnl, pd, **layouts)


def _product(
    a: Ints, a_strides: Ints, b: Ints, b_strides: Ints, strides: Ints | None, plus: bool
) -> Product | None:
    """The plan for a product, or None if the library has no fast one."""
    if a[:-2] != b[:-2] or a[-1] != b[-2] or len(a) > MAX_DIMS:
        return None
    left, right = element_strides(a, a_strides), element_strides(b, b_strides)
    steps = None if strides is None else element_strides((*a[:-1], b[-1]), strides)
    if left is None or right is None or (strides is not None and steps is None):
        return None
    return Product(a, left, b, right, steps, plus)


_products = PlanCache(_product)


def product(out: Array | None, a: Array, b: Array, c: Array | None = None) -> Product | None:
    """The plan for a b, or a b + c, of float32, written into `out` if that is given; None if NumPy computes it."""
    if a.ndim < 2 or b.ndim < 2 or a.size * b.shape[-1] < LARGE or not a.dtype == FLOAT32 == b.dtype:
        return None
    if 1 in a.shape[-2:] or b.shape[-1] == 1:  # a product with a vector takes as long as reading the matrix
        return None
    if c is not None and (c.dtype != FLOAT32 or c.shape != b.shape[-1:] or c.strides != (4,)):
        return None
    strides = None if out is None or out.flags.c_contiguous else out.strides
    plan: Product | None = _products(a.shape, a.strides, b.shape, b.strides, strides, c is not None)
    if plan is None or out is None:
        return plan
    return plan if out.shape == plan.shape and out.dtype == FLOAT32 else None


def matmul(a: Array, b: Array, /, out: Array | None = None) -> Array:
    """`np.matmul`, with oneDNN for all but small float32 products."""
    plan = product(out, a, b)
    if plan is None:
        return numpy_products.matmul(a, b, out)
    if out is None:
        out = np.empty(plan.shape, np.float32)
    plan.step.run(a, b, out)
    return out


def affine(a: Array, b: Array, c: Array, /, out: Array | None = None) -> Array:
    """``a b + c``, in one call if oneDNN supports it."""
    plan = product(out, a, b, c)
    if plan is None:
        out = numpy_products.matmul(a, b, out)
        out += c
        return out
    if out is None:
        out = np.empty(plan.shape, np.float32)
    plan.step.run(a, b, out, c)
    return out
