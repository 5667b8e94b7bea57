"""The worked example: the gradient's numbers, and those of the popular account as the mistake that they are."""

import runpy
from pathlib import Path

import pytest

import anynet as an

FILE = Path(__file__).parents[2] / "examples" / "backprop_by_hand.py"


@pytest.fixture(scope="module")
def example():
    yield runpy.run_path(str(FILE))
    an.dtypes.set_default_float("float32")


@pytest.fixture(autouse=True)
def in_float64(example):
    an.dtypes.set_default_float("float64")
    yield
    an.dtypes.set_default_float("float32")


def test_every_derivative_by_hand_and_by_autograd(example):
    w1, w2 = an.asarray(example["W1"]), an.asarray(example["W2"])
    error, _, _, hand = example["by_hand"](w1, w2)
    same, auto = example["by_autograd"](w1, w2)
    assert error.item() == pytest.approx(0.2983711087600027, rel=1e-15)
    assert same.item() == pytest.approx(error.item(), rel=1e-15)
    for name, value in auto.items():
        assert abs(hand[name].numpy() - value.numpy()).max() < 1e-16
    expected = [[0.082167040564, 0.082667627848], [-0.022602540477, -0.022740242216]]
    assert abs(hand["∂E/∂W2"].numpy() - expected).max() < 1e-11
    expected = [[0.000438567734, 0.000877135469], [0.000497712735, 0.000995425471]]
    assert abs(hand["∂E/∂W1"].numpy() - expected).max() < 1e-11


def test_one_step(example):
    assert example["train"](1)[0] == pytest.approx(0.29102777369359933, rel=1e-14)
    assert round(example["train"](1, output_weights_first=True)[0], 9) == 0.291027924


def test_ten_thousand_steps(example):
    error, o = example["train"](10_000)
    assert error == pytest.approx(3.510187783e-05, rel=1e-9)
    assert o.tolist() == pytest.approx([0.015913620444, 0.984064273515], abs=1e-12)
    _, o = example["train"](10_000, output_weights_first=True)
    assert o.tolist() == pytest.approx([0.015912196, 0.984065734], abs=1e-9)
