"""The language of equations: what is read, what is refused, what it means, how it looks."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.equations import EquationError, NoEquationError, equation, of, read

A, B = np.arange(6.0).reshape(2, 3), np.arange(3.0)


def value(text, **values):
    return read(text).evaluate(values)["y"]


MEANINGS = [
    ("y[i] = sum[j](a[i, j] * b[j])", A @ B), ("y = a @ b", A @ B), ("y[j, i] = a[i, j]", A.T), ("y = a.T", A.T),
    ("y = sum(a)", 15.0), ("y[i] = mean[j](a[i, j])", A.mean(1)), ("y = norm(b)", 5**0.5),
    ("y[i] = norm[j](a[i, j])", np.linalg.norm(A, axis=1)),
    ("y[i] = sum[j, j != i](a[i, j])", [3.0, 8.0]), ("y[i: 5] = b[i - 1]", [0, 0, 1, 2, 0]), ("y = prod[i: 1: 4](i)", 6),
    ("y[j] = max[i](a[i, j]) if b[j] > 0 else -1", [-1, 4, 5]), ("y[j] = [b[j] >= 1 and b[j] < 2]", [0, 1, 0]),
    ("y[..., i] = b[i] + a[..., i]", A + B), ("y = min(max(b, 0.5), 1.5)", [0.5, 1, 1.5]), ("y[i] = argmax[j](a[i, j])", [2, 2]),
    ("y[i, j] = softmax[j](a[i, j])", np.exp(A) / np.exp(A).sum(1, keepdims=True)),
    ("y[i] = logsumexp[j](a[i, j])", np.log(np.exp(A).sum(1))),
    ("y[j] = var[i](a[i, j])", A.var(0)), ("y[i] = any[j](a[i, j] > 4)", [False, True]),
    ("y = b**2 / 2 - b // 2 + b % 2", B**2 / 2 - B // 2 + B % 2),
    ("y[j] = sort[j](b[j])", [2, 1, 0]), ("y[i] = b[i] * i", [0, 1, 4]),
    ("s[-1] = 0\ns[t] = s[t - 1] + b[t]\ny = s[2]", 3.0), ("s[3] = 1\ns[t] = 2 * s[t + 1] + b[t]\ny = s", [18, 9, 4]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MEANINGS)
def test_meaning(text, expected):
    np.testing.assert_allclose(np.asarray(value(text, a=A, b=B)), expected, rtol=1e-12)


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_arrays_of_any_library_and_lists(device):
    text = "y[i] = sum[j](a[i, j] * exp(b[j])) + sort[i](c[i]) + erf(c[i]) + [c[i] > 0] * i"
    a, b, c = (an.asarray(v, dtype=an.float64, device=device)._data for v in (A, B, [1.0, -1.0]))
    found = value(text, a=a, b=b, c=c)
    assert type(found) is type(a)
    plain = value(text, a=A.tolist(), b=B.tolist(), c=[1.0, -1.0])
    np.testing.assert_allclose(np.asarray(found), np.asarray(plain), rtol=1e-14)
    assert plain.dtype == np.float64


def test_dtype_is_that_of_the_values():
    assert value("y = 0.5 * tanh(a) + 1", a=A.astype(np.float32)).dtype == np.float32


REFUSED = [
    ("y x", "is no equation"), ("y = (x", "in"), ("y = x.mean", "only attribute is .T"), ("y = [x]", "brackets hold one condition"),
    ("y = lambda x: x", "not of the language"), ("y + 1 = x", "left side must be a symbol"), ("y = x if x > 0", "column"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_no_equation(text, message):
    with pytest.raises(EquationError, match=message):
        read(text)


FAULTS = [
    ("y[i] = b[j]", "range of i"), ("y = b[j] + j", "missing"), ("y[i] = a[i, j]", "missing"), ("y = c + 1", "the value of c is missing"),
    ("y[j] = a[i, j] + b[j]", "missing"), ("y[i] = a[i, k] @ b", "missing"), ("y = nothing(b)", "no function"),
    ("y ~ Normal(0, 1)", "drawn at random"),
    ("y = b @ 2", "matrices or vectors"), ("y[i, j, k] = a[i, j, k]", "range of k"), ("s[t: 3] = s[t - 1]\ny = s", "give a start"),
    ("y = sum[j: b](1)", "whole number"), ("y = sum[k](2)", "range of k"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_what_has_no_value(text, message):
    with pytest.raises(EquationError, match=message):
        value(text, a=A, b=B)


def test_axes_must_agree():
    made = read("y = x @ w", where="x[J]; w[J]")
    with pytest.raises(EquationError, match="J = 3, but J = 2"):
        made.evaluate({"x": np.ones(2), "w": np.ones(3)})
    with pytest.raises(EquationError, match=r"x must have the axes \(J\), got shape \(1, 2\)"):
        made.evaluate({"x": np.ones((1, 2)), "w": np.ones(2)})
    with pytest.raises(EquationError, match="expected ‘symbol"):
        read("y = x", where="x is the input")


def test_one_line_for_images_and_volumes():
    text = "y[n, t: L] = sum[i: k](x[n, s * t + i]) / prod(k)"
    made = [read(text, where="x[N, T]; s = stride", spatial="t i s k L T", axes=n).text() for n in (1, 2)]
    assert made[0] == "y[n, t] = Σ_{0 ≤ i < k} x[n, s t + i] / k  for 0 ≤ t < L"
    assert made[1].startswith(
        "y[n, t₁, t₂] = Σ_{0 ≤ i₁ < k₁, 0 ≤ i₂ < k₂} x[n, s₁ t₁ + i₁, s₂ t₂ + i₂] / (k₁ k₂)"
    )
    with pytest.raises(EquationError, match="a number for each spatial axis"):
        read("y = t", spatial="t", axes=2)


SHOWN = [
    ("y = -x**2", "y = −x²", "y &= -{x}^{2}"),
    ("y = (a + b) * c / (d * e)", "y = (a + b) c / (d e)", r"\frac{\left(a + b\right) \, c}{d \, e}"),
    ("y = a - (b - c)", "y = a − (b − c)", r"a - \left(b - c\right)"), ("y = 2 * 3 * x", "y = 2 · 3 x", r"2 \cdot 3 \, x"),
    ("y = (a + b)**n", "y = (a + b)ⁿ", r"{\left(a + b\right)}^{n}"),
    ("x_hat = W_ih @ x.T", "x̂ = W_ih xᵀ",
     r"\hat{x} &= W_{\mathrm{ih}} \, {x}^{\top}"),
    ("y = sqrt(abs(x)) + floor(x)", "y = √|x| + ⌊x⌋", r"\sqrt{\left\vert x\right\vert} + \left\lfloor x\right\rfloor"),
    ("y = 1 if x > 0 else 0", "y = 1 if x > 0, else 0", r"\begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{else} \end{cases}"),
    ("m ~ Bernoulli(1 - p)", "m ∼ Bernoulli(1 − p)", r"m &\sim \operatorname{Bernoulli}\left(1 - p\right)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "unicode", "latex"), SHOWN)
def test_how_it_looks(text, unicode, latex):
    made = read(text)
    assert made.text() == unicode
    assert latex in made.latex()
    assert made.mathml().startswith("<math ")


def test_gradients_are_shown_as_derivatives():
    made = of(nn.Linear)
    assert made.text("gradient").splitlines()[0] == "∂L/∂xⱼ = Σ_k ∂L/∂yₖ W[k, j]"
    assert r"\frac{\partial L}{\partial W_{k, j}}" in made.latex("gradient")
    with pytest.raises(ValueError, match="part must be"):
        made.text("slope")
    with pytest.raises(EquationError, match="no lines for its gradient"):
        of(nn.GLU).evaluate_gradient({})


def test_subclasses_have_it_while_they_compute_the_same():
    class Same(nn.Linear):
        pass

    class Other(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert of(Same) is of(nn.Linear)
    assert of(nn.LazyConv2d).text() == of(nn.Conv2d).text()
    for thing in (Other, int, nn.Sequential(), "nn.Linear"):
        with pytest.raises(NoEquationError, match="has no equation"):
            of(thing)


def test_own_layers_and_functions():
    @equation("y = x**k", where="x; k = power")
    class Power(nn.Module):
        def __init__(self, power):
            self.power = power

        def forward(self, x):
            return x**self.power

    layer = Power(3.0)
    made = of(layer)
    assert made.text() == "y = xᵏ"
    np.testing.assert_allclose(made.evaluate(made.bind(layer, an.asarray(B)))["y"], B**3)
