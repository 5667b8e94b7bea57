"""L-BFGS: Newton's method with the inverse Hessian built from the last steps.

Source: Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), algorithms 7.4 (two-loop recursion), 3.5 and 3.6 (a step
that satisfies the strong Wolfe conditions), equation 3.59 (cubic interpolation).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from anynet.autograd.jit.host_callback import host_callback
from anynet.optim.flat_group import FlatGroup
from anynet.optim.groups import ParamsLike, choice, integer, not_negative, options_of, read
from anynet.optim.optimizer import Optimizer, evaluated
from anynet.tensor import to_plain, wrap
from anynet_backends import Array

__all__ = ["LBFGS"]


class _Point(NamedTuple):
    """A trial step along the direction: how far, the loss, the gradient, and its slope along the direction."""

    t: float
    loss: float
    grad: Array
    slope: float


def _cubic(a: _Point, b: _Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum, within bounds, of the cubic through two points with their slopes (eq. 3.59)."""
    low, high = bounds if bounds is not None else (min(a.t, b.t), max(a.t, b.t))
    left, right = (a, b) if a.t <= b.t else (b, a)
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    inside = d1**2 - a.slope * b.slope
    if not inside >= 0:
        return (low + high) / 2
    d2 = math.sqrt(inside)
    down = right.slope - left.slope + 2 * d2
    if not down:
        return (low + high) / 2
    return min(max(right.t - (right.t - left.t) * ((right.slope + d2 - d1) / down), low), high)


def _strong_wolfe(
    at: Callable[[float], _Point], start: _Point, t: float, reach: float, least: float, most: int
) -> tuple[_Point, int]:
    """A point with sufficient decrease and small slope (c₁ = 1e-4, c₂ = 0.9), or the best found in `most` trials; and how
    many there were. `reach` is the longest entry of the direction, `least` the shortest bracket worth dividing."""
    c1, c2 = 1e-4, 0.9
    before, now, trials, rounds = start, at(t), 1, 0
    bracket: list[_Point] = []
    done = False
    while rounds < most:  # until a bracket contains such a point
        if now.loss > start.loss + c1 * now.t * start.slope or (rounds > 1 and now.loss >= before.loss):
            bracket = [before, now]
            break
        if abs(now.slope) <= -c2 * start.slope:
            bracket, done = [now], True
            break
        if now.slope >= 0 or now.t == before.t:
            bracket = [before, now]
            break
        further = _cubic(before, now, (now.t + 0.01 * (now.t - before.t), now.t * 10))
        before, now = now, at(further)
        trials, rounds = trials + 1, rounds + 1
    if not bracket:
        bracket = [start, now]
    low, high = (0, 1) if bracket[0].loss <= bracket[-1].loss else (1, 0)
    stuck = False
    while not done and rounds < most and (wide := abs(bracket[1].t - bracket[0].t)) and wide * reach >= least:
        t = _cubic(bracket[0], bracket[1])
        ends = min(bracket[0].t, bracket[1].t), max(bracket[0].t, bracket[1].t)
        margin = 0.1 * (ends[1] - ends[0])
        if (
            min(ends[1] - t, t - ends[0]) < margin
        ):  # close to an end: a second time, or beyond it, step away from it
            if stuck or not ends[0] < t < ends[1]:
                t = ends[1] - margin if abs(t - ends[1]) < abs(t - ends[0]) else ends[0] + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        now = at(t)
        trials, rounds = trials + 1, rounds + 1
        if now.loss > start.loss + c1 * t * start.slope or now.loss >= bracket[low].loss:
            bracket[high] = now
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
        else:
            if abs(now.slope) <= -c2 * start.slope:
                done = True
            elif now.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = now
    return bracket[low if len(bracket) > 1 else 0], trials


class _Problem:
    """The loss as a function of the parameters in one vector."""

    def __init__(self, flat: FlatGroup, closure: Callable[[], Any]) -> None:
        self.flat, self.xp, self.closure = flat, flat.xp, closure

    def evaluate(self) -> tuple[Any, float, Array]:
        """The loss, as it is and as a number, and the gradient (zero where there is none)."""
        loss = evaluated(self.closure)
        for i, has_grad in enumerate(self.flat.ready()):
            if not has_grad:
                self.flat.grad_views[i][...] = 0.0
        return loss, float(loss), self.flat.widened(self.flat.grads)

    def dot(self, a: Array, b: Array) -> float:
        """a · b."""
        return float(to_plain(self.xp.sum(a * b)))

    def largest(self, a: Array) -> float:
        """The largest magnitude."""
        return float(self.xp.max(self.xp.abs(a)))

    def line_search(
        self, start: _Point, d: Array, t: float, group: dict[str, Any], evals: int
    ) -> tuple[_Point, int]:
        """Go to a point along d that satisfies the strong Wolfe conditions; the point, and how many were tried."""
        begin = self.flat.widened(self.flat.values)

        def at(t: float) -> _Point:
            self.flat.assign(begin + t * d)
            _, value, gradient = self.evaluate()
            return _Point(t, value, gradient, self.dot(gradient, d))

        least, most = group["tolerance_change"], group["max_eval"] - evals
        found, trials = _strong_wolfe(at, start, t, self.largest(d), least, most)
        self.flat.assign(begin + found.t * d)
        return found, trials


class LBFGS(Optimizer):
    """Limited-memory BFGS. One parameter group, one device, one dtype; `step` takes a closure that computes the loss again, with
    gradients, as often as the method asks for it.

    d = −H g, H from the last `history_size` pairs (s, y) of steps and changes of the gradient (two-loop recursion);
    p ← p + t d with t = `lr`, or by a line search with ``line_search_fn="strong_wolfe"``. It stops after `max_iter`
    iterations or `max_eval` evaluations (default 1.25 `max_iter`), where the largest entry of the gradient is at most
    `tolerance_grad`, or where step or loss change by less than `tolerance_change`.

    >>> import anynet as an
    >>> p = an.Parameter([-1.0, 2.0], dtype="float64")
    >>> optimizer = an.optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2  # Rosenbrock
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> [round(v, 5) for v in p.tolist()]
    [1.0, 1.0]

    Source: Liu, Nocedal: On the limited memory BFGS method for large scale optimization (1989); Nocedal, Wright:
      Numerical optimization (2006), algorithms 3.5 and 3.6.
    """

    kinds: ClassVar = {
        **dict.fromkeys(("max_iter", "max_eval", "history_size"), integer(1)),
        **dict.fromkeys(("tolerance_grad", "tolerance_change"), not_negative),
        "line_search_fn": choice(None, "strong_wolfe"),
    }

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if max_eval is None:
            max_eval = read("LBFGS", "max_iter", integer(1), max_iter) * 5 // 4
        super().__init__(params, options_of(locals()))
        if len(self.param_groups) != 1 or len(self._groups()[0].flats) > 1:
            msg = "LBFGS takes one parameter group, of one dtype on one device"
            raise ValueError(msg)
        self._memory: dict[str, Any] = {}

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Refused where there is a group already."""
        msg = "LBFGS takes one parameter group"
        raise ValueError(msg)

    @host_callback
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Iterate; the loss at the beginning."""
        if closure is None:
            msg = "LBFGS: step takes a closure that computes the loss and its gradients, and returns the loss"
            raise TypeError(msg)
        self._settle()
        (own,) = self._groups()
        if self._moved(own.flats[0]):
            own.flats = self._repack(own, own.flats)
        (flat,) = own.flats
        group = own.now()
        problem = _Problem(flat, closure)
        first, loss, g = problem.evaluate()
        evals = 1
        if problem.largest(g) <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            d, t, slope = self._next_direction(problem, group, g)
            before, last = loss, iteration == group["max_iter"]
            if slope > -group["tolerance_change"]:
                break
            if group["line_search_fn"] is not None:
                start = _Point(0.0, loss, g, slope)
                found, trials = problem.line_search(start, d, t, group, evals)
                t, loss, g = found.t, found.loss, found.grad
                self._memory["t"] = t
            else:
                flat.assign(flat.widened(flat.values) + t * d)
                trials = 0 if last else 1
                if not last:
                    _, loss, g = problem.evaluate()
            evals += trials
            if (
                last
                or evals >= group["max_eval"]
                or problem.largest(g) <= group["tolerance_grad"]
                or problem.largest(d * t) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _next_direction(
        self, problem: _Problem, group: dict[str, Any], g: Array
    ) -> tuple[Array, float, float]:
        """The direction of an iteration, the step to try, and the slope along it; all are remembered."""
        memory, xp = self._memory, problem.xp
        memory["n_iter"] = memory.get("n_iter", 0) + 1
        if memory["n_iter"] == 1:
            d, t = -g, min(1.0, 1.0 / float(xp.sum(xp.abs(g)))) * group["lr"]
            memory["pairs"], memory["scale"] = [], 1.0
        else:
            d, t = self._direction(memory, g, group["history_size"], problem.dot), group["lr"]
        memory["grad"], memory["d"], memory["t"] = g, d, t
        return d, t, problem.dot(g, d)

    @staticmethod
    def _direction(
        memory: dict[str, Any], g: Array, size: int, dot: Callable[[Array, Array], float]
    ) -> Array:
        """−H g by the two-loop recursion, with the newest pair where its curvature is positive."""
        y, s = g - memory["grad"], memory["d"] * memory["t"]
        curvature = dot(y, s)
        pairs: list[tuple[Array, Array, float]] = memory["pairs"]
        if curvature > 1e-10:
            if len(pairs) == size:
                pairs.pop(0)
            pairs.append((s, y, 1.0 / curvature))
            memory["scale"] = curvature / dot(y, y)
        q = -g
        weights = []
        for s, y, rho in reversed(pairs):
            weights.append(dot(s, q) * rho)
            q = q - weights[-1] * y
        q = q * memory["scale"]
        for (s, y, rho), weight in zip(pairs, reversed(weights), strict=True):
            q = q + s * (weight - dot(y, q) * rho)
        return q

    def sparse_gradients(self, group: dict[str, Any]) -> str:
        """As PyTorch: the directions are those of all numbers."""
        return "arrays"

    def state_dict(self) -> dict[str, Any]:
        """The group, and what was learned of the curvature."""
        memory = {k: v for k, v in self._memory.items() if k != "pairs"}
        entry: dict[str, Any] = {k: wrap(_copy(v)) if hasattr(v, "dtype") else v for k, v in memory.items()}
        for i, (s, y, rho) in enumerate(self._memory.get("pairs", ())):
            entry |= {f"s{i}": wrap(_copy(s)), f"y{i}": wrap(_copy(y)), f"rho{i}": rho}
        numbers = list(range(len(self.param_groups[0]["params"])))
        group = {k: v for k, v in self.param_groups[0].items() if k != "params"}
        return {"state": {0: entry} if entry else {}, "param_groups": [{**group, "params": numbers}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`; everything is checked before anything changes."""
        (flat,) = self._groups()[0].flats
        size = flat.offsets[-1]
        entry = dict(next(iter(state.get("state", {}).values()), {}))
        for name, value in entry.items():
            if hasattr(value, "shape") and tuple(value.shape) not in ((size,), ()):
                msg = f"LBFGS: {name} has shape {tuple(value.shape)}, expected {(size,)}"
                raise ValueError(msg)
        super().load_state_dict({"state": {}, "param_groups": state.get("param_groups", [])})
        plain = {k: flat.moved(v) if hasattr(v, "shape") and v.shape else v for k, v in entry.items()}
        count = sum(k.startswith("rho") for k in plain)
        self._memory = {k: plain[k] for k in ("n_iter", "scale", "grad", "d", "t") if k in plain}
        if plain:
            self._memory["n_iter"] = int(plain["n_iter"])
            for name in ("scale", "t"):
                if name in plain:
                    self._memory[name] = float(plain[name])
            self._memory["pairs"] = [
                (plain[f"s{i}"], plain[f"y{i}"], float(plain[f"rho{i}"])) for i in range(count)
            ]


def _copy(a: Array) -> Array:
    return to_plain(wrap(a) + 0.0)
