"""What a metric is: the state of what has been seen, which states of batches and of other processes add to, and its value.

A metric defines two functions: `measure`, the state of one batch, and `result`, the value of a state. A state is a dict; how two
states become one stands in `states`, a word for each entry:

- "add": numbers and arrays, added (a shorter vector of classes is filled up with zeros);
- "max", "min": the larger, the smaller one;
- "rows": arrays of samples, put behind each other;
- "same": a description, which must be equal.

So `update` is a `merge` with the state of a batch, a value does not depend on how the samples were split, and metrics of several
processes merge as their batches do. States stay on the device; `compute` reads from it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from anynet.ops.creation import asarray
from anynet.tensor import Tensor, no_grad, unwrap
from anynet_backends import Array, Backend, backend_of, registry

__all__ = ["Function", "Mean", "Metric", "UndefinedError", "functional"]

State = dict[str, Any]


class UndefinedError(ValueError):
    """A metric has no value: nothing was measured, or what was measured holds NaN. `fit` and `evaluate` record NaN."""


class Metric:
    """The base of all metrics, for own ones too: a subclass gives `states`, `measure` and `result`.

    Attributes:
      name: what a record calls it.
      higher_is_better: True or False; None where it does not say: then what is chosen by it asks for a ``mode=``.
      scalar: whether `compute` gives one number. Others are recorded, and cannot be monitored.

    `update` takes arrays, Tensors or lists: the output of a network, its targets, and a weight for each sample (or each
    target) or None. It does not wait for the device.

    >>> import anynet as an
    >>> metric = an.metrics.Accuracy()
    >>> metric.update([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    >>> metric.update([[0.3, 0.7]], [1])
    >>> metric.compute()
    0.666666...

    One of one's own:

    >>> class Bias(an.metrics.Metric):
    ...     "The mean of output − target."
    ...
    ...     name, states = "bias", {"sum": "add", "count": "add"}
    ...
    ...     def measure(self, output, target, weight):
    ...         return {"sum": an.sum(output - target), "count": target.size}
    ...
    ...     def result(self, state):
    ...         return float(state["sum"]) / state["count"]
    >>> metric = Bias()
    >>> metric.update(an.asarray([1.0, 4.0]), an.asarray([1.0, 2.0]))
    >>> metric.compute()
    1.0
    """

    name: str = ""
    higher_is_better: bool | None = None
    scalar: bool = True
    states: ClassVar[Mapping[str, str]] = {}
    by_form: ClassVar[bool] = (
        False  # `measure` refuses by shapes and dtypes alone: `fit` may call it some batches later
    )
    additive: ClassVar[bool] = (
        False  # batches put behind each other have the sum of their states, to the last bit
    )

    _state: State | None = None
    _parameters: ClassVar[dict[str, inspect.Parameter]] = {}

    def __init_subclass__(cls) -> None:
        """Say all options in the signature: those that are handed on as **options, too."""
        super().__init_subclass__()
        if "measure" in vars(cls) and "additive" not in vars(cls):
            cls.additive = False  # what is measured is no longer what the base said it of
        own: dict[str, inspect.Parameter] = {}
        for base in (c for c in cls.__mro__ if "__init__" in vars(c) and c is not object):
            given = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            own |= {p.name: p for p in given if p.kind != p.VAR_KEYWORD and p.name not in own}
            if not any(p.kind == p.VAR_KEYWORD for p in given):
                break
        cls._parameters = own
        cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            sorted(own.values(), key=lambda p: p.kind)
        )

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The state of one batch."""
        raise NotImplementedError(f"{type(self).__name__}.measure(output, target, weight) is not defined")

    def result(self, state: State) -> Any:
        """The value of a state: a float, a Tensor, or a dict of those."""
        raise NotImplementedError(f"{type(self).__name__}.result(state) is not defined")

    @property
    def mode(self) -> str | None:
        """The better direction, "max" or "min"; None where the metric does not say."""
        return None if self.higher_is_better is None else "max" if self.higher_is_better else "min"

    def bind(self, kind: str | None, ignore_index: int | None, *, checked: bool = False) -> None:
        """Take what was left open from the loss of a training: what it says of outputs ("classes", "logits", "values", None where
        it says nothing), the targets that it ignores (None: there are none), and whether class indices were found to be some."""

    def update(self, output: Any, target: Any, weight: Any = None) -> None:
        """Take in a batch. After an error the metric is as it was."""
        with no_grad():
            self.add(self.measure(output, target, weight))

    def add(self, batch: State) -> None:
        """Take in the state of a batch, which `measure` gave."""
        if any(type(value) is Tensor for value in batch.values()):
            batch = {key: unwrap(value) for key, value in batch.items()}
        self._state = batch if self._state is None else self._joined(self._state, batch)

    def compute(self) -> Any:
        """The value over everything since the last `reset`; `UndefinedError` where there is none."""
        if self._state is None:
            raise UndefinedError(f"{self.name}: nothing has been measured; call update(output, target) first")
        with no_grad():
            return self.result(self._state)

    def reset(self) -> None:
        """Forget everything that was measured."""
        self._state = None

    def merge(self, other: Metric) -> None:
        """Take in what another one has measured: in another process, or of other batches. `other` stays as it is."""
        if type(other) is not type(self) or other.options() != self.options():
            msg = (
                f"{self.name}: merges with a metric of the same class and options, got {other!r} for {self!r}"
            )
            raise ValueError(msg)
        if other._state is not None:
            self._state = other._state if self._state is None else self._joined(self._state, other._state)

    def _joined(self, a: State, b: State) -> State:
        joined, states = dict(a), self.states
        for key, value in b.items():
            before, how = a.get(key), states[key]
            if before is None:
                joined[key] = value
            elif how == "add" and type(before) is type(value) and not getattr(value, "shape", ()):
                joined[key] = before + value  # without calls: numbers of a batch, each batch
            elif how != "same" or before != value:
                joined[key] = _JOIN[how](self, before, value)
        return joined

    # ----- as data -----

    def state_dict(self) -> State:
        """What has been measured, as numbers, words and arrays on the host; rows are put together."""
        return {} if self._state is None else {k: _to_host(v) for k, v in self._state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; ValueError where that is of another metric."""
        foreign = [key for key in state if key not in self.states]
        if foreign:
            msg = f"{self.name}: its state has {', '.join(self.states)}, got {', '.join(map(str, foreign))}"
            raise ValueError(msg)
        kept = {k: _from_host(v, self.states[k]) for k, v in state.items()}
        self._state = kept or None

    def options(self) -> dict[str, Any]:
        """The options that it was made with."""
        return {name: getattr(self, name) for name in self._parameters}

    def fresh(self) -> Metric:
        """A copy that has measured nothing."""
        made = copy.copy(self)
        made.reset()
        return made

    def __repr__(self) -> str:
        defaults = {k: p.default for k, p in self._parameters.items()}
        shown = [f"{k}={v!r}" for k, v in self.options().items() if v is not defaults[k] and v != defaults[k]]
        return f"{type(self).__name__}({', '.join(shown)})"


# ----- joining states -----


def _add(metric: Metric, a: Any, b: Any) -> Any:
    if type(a) is not type(b):
        a, b = _together(a, b)
    shape, other = getattr(a, "shape", ()), getattr(b, "shape", ())
    if shape != other:
        if len(shape) != len(other) or not shape:
            msg = f"{metric.name}: got a batch with {tuple(other)} values after one with {tuple(shape)}"
            raise ValueError(msg)
        longer = tuple(max(n, m) for n, m in zip(shape, other, strict=True))
        a, b = _filled(a, longer), _filled(b, longer)
    return a + b


def _filled(a: Array, shape: tuple[int, ...]) -> Array:
    """The array with zeros behind it along each axis."""
    xp = backend_of(a)
    for axis, n in enumerate(shape):
        if a.shape[axis] < n:
            more = (*a.shape[:axis], n - a.shape[axis], *a.shape[axis + 1 :])
            a = xp.concat([a, xp.zeros(more, dtype=a.dtype, device=a.device)], axis=axis)
    return a


def _extreme(larger: bool, metric: Metric, a: Any, b: Any) -> Any:
    if type(a) is not type(b):
        a, b = _together(a, b)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        if a != a or b != b:
            return math.nan
        return max(a, b) if larger else min(a, b)
    xp = backend_of(b if isinstance(a, (int, float)) else a)
    return (xp.maximum if larger else xp.minimum)(a, b)


def _rows(metric: Metric, a: list[Any], b: list[Any]) -> list[Any]:
    if a and b:
        head = backend_of(b[-1]), b[-1]
        if not isinstance(a[0], type(head[1])):
            a = [_moved(one, *head) for one in a]
    return a + b


def _same(metric: Metric, a: Any, b: Any) -> Any:
    if a != b:
        msg = f"{metric.name}: batches must have one form, got {b!r} after {a!r}"
        raise ValueError(msg)
    return a


_JOIN: dict[str, Callable[..., Any]] = {
    "add": _add,
    "max": functools.partial(_extreme, True),
    "min": functools.partial(_extreme, False),
    "rows": _rows,
    "same": _same,
}


def _together(a: Any, b: Any) -> tuple[Any, Any]:
    """Two arrays where the second one is; numbers and Tensors as they are."""
    if isinstance(a, (int, float, Tensor)) or isinstance(b, (int, float, Tensor)):
        return a, b
    xp, other = backend_of(b), backend_of(a)
    return (a, b) if xp is other else (_moved(a, xp, b), b)


def _moved(a: Array, xp: Backend, like: Array) -> Array:
    return xp.from_host(backend_of(a).to_host(a), xp.device_of(like))


def _to_host(value: Any) -> Any:
    if isinstance(value, list):
        if not value:
            return registry.asarray([], "float64")
        xp = backend_of(value[0])
        return registry.asarray(xp.to_host(value[0] if len(value) == 1 else xp.concat(value, axis=0)))
    value = unwrap(value)
    if value is None or isinstance(value, (str, bool, int, float, tuple)):
        return value
    array = registry.asarray(backend_of(value).to_host(value))
    return array if array.shape else array.item()


def _from_host(value: Any, how: str) -> Any:
    value = unwrap(value)
    if how == "rows":
        return [registry.asarray(value)]
    if isinstance(value, list):
        return tuple(value)
    if value is None or isinstance(value, (str, bool, int, float, tuple)):
        return value
    array = registry.asarray(value)
    return array if array.shape else array.item()


# ----- functions -----


Function = Callable[[Any, Any], Any]


class Mean(Metric):
    """The mean of a function of (output, target) over the samples.

    Parameters:
      function: gives a pair (sum, count), whose sums over the batches are divided; or one number for the batch, which is
        averaged by the number of samples of the batches.
      name: what it is called; the function's name.
      mode: "min" or "max"; the function's own ``mode`` or ``higher_is_better``. None: it does not say.

    Weights of samples are not for functions: they are called without them.

    >>> import anynet as an
    >>> metric = an.metrics.Mean(lambda output, target: an.max(an.abs(output - target)), name="largest", mode="min")
    >>> metric.update(an.asarray([1.0, 2.0]), an.asarray([1.5, 2.0]))
    >>> metric.compute(), metric.mode
    (0.5, 'min')
    """

    states: ClassVar[Mapping[str, str]] = {"sum": "add", "count": "add"}

    def __init__(self, function: Function, *, name: str | None = None, mode: str | None = None) -> None:
        if not callable(function):
            msg = f"a metric must be a name, a Metric or a function (output, target), got {type(function).__name__}"
            raise TypeError(msg)
        if isinstance(function, type):
            msg = f"the metric {function.__name__} is a class; give an instance of it"
            raise TypeError(msg)
        inner: Any = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        self.function = function
        self.name = name or str(getattr(function, "name", getattr(inner, "__name__", type(inner).__name__)))
        said = mode if mode is not None else _mode_of(function, inner)
        if said not in (None, "min", "max"):
            msg = f"metric {self.name}: mode must be 'min' or 'max', got {said!r}"
            raise ValueError(msg)
        self.higher_is_better = None if said is None else said == "max"

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """What the function gives."""
        found = self.function(output, target)
        if isinstance(found, tuple) and len(found) == 2:
            return {"sum": unwrap(found[0]), "count": unwrap(found[1])}
        found = unwrap(found)
        if isinstance(found, bool) or not (
            isinstance(found, (int, float)) or (hasattr(found, "dtype") and math.prod(found.shape) == 1)
        ):
            got = (
                f"an array of shape {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__
            )
            msg = (
                f"the metric {self.name} returned {got}, expected a number for the batch, or a pair (sum, count), whose sums over "
                "the batches are divided"
            )
            raise TypeError(msg)
        rows = next((len(x) for x in (target, output) if getattr(x, "shape", ())), 1)
        return {"sum": (float(found) if hasattr(found, "dtype") else found) * rows, "count": rows}

    def result(self, state: State) -> float:
        """Σ sum / Σ count."""
        count = float(state["count"])
        if not count:
            raise UndefinedError(f"{self.name}: nothing has been counted")
        return float(state["sum"]) / count


def _mode_of(*functions: Any) -> str | None:
    for function in functions:
        mode = getattr(function, "mode", None)
        if mode is not None:
            return str(mode)
        better = getattr(function, "higher_is_better", None)
        if better is not None:
            return "max" if better else "min"
    return None


class _Functional:
    """The function of a metric: `accuracy(output, target, weight=None, **options)` is the value on these arrays."""

    def __init__(self, cls: type[Metric]) -> None:
        self.metric = cls
        self.__name__ = self.__qualname__ = cls.name
        self.__module__ = "anynet.metrics"
        own = list(inspect.signature(cls).parameters.values())
        first = inspect.Parameter("output", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any)
        second = first.replace(name="target")
        third = first.replace(name="weight", default=None)
        self.__signature__ = inspect.Signature([first, second, third, *own])
        self.__doc__ = f"{cls.__name__} of the output and the target. {cls.__doc__}"

    @property
    def higher_is_better(self) -> bool | None:
        """The metric's."""
        return self.metric.higher_is_better

    def __call__(self, output: Any, target: Any, weight: Any = None, **options: Any) -> Any:
        metric = self.metric(**options)
        metric.update(output, target, weight)
        return metric.compute()

    def __repr__(self) -> str:
        return f"<function anynet.metrics.{self.__name__}{self.__signature__}>"

    def __reduce__(self) -> str:
        return self.__name__


def functional(cls: type[Metric]) -> _Functional:
    """The function of a metric's class, under the metric's name."""
    return _Functional(cls)


def vector(values: Any, dtype: str = "float64") -> Tensor:
    """Numbers as a Tensor on the host: what a metric of several numbers gives."""
    return asarray(values, dtype=dtype, device="cpu")
