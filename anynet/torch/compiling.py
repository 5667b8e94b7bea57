"""`torch.compile`: calls without gradients as programs of `anynet.compile`."""

from __future__ import annotations

from typing import Any

import anynet as _an
from anynet.torch import nn
from anynet.torch.tensor import adopt as _adopt
from anynet_backends.concurrency import this_thread

__all__ = ["compile"]


class _OfModule(nn.Module):  # type: ignore[misc, valid-type]
    """A module whose calls are compiled; all else is the module's."""

    def __init__(self, module: Any, compiled: Any) -> None:
        self._orig_mod = module
        self.__dict__["_compiled"] = compiled

    _not_members = nn.Module._not_members | {"_compiled"}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if this_thread.recording and any(p.requires_grad for p in self._orig_mod.parameters()):
            return self._orig_mod(
                *args, **kwargs
            )  # a program has no gradient: a whole step is what is compiled
        return _adopt(self._compiled(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_orig_mod"], name)


def compile(model: Any = None, **_: Any) -> Any:
    """A module or function that is compiled by `anynet.compile` where no gradient is recorded, with the module's parameters and states.

    A forward pass that is recorded runs as it is: anynet compiles whole training steps (``anynet.compile(step)``), with the backward pass.
    """
    if model is None:
        return compile
    if isinstance(model, nn.Module):
        return _OfModule(model, _an.compile(lambda *a, **k: model(*a, **k)))
    whole = _an.compile(model)

    def call(*args: Any, **kwargs: Any) -> Any:
        if this_thread.recording and any(isinstance(a, _an.Tensor) and a.requires_grad for a in args):
            return model(*args, **kwargs)
        return _adopt(whole(*args, **kwargs))

    return call
