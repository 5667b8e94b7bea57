"""Shapes and devices as PyTorch has them: a tuple that counts, a name that has a type and a number."""

from __future__ import annotations

import math
from typing import Any, SupportsIndex

__all__ = ["FORMATS", "Size", "device", "memory_format"]


class Size(tuple[int, ...]):
    """A shape: a tuple of lengths, which knows how many elements they make.

    >>> Size((2, 3)).numel(), Size((2, 3))[1:]
    (6, torch.Size([3]))
    """

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self)

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found: Any = tuple.__getitem__(self, key)
        return Size(found) if isinstance(key, slice) else found

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"


class Count(int):
    """`Tensor.size`: the number of elements, as the array API has it, and a method, as PyTorch has it."""

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        return Size(self.shape) if dim is None else self.shape[dim]


class device(str):
    """A device by its name, ``"cpu"``, ``"cuda"``, ``"cuda:1"``: a string of anynet's with PyTorch's attributes.

    >>> device("cuda", 1).type, device("cuda:1").index, device("cpu") == "cpu"
    ('cuda', 1, True)
    """

    __slots__ = ()

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        """The device of a name, of a kind and a number, or of a number alone (a CUDA device)."""
        if isinstance(type, int):
            type, index = "cuda", type
        name = str.__str__(type) if isinstance(type, str) else str(type)
        return str.__new__(cls, name if index is None else f"{name}:{index}")

    @property
    def type(self) -> str:
        """What it is, without a number."""
        return str.__str__(self).partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """Its number, None where the name has none."""
        number = self.partition(":")[2]
        return int(number) if number.isdigit() else None

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (f", index={self.index})" if self.index is not None else ")")


class memory_format:
    """In which order the axes of a tensor lie in memory. Accepted wherever PyTorch takes one, where it changes nothing: tensors lie in the
    order of their axes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


FORMATS = {
    name: memory_format(name)
    for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
}
"""Those that there are."""
