"""PyTorch's common type of operands: the kind of number decides first, then whether an operand has axes.

A tensor with axes is not widened by one without or by a Python number of the same kind or a lower one; of a higher kind these make it
that kind: integers and 0.5 give the default float, not float64.
"""

from __future__ import annotations

from typing import Any

from anynet import dtypes
from anynet.dtypes import DType
from anynet.ops import elementwise as e
from anynet.ops.data_types import result_type as standard_result_type
from anynet.ops.manipulation import astype
from anynet.tensor import Tensor, is_batched_array, wrap
from anynet_backends import registry
from anynet_backends.jit.tracer import COMPILING

__all__ = [
    "as_float", "common", "floor_divide", "number", "prepared", "prepared_floats", "promote_types", "remainder", "result_type",
]  # fmt: skip

RANK = {"bool": 0, "uint": 1, "int": 1, "real": 2, "complex": 3}
_PYTHON = {bool: 0, int: 1, float: 2, complex: 3}
_HALVES = {"float16", "bfloat16"}


def promote_types(type1: DType, type2: DType) -> DType:
    """The smallest type that holds both, floats being larger than all integers."""
    if type1 is type2:
        return type1
    a, b = RANK[type1.kind], RANK[type2.kind]
    if a == b and {type1.name, type2.name} == _HALVES:
        return dtypes.float32
    if a == b or (a, b) in ((2, 3), (3, 2)):
        if _HALVES & {type1.name, type2.name}:
            return max(type1, type2, key=lambda d: (RANK[d.kind], d.itemsize))
        if {type1.kind, type2.kind} == {"int", "uint"} and max(type1.itemsize, type2.itemsize) == 8:
            return dtypes.int64
        return dtypes.of(standard_result_type(type1, type2))
    return type1 if a > b else type2


def _default(rank: int) -> DType:
    return (dtypes.bool, dtypes.int64, dtypes.default_float(), dtypes.of(complex))[rank]


def number(x: Any) -> Any:
    """A scalar of NumPy's as Python's; anything else as it is."""
    if type(x) in _PYTHON or isinstance(x, Tensor):
        return x
    if hasattr(x, "item") and getattr(x, "shape", None) == ():
        return x.item()
    return x


def result_type(*operands: Any) -> DType:
    """The type of the result of operands: tensors with axes, then those without, then Python numbers."""
    groups: list[DType | None] = [None, None, None]
    for x in map(number, operands):
        at = 2 if not isinstance(x, Tensor) else 1 if not x.shape else 0
        kind = x.dtype if isinstance(x, Tensor) else _default(_PYTHON.get(type(x), 2))
        before = groups[at]
        groups[at] = kind if before is None else promote_types(before, kind)
    found: DType | None = None
    for group in groups:
        if group is None:
            continue
        if found is None:
            found = group
        elif RANK[group.kind] > RANK[found.kind]:
            found = promote_types(found, group)
    return found if found is not None else dtypes.default_float()


def cast(x: Any, kind: DType) -> Any:
    """A Tensor in a type; a number as it is."""
    if not isinstance(x, Tensor) or x.dtype is kind:
        return x
    return astype(x, kind)


def common(*operands: Any) -> list[Any]:
    """Tensors and numbers, the Tensors in their common type."""
    kind = result_type(*operands)
    return [cast(x, kind) for x in map(number, operands)]


def prepared(a: Any, b: Any) -> tuple[Any, Any]:
    """Two operands, of which one at least is a Tensor, in the type in which PyTorch computes."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a._data.dtype is b._data.dtype or a.dtype is b.dtype:
            return a, b
    else:
        x, other = (a, b) if isinstance(a, Tensor) else (b, a)
        kind = type(other)
        if kind is float and x.dtype.kind == "real":
            return a, b
        if hasattr(other, "shape") and registry.is_array(other) and other.shape:
            other = wrap(other)
            return prepared(x, other) if x is a else prepared(other, x)
        if kind is int and x.dtype.kind in ("int", "real"):
            return a, b
    a, b = common(a, b)
    return a, b


def as_float(x: Any) -> Any:
    """Integers and booleans in the default float type; floats as they are."""
    return astype(x, dtypes.default_float()) if RANK[x.dtype.kind] < 2 else x


def prepared_floats(a: Any, b: Any) -> tuple[Any, Any]:
    """Two operands of what is computed in floats: integers become floats before they take a common type, which may not hold them."""
    is_float = any(isinstance(v, Tensor) and v.dtype.kind == "real" for v in (a, b))
    if not is_float and RANK[result_type(a, b).kind] < 2:
        a, b = (as_float(v) if isinstance(v, Tensor) else float(v) for v in (a, b))
    return prepared(a, b)


def _refuse_zero(a: Any, b: Any) -> None:
    """PyTorch's error for a whole number divided by 0 on the host, where the array library gives 0 (and only warns)."""
    if COMPILING or any(
        isinstance(v, Tensor) and v.dtype.kind not in ("int", "uint", "bool") for v in (a, b)
    ):
        return
    if isinstance(b, Tensor):
        if is_batched_array(b._data) or not b.device.startswith("cpu") or not b.size:
            return
        zero = bool((b.detach().numpy() == 0).any())
    else:
        zero = isinstance(b, int) and b == 0
    if zero:
        msg = "ZeroDivisionError"
        raise RuntimeError(msg)


def floor_divide(a: Any, b: Any) -> Any:
    """⌊a / b⌋; RuntimeError for whole numbers divided by 0."""
    _refuse_zero(a, b)
    return e.floor_divide(a, b)


def remainder(a: Any, b: Any) -> Any:
    """a − ⌊a / b⌋ b; RuntimeError for whole numbers divided by 0."""
    _refuse_zero(a, b)
    return e.remainder(a, b)
