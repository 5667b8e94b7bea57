"""Rotary, sinusoidal and linear positions and attention with shared keys, against their formulas."""

import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import agree_with_gradients, torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize(("dims", "width", "offset", "scale", "base"), [
    (4, 4, 0, 1.0, 10000.0), (4, 6, 3, 1.0, 10000.0), (2, 2, 0, 0.5, 100.0), (6, 6, 1000, 1.0, 10.0),
])  # fmt: skip
def test_rope_turns_pairs(traditional, dims, width, offset, scale, base):
    x = draw(2, 3, 5, width)

    def reference(x):
        parts = [x[..., j] for j in range(width)]
        for j in range(dims // 2):
            a, b = (2 * j, 2 * j + 1) if traditional else (j, j + dims // 2)
            angle = (torch.arange(5, dtype=torch.float64) + offset) * scale * base ** (-2 * j / dims)
            one, two = x[..., a], x[..., b]
            parts[a] = one * angle.cos() - two * angle.sin()
            parts[b] = one * angle.sin() + two * angle.cos()
        return torch.stack(parts, -1)

    agree_with_gradients(lambda x: nn.RoPE(dims, traditional, base, scale)(x, offset), reference, x)


def test_rope_keeps_products_of_equal_distance():
    q, k = (an.asarray(draw(1, 8, seed=s)) for s in (0, 1))
    rope = nn.RoPE(8)
    products = [an.sum(rope(q, 5 + s) * rope(k, 2 + s)).item() for s in (0, 7, 100)]
    assert products == pytest.approx([products[0]] * 3, rel=1e-10)


@pytest.mark.parametrize(("heads", "queries", "keys", "offset"), [(8, 4, 4, 0), (1, 3, 5, 0), (6, 1, 9, 8)])
def test_alibi(heads, queries, keys, offset):
    x = draw(2, heads, queries, keys)

    def reference(x):
        slope = torch.tensor([2.0 ** (-8 * h / heads) for h in range(1, heads + 1)], dtype=torch.float64)
        apart = (torch.arange(queries)[:, None] + offset - torch.arange(keys)).abs()
        return x - slope[:, None, None] * apart

    agree_with_gradients(lambda x: nn.ALiBi()(x, offset), reference, x)


@pytest.mark.parametrize(
    "options",
    [{}, {"cos_first": True}, {"full_turns": True, "scale": 1.0}, {"min_freq": 0.01, "max_freq": 2.0}],
)
def test_sinusoids(options):
    x = draw(3, 4) * 10
    layer = nn.SinusoidalPositionalEncoding(8, **options)

    def reference(x):
        low, high = math.log(options.get("min_freq", 1e-4)), math.log(options.get("max_freq", 1.0))
        rate = torch.exp((1 - torch.arange(4, dtype=torch.float64) / 3) * (high - low) + low)
        angle = x[..., None] * rate * (2 * math.pi if options.get("full_turns") else 1)
        parts = (angle.cos(), angle.sin()) if options.get("cos_first") else (angle.sin(), angle.cos())
        return torch.cat(parts, -1) * options.get("scale", math.sqrt(2 / 4))

    agree_with_gradients(layer, reference, x)


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_group_query_attention_repeats_keys(heads, shared, causal):
    an.random.manual_seed(0)
    layer = nn.GroupQueryAttention(8, heads, shared).to("float64")
    x = draw(2, 5, 8)
    state = {k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()}

    def project(x, name, n):
        y = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        return y.reshape(2, 5, n, 2).transpose(1, 2)

    def reference(x):
        q = project(x, "q_proj", heads)
        k, v = (project(x, n, shared).repeat_interleave(heads // shared, 1) for n in ("k_proj", "v_proj"))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return y.transpose(1, 2).reshape(2, 5, 8) @ state["out_proj.weight"].T + state["out_proj.bias"]

    agree_with_gradients(lambda x: layer(x, x, x, is_causal=causal), reference, x)
