"""``anynet parity``: the same operations on every backend, values and gradients against NumPy in float64.

The error of one operation in one dtype is ‖Δ‖ / ‖reference‖ (norm-wise), the worst of its value and its gradients.
The limits are those that the project promises: float64 1e-10; float32 1e-5 for values and 1e-4 for gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import anynet_backends
from anynet import nn, optim, random
from anynet.nn import functional as F
from anynet.ops import elementwise as e
from anynet.ops import linear, manipulation, reductions
from anynet.ops.creation import tril
from anynet.ops.indexing import index_add, take, take_along_axis
from anynet.ops.neural import logsumexp
from anynet.tensor import Tensor
from anynet_backends import backend_of, host

__all__ = ["CASES", "LIMITS", "Case", "Row", "compare", "devices", "measure", "table"]

LIMITS = {"float64": (1e-10, 1e-10), "float32": (1e-5, 1e-4)}


@dataclass(frozen=True)
class Case:
    """An operation: a function of Tensors, the shapes of its arguments, and where their elements lie."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    low: float = -2.0
    high: float = 2.0


@dataclass(frozen=True)
class Row:
    """The worst errors of one operation in one dtype on one device."""

    case: str
    device: str
    dtype: str
    value: float
    gradient: float

    @property
    def ok(self) -> bool:
        """Whether both lie within the limits."""
        value, gradient = LIMITS[self.dtype]
        return self.value <= value and self.gradient <= gradient


def _elementwise() -> Iterable[Case]:
    for name in ("abs", "asinh", "atan", "conj", "cos", "cosh", "exp", "expm1", "negative", "positive", "sign", "sin",
                 "sinh", "square", "tan", "tanh", "floor", "ceil", "round", "trunc"):  # fmt: skip
        high = 1.2 if name == "tan" else 2.0
        yield Case(name, getattr(e, name), ((3, 4),), -high, high)
    for name in ("log", "log1p", "log2", "log10", "reciprocal", "sqrt"):
        yield Case(name, getattr(e, name), ((3, 4),), 0.5, 2.0)
    for name in ("acos", "asin", "atanh"):
        yield Case(name, getattr(e, name), ((3, 4),), -0.8, 0.8)
    yield Case("acosh", e.acosh, ((3, 4),), 1.2, 3.0)
    for name in (
        "add",
        "atan2",
        "copysign",
        "hypot",
        "logaddexp",
        "maximum",
        "minimum",
        "multiply",
        "subtract",
    ):
        yield Case(name, getattr(e, name), ((3, 1, 4), (2, 4)))
    for name in ("divide", "pow", "remainder", "floor_divide"):
        yield Case(name, getattr(e, name), ((3, 1, 4), (2, 4)), 0.5, 2.0)
    yield Case("clip", lambda x: e.clip(x, -1.0, 1.0), ((3, 4),))
    yield Case("where", lambda x, y: e.where(e.greater(x, y), x, y), ((3, 4), (3, 4)))


def _index(x: Tensor, values: Any) -> Tensor:
    return Tensor(values, device=x.device)


CASES: tuple[Case, ...] = (
    *_elementwise(),
    Case("matmul", linear.matmul, ((2, 3, 4), (4, 5))),
    Case("tensordot", lambda a, b: linear.tensordot(a, b, axes=2), ((2, 3, 4), (3, 4, 5))),
    Case("vecdot", linear.vecdot, ((3, 4), (3, 4))),
    Case("matrix_transpose", linear.matrix_transpose, ((2, 3, 4),)),
    Case("sum", lambda x: reductions.sum(x, axis=1), ((3, 4, 2),)),
    Case("mean", lambda x: reductions.mean(x, axis=(0, 2)), ((3, 4, 2),)),
    Case("var", lambda x: reductions.var(x, axis=1, correction=1), ((3, 4),)),
    Case("std", lambda x: reductions.std(x, axis=1), ((3, 4),)),
    Case("prod", lambda x: reductions.prod(x, axis=1), ((3, 4),)),
    Case("max", lambda x: reductions.max(x, axis=1), ((3, 4),)),
    Case("min", lambda x: reductions.min(x, axis=1), ((3, 4),)),
    Case("cumulative_sum", lambda x: reductions.cumulative_sum(x, axis=1), ((3, 4),)),
    Case("cumulative_prod", lambda x: reductions.cumulative_prod(x, axis=1), ((3, 4),)),
    Case("reshape", lambda x: manipulation.reshape(x, (4, 3)), ((3, 4),)),
    Case("permute_dims", lambda x: manipulation.permute_dims(x, (2, 0, 1)), ((2, 3, 4),)),
    Case("broadcast_to", lambda x: manipulation.broadcast_to(x, (5, 3, 4)), ((3, 1),)),
    Case("concat", lambda a, b: manipulation.concat([a, b], axis=1), ((3, 2), (3, 4))),
    Case("stack", lambda a, b: manipulation.stack([a, b], axis=1), ((3, 2), (3, 2))),
    Case("flip", lambda x: manipulation.flip(x, axis=0), ((3, 4),)),
    Case("roll", lambda x: manipulation.roll(x, 2, axis=1), ((3, 4),)),
    Case("repeat", lambda x: manipulation.repeat(x, 3, axis=1), ((3, 2),)),
    Case("tile", lambda x: manipulation.tile(x, (2, 3)), ((3, 2),)),
    Case("tril", tril, ((4, 4),)),
    Case("getitem", lambda x: x[1:, ::2], ((3, 4),)),
    Case("take", lambda x: take(x, _index(x, [2, 0, 2]), axis=0), ((3, 4),)),
    Case("take_along_axis", lambda x: take_along_axis(x, _index(x, [[1, 1], [0, 2]]), axis=1), ((2, 3),)),
    Case("index_add", lambda x, v: index_add(x, _index(x, [1, 1, 0]), v), ((3, 2), (3, 2))),
    Case("linear", F.linear, ((6, 4), (3, 4), (3,))),
    Case("relu", F.relu, ((3, 4),)),
    Case("leaky_relu", F.leaky_relu, ((3, 4),)),
    Case("elu", F.elu, ((3, 4),)),
    Case("gelu", F.gelu, ((3, 4),)),
    Case("silu", F.silu, ((3, 4),)),
    Case("sigmoid", F.sigmoid, ((3, 4),)),
    Case("softplus", F.softplus, ((3, 4),)),
    Case("softmax", F.softmax, ((3, 4),)),
    Case("log_softmax", F.log_softmax, ((3, 4),)),
    Case("logsumexp", lambda x: logsumexp(x, axis=1), ((3, 4),)),
    Case("embedding", lambda w: F.embedding(_index(w, [[1, 3], [1, 0]]), w), ((5, 3),)),
    Case("cross_entropy", lambda x: F.cross_entropy(x, _index(x, [0, 2, 1]), label_smoothing=0.1), ((3, 4),)),
    Case("mse_loss", F.mse_loss, ((3, 4), (3, 4))),
    Case("l1_loss", F.l1_loss, ((3, 4), (3, 4))),
    Case("huber_loss", F.huber_loss, ((3, 4), (3, 4))),
    Case("bce", F.binary_cross_entropy, ((3, 4), (3, 4)), 0.1, 0.9),
    Case(
        "bce_with_logits",
        F.binary_cross_entropy_with_logits,
        ((3, 4), (3, 4)),
        0.1,
        0.9,
    ),
    Case("conv1d", lambda x, w: F.conv1d(x, w, padding=1), ((2, 3, 8), (4, 3, 3))),
    Case(
        "conv2d", lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), ((2, 3, 7, 6), (4, 3, 3, 3), (4,))
    ),
    Case("max_pool2d", lambda x: F.max_pool2d(x, 2), ((2, 3, 6, 6),)),
    Case("avg_pool2d", lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), ((2, 3, 7, 7),)),
    Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 3), ((2, 3, 7, 7),)),
    Case("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), ((3, 4), (4,), (4,))),
    Case(
        "batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), ((6, 3), (3,), (3,))
    ),
    Case("dropout", lambda x: _dropout(x), ((5, 7),)),
    Case("training, 20 Adam steps", lambda x: _train(x), ((12, 4),)),
)


def _dropout(x: Tensor) -> Tensor:
    random.manual_seed(11)
    return F.dropout(x, 0.4)  # type: ignore[no-any-return]


def _train(x: Tensor) -> Tensor:
    """The losses of 20 steps of a small network, times a function of x, so that there is a gradient to compare."""
    random.manual_seed(7)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 3)).to(x.device).to(x.dtype)
    y = _index(x, [i % 3 for i in range(12)])
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    constant = x.detach()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(constant), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return manipulation.stack(losses) * reductions.mean(x)  # type: ignore[no-any-return]


def devices() -> list[str]:
    """The devices to compare with the CPU: array-api-strict on one that is not its default, torch, CUDA."""
    wanted = ("cpu", "strict:device1", "torch:cpu", "cuda")
    names = []
    for name in wanted:
        try:
            anynet_backends.resolve(name)
        except (RuntimeError, ValueError):
            continue
        names.append(name)
    return names


def compute(case: Case, device: str, dtype: str) -> list[Any]:
    """Value and gradients of a case on a device, on the host; their dtype and device are checked."""
    inputs = []
    for i, shape in enumerate(case.shapes):
        values = host.uniform(5, 9, i, shape, case.low, case.high)
        inputs.append(Tensor(values, dtype=dtype, device=device, requires_grad=True))
    y = case.function(*inputs)
    weights = Tensor(host.uniform(6, 9, 0, tuple(y.shape), 0.5, 1.5), dtype=dtype, device=device)
    reductions.sum(y * weights).backward()
    out = [y]
    for x in inputs:
        if x.grad is not None:
            out.append(x.grad)
    for t in out:
        home = anynet_backends.resolve(device)[1]
        if t.dtype != dtype or t.device != home:
            msg = f"{case.name}: got {t.dtype} on {t.device}, expected {dtype} on {home}"
            raise TypeError(msg)
    return [backend_of(t.data).to_host(t.data) for t in out]


def _error(a: Any, b: Any) -> float:
    a, b = host.asarray(a, dtype="float64"), host.asarray(b, dtype="float64")
    if a.shape != b.shape:
        return math.inf
    scale: float = float((b * b).sum()) ** 0.5
    difference: float = float(((a - b) ** 2).sum()) ** 0.5
    return difference / scale if scale else difference


def compare(case: Case, device: str, dtype: str) -> Row:
    """One row of the table."""
    got, reference = compute(case, device, dtype), compute(case, "cpu", "float64")
    errors = [_error(a, b) for a, b in zip(got, reference, strict=True)]
    return Row(case.name, device, dtype, errors[0], max(errors[1:], default=0.0))


def measure(names: Iterable[str] | None = None) -> list[Row]:
    """All rows: every case, device and dtype."""
    return [compare(c, d, t) for d in (devices() if names is None else names) for t in LIMITS for c in CASES]


def table(rows: list[Row]) -> str:
    """The rows as text, the worst error of value and gradient for each operation and dtype."""
    lines = [f"{'operation':<26}{'device':<16}{'dtype':<9}{'value':>10}{'gradient':>10}"]
    for r in rows:
        mark = "" if r.ok else "  BEYOND ITS LIMIT"
        lines.append(f"{r.case:<26}{r.device:<16}{r.dtype:<9}{r.value:>10.1e}{r.gradient:>10.1e}{mark}")
    bad = sum(not r.ok for r in rows)
    lines.append(
        f"{len(rows)} comparisons, {bad} beyond their limits (float64 1e-10; float32 1e-5, gradients 1e-4)"
    )
    return "\n".join(lines)
