"""Kinds of numbers, devices, and what is asked of a tensor."""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import is_grad_enabled
from anynet.torch.absent import UNSHARED, refused
from anynet.torch.promotion import promote_types as _promote
from anynet.torch.table import offered
from anynet.torch.tensor import Tensor, converted

for _name, _kind in {
    "float": dtypes.float32, "double": dtypes.float64, "half": "float16", "bfloat16": "bfloat16", "long": dtypes.int64, "int": dtypes.int32,
    "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool, "cfloat": dtypes.complex64,
    "cdouble": dtypes.complex128,
}.items():  # fmt: skip

    def _converted(self: Any, kind: Any = _kind, memory_format: Any = None) -> Any:
        return self if self.dtype is dtypes.of(kind) else converted(self, dtypes.of(kind))

    _shown = (
        ()
        if _name == "bfloat16"
        else (f"x.detach().{_name}()",)
        if _name.startswith("c") and _name != "char"
        else (f"x.{_name}()", f"i.{_name}()", f"m.{_name}()")
    )
    offered(*_shown, name=_name, function=False)(_converted)


@offered("x.type_as(i)", function=False)
def type_as(self: Any, other: Any) -> Any:
    return self.to(other)


def _cuda(self: Any, device: Any = None, non_blocking: bool = False) -> Any:
    """The tensor on a CUDA device."""
    return self.to("cuda" if device is None else device)


def _cpu(self: Any) -> Any:
    """The tensor on the host."""
    return self.to("cpu")


Tensor.cuda, Tensor.cpu = _cuda, _cpu  # type: ignore[attr-defined]
Tensor.is_cuda = property(lambda self: str(self.device).startswith("cuda"))  # type: ignore[attr-defined]
Tensor.is_cpu = property(lambda self: self.device == "cpu")  # type: ignore[attr-defined]
Tensor.is_sparse = Tensor.is_quantized = Tensor.is_meta = Tensor.is_mps = False  # type: ignore[attr-defined]
Tensor.layout = "torch.strided"  # type: ignore[attr-defined]
Tensor.itemsize = property(lambda self: self.dtype.itemsize)  # type: ignore[attr-defined]
Tensor.nbytes = property(lambda self: self.dtype.itemsize * math.prod(self.shape))  # type: ignore[attr-defined]
Tensor.get_device = lambda self: self.device.index if self.is_cuda else -1  # type: ignore[attr-defined]
Tensor.element_size = lambda self: self.dtype.itemsize  # type: ignore[attr-defined]
Tensor.pin_memory = lambda self: self  # type: ignore[attr-defined]
Tensor.share_memory_ = refused("share_memory_", UNSHARED)  # type: ignore[attr-defined]
Tensor.is_shared = Tensor.is_pinned = lambda self: False  # type: ignore[attr-defined]


@offered("x.dim()", function=False)
def dim(self: Any) -> int:
    return len(self.shape)


@offered("torch.numel(x)", "x.numel()")
def numel(input: Any) -> int:
    return math.prod(input.shape)


@offered("x.nelement()", function=False)
def nelement(self: Any) -> int:
    return math.prod(self.shape)


Tensor.ndimension = Tensor.dim  # type: ignore[attr-defined]


@offered("torch.is_tensor(x)", "torch.is_tensor(3)", method=False)
def is_tensor(obj: Any) -> bool:
    return isinstance(obj, AnyTensor)


@offered("torch.is_floating_point(x)", "i.is_floating_point()")
def is_floating_point(input: Any) -> bool:
    return bool(input.dtype.kind == "real")


@offered("torch.is_complex(x)", "x.is_complex()")
def is_complex(input: Any) -> bool:
    return bool(input.dtype.kind == "complex")


@offered("x.is_signed()", function=False)
def is_signed(self: Any) -> bool:
    return bool(self.dtype.is_signed)


@offered("torch.is_nonzero(torch.tensor(1.0))")
def is_nonzero(input: Any) -> bool:
    return bool(input)


@offered("torch.is_grad_enabled()", name="is_grad_enabled", method=False)
def _recording() -> bool:
    return is_grad_enabled()


@offered("torch.promote_types(torch.int32, torch.float32)", method=False)
def promote_types(type1: Any, type2: Any) -> Any:
    return _promote(type1, type2)


@offered(
    "torch.can_cast(torch.float32, torch.int32)", "torch.can_cast(torch.int32, torch.float32)", method=False
)
def can_cast(from_: Any, to: Any) -> bool:
    from anynet.torch.promotion import RANK  # late: of this function alone

    return RANK[from_.kind] <= RANK[to.kind]


def detach_(self: Any) -> Any:
    """Cut it off from its graph, in place."""
    self.edge = None
    return self


Tensor.detach_ = detach_  # type: ignore[attr-defined]
