"""What a user calls things: the names of variables where `explain` was called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anynet.nn.module import Module
from anynet.tensor import Tensor

__all__ = ["Names", "names_from"]


class Names:
    """Names of Tensors by the identity of their edge, and of constants by that of their array."""

    def __init__(self) -> None:
        self.edges: dict[int, str] = {}
        self.arrays: dict[int, str] = {}
        self.kept: list[Any] = []

    def add(self, name: str, x: Any) -> None:
        """Note a Tensor or an array; the first name counts."""
        self.kept.append(x)
        if isinstance(x, Tensor):
            if x.edge is not None:
                self.edges.setdefault(id(x.edge), name)
            self.arrays.setdefault(id(x._data), name)
        elif hasattr(x, "dtype") and hasattr(x, "shape"):
            self.arrays.setdefault(id(x), name)


def names_from(given: Any, frame: Mapping[str, Any]) -> Names:
    """The names that were given (a dict name → Tensor, a Module, or Modules by name), then those of the variables in a frame."""
    found = Names()
    if isinstance(given, Module):
        given = dict(given.named_parameters())
    if given is not None:
        if not isinstance(given, Mapping):
            msg = (
                f"explain: names must be a dict of names and Tensors, or a Module, got {type(given).__name__}"
            )
            raise TypeError(msg)
        for name, x in given.items():
            if isinstance(x, Tensor):
                found.add(str(name), x)
            elif isinstance(x, Module):
                for inner, p in x.named_parameters():
                    found.add(f"{name}.{inner}", p)
            elif isinstance(name, Tensor) and isinstance(x, str):
                found.add(x, name)
            else:
                msg = f"explain: names must be Tensors by name, got {type(x).__name__} for {name!r}"
                raise TypeError(msg)
    for name, x in _variables(frame):
        found.add(name, x)
    return found


def _variables(frame: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The Tensors and arrays of a frame, by the names of variables: themselves, then those in modules, lists, dicts and objects."""
    here = [(k, v) for k, v in list(frame.items()) if not k.startswith("_")]
    for name, x in here:
        if isinstance(x, Tensor) or (hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, type)):
            yield name, x
    modules = [(k, v) for k, v in here if isinstance(v, Module)]
    whole = [
        (k, v)
        for k, v in modules
        if not any(v is not w and any(v is m for m in w.modules()) for _, w in modules)
    ]
    for name, module in whole:
        for inner, p in (*module.named_parameters(), *module.named_buffers()):
            yield (inner if len({id(w) for _, w in whole}) == 1 and "." in inner else f"{name}.{inner}"), p
    for name, x in here:
        if isinstance(x, (list, tuple)) and len(x) <= 100:
            for i, inner in enumerate(x):
                if isinstance(inner, Tensor):
                    yield f"{name}[{i}]", inner
        elif isinstance(x, dict) and len(x) <= 100:
            for key, inner in x.items():
                if isinstance(inner, Tensor):
                    yield f"{name}[{key!r}]", inner
        elif (
            not isinstance(x, (Module, Tensor, type))
            and type(getattr(x, "__dict__", None)) is dict
            and not callable(x)
        ):
            for key, inner in list(vars(x).items())[:100]:
                if isinstance(inner, Tensor):
                    yield f"{name}.{key}", inner
