"""The loss around a network's weights, along directions that are normalised filter by filter (Li et al. 2018)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops import elementwise as e
from anynet.ops.creation import asarray, zeros_like
from anynet.ops.reductions import sum as sum_
from anynet.random import normal
from anynet.streams import Generator, fork_rng
from anynet.tensor import Tensor, no_grad
from anynet.train.batches import Batches, call, device_of, loader_of
from anynet.train.objectives import Objective, rows
from anynet.viz.figures import COLOURS, axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Landscape", "landscape"]


class Landscape:
    """The loss at θ + a d₁ + b d₂, for a and b on a grid around the weights θ; in one dimension at θ + a d₁.

    Parameters:
      model: the network, which stays as it is: the weights are changed in a copy. Evaluation mode.
      data: what `fit` takes; of long data the first `samples` samples.
      loss: as for `fit`.
      directions: "filter": drawn from a normal distribution and scaled so that each filter (row of a matrix) has the norm of the
        filter of θ, with nothing for biases and normalisation (Li, Xu, Taylor, Studer, Goldstein 2018); "layer": scaled by whole
        arrays; "plain": not scaled, but of the norm of θ as a whole; or one or two dicts of arrays by the names of parameters.
      n: points along each direction, an odd number, so that θ itself is one.
      span: the grid reaches from −span to span.
      dims: 1 or 2.
      seed: of the directions.

    Attributes: `values`, a list (of rows b, in two dimensions) of losses; `steps`, the places a and b along the directions; `loss`, that
    at θ. `plot` draws them.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1)
    >>> found = an.viz.Landscape(net, (an.ones((4, 2)), an.zeros((4, 1))), "mse", n=5)
    >>> len(found.values), len(found.values[0]), found.values[2][2] == found.loss
    (5, 5, True)
    """

    def __init__(
        self,
        model: Module,
        data: Any,
        loss: Any,
        *,
        directions: Any = "filter",
        n: int = 41,
        span: float = 1.0,
        dims: int = 2,
        seed: int = 0,
        samples: int = 2000,
        batch_size: int = 500,
    ) -> None:
        if not isinstance(n, int) or n < 3 or n % 2 == 0:
            msg = f"viz.landscape: n must be an odd number ≥ 3, got {n!r}"
            raise ValueError(msg)
        if dims not in (1, 2):
            msg = f"viz.landscape: dims must be 1 or 2, got {dims!r}"
            raise ValueError(msg)
        if not span > 0:
            msg = f"viz.landscape: span must be > 0, got {span}"
            raise ValueError(msg)
        objective = Objective(loss)
        with fork_rng(seed), no_grad():
            twin = copy.deepcopy(model)
            batches = _batches(twin, data, samples, batch_size)
            found = _directions(twin, directions, dims, seed)
            weights = {name: asarray(p.detach(), copy=True) for name, p in twin.named_parameters()}
            self.steps = [span * (2.0 * i / (n - 1) - 1.0) for i in range(n)]
            with evaluating(twin):

                def at(a: float, b: float) -> float:
                    for name, p in twin.named_parameters():
                        value = weights[name] + a * found[0][name] if a else weights[name]
                        p.assign_(value + b * found[1][name] if b else value)
                    return _mean_loss(twin, batches, objective)

                self.values: list[Any] = (
                    [at(a, 0.0) for a in self.steps]
                    if dims == 1
                    else [[at(a, b) for a in self.steps] for b in self.steps]
                )
        self.dims = dims
        middle = self.values[n // 2]
        self.loss: float = middle if dims == 1 else middle[n // 2]

    def plot(
        self, ax: Axes | None = None, *, surface: bool = False, log: bool = False, levels: int = 24
    ) -> Axes:
        """Draw the loss: a curve, or contours with a cross at θ; `surface` in three dimensions, `log` its logarithm."""
        if self.dims == 1:
            ax = axes(ax)
            ax.plot(self.steps, self.values, color=COLOURS[0])
            ax.plot([0.0], [self.loss], "o", color=COLOURS[1])
            if log:
                ax.set_yscale("log")
            ax.set(xlabel="a", ylabel="loss", title="loss along a direction")
            return ax
        shown = [[_shown(v, log) for v in row] for row in self.values]
        if surface:
            return self._surface(ax, shown, log)
        ax = axes(ax, (5.6, 4.6), plain=True)
        drawn = ax.contourf(self.steps, self.steps, shown, levels=levels, cmap="viridis")
        ax.contour(self.steps, self.steps, shown, levels=levels, colors="white", linewidths=0.4, alpha=0.5)
        ax.plot([0.0], [0.0], "+", color="white", markersize=12, markeredgewidth=2)
        ax.set(xlabel="a", ylabel="b", title="loss around the weights", aspect="equal")
        ax.figure.colorbar(drawn, ax=ax, label="log₁₀ loss" if log else "loss")
        return ax

    def _surface(self, ax: Axes | None, shown: list[list[float]], log: bool) -> Axes:
        made: Any = ax
        if made is None:
            made = pyplot().figure(figsize=(6.4, 5.0), layout="constrained").add_subplot(projection="3d")
        n = len(self.steps)
        across, along = asarray([self.steps] * n).numpy(), asarray([[b] * n for b in self.steps]).numpy()
        made.plot_surface(
            across, along, asarray(shown).numpy(), cmap="viridis", linewidth=0, antialiased=True
        )
        made.set(xlabel="a", ylabel="b", zlabel="log₁₀ loss" if log else "loss")
        return made  # type: ignore[no-any-return]


def landscape(
    model: Module,
    data: Any,
    loss: Any,
    *,
    directions: Any = "filter",
    n: int = 41,
    span: float = 1.0,
    dims: int = 2,
    seed: int = 0,
    samples: int = 2000,
    surface: bool = False,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss around a network's weights; the options are those of `Landscape`, which has the numbers, and of its `plot`.

    >>> import anynet as an
    >>> ax = an.viz.landscape(net, (x, y), "cross_entropy", n=21)  # doctest: +SKIP
    """
    found = Landscape(
        model, data, loss, directions=directions, n=n, span=span, dims=dims, seed=seed, samples=samples
    )
    return found.plot(ax, surface=surface, log=log) if dims == 2 else found.plot(ax, log=log)


def _shown(value: float, log: bool) -> float:
    if not math.isfinite(value):
        return math.nan
    return math.log10(max(value, 1e-30)) if log else value


def _batches(model: Module, data: Any, samples: int, batch_size: int) -> list[tuple[Any, Any]]:
    device = device_of(model)
    loader = loader_of("viz.landscape", data, batch_size, False, 0, device)
    batches, found, seen = Batches("viz.landscape", model, device), [], 0
    for batch in loader:
        found.append(batches.pair(batch))
        seen += rows(found[-1][1])
        if seen >= samples:
            break
    return found


def _mean_loss(model: Module, batches: list[tuple[Any, Any]], objective: Objective) -> float:
    total = weights = 0.0
    for x, y in batches:
        output = call(model, x)
        weight = objective.weight(output, y) if objective.reduction != "sum" else 1.0
        total += float(objective(output, y)) * weight
        weights += weight
    return total if objective.reduction == "sum" else total / weights if weights else math.nan


def _directions(model: Module, given: Any, dims: int, seed: int) -> list[Mapping[str, Any]]:
    parameters = dict(model.named_parameters())
    if not parameters:
        msg = "viz.landscape: the model has no parameters"
        raise ValueError(msg)
    if isinstance(given, str):
        if given not in ("filter", "layer", "plain"):
            msg = f"viz.landscape: directions must be 'filter', 'layer', 'plain' or dicts of arrays, got {given!r}"
            raise ValueError(msg)
        draws = Generator(seed)
        return [_drawn(parameters, given, draws) for _ in range(dims)]
    found = [given] if isinstance(given, Mapping) else list(given)
    if len(found) != dims or not all(isinstance(d, Mapping) for d in found):
        msg = f"viz.landscape: directions must be {dims} dicts of arrays by name for dims={dims}"
        raise ValueError(msg)
    for direction in found:
        for name, p in parameters.items():
            shape = tuple(getattr(direction.get(name), "shape", ()))
            if name not in direction or shape != tuple(p.shape):
                msg = (
                    f"viz.landscape: a direction must have an array of shape {tuple(p.shape)} "
                    f"for {name!r}, got {direction.get(name)!r:.40}"
                )
                raise ValueError(msg)
    return [{n: asarray(d[n], dtype=p.dtype, device=p.device) for n, p in parameters.items()} for d in found]


def _drawn(parameters: Mapping[str, Any], kind: str, draws: Generator) -> dict[str, Tensor]:
    made = {
        n: normal(tuple(p.shape), generator=draws, dtype=p.dtype, device=p.device)
        for n, p in parameters.items()
    }
    if kind == "plain":
        own = sum(float(sum_(p.detach() ** 2)) for p in parameters.values())
        size = sum(float(sum_(d**2)) for d in made.values())
        return {n: d * math.sqrt(own / size) for n, d in made.items()}
    found = {}
    for name, p in parameters.items():
        if p.ndim < 2:
            found[name] = zeros_like(p.detach())
            continue
        over = tuple(range(1, p.ndim)) if kind == "filter" else None
        norms = [e.sqrt(sum_(t * t, axis=over, keepdims=True)) for t in (p.detach(), made[name])]
        found[name] = made[name] * (norms[0] / (norms[1] + 1e-12))
    return found
