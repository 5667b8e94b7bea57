"""NumPy arrays on the host: bytes, text, and the state of NumPy's own random generators.

anynet imports no array library; what it needs of NumPy on the host is here and in `philox`.
"""

from __future__ import annotations

import importlib
import io
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from anynet_backends.concurrency import once

if TYPE_CHECKING:
    from collections.abc import Callable

    from anynet_backends.array_api import Array

__all__ = [
    "Generators", "einsum_path", "from_bytes", "from_npy", "is_generator", "numbers_of", "one_thread", "own", "random_keeper",
    "random_state", "reseed", "text", "to_bytes",
]  # fmt: skip


# ---- arrays and bytes ----


def einsum_path(subscripts: str, shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """In which order `numpy.einsum` multiplies operands of these shapes, pair by pair."""
    nothing = np.zeros(())
    path = np.einsum_path(
        subscripts, *(np.broadcast_to(nothing, shape) for shape in shapes), optimize="greedy"
    )
    return [tuple(int(i) for i in pair) for pair in path[0][1:]]


def own(a: Array) -> Array:
    """An unpickled array like any other: of NumPy's own class and dtype object (pickle creates new dtype objects, and fast paths
    compare by identity), and writeable (one that is mapped from a file, say, is copied)."""
    array: np.ndarray[Any, Any] = np.asarray(a, dtype=np.dtype(a.dtype.name))
    return array if array.flags.writeable else array.copy()


def numbers_of(values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The values with each scalar of NumPy as a number of Python; None where there is none."""
    if not any(isinstance(x, np.generic) for x in values):
        return None
    return tuple([x.item() if isinstance(x, np.generic) else x for x in values])


def from_bytes(data: bytes | bytearray | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """A new array from little-endian bytes in C order; ValueError where the number of bytes does not fit."""
    kind = np.dtype(dtype).newbyteorder("<")
    expected = math.prod(shape) * kind.itemsize
    if len(memoryview(data).cast("B")) != expected:
        msg = (
            f"from_bytes: {dtype} of shape {tuple(shape)} takes {expected} bytes, got "
            f"{memoryview(data).nbytes}"
        )
        raise ValueError(msg)
    return np.frombuffer(data, dtype=kind).astype(dtype).reshape(shape)


def from_npy(data: bytes | bytearray) -> Array:
    """The array of a file in NumPy's .npy format; ValueError for what is none, and for Python objects, which would be unpickled."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def to_bytes(a: Array) -> bytes:
    """The little-endian bytes of a NumPy array in C order."""
    array: np.ndarray[Any, Any] = np.asarray(a)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def ulps(a: Array, b: Array) -> int:
    """The largest difference of two arrays in units in the last place (of integers: the largest difference); 0 only for the same bits,
    the largest integer for other shapes, dtypes, or a NaN on one side."""
    x: np.ndarray[Any, Any] = np.ascontiguousarray(a)
    y: np.ndarray[Any, Any] = np.ascontiguousarray(b)
    most = np.iinfo(np.int64).max
    if x.shape != y.shape or x.dtype != y.dtype:
        return int(most)
    if x.tobytes() == y.tobytes():
        return 0
    if x.dtype.kind == "c":
        x, y = (v.view(v.real.dtype) for v in (x, y))
    if x.dtype.kind != "f":
        return max(1, int(np.max(np.abs(x.astype(object) - y.astype(object)))))
    if bool(np.any(np.isnan(x) != np.isnan(y))):
        return int(most)
    whole = np.dtype(f"i{x.dtype.itemsize}")

    def steps(
        v: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any]:  # the position of each number among all, from the smallest
        bits = v.reshape(-1).view(whole).astype(object)
        return np.where(v.reshape(-1) >= 0, bits, -(bits - np.iinfo(whole).min))

    other = x.reshape(-1).view(whole) != y.reshape(-1).view(whole)
    apart = np.abs(steps(x.reshape(-1)[other]) - steps(y.reshape(-1)[other]))
    return max(1, min(int(most), int(np.max(apart))))


# ---- NumPy's random generators ----


@once
def _imported(module: str) -> Any:
    """A module that is imported by one thread, while no process is forked: a child of the middle of it could never import it."""
    return importlib.import_module(module)


def _legacy() -> Any:
    """NumPy's module of generators, which is imported when it is first asked for; its stubs lack some names."""
    return _imported("numpy.random")


def is_generator(obj: object) -> bool:
    """Whether `obj` is a random generator of NumPy."""
    return isinstance(obj, (_legacy().Generator, _legacy().RandomState))


def random_state(generator: Any = None) -> Any:
    """The state of a NumPy generator (by default the global one of ``numpy.random``), as a value to compare."""
    if isinstance(generator, _legacy().Generator):
        return repr(generator.bit_generator.state)
    source = _legacy() if generator is None else generator
    name, key, *rest = source.get_state(legacy=True)
    return name, key.tobytes(), *rest


def random_keeper(generator: Any = None) -> Callable[[], None]:
    """A function that restores the present state of a NumPy generator."""
    if isinstance(generator, _legacy().Generator):
        bits, state = generator.bit_generator, generator.bit_generator.state
        return lambda: setattr(bits, "state", state)
    source: Any = _legacy() if generator is None else generator
    legacy = source.get_state(legacy=True)
    return lambda: source.set_state(legacy)


def text(a: Array, prefix: str = "") -> str:
    """The elements as text; long arrays are abridged."""
    return str(np.array2string(np.asarray(a), separator=", ", prefix=prefix))


class Generators:
    """The process's generators of Python, NumPy and PyTorch (if it is loaded), begun at a seed: within ``with`` they take the place of
    those outside, and go on where they were when they are entered again, unless that is but `once`. Outside, everything is as it was, but
    that the second of two normal numbers which NumPy's legacy functions draw at a time is drawn again."""

    def __init__(self, seed: int, *, once: bool = False) -> None:
        self.seed, self.once = seed, once
        self.numpy: Any = None  # exchanged, which is a hundred times quicker than copying its state
        self.python: Any = None
        self.torch: Any = None

    def __enter__(self) -> None:
        random = _imported("random")  # not above: it imports a dozen modules, and few programs need it
        torch = _torch()
        self.outside = (
            random.getstate(), _legacy().get_bit_generator(), None if torch is None else torch.get_rng_state(),
        )  # fmt: skip
        if self.numpy is None:
            self.numpy = _spare.pop() if _spare else _legacy().MT19937(0)
            _legacy().set_bit_generator(self.numpy)
            reseed(self.seed)
            return
        random.setstate(self.python)
        _legacy().set_bit_generator(self.numpy)
        if torch is not None and self.torch is not None:
            torch.set_rng_state(self.torch)

    def __exit__(self, *_: object) -> None:
        random = _imported("random")
        torch = _torch()
        used = _legacy().get_bit_generator()
        if not self.once:  # a copy of a state takes as long as a dozen draws
            self.python, self.numpy = random.getstate(), used
        elif isinstance(used, _legacy().MT19937):  # what was drawn from may have put another in its place
            _spare.append(used)
        python, numpy, state = self.outside
        random.setstate(python)
        _legacy().set_bit_generator(numpy)
        if torch is not None and state is not None:
            self.torch = None if self.once else torch.get_rng_state()
            torch.set_rng_state(state)


_spare: list[Any] = []
"""Generators of NumPy's that are used again: to make one takes fifty times as long as to begin one anew."""


def reseed(seed: int) -> None:
    """Begin the process's generators anew."""
    random = _imported("random")
    random.seed(seed)
    _legacy().seed(seed & 0xFFFFFFFF)
    torch = _torch()
    if torch is not None and torch.cuda.is_initialized():
        torch.manual_seed(seed)
    elif torch is not None:  # the same on the CPU, and a hundred times as quick
        torch.default_generator.manual_seed(seed)


def _torch() -> Any:
    """PyTorch, if it is loaded; `anynet.torch.install` puts another module at its name."""
    torch = sys.modules.get("torch")
    return torch if getattr(torch, "__name__", "") == "torch" else None


def one_thread() -> None:
    """Let PyTorch, if it is loaded, compute on this thread alone: OpenMP's other threads do not exist in a forked process."""
    torch = _torch()
    if torch is not None:
        torch.set_num_threads(1)
