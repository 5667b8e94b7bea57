"""Each function at its special points: the value, the gradient in reverse and in forward mode, and both again for the
second order; on every backend, with kernels and without, and as the machine code that eager mode makes."""

import contextlib
import math
import warnings

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import use_kernels
from anynet.ops.elementwise import divide_no_nan, multiply_no_nan
from array_devices import DEVICES, usable
from gradients.special_points import NO_POINT, POINTS, differentiable, nan

NAMES = [f"{i} {p.of.split()[0]}" for i, p in enumerate(POINTS)]
WAYS = [*(f"kernels on {d}" for d in DEVICES), "references", "machine code", "compiled"]


def test_every_function_has_its_points_or_a_reason():
    there = {name for p in POINTS for name in p.of.split()}
    known = differentiable()
    assert not known - there - set(NO_POINT), "needs a row in special_points.py, or a reason there"
    assert not there & set(NO_POINT)
    assert not set(NO_POINT) - known


@pytest.fixture(params=WAYS)
def way(request):
    """How a function is computed, and on which device."""
    kind, _, device = request.param.partition(" on ")
    answer = usable(device or "cpu")
    if answer != "ok":
        pytest.skip(f"{device}: {answer}")
    if kind == "machine code":
        request.getfixturevalue("compiled_at_once")
    with use_kernels(kind != "references"):
        yield kind, device or "cpu"


def numbers(*parts):
    """Whether nothing is infinite or nan."""
    return all(np.all(np.isfinite(np.asarray(p, dtype=complex))) for p in parts)


def arrays(point, device):
    return [an.asarray(np.asarray(a, dtype="float64"), device=device) for a in point.at]


def same(got, expected, what):
    got, expected = got.numpy(), np.asarray(expected)
    assert got.shape == expected.shape, what
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14, err_msg=what)


def total(f):
    return lambda *xs: an.real(an.sum(f(*xs)))


def gradients(f, xs):
    return an.grad(f, tuple(range(len(xs))))(*xs)


def along_each(f, xs, i):
    """∂ Σ f / ∂x_i element by element, each from a jvp of its own."""
    flat = np.zeros(xs[i].size)
    for k in range(flat.size):
        step = np.zeros(flat.size)
        step[k] = 1
        ts = [an.zeros_like(x) for x in xs]
        ts[i] = an.asarray(step.reshape(xs[i].shape), device=xs[i].device)
        flat[k] = float(an.real(an.sum(an.jvp(f, tuple(xs), tuple(ts))[1])))
    return flat.reshape(xs[i].shape)


@contextlib.contextmanager
def quiet(point, allowed):
    """Warnings are allowed where something is infinite or nan by right, be it in what `where` does not take."""
    with warnings.catch_warnings():
        if allowed or point.of.startswith("where"):
            warnings.simplefilter("ignore", RuntimeWarning)
        yield


@pytest.mark.parametrize("point", POINTS, ids=NAMES)
def test_point(point, way):
    kind, device = way
    if kind == "compiled" and point.of.startswith("unique"):
        pytest.skip("refused, since the shape depends on the values")
    xs = arrays(point, device)
    f = point.f

    def both(*xs):
        return f(*xs), *gradients(total(f), xs)

    step = an.compile(both) if kind == "compiled" else both
    with quiet(point, not numbers(point.value, *point.slopes)):
        for _ in range({"compiled": 2, "machine code": 4}.get(kind, 1)):
            y, *grads = step(*xs)
            same(y, point.value, "value")
            assert y.dtype in (an.float64, an.complex128)
            for g, x, slope in zip(grads, xs, point.slopes, strict=True):
                assert g.dtype == x.dtype
                same(g, slope, "gradient")
        if kind == "compiled":
            return
        for i, slope in enumerate(point.slopes):
            np.testing.assert_allclose(along_each(f, xs, i), slope, rtol=1e-12, atol=1e-14, err_msg="jvp")
        if numbers(point.value) or not point.of.startswith("softmax"):
            nothing_asked_for_gives_nothing(f, xs)
    if point.second is not nan and numbers(point.value, *point.slopes):
        with quiet(point, point.second is None):
            second_order(point, xs)


@pytest.mark.parametrize(
    "point", [p for p in POINTS if p.narrow], ids=[n for n, p in zip(NAMES, POINTS, strict=True) if p.narrow]
)
def test_point_in_float32(point):
    xs = [an.astype(x, an.float32) for x in arrays(point, "cpu")]
    with quiet(point, not numbers(point.value, *point.slopes)):
        y = point.f(*xs)
        assert y.dtype in (an.float32, an.complex64)
        np.testing.assert_allclose(y.numpy(), point.value, rtol=2e-6, atol=3e-6)
        for g, slope in zip(gradients(total(point.f), xs), point.slopes, strict=True):
            assert g.dtype == an.float32
            np.testing.assert_allclose(g.numpy(), slope, rtol=2e-6, atol=3e-6, err_msg="gradient")


def nothing_asked_for_gives_nothing(f, xs):
    """A gradient of 0 stays 0, whatever the slope is."""
    y, pull = an.vjp(f, *xs)
    for g, x in zip(pull(an.zeros_like(y)), xs, strict=True):
        same(g, np.zeros(x.shape), "gradient of nothing")


def second_order(point, xs):
    def first(*xs):
        return an.real(gradients(total(point.f), xs)[0])

    got = an.grad(total(first))(*xs)
    if point.second is not None:
        same(got, point.second, "second order")
    np.testing.assert_allclose(
        along_each(first, xs, 0), got.numpy(), rtol=1e-10, atol=1e-12, err_msg="forward over reverse"
    )


@pytest.mark.parametrize(
    "point", [p for p in POINTS if p.torch], ids=[n for n, p in zip(NAMES, POINTS, strict=True) if p.torch]
)
def test_torch_agrees_where_it_has_a_number(point):
    torch = pytest.importorskip("torch", reason="compares with torch")
    ts = [torch.tensor(np.asarray(a, dtype="float64"), requires_grad=True) for a in point.at]
    names = {"torch": torch, "F": torch.nn.functional, "inf": math.inf, **dict(zip("abc", ts, strict=False))}
    y = eval(point.torch, names)  # noqa: S307
    grads = torch.autograd.grad(y.sum(), ts, create_graph=True, allow_unused=True)
    mine = [np.asarray(point.value), *map(np.asarray, point.slopes)]
    theirs = [
        y.detach().numpy(),
        *(np.zeros(t.shape) if g is None else g.numpy(force=True) for g, t in zip(grads, ts, strict=True)),
    ]
    if point.second not in (None, nan) and grads[0].requires_grad:
        mine.append(np.asarray(point.second))
        theirs.append(torch.autograd.grad(grads[0].sum(), ts[0])[0].numpy(force=True))
    for a, b in zip(mine, theirs, strict=True):
        number = ~np.isnan(b)
        np.testing.assert_allclose(a[number], b[number], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("product", [multiply_no_nan, divide_no_nan], ids=lambda p: p.name)
def test_products_have_the_same_bits_by_kernel_and_by_reference(product):
    values = np.array([0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, nan])
    a, b = (np.ascontiguousarray(x) for x in np.meshgrid(values, values))
    got = product(a, b)
    assert not np.isnan(got[(a == 0) | ((b == 0) if product is multiply_no_nan else np.isinf(b))]).any()
    finite = np.isfinite(a) & np.isfinite(b) & (b != 0)
    with use_kernels(False), np.errstate(all="ignore"):
        np.testing.assert_array_equal(product(a, b), got)
        reference = product(a[finite], b[finite])
    assert product(a[finite], b[finite]).tobytes() == reference.tobytes()
