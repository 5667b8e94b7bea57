"""PyTorch as the oracle of tests: `from torch_oracle import torch`.

Where PyTorch is not installed, names of it can still be written (`TF = torch.nn.functional`), and a test is skipped at the moment
it computes something with one. So a file of tests is collected whole, and only the comparisons are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest

import anynet as an

__all__ = ["agree_with_gradients", "torch"]

REASON = "PyTorch, the oracle, is not installed"


def _skip(*_: object, **__: object) -> NoReturn:
    pytest.skip(REASON, allow_module_level=True)


class _Absent:
    """A name of PyTorch where PyTorch is not installed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):  # protocols that Python or pytest look for
            raise AttributeError(name)
        return _Absent(f"{self._path}.{name}")

    def __repr__(self) -> str:
        return self._path

    __call__ = __iter__ = __enter__ = __exit__ = __instancecheck__ = __mro_entries__ = __getitem__ = (
        __dir__
    ) = _skip
    __add__ = __radd__ = __mul__ = __rmul__ = __matmul__ = __len__ = __float__ = __array__ = _skip


torch: Any
if importlib.util.find_spec("torch") is None:
    torch = _Absent("torch")
else:
    import torch  # type: ignore[no-redef]


def agree_with_gradients(
    function: Callable[..., Any], reference: Callable[..., Any], *arrays: Any, tolerance: float = 1e-9
) -> None:
    """Values and gradients of a function of Tensors and of its reference in PyTorch."""
    ours = [an.asarray(a.copy(), requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = function(*ours), reference(*theirs)
    assert tuple(y.shape) == tuple(z.shape)
    assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = np.random.default_rng(9).normal(size=tuple(y.shape))
    y.backward(an.asarray(g))
    z.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        expected = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
        assert np.allclose(a.grad.numpy(), expected, rtol=tolerance, atol=tolerance)
