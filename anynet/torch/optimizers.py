"""`torch.optim`: anynet's optimizers, and a base for those that scripts define as for PyTorch, with ``self.state`` and a `step` of
their own."""

from __future__ import annotations

import copy
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable
from types import MappingProxyType, ModuleType
from typing import Any

from anynet import optim as _optim
from anynet.autograd.jit.host_callback import host_callback
from anynet.optim.optimizer import Optimizer as _Optimizer
from anynet.optim.optimizer import hooked
from anynet.tensor import Tensor
from anynet.torch.tensor import adopt

__all__ = ["Optimizer", "optim", "required"]


class _Required:
    """The default of an option that each group must have."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class _Base(type):
    """The type of `Optimizer`: anynet's optimizers are instances, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(_Optimizer if cls is Optimizer else cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return type.__subclasscheck__(_Optimizer if cls is Optimizer else cls, subclass)


class Optimizer(_Optimizer, metaclass=_Base):
    """The base of optimizers that are written for PyTorch: a subclass defines `step`, which reads ``p.grad``, keeps what it likes in
    ``self.state[p]`` and writes into ``p`` under ``torch.no_grad()`` (or into ``p.data``).

    >>> import anynet.torch as torch
    >>> class SignDescent(torch.optim.Optimizer):
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     @torch.no_grad()
    ...     def step(self, closure=None):
    ...         for group in self.param_groups:
    ...             for p in group["params"]:
    ...                 self.state[p]["steps"] = self.state[p].get("steps", 0) + 1
    ...                 p.add_(p.grad.sign(), alpha=-group["lr"])
    >>> p = torch.nn.Parameter(torch.tensor([3.0]))
    >>> optimizer = SignDescent([p])
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.tolist(), optimizer.state[p]
    ([2.9000000953674316], {'steps': 1})
    """

    state: defaultdict[Any, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super(_Optimizer, cls).__init_subclass__(
            **kwargs
        )  # the methods of a script mean what they mean in it
        if "step" in cls.__dict__:
            cls.step = host_callback(hooked(cls.__dict__["step"]))  # type: ignore[method-assign]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            msg = f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {type(params).__name__}"
            raise TypeError(msg)
        self.defaults, self.state, self.param_groups = defaults, defaultdict(dict), []
        given = list(params)
        if not given:
            msg = "optimizer got an empty parameter list"
            raise ValueError(msg)
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own; what it lacks are the defaults."""
        if not isinstance(group, dict):
            msg = f"param_group must be a dict, but got {type(group).__name__}"
            raise TypeError(msg)
        given = group["params"]
        if isinstance(given, set):
            msg = "optimizer parameters need to be organized in ordered collections; the order of tensors in sets changes between runs"
            raise TypeError(msg)
        items = [given] if isinstance(given, Tensor) else list(given)
        named = bool(items) and isinstance(items[0], tuple)
        params = [item[1] for item in items] if named else items
        for p in params:
            if not isinstance(p, Tensor):
                msg = f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}"
                raise TypeError(msg)
            if not p.is_leaf:
                msg = "can't optimize a non-leaf Tensor"
                raise ValueError(msg)
        for name, value in self.defaults.items():
            if value is required and name not in group:
                msg = f"parameter group didn't specify a value of required optimization parameter {name}"
                raise ValueError(msg)
        if len({id(p) for p in params}) < len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters", UserWarning, stacklevel=3
            )
        if {id(p) for p in params} & {id(p) for other in self.param_groups for p in other["params"]}:
            msg = "some parameters appear in more than one parameter group"
            raise ValueError(msg)
        group.update(params=params, **({"param_names": [n for n, _ in items]} if named else {}))
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.param_groups.append(group)

    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient: defined by a subclass."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to None (or, with ``set_to_none=False``, to zero)."""
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            p.grad = None if set_to_none else p.grad.detach() * 0

    def finite_gradients(self) -> bool:
        """Whether no gradient holds a NaN or an infinity."""
        return self._each_finite()

    def _settle(self) -> None:
        """The groups are plain dicts, and read at each step."""

    def _numbers(self) -> dict[int, int]:
        """The number of each parameter, by identity."""
        order: dict[int, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                order.setdefault(id(p), len(order))
        return order

    def state_dict(self) -> dict[str, Any]:
        """The state of each parameter by its number, and the groups, whose parameters are numbers."""
        number = self._numbers()
        state = {number[id(p)] if isinstance(p, Tensor) else p: value for p, value in self.state.items()}
        groups = [
            {**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`: tensors take the dtype and the device of their parameters, but for ``step``."""
        saved = copy.deepcopy(state["param_groups"])
        if len(saved) != len(self.param_groups):
            msg = "loaded state dict has a different number of parameter groups"
            raise ValueError(msg)
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved, self.param_groups, strict=True)):
            msg = "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            raise ValueError(msg)
        of = {
            n: p
            for a, b in zip(saved, self.param_groups, strict=True)
            for n, p in zip(a["params"], b["params"], strict=True)
        }
        found: defaultdict[Any, Any] = defaultdict(dict)
        for n, value in state["state"].items():
            found[of.get(n, n)] = _moved(of[n], value) if n in of else copy.deepcopy(value)
        groups = [{**a, "params": b["params"]} for a, b in zip(saved, self.param_groups, strict=True)]
        self.__setstate__({"state": found, "param_groups": groups})

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _State:
    """``optimizer.state`` of anynet's optimizers. With a `step` of the script's own it is a dict for each parameter, which the script
    fills; else what the optimizer keeps of each, to be read (`load_state_dict` changes it)."""

    def __get__(self, optimizer: Any, kind: Any = None) -> Any:
        if optimizer is None:
            return self
        if not type(optimizer).step.__module__.startswith("anynet."):
            return optimizer.__dict__.setdefault("state", defaultdict(dict))
        found = optimizer.state_dict()["state"]
        params = [p for group in optimizer.param_groups for p in group["params"]]
        of = {p: found[i] for i, p in enumerate(params) if i in found}
        return MappingProxyType({p: MappingProxyType(adopt(value)) for p, value in of.items()})


_Optimizer.state = _State()  # type: ignore[attr-defined]


def _moved(p: Any, value: Any, name: Any = None) -> Any:
    """State as it was saved, for a parameter: of its dtype and on its device."""
    if isinstance(value, Tensor):
        own: Any = copy.deepcopy(value.detach())
        return own.to(device=p.device, dtype=p.dtype) if name != "step" and p.is_floating_point() else own
    if isinstance(value, dict):
        return {k: _moved(p, v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(p, v) for v in value)
    return copy.deepcopy(value)


def _path(name: str, source: Any, **more: Any) -> ModuleType:
    """A path of PyTorch's for a module of anynet's, and what it has besides."""
    made = ModuleType(f"anynet.torch.{name}", f"torch.{name}")
    vars(made).update({k: v for k, v in vars(source).items() if not k.startswith("__")}, **more)
    sys.modules[made.__name__] = made
    return made


_schedules = _path("optim.lr_scheduler", _optim.lr_scheduler, _LRScheduler=_optim.LRScheduler)
_one = _path("optim.optimizer", _optim.optimizer, Optimizer=Optimizer, required=required)
optim = _path("optim", _optim, Optimizer=Optimizer, lr_scheduler=_schedules, optimizer=_one)
for _name in ("sgd", "adam", "lbfgs", "sparse_adam", "swa_utils", "adagrad"):  # torch.optim.adam.Adam, …
    sys.modules[f"{optim.__name__}.{_name}"] = getattr(_optim, _name)
sys.modules[f"{optim.__name__}.adamw"] = optim.adamw = _optim.adam  # type: ignore[attr-defined]
sys.modules[f"{optim.__name__}.rmsprop"] = optim.rmsprop = _optim.adagrad  # type: ignore[attr-defined]
