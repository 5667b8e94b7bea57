"""Optimizers racing on functions of two numbers whose ways down are known to be hard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anynet import optim
from anynet._hints import closest
from anynet.ops import elementwise as e
from anynet.ops.creation import asarray, linspace
from anynet.ops.manipulation import reshape
from anynet.tensor import Parameter, Tensor, no_grad
from anynet.viz.figures import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "PROBLEMS", "Problem", "Race", "beale", "booth", "himmelblau", "optimizers", "race", "rastrigin", "ravine", "rosenbrock", "saddle",
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A function of two numbers to minimise: f(x, y), the part of the plane that is drawn, where to start, where the minima are, and
    a learning rate for optimizers that are given none."""

    name: str
    function: Callable[[Any, Any], Any]
    x: tuple[float, float]
    y: tuple[float, float]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...] = ()
    lr: float = 0.01

    def __call__(self, x: Any, y: Any) -> Any:
        """The value at a point, or at arrays of points."""
        return self.function(x, y)


rosenbrock = Problem(
    "Rosenbrock", lambda x, y: (1.0 - x) ** 2 + 100.0 * (y - x * x) ** 2, (-2.0, 2.0), (-1.0, 3.0), (-1.5, 2.0), ((1.0, 1.0),), 1e-3
)  # fmt: skip
"""(1 − x)² + 100 (y − x²)²: a curved valley with a flat floor (Rosenbrock 1960)."""
beale = Problem(
    "Beale",
    lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y * y) ** 2 + (2.625 - x + x * y * y * y) ** 2,
    (-4.5, 4.5), (-4.5, 4.5), (1.0, 1.5), ((3.0, 0.5),), 1e-3,
)  # fmt: skip
"""(1.5 − x + x y)² + (2.25 − x + x y²)² + (2.625 − x + x y³)²: flat, with steep walls (Beale 1958)."""
himmelblau = Problem(
    "Himmelblau", lambda x, y: (x * x + y - 11.0) ** 2 + (x + y * y - 7.0) ** 2, (-5.0, 5.0), (-5.0, 5.0), (0.0, -0.5),
    ((3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)), 1e-2,
)  # fmt: skip
"""(x² + y − 11)² + (x + y² − 7)²: four minima of the same depth (Himmelblau 1972)."""
saddle = Problem(
    "saddle",
    lambda x, y: x * x - y * y + 0.05 * y * y * y * y,
    (-3.0, 3.0),
    (-4.5, 4.5),
    (2.5, 1e-3),
    ((0.0, 3.162278), (0.0, -3.162278)),
    1e-1,
)
"""x² − y² + y⁴/20: a saddle at the origin, from where almost nothing leads away."""
booth = Problem(
    "Booth",
    lambda x, y: (x + 2.0 * y - 7.0) ** 2 + (2.0 * x + y - 5.0) ** 2,
    (-10.0, 10.0),
    (-10.0, 10.0),
    (-8.0, -6.0),
    ((1.0, 3.0),),
    1e-2,
)
"""(x + 2y − 7)² + (2x + y − 5)²: a bowl, aslant."""
ravine = Problem(
    "ravine",
    lambda x, y: 0.5 * x * x + 25.0 * y * y,
    (-10.0, 10.0),
    (-3.0, 3.0),
    (-9.0, 2.5),
    ((0.0, 0.0),),
    3e-2,
)
"""x²/2 + 25 y²: a bowl that is fifty times as steep in one direction."""
rastrigin = Problem(
    "Rastrigin", lambda x, y: 20.0 + x * x + y * y - 10.0 * (e.cos(2 * math.pi * x) + e.cos(2 * math.pi * y)), (-5.12, 5.12), (-5.12, 5.12),
    (-2.8, 3.6), ((0.0, 0.0),), 1e-2,
)  # fmt: skip
"""20 + x² + y² − 10 (cos 2πx + cos 2πy): a bowl full of dents (Rastrigin 1974)."""

PROBLEMS = {p.name.lower(): p for p in (rosenbrock, beale, himmelblau, saddle, booth, ravine, rastrigin)}
"""The problems by name."""


@dataclass
class Race:
    """The ways of some optimizers: of each the points (x, y), the start first, and the values there."""

    problem: Problem
    paths: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def plot(self, ax: Axes | None = None, *, levels: int = 24) -> Axes:
        """Contours of the function with the ways over them; a star at each minimum."""
        ax, p = axes(ax, (6.4, 4.8), plain=True), self.problem
        x, y, z = _surface(p)
        low = min(min(row) for row in z)
        shown = [[math.log10(max(v - low, 0.0) + 1e-3) for v in row] for row in z]
        top, bottom = max(map(max, shown)), min(map(min, shown))
        ax.contourf(x, y, shown, levels=levels, cmap="Greys", vmin=bottom, vmax=top + (top - bottom))
        for a, b in p.minima:
            ax.plot([a], [b], "*", color="black", markersize=11, markeredgecolor="white", zorder=5)
        for i, (name, points) in enumerate(self.paths.items()):
            colour = COLOURS[i % len(COLOURS)]
            ax.plot(
                [q[0] for q in points],
                [q[1] for q in points],
                color=colour,
                label=name,
                linewidth=1.8,
                zorder=3,
            )
            ax.plot([points[-1][0]], [points[-1][1]], "o", color=colour, markeredgecolor="white", zorder=4)
        ax.set(title=p.name, xlabel="x", ylabel="y", xlim=p.x, ylim=p.y)
        ax.legend(loc="upper left", fontsize="small")
        return ax


def optimizers(
    contestants: Mapping[str, Any] | Sequence[Any],
    problem: str | Problem | Callable[[Tensor, Tensor], Tensor] = rosenbrock,
    *,
    steps: int = 200,
    start: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the ways of optimizers over the contours of a function; `race` computes them without drawing, and says what is taken.

    >>> import anynet as an
    >>> ax = an.viz.optimizers({"SGD": {"lr": 1e-3}, "Adam": {"lr": 0.1}}, problem=an.viz.rosenbrock)  # doctest: +SKIP
    """
    return race(contestants, problem, steps=steps, start=start).plot(ax)


def race(
    contestants: Mapping[str, Any] | Sequence[Any],
    problem: str | Problem | Callable[[Tensor, Tensor], Tensor] = rosenbrock,
    *,
    steps: int = 200,
    start: tuple[float, float] | None = None,
) -> Race:
    """Let optimizers go down a function from the same point.

    Parameters:
      contestants: by name: a class, a function params → optimizer, a dict of options for the optimizer that the name names
        (``{"Adam": {"lr": 0.1}}``), or its name; or a list of names.
      problem: one of `PROBLEMS` by name or itself, a `Problem`, or a function (x, y) of Tensors, drawn on [−3, 3]².
      steps: how many steps each takes; one that leaves the finite numbers stops there.
      start: where they begin; the problem's own point unless given.

    Optimizers that are given no learning rate take the problem's (L-BFGS: 1). What is computed is float64.

    >>> import anynet as an
    >>> found = an.viz.race({"SGD": {"lr": 0.01}, "Adam": an.optim.Adam}, "ravine", steps=50)
    >>> {name: len(path) for name, path in found.paths.items()}
    {'SGD': 51, 'Adam': 51}
    """
    if not isinstance(steps, int) or steps < 1:
        msg = f"viz.race: steps must be a whole number ≥ 1, got {steps!r}"
        raise ValueError(msg)
    problem = _problem(problem)
    named = contestants if isinstance(contestants, Mapping) else {str(c): c for c in contestants}
    if isinstance(contestants, str) or not named:
        msg = 'viz.race: contestants must be optimizers by name, such as {"SGD": {"lr": 0.01}, "Adam": an.optim.Adam}'
        raise TypeError(msg)
    makers = {name: _maker(name, given, problem.lr) for name, given in named.items()}
    found = Race(problem)
    for name, make in makers.items():
        found.paths[name], found.values[name] = _way(problem, make, steps, start or problem.start)
    return found


def _problem(problem: Any) -> Problem:
    if isinstance(problem, Problem):
        return problem
    if isinstance(problem, str):
        if problem.lower() not in PROBLEMS:
            near = closest(problem, PROBLEMS)
            msg = f"viz.race: unknown problem {problem!r}; " + (
                f"did you mean {near!r}?" if near else f"known: {', '.join(PROBLEMS)}"
            )
            raise ValueError(msg)
        return PROBLEMS[problem.lower()]
    if not callable(problem):
        msg = (
            f"viz.race: problem must be a name, a Problem or a function (x, y), got {type(problem).__name__}"
        )
        raise TypeError(msg)
    name = getattr(problem, "__name__", "f").replace("<lambda>", "f")
    return Problem(name, problem, (-3.0, 3.0), (-3.0, 3.0), (-2.0, 2.0))


def _classes() -> dict[str, Any]:
    found = {n: getattr(optim, n) for n in optim.__all__}
    return {
        n: c
        for n, c in found.items()
        if isinstance(c, type) and issubclass(c, optim.Optimizer) and c is not optim.Optimizer
    }


def _rate(cls: type, lr: float) -> dict[str, float]:
    """The problem's learning rate, but for L-BFGS, whose own of 1 is a whole step."""
    return {} if issubclass(cls, optim.LBFGS) else {"lr": lr}


def _maker(name: str, given: Any, lr: float) -> Callable[[list[Parameter]], Any]:
    if isinstance(given, (str, Mapping)) or given is None or given is Ellipsis:
        wanted = given if isinstance(given, str) else name
        classes = _classes()
        folded = {n.lower(): n for n in classes}
        if wanted.lower().replace("_", "") not in folded:
            near = closest(wanted, classes)
            msg = f"viz.race: unknown optimizer {wanted!r}; " + (
                f"did you mean {near!r}?" if near else f"known: {', '.join(classes)}"
            )
            raise ValueError(msg)
        cls = classes[folded[wanted.lower().replace("_", "")]]
        options = {**_rate(cls, lr), **(given if isinstance(given, Mapping) else {})}
        return lambda params: cls(params, **options)
    if isinstance(given, type):
        return lambda params: given(params, **_rate(given, lr))
    if callable(given) and not isinstance(given, optim.Optimizer):
        return given  # type: ignore[no-any-return]
    msg = f"viz.race: {name} must be a class, a function params → optimizer, or a dict of options, got {type(given).__name__}"
    raise TypeError(msg)


def _way(
    problem: Problem, make: Callable[[list[Parameter]], Any], steps: int, start: tuple[float, float]
) -> tuple[list[tuple[float, float]], list[float]]:
    x, y = (Parameter(asarray(float(v), dtype="float64")) for v in start)
    optimizer = make([x, y])

    def loss() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = problem(x, y)
        value.backward()
        return value

    points, values = [(float(x), float(y))], [float(problem(x.detach(), y.detach()))]
    for _ in range(steps):
        if isinstance(optimizer, (optim.LBFGS,)):
            optimizer.step(loss)
        else:
            loss()
            optimizer.step()
        with no_grad():
            point, value = (float(x), float(y)), float(problem(x, y))
        if not all(map(math.isfinite, (*point, value))) or max(map(abs, point)) > 1e12:
            break
        points.append(point)
        values.append(value)
    return points, values


def _surface(problem: Problem, count: int = 160) -> tuple[list[float], list[float], list[list[float]]]:
    with no_grad():
        x, y = linspace(*problem.x, count, dtype="float64"), linspace(*problem.y, count, dtype="float64")
        z = problem(reshape(x, (1, count)), reshape(y, (count, 1)))
    return x.tolist(), y.tolist(), z.tolist()
