"""Module: a layer, or anything made of layers.

A layer is an ordinary class. Parameters, buffers and children are found by walking its attributes in the order in which
they were set, lists, tuples and dicts included; names that begin with an underscore are private and skipped; a tensor
that appears twice is one tensor.

>>> import anynet as an
>>> class Twice(an.nn.Module):
...     def __init__(self):
...         self.weight = an.Parameter([1.0, 2.0])
...     def forward(self, x):
...         return 2 * self.weight * x
>>> [name for name, _ in Twice().named_parameters()]
['weight']
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from anynet import dtypes
from anynet.autograd.engine import Leaf
from anynet.tensor import Buffer, Parameter, Tensor, move, no_grad, to_plain
from anynet_backends import backend_of, resolve

__all__ = ["Module", "ShapeError", "StateError"]

_M = TypeVar("_M", bound="Module")


class ShapeError(ValueError):
    """An array of a shape that a layer cannot take."""


class StateError(ValueError):
    """A state_dict that does not fit the module; nothing was changed."""


def _walk(value: Any, name: str, kinds: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """(name, leaf) for the leaves of some types in an attribute, through lists, tuples and dicts."""
    if isinstance(value, kinds):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{name}.{key}", kinds)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _walk(item, f"{name}.{i}", kinds)


path: list[str] | None = None
"""The names of the layers that are being called, while somebody wants to know (anomaly mode, profiling)."""


class Module:
    """The base class of layers: define ``forward`` and set parameters, buffers and children as attributes.

    ``super().__init__()`` may be called, and need not be.
    """

    training: bool = True
    _forward_hooks: tuple[Callable[..., Any], ...] = ()
    _forward_pre_hooks: tuple[Callable[..., Any], ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it."""
        msg = f"{type(self).__name__} defines no forward()"
        raise NotImplementedError(msg)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if path is not None:
                path.append(type(self).__name__)
            for pre in self._forward_pre_hooks:
                changed = pre(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            out = self.forward(*args, **kwargs)
            for hook in self._forward_hooks:
                changed = hook(self, args, out)
                if changed is not None:
                    out = changed
            if path is not None:
                path.pop()
            return out
        except Exception as error:
            _say_where(self, error)
            raise

    # ----- walking -----

    def _members(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        for name, value in list(vars(self).items()):
            if not name.startswith("_"):
                yield from _walk(value, name, kinds)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, with their names, each once."""
        seen: set[int] = set()
        for name, child in self._members(Module):
            if id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one."""
        return (child for _, child in self.named_children())

    def named_modules(self, memo: set[int] | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all modules inside it, with their paths, each once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside it."""
        return (module for _, module in self.named_modules())

    def _tensors(self, kind: type, recurse: bool = True, once: bool = True) -> Iterator[tuple[str, Any, Module]]:
        seen: set[int] = set()

        def visit(module: Module, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any, Module]]:
            for name, value in module._members(kind, Module):
                full = f"{prefix}{name}"
                if isinstance(value, Module):
                    if recurse and id(value) not in above:
                        yield from visit(value, f"{full}.", (*above, id(value)))
                elif not (once and id(value) in seen):
                    seen.add(id(value))
                    yield full, value, module

        yield from visit(self, "", (id(self),))

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths, each once, in the order of definition."""
        for name, p, _ in self._tensors(Parameter, recurse):
            yield (f"{prefix}.{name}" if prefix else name), p

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """The buffers with their paths, each once."""
        for name, b, _ in self._tensors(Buffer, recurse):
            yield (f"{prefix}.{name}" if prefix else name), b

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """The buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    # ----- state -----

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for name, t, _ in self._tensors(Tensor, once=False):
            if isinstance(t, Parameter) or (isinstance(t, Buffer) and t.persistent):
                yield name, t

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """All parameters and persistent buffers by name: constants that share the data."""
        return OrderedDict((name, t.detach()) for name, t in self._state())

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy arrays into the parameters and buffers of the same names; returns (missing, unexpected) names.

        Everything is checked before anything changes: with `strict`, names that are missing or unexpected raise; a
        shape that differs always does. Values are converted to the dtype and device of the module.
        """
        own = OrderedDict(self._state())
        missing = [k for k in own if k not in state]
        unexpected = [k for k in state if k not in own]
        problems = []
        if strict:
            problems += [f"missing {k}" for k in missing]
            for k in unexpected:
                near = difflib.get_close_matches(k, missing or own, 1)
                problems.append(f"unexpected {k}" + (f" (did you mean {near[0]}?)" if near else ""))
        values: dict[str, Any] = {}
        for k, t in own.items():
            if k not in state:
                continue
            value = to_plain(state[k])
            if tuple(value.shape) != t.shape:
                problems.append(f"{k}: got shape {tuple(value.shape)}, expected {t.shape}")
                continue
            new = dtypes.of(value.dtype)
            if new.kind == "complex" and t.dtype.kind != "complex":
                problems.append(f"{k}: got {new}, expected {t.dtype}")
            values[k] = value
        if problems:
            shown = "\n  ".join(problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else []))
            msg = f"the state does not fit {type(self).__name__}; nothing was changed:\n  {shown}"
            raise StateError(msg)
        with no_grad():
            for k, value in values.items():
                own[k].assign_(value)
        return missing, unexpected

    # ----- doing something to all -----

    def apply(self: _M, function: Callable[[Module], None]) -> _M:
        """Call `function` with each module, innermost first. Returns the module."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def train(self: _M, mode: bool = True) -> _M:
        """Switch dropout, batch statistics and the like to training (or, with False, to evaluation)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: _M) -> _M:
        """Evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: _M, value: bool = True) -> _M:
        """Make all parameters variables, or freeze them."""
        for p in self.parameters():
            p.requires_grad_(value)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters():
            if p.edge is not None:
                p.grad = None

    def to(self: _M, target: Any = None, *, device: str | None = None, dtype: Any = None) -> _M:
        """Move to a device ("cuda"), or convert floating-point parameters and buffers to a dtype, in place."""
        if target is not None:
            if isinstance(target, str) and target not in dtypes.names():
                device = target
            else:
                dtype = target
        if device is not None:
            resolve(device)
        kind = None if dtype is None else dtypes.of(dtype)
        if kind is not None and not kind.is_floating:
            msg = f"a module converts to floating-point types only, got {kind}"
            raise TypeError(msg)
        for _, t, _ in list(self._tensors(Tensor)):
            data = t.data if device is None else move(t.data, device)
            if kind is not None and t.dtype.is_floating:
                xp = backend_of(data)
                native = dtypes.native(xp, kind)
                data = data if data.dtype == native else xp.astype(data, native)
            if data is not t.data:
                t.data = data
                if t.edge is not None:
                    t.edge = Leaf(data)
        return self

    def float(self: _M) -> _M:
        """Convert to float32."""
        return self.to(dtypes.float32)

    def double(self: _M) -> _M:
        """Convert to float64."""
        return self.to(dtypes.float64)

    # ----- hooks -----

    def register_forward_hook(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call ``hook(module, args, output)`` after forward; what it returns (not None) replaces the output.

        Returns a function that removes the hook.
        """
        self._forward_hooks = (*self._forward_hooks, hook)
        return lambda: setattr(self, "_forward_hooks", tuple(h for h in self._forward_hooks if h is not hook))

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call ``hook(module, args)`` before forward; what it returns (not None) replaces the arguments."""
        self._forward_pre_hooks = (*self._forward_pre_hooks, hook)
        return lambda: setattr(self, "_forward_pre_hooks", tuple(h for h in self._forward_pre_hooks if h is not hook))

    # ----- showing -----

    def extra_repr(self) -> str:
        """What stands between the parentheses of this layer's line."""
        return ""

    def __repr__(self) -> str:
        children = list(self.named_children())
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in children]
        return "\n".join([f"{type(self).__name__}({extra}", *lines, ")"])

    def summary(self, *inputs: Any) -> str:
        """A table of the layers: output shapes (where example `inputs` are given), parameters and memory."""
        shapes: dict[int, str] = {}
        if inputs:
            removers = [m.register_forward_hook(_note_shape(shapes)) for m in self.modules()]
            was = self.training
            try:
                with no_grad():
                    self.eval()(*inputs)
            finally:
                self.train(was)
                for remove in removers:
                    remove()
        rows = [("layer", "output", "parameters")]
        for name, module in self.named_modules():
            count = sum(p.size for p in module.parameters(recurse=False))
            label = f"{name or '(whole)'}: {type(module).__name__}"
            rows.append((label, shapes.get(id(module), ""), f"{count:,}" if count else ""))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows
        ]
        tensors = [*self.parameters(), *self.buffers()]
        total = sum(p.size for p in self.parameters())
        trained = sum(p.size for p in self.parameters() if p.requires_grad)
        memory = sum(t.size * t.dtype.itemsize for t in tensors)
        lines.append(f"total {total:,} parameters, {trained:,} trained, {memory / 1e6:.2f} MB")
        return "\n".join(lines)


def _note_shape(shapes: dict[int, str]) -> Callable[..., None]:
    def note(module: Module, args: Any, out: Any) -> None:
        if isinstance(out, tuple):
            out = out[0]
        shapes[id(module)] = str(tuple(out.shape)) if isinstance(out, Tensor) else type(out).__name__

    return note


def _say_where(module: Module, error: Exception) -> None:
    """Build the path to the failing layer while the exception travels outwards."""
    trail: list[Module] = error.__dict__.setdefault("_anynet_trail", [])
    if trail and any(trail[-1] is child for child in module.children()):
        name = next(n for n, child in module.named_children() if child is trail[-1])
        where: list[str] = error.__dict__.setdefault("_anynet_path", [])
        where.insert(0, name)
    elif trail:
        return
    trail.append(module)
    notes: list[str] = [n for n in getattr(error, "__notes__", []) if not n.startswith("in layer ")]
    steps = error.__dict__.get("_anynet_path", [])
    first = trail[0]
    inner = repr(first).split("\n", 1)[0]
    notes.append(f"in layer {'.'.join([type(module).__name__, *steps])} ({inner})")
    error.__notes__ = notes
