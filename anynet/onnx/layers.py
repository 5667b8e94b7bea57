"""Layers of anynet for nodes of ONNX whose weights are in the file: `LAYERS`, a row for each operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import anynet as an
from anynet import nn
from anynet.onnx.operators.calling import room
from anynet.onnx.operators.sequences import ACTIVATIONS
from anynet.onnx.operators.windows import Windows

__all__ = ["LAYERS", "Layer"]

Made = tuple[nn.Module, dict[str, Any]]
"""A layer, and its parameters and buffers by name."""


class Layer(NamedTuple):
    """How a node becomes a layer: `make(node, rank, *weights)` gives it, or None where the node has no counterpart; weights are the inputs
    that are in the file, None for others, and `rank` the number of axes of the first one. The inputs at `data` go to `apply`."""

    make: Callable[..., Made | None]
    data: tuple[int, ...] = (0,)
    apply: Callable[..., Any] = lambda layer, x: layer(x)


def _new(cls: Any, *args: Any, given: dict[str, Any], **options: Any) -> Made:
    given = {k: v for k, v in given.items() if v is not None}
    return nn.utils.skip_init(cls, *args, dtype=next(iter(given.values())).dtype, **options), given


def _fits(w: Any, b: Any, n: int) -> bool:
    return w.size > 0 and (b is None or b.shape == (n,))


def _windows(node: Any, w: Any) -> Windows | None:
    """Kernel, strides and padding, where this is the same on both sides and of every size."""
    a = {k: v for k, v in node.attributes.items() if k not in ("group", "output_padding", "output_shape")}
    of = Windows(w.shape[2:], w.shape[2:], **a)
    return of if of.before == of.after and not a["auto_pad"].startswith("SAME") else None


def _conv(node: Any, rank: Any, x: Any, w: Any, b: Any = None) -> Made | None:
    of, group = _windows(node, w), node.attributes["group"]
    if of is None or not _fits(w, b, w.shape[0]):
        return None
    sizes = (
        w.shape[1] * group,
        w.shape[0],
        of.kernel,
        of.stride,
        tuple(of.before),
        of.dilation,
        group,
        b is not None,
    )
    return _new(of.pick(nn.Conv1d, nn.Conv2d, nn.Conv3d), *sizes, given={"weight": w, "bias": b})


def _conv_transpose(node: Any, rank: Any, x: Any, w: Any, b: Any = None) -> Made | None:
    of, group = _windows(node, w), node.attributes["group"]
    if of is None or node.attributes.get("output_shape") or not _fits(w, b, w.shape[1] * group):
        return None
    more = tuple(node.attributes.get("output_padding") or [0] * of.n)
    if any(m >= max(s, d) for m, s, d in zip(more, of.stride, of.dilation, strict=True)):
        return None
    sizes = (
        w.shape[0],
        w.shape[1] * group,
        of.kernel,
        of.stride,
        tuple(of.before),
        more,
        group,
        b is not None,
        of.dilation,
    )
    return _new(
        of.pick(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *sizes,
        given={"weight": w, "bias": b},
    )


def _over_places(layer: Any, x: Any) -> Any:
    n, wide = layer.axes, [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    if hasattr(layer, "output_padding"):
        sizes = [(t - 1) * s + k + s for t, s, k in zip(x.shape[-n:], layer.stride, wide, strict=True)]
    else:
        sizes = [t + 2 * p for t, p in zip(x.shape[-n:], layer.padding, strict=True)]
    room([*x.shape[: -n - 1], max(layer.in_channels, layer.out_channels), *sizes])
    return layer(x)


def _product(layer: Any, x: Any) -> Any:
    room([*x.shape[:-1], layer.out_features])
    return layer(x)


def _looked_up(layer: Any, index: Any) -> Any:
    room([*index.shape, layer.embedding_dim])
    return layer(an.where(index < 0, index + layer.num_embeddings, index))


def _linear(node: Any, rank: Any, x: Any, w: Any, b: Any = None) -> Made | None:
    a = {"alpha": 1, "beta": 1, "transA": 0, "transB": 0} | node.attributes
    w = w if len(w.shape) != 2 or a["transB"] else w.mT
    if len(w.shape) != 2 or (a["alpha"], a["beta"], a["transA"]) != (1, 1, 0) or not _fits(w, b, w.shape[0]):
        return None
    return _new(nn.Linear, w.shape[1], w.shape[0], b is not None, given={"weight": w, "bias": b})


def _channels(name: str) -> Callable[..., Made | None]:
    """BatchNorm and InstanceNorm for the number of axes."""

    def make(node: Any, rank: int | None, x: Any, *given: Any) -> Made | None:
        if rank is None or not 4 - len(given) // 2 <= rank <= 5 or len(node.outputs) > 1:
            return None
        options = (
            {"momentum": round(1 - node.attributes["momentum"], 9)} if len(given) == 4 else {"affine": True}
        )
        values = dict(zip(("weight", "bias", "running_mean", "running_var"), given, strict=False))
        cls = getattr(nn, f"{name}{max(rank - 2, 1)}d")
        layer, values = _new(cls, given[0].shape[0], node.attributes["epsilon"], given=values, **options)
        return layer.train(bool(node.attributes.get("training_mode"))), values

    return make


def _layer_norm(node: Any, rank: int | None, x: Any, w: Any, b: Any = None) -> Made | None:
    attributes = {a.name: a for a in node.body.proto.attribute}
    axis = attributes["axis"].i if "axis" in attributes else -1
    if (
        (axis if axis < 0 else axis - (rank or 0)) != -len(w.shape)
        or (axis >= 0 and rank is None)
        or len(node.outputs) > 1
    ):
        return None
    eps = float(f"{attributes['epsilon'].f:.7g}") if "epsilon" in attributes else 1e-5
    options = {} if node.op == "RMSNormalization" else {"bias": b is not None}
    return _new(
        nn.LayerNorm if options else nn.RMSNorm, w.shape, eps, given={"weight": w, "bias": b}, **options
    )


def _embedding(node: Any, rank: Any, w: Any, x: Any) -> Made | None:
    return (
        _new(nn.Embedding, *w.shape, given={"weight": w})
        if len(w.shape) == 2 and not node.attributes["axis"]
        else None
    )


def _prelu(node: Any, rank: int | None, x: Any, w: Any) -> Made | None:
    if w.size != 1 and (rank is None or rank < 2 or w.shape != (w.size, *[1] * (rank - 2))):
        return None
    return _new(nn.PReLU, w.size, given={"weight": an.reshape(w, (w.size,))})


def _dropout(node: Any, rank: Any, x: Any, ratio: Any = None, training: Any = None) -> Made | None:
    share = node.attributes.get("ratio", 0.5) if ratio is None else float(f"{float(ratio):.7g}")
    return (
        (nn.Dropout(share).train(training is not None and bool(training)), {})
        if len(node.outputs) == 1
        else None
    )


_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where anynet's gates are among ONNX's."""


def _recurrent(node: Any, rank: Any, x: Any, w: Any, r: Any, b: Any = None, *others: Any) -> Made | None:
    a, order, (directions, _, n) = node.attributes, _ORDER[node.op], r.shape
    other = (
        a.get("clip"),
        a.get("layout"),
        a.get("input_forget"),
        a["direction"] == "reverse",
        node.inputs[4:5] > [""],
        node.inputs[7:],
    )
    own = ACTIVATIONS[node.op] * directions
    if (
        any(other)
        or (a.get("activations") or own)[: len(own)] != own
        or (node.op == "GRU" and not a["linear_before_reset"])
    ):
        return None
    halves = (
        {"bias_ih": None, "bias_hh": None}
        if b is None
        else {"bias_ih": b[:, : b.shape[1] // 2], "bias_hh": b[:, b.shape[1] // 2 :]}
    )
    values = {
        f"{name}_l0{suffix}": an.concat([part[d, i * n : (i + 1) * n, ...] for i in order])
        for d, suffix in enumerate(["", "_reverse"][:directions])
        for name, part in {"weight_ih": w, "weight_hh": r, **halves}.items() if part is not None
    }  # fmt: skip
    return _new(
        getattr(nn, node.op), w.shape[2], n, bias=b is not None, bidirectional=directions == 2, given=values
    )


def _run(layer: Any, x: Any, h: Any = None, c: Any = None) -> Any:
    states: Any = h
    if layer.mode == "LSTM" and (h is not None or c is not None):
        states = tuple(an.zeros_like(c if s is None else s) if t is None else t for s, t in ((h, h), (h, c)))
    room([*x.shape[:2], layer.hidden_size, 8])
    y, last = layer(x, states)
    y = an.reshape(y, (*y.shape[:2], 1 + layer.bidirectional, layer.hidden_size))
    return [an.moveaxis(y, 2, 1), *(last if isinstance(last, tuple) else (last,))]


LAYERS: dict[str, Layer] = {
    "BatchNormalization": Layer(_channels("BatchNorm")), "Conv": Layer(_conv, apply=_over_places),
    "ConvTranspose": Layer(_conv_transpose, apply=_over_places),
    "Dropout": Layer(_dropout), "Gather": Layer(_embedding, (1,), _looked_up),
    "Gemm": Layer(_linear, apply=_product), "InstanceNormalization": Layer(_channels("InstanceNorm")),
    "LayerNormalization": Layer(_layer_norm),
    "MatMul": Layer(_linear, apply=_product), "PRelu": Layer(_prelu), "RMSNormalization": Layer(_layer_norm),
    **{name: Layer(_recurrent, (0, 5, 6)[: 3 if name == "LSTM" else 2], _run) for name in _ORDER},
}  # fmt: skip
