"""Every function of the array API standard does what `anynet.ops.differentiability` says of its gradient, to second order."""

import math
from functools import partial

import numpy as np
import pytest

import anynet as an
from anynet.ops.differentiability import TABLE, gradient_of
from anynet_backends import array_api, philox

NAMES = [
    *array_api.FUNCTIONS,
    *(f"linalg.{n}" for n in array_api.LINALG),
    *(f"fft.{n}" for n in array_api.FFT),
]


def function(name):
    home = an
    for part in name.split("."):
        home = getattr(home, part)
    return home


def index(values):
    return an.asarray(values)


# what a case needs beside the function of one (3, 4) matrix: other arguments, another domain
ARGUMENTS = {
    "sum": [{}, {"axis": 1}, {"axis": (0, 1), "keepdims": True}],
    "mean": [{}, {"axis": 0}, {"axis": (-1,), "keepdims": True}],
    "prod": [{}, {"axis": 1}],
    "std": [{}, {"axis": 1, "correction": 1}],
    "var": [{}, {"axis": 0, "correction": 1, "keepdims": True}],
    "max": [{}, {"axis": 1}], "min": [{}, {"axis": 0, "keepdims": True}],
    "cumulative_sum": [{"axis": 1}, {"axis": 0, "include_initial": True}],
    "cumulative_prod": [{"axis": 1}, {"axis": 0, "include_initial": True}],
    "diff": [{}, {"axis": 0, "n": 2}],
    "flip": [{}, {"axis": 1}], "roll": [{"shift": 2}, {"shift": (1, -1), "axis": (0, 1)}],
    "sort": [{}, {"axis": 0, "descending": True}],
    "clip": [{"min": -0.5, "max": 0.7}, {"min": 0.1}],
    "tril": [{}, {"k": 1}], "triu": [{}, {"k": -1}],
    "expand_dims": [{"axis": 1}, {"axis": (0, -1)}],
    **{f"fft.{n}": [{}, {"n": 6, "axis": 0, "norm": "ortho"}, {"n": 3, "norm": "forward"}]
       for n in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
    **{f"fft.{n}": [{}, {"s": (5, 3), "axes": (0, 1), "norm": "ortho"}] for n in ("fftn", "ifftn", "rfftn", "irfftn")},
    "fft.fftshift": [{}, {"axes": 1}], "fft.ifftshift": [{}, {"axes": (0,)}],
}  # fmt: skip
FORMS = {
    "take": lambda x: an.take(x, index([2, 0, 2]), axis=0),
    "take_along_axis": lambda x: an.take_along_axis(x, index([[1, 1], [0, 2], [3, 3]]), axis=1),
    "where": lambda x: an.where(an.real(x) > 0, x, x * x),
    "broadcast_to": lambda x: an.broadcast_to(x, (2, 3, 4)),
    "broadcast_arrays": lambda x: an.broadcast_arrays(x, x[0, ...]),
    "concat": lambda x: an.concat([x, x * x], axis=1),
    "stack": lambda x: an.stack([x, x * x], axis=-1),
    "moveaxis": lambda x: an.moveaxis(x, 0, 1),
    "permute_dims": lambda x: an.permute_dims(x, (1, 0)),
    "repeat": lambda x: (an.repeat(x, 2, axis=1), an.repeat(x, 3), an.repeat(x, index([1, 0, 2]), axis=0)),
    "reshape": lambda x: an.reshape(x, (2, -1)),
    "squeeze": lambda x: an.squeeze(x[:1, :], axis=0),
    "tile": lambda x: an.tile(x, (2, 1, 2)),
    "unstack": lambda x: an.unstack(x, axis=1),
    "meshgrid": lambda x: an.meshgrid(x[0, ...], x[1, ...]),
    "astype": lambda x: an.astype(x, an.complex128),
    "asarray": an.asarray, "from_dlpack": an.from_dlpack,
    "matmul": lambda x: an.matmul(x, x.mT), "linalg.matmul": lambda x: an.linalg.matmul(x.mT, x),
    "tensordot": lambda x: an.tensordot(x, x, axes=2),
    "linalg.tensordot": lambda x: an.linalg.tensordot(x, x, axes=((0,), (0,))),
    "vecdot": lambda x: an.vecdot(x, x * x), "linalg.vecdot": lambda x: an.linalg.vecdot(x, x * x, axis=-2),
    "unique_all": lambda x: an.unique_all(x).values, "unique_counts": lambda x: an.unique_counts(x).values,
    "unique_inverse": lambda x: an.unique_inverse(x).values, "unique_values": an.unique_values,
    "hypot": lambda x: an.hypot(x, x[0, ...]), "atan2": lambda x: an.atan2(x, x[0, ...] + 3),
    "linalg.cross": lambda x: an.linalg.cross(x[:, :3], x[0, :3] * x[1, :3]),
    "linalg.outer": lambda x: an.linalg.outer(x[0, ...], x[1, ...]),
    "linalg.diagonal": an.linalg.diagonal, "linalg.trace": an.linalg.trace,
}  # fmt: skip
BINARY = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "pow",
    "copysign",
    "logaddexp",
    "maximum",
    "minimum",
    "remainder",
)
DOMAIN = {**dict.fromkeys(("log", "log10", "log2", "log1p", "sqrt", "pow", "reciprocal", "remainder", "divide"), (0.5, 2.0)),
          **dict.fromkeys(("acos", "asin", "atanh"), (-0.8, 0.8)), "acosh": (1.2, 3.0), "tan": (-1.2, 1.2)}  # fmt: skip
LINEAR = {
    "abs", "conj", "imag", "negative", "positive", "real", "add", "subtract", "maximum", "minimum", "clip", "copysign", "remainder",
    "matrix_transpose", "take", "take_along_axis", "broadcast_arrays", "broadcast_to", "expand_dims", "flip", "moveaxis",
    "permute_dims", "repeat", "reshape", "roll", "squeeze", "tile", "unstack", "cumulative_sum", "diff", "mean", "sum",
    "meshgrid", "tril", "triu", "astype", "asarray", "from_dlpack", "max", "min", "sort", "sign",
    "unique_all", "unique_counts", "unique_inverse", "unique_values",
}  # fmt: skip
ELSEWHERE = {f"linalg.{n}" for n in array_api.LINALG} - {
    n for n in FORMS if n.startswith("linalg.")
}  # tests/ops/test_linalg.py


def forms(name):
    """The function of the standard as functions of one (3, 4) matrix."""
    f = function(name)
    if name in FORMS:
        return [FORMS[name]]
    if name in BINARY:
        return [lambda x: f(x, x[0, ...]), lambda x: f(x[:, :1], x), lambda x: f(x, 1.5), lambda x: f(1.5, x)]
    return [partial(f, **a) for a in ARGUMENTS.get(name, [{}])]


def matrix(name, kind):
    low, high = DOMAIN.get(name, (-2.0, 2.0))
    value = philox.uniform(7, 3, 0, (3, 4), low, high)
    if kind == "complex":
        value = value + 1j * philox.uniform(7, 3, 1, (3, 4), 0.3, 0.9)
    return an.Tensor(value, requires_grad=True)


def test_the_table_is_complete():
    assert sorted(TABLE) == sorted(set(NAMES))
    assert {e.gradient for e in TABLE.values()} == {"rule", "piecewise constant", "raises", "no array"}
    for name in NAMES:
        assert callable(function(name)), name
    with pytest.raises(KeyError, match=r"did you mean 'linalg\.inv'"):
        gradient_of("linalg.inw")


RULES = [(n, k) for n, e in TABLE.items() if e.gradient == "rule" and n not in ELSEWHERE
         for k in ("real", "complex") if (k == "real" and n != "imag") or (k == "complex" and e.complex)]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), RULES)
def test_rule(name, kind):
    for f in forms(name):
        x = matrix(name, kind)
        if name == "sign" and kind == "real":
            an.sum(f(x)).backward()
            assert not x.grad.numpy().any()
            continue
        assert an.gradcheck(f, x)
        if name not in LINEAR or (kind == "complex" and name in ("abs", "sign")):
            depends = not (name.startswith("fft.") or name in ("concat", "stack"))
            squared = (
                f if depends else (lambda x, f=f: f(x * x))
            )  # a linear map has no second derivative of its own
            if name == "divide":
                squared = lambda x, f=f: f(x * x)  # noqa: E731
            assert an.gradgradcheck(squared, x)


CONSTANT = {
    "argmax": {}, "argmin": {}, "argsort": {}, "count_nonzero": {}, "all": {}, "any": {}, "nonzero": {},
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n, e in TABLE.items() if e.gradient == "piecewise constant"])
def test_piecewise_constant(name):
    x = matrix(name, "real")
    f = function(name)
    if name.startswith("bitwise") or name.startswith("logical"):
        y = (
            f(x > 0)
            if name.endswith(("not", "invert"))
            else f(an.asarray([1, 2]), an.asarray([3, 1]))
            if "bit" in name
            else f(x > 0, x < 1)
        )
    elif name == "searchsorted":
        y = f(an.sort(x[0, ...]), x[1, ...])
    elif name in (
        "isin",
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "floor_divide",
    ):
        y = f(x, x * 0.7)
    else:
        y = f(x)
    for part in y if isinstance(y, tuple) else (y,):
        if an.isdtype(part.dtype, "real floating"):
            an.sum(part * x).backward()  # ∂(y x)/∂x = y
            assert abs(x.grad.numpy() - part.numpy()).max() == 0.0
        else:
            assert not part.requires_grad


@pytest.mark.parametrize("name", [n for n, e in TABLE.items() if e.gradient == "raises"])
def test_raises(name):
    x = matrix(name, "real")
    y = function(name)(x, x + 1)
    with pytest.raises(an.GradientError, match=f"no gradient through {name}: "):
        an.sum(y).backward()
    assert x.grad is None


def test_dlpack_says_that_it_leaves_the_gradient_behind():
    x = matrix("from_dlpack", "real")
    with pytest.warns(an.GradientWarning, match="without its gradient"):
        shared = np.from_dlpack(x)
    assert (shared == x.numpy()).all()
    np.from_dlpack(x.detach())  # no warning


def test_asarray_of_lists_of_tensors_is_stack():
    x = an.asarray([1.0, 2.0], dtype=an.float64, requires_grad=True)
    y = an.asarray([[x[0] * x[1], 3.0], [np.float64(1.0), x[1]]])
    assert y.dtype is an.float64
    assert y.numpy().tolist() == [[2.0, 3.0], [1.0, 2.0]]
    an.sum(y * y).backward()
    assert x.grad.numpy().tolist() == [8.0, 8.0]  # of (x₀x₁)² + 3² + 1² + x₁²
    assert an.gradgradcheck(lambda x: an.asarray([[x[0] * x[1], 1.0], [2, x[1] ** 2]]), x)
    z = an.asarray([an.asarray(1.0, device="strict:device1"), 2])
    assert (z.device, z.dtype) == ("strict:device1", an.float32)
    assert an.asarray([x.detach(), [5, 6]], dtype=an.float32).numpy().tolist() == [[1.0, 2.0], [5.0, 6.0]]
    with pytest.raises(ValueError, match="always copied"):
        an.asarray([x[0]], copy=False)
    with pytest.raises((ValueError, TypeError)):
        an.asarray([x, [1.0]])


def test_large_and_small_numbers_keep_their_gradients():
    for name, at in (
        ("logaddexp", 800.0),
        ("hypot", 1e200),
        ("tanh", 50.0),
        ("expm1", 1e-12),
        ("log1p", 1e-12),
    ):
        x = an.asarray([at], dtype=an.float64, requires_grad=True)
        f = function(name)
        y = f(x, x) if name in ("logaddexp", "hypot") else f(x)
        an.sum(y).backward()
        assert math.isfinite(float(x.grad[0])), name
