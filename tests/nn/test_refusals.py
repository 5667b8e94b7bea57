"""Arguments that layers refuse."""

import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F


@pytest.mark.parametrize(("make", "match"), [
    (lambda: nn.RoPE(3), "even"), (lambda: nn.SinusoidalPositionalEncoding(4, min_freq=2.0), "min_freq"),
    (lambda: nn.GroupQueryAttention(8, 4, 3), "must divide"), (lambda: nn.GroupQueryAttention(9, 4, 2), "head_dim"),
    (lambda: nn.GroupQueryAttention(8, 4, 2, dropout=2.0), r"dropout must be in \[0, 1\]"), (lambda: nn.Maxout(2, 2, 0), "must be ≥ 1"),
    (lambda: nn.SeparableConv1d(2, 2, 3, depth_multiplier=0), "must be ≥ 1"), (lambda: nn.CRF(0), "must be ≥ 1"),
    (lambda: nn.NaryTreeLSTM(2, 2, 0), "must be ≥ 1"), (lambda: nn.NegativeSampling(2, [0, 0], 2), "a number > 0"),
    (lambda: nn.CRF(2)(an.ones((2, 3, 2)), an.asarray([[0, 1]])), "tags of shape"),
    (lambda: nn.CRF(2)(an.ones((2, 3, 4)), an.asarray([[0, 1, 1], [0, 0, 0]])), "expected"),
    (lambda: nn.ConvLSTM1d(2, 2, 3)(an.ones((2, 1, 3, 5))), "expected"),
    (lambda: nn.RoPE(8)(an.ones((2, 4))), "at least 8"), (lambda: nn.ALiBi()(an.ones((2, 4))), "heads"),
    (lambda: F.dice_loss(an.ones(3), an.ones((3, 1))), "equal shapes"),
    (lambda: F.circle_loss(an.ones((3, 2)), an.asarray([1, 2])), r"\(n,\)"),
    (lambda: F.focal_loss(an.ones((3, 2)), an.asarray([1, 0, 0]), reduction="max"), "reduction"),
])  # fmt: skip
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_refused_options():
    for call, words in (
        (lambda: nn.GaussianNoise(-1), "must be ≥ 0, got -1"), (lambda: nn.GaussianDropout(1.0), r"\[0, 1\), got 1.0"),
        (lambda: F.gaussian_noise(an.ones(2), -1), "stddev must be ≥ 0"), (lambda: F.gaussian_dropout(an.ones(2), 1.0), "rate must be in"),
        (lambda: nn.SquarePlus(-1.0), "b must be ≥ 0"), (lambda: F.hinge_loss(an.ones(2), an.ones(2), p=3), "1 or 2, got 3"),
        (lambda: nn.TimeDistributed(nn.ReLU())(an.ones((2, 3))), "at least 3 axes"),
        (lambda: nn.init.variance_scaling_(an.zeros((2, 3)), -1.0), "scale must be > 0"),
        (lambda: nn.init.variance_scaling_(an.zeros((2, 3)), distribution="flat"), "got 'flat'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            call()
