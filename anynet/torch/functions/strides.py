"""How elements lie in memory, as PyTorch says it: of a tensor that operations have made, in order; of its views, as they show it."""

from __future__ import annotations

import math
from typing import Any

from anynet.ops.creation import arange
from anynet.ops.indexing import take
from anynet.ops.manipulation import concat, reshape
from anynet.tensor import unwrap
from anynet.torch.memory import above, dense, layout, memory_of, shows
from anynet.torch.sizes import FORMATS
from anynet.torch.table import offered
from anynet.torch.tensor import Tensor, adopt

_IN_ORDER = (
    "of the result of an operation, that of a tensor in order, where PyTorch may keep the order of the input"
)


@offered("x.stride()", "x.t().stride(0)", "b[:, 1:, ::2].stride()", function=False, differs=_IN_ORDER)
def stride(self: Any, dim: int | None = None) -> Any:
    steps = layout(self)[1]
    return steps if dim is None else steps[dim]


@offered("b[1, 1:].storage_offset()", function=False)
def storage_offset(self: Any) -> int:
    return layout(self)[0]


@offered("x.t().is_contiguous()", "x.is_contiguous()", function=False, differs=_IN_ORDER)
def is_contiguous(self: Any, memory_format: Any = None) -> bool:
    order = list(range(len(self.shape)))
    if memory_format is not None and memory_format.name.startswith("channels_last"):
        if len(order) != (5 if memory_format is FORMATS["channels_last_3d"] else 4):
            return False
        order = [0, *order[2:], 1]
    steps = layout(self)[1]
    return dense([self.shape[d] for d in order], [steps[d] for d in order], None)


@offered(
    "torch.as_strided(x, (2, 2), (1, 2))", "x.as_strided((3, 2), (1, 1), 2)", "x[1:].as_strided((2, 2), (4, 1))",
    "x.t().as_strided((2, 3), (1, 2))", differs="the strides are those of a tensor in order, and its views"
)  # fmt: skip
def as_strided(input: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    start = layout(input)[0] if storage_offset is None else storage_offset
    root, _, detached = above(input)
    lengths, steps = tuple(map(int, size)), tuple(map(int, stride))
    if len(lengths) != len(steps) or any(n < 0 for n in (*lengths, *steps, start)):
        msg = f"as_strided: size and stride must be as many numbers, none below 0, got {lengths}, {steps} and {start}"
        raise RuntimeError(msg)
    last = start + sum((n - 1) * s for n, s in zip(lengths, steps, strict=True))
    if math.prod(lengths) and last >= math.prod(root.shape):
        msg = f"as_strided: element {last} is out of bounds for memory of {math.prod(root.shape)} elements"
        raise RuntimeError(msg)
    place: Any = arange(1, device=root.device) * 0 + start
    for n, s in zip(lengths, steps, strict=True):
        place = reshape(place, (-1, 1)) + arange(n, device=root.device) * s
    place = reshape(place, (-1,))

    def again(x: Any) -> Any:
        return reshape(take(reshape(x, (-1,)), place), lengths)

    source = root.detach() if detached else root
    return shows(adopt(again(source)), source, again)


def _resized(self: Any, shape: tuple[int, ...]) -> Any:
    """x with another shape, in place: its first elements, and zeros where there are more."""
    if self.requires_grad or (
        (own := memory_of(self)) is not None
        and (own.parent is not None or next(own.live(), None) is not None)
    ):
        msg = "resize_: the tensor must not require a gradient or share its memory with another"
        raise RuntimeError(msg)
    flat, n = reshape(self, (-1,)), math.prod(shape)
    if (more := n - int(flat.shape[0])) > 0:
        flat = concat((flat, self.new_zeros(more)), axis=0)
    self._data = unwrap(reshape(flat[:n], shape))
    return self


def _resize_(self: Any, *sizes: Any, memory_format: Any = None) -> Any:
    """The tensor takes another shape: with its first elements, and zeros where there are more."""
    shape = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    return _resized(self, tuple(map(int, shape)))


def _resize_as_(self: Any, the_template: Any, *, memory_format: Any = None) -> Any:
    """`resize_` to the shape of another."""
    return _resized(self, tuple(the_template.shape))


Tensor.resize_, Tensor.resize_as_ = _resize_, _resize_as_  # type: ignore[attr-defined]
