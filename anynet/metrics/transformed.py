"""A metric of something else than the output and the target as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.metrics.metric import Metric, State
from anynet.metrics.registry import get

__all__ = ["Transformed"]


class Transformed(Metric):
    """A metric of functions of the output and of the target: in the units of the data, of one of several outputs, …

    Parameters:
      metric: a Metric, or the name of one.
      output, target: functions of what the network gives and of the targets; None leaves them as they are.
      name: what it is called; the name of the metric.

    >>> import anynet as an
    >>> dollars = lambda y: 1000.0 * y + 200_000.0
    >>> metric = an.metrics.Transformed("rmse", output=dollars, target=dollars)
    >>> metric.update(an.asarray([0.5, 1.0]), an.asarray([0.5, 0.0]))
    >>> metric.compute()
    707.106...
    """

    def __init__(
        self,
        metric: str | Metric,
        *,
        output: Callable[[Any], Any] | None = None,
        target: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.metric, self.output, self.target = get(metric), output, target
        self.name = name or self.metric.name

    higher_is_better = property(lambda self: self.metric.higher_is_better)
    scalar = property(lambda self: self.metric.scalar)
    states = property(lambda self: self.metric.states)

    def bind(self, kind: str | None, ignore_index: int | None, *, checked: bool = False) -> None:
        """The metric's, of which it takes a copy."""
        self.metric = self.metric.fresh()
        self.metric.bind(kind, ignore_index, checked=checked and self.target is None and self.output is None)

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The state of the metric of the two functions."""
        output = output if self.output is None else self.output(output)
        target = target if self.target is None else self.target(target)
        return self.metric.measure(output, target, weight)

    def result(self, state: State) -> Any:
        """The metric's."""
        return self.metric.result(state)

    def _joined(self, a: State, b: State) -> State:
        return self.metric._joined(a, b)

    def options(self) -> dict[str, Any]:
        """Its own, and those of the metric, which compare by value."""
        return {"metric": repr(self.metric), "output": self.output, "target": self.target, "name": self.name}
