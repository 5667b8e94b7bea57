"""Normalisation as loops of machine code, against the reference in double precision."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import PRIMITIVES
from anynet_backends import get_backend, onednn
from anynet_backends.jit import availability
from anynet_backends.kernels import compiled_normalization

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")

FORMS = {  # of x, axes, of the weights, split
    "batch": ((4, 8, 6, 5), (0, 2, 3), (1, 8, 1, 1), ()),
    "batch of one": ((1, 3, 40), (0, 2), (1, 3, 1), ()),
    "batch, long": ((2, 2, 90, 101), (0, 2, 3), (1, 2, 1, 1), ()),
    "instance": ((4, 8, 6, 5), (2, 3), (1, 8, 1, 1), ()),
    "groups": ((4, 8, 6, 5), (2, 3, 4), (1, 4, 2, 1, 1), (4, 4, 2, 6, 5)),
    "one group": ((4, 8, 6, 5), (2, 3, 4), (1, 1, 8, 1, 1), (4, 1, 8, 6, 5)),
    "a group each": ((4, 8, 6, 5), (2, 3, 4), (1, 8, 1, 1, 1), (4, 8, 1, 6, 5)),
    "rows": ((33, 70), (1,), (1, 70), ()),
    "one row": ((1, 9), (1,), (1, 9), ()),
    "planes": ((3, 5, 16), (1, 2), (1, 5, 16), ()),
    "columns": ((37, 150), (0,), (1, 150), ()),
    "columns in blocks": ((70, 1100), (0,), (1, 1100), ()),
    "columns in blocks, the last one narrow": ((70, 1103), (0,), (1, 1103), ()),
    "columns, few": ((60, 3), (0,), (1, 3), ()),
    "a channel": ((5, 1, 12), (0, 2), (1, 1, 1), ()),
}


def error(a, b):
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("weights", [2, 1, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", list(FORMS))
def test_forms(form, dtype, weights, centred):
    given, axes, shape, split = FORMS[form]
    how = {"axes": axes, "eps": 1e-5, "shape": shape, "split": split, "centred": centred}
    rng = np.random.default_rng(0)
    arrays = [rng.normal(2, 3, size=given).astype(dtype)]
    arrays += [rng.normal(size=int(np.prod(shape))).astype(dtype) for _ in range(weights)]
    g = rng.normal(size=given).astype(dtype)
    made = compiled_normalization.KERNELS["normalize"](
        get_backend("numpy"), *arrays, need=(True,) * len(arrays), **how
    )
    if not centred and form.startswith("columns"):  # no layer needs it
        assert made is NotImplemented
        return
    if form.startswith("columns in blocks") and dtype == "float32" and onednn.threads() > 1:  # oneDNN's
        assert made is NotImplemented
        return
    assert made is not NotImplemented
    (y, mean, variance), pull = made
    alone = compiled_normalization.KERNELS["normalize"](get_backend("numpy"), *arrays, need=None, **how)
    for a, b in zip(alone, (y, mean, variance), strict=True):
        assert a.tobytes() == b.tobytes()
    got = pull(g)
    assert [a.dtype for a in got] == [np.dtype(dtype)] * len(arrays)
    with an.use_kernels(False):
        wide = [an.asarray(a.astype(np.float64), requires_grad=True) for a in arrays]
        want, *statistics = PRIMITIVES["normalize"](*wide, **how)
        want.backward(an.asarray(g.astype(np.float64)))
    limit = 16 * np.finfo(dtype).eps
    for a, b in zip((y, mean, variance), (want, *statistics), strict=True):
        assert a.shape == tuple(b.shape)
        assert error(a, b.numpy()) <= limit
    for a, x in zip(got, wide, strict=True):
        assert a.shape == tuple(x.shape)
        assert error(a, x.grad.numpy()) <= limit


@pytest.mark.parametrize("columns", [1100, 1103, 1024])
def test_columns_shared_by_threads(threads, columns):
    compiled_normalization._plan.cache_clear()
    x = np.random.default_rng(0).normal(2, 3, size=(80, columns))
    how = {"axes": (0,), "eps": 0.0, "shape": (1, columns), "need": (True,)}
    (y, mean, _), pull = compiled_normalization.KERNELS["normalize"](get_backend("numpy"), x, **how)
    assert np.allclose(y, (x - x.mean(0)) / x.std(0), rtol=1e-12, atol=1e-12)
    assert np.allclose(mean, x.mean(0), rtol=1e-12)
    g = np.random.default_rng(1).normal(size=x.shape)
    [gx] = pull(g)
    want = (g - g.mean(0) - y * (g * y).mean(0)) / x.std(0)
    assert np.allclose(gx, want, rtol=1e-10, atol=1e-12)
    compiled_normalization._plan.cache_clear()


def test_large_means_lose_no_digits():
    x = (np.random.default_rng(0).normal(size=(2, 3, 64, 64)) + 1000).astype(np.float32)
    y = an.nn.InstanceNorm2d(3, eps=0.0)(an.asarray(x)).numpy()
    wide = x.astype(np.float64)
    want = (wide - wide.mean((2, 3), keepdims=True)) / wide.std((2, 3), keepdims=True)
    assert np.abs(y - want).max() < 1e-4  # the mean itself is rounded to 6e-5


@pytest.mark.parametrize("shape", [(8, 6, 48, 48), (3, 130, 5, 4), (6, 7, 11), (2, 5, 3, 4, 6)])
@pytest.mark.parametrize("weights", [2, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_with_channels_last_are_summed_in_double_precision(shape, weights, dtype):
    rng = np.random.default_rng(0)
    channels = np.moveaxis(rng.normal(3, 2, size=(shape[0], *shape[2:], shape[1])).astype(dtype), -1, 1)
    kept = (1, shape[1], *(1,) * (len(shape) - 2))
    arrays = [channels, *(rng.normal(size=shape[1]).astype(dtype) for _ in range(weights))]
    g = rng.normal(size=shape).astype(dtype)
    how = {"axes": (0, *range(2, len(shape))), "eps": 1e-5, "shape": kept, "need": (True,) * len(arrays)}
    xp, kernel = get_backend("numpy"), compiled_normalization.KERNELS["normalize"]
    (y, mean, variance), pull = kernel(xp, *arrays, **how)
    (exact, *statistics), exact_pull = kernel(
        xp, *(np.ascontiguousarray(a, dtype="float64") for a in arrays), **how
    )
    limit = 1e-6 if dtype == "float32" else 1e-14
    assert error(y, exact) < limit
    assert [s.shape for s in (mean, variance)] == [kept, kept]
    for found, wanted in zip((mean, variance), statistics, strict=True):
        assert error(found, wanted) < limit
    grads, wanted = pull(g), exact_pull(g.astype("float64"))
    assert len(grads) == len(arrays)
    for found, expected, array in zip(grads, wanted, arrays, strict=True):
        assert found.shape == array.shape
        assert error(found, expected) < limit
    assert kernel(xp, channels, **(how | {"axes": (1,), "shape": (), "need": None})) is NotImplemented


GROUPS = {  # shape of x, groups
    "groups": ((4, 8, 6, 5), 4),
    "one group": ((2, 6, 7, 11), 1),
    "a group each": ((3, 5, 6, 4), 5),
    "many channels, one position": ((2, 512, 1, 1), 32),
    "a line": ((2, 6, 130), 3),
    "a volume": ((2, 6, 3, 4, 5), 2),
}


@pytest.mark.parametrize("form", list(GROUPS))
@pytest.mark.parametrize("layer", ["group", "instance"])
@pytest.mark.parametrize("weights", [2, 1, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_groups_of_channels_that_lie_together(form, layer, weights, dtype):
    given, groups = GROUPS[form]
    spatial = given[2:]
    rng = np.random.default_rng(0)
    x = np.moveaxis(rng.normal(2, 3, size=(given[0], *spatial, given[1])).astype(dtype), -1, 1)
    arrays = [x, *(rng.normal(size=given[1]).astype(dtype) for _ in range(weights))]
    g = rng.normal(size=given).astype(dtype)
    ones = (1,) * len(spatial)
    how = {"axes": tuple(range(2, len(given))), "eps": 1e-5, "shape": (1, given[1], *ones), "split": ()}
    if layer == "group":
        m = given[1] // groups
        how |= {"axes": tuple(range(2, len(given) + 1)), "shape": (1, groups, m, *ones)}
        how |= {"split": (given[0], groups, m, *spatial)}
    kernel, xp = compiled_normalization.KERNELS["normalize"], get_backend("numpy")
    made = kernel(xp, *arrays, need=(True,) * len(arrays), **how)
    if x.flags.c_contiguous:  # with one position there is but one order
        return
    assert made is not NotImplemented
    (y, mean, variance), pull = made
    assert y.strides == x.strides
    for a, b in zip(kernel(xp, *arrays, need=None, **how), (y, mean, variance), strict=True):
        assert a.tobytes() == b.tobytes()
    with an.use_kernels(False):
        wide = [an.asarray(a.astype(np.float64), requires_grad=True) for a in arrays]
        want, *statistics = PRIMITIVES["normalize"](*wide, **how)
        want.backward(an.asarray(g.astype(np.float64)))
    limit = 32 * np.finfo(dtype).eps
    for a, b in zip((y, mean, variance), (want, *statistics), strict=True):
        assert a.shape == tuple(b.shape)
        assert error(a, b.numpy()) <= limit
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(g, 1, -1)), -1, 1)
    for gradient in (g, last):
        got = pull(gradient)
        assert len(got) == len(arrays)
        for a, b in zip(got, wide, strict=True):
            assert a.shape == tuple(b.shape)
            assert error(a, b.grad.numpy()) <= limit


def test_groups_of_samples_shared_by_threads(threads):
    compiled_normalization._channel_plan.cache_clear()
    x = np.moveaxis(np.random.default_rng(0).normal(2, 3, size=(6, 40, 41, 24)), -1, 1)
    how = {"axes": (2, 3), "eps": 0.0, "shape": (1, 24, 1, 1), "need": (True,)}
    (y, mean, _), pull = compiled_normalization.KERNELS["normalize"](get_backend("numpy"), x, **how)
    wide = x.std((2, 3), keepdims=True)
    assert np.allclose(y, (x - x.mean((2, 3), keepdims=True)) / wide, rtol=1e-12, atol=1e-12)
    assert np.allclose(mean, x.mean((2, 3), keepdims=True), rtol=1e-12)
    g = np.random.default_rng(1).normal(size=x.shape)
    [gx] = pull(g)
    want = (g - g.mean((2, 3), keepdims=True) - y * (g * y).mean((2, 3), keepdims=True)) / wide
    assert np.allclose(gx, want, rtol=1e-10, atol=1e-12)
    compiled_normalization._channel_plan.cache_clear()


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("layer", ["GroupNorm", "InstanceNorm2d", "BatchNorm2d"])
def test_the_same_bits_compiled(layer, axis):
    a = np.random.default_rng(0).normal(size=(4, 8, 6, 6)).astype(np.float32)
    a = np.moveaxis(
        np.ascontiguousarray(np.moveaxis(a, 1, axis)), axis, 1
    )  # channels first and last in memory
    x = an.asarray(a)
    norm = an.nn.GroupNorm(4, 8) if layer == "GroupNorm" else getattr(an.nn, layer)(8, affine=True)

    def step(x):
        loss = an.sum(norm(x) ** 3)
        loss.backward()
        return loss

    first = step(x)
    grads = [p.grad.numpy() for p in norm.parameters()]
    norm.zero_grad()
    compiled = an.compile(step)
    for _ in range(2):
        norm.zero_grad()
        again = compiled(x)
    assert again.numpy().tobytes() == first.numpy().tobytes()
    for p, g in zip(norm.parameters(), grads, strict=True):
        assert p.grad.numpy().tobytes() == g.tobytes()


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    ("shape", "last"), [((6, 40), (40,)), ((2, 3, 5), (3, 5)), ((9,), (9,)), ((4, 1), (1,))]
)
def test_rms_norm_equals_its_definition(shape, last, kernels):
    rng = np.random.default_rng(0)
    a, w, g = rng.normal(2, 3, size=shape), rng.normal(size=last), rng.normal(size=shape)

    def definition(x, w):
        axes = tuple(range(-len(last), 0))
        return x / an.sqrt(an.mean(x * x, axis=axes, keepdims=True) + 1e-3) * w

    for dtype in (np.float32, np.float64):
        found = []
        for f in (lambda x, w: an.nn.functional.rms_norm(x, last, w, eps=1e-3), definition):
            kind = np.float64 if f is definition else dtype
            x, v = (an.asarray(t.astype(kind), requires_grad=True) for t in (a, w))
            with an.use_kernels(kernels):
                y = f(x, v)
                y.backward(an.asarray(g.astype(kind)))
            found.append([t.numpy() for t in (y.detach(), x.grad, v.grad)])
        for b, c in zip(*found, strict=True):
            assert b.dtype == dtype
            assert b.shape == c.shape
            assert error(b, c) <= 16 * np.finfo(dtype).eps


def test_rms_norm_of_half_precision_and_mixed_dtypes():
    x = an.asarray(np.full((2, 16), 300.0, np.float16))  # whose squares are beyond float16
    y = an.nn.functional.rms_norm(x, 16)
    assert y.numpy().dtype == np.float16
    np.testing.assert_array_equal(y.numpy(), np.ones((2, 16)))
    assert an.nn.functional.rms_norm(x, 16, an.ones(16)).dtype is an.float32


def test_normalization_of_a_batch_of_examples():
    F, x = an.nn.functional, an.asarray(np.random.default_rng(0).normal(size=(5, 3, 4, 9)).astype(np.float32))
    w = an.asarray(np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32))
    for f in (
        lambda x: F.layer_norm(x, 9), lambda x: F.rms_norm(x, 9, w[0]), lambda x: F.group_norm(x, 2, w[0, :4], w[1, :4]),
        F.instance_norm, lambda x: F.batch_norm(x, None, None, training=True),
    ):  # fmt: skip
        np.testing.assert_allclose(
            an.vmap(f)(x).numpy(), np.stack([f(x[i]).numpy() for i in range(5)]), rtol=1e-6, atol=1e-6
        )
    own = an.vmap(lambda x, w: F.layer_norm(x, 9, w))(x, w)
    np.testing.assert_allclose(own.numpy()[4], F.layer_norm(x[4], 9, w[4]).numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, eps: an.nn.functional.batch_norm(x, None, None, training=True, eps=eps),
        lambda x, eps: an.nn.functional.layer_norm(x, x.shape[-1:], eps=eps),
        lambda x, eps: an.nn.functional.rms_norm(x, x.shape[-1:], eps=eps),
        lambda x, eps: an.nn.functional.group_norm(x, 2, eps=eps),
        lambda x, eps: an.nn.functional.instance_norm(x, eps=eps),
    ],
    ids=["batch", "layer", "rms", "group", "instance"],
)
def test_an_integer_is_added_to_the_variance_as_a_number(function, dtype):
    """As in ``nn.BatchNorm2d(32, 32)``, whose second argument is ε."""
    values = np.random.default_rng(0).normal(size=(6, 10, 32))
    found = []
    for eps in (2, 2.0):
        for _ in range(2):
            x = an.asarray(values, dtype=dtype, requires_grad=True)
            y = function(x, eps)
            an.sum(y * y).backward()
        found.append((y.numpy(), x.grad.numpy()))
    for mine, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, expected)
        assert 0 < np.max(np.abs(expected)) < 1e3
