"""Zeros are zeros where nothing is seen, whatever stands in the inputs; where PyTorch multiplies by zero, NaN stays."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F
from anynet.nn.attention import flex_attention as flex
from anynet.ops.attention import attention


def test_add_zero_attn_adds_zeros_beside_an_infinite_key(xp_device):
    one = an.ones((1, 1), device=xp_device)
    query = an.ones((1, 1, 1), device=xp_device)
    key, value = query * -math.inf, query * 5.0
    y, weights = F.multi_head_attention_forward(
        query, key, value, 1, 1, an.ones((3, 1), device=xp_device), None, None, None, True, 0.0, one, None
    )
    assert weights.tolist() == [[[0.0, 1.0]]]  # softmax(−∞, 0)
    assert y.tolist() == [[[0.0]]]


def test_add_zero_attn_is_that_of_pytorch_beside_an_infinite_key():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    query, key = np.ones((2, 1, 1), np.float32), np.asarray([[[-np.inf]], [[1.0]]], np.float32)
    results = []
    for function, make in (
        (torch.nn.functional.multi_head_attention_forward, torch.tensor),
        (F.multi_head_attention_forward, an.asarray),
    ):
        y, weights = function(
            make(query), make(key), make(query), 1, 1, make(np.ones((3, 1), np.float32)), None, None, None, True, 0.0,
            make(np.ones((1, 1), np.float32)), None,
        )  # fmt: skip
        results.append((np.asarray(y.tolist()), np.asarray(weights.tolist())))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-6)


def test_keys_that_no_query_sees_have_no_gradient_beside_a_query_of_nan(xp_device):
    q = an.asarray([[math.nan, 1.0], [1.0, 2.0]], device=xp_device)
    k = an.ones((6, 2), device=xp_device, dtype=q.dtype)
    k.requires_grad_()
    v = an.ones((6, 2), device=xp_device, dtype=q.dtype)
    v.requires_grad_()
    y = attention(q, k, v, scale=1.0, causal=True, block=2)
    an.sum(y).backward()
    assert k.grad[2:].tolist() == v.grad[2:].tolist() == [[0.0, 0.0]] * 4
    assert k.grad.dtype is k.dtype


def test_flex_attention_of_nothing_is_zero_for_a_query_of_nan():
    q, k = an.full((1, 1, 2, 2), math.nan), an.ones((1, 1, 2, 2))
    q.requires_grad_()
    mask = flex.create_block_mask(lambda b, h, i, j: j < 0 * j, None, None, 2, 2, device="cpu", BLOCK_SIZE=2)
    y = flex.flex_attention(q, k, k, block_mask=mask)
    assert y.tolist() == [[[[0.0, 0.0], [0.0, 0.0]]]]
    an.sum(y).backward()
    assert q.grad.tolist() == [[[[0.0, 0.0], [0.0, 0.0]]]]


def test_an_impossible_class_of_adaptive_softmax_has_the_logarithm_minus_infinity():
    net = an.nn.AdaptiveLogSoftmaxWithLoss(1, 4, [2], div_value=1.0)
    with an.no_grad():
        net.head.weight[0, :] = -math.inf
    output, _ = net(an.ones((2, 1)), an.asarray([0, 3]))
    assert output[0].item() == -math.inf
    assert math.isfinite(output[1].item())


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout"])
def test_dropout_of_everything_is_a_product_with_zero_as_in_pytorch(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = [math.nan, math.inf, -math.inf, 2.0]
    expected = getattr(torch.nn.functional, name)(torch.tensor(x), 1.0, True).tolist()
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(getattr(F, name)(an.asarray(x), 1.0, True).tolist(), expected)
