"""The base of all distributions, and how parameters and noise are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from anynet import dtypes, random
from anynet.distributions.constraints import Constraint, dependent, require
from anynet.ops import elementwise as e
from anynet.ops import manipulation as m
from anynet.ops.creation import asarray, constant_like, full
from anynet.ops.data_types import result_type
from anynet.ops.reductions import sum
from anynet.ops.shapes import as_shape, broadcast_shapes
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["Distribution"]

Shape = int | Sequence[int]
Constraints = Mapping[str, Constraint]
Axes = Mapping[str, int]


class Distribution:
    """A probability distribution, as PyTorch's: `batch_shape` distributions of one family, each of a value of `event_shape`.

    A sample has the shape ``sample_shape + batch_shape + event_shape``; `log_prob` of it ``sample_shape + batch_shape``. Everything is
    differentiable in the parameters, `rsample` too where `has_rsample`. Samples are drawn by `anynet.random`, so that one seed gives
    the same numbers on every backend. With ``validate_args=True`` (the default) parameters and values outside `arg_constraints` and
    `support` are refused.
    """

    arg_constraints: ClassVar[Constraints] = {}
    has_rsample = False
    has_enumerate_support = False
    _within: Any = 0.0  # a value of the support, or a function of the distribution that gives one
    _parameters: ClassVar[Axes] = {}  # the attributes that hold Tensors, with the number of their event axes
    _default_validation = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """The attributes are the arguments with their event axes, unless a family says otherwise; of probs and logits the one that was
        given is kept, under an underscore, and the other computed."""
        super().__init_subclass__(**kwargs)
        if "arg_constraints" in vars(cls) and "_parameters" not in vars(cls):
            cls._parameters = {
                f"_{name}" if name in ("probs", "logits") else name: constraint.event_dim
                for name, constraint in cls.arg_constraints.items()
            }

    def __init__(
        self,
        batch_shape: Sequence[int] = (),
        event_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape, self._event_shape = tuple(batch_shape), tuple(event_shape)
        self._validate = self._default_validation if validate_args is None else bool(validate_args)
        if self._validate:
            for name, constraint in self.arg_constraints.items():
                if constraint is not dependent and name in vars(self):
                    require(type(self).__name__, name, constraint, vars(self)[name])

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check parameters and values where `validate_args` is not given."""
        if not isinstance(value, bool):
            msg = f"set_default_validate_args: value must be True or False, got {value!r}"
            raise TypeError(msg)
        Distribution._default_validation = value

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of the parameters."""
        return self._batch_shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        return self._event_shape

    @property
    def support(self) -> Constraint:
        """The values that have a probability."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """E x."""
        raise self._lacks("mean")

    @property
    def mode(self) -> Tensor:
        """The most probable value."""
        raise self._lacks("mode")

    @property
    def variance(self) -> Tensor:
        """E (x − E x)²."""
        raise self._lacks("variance")

    @property
    def stddev(self) -> Tensor:
        """√variance."""
        return e.sqrt(self.variance)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        """Values drawn at random, without gradient: ``sample_shape + batch_shape + event_shape``."""
        more = {} if generator is None else {"generator": generator}  # classes of users' may do without it
        with no_grad():
            drawn = self.rsample(sample_shape, **more)
        return drawn if drawn.edge is None else drawn.detach()

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        """Values drawn at random as a differentiable function of the parameters (reparametrisation)."""
        msg = f"{type(self).__name__} has no differentiable samples (has_rsample is False); use sample"
        raise NotImplementedError(msg)

    def log_prob(self, value: ArrayLike) -> Tensor:
        """The logarithm of the density or probability of `value`."""
        raise self._lacks("log_prob")

    def cdf(self, value: ArrayLike) -> Tensor:
        """P(x ≤ value)."""
        raise self._lacks("cdf")

    def icdf(self, value: ArrayLike) -> Tensor:
        """The quantile: the x with P(x' ≤ x) = value, for values in [0, 1]."""
        raise self._lacks("icdf")

    def entropy(self) -> Tensor:
        """−E log p(x)."""
        raise self._lacks("entropy")

    def perplexity(self) -> Tensor:
        """e to the entropy."""
        return e.exp(self.entropy())

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of a discrete distribution along a new first axis; with `expand`, for each distribution of the batch."""
        raise self._lacks("enumerate_support")

    def expand(self, batch_shape: Shape) -> Self:
        """The distribution with parameters broadcast to a batch shape."""
        shape = as_shape(batch_shape)
        own = self.batch_shape
        if len(own) > len(shape) or any(
            a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)
        ):
            msg = f"{type(self).__name__}.expand: batch_shape {own} does not broadcast to {shape}"
            raise ValueError(msg)
        new = self._copied()
        for name, axes in self._parameters.items():
            value = vars(self).get(name)
            if value is not None:
                wide = (*shape, *value.shape[value.ndim - axes :])
                vars(new)[name] = value if value.shape == wide else m.broadcast_to(value, wide)
        new._batch_shape = shape
        return new

    def _copied(self) -> Self:
        """Another distribution with the same attributes, in a third of the time of `copy.copy`."""
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        return new

    # ----- for the families -----

    def _lacks(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {what}: there is no closed form of it here")

    @property
    def _like(self) -> Tensor:
        """A parameter, for its dtype and device."""
        own = vars(self)
        return next(own[name] for name in self._parameters if own.get(name) is not None)  # type: ignore[no-any-return]

    def _shape(self, sample_shape: Shape) -> tuple[int, ...]:
        return (*as_shape(sample_shape), *self._batch_shape, *self._event_shape)

    def _normal(self, shape: Sequence[int], generator: Generator | None) -> Tensor:
        like = self._like
        return random.normal(shape, dtype=like.dtype, device=like.device, generator=generator)

    def _uniform(self, shape: Sequence[int], generator: Generator | None) -> Tensor:
        """Draws from (0, 1): neither end."""
        like = self._like
        u = random.uniform(shape, dtype=like.dtype, device=like.device, generator=generator)
        return e.maximum(u, tiny(like))

    def _value(self, value: ArrayLike) -> Tensor:
        """A value in the dtype of the parameters, checked for its shape and against the support."""
        x, kind = self._checked(value), self._like.dtype
        if x.dtype == kind:
            return x
        return m.astype(x, result_type(x.dtype, kind) if dtypes.of(x.dtype).kind == "real" else kind)

    def _checked(self, value: ArrayLike) -> Tensor:
        """A value as a Tensor, checked for its shape and against the support."""
        x = value if isinstance(value, Tensor) else asarray(value, device=self._like.device)
        where = f"{type(self).__name__}.log_prob"
        shape = tuple(x._data.shape)
        if shape != self._batch_shape + self._event_shape:
            self._check_shape(where, shape)
        if self._validate:
            require(where, "value", self.support, x)
        return x

    def _check_shape(self, where: str, shape: tuple[int, ...]) -> None:
        """ValueError for the shape of a value that does not broadcast with the distribution's."""
        n = len(shape) - len(self._event_shape)
        if n < 0 or any(
            a not in (1, b) and b != 1 for a, b in zip(shape[n:], self._event_shape, strict=False)
        ):
            msg = f"{where}: value must have shape (…, {', '.join(map(str, self._event_shape))}), got {shape}"
            raise ValueError(msg)
        try:
            broadcast_shapes(shape[:n], self._batch_shape)
        except ValueError:
            msg = f"{where}: value of shape {shape} does not broadcast with batch_shape {self._batch_shape}"
            raise ValueError(msg) from None

    def _inside(self, value: ArrayLike) -> tuple[Tensor, Tensor | None]:
        """`_value`, and without `validate_args` where it lies in the support: elsewhere the value is another, of the support, so that
        what is computed of it, and its gradient, is finite; `outside` then says that it has no probability."""
        x = self._value(value)
        if self._validate:
            return x, None
        own, support = x.detach(), self.support
        xp: Any = own.__array_namespace__()  # of Tensors, so that it holds within vmap, too
        good = e.logical_and(support.holds(xp, own, [wrap(b) for b in support.arrays()]), e.isfinite(own))
        return e.where(good, x, self._within() if callable(self._within) else self._within), good

    def __repr__(self) -> str:
        given = {n.lstrip("_"): vars(self)[n] for n in self._parameters if vars(self).get(n) is not None}
        parts = [f"{n}: {v if v.size == 1 else tuple(v.shape)}" for n, v in given.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


_NUMBERS: Final = frozenset((int, float))


def parameters(where: str, **values: Any) -> list[Tensor]:
    """Parameters as Tensors of one floating-point dtype: numbers take that of the arrays, whole numbers the default one."""
    found = list(values.values())
    first = next((v for v in found if isinstance(v, Tensor)), None)
    if first is None or first.dtype.kind == "real":
        dtype = dtypes.default_float() if first is None else first.dtype
        rest = [v for v in found if not isinstance(v, Tensor)]
        if _NUMBERS.issuperset(map(type, rest)) and all(
            [v.dtype is dtype for v in found if isinstance(v, Tensor)]
        ):
            return [
                v
                if isinstance(v, Tensor)
                else full((), v, dtype=dtype)
                if first is None
                else constant_like(first, (), v)
                for v in found
            ]
    arrays = {
        n: v if isinstance(v, Tensor) or not hasattr(v, "dtype") else asarray(v) for n, v in values.items()
    }
    arrays = {n: asarray(v) if isinstance(v, (list, tuple)) else v for n, v in arrays.items()}
    tensors = {n: v for n, v in arrays.items() if isinstance(v, Tensor)}
    kinds = [v.dtype for v in tensors.values() if dtypes.of(v.dtype).kind == "real"]
    dtype = result_type(*kinds) if kinds else dtypes.of(dtypes.default_float())
    device = next((v.device for v in tensors.values()), None)
    out = []
    for name, value in arrays.items():
        if not isinstance(value, Tensor):
            if isinstance(value, (bool, str)) or value is None:
                msg = f"{where}: {name} must be a number or an array, got {value!r}"
                raise TypeError(msg)
            value = asarray(value, dtype=dtype, device=device)
        elif value.dtype != dtype:
            if dtypes.of(value.dtype).kind == "complex":
                msg = f"{where}: {name} must be real, got {value.dtype}"
                raise TypeError(msg)
            value = m.astype(value, dtype)
        out.append(value)
    return out


def broadcast(where: str, **values: Any) -> list[Tensor]:
    """`parameters`, broadcast to one shape."""
    found = parameters(where, **values)
    shapes = [tuple(v._data.shape) for v in found]
    if all([s == shapes[0] for s in shapes]):
        return found
    try:
        shape = broadcast_shapes(*shapes)
    except ValueError:
        got = ", ".join(f"{n} {s}" for n, s in zip(values, shapes, strict=True))
        msg = f"{where}: the parameters must broadcast, got {got}"
        raise ValueError(msg) from None
    return [v if s == shape else m.broadcast_to(v, shape) for v, s in zip(found, shapes, strict=True)]


def exactly_one(where: str, **values: Any) -> str:
    """The one name that is given of several."""
    given = [n for n, v in values.items() if v is not None]
    if len(given) != 1:
        msg = f"{where}: exactly one of {', '.join(values)} must be given, got {', '.join(given) or 'none'}"
        raise ValueError(msg)
    return given[0]


def tiny(like: Tensor) -> float:
    """The smallest normal number of a dtype."""
    xp = backend_of(unwrap(like))
    return float(xp.finfo(dtypes.native(xp, like.dtype)).smallest_normal)


def lowest(like: Tensor) -> float:
    """The least number of a dtype."""
    xp = backend_of(unwrap(like))
    return float(xp.finfo(dtypes.native(xp, like.dtype)).min)


def eps(like: Tensor) -> float:
    """The distance from 1 to the next number of a dtype."""
    xp = backend_of(unwrap(like))
    return float(xp.finfo(dtypes.native(xp, like.dtype)).eps)


def outside(good: Tensor | None, logs: Tensor) -> Tensor:
    """Logarithms of densities, −inf where a value is not of the support (`Distribution._inside`)."""
    return logs if good is None else e.where(good, logs, -math.inf)


def not_below(x: Tensor, low: Any) -> Tensor:
    """A value for a distribution function, which is constant below the support."""
    return e.where(e.less(x, low), low, x)


def sum_last(x: Tensor, axes: int) -> Tensor:
    """The sum over the last axes."""
    return sum(x, axis=tuple(range(-axes, 0))) if axes else x


HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
EULER = 0.57721566490153286061
