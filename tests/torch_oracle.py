"""PyTorch as the oracle of tests: `from torch_oracle import torch`.

Where PyTorch is not installed, names of it can still be written (`TF = torch.nn.functional`), and a test is skipped at the moment
it computes something with one. So a file of tests is collected whole, and only the comparisons are left out.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NoReturn

import pytest

__all__ = ["torch"]

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
