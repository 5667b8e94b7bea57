"""Parameters that are functions of others: the attribute of a module becomes what a `Module` makes of the original.

The names in the state are PyTorch's: ``parametrizations.weight.original`` (or ``original0``, ``original1``, … where a
parametrization takes several), and ``parametrizations.weight.0…`` for its own parameters and buffers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynet.nn.module import Module
from anynet.tensor import Parameter, no_grad
from anynet_backends.concurrency import ThreadStack

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
    "restore_parametrization", "transfer_parametrizations_and_params", "type_before_parametrizations",
]  # fmt: skip

_caches: ThreadStack[dict[tuple[int, str], Any]] = ThreadStack("parametrization_caches")


@contextmanager
def cached() -> Iterator[None]:
    """Within the block each parametrized attribute is computed once in this thread, at its first use.

    >>> import anynet as an
    >>> layer = an.nn.utils.parametrizations.weight_norm(an.nn.Linear(3, 2))
    >>> with an.nn.utils.parametrize.cached():
    ...     layer.weight is layer.weight
    True
    """
    _caches.append(_caches.own[-1] if _caches.own else {})
    try:
        yield
    finally:
        _caches.pop()


class ParametrizationList(Module):
    """The originals of one attribute and the functions that are applied to them, in order.

    >>> import anynet as an
    >>> layer = an.nn.utils.parametrizations.weight_norm(an.nn.Linear(3, 2))
    >>> list(layer.parametrizations.weight.state_dict())
    ['original0', 'original1']
    """

    count = 0

    def __init__(self, parametrizations: list[Module], original: Any) -> None:
        first = parametrizations[0]
        parts = original
        if hasattr(first, "right_inverse"):
            with no_grad():
                parts = first.right_inverse(original)
        self.several = isinstance(parts, (tuple, list))
        wanted = bool(getattr(original, "requires_grad", True))
        if self.several:
            for i, part in enumerate(parts):
                setattr(self, f"original{i}", _parameter(part, wanted))
        else:
            self.original = original if parts is original else _parameter(parts, wanted)
        for p in parametrizations:
            self.append(p)

    def append(self, parametrization: Module) -> None:
        """One more function, applied last."""
        setattr(self, str(self.count), parametrization)
        self.count += 1

    def functions(self) -> list[Any]:
        """The functions in the order of their application."""
        return [getattr(self, str(i)) for i in range(self.count)]

    def originals(self) -> tuple[Any, ...]:
        """What the first function is given."""
        if not self.several:
            return (self.original,)
        return tuple(v for k, v in vars(self).items() if k.startswith("original"))

    def forward(self) -> Any:
        """The attribute's value."""
        first, *rest = self.functions()
        x = first(*self.originals())
        for function in rest:
            x = function(x)
        return x

    def assign(self, value: Any) -> None:
        """Set the originals so that the attribute has this value, by the functions' `right_inverse`."""
        with no_grad():
            for function in reversed(self.functions()):
                if not hasattr(function, "right_inverse"):
                    msg = f"{type(function).__name__} must define right_inverse for the parametrized attribute to be assigned"
                    raise NotImplementedError(msg)
                value = function.right_inverse(value)
            parts = value if self.several else (value,)
            for original, part in zip(self.originals(), parts, strict=True):
                original.assign_(part)


def _parameter(value: Any, wanted: bool) -> Parameter:
    made = Parameter(value + 0.0)
    if not wanted:
        made.requires_grad = False
    return made


def _attribute(name: str) -> property:
    def get(self: Any) -> Any:
        found = self.__dict__["parametrizations"].__dict__[name]
        if not (_caches and _caches.own):
            return found()
        known = _caches.own[-1]
        if (id(self), name) not in known:
            known[id(self), name] = found()
        return known[id(self), name]

    def set_(self: Any, value: Any) -> None:
        self.__dict__["parametrizations"].__dict__[name].assign(value)

    return property(get, set_)


def _known(module: Module) -> dict[str, Any]:
    return {
        k: v
        for k, v in vars(module.__dict__["parametrizations"]).items()
        if isinstance(v, ParametrizationList)
    }


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether an attribute of the module is parametrized, or any.

    >>> import anynet as an
    >>> an.nn.utils.parametrize.is_parametrized(an.nn.Linear(2, 2))
    False
    """
    if "parametrizations" not in module.__dict__:
        return False
    return bool(_known(module)) if tensor_name is None else tensor_name in _known(module)


def type_before_parametrizations(module: Module) -> type[Module]:
    """The class of a module without its parametrizations."""
    return getattr(type(module), "_unparametrized", type(module))


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Give another module the parametrizations of one, or of one attribute, copied, with the values of their originals."""
    if not is_parametrized(from_module, tensor_name):
        msg = f"{type(from_module).__name__}: {tensor_name or 'nothing'} is not parametrized"
        raise ValueError(msg)
    for name, found in _known(from_module).items():
        if tensor_name is not None and name != tensor_name:
            continue
        twin = copy.deepcopy(found)
        if is_parametrized(to_module, name):
            remove_parametrizations(to_module, name)
        if not isinstance(to_module.__dict__.get(name), Parameter):
            to_module.__dict__[name] = Parameter(found() + 0.0)
        first, *rest = twin.functions()
        register_parametrization(to_module, name, first, unsafe=True)
        for function in rest:
            register_parametrization(to_module, name, function, unsafe=True)
        setattr(to_module.__dict__["parametrizations"], name, twin)
    return to_module


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """From now on ``module.<tensor_name>`` is ``parametrization(original)``, and the original is what is trained.

    A second one is applied to what the first gives. Where the parametrization has a `right_inverse`, the original is that
    of the present value. Unless `unsafe`, what it gives must have the shape and dtype of the attribute.

    >>> import anynet as an
    >>> class Symmetric(an.nn.Module):
    ...     def forward(self, x):
    ...         return an.triu(x) + an.triu(x, k=1).T
    >>> layer = an.nn.Linear(3, 3)
    >>> _ = an.nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    >>> bool(an.all(layer.weight == layer.weight.T)), [n for n, _ in layer.named_parameters()]
    (True, ['bias', 'parametrizations.weight.original'])
    """
    if is_parametrized(module, tensor_name):
        known = _known(module)[tensor_name]
        value = module.__dict__["parametrizations"].__dict__[tensor_name]()
        with no_grad():
            _check(tensor_name, parametrization(value), value, unsafe)
        known.append(parametrization)
        return module
    original = module.__dict__.get(tensor_name)
    if not isinstance(original, Parameter):
        known_names = ", ".join(k for k, v in module.__dict__.items() if isinstance(v, Parameter)) or "none"
        msg = f"{type(module).__name__} has no parameter {tensor_name!r}; it has {known_names}"
        raise ValueError(msg)
    made = ParametrizationList([parametrization], original)
    with no_grad():
        _check(tensor_name, made(), original, unsafe)
    del module.__dict__[tensor_name]
    if "parametrizations" not in module.__dict__:
        module.__dict__["parametrizations"] = Module()
    setattr(module.__dict__["parametrizations"], tensor_name, made)
    module.__class__ = _class(type_before_parametrizations(module), tuple(_known(module)))
    return module


def restore_parametrization(
    module: Module, tensor_name: str, functions: list[Module], originals: dict[str, Any]
) -> None:
    """Parametrize an attribute with given originals ("original", or "original0", …): what a description of a network holds."""
    if is_parametrized(module, tensor_name):
        remove_parametrizations(module, tensor_name)
    made = ParametrizationList.__new__(ParametrizationList)
    made.several = "original" not in originals
    for name, value in originals.items():
        setattr(made, name, value)
    for function in functions:
        made.append(function)
    module.__dict__.pop(tensor_name, None)
    if "parametrizations" not in module.__dict__:
        module.__dict__["parametrizations"] = Module()
    setattr(module.__dict__["parametrizations"], tensor_name, made)
    module.__class__ = _class(type_before_parametrizations(module), tuple(_known(module)))


_classes: dict[tuple[type[Module], tuple[str, ...]], type[Module]] = {}


def _class(base: type[Module], names: tuple[str, ...]) -> type[Module]:
    """The class of the modules of a class of which these attributes are parametrized."""
    if (base, names) not in _classes:
        members = {**{n: _attribute(n) for n in names}, "_unparametrized": base, "__reduce_ex__": _reduce}
        return _classes.setdefault((base, names), type(f"Parametrized{base.__name__}", (base,), members))
    return _classes[base, names]


def _reduce(module: Module, protocol: Any) -> Any:
    """For pickle and copies: the class is recreated, since it has no place where it could be found by its name."""
    return _blank, (type_before_parametrizations(module), tuple(_known(module))), module.__getstate__()


def _blank(base: type[Module], names: tuple[str, ...]) -> Module:
    cls = _class(base, names)
    return cls.__new__(cls)


def _check(name: str, made: Any, original: Any, unsafe: bool) -> None:
    if not unsafe and (tuple(made.shape) != tuple(original.shape) or made.dtype != original.dtype):
        msg = (
            f"register_parametrization: {name} is {original.dtype} of shape {tuple(original.shape)}, the parametrization gives "
            f"{made.dtype} of shape {tuple(made.shape)}; pass unsafe=True if that is meant"
        )
        raise ValueError(msg)


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """The attribute is an ordinary parameter again: with its present value, or (`leave_parametrized` False) the original."""
    if not is_parametrized(module, tensor_name):
        msg = f"{type(module).__name__}: {tensor_name!r} is not parametrized"
        raise ValueError(msg)
    found = _known(module)[tensor_name]
    if not leave_parametrized and found.several:
        msg = f"{tensor_name!r} has several originals; only leave_parametrized=True is possible"
        raise ValueError(msg)
    if leave_parametrized:
        with no_grad():
            value = Parameter(found() + 0.0)
    else:
        value = found.original
    delattr(module.__dict__["parametrizations"], tensor_name)
    base = type(module)._unparametrized  # type: ignore[attr-defined]
    rest = _known(module)
    if rest:
        module.__class__ = _class(base, tuple(rest))
    else:
        del module.__dict__["parametrizations"]
        module.__class__ = base
    setattr(module, tensor_name, value)
    return module
