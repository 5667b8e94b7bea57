"""The metrics of `fit` and `evaluate`: from names to metrics that fit the loss, and their totals over an epoch.

What a metric is stands in `anynet.metrics`. Whether more or less of it is better it says itself; that of "val_auc" is asked of the
metric "auc", never of its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anynet.tensor import Tensor, no_grad, unwrap, wrap
from anynet.train.checks import choice, unknown
from anynet.train.objectives import Objective, OwnStep
from anynet_backends import backend_of, get_backend

if TYPE_CHECKING:
    from anynet.metrics import Metric

__all__ = ["Sums", "direction", "directions", "monitored", "resolve"]

_SEVERAL = "several numbers"
_HOST = get_backend("numpy")


def resolve(given: Any, objective: Objective | OwnStep, reserved: Iterable[str] = ()) -> list[Metric]:
    """Metrics from names, functions and `Metric`s."""
    from anynet.metrics import get  # start-up time: only a training that measures something asks

    one = isinstance(given, str) or callable(given) or callable(getattr(given, "update", None))
    if not one and not isinstance(given, Iterable):
        msg = f"metrics must be a name, a function or a metric, or several of them, got {given!r:.60}"
        raise TypeError(msg)
    out: list[Metric] = []
    for item in [given] if one else list(given):
        made = get(item)
        if made.name in reserved or made.name in [m.name for m in out]:
            msg = (
                f"two quantities are called {made.name!r}; give one of the metrics another name: "
                "anynet.metrics.Mean(function, name=…), or its attribute name"
            )
            raise ValueError(msg)
        out.append(made)
    return out


def directions(metrics: Sequence[Metric], validates: bool, more: Iterable[str] = ()) -> dict[str, str | None]:
    """The names that a record of an epoch has, each with "min" or "max", or None where it says nothing. What
    is no single number cannot be monitored."""
    own: dict[str, str | None] = {
        "loss": "min",
        **{m.name: m.mode if m.scalar else _SEVERAL for m in metrics},
    }
    validated = {f"val_{name}": mode for name, mode in own.items()} if validates else {}
    others: dict[str, str | None] = dict.fromkeys(("epoch", "lr", "seconds", *more))
    return own | validated | {k: v for k, v in others.items() if k not in own}


def direction(where: str, monitor: str, mode: str | None, known: Mapping[str, str | None]) -> str:
    """ "min" or "max" for a monitored quantity: `mode`, or what the quantity says of itself."""
    if not isinstance(monitor, str):
        msg = f"{where}: monitor must be the name of a quantity, got {monitor!r:.60}"
        raise TypeError(msg)
    if monitor not in known:
        hint = (
            "; give fit a val set"
            if monitor.startswith("val_") and not any(k.startswith("val_") for k in known)
            else ""
        )
        raise ValueError(f"{where}: {unknown('quantity', monitor, known)}{hint}")
    if known[monitor] == _SEVERAL:
        one = [name for name, said in known.items() if said in ("min", "max")]
        msg = f"{where}: {monitor!r} is not a single number, so that none is better than another; choose one of {', '.join(one)}"
        raise ValueError(msg)
    if mode is not None:
        return str(choice(where, "mode", mode, ("min", "max")))
    said = known[monitor]
    if said is None:
        msg = (
            f"{where}: {monitor!r} does not say whether more or less is better; give mode='max' or mode='min', or the "
            "metric an attribute mode"
        )
        raise ValueError(msg)
    return said


def monitored(where: str, monitor: str, record: Mapping[str, Any]) -> float:
    """The value of a monitored quantity in the record of an epoch."""
    if monitor not in record:
        raise KeyError(f"{where} monitors {monitor!r}, but the record has {', '.join(record)}")
    value = record[monitor]
    if not isinstance(value, (int, float)):
        msg = f"{where} monitors {monitor!r}, which must be a number, got {type(value).__name__}"
        raise TypeError(msg)
    return value


_HELD, _SMALL = 32, 1 << 14  # batches; bytes of each


def _is_small(a: Any, b: Any) -> bool:
    """Whether copies of two arrays are cheap: few bytes in this process's memory."""
    host: Any = _HOST.array_type
    return type(a) is host and type(b) is host and a.nbytes + b.nbytes <= _SMALL


class Sums:
    """Running totals of the loss and the metrics of one epoch."""

    def __init__(
        self,
        objective: Objective | OwnStep,
        metrics: Sequence[Metric],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.objective = objective
        self.loss = [0.0, 0.0]  # Σ value, Σ count
        self.metrics = [metric.fresh() for metric in metrics]
        kind, ignored = objective.labels or (None, -100)
        for metric in self.metrics:
            metric.bind(kind, None if objective.all_count else ignored, checked=objective.classes is not None)
        if state is not None:
            self._load(state)
        self.unread: list[tuple[Tensor, Any]] = []  # losses and weights of batches on a GPU
        self.held: list[tuple[Any, ...]] = []  # small batches that are measured together, see `measure`
        self.form: Any = None
        self.may_hold = all(metric.by_form for metric in self.metrics)
        self.may_join = all(metric.additive for metric in self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        self.read()
        self._settle()
        return {"loss": self.loss, **{m.name: m.state_dict() for m in self.metrics}}

    def _load(self, state: Mapping[str, Any]) -> None:
        self.loss = list(state.get("loss", (0.0, 0.0)))
        for metric in self.metrics:
            kept = state.get(metric.name, {})
            if isinstance(kept, (list, tuple)):  # of earlier versions, which knew sums and counts alone
                kept = dict(zip(("sum", "count"), kept, strict=True)) if kept[1] else {}
            metric.load_state_dict(kept)

    def add_loss(self, value: Any, weight: Any) -> None:
        """The loss of a batch, and what it has been divided by: numbers, or a Tensor and a plain array of one, which on a GPU are read
        with those of other batches."""
        if isinstance(value, Tensor):
            if not backend_of(unwrap(value)).values_are_cheap_to_read:
                self.unread.append((value.detach(), weight))
                if len(self.unread) >= _HELD:
                    self.read()
                return
            value, weight = float(value), float(weight)
        if self.objective.reduction == "sum":
            self.loss[0] += value
        elif weight:
            self.loss[0] += value * weight
            self.loss[1] += weight

    def read(self) -> None:
        """Wait for the losses that are not read yet."""
        unread, self.unread = self.unread, []
        if not unread:
            return
        given = [x for value, weight in unread for x in (unwrap(value), weight)]
        xp = backend_of(given[0])
        arrays = [x for x in given if not isinstance(x, (int, float))]
        with xp.scope(arrays[0]):
            values = iter(
                xp.to_host(xp.stack([xp.astype(xp.reshape(a, ()), xp.float64) for a in arrays])).tolist()
            )
        numbers = [x if isinstance(x, (int, float)) else next(values) for x in given]
        for value, weight in zip(numbers[::2], numbers[1::2], strict=True):
            self.add_loss(value, weight)

    def measure(self, output: Any, target: Any, weight: Any = None) -> list[Any] | tuple[Any, ...]:
        """The metrics of a batch, which `add` takes; `weight`: of each sample.

        Between two steps of training the Python code of metrics is no longer in the processor's caches and takes many times as long as
        it would a second time. So small batches of the form of one that was measured are copied, and measured some at a time: as one
        batch where all metrics are additive.
        """
        if not self.metrics:
            return []
        if self.may_hold and weight is None and type(output) is Tensor and type(target) is Tensor:
            a, b = output.data, target.data
            form = a.shape, a.dtype, b.shape, b.dtype
            if form == self.form:
                return wrap(_HOST.asarray(a, copy=True)), wrap(_HOST.asarray(b, copy=True))
            self.form = form if _is_small(a, b) else None
        return self._measured(output, target, weight)

    def _measured(self, output: Any, target: Any, weight: Any = None) -> list[Any]:
        if isinstance(output, Tensor):
            output = output.detach()
        with no_grad():
            output, target = self.objective.for_metrics(output, target)
            return [metric.measure(output, target, weight) for metric in self.metrics]

    def add(self, measured: list[Any] | tuple[Any, ...]) -> None:
        """Take the metrics of a batch into the totals."""
        if type(measured) is tuple:
            self.held.append(measured)
            if len(self.held) >= _HELD:
                self._settle()
        else:
            self._settle()
            self._add(measured)

    def _settle(self) -> None:
        """Measure what is held."""
        held, self.held = self.held, []
        if self.may_join and len(held) > 1:
            held = [tuple(wrap(_HOST.concat([p.data for p in parts])) for parts in zip(*held, strict=True))]
        for batch in held:
            self._add(self._measured(*batch))

    def _add(self, measured: list[Any] | tuple[Any, ...]) -> None:
        for metric, batch in zip(self.metrics, measured, strict=True):
            metric.add(batch)

    def result(self, prefix: str = "") -> dict[str, Any]:
        """The values over all batches, in plain data; NaN for what has none."""
        self.read()
        self._settle()
        value, count = self.loss
        mean = value / count if count else math.nan
        out: dict[str, Any] = {prefix + "loss": value if self.objective.reduction == "sum" else mean}
        for metric in self.metrics:
            out[prefix + metric.name] = _value(metric)
        return out


def _value(metric: Metric) -> Any:
    from anynet.metrics import UndefinedError  # start-up time

    try:
        return _plain(metric.compute())
    except UndefinedError:
        return math.nan


def _plain(value: Any) -> Any:
    """Numbers, lists and dicts instead of arrays: what a record of an epoch holds."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Tensor) or hasattr(value, "dtype"):
        array = unwrap(value)
        if array.shape:
            return backend_of(array).to_host(array).tolist()
        return float(array)
    return value
