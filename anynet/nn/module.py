"""Module: a layer, or anything made of layers.

A layer is an ordinary class. Parameters, buffers and children are found by walking its attributes in the order in which
they were set, lists, tuples and dicts included: a module's own tensors, then those of its children, as in PyTorch. Names
that begin with an underscore are private and skipped; a tensor that appears twice is one tensor.

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
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, Self, TypeVar

from anynet import dtypes
from anynet.autograd.compiling import watchers
from anynet.autograd.engine import Leaf
from anynet.autograd.hot import changes
from anynet.nn import state_dict, summary
from anynet.nn.arguments import check_arguments
from anynet.nn.errors import add_location, refuse_other_types
from anynet.nn.hooks import MakesAttribute, add_hook, around
from anynet.nn.layer_path import paths
from anynet.nn.members import walk
from anynet.ops.creation import zeros_like
from anynet.tensor import Buffer, Parameter, Tensor, move
from anynet_backends import backend_of, resolve
from anynet_backends.jit.errors import user_line
from anynet_backends.jit.tracer import COMPILING

__all__ = ["Module"]

_M = TypeVar("_M", bound="Module")
_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _role(value: Any) -> type | None:
    """As what a module holds an attribute, or None for an ordinary one."""
    if isinstance(value, Parameter):
        return Parameter
    if isinstance(value, Buffer):
        return Buffer
    return Module if isinstance(value, Module) else None


def _key(holder: Any, name: str) -> Any:
    """A path's part as an index or a key."""
    if not isinstance(holder, dict):
        return int(name)
    return next((k for k in holder if str(k) == name), name)


class _SupportsForward(Protocol[_P, _R]):
    def forward(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...


class Module:
    """The base class of layers: define ``forward`` and set parameters, buffers and children as attributes.

    ``super().__init__()`` may be called, and need not be.

    >>> import anynet as an
    >>> class Scale(an.nn.Module):
    ...     def __init__(self):
    ...         self.factor = an.nn.Parameter(an.asarray(2.0))
    ...
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> Scale()(an.asarray(3.0)).tolist(), list(Scale().state_dict())
    (6.0, ['factor'])
    """

    training: bool = True
    waiting: bool = (
        False  # whether the shapes of its tensors are known at its first call (see `anynet.nn.lazy`)
    )
    _forward_hooks: tuple[Callable[..., Any], ...] = ()
    _forward_pre_hooks: tuple[Callable[..., Any], ...] = ()
    _backward_hooks: tuple[Callable[..., Any], ...] = ()
    _backward_pre_hooks: tuple[Callable[..., Any], ...] = ()

    # whether `forward` is a function of its input, its tensors and its attributes, and nothing else: `anynet.nn.chain` may
    # then call that function instead; asked of this library's classes only
    _pure: ClassVar[bool] = False
    _pure_in_training: ClassVar[bool] = True

    _defined: tuple[str, int] | None = None
    _reserved: frozenset[str] = frozenset()  # names that are None now and keep their place among the members

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments, and note the line that makes the layer: the first one outside of this package."""
        check_arguments(cls, args, kwargs)
        module = super().__new__(cls)
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        module.__dict__["_defined"] = (frame.f_code.co_filename, frame.f_lineno)
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if name in own:
            before, now = _role(own[name]), _role(value)
            if now and before is not now and name not in self._reserved:
                del own[name]  # what becomes a member takes its place after those that are members already
            elif before and value is None:
                own["_reserved"] = self._reserved | {name}
        super().__setattr__(name, value)
        changes.note()
        if COMPILING and COMPILING.own:
            COMPILING.own[-1].lines[id(self), name] = user_line()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in self._reserved:
            self.__dict__["_reserved"] = self._reserved - {name}
        changes.note()
        if COMPILING and COMPILING.own:
            COMPILING.own[-1].lines[id(self), name] = user_line()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the attributes, but those that a hook computes from others."""
        made = {hook.name for hook in self._forward_pre_hooks if isinstance(hook, MakesAttribute)}
        return {k: v for k, v in self.__dict__.items() if k not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for hook in self._forward_pre_hooks:
            if isinstance(hook, MakesAttribute):
                setattr(self, hook.name, hook.present(self))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it."""
        msg = f"{type(self).__name__} defines no forward()"
        raise NotImplementedError(msg)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`, with hooks; an error says in which layer it arose."""
        if watchers:
            for watcher in watchers.own:
                watcher(self)
        if paths and paths.own:
            return self._call_watched(paths.own[-1], *args, **kwargs)
        try:
            if (
                self._forward_hooks
                or self._forward_pre_hooks
                or self._backward_hooks
                or self._backward_pre_hooks
            ):
                return self._call_hooked(*args, **kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            refuse_other_types(self, args, error)
            add_location(self, error)
            raise

    if TYPE_CHECKING:
        # takes what `forward` takes and returns what it returns: so a layer's missing argument is found, and its result has a type
        def __call__(self: _SupportsForward[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    else:
        __call__ = _call

    def _call_hooked(self, *args: Any, **kwargs: Any) -> Any:
        if self._backward_hooks or self._backward_pre_hooks:
            args, leave = around(self, args)
        else:
            leave = None
        for pre in self._forward_pre_hooks:
            changed = pre(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        out = self.forward(*args, **kwargs)
        for hook in self._forward_hooks:
            changed = hook(self, args, out)
            if changed is not None:
                out = changed
        return out if leave is None else leave(out)

    def _call_watched(self, stack: list[Module], *args: Any, **kwargs: Any) -> Any:
        stack.append(self)
        try:
            return self._call_hooked(*args, **kwargs)
        except Exception as error:
            add_location(self, error)
            raise
        finally:
            stack.pop()

    # ----- walking -----

    def _members(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        for name, value in list(vars(self).items()):
            if not name.startswith("_"):
                yield from walk(value, name, kinds)

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

    def _tensors(
        self, kind: type, recurse: bool = True, once: bool = True
    ) -> Iterator[tuple[str, Any, Module]]:
        """(path, tensor, its module): of each module its parameters, its other tensors, then what its children have."""
        seen: set[int] = set()

        def visit(module: Module, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any, Module]]:
            tensors: list[tuple[str, Any]] = []
            children: list[tuple[str, Any]] = []
            for name, value in module._members(kind, Module):
                (children if isinstance(value, Module) else tensors).append((f"{prefix}{name}", value))
            if kind is Tensor:
                tensors.sort(key=lambda item: not isinstance(item[1], Parameter))
            for full, value in tensors:
                if not (once and id(value) in seen):
                    seen.add(id(value))
                    yield full, value, module
            if recurse:
                for full, value in children:
                    if id(value) not in above:
                        yield from visit(value, f"{full}.", (*above, id(value)))

        yield from visit(self, "", (id(self),))

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths, each once: a module's own in the order of definition, then its children's."""
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

    def state_dict(self, prefix: str = "") -> OrderedDict[str, Tensor]:
        """All parameters and persistent buffers by name: constants that share the data."""
        return state_dict.state_dict(self, prefix)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy arrays into the parameters and buffers of the same names; returns (missing, unexpected) names.

        Everything is checked before anything changes: with `strict`, names that are missing or unexpected raise; a
        shape that differs always does. Values are converted to the dtype and device of the module. Lazy layers take the
        size that the state has for them.
        """
        return state_dict.load_state_dict(self, state, strict)

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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or, with ``set_to_none=False``, set them to zero)."""
        for p in self.parameters():
            if p.edge is not None and p.grad is not None:
                p.grad = None if set_to_none else zeros_like(p.grad)

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
        moved: list[tuple[Tensor, Any]] = []
        for _, t, _ in self._tensors(Tensor):
            data = t._data if device is None else move(t._data, device)
            if (
                kind is not None
                and t.dtype.is_floating
                and (kind.kind == "complex" or t.dtype.kind == "real")
            ):
                xp = backend_of(data)
                native = dtypes.native(xp, kind)
                data = data if data.dtype == native else xp.astype(data, native)
            if data is not t._data:
                moved.append((t, data))
        for t, data in moved:  # only when all of it has succeeded
            t._data = data
            if t.edge is not None:
                t.edge = Leaf(data)
        return self

    def float(self: _M) -> _M:
        """Convert to float32."""
        return self.to(dtypes.float32)

    def double(self: _M) -> _M:
        """Convert to float64."""
        return self.to(dtypes.float64)

    def half(self: _M) -> _M:
        """Convert to float16."""
        return self.to("float16")

    def bfloat16(self: _M) -> _M:
        """Convert to bfloat16, where the device has it."""
        return self.to("bfloat16")

    def type(self: _M, dst_type: Any) -> _M:
        """Convert to a floating-point dtype."""
        return self.to(dtype=dst_type)

    def cpu(self: _M) -> _M:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self: _M, device: int | str | None = None) -> _M:
        """Move to a CUDA device: the first, or that of a number or name."""
        return self.to(device if isinstance(device, str) else "cuda" if device is None else f"cuda:{device}")

    # ----- as in PyTorch, for code that comes from there -----

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set attribute `name` to a `Buffer`; assigning one does the same."""
        self._register(name, None if tensor is None else Buffer(tensor, persistent=persistent))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set attribute `name` to a parameter; assigning it does the same."""
        if param is not None and not isinstance(param, Parameter):
            msg = f"register_parameter({name!r}): got {type(param).__name__}, expected a Parameter or None"
            raise TypeError(msg)
        self._register(name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set attribute `name` to a module; assigning it does the same."""
        if module is not None and not isinstance(module, Module):
            msg = f"add_module({name!r}): got {type(module).__name__}, expected a Module or None"
            raise TypeError(msg)
        self._register(name, module)

    register_module = add_module

    def _register(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        if value is None:
            self.__dict__["_reserved"] = self._reserved | {name}

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put `module` in the place of the one at a path; with `strict` there must be one."""
        if not isinstance(module, Module):
            msg = f"set_submodule({target!r}): got {type(module).__name__}, expected a Module"
            raise TypeError(msg)
        if strict:
            self.get_submodule(target)
        above, _, name = target.rpartition(".")
        holder: Any = self
        for part in above.split(".") if above else ():
            holder = (
                holder[_key(holder, part)]
                if isinstance(holder, (list, dict, tuple))
                else getattr(holder, part)
            )
        if isinstance(holder, (list, dict)):
            holder[_key(holder, name)] = module
        elif name in getattr(holder, "_items", ()):
            holder._items[name] = module
        elif name and not isinstance(holder, tuple):
            setattr(holder, name, module)
        else:
            msg = f"set_submodule({target!r}): there is no place of this name"
            raise ValueError(msg)

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``"encoder.2"``; AttributeError with the nearest path where there is none."""
        for name, module in self.named_modules():
            if name == target:
                return module
        raise self._nothing(target, [n for n, _ in self.named_modules()])

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as ``"encoder.2.weight"``; AttributeError with the nearest path if none."""
        return self._tensor_at(target, Parameter)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Buffer:
        """The buffer at a path; AttributeError with the nearest path if there is none."""
        return self._tensor_at(target, Buffer)  # type: ignore[no-any-return]

    def _tensor_at(self, target: str, kind: Any) -> Any:
        found = {name: x for name, x, _ in self._tensors(kind, once=False)}
        if target in found:
            return found[target]
        raise self._nothing(target, list(found))

    def _nothing(self, target: str, known: list[str]) -> AttributeError:
        near = difflib.get_close_matches(target, known, 1)
        msg = f"{type(self).__name__} has no {target!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        return AttributeError(msg)

    # ----- hooks -----

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> Callable[[], None]:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the module's positional inputs and of its outputs are
        known (tuples, None for what needs none); what it returns (not None) replaces grad_input. Returns a function that removes
        the hook.
        """
        return add_hook(self, "_backward_hooks", hook, prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> Callable[[], None]:
        """Call ``hook(module, grad_output)`` before the module's part of the backward pass; what it returns (not None) replaces
        grad_output. Returns a function that removes the hook.
        """
        return add_hook(self, "_backward_pre_hooks", hook, prepend)

    def register_forward_hook(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call ``hook(module, args, output)`` after forward; what it returns (not None) replaces the output.

        Returns a function that removes the hook.
        """
        return add_hook(self, "_forward_hooks", hook)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call ``hook(module, args)`` before forward; what it returns (not None) replaces the arguments."""
        return add_hook(self, "_forward_pre_hooks", hook)

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

    def label(self) -> str:
        """A few words for messages: the kind of layer and its sizes."""
        extra = self.extra_repr()
        return f"{type(self).__name__}({extra})" if extra else type(self).__name__

    def summary(self, *inputs: Any) -> str:
        """A table of the layers with their parameters, and the memory that they take.

        Given example inputs, or their shapes (tuples of integers), it runs the module once in evaluation mode and shows
        the shape and the memory of each layer's output as well.

        >>> import anynet as an
        >>> print(an.nn.Sequential(an.nn.Linear(4, 3), an.nn.ReLU()).summary((5, 4)))
        layer              output  parameters
        (all): Sequential  (5, 3)          15
        0: Linear          (5, 3)          15
        1: ReLU            (5, 3)
        total: 15 parameters, 15 of them trained; 60 bytes of parameters and buffers, 120 bytes of outputs
        """
        return summary.summary(self, *inputs)
