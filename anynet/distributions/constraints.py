"""What values a parameter or a sample may have, under PyTorch's names: ``constraints.positive.check(x)`` is True where x > 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.ops.shapes import broadcast_shapes
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "Constraint", "boolean", "dependent", "greater_than", "greater_than_eq", "half_open_interval", "independent", "integer_interval",
    "interval", "less_than", "lower_cholesky", "lower_triangular", "multinomial", "nonnegative", "nonnegative_integer", "one_hot",
    "positive", "positive_definite", "positive_integer", "positive_semidefinite", "real", "real_vector", "require",
    "simplex", "square", "symmetric", "unit_interval",
]  # fmt: skip


class Constraint:
    """A region of values. `event_dim` axes at the end make up one value; `is_discrete` says that it is of whole numbers."""

    is_discrete = False
    event_dim = 0

    def __init__(self, text: str) -> None:
        self.text = text

    def check(self, value: Any) -> Tensor:
        """True for each value that lies in the region."""
        x = to_plain(value)
        return wrap(self.holds(backend_of(x), x, self.arrays()))

    def arrays(self) -> list[Array]:
        """The bounds that are arrays."""
        return []

    def holds(self, xp: Backend, x: Array, arrays: Sequence[Array]) -> Array:
        """`check` of a plain array, with the values of `arrays`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.text))


class _Dependent(Constraint):
    """Depends on other parameters."""

    def holds(self, xp: Backend, x: Array, arrays: Sequence[Array]) -> Array:
        msg = "a constraint that depends on parameters cannot be checked without them; ask the distribution for its support"
        raise ValueError(msg)


class _Interval(Constraint):
    """Numbers between bounds, which may be Tensors."""

    def __init__(
        self, text: str, low: Any, high: Any, open_low: bool = False, open_high: bool = False
    ) -> None:
        super().__init__(text)
        self.lower_bound, self.upper_bound, self.open = low, high, (open_low, open_high)
        self._bounds = [b for b in (low, high) if isinstance(b, Tensor)]

    def arrays(self) -> list[Array]:
        return [unwrap(b) for b in self._bounds]

    def holds(self, xp: Backend, x: Array, arrays: Sequence[Array]) -> Array:
        low, high = self.lower_bound, self.upper_bound
        if arrays:
            given = iter(arrays)
            low, high = (next(given) if isinstance(b, Tensor) else b for b in (low, high))
        if not dtypes.of(x.dtype).is_floating and not (
            dtypes.of(x.dtype).kind in ("int", "uint")
            and all(type(b) in (int, type(None)) for b in (low, high))
        ):
            x = xp.astype(x, xp.float64)
        good = None if low is None else x > low if self.open[0] else x >= low  # not of NaN
        if high is not None:
            below = x < high if self.open[1] else x <= high
            good = below if good is None else good & below
        return x == x if good is None else good

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, _Interval) or self.open != other.open:
            return False
        pairs = (self.lower_bound, other.lower_bound), (self.upper_bound, other.upper_bound)
        return all(a is b or (isinstance(a, (int, float)) and a == b) for a, b in pairs)

    __hash__ = Constraint.__hash__


class _Whole(_Interval):
    """Whole numbers between bounds."""

    is_discrete = True

    def holds(self, xp: Backend, x: Array, arrays: Sequence[Array]) -> Array:
        good = super().holds(xp, x, arrays)
        return good & (x == xp.floor(x)) if dtypes.of(x.dtype).is_floating else good


class _Last(Constraint):
    """A condition on vectors along the last axis, or on matrices along the last two."""

    def __init__(self, text: str, event_dim: int, condition: Any, discrete: bool = False) -> None:
        super().__init__(text)
        self.event_dim, self.condition, self.is_discrete = event_dim, condition, discrete

    def holds(self, xp: Backend, x: Array, arrays: Sequence[Array]) -> Array:
        if len(x.shape) < self.event_dim:
            return xp.zeros((), dtype=xp.bool, device=x.device)
        if not dtypes.of(x.dtype).is_floating:
            x = xp.astype(x, xp.float64)
        return self.condition(xp, x)


class _Independent(Constraint):
    """A constraint whose last batch axes belong to the value."""

    def __init__(self, base: Constraint, axes: int) -> None:
        super().__init__(base.text)
        self.base_constraint, self.reinterpreted_batch_ndims = base, axes
        self.event_dim, self.is_discrete = base.event_dim + axes, base.is_discrete

    def arrays(self) -> list[Array]:
        return self.base_constraint.arrays()

    def holds(self, xp: Backend, x: Array, arrays: Sequence[Array]) -> Array:
        good = self.base_constraint.holds(xp, x, arrays)
        n = self.reinterpreted_batch_ndims
        if len(good.shape) < n:
            return xp.zeros((), dtype=xp.bool, device=x.device)
        return xp.all(good, axis=tuple(range(-n, 0))) if n else good


def _tolerance(xp: Backend, x: Array) -> float:
    return 30.0 * math.pow(float(xp.finfo(x.dtype).eps), 0.75)


def _simplex(xp: Backend, x: Array) -> Array:
    off = xp.abs(xp.sum(x, axis=-1) - 1.0)
    return xp.all(x >= 0.0, axis=-1) & (off <= _tolerance(xp, x))


def _one_hot(xp: Backend, x: Array) -> Array:
    return xp.all((x == 0.0) | (x == 1.0), axis=-1) & (xp.sum(x, axis=-1) == 1.0)


def _lower_triangular(xp: Backend, x: Array) -> Array:
    return xp.all(xp.tril(x) == x, axis=(-2, -1))


def _lower_cholesky(xp: Backend, x: Array) -> Array:
    return _lower_triangular(xp, x) & xp.all(xp.linalg.diagonal(x) > 0.0, axis=-1)


def _square(xp: Backend, x: Array) -> Array:
    return xp.full(tuple(x.shape[:-2]), x.shape[-1] == x.shape[-2], dtype=xp.bool, device=x.device)


def _symmetric(xp: Backend, x: Array) -> Array:
    if x.shape[-1] != x.shape[-2]:
        return _square(xp, x)
    off = xp.abs(x - xp.matrix_transpose(x))
    return xp.all(off <= 1e-6 * (1.0 + xp.abs(x)), axis=(-2, -1))


def _definite(strictly: bool) -> Any:
    def holds(xp: Backend, x: Array) -> Array:
        good = _symmetric(xp, x)
        if x.shape[-1] != x.shape[-2]:
            return good
        finite = xp.isfinite(x)
        w = xp.linalg.eigvalsh(xp.where(finite, x, xp.zeros_like(x)))
        sure = w > 0.0 if strictly else w >= -_tolerance(xp, x)
        return good & xp.all(sure, axis=-1) & xp.all(finite, axis=(-2, -1))

    return holds


dependent = _Dependent("dependent")
boolean = _Whole("0 or 1", 0, 1)
real = _Interval("a real number", None, None)
positive = _Interval("greater than 0", 0.0, None, open_low=True)
nonnegative = _Interval("at least 0", 0.0, None)
unit_interval = _Interval("in [0, 1]", 0.0, 1.0)
nonnegative_integer = _Whole("an integer ≥ 0", 0, None)
positive_integer = _Whole("an integer ≥ 1", 1, None)
real_vector = _Independent(real, 1)
simplex = _Last("numbers ≥ 0 that sum to 1", 1, _simplex)
one_hot = _Last("one 1 and else 0", 1, _one_hot, True)
lower_triangular = _Last("a lower triangular matrix", 2, _lower_triangular)
lower_cholesky = _Last("a lower triangular matrix with positive diagonal", 2, _lower_cholesky)
square = _Last("a square matrix", 2, _square)
symmetric = _Last("a symmetric matrix", 2, _symmetric)
positive_semidefinite = _Last("a positive semidefinite matrix", 2, _definite(False))
positive_definite = _Last("a positive definite matrix", 2, _definite(True))


def interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers in [lower_bound, upper_bound]."""
    return _Interval(f"in [{_text(lower_bound)}, {_text(upper_bound)}]", lower_bound, upper_bound)


def half_open_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers in [lower_bound, upper_bound)."""
    text = f"in [{_text(lower_bound)}, {_text(upper_bound)})"
    return _Interval(text, lower_bound, upper_bound, open_high=True)


def integer_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Whole numbers in [lower_bound, upper_bound]."""
    return _Whole(f"an integer in [{_text(lower_bound)}, {_text(upper_bound)}]", lower_bound, upper_bound)


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers > lower_bound."""
    return _Interval(f"greater than {_text(lower_bound)}", lower_bound, None, open_low=True)


def greater_than_eq(lower_bound: Any) -> Constraint:
    """Numbers ≥ lower_bound."""
    return _Interval(f"at least {_text(lower_bound)}", lower_bound, None)


def less_than(upper_bound: Any) -> Constraint:
    """Numbers < upper_bound."""
    return _Interval(f"less than {_text(upper_bound)}", None, upper_bound, open_high=True)


def multinomial(upper_bound: Any) -> Constraint:
    """Vectors of whole numbers ≥ 0 that sum to upper_bound."""

    def condition(xp: Backend, x: Array) -> Array:
        whole = xp.all((x >= 0.0) & (x == xp.floor(x)), axis=-1)
        return whole & (xp.sum(x, axis=-1) == upper_bound)

    return _Last(f"integers ≥ 0 that sum to {_text(upper_bound)}", 1, condition, True)


def independent(base: Constraint, axes: int) -> Constraint:
    """A constraint of whole vectors (matrices …) of values."""
    return _Independent(base, axes)


def _text(bound: Any) -> str:
    return f"{bound:g}" if isinstance(bound, (int, float)) else "the distribution's bound"


def require(where: str, name: str, constraint: Constraint, value: Tensor) -> None:
    """ValueError that says where, what must hold and what was given, unless every value lies in the region. In a compiled function
    it is checked at each call, in `vmap` not."""

    def held(x: Array, *arrays: Array) -> None:
        xp = backend_of(x)
        good = constraint.holds(xp, x, arrays)
        if int(xp.count_nonzero(good)) != math.prod(good.shape):
            msg = f"{where}: {name} must be {constraint}, got {_first_bad(xp, x, good, constraint.event_dim)}"
            raise ValueError(msg)

    plain = unwrap(value)
    xp = backend_of(plain)
    arrays = constraint.arrays()
    if isinstance(plain, xp.array_types) and (
        not arrays or all([isinstance(a, xp.array_types) for a in arrays])
    ):
        xp.check(held, plain, *arrays)


def _first_bad(xp: Backend, x: Array, good: Array, event_dim: int) -> str:
    if len(x.shape) < event_dim:
        return f"shape {tuple(x.shape)}"
    batch = tuple(x.shape[: len(x.shape) - event_dim])
    shape = broadcast_shapes(batch, tuple(good.shape))
    rows = xp.reshape(xp.broadcast_to(x, (*shape, *x.shape[len(batch) :])), (-1, *x.shape[len(batch) :]))
    at = int(xp.argmin(xp.astype(xp.reshape(xp.broadcast_to(good, shape), (-1,)), xp.int8)))
    return str(wrap(rows[at, ...]).tolist())[:200]
