"""What a language model remembers of a text while it writes on: keys and values of attention, or a recurrent state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.ops.creation import arange
from anynet.ops.elementwise import less_equal
from anynet.ops.manipulation import expand_dims
from anynet.tensor import Tensor, unwrap, wrap
from anynet_backends import backend_of, registry

__all__ = ["KeyValueCache", "RecurrentCache"]


class KeyValueCache:
    """Keys and values of the tokens so far, for each layer: (n, heads, tokens, features).

    `size` is the number of tokens that there is room for, `length` of those that are there. It holds no graph: it is for use within
    `anynet.no_grad`.
    """

    def __init__(self, layers: int, size: int) -> None:
        self.size, self.length = size, 0
        self._stored: list[tuple[Any, Any] | None] = [None] * layers

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember the keys and values of new tokens; those of all tokens. `advance` follows when all layers have theirs."""
        if k.requires_grad or v.requires_grad:
            msg = "a cache keeps no graph for gradients: call the model within anynet.no_grad()"
            raise RuntimeError(msg)
        a, b = self.length, self.length + k.shape[2]
        if b > self.size:
            msg = f"the cache has room for {self.size} tokens, got {self.length} and {k.shape[2]} more"
            raise ValueError(msg)
        stored = self._stored[layer]
        if stored is None:
            stored = self._stored[layer] = (_room(k, self.size), _room(v, self.size))
        if stored[0].shape[0] != k.shape[0]:
            msg = f"the cache is of {stored[0].shape[0]} texts at once, got {k.shape[0]}"
            raise ValueError(msg)
        for array, new in zip(stored, (k, v), strict=True):
            array[:, :, a:b, :] = unwrap(new)
        return wrap(stored[0][:, :, :b, :]), wrap(stored[1][:, :, :b, :])

    def advance(self, tokens: int) -> None:
        """All layers have so many tokens more."""
        self.length += tokens

    def reorder(self, rows: Sequence[int]) -> None:
        """Go on with these of the texts, in this order; one may come several times."""
        for stored in self._stored:
            for array in stored or ():
                xp = backend_of(array)
                index = xp.from_host(registry.asarray(list(rows), "int64"), xp.device_of(array))
                array[...] = xp.take(array, index, axis=0)

    def mask(self, tokens: int, device: str) -> Tensor | None:
        """What each of the new tokens sees: all before it, and itself; None where that is all there is."""
        if tokens == 1:
            return None
        places = arange(self.length + tokens, dtype=dtypes.int64, device=device)
        return less_equal(places, expand_dims(places[self.length :], axis=1))


def _room(like: Tensor, size: int) -> Any:
    plain = unwrap(like)
    xp = backend_of(plain)
    shape = (*plain.shape[:2], size, plain.shape[3])
    return xp.zeros(shape, dtype=plain.dtype, device=plain.device)


class RecurrentCache:
    """The state of recurrent layers after the tokens so far; there is room for any number of them."""

    size: float = math.inf

    def __init__(self) -> None:
        self.length, self.state = 0, None

    def advance(self, tokens: int, state: Any) -> None:
        """The state after so many tokens more."""
        self.length, self.state = self.length + tokens, state
