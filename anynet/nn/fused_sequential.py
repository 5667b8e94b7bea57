"""Layers in a row as one function.

A layer of a small network takes longer to be called than to compute: a Python call, checks, a node of the graph for each
operation. Where all modules of a `Sequential` are *pure*, functions of their input, their tensors and their attributes,
they are a `FusedFunction` (`anynet.autograd.jit.fused`): once they have met arrays of the same forms often enough, one built-in
function. Before each call it is asked whether all is as it was: no attribute of any module has been set
(`Module.__setattr__` notes that), no class has another `forward`, nobody watches the layers. If something has changed, the
modules are looked at anew, and found by what they are, so ``train()`` and ``eval()`` cost no recording.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anynet.autograd.jit.fused import FusedFunction
from anynet.autograd.jit.specialize import MAX_BYTES, hashable
from anynet.autograd.jit.trace_context import module_observers
from anynet.tensor import Buffer, Parameter, Tensor, module_version
from anynet_backends.concurrency import fork_safe_lock

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["NEVER_FUSED", "FusedSequential"]

_MAX_FORMS: Final = 16


class _Found(NamedTuple):
    """What modules are: which, since which time, as a function, with which tensors, and the classes with their `forward`."""

    items: Any
    seen: int
    whole: FusedFunction | None
    tensors: list[Tensor]
    classes: tuple[tuple[type, Any], ...]


class FusedSequential:
    """The modules of a Sequential as a function, while they can be one: ``chain(items, x)``, which is None where they are to
    be called one by one. `items` is a dictionary of the modules that is never changed."""

    __slots__ = ("found", "known")

    def __init__(self) -> None:
        self.found = _Found(None, -1, None, [], ())
        self.known: dict[Any, tuple[FusedFunction, _Copy]] = {}

    def __deepcopy__(self, memo: Any) -> FusedSequential:
        return FusedSequential()

    def __reduce__(self) -> Any:
        return FusedSequential, ()

    def __call__(self, items: Mapping[str, Module], x: Any) -> Tensor | None:
        of, seen, whole, tensors, classes = self.found
        if seen != module_version.current or of is not items:
            self.found = of, seen, whole, tensors, classes = self._look(items)
        if whole is None or not isinstance(x, Tensor) or module_observers:
            return None
        for cls, forward in classes:
            if cls.forward is not forward:  # type: ignore[attr-defined]
                return None
        return whole([x, *tensors])

    def _look(self, items: Mapping[str, Module]) -> _Found:
        """Find out what the modules are."""
        seen, whole, modules = module_version.current, None, list(items.values())
        tensors: list[Tensor] = []
        classes: dict[type, Any] = {}
        key = _key(modules, tensors, classes)
        if key is not None and sum([t.size * t.dtype.itemsize for t in tensors]) <= MAX_BYTES:
            known = self.known.get(key)
            if known is None:
                if len(self.known) >= _MAX_FORMS:
                    self.known.clear()
                function = _Copy(key)
                known = self.known[key] = FusedFunction("Sequential", function), function
            whole = known[0]
            known[1].originals = [weakref.ref(m) for m in modules]
        return _Found(items, seen, whole, tensors, tuple(classes.items()))


class _Never(FusedSequential):
    """Of modules that are called one by one."""

    __slots__ = ()

    def __call__(self, items: Mapping[str, Module], x: Any) -> None:
        return None

    def __deepcopy__(self, memo: Any) -> FusedSequential:
        return self

    def __reduce__(self) -> Any:
        return "NEVER_FUSED"


NEVER_FUSED: Final = _Never()


def _key(modules: Iterable[Module], tensors: list[Tensor], classes: dict[type, Any]) -> Any:
    """What the modules compute, given an input and their tensors, which are added to a list; None for what is not pure."""
    parts: list[Any] = []
    for module in modules:
        cls = type(module)
        if not cls._pure or (module.training and not cls._pure_in_training) or not _ours(cls):
            return None
        classes[cls] = cls.forward
        parts.append(cls)
        for name, value in vars(module).items():
            if name in ("_defined", "_fused"):
                continue
            if name == "_items":
                inner = _key(value.values(), tensors, classes)
                if inner is None:
                    return None
                parts.append(inner)
            elif type(value) in (Parameter, Buffer):
                at = next((i for i, t in enumerate(tensors) if value is t), len(tensors))
                if at == len(tensors):
                    tensors.append(value)
                parts.append((name, at))
            else:
                try:
                    parts.append((name, hashable(value)))
                except TypeError:
                    return None
    return tuple(parts)


def _ours(cls: type[Module]) -> bool:
    """Whether a class and its `forward` are this library's, so that `_pure` is said of them."""
    package = __name__.rpartition(".")[0] + "."
    return cls.__module__.startswith(package) and str(getattr(cls.forward, "__module__", "")).startswith(
        package
    )


class _Copy:
    """The modules as a function of the input and their tensors: a copy of them, in which these are put."""

    def __init__(self, key: Any) -> None:
        self.originals: list[weakref.ref[Module]] = []
        self.key = key
        self.modules: list[Module] = []
        self.tensors: list[Tensor] = []
        self.lock = fork_safe_lock()

    def __call__(self, inputs: list[Tensor]) -> Any:
        x, *given = inputs
        with self.lock:
            if not self.modules:
                self._make()
            try:
                for t, value in zip(self.tensors, given, strict=True):
                    t._data, t.edge = value._data, value.edge
                for module in self.modules:
                    x = module(x)
            finally:
                for t in self.tensors:
                    t._data = t.edge = None
        return x

    def _make(self) -> None:
        tensors: list[Tensor] = []
        modules: Any = copy.deepcopy([original() for original in self.originals])
        if None in modules or _key(modules, tensors, {}) != self.key:
            msg = "another thread has changed the modules meanwhile"
            raise RuntimeError(msg)
        for module in modules:
            for inner in module.modules():
                if hasattr(type(inner), "_fused"):  # a Sequential, whose module imports this one
                    inner._fused = NEVER_FUSED
        self.modules, self.tensors = modules, tensors
