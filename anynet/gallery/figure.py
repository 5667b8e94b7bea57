"""Figures of examples: what is to be reached, in which direction, and whether it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """A number that an example is to reach: at least, at most, or between both.

    Parameters:
      name: what it is, "test accuracy" say; with the example's name it is the row in RESULTS.md.
      at_least, at_most: what is to be reached, the tolerance included; neither: the number is told and judged by nobody.
      unit: written behind the number.
      form: how the number is written, as in `format`.
      quick: what the quick form is to reach: True the same, a number instead of the one bound, False (default) nothing.
      source: where the number to reach is from.
      tried: what was tried, where the figure is known not to be reached; it stands in RESULTS.md.
      changed: what of the configuration, or of what is to be reached, was changed after a first result, and that result;
        it stands there, too.

    >>> figure = Figure("test accuracy", at_least=97.0, unit="%")
    >>> figure.line(97.3125)
    'test accuracy 97.31 % (to reach: ≥ 97 %): reached'
    >>> figure.line(96.0)
    'test accuracy 96 % (to reach: ≥ 97 %): not reached'
    """

    name: str
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    form: str = ".4g"
    quick: float | bool = False
    source: str = ""
    tried: str = ""
    changed: str = ""

    def __post_init__(self) -> None:
        low, high = self.at_least, self.at_most
        if low is not None and high is not None and low > high:
            msg = f"{self.name}: at_least ({low}) must not be above at_most ({high})"
            raise ValueError(msg)
        if not isinstance(self.quick, bool) and (low is None) == (high is None):
            msg = f"{self.name}: quick is a number where the figure has one bound; got {self.quick} with both or neither"
            raise ValueError(msg)

    def bounds(self, quick: bool = False) -> tuple[float | None, float | None]:
        """The lowest and the highest value that is good; None where there is none."""
        if not quick or self.quick is True:
            return self.at_least, self.at_most
        if self.quick is False:
            return None, None
        return (self.quick, None) if self.at_least is not None else (None, self.quick)

    def reached(self, value: float, quick: bool = False) -> bool | None:
        """Whether the value is within the bounds; None where there are none. NaN reaches nothing."""
        low, high = self.bounds(quick)
        if low is None and high is None:
            return None
        return not math.isnan(value) and (low is None or value >= low) and (high is None or value <= high)

    def written(self, value: float) -> str:
        """The value with its unit."""
        return f"{value:{self.form}} {self.unit}".rstrip()

    def to_reach(self, quick: bool = False) -> str:
        """The bounds in words: "≥ 97 %", "0.1 to 0.2"; empty without bounds."""
        low, high = self.bounds(quick)
        if low is not None and high is not None:
            return f"{low:{self.form}} to {self.written(high)}"
        if low is not None:
            return f"≥ {low:g} {self.unit}".rstrip()
        return "" if high is None else f"≤ {high:g} {self.unit}".rstrip()

    def line(self, value: float, quick: bool = False) -> str:
        """The line that an example ends with."""
        said = f"{self.name} {self.written(value)}"
        reached = self.reached(value, quick)
        if reached is not None:
            return f"{said} (to reach: {self.to_reach(quick)}): {'reached' if reached else 'not reached'}"
        full = self.to_reach()
        return f"{said} (quick form; the full form is to reach {full})" if quick and full else said

    def record(self, value: float, quick: bool = False) -> dict[str, Any]:
        """The figure as plain data."""
        return {
            "name": self.name, "value": value, "written": self.written(value), "to_reach": self.to_reach(quick),
            "reached": self.reached(value, quick), "source": self.source, "tried": self.tried, "changed": self.changed,
        }  # fmt: skip
