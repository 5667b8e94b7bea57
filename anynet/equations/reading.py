"""`Equation`: what a class or function computes, as lines that are read, shown and evaluated; `of` finds it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from anynet.equations import render
from anynet.equations.evaluate import evaluate
from anynet.equations.language import EquationError, Line, Symbol, parse, parse_symbols, per_axis
from anynet.equations.registry import ENTRIES
from anynet.equations.without import WITHOUT
from anynet.tensor import unwrap
from anynet_backends import backend_of

__all__ = ["Equation", "NoEquationError", "of"]

_COMPUTES = ("forward", "update", "step", "get_lr")
"""The methods that an equation describes: a subclass with another one of these has another equation."""
_KINDS = {"booleans": "bool", "integers": "integral", "floats": "real floating"}
_COMPONENT = re.compile(r"\.?(\w+)|\[(-?\d+)\]")


class NoEquationError(LookupError):
    """There is no equation for this object; the message says why."""


@dataclass(frozen=True)
class Equation:
    """The equation of a class or function.

    `lines` are what it computes, `gradient` the gradient (``dx`` is that of the loss with respect to x, ``dy`` is given), `symbols`
    what the names mean, `result` the names of what the function returns.

    >>> import anynet as an
    >>> equation = an.equations.of(an.nn.Softsign)
    >>> print(equation.text())
    y = x / (1 + |x|)
    >>> equation.evaluate({"x": [-1.0, 3.0]})["y"].tolist()
    [-0.5, 0.75]
    """

    lines: tuple[Line, ...]
    gradient: tuple[Line, ...]
    symbols: tuple[Symbol, ...]
    result: tuple[str, ...]
    spatial: tuple[str, ...] = ()

    def text(self, part: str = "lines") -> str:
        """Lines of Unicode text; `part` is "lines" or "gradient"."""
        return "\n".join(self._shown(render.Text(), part))

    def latex(self, part: str = "lines") -> str:
        """Lines of LaTeX, aligned at the signs of equality."""
        lines = self._shown(render.Latex(), part)
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def mathml(self, part: str = "lines") -> str:
        """A ``<math>`` element, for pages."""
        return render.table(self._shown(render.MathML(), part))

    def where(self) -> list[tuple[str, str]]:
        """Each symbol with what it means, as text: ``[("W", "weight (K, J)"), …]``."""
        style = render.Text()
        return [(style.name(s.name), render.meaning(s)) for s in self.symbols]

    def _shown(self, style: render.Style, part: str) -> list[str]:
        if part not in ("lines", "gradient"):
            msg = f"part must be 'lines' or 'gradient', got {part!r}"
            raise ValueError(msg)
        lines = self.lines if part == "lines" else self.gradient
        known = {s.name for s in self.symbols} | {line.name for line in self.lines}
        return [style.line(line, known) for line in lines]

    def evaluate(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the lines define, by name, for values of the symbols: arrays of any library, numbers, or lists of numbers (float64)."""
        made = evaluate(self.lines, self.symbols, values, _called)
        missing = [name for name in self.result if name not in made]
        if missing:
            msg = f"{missing[0]} is drawn at random: give its value"
            raise EquationError(msg)
        return made

    def evaluate_gradient(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the gradient's lines define; `values` holds ``dy`` for the result y as well."""
        if not self.gradient:
            msg = "this equation has no lines for its gradient"
            raise EquationError(msg)
        made = {**values, **self.evaluate(values)}
        return evaluate(self.gradient, self.symbols, made, _called)

    def result_of(self, made: Mapping[str, Any]) -> Any:
        """What the function returns, out of what `evaluate` gave: one value, or a tuple of several."""
        found = tuple(made[name] for name in self.result)
        return found[0] if len(found) == 1 else found

    def bind(self, thing: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The symbols' values for a call ``thing(*args, **kwargs)`` of a layer or function, or for an optimizer's first group.

        Tensors become plain arrays. Values that a call does not tell (masks that are drawn) are given by the symbol's name, as `extra`
        keywords that the call itself does not take.
        """
        return self._bound(thing, args, kwargs, _plain)

    def _bound(
        self, thing: Any, args: Sequence[Any], kwargs: dict[str, Any], form: Callable[[Any], Any]
    ) -> dict[str, Any]:
        call, extra = arguments(thing, args, kwargs)
        values: dict[str, Any] = {}
        for symbol in self.symbols:
            if symbol.name in extra:
                values[symbol.name] = form(extra[symbol.name])
                continue
            found = _found(symbol, thing, call, form)
            if found is not MISSING:
                values[symbol.name] = found
        return {**values, **{k: form(v) for k, v in extra.items() if k not in values}}


def _called(function: Callable[..., Any], arrays: list[Any]) -> Any:
    """A layer or function that stands in an equation: by its own equation, if it has one."""
    try:
        equation = of(function)
    except NoEquationError:
        return function(*arrays)
    # Tensors stay Tensors, so that gradients go through
    form = (lambda value: value) if any(hasattr(a, "edge") for a in arrays) else _plain
    values = equation._bound(function, arrays, {}, form)
    return equation.result_of(equation.evaluate(values))


MISSING = object()
"""A value that neither the call nor the layer tells."""


def arguments(
    thing: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    function = getattr(thing, "forward", thing) if not inspect.isfunction(thing) else thing
    if not callable(function) or hasattr(thing, "param_groups"):
        return dict(kwargs), dict(kwargs)
    signature = inspect.signature(function)
    takes = {k: v for k, v in kwargs.items() if k in signature.parameters}
    bound = signature.bind_partial(*args, **takes)
    bound.apply_defaults()
    return dict(bound.arguments), {k: v for k, v in kwargs.items() if k not in takes}


def _found(symbol: Symbol, thing: Any, call: dict[str, Any], form: Callable[[Any], Any]) -> Any:
    value = located(symbol, thing, call)
    if value is None and symbol.default is not None:
        default = symbol.default
        if re.fullmatch(r"-?[\d.]+(e-?\d+)?|inf", default):
            return float(default)
        value = located(replace(symbol, source=default, name=default, default=None), thing, call)
        if value is MISSING:
            return default
    return value if value is MISSING or value is None else shaped(symbol, form(value), thing, call)


def located(symbol: Symbol, thing: Any, call: dict[str, Any]) -> Any:
    """What stands at a symbol's source, or MISSING: an argument of the call, an attribute of the layer, an option of the optimizer."""
    value: Any = MISSING
    for path in dict.fromkeys((symbol.source, symbol.name)):
        value = _at(path, thing, call)
        if value is not MISSING:
            break
    if value is MISSING and symbol.default is not None:
        return None
    if symbol.kind is not None and hasattr(value, "dtype"):
        plain = unwrap(value)
        return value if backend_of(plain).isdtype(plain.dtype, _KINDS[symbol.kind]) else None
    if symbol.component is not None and isinstance(value, list | tuple):
        return value[symbol.component] if len(value) > 1 else value[0]
    return value


def shaped(symbol: Symbol, value: Any, thing: Any, call: dict[str, Any]) -> Any:
    """An array with the axes that the symbol has in the equation: ``along`` moves one to the end, ``over`` and ``T*`` flatten."""
    if symbol.component is not None and getattr(value, "shape", None):
        value = value[..., -1 - symbol.component]  # places in space: x, the last axis, stands first
    if symbol.along is not None:
        axis = int(symbol.along) if symbol.along.lstrip("-").isdigit() else _at(symbol.along, thing, call)
        value = value.__array_namespace__().moveaxis(value, -1 if axis is None else axis, -1)
    if symbol.swap is not None and hasattr(value, "shape") and _at(symbol.swap, thing, call) is True:
        if len(value.shape) == len(symbol.axes or value.shape):
            value = value.__array_namespace__().moveaxis(value, 0, 1)
    return _flattened(symbol, value, thing, call)


def _flattened(symbol: Symbol, value: Any, thing: Any, call: dict[str, Any]) -> Any:
    """Axes that the equation has as one: ``T*`` is all that remain, ``over`` as many as an option has numbers."""
    if not hasattr(value, "shape") or not symbol.axes:
        return value
    shape = tuple(value.shape)
    named = [axis for axis in symbol.axes if axis != "..."]
    absent = [k for k, axis in enumerate(named) if axis.endswith("?")][: max(len(named) - len(shape), 0)]
    if absent:
        for k in absent:
            shape = (*shape[:k], 1, *shape[k:])
        value = value.__array_namespace__().reshape(value, shape)
    if symbol.over is not None:
        option = _at(symbol.over, thing, call)
        count = len(option) if isinstance(option, list | tuple) else 1
        value = value.__array_namespace__().reshape(value, (*shape[: len(shape) - count], -1))
    elif symbol.axes[-1].endswith("*"):
        before = len(symbol.axes) - 1
        value = value.__array_namespace__().reshape(value, (*shape[:before], -1))
    return value


def _at(path: str, thing: Any, call: dict[str, Any]) -> Any:
    """``weight``, ``linear.weight``, ``betas[0]``: out of the call's arguments, the layer, or the optimizer's first group."""
    value: Any = MISSING
    for name, number in _COMPONENT.findall(path):
        if number:
            if value is None:
                return None
            if not isinstance(value, int | float):  # a number stands for all
                value = value[int(number)] if isinstance(value, list | tuple) else value[int(number), ...]
        elif value is MISSING:
            groups = getattr(thing, "param_groups", None)
            if name in call:
                value = call[name]
            elif groups and name in groups[0]:
                value = groups[0][name]
            else:
                value = getattr(thing, name, MISSING)
                if value is MISSING:
                    return value
        elif name in ("before", "after") and isinstance(value, list | tuple):
            value = tuple(reversed(value[name == "after" :: 2]))  # pairs, those of the last axis first
        else:
            value = getattr(value, name, MISSING)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if not hasattr(value, "_fields") else value
    return unwrap(value) if hasattr(value, "shape") else value


# ----- lookup -----


def of(thing: Any, axes: int | None = None) -> Equation:
    """The equation of a layer, loss, optimizer or function (the class or an object of it).

    Variants in one, two and three dimensions have it with the indices of their axes; `axes` says how many there are where the name
    does not. A subclass has the equation of its base
    while it computes by the same method. NoEquationError, with the reason, where there is none.
    """
    key = thing if isinstance(thing, type) or thing in _functions() else type(thing)
    owner = _owner(key)
    if owner is None:
        name = getattr(key, "__name__", repr(key))
        module = getattr(key, "__module__", "")
        reason = WITHOUT.get(name) if module.startswith("anynet") else None
        msg = f"{name} has no equation: {reason or 'none was given for it; see anynet.equations.equation'}"
        raise NoEquationError(msg)
    return _made(owner, axes or _axes(key))


def _functions() -> dict[Any, Any]:
    return {k: v for k, v in ENTRIES.items() if not isinstance(k, type)}


def _owner(key: Any) -> Any:
    if not isinstance(key, type):
        return key if key in ENTRIES else None
    for base in key.__mro__:
        if base in ENTRIES:
            same = all(
                inspect.getattr_static(key, m, None) is inspect.getattr_static(base, m, None)
                for m in _COMPUTES
            )
            return base if same else None
    made = getattr(key, "_layer", None)  # a lazy layer is of that class after its first call
    return _owner(made) if isinstance(made, type) else None


def _axes(key: Any) -> int | None:
    name = getattr(key, "__name__", "")
    found = re.search(r"([123])d$", name)
    return int(found[1]) if found else None


def shared_form(thing: Any) -> Equation:
    """The equation of a class or function as variants in one, two and three dimensions share it: t for all of t1, t2, …"""
    return _made(thing, None)


@cache
def _made(owner: Any, axes: int | None) -> Equation:
    entry = ENTRIES[owner]
    if entry.lines and not isinstance(entry.lines[0], str):
        shared = _made(entry.lines[0], axes)
        found = {symbol.name: symbol for symbol in parse_symbols(entry.where)}
        return replace(
            shared, symbols=tuple(found.pop(s.name, s) for s in shared.symbols) + tuple(found.values())
        )
    return read(*entry.lines, **{k: v for k, v in entry._asdict().items() if k != "lines"}, axes=axes)


def read(
    *lines: str,
    where: str = "",
    gradient: str = "",
    spatial: str = "",
    result: str = "",
    shared: str = "",
    axes: int | None = None,
) -> Equation:
    """An equation out of its text; the arguments are those of `anynet.equations.equation`.

    >>> import anynet as an
    >>> print(an.equations.read("y[k] = sum[j](W[k, j] * x[j])", where="W[K, J]; x[J]").text())
    yₖ = Σ_j W[k, j] xⱼ
    """
    made, symbols = parse(*lines), parse_symbols(where)
    if shared:
        used = set(re.findall(r"\w+", " ".join(lines))) - {line.name for line in made}
        symbols = (*(s for s in parse_symbols(shared) if s.name in used), *symbols)
    slope = parse(gradient)
    names = tuple(spatial.split())
    if names and axes:
        made, _ = per_axis(made, symbols, names, axes)
        slope, symbols = per_axis(slope, symbols, names, axes)
    return Equation(made, slope, symbols, tuple(result.split()) or (made[-1].name,), names)
