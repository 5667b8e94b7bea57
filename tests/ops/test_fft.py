"""The fft extension: values as NumPy's, gradients to second order."""

import numpy as np
import pytest

import anynet as an

ONE = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
MANY = ["fftn", "ifftn", "rfftn", "irfftn"]
CASES = [(name, kw) for name in ONE for kw in ({}, {"n": 5}, {"n": 9}, {"axis": 0})]
CASES += [(name, kw) for name in MANY for kw in ({}, {"s": (4, 7), "axes": (0, 1)})]


def sample(name):
    draws = np.random.default_rng(0).normal(size=(2, 3, 6))
    return draws[0] if name in ("rfft", "ihfft", "rfftn") else draws[0] + 1j * draws[1]


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_values_and_gradients(name, options, norm):
    x = sample(name)
    y = getattr(an.fft, name)(an.Tensor(x), norm=norm, **options)
    expected = getattr(np.fft, name)(x, norm=norm, **options)
    assert abs(y.numpy() - expected).max() < 1e-12
    assert y.dtype.name == expected.dtype.name
    variable = an.Tensor(x, requires_grad=True)
    an.gradcheck(lambda t: getattr(an.fft, name)(t, norm=norm, **options), [variable])


@pytest.mark.parametrize("name", ONE + MANY)
def test_second_order(name):
    function = getattr(an.fft, name)
    an.gradgradcheck(lambda t: function(t) * function(t), [an.Tensor(sample(name), requires_grad=True)])


@pytest.mark.parametrize("n", [6, 7])
def test_coefficients_that_stand_for_themselves_are_real(n):
    """The imaginary part of the first coefficient, and for even n of the last, counts for nothing and has no gradient."""
    x = sample("irfft")[:, : n // 2 + 1]
    alone = [0, n // 2] if n % 2 == 0 else [0]
    other = x.copy()
    other[:, alone] += 3j
    assert an.fft.irfft(an.Tensor(other), n=n).tolist() == an.fft.irfft(an.Tensor(x), n=n).tolist()
    variable = an.Tensor(x, requires_grad=True)
    an.sum(an.fft.irfft(variable, n=n) ** 3).backward()
    assert (variable.grad.numpy()[:, alone].imag == 0).all()


def test_frequencies_and_shifts():
    assert abs(an.fft.fftfreq(5, d=0.5).numpy() - np.fft.fftfreq(5, 0.5)).max() < 1e-7
    assert abs(an.fft.rfftfreq(6).numpy() - np.fft.rfftfreq(6)).max() < 1e-7
    x = an.arange(5)
    assert an.fft.fftshift(x).tolist() == np.fft.fftshift(np.arange(5)).tolist()
    assert an.fft.ifftshift(an.fft.fftshift(x)).tolist() == x.tolist()


def test_errors():
    with pytest.raises(TypeError, match="real"):
        an.fft.rfft(an.Tensor(1j * np.ones(3)))
    with pytest.raises(ValueError, match="norm"):
        an.fft.fft(an.ones(3), norm="none")
    with pytest.raises(ValueError, match="n must be ≥ 1, got 0"):
        an.fft.fft(an.ones(3), n=0)
