"""The workloads in JAX, as one jitted function a step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ci.bench.workloads import GPT, LSTM, MLP, Workload, data

Tree = Any


def _dense(rng: Any, a: int, b: int, bias: bool = True) -> Tree:
    limit = 1 / math.sqrt(a)
    made = {"w": rng.uniform(-limit, limit, (a, b)).astype(np.float32)}
    return made | ({"b": np.zeros(b, np.float32)} if bias else {})


def _conv(rng: Any, a: int, b: int, k: int) -> Any:
    return (rng.normal(size=(b, a, k, k)) / math.sqrt(a * k * k)).astype(np.float32)


def _norm(n: int) -> Tree:
    return {"g": np.ones(n, np.float32), "b": np.zeros(n, np.float32)}


def _apply(p: Tree, x: Any) -> Any:
    return x @ p["w"] + p["b"] if "b" in p else x @ p["w"]


def _convolve(x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
    pads = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=("NCHW", "OIHW", "NCHW"))


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _batch_norm(p: Tree, s: Tree, x: Any, train: bool) -> tuple[Any, Tree]:
    if train:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        s = {"m": 0.9 * s["m"] + 0.1 * mean, "v": 0.9 * s["v"] + 0.1 * var}
    else:
        mean, var = s["m"], s["v"]
    scale = p["g"] * lax.rsqrt(var + 1e-5)
    return x * scale[:, None, None] + (p["b"] - mean * scale)[:, None, None], s


def _layer_norm(p: Tree, x: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5) * p["g"] + p["b"]


_BLOCKS = ((16, 16, 1), (16, 32, 2), (32, 64, 2))


def network(model: str) -> tuple[Tree, Tree, Callable[..., Any]]:
    """Parameters, running statistics, and ``(parameters, statistics, x, train) -> (y, statistics)``."""
    rng = np.random.default_rng(1)
    if model in MLP:
        widths = MLP[model]
        layers = [_dense(rng, a, b) for a, b in itertools.pairwise(widths)]
        act = jnp.tanh if model == "tiny" else jax.nn.relu

        def mlp(p: Tree, s: Tree, x: Any, train: bool) -> Any:
            for layer in p[:-1]:
                x = act(_apply(layer, x))
            return _apply(p[-1], x), s

        return layers, (), mlp
    if model == "lenet":
        p: Tree = {
            "c1": _conv(rng, 1, 6, 5), "b1": np.zeros((6, 1, 1), np.float32), "c2": _conv(rng, 6, 16, 5),
            "b2": np.zeros((16, 1, 1), np.float32), "d": [_dense(rng, 400, 120), _dense(rng, 120, 84), _dense(rng, 84, 10)],
        }  # fmt: skip

        def lenet(p: Tree, s: Tree, x: Any, train: bool) -> Any:
            x = _pool(jax.nn.relu(_convolve(x, p["c1"], padding=2) + p["b1"]))
            x = _pool(jax.nn.relu(_convolve(x, p["c2"]) + p["b2"]))
            x = x.reshape(x.shape[0], -1)
            for layer in p["d"][:-1]:
                x = jax.nn.relu(_apply(layer, x))
            return _apply(p["d"][-1], x), s

        return p, (), lenet
    if model == "resnet":
        stat = lambda n: {"m": np.zeros(n, np.float32), "v": np.ones(n, np.float32)}  # noqa: E731
        p = {"c": _conv(rng, 3, 16, 3), "n": _norm(16), "blocks": [], "d": _dense(rng, 64, 10)}
        s: Tree = {"n": stat(16), "blocks": []}
        for a, b, stride in _BLOCKS:
            block = {"c1": _conv(rng, a, b, 3), "n1": _norm(b), "c2": _conv(rng, b, b, 3), "n2": _norm(b)}
            stats = {"n1": stat(b), "n2": stat(b)}
            if stride != 1:
                block |= {"c3": _conv(rng, a, b, 1), "n3": _norm(b)}
                stats["n3"] = stat(b)
            p["blocks"].append(block)
            s["blocks"].append(stats)

        def resnet(p: Tree, s: Tree, x: Any, train: bool) -> Any:
            new: Tree = {"blocks": []}
            x, new["n"] = _batch_norm(p["n"], s["n"], _convolve(x, p["c"], padding=1), train)
            x = jax.nn.relu(x)
            for (_, _, stride), q, t in zip(_BLOCKS, p["blocks"], s["blocks"], strict=True):
                u: Tree = {}
                y, u["n1"] = _batch_norm(q["n1"], t["n1"], _convolve(x, q["c1"], stride, 1), train)
                y, u["n2"] = _batch_norm(q["n2"], t["n2"], _convolve(jax.nn.relu(y), q["c2"], 1, 1), train)
                if "c3" in q:
                    x, u["n3"] = _batch_norm(q["n3"], t["n3"], _convolve(x, q["c3"], stride), train)
                x = jax.nn.relu(x + y)
                new["blocks"].append(u)
            return _apply(p["d"], x.mean((2, 3))), new

        return p, s, resnet
    if model == "lstm":
        h = LSTM["hidden"]
        p = {
            "i": _dense(rng, LSTM["inputs"], 4 * h),
            "h": _dense(rng, h, 4 * h),
            "d": _dense(rng, h, LSTM["classes"]),
        }

        def lstm(p: Tree, s: Tree, x: Any, train: bool) -> Any:
            gates = _apply(p["i"], x)

            def cell(state: Any, z: Any) -> Any:
                hidden, c = state
                i, f, g, o = jnp.split(z + _apply(p["h"], hidden), 4, -1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                hidden = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (hidden, c), None

            zero = jnp.zeros((x.shape[1], h), x.dtype)
            (hidden, _), _ = lax.scan(cell, (zero, zero), gates)
            return _apply(p["d"], hidden), s

        return p, (), lstm
    w, heads = GPT["width"], GPT["heads"]
    p = {
        "tokens": rng.normal(size=(GPT["vocabulary"], w)).astype(np.float32),
        "places": rng.normal(size=(GPT["context"], w)).astype(np.float32),
        "layers": [
            {"n1": _norm(w), "n2": _norm(w), "qkv": _dense(rng, w, 3 * w), "proj": _dense(rng, w, w),
             "up": _dense(rng, w, 4 * w), "down": _dense(rng, 4 * w, w)} for _ in range(GPT["layers"])
        ],
        "n": _norm(w), "head": _dense(rng, w, GPT["vocabulary"], bias=False),
    }  # fmt: skip

    def gpt(p: Tree, s: Tree, x: Any, train: bool) -> Any:
        x = p["tokens"][x] + p["places"]
        n, t, _ = x.shape
        for q in p["layers"]:
            qkv = _apply(q["qkv"], _layer_norm(q["n1"], x)).reshape(n, t, 3, heads, w // heads)
            y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], is_causal=True)
            x = x + _apply(q["proj"], y.reshape(n, t, w))
            x = x + _apply(
                q["down"], jax.nn.gelu(_apply(q["up"], _layer_norm(q["n2"], x)), approximate=False)
            )
        return _apply(p["head"], _layer_norm(p["n"], x)), s

    return p, (), gpt


def _loss(model: str, y: Any, target: Any) -> Any:
    if model == "tiny":
        return ((y - target) ** 2).mean()
    chosen = jnp.take_along_axis(jax.nn.log_softmax(y), target[..., None], -1)
    return -chosen.mean()


def training(workload: Workload, compiled: bool = True) -> Callable[[], Any]:
    """A function that makes one step and returns the loss."""
    p, s, apply = network(workload.model)
    p, s, x, target = jax.device_put((p, s, *data(workload.model, workload.batch)))
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = [p, s, zeros, jax.tree.map(jnp.zeros_like, p), jnp.zeros((), jnp.float32)]

    def objective(p: Tree, s: Tree, x: Any, target: Any) -> Any:
        y, s = apply(p, s, x, True)
        return _loss(workload.model, y, target), s

    @partial(jax.jit, donate_argnums=(0, 1, 2, 3, 4))
    def step(p: Tree, s: Tree, m: Tree, v: Tree, t: Any, x: Any, target: Any) -> Any:
        (loss, s), g = jax.value_and_grad(objective, has_aux=True)(p, s, x, target)
        if workload.optimizer == "sgd":
            return loss, jax.tree.map(lambda p, g: p - 1e-2 * g, p, g), s, m, v, t
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, b = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v)
        return loss, p, s, m, v, t

    def run() -> Any:
        loss, *state[:] = step(*state, x, target)
        return jax.block_until_ready(loss)

    return run


def inference(workload: Workload, compiled: bool = True) -> Callable[[], Any]:
    """A function that computes the output for one example."""
    p, s, apply = network(workload.model)
    p, s, x = jax.device_put((p, s, data(workload.model, 1)[0]))
    forward = jax.jit(lambda p, s, x: apply(p, s, x, False)[0])
    return lambda: jax.block_until_ready(forward(p, s, x))
