"""What JAX runs: a step as one jitted function, from the weights and the batch that a file keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ci.bench.jax_forms import FORMS

__all__ = ["FORMS", "first_loss_in_double", "inference", "training"]

Tree = dict[str, Any]


def _read(path: str) -> tuple[Tree, Tree, list[Any], dict[str, Any]]:
    """Trained weights, other state, the batch, and the optimizer."""
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    several = any(name.startswith("1:") for name in kept)
    names = {k: (k if several else k[2:]) for k in kept if k.partition(":")[0].isdigit()}
    trained = set(kept["trained"].tolist())
    p = {n: kept[k] for k, n in names.items() if k in trained}
    s = {n: kept[k] for k, n in names.items() if k not in trained}
    batch = [kept[f"batch:{i}"] for i in range(sum(k.startswith("batch:") for k in kept))]
    return (
        p,
        s,
        batch,
        {"name": str(kept["optimizer"]), "lr": float(kept["lr"]), "inputs": int(kept["inputs"])},
    )


def _update(name: str, lr: float, p: Tree, g: Tree, m: Tree, v: Tree, t: Any) -> tuple[Tree, Tree, Tree]:
    """One step of the optimizer."""
    if name == "sgd":
        return jax.tree.map(lambda p, g: p - lr * g, p, g), m, v
    if name == "momentum":
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
        return jax.tree.map(lambda p, m: p - lr * m, p, m), m, v
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    a, b = 1 - 0.9**t, 1 - 0.999**t
    decay = 0.01 if name == "adamw" else 0.0
    return (
        jax.tree.map(lambda p, m, v: p * (1 - lr * decay) - lr * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v),
        m,
        v,
    )


def training(name: str, path: str) -> Callable[[], Any]:
    """A function that makes one step and returns the loss."""
    loss_of = FORMS[name][1]
    p, s, batch, optimizer = _read(path)
    p, s, batch = jax.device_put((p, s, batch))
    state: list[Any] = [
        p,
        jax.tree.map(jnp.zeros_like, p),
        jax.tree.map(jnp.zeros_like, p),
        jnp.zeros((), jnp.float32),
    ]

    @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
    def step(p: Tree, m: Tree, v: Tree, t: Any, *batch: Any) -> Any:
        loss, g = jax.value_and_grad(lambda p: loss_of({**p, **s}, *batch))(p)
        t = t + 1
        return loss, *_update(optimizer["name"], optimizer["lr"], p, g, m, v, t), t

    def run() -> Any:
        loss, *state[:] = step(*state, *batch)
        return jax.block_until_ready(loss)

    return run


def inference(name: str, path: str) -> Callable[[], Any]:
    """A function that computes the output."""
    forward = FORMS[name][0]
    if forward is None:
        raise NotImplementedError("the form in JAX has a loss only")
    p, s, batch, about = _read(path)
    p, batch = jax.device_put(({**p, **s}, batch[: about["inputs"]]))
    run = jax.jit(lambda p, *inputs: forward(p, *inputs, train=False))
    return lambda: jax.block_until_ready(run(p, *batch))


def first_loss_in_double(name: str, path: str) -> float:
    """The loss of the first step in double precision."""
    p, s, batch, _ = _read(path)
    wide = [np.asarray(a, np.float64) if a.dtype == np.float32 else a for a in batch]
    tree = {k: np.asarray(a, np.float64) if a.dtype == np.float32 else a for k, a in {**p, **s}.items()}
    return float(FORMS[name][1](tree, *wide))
