"""Module: a layer, or anything made of layers.

A layer is an ordinary class. Parameters, buffers and children are found by walking its attributes in the order in which
they were set, lists, tuples and dicts included: a module's own tensors, then those of its children, as in PyTorch. Names
that begin with an underscore are no exception. A tensor that appears twice is one tensor. To keep a module from being a child,
wrap it: ``self.owner = lambda: owner`` or ``weakref.ref(owner)``.

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

import os
import reprlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, Self, TypeVar

from anynet import dtypes
from anynet.autograd.graph import RemovableHandle
from anynet.autograd.jit.trace_context import module_observers
from anynet.nn import state_dict, summary
from anynet.nn.arguments import check_arguments
from anynet.nn.errors import add_location, refuse_other_types
from anynet.nn.hooks import MakesAttribute, WithKeywords, add_hook, around, global_hooks
from anynet.nn.layer_path import paths
from anynet.nn.members import PLAIN, named_tensors, not_found, walk
from anynet.nn.recorded import Recorded, record
from anynet.ops.creation import zeros_like
from anynet.sparse_rows import SparseRows
from anynet.tensor import Buffer, Leaf, Parameter, Tensor, module_version, move, wrap
from anynet.typing import ArrayLike
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


def _member(module: Module, name: str, role: type, value: Any) -> Any:
    """What takes the place of a member: a Tensor becomes the buffer; what would silently be no member is refused."""
    if role is Buffer and isinstance(value, Tensor):
        old = vars(module)[name]
        made = wrap(value._data, type(old))
        made.persistent, made.edge = old.persistent, value.edge  # type: ignore[attr-defined]
        return made
    if role is Parameter:
        what, remedy = (
            "a Parameter",
            f"write Parameter(value), or {name}.assign_(value) inside anynet.no_grad()",
        )
    else:
        what, remedy = ("a Buffer", "give a Tensor") if role is Buffer else ("a Module", "give a Module")
    msg = f"{type(module).__name__}: {name} is {what}, got {type(value).__name__}; {remedy}, or delete the attribute first"
    raise TypeError(msg)


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
    _state_hooks: tuple[Callable[..., Any], ...] = ()
    _state_pre_hooks: tuple[Callable[..., Any], ...] = ()
    _load_pre_hooks: tuple[Callable[..., Any], ...] = ()
    _load_post_hooks: tuple[Callable[..., Any], ...] = ()

    # whether `forward` is a function of its input, its tensors and its attributes, and nothing else: `anynet.nn.fused_sequential` may
    # then call that function instead; asked of this library's classes only
    _pure: ClassVar[bool] = False
    _pure_in_training: ClassVar[bool] = True
    _draws_masks: ClassVar[bool] = False  # in training pure but for the position in the stream of masks
    _pure_on_devices: ClassVar[bool] = False  # also where others are inside, with one input

    _defined: tuple[str, int] | None = None
    _made: Recorded | None = None
    _reserved: frozenset[str] = frozenset()  # names that are None now and keep their place among the members
    # attributes of this class itself, which hold no members
    _not_members: ClassVar[frozenset[str]] = frozenset(
        {
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
            "_state_hooks",
            "_state_pre_hooks",
            "_load_pre_hooks",
            "_load_post_hooks",
            "_defined",
            "_made",
            "_reserved",
        }
    )

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments, and note them and the line that makes the layer: the first one outside of this package."""
        check_arguments(cls, args, kwargs)
        module = super().__new__(cls)
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        module.__dict__["_defined"] = (frame.f_code.co_filename, frame.f_lineno)
        module.__dict__["_made"] = record(cls, args, kwargs)
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if name in own:
            before, now = _role(own[name]), _role(value)
            if before and not now and value is not None:
                value = _member(self, name, before, value)
            elif now and before is not now and name not in self._reserved:
                del own[name]  # what becomes a member takes its place after those that are members already
            elif before and value is None:
                own["_reserved"] = self._reserved | {name}
        super().__setattr__(name, value)
        module_version.bump()
        if COMPILING and COMPILING.own:
            COMPILING.own[-1].lines[id(self), name] = user_line()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in self._reserved:
            self.__dict__["_reserved"] = self._reserved - {name}
        module_version.bump()
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
        msg = f"{type(self).__name__}: the class must define forward()"
        raise NotImplementedError(msg)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`, with hooks; an error says in which layer it arose."""
        if module_observers:
            for watcher in module_observers.own:
                watcher(self)
        if paths and paths.own:
            return _call_watched(self, paths.own[-1], *args, **kwargs)
        try:
            if (
                self._forward_hooks
                or self._forward_pre_hooks
                or self._backward_hooks
                or self._backward_pre_hooks
                or global_hooks.any
            ):
                return _call_hooked(self, *args, **kwargs)
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

    # ----- walking -----

    def _named_members(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        """The modules that the attributes hold, and leaves of other types, with their names."""
        own, kinds = self._not_members, (*kinds, Module)
        for name, value in list(vars(self).items()):
            if type(value) not in PLAIN and name not in own:
                yield from walk(value, name, kinds)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, with their names, each once."""
        seen: set[int] = set()
        for name, child in self._named_members():
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

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths, each once: a module's own in the order of definition, then its children's."""
        for name, p, _ in named_tensors(self, Parameter, recurse):
            yield (f"{prefix}.{name}" if prefix else name), p

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """The buffers with their paths, each once."""
        for name, b, _ in named_tensors(self, Buffer, recurse):
            yield (f"{prefix}.{name}" if prefix else name), b

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """The buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    # ----- state -----

    def state_dict(self, prefix: str = "") -> OrderedDict[str, Tensor]:
        """All parameters and persistent buffers by name: constants that share the data. Then, under ``…_extra_state``, what
        `get_extra_state` gives in the modules that define it."""
        return state_dict.state_dict(self, prefix)

    def get_extra_state(self) -> Any:
        """What a module's state has besides its tensors; a class that has some defines it, with `set_extra_state`."""
        msg = f"{type(self).__name__} defines no get_extra_state()"
        raise NotImplementedError(msg)

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave."""
        msg = f"{type(self).__name__} defines no set_extra_state()"
        raise NotImplementedError(msg)

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
        """Let all parameters require gradients, or, with False, freeze them."""
        for p in self.parameters():
            p.requires_grad_(value)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or, with ``set_to_none=False``, set them to zero)."""
        for p in self.parameters():
            if p.grad is not None:
                zero = p.grad.none if isinstance(p.grad, SparseRows) else lambda p=p: zeros_like(p.grad)
                p.grad = None if set_to_none else zero()

    def to(
        self: _M, target: Any = None, second: Any = None, non_blocking: bool = False, *, device: str | None = None, dtype: Any = None,
        memory_format: Any = None,
    ) -> _M:  # fmt: skip
        """Move to a device ("cuda"), or convert floating-point parameters and buffers to a dtype, or both, in place.

        `target` and `second` are a device and a dtype, or a Tensor that has both. `non_blocking` and `memory_format` are accepted and
        change nothing.
        """
        for given in (target, second):
            if isinstance(given, Tensor):
                device, dtype = given.device, given.dtype if given.dtype.is_floating else dtype
            elif isinstance(given, str) and given not in dtypes.names():
                device = given
            elif given is not None and not isinstance(given, bool):
                dtype = given
        if device is not None:
            resolve(device)
        kind = None if dtype is None else dtypes.of(dtype)
        if kind is not None and not kind.is_floating:
            msg = f"{type(self).__name__}.to: dtype must be a floating-point type, got {kind}"
            raise TypeError(msg)
        moved: list[tuple[Tensor, Any]] = []
        for _, t, _ in named_tensors(self, Tensor):
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

    def register_buffer(self, name: str, tensor: ArrayLike | complex | None, persistent: bool = True) -> None:
        """Set attribute `name` to a `Buffer`; assigning one does the same."""
        _register(self, name, None if tensor is None else Buffer(tensor, persistent=persistent))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set attribute `name` to a parameter; assigning it does the same."""
        if param is not None and not isinstance(param, Parameter):
            msg = f"register_parameter: param must be a Parameter or None, got {type(param).__name__} for {name!r}"
            raise TypeError(msg)
        _register(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set attribute `name` to a module; assigning it does the same."""
        if module is not None and not isinstance(module, Module):
            msg = f"add_module: module must be a Module or None, got {type(module).__name__} for {name!r}"
            raise TypeError(msg)
        _register(self, name, module)

    register_module = add_module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put `module` in the place of the one at a path; with `strict` there must be one."""
        if not isinstance(module, Module):
            msg = f"set_submodule: module must be a Module, got {type(module).__name__} for {target!r}"
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
            msg = f"set_submodule: target must name a place in the module, got {target!r}"
            raise ValueError(msg)

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``"encoder.2"``; AttributeError with the nearest path where there is none."""
        for name, module in self.named_modules():
            if name == target:
                return module
        raise not_found(self, target, [n for n, _ in self.named_modules()])

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as ``"encoder.2.weight"``; AttributeError with the nearest path if none."""
        return _tensor_at(self, target, Parameter)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Buffer:
        """The buffer at a path; AttributeError with the nearest path if there is none."""
        return _tensor_at(self, target, Buffer)  # type: ignore[no-any-return]

    # ----- hooks -----

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the module's positional inputs and of its outputs are
        known (tuples, None for what needs none); what it returns (not None) replaces grad_input. ``remove()`` of what is
        returned removes it.
        """
        return add_hook(self, "_backward_hooks", hook, prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the module's part of the backward pass; what it returns (not None) replaces
        grad_output. ``remove()`` of what is returned removes it.
        """
        return add_hook(self, "_backward_pre_hooks", hook, prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after forward, or ``hook(module, args, kwargs, output)`` `with_kwargs`; what it returns (not
        None) replaces the output. `prepend` puts it before the others.

        ``remove()`` of what is returned removes the hook.
        """
        return add_hook(self, "_forward_hooks", WithKeywords(hook) if with_kwargs else hook, prepend)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before forward; what it returns (not None) replaces the arguments. `with_kwargs`:
        ``hook(module, args, kwargs)``, which returns None or both."""
        return add_hook(self, "_forward_pre_hooks", WithKeywords(hook) if with_kwargs else hook, prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before the state of this module is taken; keep_vars is False."""
        return add_hook(self, "_state_pre_hooks", hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state, prefix, local_metadata)`` when the state of this module is in `state`, under names that begin with
        `prefix`; it may change `state`. The metadata are an empty dict."""
        return add_hook(self, "_state_hooks", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state, prefix, local_metadata, strict, missing, unexpected, errors)`` before a state is compared with the
        module; it may change `state`, a copy, and add to the list `errors`."""
        return add_hook(self, "_load_pre_hooks", hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, keys)`` after a state has been loaded; ``keys.missing_keys`` and ``keys.unexpected_keys`` are lists."""
        return add_hook(self, "_load_post_hooks", hook)

    # ----- showing -----

    def extra_repr(self) -> str:
        """What stands between the parentheses of this layer's line."""
        return ""

    @reprlib.recursive_repr("…")
    def __repr__(self) -> str:
        children = list(self.named_children())
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in children]
        return "\n".join([f"{type(self).__name__}({extra}", *lines, ")"])

    def _repr_html_(self) -> str:
        """For notebooks: the table of `summary`; given example inputs `summary` has the shapes of the outputs, too."""
        return summary.summary(self)._repr_html_()

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


def _call_hooked(module: Module, *args: Any, **kwargs: Any) -> Any:
    if module._backward_hooks or module._backward_pre_hooks or global_hooks._backward:
        args, leave = around(module, args)
    else:
        leave = None
    for pre in (*global_hooks._forward_pre, *module._forward_pre_hooks):
        if type(pre) is WithKeywords:
            changed = pre.hook(module, args, kwargs)
            if changed is not None:
                args, kwargs = changed
            continue
        changed = pre(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    out = module.forward(*args, **kwargs)
    for hook in (*global_hooks._forward, *module._forward_hooks):
        changed = (
            hook.hook(module, args, kwargs, out) if type(hook) is WithKeywords else hook(module, args, out)
        )
        if changed is not None:
            out = changed
    return out if leave is None else leave(out)


def _call_watched(module: Module, stack: list[Module], *args: Any, **kwargs: Any) -> Any:
    stack.append(module)
    try:
        return _call_hooked(module, *args, **kwargs)
    except Exception as error:
        add_location(module, error)
        raise
    finally:
        stack.pop()


def _register(module: Module, name: str, value: Any) -> None:
    setattr(module, name, value)
    if value is None:
        module.__dict__["_reserved"] = module._reserved | {name}


def _tensor_at(module: Module, target: str, kind: Any) -> Any:
    found = {name: x for name, x, _ in named_tensors(module, kind, once=False)}
    if target in found:
        return found[target]
    raise not_found(module, target, list(found))
