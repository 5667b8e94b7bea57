"""Two-layer ReLU networks as convex programs, solved with a certificate.

    min  ½‖(XU)₊ a − y‖² + (β/2)(‖U‖² + ‖a‖²)                                                       over all networks of any width

has the same value as the convex program over the activation patterns Dᵢ = diag(1[X uᵢ ≥ 0])

    min  ½‖Σᵢ Dᵢ X (vᵢ − wᵢ) − y‖² + β Σᵢ (‖vᵢ‖ + ‖wᵢ‖)    with (2Dᵢ − I) X vᵢ ≥ 0 and (2Dᵢ − I) X wᵢ ≥ 0 for each i.

Its dual is max νᵀy − ½‖ν‖² with |νᵀ(Xu)₊| ≤ β for all ‖u‖ ≤ 1: each ν that satisfies this is a lower bound on the loss of *every* such
network, however it was trained. Without the cone constraints it is the network of gated ReLUs, 1[x·gᵢ ≥ 0] x·vᵢ.

Sources: Pilanci, Ergen: Neural networks are convex regularizers (ICML 2020); gated: Mishkin, Sahiner, Pilanci: Fast convex optimization
for two-layer ReLU networks (ICML 2022).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.methods.least_squares import on_host, solve_nnls
from anynet.nn.activations import ReLU
from anynet.nn.containers import Sequential
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops import elementwise as e
from anynet.ops.linear import matmul
from anynet.ops.manipulation import astype
from anynet.tensor import Buffer, Parameter, Tensor, unwrap, wrap
from anynet_backends import Array, Backend

__all__ = [
    "Certificate",
    "ConvexTwoLayer",
    "GatedReLU",
    "activation_patterns",
    "certificate",
    "convex_two_layer",
]

_MOST = 200_000  # patterns, and subsets of rows, that are enumerated


def activation_patterns(x: Any) -> tuple[Tensor, Tensor]:
    """All patterns 1[X u ≥ 0] of the regions into which the rows of X (n, d) cut the space of u: (P, n) of 0 and 1, and a u in each
    region (P, d). For d = 2 and rows in general position there are 2n, in general at most 2 Σ_{k<r} C(n−1, k) for rank r.

    Each region is a cone with an edge, which r − 1 of the hyperplanes determine; around an edge the regions are those of the
    hyperplanes through it, in one dimension less. Rows of zeros are 1 everywhere. ValueError where there would be more than 200,000.

    >>> import anynet as an
    >>> an.methods.activation_patterns([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])[0].shape
    (6, 3)
    """
    xp, rows = on_host("activation_patterns", "X", x, 2)
    patterns, points = _regions(xp, rows)
    return wrap(patterns), wrap(points)


def _regions(xp: Backend, rows: Array) -> tuple[Array, Array]:
    _, values, vh = xp.linalg.svd(rows, full_matrices=False)
    rank = int(xp.sum(values > 1e-10 * max(float(values[0]), 1e-300))) if min(rows.shape) else 0
    n = rows.shape[0]
    subsets = math.comb(n, max(rank - 1, 0))
    if subsets > _MOST or (rank > 1 and 2 * sum(math.comb(n - 1, k) for k in range(rank)) > _MOST):
        msg = (
            f"activation_patterns: {n} samples of rank {rank} have too many patterns to enumerate; give fewer samples or features, "
            "or patterns= a number to sample"
        )
        raise ValueError(msg)
    if rank == 0:
        return xp.ones((1, n)), xp.zeros((1, rows.shape[1]))
    basis = vh[:rank, :]
    lengths = xp.sqrt(xp.sum(rows * rows, axis=1))
    live = lengths > 1e-12 * float(xp.max(lengths))
    unit = (
        xp.matmul(rows, xp.matrix_transpose(basis)) / xp.where(live, lengths, xp.ones_like(lengths))[:, None]
    )
    unit = xp.where(live[:, None], unit, xp.zeros_like(unit))
    found = _around_edges(xp, unit, rank)
    keys = list(found)
    patterns = xp.asarray([[float(bit) for bit in key] for key in keys])
    points = xp.stack([found[key] for key in keys])
    return patterns, xp.matmul(points, basis)


def _around_edges(xp: Backend, unit: Array, rank: int) -> dict[tuple[bool, ...], Array]:
    """Pattern → a point within its region, for rows of length 1 or 0 that span all `rank` dimensions."""
    found: dict[tuple[bool, ...], Array] = {}
    if rank == 1:
        for sign in (1.0, -1.0):
            found[_signs(xp, unit[:, 0] * sign)] = xp.asarray([sign])
        return found
    seen: set[tuple[bool, ...]] = set()  # the hyperplanes through an edge: each edge is looked at once
    for subset in itertools.combinations(range(unit.shape[0]), rank - 1):
        _, values, vh = xp.linalg.svd(xp.take(unit, xp.asarray(subset), axis=0), full_matrices=True)
        if float(values[-1]) < 1e-9:
            continue
        edge, rest = vh[-1, :], vh[:-1, :]
        heights = xp.matmul(unit, edge)
        through = xp.abs(heights) < 1e-9
        if (key := tuple(through.tolist())) in seen:
            continue
        seen.add(key)
        inner = xp.where(
            through[:, None], xp.matmul(unit, xp.matrix_transpose(rest)), xp.zeros((unit.shape[0], rank - 1))
        )
        away = xp.where(through, xp.full_like(heights, math.inf), xp.abs(heights))
        for point in _around_edges(xp, inner, rank - 1).values():
            direction = xp.matmul(point, rest)
            reach = 0.5 * min(float(xp.min(away)), 1.0) / float(xp.sum(direction * direction)) ** 0.5
            for sign in (1.0, -1.0):
                u = sign * edge + reach * direction
                found.setdefault(_signs(xp, xp.matmul(unit, u)), u)
    return found


def _signs(xp: Backend, heights: Array) -> tuple[bool, ...]:
    return tuple((heights >= -1e-13).tolist())


class GatedReLU(Module):
    """y = 1[x·gᵢ ≥ 0] x·vᵢ with fixed gates g: x (…, d) → (…, units). Parameters: ``weight`` v; buffer ``gate`` g, both (units, d).

    >>> import anynet as an
    >>> layer = an.methods.GatedReLU(an.asarray([[1.0]]), an.asarray([[3.0]]))
    >>> layer(an.asarray([[2.0], [-2.0]])).tolist()
    [[6.0], [0.0]]
    """

    def __init__(self, gate: Any, weight: Any) -> None:
        if len(gate.shape) != 2 or tuple(gate.shape) != tuple(weight.shape):
            msg = f"GatedReLU: gate and weight must be (units, d), got {tuple(gate.shape)} and {tuple(weight.shape)}"
            raise ValueError(msg)
        self.gate = Buffer(gate)
        self.weight = Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """The gated products."""
        product = matmul(x, self.weight.mT)
        return product * astype(e.greater_equal(matmul(x, self.gate.mT), 0.0), product.dtype)


class ConvexTwoLayer(NamedTuple):
    """What `convex_two_layer` found. float64, on the host.

    ``objective`` belongs to the network at hand, ``bound`` is a lower bound on the program (from its dual), so the optimum lies between:
    ``gap`` = objective − bound. ``complete`` says whether all patterns were there; for ReLU the bound then holds for *every* network
    (of any width), else for those with the sampled patterns. ``weights`` (m, d), ``signs`` (m,) and ``gates`` (m, d) are the neurons:
    f(x) = Σ signs · (x·weights)₊, or gated; ``patterns`` is how many were used, ``iterations`` how many times the dual was asked.
    """

    objective: float
    bound: float
    weights: Tensor
    signs: Tensor
    gates: Tensor
    gated: bool
    bias: bool
    complete: bool
    patterns: int
    iterations: int

    @property
    def gap(self) -> float:
        """objective − bound."""
        return self.objective - self.bound

    def network(self) -> Sequential:
        """The network with balanced weights, ‖uⱼ‖ = |aⱼ|: (n, d) → (n, 1), float64."""
        w = unwrap(self.weights)
        if not w.shape[0]:
            msg = "ConvexTwoLayer.network: the optimum is the network without neurons (beta is too large for these data)"
            raise ValueError(msg)
        xp, _ = on_host("network", "weights", w, 2)
        root = xp.sqrt(xp.sqrt(xp.sum(w * w, axis=1)))
        u, a = w / root[:, None], (unwrap(self.signs) * root)[None, :]
        d = w.shape[1] - self.bias
        last = Linear(w.shape[0], 1, bias=False, dtype="float64", device="cpu")
        last.weight.assign_(a)
        if self.gated:
            if self.bias:
                msg = "ConvexTwoLayer.network: a gated network with bias=True takes inputs with a column of ones; use bias=False and add it"
                raise ValueError(msg)
            return Sequential(GatedReLU(unwrap(self.gates), u), last)
        first = Linear(d, w.shape[0], bias=self.bias, dtype="float64", device="cpu")
        first.weight.assign_(u[:, :d])
        if first.bias is not None:
            first.bias.assign_(u[:, d])
        return Sequential(first, ReLU(), last)


def convex_two_layer(
    x: Any,
    y: Any,
    beta: float,
    *,
    patterns: int | None = None,
    gated: bool = False,
    bias: bool = False,
    tolerance: float = 1e-8,
    max_iterations: int = 500,
) -> ConvexTwoLayer:
    """The best two-layer ReLU (or gated ReLU) network for X (n, d) and y (n,), with a bound that proves how good it is.

    `beta` > 0 weighs (‖U‖² + ‖a‖²)/2 against half the *sum* of squared errors. All activation patterns are used unless
    `patterns` says how many gates to draw (Gaussian, from `anynet.random`): then the program is that of the patterns drawn. `bias` adds a
    column of ones (the bias is penalised as the weights are). Stops at objective − bound ≤ tolerance · max(1, objective).

    The solver is an exchange method (fully corrective conditional gradients): the residual ν = y − f gives for each cone the neuron
    that helps most, u = Π(±XᵀDᵢν) (a projection by non-negative least squares); those with ‖u‖ > β are added and all output weights
    solved for exactly (non-negative, with an L1 penalty); neurons of one cone are added up. ν, scaled to be feasible, is the bound.

    Errors: ValueError for shapes, numbers that are not finite, beta ≤ 0, and too many patterns to enumerate; RuntimeError where the gap
    is not reached in `max_iterations` (with the gap that was).

    >>> import anynet as an
    >>> x = [[-2.0, 1.0], [-1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
    >>> found = an.methods.convex_two_layer(x, [1.0, -1.0, 1.0, 1.0, -1.0], 1e-3)
    >>> round(found.objective, 8), found.patterns, found.gap < 1e-8
    (0.01011683, 10, True)
    """
    where = "convex_two_layer"
    check_number(where, "beta", beta, 0, open=True)
    check_number(where, "tolerance", tolerance, 0, open=True)
    check_count(where, "max_iterations", max_iterations)
    xp, rows = on_host(where, "X", x, 2)
    _, targets = on_host(where, "y", y, 1)
    if targets.shape[0] != rows.shape[0]:
        msg = f"{where}: X and y must be (n, d) and (n,), got {tuple(rows.shape)} and {tuple(targets.shape)}"
        raise ValueError(msg)
    if bias:
        rows = xp.concat((rows, xp.ones((rows.shape[0], 1))), axis=1)
    if patterns is None:
        masks, gates = _regions(xp, rows)
    else:
        check_count(where, "patterns", patterns)
        gates = unwrap(random.normal((patterns, rows.shape[1]), dtype="float64", device="cpu"))
        masks = xp.astype(xp.matmul(gates, xp.matrix_transpose(rows)) >= 0, xp.float64)
        masks, first = _distinct(xp, masks)
        gates = xp.take(gates, first, axis=0)
    program = _Program(xp, rows, targets, float(beta), masks, gated)
    iterations = program.solve(tolerance, max_iterations)
    pairs = sorted(program.weights)
    d = rows.shape[1]
    weights = xp.stack([program.weights[p] for p in pairs]) if pairs else xp.zeros((0, d))
    chosen = xp.asarray([i for i, _ in pairs], dtype=xp.int64)
    return ConvexTwoLayer(
        program.objective, program.bound, wrap(weights), wrap(xp.asarray([float(s) for _, s in pairs])),
        wrap(xp.take(gates, chosen, axis=0)), gated, bias, patterns is None, masks.shape[0], iterations,
    )  # fmt: skip


def _distinct(xp: Backend, masks: Array) -> tuple[Array, Array]:
    """The different rows of masks, and where each occurs first."""
    seen: dict[tuple[float, ...], int] = {}
    for i, row in enumerate(masks.tolist()):
        seen.setdefault(tuple(row), i)
    first = xp.asarray(list(seen.values()), dtype=xp.int64)
    return xp.take(masks, first, axis=0), first


class _Program:
    """The convex program, and the state of its solution: a vector for each (pattern, sign) that is in use."""

    def __init__(self, xp: Backend, x: Array, y: Array, beta: float, masks: Array, gated: bool) -> None:
        self.xp, self.x, self.y, self.beta, self.masks, self.gated = xp, x, y, beta, masks, gated
        self.weights: dict[tuple[int, int], Array] = {}
        self.objective, self.bound = math.inf, 0.0

    def _outputs(self, i: int, u: Array) -> Array:
        product = self.xp.matmul(self.x, u)
        return (
            product * self.masks[i, :] if self.gated else self.xp.where(product > 0, product, 0.0 * product)
        )

    def solve(self, tolerance: float, max_iterations: int) -> int:
        xp = self.xp
        residual = self.y
        self.objective = 0.5 * float(xp.sum(residual * residual))
        for iteration in range(1, max_iterations + 1):
            candidates = self._dual(residual)
            if self.objective - self.bound <= tolerance * max(1.0, self.objective):
                return iteration
            residual = self._correct(candidates)
        msg = (
            f"convex_two_layer: objective {self.objective:.8g} and bound {self.bound:.8g} after {max_iterations} iterations; raise "
            "tolerance or max_iterations, or scale the features to about one size"
        )
        raise RuntimeError(msg)

    def _dual(self, nu: Array) -> list[tuple[tuple[int, int], Array]]:
        """Raise the bound by the residual, scaled to be feasible; the unit neurons that violate feasibility."""
        xp, beta = self.xp, self.beta
        slopes = xp.matmul(self.masks * nu[None, :], self.x)  # Xᵀ Dᵢ ν for each pattern
        lengths = xp.sqrt(xp.sum(slopes * slopes, axis=1))
        worst = 0.0
        candidates = []
        for i in range(slopes.shape[0]):
            if float(lengths[i]) <= beta:
                worst = max(worst, float(lengths[i]))
                continue
            for sign in (1, -1):
                u = sign * slopes[i, :] if self.gated else self._project(i, sign * slopes[i, :])
                size = float(xp.sum(u * u)) ** 0.5
                worst = max(worst, size)
                if size > beta:
                    candidates.append(((i, sign), u / size))
        square, product = float(xp.sum(nu * nu)), float(xp.sum(nu * self.y))
        if square > 0:
            most = beta / worst if worst > 0 else math.inf
            scale = max(-most, min(most, product / square))
            self.bound = max(self.bound, scale * product - 0.5 * scale * scale * square)
        return candidates

    def _project(self, i: int, g: Array) -> Array:
        """The point of the cone (2Dᵢ − I) X u ≥ 0 nearest to g: g + Gᵀλ with the λ ≥ 0 that makes it shortest. Its length is an upper
        bound on gᵀu over the cone's unit vectors for any λ ≥ 0, so the certificate does not depend on how well λ is solved for."""
        xp = self.xp
        cone = (2.0 * self.masks[i, :] - 1.0)[:, None] * self.x
        if bool(xp.all(xp.matmul(cone, g) >= 0)):
            return g
        multipliers = solve_nnls(xp, xp.matrix_transpose(cone), -g)
        return g + xp.matmul(multipliers, cone)

    def _correct(self, candidates: list[tuple[tuple[int, int], Array]]) -> Array:
        """Solve for the output weights of the neurons in use and of the candidates; the residual."""
        xp = self.xp
        atoms = [(key, w / float(xp.sum(w * w)) ** 0.5) for key, w in self.weights.items()] + candidates
        columns = xp.stack([sign * self._outputs(i, u) for (i, sign), u in atoms], axis=1)
        amounts = solve_nnls(xp, columns, self.y, l1=self.beta).tolist()
        weights: dict[tuple[int, int], Array] = {}
        for (key, u), amount in zip(atoms, amounts, strict=True):
            if amount > 0:
                weights[key] = weights[key] + amount * u if key in weights else amount * u
        residual = self.y
        penalty = 0.0
        for (i, sign), w in weights.items():
            residual = residual - sign * self._outputs(i, w)
            penalty += float(xp.sum(w * w)) ** 0.5
        self.weights = weights
        self.objective = 0.5 * float(xp.sum(residual * residual)) + self.beta * penalty
        return residual


class Certificate(NamedTuple):
    """A trained network against the optimum of all networks of its kind: optimum ∈ [bound, best], objective ≥ bound."""

    objective: float
    bound: float
    best: float

    @property
    def gap(self) -> float:
        """How far the trained network may be from the optimum: objective − bound."""
        return self.objective - self.bound


def certificate(model: Module, x: Any, y: Any, beta: float, *, tolerance: float = 1e-8) -> Certificate:
    """Bounds the loss ½‖f(X) − y‖² + (β/2)‖θ‖² of a two-layer ReLU network from below, over all networks of any width.

    `model` is Linear, ReLU, Linear with one output and no bias in the last; a bias of the first counts as the weight of a column of ones.
    ``objective`` is that of `model` (computed in float64), ``bound`` what no network can be below, ``best`` the convex optimum found.

    Errors: those of `convex_two_layer`; TypeError for a model of another kind.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> net = an.nn.Sequential(an.nn.Linear(1, 4), an.nn.ReLU(), an.nn.Linear(4, 1, bias=False))
    >>> found = an.methods.certificate(net, [[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0], 0.1)
    >>> found.objective > found.bound
    True
    """
    layers: list[Any] = [m for m in model.modules() if not list(m.children())]
    if (
        [type(m) for m in layers] != [Linear, ReLU, Linear]
        or layers[2].bias is not None
        or layers[2].weight.shape[0] != 1
    ):
        kinds = ", ".join(type(m).__name__ for m in layers)
        msg = f"certificate: the model must be Linear, ReLU, Linear(width, 1, bias=False), got {kinds}"
        raise TypeError(msg)
    first, last = layers[0], layers[2]
    xp, rows = on_host("certificate", "X", x, 2)
    _, u = on_host("certificate", "the first weight", first.weight, 2)
    _, a = on_host("certificate", "the last weight", last.weight, 2)
    found = convex_two_layer(x, y, beta, bias=first.bias is not None, tolerance=tolerance)
    if first.bias is not None:
        rows = xp.concat((rows, xp.ones((rows.shape[0], 1))), axis=1)
        u = xp.concat((u, on_host("certificate", "the bias", first.bias, 1)[1][:, None]), axis=1)
    hidden = xp.matmul(rows, xp.matrix_transpose(u))
    hidden = xp.where(hidden > 0, hidden, xp.zeros_like(hidden))
    rest = xp.matmul(hidden, a[0, :]) - on_host("certificate", "y", y, 1)[1]
    objective = 0.5 * (float(xp.sum(rest * rest)) + beta * (float(xp.sum(u * u)) + float(xp.sum(a * a))))
    return Certificate(objective, found.bound, found.objective)
