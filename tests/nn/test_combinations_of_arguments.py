"""Every layer and loss that PyTorch has too, with many combinations of arguments, each on ordinary and on awkward input.

A combination stands once in `TABLE`; it is run on ordinary numbers, on an empty batch, a batch of one, numbers up to ±1e4,
on views that are neither contiguous nor writeable, in float32, and (ordinary and empty) on array-api-strict. Outputs,
buffers, and the gradients of inputs and parameters are compared in value, shape and dtype.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import torch

CORNERS = ("plain", "empty", "one", "extreme", "strided", "single", "strict", "strict empty")
EXTREMES = np.asarray([-1e4, 1e4, 0.0, -1.0, 1.0, 1e-4, -1e-4, 30.0, -30.0, 1e4, -1e4])


@dataclass(frozen=True)
class Input:
    """An argument of a call: its shape, what is drawn, and which axis the batch is (None: it has none)."""

    shape: tuple[int, ...]
    kind: str = "normal"
    batch: int | None = 0
    high: int = 0
    values: Any = None

    def draw(self, corner: str, rng: np.random.Generator) -> np.ndarray:
        shape = list(self.shape)
        if corner in ("empty", "one") and self.batch is not None:
            shape[self.batch] = 0 if corner == "empty" else 1
        if self.values is not None:
            return np.asarray(self.values)[tuple(slice(n) for n in shape)]
        if self.kind == "class":
            return rng.integers(0, self.high, shape)
        if self.kind == "sign":
            return rng.choice([-1.0, 1.0], shape)
        if self.kind == "unit":
            return (
                rng.choice([0.0, 1.0, 0.5, 1e-9], shape)
                if corner == "extreme"
                else rng.uniform(0.02, 0.98, shape)
            )
        if self.kind == "positive":
            return (
                rng.choice([1e-4, 1e4, 1.0, 3.0], shape)
                if corner == "extreme"
                else rng.uniform(0.1, 3.0, shape)
            )
        return rng.choice(EXTREMES, shape) if corner == "extreme" else rng.normal(size=shape) * 1.5

    @property
    def differentiable(self) -> bool:
        return self.values is None and self.kind not in ("class", "sign")


def x(*shape: int, batch: int | None = 0) -> Input:
    return Input(shape, batch=batch)


def unit(*shape: int, batch: int | None = 0) -> Input:
    return Input(shape, "unit", batch)


def positive(*shape: int, batch: int | None = 0) -> Input:
    return Input(shape, "positive", batch)


def signs(*shape: int) -> Input:
    return Input(shape, "sign")


def classes(high: int, *shape: int, batch: int | None = 0) -> Input:
    return Input(shape, "class", batch, high)


def given(values: Any, batch: int | None = 0) -> Input:
    return Input(np.asarray(values).shape, "given", batch, values=values)


@dataclass(frozen=True)
class Try:
    """One combination: the constructor's arguments and the inputs of the call."""

    inputs: tuple[Input, ...]
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    run: Any = None
    weights: dict[str, Any] = field(default_factory=dict)  # constructor arguments that are arrays
    evaluate: bool = False


def t(
    *inputs: Input,
    a: tuple[Any, ...] = (),
    run: Any = None,
    w: Any = None,
    evaluate: bool = False,
    **options: Any,
) -> Try:
    return Try(inputs, a, options, run, w or {}, evaluate)


def _act(*configs: Try) -> list[Try]:
    return [*(configs or (t(x(4, 5)),)), *(Try((x(3, 2, 4),), c.args, c.options) for c in configs or (t(),))]


def _conv(n: int, transposed: bool = False) -> list[Try]:
    s = (7, 6, 5)[:n]
    many = (2, 1, 2)[:n]
    rows = [
        t(x(2, 4, *s), a=(4, 6, 3)),
        t(x(2, 4, *s), a=(4, 6, 2), stride=2, bias=False),
        t(x(2, 4, *s), a=(4, 6, 3), padding=1, groups=2),
        t(
            x(2, 4, *s),
            a=(4, 4, (3, 2, 1)[:n] if n > 1 else 3),
            stride=many if n > 1 else 2,
            padding=1,
            dilation=1,
            groups=4,
        ),
        t(x(2, 4, *s), a=(4, 3, 2), dilation=2, stride=3, padding=2),
        t(x(4, *s, batch=None), a=(4, 2, 1)),
        t(x(2, 4, *s), a=(4, 5, 1), stride=2),
    ]
    if transposed:
        return [
            *rows,
            t(x(2, 4, *s), a=(4, 6, 3), stride=2, padding=1, output_padding=1),
            t(x(2, 4, *s), a=(4, 6, 2), stride=3, output_padding=2, groups=2, dilation=2),
            t(
                x(2, 4, *s),
                a=(4, 6, 3),
                stride=2,
                run=lambda net, v: net(v, output_size=[2 * k + 2 for k in s]),
            ),
        ]
    return [
        *rows,
        t(x(2, 4, *s), a=(4, 3, 3), padding="same"),
        t(x(2, 4, *s), a=(4, 3, 3), padding="valid", dilation=2),
        *(
            t(x(2, 4, *s), a=(4, 3, 3), padding=1, padding_mode=mode)
            for mode in ("reflect", "replicate", "circular")
        ),
        t(x(2, 4, *s), a=(4, 3, 3), padding="same", padding_mode="circular"),
    ]


def _pool(n: int, average: bool) -> list[Try]:
    s = (9, 8, 7)[:n]
    rows = [
        t(x(2, 3, *s), a=(2,)),
        t(x(2, 3, *s), a=(3, 2, 1)),
        t(x(2, 3, *s), a=(3,), stride=2, ceil_mode=True),
        t(x(2, 3, *s), a=(3,), stride=1, padding=1),
        t(x(3, *s, batch=None), a=(2,), ceil_mode=True),
        t(x(2, 3, *s), a=((3, 2, 2)[:n] if n > 1 else 3,), stride=(1, 2, 3)[:n] if n > 1 else 1),
    ]
    if average:
        rows += [
            t(x(2, 3, *s), a=(3, 2, 1), count_include_pad=False),
            t(x(2, 3, *s), a=(3, 2, 1), ceil_mode=True, count_include_pad=False),
        ]
        if n > 1:
            rows.append(t(x(2, 3, *s), a=(2,), divisor_override=3))
    else:
        rows += [
            t(x(2, 3, *s), a=(2,), dilation=3, stride=1),
            t(x(2, 3, *s), a=(3,), padding=1, dilation=2, ceil_mode=True),
            t(x(2, 3, *s), a=(2,), return_indices=True),
        ]
    return rows


def _adaptive(n: int, most: bool) -> list[Try]:
    s = (9, 8, 7)[:n]
    rows = [t(x(2, 3, *s), a=(k,)) for k in (1, 2, 4, 9)]
    if n > 1:
        rows += [t(x(2, 3, *s), a=((None, 3, 2)[:n],)), t(x(2, 3, *s), a=((11, 2, None)[:n],))]
    rows.append(t(x(3, *s, batch=None), a=(3,)))
    if most:
        rows.append(t(x(2, 3, *s), a=(3,), return_indices=True))
    return rows


def _norm(n: int, instance: bool) -> list[Try]:
    s = (4, 3, 2)[:n]
    rows = [
        t(x(5, 3, *s), a=(3,)),
        t(x(5, 3, *s), a=(3,), eps=0.1, momentum=0.3),
        t(x(5, 3, *s), a=(3,), affine=False),
        t(x(5, 3, *s), a=(3,), affine=True, track_running_stats=True),
        t(x(5, 3, *s), a=(3,), affine=True, track_running_stats=True, evaluate=True),
        t(x(5, 3, *s), a=(3,), track_running_stats=False),
    ]
    if instance:
        return [*rows, t(x(3, *s, batch=None), a=(3,), affine=True)]
    rows.append(t(x(5, 3, *s), a=(3,), momentum=None))
    return [*rows, t(x(6, 3), a=(3,))] if n == 1 else rows


def _pad(n: int, *more: Any) -> list[Try]:
    s = (5, 4, 6)[:n]
    wide = (1, 2, 0, 3, 2, 1)[: 2 * n]
    return [
        t(x(2, 3, *s), a=(1, *more)),
        t(x(2, 3, *s), a=(wide, *more)),
        t(x(3, *s, batch=None), a=(2, *more)),
    ]


def _loss(*configs: tuple[tuple[Input, ...], dict[str, Any]]) -> list[Try]:
    return [
        t(*inputs, **options, reduction=r) for inputs, options in configs for r in ("none", "mean", "sum")
    ]


def _recurrent(**extra: Any) -> list[Try]:
    rows = [
        t(x(5, 3, 4, batch=1), a=(4, 6)),
        t(x(5, 3, 4, batch=1), a=(4, 6), num_layers=2, bidirectional=True),
        t(x(3, 5, 4), a=(4, 6), batch_first=True, bias=False),
        t(x(5, 4, batch=None), a=(4, 3), num_layers=2),
        t(x(1, 3, 4, batch=1), a=(4, 6), bidirectional=True),
        t(x(5, 3, 4, batch=1), a=(4, 6), dropout=0.5, num_layers=2, evaluate=True),
    ]
    return [Try(r.inputs, r.args, r.options | extra, r.run, r.weights, r.evaluate) for r in rows]


_h = t(x(5, 3, 4, batch=1), x(2, 3, 6, batch=1), a=(4, 6), num_layers=2)
_hc = t(
    x(5, 3, 4, batch=1),
    x(2, 3, 6, batch=1),
    x(2, 3, 6, batch=1),
    a=(4, 6),
    num_layers=2,
    run=lambda net, v, h, c: net(v, (h, c)),
)
_CAUSAL = np.triu(np.ones((4, 4), bool), 1)
_HIDE = np.asarray([[False, False, True, False], [False, True, True, False], [False, False, False, False]])


def _mask(values: np.ndarray, like: Any, n: int | None = None) -> Any:
    values = values if n is None else values[:n]
    return torch.tensor(values) if isinstance(like, torch.Tensor) else an.asarray(values, device=like.device)


def _attention() -> list[Try]:
    q, first = x(4, 3, 8, batch=1), x(3, 4, 8)
    return [
        t(q, a=(8, 2), run=lambda net, v: net(v, v, v)),
        t(q, x(5, 3, 8, batch=1), a=(8, 4), bias=False, run=lambda net, v, m: net(v, m, m)),
        t(first, a=(8, 2), batch_first=True, run=lambda net, v: net(v, v, v, average_attn_weights=False)),
        t(q, a=(8, 2), run=lambda net, v: net(v, v, v, need_weights=False)[0]),
        t(q, a=(8, 2), run=lambda net, v: net(v, v, v, attn_mask=_mask(_CAUSAL, v))),
        t(
            q,
            a=(8, 2),
            run=lambda net, v: net(v, v, v, attn_mask=_mask(_CAUSAL, v), is_causal=True, need_weights=False)[
                0
            ],
        ),
        t(q, a=(8, 2), run=lambda net, v: net(v, v, v, key_padding_mask=_mask(_HIDE, v, v.shape[1]))),
        t(q, a=(8, 2), add_bias_kv=True, run=lambda net, v: net(v, v, v)),
        t(q, a=(8, 2), add_zero_attn=True, run=lambda net, v: net(v, v, v)),
        t(q, x(5, 3, 6, batch=1), x(5, 3, 7, batch=1), a=(8, 2), kdim=6, vdim=7),
        t(x(4, 8, batch=None), a=(8, 2), run=lambda net, v: net(v, v, v)),
    ]


def _encoder() -> list[Try]:
    return [
        t(x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0),
        t(x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0, norm_first=True),
        t(x(3, 4, 8), a=(8, 4, 16), dropout=0.0, batch_first=True, activation="gelu"),
        t(x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0, bias=False, layer_norm_eps=0.1),
        t(x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0, run=lambda net, v: net(v, _mask(_CAUSAL, v))),
        t(x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0,
          run=lambda net, v: net(v, src_key_padding_mask=_mask(_HIDE, v, v.shape[1]))),
        t(x(4, 8, batch=None), a=(8, 2, 16), dropout=0.0),
        t(x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0, run=lambda net, v: net(v, _mask(_CAUSAL, v), is_causal=True)),
    ]  # fmt: skip


def _decoder() -> list[Try]:
    m = x(5, 3, 8, batch=1)
    return [
        t(x(4, 3, 8, batch=1), m, a=(8, 2, 16), dropout=0.0),
        t(x(4, 3, 8, batch=1), m, a=(8, 2, 16), dropout=0.0, norm_first=True),
        t(x(3, 4, 8), x(3, 5, 8), a=(8, 4, 16), dropout=0.0, batch_first=True, activation="gelu"),
        t(x(4, 3, 8, batch=1), m, a=(8, 2, 16), dropout=0.0, bias=False, layer_norm_eps=0.1),
        t(x(4, 3, 8, batch=1), m, a=(8, 2, 16), dropout=0.0, run=lambda net, v, u: net(v, u, _mask(_CAUSAL, v))),
        t(x(4, 3, 8, batch=1), x(4, 3, 8, batch=1), a=(8, 2, 16), dropout=0.0,
          run=lambda net, v, u: net(v, u, memory_key_padding_mask=_mask(_HIDE, v, v.shape[1]))),
        t(x(4, 8, batch=None), x(5, 8, batch=None), a=(8, 2, 16), dropout=0.0),
    ]  # fmt: skip


def _layers(kind: str, rows: list[Try], n: int) -> list[Try]:
    """A stack of such layers: the first arguments are made by `_build`."""
    return [Try(r.inputs, ((kind, r.args, r.options), n), {"enable_nested_tensor": False} if kind.endswith("EncoderLayer") else {}, r.run)
            for r in rows]  # fmt: skip


_BAGS = given([[0, 2, 5], [1, 1, 6], [4, 0, 3]])
_FLAT = given([0, 2, 5, 1, 1, 6, 3], batch=None)


def _bag(offsets: list[int]) -> Any:
    return lambda net, v: net(
        v, torch.tensor(offsets) if isinstance(v, torch.Tensor) else an.asarray(offsets, device=v.device)
    )


def _unpool(n: int) -> list[Try]:
    """Places in a plane of 4 a side, one in each window of 2."""
    rng = np.random.default_rng(3)
    windows = np.indices((2,) * n).reshape(n, -1) * 2
    places = windows[:, None, None] + rng.integers(0, 2, (n, 2, 3, 2**n))
    flat = np.zeros((2, 3, 2**n), np.int64)
    for axis in range(n):
        flat = flat * 4 + places[axis]
    at = given(flat.reshape(2, 3, *(2,) * n))
    v = x(2, 3, *(2,) * n)
    return [
        t(v, at, a=(2,)),
        t(v, at, a=(2, 2)),
        t(v, at, a=(2,), run=lambda net, a, i: net(a, i, output_size=[*a.shape[:2], *(5,) * n])),
        t(v, at, a=(3, 2, 1), run=lambda net, a, i: net(a, i, output_size=[4] * n)),
    ]


W3 = {"weight": np.asarray([0.5, 2.0, 1.0])}
TABLE: dict[str, list[Try]] = {
    "Linear": [t(x(4, 5), a=(5, 3)), t(x(2, 4, 5), a=(5, 3), bias=False), t(x(5, batch=None), a=(5, 1)), t(x(2, 3, 2, 4), a=(4, 6))],
    "Bilinear": [t(x(4, 5), x(4, 3), a=(5, 3, 2)), t(x(2, 4, 5), x(2, 4, 3), a=(5, 3, 2), bias=False), t(x(4, 1), x(4, 1), a=(1, 1, 1))],
    "Identity": [t(x(4, 5)), t(x(2, 3, 4)), t(x(2, 3), a=(7,), some=3)],
    "Flatten": [t(x(2, 3, 4)), t(x(2, 3, 4), a=(0,)), t(x(2, 3, 4), a=(1, 1)), t(x(2, 3, 4, 2), a=(-3, -2))],
    "Unflatten": [t(x(4, 6), a=(1, (2, 3))), t(x(4, 6), a=(-1, (3, 2, 1))), t(x(2, 6, 3), a=(1, (-1, 3)))],
    "Embedding": [
        t(classes(7, 3, 2), a=(7, 4)), t(classes(7, 3), a=(7, 4), padding_idx=0), t(classes(7, 2, 3, 2), a=(7, 4), padding_idx=-1),
        t(classes(7, 3, 2), a=(7, 4), scale_grad_by_freq=True), t(classes(7, 3, 2), a=(7, 4), max_norm=0.5, norm_type=1.0),
    ],
    "EmbeddingBag": [
        *(t(_BAGS, a=(7, 4), mode=m) for m in ("sum", "mean", "max")), t(_FLAT, a=(7, 4), run=_bag([0, 3, 3, 5])),
        t(_BAGS, a=(7, 4), padding_idx=1), t(_FLAT, a=(7, 4), include_last_offset=True, mode="sum", run=_bag([0, 3, 7])),
        t(_BAGS, x(3, 3), a=(7, 4), mode="sum", run=lambda net, v, w: net(v, per_sample_weights=w)),
        t(_BAGS, a=(7, 4), max_norm=0.5, mode="sum"),
        t(_FLAT, a=(7, 4), mode="max", padding_idx=2, run=_bag([0, 1, 4])),
    ],
    **{name: _act() for name in (
        "GELU", "Hardsigmoid", "Hardswish", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softsign", "Tanh",
        "Tanhshrink",
    )},
    "CELU": _act(t(x(4, 5)), t(x(4, 5), alpha=0.5), t(x(4, 5), a=(2.0,))),
    "ELU": _act(t(x(4, 5)), t(x(4, 5), alpha=0.5), t(x(4, 5), a=(2.0,))),
    "GLU": [t(x(4, 6)), t(x(2, 4, 3), dim=1), t(x(2, 3, 2), a=(-1,))],
    "Hardshrink": _act(t(x(4, 5)), t(x(4, 5), a=(1.0,)), t(x(4, 5), lambd=0.0)),
    "Softshrink": _act(t(x(4, 5)), t(x(4, 5), a=(1.0,)), t(x(4, 5), lambd=0.0)),
    "Hardtanh": _act(t(x(4, 5)), t(x(4, 5), a=(-2.0, 0.5)), t(x(4, 5), max_val=3.0)),
    "LeakyReLU": _act(t(x(4, 5)), t(x(4, 5), a=(0.3,)), t(x(4, 5), negative_slope=0.0)),
    "PReLU": [t(x(4, 5)), t(x(4, 5), a=(5,)), t(x(2, 3, 4), a=(3,), init=0.5), t(x(2, 3), a=(1, 0.1))],
    "RReLU": [t(x(4, 5), evaluate=True), t(x(4, 5), a=(0.1, 0.1)), t(x(2, 3, 4), lower=0.3, upper=0.4, evaluate=True)],
    "Softmax": [t(x(4, 5)), t(x(4, 5), dim=1), t(x(4, 5, 3), dim=-2), t(x(4, 5), a=(0,)), t(x(5, batch=None))],
    "LogSoftmax": [t(x(4, 5)), t(x(4, 5), dim=1), t(x(4, 5, 3), dim=-2), t(x(4, 5), a=(0,)), t(x(5, batch=None))],
    "Softmin": [t(x(4, 5)), t(x(4, 5), dim=1), t(x(4, 5, 3), dim=-2), t(x(4, 5), a=(0,)), t(x(5, batch=None))],
    "Softmax2d": [t(x(2, 3, 4, 2)), t(x(3, 4, 2, batch=None)), t(x(2, 1, 2, 2))],
    "Softplus": _act(t(x(4, 5)), t(x(4, 5), a=(2.0, 5.0)), t(x(4, 5), beta=0.5, threshold=1.0)),
    "Threshold": _act(t(x(4, 5), a=(0.1, 20.0)), t(x(4, 5), a=(-1.0, 0.0))),
    **{f"Conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _conv(n, transposed=True) for n in (1, 2, 3)},
    **{f"MaxPool{n}d": _pool(n, average=False) for n in (1, 2, 3)},
    **{f"AvgPool{n}d": _pool(n, average=True) for n in (1, 2, 3)},
    **{f"AdaptiveAvgPool{n}d": _adaptive(n, most=False) for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": _adaptive(n, most=True) for n in (1, 2, 3)},
    **{f"LPPool{n}d": [
        t(positive(2, 3, *(6, 5, 4)[:n]), a=(p, k), **o)
        for p, k, o in ((2, 2, {}), (3.0, 3, {"stride": 1}), (1.5, 2, {"ceil_mode": True}), (1, 2, {"stride": 2}))
    ] for n in (1, 2, 3)},
    **{f"FractionalMaxPool{n}d": [
        t(x(2, 3, *s), a=(2,), output_size=(3, 4, 2)[:n], w={"_random_samples": np.full((2, 3, n), 0.3)}),
        t(x(2, 3, *s), a=(2,), output_ratio=0.5, w={"_random_samples": np.full((2, 3, n), 0.7)}),
        t(x(2, 3, *s), a=(3,), output_size=3, return_indices=True, w={"_random_samples": np.full((2, 3, n), 0.1)}),
    ] for n, s in ((2, (7, 8)), (3, (7, 8, 6)))},
    **{f"MaxUnpool{n}d": _unpool(n) for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": _norm(n, instance=False) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": _norm(n, instance=True) for n in (1, 2, 3)},
    "LayerNorm": [
        t(x(3, 4), a=(4,)), t(x(2, 3, 4), a=((3, 4),)), t(x(2, 3, 4), a=(4,), eps=0.1), t(x(3, 4), a=(4,), elementwise_affine=False),
        t(x(3, 4), a=(4,), bias=False), t(x(3, 3), a=(3,)),
    ],
    "RMSNorm": [
        t(x(3, 4), a=(4,)), t(x(2, 3, 4), a=((3, 4),)), t(x(2, 3, 4), a=(4,), eps=0.1), t(x(3, 4), a=(4,), elementwise_affine=False),
    ],
    "GroupNorm": [
        t(x(3, 6), a=(2, 6)), t(x(2, 6, 4), a=(3, 6)), t(x(2, 6, 2, 3), a=(6, 6), eps=0.1), t(x(2, 6, 4), a=(1, 6), affine=False),
    ],
    "LocalResponseNorm": [t(x(2, 5, 4), a=(2,)), t(x(2, 5, 4, 3), a=(3,), alpha=0.5, beta=0.5, k=2.0), t(x(2, 5, 4, 3, 2), a=(7,))],
    **{f"{kind}Pad{n}d": _pad(n, *more) for n in (1, 2, 3) for kind, more in (
        ("Circular", ()), ("Constant", (2.5,)), ("Reflection", ()), ("Replication", ()), ("Zero", ()))},
    "ConstantPad2d, cropping": [t(x(2, 3, 5, 4), a=((-1, 2, 1, -2), 0.5))],
    **{f"Dropout{d}": [t(x(2, 3, *(4,) * n), a=(p,), evaluate=e) for p, e in ((0.5, True), (0.0, False), (1.0, False))]
       for d, n in (("", 0), ("1d", 1), ("2d", 2), ("3d", 3))},
    "AlphaDropout": [t(x(3, 4), a=(p,), evaluate=e) for p, e in ((0.5, True), (0.0, False))],
    "FeatureAlphaDropout": [t(x(3, 4, 2), a=(p,), evaluate=e) for p, e in ((0.5, True), (0.0, False))],
    "PixelShuffle": [t(x(2, 4, 2, 3), a=(2,)), t(x(9, 2, 3, batch=None), a=(3,)), t(x(2, 3, 2, 2), a=(1,))],
    "PixelUnshuffle": [t(x(2, 1, 4, 6), a=(2,)), t(x(2, 6, 3, batch=None), a=(3,)), t(x(2, 3, 2, 2), a=(1,))],
    "ChannelShuffle": [t(x(2, 4, 3), a=(2,)), t(x(2, 6, 2, 2), a=(3,)), t(x(2, 4, 2, 1, 2), a=(1,))],
    "Upsample": [
        t(x(2, 3, 5), scale_factor=2), t(x(2, 3, 5), size=7, mode="linear"), t(x(2, 3, 5, 4), size=(3, 7), mode="bilinear"),
        t(x(2, 3, 5, 4), scale_factor=(1.5, 0.6), mode="bicubic"), t(x(2, 3, 5, 4), size=6, mode="nearest-exact"),
        t(x(2, 3, 5, 4), size=6, mode="area"), t(x(2, 3, 4, 3, 2), scale_factor=1.5, mode="trilinear", align_corners=True),
        t(x(2, 3, 5, 4), scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        t(x(2, 3, 5, 4), size=(7, 8), mode="bicubic", align_corners=True),
    ],
    "UpsamplingNearest2d": [t(x(2, 3, 4, 5), scale_factor=2), t(x(2, 3, 4, 5), size=(3, 7)), t(x(2, 3, 4, 5), scale_factor=0.7)],
    "UpsamplingBilinear2d": [t(x(2, 3, 4, 5), scale_factor=2), t(x(2, 3, 4, 5), size=(3, 7)), t(x(2, 3, 4, 5), scale_factor=1.6)],
    "Unfold": [
        t(x(2, 3, 6, 5), a=(2,)), t(x(2, 3, 6, 5), a=((3, 2), 1, 1, 2)), t(x(2, 3, 6, 5), a=(2,), dilation=2, padding=1),
        t(x(3, 6, 5, batch=None), a=(3,)),
    ],
    "Fold": [
        t(x(2, 12, 9), a=((4, 4), 2)), t(x(2, 6, 9), a=((4, 5), (2, 3), (1, 1), 0, 1)), t(x(2, 4, 9), a=((4, 4), 2, 1, 1, 2)),
        t(x(4, 9, batch=None), a=((4, 4), 2)),
    ],
    "RNN": [*_recurrent(), *_recurrent(nonlinearity="relu"), _h],
    "GRU": [*_recurrent(), _h],
    "LSTM": [*_recurrent(), *_recurrent(proj_size=2), _hc],
    "RNNCell": [
        t(x(3, 4), a=(4, 5)), t(x(3, 4), x(3, 5), a=(4, 5), bias=False), t(x(3, 4), x(3, 5), a=(4, 5), nonlinearity="relu"),
        t(x(4, batch=None), a=(4, 5)),
    ],
    "GRUCell": [t(x(3, 4), a=(4, 5)), t(x(3, 4), x(3, 5), a=(4, 5), bias=False), t(x(4, batch=None), a=(4, 5))],
    "LSTMCell": [
        t(x(3, 4), a=(4, 5)), t(x(3, 4), x(3, 5), x(3, 5), a=(4, 5), bias=False, run=lambda net, v, h, c: net(v, (h, c))),
        t(x(4, batch=None), a=(4, 5)),
    ],
    "MultiheadAttention": _attention(),
    "TransformerEncoderLayer": _encoder(),
    "TransformerDecoderLayer": _decoder(),
    "TransformerEncoder": _layers("TransformerEncoderLayer", _encoder()[:5], 2),
    "TransformerDecoder": _layers("TransformerDecoderLayer", _decoder()[:5], 2),
    "Transformer": [
        t(x(5, 3, 8, batch=1), x(4, 3, 8, batch=1), a=(8, 2, 1, 1, 16), dropout=0.0),
        t(x(3, 5, 8), x(3, 4, 8), a=(8, 2, 1, 2, 16), dropout=0.0, batch_first=True, norm_first=True, activation="gelu"),
        t(x(5, 3, 8, batch=1), x(4, 3, 8, batch=1), a=(8, 4, 2, 1, 16), dropout=0.0, bias=False,
          run=lambda net, v, u: net(v, u, tgt_mask=_mask(_CAUSAL, v))),
    ],
    "MSELoss": _loss(((x(3, 4), x(3, 4)), {}), ((x(3), x(3)), {})),
    "L1Loss": _loss(((x(3, 4), x(3, 4)), {}), ((x(3), x(3)), {})),
    "HuberLoss": _loss(((x(3, 4), x(3, 4)), {}), ((x(3), x(3)), {"delta": 0.3})),
    "SmoothL1Loss": _loss(((x(3, 4), x(3, 4)), {}), ((x(3), x(3)), {"beta": 0.3}), ((x(3), x(3)), {"beta": 0.0})),
    "BCELoss": _loss(((unit(3, 4), unit(3, 4)), {}), ((unit(3, 3), unit(3, 3)), {"w": W3})),
    "BCEWithLogitsLoss": _loss(
        ((x(3, 4), unit(3, 4)), {}), ((x(4, 3), unit(4, 3)), {"w": {"pos_weight": W3["weight"]}}), ((x(4, 3), unit(4, 3)), {"w": W3})
    ),
    "CrossEntropyLoss": _loss(
        ((x(5, 3), classes(3, 5)), {}), ((x(5, 3), classes(3, 5)), {"w": W3, "label_smoothing": 0.2}),
        ((x(5, 3), unit(5, 3)), {"w": W3, "label_smoothing": 0.1}), ((x(2, 3, 4), classes(3, 2, 4)), {"ignore_index": 1}),
        ((x(2, 3, 2, 2), classes(3, 2, 2, 2)), {"w": W3, "ignore_index": 2}), ((x(3, batch=None), given(2, batch=None)), {}),
    ),
    "NLLLoss2d": _loss(((x(2, 3, 2, 2), classes(3, 2, 2, 2)), {"w": W3})),
    "NLLLoss": _loss(
        ((x(5, 3), classes(3, 5)), {}), ((x(5, 3), classes(3, 5)), {"w": W3}), ((x(2, 3, 4), classes(3, 2, 4)), {"ignore_index": 1}),
        ((x(2, 3, 2, 2), classes(3, 2, 2, 2)), {"w": W3}), ((x(3, batch=None), given(2, batch=None)), {}),
    ),
    "KLDivLoss": [
        *_loss(((x(3, 4), unit(3, 4)), {}), ((x(3, 4), x(3, 4)), {"log_target": True})), t(x(3, 4), unit(3, 4), reduction="batchmean"),
    ],
    "PoissonNLLLoss": _loss(
        ((x(3, 4), positive(3, 4)), {}), ((positive(3, 4), positive(3, 4)), {"log_input": False}),
        ((x(3, 4), positive(3, 4)), {"full": True}), ((positive(3, 4), positive(3, 4)), {"log_input": False, "eps": 0.1, "full": True}),
    ),
    "GaussianNLLLoss": _loss(
        ((x(3, 4), x(3, 4), positive(3, 4)), {}), ((x(3, 4), x(3, 4), positive(3, 1)), {"full": True}),
        ((x(3, 4), x(3, 4), positive(3)), {"eps": 0.5}),
    ),
    "HingeEmbeddingLoss": _loss(((x(3, 4), signs(3, 4)), {}), ((x(5), signs(5)), {"margin": 0.3})),
    "SoftMarginLoss": _loss(((x(3, 4), signs(3, 4)), {}), ((x(5), signs(5)), {})),
    "MultiLabelMarginLoss": _loss(
        ((x(2, 4), given([[3, 0, -1, 1], [1, -1, 2, 3]])), {}), ((x(4, batch=None), given([2, 1, -1, 0], batch=None)), {}),
    ),
    "MultiLabelSoftMarginLoss": _loss(((x(4, 3), unit(4, 3)), {}), ((x(4, 3), unit(4, 3)), {"w": W3})),
    "MultiMarginLoss": _loss(
        ((x(5, 3), classes(3, 5)), {}), ((x(5, 3), classes(3, 5)), {"p": 2, "margin": 0.4}), ((x(5, 3), classes(3, 5)), {"w": W3}),
    ),
    "MarginRankingLoss": _loss(((x(4), x(4), signs(4)), {}), ((x(3, 4), x(3, 4), signs(3, 4)), {"margin": 0.5})),
    "CosineEmbeddingLoss": _loss(((x(4, 3), x(4, 3), signs(4)), {}), ((x(4, 3), x(4, 3), signs(4)), {"margin": 0.4})),
    "TripletMarginLoss": _loss(
        ((x(4, 3), x(4, 3), x(4, 3)), {}), ((x(4, 3), x(4, 3), x(4, 3)), {"margin": 0.3, "p": 1.0, "swap": True}),
    ),
    "TripletMarginWithDistanceLoss": _loss(
        ((x(4, 3), x(4, 3), x(4, 3)), {}), ((x(4, 3), x(4, 3), x(4, 3)), {"margin": 0.3, "swap": True}),
    ),
    "CosineSimilarity": [t(x(4, 3), x(4, 3)), t(x(4, 3), x(4, 3), dim=0, eps=0.5), t(x(2, 3, 4), x(2, 3, 4), a=(-1,))],
    "PairwiseDistance": [
        t(x(4, 3), x(4, 3)), t(x(4, 3), x(4, 3), p=1.0), t(x(4, 3), x(4, 3), p=3.0, keepdim=True), t(x(4, 3), x(4, 3), a=(0.5, 0.1)),
    ],
    "CTCLoss": [
        t(x(7, 2, 5, batch=1), given([[1, 2, 4], [2, 2, 1]]), blank=b, reduction=r, zero_infinity=z,
          run=lambda net, v, labels: net(_log_softmax(v), labels, (7, 6)[: len(labels)], (3, 2)[: len(labels)]))
        for b, r, z in ((0, "mean", False), (0, "none", False), (0, "sum", True), (3, "mean", True))
    ],
    "AdaptiveLogSoftmaxWithLoss": [
        t(x(4, 32), given([0, 5, 3, 1]), a=(32, 6, [2, 4]), **o) for o in ({}, {"div_value": 2.0}, {"head_bias": True})
    ],
}  # fmt: skip


def _grid(*shape: int) -> Input:
    """Places in and around an image."""
    return Input(shape, "given", 0, values=np.random.default_rng(7).uniform(-1.3, 1.3, shape))


def _sdpa() -> list[Try]:
    q, k, v = x(2, 3, 4, 5), x(2, 3, 6, 5), x(2, 3, 6, 7)
    wide = np.random.default_rng(8).normal(size=(4, 6))
    rows = [
        t(q, k, v),
        t(q, k, v, scale=0.3),
        t(q, q, q, is_causal=True),
        t(x(4, 5, batch=None), x(6, 5, batch=None), x(6, 2, batch=None)),
    ]
    for mask in (
        given(wide, batch=None),
        given(wide > -0.5, batch=None),
        given(np.stack([wide > -1.0] * 2)[:, None]),
    ):
        rows.append(t(q, k, v, mask, run=lambda net, a, b, c, m: net(a, b, c, attn_mask=m)))
    rows.append(t(x(2, 4, 3, 5), x(2, 2, 6, 5), x(2, 2, 6, 5), enable_gqa=True))
    return rows


FUNCTIONS: dict[str, list[Try]] = {
    "normalize": [t(x(3, 4), **o) for o in ({}, {"p": 1.0}, {"p": 3.0, "dim": 0}, {"dim": -1, "eps": 0.5}, {"p": float("inf")})],
    "one_hot": [t(classes(4, 3), a=(4,)), t(classes(4, 2, 3), a=(6,))],
    "pdist": [t(x(4, 3, batch=None), p=p) for p in (0.0, 1.0, 1.5, 2.0, 3.0, float("inf"))],
    "pad": [
        *(t(x(2, 3, 5, 6), a=(p,), **o) for p in ((1, 2), (2, 0, 1, 1), (-1, 1, 2, -2)) for o in ({}, {"value": 2.5})),
        *(t(x(2, 3, 5, 6), a=((1, 2, 0, 3),), mode=m) for m in ("reflect", "replicate", "circular")),
        t(x(2, 3, 5), a=((4, 2),), mode="circular"), t(x(3, 5, batch=None), a=((2, 2),), mode="reflect"),
        t(x(2, 3, 4, 5, 4), a=((1, 1, 2, 0, 1, 2),), mode="replicate"),
    ],
    "interpolate": [
        t(x(2, 3, *(5, 4, 3)[:n]), size=size, mode=m, **o)
        for n, m in ((1, "nearest"), (1, "linear"), (2, "nearest-exact"), (2, "bilinear"), (2, "bicubic"), (2, "area"), (3, "trilinear"))
        for size in (7, 2)
        for o in (({}, {"align_corners": True}) if "lin" in m or "cub" in m else ({},))
    ] + [t(x(2, 3, 8, 9), size=(3, 4), mode=m, antialias=True) for m in ("bilinear", "bicubic")],
    "grid_sample": [
        t(x(2, 3, 4, 5), _grid(2, 3, 2, 2), mode=m, padding_mode=p, align_corners=c)
        for m in ("bilinear", "nearest", "bicubic") for p in ("zeros", "border", "reflection") for c in (False, True)
    ] + [t(x(2, 2, 3, 4, 3), _grid(2, 2, 2, 2, 3), mode=m, align_corners=False) for m in ("bilinear", "nearest")],
    "affine_grid": [
        t(x(2, 2, 3, batch=None), a=((2, 3, 4, 5),), align_corners=False), t(x(2, 2, 3, batch=None), a=((2, 1, 1, 6),), align_corners=True),
        t(x(2, 3, 4, batch=None), a=((2, 1, 3, 2, 4),), align_corners=False),
    ],
    "scaled_dot_product_attention": _sdpa(),
    "conv_tbc": [t(x(6, 2, 3, batch=1), x(k, 3, 4, batch=None), x(4, batch=None), a=(p,)) for k, p in ((1, 0), (3, 0), (3, 2))],
    "cosine_similarity": [t(x(4, 1, 3), x(4, 2, 3), dim=2), t(x(4, 3), x(4, 3), dim=0, eps=0.1)],
    "pairwise_distance": [t(x(4, 3), x(4, 3), p=2.0, eps=0.0), t(x(3, batch=None), x(3, batch=None))],
    "softmax": [t(x(3, 4), dim=1, dtype=d) for d in ("float32", "float64")],
    "log_softmax": [t(x(3, 4), dim=0, dtype=d) for d in ("float32", "float64")],
    "normalize, of rows": [t(x(3, 4), p=2.0, dim=1), t(x(2, 3, 4), p=2.0, dim=(1, 2))],
    "embedding": [t(classes(5, 2, 3), x(5, 4, batch=None), padding_idx=i) for i in (None, 2)],
    "linear": [t(x(3, 4), x(2, 4, batch=None)), t(x(2, 3, 4), x(2, 4, batch=None), x(2, batch=None))],
    "local_response_norm": [t(x(2, 5, 4), a=(n,)) for n in (1, 2, 5)],
    "gumbel_softmax, one class": [t(x(3, 1), tau=0.5, hard=h) for h in (False, True)],
}  # fmt: skip
"""What is not a class, or has arguments that its class has not."""
TABLE |= {f"F.{name}": rows for name, rows in FUNCTIONS.items()}


class _Function(nn.Module):
    def __init__(self, function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.function, self.args, self.options = function, args, options

    def forward(self, *inputs: Any, **more: Any) -> Any:
        return self.function(*inputs, *self.args, **self.options, **more)


class _TorchFunction(torch.nn.Module):
    def __init__(self, function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        super().__init__()
        self.function, self.args, self.options = function, args, options

    forward = _Function.forward


def _log_softmax(v: Any) -> Any:
    return torch.log_softmax(v, -1) if isinstance(v, torch.Tensor) else nn.functional.log_softmax(v, -1)


def _build(module: Any, name: str, case: Try, convert: Any) -> Any:
    args = tuple(
        getattr(module, a[0])(*a[1], **a[2]) if isinstance(a, tuple) and a and isinstance(a[0], str) else a
        for a in case.args
    )
    weights = {k: convert(v) for k, v in case.weights.items()}
    kind = name.split(",")[0]
    if kind.startswith("F."):
        other = module is torch.nn
        dtypes = (
            {"dtype": getattr(torch if other else an, case.options["dtype"])}
            if "dtype" in case.options
            else {}
        )
        make = _TorchFunction if other else _Function
        return make(getattr(module.functional, kind[2:]), args, {**case.options, **dtypes})
    net = getattr(module, kind)(*args, **case.options, **weights)
    return net.eval() if case.evaluate else net


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [v for item in value for v in _flat(item)]
    return [] if value is None else [value]


def _close(got: Any, want: Any, what: str, tolerance: float) -> None:
    want = want.detach().numpy()
    assert got.shape == want.shape, f"{what}: shape {got.shape}, PyTorch's {want.shape}"
    assert str(got.dtype).split(".")[-1].removeprefix("anynet.") == str(want.dtype), (
        f"{what}: dtype {got.dtype}, PyTorch's {want.dtype}"
    )
    values = got.numpy()
    finite = np.abs(want[np.isfinite(want)])
    floor = 8 * float(np.finfo(want.dtype).eps) if want.dtype.kind == "f" else 0.0
    floor = max(floor, 1e-6) if tolerance > 1e-6 else floor
    scale = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(values, want, rtol=tolerance, atol=tolerance * scale + floor, err_msg=what)


def _strided(array: np.ndarray) -> np.ndarray:
    """The same numbers in a view that is neither contiguous nor writeable."""
    if not array.ndim:
        return array
    wide = np.zeros((*array.shape[:-1][::-1], 2 * array.shape[-1] + 1), array.dtype)
    view = wide.transpose(*range(array.ndim - 2, -1, -1), array.ndim - 1)[..., 1::2]
    view[...] = array
    wide.flags.writeable = view.flags.writeable = False
    return view


ELSEWHERE = {"Buffer", "Container", "CrossMapLRN2d", "LinearCrossEntropyLoss", "Module", "ModuleDict", "ModuleList", "Parameter",
             "ParameterDict", "ParameterList", "RNNBase", "RNNCellBase", "Sequential", "SyncBatchNorm", "UninitializedBuffer",
             "UninitializedParameter"}  # fmt: skip
"""Containers and abstract classes, and those that have their own tests: the functions of LinearCrossEntropyLoss are two others',
PyTorch's CrossMapLRN2d adds up channels outside of its window, and its SyncBatchNorm needs a GPU."""


def _applies(case: Try, corner: str) -> bool:
    return corner not in ("empty", "one", "strict empty") or any(
        part.batch is not None for part in case.inputs
    )


CASES = [
    (name, i, corner)
    for name, rows in TABLE.items()
    for i, case in enumerate(rows)
    for corner in CORNERS
    if _applies(case, corner)
]
REFUSED = {
    **dict.fromkeys(
        [("PixelShuffle", 0, "empty"), ("PixelUnshuffle", 0, "empty")], "invalid gradient|channel"
    ),
    **dict.fromkeys([(f"InstanceNorm{n}d", i, "empty") for n in (1, 2, 3) for i in (3, 4)], "out of range"),
    **dict.fromkeys(
        [("TransformerEncoderLayer", 5, "empty"), ("TransformerDecoderLayer", 5, "empty")], "ambiguous"
    ),
}
"""What PyTorch refuses, and its words; anynet computes it."""

ATTENTION = ("MultiheadAttention", "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
             "TransformerEncoderLayer")  # fmt: skip
DIFFERENT: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {
    # PyTorch's gradient multiplies by a float32 of 1/6
    **{("Hardsigmoid", corner): (1e-7, ()) for corner in CORNERS if corner != "single"},
    # PyTorch's smallest denominator is a float32 of 1e-12, and its gradient in the target forgets the logarithm's bound
    ("BCELoss", "extreme"): (1e-8, ("gradient of input 1",)),
    # PyTorch returns what stood in memory for the mean of nothing
    **{(name, "empty"): (1e-9, ("output 0",)) for name in ("MultiLabelMarginLoss", "MultiMarginLoss")},
    ("KLDivLoss", "extreme"): (1e-9, ("gradient of input 1",)),  # PyTorch's is nan where the target is 0
    # PyTorch's exp overflows
    ("SoftMarginLoss", "extreme"): (1e-9, ("output 0", "gradient of input 0")),
    # softmax of scores around 1e8: what is left of a gradient there is rounding
    **{(name, "extreme"): (1e-7, ()) for name in ATTENTION},
    ("F.scaled_dot_product_attention", "extreme"): (1e-7, ("gradient of input 0", "gradient of input 1")),
    **{
        (name, "extreme"): (
            1e-7,
            ("gradient of norm2", "gradient of layers.0.norm2", "gradient of layers.1.norm2"),
        )
        for name in ("TransformerDecoderLayer", "TransformerDecoder")
    },
}
"""The tolerance, and what is not compared, where PyTorch is wrong or less exact or the values are ill-conditioned; the first
stand in docs/coverage.md too."""


@pytest.mark.parametrize(("name", "i", "corner"), CASES)
def test_as_pytorch(name, i, corner):
    case = TABLE[name][i]
    device = "strict:device1" if corner.startswith("strict") else "cpu"
    corner = "empty" if corner == "strict empty" else corner
    rng = np.random.default_rng(17 + i)
    kind, dtype = (np.float32, an.float32) if corner == "single" else (np.float64, an.float64)
    arrays = [part.draw(corner, rng) for part in case.inputs]
    arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in arrays]
    call = case.run or (lambda net, *v: net(*v))
    torch.manual_seed(i)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _build(torch.nn, name, case, torch.tensor).to(torch.tensor(np.zeros(0, kind)).dtype)
        state = {
            k: an.asarray(v.numpy().copy()) for k, v in theirs.state_dict().items() if k != "_random_samples"
        }
        given_t = [
            torch.tensor(a, requires_grad=part.differentiable)
            for a, part in zip(arrays, case.inputs, strict=True)
        ]
        refusal = None
        try:
            out_t = _flat(call(theirs, *given_t))
            g = [
                rng.standard_normal(tuple(o.shape)).astype(kind) if o.dtype.is_floating_point else None
                for o in out_t
            ]
            total = sum((o * torch.tensor(c)).sum() for o, c in zip(out_t, g, strict=True) if c is not None)
            total = torch.as_tensor(total)
            if total.requires_grad:
                total.backward()
        except (RuntimeError, ValueError, IndexError) as error:
            refusal = str(error)
    ours = _build(nn, name, case, an.asarray).to(device).to(dtype)
    ours.load_state_dict(state)
    here = [an.asarray(_strided(a) if corner == "strided" else a, device=device) for a in arrays]
    here = [
        a.requires_grad_() if part.differentiable else a for a, part in zip(here, case.inputs, strict=True)
    ]
    if refusal is not None:
        words = REFUSED.get((name, i, corner))
        if words is None:  # so does anynet
            with pytest.raises(ValueError, match=r"got|has shape"):
                call(ours, *here)
            return
        assert re.search(words, refusal)
        assert all(0 in o.shape or np.isnan(o.numpy()).all() for o in _flat(call(ours, *here)))
        return
    assert (name, i, corner) not in REFUSED
    with warnings.catch_warnings():
        if corner in (
            "extreme",
            "empty",
        ):  # NumPy speaks of infinite results and means of nothing, PyTorch does not
            warnings.simplefilter("ignore", RuntimeWarning)
        out = _flat(call(ours, *here))
    short = corner == "single" or any(o.dtype == torch.float32 for o in out_t)
    tolerance, apart = DIFFERENT.get((name, corner), (2e-5 if short else 1e-9, ()))

    def compare(got: Any, want: Any, what: str) -> None:
        if not what.startswith(apart):
            _close(got, want, what, tolerance)

    assert len(out) == len(out_t)
    for k, (a, b) in enumerate(zip(out, out_t, strict=True)):
        compare(a, b, f"output {k}")
    if total.requires_grad:
        with warnings.catch_warnings():
            if corner in ("extreme", "empty"):
                warnings.simplefilter("ignore", RuntimeWarning)
            parts = [
                an.sum(o * an.asarray(c, device=device)) for o, c in zip(out, g, strict=True) if c is not None
            ]
            sum(parts[1:], parts[0]).backward()
        for k, (a, b) in enumerate(zip(here, given_t, strict=True)):
            if b.grad is not None:
                compare(a.grad, b.grad, f"gradient of input {k}")
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            if q.grad is not None:
                compare(p.grad, q.grad, f"gradient of {key}")
    for key, b in theirs.named_buffers():
        if key in state:
            compare(dict(ours.named_buffers())[key], b, key)


def test_every_layer_has_ten_combinations():
    count: dict[str, int] = {}
    for name, _, _ in CASES:
        count[name] = count.get(name, 0) + 1
    offered = {
        name
        for name in dir(torch.nn)
        if isinstance(getattr(torch.nn, name), type) and hasattr(nn, name) and not name.startswith("Lazy")
    }
    wanted = offered - ELSEWHERE | {f"F.{name}" for name in FUNCTIONS}
    few = {name: count.get(name, 0) for name in wanted if count.get(name, 0) < 10}
    assert not few
