"""What a network answers over a plane of two of its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anynet.nn import functional
from anynet.nn.module import Module
from anynet.ops.creation import asarray, linspace
from anynet.ops.manipulation import astype, broadcast_to, reshape, stack
from anynet.ops.reductions import argmax, mean
from anynet.ops.reductions import max as max_
from anynet.ops.reductions import min as min_
from anynet.tensor import Tensor
from anynet.train import predict
from anynet.viz.figures import axes, blend, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["decision_boundary"]


def decision_boundary(
    model: Module,
    x: Any,
    y: Any = None,
    *,
    features: tuple[int, int] = (0, 1),
    n: int = 200,
    classes: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The answers over the plane of two features, with the samples on it.

    `x` (samples, features) says which part of the plane is drawn, and, where there are more features than two, the values of the
    others: their means. Outputs (samples, classes ≥ 2) are scores of classes, one output is the score of class 1 if `y` holds
    nothing but 0 and 1, else a number, drawn as contours. The stronger a colour, the larger the probability.

    >>> import anynet as an
    >>> ax = an.viz.decision_boundary(net, x, y)  # doctest: +SKIP
    """
    x = x if isinstance(x, Tensor) else asarray(x)
    if x.ndim != 2 or x.shape[1] < 2:
        msg = (
            f"viz.decision_boundary: x must have shape (samples, two or more features), got {tuple(x.shape)}"
        )
        raise ValueError(msg)
    width = int(x.shape[1])
    if len(features) != 2 or not all(isinstance(f, int) and -width <= f < width for f in features):
        msg = f"viz.decision_boundary: features must be two of the {width} columns, got {features!r}"
        raise ValueError(msg)
    a, b = (f % width for f in features)
    x = astype(x.detach().to("cpu"), "float32")
    targets = None if y is None else reshape(y if isinstance(y, Tensor) else asarray(y), (-1,)).tolist()
    if targets is not None and len(targets) != x.shape[0]:
        msg = f"viz.decision_boundary: y must have {x.shape[0]} entries, got {len(targets)}"
        raise ValueError(msg)
    (left, right), (low, high) = _around(x[:, a]), _around(x[:, b])
    across, along = linspace(left, right, n, dtype="float32"), linspace(low, high, n, dtype="float32")
    columns = [broadcast_to(mean(x[:, j]), (n, n)) for j in range(width)]
    columns[a] = broadcast_to(reshape(across, (1, n)), (n, n))
    columns[b] = broadcast_to(reshape(along, (n, 1)), (n, n))
    output = predict(model, reshape(stack(columns, axis=-1), (n * n, width)), batch_size=4096)
    output = astype(output.to("cpu"), "float32")
    ax = axes(ax, (5.6, 4.6), plain=True)
    extent = (left, right, low, high)
    ax.set(xlabel=f"feature {a}", ylabel=f"feature {b}", xlim=extent[:2], ylim=extent[2:])
    probabilities = _probabilities(output, targets)
    if probabilities is None:
        return _contours(ax, output, x, targets, (a, b), (across, along))
    _areas(ax, probabilities, n, extent)
    if targets is not None:
        _samples(ax, x, targets, (a, b), classes)
    return ax


def _around(values: Tensor) -> tuple[float, float]:
    low, high = float(min_(values)), float(max_(values))
    pad = 0.08 * (high - low) or 0.5
    return low - pad, high + pad


def _probabilities(output: Tensor, targets: list[Any] | None) -> Tensor | None:
    """(points, classes), or None where the output is a number that no classes are known for."""
    if output.ndim == 2 and output.shape[1] > 1:
        return functional.softmax(output, dim=-1)
    if targets is not None and set(targets) <= {0, 1}:
        p = functional.sigmoid(reshape(output, (-1,)))
        return stack([1.0 - p, p], axis=1)
    return None


def _areas(ax: Axes, probabilities: Tensor, n: int, extent: tuple[float, float, float, float]) -> None:
    best, sure = argmax(probabilities, axis=1).tolist(), max_(probabilities, axis=1).tolist()
    count = int(probabilities.shape[1])
    floor = 1.0 / count
    shades = [
        blend(colour(k), 0.12 + 0.4 * (s - floor) / (1 - floor)) for k, s in zip(best, sure, strict=True)
    ]
    picture = [shades[i * n : (i + 1) * n] for i in range(n)]
    ax.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest", zorder=0)
    if len(set(best)) > 1:
        for k in sorted(set(best)):
            inside = [[1.0 if v == k else 0.0 for v in best[i * n : (i + 1) * n]] for i in range(n)]
            ax.contour(
                inside, levels=[0.5], colors="0.25", linewidths=0.9, extent=extent, origin="lower", zorder=1
            )


def _samples(
    ax: Axes, x: Tensor, targets: list[Any], features: tuple[int, int], classes: Sequence[str] | None
) -> None:
    (a, b), known = features, sorted(set(targets))
    for k in known:
        rows = [i for i, t in enumerate(targets) if t == k]
        label = (
            str(classes[int(k)]) if classes is not None and 0 <= int(k) < len(classes) else f"class {int(k)}"
        )
        points = x.tolist()
        ax.scatter([points[i][a] for i in rows], [points[i][b] for i in rows], color=colour(int(k)), s=18, edgecolors="white",
                   linewidths=0.5, label=label, zorder=2)  # fmt: skip
    if len(known) <= 12:
        ax.legend(loc="best", fontsize="small")


def _contours(
    ax: Axes, output: Tensor, x: Tensor, targets: list[Any] | None, features: tuple[int, int], grid: tuple[Tensor, Tensor]
) -> Axes:  # fmt: skip
    n = int(grid[0].shape[0])
    values = reshape(output, (n, n)).tolist()
    spread = [v for row in values for v in row if math.isfinite(v)] + list(targets or [])
    low, high = min(spread), max(spread)
    drawn = ax.contourf(
        grid[0].tolist(), grid[1].tolist(), values, levels=20, cmap="viridis", vmin=low, vmax=high
    )
    if targets is not None:
        points = x.tolist()
        ax.scatter([p[features[0]] for p in points], [p[features[1]] for p in points], c=targets, cmap="viridis", vmin=low, vmax=high,
                   s=18, edgecolors="white", linewidths=0.5)  # fmt: skip
    ax.figure.colorbar(drawn, ax=ax, label="output")
    return ax
