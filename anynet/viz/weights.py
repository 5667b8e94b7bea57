"""A network from inside: its weights, filters, their responses, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anynet import dtypes
from anynet.autograd.dispatch import INTERCEPT
from anynet.nn import functional
from anynet.nn.layer_path import current_layer, watch
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.creation import arange, asarray
from anynet.ops.elementwise import where
from anynet.ops.linear import matmul, matrix_transpose
from anynet.ops.manipulation import astype, permute_dims, reshape
from anynet.ops.reductions import max as max_
from anynet.ops.reductions import mean, std
from anynet.ops.reductions import min as min_
from anynet.streams import fork_rng
from anynet.tensor import Tensor, no_grad, wrap
from anynet.train.batches import call
from anynet.viz.figures import COLOURS, grid
from anynet_backends import backend_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["attention", "attention_weights", "filters", "responses", "weights"]


def weights(model: Module, *, most: int = 24, bins: int = 50) -> Figure:
    """A histogram of each parameter's numbers, with their mean and standard deviation.

    >>> import anynet as an
    >>> figure = an.viz.weights(an.nn.Linear(3, 4))  # doctest: +SKIP
    """
    found = list(model.named_parameters())
    if not found:
        msg = f"viz.weights: the model ({type(model).__name__}) has no parameters"
        raise ValueError(msg)
    shown = found[:most]
    figure, panels = grid(len(shown), 3.0, 2.2, columns=4)
    for ax, (name, p) in zip(panels, shown, strict=True):
        numbers = astype(reshape(p.detach().to("cpu"), (-1,)), "float32")
        ax.hist([v for v in numbers.tolist() if math.isfinite(v)], bins=bins, color=COLOURS[0])
        ax.set_title(f"{name} {tuple(p.shape)}", fontsize="small")
        ax.text(
            0.98,
            0.95,
            f"{float(mean(numbers)):.3g} ± {float(std(numbers)):.3g}",
            transform=ax.transAxes,
            ha="right",
            va="top",
            fontsize="x-small",
        )
    if len(found) > most:
        figure.suptitle(f"the first {most} of {len(found)} parameters", fontsize="small")
    return figure


def _layer(
    model: Module, layer: str | Module | None, where_: str, accept: Any, what: str
) -> tuple[str, Module]:
    """The layer that is meant: by path, itself, or the first that fits."""
    if isinstance(layer, str):
        return layer, model.get_submodule(layer)
    for name, module in model.named_modules():
        if module is layer or (layer is None and accept(module)):
            return name or type(module).__name__, module
    msg = (
        f"viz.{where_}: the model has no {what}"
        if layer is None
        else f"viz.{where_}: the layer is not part of the model"
    )
    raise ValueError(msg)


def _has_filters(module: Module) -> bool:
    weight = vars(module).get("weight")
    return isinstance(weight, Tensor) and weight.ndim == 4 and int(weight.shape[2]) > 1


def filters(
    model: Module, layer: str | Module | None = None, *, shape: tuple[int, int] | None = None, most: int = 64
) -> Figure:
    """The filters of a layer as pictures: of a convolution (the first with a kernel larger than 1, unless `layer` is the path),
    or the rows of a matrix, laid out as `shape` (height, width). Filters of three input channels are in colour, of others the mean over
    their channels; each by its own range.

    >>> import anynet as an
    >>> figure = an.viz.filters(an.nn.Conv2d(3, 8, 5))  # doctest: +SKIP
    """
    name, module = _layer(
        model,
        layer,
        "filters",
        _has_filters,
        "convolution in two dimensions; give layer= and, for a matrix, shape=",
    )
    weight = vars(module).get("weight")
    weight = getattr(module, "weight", None) if weight is None else weight
    if not isinstance(weight, Tensor) or weight.ndim not in (2, 4):
        msg = f"viz.filters: {name} ({type(module).__name__}) has no weight of 2 or 4 axes"
        raise ValueError(msg)
    w = astype(weight.detach().to("cpu"), "float32")
    if w.ndim == 2:
        if shape is None or shape[0] * shape[1] != w.shape[1]:
            msg = f"viz.filters: {name} has rows of {w.shape[1]} numbers; give shape=(height, width) with height · width = {w.shape[1]}"
            raise ValueError(msg)
        w = reshape(w, (-1, 1, *shape))
    return _pictures(
        w[:most, ...], f"{name}: filters" + (f", {most} of {w.shape[0]}" if w.shape[0] > most else "")
    )


def responses(model: Module, x: Any, layer: str | Module | None = None, *, most: int = 64) -> Figure:
    """What the channels of a layer say to one sample: the outputs of the first convolution, or of `layer`, as pictures.

    `x` is one sample or a batch, of which the first sample is taken. The model stays as it is.
    """
    name, module = _layer(
        model, layer, "responses", _has_filters, "convolution in two dimensions; give layer="
    )
    kept: list[Tensor] = []
    remove = module.register_forward_hook(
        lambda _m, _a, out: kept.append(out) if isinstance(out, Tensor) else None
    )
    inputs = x if isinstance(x, Tensor) else asarray(x)
    try:
        with fork_rng(), no_grad(), evaluating(model):
            call(model, inputs[None, ...] if inputs.ndim == 3 else inputs[:1, ...])
    finally:
        remove()
    if not kept or kept[0].ndim != 4:
        got = "nothing" if not kept else f"shape {kept[0].shape}"
        msg = f"viz.responses: {name} must give pictures (batch, channels, height, width), got {got}"
        raise ValueError(msg)
    maps = astype(kept[0][0, ...].detach().to("cpu"), "float32")
    return _pictures(maps[:most, None, :, :], f"{name}: responses")


def _pictures(w: Tensor, title: str) -> Figure:
    """Filters (count, channels, height, width) as a grid of pictures."""
    count, channels = int(w.shape[0]), int(w.shape[1])
    columns = min(count, max(4, math.ceil(math.sqrt(count * 1.6))))
    figure, panels = grid(count, 0.9, 0.9, columns=columns, plain=True)
    for i, ax in enumerate(panels):
        one = w[i, ...]
        low, high = float(min_(one)), float(max_(one))
        if channels == 3:
            scaled = (one - low) / (high - low) if high > low else one * 0.0
            ax.imshow(permute_dims(scaled, (1, 2, 0)).tolist(), interpolation="nearest")
        else:
            ax.imshow(mean(one, axis=0).tolist(), cmap="gray", interpolation="nearest")
        ax.set_axis_off()
    figure.suptitle(title, fontsize="small")
    return figure


# ----- attention -----


def attention_weights(model: Module, *inputs: Any) -> dict[str, Tensor]:
    """The weights of every attention in one forward pass: the layer's path → (batch, heads, queries, keys), or without the heads where the
    layer averages them. The model stays as it is, and runs in evaluation mode."""
    found: dict[str, Tensor] = {}

    def keep(value: Tensor) -> None:
        path = current_layer().partition(".")[2] or type(model).__name__
        name, count = path, 2
        while name in found:
            name, count = f"{path} ({count})", count + 1
        found[name] = value

    def handle(prim: Any, args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if prim.name == "attention":
            q, k, _v, mask = (*args, None)[:4]
            keep(_softmax_of(_tensor(q), _tensor(k), None if mask is None else _tensor(mask), meta))
        return prim.bind(args, meta)

    def hook(_module: Module, _args: Any, out: Any) -> None:
        if isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Tensor) and out[1].ndim in (3, 4):
            keep(out[1].detach())

    removers = [
        m.register_forward_hook(hook) for m in model.modules() if type(m).__name__ == "MultiheadAttention"
    ]
    with fork_rng(), no_grad(), evaluating(model):
        watch(True)
        INTERCEPT.append(handle)
        try:
            model(*(i if isinstance(i, Tensor) else asarray(i) for i in inputs))
        finally:
            INTERCEPT.remove(handle)
            watch(False)
            for remove in removers:
                remove()
    return found


def _tensor(x: Any) -> Tensor:
    return x.detach() if isinstance(x, Tensor) else wrap(x)


def _softmax_of(q: Tensor, k: Tensor, mask: Tensor | None, meta: dict[str, Any]) -> Tensor:
    with backend_of(q.data).errstate():  # a row whose keys are all masked is 0 / 0, and then 0
        scores = matmul(q, matrix_transpose(k)) * meta["scale"]
        if mask is not None:
            scores = where(mask, scores, -math.inf) if mask.dtype is dtypes.bool else scores + mask
        if meta.get("causal"):
            rows, columns = int(scores.shape[-2]), int(scores.shape[-1])
            seen = arange(columns, device=q.device)[None, :] <= arange(rows, device=q.device)[:, None]
            scores = where(seen, scores, -math.inf)
        shares = functional.softmax(scores, dim=-1)
        return where(shares == shares, shares, 0.0)


def attention(
    model: Module, *inputs: Any, layer: str | None = None, tokens: Sequence[str] | None = None, most: int = 16
) -> Figure:
    """Where attention looks, for the first sample: a picture for each head of a layer (the first with attention unless `layer` is the path
    of another), with queries as rows and keys as columns. `tokens` are their names. `attention_weights` has the numbers.

    >>> import anynet as an
    >>> figure = an.viz.attention(gpt, ids, layer="blocks.1", tokens=list("ROMEO:"))  # doctest: +SKIP
    """
    found = attention_weights(model, *inputs)
    if not found:
        msg = f"viz.attention: the model ({type(model).__name__}) uses no attention of anynet"
        raise ValueError(msg)
    name = next((n for n in found if layer is None or n == layer or n.startswith(f"{layer}.")), None)
    if name is None:
        msg = f"viz.attention: {layer!r} has no attention; those that have: {', '.join(found)}"
        raise ValueError(msg)
    value = astype(found[name].to("cpu"), "float32")
    maps = value[0, ...] if value.ndim > 2 else value
    heads = maps[None, ...] if maps.ndim == 2 else reshape(maps, (-1, *maps.shape[-2:]))
    count = min(most, int(heads.shape[0]))
    figure, panels = grid(count, 2.6, 2.6, columns=4, plain=True)
    for i, ax in enumerate(panels):
        ax.imshow(heads[i, ...].tolist(), cmap="viridis", vmin=0.0)
        ax.set_title(f"head {i}" if heads.shape[0] > 1 else "all heads", fontsize="small")
        if tokens is not None and len(tokens) == heads.shape[2]:
            ax.set_xticks(range(len(tokens)), list(tokens), rotation=90, fontsize="x-small")
            if len(tokens) == heads.shape[1]:
                ax.set_yticks(range(len(tokens)), list(tokens), fontsize="x-small")
    figure.suptitle(f"attention of {name}", fontsize="small")
    figure.supxlabel("keys", fontsize="small")
    figure.supylabel("queries", fontsize="small")
    return figure
