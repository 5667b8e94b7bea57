"""Fusion: neighbouring element-wise calls over one shape become one loop, compiled by LLVM.

The loop reads each input once and stores only what is read afterwards. Sums, products, quotients and roots are rounded as by
IEEE 754, none is contracted or reordered, so that the loop gives the bits of the NumPy calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.compiler import MOST_AXES, compiler, converts_half
from anynet_backends.jit.elementary import written_as
from anynet_backends.jit.geometry import broadcast_strides, collapse_axes, layout_of, overlaps_partly
from anynet_backends.jit.loop_ir import CASTS, ELEMENTARY_RULES, LETTERS, RULES, SIZE, FusedLoop, LoopOp, work
from anynet_backends.jit.numpy_calls import NumpyCall, choose, set_where
from anynet_backends.jit.printing import print_pass
from anynet_backends.jit.segment import KernelCall, LoopArgs, loop_call, nested_call
from anynet_backends.jit.ufuncs import inner_loop

__all__ = ["ElementwiseCall", "choice_or_copy", "constant_array", "elementwise_call", "fuse", "ufunc_call"]


SHORT_ROW: Final = 64
"""A row of fewer numbers has code of its own."""


class ElementwiseCall(NamedTuple):
    """An element-wise call: function, the type it works in ("" where only the ufunc can compute it), inputs, output, and the ufunc whose
    inner loop for `types` does it, if there is one."""

    name: str
    letter: str
    inputs: tuple[Array, ...]
    out: Array
    ufunc: np.ufunc | None = None
    types: str = ""


def fuse(pending: list[ElementwiseCall], wanted: Callable[[Array], bool]) -> list[KernelCall] | None:
    """Element-wise calls as one loop, which stores those results that are wanted; None where it would have too many axes."""
    numbers: dict[Any, int] = {}
    arrays: list[Array] = []

    def operand(a: Array) -> int:
        key = layout_of(a)
        if key not in numbers:
            numbers[key] = len(arrays)
            arrays.append(a)
        return numbers[key]

    ops: list[LoopOp] = []
    latest: dict[int, int] = {}  # operand → the op whose value it has
    for e in pending:
        args = []
        for a in e.inputs:
            i = operand(a)
            args.append(("op", latest[i]) if i in latest else ("in", i))
        ops.append(LoopOp(e.name, e.letter, tuple(args)))
        latest[operand(e.out)] = len(ops) - 1
    stores = [(i, number) for i, number in latest.items() if wanted(arrays[i])]
    used: set[int] = {i for i, _ in stores}
    needed = {number for _, number in stores}
    for number in range(len(ops) - 1, -1, -1):
        if number in needed:
            needed |= {i for source, i in ops[number].args if source == "op"}
            used |= {i for source, i in ops[number].args if source == "in"}
    if not stores:
        return []
    shape = pending[0].out.shape
    order = sorted(used)
    first = stores[0][0]
    dims, strides = collapse_axes(shape, [broadcast_strides(arrays[i], shape) for i in (first, *order)])
    strides = strides[1:]
    if len(dims) > MOST_AXES:
        return None
    place = {i: n for n, i in enumerate(order)}
    kinds = []
    for i, steps in zip(order, strides, strict=True):
        letter = LETTERS[arrays[i].dtype]
        inner = steps[-1]
        kinds.append((letter, "c" if inner == SIZE[letter] else "0" if inner == 0 else "s"))
    new = {old: n for n, old in enumerate(sorted(needed))}
    text = tuple(
        LoopOp(
            ops[old].name,
            ops[old].letter,
            tuple((source, place[i] if source == "in" else new[i]) for source, i in ops[old].args),
        )
        for old in sorted(needed)
    )
    row = dims[-1] if len(dims) > 1 and dims[-1] < SHORT_ROW else 0
    loop = FusedLoop(
        tuple(kinds), text, tuple((place[i], new[number]) for i, number in stores), len(dims) - 1, row
    )
    print_pass("loops", f"loop over {dims}", loop.lines)
    record = LoopArgs([arrays[i] for i in order], dims, [s for steps in strides for s in steps])
    function = compiler().functions(loop.code(), ("kernel",))["kernel"]
    return [loop_call(function, record, dims, writes=[i for i, _ in loop.stores], each=loop.work)]


def elementwise_call(call: NumpyCall) -> ElementwiseCall | None:
    """A call as an element-wise one, if a fused loop or a ufunc's inner loop can do it."""
    f: Any = getattr(call.f, "ufunc", call.f)
    args = call.args
    if f is np.copyto and (len(args) == 3 or args[0].dtype == getattr(args[1], "dtype", None)):
        return choice_or_copy("copy", (args[1],), args[0])
    if f is choose:
        return choice_or_copy("where", args[:3], args[3])
    if f is set_where and isinstance(args[1], np.ndarray) and args[1].shape == args[0].shape:
        return choice_or_copy("where", (args[1], args[2], args[0]), args[0])
    if getattr(f, "__name__", "") == "fill" and isinstance(getattr(f, "__self__", None), np.ndarray):
        return choice_or_copy("copy", (args[0],), f.__self__)
    if isinstance(f, np.ufunc) and f.nout == 1 and f.signature is None and len(args) == f.nin + 1:
        out = args[-1]
        if isinstance(out, np.ndarray):
            return _of_ufunc(f, args[:-1], out)
    return None


def is_supported(*arrays: Array) -> bool:
    return all(
        a.dtype in LETTERS and a.flags.aligned and (a.itemsize != 2 or converts_half()) for a in arrays
    )


def choice_or_copy(name: str, inputs: tuple[Any, ...], out: Any) -> ElementwiseCall | None:
    """A `where` or a copy, whose values are cast to the type of `out`."""
    if not isinstance(out, np.ndarray) or not is_supported(out) or not out.flags.writeable:
        return None
    letter = LETTERS[out.dtype]
    ready = []
    for place, x in enumerate(inputs):
        truth = name == "where" and place == 0
        a = x if isinstance(x, np.ndarray) else constant_array(x, np.dtype(bool) if truth else out.dtype)
        if a is None or not is_supported(a):
            return None
        own = LETTERS[a.dtype]
        if (truth and own != "?") or not (truth or own == letter or (own, letter) in CASTS):
            return None
        ready.append(a)
    if any(overlaps_partly(out, a) for a in ready) or any(len(a.shape) > out.ndim for a in ready):
        return None
    return ElementwiseCall(name, letter, tuple(ready), out)


def constant_array(x: Any, dtype: np.dtype[Any]) -> Array | None:
    if not isinstance(x, (bool, int, float, np.generic)):
        return None
    made = np.asarray(x).astype(dtype)
    made.flags.writeable = False
    return made


def _of_ufunc(f: np.ufunc, inputs: tuple[Any, ...], out: Array) -> ElementwiseCall | None:
    if (
        not all(isinstance(x, (np.ndarray, np.generic, bool, int, float)) for x in inputs)
        or not out.flags.writeable
    ):
        return None
    asked = tuple(x.dtype if isinstance(x, (np.ndarray, np.generic)) else type(x) for x in inputs)
    try:
        types = f.resolve_dtypes((*asked, None))
    except TypeError:
        return None
    if types[-1] != out.dtype or not out.flags.aligned:
        return None
    ready = [
        x if isinstance(x, np.ndarray) else constant_array(x, t)
        for x, t in zip(inputs, types[:-1], strict=True)
    ]
    arrays = [a for a in ready if a is not None and a.flags.aligned]
    if (
        len(arrays) < len(ready)
        or any(overlaps_partly(out, a) for a in arrays)
        or any(a.ndim > out.ndim for a in arrays)
    ):
        return None
    letters = {LETTERS.get(t) for t in types[:-1]}
    name = written_as(f) or f.__name__
    loop = "".join(t.char for t in types[:-1]) + "->" + types[-1].char
    if len(letters) == 1 and is_supported(out, *arrays):
        letter = letters.pop()
        known = letter is not None and (
            name in RULES[letter]
            or (letter == "f" and name in ELEMENTARY_RULES)
            or (letter in "fd" and name in ("maximum", "minimum", "sign"))
        )
        fits = all(LETTERS[a.dtype] == letter or (LETTERS[a.dtype], letter) in CASTS for a in arrays)
        if letter is not None and known and fits:
            ufunc = f if written_as(f) and all(a.dtype == out.dtype for a in arrays) else None
            return ElementwiseCall(name, letter, tuple(arrays), out, ufunc, loop)
    if any(a.dtype != t for a, t in zip(arrays, types, strict=False)) or out.dtype.kind not in "fiub":
        return None
    return ElementwiseCall(name, "", tuple(arrays), out, f, loop)


def ufunc_call(e: ElementwiseCall) -> list[KernelCall] | None:
    """An element-wise call by the ufunc's own loop: one row where the arrays are one vector, or one a row of few."""
    if e.ufunc is None:
        return None
    found = inner_loop(e.ufunc, e.types)
    if found is None:
        return None
    arrays = (*e.inputs, e.out)
    shape = e.out.shape
    dims, strides = collapse_axes(shape, [broadcast_strides(a, shape) for a in (e.out, *arrays)])
    strides = strides[1:]
    if len(dims) == 1:
        record = LoopArgs(arrays, dims, [s[0] for s in strides])
        return [loop_call(found[0], record, dims, found[1], writes=[len(e.inputs)], each=work(e.name))]
    if len(dims) == 2 and len(arrays) <= 4:
        return [
            nested_call(
                found,
                arrays,
                dims[:1],
                [s[0] for s in strides],
                dims[1:],
                [s[1] for s in strides],
                writes=[len(e.inputs)],
            )
        ]
    return None
