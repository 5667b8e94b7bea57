"""Metrics of numbers: the network's against the right ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from anynet.metrics.inputs import arrays, flat_weight, number
from anynet.metrics.metric import Metric, State, UndefinedError, vector
from anynet_backends import Array, Backend, backend_of, registry

__all__ = ["MAE", "MAPE", "MSE", "R2", "RMSE", "ExplainedVariance", "Pearson"]

_EPS = 2.0**-52


class _Regression(Metric):
    """Outputs and targets of one shape, (n,), (n, d) or (n, d, …): d numbers, each averaged over the samples (and over positions).

    An output (n, 1, …) goes with targets (n, …), too. Integers are numbers.
    """

    def __init__(self, *, multioutput: str = "uniform_average") -> None:
        if multioutput not in ("uniform_average", "raw_values"):
            msg = f"{self.name}: multioutput must be 'uniform_average' or 'raw_values', got {multioutput!r}"
            raise ValueError(msg)
        self.multioutput = multioutput
        self.scalar = multioutput == "uniform_average"

    def read(self, output: Any, target: Any, weight: Any) -> tuple[Backend, Array, Array, Array | None]:
        """Output and target (N, d) in float64, weight (N,)."""
        xp, output, target, weight = arrays(self.name, output, target, weight)
        got, want = tuple(output.shape), tuple(target.shape)
        shape = got
        if got != want:
            if len(got) == len(want) + 1 and got[1] == 1 and (got[0], *got[2:]) == want:
                shape = got
            elif len(want) == len(got) + 1 and want[1] == 1 and (want[0], *want[2:]) == got:
                shape = want
            else:
                msg = f"{self.name}: output and target must have one shape, got {got} and {want}; nothing is broadcast"
                raise ValueError(msg)
        if not shape:
            raise ValueError(f"{self.name}: the samples must lie along the first axis, got a single number")
        wide = shape if len(shape) > 1 else (*shape, 1)
        at = (wide[0], *wide[2:])
        weight = flat_weight(self.name, xp, weight, at)
        both = []
        for a in (output, target):
            if xp.isdtype(a.dtype, "complex floating"):
                raise TypeError(f"{self.name}: takes real numbers, got {xp.dtype_name(a.dtype)}")
            a = xp.reshape(xp.astype(a, xp.float64), wide)
            if len(wide) > 2:
                a = xp.reshape(xp.moveaxis(a, 1, -1), (-1, wide[1]))
            both.append(a)
        return xp, both[0], both[1], weight

    def combined(self, values: list[float]) -> Any:
        """The mean over the outputs, or all of them."""
        if any(math.isnan(v) for v in values) and not self.may_be_nan:
            raise UndefinedError(f"{self.name}: the output or the target holds NaN")
        return math.fsum(values) / len(values) if self.scalar else vector(values)

    may_be_nan = False


class _MeanError(_Regression):
    """The mean of a function of the error."""

    higher_is_better = False
    states: ClassVar[Mapping[str, str]] = {"sum": "add", "count": "add"}

    def errors(self, xp: Backend, output: Array, target: Array) -> Array:
        """The error of each number."""
        raise NotImplementedError

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The sum of the errors of each output, and the number of samples."""
        xp, output, target, weight = self.read(output, target, weight)
        errors = self.errors(xp, output, target)
        if weight is None:
            return {"sum": xp.sum(errors, axis=0), "count": int(errors.shape[0])}
        return {"sum": xp.sum(errors * weight[:, None], axis=0), "count": xp.sum(weight)}

    def means(self, state: State) -> list[float]:
        """The mean of each output."""
        count = number(state["count"])
        if not count:
            raise UndefinedError(f"{self.name}: nothing was measured, or all weights are 0")
        found: list[float] = registry.asarray(state["sum"]).tolist()
        return [x / count for x in found]

    def result(self, state: State) -> Any:
        """The mean."""
        return self.combined(self.means(state))


class MSE(_MeanError):
    """The mean squared error, mean (ŷ − y)².

    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.mse([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
    0.375
    """

    name = "mse"

    def errors(self, xp: Backend, output: Array, target: Array) -> Array:
        """Squares."""
        return (output - target) ** 2


class RMSE(MSE):
    """The root of the mean squared error, of each output; then the mean over the outputs, as in scikit-learn.

    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.rmse([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
    0.612372...
    """

    name = "rmse"

    def means(self, state: State) -> list[float]:
        """The roots."""
        return [math.sqrt(x) for x in super().means(state)]


class MAE(_MeanError):
    """The mean absolute error, mean |ŷ − y|.

    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.mae([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
    0.5
    """

    name = "mae"

    def errors(self, xp: Backend, output: Array, target: Array) -> Array:
        """Sizes."""
        return xp.abs(output - target)


class MAPE(_MeanError):
    """The mean absolute error in proportion to the target, mean |ŷ − y| / max(|y|, 2⁻⁵²): 0.1 is ten per cent.

    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.mape([1.1, 1.8], [1.0, 2.0])
    0.1
    """

    name = "mape"

    def errors(self, xp: Backend, output: Array, target: Array) -> Array:
        """Sizes in proportion."""
        size = xp.abs(target)
        return xp.abs(output - target) / xp.where(size > _EPS, size, xp.full_like(size, _EPS))


# ----- from means and products of differences -----


class _Moments(_Regression):
    """Means and sums of products of differences of K variables, updated as by Chan, Golub and LeVeque (1979): no cancellation
    where a mean is large, and exactly 0 for what is constant."""

    higher_is_better = True
    states: ClassVar[Mapping[str, str]] = {
        "weight": "moments",
        "mean": "moments",
        "products": "moments",
        "residual": "add",
        "count": "add",
    }

    def variables(self, xp: Backend, output: Array, target: Array) -> list[Array]:
        """The variables, each (N, d)."""
        raise NotImplementedError

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The moments of a batch."""
        xp, output, target, weight = self.read(output, target, weight)
        n = int(output.shape[0])
        x = xp.stack(self.variables(xp, output, target))  # (K, N, d)
        w = xp.ones((n,), dtype=xp.float64, device=x.device) if weight is None else weight
        total = xp.sum(w)
        over = xp.where(total > 0, total, xp.ones_like(total))
        w = w[None, :, None]
        mean = x[:, :1, :] if n else xp.zeros((x.shape[0], 1, x.shape[2]), dtype=x.dtype, device=x.device)
        for _ in range(2):  # about the first sample, then about that mean
            mean = mean + xp.sum(w * (x - mean), axis=1, keepdims=True) / over
        centred = x - mean
        products = xp.sum(w * centred[:, None, :, :] * centred[None, :, :, :], axis=2)
        residual = xp.sum(w[0, :, :] * (output - target) ** 2, axis=0)
        return {
            "weight": total,
            "mean": mean[:, 0, :],
            "products": products,
            "residual": residual,
            "count": n,
        }

    def _joined(self, a: State, b: State) -> State:
        xp = backend_of(b["mean"])
        to = xp.device_of(b["mean"])

        def here(value: Any) -> Array:
            return xp.from_host(registry.asarray(value, "float64"), to)

        a, b = ({k: v if k == "count" else here(v) for k, v in s.items()} for s in (a, b))
        if a["mean"].shape != b["mean"].shape:
            n, m = int(a["mean"].shape[1]), int(b["mean"].shape[1])
            raise ValueError(f"{self.name}: got a batch with {m} outputs after one with {n}")
        total = a["weight"] + b["weight"]
        over = xp.where(total > 0, total, xp.ones_like(total))
        apart = b["mean"] - a["mean"]
        return {
            "weight": total,
            "mean": a["mean"] + apart * (b["weight"] / over),
            "products": a["products"]
            + b["products"]
            + apart[:, None, :] * apart[None, :, :] * (a["weight"] * b["weight"] / over),
            "residual": a["residual"] + b["residual"],
            "count": a["count"] + b["count"],
        }

    def moments(self, state: State) -> tuple[list[list[list[float]]], list[float]]:
        """Products (K, K, d) and squared residuals (d,), read from the device."""
        if not number(state["weight"]):
            raise UndefinedError(f"{self.name}: nothing was measured, or all weights are 0")
        products = registry.asarray(state["products"]).tolist()
        residual: list[float] = registry.asarray(state["residual"]).tolist()
        if any(map(math.isnan, residual)):
            raise UndefinedError(f"{self.name}: the output or the target holds NaN")
        return products, residual


def _score(residual: float, spread: float) -> float:
    """1 − residual / spread; of a constant target 1 where nothing is wrong, else 0 (as in scikit-learn)."""
    if spread > 0:
        return 1 - residual / spread
    return 0.0 if residual > 0 else 1.0


class R2(_Moments):
    """The coefficient of determination, R² = 1 − Σ (ŷ − y)² / Σ (y − ȳ)²: 1 is perfect, 0 as good as the mean.

    Of a constant target 1 where all is right, else 0, as in scikit-learn; NaN of fewer than two samples.
    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.r2([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
    0.948608...
    """

    name = "r2"
    may_be_nan = True

    def variables(self, xp: Backend, output: Array, target: Array) -> list[Array]:
        """The target."""
        return [target]

    def result(self, state: State) -> Any:
        """R²."""
        products, residual = self.moments(state)
        if state["count"] < 2:
            return self.combined([math.nan] * len(residual))
        return self.combined([_score(r, s) for r, s in zip(residual, products[0][0], strict=True)])


class ExplainedVariance(_Moments):
    """1 − Var(y − ŷ) / Var(y): R² but for a constant error.

    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.explained_variance([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
    0.957173...
    """

    name = "explained_variance"

    def variables(self, xp: Backend, output: Array, target: Array) -> list[Array]:
        """The error and the target."""
        return [target - output, target]

    def result(self, state: State) -> Any:
        """The share of the variance."""
        products, _ = self.moments(state)
        return self.combined([_score(e, s) for e, s in zip(products[0][0], products[1][1], strict=True)])


class Pearson(_Moments):
    """The correlation Σ (ŷ − mean ŷ)(y − ȳ) / √(Σ (ŷ − mean ŷ)² Σ (y − ȳ)²); NaN where one of them is constant.

    Options: multioutput: "uniform_average" (over the d outputs) or "raw_values" (a Tensor of all).

    >>> import anynet as an
    >>> an.metrics.pearson([1.0, 2.0, 3.0], [2.0, 4.0, 7.0])
    0.993399...
    """

    name = "pearson"
    may_be_nan = True

    def variables(self, xp: Backend, output: Array, target: Array) -> list[Array]:
        """Both."""
        return [output, target]

    def result(self, state: State) -> Any:
        """The correlation."""
        products, residual = self.moments(state)
        values = []
        for d in range(len(residual)):
            below = math.sqrt(products[0][0][d]) * math.sqrt(products[1][1][d])
            values.append(max(-1.0, min(1.0, products[0][1][d] / below)) if below else math.nan)
        return self.combined(values)
