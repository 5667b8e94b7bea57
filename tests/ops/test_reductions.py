"""Reductions: what the table of special points does not have."""

import math

import numpy as np
import pytest

import anynet as an


@pytest.mark.parametrize("axis", [(-1, 0), (1, 0), (2, 0), (0, 2), None])
def test_axes_in_any_order(axis):
    x = an.Tensor(np.random.default_rng(0).normal(size=(2, 3, 2)), requires_grad=True)
    for f in (an.prod, an.sum, an.mean, an.var, an.std, an.max, an.min, an.special.logsumexp):
        assert an.gradcheck(lambda x, f=f: f(x, axis=axis), x)
        assert f(x, axis=axis, keepdims=True).shape == x.numpy().sum(axis=axis, keepdims=True).shape


@pytest.mark.parametrize("n", [-1, 1.0, True, "1"])
def test_diff_refuses_what_is_no_number_of_times(n):
    with pytest.raises(ValueError, match="diff: n must be an integer of at least 0"):
        an.diff(an.asarray([1.0, 2.0]), n=n)


def test_no_degrees_of_freedom():
    x = an.asarray(np.array([1.0]))
    with pytest.warns(RuntimeWarning):
        assert math.isnan(an.var(x, correction=1).item())
    with pytest.warns(RuntimeWarning):
        assert np.isnan(an.grad(lambda x: an.var(x, correction=1))(x).numpy()).all()
    with pytest.warns(RuntimeWarning):
        assert an.grad(lambda x: an.where(x[0] > 0, 0.0, an.std(x, correction=1)))(x).numpy() == 0


def test_ties_of_many_halves():
    x = an.asarray(np.ones(5000, dtype="float16"))
    g = an.grad(an.max)(x)
    assert g.dtype == x.dtype
    np.testing.assert_array_equal(g.numpy(), np.full(5000, 1 / 5000, "float16"))


@pytest.mark.parametrize("name", ["mean", "var", "std"])
@pytest.mark.parametrize("axis", [None, 0])
def test_more_halves_than_float16_can_count(name, axis):
    values = np.random.default_rng(0).normal(size=70_000).astype("float16")
    x, wide = (an.Parameter(an.asarray(values.astype(kind))) for kind in ("float16", "float64"))
    for v in (x, wide):
        getattr(an, name)(v, axis=axis).backward()
    found, wanted = (getattr(an, name)(v, axis=axis).item() for v in (x, wide))
    assert found == pytest.approx(wanted, rel=1e-3)
    np.testing.assert_allclose(x.grad.numpy().astype("f8"), wide.grad.numpy(), rtol=1e-2, atol=1e-7)
