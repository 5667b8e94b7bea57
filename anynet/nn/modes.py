"""Training and evaluation mode of a network, restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["evaluating", "modes_kept"]


@contextmanager
def modes_kept(module: Module) -> Iterator[None]:
    """Afterwards each module inside is in the mode (train, eval) that it had: a frozen layer stays so."""
    before = [(m, m.training) for m in module.modules()]
    try:
        yield
    finally:
        for m, training in before:
            if m.training is not training:
                m.training = training


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Evaluation mode, within the block."""
    with modes_kept(module):
        if any(m.training for m in module.modules()):
            module.eval()
        yield
