"""Attention in all its forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet import random
from anynet.nn import functional as F
from anynet.ops import attention as module
from anynet.ops.attention import scaled_dot_product_attention
from anynet.tensor import Tensor
from anynet.testing.cases import Case

_QKV = ((2, 3, 4), (2, 3, 4), (2, 3, 5))


def _blocks(size: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with blocks so small that there are several."""

    def run(*args: Any) -> Any:
        before = module.BLOCK
        module.BLOCK = size
        try:
            return function(*args)
        finally:
            module.BLOCK = before

    return run


def _causal(q: Any, k: Any, v: Any) -> Any:
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def _dropped(q: Any, k: Any, v: Any) -> Any:
    random.manual_seed(5)
    return scaled_dot_product_attention(q, k, v, dropout_p=0.3)


def _boolean(q: Any, k: Any, v: Any) -> Any:
    mask = Tensor([[True, False, True], [False, False, False], [True, True, True]], device=q.device)
    return scaled_dot_product_attention(q, k, v, mask)


def _heads(x: Any, *weights: Any) -> Any:
    w_in, b_in, w_out, b_out = weights
    return F.multi_head_attention_forward(
        x, x, x, 4, 2, w_in, b_in, None, None, False, 0.0, w_out, b_out, need_weights=False
    )[0]


CASES: tuple[Case, ...] = (
    Case("attention", scaled_dot_product_attention, _QKV),
    Case("attention, causal", _causal, _QKV),
    Case("attention, causal, blocks", _blocks(2, _causal), ((1, 5, 3), (1, 7, 3), (1, 7, 2))),
    Case("attention, added mask", scaled_dot_product_attention, (*_QKV, (2, 3, 3))),
    Case("attention, added mask, blocks", _blocks(2, scaled_dot_product_attention), (*_QKV, (3, 3))),
    Case("attention, row of a mask, blocks", _blocks(2, scaled_dot_product_attention), (*_QKV, (1, 3))),
    Case("attention, boolean mask", _boolean, _QKV),
    Case("attention, boolean mask, blocks", _blocks(2, _boolean), _QKV),
    Case("attention, dropout", _dropped, _QKV),
    Case("attention, dropout, blocks", _blocks(2, _dropped), _QKV),
    Case(
        "attention, groups of heads",
        lambda q, k, v: scaled_dot_product_attention(q, k, v, enable_gqa=True),
        ((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)),
    ),
    Case("multi-head attention", _heads, ((3, 2, 4), (12, 4), (12,), (4, 4), (4,))),
)
