"""Gradients of other libraries' functions against finite differences, and how the others refuse."""

import importlib.util
import pathlib
import warnings

import numpy as np
import pytest

import anynet as an

for library in ("scipy", "sklearn", "array_api_extra", "einops"):
    pytest.importorskip(library)

spec = importlib.util.spec_from_file_location(
    "third_party", pathlib.Path(__file__).with_name("third_party.py")
)
third_party = importlib.util.module_from_spec(spec)
spec.loader.exec_module(third_party)

MATRIX = np.random.default_rng(4).uniform(0.3, 0.9, (3, 4))


@pytest.fixture(autouse=True)
def dispatch():
    import sklearn

    with sklearn.config_context(array_api_dispatch=True):
        yield


@pytest.fixture
def x():
    return an.asarray(MATRIX.copy(), requires_grad=True)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("name", third_party.CASES)
def test_gradient(name, x):
    assert an.gradcheck(third_party.CASES[name], x)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("name", third_party.REFUSED)
def test_no_gradient(name, x):
    function, _, sign = third_party.REFUSED[name]
    if sign is False:
        y = function(x)
        assert isinstance(y, an.Tensor)
        assert not y.requires_grad
    elif sign == "nan":
        an.sum(function(x)).backward()
        assert np.isnan(x.grad.numpy()).all()
    elif sign == "ndarray" or sign is float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", an.GradientWarning)
            assert isinstance(function(x), np.ndarray if sign == "ndarray" else float)
    elif sign is an.GradientWarning:
        with pytest.warns(sign, match="without its gradient"):
            assert not function(x).requires_grad
    else:
        with pytest.raises(sign, match=r"detach\(\)|would cut the gradient"):
            function(x)


def test_the_page_is_current():
    assert third_party.PAGE.read_text(encoding="utf-8") == third_party.page()
