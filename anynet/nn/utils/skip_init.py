"""Modules whose initial values are of no interest, since others are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anynet.nn import init
from anynet.nn.module import Module

__all__ = ["skip_init"]

_M = TypeVar("_M", bound=Module)


def skip_init(module_cls: Callable[..., _M], *args: object, **kwargs: object) -> _M:
    """``module_cls(*args, **kwargs)`` with parameters of undefined values, to be loaded or set afterwards.

    The random streams move on as if the values had been drawn.

    >>> import anynet as an
    >>> an.nn.utils.skip_init(an.nn.Linear, 3, 2).weight.shape
    (2, 3)
    """
    with init.skipped():
        return module_cls(*args, **kwargs)
