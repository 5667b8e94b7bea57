"""What has been changed in a network since its constructors ran: found by comparing it with a twin, which `compare` brings into line step
by step; each step is one entry of ``changes`` in the description, and `apply` repeats it.

Paths are dotted, ``"layers.0.weight"``; a list of parts where a name contains a dot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

from anynet.nn.containers import _Container
from anynet.nn.description.names import DescriptionError, Known
from anynet.nn.description.values import LARGEST, Reader, Writer, array
from anynet.nn.hooks import MakesAttribute
from anynet.nn.lazy import UninitializedBuffer, UninitializedParameter
from anynet.nn.members import walk
from anynet.nn.module import Module
from anynet.nn.recorded import PLAIN, array_value, plain
from anynet.nn.utils.parametrize import ParametrizationList, is_parametrized, restore_parametrization
from anynet.nn.utils.weight_norm import _SpectralNorm, _WeightNorm, spectral_norm, weight_norm
from anynet.tensor import Buffer, Parameter, Tensor, module_version
from anynet_backends import resolve

__all__ = ["apply", "compare"]

_MISSING: Any = object()
_IGNORED = Module._not_members | {"_fused", "_items", "training"}
_BUFFER_LIMIT = 1 << 20
Path = tuple[Any, ...]
_NO_EQUALITY: Any = object.__eq__


def compare(module: Module, twin: Module, writer: Writer) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The steps that turn the twin into the module, applied to the twin as they are found; and what had to be left out, with why."""
    found = _Comparison(writer, twin)
    found.run(module)
    return found.steps, found.left_out


def _text(path: Path) -> Any:
    parts = [str(p) for p in path]
    return ".".join(parts) if all(p and "." not in p for p in parts) else parts


def _base(module: Module) -> type:
    return getattr(type(module), "_unparametrized", type(module))


class _Comparison:
    def __init__(self, writer: Writer, twin: Module) -> None:
        self.writer, self.twin = writer, twin
        self.steps: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}
        self.grad: dict[bool, list[Any]] = {True: [], False: []}
        self.seen: set[int] = set()

    def run(self, module: Module) -> None:
        if _base(module) is not _base(self.twin):
            msg = f"the network's class is {type(module).__name__}, its constructor makes a {type(self.twin).__name__}"
            raise DescriptionError(msg)
        self.dtype(module)
        self.walk((), module, self.twin)
        self.sharing(module)
        for value, paths in self.grad.items():
            if paths:
                self.step({"requires_grad": value, "of": paths})
        self.modes(module)
        self.orders((), module, self.twin, set())

    def step(self, step: dict[str, Any]) -> None:
        self.steps.append(step)
        apply(self.twin, [step], self.reader)

    @property
    def reader(self) -> Reader:
        return Reader(Known(self.writer.objects))

    def dtype(self, module: Module) -> None:
        """One dtype for all floating-point tensors, as ``net.double()`` gives."""

        def kinds(m: Module) -> set[Any]:
            return {t.dtype for t in (*m.parameters(), *m.buffers()) if t.dtype.is_floating}

        own, made = kinds(module), kinds(self.twin)
        if len(own) == 1 and made and own != made:
            kind = next(iter(own))
            if kind.kind == "real":
                self.step({"dtype": kind.name})

    # ----- modules -----

    def walk(self, path: Path, a: Module, b: Module) -> None:
        """What differs inside of two modules of one class."""
        if id(a) in self.seen:
            return
        self.seen.add(id(a))
        made = self.hooks(path, a, b)
        self.parametrizations(path, a, b)
        if isinstance(a, _Container):
            self.items(path, a, b)
        own, other = vars(a), vars(b)
        for name in [n for n in other if n not in own and n not in _IGNORED and n not in made]:
            self.step({"delete": _text((*path, name))})
        for name, value in list(own.items()):
            if name not in _IGNORED and name not in made:
                self.value((*path, name), value, other.get(name, _MISSING))

    def hooks(self, path: Path, a: Module, b: Module) -> set[str]:
        """Repeat weight and spectral normalisation by hooks; others cannot be kept. Returns the attributes that hooks make."""
        made = {h.name for h in a._forward_pre_hooks if isinstance(h, MakesAttribute)}
        there = {h.name for h in b._forward_pre_hooks if isinstance(h, MakesAttribute)}
        for hook in a._forward_pre_hooks:
            if isinstance(hook, _WeightNorm) and hook.name not in there:
                self.step({"weight_norm": _text(path), "name": hook.name, "dim": hook.dim})
            elif isinstance(hook, _SpectralNorm) and hook.name not in there:
                options = {"n_power_iterations": hook.n_power_iterations, "eps": hook.eps, "dim": hook.dim}
                self.step({"spectral_norm": _text(path), "name": hook.name, **options})
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        count = {k: len([h for h in getattr(a, k) if not isinstance(h, MakesAttribute)]) for k in kinds}
        if sum(count.values()) > sum(len(getattr(b, k)) for k in kinds) - len(there):
            self.left_out[".".join(map(str, path)) or "the network"] = "hooks, which are functions"
        return made

    def parametrizations(self, path: Path, a: Module, b: Module) -> None:
        if not is_parametrized(a):
            return
        for name, found in vars(vars(a)["parametrizations"]).items():
            if not isinstance(found, ParametrizationList):
                continue
            if is_parametrized(b, name) and vars(vars(b)["parametrizations"])[name].count == found.count:
                continue
            where = ".".join(map(str, (*path, "parametrizations", name)))
            originals = {
                k: self.writer.value(array_value(v, 0), where)
                for k, v in vars(found).items()
                if isinstance(v, Tensor)
            }
            functions = [self.writer.module(f, where) for f in found.functions()]
            self.step(
                {"parametrize": _text(path), "name": name, "functions": functions, "originals": originals}
            )

    def items(self, path: Path, a: Any, b: Any) -> None:
        if list(a._items) != list(b._items):
            self.step({"items": _text(path), "names": list(a._items)})
        for name, item in a._items.items():
            self.value((*path, name), item, b._items[name])

    # ----- attributes -----

    def value(self, path: Path, x: Any, y: Any) -> None:
        """What differs between two values of an attribute."""
        if x is y:
            return
        if isinstance(x, Module):
            if not isinstance(y, Module) or _base(x) is not _base(y):
                self.step({"set": _text(path), "value": self.writer.module(x, ".".join(map(str, path)))})
                y = get(self.twin, path)
            self.walk(path, x, y)
        elif isinstance(x, Tensor):
            self.tensor(path, x, y)
        elif y is _MISSING or type(x) is not type(y):
            self.data(path, x, y)
        elif isinstance(x, list) and len(x) == len(y) and _holds(x):
            for i, (v, w) in enumerate(zip(x, y, strict=True)):
                self.value((*path, i), v, w)
        elif isinstance(x, dict) and list(x) == list(y) and _holds(x):
            for k in x:
                self.value((*path, k), x[k], y[k])
        elif isinstance(x, tuple) and len(x) == len(y) and _holds(x):
            for i, (v, w) in enumerate(zip(x, y, strict=True)):
                self.value((*path, i), v, w)
        elif not same(x, y):
            self.data(path, x, y)

    def data(self, path: Path, x: Any, y: Any) -> None:
        """An attribute that was set or changed after the constructor."""
        where = ".".join(map(str, path))
        if _holds(x):  # its modules and tensors, then what differs inside of them
            self.step({"set": _text(path), "value": self.writer.value(_live(x), where)})
            self.value(path, x, get(self.twin, path))
            return
        try:
            value = self.writer.value(plain(x, LARGEST), where)
        except DescriptionError as error:
            if isinstance(x, (FunctionType, MethodType)):
                raise
            self.left_out[where] = str(error)
            return
        if y is not _MISSING and not _holds(y) and self.form(y) == value:
            return  # of another type, such as NumPy's, and the same in a file
        self.step({"set": _text(path), "value": value})

    def form(self, y: Any) -> Any:
        """A value as a file has it."""
        try:
            return self.writer.value(plain(y, LARGEST), "")
        except DescriptionError:
            return _MISSING

    def tensor(self, path: Path, x: Tensor, y: Any) -> None:
        """A parameter or buffer by its shape, what no state holds by its numbers, too."""
        where = ".".join(map(str, path))
        lazy = (UninitializedParameter, UninitializedBuffer)
        kind, persistent = _kind(x), getattr(x, "persistent", True)
        in_state = kind == "parameter" or (kind == "buffer" and persistent)
        alike = (
            isinstance(y, Tensor)
            and _kind(y) == kind
            and x.dtype is y.dtype
            and getattr(y, "persistent", True) == persistent
        )
        if isinstance(x, lazy) or isinstance(y, lazy):
            alike = alike and type(x) is type(y)
        else:
            alike = (
                alike
                and x.shape == y.shape
                and (in_state or array_value(x, 1 << 62).data == array_value(y, 1 << 62).data)
            )
        if not alike:
            described = array_value(x, 0 if in_state else _BUFFER_LIMIT if kind == "buffer" else LARGEST)
            if not in_state and described.data is None:
                if kind == "buffer":
                    msg = f"{where}, a buffer of {x.size} numbers, is not persistent and not what the constructor makes; make it persistent"
                    raise DescriptionError(msg)
                self.left_out[where] = (
                    f"a Tensor of {x.size} numbers, which is neither a Parameter nor a Buffer"
                )
                return
            self.step({"set": _text(path), "value": self.writer.value(described, where)})
            y = get(self.twin, path)
        if kind == "parameter" and x.requires_grad != y.requires_grad:
            self.grad[x.requires_grad].append(_text(path))

    # ----- all of it -----

    def sharing(self, module: Module) -> None:
        """Modules and tensors that stand at several places."""
        for paths in _groups(module):
            first = get(self.twin, paths[0])
            if any(get(self.twin, p, None) is not first for p in paths[1:]):
                self.step({"tie": [_text(p) for p in paths]})
        for paths in _groups(self.twin):
            own: dict[int, Path] = {}
            for p in paths:
                x = get(module, p, None)
                if x is not None and own.setdefault(id(x), p) is p and len(own) > 1:
                    self.step({"separate": _text(p)})

    def modes(self, module: Module) -> None:
        """Modules that are in evaluation while the network as a whole is not."""
        if not module.training:
            return
        training = {name for name, m in self.twin.named_modules() if m.training}
        paths = [name for name, m in module.named_modules() if not m.training and name in training]
        if paths:
            self.step({"eval": paths})

    def orders(self, path: Path, a: Module, b: Module, seen: set[int]) -> None:
        """The order of members, which is that of the parameters."""
        if id(a) in seen:
            return
        seen.add(id(a))

        def names(m: Module) -> list[str]:
            return [n for n, v in vars(m).items() if n not in _IGNORED and _holds(v)]

        if names(a) != names(b) and set(names(a)) == set(names(b)):
            self.step({"order": _text(path), "names": names(a)})
        for p, child in _children(path, a):
            other = get(self.twin, p, None)
            if isinstance(other, Module):
                self.orders(p, child, other, seen)


def _kind(x: Tensor) -> str:
    return "parameter" if isinstance(x, Parameter) else "buffer" if isinstance(x, Buffer) else "tensor"


def _holds(value: Any) -> bool:
    """Whether there are modules or tensors in a value."""
    return next(walk(value, "", (Module, Tensor)), None) is not None


def _live(value: Any) -> Any:
    """A container with its modules as they are and everything else as it is kept."""
    if isinstance(value, Module):
        return value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(map(_live, value))
    if isinstance(value, dict):
        return {k: _live(v) for k, v in value.items()}
    return plain(value, LARGEST)


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, (Module, Tensor)):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            if type(v) not in PLAIN:
                yield from _leaves(v, (*path, i))
    elif isinstance(value, Mapping):
        for k, v in value.items():
            if type(v) not in PLAIN:
                yield from _leaves(v, (*path, k))


def _members(path: Path, module: Module) -> Iterator[tuple[Path, Any]]:
    made = {h.name for h in module._forward_pre_hooks if isinstance(h, MakesAttribute)}
    if isinstance(module, _Container):
        for name, item in module._items.items():
            yield from _leaves(item, (*path, name))
    for name, value in vars(module).items():
        if name not in _IGNORED and name not in made:
            yield from _leaves(value, (*path, name))


def _children(path: Path, module: Module) -> Iterator[tuple[Path, Module]]:
    return ((p, v) for p, v in _members(path, module) if isinstance(v, Module))


def _groups(module: Module) -> list[list[Path]]:
    """The places of each module, parameter and buffer that stands at several; the inside of a module counts once."""
    places: dict[int, list[Path]] = {id(module): [()]}

    def visit(path: Path, m: Module) -> None:
        for p, value in list(_members(path, m)):
            new = id(value) not in places
            places.setdefault(id(value), []).append(p)
            if new and isinstance(value, Module):
                visit(p, value)

    visit((), module)
    return [paths for paths in places.values() if len(paths) > 1]


def same(x: Any, y: Any, depth: int = 0) -> bool:
    """Whether two attribute values mean the same, as far as can be seen; objects without equality of their own by their attributes."""
    if x is y:
        return True
    if type(x) is not type(y) or depth > 8:
        return depth > 8
    if isinstance(x, float):
        return x == y or (math.isnan(x) and math.isnan(y))
    if type(x) in PLAIN or isinstance(x, type):
        return bool(x == y)
    if isinstance(x, Tensor) or (hasattr(x, "dtype") and hasattr(x, "shape")):
        return array_value(x, 1 << 62).data == array_value(y, 1 << 62).data and x.shape == y.shape
    if isinstance(x, (list, tuple)):
        return len(x) == len(y) and all(same(v, w, depth + 1) for v, w in zip(x, y, strict=True))
    if isinstance(x, dict):
        return list(x) == list(y) and all(same(x[k], y[k], depth + 1) for k in x)
    if isinstance(x, FunctionType):
        return x.__code__ == y.__code__ and same(_cells(x.__closure__), _cells(y.__closure__), depth + 1)
    if isinstance(x, Module):
        return type(x) is type(y)
    if getattr(type(x), "__eq__", None) is not _NO_EQUALITY:
        try:
            if bool(x == y):
                return True
        except Exception:  # noqa: BLE001 an equality that raises says nothing
            return True
    return same(getattr(x, "__dict__", None), getattr(y, "__dict__", None), depth + 1)


def _cells(closure: tuple[CellType, ...] | None) -> list[Any]:
    return [cell.cell_contents for cell in closure or ()]


# ----- going there, and doing it -----


def get(root: Module, path: Any, default: Any = _MISSING) -> Any:
    """What stands at a path."""
    holder: Any = root
    parts = path.split(".") if isinstance(path, str) else list(path)
    for part in parts if path != "" else ():
        holder = _inside(holder, part)
        if holder is _MISSING:
            if default is _MISSING:
                msg = f"the description changes {_text(tuple(parts))!r}, which the network does not have"
                raise DescriptionError(msg)
            return default
    return holder


def _inside(holder: Any, part: Any) -> Any:
    if isinstance(holder, Module):
        if isinstance(holder, _Container) and part in holder._items:
            return holder._items[part]
        return vars(holder).get(part, _MISSING)
    if isinstance(holder, (list, tuple)):
        return holder[int(part)] if str(part).isdigit() and int(part) < len(holder) else _MISSING
    if isinstance(holder, dict):
        return next((v for k, v in holder.items() if k == part or str(k) == part), _MISSING)
    return _MISSING


def _put(root: Module, path: Any, value: Any) -> None:
    *above, name = path.split(".") if isinstance(path, str) else list(path)
    holder = get(root, above)
    if isinstance(holder, _Container) and (name in holder._items):
        vars(holder)["_items"] = {**holder._items, name: value}
    elif isinstance(holder, Module):
        if name in _IGNORED:
            msg = f"a description may not set {name!r}"
            raise DescriptionError(msg)
        vars(holder)[name] = value
    elif isinstance(holder, list) and str(name).isdigit() and int(name) < len(holder):
        holder[int(name)] = value
    elif isinstance(holder, dict):
        holder[next((k for k in holder if str(k) == str(name)), name)] = value
    elif isinstance(holder, tuple) and str(name).isdigit():
        _put(root, above, tuple(value if i == int(name) else v for i, v in enumerate(holder)))
    else:
        msg = f"the description sets {_text(tuple([*above, name]))!r}, which the network does not have"
        raise DescriptionError(msg)
    module_version.bump()


def apply(root: Module, steps: Any, reader: Reader) -> None:
    """Repeat the steps of a description; `DescriptionError` for what is none."""
    if not isinstance(steps, list) or not all(isinstance(s, dict) and s for s in steps):
        msg = f"the changes of a description must be a list of dicts, got {steps!r:.80}"
        raise DescriptionError(msg)
    for step in steps:
        kind = next(iter(step))
        try:
            if kind not in _STEPS:
                msg = f"a description has no change {kind!r:.40}; it has {', '.join(_STEPS)}"
                raise DescriptionError(msg)
            with resolve("cpu")[
                0
            ].errstate():  # the weights are not there yet: what is converted may be any bits
                _STEPS[kind](root, step, reader)
        except DescriptionError:
            raise
        except Exception as error:
            msg = f"the change {kind} of {step[kind]!r:.60} does not fit the network: {type(error).__name__}: {error}"
            raise DescriptionError(msg) from error


def _set(root: Module, step: dict[str, Any], reader: Reader) -> None:
    _put(root, step["set"], reader.value(step["value"], str(step["set"])))


def _delete(root: Module, step: dict[str, Any], reader: Reader) -> None:
    *above, name = step["delete"].split(".") if isinstance(step["delete"], str) else step["delete"]
    del vars(get(root, above))[name]
    module_version.bump()


def _items(root: Module, step: dict[str, Any], reader: Reader) -> None:
    holder = get(root, step["items"])
    vars(holder)["_items"] = {str(name): holder._items.get(name) for name in step["names"]}
    module_version.bump()


def _tie(root: Module, step: dict[str, Any], reader: Reader) -> None:
    first, *rest = step["tie"]
    for path in rest:
        _put(root, path, get(root, first))


def _separate(root: Module, step: dict[str, Any], reader: Reader) -> None:
    x = get(root, step["separate"])
    if isinstance(x, Module):
        import copy  # few descriptions need it

        _put(root, step["separate"], copy.deepcopy(x))
    else:
        _put(
            root,
            step["separate"],
            array({k: getattr(array_value(x, 0), k) for k in array_value(x, 0).__slots__}, ""),
        )


def _requires_grad(root: Module, step: dict[str, Any], reader: Reader) -> None:
    for path in step["of"]:
        get(root, path).requires_grad_(bool(step["requires_grad"]))


def _eval(root: Module, step: dict[str, Any], reader: Reader) -> None:
    modules = dict(root.named_modules())
    for path in step["eval"]:
        modules[path].training = False


def _order(root: Module, step: dict[str, Any], reader: Reader) -> None:
    own = vars(get(root, step["order"]))
    for name in step["names"]:
        own[name] = own.pop(name)
    module_version.bump()


def _dtype(root: Module, step: dict[str, Any], reader: Reader) -> None:
    root.to(str(step["dtype"]))


def _parametrize(root: Module, step: dict[str, Any], reader: Reader) -> None:
    functions = [reader.module(node, f"parametrization of {step['name']}") for node in step["functions"]]
    originals = {k: reader.value(v, k) for k, v in step["originals"].items()}
    restore_parametrization(get(root, step["parametrize"]), str(step["name"]), functions, originals)


def _weight_norm(root: Module, step: dict[str, Any], reader: Reader) -> None:
    weight_norm(get(root, step["weight_norm"]), step["name"], step["dim"])


def _spectral_norm(root: Module, step: dict[str, Any], reader: Reader) -> None:
    options = {k: step[k] for k in ("n_power_iterations", "eps", "dim")}
    spectral_norm(get(root, step["spectral_norm"]), step["name"], **options)


_STEPS = {
    "set": _set, "delete": _delete, "items": _items, "tie": _tie, "separate": _separate, "requires_grad": _requires_grad,
    "eval": _eval, "order": _order, "parametrize": _parametrize, "weight_norm": _weight_norm, "spectral_norm": _spectral_norm,
    "dtype": _dtype,
}  # fmt: skip
