"""Methods of PyTorch's Module that begin with an underscore and that scripts override or call: each override is called where PyTorch would,
rather than passed over. And those that have no meaning here, which say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet import nn as _nn
from anynet.tensor import Parameter, no_grad
from anynet.torch.absent import UNSHARED, refused
from anynet.torch.tensor import adopt

__all__ = ["METHODS", "OF_USERS", "heard"]

_move, _state, _load = _nn.Module.to, _nn.Module.state_dict, _nn.Module.load_state_dict


def _state_dict(
    self: Any, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
) -> Any:
    """`Module.state_dict`; into `destination` where there is one, with `keep_vars` the parameters and buffers themselves."""
    if len(args) == 1 and isinstance(args[0], str):  # anynet's own: the prefix
        prefix = args[0]
    else:
        options = [destination, prefix, keep_vars]
        options[: len(args)] = args
        destination, prefix, keep_vars = options
    found = _state(self, prefix)
    if keep_vars:
        for name, t in (*self.named_parameters(prefix.rstrip(".")), *self.named_buffers(prefix.rstrip("."))):
            if name in found:
                found[name] = t
    if destination is None:
        return found
    destination.update(found)
    return destination


def _load_state_dict(self: Any, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
    """`Module.load_state_dict`. With `assign` PyTorch lets the module have the tensors themselves; here it takes their values, and what has
    another type is refused."""
    if assign:
        own = _state(self)
        other = [k for k, v in state_dict.items() if k in own and adopt(v).dtype is not own[k].dtype]
        if other:
            msg = f"load_state_dict: with assign=True the types must be the module's, which they are not of {', '.join(other[:5])}"
            raise NotImplementedError(msg)
    return _load(self, state_dict, strict)


def _apply(self: Any, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
    """Give every parameter and buffer the value of `fn`; gradients too."""
    for child in self.children() if recurse else ():
        child._apply(fn)
    with no_grad():
        for t in (*self.parameters(recurse=False), *self.buffers(recurse=False)):
            new = fn(adopt(t).data)
            if new.dtype is not t.dtype or new.device != t.device or tuple(new.shape) != tuple(t.shape):
                t.data = new._data
            elif new._data is not t._data:
                t.assign_(new)
            if isinstance(t, Parameter) and t.grad is not None:
                t.grad = fn(adopt(t.grad))
    return self


def _to(self: Any, *args: Any, **kwargs: Any) -> Any:
    """`Module.to`, after which modules that override `_apply` move what else they keep."""
    _move(self, *args, **kwargs)
    for module in self.modules():
        if type(module)._apply is not _apply:
            module._apply(lambda t: adopt(t).to(*args, **kwargs) if t.is_floating_point() else t)
    return self


def _load_from_state_dict(
    self: Any, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: Any, unexpected_keys: Any, error_msgs: Any
) -> None:  # fmt: skip
    """What an override calls at its end or its beginning: the module's own tensors are taken from `state_dict` later, with the others."""
    self.__dict__["_asked_to_load"] = True


def _before_loading(module: Any, *args: Any) -> None:
    """The hook that calls an override of `_load_from_state_dict`."""
    module._load_from_state_dict(*args)
    if not module.__dict__.pop("_asked_to_load", False):
        msg = (
            f"{type(module).__name__}._load_from_state_dict must call super()._load_from_state_dict(…): states are checked as a whole "
            "before anything is loaded, and a module cannot load its own tensors by itself"
        )
        raise NotImplementedError(msg)


def _save_to_state_dict(self: Any, destination: Any, prefix: str, keep_vars: bool) -> None:
    """What an override calls: the module's own tensors are in `destination` already."""


def _after_saving(module: Any, state: Any, prefix: str, _: Any) -> None:
    """The hook that calls an override of `_save_to_state_dict`."""
    module._save_to_state_dict(state, prefix, False)


def _register_load_state_dict_pre_hook(self: Any, hook: Callable[..., Any], with_module: bool = False) -> Any:
    """`register_load_state_dict_pre_hook`, whose hook is given the module only where that is asked for."""
    given = hook if with_module else lambda _, *args: hook(*args)
    return self.register_load_state_dict_pre_hook(given)


def _compile(self: Any, *_: Any, **__: Any) -> None:
    """The module runs as it is written; a whole training step is compiled by `anynet.compile`."""


def _to_empty(self: Any, *, device: Any, recurse: bool = True) -> Any:
    """On a device, with whatever values."""
    from anynet.torch.table import TABLE  # late: the table takes modules of this room

    return self._apply(lambda t: TABLE["empty_like"].function(t, device=device), recurse)


METHODS: dict[str, Any] = {
    "_apply": _apply, "to": _to, "state_dict": _state_dict, "load_state_dict": _load_state_dict,
    "_load_from_state_dict": _load_from_state_dict, "_save_to_state_dict": _save_to_state_dict,
    "_register_load_state_dict_pre_hook": _register_load_state_dict_pre_hook,
    "_register_state_dict_hook": _nn.Module.register_state_dict_post_hook, "_get_name": lambda self: type(self).__name__,
    "_version": 1, "to_empty": _to_empty, "T_destination": dict,
    "register_backward_hook": refused(
        "register_backward_hook", "what its hook is given depends on PyTorch's operations; use register_full_backward_hook"
    ),
    "share_memory": refused("share_memory", UNSHARED),
}  # fmt: skip
"""What this room adds to `anynet.nn.Module`."""

OF_USERS: dict[str, Any] = {"compile": _compile}
"""What this room's Module alone has, and networks that scripts define: anynet's own answer the name with what to write instead."""


def heard(module: Any) -> None:
    """Let the overrides of a new module be called."""
    kind = type(module)
    if kind._load_from_state_dict is not _load_from_state_dict:
        module.register_load_state_dict_pre_hook(_before_loading)
    if kind._save_to_state_dict is not _save_to_state_dict:
        module.register_state_dict_post_hook(_after_saving)
