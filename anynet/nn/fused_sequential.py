"""The layers of a `Sequential`, or a module of several layers, as one function.

In a small network calling a layer takes longer than computing it: a Python call, checks, a node of the graph for each
operation. Where all modules of a `Sequential` are *pure*, functions of their input, their tensors and their attributes,
they form a `FusedFunction` (`anynet.autograd.jit.fused`), which becomes one call of machine code. Its guards are compared
before each call: no attribute of any module has been set (`Module.__setattr__` bumps `module_version`), no class has
another `forward`, no module is observed. If the version has moved, the fingerprint of the modules is recomputed; compiled
versions are cached by fingerprint, so switching ``train()`` and ``eval()`` does not retrace.

On a device that makes programs of traces (`Backend.fuses`) modules that draw masks are as good (`_draws_masks`), and so are modules with
others inside (`_pure_on_devices`: a layer of a transformer).
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anynet.autograd.jit.fused import FusedFunction
from anynet.autograd.jit.specialize import MAX_BYTES, hashable
from anynet.autograd.jit.trace_context import module_observers
from anynet.nn.hooks import global_hooks
from anynet.tensor import Buffer, Parameter, Tensor, module_version, wrap
from anynet_backends import backend_of
from anynet_backends.concurrency import fork_safe_lock

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["NEVER_FUSED", "FusedSequential"]

_MAX_FORMS: Final = 16


class _Snapshot(NamedTuple):
    """The modules at one version: what they are, as a function of one input where they may be one, with their tensors, and their classes
    with their `forward`."""

    items: Any
    version: int
    key: Any
    function: FusedFunction | None
    tensors: list[Tensor]
    classes: tuple[tuple[type, Any], ...]


_ALONE: Final = (1, (), ())
"""One input, and nothing else."""


class FusedSequential:
    """The modules of a Sequential as one function: ``fused(items, x)``, which is None where they must be called one by one.
    `items` is a dictionary of the modules that is never changed. It may also be one module, which may have several inputs, and options:
    Tensors, or what may be a part of a key."""

    __slots__ = ("known", "snapshot")

    def __init__(self) -> None:
        self.snapshot = _Snapshot(None, -1, None, None, [], ())
        self.known: dict[Any, tuple[FusedFunction, _FunctionalCopy]] = {}

    def __deepcopy__(self, memo: Any) -> FusedSequential:
        return FusedSequential()

    def __reduce__(self) -> Any:
        return FusedSequential, ()

    def __call__(
        self, items: Mapping[str, Module] | Module, x: Any, *more: Any, **options: Any
    ) -> Tensor | None:
        of, version, key, function, tensors, classes = self.snapshot
        if version != module_version.current or of is not items:
            self.snapshot = of, version, key, function, tensors, classes = self._examine(items)
        if function is None or not isinstance(x, Tensor) or module_observers:
            return None
        for cls, forward in classes:
            if cls.forward is not forward:  # type: ignore[attr-defined]
                return None
        if not more and not options:
            return function([x, *tensors])
        names = tuple(name for name, value in options.items() if isinstance(value, Tensor))
        given = [x, *more, *(options[name] for name in names)]
        try:
            rest = tuple((name, hashable(value)) for name, value in options.items() if name not in names)
        except TypeError:
            return None
        if not all(isinstance(value, Tensor) for value in given):
            return None
        return self._function(items, key, (1 + len(more), names, rest))([*given, *tensors])

    def _examine(self, items: Mapping[str, Module] | Module) -> _Snapshot:
        """Take the fingerprint of the modules, and find or make the function for it."""
        version, function = module_version.current, None
        modules, tensors = _modules(items), []  # type: tuple[list[Any], list[Tensor]]
        classes: dict[type, Any] = {}
        level = _PLAIN
        key = _fingerprint(modules, tensors, classes, level)
        if key is None and _on_a_device(modules):
            level = _MASKS if isinstance(items, Mapping) else _WHOLE
            tensors, classes = [], {}
            key = _fingerprint(modules, tensors, classes, level)
        small = sum([t.size * t.dtype.itemsize for t in tensors]) <= MAX_BYTES
        if key is not None and (small or all(backend_of(t._data).fuses for t in tensors)):
            key = level, key
            function = self._function(items, key, _ALONE)
        return _Snapshot(items, version, key, function, tensors, tuple(classes.items()))

    def _function(self, items: Mapping[str, Module] | Module, key: Any, form: Any) -> FusedFunction:
        """The function of modules with this key for so many inputs, the names of Tensors, and other options."""
        known = self.known.get((key, form))
        if known is None:
            if len(self.known) >= _MAX_FORMS:
                self.known.clear()
            level, fingerprint = key
            pure = _FunctionalCopy(fingerprint, level, *form)
            name = "Sequential" if isinstance(items, Mapping) else type(items).__name__
            known = self.known[key, form] = FusedFunction(name, pure, level > _PLAIN), pure
        known[1].originals = [weakref.ref(m) for m in _modules(items)]
        return known[0]


def _modules(items: Mapping[str, Module] | Module) -> list[Any]:
    return list(items.values()) if isinstance(items, Mapping) else [items]


class _Never(FusedSequential):
    """For modules that are called one by one."""

    __slots__ = ()

    def __call__(self, items: Mapping[str, Module] | Module, x: Any, *more: Any, **options: Any) -> None:
        return None

    def __deepcopy__(self, memo: Any) -> FusedSequential:
        return self

    def __reduce__(self) -> Any:
        return "NEVER_FUSED"


NEVER_FUSED: Final = _Never()


def _on_a_device(modules: Iterable[Module]) -> bool:
    """Whether the first parameter is where traces become programs of a device."""
    first = next((p for m in modules for p in m.parameters()), None)
    return first is not None and backend_of(first._data).fuses


_PLAIN, _MASKS, _WHOLE = 0, 1, 2
"""What may be a part of a function: pure modules; on a device also those that draw masks; and also those with others inside."""


def _is_pure(module: Module, level: int) -> bool:
    cls = type(module)
    pure = cls._pure or (level >= _WHOLE and cls._pure_on_devices)
    return pure and (not module.training or cls._pure_in_training or (level >= _MASKS and cls._draws_masks))


def _fingerprint(
    modules: Iterable[Module], tensors: list[Tensor], classes: dict[type, Any], level: int = _PLAIN
) -> Any:
    """What the modules compute, given an input and their tensors, which are added to a list; None if one is not pure."""
    parts: list[Any] = []
    if global_hooks.any:
        return None
    for module in modules:
        cls = type(module)
        if not _is_pure(module, level) or not _is_own(cls):
            return None
        classes[cls] = cls.forward
        parts.append(cls)
        for name, value in vars(module).items():
            if name in ("_defined", "_fused", "_made"):
                continue
            if name == "_items":
                inner = _fingerprint(value.values(), tensors, classes, level)
                if inner is None:
                    return None
                parts.append(inner)
            elif level == _WHOLE and hasattr(value, "_pure_on_devices"):  # a module
                inner = _fingerprint([value], tensors, classes, level)
                if inner is None:
                    return None
                parts.append((name, inner))
            elif level == _WHOLE and isinstance(value, FunctionType) and _is_own(value):
                parts.append((name, value))
            elif type(value) in (Parameter, Buffer) or (
                isinstance(value, (Parameter, Buffer)) and value._results is not None
            ):
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


def _is_own(thing: Any) -> bool:
    """Whether a class and its `forward`, or a function, is this library's, so that its `_pure` holds."""
    package = __name__.rpartition(".")[0] + "."
    parts = (thing, thing.forward) if isinstance(thing, type) else (thing,)  # type: ignore[attr-defined]
    return all(str(getattr(part, "__module__", "")).startswith(package) for part in parts)


class _FunctionalCopy:
    """The modules as a pure function of the inputs and their tensors: a copy of them, whose tensors are set for each call."""

    def __init__(
        self, key: Any, level: int, inputs: int, names: tuple[str, ...], rest: tuple[Any, ...]
    ) -> None:
        self.originals: list[weakref.ref[Module]] = []
        self.key, self.level = key, level
        self.inputs, self.names = inputs, names
        self.options = {name: value for name, (_, value) in rest}
        self.modules: list[Module] = []
        self.tensors: list[Tensor] = []
        self.lock = fork_safe_lock()

    def __call__(self, given: list[Tensor]) -> Any:
        n, named = self.inputs, len(self.names)
        inputs, own = tuple(given[:n]), given[n + named :]
        options = {**self.options, **dict(zip(self.names, given[n : n + named], strict=True))}
        with self.lock:
            if not self.modules:
                self._make()
            try:
                for t, value in zip(self.tensors, own, strict=True):
                    t._data, t.edge = value._data, value.edge
                for module in self.modules:
                    inputs = (module(*inputs, **options),)
            finally:
                for t in self.tensors:
                    t._data = t.edge = None
        return inputs[0]

    def _make(self) -> None:
        tensors: list[Tensor] = []
        given: list[Tensor] = []
        originals: Any = [original() for original in self.originals]
        if None not in originals:
            _fingerprint(originals, given, {}, self.level)
        # the tensors are set for each call: their numbers need no copy
        modules: Any = copy.deepcopy(originals, {id(t): wrap(t._data, type(t)) for t in given})
        if None in modules or _fingerprint(modules, tensors, {}, self.level) != self.key:
            msg = "another thread has changed the modules meanwhile"
            raise RuntimeError(msg)
        for module in modules:
            for inner in module.modules():
                if hasattr(type(inner), "_fused"):  # a Sequential, whose module imports this one
                    inner._fused = NEVER_FUSED
        self.modules, self.tensors = modules, tensors
