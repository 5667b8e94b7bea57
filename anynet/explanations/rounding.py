"""`exactness`: how many digits of a training step are true, layer by layer.

The step is computed as it is and in double precision, with the same random numbers. What differs is rounding. A layer has two figures: how
many digits of its result are true, with all that came before it, and how many are true when its own input is taken as exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import streams
from anynet.autograd.backward import backprop
from anynet.explanations.explanation import Explanation, Paragraph, Table, plain
from anynet.explanations.layers import Call, in_float64, layer_calls, taken_by, tensors
from anynet.explanations.recording import ExplanationError, as_float64
from anynet.nn.module import Module
from anynet.ops import reductions
from anynet.tensor import Leaf, Tensor, enable_grad
from anynet.train.objectives import Objective
from anynet_backends import backend_of, resolve

__all__ = ["exactness"]

_EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}


def exactness(model: Module, batch: Any, *, loss: Any = None) -> Explanation:
    """How many digits of a step are true: in the dtype of the model beside float64, forward and backward, by layer.

    Parameters:
      model: a network in float32 (or float16, bfloat16), in the mode in which it is; it stays as it is.
      batch: its inputs, or a pair (inputs, targets) with `loss`.
      loss: the name of a loss or a function of output and target; without it the sum of the outputs is taken.

    For each layer: the digits of its output that are true; those lost in the layer itself, its input taken as exact; the same of the
    gradients. The digits of an array x beside the exact one y are −log₁₀(max|x − y| / max|y|), at most those of the dtype, 7.2 of float32.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(3, 4), an.nn.Tanh(), an.nn.Linear(4, 1))
    >>> found = an.exactness(net, (an.ones((2, 3)), an.zeros((2, 1))), loss="mse")
    >>> found.to_json()["loss"]["digits"] > 5
    True

    Errors: ValueError for a model that is in float64 already, or gives no number to differentiate.
    """
    if not isinstance(model, Module):
        msg = f"exactness: model must be a Module, got {type(model).__name__}"
        raise TypeError(msg)
    inputs, target = _parts(model, batch, loss)
    name = _dtype(model, inputs)
    if name not in _EPS:
        msg = f"exactness: the step is in {name}; give a model in float32, float16 or bfloat16 to compare with float64"
        raise ExplanationError(msg)
    objective = None if loss is None else Objective(loss)
    state = dict(streams.get_state())
    buffers = {k: v._data for k, v in model.named_buffers()}
    copies = {k: backend_of(v).asarray(v, copy=True) for k, v in buffers.items()}
    grads = [(p, p.grad) for p in model.parameters()]
    try:
        with resolve("cpu")[0].errstate():
            low = _step(model, inputs, target, objective, state)
            high = _step(
                in_float64(model), [as_float64(x) for x in inputs], as_float64(target), objective, state
            )
            return _written(model, low, high, name, objective)
    finally:
        streams.set_state(state)
        for p, grad in grads:
            p.grad = grad
        for k, v in model.named_buffers():
            v._data = copies[k] if v._data is buffers[k] else buffers[k]


def _parts(model: Module, batch: Any, loss: Any) -> tuple[list[Any], Any]:
    """The inputs, and the targets."""
    if loss is not None:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            msg = "exactness: with loss= the batch must be a pair (inputs, targets)"
            raise ExplanationError(msg)
        *inputs, target = batch
        first = inputs[0] if len(inputs) == 1 else inputs
        return [_tensor(x) for x in (first if isinstance(first, (tuple, list)) else [first])], _tensor(target)
    inputs = [_tensor(x) for x in (batch if isinstance(batch, (tuple, list)) else [batch])]
    taken_by("exactness", model, inputs)
    return inputs, None


def _tensor(x: Any) -> Any:
    return x if isinstance(x, Tensor) or x is None else Tensor(x)


def _dtype(model: Module, inputs: Sequence[Any]) -> str:
    for x in (*model.parameters(), *inputs):
        if isinstance(x, Tensor) and x.dtype.is_floating:
            return x.dtype.name
    return "no floating-point dtype"


class _Step:
    """A step that was computed: its layers, the loss, the parameters' gradients."""

    def __init__(self, calls: list[Call], value: Tensor, grads: dict[str, Any]) -> None:
        self.calls, self.value, self.grads = calls, value, grads


def _step(
    model: Module, inputs: Sequence[Any], target: Any, objective: Objective | None, state: dict[str, int]
) -> _Step:
    streams.set_state(state)
    for p in model.parameters():
        p.grad = None
    with layer_calls(model) as calls, enable_grad():
        output = model(*inputs)
        if objective is not None:
            value: Tensor = objective.function(output, target)
        else:
            parts = tensors(output)
            value = sum((reductions.sum(v) for v in parts[1:]), reductions.sum(parts[0]))
    if value.edge is None or value.size != 1:
        msg = "exactness: the loss must be one number that depends on parameters"
        raise ExplanationError(msg)
    for call in calls:
        for y in call.outputs:
            if y.edge is not None and type(y.edge) is not Leaf:
                y.retain_grad()
    value.backward()
    grads = {n: p.grad.numpy().astype("float64") for n, p in model.named_parameters() if p.grad is not None}
    return _Step(calls, value, grads)


def _digits(x: Any, y: Any, eps: float) -> float | None:
    """How many digits of x are true, beside y; None where there is nothing to compare with."""
    most = -math.log10(eps)
    if x is None or y is None or not x.size:
        return None
    scale, gap = float(abs(y).max()), float(abs(x - y).max())
    if gap != gap or scale != scale:
        return 0.0
    if gap == 0:
        return most
    return max(0.0, min(most, -math.log10(gap / scale))) if scale else 0.0


def _worst(pairs: Sequence[tuple[Any, Any]], eps: float) -> float | None:
    found = [d for x, y in pairs if (d := _digits(x, y, eps)) is not None]
    return min(found) if found else None


def _arrays(ys: Sequence[Tensor]) -> list[Any]:
    return [y.detach().numpy().astype("float64") for y in ys]


def _gradients(ys: Sequence[Tensor]) -> list[Any]:
    return [
        y.grad.numpy().astype("float64") if y.edge is not None and y.grad is not None else None for y in ys
    ]


def _own(low: Call, high: Call, eps: float) -> tuple[float | None, float | None]:
    """The digits that are true of a layer's result and of its input's gradient, its input and parameters taken as exact."""
    x = next(iter(tensors(low.args[:1])), None)
    first = low.args[0] if low.args else None
    if x is None and not isinstance(first, Tensor):
        return None, None
    given: Tensor = x.detach() if x is not None else first  # type: ignore[assignment]
    exact = as_float64(given)
    pair, results = [], []
    for call, start in ((low, given), (high, exact)):
        if x is not None:
            start = start.requires_grad_()
        with enable_grad():
            ys = call.again(start)
        results.append(_arrays(ys))
        g = [y.grad for y in low.outputs]
        roots = []
        for y, v in zip(ys, g, strict=True):
            if y.edge is not None and v is not None:
                data = backend_of(y._data).astype(v._data, y._data.dtype)
                roots.append((y.edge, data))
        found = backprop(roots, targets=[start.edge]) if x is not None and roots else None
        value = found[0] if found else None
        pair.append(None if value is None else as_float64(Tensor(value)).numpy())
    return _worst(list(zip(*results, strict=True)), eps), _digits(pair[0], pair[1], eps)


def _written(model: Module, low: _Step, high: _Step, dtype: str, objective: Objective | None) -> Explanation:
    eps = _EPS[dtype]
    most = -math.log10(eps)
    if [c.name for c in low.calls] != [c.name for c in high.calls]:
        msg = "exactness: the model calls other layers in float64 than as it is"
        raise ExplanationError(msg)
    rows, data = [], []
    for a, b in zip(low.calls, high.calls, strict=True):
        forward = _worst(list(zip(_arrays(a.outputs), _arrays(b.outputs), strict=True)), eps)
        backward = _worst(list(zip(_gradients(a.outputs), _gradients(b.outputs), strict=True)), eps)
        own = _own(a, b, eps)
        names = dict(a.module.named_parameters())
        prefix = f"{a.name}." if a.name in dict(model.named_modules()) else ""
        weights = _worst([(low.grads.get(prefix + n), high.grads.get(prefix + n)) for n in names], eps)
        lost = [None if d is None else most - d for d in own]
        rows.append(
            [
                plain(a.name),
                plain(type(a.module).__name__),
                *(plain(_short(v)) for v in (forward, lost[0], backward, lost[1], weights)),
            ]
        )
        data.append({
            "name": a.name, "layer": type(a.module).__name__, "forward": forward, "lost_forward": lost[0], "backward": backward,
            "lost_backward": lost[1], "parameters": weights,
        })  # fmt: skip
    x, y = float(low.value), float(high.value)
    of_loss = _digits(low.value.detach().numpy().astype("float64"), high.value.detach().numpy(), eps)
    name = objective.name if objective is not None else "sum of the outputs"
    intro = (
        f"{name}: {x:.9g} in {dtype}, {y:.12g} in float64: {_short(of_loss)} of {most:.1f} digits are true.\n"
        "Each layer: digits of its output that are true, digits lost in the layer alone, the same of the gradient of its output and of "
        "its input, and the digits of its parameters' gradients."
    )
    head = ["layer", "", "output", "lost", "gradient", "lost", "parameters"]
    blocks: list[Any] = [Paragraph(intro), Table(head, rows)]
    lost_in = [
        (d[f"lost_{way}"], d["name"], d["layer"], way) for d in data for way in ("forward", "backward")
    ]
    worst = max((x for x in lost_in if isinstance(x[0], float)), default=None)
    if worst is not None:
        said = f"Most is lost in {worst[1]} ({worst[2]}), {worst[3]}: {worst[0]:.1f} of {most:.1f} digits."
        blocks.append(
            Paragraph(said if isinstance(worst[0], float) and worst[0] >= 0.05 else "No layer loses digits.")
        )
    found = {"kind": "exactness", "dtype": dtype, "digits": most, "loss": {"value": x, "float64": y, "digits": of_loss}, "layers": data,
             "parameters": {n: _digits(low.grads[n], high.grads[n], eps) for n in low.grads}}  # fmt: skip
    return Explanation(f"Exactness of a step of {type(model).__name__} in {dtype}", blocks, found)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
