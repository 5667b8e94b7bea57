"""Layers as functions of a dictionary of PyTorch's names, in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = dict[str, Any]


def linear(p: Tree, name: str, x: Any) -> Any:
    """x Wᵀ + b."""
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def chain(p: Tree, names: list[str], x: Any, act: Any = jax.nn.relu) -> Any:
    """Linears with an activation between them."""
    for name in names[:-1]:
        x = act(linear(p, name, x))
    return linear(p, names[-1], x)


def mlp(p: Tree, prefix: str, count: int, x: Any, act: Any = jax.nn.relu) -> Any:
    """A Sequential of Linear and activation in turns."""
    return chain(p, [f"{prefix}{2 * i}" for i in range(count)], x, act)


def conv(
    p: Tree, name: str, x: Any, stride: int = 1, padding: int = 0, groups: int = 1, dilation: int = 1
) -> Any:
    """A convolution in 1 or 2 dimensions."""
    w = p[f"{name}.weight"]
    n = w.ndim - 2
    numbers = ("NCHW", "OIHW", "NCHW") if n == 2 else ("NCH", "OIH", "NCH")
    y = lax.conv_general_dilated(
        x,
        w,
        (stride,) * n,
        ((padding, padding),) * n,
        rhs_dilation=(dilation,) * n,
        dimension_numbers=numbers,
        feature_group_count=groups,
    )
    return y + p[f"{name}.bias"].reshape((-1,) + (1,) * n) if f"{name}.bias" in p else y


def max_pool(x: Any, size: int = 2) -> Any:
    """Without overlap."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, size, size), (1, 1, size, size), "VALID")


def batch_norm(p: Tree, name: str, x: Any, train: bool) -> Any:
    """Over all axes but the second; the running statistics stay as they are."""
    axes = (0, *range(2, x.ndim))
    shape = (1, -1) + (1,) * (x.ndim - 2)
    if train:
        mean, var = x.mean(axes), x.var(axes)
    else:
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    scale = p[f"{name}.weight"] * lax.rsqrt(var + 1e-5)
    return x * scale.reshape(shape) + (p[f"{name}.bias"] - mean * scale).reshape(shape)


def layer_norm(p: Tree, name: str, x: Any, eps: float = 1e-5) -> Any:
    """Over the last axis."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + eps) * p[f"{name}.weight"] + p[f"{name}.bias"]


def group_norm(p: Tree, name: str, x: Any, groups: int = 8) -> Any:
    """Over groups of channels."""
    y = x.reshape(x.shape[0], groups, -1)
    y = (y - y.mean(-1, keepdims=True)) * lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
    return y.reshape(x.shape) * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def attention(p: Tree, name: str, x: Any, heads: int) -> Any:
    """nn.MultiheadAttention of a sequence with itself."""
    n, t, d = x.shape
    qkv = (x @ p[f"{name}.in_proj_weight"].T + p[f"{name}.in_proj_bias"]).reshape(n, t, 3, heads, d // heads)
    y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    return linear(p, f"{name}.out_proj", y.reshape(n, t, d))


def encoder_layer(p: Tree, name: str, x: Any, heads: int, act: Any, norm_first: bool) -> Any:
    """nn.TransformerEncoderLayer."""
    feed = lambda y: linear(p, f"{name}.linear2", act(linear(p, f"{name}.linear1", y)))  # noqa: E731
    norm1, norm2 = (lambda y, i=i: layer_norm(p, f"{name}.norm{i}", y) for i in (1, 2))
    if norm_first:
        x = x + attention(p, f"{name}.self_attn", norm1(x), heads)
        return x + feed(norm2(x))
    x = norm1(x + attention(p, f"{name}.self_attn", x, heads))
    return norm2(x + feed(x))


def gelu(x: Any) -> Any:
    """With the error function."""
    return jax.nn.gelu(x, approximate=False)


def lstm(p: Tree, name: str, x: Any, layer: int = 0) -> Any:
    """The outputs of one layer; (length, n, inputs)."""
    end = f"_l{layer}"
    gates = x @ p[f"{name}.weight_ih{end}"].T + (p[f"{name}.bias_ih{end}"] + p[f"{name}.bias_hh{end}"])
    w = p[f"{name}.weight_hh{end}"].T

    def cell(state: Any, z: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(z + h @ w, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[1], w.shape[0]), x.dtype)
    return lax.scan(cell, (zero, zero), gates)[1]


def gru_cell(p: Tree, name: str, end: str, x: Any, h: Any) -> Any:
    """nn.GRUCell."""
    return _gru(
        x @ p[f"{name}.weight_ih{end}"].T + p[f"{name}.bias_ih{end}"],
        h,
        p[f"{name}.weight_hh{end}"].T,
        p[f"{name}.bias_hh{end}"],
    )


def _gru(a: Any, h: Any, w: Any, b: Any) -> Any:
    ar, az, an = jnp.split(a, 3, -1)
    br, bz, bn = jnp.split(h @ w + b, 3, -1)
    r, z = jax.nn.sigmoid(ar + br), jax.nn.sigmoid(az + bz)
    n = jnp.tanh(an + r * bn)
    return (1 - z) * n + z * h


def gru(p: Tree, name: str, x: Any, end: str = "_l0", reverse: bool = False) -> Any:
    """The outputs of one layer; (length, n, inputs)."""
    gates = x @ p[f"{name}.weight_ih{end}"].T + p[f"{name}.bias_ih{end}"]
    w, b = p[f"{name}.weight_hh{end}"].T, p[f"{name}.bias_hh{end}"]

    def step(h: Any, a: Any) -> Any:
        h = _gru(a, h, w, b)
        return h, h

    return lax.scan(step, jnp.zeros((x.shape[1], w.shape[0]), x.dtype), gates, reverse=reverse)[1]


def cross_entropy(y: Any, target: Any) -> Any:
    """Classes on the last axis."""
    return -jnp.take_along_axis(jax.nn.log_softmax(y), target[..., None], -1).mean()


def bce_with_logits(y: Any, target: Any) -> Any:
    """Binary cross-entropy of logits."""
    return (jnp.maximum(y, 0) - y * target + jnp.log1p(jnp.exp(-jnp.abs(y)))).mean()


def mse(y: Any, target: Any) -> Any:
    """Mean squared error."""
    return ((y - target) ** 2).mean()
