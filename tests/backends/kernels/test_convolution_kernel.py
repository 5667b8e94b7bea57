"""NumPy's own convolution against the reference: any shape, by rows and whole, for few channels and many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from anynet.autograd.primitive import PRIMITIVES
from anynet_backends import get_backend
from anynet_backends.kernels import banded_convolution, convolution, winograd

xp = get_backend("numpy")
kernel = convolution.KERNELS["conv"]


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    groups, channels, filters = draw(
        st.sampled_from([(1, 3, 4), (1, 1, 5), (2, 4, 6), (3, 3, 3), (1, 5, 2), (1, 4, 1)])
    )
    size, taps = each(1, 7), each(1, 4)
    options = {
        "stride": each(1, 4),
        "padding": tuple(zip(each(0, 3), each(0, 3), strict=True)),
        "dilation": each(1, 3),
        "groups": groups,
    }
    spans = [d * (k - 1) + 1 for d, k in zip(options["dilation"], taps, strict=True)]
    padded = [n + lo + hi for n, (lo, hi) in zip(size, options["padding"], strict=True)]
    assume(all(n >= span for n, span in zip(padded, spans, strict=True)))
    n = draw(st.integers(1, 3))
    return (n, channels, *size), (filters, channels // groups, *taps), draw(st.booleans()), options


def forced(points):
    """Tiles of so many points wherever there can be any."""

    def tile_for(filters, channels, kernel, out, n, stride, dilation, gradient):
        return points if stride == 1 < kernel[0] < points else 0

    return tile_for


# a stride that padding makes up for
UNEVEN = ((1, 3, 2), (4, 3, 1), False, {"stride": (2,), "padding": ((0, 1),), "dilation": (1,), "groups": 1})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=convolutions(),
    row=st.sampled_from([1, 10**9]),
    few=st.sampled_from([0, 16]),
    thin=st.sampled_from([0, 32]),
    block=st.sampled_from([1, 1 << 21]),
    banded=st.sampled_from([(0, 99, 16, 1 << 18), (2, 1, 16, 1 << 18), (2, 1, 2, 1)]),
    points=st.sampled_from([0, *winograd.SIZES]),
)
@example(case=UNEVEN, row=1, few=0, thin=0, block=1, banded=(0, 99, 16, 1), points=0)
def test_as_the_reference(monkeypatch, case, row, few, thin, block, banded, points):
    monkeypatch.setattr(convolution, "tile_for", forced(points))
    monkeypatch.setattr(winograd, "BLOCK", block)
    for name, value in zip(("CHANNELS", "TALL", "ROWS", "BLOCK"), banded, strict=True):
        monkeypatch.setattr(banded_convolution, name, value)
    for name, value in (("ROW", row), ("FEW", few), ("THIN", thin), ("BLOCK", block)):
        monkeypatch.setattr(convolution, name, value)
    shape, taps, biased, options = case
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape), rng.normal(size=taps)
    data = (x, w, rng.normal(size=taps[0])) if biased else (x, w)
    y, pull = kernel(xp, *data, need=(True,) * len(data), **options)
    expected = PRIMITIVES["conv"].reference(xp, *data, **options)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    g = rng.normal(size=y.shape)
    gradients = pull(g)
    back = {k: options[k] for k in ("stride", "padding", "dilation", "groups")}
    want_x = PRIMITIVES["conv_transpose"].reference(xp, g, w, shape=shape[2:], **back)
    want_w = PRIMITIVES["conv_weight"].reference(xp, x, g, shape=taps[2:], **back)
    np.testing.assert_allclose(gradients[0], want_x, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(gradients[1], want_w, rtol=1e-11, atol=1e-11)
    if biased:
        np.testing.assert_allclose(gradients[2], g.sum(axis=(0, *range(2, g.ndim))), rtol=1e-11, atol=1e-11)
    as_transposes(
        x,
        g,
        w,
        options,
        (y if not biased else y - data[2].reshape(-1, *(1,) * len(shape[2:])), want_x, want_w),
    )


def as_transposes(x, z, w, options, wanted):
    """`conv_transpose` and `conv_weight`, which are linear in both arguments: each gradient is one of the three functions."""
    of_w, of_x = (convolution.KERNELS[name] for name in ("conv_weight", "conv_transpose"))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)  # noqa: E731
    made, pull = of_x(xp, z, w, need=(True, True), shape=x.shape[2:], **options)
    close(made, wanted[1])
    for a, b in zip(pull(x), (wanted[0], wanted[2]), strict=True):
        close(a, b)
    made, pull = of_w(xp, x, z, need=(True, True), shape=w.shape[2:], **options)
    close(made, wanted[2])
    for a, b in zip(pull(w), (wanted[1], wanted[0]), strict=True):
        close(a, b)
    assert of_x(xp, z, w, need=None, shape=x.shape[2:], **options).shape == x.shape
    assert of_w(xp, x, z, need=None, shape=w.shape[2:], **options).shape == w.shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types(dtype):
    x, w = np.ones((2, 3, 5, 5), dtype), np.ones((4, 3, 3, 3), dtype)
    options = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
    y, pull = kernel(xp, x, w, need=(True, True), **options)
    assert [a.dtype for a in (y, *pull(y))] == [dtype] * 3
    assert kernel(xp, x, w.astype(np.complex64), need=None, **options) is NotImplemented
    assert kernel(xp, x[:0], w, need=None, **options) is NotImplemented


def test_depthwise_images_that_are_not_finite():
    """Infinity and NaN stay within the windows that see them, and numbers whose squares overflow are exact."""
    x = np.zeros((1, 2, 20, 9), np.float32)
    x[0, 0, 10, 4], x[0, 1, 3, 3], x[0, 1, 12, 3] = np.inf, np.nan, 1e30
    w = np.ones((2, 1, 3, 3), np.float32)
    options = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 2}
    y, pull = kernel(xp, x, w, need=(True, False), **options)
    expected = PRIMITIVES["conv"].reference(xp, x, w, **options)
    np.testing.assert_array_equal(y, expected)
    assert np.isposinf(y[0, 0]).sum() == np.isnan(y[0, 1]).sum() == (y[0, 1] == np.float32(1e30)).sum() == 9
    gx, _ = pull(x)
    np.testing.assert_array_equal(gx, expected)  # the kernel is symmetric


@pytest.mark.parametrize("points", winograd.SIZES)
@pytest.mark.parametrize("taps", [2, 3, 5, 7])
def test_tiles_in_single_precision(monkeypatch, points, taps):
    """The bound that holds for an operation, with seven taps and eight points, too."""
    if points <= taps:
        return
    monkeypatch.setattr(convolution, "tile_for", forced(points))
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=s) for s in ((2, 8, 21, 9), (6, 8, taps, 3), (2, 6, 22 - taps, 7)))
    options = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    expected, pull_expected = kernel(xp, x, w, need=(True, True), **options)
    y, pull = kernel(xp, x.astype(np.float32), w.astype(np.float32), need=(True, True), **options)
    for a, b in zip((y, *pull(g.astype(np.float32))), (expected, *pull_expected(g)), strict=True):
        assert np.linalg.norm(a - b) <= 5e-6 * np.linalg.norm(b)


@pytest.mark.parametrize("channels", [1, 16, 48, 80, 128, 160])
@pytest.mark.parametrize("taps", [2, 3, 5, 7])
@pytest.mark.parametrize("side", [8, 20])
def test_rounding_errors_are_within_those_of_a_running_sum(channels, taps, side):
    """Half a unit for each √n of sums of n products, whatever form is taken; fewer than nine are not looked at."""
    rng = np.random.default_rng(0)
    n, filters = 12, 24
    x, w = rng.normal(size=(n, channels, side, side)), rng.normal(size=(filters, channels, taps, 3))
    options = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    g = rng.normal(size=kernel(xp, x, w, need=None, **options).shape)
    x, w, g = (v.astype(np.float32) for v in (x, w, g))
    y, pull = kernel(xp, x, w, need=(True, True), **options)
    expected, pull_expected = kernel(
        xp, *(v.astype(np.float64) for v in (x, w)), need=(True, True), **options
    )
    found = (y, *pull(g))
    wanted = (expected, *pull_expected(g.astype(np.float64)))
    products = (channels * taps * 3, filters * taps * 3, n * math.prod(g.shape[2:]))
    for a, b, count in zip(found, wanted, products, strict=True):
        if count >= 9:
            assert np.linalg.norm(a - b) <= 0.5 * count**0.5 * 2.0**-24 * np.linalg.norm(b)


def test_tiles_are_taken_for_what_is_large_and_finite():
    """Infinity and NaN, of images, weights and gradients, reach what sees them and nothing else, and large numbers do not overflow."""
    x, w, g = (np.ones(s, np.float32) for s in ((2, 128, 24, 24), (128, 128, 3, 3), (2, 128, 24, 24)))
    options = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
    assert winograd.tile_for(128, 128, (3, 3), (24, 24), 2, 1, 1, False) > 0
    reference = PRIMITIVES["conv"].reference
    for value in (np.inf, np.nan, 1e30):
        seen = x.copy()
        seen[0, 3, 10, 4] = value
        y = kernel(xp, seen, w, need=None, **options)
        np.testing.assert_allclose(y, reference(xp, seen, w, **options), rtol=1e-5)
        weight = w.copy()
        weight[5, 3, 1, 1] = value
        y, pull = kernel(xp, x, weight, need=(True, True), **options)
        np.testing.assert_allclose(y, reference(xp, x, weight, **options), rtol=1e-5)
        sent = g.copy()
        sent[1, 2, 20, 20] = value
        back = {k: options[k] for k in ("stride", "padding", "dilation", "groups")}
        _, pull = kernel(xp, x, w, need=(True, True), **options)
        gx, gw = pull(sent)
        want_x = PRIMITIVES["conv_transpose"].reference(xp, sent, w, shape=(24, 24), **back)
        want_w = PRIMITIVES["conv_weight"].reference(xp, x, sent, shape=(3, 3), **back)
        np.testing.assert_allclose(gx, want_x, rtol=1e-5)
        np.testing.assert_allclose(gw, want_w, rtol=1e-5)
