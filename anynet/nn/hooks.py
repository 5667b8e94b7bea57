"""Hooks: a list of functions that an object calls; and those of a backward pass, which are identities around a module whose
gradient rules call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anynet.autograd.custom_vjp import custom_vjp
from anynet.autograd.graph import RemovableHandle
from anynet.autograd.pytree import flatten, unflatten
from anynet.tensor import Tensor, module_version, result_class

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = [
    "GlobalHooks", "MakesAttribute", "WithKeywords", "add_hook", "around", "global_hooks", "register_module_forward_hook",
    "register_module_forward_pre_hook", "register_module_full_backward_hook",
]  # fmt: skip


class WithKeywords:
    """A forward hook that is given the keyword arguments, too (``with_kwargs=True``)."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self.hook = hook


class GlobalHooks:
    """Hooks of all modules of the process; while there are some, no layers are fused."""

    def __init__(self) -> None:
        self.any = False
        self.clear()

    def clear(self) -> None:
        """No hooks."""
        self._forward: tuple[Any, ...] = ()
        self._forward_pre: tuple[Any, ...] = ()
        self._backward: tuple[Any, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "any":
            found = vars(self)
            super().__setattr__("any", any(found.get(n) for n in ("_forward", "_forward_pre", "_backward")))
            module_version.bump()


global_hooks = GlobalHooks()


def register_module_forward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward pass of every module of the process; what it returns (not None) replaces
    the output. ``remove()`` of what is returned removes it.

    >>> import anynet as an
    >>> seen = []
    >>> handle = register_module_forward_hook(lambda module, args, output: seen.append(type(module).__name__))
    >>> _ = an.nn.Sequential(an.nn.Linear(1, 1))(an.ones((1, 1)))
    >>> handle.remove()
    >>> seen
    ['Linear', 'Sequential']
    """
    return add_hook(global_hooks, "_forward", hook)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward pass of every module of the process."""
    return add_hook(global_hooks, "_forward_pre", hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` in the backward pass of every module of the process, as
    `Module.register_full_backward_hook`."""
    return add_hook(global_hooks, "_backward", hook)


class MakesAttribute:
    """A hook of a module that computes the attribute `name` from others; copies and pickles leave that out, and compute it
    again (`present`)."""

    name: str

    def __call__(self, module: Module, args: Any) -> None:
        """Set the attribute, before a forward pass."""
        raise NotImplementedError

    def present(self, module: Module) -> Any:
        """The attribute's value now."""
        raise NotImplementedError


def add_hook(
    owner: Any, name: str, hook: Callable[..., Any] | WithKeywords, first: bool = False
) -> RemovableHandle:
    """Put a hook into the tuple `name` of an object; what is returned removes it."""
    others = getattr(owner, name)
    setattr(owner, name, (hook, *others) if first else (*others, hook))

    def remove() -> None:
        hooks = list(getattr(owner, name))
        at = next((i for i, h in enumerate(hooks) if h is hook), None)
        if at is not None:  # once: what has been registered twice stays registered once
            del hooks[at]
            setattr(owner, name, tuple(hooks))

    return RemovableHandle(remove)


def _identity(xs: list[Tensor], rule: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> list[Tensor]:
    """The same Tensors; their gradients, all at once, pass through `rule`."""

    @custom_vjp
    def same(*values: Any) -> Any:
        return tuple(values)

    kind = result_class(xs)

    def given(_: Any, g: Any) -> tuple[Any, ...]:
        for v in g if kind is not Tensor else ():
            if type(v) is Tensor:
                v.__class__ = kind  # hooks are given what operations on these give
        return rule(tuple(g))

    same.defvjp(lambda *values: (tuple(v + 0.0 for v in values), None), given)
    return list(same(*xs))


def _wanting(leaves: list[Any]) -> list[int]:
    return [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.requires_grad]


def around(module: Module, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Callable[[Any], Any]]:
    """The arguments to call a module with, and what its output must pass through, so that its backward hooks are called."""
    inputs = _wanting(list(args))
    kept: dict[str, tuple[Any, ...]] = {}

    def spread(g: tuple[Any, ...], places: list[int], count: int) -> tuple[Any, ...]:
        found: list[Any] = [None] * count
        for i, value in zip(places, g, strict=True):
            found[i] = value
        return tuple(found)

    def replaced(changed: Any, grads: tuple[Any, ...], what: str) -> tuple[Any, ...]:
        if changed is None:
            return grads
        given: tuple[Any, ...] = changed if isinstance(changed, tuple) else (changed,)
        if len(given) != len(grads):
            msg = f"a backward hook of {type(module).__name__} returned {len(given)} gradients for {len(grads)} {what}"
            raise ValueError(msg)
        return given

    def leaving(g: tuple[Any, ...]) -> tuple[Any, ...]:
        grads = spread(g, kept["places"], kept["count"][0])  # type: ignore[arg-type]
        for hook in module._backward_pre_hooks:
            grads = replaced(hook(module, grads), grads, "outputs")
        kept["output"] = grads
        if not inputs:
            for hook in (*global_hooks._backward, *module._backward_hooks):
                hook(module, (None,) * len(args), grads)
        return tuple(grads[i] for i in kept["places"])

    def entering(g: tuple[Any, ...]) -> tuple[Any, ...]:
        grads = spread(g, inputs, len(args))
        for hook in (*global_hooks._backward, *module._backward_hooks):
            grads = replaced(hook(module, grads, kept["output"]), grads, "inputs")
        return tuple(grads[i] for i in inputs)

    if inputs:
        own = iter(_identity([args[i] for i in inputs], entering))
        args = tuple(next(own) if i in inputs else a for i, a in enumerate(args))

    def leave(out: Any) -> Any:
        leaves, structure = flatten(out)
        places = _wanting(leaves)
        if not places:
            return out
        kept["places"], kept["count"] = tuple(places), (len(leaves),)
        for i, y in zip(places, _identity([leaves[i] for i in places], leaving), strict=True):
            leaves[i] = y
        return unflatten(structure, leaves)

    return args, leave
