"""Layers in a row as one function.

A layer of a small network takes longer to be called than to compute: a Python call, checks, a node of the graph for each
operation. Where all modules of a `Sequential` are *pure*, functions of their input, their tensors and their attributes,
they are a `Whole` (`anynet.autograd.whole`): once they have met arrays of the same forms often enough, one built-in
function. Before each call it is asked whether all is as it was: no attribute of any module has been set
(`Module.__setattr__` notes that), no class has another `forward`, nobody watches the layers. If something has changed, the
modules are looked at anew, and found by what they are, so ``train()`` and ``eval()`` cost no recording.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anynet.autograd.compiling import watchers
from anynet.autograd.hot import LARGEST, changes, frozen
from anynet.autograd.whole import Whole
from anynet.tensor import Buffer, Parameter, Tensor

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["NEVER", "Chain"]

_FORMS: Final = 16


class _Found(NamedTuple):
    """What modules are: since which time, as a function, with which tensors, and the classes with their `forward`."""

    seen: int
    whole: Whole | None
    tensors: list[Tensor]
    classes: tuple[tuple[type, Any], ...]


class Chain:
    """The modules of one Sequential as a function, while they can be one: ``chain(modules, x)``, which is None where they
    are to be called one by one."""

    __slots__ = ("found", "known")

    def __init__(self) -> None:
        self.found = _Found(-1, None, [], ())
        self.known: dict[Any, Whole] = {}

    def __deepcopy__(self, memo: Any) -> Chain:
        return Chain()

    def __reduce__(self) -> Any:
        return Chain, ()

    def __call__(self, modules: Iterable[Module], x: Any) -> Tensor | None:
        seen, whole, tensors, classes = self.found
        if seen != changes.latest:
            self.found = seen, whole, tensors, classes = self._look(list(modules))
        if whole is None or not isinstance(x, Tensor) or watchers:
            return None
        for cls, forward in classes:
            if cls.forward is not forward:  # type: ignore[attr-defined]
                return None
        return whole([x, *tensors])

    def _look(self, modules: list[Module]) -> _Found:
        """Find out what the modules are."""
        seen, whole = changes.latest, None
        tensors: list[Tensor] = []
        classes: dict[type, Any] = {}
        key = _key(modules, tensors, classes)
        if key is not None and sum([t.size * t.dtype.itemsize for t in tensors]) <= LARGEST:
            whole = self.known.get(key)
            if whole is None:
                if len(self.known) >= _FORMS:
                    self.known.clear()
                whole = self.known[key] = Whole("Sequential", _Copy(modules, key))
        return _Found(seen, whole, tensors, tuple(classes.items()))


class _Never(Chain):
    """Of modules that are called one by one."""

    __slots__ = ()

    def __call__(self, modules: Iterable[Module], x: Any) -> None:
        return None

    def __deepcopy__(self, memo: Any) -> Chain:
        return self

    def __reduce__(self) -> Any:
        return "NEVER"


NEVER: Final = _Never()


def _key(modules: Iterable[Module], tensors: list[Tensor], classes: dict[type, Any]) -> Any:
    """What the modules compute, given an input and their tensors, which are added to a list; None for what is not pure."""
    parts: list[Any] = []
    for module in modules:
        cls = type(module)
        if not module.pure or not _ours(cls):
            return None
        classes[cls] = cls.forward
        parts.append(cls)
        for name, value in vars(module).items():
            if name in ("_defined", "_chain"):
                continue
            if name == "_items":
                inner = _key(value.values(), tensors, classes)
                if inner is None:
                    return None
                parts.append(inner)
            elif type(value) in (Parameter, Buffer):
                if not any(value is t for t in tensors):
                    tensors.append(value)
                parts.append((name, next(i for i, t in enumerate(tensors) if value is t)))
            else:
                try:
                    parts.append((name, frozen(value)))
                except TypeError:
                    return None
    return tuple(parts)


def _ours(cls: type[Module]) -> bool:
    """Whether a class and its `forward` are this library's, so that `pure` is said of them."""
    package = __name__.rpartition(".")[0] + "."
    return cls.__module__.startswith(package) and str(getattr(cls.forward, "__module__", "")).startswith(
        package
    )


class _Copy:
    """The modules as a function of the input and their tensors: a copy of them, in which these are put."""

    def __init__(self, modules: list[Module], key: Any) -> None:
        self.originals: list[Module] | None = modules
        self.key = key
        self.modules: list[Module] = []
        self.tensors: list[Tensor] = []
        self.lock = threading.RLock()

    def __call__(self, inputs: list[Tensor]) -> Any:
        x, *given = inputs
        with self.lock:
            if self.originals is not None:
                self._make(self.originals)
            try:
                for t, value in zip(self.tensors, given, strict=True):
                    t.data, t.edge = value.data, value.edge
                for module in self.modules:
                    x = module(x)
            finally:
                for t in self.tensors:
                    t.data = t.edge = None
        return x

    def _make(self, originals: list[Module]) -> None:
        from anynet.nn.containers import Sequential

        tensors: list[Tensor] = []
        modules = copy.deepcopy(originals)
        if _key(modules, tensors, {}) != self.key:
            msg = "another thread has changed the modules meanwhile"
            raise RuntimeError(msg)
        for module in modules:
            for inner in module.modules():
                if isinstance(inner, Sequential):
                    inner._chain = NEVER
        self.modules, self.tensors, self.originals = modules, tensors, None
